"""Alpaca's REST through alpaca-py, whose blocking clients run in worker threads.

alpaca-py repeats requests on 429 and 504, orders too, and waits for an answer without end. Here it
repeats nothing, every socket has a timeout, and every call an outer one; a call that never left the
queue of the threads is known not to have been sent. Its errors carry the request and its headers,
so they end here: ours are made from status and text alone.

Two budgets keep us below Alpaca's 200 requests a minute (docs "Usage limits", read 2026-11): one
for market data and the account, one for orders, cancels and finding out what became of them. After
a 429 nothing but those is sent until the time the venue named.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fleet.clock import NS_PER_SECOND, Clock, LiveClock
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price, Qty, format_units
from fleet.venues.port import AnswerInvalid, RequestRefused, TransportFailed, VenueError
from fleet.venues.stocks.credentials import StockCredentials
from fleet.venues.stocks.hosts import StockHosts
from fleet.venues.stocks.wire import (
    AccountRow,
    ActivityRow,
    AssetRow,
    BarRow,
    CalendarRow,
    ClockRow,
    OrderRow,
    PositionRow,
    SnapshotRow,
    iso,
    moment,
    nanoseconds,
    read,
)
from fleet.venues.transport import RateBudget

if TYPE_CHECKING:
    from alpaca.data.historical.stock import StockHistoricalDataClient
    from alpaca.trading.client import TradingClient
    from requests import Session

T = TypeVar("T")
BODY_CHARS: Final = 500
RETRY_DEFAULT_S: Final = 5
TOO_MANY: Final = 429
PAGE: Final = 100
"""Activities a page, the most Alpaca gives."""
TIMEFRAMES: Final = {60: (1, "Min"), 300: (5, "Min"), 900: (15, "Min"), 3_600: (1, "Hour")}
"""Bar lengths in seconds that can be asked for; longer ones span sessions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Times of the client. ``feed`` is ``iex`` (free) or ``sip`` (all exchanges, paid)."""

    connect_s: float = 3.0
    read_s: float = 10.0
    total_s: float = 20.0
    threads: int = 4
    feed: str = "iex"
    per_second: int = 1
    burst: int = 30


class AlpacaClient:
    """One account's requests. Every method raises ``VenueError``."""

    def __init__(
        self, hosts: StockHosts, credentials: StockCredentials, *,
        settings: ClientSettings | None = None, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """Nothing is sent before ``start``."""
        self.hosts, self.settings = hosts, settings or ClientSettings()
        self._credentials, self._clock = credentials, clock or LiveClock()
        self._pool = ThreadPoolExecutor(self.settings.threads, thread_name_prefix="alpaca")
        self._local = threading.local()
        rate, burst = self.settings.per_second, self.settings.burst
        self._ordinary = RateBudget(per_second=rate, burst=burst)
        self._urgent = RateBudget(per_second=rate, burst=burst)
        self._silent_until_ns = 0
        self.offset_ns = 0
        """How far the venue's clock is ahead of ours, as last measured."""

    def __repr__(self) -> str:
        """The host, never the key."""
        return f"AlpacaClient({self.hosts.name})"

    async def start(self) -> ClockRow:
        """Measure the venue's clock."""
        before_ns = self._clock.now_ns()
        row = await self.clock()
        middle_ns = (before_ns + self._clock.now_ns()) // 2
        self.offset_ns = nanoseconds(row.timestamp, "clock") - middle_ns
        return row

    def venue_ns(self) -> int:
        """The venue's time."""
        return self._clock.now_ns() + self.offset_ns

    async def close(self) -> None:
        """Send nothing more; what waits in a socket ends by its own timeout."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- account ------------------------------------------------------------------------------

    async def clock(self) -> ClockRow:
        """The venue's time and whether the regular session is on."""
        return await self._trade(lambda c: c.get("/clock"), ClockRow, "clock")

    async def calendar(self, begin: str, end: str) -> list[CalendarRow]:
        """The trading days from ``begin`` to ``end``, dates like ``2026-11-21``."""
        asked = {"start": begin, "end": end}
        return await self._trade(lambda c: c.get("/calendar", asked), list[CalendarRow], "calendar")

    async def account(self) -> AccountRow:
        """Cash and whether trading is allowed."""
        return await self._trade(lambda c: c.get_account(), AccountRow, "account")

    async def positions(self) -> list[PositionRow]:
        """Shares held."""
        return await self._trade(lambda c: c.get_all_positions(), list[PositionRow], "positions")

    async def asset(self, symbol: str) -> AssetRow:
        """What a symbol is."""
        return await self._trade(lambda c: c.get_asset(symbol), AssetRow, "asset")

    async def activities(self, *, after_ns: int) -> list[ActivityRow]:
        """Fills and other movements after a moment, oldest first."""
        token = ""
        rows: list[ActivityRow] = []
        while True:
            asked: dict[str, Any] = {
                "after": iso(after_ns), "direction": "asc", "page_size": PAGE,
            }  # fmt: skip
            if token:
                asked["page_token"] = token
            page = await self._activity_page(asked)
            rows += page
            if len(page) < PAGE:
                return rows
            if token == page[-1].id:
                raise AnswerInvalid("the activities do not advance from page to page")
            token = page[-1].id

    async def _activity_page(self, asked: dict[str, Any]) -> list[ActivityRow]:
        return await self._trade(
            lambda c: c.get("/account/activities", asked), list[ActivityRow], "activities"
        )

    # --- orders -------------------------------------------------------------------------------

    async def place(
        self, symbol: str, side: Side, price: Price, qty: Qty, tif: str, name: str, *,
        extended: bool = False,
    ) -> OrderRow:  # fmt: skip
        """Send one limit order of whole shares; ``name`` is the client order id."""
        if qty % SCALE:
            raise ValueError(f"{format_units(qty)} shares of {symbol} are no whole number")

        def work(client: TradingClient) -> object:
            from alpaca.trading.enums import OrderSide, TimeInForce
            from alpaca.trading.requests import LimitOrderRequest

            return client.submit_order(LimitOrderRequest(
                symbol=symbol, qty=qty // SCALE, limit_price=float(format_units(price)),
                side=OrderSide(side.value.lower()), time_in_force=TimeInForce(tif),
                client_order_id=name, extended_hours=extended,
            ))  # fmt: skip

        return await self._trade(work, OrderRow, "order", urgent=True)

    async def order(self, name: str) -> OrderRow:
        """An order by its client order id."""
        return await self._trade(
            lambda c: c.get_order_by_client_id(name), OrderRow, "order", urgent=True
        )

    async def order_by_id(self, order_id: str) -> OrderRow:
        """An order by the venue's id."""
        return await self._trade(lambda c: c.get_order_by_id(order_id), OrderRow, "order")

    async def cancel(self, order_id: str) -> None:
        """Ask for a cancel; the answer is only that it was heard."""
        await self._call(
            lambda: self._clients()[0].cancel_order_by_id(order_id), "cancel", urgent=True
        )

    # --- market data --------------------------------------------------------------------------

    async def bars(
        self, symbols: Sequence[str], interval_s: int, begin_ns: int, end_ns: int
    ) -> Mapping[str, list[BarRow]]:
        """The bars that begin in [``begin_ns``, ``end_ns``), by symbol, oldest first, unadjusted.

        The last may still be open. A minute without trades has no bar.
        """
        if interval_s not in TIMEFRAMES:
            raise ValueError(f"no bars of {interval_s} s; there are {sorted(TIMEFRAMES)}")

        def work() -> object:
            from alpaca.data.enums import Adjustment, DataFeed
            from alpaca.data.requests import StockBarsRequest
            from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

            count, unit = TIMEFRAMES[interval_s]
            return self._clients()[1].get_stock_bars(StockBarsRequest(
                symbol_or_symbols=list(symbols), timeframe=TimeFrame(count, TimeFrameUnit(unit)),
                start=moment(begin_ns), end=moment(end_ns - 1_000),
                feed=DataFeed(self.settings.feed), adjustment=Adjustment.RAW,
            ))  # fmt: skip

        return read(await self._call(work, "bars"), dict[str, list[BarRow]], "bars")

    async def snapshots(self, symbols: Sequence[str]) -> Mapping[str, SnapshotRow | None]:
        """The latest quote and trade of each symbol, in one request."""

        def work() -> object:
            from alpaca.data.enums import DataFeed
            from alpaca.data.requests import StockSnapshotRequest

            return self._clients()[1].get_stock_snapshot(StockSnapshotRequest(
                symbol_or_symbols=list(symbols), feed=DataFeed(self.settings.feed)
            ))  # fmt: skip

        answer = await self._call(work, "snapshots")
        return read(answer, dict[str, SnapshotRow | None], "snapshots")

    # --- threads ------------------------------------------------------------------------------

    async def _trade(
        self, work: Callable[[TradingClient], object], kind: type[T], what: str, *,
        urgent: bool = False,
    ) -> T:  # fmt: skip
        answer = await self._call(lambda: work(self._clients()[0]), what, urgent=urgent)
        return read(answer, kind, what)

    async def _call(self, work: Callable[[], object], what: str, *, urgent: bool = False) -> object:
        """Run ``work`` in a thread, within the budget and the outer timeout."""
        wait_ns = (self._urgent if urgent else self._ordinary).reserve(self._clock.now_ns())
        if not urgent:
            wait_ns = max(wait_ns, self._silent_until_ns - self._clock.now_ns())
        if wait_ns > self.settings.total_s * NS_PER_SECOND:
            raise TransportFailed(f"{what}: the request limit is used up", sent=False)
        await asyncio.sleep(max(0, wait_ns) / NS_PER_SECOND)
        try:
            future = self._pool.submit(_outcome, work, what)
        except RuntimeError:
            raise TransportFailed(f"{what}: the client is closed", sent=False) from None
        done, _ = await asyncio.wait({asyncio.wrap_future(future)}, timeout=self.settings.total_s)
        if not done:
            sent = not future.cancel()
            raise TransportFailed(f"{what}: no answer in {self.settings.total_s} s", sent=sent)
        answer, failure, retry_after = future.result()
        if isinstance(failure, RequestRefused) and failure.status == TOO_MANY:
            seconds = int(retry_after) if retry_after.isdecimal() else RETRY_DEFAULT_S
            self._silent_until_ns = self._clock.now_ns() + seconds * NS_PER_SECOND
        if failure is not None:
            raise failure
        return answer

    def _clients(self) -> tuple[TradingClient, StockHistoricalDataClient]:
        """This thread's clients, made at their first use."""
        made: tuple[TradingClient, StockHistoricalDataClient] | None
        made = getattr(self._local, "clients", None)
        if made is None:
            from alpaca.data.historical.stock import (
                StockHistoricalDataClient,
            )
            from alpaca.trading.client import TradingClient

            key, secret = self._credentials.reveal()
            made = (
                TradingClient(key, secret, raw_data=True, url_override=self.hosts.trading_url),
                StockHistoricalDataClient(
                    key, secret, raw_data=True, url_override=self.hosts.data_url
                ),
            )
            for client in made:
                # Not to be set from outside in 0.44; tests hold that nothing is sent twice.
                client._retry = 0  # noqa: SLF001
                _limit(client._session, self.settings)  # noqa: SLF001
            self._local.clients = made
        return made


def _limit(session: Session, settings: ClientSettings) -> None:
    """Give every request of a session timeouts; alpaca-py has none."""
    from requests.adapters import HTTPAdapter

    class Limited(HTTPAdapter):
        def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
            options["timeout"] = (settings.connect_s, settings.read_s)
            return super().send(request, **options)

    for scheme in ("https://", "http://"):
        session.mount(scheme, Limited())


def _outcome(work: Callable[[], object], what: str) -> tuple[object, VenueError | None, str]:
    """What a call came to: its answer, or our error, which knows nothing of alpaca-py's."""
    from alpaca.common.exceptions import APIError
    from requests import exceptions as fail
    from urllib3.exceptions import NewConnectionError

    try:
        return work(), None, ""
    except APIError as error:
        status = int(error.status_code or 0)
        body = str(error)[:BODY_CHARS]
        # Not ``if response``: requests calls an answer of 4xx false.
        answer = error.response
        retry_after = "" if answer is None else str(answer.headers.get("Retry-After", ""))
        return (
            None,
            RequestRefused(f"{what}: {status} {body}", status=status, body=body),
            retry_after,
        )
    except fail.ConnectTimeout:
        return None, TransportFailed(f"{what}: no connection in time", sent=False), ""
    except fail.JSONDecodeError:
        return None, AnswerInvalid(f"{what}: the answer is no JSON"), ""
    except fail.ConnectionError as error:
        cause = getattr(error.args[0], "reason", None) if error.args else None
        sent = not isinstance(cause, NewConnectionError)
        return None, TransportFailed(f"{what}: {type(error).__name__}", sent=sent), ""
    except fail.RequestException as error:
        return None, TransportFailed(f"{what}: {type(error).__name__}", sent=True), ""
