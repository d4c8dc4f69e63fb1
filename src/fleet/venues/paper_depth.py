"""Depth the paper venue has taken: it is not sold to us twice, in either of two mirrored books."""

from __future__ import annotations

from fleet.domain.instruments import Instrument, InstrumentId, Side
from fleet.domain.units import SCALE, Price, Qty


class TakenDepth:
    """What was taken of each level, and when last."""

    def __init__(self, kept_ns: int) -> None:
        """A level counts as taken for ``kept_ns`` after the last time something was."""
        self._kept_ns = kept_ns
        self._levels: dict[tuple[InstrumentId, Side, Price], tuple[Qty, int]] = {}

    def left(
        self, instrument: Instrument, side: Side, price: Price, shown: Qty, now_ns: int
    ) -> int:  # fmt: skip
        """What an order of ``side`` may still take of the shares ``shown`` at ``price``."""
        key = (instrument.id, side, price)
        taken, at_ns = self._levels.get(key, (Qty(0), 0))
        if now_ns - at_ns > self._kept_ns:
            self._levels.pop(key, None)
            return shown
        return max(0, shown - taken)

    def take(self, instrument: Instrument, side: Side, price: Price, qty: Qty, now_ns: int) -> None:
        """Take depth out of this book and of the mirrored one, if there is one."""
        keys = [(instrument.id, side, price)]
        if instrument.complement:
            keys.append((instrument.complement, side.opposite, Price(SCALE - price)))
        for key in keys:
            taken, at_ns = self._levels.get(key, (Qty(0), 0))
            fresh = now_ns - at_ns <= self._kept_ns
            self._levels[key] = (Qty((taken if fresh else 0) + qty), now_ns)
