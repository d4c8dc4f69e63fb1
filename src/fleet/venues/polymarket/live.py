"""The live venue: approved requests out to Polymarket's CLOB, what became of them back as facts.

Theory of operation. ``submit`` only queues; at the end of the loop's turn everything queued is
signed together, the ids are journalled (``OrderSigned``), and only when the journal says that they
are durable does one POST carry them all: one order alone, up to 15 in a batch. Whatever then
happens, the id of each order is known here and on disk, so a lost answer can be looked up.

What is known of an order is kept by the ``OrderDesk``; this module only moves: POSTs, cancels
(those of one turn together, and again until they are answered), the user stream, and *surveys*,
which read open orders and trades from REST. A survey runs at every connection of the stream, after
every gap in it, every ``look_s`` while an order's fate is unknown, every ``check_s`` while anything
is open or unsettled (a frozen stream shows in nothing else), and when the account is asked for.

Nothing is sent without the journal's word, nothing is ever signed twice for one client order id,
and no silence is read as an answer. The heartbeat is the dead man's switch: if this process stops,
the venue cancels what rests within 15 seconds.

Must not: decide what to trade, hold a key, or drop a fact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fleet import logs
from fleet.clock import NS_PER_MS, NS_PER_SECOND, Clock, LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import Approved, ClientOrderId, RunOperation, SubmitOrder
from fleet.domain.instruments import FeeSchedule, Instrument, InstrumentId, Side
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.polymarket.client import ClobClient, Post
from fleet.venues.polymarket.guard import GuardRefused, SigningGuard
from fleet.venues.polymarket.live_account import Account
from fleet.venues.polymarket.live_fills import Ours
from fleet.venues.polymarket.live_operations import EarlierOperation, Operations, OperationsPort
from fleet.venues.polymarket.live_orders import OrderDesk
from fleet.venues.polymarket.outcomes import Outcome
from fleet.venues.polymarket.signing import MAX_BATCH
from fleet.venues.polymarket.tracked_order import Tracked
from fleet.venues.polymarket.user_feed import Sighting, UserFeed
from fleet.venues.polymarket.wire_user import UserTrade
from fleet.venues.port import VenueError

SKEW_S: Final = 60
"""How far back a survey reads trades beyond what it needs: our clock and the venue's differ."""

FactSink = Callable[[Sequence[ev.Event]], None]
JournalWrite = Callable[[Sequence[ev.Event]], bool]
"""Makes facts durable and tells the engine; false (and nothing may be sent) if it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """Times of the live venue. ``heartbeat_s`` 0 turns the dead man's switch off."""

    heartbeat_s: float = 5.0
    look_s: float = 0.5
    check_s: float = 5.0
    idle_s: float = 60.0
    order_wait_max_ns: int = 250 * NS_PER_MS
    """An order that would wait longer for its place in the rate budget is not sent: it is stale."""
    tick_s: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierOrder:
    """An order that the journal already has: as it was commanded, and how far it came.

    One whose ``OrderSigned`` never became durable has no ``venue_order_id``: it was never sent.
    """

    request: SubmitOrder
    venue_order_id: ev.VenueOrderId | None
    accepted: bool
    open: bool


class LiveVenue:
    """Polymarket (or its sandbox) as the runner's ``Execution``."""

    def __init__(
        self,
        *,
        client: ClobClient,
        guard: SigningGuard,
        stream: Callable[[Callable[[Sequence[Sighting]], None], Callable[[str], None]], UserFeed],
        instruments: Mapping[InstrumentId, Instrument],
        journal: JournalWrite,
        sink: FactSink,
        on_failure: Callable[[str], None],
        earlier: Iterable[EarlierOrder] = (),
        operations: OperationsPort | None = None,
        earlier_operations: Iterable[EarlierOperation] = (),
        account: Account | None = None,
        settings: LiveSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        """``stream`` makes the user feed from what takes its sightings and its gaps.

        ``earlier`` are all orders of this journal. ``on_failure`` ends the run: a defect of ours.
        """
        self._client, self._guard = client, guard
        self._instruments = instruments
        self._journal, self._sink, self._on_failure = journal, sink, on_failure
        self._settings = settings or LiveSettings()
        self._clock = clock or LiveClock()
        self._log = logs.get("live")
        self.desk = OrderDesk(self._fees_of)
        self.stream = stream(self._seen, self._gap)
        self._operations = Operations(
            operations, journal, self._emit, self._clock, earlier_operations
        )
        self._account = account or Account(client, guard.wallet)
        self._queue: list[SubmitOrder] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._survey_lock = asyncio.Lock()
        self._surveyed_ns = 0
        self._gapped = True
        self._closed = False
        self._unsigned: set[ClientOrderId] = set()
        for order in earlier:
            self._resume(order)

    def _resume(self, order: EarlierOrder) -> None:
        if order.venue_order_id is not None:
            ours = _ours(order.request, order.venue_order_id)
            self.desk.resume(ours, accepted=order.accepted, is_open=order.open)
        elif order.open:
            self._unsigned.add(order.request.client_order_id)

    def _fees_of(self, token: InstrumentId) -> FeeSchedule:
        instrument = self._instruments.get(token)
        if instrument is None:
            # Of a market long over: its fills are settled in the journal, with their fees.
            return FeeSchedule()
        return instrument.fees

    @property
    def name(self) -> str:
        """``polymarket`` or ``sandbox``."""
        return self._client.hosts.name

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Warm the connection, join the stream and begin to look. Raises ``VenueError``."""
        await self._client.start()
        await self.stream.start()
        self._spawn(self._keep())
        for operation in self._operations.resumed:
            self._spawn(self._operations.watch(operation.request, operation.transaction_hash))
        if self._settings.heartbeat_s:
            self._spawn(self._beat())

    def close(self) -> None:
        """Send nothing more and tell nothing more; ``stop`` waits for the end of it."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """``close``, and wait until every task and connection is gone."""
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.stream.stop()
        await self._client.close()

    def observe(self, event: ev.TradePrinted | ev.MarketResolved) -> None:
        """Say nothing: our own orders are told on a channel of their own."""

    # --- orders out ---------------------------------------------------------------------------

    def submit(self, approved: Approved) -> None:
        """Carry out an approved request; never waits. Orders of one turn go out together."""
        request = approved.request
        if isinstance(request, RunOperation):
            self._spawn(self._operations.run(request))
            return
        self._queue.append(request)
        if len(self._queue) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Sign, journal and post what this turn approved."""
        requests, self._queue = self._queue, []
        for start in range(0, len(requests), MAX_BATCH):
            if not self._closed:
                self._dispatch(requests[start : start + MAX_BATCH])

    def _dispatch(self, requests: Sequence[SubmitOrder]) -> None:
        now_ns = self._clock.now_ns()
        if self._client.order_wait_ns(len(requests)) > self._settings.order_wait_max_ns:
            for request in requests:
                self._reject(request, "not sent: the venue's rate limit is used up", now_ns)
            return
        posts: list[Post] = []
        signed: list[ev.Event] = []
        kept: list[SubmitOrder] = []
        fresh = list({r.client_order_id: r for r in requests if not self._is_known(r)}.values())
        wires = self._guard.sign_orders(fresh, self._client.owner)
        for request, wire in zip(fresh, wires, strict=True):
            if isinstance(wire, GuardRefused):
                self._reject(request, f"not signed: {wire}", now_ns)
                continue
            kept.append(request)
            posts.append(Post(wire.venue_order_id, wire.body, request.side is Side.BUY))
            signed.append(
                ev.OrderSigned(
                    ts_event=now_ns, ts_recv=now_ns, client_order_id=request.client_order_id,
                    venue_order_id=wire.venue_order_id,
                )
            )  # fmt: skip
        if not posts or not self._journal(signed):
            return
        posting = self._client.begin(posts)  # The bytes are out; the rest can take its time.
        for request, post in zip(kept, posts, strict=True):
            self.desk.sent(_ours(request, post.order_id))
        self._spawn(self._answered(kept, posting))

    def _is_known(self, request: SubmitOrder) -> bool:
        """Whether this client order id was used before: then it is the same order, and signed."""
        known = self.desk.get(request.client_order_id) is not None
        if known:
            self._log.error("ORDER approved twice, sent once", order=request.client_order_id)
        return known

    def _reject(self, request: SubmitOrder, reason: str, now_ns: int) -> None:
        self._sink([ev.OrderRejected(
            ts_event=now_ns, ts_recv=now_ns, client_order_id=request.client_order_id,
            reason=reason)])  # fmt: skip

    async def _answered(
        self, requests: Sequence[SubmitOrder], posting: Coroutine[Any, Any, list[Outcome]]
    ) -> None:
        outcomes = await posting
        now_ns = self._clock.now_ns()
        for request, outcome in zip(requests, outcomes, strict=True):
            self.desk.answered(request.client_order_id, outcome, now_ns)
        self._emit(self.desk.take())
        self._send_cancels(now_ns)

    # --- cancels ------------------------------------------------------------------------------

    def cancel(self, client_order_id: ClientOrderId) -> None:
        """Ask for a cancel; never waits. It is asked for again until the venue answers."""
        self.desk.ask_cancel(client_order_id, self._clock.now_ns())
        asyncio.get_running_loop().call_soon(self._cancel_due)

    def _cancel_due(self) -> None:
        self._emit(self.desk.take())
        self._send_cancels(self._clock.now_ns())

    def _send_cancels(self, now_ns: int) -> None:
        due = [] if self._closed else self.desk.due_cancels(now_ns)
        if due:
            self._spawn(self._cancel(due))

    async def _cancel(self, due: Sequence[Tracked]) -> None:
        ids = [tracked.ours.venue_order_id for tracked in due]
        try:
            answer = await self._client.cancel(ids)
        except VenueError as error:
            self._log.warning("CANCEL unanswered", orders=len(ids), reason=str(error))
            for order_id in ids:
                self.desk.cancel_lost(order_id, self._clock.now_ns())
            return
        now_ns = self._clock.now_ns()
        for order_id in answer.canceled:
            self.desk.canceled(order_id, now_ns)
        for order_id, reason in answer.refused.items():
            self.desk.cancel_refused(order_id, reason, now_ns)
        self._emit(self.desk.take())

    # --- sightings ----------------------------------------------------------------------------

    def _seen(self, sightings: Sequence[Sighting]) -> None:
        now_ns = self._clock.now_ns()
        for sighting in sightings:
            if isinstance(sighting, UserTrade):
                self.desk.trade_seen(sighting, now_ns)
            else:
                self.desk.order_seen(sighting, now_ns)
        self._emit(self.desk.take())

    def _gap(self, reason: str) -> None:
        """The stream may have missed something."""
        self._gapped = True
        if self.stream.failure:
            self._on_failure(f"the user channel failed: {reason}")

    async def survey(self, since_ns: Sequence[int] = ()) -> list[UserTrade]:
        """Read open orders and trades and tell what is new; the trades read, of ``since_ns`` on.

        Raises ``VenueError``. Orders first: what had left their list by then is in the trades.
        """
        async with self._survey_lock:
            began_ns = self._clock.now_ns()
            gapped, self._gapped = self._gapped, False
            try:
                listed = {order.order_id: order for order in await self._client.open_orders()}
                oldest_ns = min(self.desk.oldest_ns(began_ns), *since_ns, began_ns)
                after_s = oldest_ns // NS_PER_SECOND - SKEW_S
                trades = await self._client.trades(after_s=after_s)
                for tracked in self.desk.open():
                    order_id = tracked.ours.venue_order_id
                    if order_id not in listed and not tracked.told:
                        order = await self._client.order(order_id)
                        if order is not None:
                            listed[order_id] = order
            except VenueError:
                self._gapped = gapped or self._gapped
                raise
            now_ns = self._clock.now_ns()
            for trade in sorted(trades, key=lambda trade: trade.ts_event):
                self.desk.trade_seen(trade, now_ns)
            self.desk.surveyed(listed, began_ns, now_ns)
            self._surveyed_ns = now_ns
            self._emit(self.desk.take())
            self._send_cancels(now_ns)
            return trades

    # --- the clockwork ------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._settings.tick_s)
            now_ns = self._clock.now_ns()
            self._send_cancels(now_ns)
            if self._gapped or now_ns - self._surveyed_ns >= self._interval_ns():
                try:
                    await self.survey()
                except VenueError as error:
                    self._log.warning("SURVEY failed", reason=str(error))
                    await asyncio.sleep(self._settings.look_s)

    def _interval_ns(self) -> int:
        settings = self._settings
        seconds = (
            settings.look_s if self.desk.urgent
            else settings.check_s if self.desk.busy
            else settings.idle_s
        )  # fmt: skip
        return int(seconds * NS_PER_SECOND)

    async def _beat(self) -> None:
        """The dead man's switch; once begun it must go on."""
        beat = ""
        while True:
            try:
                beat = await self._client.heartbeat(beat)
            except VenueError as error:
                self._log.warning("HEARTBEAT failed", reason=str(error))
                await asyncio.sleep(min(1.0, self._settings.heartbeat_s))
            else:
                await asyncio.sleep(self._settings.heartbeat_s)

    # --- the account --------------------------------------------------------------------------

    async def account(self, query: AccountQuery) -> AccountTruth:
        """The venue's books now, and the facts that answer ``query``. Raises ``VenueError``."""
        # What the journal holds for open may be over for the desk, and long settled.
        asked = (self.desk.get(order_id) for order_id in query.open_orders)
        since_ns = [tracked.ours.submitted_ns for tracked in asked if tracked is not None]
        return await self._account.truth(
            query, self.desk, lambda: self.survey(since_ns), self._operations,
            never_sent=self._unsigned - {request.client_order_id for request in self._queue},
        )  # fmt: skip

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


def _ours(request: SubmitOrder, venue_order_id: ev.VenueOrderId) -> Ours:
    return Ours(
        client_order_id=request.client_order_id,
        venue_order_id=venue_order_id,
        instrument_id=request.instrument_id,
        side=request.side,
        price=request.price,
        qty=request.qty,
        tif=request.tif,
        submitted_ns=request.ts,
    )
