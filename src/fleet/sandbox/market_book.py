"""One market's order book: the single pool of liquidity behind its YES and its NO token.

Levels are kept in YES terms, as shares by tick index; the NO book is computed from the same
numbers (a bid at p is an ask of the other token at 1 - p), so the two are mirrors by construction.
Price priority holds; time priority inside a level comes with order entry, which this book does not
have yet. Invariant: never crossed or locked (``BookError`` otherwise, a bug of the caller).
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet.domain.units import SCALE, Price, Qty


class BookError(ValueError):
    """A change that would cross the book or leave its price grid."""


@dataclass(frozen=True, slots=True)
class LevelChange:
    """The new total of one level, in YES terms. ``qty`` 0 means the level is gone."""

    buy: bool
    index: int
    qty: Qty


@dataclass(frozen=True, slots=True)
class Match:
    """Shares taken from one level, in YES terms."""

    index: int
    qty: Qty


class MarketBook:
    """Shares by tick index for both sides. Index i is the YES price i x tick, 0 < i < ``top``."""

    __slots__ = ("_asks", "_bids", "best_ask", "best_bid", "tick", "top")

    def __init__(self, tick: Price) -> None:
        """An empty book on a grid of ``tick`` (which divides one dollar)."""
        self.tick = tick
        self.top = SCALE // tick
        self._bids = [0] * (self.top + 1)
        self._asks = [0] * (self.top + 1)
        self.best_bid = 0
        """Index of the best bid; 0 when there is none."""
        self.best_ask = self.top
        """Index of the best ask; ``top`` when there is none."""

    def qty(self, *, buy: bool, index: int) -> Qty:
        """Shares resting at one level of a side."""
        return Qty((self._bids if buy else self._asks)[index])

    def best(self, *, buy: bool) -> int:
        """Index of a side's best level (0 or ``top`` when the side is empty)."""
        return self.best_bid if buy else self.best_ask

    def levels(self, *, buy: bool) -> list[int]:
        """Indexes of a side's levels, best first."""
        if buy:
            return [i for i in range(self.best_bid, 0, -1) if self._bids[i]]
        return [i for i in range(self.best_ask, self.top) if self._asks[i]]

    def set_level(self, *, buy: bool, index: int, qty: Qty) -> LevelChange:
        """Set one level's total. Raises ``BookError`` off the grid, when negative or crossing."""
        if not 0 < index < self.top or qty < 0:
            raise BookError(f"level {index} x {qty} is off the grid 1..{self.top - 1}")
        if qty and (index >= self.best_ask if buy else index <= self.best_bid):
            raise BookError(f"level {index} would cross {self.best_bid}/{self.best_ask}")
        if buy:
            self._bids[index] = qty
            self.best_bid = self._next_bid(max(index, self.best_bid))
        else:
            self._asks[index] = qty
            self.best_ask = self._next_ask(min(index, self.best_ask))
        return LevelChange(buy, index, qty)

    def take(self, *, buy: bool, qty: Qty, limit: int) -> list[Match]:
        """Match a taker against the other side, best level first, to ``limit`` and no further."""
        matches: list[Match] = []
        rest: int = qty
        while rest > 0:
            index = self.best_ask if buy else self.best_bid
            if index in {0, self.top} or (index > limit if buy else index < limit):
                break
            resting = self.qty(buy=not buy, index=index)
            filled = min(resting, rest)
            self.set_level(buy=not buy, index=index, qty=Qty(resting - filled))
            matches.append(Match(index, Qty(filled)))
            rest -= filled
        return matches

    def refine(self, tick: Price) -> None:
        """Move to a finer grid, keeping every level at its price.

        Raises ``BookError`` if the new tick does not divide the old one.
        """
        factor, remainder = divmod(self.tick, tick)
        if remainder or factor < 1:
            raise BookError(f"tick {tick} does not divide {self.tick}")
        old_bids, old_asks = self._bids, self._asks
        self.__init__(tick)  # type: ignore[misc]  # the same book on another grid
        for old, fresh in ((old_bids, self._bids), (old_asks, self._asks)):
            for index, qty in enumerate(old):
                if qty:
                    fresh[index * factor] = qty
        self.best_bid = self._next_bid(self.top - 1)
        self.best_ask = self._next_ask(1)

    def _next_bid(self, start: int) -> int:
        index = start
        while index > 0 and not self._bids[index]:
            index -= 1
        return index

    def _next_ask(self, start: int) -> int:
        index = start
        while index < self.top and not self._asks[index]:
            index += 1
        return index
