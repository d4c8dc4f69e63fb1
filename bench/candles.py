"""A year of one-minute candles, seeded: what the candle programs of ours and the peers read.

Prices have two decimals; opens jump a little from the close before. ``candles.py FILE`` writes
float64[bars, 6]: time (ns), open, high, low, close, volume, as numpy's own format.
"""

from __future__ import annotations

import sys

import numpy as np

BARS = 525_600
MINUTE_NS = 60_000_000_000
START_NS = 1_700_000_040_000_000_000
CASH = 10_000_000
ENTRY = 100_000
"""Dollars an entry may cost at most: a fixed stake, because the fees of ten thousand trades would
eat all that is staked in shares of what is left, and tiny differences would grow without bound."""
FEE = 0.001
FAST, SLOW = 20, 60
TICK, LOT = 0.01, 0.0001


def make(bars: int = BARS, seed: int = 6) -> np.ndarray:
    """A walk of 0.05 % a minute around 3,000."""
    chance = np.random.default_rng(seed)
    close = np.round(3000 * np.exp(np.cumsum(chance.normal(0, 5e-4, bars))), 2)
    before = np.concatenate([[3000.0], close[:-1]])
    opening = np.round(before * np.exp(chance.normal(0, 1e-4, bars)), 2)
    reach = np.abs(chance.normal(0, 3e-4, (2, bars)))
    high = np.round(np.maximum(opening, close) * (1 + reach[0]), 2)
    low = np.round(np.minimum(opening, close) * (1 - reach[1]), 2)
    times = START_NS + MINUTE_NS * np.arange(bars, dtype=np.float64)
    return np.column_stack([times, opening, high, low, close, np.full(bars, 10.0)])


if __name__ == "__main__":
    np.save(sys.argv[1], make())
