"""How much of a multi-leg idea is worth doing: a joint walk through the depth of all its legs.

Each step takes the shares every leg still offers at its current level. It goes on while one more
share of each leg earns at least the wanted margin after fees, and while no leg spends more than the
trade size. What comes out is the quantity, the worst price of each leg (its hard limit) and the
exact cost and edge, rounded against us.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from fleet.domain.instruments import Instrument, Side
from fleet.domain.units import (
    SCALE,
    Cash,
    Price,
    Qty,
    notional_down,
    notional_up,
)
from fleet.engine.book import Book

UNREACHABLE: Final = 1_000 * SCALE
"""More than any share costs."""


class Offer:
    """One leg as it could be traded now: its rules, our side, and the book we would meet."""

    __slots__ = ("_units", "book", "buying", "fees", "instrument", "side")

    def __init__(self, instrument: Instrument, side: Side, book: Book) -> None:
        """Trade ``side`` of ``instrument``, against ``book``."""
        self.instrument: Final = instrument
        self.side: Final = side
        self.book: Final = book
        self.buying: Final = side is Side.BUY
        self.fees: Final = instrument.fees
        self._units: dict[Price, int] = {}

    def unit_cost(self, price: Price) -> int:
        """What one share costs at ``price`` with its fee, at 1e-8; negative for what a sale brings.

        Looked up but for the first time: there are no more prices than ticks.
        """
        unit = self._units.get(price)
        if unit is None:
            fee = self.fees.per_share(price)
            unit = self._units[price] = price + fee if self.buying else fee - price
        return unit


class Sizing(Struct, frozen=True, gc=False):
    """``qty`` shares of every leg; ``limits`` and ``depths`` in the order of the offers.

    ``outlay`` is the most the legs (or, for sold legs, the split) cost with fees, ``edge`` the
    profit if everything fills at the prices walked. Both in dollars at 1e-8.
    """

    qty: Qty
    limits: tuple[Price, ...]
    depths: tuple[Qty, ...]
    outlay: Cash
    edge: Cash


def take(offer: Offer, qty: Qty) -> tuple[Cash, Price] | None:
    """Net cash of taking ``qty`` now (negative when paid) and the worst price; nothing if thin."""
    buying, fees = offer.buying, offer.fees
    left, cash = int(qty), 0
    for price, offered in offer.book.levels(offer.side):
        part = offered if offered < left else Qty(left)
        if buying:
            cash -= notional_up(price, part) + fees.fee(price, part)
        else:
            cash += notional_down(price, part) - fees.fee(price, part)
        left -= part
        if not left:
            return Cash(cash), price
    return None


def size_bundle(
    offers: Sequence[Offer], payoff: int, trade_size: Cash, min_profit: int
) -> Sizing | None:
    """The largest worthwhile quantity, or nothing.

    ``payoff`` is what one share of every leg brings in the end, at 1e-8 (minus one dollar when the
    legs are sold after a split). ``min_profit`` is the wanted profit per dollar put in, at 1e-8.
    ``trade_size`` bounds the notional of each leg.
    """
    tops = _tops(offers)
    if tops is None:
        return None
    walked = _at_best(offers, tops, payoff, trade_size, min_profit)
    if walked is None:
        walked = _walk(offers, payoff, trade_size, min_profit)
    lot = 0
    for offer in offers:
        if offer.instrument.lot > lot:  # noqa: PLR1730 - hot path
            lot = offer.instrument.lot
    qty: Qty = walked - walked % lot  # type: ignore[assignment]  # plain ints: the hot path
    if qty <= 0:
        return None
    cash = outlay = 0
    limits, depths = [], []
    for index, offer in enumerate(offers):
        limit, shown = tops[index]
        fees = offer.fees
        if qty > shown:
            taken = take(offer, qty)
            if taken is None:
                return None
            cash += taken[0]
            limit = taken[1]
            shown = offer.book.depth(offer.side, limit)
            if offer.buying:
                outlay -= qty * -limit // SCALE - fees.fee(limit, qty)
        elif offer.buying:
            part = qty * -limit // SCALE - fees.fee(limit, qty)
            cash += part
            outlay -= part
        else:
            cash += qty * limit // SCALE - fees.fee(limit, qty)
        rules = offer.instrument
        if qty < rules.min_qty or qty * limit < rules.min_notional * SCALE:
            return None
        limits.append(limit)
        depths.append(shown)
    if payoff >= 0:
        edge = cash + payoff * qty // SCALE
    else:
        split = -(payoff * qty // SCALE)
        edge = cash - split
        outlay += split
    if edge <= 0 or edge * SCALE < min_profit * outlay:
        return None
    return Sizing(qty, tuple(limits), tuple(depths), outlay, edge)  # type: ignore[arg-type]


def leg_prices(
    offers: Sequence[Offer], walked: Sequence[Price], size: Sizing
) -> list[tuple[Price, Price]]:
    """First price and hard cap of each leg, in execution order.

    The first leg is a probe and never asks more than was walked. Once it has filled, the rest may
    together give up the edge and half of what unwinding the probe would cost; a leg that is still
    missing when the others have filled may give up the edge and half of what unwinding all of them
    would cost: up to there completing the set is the smaller loss. Sold legs keep what was walked,
    because unsold pairs merge back without a loss.
    """
    if any(offer.side is Side.SELL for offer in offers):
        return [(price, price) for price in walked]
    edge = size.edge * SCALE // size.qty
    losses = [_round_trip(o, price) for o, price in zip(offers, walked, strict=True)]
    slack = (edge + losses[0] // 2) // max(1, len(offers) - 1)
    prices = [(walked[0], walked[0])]
    for index, offer in enumerate(offers[1:], 1):
        rest = sum(losses) - losses[index]
        price = offer.instrument.quantize_price(walked[index] + slack, Side.BUY)
        cap = offer.instrument.quantize_price(walked[index] + edge + rest // 2, Side.BUY)
        prices.append((max(walked[index], min(price, cap)), max(walked[index], cap)))
    return prices


def _round_trip(offer: Offer, price: Price) -> int:
    """What buying a share at ``price`` and selling it at the bid loses, fees in, at 1e-8."""
    fees = offer.instrument.fees
    return max(0, price + fees.per_share(price) - offer.book.bid + fees.per_share(offer.book.bid))


def _tops(offers: Sequence[Offer]) -> list[tuple[Price, Qty]] | None:
    """The best level each leg meets; nothing if some leg meets none."""
    tops = []
    for offer in offers:
        book = offer.book
        if offer.buying:
            index = book.best_ask
            shown = book.asks[index]
        else:
            index = book.best_bid
            shown = book.bids[index]
        if not shown:
            return None
        tops.append((index * book.tick, shown))
    return tops  # type: ignore[return-value]  # plain ints: the hot path wraps none


def _at_best(
    offers: Sequence[Offer],
    tops: Sequence[tuple[Price, Qty]],
    payoff: int,
    trade_size: Cash,
    min_profit: int,
) -> int | None:
    """What ``_walk`` finds when the best levels decide it, in a fraction of the time; else nothing.

    They decide it when they do not pay at all, when the trade size ends the walk before a level
    does, or when the levels behind the exhausted ones do not pay.
    """
    step: int = tops[0][1]
    for price, shown in tops:
        step = min(step, shown, trade_size * SCALE // price)
    cost = behind = 0
    capital = capital_behind = -payoff if payoff < 0 else 0
    for index, offer in enumerate(offers):
        price, shown = tops[index]
        unit = offer.unit_cost(price)
        cost += unit
        if unit > 0:
            capital += unit
        if step == shown:
            following = offer.book.next_price(offer.side)
            if following is None:
                behind = UNREACHABLE
                continue
            unit = offer.unit_cost(following)
        behind += unit
        if unit > 0:
            capital_behind += unit
    gain = payoff - cost
    if gain <= 0 or gain * SCALE < min_profit * capital:
        return 0
    gain = payoff - behind
    if behind == cost or gain <= 0 or gain * SCALE < min_profit * capital_behind:
        return step
    return None


def _pays(payoff: int, cost: int, capital: int, min_profit: int) -> bool:
    return payoff > cost and (payoff - cost) * SCALE >= min_profit * capital


def _walk(offers: Sequence[Offer], payoff: int, trade_size: Cash, min_profit: int) -> Qty:
    """Whole steps through all books at once; a leg's figures are renewed only with its level."""
    depth = [offer.book.levels(offer.side) for offer in offers]
    prices, lefts, units = [0] * len(offers), [0] * len(offers), [0] * len(offers)
    rooms = [int(trade_size)] * len(offers)
    empty = list(range(len(offers)))
    total = 0
    while True:
        for index in empty:
            level = next(depth[index], None)
            if level is None:
                return Qty(total)
            prices[index], lefts[index] = level
            units[index] = offers[index].unit_cost(level[0])
        cost = sum(units)
        capital = cost if payoff >= 0 else sum([u for u in units if u > 0], -payoff)
        if not _pays(payoff, cost, capital, min_profit):
            return Qty(total)
        step = min(lefts)
        for room, price in zip(rooms, prices, strict=True):
            step = min(step, room * SCALE // price)
        if step <= 0:
            return Qty(total)
        total += step
        empty = []
        for index, price in enumerate(prices):
            rooms[index] -= notional_up(Price(price), Qty(step))
            lefts[index] -= step
            if not lefts[index]:
                empty.append(index)
        if not empty:
            return Qty(total)
