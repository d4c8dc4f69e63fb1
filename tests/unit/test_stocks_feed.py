"""Market data of shares: bars once and in order, sessions, outages. On a local Alpaca."""

import asyncio
import datetime as dt
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.domain import events as ev
from fleet.domain.events import AnyEvent
from fleet.domain.instruments import InstrumentId
from fleet.domain.market import BarClosed, BookSnapshot, TradePrinted
from fleet.domain.units import SCALE
from fleet.sandbox.alpaca.days import Calendar
from fleet.sandbox.alpaca.faults import Fault
from fleet.sandbox.alpaca.prices import Bar, ReplayedPrices
from fleet.sandbox.alpaca.server import KEY, SECRET, AlpacaServer, AlpacaSettings
from fleet.venues.stocks.bars import BarSequence
from fleet.venues.stocks.catalog import instrument_id
from fleet.venues.stocks.client import AlpacaClient, ClientSettings
from fleet.venues.stocks.credentials import StockCredentials
from fleet.venues.stocks.feed import StockFeed, StockFeedSettings
from fleet.venues.stocks.hosts import sandbox_hosts
from fleet.venues.stocks.hours import TradingHours
from fleet.venues.stocks.wire import BarRow, CalendarRow

MINUTE = 60 * NS_PER_SECOND
AAPL, MSFT = instrument_id("AAPL"), instrument_id("MSFT")
QUICK = {"quote_s": 0.05, "settle_s": 0.0, "poll_s": 0.05, "late_s": 5.0, "tick_s": 0.01}
NYSE = Calendar(always=False)


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * NS_PER_SECOND


class Shifted:
    """The live clock, somewhere else; server and bot share it."""

    def __init__(self, moment: str) -> None:
        self.live = LiveClock()
        self.shift_ns = at(moment) - self.live.now_ns()

    def now_ns(self) -> int:
        return self.live.now_ns() + self.shift_ns

    def go_to(self, moment_ns: int) -> None:
        self.shift_ns += moment_ns - self.now_ns()


class World:
    """A server, a feed, and what it told."""

    def __init__(self, moment: str, **settings: Any) -> None:
        self.clock = Shifted(moment)
        self.settings = {"symbols": ("AAPL", "MSFT"), **settings}
        self.told: list[AnyEvent] = []

    async def start(self, since_ns: int = 0, **feed: Any) -> None:
        self.server = AlpacaServer(AlpacaSettings(**self.settings), self.clock)
        hosts = sandbox_hosts(await self.server.start())
        limits = ClientSettings(per_second=1_000, burst=1_000)
        self.client = AlpacaClient(
            hosts, StockCredentials(KEY, SECRET), settings=limits, clock=self.clock
        )
        self.feed = StockFeed(
            self.client, [instrument_id(name) for name in self.settings["symbols"]], self.hear,
            settings=StockFeedSettings(**{**QUICK, **feed}), since_ns=since_ns, clock=self.clock,
        )  # fmt: skip
        await self.feed.start()

    def hear(self, facts: Sequence[AnyEvent]) -> None:
        self.told += facts

    async def stop(self) -> None:
        await self.feed.stop()
        await self.client.close()
        await self.server.stop()

    async def until(self, done: Callable[[], bool], why: str) -> None:
        for _ in range(1_000):
            if done():
                return
            assert not self.feed.health().failure, self.feed.health().failure
            await asyncio.sleep(0.01)
        raise AssertionError(f"{why}; told {self.told[-5:]}")

    def bars(self, token: InstrumentId = AAPL) -> list[BarClosed]:
        return [f for f in self.told if isinstance(f, BarClosed) and f.instrument_id == token]

    def kinds(self, kind: type) -> list[Any]:
        return [fact for fact in self.told if isinstance(fact, kind)]

    def proven(self) -> None:
        """Every bar told is the exchange's, once, in order, and was over."""
        for name in self.settings["symbols"]:
            bars = self.bars(instrument_id(name))
            ends = [bar.ts_event for bar in bars]
            assert ends == sorted(set(ends))
            for bar in bars:
                begin_s = (bar.ts_event - bar.interval_ns) // NS_PER_SECOND
                made = self.server.exchange.prices.minute(name, begin_s)
                assert made is not None
                assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (
                    made.open, made.high, made.low, made.close, made.volume)  # fmt: skip
                assert bar.ts_event <= bar.ts_recv


def told(world: World, story: Callable[[World], Awaitable[None]]) -> None:
    async def tell() -> None:
        try:
            async with asyncio.timeout(60):
                await story(world)
                world.proven()
        finally:
            await world.stop()

    asyncio.run(tell())


def test_bars_come_once_in_order_whatever_goes_wrong() -> None:
    async def story(world: World) -> None:
        await world.start()
        for name in ("error-before", "error-after", "lost-answer"):
            world.server.faults.add(Fault(name=name, rate=0.1))
        world.server.faults.add(Fault(name="rate-limit", times=1))
        world.server.faults.add(Fault(name="bar-late", rate=0.5))
        first = world.clock.now_ns() // MINUTE
        for minute in range(1, 9):
            world.clock.go_to((first + minute) * MINUTE + NS_PER_SECOND // 10)
            await world.until(lambda n=minute: len(world.bars(MSFT)) >= n, "the bar should come")  # type: ignore[misc]
        assert [bar.ts_event // MINUTE for bar in world.bars(MSFT)] == list(
            range(first + 1, first + 9)
        )
        assert world.feed.empty == 0

    told(World("2026-11-21T04:30:20+00:00"), story)


def test_an_outage_voids_the_books_and_its_bars_are_filled_in() -> None:
    async def story(world: World) -> None:
        await world.start(silent_s=1.0)
        await world.until(lambda: bool(world.kinds(BookSnapshot)), "quotes should come")
        assert world.feed.health().healthy
        world.server.faults.add(Fault(name="error-before"))
        first = world.clock.now_ns() // MINUTE
        world.clock.go_to((first + 5) * MINUTE + 1)
        await world.until(lambda: bool(world.kinds(ev.FeedDisconnected)), "the loss is told")
        assert not world.feed.health().healthy
        assert not world.bars()
        world.server.faults.clear()
        await world.until(lambda: len(world.bars()) == 5, "the missed bars should come")
        await world.until(lambda: len(world.kinds(ev.FeedConnected)) == 2, "and the quotes")
        assert world.feed.health().healthy

    told(World("2026-11-21T04:30:20+00:00"), story)


def test_without_a_fresh_calendar_it_goes_on_by_the_one_it_has() -> None:
    async def story(world: World) -> None:
        await world.start()
        fault = Fault(name="error-before", where="calendar")
        world.server.faults.add(fault)
        world.clock.go_to(world.clock.now_ns() + 7 * 3_600 * NS_PER_SECOND)
        await world.until(lambda: len(world.bars()) == 7 * 60, "seven hours of bars")
        await world.until(lambda: bool(world.kinds(BookSnapshot)), "and quotes")
        assert fault.struck == 1, "it should not be asked for again and again"

    told(World("2026-11-21T04:30:20+00:00"), story)


def test_the_close_is_told_with_the_next_open_and_the_night_has_no_bars() -> None:
    async def story(world: World) -> None:
        await world.start()
        await world.until(lambda: bool(world.kinds(BookSnapshot)), "quotes should come")
        world.clock.go_to(at("2026-11-20T21:00:00+00:00") + 1)
        await world.until(lambda: len(world.bars()) == 1, "the last bar of the day")
        await world.until(lambda: bool(world.kinds(ev.FeedDisconnected)), "the close is told")
        (lost,) = world.kinds(ev.FeedDisconnected)
        assert lost.reason == "the market is closed until 2026-11-23T14:30:00Z"
        assert set(lost.instruments) == {AAPL, MSFT}
        count = len(world.kinds(BookSnapshot))
        world.clock.go_to(at("2026-11-21T12:00:00+00:00"))
        await asyncio.sleep(0.3)
        assert len(world.kinds(BookSnapshot)) == count
        assert len(world.bars()) == 1
        assert world.feed.health().healthy, "a closed market is no illness"
        world.clock.go_to(at("2026-11-23T14:31:00+00:00") + 1)
        await world.until(lambda: len(world.bars()) == 2, "the first bar of Monday")
        await world.until(lambda: len(world.kinds(ev.FeedConnected)) == 2, "Monday's books")
        assert [bar.ts_event for bar in world.bars()] == [
            at("2026-11-20T21:00:00+00:00"), at("2026-11-23T14:31:00+00:00"),
        ]  # fmt: skip
        assert world.feed.empty == 0

    told(World("2026-11-20T20:59:30+00:00", calendar=NYSE), story)


def test_extended_hours_have_bars_if_they_are_asked_for() -> None:
    for extended, count in ((False, 0), (True, 3)):
        world = World("2026-11-23T13:00:20+00:00", calendar=NYSE)

        async def story(world: World, extended: bool = extended, count: int = count) -> None:
            await world.start(extended_hours=extended)
            world.clock.go_to(at("2026-11-23T13:03:00+00:00") + 1)
            await world.until(lambda: len(world.bars()) == count, "as many bars as are asked for")
            await asyncio.sleep(0.2)
            assert len(world.bars()) == count
            assert bool(world.kinds(BookSnapshot)) is extended

        told(world, story)


def test_history_comes_first_and_over_the_weekend() -> None:
    async def story(world: World) -> None:
        await world.start(history=400)
        assert len(world.bars()) == len(world.bars(MSFT)) == 400
        ends = [bar.ts_event for bar in world.bars()]
        assert ends[-1] == at("2026-11-23T14:50:00+00:00")
        assert ends[-21:-19] == [at("2026-11-20T21:00:00+00:00"), at("2026-11-23T14:31:00+00:00")]

    told(World("2026-11-23T14:50:20+00:00", calendar=NYSE), story)


def test_a_restart_goes_on_after_the_last_bar_known() -> None:
    async def story(world: World) -> None:
        await world.start(since_ns=at("2026-11-20T20:58:00+00:00"), history=99)
        await world.until(lambda: len(world.bars()) == 4, "what was missed should come")
        assert [bar.ts_event for bar in world.bars()] == [
            at("2026-11-20T20:59:00+00:00"), at("2026-11-20T21:00:00+00:00"),
            at("2026-11-23T14:31:00+00:00"), at("2026-11-23T14:32:00+00:00"),
        ]  # fmt: skip

    told(World("2026-11-23T14:32:20+00:00", calendar=NYSE), story)


def test_minutes_without_trades_are_waited_for_and_then_passed_over() -> None:
    begin_s = at("2026-11-21T04:30:00+00:00") // NS_PER_SECOND
    past = [Bar(begin_s + 60 * n, 5 * SCALE, 7 * SCALE, 4 * SCALE, 6 * SCALE, SCALE)
            for n in (0, 3, 4)]  # fmt: skip
    world = World(
        "2026-11-21T04:30:20+00:00", symbols=("AAPL",), prices=ReplayedPrices({"AAPL": past})
    )

    async def story(world: World) -> None:
        await world.start()
        world.clock.go_to(at("2026-11-21T04:35:00+00:00") + 1)
        await world.until(lambda: len(world.bars()) == 3, "the bars there are")
        assert world.feed.empty == 2

    told(world, story)


def test_a_trade_is_told_once_with_the_side_the_quotes_give_it() -> None:
    async def story(world: World) -> None:
        await world.start()
        await world.until(lambda: bool(world.kinds(BookSnapshot)), "quotes should come")
        for _ in range(4):
            world.clock.shift_ns += 5 * NS_PER_SECOND
            await asyncio.sleep(0.2)
        prints = [f for f in world.kinds(TradePrinted) if f.instrument_id == AAPL]
        assert 2 <= len(prints) <= 200
        books = {f.ts_event: f for f in world.kinds(BookSnapshot) if f.instrument_id == AAPL}
        for fact in prints:
            book = books[fact.ts_event]
            best = book.asks if fact.side.value == "BUY" else book.bids
            assert fact.price == best[0][0]

    told(World("2026-11-21T04:30:20+00:00"), story)


def test_what_cannot_be_fed_is_refused() -> None:
    client = AlpacaClient(sandbox_hosts(1), StockCredentials(KEY, SECRET))
    with pytest.raises(ValueError, match="no bars of 7 s"):
        StockFeed(client, [AAPL], print, settings=StockFeedSettings(interval_s=7))
    with pytest.raises(ValueError, match="at least one symbol"):
        StockFeed(client, [], print)


ALWAYS = TradingHours(
    CalendarRow(date=f"2026-11-{day}", open="00:00", close="23:59") for day in (20, 21, 22)
)
BEGIN = at("2026-11-21T04:30:00+00:00")


def row(minute: int, close: float = 5.0) -> BarRow:
    moment = dt.datetime.fromtimestamp(BEGIN // NS_PER_SECOND + 60 * minute, dt.UTC)
    return BarRow(t=moment.isoformat(), o=5, h=9, l=4, c=close, v=10)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_and_overlap_of_answers_the_sequence_is_whole(seed: int) -> None:
    chance = random.Random(seed)
    bars = BarSequence(AAPL, step_ns=MINUTE, due_ns=BEGIN, late_ns=10**18)
    told_bars: list[BarClosed] = []
    for now in range(1, 40):
        have = [row(n) for n in range(now + 1) if chance.random() < 0.7]
        chance.shuffle(have)
        told_bars += bars.offer(have, BEGIN + now * MINUTE, ALWAYS)
    told_bars += bars.offer([row(n) for n in range(41)], BEGIN + 40 * MINUTE, ALWAYS)
    assert [bar.ts_event for bar in told_bars] == [BEGIN + n * MINUTE for n in range(1, 41)]
    assert bars.empty == 0


def test_what_is_no_candle_is_told_to_nobody() -> None:
    bars = BarSequence(AAPL, step_ns=MINUTE, due_ns=BEGIN, late_ns=MINUTE)
    assert bars.offer([row(0, close=99.0)], BEGIN + MINUTE, ALWAYS) == []
    assert "no candle" in bars.problem
    assert bars.offer([row(0), row(1)], BEGIN + 2 * MINUTE, ALWAYS) != []
