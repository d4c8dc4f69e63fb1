"""The loop: what comes first, what is dropped, and what ends it."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from fleet.clock import LiveClock, ManualClock
from fleet.domain import events as ev
from fleet.domain.commands import Approved, CancelOrder, ClientOrderId, StartTimer, SubmitOrder
from fleet.domain.instruments import MarketId, Side
from fleet.engine.engine import Engine
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.journal.database import JournalFull
from fleet.journal.store import MemoryJournal
from fleet.runtime import runner as runner_module
from fleet.runtime.runner import Runner
from fleet.venues.account import AccountQuery, AccountTruth
from tests.builders import (
    MS,
    NS,
    Scripted,
    Wishes,
    c,
    changed,
    deposit,
    leg,
    no,
    order,
    plan,
    snapshot,
    trading,
    universe,
    yes,
)


class Recorder(Scripted):
    """A strategy that writes down what it sees and may be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[ev.AnyEvent] = []
        self.fails: Callable[[ev.AnyEvent], bool] = lambda _event: False

    def on_event(self, event: ev.AnyEvent, view: View) -> Wishes:
        self.seen.append(event)
        if self.fails(event):
            raise ZeroDivisionError("a defect")
        return super().on_event(event, view)


class Journal(MemoryJournal):
    """A journal whose disk can fill up."""

    full = False

    def write(self, events: Sequence[object]) -> int:
        if self.full:
            raise JournalFull("the disk is full")
        return super().write(events)


class Sent:
    """A venue that only writes down."""

    name = "paper"

    def __init__(self) -> None:
        self.submitted: list[Approved] = []
        self.cancelled: list[ClientOrderId] = []
        self.prints: list[ev.TradePrinted | ev.MarketResolved] = []

    def submit(self, approved: Approved) -> None:
        self.submitted.append(approved)

    def cancel(self, client_order_id: ClientOrderId) -> None:
        self.cancelled.append(client_order_id)

    def observe(self, event: ev.TradePrinted | ev.MarketResolved) -> None:
        self.prints.append(event)

    async def account(self, query: AccountQuery) -> AccountTruth:
        return AccountTruth(cash=c("0"), tokens={}, facts=())

    def close(self) -> None:
        """Nothing to close."""


class Desk:
    """A runner over a real engine with a recording strategy."""

    def __init__(self, clock: ManualClock | LiveClock | None = None) -> None:
        state = State(universe(1))
        self.strategy = Recorder()
        self.journal = Journal()
        self.engine = Engine(
            state=state, strategy=self.strategy, risk=Risk(RiskLimits()), journal=self.journal
        )
        self.asked = 0
        self.runner = Runner(self.engine, clock or ManualClock(NS), self.ask)
        self.sent = Sent()
        self.runner.execution = self.sent

    def ask(self) -> None:
        self.asked += 1

    async def run_until(self, true: Callable[[], bool]) -> None:
        """Run the loop until something is true or it ends by itself."""
        task = asyncio.create_task(self.runner.run())
        async with asyncio.timeout(5):
            while not true() and not task.done():  # noqa: ASYNC110 - a value is watched
                await asyncio.sleep(0)
        self.runner.stop()
        await task

    @property
    def seen(self) -> list[str]:
        return [type(event).__name__ for event in self.strategy.seen]


def trade(at: int) -> ev.TradePrinted:
    return ev.TradePrinted(at, at, yes(), Side.BUY, c("0.5"), c("1"))  # type: ignore[arg-type]


def resolved() -> ev.MarketResolved:
    return ev.MarketResolved(market_id=MarketId("m1"), payouts=())


def test_facts_come_before_market_data() -> None:
    desk = Desk()
    desk.runner.put_market([snapshot(yes(), at=1), changed(2)])
    desk.runner.put_facts([deposit("5")])
    assert desk.runner.backlog == 3
    asyncio.run(desk.run_until(lambda: not desk.runner.backlog))
    assert desk.seen == ["CashDeposited", "BookSnapshot", "BookChanged"]
    assert desk.runner.handled == 3


def test_what_the_feed_says_of_itself_stays_in_its_place() -> None:
    desk = Desk()
    lost = ev.FeedDisconnected(connection="1", instruments=(yes(),), reason="lost")
    desk.runner.put_market([snapshot(yes(), at=1), lost, snapshot(no(), at=2)])
    asyncio.run(desk.run_until(lambda: not desk.runner.backlog))
    assert desk.seen == ["BookSnapshot", "FeedDisconnected", "BookSnapshot"]
    assert not desk.engine.state.books[yes()].ready
    assert desk.engine.state.books[no()].ready


def test_an_overflow_drops_market_data_never_facts_and_asks_for_snapshots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner_module, "INBOX_MAX", 10)
    desk = Desk()
    desk.runner.handle(snapshot(yes(), at=1))
    desk.runner.handle(snapshot(no(), at=1))
    assert all(book.ready for book in desk.engine.state.books.values())
    desk.runner.put_facts([deposit(str(n), f"d{n}") for n in range(1, 30)])
    lost = ev.FeedDisconnected(connection="7", instruments=(), reason="lost")
    desk.runner.put_market([*(changed(n) for n in range(8)), lost])
    assert desk.asked == 0
    desk.runner.put_market([changed(9), resolved(), changed(10)])
    assert desk.asked == 1
    assert desk.runner.overflows == 1
    assert desk.runner.errors == 1
    desk.strategy.seen.clear()
    asyncio.run(desk.run_until(lambda: not desk.runner.backlog))
    assert desk.seen == [
        *["CashDeposited"] * 29, "FeedDisconnected", "MarketResolved", "FeedDisconnected",
    ]  # fmt: skip
    assert not any(book.ready for book in desk.engine.state.books.values())
    desk.runner.handle(snapshot(yes(), at=20))
    assert desk.engine.state.books[yes()].ready


def test_the_inbox_is_bounded_for_as_long_as_it_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner_module, "INBOX_MAX", 50)
    desk = Desk()
    for n in range(1_000):
        desk.runner.put_market([changed(n)] * 7)
        assert len(desk.runner._market) <= 50
    assert desk.runner.overflows == desk.asked > 100


async def read(desk: Desk) -> None:
    while desk.runner.backlog:  # noqa: ASYNC110 - a value is watched
        await asyncio.sleep(0)


def test_what_the_sockets_held_while_the_process_stood_still_is_no_market_of_now() -> None:
    clock = ManualClock(NS)
    desk = Desk(clock)
    old = desk.runner.feed_sink()

    async def play() -> None:
        loop = asyncio.create_task(desk.runner.run())
        await asyncio.sleep(0)
        old([snapshot(yes(), at=1), snapshot(no(), at=1)])
        await read(desk)
        assert all(book.ready for book in desk.engine.state.books.values())
        clock.advance(40 * NS)
        old([changed(2), resolved(), snapshot(yes(), at=3)])
        # The old feed sends on until it is replaced; a snapshot of it would look like a fresh one.
        old([snapshot(yes(), at=4), snapshot(no(), at=4)])
        await read(desk)
        assert (desk.asked, desk.runner.errors) == (1, 1)
        assert not any(book.ready for book in desk.engine.state.books.values())
        assert desk.seen[-2:] == ["MarketResolved", "FeedDisconnected"]
        desk.runner.feed_sink()([snapshot(yes(), at=5)])
        await read(desk)
        assert desk.engine.state.books[yes()].ready
        assert desk.asked == 1
        desk.runner.stop()
        await loop

    asyncio.run(play())


def test_a_process_that_stood_still_notices_without_any_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner_module, "TICK_S", 0.01)
    clock = ManualClock(NS)
    desk = Desk(clock)
    desk.runner.handle(snapshot(yes(), at=1))

    async def play() -> None:
        loop = asyncio.create_task(desk.runner.run())
        await asyncio.sleep(0)
        clock.advance(6 * NS)
        async with asyncio.timeout(5):
            while not desk.asked:  # noqa: ASYNC110 - a value is watched
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert desk.asked == 1
        assert not desk.engine.state.books[yes()].ready
        desk.runner.stop()
        await loop

    asyncio.run(play())


def armed(desk: Desk) -> None:
    """Cash, books and permission, and an order wished at the next book change."""
    for event in (deposit("1000"), snapshot(yes(), at=NS), snapshot(no(), at=NS),
                  trading(ev.TradingState.ACTIVE, at=NS)):  # fmt: skip
        desk.runner.handle(event)
    desk.strategy.next = [plan(leg(yes()), leg(no())), order(0)]


def test_what_is_commanded_is_carried_out_after_it_is_written() -> None:
    desk = Desk()
    armed(desk)
    desk.runner.put_market([changed(2 * NS)])
    asyncio.run(desk.run_until(lambda: not desk.runner.backlog))
    (approved,) = desk.sent.submitted
    decisions = [e.event for e in desk.journal.read() if isinstance(e.event, ev.DecisionMade)]
    assert decisions[-1].orders == (approved.request,)


def test_a_journal_that_cannot_be_written_ends_the_run_before_anything_is_sent() -> None:
    desk = Desk()
    armed(desk)
    desk.journal.full = True
    desk.runner.put_market([changed(2 * NS), changed(3 * NS), changed(4 * NS)])
    asyncio.run(desk.run_until(lambda: False))
    assert desk.runner.failure == "the journal cannot be written: the disk is full"
    assert desk.sent.submitted == []
    assert desk.runner.backlog == 2, "nothing more was handled"
    assert desk.engine.failed
    desk.journal.full = False
    desk.strategy.next = [plan(leg(yes()), leg(no()), name="b2"), order(0, name="b2")]
    assert desk.runner.handle(trading(ev.TradingState.ACTIVE, at=5 * NS)) == ()
    assert desk.runner.handle(changed(6 * NS)) == ()
    assert desk.sent.submitted == []


def test_what_cannot_be_noted_may_not_be_done_and_ends_the_run() -> None:
    desk = Desk()
    armed(desk)
    desk.runner.handle(changed(2 * NS))
    (approved,) = desk.sent.submitted
    assert isinstance(approved.request, SubmitOrder)
    signed = ev.OrderSigned(
        client_order_id=approved.request.client_order_id, venue_order_id=ev.VenueOrderId("0xaa")
    )
    assert desk.runner.note([signed])
    desk.journal.full = True
    assert not desk.runner.note([signed])
    assert desk.runner.failure == "the journal cannot be written: the disk is full"


def test_a_defect_in_the_engine_ends_the_loop_with_its_own_error() -> None:
    desk = Desk()
    desk.strategy.fails = lambda event: isinstance(event, ev.BookChanged)
    desk.runner.put_market([snapshot(yes(), at=1), changed(2), changed(3)])
    with pytest.raises(ZeroDivisionError, match="a defect"):
        asyncio.run(desk.run_until(lambda: False))
    assert desk.seen == ["BookSnapshot", "BookChanged"]


def test_another_part_may_end_the_run_and_the_first_reason_stays() -> None:
    desk = Desk()
    desk.runner.crashed("the lease was lost")
    desk.runner.crashed("something later")
    desk.runner.put_market([changed(1)])
    asyncio.run(desk.run_until(lambda: False))
    assert desk.runner.failure == "the lease was lost"
    assert desk.seen == []


def test_stop_ends_a_busy_loop_after_the_event_at_hand() -> None:
    desk = Desk()
    seen = desk.strategy.seen

    def stop_at_third(_event: ev.AnyEvent) -> bool:
        if len(seen) == 3:
            desk.runner.stop()
        return False

    desk.strategy.fails = stop_at_third
    desk.runner.put_market([changed(n) for n in range(5_000)])

    async def scene() -> None:
        async with asyncio.timeout(5):
            await desk.runner.run()

    asyncio.run(scene())
    assert len(seen) == 3
    assert desk.runner.backlog == 4_997


def test_a_busy_loop_lets_others_run() -> None:
    desk = Desk()
    desk.runner.put_market([changed(n) for n in range(5_000)])
    turns: list[int] = []

    async def other() -> None:
        while desk.runner.backlog:
            turns.append(desk.runner.handled)
            await asyncio.sleep(0)

    async def scene() -> None:
        side = asyncio.create_task(other())
        await desk.run_until(lambda: not desk.runner.backlog)
        await side

    asyncio.run(scene())
    gaps = [b - a for a, b in pairwise(turns)]
    assert len(turns) > 10
    assert max(gaps) <= runner_module.BATCH


def test_an_asked_for_timer_fires_not_early_and_the_tick_comes_each_second() -> None:
    desk = Desk(LiveClock())
    clock = desk.runner._clock
    at_ns = clock.now_ns() + 30 * MS
    desk.strategy.next = [StartTimer(name="soon", at_ns=at_ns)]
    desk.runner.put_facts([deposit("1")])

    def fired(name: str) -> list[ev.TimerFired]:
        return [e for e in desk.strategy.seen if isinstance(e, ev.TimerFired) and e.name == name]

    asyncio.run(desk.run_until(lambda: bool(fired("soon") and fired("tick"))))
    (timer,) = fired("soon")
    assert timer.ts_recv >= at_ns - MS
    assert timer.ts_recv < at_ns + NS
    assert desk.runner._timers == set()


def test_a_timer_in_the_past_fires_at_once_and_a_stop_forgets_the_others() -> None:
    desk = Desk(LiveClock())
    desk.strategy.next = [
        StartTimer(name="past", at_ns=1),
        StartTimer(name="far", at_ns=desk.runner._clock.now_ns() + 3600 * NS),
    ]
    desk.runner.put_facts([deposit("1")])
    asyncio.run(desk.run_until(lambda: "TimerFired" in desk.seen))
    assert [e.name for e in desk.strategy.seen if isinstance(e, ev.TimerFired)] == ["past"]


def test_without_a_venue_an_order_is_a_failure_not_a_silence() -> None:
    desk = Desk()
    armed(desk)
    desk.runner.execution = None
    desk.runner.handle(changed(2 * NS))
    assert desk.runner.failure.startswith("no venue to carry out")


def test_cancels_and_prints_reach_the_venue() -> None:
    desk = Desk()
    desk.runner._carry_out([CancelOrder(client_order_id=ClientOrderId("o1"))])
    desk.runner.handle(trade(5))
    assert desk.sent.cancelled == ["o1"]
    assert desk.sent.prints == [trade(5)]


def test_latency_and_rejected_frames_are_counted() -> None:
    clock = ManualClock(10 * NS)
    desk = Desk(clock)
    desk.runner.handle(changed(10 * NS - 5_000))
    desk.runner.handle(ev.FrameRejected(reason="not JSON"))
    assert desk.runner.latency.percentile_us(50) == 5
    assert desk.runner.errors == 1
