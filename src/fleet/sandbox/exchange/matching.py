"""What a user's order would get from the pool now, what it costs, and the fee.

Pure functions over a pool that they do not change: decide first, act later. Makers trade at their
own price, so the improvement is the taker's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fleet.domain.instruments import FeeSchedule
from fleet.domain.units import SCALE, Price
from fleet.sandbox.exchange.orders import LOT, Order, cash_of, own_price
from fleet.sandbox.liquidity import Liquidity, Taken, first

FEE_STEP: Final = 10
"""Fees have five decimals (reference 7.5): ten base units."""


def plan(order: Order, pool: Liquidity) -> list[Taken]:
    """The parts of the pool an order takes now, in order of priority."""
    parts = pool.sweep(buy=order.yes_buy, limit=order.yes_price)
    if not order.spend:
        return first(parts, order.remaining)
    return _for_money(parts, order.spend, order.outcome)


def _for_money(parts: Iterable[Taken], spend: int, outcome: int) -> list[Taken]:
    taken: list[Taken] = []
    for part in parts:
        price = own_price(part.yes_price, outcome)
        got = min(part.size, spend * SCALE // (price * LOT) * LOT)
        if got:
            taken.append(part if got == part.size else Taken(part.yes_price, got, part.order))
            spend -= cash_of(price, got)
        if got < part.size:
            break
    return taken


def cash_for(parts: Sequence[Taken], outcome: int) -> int:
    """Sum the pUSD that changes hands for the parts, in the taker's token, without the fee."""
    return sum(cash_of(own_price(part.yes_price, outcome), part.size) for part in parts)


def size_of(parts: Sequence[Taken]) -> int:
    """Shares in the parts."""
    return sum(part.size for part in parts)


def fills_whole(order: Order, parts: Sequence[Taken]) -> bool:
    """Whether the parts fill the order: by money, to less than a lot's price at its limit."""
    if order.spend:
        return order.spend - cash_for(parts, order.outcome) < cash_of(order.price, LOT)
    return size_of(parts) == order.remaining


def fee_for(parts: Sequence[Taken], fees: FeeSchedule) -> int:
    """The taker's fee in base units: shares x rate x (p (1 - p)) ^ exponent, summed, then rounded.

    To five decimals, halves up; below half a step it is nothing. The same for both tokens.
    """
    return fee_on(((part.yes_price, part.size) for part in parts), fees)


def fee_on(fills: Iterable[tuple[Price, int]], fees: FeeSchedule) -> int:
    """``fee_for`` of (price, size) pairs."""
    if not fees.rate:
        return 0
    exact = sum(
        size * fees.rate * int((price * (SCALE - price)) ** fees.exponent) for price, size in fills
    )
    step = int(SCALE ** (1 + 2 * fees.exponent)) * FEE_STEP
    return (exact + step // 2) // step * FEE_STEP
