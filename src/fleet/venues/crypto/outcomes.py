"""What the refusal of an order proves. Pure.

REJECTED only by a code of ``PROOFS``: checks Binance documents as made before or instead of placing
the order. DUPLICATE is -2010 "Duplicate order sent.": the venue has an open order of our id.
Everything else is UNKNOWN: silence after sending, every 5xx ("the execution status is unknown and
could have been a success"), -1006, -1007, and codes nobody here knows. An unknown order stays in
flight until the venue is asked about its id; it is never sent again.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from fleet.venues.crypto.client import BinanceRefused
from fleet.venues.port import TransportFailed, VenueError

DUPLICATE_TEXT: Final = "Duplicate order sent"
NEW_ORDER_REJECTED: Final = -2010
NO_SUCH_ORDER: Final = -2013
CANCEL_REJECTED: Final = -2011
PROOFS: Final = frozenset({
    -1002, -1003, -1013, -1014, -1015, -1020, -1021, -1022, -1121, -2010, -2014, -2015,
    *range(-1131, -1099),
})  # fmt: skip
"""Error codes that prove an order was refused (Binance "Error codes", 10xx, 11xx and 20xx, read
2026-11): not authorised, too many requests or orders, filters, bad parameters, bad signature or
clock, unknown symbol, insufficient balance, bad key."""


class Verdict(Enum):
    """What is known of an order that was not simply accepted."""

    REJECTED = "REJECTED"
    DUPLICATE = "DUPLICATE"
    UNKNOWN = "UNKNOWN"


def judge(error: VenueError) -> Verdict:
    """What ``error``, the answer to a new order, proves."""
    if isinstance(error, TransportFailed):
        return Verdict.UNKNOWN if error.sent else Verdict.REJECTED
    if not isinstance(error, BinanceRefused) or error.status >= 500:
        return Verdict.UNKNOWN
    if error.code == NEW_ORDER_REJECTED and DUPLICATE_TEXT in error.reason:
        return Verdict.DUPLICATE
    return Verdict.REJECTED if error.code in PROOFS else Verdict.UNKNOWN
