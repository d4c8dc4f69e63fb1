"""What is at stake: exposure and free funds, open and in-flight orders counted as filled.

Pure sums over the state; ``fleet.engine.risk`` compares them with the limits.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleet.domain.commands import LegPlan, OpenBundle
from fleet.domain.instruments import Instrument, InstrumentId, MarketId, Side
from fleet.domain.units import Cash, Qty, notional_up
from fleet.engine.bundles import Bundle
from fleet.engine.state import State


def leg_cost(leg: LegPlan, instrument: Instrument) -> Cash:
    """The most a planned leg can cost, fees in; a SELL leg costs nothing."""
    if leg.side is Side.SELL:
        return Cash(0)
    return Cash(notional_up(leg.limit, leg.qty) + instrument.fees.fee(leg.limit, leg.qty))


def planned_by_market(plans: Iterable[OpenBundle], state: State) -> dict[MarketId, int]:
    """The most each market's legs of these plans can cost."""
    total: dict[MarketId, int] = {}
    for plan in plans:
        for leg in plan.legs:
            instrument = state.universe.instruments.get(leg.instrument_id)
            if instrument is not None:
                cost = leg_cost(leg, instrument)
                total[instrument.market_id] = total.get(instrument.market_id, 0) + cost
    return total


def _leg_reserve(bundle: Bundle, index: int, state: State) -> int:
    leg = bundle.plan.legs[index]
    instrument = state.universe.instruments.get(leg.instrument_id)
    if instrument is None:
        return 0
    return max(0, leg_cost(leg, instrument) + min(0, bundle.legs[index].cash))


def reserved_budget(state: State) -> Cash:
    """What the open bundles may still spend."""
    return Cash(sum(max(0, b.plan.budget - b.spent) for b in state.bundles.open.values()))


def in_flight_cash(state: State) -> Cash:
    """What the open BUY orders may still cost, fees in."""
    total = 0
    for order in state.orders.open.values():
        instrument = state.universe.instruments.get(order.instrument_id)
        if order.side is Side.BUY and instrument is not None:
            total += notional_up(order.price, order.remaining)
            total += instrument.fees.fee(order.price, order.remaining)
    return Cash(total)


def wallet_exposure(state: State) -> Cash:
    """Cost of all positions plus what the open bundles may still spend."""
    return Cash(state.portfolio.cost + reserved_budget(state))


def market_exposure(market_id: MarketId, state: State) -> Cash:
    """Cost of the positions in one market plus what open bundles may still spend in it."""
    market = state.universe.markets[market_id]
    total: int = sum(state.portfolio.position(token).cost for token in (market.yes, market.no))
    for bundle in state.bundles.open.values():
        for index, leg in enumerate(bundle.plan.legs):
            if leg.instrument_id in {market.yes, market.no}:
                total += _leg_reserve(bundle, index, state)
    return Cash(total)


def free_tokens(instrument_id: InstrumentId, state: State) -> Qty:
    """Settled tokens that no open SELL and no pending operation has claimed."""
    selling = sum(
        o.remaining for o in state.orders.open.values()
        if o.side is Side.SELL and o.instrument_id == instrument_id
    )  # fmt: skip
    burning = sum(
        qty for op in state.bundles.pending.values() for token, qty in op.burn
        if token == instrument_id
    )  # fmt: skip
    return Qty(max(0, state.portfolio.position(instrument_id).settled - selling - burning))
