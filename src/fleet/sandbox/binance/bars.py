"""Candles of the local Binance: one-second and one-minute bars from trades, others from those.

As on Binance a bar without a trade exists too: flat at the last close, of no volume. Prices and
volumes are integers at 1e-8, times milliseconds.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

from fleet.domain.units import SCALE
from fleet.sandbox.binance.symbols import ApiError, shown

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
INTERVALS: Final = {
    "1s": SECOND_MS, "1m": MINUTE_MS, "3m": 3 * MINUTE_MS, "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS, "30m": 30 * MINUTE_MS, "1h": 60 * MINUTE_MS, "4h": 240 * MINUTE_MS,
    "1d": 1_440 * MINUTE_MS,
}  # fmt: skip
SECONDS_KEPT: Final = 7_200
MINUTES_KEPT: Final = 20_000


@dataclass(slots=True)
class Bar:
    """One candle; ``quote`` is its turnover."""

    opened_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote: int = 0
    trades: int = 0

    def add(self, price: int, qty: int) -> None:
        """One trade more."""
        if not self.trades:
            self.open = self.high = self.low = price
        self.high, self.low, self.close = max(self.high, price), min(self.low, price), price
        self.volume += qty
        self.quote += price * qty // SCALE
        self.trades += 1

    def row(self, step_ms: int) -> list[Any]:
        """As a row of ``klines``."""
        return [
            self.opened_ms, shown(self.open), shown(self.high), shown(self.low), shown(self.close),
            shown(self.volume), self.opened_ms + step_ms - 1, shown(self.quote), self.trades,
            shown(self.volume // 2), shown(self.quote // 2), "0",
        ]  # fmt: skip


class BarSeries:
    """Bars of one base length, without a gap up to the one that is open."""

    def __init__(self, step_ms: int, kept: int, price: int, now_ms: int) -> None:
        """Begin with a flat open bar at ``price``."""
        self.step_ms, self._kept = step_ms, kept
        begin = now_ms - now_ms % step_ms
        self.bars = [Bar(begin, price, price, price, price)]

    def seed(self, rng: random.Random, count: int, volatility: float, tick: int) -> None:
        """Put ``count`` bars of a random walk before the first, ending where it opens."""
        price = self.bars[0].open
        older: list[Bar] = []
        for number in range(1, count + 1):
            begin = max(tick, round(price * (1 - rng.gauss(0, volatility)) / tick) * tick)
            high = max(begin, price) + tick * rng.randint(0, 3)
            low = max(tick, min(begin, price) - tick * rng.randint(0, 3))
            volume = rng.randint(1, 500) * SCALE // 100
            opened = self.bars[0].opened_ms - number * self.step_ms
            older.append(Bar(opened, begin, high, low, price, volume, price * volume // SCALE, 9))
            price = begin
        self.bars[:0] = reversed(older)

    def roll(self, now_ms: int) -> list[Bar]:
        """Close what is over by ``now_ms``; the bars that closed, oldest first."""
        closed: list[Bar] = []
        while self.bars[-1].opened_ms + self.step_ms <= now_ms:
            last = self.bars[-1]
            closed.append(last)
            at = last.opened_ms + self.step_ms
            self.bars.append(Bar(at, last.close, last.close, last.close, last.close))
        if len(self.bars) > 2 * self._kept:
            del self.bars[: -self._kept]
        return closed


class Candles:
    """All candles of one symbol."""

    def __init__(self, price: int, now_ms: int) -> None:
        """Nothing has traded; the price is ``price``."""
        self.seconds = BarSeries(SECOND_MS, SECONDS_KEPT, price, now_ms)
        self.minutes = BarSeries(MINUTE_MS, MINUTES_KEPT, price, now_ms)

    def trade(self, price: int, qty: int, now_ms: int) -> None:
        """One trade."""
        for series in (self.seconds, self.minutes):
            series.roll(now_ms)
            series.bars[-1].add(price, qty)

    def of(self, interval: str) -> list[Bar]:
        """The bars of an interval, oldest first, the open one last. Raises ``ApiError``."""
        step_ms = INTERVALS.get(interval)
        if step_ms is None:
            raise ApiError(-1120, "Invalid interval.")
        if step_ms == SECOND_MS:
            return self.seconds.bars
        if step_ms == MINUTE_MS:
            return self.minutes.bars
        return _merged(self.minutes.bars, step_ms)

    def closing(self, interval: str, opened_ms: int) -> Bar | None:
        """The bar of an interval that opened at ``opened_ms``, if it is there."""
        step_ms = INTERVALS[interval]
        series = self.seconds if step_ms == SECOND_MS else self.minutes
        first = (opened_ms - series.bars[0].opened_ms) // series.step_ms
        parts = series.bars[max(0, first) : first + step_ms // series.step_ms]
        return _merged(parts, step_ms)[0] if parts else None


def _merged(bars: list[Bar], step_ms: int) -> list[Bar]:
    merged: list[Bar] = []
    for bar in bars:
        begin = bar.opened_ms - bar.opened_ms % step_ms
        if not merged or merged[-1].opened_ms != begin:
            merged.append(Bar(begin, bar.open, bar.high, bar.low, bar.close))
        last = merged[-1]
        last.high, last.low, last.close = (
            max(last.high, bar.high), min(last.low, bar.low), bar.close)  # fmt: skip
        last.volume += bar.volume
        last.quote += bar.quote
        last.trades += bar.trades
    return merged
