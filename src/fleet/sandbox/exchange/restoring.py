"""Going on after a restart: what was stored meets freshly made markets.

The markets begin anew around their first fair prices; balances, orders, trades and what is under
way are as they were. Decisions, where a real venue's are not known:

- Resting orders rest again in the order they came, each behind all of the flow at its price.
- Where such an order and the fresh flow would cross, the *flow* steps back without a trade: a venue
  accepts nothing but post-only orders for two minutes after a restart (reference 8), so the quotes
  that would cross are refused.
- A GTD order that ended meanwhile is cancelled, a delay that ended is matched, and a settlement
  that was due goes on at the first step.
- A timed market that ended while nobody ran it is resolved now, by a coin of its own.
- A finer tick stays.
"""

from __future__ import annotations

from fleet.domain.units import Price
from fleet.sandbox.exchange import orders as status
from fleet.sandbox.exchange.desk import OrderDesk
from fleet.sandbox.exchange.orders import Order
from fleet.sandbox.exchange.settling import Settling
from fleet.sandbox.exchange.state import ExchangeState


def restore(
    state: ExchangeState, orders: list[Order], desk: OrderDesk, settling: Settling, now_ns: int
) -> None:
    """Put stored orders and trades of a loaded ``state`` to work again."""
    _restore_markets(state)
    for order in orders:
        state.active[order.order_id] = order
        state.ledger.hold(order.maker, order.asset, order.held)
    for trade in state.trades.values():
        settling.resume(trade)
    touched = {}
    for order in orders:
        market = state.simulator.listings.by_condition.get(order.condition_id)
        if market is None or market.closed:
            desk.lapse(order, now_ns)
            continue
        if order.status == status.LIVE:
            market.pool.add(order)
            touched[order.condition_id] = market
        desk.schedule(order)
    for market in touched.values():
        for change in market.pool.make_way():
            market.pool.note(change)


def _restore_markets(state: ExchangeState) -> None:
    """Close what was closed, refine what was refined, resolve what ended meanwhile."""
    listed = state.simulator.listings.by_condition
    for known in list(state.markets.values()):
        market = listed.get(known.condition_id)
        if market is None:
            if known.winner is None:
                coin = int(state.digest(f"winner:{known.condition_id}"), 16) % 2
                state.close(known.condition_id, coin)
            continue
        if 0 < known.tick < market.tick:
            market.flow.refine(Price(known.tick))
            market.tick_due = True
        if known.winner is not None:
            market.winner, market.closed_ns = known.winner, state.simulator.now_ns
