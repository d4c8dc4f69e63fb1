"""The CLOB's REST API for one signer: orders, cancels, account reads. Async, over httpx.

What an answer proves is decided in ``outcomes``, how requests travel in ``clob_http``; here is what
can be asked. A posted order is sent again only while it provably has not left, and always as the
same bytes. Reads raise ``VenueError`` rather than answer with less than everything: an empty list
here means that the venue said so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from fleet.clock import NS_PER_SECOND, Clock, LiveClock
from fleet.domain.events import VenueOrderId
from fleet.venues.polymarket.auth import ApiCredentials, l2_headers
from fleet.venues.polymarket.clob_http import Answer, ClientSettings, ClobHttp, refusal_error
from fleet.venues.polymarket.contracts import SignatureType
from fleet.venues.polymarket.frames import FrameError
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.limits import Call, Limits
from fleet.venues.polymarket.order_lane import OrderLanes
from fleet.venues.polymarket.outcomes import (
    Cancelled,
    Outcome,
    Verdict,
    read_cancelled,
    read_placement,
    read_placements,
    read_refusal,
)
from fleet.venues.polymarket.signing import wire_batch
from fleet.venues.polymarket.wire_account import (
    FIRST_CURSOR,
    LAST_CURSOR,
    Balance,
    read_balance,
    read_order,
    read_orders,
    read_trades,
)
from fleet.venues.polymarket.wire_user import UserOrder, UserTrade
from fleet.venues.port import AnswerInvalid, RequestRefused, TransportFailed
from fleet.venues.transport import USER_AGENT

T = TypeVar("T")
PAGES_MAX: Final = 1_000
"""A list that does not end after this many pages is a defect of the server."""
CANCELS_MAX: Final = 1_000
"""Ids in one DELETE /orders (changelog of 2026-06-15)."""
_FIXED_LINES: Final = (
    f"User-Agent: {USER_AGENT}\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
).encode()
UNSENT_TRIES: Final = 3
UNSENT_PAUSE_S: Final = 0.05
NOT_ALLOWED: Final = "the wallet's lease is not held any more"


class Post(NamedTuple):
    """One signed order: the id it will have, its exact JSON body, and whether it buys."""

    order_id: VenueOrderId
    body: bytes
    is_buy: bool


class _Beat(msgspec.Struct):
    heartbeat_id: str | None = None


class ClobClient:
    """Talks to one CLOB with one API key."""

    def __init__(
        self,
        hosts: Hosts,
        credentials: ApiCredentials,
        *,
        signature_type: SignatureType = SignatureType.EOA,
        limits: Limits | None = None,
        settings: ClientSettings | None = None,
        clock: Clock | None = None,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        """Nothing is opened before ``start`` or the first request.

        ``may_send`` is asked right before an order's bytes leave: what was signed under a lease
        must not leave without it, however long the disk or the machine kept us in between.
        """
        self.hosts = hosts
        self._credentials = credentials
        self._wallet = str(int(signature_type))
        self._clock = clock or LiveClock()
        settings = settings or ClientSettings()
        self.http = ClobHttp(
            hosts, credentials, limits=limits or Limits(), settings=settings, clock=self._clock
        )
        self._may_send = may_send
        self.lanes = OrderLanes(hosts.clob_url, answer_s=settings.answer_s)

    @property
    def skew_ns(self) -> int:
        """How far the venue's clock is ahead of ours, as of the last ``time``; to half a second."""
        return self.http.skew_ns

    @property
    def owner(self) -> str:
        """The API key's id, as orders name it."""
        return self._credentials.api_key

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open and warm the connections, and read the venue's clock. Raises ``VenueError``."""
        self.lanes.start()
        await self.time()

    async def close(self) -> None:
        """Close the connections."""
        await self.lanes.close()
        await self.http.close()

    # --- orders -------------------------------------------------------------------------------

    def order_wait_ns(self, count: int) -> int:
        """How long ``count`` orders would wait for their place in the rate budget; 0 for none."""
        call = Call.ORDER if count == 1 else Call.ORDERS
        return self.http.limits.wait_ns(call, count, self._clock.now_ns())

    def begin(self, posts: Sequence[Post]) -> Coroutine[Any, Any, list[Outcome]]:
        """Like ``post``, but the bytes are written before this returns, if a lane is free.

        What is returned must be awaited for the outcomes.
        """
        batch = len(posts) > 1
        path, call = ("/orders", Call.ORDERS) if batch else ("/order", Call.ORDER)
        now_ns = self._clock.now_ns()
        waits = self.http.limits.wait_ns(call, len(posts), now_ns)
        if not self.lanes.ready or waits or not self._may_send():
            return self.post(posts)
        body = wire_batch([post.body for post in posts]) if batch else posts[0].body
        now_s = (now_ns + self.http.skew_ns) // NS_PER_SECOND
        proof = l2_headers(self._credentials, now_s, "POST", path, body)
        lines = (f"{name}: {text}\r\n" for name, text in proof.items())
        answer = self.lanes.send(path, _FIXED_LINES, "".join(lines).encode(), body)
        if answer is None:
            return self.post(posts)
        self.http.limits.take(call, len(posts), now_ns)
        return self._await(answer, call, posts)

    async def _await(
        self, answer: asyncio.Future[Answer], call: Call, posts: Sequence[Post]
    ) -> list[Outcome]:
        try:
            return self._placed(await answer, call, posts)
        except TransportFailed as error:
            lost = Outcome(verdict=Verdict.UNKNOWN, reason=f"{call.value}: {error}", silent=True)
            return [lost for _ in posts]

    async def post(self, posts: Sequence[Post]) -> list[Outcome]:
        """Send 1 to 15 signed orders in one request; what became of each, in the order given.

        Never raises for what the venue or the network does: that is the outcome. The same bytes go
        again only while they provably have not left. Raises ``SigningError`` for a wrong count.
        """
        batch = len(posts) > 1
        path, call = ("/orders", Call.ORDERS) if batch else ("/order", Call.ORDER)
        body = wire_batch([post.body for post in posts]) if batch else posts[0].body
        reason = ""
        for attempt in range(UNSENT_TRIES):
            if attempt:
                await asyncio.sleep(UNSENT_PAUSE_S * attempt)
            await self.http.admit(call, len(posts))
            if not self._may_send():
                reason = NOT_ALLOWED
                break
            try:
                answer = await self.http.send("POST", path, body)
            except TransportFailed as error:
                reason = str(error)
                if error.sent:
                    lost = Outcome(verdict=Verdict.UNKNOWN, reason=reason, silent=True)
                    return [lost for _ in posts]
                continue
            except AnswerInvalid as error:
                return [Outcome(verdict=Verdict.UNKNOWN, reason=str(error)) for _ in posts]
            return self._placed(answer, call, posts)
        never = Outcome(verdict=Verdict.REJECTED, reason=f"never left: {reason}", sent=False)
        return [never for _ in posts]

    def _placed(self, answer: Answer, call: Call, posts: Sequence[Post]) -> list[Outcome]:
        if answer.status >= 400:
            outcome = read_refusal(self.http.refused(answer, call))
            return [outcome for _ in posts]
        self.http.note_remaining(answer, call)
        if call is Call.ORDER:
            post = posts[0]
            return [read_placement(answer.body, order_id=post.order_id, is_buy=post.is_buy)]
        return read_placements(answer.body, [(post.order_id, post.is_buy) for post in posts])

    # --- cancels ------------------------------------------------------------------------------

    async def cancel(self, order_ids: Sequence[VenueOrderId]) -> Cancelled:
        """Cancel up to 1,000 orders by id. Raises ``VenueError`` when no answer is to be had."""
        if len(order_ids) == 1:
            body = msgspec.json.encode({"orderID": order_ids[0]})
            return await self._cancel("/order", Call.CANCEL, 1, body)
        if len(order_ids) > CANCELS_MAX:
            raise ValueError(f"{len(order_ids)} cancels in one request, at most {CANCELS_MAX}")
        body = msgspec.json.encode(list(order_ids))
        return await self._cancel("/orders", Call.CANCELS, len(order_ids), body)

    async def cancel_all(self, *, open_orders: int = 0) -> Cancelled:
        """Cancel every order of this API key (a cost of 1 and the orders that are open)."""
        return await self._cancel("/cancel-all", Call.CANCEL_ALL, 1 + open_orders, b"")

    async def cancel_market(self, *, market: str = "", asset_id: str = "") -> Cancelled:
        """Cancel every order of a market or of one token."""
        named = {"market": market, "asset_id": asset_id}
        body = msgspec.json.encode({key: text for key, text in named.items() if text})
        return await self._cancel("/cancel-market-orders", Call.CANCEL_MARKET, 1, body)

    async def _cancel(self, path: str, call: Call, tokens: int, body: bytes) -> Cancelled:
        answer = await self.http.insist("DELETE", path, call, body, tokens=tokens)
        try:
            return read_cancelled(answer.body)
        except msgspec.MsgspecError as error:
            raise AnswerInvalid(f"DELETE {path}: {error}") from error

    # --- account ------------------------------------------------------------------------------

    async def order(self, order_id: VenueOrderId) -> UserOrder | None:
        """An *active* order; nothing if the venue has no active order of this id."""
        path = f"/data/order/{order_id}"
        try:
            answer = await self.http.insist("GET", path, Call.LEDGER_ORDER)
        except RequestRefused as error:
            if error.status == 404:
                return None
            raise
        return _read(path, lambda: read_order(answer.body, self._clock.now_ns()))

    async def open_orders(self) -> list[UserOrder]:
        """All open orders of this API key."""
        found: list[UserOrder] = []
        cursor = FIRST_CURSOR
        for _ in range(PAGES_MAX):
            answer = await self.http.insist(
                "GET", "/data/orders", Call.LEDGER, params={"next_cursor": cursor}
            )
            rows, cursor = _read(
                "/data/orders", partial(read_orders, answer.body, self._clock.now_ns())
            )
            found += rows
            if not rows or cursor in {LAST_CURSOR, ""}:
                return found
        raise AnswerInvalid(f"/data/orders: more than {PAGES_MAX} pages")

    async def trades(self, *, after_s: int = 0, trade_id: str = "") -> list[UserTrade]:
        """Our trades matched at or after ``after_s`` (Unix seconds), or the one of this id."""
        found: dict[str, UserTrade] = {}
        params = {"after": str(after_s)} if after_s else {}
        if trade_id:
            params["id"] = trade_id
        cursor = FIRST_CURSOR
        for _ in range(PAGES_MAX):
            answer = await self.http.insist(
                "GET", "/data/trades", Call.LEDGER, params={**params, "next_cursor": cursor}
            )
            rows, cursor = _read(
                "/data/trades", partial(read_trades, answer.body, self._clock.now_ns())
            )
            found.update((row.trade_id, row) for row in rows)
            if not rows or cursor in {LAST_CURSOR, ""}:
                return list(found.values())
        raise AnswerInvalid(f"/data/trades: more than {PAGES_MAX} pages")

    async def balance(self, token_id: str = "", *, position: bool = False) -> Balance:
        """What the wallet holds: pUSD, or the tokens of one id (``position``: Protocol V2)."""
        params = self._asset(token_id, position=position)
        answer = await self.http.insist("GET", "/balance-allowance", Call.BALANCE, params=params)
        return _read("/balance-allowance", lambda: read_balance(answer.body))

    async def refresh_balance(self, token_id: str = "", *, position: bool = False) -> None:
        """Ask the venue to read a balance from the chain again (its answers are cached)."""
        params = self._asset(token_id, position=position)
        await self.http.insist(
            "GET", "/balance-allowance/update", Call.BALANCE_UPDATE, params=params
        )

    def _asset(self, token_id: str, *, position: bool) -> dict[str, str]:
        if not token_id:
            return {"asset_type": "COLLATERAL", "signature_type": self._wallet}
        kind = "CONDITIONAL-V2" if position else "CONDITIONAL"
        return {"asset_type": kind, "token_id": token_id, "signature_type": self._wallet}

    async def heartbeat(self, heartbeat_id: str) -> str:
        """Say that we live; the id to say it with next. Raises ``VenueError``.

        From the first one on, silence for 10 s and 5 s of grace makes the venue cancel every order
        of this API key.
        """
        body = msgspec.json.encode({"heartbeat_id": heartbeat_id})
        answer = await self.http.once("POST", "/v1/heartbeats", Call.READ, body)
        if answer.status not in {200, 400}:
            raise refusal_error("POST", "/v1/heartbeats", answer)
        said = _read("/v1/heartbeats", lambda: msgspec.json.decode(answer.body, type=_Beat))
        if said.heartbeat_id is None:
            raise refusal_error("POST", "/v1/heartbeats", answer)
        # A wrong id is answered with the right one; an empty one means: begin anew.
        return said.heartbeat_id

    async def time(self) -> int:
        """The venue's clock in Unix seconds; remembers how far it is from ours."""
        asked_ns = self._clock.now_ns()
        answer = await self.http.insist("GET", "/time", Call.READ, signed=False)
        text = answer.body.strip().strip(b'"')
        if not text.isdigit():
            raise AnswerInvalid(f"GET /time: {text[:40]!r} is no time")
        middle_ns = (asked_ns + self._clock.now_ns()) // 2
        # Whole seconds: on average the venue is half a second further than it says.
        self.http.skew_ns = int(text) * NS_PER_SECOND + NS_PER_SECOND // 2 - middle_ns
        return int(text)

    async def version(self) -> int:
        """The order version the venue takes (2 since 2026-04-28)."""
        answer = await self.http.insist("GET", "/version", Call.READ, signed=False)
        said = _read("/version", lambda: msgspec.json.decode(answer.body, type=dict[str, int]))
        return said.get("version", 0)

    async def closed_only(self) -> bool:
        """Whether the venue lets this account only close positions."""
        answer = await self.http.insist("GET", "/auth/ban-status/closed-only", Call.AUTH)
        path = "/auth/ban-status/closed-only"
        return bool(_read(path, lambda: msgspec.json.decode(answer.body)).get("closed_only"))


def _read(path: str, reading: Callable[[], T]) -> T:
    """What ``reading`` makes of an answer. Raises ``AnswerInvalid`` when it cannot."""
    try:
        return reading()
    except (FrameError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AnswerInvalid(f"{path}: {error}") from error
