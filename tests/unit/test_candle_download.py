"""Downloads over the venues' own protocols: resume, gaps, faults, unclosed bars, history restated."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet.clock import ManualClock
from fleet.journal.locks import acquire
from fleet.research import candle_sources
from fleet.research.candle_cache import CandleCache
from fleet.research.candle_download import ATTEMPTS, Downloaded, download, missing_spans
from fleet.research.candle_rows import Rows
from fleet.research.candle_sources import AlpacaSource, CcxtSource, Source, open_source
from fleet.research.intervals import DAY, HOUR, MINUTE, CandlesError
from fleet.research.series import Candles
from fleet.research.synthetic import START_NS, synthetic_candles
from tests.candle_servers import MS, AlpacaServer, Bar, BinanceServer, CandleServer

START_MS = START_NS // MS


def made(count: int, interval_ns: int = MINUTE) -> list[Bar]:
    c = synthetic_candles(4_000, seed=9, interval_ns=interval_ns)
    return bars_of(c.rows(0, count))


def binance(count: int = 100, **more: Any) -> BinanceServer:
    """A server whose last bar is still forming."""
    bars = more.pop("bars", None) or made(count)
    return BinanceServer(bars, now_ms=START_MS + count * 60_000 - 30_000, page=more.pop("page", 30))


async def _brought(
    server: CandleServer, cache: CandleCache, source: Source | None, **more: Any
) -> Downloaded:
    async with server.serving() as url:
        venue = source or CcxtSource("binance", url=url)
        if isinstance(server, AlpacaServer):
            venue = AlpacaSource("key", "secret", url=url)
        try:
            return await download(
                venue, cache, more.pop("symbol", "ETHUSDT"), more.pop("interval_ns", MINUTE),
                since_ns=more.pop("since_ns", START_NS), retry_s=0.001,
                clock=more.pop("clock", ManualClock(START_NS + 10 * DAY)), **more,
            )  # fmt: skip
        finally:
            await venue.close()


def brought(server: CandleServer, cache: CandleCache, **more: Any) -> Downloaded:
    return asyncio.run(_brought(server, cache, None, **more))


@pytest.fixture
def cache(tmp_path: Path) -> CandleCache:
    return CandleCache(tmp_path / "candles")


def bars_of(candles: Candles) -> list[Bar]:
    columns = (candles.ts // MS, candles.open, candles.high, candles.low, candles.close,
               candles.volume)  # fmt: skip
    return [tuple(column[n].item() for column in columns) for n in range(len(candles))]


def starts(server: CandleServer) -> list[int]:
    return [(int(asked["startTime"]) - START_MS) // 60_000 for asked in server.asked]


# --- Binance through ccxt --------------------------------------------------------------------------


def test_pages_are_put_together_and_the_unclosed_bar_is_dropped(cache: CandleCache) -> None:
    server = binance(100)
    found = brought(server, cache)
    assert bars_of(found.candles) == server.bars[:99]
    assert (found.added, found.pages, found.unclosed, found.retries) == (99, 4, 1, 0)
    assert found.quality.findings == ()
    assert starts(server) == [0, 30, 60, 90]
    assert found.candles.source == "cache:BINANCE"


def test_a_second_run_asks_from_the_last_bar_on(cache: CandleCache) -> None:
    brought(binance(100), cache)
    server = binance(130)
    found = brought(server, cache)
    assert starts(server) == [98, 128]
    assert bars_of(found.candles) == server.bars[:129]
    assert found.added == 30


def test_our_clock_when_it_is_behind_decides_what_is_closed(cache: CandleCache) -> None:
    found = brought(binance(100), cache, clock=ManualClock(START_NS + 40 * MINUTE + 1))
    assert len(found.candles) == 40


def test_an_earlier_start_asks_for_what_is_before(cache: CandleCache) -> None:
    server = binance(100)
    brought(server, cache, since_ns=START_NS + 50 * MINUTE)
    server.asked.clear()
    found = brought(server, cache)
    assert starts(server) == [0, 30, 98]
    assert bars_of(found.candles) == server.bars[:99]


def test_a_gap_is_asked_for_again_and_filled_when_the_venue_has_it(cache: CandleCache) -> None:
    whole = made(100)
    holed = [bar for n, bar in enumerate(whole) if not 40 <= n < 45]
    first = brought(binance(100, bars=holed), cache)
    assert len(first.candles) == 94
    assert (first.quality.count("gaps"), first.gaps_left) == (1, 1)
    server = binance(100, bars=whole)
    found = brought(server, cache)
    assert starts(server)[0] == 40
    assert bars_of(found.candles) == whole[:99]
    assert (found.added, found.gaps_left) == (5, 0)


def test_bars_before_the_listing_cost_one_question(cache: CandleCache) -> None:
    server = binance(60)
    brought(server, cache, since_ns=START_NS - 365 * DAY)
    server.asked.clear()
    brought(server, cache, since_ns=START_NS - 365 * DAY)
    assert len(server.asked) == 2


def test_a_stretch_without_bars_longer_than_a_page_is_passed(cache: CandleCache) -> None:
    class Windowed(BinanceServer):
        """Tells bars of a window from the start on, as OKX does: an empty page is no end."""

        async def _klines(self, request: Any) -> Any:
            start = int(request.query["startTime"])
            held = self.bars
            self.bars = [bar for bar in held if bar[0] < start + 1_000 * 60_000]
            try:
                return await super()._klines(request)
            finally:
                self.bars = held

    whole = made(3_500)
    server = Windowed([*whole[:10], *whole[3_200:]], now_ms=START_MS + 3_500 * 60_000, page=1_000)
    found = brought(server, cache)
    assert len(found.candles) == 310
    assert "3,190 bars missing" in found.quality.lines()[1]


def test_an_exchange_that_answers_with_its_newest_bars_whatever_is_asked(
    cache: CandleCache,
) -> None:
    class Newest(BinanceServer):
        """As Kraken with its 720 bars: a start in the past does not reach further back."""

        async def _klines(self, request: Any) -> Any:
            query = {**request.query, "startTime": str(int(self.bars[-50][0]))}
            return await super()._klines(request.clone(rel_url=request.rel_url.with_query(query)))

    server = Newest(made(100), now_ms=START_MS + 300 * 60_000, page=1_000)
    found = brought(server, cache)
    assert bars_of(found.candles) == made(100)[50:]
    assert len(server.asked) == 2  # The second time nothing is new, and that is an end.


@pytest.mark.parametrize("fault", [429, 418, 500, 503, "drop"])
def test_failures_that_pass_are_tried_again(cache: CandleCache, fault: int | str) -> None:
    server = binance(100)
    server.faults = [fault, fault]
    found = brought(server, cache)
    assert 1 <= found.retries <= 2  # aiohttp itself asks once more when a connection ends.
    assert bars_of(found.candles) == server.bars[:99]


def test_a_venue_that_stays_silent_ends_it_and_what_came_is_stored(cache: CandleCache) -> None:
    class Failing(BinanceServer):
        async def _klines(self, request: Any) -> Any:
            if len(self.asked) == 2:
                self.faults = [503] * ATTEMPTS
            return await super()._klines(request)

    server = Failing(made(100), now_ms=START_MS + 100 * 60_000, page=30)
    with pytest.raises(CandlesError, match=r"gave up after 6 tries.*run the same command again"):
        brought(server, cache)
    stored = cache.load("BINANCE", "ETHUSDT", MINUTE)
    assert stored is not None
    assert bars_of(stored) == server.bars[:60]
    again = binance(100)
    brought(again, cache)
    assert starts(again)[0] == 59


def test_an_answer_that_is_refused_is_not_tried_again(cache: CandleCache) -> None:
    server = binance(100)
    server.faults = [400]
    with pytest.raises(CandlesError, match="BINANCE refused"):
        brought(server, cache)
    assert len(server.asked) == 1


def test_a_revised_bar_is_replaced_and_told(cache: CandleCache) -> None:
    brought(binance(100), cache)
    bars = made(120)
    ts, *prices, volume = bars[98]
    bars[98] = (ts, *prices, volume + 1.0)
    found = brought(binance(120, bars=bars), cache)
    assert found.revised == (START_NS + 98 * MINUTE,)
    assert found.quality.count("revised by the venue") == 1
    assert bars_of(found.candles) == bars[:119]


def test_a_history_that_was_restated_is_refused_until_asked_for_afresh(cache: CandleCache) -> None:
    brought(binance(100), cache)
    halved = [(ts, o / 2, h / 2, low / 2, c / 2, v * 2) for ts, o, h, low, c, v in made(120)]
    with pytest.raises(CandlesError, match=r"restated.*--fresh"):
        brought(binance(120, bars=halved), cache)
    kept = cache.load("BINANCE", "ETHUSDT", MINUTE)
    assert kept is not None
    assert bars_of(kept) == made(100)[:99]
    found = brought(binance(120, bars=halved), cache, fresh=True)
    assert bars_of(found.candles) == halved[:119]


def test_bars_no_market_can_have_made_are_refused_or_left_out(cache: CandleCache) -> None:
    bars = made(100)
    ts, opened, *rest = bars[20]
    bars[20] = (ts, -opened, *rest)
    with pytest.raises(CandlesError, match="price not above zero: 1: 2024-01-01 00:20"):
        brought(binance(100, bars=bars), cache)
    assert cache.load("BINANCE", "ETHUSDT", MINUTE) is None
    found = brought(binance(100, bars=bars), cache, drop_bad=True)
    assert bars_of(found.candles) == [*bars[:20], *bars[21:99]]


def test_only_one_download_of_a_series_runs(cache: CandleCache) -> None:
    folder = cache.folder("BINANCE", "ETHUSDT", MINUTE)
    with (
        acquire(folder / ".lock"),
        pytest.raises(CandlesError, match="another download of this series"),
    ):
        brought(binance(100), cache)


def test_progress_is_told_and_ends_at_the_end(cache: CandleCache) -> None:
    told: list[tuple[float, int]] = []
    brought(binance(100), cache, progress=lambda share, bars: told.append((share, bars)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert told[-1] == (1.0, 99)


def test_what_nobody_has_is_told(cache: CandleCache) -> None:
    for symbol, told in (("NOSUCH", "no spot market NOSUCH"), ("", "need a letter or a digit")):
        with pytest.raises(CandlesError, match=told):
            brought(binance(100), cache, symbol=symbol)
    with pytest.raises(CandlesError, match=r"has no candles of 7m; it has .*15m"):
        brought(binance(100), cache, interval_ns=7 * MINUTE)
    with pytest.raises(CandlesError, match="has no bars of ETHUSDT in that time"):
        brought(BinanceServer([], now_ms=START_MS + 1_000, page=30), cache)
    with pytest.raises(CandlesError, match="no time between"):
        brought(binance(100), cache, since_ns=START_NS + DAY)


def test_symbols_are_found_however_they_are_written(cache: CandleCache) -> None:
    for symbol in ("eth/usdt", "ETH_USDT", "ETH-USDT"):
        found = brought(binance(10), cache, symbol=symbol, fresh=True)
        assert found.candles.symbol == "ETHUSDT"


def test_an_exchange_nobody_knows() -> None:
    with pytest.raises(CandlesError, match="ccxt knows no exchange binanse; near it are binance"):
        open_source("binanse", {})
    with pytest.raises(CandlesError, match="set ALPACA_API_KEY and ALPACA_SECRET_KEY"):
        open_source("alpaca", {"ALPACA_API_KEY": "key"})


# --- Alpaca ---------------------------------------------------------------------------------------


def alpaca(count: int, page: int = 10_000) -> AlpacaServer:
    return AlpacaServer(made(count), now_ms=START_MS + count * 60_000, page=page)


def stock(server: AlpacaServer, cache: CandleCache, **more: Any) -> Downloaded:
    count = len(server.bars)
    clock = ManualClock(START_NS + count * MINUTE - 1)
    return brought(server, cache, symbol="SPY", clock=clock, **more)


def test_alpacas_bars_are_paged_resumed_and_cut_at_what_is_closed(cache: CandleCache) -> None:
    server = alpaca(100, page=30)
    found = stock(server, cache)
    assert bars_of(found.candles) == server.bars[:99]
    assert (found.candles.exchange, found.unclosed) == ("ALPACA", 1)
    asked = server.asked[0]
    assert (asked["adjustment"], asked["feed"], asked["timeframe"]) == ("split", "iex", "1Min")
    later = alpaca(140)
    assert bars_of(stock(later, cache).candles) == later.bars[:139]
    assert later.asked[0]["start"].startswith("2024-01-01T01:38:00")
    assert len(later.asked) == 1


@pytest.mark.parametrize("fault", [429, 500, 504, "drop"])
def test_alpacas_failures_that_pass_are_tried_again(cache: CandleCache, fault: int | str) -> None:
    server = alpaca(50)
    server.faults = [fault]
    assert stock(server, cache).retries == 1


def test_a_share_class_is_asked_for_as_it_is_written(cache: CandleCache) -> None:
    server = alpaca(20)
    found = brought(server, cache, symbol="brk.b", clock=ManualClock(START_NS + HOUR))
    assert server.asked[0]["symbols"] == "BRK.B"
    assert (found.candles.symbol, len(found.candles)) == ("BRKB", 20)


def test_an_alpaca_that_hangs_is_given_up_and_asked_again(
    cache: CandleCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candle_sources, "TIMEOUT_S", 0.1)
    server = alpaca(50)
    server.faults = ["hang"]
    assert stock(server, cache).retries == 1


def test_alpaca_refuses_a_wrong_key_at_once(cache: CandleCache) -> None:
    async def ask() -> None:
        server = alpaca(50)
        async with server.serving() as url:
            source = AlpacaSource("other", "secret", url=url)
            try:
                await download(source, cache, "SPY", MINUTE, since_ns=START_NS)
            finally:
                await source.close()

    with pytest.raises(CandlesError, match=r"ALPACA refused \(403\)"):
        asyncio.run(ask())
    with pytest.raises(CandlesError, match="Alpaca has no bars of 90m"):
        stock(alpaca(50), cache, interval_ns=90 * MINUTE)


# --- what is missing, and the cache itself ---------------------------------------------------------


def cached(places: Sequence[int], exchange: str = "BINANCE") -> Candles:
    ts = START_NS + np.array(places, dtype=np.int64) * HOUR
    return Rows.of(ts, [np.ones(len(ts))] * 5).candles(
        symbol="X", exchange=exchange, interval_ns=HOUR, source="test"
    )


@pytest.mark.parametrize(
    ("places", "wanted", "missing"),
    [
        ((), (0, 9), [(0, 9)]),
        ((0, 1, 2), (0, 9), [(2, 9)]),
        ((4, 5), (0, 9), [(0, 4), (5, 9)]),
        ((0, 1, 4, 5, 8), (0, 9), [(2, 4), (6, 8), (8, 9)]),
        ((0, 1, 4, 5, 8), (3, 9), [(3, 4), (6, 8), (8, 9)]),
        ((0, 4, 8), (0, 3), [(1, 3)]),
        ((0, 1, 2), (0, 2), []),
    ],
)
def test_what_is_missing(
    places: tuple[int, ...], wanted: tuple[int, int], missing: list[tuple[int, int]]
) -> None:
    def span(pair: tuple[int, int]) -> tuple[int, int]:
        return START_NS + pair[0] * HOUR, START_NS + pair[1] * HOUR

    assert missing_spans(cached(places), span(wanted), HOUR) == [span(one) for one in missing]


def test_nights_of_stocks_are_not_asked_for_again() -> None:
    spans = missing_spans(cached((0, 4, 8), "ALPACA"), (START_NS, START_NS + 9 * HOUR), HOUR)
    assert spans == [(START_NS + 8 * HOUR, START_NS + 9 * HOUR)]


def test_years_are_files_and_only_those_that_change_are_written(cache: CandleCache) -> None:
    whole = synthetic_candles(800, seed=1, interval_ns=DAY, symbol="ETHUSDT", exchange="BINANCE")
    whole = Rows.of_candles(whole).candles(
        symbol="ETHUSDT", exchange="BINANCE", interval_ns=DAY, source="test"
    )
    cache.store(whole.rows(0, 700))
    folder = cache.folder("BINANCE", "ETHUSDT", DAY)
    assert [file.name for file in sorted(folder.iterdir())] == ["2024.parquet", "2025.parquet"]
    before = (folder / "2024.parquet").stat().st_ino
    assert cache.store(whole.rows(650, 800)).added == 100
    assert (folder / "2024.parquet").stat().st_ino == before
    found = cache.load("BINANCE", "eth/usdt", DAY)
    assert found is not None
    assert (found.close == whole.close).all()
    assert (found.ts == whole.ts).all()
    (listed,) = cache.series()
    assert (listed.bars, listed.first_ns, listed.last_ns) == (800, whole.ts[0], whole.ts[-1])
    assert cache.store(whole).added == 0


def test_a_damaged_file_is_told_with_the_cure(cache: CandleCache) -> None:
    cache.store(cached(range(10)))
    file = cache.folder("BINANCE", "X", HOUR) / "2024.parquet"
    file.write_bytes(file.read_bytes()[:100])
    for read in (lambda: cache.load("BINANCE", "X", HOUR), cache.series):
        with pytest.raises(CandlesError, match=r"is damaged.*remove .* and download it again"):
            read()


def test_an_interrupted_write_leaves_the_old_file(cache: CandleCache) -> None:
    cache.store(cached(range(10)))
    (cache.folder("BINANCE", "X", HOUR) / "2024.writing").write_bytes(b"half a f")
    found = cache.load("BINANCE", "X", HOUR)
    assert found is not None
    assert len(found) == 10
    assert cache.store(cached(range(5, 12))).added == 2


def test_an_empty_cache_has_nothing(cache: CandleCache) -> None:
    assert cache.load("BINANCE", "ETHUSDT", HOUR) is None
    assert cache.series() == []
    assert not cache.root.exists()
