"""Where the local Alpaca's prices come from: a seeded walk, candles of the past, or a still market.

Every source answers for any moment, so that history and present agree and nothing has to be kept.
Prices and sizes are integers at 1e-8; quotes lie on the cent.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE

CENT: Final = SCALE // 100
STEP_S: Final = 5
MINUTE_S: Final = 60
WAVES: Final = ((0.06, 97_000), (0.02, 13_700), (0.006, 2_900), (0.002, 610), (0.0008, 130))
"""(height, seconds) of the walk's parts: incommensurable, so that it does not repeat for weeks."""


@dataclass(frozen=True, slots=True)
class Quote:
    """The best prices and the shares there; ``step`` names the moment they were made."""

    bid: int
    bid_qty: int
    ask: int
    ask_qty: int
    step: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute; ``begin_s`` in seconds since the epoch."""

    begin_s: int
    open: int
    high: int
    low: int
    close: int
    volume: int


class Prices(Protocol):
    """A market nobody moves."""

    def quote(self, symbol: str, now_ns: int) -> Quote | None:
        """The best prices at a moment; ``None`` if there are none."""
        ...

    def minute(self, symbol: str, begin_s: int) -> Bar | None:
        """The candle of the minute that begins then; ``None`` if nothing traded."""
        ...


def _draw(*parts: object) -> float:
    """A number in [0, 1), the same for the same parts."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class SeededPrices:
    """A smooth walk a symbol, of a seed."""

    def __init__(self, seed: int) -> None:
        """The same seed is the same market for ever."""
        self._seed = seed

    def _middle(self, symbol: str, step: int) -> int:
        seed, now_s = self._seed, step * STEP_S
        level = 50 + 350 * _draw(seed, symbol)
        wave = sum(
            height * math.sin(2 * math.pi * (now_s / period + _draw(seed, symbol, period)))
            for height, period in WAVES
        )
        noise = (_draw(seed, symbol, "n", step) - 0.5) * 0.0004
        return round(level * math.exp(wave + noise) * 100) * CENT

    def quote(self, symbol: str, now_ns: int) -> Quote:
        """Around the walk, two to four cents apart."""
        step = now_ns // NS_PER_SECOND // STEP_S
        middle = self._middle(symbol, step)
        half = 1 if _draw(self._seed, symbol, "w", step) < 0.7 else 2
        sizes = [100 * (1 + int(9 * _draw(self._seed, symbol, s, step))) for s in ("b", "a")]
        return Quote(
            middle - half * CENT, sizes[0] * SCALE, middle + half * CENT, sizes[1] * SCALE, step
        )

    def minute(self, symbol: str, begin_s: int) -> Bar:
        """The walk's candle; it opens where the one before closed."""
        first = begin_s // STEP_S
        walk = [self._middle(symbol, first + n) for n in range(MINUTE_S // STEP_S + 1)]
        volume = 1_000 + int(20_000 * _draw(self._seed, symbol, "v", begin_s))
        return Bar(begin_s, walk[0], max(walk), min(walk), walk[-1], volume * SCALE)


class StillPrices:
    """The same quotes for ever, as given: (bid, shares, ask, shares) at 1e-8."""

    def __init__(self, quotes: Mapping[str, tuple[int, int, int, int]]) -> None:
        """No trades, no bars."""
        self.quotes = dict(quotes)

    def quote(self, symbol: str, now_ns: int) -> Quote | None:
        """What was given."""
        del now_ns
        row = self.quotes.get(symbol)
        return Quote(*row, step=0) if row is not None else None

    def minute(self, symbol: str, begin_s: int) -> Bar | None:
        """Nothing trades."""
        del symbol, begin_s
        return None


class ReplayedPrices:
    """Minute candles of the past; the quote is a cent around the last close."""

    def __init__(self, candles: Mapping[str, Sequence[Bar]]) -> None:
        """Sort them; a minute that is missing stays missing."""
        self._bars = {
            symbol: {bar.begin_s: bar for bar in rows} for symbol, rows in candles.items()
        }
        self._begins = {symbol: sorted(rows) for symbol, rows in self._bars.items()}

    def quote(self, symbol: str, now_ns: int) -> Quote | None:
        """Around the close of the last whole minute before ``now_ns``."""
        begins = self._begins.get(symbol, [])
        now_s = now_ns // NS_PER_SECOND
        place = bisect_right(begins, now_s - MINUTE_S) - 1
        if place < 0:
            return None
        bar = self._bars[symbol][begins[place]]
        close = round(bar.close / CENT) * CENT
        return Quote(close - CENT, 500 * SCALE, close + CENT, 500 * SCALE, now_s // STEP_S)

    def minute(self, symbol: str, begin_s: int) -> Bar | None:
        """As it was."""
        return self._bars.get(symbol, {}).get(begin_s)
