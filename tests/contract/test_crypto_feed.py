"""The feed of Binance over the local server: every closed bar once, in order, whatever is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from fleet.clock import NS_PER_MS, NS_PER_SECOND, LiveClock
from fleet.domain import events as ev
from fleet.domain.market import BarClosed, BookSnapshot, TradePrinted
from fleet.sandbox.binance.faults import Fault
from fleet.sandbox.binance.server import BinanceServer, BinanceSettings
from fleet.sandbox.binance.symbols import DEFAULT_SYMBOLS
from fleet.venues.crypto.bars import candle
from fleet.venues.crypto.catalog import load_catalog
from fleet.venues.crypto.client import BinanceClient
from fleet.venues.crypto.feed import CryptoFeed, CryptoFeedSettings
from fleet.venues.crypto.hosts import sandbox_hosts
from fleet.venues.websocket import SessionSettings

SESSION = SessionSettings(
    lifetime_ns=0, data_age_max_ns=700 * NS_PER_MS, backoff_first_ns=50 * NS_PER_MS,
    backoff_max_ns=100 * NS_PER_MS,
)  # fmt: skip
SYMBOLS = ("BTCUSDT", "ETHUSDT")


class Desk:
    """A server, a feed on it, and what the feed said."""

    def __init__(self, **settings: Any) -> None:
        self.settings = CryptoFeedSettings(**{
            "interval": "1s", "late_s": 0.3, "settle_ms": 100, "retry_s": 0.1, "session": SESSION,
            "quote_every_ns": 50 * NS_PER_MS, **settings,
        })  # fmt: skip
        self.told: list[ev.AnyEvent] = []
        self.since_ns = 0

    async def open(self) -> None:
        self.server = BinanceServer(
            BinanceSettings(symbols=DEFAULT_SYMBOLS[:2], step_s=0.1, seconds=50), LiveClock()
        )
        self.client = BinanceClient(sandbox_hosts(await self.server.start()))
        self.catalog = await load_catalog(self.client, SYMBOLS, signed=False)
        self.feed = CryptoFeed(
            self.client, self.catalog.rules, self.hear, settings=self.settings,
            since_ns=self.since_ns,
        )  # fmt: skip
        await self.feed.start()

    def hear(self, events: Sequence[ev.AnyEvent]) -> None:
        self.told += events

    async def close(self) -> None:
        await self.feed.stop()
        await self.client.close()
        await self.server.stop()

    def bars(self, symbol: str) -> list[BarClosed]:
        token = f"BINANCE:{symbol}"
        return [e for e in self.told if isinstance(e, BarClosed) and e.instrument_id == token]

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.told]

    async def until(self, done: Callable[[], bool]) -> None:
        for _ in range(2_000):
            if done():
                return
            assert not self.feed.health().failure
            await asyncio.sleep(0.01)
        raise AssertionError(f"not in time; told {self.told[-5:]}")

    def check_bars(self) -> None:
        """Each once, in order, without a hole, closed, and as the venue has them."""
        for symbol in SYMBOLS:
            bars = self.bars(symbol)
            market = self.server.exchange.markets[symbol]
            truth = {bar.opened_ms: bar for bar in market.candles.seconds.bars}
            ends = [bar.ts_event for bar in bars]
            assert ends == list(range(ends[0], ends[0] + len(ends) * NS_PER_SECOND, NS_PER_SECOND))
            for bar in bars:
                assert bar.ts_recv >= bar.ts_event
                assert bar.interval_ns == NS_PER_SECOND
                real = truth[(bar.ts_event - bar.interval_ns) // NS_PER_MS]
                assert bar[4:] == (real.open, real.high, real.low, real.close, real.volume)


def play(story: Callable[[Desk], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        desk = Desk(**settings)
        try:
            async with asyncio.timeout(40):
                await desk.open()
                await story(desk)
        finally:
            await desk.close()

    asyncio.run(run())


def test_history_then_live_bars_quotes_and_trades() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(lambda: all(len(desk.bars(s)) >= 32 for s in SYMBOLS))
        desk.check_bars()
        assert desk.kinds().count("FeedConnected") == 1
        quote = next(e for e in desk.told if isinstance(e, BookSnapshot))
        assert quote.bids[0][0] < quote.asks[0][0]
        assert any(isinstance(e, TradePrinted) for e in desk.told)
        health = desk.feed.health()
        assert health.healthy
        assert (health.awaiting, health.reconnects) == (0, 0)

    play(story, history=30)


def test_bars_go_on_after_the_last_one_known() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(lambda: all(len(desk.bars(s)) >= 21 for s in SYMBOLS))
        desk.check_bars()
        assert desk.bars("BTCUSDT")[0].ts_event == desk.since_ns + NS_PER_SECOND

    async def run() -> None:
        desk = Desk()
        now_ns = LiveClock().now_ns()
        desk.since_ns = now_ns - now_ns % NS_PER_SECOND - 20 * NS_PER_SECOND
        try:
            async with asyncio.timeout(40):
                await desk.open()
                await story(desk)
        finally:
            await desk.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "rate"),
    [("ws-drop", 0.7), ("ws-duplicate", 1.0), ("ws-cut", 0.05), ("ws-malformed", 0.02)],
)
def test_no_bar_is_lost_or_told_twice_when_messages_are(fault: str, rate: float) -> None:
    async def story(desk: Desk) -> None:
        await desk.until(lambda: "BookSnapshot" in desk.kinds())
        struck = Fault(name=fault, rate=rate)
        desk.server.faults.add(struck)
        have = len(desk.bars("BTCUSDT"))
        await desk.until(lambda: struck.struck > 0 and len(desk.bars("BTCUSDT")) >= have + 2)
        desk.server.faults.clear()
        await desk.until(lambda: all(len(desk.bars(s)) >= have + 3 for s in SYMBOLS))
        desk.check_bars()
        if fault in {"ws-cut", "ws-malformed"}:
            lost = desk.kinds().index("FeedDisconnected")
            assert "FeedConnected" in desk.kinds()[lost:]
            assert "BookSnapshot" in desk.kinds()[lost:]
            assert desk.feed.health().reconnects > 0
        if fault == "ws-malformed":
            assert desk.feed.health().rejected > 0
            assert "FrameRejected" in desk.kinds()

    play(story)


def test_a_silent_connection_is_replaced_and_its_bars_are_read() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(lambda: "BookSnapshot" in desk.kinds())
        desk.server.faults.add(Fault(name="ws-silent", times=1))
        await desk.until(lambda: "FeedDisconnected" in desk.kinds())
        (lost,) = [e for e in desk.told if isinstance(e, ev.FeedDisconnected)]
        assert "no market data" in lost.reason
        have = len(desk.bars("BTCUSDT"))
        await desk.until(lambda: len(desk.bars("BTCUSDT")) >= have + 2)
        desk.check_bars()
        assert desk.server.streams.opened == 2

    play(story)


def test_bars_come_by_rest_while_rest_fails_at_times() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(lambda: "BookSnapshot" in desk.kinds())
        desk.server.faults.add(Fault(name="ws-drop"))
        desk.server.faults.add(Fault(name="error-before", where="klines", rate=0.5))
        have = len(desk.bars("ETHUSDT"))
        await desk.until(lambda: len(desk.bars("ETHUSDT")) >= have + 2)
        desk.server.faults.clear()
        desk.check_bars()

    # Only the klines are dropped from the stream's point of view: it must not look silent.
    quiet = SessionSettings(lifetime_ns=0, data_age_max_ns=60 * NS_PER_SECOND)
    play(story, session=quiet)


def test_a_hole_of_the_venue_is_named_and_not_filled() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(lambda: len(desk.bars("BTCUSDT")) >= 11)
        ends = [bar.ts_event for bar in desk.bars("BTCUSDT")]
        steps = {after - before for before, after in pairwise(ends)}
        assert steps == {NS_PER_SECOND, 4 * NS_PER_SECOND}
        assert desk.feed.skipped == 3

    async def run() -> None:
        desk = Desk(history=10)
        real_open = BinanceServer.start

        async def holed(server: BinanceServer) -> int:
            del server.exchange.markets["BTCUSDT"].candles.seconds.bars[-6:-3]
            return await real_open(server)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BinanceServer, "start", holed)
            try:
                async with asyncio.timeout(40):
                    await desk.open()
                    await story(desk)
            finally:
                await desk.close()

    asyncio.run(run())


def test_settings_that_make_no_feed_are_refused() -> None:
    with pytest.raises(ValueError, match="no interval '7m'"):
        CryptoFeed(
            BinanceClient(sandbox_hosts(1)), {}, lambda _: None,
            settings=CryptoFeedSettings(interval="7m"),
        )  # fmt: skip
    with pytest.raises(ValueError, match="0 streams"):
        CryptoFeed(BinanceClient(sandbox_hosts(1)), {}, lambda _: None)
    assert candle(1, ("1", "2", "0.5", "1.5", "3")).high == 200_000_000
