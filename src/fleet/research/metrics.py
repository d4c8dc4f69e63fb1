"""How good a run of equity was, and whether chance could have made it.

Returns are simple returns from one bar's close to the next; ratios are annualised by the bars of a
year, of which a market that never shuts has 365 days' worth. A figure that cannot be known (no
trade, nothing that varied) is NaN, never 0. One compiled pass over the equity gives all moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fleet.domain.units import SCALE
from fleet.strategies import decision as d

NS_PER_YEAR: Final = 365 * 86_400 * 1_000_000_000
EULER: Final = 0.5772156649015329
"""Euler's constant, for the expected maximum of independent normals."""
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """One run in figures. Ratios are annual; ``turnover`` is notional traded over mean equity.

    ``exposure`` is the share of bars that closed with something held; ``win_rate`` and
    ``profit_factor`` (gross profit over gross loss) are of the ``trades`` that were bought and sold
    again, fees in; ``fees`` in quote currency. ``skew`` and ``kurtosis`` (3 for a normal) are of
    the returns of a bar, ``sharpe_bar`` is the Sharpe ratio of a bar.
    """

    bars: int
    total_return: float
    cagr: float
    sharpe: float
    sortino: float
    max_drawdown: float
    exposure: float
    turnover: float
    win_rate: float
    profit_factor: float
    trades: int
    fees: float
    sharpe_bar: float
    skew: float
    kurtosis: float


@njit(**d.COMPILED)  # type: ignore[untyped-decorator]
def _moments(equity: d.Integers, out: NDArray[np.float64]) -> None:
    """Raw sums over the returns: 1st to 4th power, squares of losses; drawdown; sum of equity."""
    one = two = three = four = below = total = 0.0
    last = float(equity[0])
    peak = crest = trough = last
    for value in equity:
        now = float(value)
        total += now
        if now == last:
            continue
        move = now / last - 1.0
        loss = min(move, 0.0)
        square = move * move
        one += move
        two += square
        three += square * move
        four += square * square
        below += loss * loss
        peak = max(peak, now)
        if now * crest < trough * peak:  # A deeper share of its peak than any before.
            trough, crest = now, peak
        last = now
    out[0], out[1], out[2], out[3] = one, two, three, four
    out[4], out[5], out[6] = below, trough / crest - 1.0, total


def performance(
    equity: d.Integers, fills: d.Integers, start: int, bars_per_year: float
) -> Performance:
    """Figures of ``equity`` (at 1e-8, one a bar) that began as ``start`` and of its ``fills``.

    The first bar's return counts from its own close. Raises ``ValueError`` for no bars, or if the
    start is not positive.
    """
    bars = len(equity)
    if not bars or start <= 0:
        raise ValueError("performance needs at least one bar and a start above zero")
    sums = np.empty(7)
    _moments(equity, sums)
    n = bars - 1
    mean, second, third, fourth = (float(s) / n for s in sums[:4]) if n else (math.nan,) * 4
    variance = second - mean * mean
    deviation = math.sqrt(variance) if variance > 0 else math.nan
    skew = (third - 3 * mean * second + 2 * mean**3) / deviation**3
    kurtosis = (fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4) / deviation**4
    downside = math.sqrt(sums[4] / n) if n and sums[4] > 0 else math.nan
    final = float(equity[-1]) / start
    years = bars / bars_per_year
    profits, traded, held = _trades(fills, bars)
    gains, losses = profits[profits > 0].sum(), -profits[profits < 0].sum()
    return Performance(
        bars=bars,
        total_return=final - 1.0,
        cagr=_power(final, 1 / years) - 1.0,
        sharpe=mean / deviation * math.sqrt(bars_per_year),
        sortino=mean / downside * math.sqrt(bars_per_year),
        max_drawdown=float(sums[5]),
        exposure=held / bars,
        turnover=traded / (float(sums[6]) / bars),
        win_rate=float((profits > 0).mean()) if len(profits) else math.nan,
        profit_factor=float(gains / losses) if losses > 0 else math.nan,
        trades=len(profits),
        fees=float(fills[:, d.PAID_FEE].sum()) / SCALE,
        sharpe_bar=mean / deviation,
        skew=skew,
        kurtosis=kurtosis,
    )


def _power(base: float, exponent: float) -> float:
    """A power that a short series does not overflow; -1 a year when all is lost."""
    if base <= 0:
        return 0.0
    return math.exp(min(700.0, math.log(base) * exponent))


def notionals(fills: d.Integers) -> d.Integers:
    """Signed cash of each fill at 1e-8, without its fee: paid is negative (rounded up)."""
    price, qty = fills[:, d.PRICE], np.abs(fills[:, d.QTY])
    part, rest = price % SCALE, qty % SCALE
    down = price // SCALE * qty + part * (qty // SCALE) + part * rest // SCALE
    up = down + (part * rest % SCALE > 0)
    signed: d.Integers = np.where(fills[:, d.QTY] > 0, -up, down)
    return signed


def _trades(fills: d.Integers, bars: int) -> tuple[d.Integers, float, int]:
    """Profit of each closed trade, notional of all fills, and bars that closed with a holding."""
    cash = notionals(fills)
    bought = fills[:, d.QTY] > 0
    net = cash - fills[:, d.PAID_FEE]
    ins, outs = fills[bought, d.BAR], fills[~bought, d.BAR]
    closed = len(outs)
    profits = net[bought][:closed] + net[~bought]
    held = int((outs - ins[:closed]).sum()) + (bars - int(ins[-1]) if len(ins) > closed else 0)
    return profits, float(np.abs(cash).sum()), held


def expected_maximum(trials: int, deviation: float) -> float:
    """The greatest of ``trials`` independent Sharpe ratios whose true value is zero.

    Bailey and Lopez de Prado, "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5),
    2014, equation 1. ``deviation`` is that of the ratios tried, in the unit the answer has.
    """
    if trials < 2:
        return 0.0
    first = _NORMAL.inv_cdf(1 - 1 / trials)
    second = _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return deviation * ((1 - EULER) * first + EULER * second)


def deflated_sharpe(found: Performance, tried: Sequence[float]) -> float:
    """The probability that the true Sharpe ratio is above zero, given how many were tried.

    ``tried`` are the Sharpe ratios *of a bar* of every trial, the chosen one included; one alone
    gives the probabilistic Sharpe ratio. Same source, equation 2. NaN when nothing varied.
    """
    ratios = np.array([ratio for ratio in tried if not math.isnan(ratio)])
    deviation = float(ratios.std(ddof=1)) if len(ratios) > 1 else 0.0
    hurdle = expected_maximum(len(ratios), deviation)
    ratio = found.sharpe_bar
    spread = 1 - found.skew * ratio + (found.kurtosis - 1) / 4 * ratio * ratio
    if math.isnan(spread) or spread <= 0:
        return math.nan
    return _NORMAL.cdf((ratio - hurdle) * math.sqrt(found.bars - 2) / math.sqrt(spread))


def p_value(observed: float, chance: NDArray[np.float64]) -> float:
    """The share of chance results at least as good, the observed one counted among them.

    Phipson and Smyth, "Permutation P-values Should Never Be Zero", Statistical Applications in
    Genetics and Molecular Biology 9(1), 2010.
    """
    return float((1 + np.count_nonzero(chance >= observed)) / (1 + len(chance)))


def timing_p_value(
    positions: NDArray[np.float64], returns: NDArray[np.float64], *, shifts: int, seed: int
) -> float:
    """Could the same holdings at other times have earned as much?

    ``positions[i]`` is the share held over ``returns[i]``. They are turned around the calendar
    against each other by random distances, which keeps the length of holdings and the memory of
    the market, and breaks only their timing (Aronson, "Evidence-Based Technical Analysis", 2006,
    chapter 6, in the circular form of Politis and Romano 1992). Gross of fees. All distances are
    worked out at once by a Fourier transform.
    """
    if len(positions) != len(returns) or len(returns) < 2:
        raise ValueError("positions and returns must have the same length, two at least")
    spectrum: Any = np.conj(np.fft.rfft(positions)) * np.fft.rfft(returns)
    earned = np.fft.irfft(spectrum, len(returns))
    distances = np.random.default_rng(seed).integers(1, len(returns), shifts)
    # A transform's rounding must not tell equal from equal.
    slack = 1e-9 * float(np.abs(earned).max())
    return p_value(float(earned[0]) - slack, earned[distances])
