"""A trained model as the strategy asks it: one closed bar in, a probability out.

It keeps as many bars as the model's features look back on, computes the features of the newest and
scores them: the same bits that training saw for that bar (``features.latest``). Until it has enough
bars the answer is NaN, which is no opinion. A bar that does not follow is counted as the features
count it: windows are of bars, and a gap in time is not bridged.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from fleet.domain.events import BarClosed
from fleet.domain.units import SCALE
from fleet.research.features import latest, warm_up
from fleet.research.model import Model
from fleet.research.series import Candles


class ModelScorer:
    """One model on one instrument; call it with every bar, in order, history first."""

    def __init__(self, model: Model, *, symbol: str, exchange: str) -> None:
        """Ask ``model`` about ``symbol``; the exchange tells whose clock its features follow."""
        self._model = model
        self._symbol = symbol
        self._exchange = exchange
        self._rows: deque[tuple[int, float, float, float, float, float]] = deque(
            maxlen=warm_up(model.names) + 1
        )

    @property
    def bars_needed(self) -> int:
        """How many bars it must have seen to have an opinion."""
        return warm_up(self._model.names) + 1

    def __call__(self, bar: BarClosed) -> float:
        """The probability that buying at the next open pays; NaN while it knows too little."""
        closed_ns, _, _, interval_ns, opened, high, low, close, volume = bar
        self._rows.append((
            closed_ns - interval_ns, opened / SCALE, high / SCALE, low / SCALE, close / SCALE,
            volume / SCALE,
        ))  # fmt: skip
        if len(self._rows) < self.bars_needed:
            return float("nan")
        ts, *columns = zip(*self._rows, strict=True)
        opens, highs, lows, closes, volumes = (np.array(c, dtype=np.float64) for c in columns)
        candles = Candles(
            symbol=self._symbol, exchange=self._exchange, interval_ns=interval_ns,
            ts=np.array(ts, dtype=np.int64), open=opens, high=highs, low=lows, close=closes,
            volume=volumes, source="live",
        )  # fmt: skip
        row = latest(candles, self._model.names)
        return float(self._model.scores(row)[0])
