"""Every kind of bad bar is counted with its time; nothing is repaired in silence."""

from pathlib import Path

import numpy as np
import pytest

from fleet.research.candle_files import read_file
from fleet.research.candle_quality import Quality, inspect, settle
from fleet.research.candle_rows import Rows
from fleet.research.intervals import DAY, HOUR, MINUTE, CandlesError, to_utc
from fleet.research.synthetic import synthetic_candles

START = 1_704_067_200 * 10**9


def bars(count: int = 200) -> Rows:
    return Rows.of_candles(synthetic_candles(count, seed=3, interval_ns=HOUR))


def spoilt(rows: Rows, column: str, place: int, value: float) -> Rows:
    columns = dict(zip(("open", "high", "low", "close", "volume"), rows.columns, strict=True))
    columns[column] = columns[column].copy()
    columns[column][place] = value
    return Rows.of(rows.ts, list(columns.values()))


def report(rows: Rows, exchange: str = "BINANCE", interval_ns: int = HOUR) -> Quality:
    return inspect(rows, symbol="ETHUSDT", exchange=exchange, interval_ns=interval_ns)


def settled(rows: Rows, *, drop_bad: bool = False, exchange: str = "BINANCE") -> np.ndarray:
    candles, _ = settle(
        rows, symbol="ETHUSDT", exchange=exchange, interval_ns=HOUR, source="test",
        drop_bad=drop_bad,
    )  # fmt: skip
    return candles.ts


def test_sound_bars_have_no_findings() -> None:
    quality = report(bars())
    assert quality.findings == ()
    assert quality.usable
    assert quality.lines() == [
        "BINANCE:ETHUSDT 1h: 200 bars, 2024-01-01 00:00 to 2024-01-09 07:00 UTC",
        "  nothing found",
    ]


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("close", np.nan, "not a number"),
        ("volume", np.nan, "not a number"),
        ("high", np.inf, "not a number"),
        ("low", 0.0, "price not above zero"),
        ("open", -5.0, "price not above zero"),
        ("volume", -1.0, "negative volume"),
        ("high", 1.0, "high below low"),
    ],
)
def test_bars_no_market_can_have_made_are_refused(column: str, value: float, kind: str) -> None:
    rows = spoilt(bars(), column, 77, value)
    quality = report(rows)
    assert quality.count(kind) == 1
    assert not quality.usable
    told = next(finding for finding in quality.findings if finding.kind == kind)
    assert told.times == (START + 77 * HOUR,)
    with pytest.raises(CandlesError, match=rf"{kind}: 1: 2024-01-04 05:00.*--drop-bad"):
        settled(rows)
    left = settled(rows, drop_bad=True)
    assert len(left) == 199
    assert START + 77 * HOUR not in left


def test_an_open_or_close_outside_is_told_and_kept() -> None:
    rows = bars()
    rows = spoilt(rows, "close", 5, float(rows.high[5]) * 1.001)
    quality = report(rows)
    assert quality.count("open or close outside low to high") == 1
    assert len(settled(rows)) == 200


def test_a_gap_is_told_and_never_filled() -> None:
    rows = bars().take(np.array([n for n in range(200) if n not in {50, 51, 52, 90}]))
    quality = report(rows)
    gaps = next(finding for finding in quality.findings if finding.kind == "gaps")
    assert gaps.count == 2
    assert gaps.times == (START + 50 * HOUR, START + 90 * HOUR)
    assert "4 bars missing, at most 3 in a row" in gaps.note
    assert len(settled(rows)) == 196


def test_a_bar_told_twice_alike_is_kept_once() -> None:
    rows = bars().take(np.array([*range(100), 99, 99, *range(100, 200)]))
    quality = report(rows)
    assert quality.count("duplicates, alike") == 2
    assert quality.usable
    assert len(settled(rows)) == 200


def test_two_bars_of_one_moment_are_refused_because_nobody_knows_which_is_right() -> None:
    rows = bars()
    double = spoilt(rows, "volume", 30, 1e6).take(np.array([30]))
    rows = Rows.joined([rows, double])
    quality = report(rows)
    assert quality.count("duplicates, different") == 1
    assert not quality.usable
    with pytest.raises(CandlesError, match="duplicates, different"):
        settled(rows)
    left = settled(rows, drop_bad=True)
    assert START + 30 * HOUR not in left
    assert len(left) == 199


def test_bars_out_of_order_are_told_and_sorted() -> None:
    rows = bars().take(np.array([*range(10), 11, 10, *range(12, 200)]))
    quality = report(rows)
    assert quality.count("out of order") == 1
    assert quality.count("gaps") == 0
    assert (np.diff(settled(rows)) == HOUR).all()


def test_a_clock_shift_is_told_with_its_place_and_size() -> None:
    rows = bars()
    ts = rows.ts.copy()
    ts[120:140] += 90 * 10**9
    quality = report(Rows.of(ts, rows.columns))
    shifts = next(finding for finding in quality.findings if finding.kind == "clock shifts")
    assert shifts.times == (int(ts[120]), int(ts[140]))
    assert shifts.note == "20 bars off the grid by +90 s"


def test_runs_without_volume_are_told_from_three_on() -> None:
    rows = bars()
    for place in (10, 11, 40, 41, 42, 43):
        rows = spoilt(rows, "volume", place, 0.0)
    runs = [f for f in report(rows).findings if f.kind == "runs without volume"]
    assert [(f.count, f.times) for f in runs] == [(1, (START + 40 * HOUR,))]
    assert "4 bars, at most 4 in a row" in runs[0].note


def test_a_close_that_jumps_and_comes_back_is_a_spike_a_crash_is_none() -> None:
    rows = bars()
    spike = spoilt(rows, "close", 60, float(rows.close[60]) * 1.5)
    spike = spoilt(spike, "high", 60, float(rows.close[60]) * 1.5)
    found = next(f for f in report(spike).findings if f.kind == "price spikes")
    assert found.times == (START + 60 * HOUR,)
    crash = Rows.of(
        rows.ts, [*(np.where(np.arange(200) < 60, 1.0, 0.5) * c for c in rows.columns[:4]),
                  rows.volume],
    )  # fmt: skip
    assert report(crash).count("price spikes") == 0


def test_a_bar_stored_before_it_was_over_shows_in_the_next_open() -> None:
    rows = spoilt(bars(), "close", 80, float(bars().open[80]))
    rows = spoilt(rows, "open", 81, float(rows.open[80]) * 1.01)
    found = next(f for f in report(rows).findings if f.kind.startswith("open away"))
    assert found.times == (START + 81 * HOUR,)
    assert report(rows, exchange="ALPACA").count(found.kind) == 0


# --- US stocks -------------------------------------------------------------------------------------


def minutes(day: str, first: int, last: int, without: set[int]) -> np.ndarray:
    """UTC times of the minutes ``first`` to before ``last`` after New York's midnight."""
    midnight = np.datetime64(day, "ns").astype(np.int64)
    local = midnight + np.array([n for n in range(first, last) if n not in without]) * MINUTE
    return to_utc(local.astype(np.int64), "America/New_York")


def flat(ts: np.ndarray) -> Rows:
    return Rows.of(ts, [np.full(len(ts), 100.0)] * 5)


def test_nights_and_weekends_of_stocks_are_no_gaps() -> None:
    friday, monday = (minutes(day, 570, 960, set()) for day in ("2024-03-08", "2024-03-11"))
    quality = report(flat(np.concatenate([friday, monday])), "ALPACA", MINUTE)
    assert quality.findings == ()


def test_missing_minutes_of_the_session_are_a_gap_those_before_it_are_none() -> None:
    told = minutes("2024-03-08", 500, 960, {*range(505, 560), 600, 601, 700})
    quality = report(flat(told), "ALPACA", MINUTE)
    (gaps,) = quality.findings
    assert (gaps.kind, gaps.count) == ("gaps", 2)
    assert gaps.note == "3 bars missing, at most 2 in a row"


def test_minutes_missing_over_the_opening_count_from_the_opening() -> None:
    told = minutes("2024-03-08", 560, 960, set(range(565, 575)))
    assert "5 bars missing" in report(flat(told), "ALPACA", MINUTE).lines()[1]


def test_days_of_stocks_follow_new_yorks_clock_and_tell_weekdays_without_bars() -> None:
    days = [f"2024-03-{day:02}" for day in (4, 5, 6, 7, 8, 11, 12, 14, 15)]
    quality = report(flat(np.concatenate([minutes(d, 0, 1, set()) for d in days])), "ALPACA", DAY)
    assert [f.kind for f in quality.findings] == ["weekdays without bars"]
    assert quality.findings[0].count == 1
    assert "1 days" in quality.findings[0].note


# --- real candles ----------------------------------------------------------------------------------


@pytest.mark.realdata
def test_the_recorded_futures_hold_bars_that_were_stored_unclosed(fleet_data: Path) -> None:
    folder = fleet_data / "candles" / "binance_um_futures_30m_1h_4h"
    found = read_file(folder / "ETHUSDT_1h.parquet")
    quality = report(found.rows)
    assert [(f.kind, f.count) for f in quality.findings] == [("open away from the close before", 1)]
    assert "2024-10-28 22:00" in quality.lines()[1]
    assert quality.usable


@pytest.mark.realdata
def test_real_spikes_are_told_and_kept(fleet_data: Path) -> None:
    crash = read_file(fleet_data / "candles/binance_spot_1m/ETHUSDT_1m_2024-07_08.parquet")
    told = [finding.line() for finding in report(crash.rows, interval_ns=MINUTE).findings]
    assert told == ["price spikes: 1 (moves above 2.0% taken back at once): 2024-08-05 01:16"]
    halves = read_file(fleet_data / "candles/binance_um_futures_30m_1h_4h/BTCUSDT_30m.parquet")
    found = report(halves.rows, interval_ns=30 * MINUTE)
    assert "2023-10-16 13:00" in next(f.line() for f in found.findings if f.kind == "price spikes")
    assert found.usable


def test_no_bars_are_no_usable_report() -> None:
    quality = report(Rows.joined([]))
    assert not quality.usable
    assert quality.lines() == ["BINANCE:ETHUSDT 1h: no bars"]
    with pytest.raises(CandlesError, match="no usable bars"):
        settled(Rows.joined([]))
