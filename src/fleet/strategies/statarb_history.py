"""The recent past of many prices on an even grid of time: one row a step, one column a market.

A step holds the last quote of each market that fell into it (a sample may be of some markets only).
A market without a two-sided quote in a step is ``nan`` there: unknown is not unchanged. Steps are
counted from the epoch, so the same samples make the same grid whenever the process started. Samples
older than the newest step are dropped: history is not rewritten.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fleet.domain.instruments import MarketId
from fleet.domain.market import PricesSampled
from fleet.domain.units import SCALE
from fleet.strategies.statarb_relations import symbol_of
from fleet.strategies.statarb_statistics import Floats


class History:
    """``rows`` steps of mid prices in dollars, oldest first; the last row is the newest step."""

    def __init__(
        self, markets: Sequence[MarketId], symbols: Sequence[str], *, step_ns: int, rows: int
    ) -> None:
        """Nothing is known yet."""
        self.step_ns = step_ns
        self.rows = rows
        self.column = {market: index for index, market in enumerate(markets)}
        self.markets = tuple(markets)
        self.mids: Floats = np.full((rows, len(markets)), np.nan)
        self.references: Floats = np.full((rows, len(symbols)), np.nan)
        self.reference = {symbol: index for index, symbol in enumerate(symbols)}
        self.step = 0
        """The newest step, counted from the epoch; 0 before the first sample."""
        self.known = 0
        """How many steps lie between the first sample and the newest one, both in."""

    @property
    def ends_ns(self) -> Floats:
        """The time in the middle of each row, in nanoseconds."""
        steps = np.arange(self.step - self.rows + 1, self.step + 1, dtype=np.float64)
        return (steps + 0.5) * self.step_ns

    def add(self, sample: PricesSampled) -> bool:
        """Take a sample in; false if it is older than what is known."""
        step = (sample.ts_event or sample.ts_recv) // self.step_ns
        if step < self.step:
            return False
        if not self.step:
            self.known = 1
        elif step > self.step:
            self._advance(step - self.step)
        self.step = step
        column = self.column
        found = [
            (i, bid + ask) for m, bid, ask in sample.quotes if (i := column.get(m)) is not None
        ]
        if found:
            indices, sums = zip(*found, strict=True)
            self.mids[-1, list(indices)] = np.array(sums, dtype=np.float64) / (2 * SCALE)
        for name, dollars in sample.references:
            index = self.reference.get(symbol_of(name))
            if index is not None and dollars > 0:
                self.references[-1, index] = dollars / SCALE
        return True

    def _advance(self, steps: int) -> None:
        self.known = min(self.known + steps, self.rows)
        moved = min(steps, self.rows)
        for table in (self.mids, self.references):
            table[:-moved] = table[moved:].copy()
            table[-moved:] = np.nan
