"""The loop driver: a rule over candles by the compiled loop, once or a thousand times.

``run`` gives fills and equity of one rule; ``sweep`` the performance of many, on threads, because
the loop holds no lock of the interpreter. Both call ``decision.simulate``, which repeats the very
step the engine's strategy calls bar by bar; ``research.engine_driver`` proves it on the same bars.
Past prices only; nothing here trades.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from fleet.domain.units import SCALE, Cash, Price
from fleet.research.metrics import NS_PER_YEAR, Performance, performance
from fleet.research.series import Candles
from fleet.strategies import decision as d
from fleet.strategies.rules import Rule, Terms, memory_of, parameters

TICKS_MAX: Final = 100_000_000
"""The most ticks of a price: beyond, the price of a fill could not be told from its cost."""
ONE_FILL_IN: Final = 16
"""Bars for each fill that is given room at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Candles on a tick grid: whole ticks, int32, one row a bar.

    Without extremes ``high`` and ``low`` are the closes themselves.
    """

    tick: Price
    bars_per_year: float
    open: d.Ticks
    high: d.Ticks
    low: d.Ticks
    close: d.Ticks

    def __len__(self) -> int:
        """How many bars."""
        return len(self.close)

    @classmethod
    def of(
        cls,
        candles: Candles,
        tick: Price,
        *,
        extremes: bool = True,
        bars_per_year: float | None = None,
    ) -> Bars:
        """Bring candles to the grid, each price to the nearest tick.

        ``bars_per_year`` is by default that of a market that never shuts. Raises ``ValueError`` for
        a price that is no number, not positive, or of more than ``TICKS_MAX`` ticks.
        """
        columns = [candles.close, candles.open]
        columns += [candles.high, candles.low] if extremes else []
        # One block: the system hands out large ones in large pages, which cost less to begin.
        ticks = np.empty((len(columns), len(candles)), np.int32)
        for prices, out in zip(columns, ticks, strict=True):
            _to_ticks(prices, tick, out, candles.symbol)
        return cls(
            tick=tick,
            bars_per_year=bars_per_year or NS_PER_YEAR / candles.interval_ns,
            open=ticks[1],
            high=ticks[2] if extremes else ticks[0],
            low=ticks[3] if extremes else ticks[0],
            close=ticks[0],
        )


@njit(**d.COMPILED)  # type: ignore[untyped-decorator]
def _round(prices: d.Floats, factor: float, out: d.Ticks) -> int:
    """Fill ``out`` with ticks; the first row that cannot be, or -1."""
    for i in range(prices.size):
        ticks = np.rint(prices[i] * factor)
        if not 1.0 <= ticks <= TICKS_MAX:
            return i
        out[i] = int(ticks)
    return -1


def _to_ticks(prices: d.Floats, tick: Price, out: d.Ticks, symbol: str) -> None:
    wrong = _round(np.ascontiguousarray(prices, np.float64), SCALE / tick, out)
    if wrong >= 0:
        raise ValueError(
            f"{symbol}: price {prices[wrong]} of bar {wrong} is not between 1 and {TICKS_MAX} ticks"
            f" of {tick / SCALE}; clean the candles or choose another tick"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a rule did. ``fills`` has the columns of ``decision``; money and quantities at 1e-8.

    ``equity`` is cash and holding at each close; ``missed`` orders were beyond their collar.
    """

    fills: d.Integers
    equity: d.Integers
    cash: int
    held: int
    missed: int
    performance: Performance


def run(
    bars: Bars, rule: Rule, terms: Terms, cash: Cash, scores: d.Floats | None = None
) -> Outcome:
    """Trade all bars by one rule, from ``cash`` on.

    ``scores`` (one a bar, NaN for no opinion) is what a ``model_threshold`` rule needs. Raises
    ``ValueError`` if bars, terms or scores do not go together.
    """
    return Loop(bars, terms, cash, scores).outcome(rule)


def sweep(
    bars: Bars,
    rules: Sequence[Rule],
    terms: Terms,
    cash: Cash,
    *,
    scores: d.Floats | None = None,
    workers: int | None = None,
) -> list[Performance]:
    """The performance of each rule, in their order; ``workers`` threads (default: one a core)."""
    local = threading.local()

    def measure(rule: Rule) -> Performance:
        loop: Loop | None = getattr(local, "loop", None)
        if loop is None:
            loop = local.loop = Loop(bars, terms, cash, scores)
        return loop.performance(rule)

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(measure, rules))


class Loop:
    """The loop over one set of bars, for one thread: the arrays it writes to are used again."""

    def __init__(
        self, bars: Bars, terms: Terms, cash: Cash, scores: d.Floats | None = None
    ) -> None:
        """Trade ``bars`` on ``terms``, from ``cash`` on. Raises ``ValueError`` as ``run`` does."""
        if terms.tick != bars.tick:
            raise ValueError(f"the bars are in ticks of {bars.tick}, the terms say {terms.tick}")
        if scores is not None and len(scores) != len(bars):
            raise ValueError(f"{len(scores)} scores for {len(bars)} bars")
        if not len(bars) or cash <= 0:
            raise ValueError("a run needs at least one bar, and cash")
        self._bars = bars
        self._terms = terms
        self._cash = int(cash)
        self._scores = np.ascontiguousarray(scores, np.float64) if scores is not None else None
        self._unscored = np.full(1, np.nan)
        self._equity = np.empty(len(bars), np.int64)
        self._fills = np.empty((len(bars) // ONE_FILL_IN + 64, d.COLUMNS), np.int64)

    def _simulate(self, rule: Rule) -> tuple[int, int, int, int]:
        bars, params = self._bars, parameters(rule, self._terms)
        scores = self._unscored
        if rule.kind == "model_threshold":
            if self._scores is None:
                raise ValueError("a model_threshold rule needs scores")
            scores = self._scores
        while True:
            answer: tuple[int, int, int, int] = d.simulate(
                params, bars.open, bars.high, bars.low, bars.close, scores, self._cash,
                memory_of(params), self._equity, self._fills,
            )  # fmt: skip
            if answer[0] <= len(self._fills):
                return answer
            self._fills = np.empty((answer[0], d.COLUMNS), np.int64)

    def performance(self, rule: Rule) -> Performance:
        """One rule in figures."""
        count = self._simulate(rule)[0]
        fills = self._fills[:count]
        return performance(self._equity, fills, self._cash, self._bars.bars_per_year)

    def outcome(self, rule: Rule) -> Outcome:
        """One rule with its fills and equity; the equity belongs to the next call's."""
        count, cash, held, missed = self._simulate(rule)
        fills = self._fills[:count].copy()
        figures = performance(self._equity, fills, self._cash, self._bars.bars_per_year)
        return Outcome(
            fills=fills, equity=self._equity, cash=cash, held=held, missed=missed,
            performance=figures,
        )  # fmt: skip
