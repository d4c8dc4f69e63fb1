"""Features of candles for a model: what is known when a bar closes, and nothing later.

A feature is written as its family and its numbers: ``return_5``, ``macd_12_26_9``, ``hour_sin``.
``matrix`` computes many over a whole series, one row a bar; ``latest`` computes the last row from
the last bars alone and gives the same bits, so that what was trained on is what is traded on.

Invariants, each tested on real candles: row i does not change if bars after i are cut off or
garbage is added there; it depends on the last ``window`` bars only (``indicators`` says how); a
feature is NaN in its first ``window - 1`` rows and finite ever after. A gap in time is not bridged:
a window counts bars. Prices are compared, never used as such, so that a model of one level or one
symbol can be asked about another. Times of day and week are of the *end* of the bar, the moment of
decision; for US stocks they are New York's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fleet.research import indicators as ind
from fleet.research.intervals import DAY, WEEK, CandlesError, to_local, zone_of
from fleet.research.series import Candles, Floats

LARGEST: Final = 100_000
"""The largest number in a feature's name: two months of minutes."""
_WRITTEN: Final = re.compile(r"(?P<family>[a-z]+(?:_[a-z]+)*)(?P<numbers>(?:_\d+)*)")

Numbers = tuple[int, ...]
Compute = Callable[[Candles, Numbers], Floats]


@dataclass(frozen=True, slots=True)
class Family:
    """How a kind of feature is computed, how far it looks back, and what it means."""

    compute: Compute
    window: Callable[[Numbers], int]
    """Bars it looks at, the current one included."""
    counts: Numbers
    """The smallest each number may be; as many as the name has."""
    meaning: str


@dataclass(frozen=True, slots=True)
class Feature:
    """One named feature; ``window`` bars, the current one included, decide its value."""

    name: str
    window: int
    compute: Callable[[Candles], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Features of every bar: ``values[bar, feature]``, float64, row-major, NaN in the warm-up."""

    names: tuple[str, ...]
    values: Floats
    warm_up: int
    """Rows at the start in which at least one feature is not known."""

    @property
    def usable(self) -> Floats:
        """The rows after the warm-up."""
        return self.values[self.warm_up :]


def feature(name: str) -> Feature:
    """Read a name. Raises ``CandlesError`` that tells the families or what a number may be."""
    found = _WRITTEN.fullmatch(name)
    family = FAMILIES.get(found["family"]) if found else None
    if found is None or family is None:
        raise CandlesError(f"there is no feature {name!r}; there are {', '.join(examples())}")
    numbers = tuple(int(number) for number in found["numbers"].split("_")[1:])
    if len(numbers) != len(family.counts):
        raise CandlesError(
            f"the feature {found['family']} takes {len(family.counts)} numbers, {name!r} has"
            f" {len(numbers)}; write it like {_example(found['family'], family)}"
        )
    for number, least in zip(numbers, family.counts, strict=True):
        if not least <= number <= LARGEST:
            raise CandlesError(f"{name!r}: a number here is from {least} to {LARGEST:,}")
    return Feature(name, family.window(numbers), lambda candles: family.compute(candles, numbers))


def warm_up(names: Sequence[str]) -> int:
    """How many rows at the start of a matrix of these features are not fully known."""
    return max((feature(name).window - 1 for name in names), default=0)


def matrix(candles: Candles, names: Sequence[str]) -> Matrix:
    """Every feature of every bar, (bars, features).

    Raises ``CandlesError`` for a feature that is none, one named twice, or bars that are no
    numbers above zero (volumes: not negative).
    """
    if len(set(names)) != len(names):
        raise CandlesError("a feature is named twice")
    wanted = [feature(name) for name in names]
    _check(candles)
    values = np.empty((len(candles), len(wanted)))
    for column, one in enumerate(wanted):
        values[:, column] = one.compute(candles)
    values.setflags(write=False)
    return Matrix(tuple(names), values, warm_up(names))


def latest(candles: Candles, names: Sequence[str]) -> Floats:
    """The last row of ``matrix(candles, names).values``, bit for bit, from the last bars alone.

    NaN where the bars do not fill a window. Raises what ``matrix`` raises, and ``CandlesError``
    without bars.
    """
    if not len(candles):
        raise CandlesError("there is no last bar")
    needed = warm_up(names) + 1
    recent = candles.rows(max(0, len(candles) - needed), len(candles))
    last: Floats = matrix(recent, names).values[-1]
    return last


def examples() -> list[str]:
    """One name of each family."""
    return [_example(name, family) for name, family in FAMILIES.items()]


def _example(name: str, family: Family) -> str:
    usual = {"macd": "12_26_9", "ema_ratio": "12_26", "sma_ratio": "20_60"}
    numbers = usual.get(name, "_".join("14" for _ in family.counts))
    return f"{name}_{numbers}" if numbers else name


def _check(candles: Candles) -> None:
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(candles, name)
        least = 0.0 if name == "volume" else np.nextafter(0.0, 1.0)
        if len(column) and not bool(np.isfinite(column).all() and (column >= least).all()):
            raise CandlesError(
                f"{candles.symbol} has a {name} that is no usable number: load candles through"
                " fleet.research.candles, which checks them"
            )


# --- the families --------------------------------------------------------------------------------


def _return(c: Candles, n: Numbers) -> Floats:
    return ind.log_return(c.close, n[0])


def _volatility(c: Candles, n: Numbers) -> Floats:
    return ind.deviation(ind.log_return(c.close, 1), n[0])


def _range_volatility(c: Candles, n: Numbers) -> Floats:
    return ind.parkinson(c.high, c.low, n[0])


def _sharpe(c: Candles, n: Numbers) -> Floats:
    steps = ind.log_return(c.close, 1)
    return ind.ratio(ind.mean(steps, n[0]), ind.deviation(steps, n[0]))


def _skew(c: Candles, n: Numbers) -> Floats:
    return ind.skewness(ind.log_return(c.close, 1), n[0])


def _autocorrelation(c: Candles, n: Numbers) -> Floats:
    return ind.autocorrelation(ind.log_return(c.close, 1), n[0])


def _rsi(c: Candles, n: Numbers) -> Floats:
    return ind.rsi(c.close, n[0])


def _ema(values: Floats, span: int) -> Floats:
    return ind.ema(values, span, ind.ema_window(span))


def _macd(c: Candles, n: Numbers) -> Floats:
    fast, slow, signal = n
    line = _ema(c.close, fast) - _ema(c.close, slow)
    return ind.ratio(line - _ema(line, signal), c.close)


def _ema_ratio(c: Candles, n: Numbers) -> Floats:
    return ind.ratio(_ema(c.close, n[0]), _ema(c.close, n[1])) - 1.0


def _sma_ratio(c: Candles, n: Numbers) -> Floats:
    return ind.ratio(ind.mean(c.close, n[0]), ind.mean(c.close, n[1])) - 1.0


def _sma_distance(c: Candles, n: Numbers) -> Floats:
    return ind.ratio(c.close, ind.mean(c.close, n[0])) - 1.0


def _bollinger(c: Candles, n: Numbers) -> Floats:
    return ind.z_score(c.close, n[0])


def _atr(c: Candles, n: Numbers) -> Floats:
    return ind.ratio(ind.mean(ind.true_range(c.high, c.low, c.close), n[0]), c.close)


def _stochastic(c: Candles, n: Numbers) -> Floats:
    low = ind.lowest(c.low, n[0])
    return ind.ratio(c.close - low, ind.highest(c.high, n[0]) - low)


def _drawdown(c: Candles, n: Numbers) -> Floats:
    return ind.ratio(c.close, ind.highest(c.high, n[0])) - 1.0


def _rise(c: Candles, n: Numbers) -> Floats:
    return ind.ratio(c.close, ind.lowest(c.low, n[0])) - 1.0


def _efficiency(c: Candles, n: Numbers) -> Floats:
    return ind.efficiency(c.close, n[0])


def _volume_z(c: Candles, n: Numbers) -> Floats:
    return ind.z_score(ind.log_plus(c.volume), n[0])


def _volume_ratio(c: Candles, n: Numbers) -> Floats:
    return ind.ratio(ind.mean(c.volume, n[0]), ind.mean(c.volume, n[1]))


def _pressure(c: Candles, n: Numbers) -> Floats:
    """Volume where the close lies in its range, -1 to 1 each (Chaikin money flow)."""
    place = ind.ratio((c.close - c.low) - (c.high - c.close), c.high - c.low)
    return ind.ratio(ind.mean(place * c.volume, n[0]), ind.mean(c.volume, n[0]))


def _body(c: Candles, _: Numbers) -> Floats:
    return ind.ratio(c.close - c.open, c.high - c.low)


def _upper_wick(c: Candles, _: Numbers) -> Floats:
    return ind.ratio(c.high - np.maximum(c.open, c.close), c.high - c.low)


def _lower_wick(c: Candles, _: Numbers) -> Floats:
    return ind.ratio(np.minimum(c.open, c.close) - c.low, c.high - c.low)


def _range(c: Candles, _: Numbers) -> Floats:
    return ind.ratio(c.high - c.low, c.close)


def _turn(c: Candles, period_ns: int) -> Floats:
    """Where in a day or week (from Monday) the bar ends, in turns from 0 to 1."""
    local = to_local(c.ts + c.interval_ns, zone_of(c.exchange))
    return np.asarray(((local + 3 * DAY) % period_ns) / period_ns, dtype=np.float64)


def _hour_sin(c: Candles, _: Numbers) -> Floats:
    return ind.wave(_turn(c, DAY), 0.0)


def _hour_cos(c: Candles, _: Numbers) -> Floats:
    return ind.wave(_turn(c, DAY), 0.25)


def _week_sin(c: Candles, _: Numbers) -> Floats:
    return ind.wave(_turn(c, WEEK), 0.0)


def _week_cos(c: Candles, _: Numbers) -> Floats:
    return ind.wave(_turn(c, WEEK), 0.25)


def _one(_: Numbers) -> int:
    return 1


def _first(n: Numbers) -> int:
    return n[0]


def _steps(n: Numbers) -> int:
    return n[0] + 1


def _longest(n: Numbers) -> int:
    return max(n)


def _longest_ema(n: Numbers) -> int:
    return max(map(ind.ema_window, n))


def _macd_window(n: Numbers) -> int:
    return max(map(ind.ema_window, n[:2])) + ind.ema_window(n[2]) - 1


FAMILIES: Final[dict[str, Family]] = {
    "return": Family(_return, _steps, (1,), "log return over n bars"),
    "volatility": Family(_volatility, _steps, (2,), "standard deviation of n log returns"),
    "range_volatility": Family(_range_volatility, _first, (1,), "Parkinson's, of n ranges"),
    "sharpe": Family(_sharpe, _steps, (2,), "mean over deviation of n log returns"),
    "skew": Family(_skew, _steps, (3,), "skewness of n log returns"),
    "autocorrelation": Family(_autocorrelation, _steps, (3,), "lag 1, of n log returns"),
    "rsi": Family(_rsi, _steps, (1,), "relative strength of n steps, 0 to 1 (Cutler)"),
    "macd": Family(_macd, _macd_window, (1, 1, 1), "fast, slow, signal; histogram over price"),
    "ema_ratio": Family(_ema_ratio, _longest_ema, (1, 1), "one exponential mean over another - 1"),
    "sma_ratio": Family(_sma_ratio, _longest, (1, 1), "one mean over another - 1"),
    "sma_distance": Family(_sma_distance, _first, (2,), "close over its mean - 1"),
    "bollinger": Family(_bollinger, _first, (2,), "deviations of the close from its mean"),
    "atr": Family(_atr, _steps, (1,), "mean true range over price"),
    "stochastic": Family(_stochastic, _first, (1,), "close between lowest and highest, 0 to 1"),
    "drawdown": Family(_drawdown, _first, (1,), "close under the highest high"),
    "rise": Family(_rise, _first, (1,), "close above the lowest low"),
    "efficiency": Family(_efficiency, _steps, (1,), "way gained over way gone, -1 to 1 (Kaufman)"),
    "volume_z": Family(_volume_z, _first, (2,), "deviations of the log volume from its mean"),
    "volume_ratio": Family(_volume_ratio, _longest, (1, 1), "one mean volume over another"),
    "pressure": Family(_pressure, _first, (1,), "volume by place of the close (Chaikin)"),
    "body": Family(_body, _one, (), "close - open over the range"),
    "upper_wick": Family(_upper_wick, _one, (), "above the body, over the range"),
    "lower_wick": Family(_lower_wick, _one, (), "below the body, over the range"),
    "range": Family(_range, _one, (), "high - low over price"),
    "hour_sin": Family(_hour_sin, _one, (), "time of day at the bar's end"),
    "hour_cos": Family(_hour_cos, _one, (), "time of day at the bar's end"),
    "week_sin": Family(_week_sin, _one, (), "time of week at the bar's end"),
    "week_cos": Family(_week_cos, _one, (), "time of week at the bar's end"),
}

DEFAULT: Final = (
    "return_1", "return_3", "return_6", "return_12", "return_24", "return_72",
    "volatility_24", "volatility_168", "range_volatility_24", "sharpe_48", "skew_48",
    "autocorrelation_48", "rsi_14", "rsi_48", "macd_12_26_9", "ema_ratio_12_48", "sma_ratio_20_60",
    "bollinger_20", "bollinger_72", "atr_14", "stochastic_24", "drawdown_168", "rise_168",
    "efficiency_24", "volume_z_48", "volume_ratio_6_48", "pressure_24", "body", "upper_wick",
    "lower_wick", "range", "hour_sin", "hour_cos", "week_sin", "week_cos",
)  # fmt: skip
"""What a study screens when nobody names features."""
