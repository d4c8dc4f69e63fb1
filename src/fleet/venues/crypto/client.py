"""Binance's spot REST through ccxt: one method a call, exact texts in and out, errors named.

Theory of operation. ccxt signs, sends and keeps the connections; its raw (implicit) calls are used,
because the unified ones pass through floats. Around it:

- The secret stays in ``ApiCredentials``; ccxt's ``hmac`` asks it. ccxt puts the signed URL into its
  error texts and debug log: errors are made anew here, without the old ones as their cause, and its
  logger is silenced.
- The venue's clock is measured at the start and again whenever it says -1021. That answer proves
  that the request had no effect, so any request, an order too, is then sent once more.
- Reads are repeated (no answer, 429, 5xx) within limits. **A write is sent once.** What its silence
  means is for the caller to find out by the client order id.
- Every request waits for its place in the ``WeightBudget``; 429 and 418 silence everything.

Must not: judge what an answer means for an order (``outcomes`` does), or log a request.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
import ccxt.async_support as ccxt
import msgspec

from fleet.clock import NS_PER_MS, NS_PER_SECOND, Clock, LiveClock
from fleet.venues.crypto import wire
from fleet.venues.crypto.credentials import ApiCredentials
from fleet.venues.crypto.hosts import CryptoHosts
from fleet.venues.crypto.weights import WeightBudget
from fleet.venues.port import RequestRefused, TransportFailed, VenueError
from fleet.venues.transport import USER_AGENT, Backoff

T = TypeVar("T")
CLOCK_AHEAD: Final = -1021
REPEATED: Final = frozenset({408, 429, 500, 502, 503, 504})
PAGE: Final = 1_000
ORDER_PAGE: Final = 500
KLINES_MAX: Final = 1_000
UNSIGNED: Final = "unsigned"
"""Stands where ccxt wants a key and a secret."""


class BinanceRefused(RequestRefused):
    """An error answer; ``code`` is Binance's own (negative), 0 if it gave none."""

    def __init__(self, what: str, *, status: int, body: str) -> None:
        """Read the code and the message out of the body."""
        try:
            said = msgspec.json.decode(body, type=_Said)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            said = _Said()
        self.code = said.code
        self.reason = said.msg or body[:120]
        super().__init__(
            f"{what}: HTTP {status}, {self.code} {self.reason}", status=status, body=body[:400]
        )


class _Said(msgspec.Struct):
    code: int = 0
    msg: str = ""


class _Refusal(Exception):  # noqa: N818 - named for what happened
    """An error answer on its way out of ccxt."""

    def __init__(self, status: int, body: str, headers: dict[str, str]) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class _Exchange(ccxt.binance):  # type: ignore[misc]  # ccxt is not typed
    """ccxt's Binance with our ears, our clock and our secret."""

    def __init__(
        self, credentials: ApiCredentials | None, budget: WeightBudget, clock: Clock,
        options: dict[str, Any],
    ) -> None:  # fmt: skip
        super().__init__(options)
        self.credentials, self.budget, self.live_clock = credentials, budget, clock
        self.skew_ms = 0
        self.logger = logging.getLogger("fleet.ccxt-silenced")
        self.logger.disabled = True
        if credentials is not None:
            self.apiKey, self.secret = credentials.key, UNSIGNED

    def nonce(self) -> int:
        """The venue's time in milliseconds."""
        return self.live_clock.now_ns() // NS_PER_MS + self.skew_ms

    def hmac(
        self, request: bytes, secret: bytes, algorithm: Any = hashlib.sha256, digest: str = "hex"
    ) -> str:
        """Sign with the guarded secret."""
        del secret, algorithm, digest
        if self.credentials is None:
            raise ccxt.AuthenticationError("no credentials")
        return self.credentials.sign(request)

    def handle_errors(
        self, code: int, reason: str, url: str, method: str, headers: Any, body: str,
        response: Any, request_headers: Any, request_body: Any,
    ) -> None:  # fmt: skip
        """Hear the counters; raise what is no success, with its status and without its URL."""
        del reason, url, method, response, request_headers, request_body
        heard = {str(name).lower(): str(value) for name, value in dict(headers).items()}
        self.budget.heard(heard, self.nonce() * NS_PER_MS)
        if code >= 400:
            raise _Refusal(code, body or "", heard)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Times of the client. ``recv_window_ms`` is how old a request may be when it arrives."""

    answer_s: float = 10.0
    recv_window_ms: int = 5_000
    tries: int = 4
    wait_max_s: float = 120.0
    """A read or a cancel that would wait longer for its place in the budget fails."""
    order_wait_max_s: float = 0.25
    """The same for an order: one that waits is stale, and is not sent."""


class BinanceClient:
    """One account (or none: public calls only) at one Binance."""

    def __init__(
        self, hosts: CryptoHosts, credentials: ApiCredentials | None = None, *,
        settings: ClientSettings | None = None, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """Nothing is opened before the first request."""
        self.hosts, self.settings = hosts, settings or ClientSettings()
        self.budget = WeightBudget()
        self.requests = 0
        self._exchange = _Exchange(
            credentials, self.budget, clock or LiveClock(),
            {
                "enableRateLimit": False,
                "timeout": int(self.settings.answer_s * 1_000),
                "userAgent": USER_AGENT,
                "options": {"recvWindow": self.settings.recv_window_ms, "defaultType": "spot"},
            },
        )  # fmt: skip
        self._exchange.aiohttp_trust_env = not hosts.local
        paths = {"public": "/api/v3", "private": "/api/v3", "sapi": "/sapi/v1"}
        self._exchange.urls["api"] = {api: hosts.rest_url + path for api, path in paths.items()}

    async def start(self) -> None:
        """Measure the venue's clock. Raises ``VenueError``."""
        await self.measure_clock()

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.close()

    @property
    def skew_ms(self) -> int:
        """How far the venue's clock is ahead of ours."""
        return int(self._exchange.skew_ms)

    def venue_ns(self) -> int:
        """The venue's time."""
        return int(self._exchange.nonce()) * NS_PER_MS

    async def measure_clock(self) -> None:
        """Ask for the venue's time; half of the round trip is taken as its way. Weight 1."""
        clock = self._exchange.live_clock
        began_ns = clock.now_ns()
        answer = await self._read("public", "time", {}, wire.TimeRow, 1)
        middle_ns = (began_ns + clock.now_ns()) // 2
        # Never ahead of the venue: it refuses what is more than a second from its future.
        self._exchange.skew_ms = answer.server_time - middle_ns // NS_PER_MS

    # --- public reads -------------------------------------------------------------------------

    async def exchange_info(self, symbols: list[str]) -> wire.ExchangeRow:
        """Filters and limits. Weight 20."""
        listed = msgspec.json.encode(symbols).decode()
        return await self._read("public", "exchangeInfo", {"symbols": listed}, wire.ExchangeRow, 20)

    async def klines(
        self, symbol: str, interval: str, *, since_ms: int, limit: int = KLINES_MAX
    ) -> list[list[Any]]:
        """Candles that open at ``since_ms`` or later, oldest first, the open one too. Weight 2."""
        asked = {"symbol": symbol, "interval": interval, "startTime": since_ms, "limit": limit}
        return await self._read("public", "klines", asked, list[list[Any]], 2)

    async def book_ticker(self, symbol: str) -> wire.TickerRow:
        """The best quotes. Weight 2."""
        asked = {"symbol": symbol}
        return await self._read("public", "ticker/bookTicker", asked, wire.TickerRow, 2)

    # --- the account --------------------------------------------------------------------------

    async def account(self) -> wire.AccountRow:
        """Balances. Weight 20."""
        return await self._read("private", "account", {}, wire.AccountRow, 20)

    async def commission(self, symbol: str) -> wire.CommissionRow:
        """What is charged on a symbol. Weight 20."""
        asked = {"symbol": symbol}
        return await self._read("private", "account/commission", asked, wire.CommissionRow, 20)

    async def pays_fees_in_bnb(self) -> bool:
        """Whether the account pays its fees in BNB; false where nobody can be asked."""
        if not self.hosts.wallet_api:
            return False
        answer = await self._read("sapi", "bnbBurn", {}, dict[str, bool], 1)
        return answer.get("spotBNBBurn", False)

    async def trades(
        self, symbol: str, *, from_id: int = 0, order_id: int = 0
    ) -> list[wire.TradeRow]:
        """Our matches, oldest first: of an order (weight 5), or from an id on (20).

        By id and not by time: a span of time may not exceed 24 hours.
        """
        asked: dict[str, Any] = {"symbol": symbol, "limit": PAGE}
        asked |= {"orderId": order_id} if order_id else {"fromId": from_id}
        return await self._read(
            "private", "myTrades", asked, list[wire.TradeRow], 5 if order_id else 20
        )

    async def orders(self, symbol: str, *, from_id: int) -> list[wire.OrderRow]:
        """Our orders of a symbol from an id on, oldest first. Weight 20."""
        asked = {"symbol": symbol, "limit": ORDER_PAGE, "orderId": from_id}
        return await self._read("private", "allOrders", asked, list[wire.OrderRow], 20)

    async def open_orders(self, symbol: str) -> list[wire.OrderRow]:
        """Our open orders of a symbol. Weight 6."""
        return await self._read("private", "openOrders", {"symbol": symbol}, list[wire.OrderRow], 6)

    async def order(self, symbol: str, client_order_id: str) -> wire.OrderRow:
        """One order, by the id we gave it; from the reserve. Weight 4."""
        asked = {"symbol": symbol, "origClientOrderId": client_order_id}
        return await self._read("private", "order", asked, wire.OrderRow, 4, urgent=True)

    # --- writes -------------------------------------------------------------------------------

    def order_wait_ns(self) -> int:
        """How long an order would have to wait for its place."""
        return self.budget.wait_ns(1, self.venue_ns(), urgent=True, orders=1)

    async def place(self, order: Mapping[str, str]) -> wire.OrderRow:
        """Send a new order, once. Raises ``VenueError``; what it proves is for ``outcomes``."""
        asked = {**order, "newOrderRespType": "FULL"}
        answer = await self._write("POST", asked, orders=1)
        return wire.read(answer, wire.OrderRow, "POST order")

    async def cancel(self, symbol: str, client_order_id: str) -> wire.OrderRow:
        """Cancel an order by the id we gave it. Weight 1, from the reserve."""
        asked = {"symbol": symbol, "origClientOrderId": client_order_id}
        answer = await self._write("DELETE", asked)
        return wire.read(answer, wire.OrderRow, "DELETE order")

    async def _write(self, method: str, asked: Mapping[str, Any], *, orders: int = 0) -> Any:
        await self._place_in_budget(1, urgent=True, orders=orders)
        try:
            return await self._send(method, "private", "order", asked)
        except BinanceRefused as refused:
            if refused.code != CLOCK_AHEAD:
                raise
        # Proven not to have happened: our clock was wrong. Measured again, it may go.
        await self.measure_clock()
        await self._place_in_budget(1, urgent=True, orders=orders)
        return await self._send(method, "private", "order", asked)

    async def _read(
        self, api: str, path: str, asked: Mapping[str, Any], shape: type[T], weight: int, *,
        urgent: bool = False,
    ) -> T:  # fmt: skip
        backoff = Backoff(NS_PER_SECOND // 4, 8 * NS_PER_SECOND, random.random)
        for attempt in range(1, self.settings.tries + 1):
            await self._place_in_budget(weight, urgent=urgent)
            try:
                return wire.read(await self._send("GET", api, path, asked), shape, f"GET {path}")
            except TransportFailed:
                if attempt == self.settings.tries:
                    raise
            except BinanceRefused as refused:
                if attempt == self.settings.tries:
                    raise
                if refused.code == CLOCK_AHEAD and path != "time":
                    await self.measure_clock()
                    continue
                if refused.status not in REPEATED:
                    raise
            await asyncio.sleep(backoff.next_ns() / NS_PER_SECOND)
        raise ValueError("ClientSettings.tries must be at least 1")

    async def _place_in_budget(self, weight: int, *, urgent: bool, orders: int = 0) -> None:
        wait_ns = self.budget.wait_ns(weight, self.venue_ns(), urgent=urgent, orders=orders)
        wait_max_s = self.settings.order_wait_max_s if orders else self.settings.wait_max_s
        if wait_ns > wait_max_s * NS_PER_SECOND:
            raise TransportFailed(
                f"the venue's request limit is used up for {wait_ns // NS_PER_SECOND} s", sent=False
            )
        if wait_ns:
            await asyncio.sleep(wait_ns / NS_PER_SECOND)
        self.budget.spend(weight, self.venue_ns(), orders=orders)

    async def _send(self, method: str, api: str, path: str, asked: Mapping[str, Any]) -> Any:
        """One request. The error is raised after the except block, so that it has no context."""
        self.requests += 1
        failure: VenueError
        try:
            return await self._exchange.request(path, [api], method, dict(asked))
        except _Refusal as refusal:
            failure = BinanceRefused(f"{method} {path}", status=refusal.status, body=refusal.body)
            if refusal.status in {418, 429}:
                self.budget.refused(refusal.headers.get("retry-after", ""), self.venue_ns())
        except ccxt.BaseError as error:
            cause = error.__cause__
            never_left = isinstance(cause, aiohttp.ClientConnectorError)
            reason = type(cause or error).__name__
            failure = TransportFailed(f"{method} {path}: no answer ({reason})", sent=not never_left)
        raise failure
