"""Where candles come from, in which order, what is said of made-up ones, and longer bars."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fleet.research.candle_cache import CandleCache
from fleet.research.candle_rows import Rows
from fleet.research.candles import (
    SYNTHETIC_NOTE,
    Loaded,
    load_cached,
    load_file,
    obtain,
    resample,
)
from fleet.research.intervals import DAY, HOUR, MINUTE, WEEK, CandlesError, to_utc
from fleet.research.series import Candles
from fleet.research.synthetic import START_NS, synthetic_candles


def market(bars: int = 300, interval_ns: int = HOUR) -> Candles:
    """Bars that say a market made them."""
    made = synthetic_candles(
        bars, seed=5, interval_ns=interval_ns, symbol="ETHUSDT", exchange="BINANCE"
    )
    return replace(made, source="test")


def cache_of(tmp_path: Path, *series: Candles) -> CandleCache:
    cache = CandleCache(tmp_path / "candles")
    for candles in series:
        cache.store(candles)
    return cache


def wanted(cache: CandleCache, **more: object) -> Loaded:
    arguments = {"symbol": "ETHUSDT", "exchange": "BINANCE", "interval": "1h", "cache": cache}
    return obtain(**{**arguments, **more})  # type: ignore[arg-type]


# --- synthetic -------------------------------------------------------------------------------------


def test_a_seed_makes_the_same_candles_another_seed_others() -> None:
    one, two = (synthetic_candles(500, seed=7, interval_ns=HOUR) for _ in range(2))
    assert one.digest == two.digest
    assert one.digest != synthetic_candles(500, seed=8, interval_ns=HOUR).digest


def test_synthetic_candles_are_sound_bars_on_the_tick_that_join() -> None:
    c = synthetic_candles(5_000, seed=1, interval_ns=MINUTE)
    assert c.synthetic
    assert (c.high >= np.maximum(c.open, c.close)).all()
    assert (c.low <= np.minimum(c.open, c.close)).all()
    assert (c.low > 0).all()
    assert (c.open[1:] == c.close[:-1]).all()
    assert np.allclose(c.close * 100, np.round(c.close * 100), atol=1e-6)


def test_synthetic_candles_have_the_volatility_of_a_market_and_cluster_it() -> None:
    c = synthetic_candles(20_000, seed=2, interval_ns=HOUR)
    steps = np.diff(np.log(c.close))
    assert 0.4 < steps.std() * np.sqrt(8_766) < 0.9
    size = np.abs(steps)
    assert np.corrcoef(size[1:], size[:-1])[0, 1] > 0.15
    assert abs(np.corrcoef(steps[1:], steps[:-1])[0, 1]) < 0.03
    assert (steps**4).mean() / steps.var() ** 2 > 4
    assert np.corrcoef(size, c.volume[1:])[0, 1] > 0.2


@pytest.mark.parametrize("bars", [0, -1, 10_000_001])
def test_a_number_of_synthetic_bars_nobody_can_use(bars: int) -> None:
    with pytest.raises(CandlesError, match="ask for 1 to"):
        synthetic_candles(bars, seed=1, interval_ns=HOUR)


# --- obtain ----------------------------------------------------------------------------------------


def test_a_file_goes_before_the_cache(tmp_path: Path) -> None:
    made = market(50)
    rows = Rows.of_candles(made)
    file = tmp_path / "ETHUSDT_1h.parquet"
    names = ("open", "high", "low", "close", "volume")
    pl.DataFrame({"ts": rows.ts, **dict(zip(names, rows.columns, strict=True))}).write_parquet(file)
    cache = cache_of(tmp_path, market(80))
    assert len(wanted(cache, data=file).candles) == 50
    assert len(wanted(cache).candles) == 80
    four = wanted(cache, data=file, interval="4h")
    assert four.candles.interval_ns == 4 * HOUR
    other = wanted(cache, data=file, symbol="BTCUSDT")
    assert other.candles.symbol == "BTCUSDT"
    assert "is read as BTCUSDT, but tells ETHUSDT" in other.notes[0]
    assert four.notes == ("resampled from 1h bars",)


def test_the_newest_bars_are_returned(tmp_path: Path) -> None:
    found = wanted(cache_of(tmp_path, market(80)), bars=30).candles
    assert found.ts.tolist() == market(80).ts[-30:].tolist()


def test_a_longer_interval_is_made_of_a_cached_shorter_one(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, market(240, MINUTE), market(300, 7 * MINUTE))
    found = load_cached(cache, "BINANCE", "ETHUSDT", HOUR)
    assert found is not None
    assert len(found.candles) == 4
    assert found.notes == ("resampled from cached 1m bars",)
    assert load_cached(cache, "BINANCE", "ETHUSDT", 30) is None
    assert load_cached(cache, "KRAKEN", "ETHUSDT", HOUR) is None


def test_without_any_the_error_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        CandlesError,
        match=r"fleet candles download ETHUSDT --exchange BINANCE --interval 1h.*--data",
    ):
        wanted(cache_of(tmp_path))


def test_without_any_and_with_a_seed_they_are_made_up_and_say_so(tmp_path: Path) -> None:
    found = wanted(cache_of(tmp_path), synthetic_seed=3, bars=200)
    assert found.candles.synthetic
    assert found.notes[0] == SYNTHETIC_NOTE
    assert "no network was asked" in found.notes[1]
    again = wanted(cache_of(tmp_path), synthetic_seed=3, bars=200)
    assert again.candles.digest == found.candles.digest


class Unplugged:
    """A venue nobody can reach."""

    exchange = "BINANCE"

    def __init__(self) -> None:
        self.closed = False

    async def page(self, symbol: str, interval_ns: int, start_ns: int, end_ns: int) -> Rows:
        raise CandlesError("BINANCE: no route")

    async def span_ns(self, symbol: str, interval_ns: int) -> int:
        return 1_000 * interval_ns

    async def now_ns(self) -> int:
        await asyncio.sleep(0)
        return START_NS + 10 * DAY

    async def close(self) -> None:
        self.closed = True


def test_a_venue_that_is_not_there_is_the_reason_told(tmp_path: Path) -> None:
    venue = Unplugged()
    found = wanted(
        cache_of(tmp_path), source=lambda: venue, since_ns=START_NS, synthetic_seed=1, bars=60
    )
    assert found.candles.synthetic
    assert "BINANCE: no route" in found.notes[1]
    assert venue.closed
    with pytest.raises(CandlesError, match="no route"):
        wanted(cache_of(tmp_path), source=lambda: venue, since_ns=START_NS)


def test_cached_candles_are_brought_up_to_date_when_asked_or_say_that_they_are_not(
    tmp_path: Path,
) -> None:
    cache = cache_of(tmp_path, market(80))
    found = wanted(cache, source=Unplugged, since_ns=START_NS, refresh=True, synthetic_seed=1)
    assert len(found.candles) == 80
    assert not found.candles.synthetic
    assert found.notes == ("the cached candles were not brought up to date (BINANCE: no route)",)
    assert wanted(cache, source=Unplugged, since_ns=START_NS).notes == ()


def test_too_few_cached_candles_are_a_reason_to_ask_the_venue(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, market(80))
    assert wanted(cache, source=Unplugged, since_ns=START_NS, bars=80).notes == ()
    found = wanted(cache, source=Unplugged, since_ns=START_NS, bars=81)
    assert len(found.candles) == 80
    assert "not brought up to date (BINANCE: no route)" in found.notes[0]
    assert wanted(cache, bars=81).notes == ()


def test_what_is_wrong_with_the_candles_is_among_the_notes(tmp_path: Path) -> None:
    whole = market(80)
    cache = cache_of(tmp_path, whole.rows(0, 30), whole.rows(33, 80))
    found = wanted(cache)
    told = "in the candles: gaps: 1 (3 bars missing, at most 3 in a row): 2024-01-02 06:00"
    assert found.notes == (told,)
    assert found.between(START_NS, START_NS + DAY).notes == ()
    assert found.between(START_NS, START_NS + 2 * DAY).notes == (told,)


def test_synthetic_stays_synthetic_through_everything(tmp_path: Path) -> None:
    made = synthetic_candles(600, seed=1, interval_ns=MINUTE)
    assert resample(made, HOUR).synthetic
    assert made.rows(3, 9).synthetic
    with pytest.raises(CandlesError, match="never stored"):
        cache_of(tmp_path, made)
    part = wanted(cache_of(tmp_path), synthetic_seed=1, bars=100).between(START_NS, START_NS + DAY)
    assert part.notes[0] == SYNTHETIC_NOTE
    assert len(part.candles) == 24
    with pytest.raises(CandlesError, match="no bars in that time"):
        part.between(0, 1)


# --- resampling ------------------------------------------------------------------------------------


def test_longer_bars_are_made_of_the_shorter_ones_in_them() -> None:
    c = market(10, 15 * MINUTE)
    hours = resample(c, HOUR)
    assert hours.ts.tolist() == [START_NS, START_NS + HOUR]
    assert hours.open.tolist() == [c.open[0], c.open[4]]
    assert hours.high.tolist() == [c.high[:4].max(), c.high[4:8].max()]
    assert hours.low.tolist() == [c.low[:4].min(), c.low[4:8].min()]
    assert hours.close.tolist() == [c.close[3], c.close[7]]
    assert hours.volume.tolist() == pytest.approx([c.volume[:4].sum(), c.volume[4:8].sum()])
    assert (hours.interval_ns, hours.symbol, hours.source) == (HOUR, "ETHUSDT", "test")


def test_resampling_does_not_look_ahead() -> None:
    c = market(600, 5 * MINUTE)
    whole = resample(c, HOUR)
    for cut in range(1, 601):
        seen = resample(c.rows(0, cut), HOUR)
        known = c.ts[cut - 1] + c.interval_ns
        assert len(seen) == int((whole.ts + HOUR <= known).sum())
        assert seen.close.tobytes() == whole.close[: len(seen)].tobytes()
        assert seen.volume.tobytes() == whole.volume[: len(seen)].tobytes()


def test_a_gap_leaves_a_bar_of_what_there_is_and_no_bar_of_nothing() -> None:
    c = market(240, MINUTE)
    kept = np.array([n for n in range(240) if not 50 <= n < 130])
    gappy = Rows.of_candles(c).take(kept).candles(
        symbol="X", exchange="BINANCE", interval_ns=MINUTE, source="test"
    )  # fmt: skip
    hours = resample(gappy, HOUR)
    assert ((hours.ts - START_NS) // HOUR).tolist() == [0, 2, 3]
    assert hours.close[0] == c.close[49]
    assert hours.open[1] == c.open[130]


def test_weeks_begin_on_monday() -> None:
    weeks = resample(market(24 * 21), WEEK)  # 2024-01-01 was a Monday.
    assert weeks.ts.tolist() == [START_NS, START_NS + WEEK, START_NS + 2 * WEEK]


def test_days_of_stocks_are_new_yorks_over_a_change_of_its_clock() -> None:
    first = np.datetime64("2024-03-08", "ns").astype(np.int64)
    local = np.concatenate([first + day * DAY + np.arange(9, 16) * HOUR for day in (0, 3, 4)])
    ts = to_utc(local, "America/New_York")
    column = np.arange(1.0, 22.0)
    hours = Rows.of(ts, [column] * 5).candles(
        symbol="SPY", exchange="ALPACA", interval_ns=HOUR, source="test"
    )  # fmt: skip
    days = resample(hours, DAY)
    midnights = to_utc(first + np.array([0, 3]) * DAY, "America/New_York")
    assert days.ts.tolist() == midnights.tolist()
    assert days.close.tolist() == [7.0, 14.0]


def test_intervals_that_do_not_fit_are_refused() -> None:
    for interval in (30 * MINUTE, 90 * MINUTE):
        with pytest.raises(CandlesError, match="choose a multiple"):
            resample(market(), interval)
    assert resample(market(), HOUR).digest == market().digest
    assert len(resample(market().rows(0, 0), DAY)) == 0


@pytest.mark.realdata
def test_hours_made_of_half_hours_are_those_the_exchange_told(fleet_data: Path) -> None:
    """All but those of two hours in which the recording stored bars before they were over."""
    folder = fleet_data / "candles" / "binance_um_futures_30m_1h_4h"
    for symbol in ("ETHUSDT", "BTCUSDT", "ADAUSDT"):
        made = resample(load_file(folder / f"{symbol}_30m.parquet").candles, HOUR)
        told = load_file(folder / f"{symbol}_1h.parquet").candles
        assert (made.ts == told.ts).all()
        assert (made.open == told.open).all()
        for name in ("high", "low", "close"):
            assert (getattr(made, name) != getattr(told, name)).sum() <= 2
