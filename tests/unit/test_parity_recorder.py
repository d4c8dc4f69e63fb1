"""Shadows of orders at the real paper venue, over real books and a real file."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.clock import NS_PER_MS, NS_PER_SECOND, LiveClock, ManualClock
from fleet.domain import events as ev
from fleet.domain.commands import SubmitOrder, TimeInForce
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE
from fleet.engine.book import Book
from fleet.journal.database import JournalFull
from fleet.runtime import parity_recorder
from fleet.runtime.parity_recorder import PATIENCE_NS, ParityRecorder, ShadowSettings
from fleet.runtime.parity_store import ParityStore, Shadow
from fleet.runtime.round_trip import RoundTrip
from fleet.venues.paper import PaperSettings, PaperVenue
from tests.account_venue import AccountVenue, served
from tests.builders import filled, levels, no, p, q, settled, submit, universe, yes

START = 1_795_176_000 * NS_PER_SECOND
MS = NS_PER_MS


class Memory:
    """A paper ledger nobody reads."""

    def write(self, events: object) -> int:
        return 0


class World:
    """One market, the paper venue, and a recorder, on a clock that moves when told."""

    def __init__(self, store: ParityStore, *, taker_delay_ns: int = 0) -> None:
        self.clock = ManualClock(START)
        self.universe = universe()
        self.books = {
            token: Book(token, self.universe.instruments[token].tick)
            for token in self.universe.instruments
        }
        self.offer(yes(), asks=[("0.50", "10"), ("0.51", "10")])
        self.offer(no(), asks=[("0.52", "20")])
        self.venue = PaperVenue(
            settings=PaperSettings(latency_ns=60 * MS, answer_ns=40 * MS),
            instruments=self.universe.instruments, books=self.books, ledger=Memory(),
            now_ns=START,
        )  # fmt: skip
        self.round_trip_ns: int | None = None
        self.recorder = ParityRecorder(
            store, self.books, self.universe.instruments, self.clock,
            ShadowSettings(latency_ns=60 * MS, feed_lag_ns=20 * MS, hold_ns=1_000 * MS,
                           taker_delay_ns=taker_delay_ns),
            call_later=self.call_later, round_trip_ns=lambda: self.round_trip_ns,
        )  # fmt: skip
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def call_later(self, delay_s: float, what: Callable[[], None]) -> None:
        at_ns = self.clock.now_ns() + round(delay_s * NS_PER_SECOND)
        heapq.heappush(self._due, (at_ns, next(self._number), what))

    def offer(self, token: InstrumentId, asks: list[tuple[str, str]]) -> None:
        self.books[token].replace(levels([("0.40", "50")]), levels(asks), START)

    def send(self, order: SubmitOrder) -> None:
        self.venue.submit(order, self.clock.now_ns())
        self.recorder.submitted(order)

    def wait(self, time_ns: int) -> None:
        """Let time pass in steps: the venue answers, the recorder looks."""
        end_ns = self.clock.now_ns() + time_ns
        while self.clock.now_ns() < end_ns:
            self.clock.advance(min(5 * MS, end_ns - self.clock.now_ns()))
            self.recorder(self.venue.advance(self.clock.now_ns()))
            while self._due and self._due[0][0] <= self.clock.now_ns():
                heapq.heappop(self._due)[2]()

    def rows(self) -> list[Shadow]:
        self.recorder.beat()
        return self.recorder._store.read()

    def row(self) -> Shadow:
        (row,) = self.rows()
        return row


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ParityStore]:
    with ParityStore(tmp_path / "p.db", bot="b", mode="paper", feed="sandbox") as store:
        yield store


@pytest.fixture
def world(store: ParityStore) -> World:
    return World(store)


def printed(token: InstrumentId, side: Side, price: str, qty: str, at: int) -> ev.TradePrinted:
    return ev.TradePrinted(at, at, token, side, p(price), q(qty))


def test_a_quote_that_stays_keeps_its_promise(world: World) -> None:
    world.send(submit(qty="15", price="0.51"))
    world.wait(2_000 * MS)
    row = world.row()
    assert (row.fill_qty, row.quote_qty, row.firm_qty) == (q("15"), q("15"), q("15"))
    assert row.fill_cash == row.quote_cash == 10 * p("0.50") + 5 * p("0.51")
    assert (row.latency_ns, row.lag_ns, row.sent_ns, row.ended) == (60 * MS, 20 * MS, START, True)
    assert (row.tick, row.price, row.side, row.day) == (
        p("0.01"),
        p("0.51"),
        Side.BUY,
        "2026-11-20",
    )


def test_a_quote_that_is_gone_when_a_later_order_comes_is_a_broken_promise(world: World) -> None:
    # Paper arrives after 60 ms; the venue is measured to be 200 ms away.
    world.round_trip_ns = 200 * MS
    world.send(submit(qty="10", price="0.50"))
    world.wait(150 * MS)
    world.offer(yes(), asks=[("0.51", "10")])
    world.wait(2_000 * MS)
    row = world.row()
    assert (row.fill_qty, row.quote_qty) == (q("10"), 0)
    assert row.latency_ns == 200 * MS


def test_the_feeds_lag_alone_can_break_a_promise(world: World) -> None:
    world.send(submit(qty="10", price="0.50"))
    world.wait(70 * MS)
    world.offer(yes(), asks=[("0.51", "10")])
    world.wait(2_000 * MS)
    assert (world.row().fill_qty, world.row().quote_qty) == (q("10"), 0)


def test_what_the_venue_holds_back_comes_on_top(store: ParityStore) -> None:
    world = World(store, taker_delay_ns=50 * MS)
    world.round_trip_ns = 30 * MS
    world.send(submit())
    world.wait(2_000 * MS)
    assert world.row().latency_ns == 80 * MS


def test_the_lag_is_measured_on_trades(world: World) -> None:
    late = ev.TradePrinted(START - 35 * MS, START, yes(), Side.BUY, p("0.50"), q("1"))
    for _ in range(3):
        world.recorder.observe(late)
    world.rows()
    world.send(submit())
    world.wait(2_000 * MS)
    assert world.row().lag_ns == 35 * MS
    # A clock that is wrong is no lag of a minute, and no negative one.
    for _ in range(10):
        world.recorder.observe(late._replace(ts_event=START - 60 * NS_PER_SECOND))
    world.rows()
    world.send(submit("o2"))
    world.wait(3_000 * MS)
    assert world.rows()[1].lag_ns == NS_PER_SECOND


@pytest.mark.parametrize(
    ("trade", "firm"),
    [
        (None, "0"),
        ((yes(), Side.BUY, "0.50", "4"), "4"),
        # A seller of NO at 0.50 takes the same quote, mirrored.
        ((no(), Side.SELL, "0.50", "4"), "4"),
        ((yes(), Side.BUY, "0.50", "40"), "10"),
        ((yes(), Side.BUY, "0.52", "4"), "0"),
        ((yes(), Side.SELL, "0.40", "4"), "0"),
    ],
)
def test_a_quote_withdrawn_untraded_was_a_phantom(
    world: World, trade: tuple[InstrumentId, Side, str, str] | None, firm: str
) -> None:
    world.send(submit(qty="10", price="0.50"))
    world.wait(300 * MS)
    if trade is not None:
        world.recorder.observe(printed(*trade, at=world.clock.now_ns()))
    world.offer(yes(), asks=[("0.55", "10")])
    world.wait(1_000 * MS)
    row = world.row()
    assert (row.quote_qty, row.firm_qty) == (q("10"), q(firm))


def test_our_own_consumption_makes_paper_the_stricter_one(world: World) -> None:
    world.send(submit("o1", qty="10", price="0.50"))
    world.wait(200 * MS)
    world.send(submit("o2", qty="10", price="0.50"))
    world.wait(2_000 * MS)
    second = world.rows()[1]
    assert (second.fill_qty, second.quote_qty, second.ended) == (0, q("10"), True)


def test_without_a_usable_book_nothing_is_known(world: World) -> None:
    world.send(submit())
    world.books[yes()].void()
    world.wait(2_000 * MS)
    row = world.row()
    assert (row.quote_qty, row.quote_cash, row.firm_qty, row.ended) == (None, None, None, True)


def test_a_book_lost_while_watching_leaves_only_that_unknown(world: World) -> None:
    world.send(submit())
    world.wait(300 * MS)
    world.books[yes()].void()
    world.wait(2_000 * MS)
    assert (world.row().quote_qty, world.row().firm_qty) == (q("10"), None)


def test_all_or_nothing_is_all_or_nothing_for_the_shadow_too(world: World) -> None:
    world.send(submit(qty="25", price="0.51", tif=TimeInForce.FOK))
    world.wait(2_000 * MS)
    assert (world.row().fill_qty, world.row().quote_qty) == (0, 0)


def test_a_seller_meets_the_bids(world: World) -> None:
    world.recorder.submitted(submit(qty="60", price="0.40", side=Side.SELL))
    world.wait(2_000 * MS)
    world.recorder([ev.OrderRejected(client_order_id=submit().client_order_id, reason="none")])
    row = world.row()
    assert (row.quote_qty, row.quote_cash, row.fill_qty) == (q("50"), 50 * p("0.40"), 0)


def test_an_order_that_rests_has_no_shadow(world: World) -> None:
    world.recorder.submitted(submit(tif=TimeInForce.GTC))
    world.wait(2_000 * MS)
    assert world.rows() == []


def test_an_order_without_an_end_is_written_as_that(world: World) -> None:
    world.recorder.submitted(submit())
    world.wait(2_000 * MS)
    assert world.rows() == []
    world.clock.advance(PATIENCE_NS)
    row = world.row()
    assert (row.ended, row.quote_qty) == (False, q("10"))


def test_a_fill_counts_once_and_one_that_failed_counts_no_more(world: World) -> None:
    order = submit()
    world.recorder.submitted(order)
    world.recorder([filled(order, "4", "0.50", trade="t1"), filled(order, "4", "0.50", trade="t1")])
    world.recorder([filled(order, "6", "0.50", trade="t2")])
    world.wait(2_000 * MS)
    assert world.row().fill_qty == q("10")
    # The first after it was written, the second while it was pending elsewhere.
    world.recorder([settled("t1", ev.SettlementStatus.FAILED)])
    world.recorder([settled("t1", ev.SettlementStatus.FAILED)])
    row = world.row()
    assert (row.fill_qty, row.fill_cash) == (q("6"), 6 * p("0.50"))
    other = submit("o2")
    world.recorder.submitted(other)
    world.recorder([filled(other, "4", "0.50", trade="t3")])
    world.recorder([settled("t3", ev.SettlementStatus.FAILED)])
    world.recorder([ev.OrderCanceled(client_order_id=other.client_order_id, reason="rest")])
    world.wait(2_000 * MS)
    assert world.rows()[1].fill_qty == 0


def test_a_full_disk_stops_nothing_and_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity_recorder, "ROWS_MAX", 2)

    def full(_rows: object) -> None:
        raise JournalFull("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(ParityStore, "write", lambda _self, rows: full(rows))
        for number in range(3):
            world.send(submit(f"o{number}", qty="5"))
        world.wait(2_000 * MS)
        world.recorder.beat()
        assert not world.recorder.health().ok
        assert (world.recorder.written, world.recorder.dropped) == (0, 1)
    assert len(world.rows()) == 2 and world.recorder.health().ok


def test_too_many_orders_at_once_are_counted_not_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity_recorder, "PENDING_MAX", 1)
    world.recorder.submitted(submit("o1"))
    world.recorder.submitted(submit("o2"))
    assert world.recorder.dropped == 1


def test_stopping_writes_the_rest(world: World) -> None:
    async def live() -> None:
        await world.recorder.start()
        world.recorder.submitted(submit())
        await world.recorder.stop()

    asyncio.run(live())
    assert (world.row().ended, world.row().quote_qty) == (False, None)


def test_rows_are_read_by_day(store: ParityStore, world: World) -> None:
    world.send(submit())
    world.wait(2_000 * MS)
    assert len(world.rows()) == 1
    assert store.read(after_day="2026-11-19") == store.read()
    assert store.read(after_day="2026-11-20") == []
    assert store.read()[0].fill_cash == 10 * SCALE // 2


# --- the round trip -------------------------------------------------------------------------------


def measured(venue: AccountVenue, *, answers: int) -> tuple[RoundTrip, bool]:
    async def main() -> tuple[RoundTrip, bool]:
        trip = RoundTrip(venue.hosts().clob_url, LiveClock(), every_s=0.001)
        assert trip.round_trip_ns() is None
        await trip.start()
        async with asyncio.timeout(30):
            while True:
                await asyncio.sleep(0.005)
                if len(venue.asked) >= answers:
                    break
        healthy = trip.health().ok
        await trip.stop()
        return trip, healthy

    return asyncio.run(main())


def test_the_round_trip_is_measured_on_a_warm_connection() -> None:
    with served(AccountVenue()) as venue:
        trip, healthy = measured(venue, answers=4)
    round_trip_ns = trip.round_trip_ns()
    assert healthy and round_trip_ns is not None and 0 < round_trip_ns < 10 * NS_PER_SECOND


def test_it_can_be_started_again() -> None:
    async def main(venue: AccountVenue) -> None:
        trip = RoundTrip(venue.hosts().clob_url, LiveClock(), every_s=0.001)
        for _ in range(2):
            await trip.start()
            async with asyncio.timeout(30):
                before = len(venue.asked)
                while True:
                    await asyncio.sleep(0.005)
                    if len(venue.asked) > before:
                        break
            await trip.stop()

    with served(AccountVenue()) as venue:
        asyncio.run(main(venue))


def test_a_venue_that_does_not_answer_measures_nothing() -> None:
    with served(AccountVenue(down={"/time"})) as venue:
        trip, healthy = measured(venue, answers=2)
    assert healthy and trip.round_trip_ns() is None and "503" in trip.health().detail
