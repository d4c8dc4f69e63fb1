"""The durable part of a state as one record, and a state made from it again.

``restore(image_of(state))`` followed by later entries equals folding all entries: everything the
journal determines is in the image, and nothing else is. What market data determines (books, the
newest moment, counts of frames) starts anew, as after a fold.

An image shares its records with the state it was taken of, and a state takes over those of the
image it is made from: store an image before the state moves on, and restore it once.
Where and how it is stored is nothing this module knows.
"""

from __future__ import annotations

from msgspec import Struct

from fleet.domain.events import ForecastReceived, OrderFilled, TradingState
from fleet.domain.instruments import InstrumentId, Universe
from fleet.engine.bundles import BundlesImage
from fleet.engine.leaders import LeadersImage
from fleet.engine.orders import OrdersImage
from fleet.engine.portfolio import PortfolioImage
from fleet.engine.state import EMPTY_UNIVERSE, Payout, State


class StateImage(Struct, frozen=True, kw_only=True):
    """Everything a journal gives back."""

    portfolio: PortfolioImage
    orders: OrdersImage
    bundles: BundlesImage
    trading: TradingState
    trading_reason: str
    trading_by: str
    reconciled: bool
    operator: str
    resolved: dict[InstrumentId, Payout]
    forecasts: list[ForecastReceived]
    leaders: LeadersImage
    now_ns: int
    decisions: int
    anomaly: str
    unsettled: list[OrderFilled]


def image_of(state: State) -> StateImage:
    """The image of a state that came from a fold.

    A state that has seen market data has a ``now_ns`` no journal gives back; its image differs from
    that of the fold in this alone.
    """
    return StateImage(
        portfolio=state.portfolio.image(),
        orders=state.orders.image(),
        bundles=state.bundles.image(),
        trading=state.trading,
        trading_reason=state.trading_reason,
        trading_by=state.trading_by,
        reconciled=state.reconciled,
        operator=state.operator,
        resolved=state.resolved,
        forecasts=list(state.forecasts.values()),
        leaders=state.leaders.image(),
        now_ns=state.now_ns,
        decisions=state.decisions,
        anomaly=state.anomaly,
        unsettled=list(state.unsettled.values()),
    )


def restore(image: StateImage, universe: Universe = EMPTY_UNIVERSE) -> State:
    """A state that knows what ``image`` shows, and empty books of ``universe``.

    Raises ``KeyError`` if the image contradicts itself.
    """
    state = State(universe)
    state.portfolio.restore(image.portfolio)
    state.orders.restore(image.orders)
    state.bundles.restore(image.bundles)
    state.trading = image.trading
    state.trading_reason = image.trading_reason
    state.trading_by = image.trading_by
    state.reconciled = image.reconciled
    state.operator = image.operator
    state.resolved = image.resolved
    state.forecasts = {forecast.market_id: forecast for forecast in image.forecasts}
    paid = {token: payout.price for token, payout in image.resolved.items()}
    state.leaders.restore(image.leaders, paid)
    state.now_ns = image.now_ns
    state.decisions = image.decisions
    state.anomaly = image.anomaly
    state.unsettled = {fill.trade_id: fill for fill in image.unsettled}
    return state
