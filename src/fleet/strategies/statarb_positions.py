"""Opening and closing a spread as bundles: what it costs, how much of it, when it is over.

Integers only. An entry buys YES of the legs that are too cheap and NO of those that are too dear,
the same number of shares of each; an exit sells what is left of them and names the bundle that
bought it. Nothing is ever shorted, and nothing is bought above the limit that the plan names.

What a set is expected to bring is its middle price now plus the part of the deviation that ought to
go away, less half a spread, fee and slippage on the way out. An entry has to leave a margin over
all it costs, in and out, at every level of the books it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fleet.domain.commands import BundleId, LegPlan, OpenBundle
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import (
    SCALE,
    ZERO_CASH,
    Cash,
    Price,
    Qty,
    ceil_to,
    floor_to,
    notional_up,
    scale_ratio,
)
from fleet.engine.standing import Standing
from fleet.engine.view import View
from fleet.strategies.sizing import Offer, Sizing, leg_prices, size_bundle, take
from fleet.strategies.statarb_fit import Signal
from fleet.strategies.statarb_relations import Relation

IDEA: Final = "STATARB"
_TRIES: Final = 4
"""How often a size is brought down to its dollars; deeper levels cost more than the best one."""


class Refusal(Enum):
    """Why a spread that stands far enough out was not bought."""

    BOOK = "book"
    GONE = "gone"
    COST = "cost"
    THIN = "thin"
    SMALL = "small"
    ROOM = "room"


class Reason(Enum):
    """Why a position is closed."""

    REVERTED = "reverted"
    STOP = "stop"
    LOSS = "loss"
    TIME = "time"
    BROKEN = "broken"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRules:
    """What an entry must leave. Ratios and z at 1e-8; ``slippage`` is dollars a share and leg."""

    entry_z: int
    exit_z: int
    cost_margin: int
    slippage: Price
    unwind_slippage: Price


def tokens(relation: Relation, view: View, *, high: bool) -> tuple[InstrumentId, ...]:
    """What to buy of each leg if the spread stands too high (or, if not ``high``, too low)."""
    markets = view.universe.markets
    return tuple(
        markets[market].no if (weight > 0) == high else markets[market].yes
        for market, weight in relation.legs
    )


def entry(
    signal: Signal, view: View, rules: EntryRules, room: int, next_id: Callable[[], BundleId]
) -> OpenBundle | Refusal:
    """The bundle that buys the spread back towards its mean, for at most ``room`` dollars."""
    markets = view.universe.markets
    books = [view.book(markets[market].yes) for market, _ in signal.relation.legs]
    high = signal.z > 0
    bought = tokens(signal.relation, view, high=high)
    offers = [Offer(view.instrument(token), Side.BUY, view.book(token)) for token in bought]
    if not all(_quoted(o) for o in offers) or not all(b.usable and b.best_bid for b in books):
        return Refusal.BOOK
    pairs = zip(signal.relation.legs, books, strict=True)
    now = sum(weight * (book.bid + book.ask) // 2 for (_, weight), book in pairs)
    away = now - signal.target if high else signal.target - now
    if away < scale_ratio(signal.sigma, rules.entry_z):
        return Refusal.GONE
    reversion = away - scale_ratio(signal.sigma, rules.exit_z)
    middle = sum(o.book.bid + o.book.ask for o in offers) // 2
    way_out = sum(_way_out(o) for o in offers) + rules.slippage * len(offers)
    way_in = sum(o.book.ask + o.fees.per_share(o.book.ask) for o in offers) - middle
    if reversion < scale_ratio(way_in + way_out, rules.cost_margin):
        return Refusal.COST
    payoff = middle + reversion - way_out
    margin = scale_ratio(way_in + way_out, rules.cost_margin - SCALE)
    size = _sized(offers, payoff - margin, room)
    if isinstance(size, Refusal):
        return size
    order = [i for _, i in sorted(zip(size.depths, range(len(offers)), strict=True))]
    chosen = [offers[i] for i in order]
    prices = leg_prices(chosen, [size.limits[i] for i in order], size)
    legs = tuple(
        LegPlan(
            instrument_id=offer.instrument.id,
            side=Side.BUY,
            qty=size.qty,
            limit=cap,
            price=price,
            unwind=_floor(offer, rules.unwind_slippage),
        )
        for offer, (price, cap) in zip(chosen, prices, strict=True)
    )
    return OpenBundle(
        bundle_id=next_id(),
        idea=IDEA,
        key=signal.relation.key,
        legs=legs,
        start=None,
        finish=None,
        payoff=Price(payoff),
        budget=_worst(chosen, prices, size.qty),
        edge=Cash(size.edge + margin * size.qty // SCALE),
    )


def _quoted(offer: Offer) -> bool:
    return offer.book.usable and offer.book.best_bid > 0 and offer.book.best_ask < offer.book.size


def _way_out(offer: Offer) -> int:
    """What selling a share at the bid costs against the middle, fee in."""
    book = offer.book
    return (book.ask - book.bid) // 2 + offer.fees.per_share(Price((book.ask + book.bid) // 2))


def _sized(offers: Sequence[Offer], payoff: int, room: int) -> Sizing | Refusal:
    """The largest size whose worst cost fits into ``room``; small ones could not be sold again."""
    best = [offer.book.ask for offer in offers]
    dearest, trade_size = max(best), room * max(best) // max(1, sum(best))
    for _ in range(_TRIES):
        size = size_bundle(offers, payoff, trade_size=Cash(trade_size), min_profit=0)
        if size is None:
            small = trade_size < dearest * max(o.instrument.min_qty for o in offers) // SCALE
            return Refusal.ROOM if small else Refusal.THIN
        caps = leg_prices(offers, size.limits, size)
        worst = _worst(offers, caps, size.qty)
        if worst <= room:
            sellable = all(
                offer.book.bid * size.qty >= 2 * offer.instrument.min_notional * SCALE
                for offer in offers
            )
            return size if sellable else Refusal.SMALL
        # A hundredth less than in proportion: fees and lots are rounded against us.
        trade_size = trade_size * room // worst * 99 // 100
    return Refusal.ROOM


def _worst(offers: Sequence[Offer], prices: Sequence[tuple[Price, Price]], qty: Qty) -> Cash:
    """What the legs cost if every one fills at its cap."""
    return Cash(
        sum(
            notional_up(cap, qty) + offer.fees.fee(cap, qty)
            for offer, (_, cap) in zip(offers, prices, strict=True)
        )
    )


def _floor(offer: Offer, slippage: Price) -> Price:
    """What a lonely leg is offered at first."""
    tick = offer.book.tick
    return Price(max(tick, min(ceil_to(offer.book.bid - slippage, tick), SCALE - tick)))


# --- the way out ------------------------------------------------------------------------------


def held_high(relation: Relation, standing: Standing, view: View) -> bool | None:
    """Whether a position bet on the spread falling; nothing if its tokens are not the relation's.

    A position of which one leg is gone already still tells by the others.
    """
    held = {leg.instrument_id for leg in standing.legs}
    for high in (True, False):
        if held <= set(tokens(relation, view, high=high)):
            return high
    return None


def marked(standing: Standing, view: View) -> Cash | None:
    """What selling all of it now would bring after fees; nothing while a book cannot tell."""
    total = 0
    for leg in standing.legs:
        if leg.left <= 0:
            continue
        if not view.knows(leg.instrument_id) or leg.instrument_id in view.resolved:
            return None
        book = view.book(leg.instrument_id)
        sold = take(Offer(view.instrument(leg.instrument_id), Side.SELL, book), leg.left)
        if not book.usable or sold is None:
            return None
        total += sold[0]
    return Cash(total)


def exit_bundle(
    standing: Standing, view: View, *, slippage: Price, next_id: Callable[[], BundleId]
) -> OpenBundle | None:
    """The bundle that sells what is left; nothing if no leg can be sold now.

    Shares that are fewer than the market's minimum, or worth less, stay until resolution.
    """
    legs: list[LegPlan] = []
    worth = edge = 0
    for held in standing.legs:
        token = held.instrument_id
        if held.left <= 0 or not view.knows(token) or token in view.resolved:
            continue
        instrument, book = view.instrument(token), view.book(token)
        free = min(held.left, view.position(token).settled)
        qty = instrument.quantize_qty(free)
        if not (book.usable and book.best_bid) or qty < instrument.min_qty:
            continue
        limit = Price(max(book.tick, floor_to(book.bid - slippage, book.tick)))
        if limit * qty < instrument.min_notional * SCALE:
            limit = book.bid
            if limit * qty < instrument.min_notional * SCALE:
                continue
        middle = (book.bid + min(book.ask, SCALE)) // 2
        worth += middle
        edge -= (middle - book.bid + instrument.fees.per_share(book.bid)) * qty // SCALE
        legs.append(
            LegPlan(
                instrument_id=token, side=Side.SELL, qty=qty, limit=limit, price=book.bid,
                unwind=limit,
            )
        )  # fmt: skip
    if not legs:
        return None
    legs.sort(key=lambda leg: view.book(leg.instrument_id).depth(Side.SELL, leg.limit))
    return OpenBundle(
        bundle_id=next_id(),
        idea=IDEA,
        key=standing.key,
        legs=tuple(legs),
        start=None,
        finish=None,
        payoff=Price(worth),
        budget=ZERO_CASH,
        edge=Cash(edge),
        exits=standing.bundle_id,
    )
