"""Which markets win and lose together, and what is at stake in each such group.

Markets of one event, one outcome set or one ladder answer to the same news. They are merged by
union-find into groups, and a group's stake is one stake: what its positions cost, whoever bought
them, and what open bundles and orders may still spend. Pure sums over the view.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.domain.commands import OperationKind
from fleet.domain.instruments import MarketId, Side, Universe
from fleet.domain.units import Cash, Price, Qty, notional_up
from fleet.engine.bundle import Bundle, OperationStatus
from fleet.engine.view import View


class Groups:
    """Market -> group; a group is named by the first of its markets in the universe's order."""

    def __init__(self, universe: Universe) -> None:
        """Merge the markets of ``universe``."""
        self._above: dict[MarketId, MarketId] = {market: market for market in universe.markets}
        self._rank = {market: number for number, market in enumerate(universe.markets)}
        by_event: dict[str, MarketId] = {}
        for market in universe.markets.values():
            if market.event_id:
                self._merge(by_event.setdefault(market.event_id, market.id), market.id)
        chains = [*(one.markets for one in universe.sets), *(one.rungs for one in universe.ladders)]
        for chain in chains:
            for market_id in chain[1:]:
                self._merge(chain[0], market_id)

    def of(self, market_id: MarketId) -> MarketId:
        """The group of a market; a market that is not in the universe is alone."""
        root = market_id
        while (above := self._above.get(root, root)) != root:
            root = above
        if market_id in self._above:
            self._above[market_id] = root
        return root

    def _merge(self, one: MarketId, other: MarketId) -> None:
        first, second = self.of(one), self.of(other)
        if self._rank[first] > self._rank[second]:
            first, second = second, first
        self._above[second] = first


class Stakes:
    """What is at stake now, by market and group; wishes of the same moment are added."""

    def __init__(self, view: View, groups: Groups, idea: str = "") -> None:
        """Add up positions at cost, and what bundles and orders may still spend."""
        self._groups = groups
        self._market: dict[MarketId, int] = {}
        self._group: dict[MarketId, int] = {}
        self.reserved = 0
        """Cash that is still there and already promised."""
        self.equity = int(view.cash)
        """Cash, and all positions at what they cost."""
        for token, position in view.positions.items():
            self.equity += position.cost
            if view.knows(token):
                self._add(view.instrument(token).market_id, position.cost)
        for market_id, cost in _promised(view):
            self.add(market_id, cost)
        self.by_idea: int = sum(s.cost for s in view.standing.values() if s.idea == idea)
        """What the bundles of ``idea`` hold at cost, and what the open ones may cost in all."""
        self.by_idea += sum(
            max(b.plan.budget, b.spent) for b in view.open_bundles.values() if b.plan.idea == idea
        )

    def add(self, market_id: MarketId, cost: int) -> None:
        """Count what a wish of this moment may spend."""
        self.reserved += cost
        self._add(market_id, cost)

    def _add(self, market_id: MarketId, cost: int) -> None:
        self._market[market_id] = self._market.get(market_id, 0) + cost
        group = self._groups.of(market_id)
        self._group[group] = self._group.get(group, 0) + cost

    def market(self, market_id: MarketId) -> Cash:
        """At stake in one market."""
        return Cash(self._market.get(market_id, 0))

    def group(self, market_id: MarketId) -> Cash:
        """At stake in everything that moves with this market."""
        return Cash(self._group.get(self._groups.of(market_id), 0))


def _promised(view: View) -> Iterator[tuple[MarketId, int]]:
    """What open bundles, and orders and splits that outlive theirs, may still spend, by market."""
    for bundle in view.open_bundles.values():
        yield from _left(bundle, view)
    for order in view.open_orders.values():
        loose = order.bundle_id not in view.open_bundles and order.side is Side.BUY
        if loose and view.knows(order.instrument_id):
            instrument = view.instrument(order.instrument_id)
            fee = instrument.fees.fee(order.price, order.remaining)
            yield instrument.market_id, notional_up(order.price, order.remaining) + fee
    for operation in view.pending_operations.values():
        if operation.bundle_id not in view.open_bundles and operation.cash < 0 and operation.mint:
            token = operation.mint[0][0]
            if view.knows(token):
                yield view.instrument(token).market_id, -operation.cash


def _left(bundle: Bundle, view: View) -> Iterator[tuple[MarketId, int]]:
    for plan, state in zip(bundle.plan.legs, bundle.legs, strict=True):
        if plan.side is Side.BUY and view.knows(plan.instrument_id):
            instrument = view.instrument(plan.instrument_id)
            most = cost_at(plan.limit, plan.qty, instrument.fees.fee(plan.limit, plan.qty))
            yield instrument.market_id, max(0, most + min(0, state.cash))
    split = bundle.operation(OperationKind.SPLIT)
    made = split is not None and split.status is OperationStatus.CONFIRMED
    first = bundle.plan.legs[0]
    if bundle.plan.start is OperationKind.SPLIT and not made and view.knows(first.instrument_id):
        yield view.instrument(first.instrument_id).market_id, max(x.qty for x in bundle.plan.legs)


def cost_at(price: Price, qty: Qty, fee: Cash) -> Cash:
    """What ``qty`` shares cost at ``price`` with ``fee``, rounded up."""
    return Cash(notional_up(price, qty) + fee)
