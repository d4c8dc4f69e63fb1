"""Every request: what a strategy wishes (intents), what risk answers, what the runtime carries out.

Only ``Approved`` and the other members of ``Command`` leave the engine, and only ``fleet.engine``
makes an ``Approved``. A refusal carries a code of the closed list ``RefusalCode``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NewType

from msgspec import Struct

from fleet.domain.instruments import InstrumentId, MarketId, Side
from fleet.domain.units import Cash, Price, Qty

ClientOrderId = NewType("ClientOrderId", str)
BundleId = NewType("BundleId", str)
OperationId = NewType("OperationId", str)
FLATTEN: Final = BundleId("flatten")
"""What sells and merges tokens that no open bundle works; it never opens and never buys."""


class TimeInForce(Enum):
    """How long an order works: rest (GTC, GTD), all or nothing (FOK), take and kill (FAK)."""

    GTC = "GTC"
    GTD = "GTD"
    FOK = "FOK"
    FAK = "FAK"


class Purpose(Enum):
    """Why an order exists: a planned leg, or the unwinding of a leg that stayed alone."""

    LEG = "LEG"
    UNWIND = "UNWIND"


class OperationKind(Enum):
    """What is done with tokens outside the book."""

    SPLIT = "SPLIT"
    MERGE = "MERGE"
    CONVERT = "CONVERT"
    REDEEM = "REDEEM"


class RefusalCode(Enum):
    """Why an intent was refused; a closed list, explained in ``REFUSAL_MEANING``."""

    TRADING_HALTED = "TRADING_HALTED"
    TRADING_REDUCING = "TRADING_REDUCING"
    INSTRUMENT_UNKNOWN = "INSTRUMENT_UNKNOWN"
    BUNDLE_UNKNOWN = "BUNDLE_UNKNOWN"
    BUNDLE_INCOMPLETE = "BUNDLE_INCOMPLETE"
    LEG_EXCEEDED = "LEG_EXCEEDED"
    PRICE_OFF_TICK = "PRICE_OFF_TICK"
    QTY_OFF_LOT = "QTY_OFF_LOT"
    QTY_BELOW_MINIMUM = "QTY_BELOW_MINIMUM"
    NOTIONAL_BELOW_MINIMUM = "NOTIONAL_BELOW_MINIMUM"
    MARKET_RESOLVED = "MARKET_RESOLVED"
    BOOK_NOT_READY = "BOOK_NOT_READY"
    BOOK_STALE = "BOOK_STALE"
    ORDER_UNRESOLVED = "ORDER_UNRESOLVED"
    ORDERS_IN_FLIGHT_REACHED = "ORDERS_IN_FLIGHT_REACHED"
    ORDER_NOTIONAL_REACHED = "ORDER_NOTIONAL_REACHED"
    MARKET_EXPOSURE_REACHED = "MARKET_EXPOSURE_REACHED"
    SET_EXPOSURE_REACHED = "SET_EXPOSURE_REACHED"
    WALLET_EXPOSURE_REACHED = "WALLET_EXPOSURE_REACHED"
    FLEET_EXPOSURE_REACHED = "FLEET_EXPOSURE_REACHED"
    DAY_TURNOVER_REACHED = "DAY_TURNOVER_REACHED"
    DAY_LOSS_REACHED = "DAY_LOSS_REACHED"
    CASH_INSUFFICIENT = "CASH_INSUFFICIENT"
    POSITION_INSUFFICIENT = "POSITION_INSUFFICIENT"
    INSTRUMENT_UNCLAIMED = "INSTRUMENT_UNCLAIMED"


REFUSAL_MEANING: Final[Mapping[RefusalCode, str]] = {
    RefusalCode.TRADING_HALTED: "trading is halted",
    RefusalCode.TRADING_REDUCING: "only orders that reduce a position may pass",
    RefusalCode.INSTRUMENT_UNKNOWN: "the instrument is not in the universe",
    RefusalCode.BUNDLE_UNKNOWN: "the bundle is not open",
    RefusalCode.BUNDLE_INCOMPLETE: "another part of the same idea was refused",
    RefusalCode.LEG_EXCEEDED: "the request goes beyond what was approved for its bundle",
    RefusalCode.PRICE_OFF_TICK: "the price is not on the tick grid inside (0, 1)",
    RefusalCode.QTY_OFF_LOT: "the quantity is not a positive number of lots",
    RefusalCode.QTY_BELOW_MINIMUM: "fewer shares than the market's minimum",
    RefusalCode.NOTIONAL_BELOW_MINIMUM: "less than the venue's minimum for an order that takes",
    RefusalCode.MARKET_RESOLVED: "the question is answered; its tokens are redeemed, not traded",
    RefusalCode.BOOK_NOT_READY: "the book is void, crossed or waiting for a snapshot",
    RefusalCode.BOOK_STALE: "the feed of this book has been silent for too long",
    RefusalCode.ORDER_UNRESOLVED: "an order of this instrument has an unknown outcome",
    RefusalCode.ORDERS_IN_FLIGHT_REACHED: "too many orders are open or in flight",
    RefusalCode.ORDER_NOTIONAL_REACHED: "the order is larger than the limit for one order",
    RefusalCode.MARKET_EXPOSURE_REACHED: "the limit for one market is reached",
    RefusalCode.SET_EXPOSURE_REACHED: "the limit for one outcome set is reached",
    RefusalCode.WALLET_EXPOSURE_REACHED: "the limit for the wallet is reached",
    RefusalCode.FLEET_EXPOSURE_REACHED: "what all bots together leave this one is reached",
    RefusalCode.DAY_TURNOVER_REACHED: "the turnover limit of the day is reached",
    RefusalCode.DAY_LOSS_REACHED: "the loss limit of the day is reached",
    RefusalCode.CASH_INSUFFICIENT: "not enough free cash, in-flight orders counted as filled",
    RefusalCode.POSITION_INSUFFICIENT: "not enough settled and free tokens",
    RefusalCode.INSTRUMENT_UNCLAIMED: "another bot trades this instrument of the shared wallet",
}
"""What each code says to an operator; the table in docs/runbook.md is generated from it."""


class LegPlan(Struct, frozen=True, kw_only=True, gc=False):
    """One leg of a bundle: trade ``qty`` no worse than ``limit``, the hard cap of every try.

    The first try asks ``price`` (0: the cap itself). ``unwind`` is what a surplus share is offered
    at first when the other legs did not follow.
    """

    instrument_id: InstrumentId
    side: Side
    qty: Qty
    limit: Price
    unwind: Price
    price: Price = Price(0)


class OpenBundle(Struct, frozen=True, kw_only=True, gc=False):
    """A wish to trade several legs as one idea; no order yet, but its cash is reserved.

    ``legs`` are in execution order (thinnest first). ``finish`` is the operation that turns the
    filled legs into cash, ``None`` to hold to resolution; ``payoff`` is dollars per full share set.
    ``budget`` is the most the legs may cost, fees included. ``edge`` is the expected profit.
    ``exits`` names the closed bundle whose tokens the legs sell; ``payoff`` is then what a share of
    each was worth at decision time, all legs together, and ``edge`` what selling brings beyond it.
    ``answers`` names the sightings of others' trades that it copies; none is answered twice.
    """

    bundle_id: BundleId
    idea: str
    key: str
    legs: tuple[LegPlan, ...]
    start: OperationKind | None
    finish: OperationKind | None
    payoff: Price
    budget: Cash
    edge: Cash
    exits: BundleId = BundleId("")
    answers: tuple[str, ...] = ()


class OrderIntent(Struct, frozen=True, kw_only=True, gc=False):
    """A wish to send one order of an open bundle."""

    bundle_id: BundleId
    leg: int
    purpose: Purpose
    instrument_id: InstrumentId
    side: Side
    price: Price
    qty: Qty
    tif: TimeInForce = TimeInForce.FAK


class OperationIntent(Struct, frozen=True, kw_only=True, gc=False):
    """A wish to split, merge, convert or redeem: ``burn`` and ``mint`` are (token, shares)."""

    bundle_id: BundleId
    kind: OperationKind
    subject: str
    burn: tuple[tuple[InstrumentId, Qty], ...]
    mint: tuple[tuple[InstrumentId, Qty], ...]
    cash: Cash
    """Dollars received (positive) or paid (negative)."""


class CloseBundle(Struct, frozen=True, kw_only=True, gc=False):
    """A wish to end a bundle: nothing more will be done for it."""

    bundle_id: BundleId
    outcome: str


Intent = OpenBundle | OrderIntent | OperationIntent | CloseBundle


class Refused(Struct, frozen=True, kw_only=True, gc=False):
    """Risk's answer to an intent that may not pass."""

    bundle_id: BundleId
    subject: str
    """The intent in a few words, for a person."""
    code: RefusalCode
    detail: str


class SubmitOrder(Struct, frozen=True, kw_only=True, gc=False):
    """Send one order. ``client_order_id`` is ours, unique in the journal for ever."""

    client_order_id: ClientOrderId
    bundle_id: BundleId
    leg: int
    purpose: Purpose
    instrument_id: InstrumentId
    side: Side
    price: Price
    qty: Qty
    tif: TimeInForce
    ts: int
    """Nanoseconds of the event that caused it; the order's signed timestamp."""


class CancelOrder(Struct, frozen=True, kw_only=True, gc=False):
    """Cancel one order that rests or is in flight."""

    client_order_id: ClientOrderId


class RunOperation(Struct, frozen=True, kw_only=True, gc=False):
    """Carry out a token operation."""

    operation_id: OperationId
    bundle_id: BundleId
    kind: OperationKind
    subject: str
    burn: tuple[tuple[InstrumentId, Qty], ...]
    mint: tuple[tuple[InstrumentId, Qty], ...]
    cash: Cash


class StartTimer(Struct, frozen=True, kw_only=True, gc=False):
    """Ask for a ``TimerFired`` of this name at ``at_ns`` of the engine's time."""

    name: str
    at_ns: int


class RequestForecast(Struct, frozen=True, kw_only=True, gc=False):
    """Ask for the probability that a market resolves YES, as of ``ts``; no money moves.

    The answer is a ``ForecastReceived`` or a ``ForecastFailed`` of the same ``request_id``, or none
    if the process dies first: whoever asks keeps its own schedule.
    """

    request_id: str
    market_id: MarketId
    ts: int


class Approved(Struct, frozen=True, gc=False):
    """What passed risk, and the only thing a venue accepts."""

    request: SubmitOrder | RunOperation


Command = Approved | CancelOrder | StartTimer | RequestForecast
