"""One token in one followed wallet: what came, what went, and what is left of each purchase.

Theory of operation. Every gain is a lot; a loss takes the same part of every lot. So the product of
(1 - lost / held) over the losses after a gain is the part of it that is left, and it is kept once
for the whole holding: a lot remembers only where the product stood when it came. The cash of sales
is kept the same way. A loss beyond what is held was held before anybody watched, and counts for
nothing; a holding that falls to nothing begins anew.

Entries stand in the order of the chain: by block, within one block gains before losses. What is
told late, twice or out of order therefore ends in the same holding as what is told in order.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

from msgspec import Struct

from fleet.domain.commands import BundleId
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import SCALE, ZERO_CASH, ZERO_QTY, Cash, Price, Qty

ONE: Final = 10**18
"""The scale of the part that is left."""


class Sighting(Struct):
    """One change of one token in a followed wallet, and what we decided about it."""

    id: str
    wallet: str
    token: InstrumentId
    change: int
    """Shares gained or, negative, given up."""
    price: Price
    """0 where no price was paid."""
    block: int
    ts_event: int
    ts_recv: int
    number: int
    """How many were told before it."""
    candidate: bool
    """Whether it is a purchase by a wallet that was copied when it was told."""
    undone_ns: int = 0
    """When its block was said to be gone from the chain; 0 while it is part of it."""
    bundle: BundleId = BundleId("")
    """The copy that answers to it."""
    basis: Qty = ZERO_QTY
    """How much of it the leader still had when it was copied."""
    refused: str = ""
    """Why it was not copied."""
    moved: str = ""
    """The id under which it was mined again, and which has the decision about it now."""
    forgotten: bool = False
    """Whether its block is so old that its id is known no more."""
    loose: bool = False
    """Whether it belongs to no holding: its market was resolved."""

    @property
    def open(self) -> bool:
        """Whether it may still be copied."""
        decided = self.bundle or self.refused or self.moved
        return self.candidate and not (self.undone_ns or decided)

    @property
    def place(self) -> tuple[int, bool, str]:
        """Where it stands among the others of its holding."""
        return self.block, self.change < 0, self.id


class _Start(Struct, gc=False):
    """Where a lot found the holding."""

    era: int
    part: int
    earned: int


class Holding:
    """The entries of one wallet and token, and the lots they make."""

    __slots__ = ("_dirty", "_earned", "_ends", "_held", "_mark", "_part", "_starts", "entries")

    def __init__(self) -> None:
        """Nothing was seen."""
        self.entries: list[Sighting] = []
        self._dirty = False
        self._clear()

    def _clear(self) -> None:
        self._held = 0
        self._part = ONE
        self._earned = 0
        """Cash a share of the first lot would have brought by now, at ``ONE`` times 1e-8."""
        self._mark = 0
        """The newest price paid or taken; what a loss without a price is counted at."""
        self._ends: list[int] = []
        """``_earned`` at the end of each earlier era."""
        self._starts: dict[str, _Start] = {}

    def add(self, entry: Sighting) -> None:
        """Put an entry in its place."""
        entries = self.entries
        if not self._dirty and (not entries or entries[-1].place < entry.place):
            entries.append(entry)
            self._walk(entry)
        else:
            insort(entries, entry, key=lambda one: one.place)
            self._dirty = True

    def remove(self, entry: Sighting) -> None:
        """Take an entry out, before its place changes."""
        del self.entries[bisect_left(self.entries, entry.place, key=lambda one: one.place)]
        self._dirty = True

    def changed(self) -> None:
        """Some entry was undone, or is part of the chain again."""
        self._dirty = True

    @property
    def held(self) -> Qty:
        """Shares the wallet holds of what it was seen to get."""
        self._look()
        return Qty(self._held)

    def left(self, entry: Sighting) -> Qty:
        """How much of a gain is left, rounded down; nothing of a loss or of what was undone."""
        self._look()
        start = self._starts.get(entry.id)
        if start is None or start.era != len(self._ends):
            return ZERO_QTY
        return Qty(entry.change * self._part // start.part)

    def earned(self, entry: Sighting) -> Cash:
        """What the shares of a gain that are gone have brought, rounded down."""
        self._look()
        start = self._starts.get(entry.id)
        if start is None:
            return ZERO_CASH
        now = self._earned if start.era == len(self._ends) else self._ends[start.era]
        return Cash(entry.change * (now - start.earned) // (start.part * SCALE))

    def _look(self) -> None:
        if self._dirty:
            self._dirty = False
            self._clear()
            for entry in self.entries:
                self._walk(entry)

    def _walk(self, entry: Sighting) -> None:
        if entry.undone_ns:
            return
        self._mark = entry.price or self._mark
        if entry.change > 0:
            self._starts[entry.id] = _Start(len(self._ends), self._part, self._earned)
            self._held += entry.change
            return
        lost = min(-entry.change, self._held)
        if not lost:
            return
        self._earned += self._part * lost * self._mark // self._held
        self._part = self._part * (self._held - lost) // self._held
        self._held -= lost
        if not self._held or not self._part:
            self._ends.append(self._earned)
            self._held, self._part, self._earned = 0, ONE, 0
