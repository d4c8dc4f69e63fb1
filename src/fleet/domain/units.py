"""Exact money: prices, quantities and cash as integers at one scale, 1e-8.

A ``Price`` is dollars a share, a ``Qty`` is shares, a ``Cash`` is dollars, each times ``SCALE``.
1e-8 holds the venue's finest tick (1e-4) and its base unit (1e-6) exactly and fits 64 bits up to
92 billion dollars. The few places where two of them meet are the functions below, and each says
which way it rounds: **costs up, proceeds down**, so that rounding never favours us.

Never put a float in here: ``parse_*`` read text, ``format_units`` writes it.
"""

from __future__ import annotations

from typing import Final, NewType

Price = NewType("Price", int)
Qty = NewType("Qty", int)
Cash = NewType("Cash", int)

SCALE: Final = 100_000_000
DECIMALS: Final = 8
ONE: Final = Price(SCALE)
"""The price of a certain outcome: one dollar a share."""
ZERO_CASH: Final = Cash(0)
ZERO_QTY: Final = Qty(0)


class UnitsError(ValueError):
    """A text that is not an exact decimal number at 1e-8."""


def parse_units(text: str) -> int:
    """Read a decimal text (``"0.52"``, ``".5"``, ``"-3"``) as an integer at 1e-8, exactly.

    Raises ``UnitsError`` if it is no plain decimal or needs more than eight decimals.
    """
    body = text[1:] if text[:1] in {"-", "+"} else text
    whole, _, fraction = body.partition(".")
    fraction = fraction.rstrip("0") if len(fraction) > DECIMALS else fraction
    digits = whole + fraction
    if not digits.isascii() or not digits.isdigit():
        raise UnitsError(f"{text!r} is not a decimal number")
    if len(fraction) > DECIMALS:
        raise UnitsError(f"{text!r} has more than {DECIMALS} decimals")
    value = int(whole or "0") * SCALE + int(fraction.ljust(DECIMALS, "0") or "0")
    return -value if text[0] == "-" else value


def parse_price(text: str) -> Price:
    """``parse_units`` as a ``Price`` (dollars a share)."""
    return Price(parse_units(text))


def parse_qty(text: str) -> Qty:
    """``parse_units`` as a ``Qty`` (shares)."""
    return Qty(parse_units(text))


def parse_cash(text: str) -> Cash:
    """``parse_units`` as a ``Cash`` (dollars)."""
    return Cash(parse_units(text))


def format_units(value: int, *, places: int = 0) -> str:
    """Write an integer at 1e-8 as a decimal text: exact, with at least ``places`` decimals."""
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value), SCALE)
    fraction = f"{rest:08d}".rstrip("0").ljust(places, "0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def format_dollars(value: int) -> str:
    """Write cash for a person: two decimals, halves away from zero (``"-3.46"``)."""
    cents, rest = divmod(abs(value), SCALE // 100)
    cents += 1 if rest * 2 >= SCALE // 100 else 0
    sign = "-" if value < 0 and cents else ""
    return f"{sign}{cents // 100}.{cents % 100:02d}"


def notional_up(price: Price, qty: Qty) -> Cash:
    """What ``qty`` shares at ``price`` cost: price x quantity, rounded up to 1e-8."""
    return Cash(-(-(price * qty) // SCALE))


def notional_down(price: Price, qty: Qty) -> Cash:
    """What ``qty`` shares at ``price`` bring: price x quantity, rounded down to 1e-8."""
    return Cash((price * qty) // SCALE)


def shares_for(cash: Cash, price: Price) -> Qty:
    """How many shares ``cash`` buys at ``price``, rounded down to 1e-8; 0 for a price of 0."""
    return Qty(cash * SCALE // price) if price > 0 else ZERO_QTY


def floor_to(value: int, step: int) -> int:
    """The largest multiple of ``step`` that is not above ``value``."""
    return value - value % step


def ceil_to(value: int, step: int) -> int:
    """The smallest multiple of ``step`` that is not below ``value``."""
    return -(-value // step) * step


def scale_ratio(value: int, ratio: int) -> int:
    """``value`` times ``ratio`` (itself at 1e-8, so 0.005 is 500,000), rounded towards zero."""
    product = abs(value) * abs(ratio) // SCALE
    return -product if (value < 0) != (ratio < 0) else product
