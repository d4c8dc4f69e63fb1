"""What a forecast is worth against a book: the bet it allows, and the sale of a holding.

Pure arithmetic at 1e-8. Both walk the depth of one book, with the fee of every level. Only numbers
come in: the blend, its weight and its deviation; nothing a model wrote can reach a size from here.
"""

from __future__ import annotations

from msgspec import Struct

from fleet.domain.commands import BundleId, LegPlan, OpenBundle
from fleet.domain.events import ForecastReceived
from fleet.domain.instruments import InstrumentId, Market, MarketId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, ceil_to, floor_to, notional_down, shares_for
from fleet.strategies.correlation import cost_at
from fleet.strategies.forecast_settings import ForecastSettings
from fleet.strategies.kelly import confident, kelly_stake
from fleet.strategies.sizing import Offer, take

IDEA = "FORECAST"
EXIT = "FORECAST_EXIT"
_NONE = BundleId("")


class Funds(Struct, frozen=True):
    """What a bet may come from: the bankroll Kelly divides, what is staked already, the cap."""

    bankroll: Cash
    staked: Cash
    room: Cash


class Trade(Struct, frozen=True):
    """One order worth sending: ``cash`` is its exact cost (negative) or proceeds, fees in."""

    instrument_id: InstrumentId
    side: Side
    qty: Qty
    limit: Price
    cash: Cash
    budget: Cash
    """Most a BUY can cost: every share at the limit, with its fee."""


def value_of(forecast: ForecastReceived, token: InstrumentId, market: Market) -> Price:
    """What a share of a token is worth by the blend: its chance to pay a dollar."""
    return Price(forecast.blend if token == market.yes else SCALE - forecast.blend)


def has_edge(forecast: ForecastReceived) -> bool:
    """Whether skill against the price was shown, and measured; if not, nothing may be staked."""
    known = 0 < forecast.weight <= SCALE and forecast.deviation > 0
    return known and 0 < forecast.blend < SCALE


def find_bet(
    offer: Offer, value: Price, deviation: int, funds: Funds, settings: ForecastSettings
) -> Trade | None:
    """The largest bet whose last share still has its edge, or nothing.

    Every share is charged what the worst one may cost: the level's price and the slippage, with
    fee. Kelly is asked at that cost, so each deeper level allows less, and the walk ends.
    """
    book, instrument = offer.book, offer.instrument
    best: tuple[Qty, Price, Cash] | None = None
    depth = 0
    for price, shown in book.levels(Side.BUY):
        reach = instrument.quantize_price(price + settings.slippage, Side.BUY)
        limit = max(price, Price(floor_to(reach, book.tick)))
        cost = limit + instrument.fees.per_share(limit)
        edge = value - cost
        if edge < settings.min_edge or not confident(edge, deviation, settings.min_confidence):
            break
        wanted = kelly_stake(funds.bankroll, value, cost, settings.kelly_fraction) - funds.staked
        stake = Cash(min(funds.room, wanted))
        if stake <= 0:
            break
        depth += shown
        affordable = shares_for(stake, Price(cost))
        qty = Qty(min(depth, affordable))
        if best is None or qty > best[0]:
            best = qty, limit, stake
        if affordable <= depth:
            break
    if best is None:
        return None
    qty, limit, stake = instrument.quantize_qty(best[0]), best[1], best[2]
    # A fee is rounded up to five decimals in one sum: at most a lot too much.
    while qty > 0 and cost_at(limit, qty, instrument.fees.fee(limit, qty)) > stake:
        qty = Qty(qty - instrument.lot)
    taken = take(offer, qty) if qty > 0 else None
    if taken is None or qty < instrument.least_qty(limit):
        return None
    budget = cost_at(limit, qty, instrument.fees.fee(limit, qty))
    return Trade(instrument.id, Side.BUY, qty, limit, taken[0], budget)


def find_sale(offer: Offer, qty: Qty, *, worth: int, floor: Price) -> Trade | None:
    """The most of ``qty`` shares the bids take now, or nothing.

    No share is sold that brings less than ``worth`` after its fee, or at a price below ``floor``.
    """
    book, instrument = offer.book, offer.instrument
    depth, limit = 0, Price(0)
    for price, shown in book.levels(Side.SELL):
        if depth >= qty or price < floor or price - instrument.fees.per_share(price) < worth:
            break
        depth += shown
        limit = price
    sold = instrument.quantize_qty(min(qty, depth))
    if limit <= 0 or sold < instrument.least_qty(limit):
        return None
    taken = take(offer, sold)
    return Trade(instrument.id, Side.SELL, sold, limit, taken[0], Cash(0)) if taken else None


def bundle_of(
    trade: Trade,
    bundle_id: BundleId,
    *,
    market_id: MarketId,
    value: Price,
    tick: Price,
    exits: BundleId = _NONE,
) -> OpenBundle:
    """A trade as a bundle of one leg, held to resolution if it buys; a share is worth ``value``.

    The edge of a BUY is what its shares are worth beyond their cost, of an exit the other way.
    """
    bought = trade.side is Side.BUY
    worth = (
        notional_down(value, trade.qty) if bought else -ceil_to(value * trade.qty, SCALE) // SCALE
    )
    leg = LegPlan(
        instrument_id=trade.instrument_id, side=trade.side, qty=trade.qty, limit=trade.limit,
        unwind=tick,
    )  # fmt: skip
    return OpenBundle(
        bundle_id=bundle_id, idea=IDEA if bought else EXIT, key=market_id, legs=(leg,), start=None,
        finish=None, payoff=value, budget=trade.budget, edge=Cash(trade.cash + worth), exits=exits,
    )  # fmt: skip
