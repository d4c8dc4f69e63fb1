"""Features know the past only, remember a window only, and say what they measure."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fleet.research import indicators as ind
from fleet.research.candles import load_file
from fleet.research.features import DEFAULT, FAMILIES, examples, feature, latest, matrix, warm_up
from fleet.research.intervals import DAY, HOUR, CandlesError
from fleet.research.series import Candles
from fleet.research.synthetic import synthetic_candles

ALL = tuple(dict.fromkeys((*DEFAULT, *examples())))


@pytest.fixture(scope="module")
def candles() -> Candles:
    """Enough bars for every default feature, with a stretch in which nothing happens at all."""
    made = synthetic_candles(700, seed=11, interval_ns=HOUR, symbol="ETHUSDT", exchange="BINANCE")
    still = slice(300, 560)
    columns = {name: getattr(made, name).copy() for name in ("open", "high", "low", "close")}
    for column in columns.values():
        column[still] = made.close[300]
    volume = made.volume.copy()
    volume[still] = 0.0
    return replace(made, volume=volume, **columns)


def flat(price: float, bars: int, exchange: str = "BINANCE") -> Candles:
    column = np.full(bars, price)
    return Candles(
        symbol="X", exchange=exchange, interval_ns=HOUR, ts=np.arange(bars) * HOUR,
        open=column, high=column, low=column, close=column, volume=np.zeros(bars), source="test",
    )  # fmt: skip


def with_garbage(candles: Candles, cut: int) -> Candles:
    """The same bars up to ``cut``; after it prices and volumes that have nothing to do with them."""
    chance = np.random.default_rng(cut)
    columns = {}
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(candles, name).copy()
        column[cut:] = chance.uniform(1e-6, 1e9, len(column) - cut)
        columns[name] = column
    return replace(candles, **columns)


# --- no look-ahead, to the bit --------------------------------------------------------------------


def assert_causal(candles: Candles, cuts: range) -> None:
    whole = matrix(candles, ALL).values
    for cut in cuts:
        seen = candles.rows(0, cut)
        expected = whole[cut - 1].tobytes()
        assert matrix(seen, ALL).values[-1].tobytes() == expected, f"cut at {cut}"
        assert latest(seen, ALL).tobytes() == expected, f"latest at {cut}"


def test_cutting_the_data_at_every_bar_changes_nothing_before(candles: Candles) -> None:
    assert_causal(candles, range(1, len(candles) + 1))


def test_garbage_after_a_bar_changes_nothing_up_to_it(candles: Candles) -> None:
    whole = matrix(candles, ALL).values
    for cut in range(180, 700, 37):
        spoilt = matrix(with_garbage(candles, cut), ALL).values
        assert spoilt[:cut].tobytes() == whole[:cut].tobytes()
        assert spoilt[cut:].tobytes() != whole[cut:].tobytes()


def test_bars_before_the_window_change_nothing(candles: Candles) -> None:
    whole = matrix(candles, ALL).values
    start = 251
    later = matrix(candles.rows(start, 700), ALL).values
    known = warm_up(ALL)
    assert later[known:].tobytes() == whole[start + known :].tobytes()


# The crash of 5 August 2024; the unclosed bar of 28 October 2024; the crisis of 2008.
@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("binance_spot_1m/ETHUSDT_1m_2024-07_08.parquet", 13_700),
        ("binance_um_futures_30m_1h_4h/BTCUSDT_1h.parquet", 15_800),
        ("lean_us_equity_minute/daily/spy.zip", 2_600),
    ],
)
def test_no_look_ahead_on_real_candles(fleet_data: Path, file: str, first: int) -> None:
    loaded = load_file(fleet_data / "candles" / file).candles
    sample = loaded.rows(first, first + 420)
    assert_causal(sample, range(len(sample) - 120, len(sample) + 1))
    in_full = matrix(loaded, ALL).values[first + warm_up(ALL) : first + 420]
    assert matrix(sample, ALL).usable.tobytes() == in_full.tobytes()
    assert np.isfinite(in_full).all()


# --- the warm-up ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_feature_is_unknown_in_its_warm_up_and_known_ever_after(
    candles: Candles, name: str
) -> None:
    column = matrix(candles, [name]).values[:, 0]
    window = feature(name).window
    assert np.isnan(column[: window - 1]).all()
    assert np.isfinite(column[window - 1 :]).all()


def test_the_warm_up_of_many_is_that_of_the_longest(candles: Candles) -> None:
    found = matrix(candles, ["return_3", "volatility_100", "body"])
    assert found.warm_up == warm_up(found.names) == 100
    assert np.isfinite(found.usable).all()
    assert np.isnan(found.values[99]).sum() == 1


def test_fewer_bars_than_a_window_are_unknown_and_no_error(candles: Candles) -> None:
    row = latest(candles.rows(0, 5), ["return_3", "volatility_168"])
    assert np.isfinite(row[0])
    assert np.isnan(row[1])


def test_a_matrix_cannot_be_changed(candles: Candles) -> None:
    with pytest.raises(ValueError, match="read-only"):
        matrix(candles, ["body"]).values[0, 0] = 1.0


# --- what they measure, against the plain formula ------------------------------------------------


def value(candles: Candles, name: str) -> float:
    return float(latest(candles, [name])[0])


def test_values_are_those_of_the_plain_formulas(candles: Candles) -> None:
    c = candles.rows(0, 300)
    steps = np.diff(np.log(c.close))
    moves = np.diff(c.close)
    up, down = moves[-14:][moves[-14:] > 0].sum(), -moves[-14:][moves[-14:] < 0].sum()
    ranges = [
        max(c.high[n], c.close[n - 1]) - min(c.low[n], c.close[n - 1]) for n in range(286, 300)
    ]
    volumes = np.log1p(c.volume[-48:])
    pairs = {
        "return_5": np.log(c.close[-1] / c.close[-6]),
        "volatility_24": steps[-24:].std(),
        "sharpe_48": steps[-48:].mean() / steps[-48:].std(),
        "range_volatility_24": np.sqrt(
            (np.log(c.high[-24:] / c.low[-24:]) ** 2).mean() / (4 * np.log(2))
        ),
        "rsi_14": up / (up + down),
        "bollinger_20": (c.close[-1] - c.close[-20:].mean()) / c.close[-20:].std(),
        "sma_ratio_20_60": c.close[-20:].mean() / c.close[-60:].mean() - 1,
        "sma_distance_20": c.close[-1] / c.close[-20:].mean() - 1,
        "atr_14": np.mean(ranges) / c.close[-1],
        "stochastic_24": (c.close[-1] - c.low[-24:].min())
        / (c.high[-24:].max() - c.low[-24:].min()),
        "drawdown_100": c.close[-1] / c.high[-100:].max() - 1,
        "rise_100": c.close[-1] / c.low[-100:].min() - 1,
        "efficiency_24": (c.close[-1] - c.close[-25]) / np.abs(moves[-24:]).sum(),
        "volume_z_48": (volumes[-1] - volumes.mean()) / volumes.std(),
        "volume_ratio_6_48": c.volume[-6:].mean() / c.volume[-48:].mean(),
        "skew_48": ((steps[-48:] - steps[-48:].mean()) ** 3).mean() / steps[-48:].std() ** 3,
        "body": (c.close[-1] - c.open[-1]) / (c.high[-1] - c.low[-1]),
        "range": (c.high[-1] - c.low[-1]) / c.close[-1],
    }
    for name, expected in pairs.items():
        assert value(c, name) == pytest.approx(expected, rel=1e-9, abs=1e-12), name
    wicks = value(c, "upper_wick") + value(c, "lower_wick") + abs(value(c, "body"))
    assert wicks == pytest.approx(1.0)


def test_the_cut_exponential_mean_is_near_the_endless_one(candles: Candles) -> None:
    close, kept = candles.close[:300], 1 - 2 / 27
    endless = close[0]
    for price in close[1:]:
        endless = kept * endless + (1 - kept) * price
    cut = ind.ema(close, 26, ind.ema_window(26))[-1]
    assert cut == pytest.approx(endless, rel=2e-3)
    assert cut != endless


def test_macd_is_the_histogram_over_the_price(candles: Candles) -> None:
    close = candles.close[:300]
    line = ind.ema(close, 12, 24) - ind.ema(close, 26, 52)
    expected = (line - ind.ema(line, 9, 18))[-1] / close[-1]
    assert value(candles.rows(0, 300), "macd_12_26_9") == expected


def test_pressure_is_one_where_every_bar_closes_at_its_high() -> None:
    c = flat(100.0, 20)
    c = replace(c, low=np.full(20, 99.0), volume=np.arange(1.0, 21.0))
    assert value(c, "pressure_10") == pytest.approx(1.0)


def test_autocorrelation_tells_a_swing_from_a_trend() -> None:
    swing = np.where(np.arange(60) % 2 == 0, 100.0, 101.0)
    trend = np.exp(np.cumsum(np.arange(60) * 1e-4)) * 100
    for close, sign in ((swing, -1), (trend, 1)):
        c = replace(flat(1.0, 60), open=close, high=close, low=close, close=close)
        assert sign * value(c, "autocorrelation_30") > 0.8


@pytest.mark.parametrize("name", [n for n in ALL if "hour" not in n and "week" not in n])
def test_a_price_that_stands_still_gives_its_neutral_value(name: str) -> None:
    neutral = 0.5 if name.startswith("rsi") else 0.0
    assert value(flat(123.456, 200), name) == pytest.approx(neutral, abs=1e-12)


def test_prices_are_only_compared(candles: Candles) -> None:
    scaled = replace(
        candles, open=candles.open * 8, high=candles.high * 8, low=candles.low * 8,
        close=candles.close * 8,
    )  # fmt: skip
    ours, theirs = matrix(candles, ALL).usable, matrix(scaled, ALL).usable
    assert np.allclose(ours, theirs, rtol=1e-6, atol=1e-9)


# --- time of day and week -------------------------------------------------------------------------


def at(exchange: str, ts: int) -> Candles:
    return replace(flat(1.0, 1, exchange), ts=np.array([ts], dtype=np.int64))


def test_the_hour_is_that_of_the_bars_end() -> None:
    bar = at("BINANCE", 5 * HOUR)  # Ends at 6:00 UTC: a quarter of the day.
    assert value(bar, "hour_sin") == pytest.approx(1.0)
    assert value(bar, "hour_cos") == pytest.approx(0.0, abs=1e-12)


def test_the_week_begins_on_monday() -> None:
    monday = 4 * DAY  # 1970-01-05
    assert value(at("BINANCE", monday - HOUR), "week_sin") == pytest.approx(0.0, abs=1e-12)
    assert value(at("BINANCE", monday + 42 * HOUR - HOUR), "week_sin") == pytest.approx(1.0)


def test_the_hour_of_a_stock_is_new_yorks_in_summer_and_winter() -> None:
    winter, summer = 1_704_724_200 * 10**9, 1_720_445_400 * 10**9  # 9:30 on 8 Jan and 8 Jul 2024.
    found = [value(at("ALPACA", ts), "hour_sin") for ts in (winter, summer)]
    assert found[0] == found[1]
    assert value(at("BINANCE", winter), "hour_sin") != value(at("BINANCE", summer), "hour_sin")


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("momentum_5", "there is no feature"),
        ("Return_5", "there is no feature"),
        ("return", "takes 1 numbers"),
        ("return_5_6", "takes 1 numbers"),
        ("return_0", "from 1 to"),
        ("volatility_1", "from 2 to"),
        ("return_999999", "from 1 to"),
        ("body_3", "takes 0 numbers"),
        ("", "there is no feature"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_cure(name: str, told: str) -> None:
    with pytest.raises(CandlesError, match=told):
        feature(name)


def test_bars_that_are_no_numbers_are_refused(candles: Candles) -> None:
    for column, bad in (("close", 0.0), ("high", np.nan), ("volume", -1.0), ("low", np.inf)):
        values = getattr(candles, column).copy()
        values[17] = bad
        spoilt = replace(candles)
        object.__setattr__(spoilt, column, values)
        with pytest.raises(CandlesError, match=f"has a {column} that is no usable number"):
            matrix(spoilt, ["body"])


def test_a_feature_named_twice_and_no_bars_are_refused(candles: Candles) -> None:
    with pytest.raises(CandlesError, match="named twice"):
        matrix(candles, ["body", "body"])
    with pytest.raises(CandlesError, match="no last bar"):
        latest(candles.rows(0, 0), ["body"])


def test_no_features_are_an_empty_matrix(candles: Candles) -> None:
    assert matrix(candles, []).values.shape == (700, 0)
    assert warm_up([]) == 0


def test_every_family_has_an_example_and_a_meaning() -> None:
    assert len(examples()) == len(FAMILIES)
    assert all(family.meaning for family in FAMILIES.values())
