"""Closed bars of one instrument, each once and in order, from a stream that may lose some. Pure.

Theory of operation. ``due_ms`` is when the next bar to tell opens. A bar offered before it was told
already and is dropped; the one due is told, and with it whatever waits behind it; a later one waits
and shows a gap, which is filled from REST. So it does not matter where a bar comes from, how often,
or in what order: the sequence told is the venue's, without a hole. If the venue itself has a hole
(it does after its own outages), ``skip_to`` names it and goes on: a gap is reported, never filled.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.clock import NS_PER_MS
from fleet.domain.instruments import InstrumentId
from fleet.domain.market import BarClosed
from fleet.domain.units import Price, Qty
from fleet.venues.crypto.wire import exact

WAITING_MAX = 10_000
"""Bars that may wait behind a gap; more is a defect of whoever fills it."""
INTERVALS_MS = {
    "1s": 1_000, "1m": 60_000, "3m": 180_000, "5m": 300_000, "15m": 900_000, "30m": 1_800_000,
    "1h": 3_600_000, "2h": 7_200_000, "4h": 14_400_000, "6h": 21_600_000, "8h": 28_800_000,
    "12h": 43_200_000, "1d": 86_400_000,
}  # fmt: skip
"""Binance's intervals of a fixed length that begin at multiples of it."""


class Candle(NamedTuple):
    """One closed candle; ``opened_ms`` since the epoch, prices and volume at 1e-8."""

    opened_ms: int
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Qty


def candle(opened_ms: int, texts: tuple[str, str, str, str, str]) -> Candle:
    """Read open, high, low, close and volume. Raises ``AnswerInvalid`` for what no candle is."""
    opened, high, low, closed, volume = (exact(text, "candle") for text in texts)
    return Candle(opened_ms, Price(opened), Price(high), Price(low), Price(closed), Qty(volume))


class BarSequence:
    """One instrument's bars of one interval."""

    __slots__ = ("_waiting", "due_ms", "instrument_id", "skipped", "step_ms")

    def __init__(self, instrument_id: InstrumentId, step_ms: int, due_ms: int) -> None:
        """``due_ms`` is the opening of the first bar to tell."""
        self.instrument_id, self.step_ms = instrument_id, step_ms
        self.due_ms = due_ms
        self.skipped = 0
        """Bars the venue does not have."""
        self._waiting: dict[int, Candle] = {}

    @property
    def gap(self) -> bool:
        """Whether a later bar waits for one that did not come."""
        return bool(self._waiting)

    def offer(self, bar: Candle, now_ns: int) -> list[BarClosed]:
        """Take a closed bar from anywhere; what can be told now, in order."""
        if bar.opened_ms < self.due_ms or len(self._waiting) >= WAITING_MAX:
            return []
        self._waiting[bar.opened_ms] = bar
        told: list[BarClosed] = []
        while (following := self._waiting.pop(self.due_ms, None)) is not None:
            self.due_ms += self.step_ms
            told.append(
                BarClosed(
                    ts_event=self.due_ms * NS_PER_MS, ts_recv=now_ns,
                    instrument_id=self.instrument_id, interval_ns=self.step_ms * NS_PER_MS,
                    open=following.open, high=following.high, low=following.low,
                    close=following.close, volume=following.volume,
                )
            )  # fmt: skip
        return told

    def skip_to(self, opened_ms: int) -> int:
        """The venue has nothing before ``opened_ms``; how many bars are missing for good."""
        missing = max(0, (opened_ms - self.due_ms) // self.step_ms)
        self.skipped += missing
        self.due_ms = max(self.due_ms, opened_ms)
        self._waiting = {at: bar for at, bar in self._waiting.items() if at >= self.due_ms}
        return missing
