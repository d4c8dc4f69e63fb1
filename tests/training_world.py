"""Candles for the tests of training: with an edge planted by the hour, and plain noise."""

import numpy as np

from fleet.research.intervals import HOUR
from fleet.research.series import Candles
from fleet.research.training_plan import Plan

START_NS = 1_704_067_200_000_000_000
SMALL = Plan(trials=4, horizons=(4, 12), search_folds=3, walk_folds=3, shifts=200)


def candles(bars: int, *, seed: int, drift: float, symbol: str = "ETHUSDT") -> Candles:
    """Hours of noise; up by ``drift`` until noon, down by it after, which no plain rule can say."""
    rng = np.random.default_rng(seed)
    sign = np.where(np.arange(bars) % 24 < 12, 1.0, -1.0)
    moves = sign * drift + rng.normal(0.0, 0.006, bars)
    close = np.round(2_000.0 * np.exp(np.cumsum(moves - moves.mean())), 2)
    opened = np.concatenate(([2_000.0], close[:-1]))
    return Candles(
        symbol=symbol, exchange="BINANCE", interval_ns=HOUR,
        ts=START_NS + np.arange(bars, dtype=np.int64) * HOUR,
        open=opened, high=np.round(np.maximum(opened, close) * 1.001, 2),
        low=np.round(np.minimum(opened, close) * 0.999, 2), close=close,
        volume=np.round(100.0 + rng.random(bars), 4), source="test",
    )  # fmt: skip
