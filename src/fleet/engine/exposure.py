"""What is at stake: exposure and free funds, open and in-flight orders counted as filled.

Pure sums over the state; ``fleet.engine.risk`` compares them with the limits. A plan is counted at
what its legs and its split can cost, whatever its budget says; an order or a split that outlives
its bundle is counted by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fleet.domain.commands import (
    LegPlan,
    OpenBundle,
    OperationIntent,
    OperationKind,
    OrderIntent,
    RunOperation,
)
from fleet.domain.instruments import Instrument, InstrumentId, MarketId, Side
from fleet.domain.units import SCALE, ZERO_CASH, Cash, Qty, notional_up
from fleet.engine.bundle import Bundle, OperationStatus
from fleet.engine.orders import Order
from fleet.engine.state import State

_BUY: Final = Side.BUY
_SELL: Final = Side.SELL


def leg_cost(leg: LegPlan, instrument: Instrument) -> Cash:
    """The most a planned leg can cost, fees in; a SELL leg costs nothing."""
    if leg.side is _SELL:
        return ZERO_CASH
    limit, qty = leg.limit, leg.qty
    return instrument.fees.fee(limit, qty) - -limit * qty // SCALE  # type: ignore[return-value]


def split_cost(plan: OpenBundle) -> Cash:
    """What the split a plan starts with costs: one dollar a pair; 0 without one."""
    if plan.start is not OperationKind.SPLIT:
        return ZERO_CASH
    return Cash(max(leg.qty for leg in plan.legs))


def plan_cost(plan: OpenBundle, state: State) -> Cash:
    """The most a plan can cost: its budget, but never less than its legs and its split."""
    return Cash(max(plan.budget, sum(planned_by_market([plan], state).values())))


def planned_by_market(plans: Iterable[OpenBundle], state: State) -> dict[MarketId, int]:
    """The most each market's legs of these plans, and the split of their first leg, can cost."""
    total: dict[MarketId, int] = {}
    instruments = state.universe.instruments
    for plan in plans:
        split = split_cost(plan) if plan.start is not None else 0
        for leg in plan.legs:
            instrument = instruments.get(leg.instrument_id)
            if instrument is not None:
                market_id = instrument.market_id
                total[market_id] = total.get(market_id, 0) + leg_cost(leg, instrument) + split
            split = 0
    return total


def _split_made(bundle: Bundle) -> bool:
    split = bundle.operation(OperationKind.SPLIT)
    return split is not None and split.status is OperationStatus.CONFIRMED


def _leg_reserve(bundle: Bundle, index: int, state: State) -> int:
    """What a leg may still cost; the first leg carries the split until it is made."""
    leg = bundle.plan.legs[index]
    instrument = state.universe.instruments.get(leg.instrument_id)
    if instrument is None:
        return 0
    split = 0 if index or _split_made(bundle) else split_cost(bundle.plan)
    return max(0, leg_cost(leg, instrument) + min(0, bundle.legs[index].cash)) + split


def _reserve(bundle: Bundle, state: State) -> int:
    split = split_cost(bundle.plan) if _split_made(bundle) else 0
    legs = sum(_leg_reserve(bundle, index, state) for index in range(len(bundle.legs)))
    return max(legs, bundle.plan.budget - bundle.spent - split)


def order_cost(order: Order, state: State) -> int:
    """What an open order may still cost, fees in; a SELL costs nothing."""
    instrument = state.universe.instruments.get(order.instrument_id)
    if order.side is _SELL or instrument is None:
        return 0
    return notional_up(order.price, order.remaining) + instrument.fees.fee(
        order.price, order.remaining
    )


def _loose(state: State) -> tuple[list[Order], list[RunOperation]]:
    """What is under way for bundles that are closed."""
    if not state.orders.open and not state.bundles.pending:
        return [], []
    bundles = state.bundles.open
    return (
        [o for o in state.orders.open.values() if o.bundle_id not in bundles],
        [op for op in state.bundles.pending.values() if op.bundle_id not in bundles],
    )


def reserved_budget(state: State) -> Cash:
    """What the open bundles, and whatever outlives its bundle, may still spend."""
    if not (state.bundles.open or state.orders.open or state.bundles.pending):
        return ZERO_CASH
    orders, operations = _loose(state)
    total = 0
    for order in orders:
        total += order_cost(order, state)
    for operation in operations:
        total += max(0, -operation.cash)
    for bundle in state.bundles.open.values():
        total += _reserve(bundle, state)
    return Cash(total)


def in_flight_cash(state: State) -> Cash:
    """What the open BUY orders and the pending splits may still cost, fees in."""
    total = 0
    for order in state.orders.open.values():
        total += order_cost(order, state)
    for operation in state.bundles.pending.values():
        total += max(0, -operation.cash)
    return Cash(total)


def wallet_exposure(state: State) -> Cash:
    """Cost of all positions plus what may still be spent."""
    return Cash(state.portfolio.cost + reserved_budget(state))


def market_exposure(market_id: MarketId, state: State) -> Cash:
    """Cost of the positions in one market plus what may still be spent in it."""
    market = state.universe.markets[market_id]
    # A share or a coin is both: its position counts once.
    tokens = (market.yes,) if market.yes == market.no else (market.yes, market.no)
    total = 0
    for token in tokens:
        position = state.portfolio.positions.get(token)
        if position is not None:
            total += position.cost
    if not (state.bundles.open or state.orders.open or state.bundles.pending):
        return total  # type: ignore[return-value]  # a plain int: the hot path wraps none
    for bundle in state.bundles.open.values():
        for index, leg in enumerate(bundle.plan.legs):
            if leg.instrument_id in tokens:
                total += _leg_reserve(bundle, index, state)
    orders, operations = _loose(state)
    total += sum(order_cost(o, state) for o in orders if o.instrument_id in tokens)
    for operation in operations:
        if any(token in tokens for token, _ in operation.mint):
            total += max(0, -operation.cash)
    return Cash(total)


def free_cash(
    state: State, orders: Iterable[OrderIntent] = (), operations: Iterable[OperationIntent] = ()
) -> Cash:
    """Cash that nothing in flight, and none of these wishes, may still spend."""
    wanted = sum(max(0, -operation.cash) for operation in operations)
    for order in orders:
        if order.side is _BUY:
            fees = state.universe.instruments[order.instrument_id].fees
            wanted += notional_up(order.price, order.qty) + fees.fee(order.price, order.qty)
    return Cash(state.portfolio.cash - in_flight_cash(state) - wanted)


def free_tokens(
    instrument_id: InstrumentId,
    state: State,
    orders: Iterable[OrderIntent] = (),
    operations: Iterable[OperationIntent] = (),
) -> Qty:
    """Settled tokens that no open SELL, no pending operation and none of these wishes claims."""
    open_sells = sum(
        o.remaining for o in state.orders.open.values()
        if o.side is _SELL and o.instrument_id == instrument_id
    )  # fmt: skip
    sells = sum(o.qty for o in orders if o.side is _SELL and o.instrument_id == instrument_id)
    burning: list[RunOperation | OperationIntent] = [*state.bundles.pending.values(), *operations]
    burns = sum(n for op in burning for token, n in op.burn if token == instrument_id)
    settled = state.portfolio.position(instrument_id).settled
    return Qty(max(0, settled - open_sells - sells - burns))
