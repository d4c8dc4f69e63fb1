"""One market's liquidity: the makers' flow and the users' resting orders as a single pool.

Theory of operation. The flow's quotes live in its own ``MarketBook``, which the flow alone writes
and which is never crossed in itself; the users' orders live here, in YES terms (a BUY of NO at p is
an ask of YES at 1 - p). What everybody sees and trades with is the sum of both. Nothing a user does
can break the flow: the flow reads and writes only its own book, and when one of its quotes reaches
a user's order, ``uncross`` makes a trade of it in which the user is the maker.

Priority is price, then time. Inside a level each user's order knows how much of the flow's quantity
stood there ``ahead`` of it when it came; what the flow adds later is behind. When the flow lowers a
level, its newest quantity goes first: ``ahead`` shrinks only when takers eat the queue or the level
falls below it. (Pessimistic for a user, as nobody can tell which of the makers pulled.)

Sizes here are base units (1e-6 shares), prices YES prices at 1e-8.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from fleet.domain.units import Price, Qty
from fleet.sandbox.market_book import LevelChange, MarketBook, Match

QTY_PER_BASE: Final = 100
"""1e-8 shares in one base unit of 1e-6."""


@dataclass(slots=True, kw_only=True, eq=False)
class Resting:
    """A user's order as the pool sees it; what else it is does not matter here."""

    order_id: str
    yes_buy: bool
    yes_price: Price
    remaining: int
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """A part of the pool that a taker gets, or would get; ``order`` is None for the flow's."""

    yes_price: Price
    size: int
    order: Resting | None


class Liquidity:
    """The pool of one market. The flow's ``book`` stays the flow's; users' orders are here."""

    def __init__(self, book: MarketBook) -> None:
        """No users' orders yet."""
        self.book = book
        self.hits: list[Taken] = []
        """What the flow's last taker met, while users' orders rest; see ``take``."""
        self._queues: dict[bool, dict[Price, list[Resting]]] = {True: {}, False: {}}
        self._prices: dict[bool, list[Price]] = {True: [], False: []}

    @property
    def quiet(self) -> bool:
        """Whether no user's order rests here."""
        return not self._prices[True] and not self._prices[False]

    def orders(self) -> list[Resting]:
        """Every user's order."""
        return [
            order for side in self._queues.values() for queue in side.values() for order in queue
        ]

    def of_users(self, *, buy: bool, price: Price) -> int:
        """Base units that users have at one level."""
        queue = self._queues[buy].get(price)
        return sum(order.remaining for order in queue) if queue else 0

    def user_prices(self, *, buy: bool) -> list[Price]:
        """The prices users rest at, rising."""
        return self._prices[buy]

    def total(self, *, buy: bool, price: Price) -> Qty:
        """Everything at one level."""
        return Qty(self._of_flow(buy=buy, price=price) + self.of_users(buy=buy, price=price) * 100)

    def levels(self, *, buy: bool) -> list[tuple[Price, Qty]]:
        """A side's levels, best first."""
        book = self.book
        flow = [(Price(i * book.tick), book.qty(buy=buy, index=i)) for i in book.levels(buy=buy)]
        users = self._prices[buy]
        if not users:
            return flow
        known = dict.fromkeys([price for price, _ in flow] + users)
        return [(price, self.total(buy=buy, price=price)) for price in sorted(known, reverse=buy)]

    def best(self, *, buy: bool) -> Price | None:
        """The best price of a side; None when it is empty."""
        book, users = self.book, self._prices[buy]
        index = book.best(buy=buy)
        flow = None if index in {0, book.top} else Price(index * book.tick)
        if not users:
            return flow
        user = users[-1] if buy else users[0]
        if flow is None:
            return user
        return max(flow, user) if buy else min(flow, user)

    def bests(self) -> tuple[Price | None, Price | None]:
        """Best bid and best ask."""
        return self.best(buy=True), self.best(buy=False)

    def crosses(self, *, buy: bool, price: Price) -> bool:
        """Whether an order at ``price`` would take."""
        best = self.best(buy=not buy)
        return best is not None and (best <= price if buy else best >= price)

    def add(self, order: Resting) -> None:
        """Rest an order behind everything at its price. It must not cross."""
        prices, queues = self._prices[order.yes_buy], self._queues[order.yes_buy]
        order.ahead = self._of_flow(buy=order.yes_buy, price=order.yes_price) // QTY_PER_BASE
        if order.yes_price not in queues:
            queues[order.yes_price] = []
            insort(prices, order.yes_price)
        queues[order.yes_price].append(order)

    def remove(self, order: Resting) -> None:
        """Take an order out, filled or cancelled."""
        queue = self._queues[order.yes_buy][order.yes_price]
        queue.remove(order)
        if not queue:
            del self._queues[order.yes_buy][order.yes_price]
            self._prices[order.yes_buy].remove(order.yes_price)

    def sweep(self, *, buy: bool, limit: Price) -> Iterator[Taken]:
        """What a taker of that side meets up to ``limit``, in the order of priority."""
        book, side = self.book, not buy
        index, users = book.best(buy=side), self._prices[side]
        step, at = (1, 0) if buy else (-1, len(users) - 1)
        end = book.top if buy else 0
        while True:
            flow = Price(index * book.tick) if index != end else None
            user = users[at] if 0 <= at < len(users) else None
            if flow is None and user is None:
                return
            if flow is None or (user is not None and (user < flow if buy else user > flow)):
                price = user
            else:
                price = flow
            if price is None or (price > limit if buy else price < limit):
                return
            yield from self._queue(buy=side, price=price)
            if price == user:
                at += step
            if price == flow:
                index += step
                while index != end and not book.qty(buy=side, index=index):
                    index += step

    def apply(self, taken: Iterable[Taken]) -> list[LevelChange]:
        """Carry out what ``sweep`` told, unchanged since. Returns the flow's own level changes."""
        changes: dict[tuple[bool, int], LevelChange] = {}
        for part in taken:
            if part.order is None:
                change = self._eat_flow(part)
                changes[change.buy, change.index] = change
            else:
                part.order.remaining -= part.size
                if not part.order.remaining:
                    self.remove(part.order)
        return list(changes.values())

    def take(self, *, buy: bool, qty: Qty, limit: int) -> list[Match]:
        """``MarketBook.take`` over the whole pool, for the flow's takers.

        What was met is left in ``hits`` if a user's order was among it.
        """
        if self.quiet:
            return self.book.take(buy=buy, qty=qty, limit=limit)
        price = Price(limit * self.book.tick)
        taken = first(self.sweep(buy=buy, limit=price), qty // QTY_PER_BASE)
        self.apply(taken)
        if any(part.order is not None for part in taken):
            self.hits = taken
        return self.matches(taken)

    def matches(self, taken: Iterable[Taken]) -> list[Match]:
        """The parts summed by level, in order, as prints are told."""
        sums: dict[Price, int] = {}
        for part in taken:
            sums[part.yes_price] = sums.get(part.yes_price, 0) + part.size
        return [
            Match(price // self.book.tick, Qty(size * QTY_PER_BASE)) for price, size in sums.items()
        ]

    def note(self, change: LevelChange) -> None:
        """The flow changed a level: nobody can stand behind more of it than there is."""
        queue = self._queues[change.buy].get(Price(change.index * self.book.tick))
        for order in queue or ():
            order.ahead = min(order.ahead, change.qty // QTY_PER_BASE)

    def uncross(self) -> tuple[bool, list[Taken]] | None:
        """Trade away one of the flow's quotes that reaches users' orders, at the users' prices.

        Returns the quote's side and what it took, already carried out; None if nothing crosses.
        """
        book = self.book
        for buy in (True, False):
            index = book.best(buy=buy)
            if index in {0, book.top} or not self._prices[not buy]:
                continue
            price, users = Price(index * book.tick), self._prices[not buy]
            if (users[0] > price) if buy else (users[-1] < price):
                continue
            resting = book.qty(buy=buy, index=index)
            taken = first(self.sweep(buy=buy, limit=price), resting // QTY_PER_BASE)
            self.apply(taken)
            left = resting - sum(part.size for part in taken) * QTY_PER_BASE
            self.note(book.set_level(buy=buy, index=index, qty=Qty(left)))
            return buy, taken
        return None

    def make_way(self) -> list[LevelChange]:
        """Pull the flow's quotes that reach users' orders, without a trade."""
        book, changes = self.book, []
        for buy in (True, False):
            users = self._prices[not buy]
            while users and (index := book.best(buy=buy)) not in {0, book.top}:
                price = Price(index * book.tick)
                if (users[0] > price) if buy else (users[-1] < price):
                    break
                changes.append(book.set_level(buy=buy, index=index, qty=Qty(0)))
        return changes

    def _of_flow(self, *, buy: bool, price: Price) -> int:
        index, off = divmod(price, self.book.tick)
        return 0 if off else self.book.qty(buy=buy, index=index)

    def _queue(self, *, buy: bool, price: Price) -> Iterator[Taken]:
        """One level in the order of time: flow that was first, users, flow that came later."""
        flow = self._of_flow(buy=buy, price=price) // QTY_PER_BASE
        passed = 0
        for order in self._queues[buy].get(price, ()):
            if order.ahead > passed:
                yield Taken(price, order.ahead - passed, None)
                passed = order.ahead
            yield Taken(price, order.remaining, order)
        if flow > passed:
            yield Taken(price, flow - passed, None)

    def _eat_flow(self, part: Taken) -> LevelChange:
        """Take flow quantity from the front of its level."""
        book = self.book
        index = part.yes_price // book.tick
        # Takers come from the other side: a level at or above the best ask is an ask.
        buy = index <= book.best_bid
        left = book.qty(buy=buy, index=index) - part.size * QTY_PER_BASE
        for order in self._queues[buy].get(part.yes_price, ()):
            order.ahead = max(0, order.ahead - part.size)
        return book.set_level(buy=buy, index=index, qty=Qty(left))


def first(parts: Iterable[Taken], size: int) -> list[Taken]:
    """The first ``size`` base units of what a taker meets."""
    taken: list[Taken] = []
    left = size
    for part in parts:
        if left <= 0:
            break
        got = min(part.size, left)
        taken.append(part if got == part.size else Taken(part.yes_price, got, part.order))
        left -= got
    return taken
