"""Candles no market ever made, from a seed: for trying the machinery without data or network.

The log price moves with a volatility that follows a slow autoregression (calm and wild times
cluster, as they do in markets) and fat-tailed shocks; there is no drift and no pattern, so that an
edge found here is a mistake. Volumes rise with the size of a move. The ``source`` is ``synthetic``
and stays so through resampling, files and reports: whoever shows a result of these must say it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fleet.research.intervals import DAY, CandlesError
from fleet.research.series import Candles, Floats

SOURCE: Final = "synthetic"
START_NS: Final = 1_704_067_200_000_000_000
"""2024-01-01 00:00 UTC: a round date that says it was chosen."""
START_PRICE: Final = 2_000.0
TICK: Final = 0.01
YEAR_VOLATILITY: Final = 0.6
"""A year's standard deviation, about that of ETH (ETHUSDT 1h, 2023-01 to 2025-06: 0.61)."""
PERSISTENCE_DAYS: Final = 3.0
VOLATILITY_OF_VOLATILITY: Final = 0.5
DEGREES: Final = 5.0
"""Of freedom of Student's t: tails as fat as those of daily and hourly returns (Cont 2001)."""
MAX_BARS: Final = 10_000_000
PATH_STEPS: Final = 6


def synthetic_candles(
    bars: int,
    *,
    seed: int,
    interval_ns: int,
    symbol: str = "SYNTHETIC",
    exchange: str = "NOWHERE",
    start_ns: int = START_NS,
    start_price: float = START_PRICE,
) -> Candles:
    """``bars`` candles from ``start_ns``; the same seed and arguments give the same bars.

    Prices are multiples of 0.01, open within low to high, each bar opening at the close before.
    Raises ``CandlesError`` for a number of bars nobody can use.
    """
    if not 0 < bars <= MAX_BARS:
        raise CandlesError(f"{bars} synthetic bars; ask for 1 to {MAX_BARS:,}")
    chance = np.random.Generator(np.random.PCG64(seed))
    volatility = _clustered(chance, bars, interval_ns)
    shocks = chance.standard_t(DEGREES, (bars, PATH_STEPS)) * np.sqrt((DEGREES - 2.0) / DEGREES)
    steps = shocks * (volatility / np.sqrt(PATH_STEPS))[:, None]
    path = np.log(start_price) + np.cumsum(steps.ravel()).reshape(bars, PATH_STEPS)
    prices = np.maximum(np.round(np.exp(path) / TICK) * TICK, TICK)
    close = np.ascontiguousarray(prices[:, -1])
    opened = np.concatenate(([start_price], close[:-1]))
    high = np.maximum(prices.max(axis=1), opened)
    low = np.minimum(prices.min(axis=1), opened)
    moved = np.abs(np.log(close / opened)) / volatility
    volume = np.round(np.exp(chance.normal(5.0, 0.6, bars)) * (0.5 + moved), 4)
    return Candles(
        symbol=symbol, exchange=exchange, interval_ns=interval_ns,
        ts=start_ns + np.arange(bars, dtype=np.int64) * interval_ns,
        open=opened, high=high, low=low, close=close, volume=volume, source=SOURCE,
    )  # fmt: skip


def _clustered(chance: np.random.Generator, bars: int, interval_ns: int) -> Floats:
    """A bar's volatility over time: the exponential of a first-order autoregression."""
    usual = YEAR_VOLATILITY * np.sqrt(interval_ns / (365.25 * DAY))
    kept = float(np.exp(-interval_ns / (PERSISTENCE_DAYS * DAY)))
    noise = chance.standard_normal(bars) * VOLATILITY_OF_VOLATILITY * np.sqrt(1.0 - kept**2)
    level = np.empty(bars)
    state = 0.0
    for n, shock in enumerate(noise.tolist()):
        state = kept * state + shock
        level[n] = state
    return np.asarray(usual * np.exp(level - VOLATILITY_OF_VOLATILITY**2 / 2.0))
