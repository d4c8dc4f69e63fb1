"""The order-flow parameters of the simulator: a small table of quantiles, and how to draw from it.

The table was fitted by ``scripts/fit_sandbox.py`` on 2026-11-20 to the recordings of 2025-06-17 and
2025-06-19 in ``orderbook/signaldrift_mlb_2025`` (twelve baseball games, full depth, one token each;
22,100 price_change and 803 book frames). The games of 2025-06-24 were kept out of the fit and
judge it: ``docs/sandbox.md`` has the comparison, ``tests/replay/test_sandbox_fit.py`` repeats it.
Only these few quantiles are here, never the recordings themselves.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LEVELS_AT: Final = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)
"""The probabilities the tables' values belong to."""


@dataclass(frozen=True, slots=True)
class QuantileTable:
    """A distribution given by its quantiles at ``LEVELS_AT``, straight lines between them.

    ``log`` joins positive values by straight lines of their logarithm, right for heavy tails.
    Draws stay within the outermost quantiles: rarer extremes are left out on purpose.
    """

    values: tuple[float, ...]
    log: bool = False

    def __post_init__(self) -> None:
        """Refuse a table that is not one ascending value per probability."""
        if len(self.values) != len(LEVELS_AT) or list(self.values) != sorted(self.values):
            raise ValueError(f"need {len(LEVELS_AT)} ascending quantiles, got {self.values}")
        if self.log and self.values[0] <= 0:
            raise ValueError("a logarithmic table needs positive values")

    def at(self, probability: float) -> float:
        """The quantile at ``probability`` in 0..1."""
        if probability <= LEVELS_AT[0]:
            return self.values[0]
        if probability >= LEVELS_AT[-1]:
            return self.values[-1]
        right = bisect_right(LEVELS_AT, probability)
        low, high = self.values[right - 1], self.values[right]
        share = (probability - LEVELS_AT[right - 1]) / (LEVELS_AT[right] - LEVELS_AT[right - 1])
        if self.log:
            return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        return low + share * (high - low)

    def draw(self, rng: random.Random) -> float:
        """One sample."""
        return self.at(rng.random())


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFit:
    """What the recordings say about one market's flow; prices in dollars, sizes in shares."""

    interarrival_ms: QuantileTable
    spread: QuantileTable
    levels: QuantileTable
    touch_size: QuantileTable
    change_size: QuantileTable
    change_distance: QuantileTable
    trade_size: QuantileTable
    changes: Sequence[float]
    """Share of messages with 1, 2, 3, ... level changes."""
    book_share: float
    """Share of ``book`` among a token's frames: one follows each trade."""
    add_share: float
    """Share of level changes that make a new level (as many remove one)."""


FITTED: Final = FlowFit(
    interarrival_ms=QuantileTable((45, 73, 134, 285, 794, 2765, 5623, 21024), log=True),
    spread=QuantileTable((0.01, 0.01, 0.02, 0.03, 0.05, 0.09, 0.14, 0.34), log=True),
    levels=QuantileTable((4, 6, 9, 12, 14, 16, 17, 20)),
    touch_size=QuantileTable((11.2, 23.75, 66.8, 400, 1103.97, 10000, 15961, 75382), log=True),
    change_size=QuantileTable((10, 50, 50, 300, 1899.5, 14123, 20000, 33903), log=True),
    change_distance=QuantileTable((-0.01, 0, 0.01, 0.03, 0.06, 0.11, 0.21, 0.571)),
    # Above the 0.9 quantile the recordings mix trades with what was missed in their gaps.
    trade_size=QuantileTable((0.27, 2.11, 6.25, 33, 160, 772, 772, 772), log=True),
    changes=(0.69, 0.20, 0.06, 0.04, 0.01),
    book_share=0.0358,
    add_share=0.233,
)
