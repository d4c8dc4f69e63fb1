"""The level-2 book of an instrument without a ceiling: a share or a coin.

``Book``'s interface and invariants; levels are kept in dicts by index, because a flat array from
zero to a coin's price would be millions of cells. Taking away the best level looks through the
levels of its side for the next one; the books of these venues come with some twenty of them. Index
``size`` stands for "no ask", as in ``Book``; here it is beyond every price a venue could quote.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fleet.domain.events import Level
from fleet.domain.instruments import Side
from fleet.domain.units import Price, Qty
from fleet.engine.book import Book

_BUY: Final = Side.BUY
_BEYOND: Final = 1 << 62
"""A price (at 1e-8) above all others that still fits 64 bits."""


class _Levels(dict[int, int]):
    """Shares by index; nothing anywhere else."""

    __slots__ = ()

    def __missing__(self, index: int) -> int:
        return 0


class SparseBook(Book):
    """Bids and asks of one instrument on its tick grid, at any price above zero."""

    __slots__ = ()

    def _regrid(self, tick: Price) -> None:
        self.tick = tick
        self.size = _BEYOND // tick
        self._clear()

    def _clear(self) -> None:
        self.bids: _Levels = _Levels()  # type: ignore[assignment]  # read by index, as a list is
        self.asks: _Levels = _Levels()  # type: ignore[assignment]
        self.best_bid = 0
        self.best_ask = self.size
        self.ready = False

    def apply(self, side: Side, price: Price, qty: Qty) -> None:
        """Set the quantity at one price; 0 removes the level. A price off the grid voids it."""
        index = price // self.tick
        if index * self.tick != price or not 0 < index < self.size:
            self.void()
            return
        if side is _BUY:
            if qty:
                self.bids[index] = qty
                self.best_bid = max(self.best_bid, index)
            elif self.bids.pop(index, 0) and index == self.best_bid:
                self.best_bid = max(self.bids, default=0)
        elif qty:
            self.asks[index] = qty
            self.best_ask = min(self.best_ask, index)
        elif self.asks.pop(index, 0) and index == self.best_ask:
            self.best_ask = min(self.asks, default=self.size)

    def replace(self, bids: Sequence[Level], asks: Sequence[Level], ts_event: int) -> bool:
        """Take a whole snapshot and become ready; false (and void) if a price is off the grid."""
        self._clear()
        tick, size = self.tick, self.size
        for levels, shown in ((self.bids, bids), (self.asks, asks)):
            for price, qty in shown:
                index = price // tick
                if index * tick != price or not 0 < index < size:
                    self.void()
                    return False
                if qty:
                    levels[index] = qty
                else:
                    levels.pop(index, None)
        self.best_bid = max(self.bids, default=0)
        self.best_ask = min(self.asks, default=size)
        self.ts_event = ts_event
        self.ready = True
        return True

    def _from_best(self, side: Side) -> list[int]:
        """The indices a taker of ``side`` meets, best first."""
        return sorted(self.asks) if side is _BUY else sorted(self.bids, reverse=True)

    def levels(self, side: Side) -> Iterator[Level]:
        """What a taker of ``side`` meets, best first: asks for BUY, bids for SELL."""
        shown = self.asks if side is _BUY else self.bids
        for index in self._from_best(side):
            yield Price(index * self.tick), Qty(shown[index])

    def next_price(self, side: Side) -> Price | None:
        """The price behind the best one that a taker of ``side`` meets; nothing if none is."""
        behind = self._from_best(side)[1:2]
        return Price(behind[0] * self.tick) if behind else None

    def depth(self, side: Side, limit: Price) -> Qty:
        """The quantity a taker of ``side`` finds at ``limit`` or better."""
        if side is _BUY:
            return Qty(sum(n for i, n in self.asks.items() if i * self.tick <= limit))
        return Qty(sum(n for i, n in self.bids.items() if i * self.tick >= limit))
