"""Turning what is held into cash because a person asked for it: merge pairs, sell the rest.

What an open bundle works is left to its strategy, which under REDUCING unwinds and merges it by
itself; this looks only at tokens that belong to no open bundle. Pairs of YES and NO are merged
first, because a dollar is more than what both would bring. What is left is offered at the best bid
less a slippage, again each second until it is gone. What the venue takes no order for (fewer shares
than the minimum, a void book, a resolved market) stays; resolved tokens are redeemed elsewhere.

Risk judges each wish like any other; nothing here buys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fleet.domain.commands import (
    FLATTEN,
    Intent,
    OperationIntent,
    OperationKind,
    OrderIntent,
    Purpose,
)
from fleet.domain.instruments import Instrument, InstrumentId, Side
from fleet.domain.units import SCALE, Price, Qty, notional_down
from fleet.engine.view import View

WISHES_MAX: Final = 8
"""How much is asked for in one second, so that the limit of orders in flight is not the brake."""
SLIPPAGE: Final = Price(3 * SCALE // 100)
"""How far below the best bid an offer goes: as far as ArbHunter's own unwinding."""
DOLLAR: Final = Price(SCALE)


def flatten_step(view: View, slippage: Price = SLIPPAGE) -> Sequence[Intent]:
    """The wishes of this second; empty when there is nothing (more) to do, or it has to wait."""
    busy = _busy(view)
    intents: list[Intent] = []
    for token in _held(view):
        if len(intents) >= WISHES_MAX:
            break
        instrument = view.instrument(token)
        if token in busy or instrument.complement in busy:
            continue
        pairs = min(view.position(token).settled, view.position(instrument.complement).settled)
        if pairs > 0:
            busy[token] = busy[instrument.complement] = None
            intents.append(_merge(instrument, pairs))
        else:
            sale = _sale(instrument, view, slippage)
            if sale is not None:
                intents.append(sale)
    return intents


def _held(view: View) -> Iterator[InstrumentId]:
    """Tokens with settled shares that are known and not resolved."""
    for token, position in view.positions.items():
        if position.settled > 0 and view.knows(token) and token not in view.resolved:
            yield token


def _busy(view: View) -> dict[InstrumentId, None]:
    """Tokens that something is under way for: an open bundle, an order, an operation."""
    busy: dict[InstrumentId, None] = {}
    for bundle in view.open_bundles.values():
        for leg in bundle.plan.legs:
            busy[leg.instrument_id] = None
    for order in view.open_orders.values():
        busy[order.instrument_id] = None
    for operation in view.pending_operations.values():
        for token, _ in (*operation.burn, *operation.mint):
            busy[token] = None
    return busy


def _merge(instrument: Instrument, pairs: Qty) -> OperationIntent:
    return OperationIntent(
        bundle_id=FLATTEN,
        kind=OperationKind.MERGE,
        subject=instrument.market_id,
        burn=((instrument.id, pairs), (instrument.complement, pairs)),
        mint=(),
        cash=notional_down(DOLLAR, pairs),
    )


def _sale(instrument: Instrument, view: View, slippage: Price) -> OrderIntent | None:
    book = view.book(instrument.id)
    qty = instrument.quantize_qty(view.position(instrument.id).settled)
    if qty < instrument.min_qty or not (book.usable and book.best_bid):
        return None
    # On the book's grid, which may be finer than the instrument's was when it was listed.
    price = Price(max(book.tick, (book.bid - slippage) // book.tick * book.tick))
    if notional_down(price, qty) < instrument.min_notional:
        price = book.bid
    if notional_down(price, qty) < instrument.min_notional:
        return None
    return OrderIntent(
        bundle_id=FLATTEN,
        leg=0,
        purpose=Purpose.UNWIND,
        instrument_id=instrument.id,
        side=Side.SELL,
        price=price,
        qty=qty,
    )
