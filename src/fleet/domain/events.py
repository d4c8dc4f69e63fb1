"""Every fact, in the past tense. Whatever the engine must know arrives as one of these.

Market facts are plain tuples, one a frame; they live on the tape. Others are frozen dataclasses;
those in ``DURABLE`` (money, orders, permission, knowledge) are journalled before they are acted on.
Times are nanoseconds since the epoch, 0 where unknown: ``ts_event`` the venue's, ``ts_recv`` ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar, Final, NewType

from msgspec import Struct

from fleet.domain.commands import (
    CancelOrder,
    ClientOrderId,
    CloseBundle,
    OpenBundle,
    OperationId,
    OperationKind,
    Refused,
    RunOperation,
    SubmitOrder,
)
from fleet.domain.event import Event
from fleet.domain.instruments import InstrumentId, MarketId, Side
from fleet.domain.knowledge import (  # noqa: F401 - events too, and taken from here
    CopyRefused,
    ForecastFailed,
    ForecastReceived,
    LeaderMoved,
    LeadersChosen,
    LeaderTraded,
    MoveKind,
    SightingUndone,
)
from fleet.domain.market import (  # noqa: F401 - events too, and taken from here
    BarClosed,
    BookChanged,
    BookSnapshot,
    Level,
    LevelChange,
    PricesSampled,
    TradePrinted,
)
from fleet.domain.units import Cash, Price, Qty

VenueOrderId = NewType("VenueOrderId", str)
TradeId = NewType("TradeId", str)
RunId = NewType("RunId", str)


class TradingState(Enum):
    """What the engine may do: trade, only reduce, or nothing but cancel."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


class SettlementStatus(Enum):
    """A fill's way to finality. FAILED reverses the fill."""

    __hash__ = object.__hash__  # A member is one object; Enum's own hash is Python, and hot.

    MATCHED = "MATCHED"
    MINED = "MINED"
    CONFIRMED = "CONFIRMED"
    RETRYING = "RETRYING"
    FAILED = "FAILED"


class TickSizeChanged(Event, frozen=True, kw_only=True, gc=False):
    """The price grid of an instrument changed; its book is void until a snapshot."""

    KIND: ClassVar[str] = "TickSizeChanged"

    instrument_id: InstrumentId
    tick: Price


class FrameRejected(Event, frozen=True, kw_only=True, gc=False):
    """A frame that could not be read. Counted, never guessed at."""

    KIND: ClassVar[str] = "FrameRejected"

    reason: str


class TimerFired(Event, frozen=True, kw_only=True, gc=False):
    """A timer asked for with ``StartTimer``, or the runner's tick, has fired."""

    KIND: ClassVar[str] = "TimerFired"

    name: str


class MarketListed(Event, frozen=True, kw_only=True, gc=False):
    """The venue announced a market; trading it needs a fresh catalogue."""

    KIND: ClassVar[str] = "MarketListed"

    market_id: MarketId
    question: str


class FeedConnected(Event, frozen=True, kw_only=True, gc=False):
    """A feed connection is up; its books are void until their snapshots come."""

    KIND: ClassVar[str] = "FeedConnected"

    connection: str
    instruments: tuple[InstrumentId, ...]


class FeedDisconnected(Event, frozen=True, kw_only=True, gc=False):
    """A feed connection was lost or given up; its books are void."""

    KIND: ClassVar[str] = "FeedDisconnected"

    connection: str
    instruments: tuple[InstrumentId, ...]
    reason: str


class RunStarted(Event, frozen=True, kw_only=True, gc=False):
    """A process began to write this journal."""

    KIND: ClassVar[str] = "RunStarted"

    run_id: RunId
    bot: str
    mode: str
    version: str


class RunStopped(Event, frozen=True, kw_only=True, gc=False):
    """A process ended in order."""

    KIND: ClassVar[str] = "RunStopped"

    run_id: RunId
    reason: str


class CashDeposited(Event, frozen=True, kw_only=True, gc=False):
    """Cash came in (positive) or went out (negative) from outside; idempotent by ``deposit_id``."""

    KIND: ClassVar[str] = "CashDeposited"

    deposit_id: str
    amount: Cash


class TradingStateChanged(Event, frozen=True, kw_only=True, gc=False):
    """Trading was allowed, limited or stopped, by whom and why."""

    KIND: ClassVar[str] = "TradingStateChanged"

    state: TradingState
    reason: str
    by: str


class Reconciled(Event, frozen=True, kw_only=True, gc=False):
    """Journal and venue agree; trading may begin."""

    KIND: ClassVar[str] = "Reconciled"

    venue: str
    adopted: int
    """How many venue facts the journal had missed and were added."""


class ReconciliationFailed(Event, frozen=True, kw_only=True, gc=False):
    """Journal and venue differ in a way no venue fact explains."""

    KIND: ClassVar[str] = "ReconciliationFailed"

    venue: str
    difference: str


class QuoteSeen(Struct, frozen=True, kw_only=True, gc=False):
    """The top of a book at decision time; 0 for an empty side."""

    instrument_id: InstrumentId
    bid: Price
    bid_qty: Qty
    ask: Price
    ask_qty: Qty
    ts_event: int


class DecisionMade(Event, frozen=True, kw_only=True, gc=False):
    """What was wished, refused and commanded in answer to one event; durable before dispatch."""

    KIND: ClassVar[str] = "DecisionMade"

    decision: int
    opened: tuple[OpenBundle, ...] = ()
    orders: tuple[SubmitOrder, ...] = ()
    operations: tuple[RunOperation, ...] = ()
    cancels: tuple[CancelOrder, ...] = ()
    closed: tuple[CloseBundle, ...] = ()
    refused: tuple[Refused, ...] = ()
    quotes: tuple[QuoteSeen, ...] = ()


class OrderSigned(Event, frozen=True, kw_only=True, gc=False):
    """The order's venue id is known and it is about to be sent."""

    KIND: ClassVar[str] = "OrderSigned"

    client_order_id: ClientOrderId
    venue_order_id: VenueOrderId


class OrderAccepted(Event, frozen=True, kw_only=True, gc=False):
    """The venue has the order."""

    KIND: ClassVar[str] = "OrderAccepted"

    client_order_id: ClientOrderId
    venue_order_id: VenueOrderId


class OrderRejected(Event, frozen=True, kw_only=True, gc=False):
    """The venue proved that it does not have the order and never will."""

    KIND: ClassVar[str] = "OrderRejected"

    client_order_id: ClientOrderId
    reason: str


class SubmitUnknown(Event, frozen=True, kw_only=True, gc=False):
    """No proof either way: the order stays in flight until the venue settles the question."""

    KIND: ClassVar[str] = "SubmitUnknown"

    client_order_id: ClientOrderId
    reason: str


class OrderFilled(Event, frozen=True, kw_only=True, gc=False):
    """Part or all of an order traded; idempotent by ``trade_id``. ``fee`` is dollars paid."""

    KIND: ClassVar[str] = "OrderFilled"

    trade_id: TradeId
    client_order_id: ClientOrderId
    instrument_id: InstrumentId
    side: Side
    price: Price
    qty: Qty
    fee: Cash
    maker: bool = False


class OrderCanceled(Event, frozen=True, kw_only=True, gc=False):
    """What was left of the order is dead (cancelled, or killed as the rest of a FAK)."""

    KIND: ClassVar[str] = "OrderCanceled"

    client_order_id: ClientOrderId
    reason: str


class OrderExpired(Event, frozen=True, kw_only=True, gc=False):
    """A GTD order reached its end."""

    KIND: ClassVar[str] = "OrderExpired"

    client_order_id: ClientOrderId


class CancelRejected(Event, frozen=True, kw_only=True, gc=False):
    """The venue would not cancel; the order is as it was."""

    KIND: ClassVar[str] = "CancelRejected"

    client_order_id: ClientOrderId
    reason: str


class FillSettled(Event, frozen=True, kw_only=True, gc=False):
    """A fill moved on its way to finality; FAILED reverses it."""

    KIND: ClassVar[str] = "FillSettled"

    trade_id: TradeId
    status: SettlementStatus


class OperationSigned(Event, frozen=True, kw_only=True, gc=False):
    """The operation's transaction is signed, its hash known, and it is about to be sent."""

    KIND: ClassVar[str] = "OperationSigned"

    operation_id: OperationId
    transaction_hash: str


class OperationConfirmed(Event, frozen=True, kw_only=True, gc=False):
    """A split, merge, convert or redeem is final; idempotent by ``operation_id``."""

    KIND: ClassVar[str] = "OperationConfirmed"

    operation_id: OperationId
    kind: OperationKind
    burn: tuple[tuple[InstrumentId, Qty], ...]
    mint: tuple[tuple[InstrumentId, Qty], ...]
    cash: Cash


class OperationRejected(Event, frozen=True, kw_only=True, gc=False):
    """The operation proved not to happen."""

    KIND: ClassVar[str] = "OperationRejected"

    operation_id: OperationId
    reason: str


class MarketResolved(Event, frozen=True, kw_only=True, gc=False):
    """The question is answered: ``payouts`` is (token, dollars a share)."""

    KIND: ClassVar[str] = "MarketResolved"

    market_id: MarketId
    payouts: tuple[tuple[InstrumentId, Price], ...]


class OperatorCommanded(Event, frozen=True, kw_only=True, gc=False):
    """A person asked for something: pause, resume, reduce, halt, status."""

    KIND: ClassVar[str] = "OperatorCommanded"

    action: str
    by: str
    argument: str = ""


DURABLE: Final[Mapping[str, type[Event]]] = {
    kind.KIND: kind
    for kind in (
        RunStarted, RunStopped, CashDeposited, TradingStateChanged, Reconciled,
        ReconciliationFailed, FeedConnected, FeedDisconnected, DecisionMade, OrderSigned,
        OrderAccepted, OrderRejected, SubmitUnknown, OrderFilled, OrderCanceled, OrderExpired,
        CancelRejected, FillSettled, OperationSigned, OperationConfirmed, OperationRejected,
        MarketResolved, ForecastReceived, ForecastFailed, LeaderTraded, LeaderMoved,
        SightingUndone, LeadersChosen, CopyRefused, OperatorCommanded,
    )
}  # fmt: skip
"""Kind -> type of every journalled fact."""

MarketEvent = BookSnapshot | BookChanged | TradePrinted | BarClosed | PricesSampled
AnyEvent = MarketEvent | Event
