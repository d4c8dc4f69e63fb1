"""Candles made ready for training: features, labels, and what trading them costs.

The label of row i is whether buying at the open of bar i + 1 and selling ``horizon`` bars later
would have paid its fees and slippage; it is NaN where that is not known yet. Features of row i are
known when bar i has closed (``features``). Nothing here chooses anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.research.features import matrix
from fleet.research.intervals import STOCK_EXCHANGES
from fleet.research.metrics import NS_PER_YEAR
from fleet.research.series import Candles, Floats
from fleet.research.sweep import Bars
from fleet.research.training_plan import Plan, TrainingError
from fleet.strategies.rules import Terms

BARS_MIN: Final = 1_000
"""Fewer bars do not fill the windows of the features and three parts besides."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """One series with its features; rows are bars. ``values`` has a column for each of ``names``.

    ``labels`` are worked out once for each horizon asked for.
    """

    candles: Candles
    terms: Terms
    cash: Cash
    names: tuple[str, ...]
    values: Floats
    warm_up: int
    bars_per_year: float
    _labels: dict[int, Floats] = field(default_factory=dict)
    _bars: dict[tuple[int, int], Bars] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many bars."""
        return len(self.candles)

    def labels(self, horizon: int) -> Floats:
        """1 where the move paid, 0 where not, NaN where the bars end before it is known."""
        found = self._labels.get(horizon)
        if found is None:
            opens = self.candles.open
            found = np.full(len(opens), np.nan)
            if len(opens) > horizon + 1:
                move = np.log(opens[horizon + 1 :] / opens[1 : len(opens) - horizon])
                found[: len(move)] = move > self.hurdle
            self._labels[horizon] = found
        return found

    @property
    def hurdle(self) -> float:
        """The log move that buying and selling again costs."""
        fee, slip = self.terms.fee_rate / SCALE, self.terms.slippage / SCALE
        return math.log((1 + slip) * (1 + fee) / ((1 - slip) * (1 - fee)))

    def columns(self, names: tuple[str, ...]) -> Floats:
        """The columns of ``names``, in their order, row-major."""
        places = [self.names.index(name) for name in names]
        return np.ascontiguousarray(self.values[:, places])

    def bars(self, first: int, last: int) -> Bars:
        """Rows ``first`` to before ``last`` on the tick grid."""
        found = self._bars.get((first, last))
        if found is None:
            found = self._bars[first, last] = Bars.of(
                self.candles.rows(first, last), self.terms.tick, bars_per_year=self.bars_per_year
            )
        return found

    def volatility(self, first: int, last: int) -> float:
        """The standard deviation of a bar's simple return over some rows."""
        close = self.candles.close[first:last]
        return float(np.std(close[1:] / close[:-1] - 1.0))


def training_set(
    candles: Candles, plan: Plan, *, names: tuple[str, ...] = (), terms: Terms | None = None
) -> TrainingSet:
    """Compute features (``names``, by default the plan's) of all bars.

    Raises ``TrainingError`` for too few bars and ``CandlesError`` for unusable ones.
    """
    if len(candles) < BARS_MIN:
        raise TrainingError(
            f"{candles.symbol} has {len(candles)} bars, training needs {BARS_MIN} at least: load"
            " a longer time or a shorter interval"
        )
    computed = matrix(candles, names or plan.features)
    years = (int(candles.ts[-1] - candles.ts[0]) + candles.interval_ns) / NS_PER_YEAR
    return TrainingSet(
        candles=candles, terms=terms or usual_terms(candles, plan), cash=Cash(plan.cash * SCALE),
        names=computed.names, values=computed.values, warm_up=computed.warm_up,
        bars_per_year=len(candles) / years,
    )  # fmt: skip


def usual_terms(candles: Candles, plan: Plan) -> Terms:
    """The plan's costs, with steps of the size venues use at such a price.

    Shares move in cents; coins in about 1e-5 of their price, in lots worth a few cents at most.
    A venue's own instrument goes before this: give its terms where they are known.
    """
    if candles.exchange.upper() in STOCK_EXCHANGES:
        tick, lot = SCALE // 100, SCALE // 10_000
    else:
        magnitude = math.floor(math.log10(float(np.median(candles.close))))
        tick = max(1, round(SCALE * 10.0 ** (magnitude - 5)))
        lot = max(1, round(10.0 ** (6 - magnitude)))
    return Terms(tick=Price(tick), lot=Qty(lot), fee_rate=plan.fee_rate, slippage=plan.slippage)
