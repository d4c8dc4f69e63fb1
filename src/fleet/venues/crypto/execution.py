"""Binance as the runner's ``Execution``: approved requests out, what became of them back as facts.

Theory of operation. ``submit`` queues; at the end of the loop's turn the ids of what is queued are
journalled (``OrderSigned``: the hash of the journal and our client order id is the id the venue
gets), and only when that is durable is each order posted, once. Whatever happens to the answer, the
order can be asked for by that id, here or after a restart: it is never sent again.

The matches of an order that takes are in its own answer. What rests is *looked at*: every
``look_s`` while an order's fate is unknown or a cancel is under way, every ``check_s`` while
anything is open. A look asks for the order by our id and reads its matches when the venue counts
more of them than came. There is no user stream to lose messages: Binance has withdrawn listen keys,
and for a bot of closed bars a look is soon enough.

Must not: decide what to trade, hold a secret, drop a fact, or read silence as an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fleet import logs
from fleet.clock import NS_PER_MS, NS_PER_SECOND, Clock, LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import (
    Approved,
    ClientOrderId,
    RunOperation,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.units import Cash, format_units
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.crypto.account import Account, other_accounts
from fleet.venues.crypto.catalog import Catalog
from fleet.venues.crypto.client import BinanceClient, BinanceRefused
from fleet.venues.crypto.orders import EarlierOrder, OrderDesk, Phase, Tracked, wire_id
from fleet.venues.crypto.outcomes import CANCEL_REJECTED, NO_SUCH_ORDER, Verdict, judge
from fleet.venues.port import AnswerInvalid, VenueError

TIF: Final = {TimeInForce.FAK: "IOC", TimeInForce.FOK: "FOK", TimeInForce.GTC: "GTC"}
FactSink = Callable[[Sequence[ev.Event]], None]
JournalWrite = Callable[[Sequence[ev.Event]], bool]
"""Makes facts durable and tells the engine; false (and nothing may be sent) if it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueSettings:
    """Times of the venue. ``allocation`` is this journal's part of a shared account's cash."""

    look_s: float = 0.5
    check_s: float = 2.0
    tick_s: float = 0.05
    allocation: Cash = Cash(0)


class CryptoVenue:
    """Binance, its testnet or the local server; see the module's theory of operation."""

    def __init__(
        self, *, client: BinanceClient, catalog: Catalog, journal_id: str, journal: JournalWrite,
        sink: FactSink, on_failure: Callable[[str], None], adopted_ns: int,
        earlier: Iterable[EarlierOrder] = (), deposits: Iterable[str] = (),
        settings: VenueSettings | None = None, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """``journal_id`` must be unique for ever and the same after every restart.

        ``earlier`` are all orders of this journal, ``deposits`` the ids of its deposits and
        ``adopted_ns`` the moment of its first entry. ``on_failure`` ends the run: a defect of ours.
        """
        self._client, self._catalog, self._journal_id = client, catalog, journal_id
        self._journal, self._sink, self._on_failure = journal, sink, on_failure
        self._settings, self._clock = settings or VenueSettings(), clock or LiveClock()
        self._log = logs.get("live")
        self.desk = OrderDesk(
            catalog.rules.__getitem__, recv_window_ns=client.settings.recv_window_ms * NS_PER_MS
        )
        self._deposits = tuple(deposits)
        self._account = Account(
            client, catalog.rules, self.desk, quote=catalog.quote, adopted_ns=adopted_ns,
            deposits=self._deposits, allocation=self._settings.allocation,
        )  # fmt: skip
        self._queue: list[SubmitOrder] = []
        self._unsigned: set[ClientOrderId] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._look_lock = asyncio.Lock()
        self._looked_ns = 0
        self._closed = False
        for order in earlier:
            if order.venue_order_id is None and order.open:
                self._unsigned.add(order.request.client_order_id)
            elif order.request.instrument_id in catalog.rules:
                self.desk.resume(order, self._clock.now_ns())

    @property
    def name(self) -> str:
        """``binance``, ``binance-testnet`` or ``binance-sandbox``."""
        return self._client.hosts.name

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Measure the clock, refuse an account that cannot be kept books of, begin to look.

        Raises ``VenueError``.
        """
        await self._client.start()
        account = await self._client.account()
        if not account.can_trade:
            raise AnswerInvalid("the account may not trade; allow spot trading for its API key")
        others = other_accounts(self._deposits, account.uid)
        if others:
            raise AnswerInvalid(
                f"this journal is of account {', '.join(others)}, the API key of binance-"
                f"{account.uid}; use the key of that account, or begin a new journal"
            )
        if await self._client.pays_fees_in_bnb():
            raise AnswerInvalid(
                "the account pays its fees in BNB, which this bot does not keep books of; turn "
                '"Use BNB to pay fees" off'
            )
        self._spawn(self._keep())

    def close(self) -> None:
        """Send nothing more and tell nothing more; ``stop`` waits for the end of it."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """``close``, and wait until every task and connection is gone."""
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def observe(self, event: ev.TradePrinted | ev.MarketResolved) -> None:
        """Say nothing: our own orders are asked for."""

    # --- orders out ---------------------------------------------------------------------------

    def submit(self, approved: Approved) -> None:
        """Carry out an approved request; never waits."""
        request = approved.request
        if isinstance(request, RunOperation):
            now_ns = self._clock.now_ns()
            self._emit([ev.OperationRejected(
                ts_event=now_ns, ts_recv=now_ns, operation_id=request.operation_id,
                reason="coins are bought and sold, never split or merged")])  # fmt: skip
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
            tracked = self.desk.sent(request, names[cid], now_ns)
            self._spawn(self._post(tracked))

    def _problem(self, request: SubmitOrder) -> str:
        """Why the order cannot or may not go out; empty if it can."""
        rules = self._catalog.rules.get(request.instrument_id)
        if rules is None:
            return f"{request.instrument_id} is not among the symbols of this bot"
        if request.tif not in TIF:
            return f"{request.tif.value} orders do not exist here"
        if self._client.order_wait_ns() > self._client.settings.order_wait_max_s * NS_PER_SECOND:
            return "the venue's request limit is used up"
        return rules.problem(request.side, request.price, request.qty)

    async def _post(self, tracked: Tracked) -> None:
        request = tracked.request
        try:
            row = await self._client.place({
                "symbol": self._catalog.rules[request.instrument_id].symbol,
                "side": request.side.value, "type": "LIMIT", "timeInForce": TIF[request.tif],
                "price": format_units(request.price), "quantity": format_units(request.qty),
                "newClientOrderId": tracked.wire_id,
            })  # fmt: skip
            self.desk.seen(tracked, row, self._clock.now_ns())
        except VenueError as error:
            self._unanswered(tracked, error)
        self._emit(self.desk.take())
        self._send_cancels()

    def _unanswered(self, tracked: Tracked, error: VenueError) -> None:
        now_ns = self._clock.now_ns()
        if judge(error) is Verdict.REJECTED:
            self.desk.rejected(tracked, str(error), now_ns)
        else:
            # A duplicate is found by its id too: at once, as an order that is there.
            self._log.warning("ORDER outcome unknown", order=tracked.wire_id, reason=str(error))
            self.desk.unknown(tracked, str(error), now_ns)

    # --- cancels ------------------------------------------------------------------------------

    def cancel(self, client_order_id: ClientOrderId) -> None:
        """Ask for a cancel; never waits. It is asked for again until the order is over.

        An order still in the queue is made known first: what leaves must be what is cancelled.
        """
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
        symbol = self._catalog.rules[tracked.request.instrument_id].symbol
        try:
            row = await self._client.cancel(symbol, tracked.wire_id)
            self.desk.seen(tracked, row, self._clock.now_ns())
        except VenueError as error:
            # Over already, not there yet, or unheard: a look tells, and asks again if it rests.
            code = error.code if isinstance(error, BinanceRefused) else 0
            if code != CANCEL_REJECTED:
                self._log.warning("CANCEL unanswered", order=tracked.wire_id, reason=str(error))
        self._emit(self.desk.take())

    # --- looks --------------------------------------------------------------------------------

    async def look(self) -> None:
        """Ask for every open order by its id and read the matches that are missing.

        One order that cannot be read does not hide the others. Raises ``VenueError``, the first.
        """
        failed: VenueError | None = None
        async with self._look_lock:
            for tracked in self.desk.open():
                if tracked.phase is Phase.SENT:
                    continue
                try:
                    await self._look_at(tracked)
                except VenueError as error:
                    failed = failed or error
            self._looked_ns = self._clock.now_ns()
            self._emit(self.desk.take())
            self._send_cancels()
        if failed is not None:
            raise failed

    async def _look_at(self, tracked: Tracked) -> None:
        symbol = self._catalog.rules[tracked.request.instrument_id].symbol
        began_ns = self._clock.now_ns()
        try:
            row = await self._client.order(symbol, tracked.wire_id)
        except BinanceRefused as refused:
            if refused.code != NO_SUCH_ORDER:
                raise
            self.desk.absent(tracked, began_ns, self._clock.now_ns())
            return
        self.desk.seen(tracked, row, self._clock.now_ns())
        if tracked.phase is not Phase.CLOSED and tracked.gross < tracked.executed:
            rows = await self._client.trades(symbol, order_id=row.order_id)
            self.desk.matched(tracked, rows, self._clock.now_ns())
        self.desk.still_rests(tracked)

    async def _keep(self) -> None:
        settings = self._settings
        while True:
            await asyncio.sleep(settings.tick_s)
            interval_s = settings.look_s if self.desk.urgent else settings.check_s
            due = self._clock.now_ns() - self._looked_ns >= interval_s * NS_PER_SECOND
            if not (self.desk.busy and due):
                continue
            try:
                await self.look()
            except VenueError as error:
                self._log.warning("LOOK failed", reason=str(error))
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
