"""What the refusal of an order proves. Pure.

REJECTED only by Alpaca's own refusals, made before an order exists: 400 and 422 (not well-formed or
not allowed), 401 (no such key), 403 (buying power, shares or permission), each with the JSON body
Alpaca writes (docs "Orders", read 2026-11); a gateway's page of that status proves nothing.
A client order id that is taken is DUPLICATE: the venue has an order of our id. All else is UNKNOWN:
silence after sending, 429, every 5xx. An unknown order is asked for by its id, never sent again.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Final

from fleet.venues.port import RequestRefused, TransportFailed, VenueError

PROOFS: Final = frozenset({400, 401, 403, 422})
NOT_FOUND: Final = 404
TAKEN: Final = "client_order_id must be unique"


class Verdict(Enum):
    """What is known of an order that was not simply accepted."""

    REJECTED = "REJECTED"
    DUPLICATE = "DUPLICATE"
    UNKNOWN = "UNKNOWN"


def words_of(body: str) -> str | None:
    """The message of Alpaca's error body; ``None`` if it is none."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    message = parsed.get("message") if isinstance(parsed, dict) else None
    return message if isinstance(message, str) else None


def judge(error: VenueError) -> Verdict:
    """What ``error``, the answer to a new order, proves."""
    if isinstance(error, TransportFailed):
        return Verdict.UNKNOWN if error.sent else Verdict.REJECTED
    if not isinstance(error, RequestRefused) or error.status not in PROOFS:
        return Verdict.UNKNOWN
    message = words_of(error.body)
    if message is None:
        return Verdict.UNKNOWN
    return Verdict.DUPLICATE if TAKEN in message else Verdict.REJECTED


def absent(error: VenueError) -> bool:
    """Whether ``error`` says, in Alpaca's own words, that there is no such thing."""
    return (
        isinstance(error, RequestRefused)
        and error.status == NOT_FOUND
        and words_of(error.body) is not None
    )
