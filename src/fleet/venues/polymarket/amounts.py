"""Order amounts: from a price and a quantity to the two integers an order signs.

An exchange order has no price. It says what it gives (``maker``) and what it wants (``taker``),
both in base units of 1e-6, and the limit price is their ratio. The venue accepts a ratio only with
few decimals, by tick: those of ``_AMOUNT_DECIMALS`` (the table of the official
client, py-clob-client-v2 1.2.1, confirmed by the venue's refusals).

Everything is integer and exact. Three deliberate differences from the official client:

- it computes in doubles, so a size of 1.15 loses a cent (``1.15 * 100`` is 114.99...) and a market
  order at 0.57 is signed at 0.56; ours keeps both (wherever its doubles are exact, both agree);
- it rounds a price off the grid (0.335 becomes 0.34, a worse price than asked); ours refuses it;
- a price of 0 or 1, a tick the venue does not have and an amount that rounds to nothing are errors.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Cash, Price, Qty, format_units

BASE_UNIT: Final = 100
"""One base unit (1e-6 dollars or shares) at our 1e-8."""
_CENT: Final = SCALE // 100
"""Sizes and the dollars of a market order are whole hundredths."""
_CENT_BASE_UNITS: Final = _CENT // BASE_UNIT
_EXTRA_DECIMALS: Final = 4
"""A quotient is rounded up at this many decimals beyond its own, then down: see market_buy."""

# Tick at 1e-8 -> decimals of the amount the tick allows (reference of CLOB V2, read 2026-11).
_AMOUNT_DECIMALS: Final = {
    Price(10_000_000): 3,
    Price(1_000_000): 4,
    Price(500_000): 5,
    Price(250_000): 6,
    Price(100_000): 5,
    Price(10_000): 6,
}


# Amount decimals -> (fine steps in 1e-8 dollars a cent, base units of one step): market_buy.
_STEPS: Final = {
    decimals: (10 ** (6 + decimals + _EXTRA_DECIMALS), 10 ** (6 - decimals))
    for decimals in set(_AMOUNT_DECIMALS.values())
}
_FINER: Final = 10**_EXTRA_DECIMALS

# Members bound once: Python 3.11 looks each up through the metaclass, ten times slower.
_BUY: Final = Side.BUY
_FAK: Final = TimeInForce.FAK
_FOK: Final = TimeInForce.FOK


class AmountError(ValueError):
    """A price, quantity or tick from which no valid order can be made."""


class OrderAmounts(NamedTuple):
    """What the order gives and wants, in base units (1e-6): dollars or shares by its side."""

    maker: int
    taker: int


_made: Final = tuple.__new__  # Without the function of Python that a NamedTuple puts before it.


def limit_amounts(side: Side, price: Price, qty: Qty, tick: Price) -> OrderAmounts:
    """Amounts of an order that may rest (GTC, GTD): ``qty`` shares, floored to hundredths.

    The dollars are price x size, which never needs more decimals than the tick allows.
    Raises ``AmountError`` for a price off the grid or a size below a hundredth.
    """
    _amount_decimals(price, tick)
    cents = qty // _CENT
    if cents <= 0:
        raise AmountError(f"a size of {format_units(qty)} shares is below 0.01")
    shares = cents * _CENT_BASE_UNITS
    dollars = price * cents // (_CENT // BASE_UNIT)
    pair = (dollars, shares) if side is _BUY else (shares, dollars)
    return _made(OrderAmounts, pair)


def market_buy_amounts(price: Price, spend: Cash, tick: Price) -> OrderAmounts:
    """Amounts of a FOK or FAK BUY: ``spend`` dollars before fees, floored to cents.

    The shares wanted are spend / price to the tick's amount decimals. As the venue's own clients
    do, the quotient is first rounded up four decimals further on and then down, so a quotient a
    hair below a whole step counts as that step.
    Raises ``AmountError`` for a price off the grid or less than a cent.
    """
    decimals = _amount_decimals(price, tick)
    cents = spend // _CENT
    if cents <= 0:
        raise AmountError(f"spending {format_units(spend)} dollars is below one cent")
    # cents/100 dollars over price/1e8, counted in steps of 10^-(decimals + 4) shares
    scale, step = _STEPS[decimals]
    fine = -(-cents * scale // price)
    return _made(OrderAmounts, (cents * _CENT_BASE_UNITS, fine // _FINER * step))


def market_sell_amounts(price: Price, qty: Qty, tick: Price) -> OrderAmounts:
    """Amounts of a FOK or FAK SELL: ``qty`` shares floored to hundredths, at least at ``price``.

    Raises ``AmountError`` like ``limit_amounts``, whose arithmetic it is.
    """
    return limit_amounts(Side.SELL, price, qty, tick)


def spend_for(price: Price, qty: Qty) -> Cash:
    """The whole cents that ``qty`` shares at ``price`` cost at most, for a market BUY.

    Rounded down, so the order never asks for more than ``qty`` at its limit. Where the book is
    better than the limit, a market BUY spends the same dollars on more shares: that is the venue's
    rule (its size is money), and the fill says how many.
    """
    return price * qty // SCALE // _CENT * _CENT  # type: ignore[return-value]  # hot: a plain int


def order_amounts(
    side: Side, price: Price, qty: Qty, tif: TimeInForce, tick: Price
) -> OrderAmounts:
    """Amounts of the order a command describes, by its time in force.

    GTC and GTD are limit orders; FOK and FAK are market orders with a limit price, whose BUY is
    sized in dollars. Raises ``AmountError``.
    """
    if tif is _FAK or tif is _FOK:
        if side is _BUY:
            return market_buy_amounts(price, spend_for(price, qty), tick)
        return market_sell_amounts(price, qty, tick)
    return limit_amounts(side, price, qty, tick)


def _amount_decimals(price: Price, tick: Price) -> int:
    """The amount decimals of ``tick``, once ``price`` is known to be on its grid inside (0, 1)."""
    decimals = _AMOUNT_DECIMALS.get(tick)
    if decimals is None:
        known = ", ".join(format_units(t) for t in _AMOUNT_DECIMALS)
        raise AmountError(f"{format_units(tick)} is no tick of the venue; it has {known}")
    if price % tick or not tick <= price <= SCALE - tick:
        raise AmountError(
            f"price {format_units(price)} is not on the grid of tick {format_units(tick)} "
            f"between {format_units(tick)} and {format_units(SCALE - tick)}; quantize it first"
        )
    return decimals
