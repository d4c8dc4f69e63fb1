"""Alpaca as the runner's ``Execution``: approved requests out, what became of them back as facts.

Theory of operation. ``submit`` queues; at the end of the loop's turn the ids of what is queued are
journalled (``OrderSigned``: the hash of the journal and our client order id is the id the venue
gets), and only when that is durable is each order posted, once. Whatever happens to the answer, the
order can be asked for by that id, here or after a restart: it is never sent again.

Fills come on the ``trade_updates`` stream. What the stream may have missed is *looked at*: when it
(re)connects, every ``look_s`` while an order's fate is unknown or it should be over, every
``check_s`` while anything is open. A look asks for each open order by our id, and reads the
account's activities when the venue counts more shares than came as fills.

No order leaves while the market is closed; with extended hours allowed, an order that would take
goes out as a DAY order and is cancelled at once, because Alpaca knows no IOC there.

Must not: decide what to trade, hold a secret, drop a fact, or read silence as an answer.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock, LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import Approved, ClientOrderId, RunOperation, SubmitOrder, TimeInForce
from fleet.domain.instruments import Universe
from fleet.domain.units import Cash, format_units
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.port import AnswerInvalid, RequestRefused, VenueError
from fleet.venues.stocks.account import Account
from fleet.venues.stocks.catalog import symbol_of
from fleet.venues.stocks.client import AlpacaClient
from fleet.venues.stocks.fees import RegulatoryFees
from fleet.venues.stocks.hours import TradingHours
from fleet.venues.stocks.orders import EarlierOrder, Match, OrderDesk, Phase, Tracked, wire_id
from fleet.venues.stocks.outcomes import Verdict, absent, judge
from fleet.venues.stocks.updates import TradeUpdates
from fleet.venues.stocks.wire import UpdateRow, exact, nanoseconds, rounded

TIF: Final = {TimeInForce.FAK: "ioc", TimeInForce.FOK: "fok", TimeInForce.GTC: "day"}
FILLS: Final = frozenset({"fill", "partial_fill"})
BROKEN: Final = frozenset({"trade_bust", "trade_correct"})
CALENDAR_DAYS: Final = 14
CALENDAR_AGE_S: Final = 6 * 3_600.0
FactSink = Callable[[Sequence[ev.Event]], None]
JournalWrite = Callable[[Sequence[ev.Event]], bool]
"""Makes facts durable and tells the engine; false (and nothing may be sent) if it cannot."""
StreamMaker = Callable[[Callable[[UpdateRow], None], Callable[[str], None]], TradeUpdates]


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueSettings:
    """Times of the venue. ``allocation`` is this journal's part of a shared account's cash.

    ``absent_s`` is how long after an unanswered order "not found" begins to count as proof.
    """

    look_s: float = 1.0
    check_s: float = 10.0
    tick_s: float = 0.05
    absent_s: float = 60.0
    extended_hours: bool = False
    allocation: Cash = Cash(0)


async def load_hours(client: AlpacaClient, *, extended: bool = False) -> TradingHours:
    """The sessions from yesterday on for two weeks. Raises ``VenueError``."""
    today = dt.datetime.fromtimestamp(client.venue_ns() / NS_PER_SECOND, dt.UTC).date()
    begin, end = today - dt.timedelta(days=1), today + dt.timedelta(days=CALENDAR_DAYS)
    rows = await client.calendar(begin.isoformat(), end.isoformat())
    return TradingHours(rows, extended=extended)


class StocksVenue:
    """Alpaca, its paper account or the local server; see the module's theory of operation."""

    def __init__(
        self, *, client: AlpacaClient, universe: Universe, fees: RegulatoryFees,
        stream: StreamMaker, journal_id: str, journal: JournalWrite, sink: FactSink,
        on_failure: Callable[[str], None], adopted_ns: int, earlier: Iterable[EarlierOrder] = (),
        deposits: Iterable[str] = (), settings: VenueSettings | None = None,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """``journal_id`` must be unique for ever and the same after every restart.

        ``earlier`` are all orders of this journal, ``deposits`` the ids of its deposits and
        ``adopted_ns`` the moment of its first entry. ``on_failure`` ends the run: a defect of ours,
        or fills the venue took back.
        """
        self._client, self._universe, self._journal_id = client, universe, journal_id
        self._journal, self._sink, self._on_failure = journal, sink, on_failure
        self._settings, self._clock = settings or VenueSettings(), clock or LiveClock()
        self._log = logs.get("live")
        self.hours = TradingHours((), extended=self._settings.extended_hours)
        self.desk = OrderDesk(fees, absent_ns=int(self._settings.absent_s * NS_PER_SECOND))
        self._account = Account(
            client, universe.instruments, self.desk, adopted_ns=adopted_ns, deposits=deposits,
            allocation=self._settings.allocation,
        )  # fmt: skip
        self.stream = stream(self._updated, self._gap)
        self._queue: list[SubmitOrder] = []
        self._unsigned: set[ClientOrderId] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._look_lock = asyncio.Lock()
        self._looked_ns = self._hours_ns = 0
        self._closed = False
        for order in earlier:
            if order.venue_order_id is None and order.open:
                self._unsigned.add(order.request.client_order_id)
            elif order.request.instrument_id in universe.instruments:
                self.desk.resume(order, self._clock.now_ns())

    @property
    def name(self) -> str:
        """``alpaca``, ``alpaca-paper`` or ``alpaca-sandbox``."""
        return self._client.hosts.name

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read clock and calendar, refuse an account that may not trade, listen and look.

        Raises ``VenueError``.
        """
        await self._client.start()
        account = await self._client.account()
        blocked = (
            account.trading_blocked or account.account_blocked or account.trade_suspended_by_user
        )
        if account.status != "ACTIVE" or blocked:
            raise AnswerInvalid(
                f"the account is {account.status} and may not trade; see Alpaca's dashboard"
            )
        if account.currency != "USD":
            raise AnswerInvalid(f"the account counts in {account.currency}; this bot in USD only")
        await self._load_hours()
        self.stream.start(self._spawn)
        self._spawn(self._keep())

    async def _load_hours(self) -> None:
        self.hours = await load_hours(self._client, extended=self._settings.extended_hours)
        self._hours_ns = self._clock.now_ns()
        now_ns = self._client.venue_ns()
        if not self.hours.is_open(now_ns):
            self._log.warning("MARKET closed", until=self.hours.next_open_words(now_ns))

    def close(self) -> None:
        """Send nothing more and tell nothing more; ``stop`` waits for the end of it."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """``close``, and wait until every task is gone."""
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def observe(self, event: ev.TradePrinted | ev.MarketResolved) -> None:
        """Say nothing: our own orders are told by the stream."""

    # --- orders out ---------------------------------------------------------------------------

    def submit(self, approved: Approved) -> None:
        """Carry out an approved request; never waits."""
        request = approved.request
        if isinstance(request, RunOperation):
            now_ns = self._clock.now_ns()
            self._emit([ev.OperationRejected(
                ts_event=now_ns, ts_recv=now_ns, operation_id=request.operation_id,
                reason="shares are bought and sold, never split or merged")])  # fmt: skip
            return
        self._queue.append(request)
        if len(self._queue) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        requests, self._queue = self._queue, []
        if self._closed:
            return
        now_ns = self._clock.now_ns()
        kept: dict[ClientOrderId, SubmitOrder] = {}
        for request in requests:
            if self.desk.get(request.client_order_id) is not None:
                self._log.error("ORDER approved twice, sent once", order=request.client_order_id)
                continue
            problem = self._problem(request)
            if problem:
                self._emit([ev.OrderRejected(
                    ts_event=now_ns, ts_recv=now_ns, client_order_id=request.client_order_id,
                    reason=f"not sent: {problem}")])  # fmt: skip
                continue
            kept[request.client_order_id] = request
        names = {cid: wire_id(self._journal_id, cid) for cid in kept}
        signed: list[ev.Event] = [
            ev.OrderSigned(
                ts_event=now_ns, ts_recv=now_ns, client_order_id=cid, venue_order_id=name
            )
            for cid, name in names.items()
        ]
        if not signed or not self._journal(signed):
            return
        for cid, request in kept.items():
            self._spawn(self._post(self.desk.sent(request, names[cid])))

    def _problem(self, request: SubmitOrder) -> str:
        """Why the order cannot or may not go out; empty if it can."""
        instrument = self._universe.instruments.get(request.instrument_id)
        if instrument is None:
            return f"{request.instrument_id} is not among the symbols of this bot"
        if request.tif not in TIF:
            return f"{request.tif.value} orders do not exist here"
        if request.price <= 0 or request.price % instrument.tick:
            return f"price {format_units(request.price)} is off the tick"
        if request.qty < instrument.min_qty or request.qty % instrument.lot:
            return f"quantity {format_units(request.qty)} is not a number of whole shares"
        now_ns = self._client.venue_ns()
        if not self.hours.is_open(now_ns):
            return f"the market is {self.hours.next_open_words(now_ns)}"
        if request.tif is TimeInForce.FOK and not self.hours.is_regular(now_ns):
            return "all-or-nothing orders exist only in the regular session"
        return ""

    async def _post(self, tracked: Tracked) -> None:
        request = tracked.request
        extended = not self.hours.is_regular(self._client.venue_ns())
        tif = "day" if extended else TIF[request.tif]
        if extended and request.tif is not TimeInForce.GTC:
            tracked.asked = tracked.cancel_due = True
        try:
            row = await self._client.place(
                symbol_of(request.instrument_id), request.side, request.price, request.qty, tif,
                tracked.wire_id, extended=extended,
            )  # fmt: skip
        except VenueError as error:
            self._unanswered(tracked, error)
        else:
            self.desk.seen(row, self._clock.now_ns())
        self._emit(self.desk.take())
        self._send_cancels()

    def _unanswered(self, tracked: Tracked, error: VenueError) -> None:
        now_ns, reason = self._clock.now_ns(), " ".join(str(error).split())
        if judge(error) is Verdict.REJECTED:
            self.desk.rejected(tracked, reason, now_ns)
        else:
            # A duplicate is found by its id too: at once, as an order that is there.
            self._log.warning("ORDER outcome unknown", order=tracked.wire_id, reason=reason)
            self.desk.unknown(tracked, reason, now_ns)

    # --- cancels ------------------------------------------------------------------------------

    def cancel(self, client_order_id: ClientOrderId) -> None:
        """Ask for a cancel; never waits. It is asked for again until the order is over."""
        if any(request.client_order_id == client_order_id for request in self._queue):
            self._flush()
        self.desk.ask_cancel(client_order_id, self._clock.now_ns())
        asyncio.get_running_loop().call_soon(self._cancel_due)

    def _cancel_due(self) -> None:
        self._emit(self.desk.take())
        self._send_cancels()

    def _send_cancels(self) -> None:
        for tracked in [] if self._closed else self.desk.due_cancels():
            self._spawn(self._cancel(tracked))

    async def _cancel(self, tracked: Tracked) -> None:
        try:
            await self._client.cancel(tracked.order_id)
        except VenueError as error:
            # Over already, or unheard: a look tells, and asks again if it rests.
            self._log.warning("CANCEL unanswered", order=tracked.wire_id, reason=str(error))

    # --- the stream ---------------------------------------------------------------------------

    def _updated(self, update: UpdateRow) -> None:
        """A trade update: the order as it is now and, if it traded, the fill."""
        now_ns = self._clock.now_ns()
        tracked = self.desk.bind(update.order)
        if tracked is None:
            return
        if update.event in BROKEN:
            self._on_failure(
                f"Alpaca corrected a fill of {update.order.symbol} ({update.event}); the books "
                "must be compared by hand"
            )
            return
        try:
            if update.event in FILLS and update.price is not None and update.qty is not None:
                # Accepted comes before filled, ended after it: the desk sorts it out.
                match = Match(
                    order_id=update.order.id, cum_qty=exact(update.order.filled_qty, "filled_qty"),
                    qty=rounded(update.qty, "qty"), price=rounded(update.price, "price"),
                    at_ns=nanoseconds(update.timestamp, "timestamp"),
                )  # fmt: skip
                self.desk.accepted(tracked, now_ns)
                self.desk.matched(tracked, match, now_ns)
            self.desk.seen(update.order, now_ns)
        except AnswerInvalid as error:
            self._gap(f"an update could not be read: {error}")
        self._emit(self.desk.take())
        self._send_cancels()

    def _gap(self, reason: str) -> None:
        """The stream may have missed something: look soon."""
        self._log.debug("TRADE UPDATES gap", reason=reason)
        self._looked_ns = 0

    # --- looks --------------------------------------------------------------------------------

    async def look(self) -> None:
        """Ask for every open order by its id and read the fills that are missing.

        One that cannot be asked for keeps none of the others waiting; the first such failure is
        raised at the end. Raises ``VenueError``.
        """
        async with self._look_lock:
            failed: VenueError | None = None
            for tracked in self.desk.open():
                try:
                    if tracked.phase is not Phase.SENT:
                        await self._look_at(tracked)
                except VenueError as error:
                    failed = failed or error
            if any(tracked.gross < tracked.executed for tracked in self.desk.open()):
                await self._account.survey()
            for tracked in self.desk.open():
                self.desk.still_rests(tracked)
            self._looked_ns = self._clock.now_ns()
            self._emit(self.desk.take())
            self._send_cancels()
        if failed is not None:
            raise failed

    async def _look_at(self, tracked: Tracked) -> None:
        began_ns = self._clock.now_ns()
        try:
            row = await self._client.order(tracked.wire_id)
        except RequestRefused as refused:
            if not absent(refused):
                raise
            self.desk.absent(tracked, began_ns, self._clock.now_ns())
        else:
            self.desk.seen(row, self._clock.now_ns())

    async def _keep(self) -> None:
        settings = self._settings
        while True:
            await asyncio.sleep(settings.tick_s)
            now_ns = self._clock.now_ns()
            interval_s = settings.look_s if self.desk.urgent else settings.check_s
            try:
                if now_ns - self._hours_ns >= CALENDAR_AGE_S * NS_PER_SECOND:
                    self._hours_ns = now_ns
                    await self._client.start()
                    await self._load_hours()
                if self.desk.busy and now_ns - self._looked_ns >= interval_s * NS_PER_SECOND:
                    await self.look()
            except VenueError as error:
                self._log.warning("LOOK failed", reason=" ".join(str(error).split()))
                self._looked_ns = self._clock.now_ns()

    # --- the account --------------------------------------------------------------------------

    async def account(self, query: AccountQuery) -> AccountTruth:
        """The venue's books now, and the facts that answer ``query``. Raises ``VenueError``."""
        await self.look()
        waiting = {request.client_order_id for request in self._queue}
        truth = await self._account.truth(query, never_sent=self._unsigned - waiting)
        self._emit(self.desk.take())
        return truth

    # --- small things -------------------------------------------------------------------------

    def _emit(self, facts: Sequence[ev.Event]) -> None:
        if facts and not self._closed:
            self._sink(facts)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(task := asyncio.get_running_loop().create_task(work))
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._log.error("LIVE VENUE failed", error=str(error), exc_info=error)
        self._on_failure(f"the live venue failed: {type(error).__name__}: {error}")
