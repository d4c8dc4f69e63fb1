"""The level-2 book of one instrument: a flat array by tick and two best pointers.

A price is an index, ``price // tick``; ``bids[i]`` and ``asks[i]`` hold the shares at that index.
Index 0 (a price of zero) stands for "no bid" and index ``size`` (a price of one dollar) for "no
ask", so neither side needs a special case. Measured against dicts and sorted containers this is
the fastest pure-Python form (74 ns a change against 109 to 3,530).

Invariants: a book is *ready* only after a snapshot; ``void`` takes that away (disconnect, tick
change, a price off the grid). A *usable* book is ready and not crossed. A crossed book is kept,
because the venue's next message usually uncrosses it, but nobody may trade on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleet.domain.events import Level
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Price, Qty

BUY = Side.BUY


class Book:
    """Bids and asks of one instrument on its tick grid."""

    __slots__ = (
        "asks",
        "best_ask",
        "best_bid",
        "bids",
        "epoch",
        "instrument_id",
        "ready",
        "size",
        "tick",
        "ts_event",
    )

    def __init__(self, instrument_id: InstrumentId, tick: Price) -> None:
        """An empty, not ready book on a grid of ``tick`` dollars (at 1e-8)."""
        self.instrument_id = instrument_id
        self.epoch = 0
        self.ts_event = 0
        self._regrid(tick)

    def _regrid(self, tick: Price) -> None:
        self.tick = tick
        self.size = SCALE // tick
        self.bids = [0] * (self.size + 1)
        self.asks = [0] * (self.size + 1)
        self.best_bid = 0
        self.best_ask = self.size
        self.ready = False

    def void(self, tick: Price | None = None) -> None:
        """Forget everything until the next snapshot; with ``tick``, on a new grid.

        ``epoch`` grows whenever the grid changes, so that tables made for it can be rebuilt.
        """
        if tick is not None and tick != self.tick:
            self.epoch += 1
            self._regrid(tick)
        else:
            self._regrid(self.tick)

    def apply(self, side: Side, price: Price, qty: Qty) -> None:
        """Set the shares at one price; 0 removes the level. A price off the grid voids the book."""
        index = price // self.tick
        if index * self.tick != price or not 0 < index < self.size:
            self.void()
            return
        if side is BUY:
            self.bids[index] = qty
            if qty:
                if index > self.best_bid:  # noqa: PLR1730 - hot path
                    self.best_bid = index
            elif index == self.best_bid:
                bids = self.bids
                while index and not bids[index]:
                    index -= 1
                self.best_bid = index
        else:
            self.asks[index] = qty
            if qty:
                if index < self.best_ask:  # noqa: PLR1730 - hot path
                    self.best_ask = index
            elif index == self.best_ask:
                asks, size = self.asks, self.size
                while index < size and not asks[index]:
                    index += 1
                self.best_ask = index

    def replace(self, bids: Sequence[Level], asks: Sequence[Level], ts_event: int) -> bool:
        """Take a whole snapshot and become ready; false (and void) if a price is off the grid."""
        tick, size = self.tick, self.size
        new_bids, new_asks = [0] * (size + 1), [0] * (size + 1)
        best_bid, best_ask = 0, size
        for price, qty in bids:
            index = price // tick
            if index * tick != price or not 0 < index < size:
                self.void()
                return False
            new_bids[index] = qty
            if qty and index > best_bid:
                best_bid = index
        for price, qty in asks:
            index = price // tick
            if index * tick != price or not 0 < index < size:
                self.void()
                return False
            new_asks[index] = qty
            if qty and index < best_ask:
                best_ask = index
        # A snapshot that names a price twice may have emptied the level a pointer stands on.
        while best_bid and not new_bids[best_bid]:
            best_bid -= 1
        while best_ask < size and not new_asks[best_ask]:
            best_ask += 1
        self.bids, self.asks = new_bids, new_asks
        self.best_bid, self.best_ask = best_bid, best_ask
        self.ts_event = ts_event
        self.ready = True
        return True

    @property
    def crossed(self) -> bool:
        """Whether the best bid is above the best ask or at it (locked)."""
        return self.best_bid >= self.best_ask

    @property
    def usable(self) -> bool:
        """Whether a decision may rest on this book."""
        return self.ready and self.best_bid < self.best_ask

    @property
    def bid(self) -> Price:
        """The best bid in dollars a share at 1e-8; 0 when there is none."""
        return Price(self.best_bid * self.tick)

    @property
    def ask(self) -> Price:
        """The best ask in dollars a share at 1e-8; one dollar when there is none."""
        return Price(self.best_ask * self.tick)

    @property
    def bid_qty(self) -> Qty:
        """The shares at the best bid; 0 when there is none."""
        return Qty(self.bids[self.best_bid])

    @property
    def ask_qty(self) -> Qty:
        """The shares at the best ask; 0 when there is none."""
        return Qty(self.asks[self.best_ask])

    def levels(self, side: Side) -> Iterator[Level]:
        """What a taker of ``side`` meets, best first: asks for BUY, bids for SELL."""
        if side is BUY:
            for index in range(self.best_ask, self.size):
                if self.asks[index]:
                    yield Price(index * self.tick), Qty(self.asks[index])
        else:
            for index in range(self.best_bid, 0, -1):
                if self.bids[index]:
                    yield Price(index * self.tick), Qty(self.bids[index])

    def next_price(self, side: Side) -> Price | None:
        """The price behind the best one that a taker of ``side`` meets; nothing if none is."""
        if side is BUY:
            asks, index, size = self.asks, self.best_ask + 1, self.size
            while index < size:
                if asks[index]:
                    return index * self.tick  # type: ignore[return-value]  # hot: a plain int
                index += 1
        else:
            bids, index = self.bids, self.best_bid - 1
            while index > 0:
                if bids[index]:
                    return index * self.tick  # type: ignore[return-value]
                index -= 1
        return None

    def depth(self, side: Side, limit: Price) -> Qty:
        """The shares a taker of ``side`` finds at ``limit`` or better."""
        if side is BUY:
            return Qty(sum(self.asks[self.best_ask : limit // self.tick + 1]))
        return Qty(sum(self.bids[max(1, -(-limit // self.tick)) : self.best_bid + 1]))
