"""Indicators with a finite memory, compiled: each value is made of its last bars, in their order.

Every kernel walks its window from the oldest bar to the newest and keeps no running state. That
costs a loop a bar (a window of 60 over a year of minutes: about 30 ms), and buys what running
sums and recursive averages cannot give: the value at a bar is *bit for bit* the same whether the
series began a year or a window ago, so that a bot after a restart sees what the sweep saw.
Exponential averages are therefore cut after ``ema_window`` bars, where their weights have decayed
below 2 %, and divided by the sum of the weights used.

Kernels return NaN until their window is full and never after it; a spread of zero (a price that
stood still) gives 0, not infinity. Inputs are finite: ``features`` checks. No fastmath: it would
let the compiler change the order of the sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
from numba import njit

from fleet.research.series import Floats

F = TypeVar("F", bound=Callable[..., Any])
EMA_SPANS: Final = 2
"""A span n has weights (1 - 2/(n+1))^k: after 2 n bars they are exp(-4), 1.8 %, of the first."""


def compiled(function: F) -> F:
    """Compile for numbers only, cached beside the source, without the interpreter's lock."""
    return cast("F", njit(cache=True, nogil=True)(function))


def ema_window(span: int) -> int:
    """How many bars an exponential average of ``span`` looks at."""
    return EMA_SPANS * span


@compiled
def log_return(price: Floats, bars: int) -> Floats:
    """ln(p[i] / p[i - bars]); looks at bars + 1."""
    out = np.full(price.size, np.nan)
    for i in range(bars, price.size):
        out[i] = math.log(price[i] / price[i - bars])
    return out


@compiled
def mean(values: Floats, window: int) -> Floats:
    """Arithmetic mean of the last ``window``; NaN while any of them is."""
    out = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        total = 0.0
        for k in range(i - window + 1, i + 1):
            total += values[k]
        out[i] = total / window
    return out


@compiled
def deviation(values: Floats, window: int) -> Floats:
    """Standard deviation (by n) of the last ``window``, in two passes."""
    out = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        total = 0.0
        for k in range(i - window + 1, i + 1):
            total += values[k]
        centre = total / window
        squares = 0.0
        for k in range(i - window + 1, i + 1):
            squares += (values[k] - centre) * (values[k] - centre)
        out[i] = math.sqrt(squares / window)
    return out


@compiled
def z_score(values: Floats, window: int) -> Floats:
    """How many deviations the last value is from the mean of its ``window``; 0 if all are alike."""
    out = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        total = 0.0
        for k in range(i - window + 1, i + 1):
            total += values[k]
        centre = total / window
        squares = 0.0
        for k in range(i - window + 1, i + 1):
            squares += (values[k] - centre) * (values[k] - centre)
        spread = math.sqrt(squares / window)
        # A sum of equal floats may miss their value by some units in the last place.
        flat = spread <= 1e-12 * abs(centre)
        out[i] = 0.0 if flat else (values[i] - centre) / spread
        if math.isnan(centre):
            out[i] = np.nan
    return out


@compiled
def skewness(values: Floats, window: int) -> Floats:
    """Third standardised moment (by n) of the last ``window``; 0 if all are alike."""
    out = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        total = 0.0
        for k in range(i - window + 1, i + 1):
            total += values[k]
        if math.isnan(total):
            continue
        centre = total / window
        squares = cubes = 0.0
        for k in range(i - window + 1, i + 1):
            away = values[k] - centre
            squares += away * away
            cubes += away * away * away
        spread = math.sqrt(squares / window)
        flat = spread <= 1e-12 * abs(centre) or spread == 0.0
        out[i] = 0.0 if flat else (cubes / window) / (spread * spread * spread)
    return out


@compiled
def autocorrelation(values: Floats, window: int) -> Floats:
    """Correlation of neighbours (lag 1) within the last ``window``; 0 if all are alike."""
    out = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        total = 0.0
        for k in range(i - window + 1, i + 1):
            total += values[k]
        if math.isnan(total):
            continue
        centre = total / window
        squares = products = 0.0
        for k in range(i - window + 1, i + 1):
            squares += (values[k] - centre) * (values[k] - centre)
            if k > i - window + 1:
                products += (values[k] - centre) * (values[k - 1] - centre)
        out[i] = 0.0 if squares <= 1e-24 * centre * centre else products / squares
    return out


@compiled
def ema(values: Floats, span: int, window: int) -> Floats:
    """Exponential average of ``span`` over the last ``window`` (``ema_window(span)``)."""
    out = np.full(values.size, np.nan)
    kept = 1.0 - 2.0 / (span + 1.0)
    for i in range(window - 1, values.size):
        total = weights = 0.0
        for k in range(i - window + 1, i + 1):
            total = total * kept + values[k]
            weights = weights * kept + 1.0
        out[i] = total / weights
    return out


@compiled
def highest(values: Floats, window: int) -> Floats:
    """Largest of the last ``window``."""
    out = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        top = values[i - window + 1]
        for k in range(i - window + 2, i + 1):
            top = max(top, values[k])
        out[i] = top
    return out


@compiled
def lowest(values: Floats, window: int) -> Floats:
    """Smallest of the last ``window``."""
    out = np.full(values.size, np.nan)
    for i in range(window - 1, values.size):
        bottom = values[i - window + 1]
        for k in range(i - window + 2, i + 1):
            bottom = min(bottom, values[k])
        out[i] = bottom
    return out


@compiled
def rsi(close: Floats, window: int) -> Floats:
    """Relative strength with plain averages (Cutler's), 0 to 1; 0.5 if the price stood still.

    Wilder's own average never forgets its first bar; this one looks at window + 1.
    """
    out = np.full(close.size, np.nan)
    for i in range(window, close.size):
        up = down = 0.0
        for k in range(i - window + 1, i + 1):
            step = close[k] - close[k - 1]
            if step > 0.0:
                up += step
            else:
                down -= step
        out[i] = 0.5 if up + down == 0.0 else up / (up + down)
    return out


@compiled
def true_range(high: Floats, low: Floats, close: Floats) -> Floats:
    """The bar's range, with the way from the close before (Wilder 1978); NaN at the first bar."""
    out = np.full(close.size, np.nan)
    for i in range(1, close.size):
        top, bottom = max(high[i], close[i - 1]), min(low[i], close[i - 1])
        out[i] = top - bottom
    return out


@compiled
def efficiency(close: Floats, bars: int) -> Floats:
    """Kaufman's efficiency ratio with a sign: the way gained over the way gone, -1 to 1."""
    out = np.full(close.size, np.nan)
    for i in range(bars, close.size):
        gone = 0.0
        for k in range(i - bars + 1, i + 1):
            gone += abs(close[k] - close[k - 1])
        out[i] = 0.0 if gone == 0.0 else (close[i] - close[i - bars]) / gone
    return out


@compiled
def parkinson(high: Floats, low: Floats, window: int) -> Floats:
    """Volatility a bar from ranges: sqrt(mean(ln(h/l)^2) / (4 ln 2)) (Parkinson 1980)."""
    out = np.full(high.size, np.nan)
    for i in range(window - 1, high.size):
        total = 0.0
        for k in range(i - window + 1, i + 1):
            way = math.log(high[k] / low[k])
            total += way * way
        out[i] = math.sqrt(total / (window * 4.0 * math.log(2.0)))
    return out


@compiled
def ratio(upper: Floats, lower: Floats) -> Floats:
    """Place by place; 0 where ``lower`` is 0, NaN where either is."""
    out = np.full(upper.size, np.nan)
    for i in range(upper.size):
        if lower[i] == 0.0 and not math.isnan(upper[i]):
            out[i] = 0.0
        else:
            out[i] = upper[i] / lower[i]
    return out


@compiled
def log_plus(values: Floats) -> Floats:
    """ln(1 + v): volumes on a scale on which twice is as far up as half is down."""
    out = np.empty(values.size)
    for i in range(values.size):
        out[i] = math.log(1.0 + values[i])
    return out


@compiled
def wave(phase: Floats, quarter: float) -> Floats:
    """sin(2 pi (phase + quarter)): 0 gives the sine of a phase in turns, 0.25 its cosine."""
    out = np.empty(phase.size)
    for i in range(phase.size):
        out[i] = math.sin(2.0 * math.pi * (phase[i] + quarter))
    return out
