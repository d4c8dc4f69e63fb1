"""Candles as they came: columns of equal length and nothing more promised.

A file or a venue may tell bars out of order, twice, or with a high below its low. ``Rows`` holds
them so that ``candle_quality`` can say so; only what passed there becomes ``Candles``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet.research.series import Candles, Floats, Times


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Unchecked bars: ``ts`` in nanoseconds UTC at the opening, prices and volumes float64."""

    ts: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        if any(len(column) != len(self.ts) for column in self.columns):
            raise ValueError("the columns of the bars have different lengths")

    def __len__(self) -> int:
        """How many bars."""
        return len(self.ts)

    @property
    def columns(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Open, high, low, close, volume."""
        return self.open, self.high, self.low, self.close, self.volume

    @classmethod
    def of(cls, ts: Times, columns: Sequence[Floats]) -> Rows:
        """From the times and the five columns in the order of ``columns``."""
        opened, high, low, close, volume = (np.ascontiguousarray(c, np.float64) for c in columns)
        return cls(
            ts=np.ascontiguousarray(ts, np.int64),
            open=opened, high=high, low=low, close=close, volume=volume,
        )  # fmt: skip

    @classmethod
    def of_bars(cls, bars: Iterable[Sequence[float]], ts_scale: int) -> Rows:
        """From (time, open, high, low, close, volume) each; a time counts ``ts_scale`` ns.

        What a venue did not tell is not a number here, never zero.
        """
        told = list(bars)
        ts = np.array([int(bar[0]) * ts_scale for bar in told], dtype=np.int64)
        table = np.array([bar[1:6] for bar in told], dtype=np.float64).reshape(len(told), 5)
        return cls.of(ts, list(table.T))

    @classmethod
    def of_candles(cls, candles: Candles) -> Rows:
        """The bars of checked candles."""
        return cls.of(
            candles.ts, (candles.open, candles.high, candles.low, candles.close, candles.volume)
        )

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """One after the other, as they came."""
        if not parts:
            return cls.of_bars((), 1)
        columns = [
            np.concatenate(column) for column in zip(*(p.columns for p in parts), strict=True)
        ]
        return cls.of(np.concatenate([part.ts for part in parts]), columns)

    def take(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> Rows:
        """The bars of these places, or where a mask is true."""
        return Rows.of(self.ts[which], [column[which] for column in self.columns])

    def same(self, one: NDArray[np.intp], other: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether bars at places ``one`` tell what bars at ``other`` tell, place by place."""
        equal = self.ts[one] == self.ts[other]
        for column in self.columns:
            equal &= column[one] == column[other]
        return np.asarray(equal, dtype=np.bool_)

    def candles(self, *, symbol: str, exchange: str, interval_ns: int, source: str) -> Candles:
        """As ``Candles``. Raises ``ValueError`` if the times do not rise."""
        return Candles(
            symbol=symbol, exchange=exchange, interval_ns=interval_ns, ts=self.ts, open=self.open,
            high=self.high, low=self.low, close=self.close, volume=self.volume, source=source,
        )  # fmt: skip
