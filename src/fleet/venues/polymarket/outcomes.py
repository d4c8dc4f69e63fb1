"""What an answer to an order or a cancel proves. Pure.

Theory of operation. Four things can be known of a posted order, and the fourth is that nothing is:

- ACCEPTED: the venue names it: ``success``, no error text, an order id, and a status of *live*,
  *matched* or *delayed* (reference 4.3);
- DUPLICATE: ``Duplicated.``: the same hash came before, so the venue has it or had it;
- REJECTED: only by a text of ``PROOFS`` at the status named there. These are the checks the venue
  documents as refusals of the order itself (reference 4.6), or answers given before an order is
  even looked at (bad key, rate limit with the venue's own counters, trading disabled);
- UNKNOWN: everything else: silence after sending, every 5xx (``order timed out`` was seen to have
  filled), 425 (the engine is restarting), a 429 or 503 that does not say who refused, a 400 with a
  text we do not know, an answer we cannot read, and ``unmatched`` (delayed, then not matched: it
  may rest). An unknown order stays in flight until ``/data`` proves its fate.

``sent`` says whether the request may have left: if it did not, the same signed bytes may go again.
A text is matched as a substring, because the venue puts the order's id in front of some.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec

from fleet.domain.events import TradeId, VenueOrderId
from fleet.domain.units import Qty, UnitsError, parse_units

PROOFS: Final[Mapping[int, tuple[str, ...]]] = {
    400: (
        "Invalid order payload",
        "the order owner has to be the owner of the API KEY",
        "the order signer address has to be the address of the API KEY",
        "order_version_mismatch",
        "invalid order version",
        "address banned",
        "address in closed only mode",
        "Too many orders in payload",
        "not enough balance / allowance",
        "breaks minimum tick size rule",
        "lower than the minimum",
        "invalid amount for a marketable",
        "invalid amounts",
        "invalid signature",
        "supports a max accuracy of",
        "invalid post-only order: order crosses book",
        "invalid expiration",
        "order couldn't be fully filled",
        "no orders found to match with FAK order",
        "the market is not yet ready to process new orders",
        "order canceled in the CTF exchange contract",
    ),
    401: ("",),
    404: ("No orderbook exists", "market not found"),
    503: ("post_only_mode", "post-only mode", "Trading is currently disabled", "cancel-only"),
}
"""HTTP status -> texts that prove the order was refused (reference 4.6, read 2026-11).

A batch entry's ``errorMsg`` counts as status 400. Not here on purpose: ``order match delayed due to
market conditions`` (it may match later) and every 500.
"""
DUPLICATED: Final = "Duplicated."
ACCEPTED_STATUSES: Final = frozenset({"live", "matched", "delayed"})
GONE: Final = ("already canceled or matched", "order not found", "not found")
"""Cancel refusals that say there is nothing left to cancel (reference 4.6)."""
DELAYED: Final = "pending/delayed status"
"""The cancel refusal of an order in its taker delay."""


class Verdict(Enum):
    """What is known of a posted order."""

    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer to one posted order proves.

    ``matched_qty`` is the shares it traded at once (as far as told) and ``trade_ids`` the trades;
    ``retry_after_ns`` is what the venue asked to wait. ``silent`` says that no answer came at all,
    so that the request may still be on its way.
    """

    verdict: Verdict
    status: str = ""
    reason: str = ""
    sent: bool = True
    silent: bool = False
    matched_qty: Qty = Qty(0)
    trade_ids: tuple[TradeId, ...] = ()
    retry_after_ns: int = 0


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer of 400 or more: status, text, and what the limiter in front of it said."""

    status: int
    text: str
    retry_after_ns: int = 0
    counted: bool = False
    """Whether it carried the venue's own ``Poly-RateLimit`` counters."""


class _Result(msgspec.Struct):
    success: bool = False
    errorMsg: str = ""  # noqa: N815 - the wire's name
    orderID: str = ""  # noqa: N815
    status: str = ""
    makingAmount: str = ""  # noqa: N815
    takingAmount: str = ""  # noqa: N815
    tradeIDs: list[str] | None = None  # noqa: N815


class _Cancelled(msgspec.Struct):
    canceled: list[VenueOrderId] | None = None
    not_canceled: dict[VenueOrderId, str] | None = None


_RESULT: Final = msgspec.json.Decoder(_Result)
_RESULTS: Final = msgspec.json.Decoder(list[_Result])
_CANCELLED: Final = msgspec.json.Decoder(_Cancelled)


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a cancel call: ids that are dead now, and why others are not."""

    canceled: tuple[VenueOrderId, ...] = ()
    refused: Mapping[VenueOrderId, str] = msgspec.field(default_factory=dict)


def read_placement(body: bytes, *, order_id: VenueOrderId, is_buy: bool) -> Outcome:
    """The outcome that the answer to ``POST /order`` proves; ``order_id`` is the one we signed."""
    try:
        return _judge(_RESULT.decode(body), order_id, is_buy=is_buy)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Outcome(verdict=Verdict.UNKNOWN, reason=f"unreadable answer {body[:120]!r}")


def read_placements(body: bytes, orders: list[tuple[VenueOrderId, bool]]) -> list[Outcome]:
    """The outcomes of a batch, in the order sent; ``orders`` are (id we signed, is BUY).

    An answer of another length proves nothing about any of them.
    """
    try:
        results = _RESULTS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        results = []
    if len(results) != len(orders):
        reason = f"{len(results)} results for {len(orders)} orders: {body[:120]!r}"
        return [Outcome(verdict=Verdict.UNKNOWN, reason=reason) for _ in orders]
    return [
        _judge(result, order_id, is_buy=is_buy)
        for result, (order_id, is_buy) in zip(results, orders, strict=True)
    ]


def read_refusal(refusal: Refusal) -> Outcome:
    """The outcome that an HTTP error proves of every order in the request."""
    if refusal.status == 400 and DUPLICATED in refusal.text:
        return Outcome(verdict=Verdict.DUPLICATE, reason=refusal.text)
    reason = f"HTTP {refusal.status} {refusal.text}".strip()
    proven = any(text in refusal.text for text in PROOFS.get(refusal.status, ())) or (
        refusal.status == 429 and refusal.counted
    )
    return Outcome(
        verdict=Verdict.REJECTED if proven else Verdict.UNKNOWN,
        reason=reason,
        retry_after_ns=refusal.retry_after_ns,
    )


def read_cancelled(body: bytes) -> Cancelled:
    """The answer of a cancel call. Raises ``msgspec.MsgspecError`` if it is none."""
    answer = _CANCELLED.decode(body)
    return Cancelled(canceled=tuple(answer.canceled or ()), refused=dict(answer.not_canceled or {}))


def _judge(result: _Result, order_id: VenueOrderId, *, is_buy: bool) -> Outcome:
    if result.errorMsg:
        # A refused entry may say success and then why not (reference 4.3).
        return read_refusal(Refusal(status=400, text=result.errorMsg))
    if not (result.success and result.orderID):
        return Outcome(verdict=Verdict.UNKNOWN, reason=f"neither accepted nor refused: {result}")
    if result.orderID.lower() != order_id.lower():
        reason = f"the venue calls it {result.orderID}, we signed {order_id}"
        return Outcome(verdict=Verdict.UNKNOWN, reason=reason)
    shares = result.takingAmount if is_buy else result.makingAmount
    try:
        matched = Qty(parse_units(shares)) if shares else Qty(0)
    except UnitsError:
        return Outcome(verdict=Verdict.UNKNOWN, reason=f"amount {shares!r} is no number")
    accepted = result.status in ACCEPTED_STATUSES
    return Outcome(
        verdict=Verdict.ACCEPTED if accepted else Verdict.UNKNOWN,
        status=result.status,
        reason="" if accepted else f"status {result.status!r}",
        matched_qty=matched,
        trade_ids=tuple(TradeId(trade) for trade in result.tradeIDs or ()),
    )
