"""A series of candles: what every part of research passes to the next.

Times are nanoseconds since the epoch, UTC; ``ts`` is when a bar *opened*, and nothing of a bar is
known before ``ts + interval_ns``. Prices are quote currency, volumes base currency, both float64:
they propose, and only an instrument makes an order of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candles:
    """Bars of one symbol, oldest first, strictly rising in ``ts``; gaps are possible.

    All arrays have the same length. ``source`` says where they came from, ``synthetic`` if they
    were made up, which every output that rests on them must repeat.
    """

    symbol: str
    exchange: str
    interval_ns: int
    ts: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    source: str

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths and times that do not rise."""
        columns = (self.open, self.high, self.low, self.close, self.volume)
        if any(len(column) != len(self.ts) for column in columns):
            raise ValueError(f"the columns of {self.symbol} have different lengths")
        if len(self.ts) > 1 and not bool((np.diff(self.ts) > 0).all()):
            raise ValueError(f"the times of {self.symbol} do not rise")

    def __len__(self) -> int:
        """How many bars."""
        return len(self.ts)

    @property
    def synthetic(self) -> bool:
        """Whether no market ever made these."""
        return self.source == "synthetic"

    @property
    def digest(self) -> str:
        """SHA-256 over everything in it: the same digest is the same data, on any machine."""
        sha = hashlib.sha256(f"{self.exchange}:{self.symbol}:{self.interval_ns}".encode())
        for column in (self.ts, self.open, self.high, self.low, self.close, self.volume):
            sha.update(
                np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<")).tobytes()
            )
        return sha.hexdigest()

    def between(self, start_ns: int, end_ns: int) -> Candles:
        """The bars that opened in [``start_ns``, ``end_ns``)."""
        first, last = np.searchsorted(self.ts, [start_ns, end_ns])
        return self.rows(int(first), int(last))

    def rows(self, first: int, last: int) -> Candles:
        """The bars ``first`` to before ``last``, without copying."""
        part = slice(first, last)
        return replace(
            self, ts=self.ts[part], open=self.open[part], high=self.high[part],
            low=self.low[part], close=self.close[part], volume=self.volume[part],
        )  # fmt: skip
