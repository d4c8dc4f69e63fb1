"""A venue trade as the facts it is for our orders. Pure.

Theory of operation. One row is one taker's whole match; it names the taker's order at the top and
every maker's order below. Our part is found by *order id* alone, never by ``trader_side``: the row
may hold several of our resting orders, and even both sides.

- As maker, our fill is our entry: its own token, side, price and size, which may be the other token
  and the other side than the taker's (a BUY of NO fills a BUY of YES).
- As taker, the row's price is a mean, rounded. Each maker's entry has an exact price, so each
  becomes a fill of its own: at the maker's price where both trade the same token, at one minus it
  where the maker trades the complement. Only if the entries do not add up to the size of the row is
  the row taken as one fill at its mean.

The id of a fill is a pure function of what it describes (trade, role, the maker's order), so the
stream and the REST list, in any order and any number of times, give the same fills.

Fees (reference 7.5): takers pay on the whole match, rounded once to five decimals and below that
nothing; the sum is dealt out over the fills so that they add up to it exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, TimeInForce
from fleet.domain.events import TradeId, VenueOrderId
from fleet.domain.instruments import FEE_STEP, FeeSchedule, InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, notional_down, notional_up
from fleet.venues.polymarket.wire_user import UserTrade

FINAL: Final = frozenset({ev.SettlementStatus.CONFIRMED, ev.SettlementStatus.FAILED})
UNMINED: Final = frozenset({ev.SettlementStatus.MATCHED, ev.SettlementStatus.RETRYING})
"""Matched, and the chain has not moved anything yet."""
TAIL: Final = 18
"""Characters of a maker's order id (0x and 16 digits) that tell the fills of one trade apart."""
FeesOf = Callable[[InstrumentId], FeeSchedule]


class Ours(msgspec.Struct, frozen=True, kw_only=True):
    """One of our orders and the id the venue knows it by."""

    client_order_id: ClientOrderId
    venue_order_id: VenueOrderId
    instrument_id: InstrumentId
    side: Side
    price: Price
    qty: Qty
    tif: TimeInForce
    submitted_ns: int


def fills_of(
    trade: UserTrade, ours: Mapping[VenueOrderId, Ours], fees_of: FeesOf
) -> list[ev.OrderFilled]:
    """The fills a trade is to our orders; empty when none of them is in it."""
    fills: list[ev.OrderFilled] = []
    taker = ours.get(trade.taker_order_id)
    if taker is not None:
        fills += _taken(trade, taker, fees_of(trade.instrument_id))
    for maker in trade.maker_fills:
        order = ours.get(maker.order_id)
        if order is not None:
            fills.append(
                ev.OrderFilled(
                    ts_event=trade.ts_event,
                    ts_recv=trade.ts_recv,
                    trade_id=TradeId(f"{trade.trade_id}/m{maker.order_id[:TAIL]}"),
                    client_order_id=order.client_order_id,
                    instrument_id=maker.instrument_id,
                    side=maker.side,
                    price=maker.price,
                    qty=maker.qty,
                    fee=Cash(0),
                    maker=True,
                )
            )
    return fills


def venue_trade_id(trade_id: TradeId) -> TradeId:
    """The venue's id of the trade that one of our fills belongs to."""
    return TradeId(trade_id.partition("/")[0])


def cash_of(fill: ev.OrderFilled) -> Cash:
    """What a fill does to our cash, fee included; the same rounding as everywhere."""
    if fill.side is Side.BUY:
        return Cash(-notional_up(fill.price, fill.qty) - fill.fee)
    return Cash(notional_down(fill.price, fill.qty) - fill.fee)


def taker_fees(schedule: FeeSchedule, parts: Sequence[tuple[Price, Qty]]) -> list[Cash]:
    """The fee of each part of one match: together exactly the fee of the whole.

    The whole is shares x rate x (p (1 - p)) ^ exponent summed over the parts and rounded, half up,
    to five decimals of a dollar. Each part carries what its predecessors' rounding left.
    """
    scale = SCALE ** (2 * schedule.exponent + 1)
    fees: list[Cash] = []
    exact = charged = 0
    for price, qty in parts:
        exact += qty * schedule.rate * (price * (SCALE - price)) ** schedule.exponent
        so_far = (exact + scale * FEE_STEP // 2) // (scale * FEE_STEP) * FEE_STEP
        fees.append(Cash(so_far - charged))
        charged = so_far
    return fees


def _taken(trade: UserTrade, order: Ours, schedule: FeeSchedule) -> list[ev.OrderFilled]:
    parts = _parts(trade)
    fees = taker_fees(schedule, [(price, qty) for _, price, qty in parts])
    return [
        ev.OrderFilled(
            ts_event=trade.ts_event,
            ts_recv=trade.ts_recv,
            trade_id=TradeId(f"{trade.trade_id}{name}"),
            client_order_id=order.client_order_id,
            instrument_id=trade.instrument_id,
            side=trade.side,
            price=price,
            qty=qty,
            fee=fee,
        )
        for (name, price, qty), fee in zip(parts, fees, strict=True)
    ]


def _parts(trade: UserTrade) -> list[tuple[str, Price, Qty]]:
    """(tail of the id, the taker's price, shares) of each maker that the taker met."""
    met: dict[str, tuple[Price, Qty]] = {}
    exact = True
    for maker in trade.maker_fills:
        same = maker.instrument_id == trade.instrument_id
        price = maker.price if same else Price(SCALE - maker.price)
        name = f"/t{maker.order_id[:TAIL]}"
        before, qty = met.get(name, (price, Qty(0)))
        exact = exact and before == price
        met[name] = (price, Qty(qty + maker.qty))
    if not exact or sum(qty for _, qty in met.values()) != trade.qty:
        return [("/t", trade.price, trade.qty)]
    return [(name, price, qty) for name, (price, qty) in met.items()]
