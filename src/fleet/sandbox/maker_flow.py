"""One market's order flow: makers who quote around a fair price, and takers who trade with them.

Sizes, distances, level counts, spreads and rates are drawn from ``flow_fit``. Invariants the rest
of the sandbox relies on: outside a ``displace`` no bid stands above the fair price and no ask below
it (so outcome sets and ladders hold no accidental mispricing), and the book is never crossed.
Deterministic: all chance comes from the ``random.Random`` given at construction.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleet.domain.units import SCALE, Price, Qty
from fleet.sandbox.flow_fit import FlowFit
from fleet.sandbox.market_book import LevelChange, MarketBook, Match

FINE_TICK_WIDTH: Final = 0.35
"""Fine-tick markets quote about a third as wide: in the fit, the two games that ended near 0 had
median spreads of 0.002 and 0.011 against 0.03 for the others."""
TIGHT_QUANTILE_MAX: Final = 0.45
SPREAD_QUANTILE_MAX: Final = 0.9
"""Aimed a little low: spreads open at once, by a trade, and close over several messages."""
TOUCH_SHARE: Final = 0.27
"""Share of level changes that work on the best price when it is not where it should be."""
SPREAD_HOLD_EVENTS: Final = 40
LEVELS_HOLD_EVENTS: Final = 150
# Five shares found by trial so that level counts and sizes settle where the recordings have them.
ADD_BIAS: Final = 1.5
REMOVE_SHARE: Final = 0.14
RAISE_BELOW_TYPICAL: Final = 0.62
RAISE_ABOVE_TYPICAL: Final = 0.12
ADD_SIZE_SHARE: Final = 0.4
SIZE_MAX_SHARES: Final = 20_000.0
CENT_LOT: Final = SCALE // 100


@dataclass(frozen=True, slots=True)
class TakerTrade:
    """A taker's matches in YES terms: ``buy`` means YES was bought (or NO sold)."""

    buy: bool
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class FlowEvent:
    """What one arrival did: level changes, or a trade, or (rarely) nothing."""

    changes: tuple[LevelChange, ...] = ()
    trade: TakerTrade | None = None


def to_qty(shares: float) -> Qty:
    """Shares as a quantity of at least 0.01, on the venue's two decimals."""
    return Qty(max(1, round(min(shares, SIZE_MAX_SHARES) * 100)) * CENT_LOT)


class MarketFlow:
    """The makers and takers of one market."""

    def __init__(
        self, *, tick: Price, fair: float, tight: bool, fit: FlowFit, rng: random.Random
    ) -> None:
        """Fill an empty book around ``fair``."""
        self.book = MarketBook(tick)
        self.take: Callable[..., list[Match]] = self.book.take
        """How its takers take; whoever adds others' orders to the market puts in theirs."""
        self.fair = fair
        self.frozen = False
        """While set, only levels behind the best prices move (a mispricing is standing)."""
        self._fit = fit
        self._rng = rng
        self._tight = tight
        self._typical = fit.touch_size.at(0.5) * SCALE
        self._spread_ticks = 1
        self._levels_target = {True: 10.0, False: 10.0}
        self._redraw_spread()
        for buy in (True, False):
            self._levels_target[buy] = fit.levels.draw(rng)
        for buy in (True, False):
            self._fill(buy=buy)

    def next_delay_ms(self) -> float:
        """Milliseconds to the next arrival."""
        return self._fit.interarrival_ms.draw(self._rng)

    def arrive(self) -> FlowEvent:
        """One arrival: mostly a maker's message of one or more changes, sometimes a trade."""
        rng = self._rng
        if rng.random() < 1 / SPREAD_HOLD_EVENTS:
            self._redraw_spread()
        if rng.random() < 1 / LEVELS_HOLD_EVENTS:
            self._levels_target[rng.random() < 0.5] = self._fit.levels.draw(rng)
        if not self.frozen and rng.random() < self._fit.book_share:
            return FlowEvent(trade=self._trade())
        wanted = 1 + rng.choices(range(len(self._fit.changes)), self._fit.changes)[0]
        changes: dict[tuple[bool, int], LevelChange] = {}
        for _ in range(wanted):
            change = self._change(buy=rng.random() < 0.5)
            if change is not None:
                # A level changed twice is told once, at its later place: in order, the message
                # never crosses a book it is applied to.
                changes.pop((change.buy, change.index), None)
                changes[change.buy, change.index] = change
        return FlowEvent(changes=tuple(changes.values()))

    def move_to(self, fair: float) -> tuple[LevelChange, ...]:
        """Take a new fair price; pull every quote that it leaves on the wrong side."""
        self.fair = fair
        if self.frozen:
            return ()
        book = self.book
        low, high = self._fair_bounds()
        changes = []
        while book.best_bid > low:
            changes.append(book.set_level(buy=True, index=book.best_bid, qty=Qty(0)))
        while book.best_ask < high:
            changes.append(book.set_level(buy=False, index=book.best_ask, qty=Qty(0)))
        for buy in (True, False):
            if changes and any(c.buy is buy for c in changes):
                changes += self._improve(buy=buy)
        return tuple(changes)

    def displace(self, *, buy: bool, index: int, qty: Qty) -> tuple[LevelChange, ...]:
        """Put a best price of ``qty`` at ``index``, away from fair, pulling what stands in the way.

        The makers' mistake that a mispricing is made of; ``frozen`` must be set first.
        """
        book, changes = self.book, []
        while (book.best_ask <= index) if buy else (book.best_bid >= index):
            best = book.best(buy=not buy)
            changes.append(book.set_level(buy=not buy, index=best, qty=Qty(0)))
        behind = index + 1 if buy else index - 1
        if 0 < behind < book.top and not book.qty(buy=not buy, index=behind):
            changes.append(book.set_level(buy=not buy, index=behind, qty=self._size()))
        changes.append(book.set_level(buy=buy, index=index, qty=qty))
        return tuple(changes)

    def deepen(self, *, buy: bool, qty: Qty) -> tuple[LevelChange, ...]:
        """Raise a side's best level to at least ``qty``."""
        best = self.book.best(buy=buy)
        if best in {0, self.book.top} or self.book.qty(buy=buy, index=best) >= qty:
            return ()
        return (self.book.set_level(buy=buy, index=best, qty=qty),)

    def refine(self, tick: Price) -> None:
        """Go on with a finer tick."""
        self.book.refine(tick)
        self._redraw_spread()

    def _fair_bounds(self) -> tuple[int, int]:
        """The highest bid and the lowest ask that the fair price allows, as indexes."""
        ticks = self.fair * self.book.top
        low = min(math.floor(ticks), self.book.top - 2)
        return low, max(low + 1, math.ceil(ticks), 2)

    def _wanted(self, *, buy: bool) -> int:
        """Where the best price of a side should be for the spread now aimed at."""
        ticks = self.fair * self.book.top
        bid = math.floor(ticks - (self._spread_ticks - 1) / 2)
        low, high = self._fair_bounds()
        if buy:
            return max(min(bid, low), 1)
        return min(max(bid + self._spread_ticks, high), self.book.top - 1)

    def _redraw_spread(self) -> None:
        at = self._rng.random() * (TIGHT_QUANTILE_MAX if self._tight else SPREAD_QUANTILE_MAX)
        self._spread_ticks = max(1, self._ticks(self._fit.spread.at(at)))

    def _ticks(self, dollars: float) -> int:
        tick = self.book.tick / SCALE
        width = 1.0 if tick >= 0.01 else FINE_TICK_WIDTH
        return round(dollars * width / tick)

    def _size(self) -> Qty:
        shares = self._fit.touch_size.draw(self._rng) * ADD_SIZE_SHARE
        return to_qty(round(shares) if self._rng.random() < 0.8 else shares)

    def _change(self, *, buy: bool) -> LevelChange | None:
        book, rng = self.book, self._rng
        if not self.frozen and rng.random() < TOUCH_SHARE:
            touched = self._work_on_best(buy=buy)
            if touched is not None:
                return touched
        best = book.best(buy=buy)
        if best in {0, book.top}:
            return None if self.frozen else self._work_on_best(buy=buy)
        away = max(self._ticks(self._fit.change_distance.draw(rng)), 1 if self.frozen else 0)
        index = best - away if buy else best + away
        if not 0 < index < book.top:
            index = (
                1 + int(rng.random() * best)
                if buy
                else best + int(rng.random() * (book.top - best))
            )
            index = min(max(index, 1), book.top - 1)
        if self.frozen and index == best:
            return None
        return self._rework(buy=buy, index=index, best=best)

    def _rework(self, *, buy: bool, index: int, best: int) -> LevelChange | None:
        """Add, remove, raise or lower one level behind or at the best price."""
        book, rng = self.book, self._rng
        resting = book.qty(buy=buy, index=index)
        levels = book.levels(buy=buy)
        crowded = len(levels) / self._levels_target[buy]
        if not resting:
            if rng.random() < ADD_BIAS - crowded:
                return book.set_level(buy=buy, index=index, qty=self._size())
            index = rng.choice(levels[1:] or levels)
            if self.frozen and index == best:
                return None
            resting = book.qty(buy=buy, index=index)
        if index != best and rng.random() < REMOVE_SHARE * crowded**2:
            return book.set_level(buy=buy, index=index, qty=Qty(0))
        step = to_qty(self._fit.change_size.draw(rng))
        if rng.random() < (RAISE_BELOW_TYPICAL if resting < self._typical else RAISE_ABOVE_TYPICAL):
            raised = Qty(min(resting + step, to_qty(SIZE_MAX_SHARES)))
            return book.set_level(buy=buy, index=index, qty=raised)
        if step < resting:
            return book.set_level(buy=buy, index=index, qty=Qty(resting - step))
        if index == best:
            return book.set_level(buy=buy, index=index, qty=self._size())
        return book.set_level(buy=buy, index=index, qty=Qty(0))

    def _work_on_best(self, *, buy: bool) -> LevelChange | None:
        """Move a side's best price one step towards where it should be."""
        book = self.book
        best, wanted = book.best(buy=buy), self._wanted(buy=buy)
        if (best > wanted) if buy else (best < wanted):
            if len(book.levels(buy=buy)) > 2:
                return book.set_level(buy=buy, index=best, qty=Qty(0))
            return None
        changes = self._improve(buy=buy)
        return changes[0] if changes else None

    def _improve(self, *, buy: bool) -> list[LevelChange]:
        """Quote at the wanted best price if the side's best is worse than it."""
        book = self.book
        best, wanted = book.best(buy=buy), self._wanted(buy=buy)
        low, high = self._fair_bounds()
        if (wanted > low) if buy else (wanted < high):
            return []
        if (best >= wanted) if buy else (best <= wanted):
            return []
        return [book.set_level(buy=buy, index=wanted, qty=self._size())]

    def _fill(self, *, buy: bool) -> None:
        """First levels of a side: the best price, then fitted distances behind it."""
        self._improve(buy=buy)
        for _ in range(60):
            best = self.book.best(buy=buy)
            if best in {0, self.book.top}:
                return
            if len(self.book.levels(buy=buy)) >= self._levels_target[buy]:
                return
            away = max(1, self._ticks(self._fit.change_distance.draw(self._rng)))
            index = best - away if buy else best + away
            if 0 < index < self.book.top:
                self.book.set_level(buy=buy, index=index, qty=self._size())

    def _trade(self) -> TakerTrade | None:
        """A taker takes from the best price, at most two levels deep."""
        buy = self._rng.random() < 0.5
        levels = self.book.levels(buy=not buy)[:2]
        if not levels:
            return None
        qty = to_qty(self._fit.trade_size.draw(self._rng))
        return TakerTrade(buy, tuple(self.take(buy=buy, qty=qty, limit=levels[-1])))
