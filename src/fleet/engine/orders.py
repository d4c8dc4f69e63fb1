"""The life of an order, as one table.

Theory of operation. An order enters the table as SUBMITTED in the decision that commands it, before
anything is sent: from then on it counts as if it would fill. Facts move it along ``TRANSITIONS``; a
pair that is not in the table is a contradiction between us and the venue, recorded as an anomaly,
on which the engine halts. A terminal order never changes its status again, but a late fill still
counts: the money is real. The portfolio sees each fill first and lets it through once. An order is
*unresolved* when a ``SubmitUnknown`` came for it and no proof either way has followed: it keeps its
reservation and blocks its instrument, however long that takes. A timeout is not a rejection.

                 SUBMITTED  ACCEPTED  PARTIALLY_FILLED  PENDING_CANCEL  terminal
    accept       ACCEPTED   same      same              same            same
    fill         PARTIAL    PARTIAL   same              same            same, not REJECTED
    last fill    FILLED     FILLED    FILLED            FILLED          same, not REJECTED
    reject       REJECTED   -         -                 REJECTED        same, only REJECTED
    cancel       CANCELED   CANCELED  CANCELED          CANCELED        same, not REJECTED
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

from msgspec import Struct

from fleet.domain.commands import BundleId, ClientOrderId, Purpose, SubmitOrder, TimeInForce
from fleet.domain.events import OrderFilled, VenueOrderId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import (
    SCALE,
    ZERO_CASH,
    ZERO_QTY,
    Cash,
    Price,
    Qty,
    notional_down,
    notional_up,
)

DUST: Final = Qty(SCALE // 100)
"""Fills may differ from the order by 0.01 share (cent truncation; polymarket reference 4.5)."""


class OrderStatus(Enum):
    """Where an order stands."""

    __hash__ = object.__hash__  # A member is one object; Enum's own hash is Python, and hot.

    SUBMITTED = "SUBMITTED"
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class Fact(Enum):
    """What can be learned about an order."""

    __hash__ = object.__hash__

    SIGN = "SIGN"
    ACCEPT = "ACCEPT"
    FILL = "FILL"
    LAST_FILL = "LAST_FILL"
    REQUEST_CANCEL = "REQUEST_CANCEL"
    CANCEL = "CANCEL"
    REFUSE_CANCEL = "REFUSE_CANCEL"
    REJECT = "REJECT"
    EXPIRE = "EXPIRE"
    LOSE = "LOSE"


_S = OrderStatus
_F = Fact
TERMINAL: Final = frozenset({_S.FILLED, _S.CANCELED, _S.REJECTED, _S.EXPIRED})

_WORKING: Final = {
    _F.FILL: _S.PARTIALLY_FILLED,
    _F.LAST_FILL: _S.FILLED,
    _F.CANCEL: _S.CANCELED,
    _F.EXPIRE: _S.EXPIRED,
    _F.REQUEST_CANCEL: _S.PENDING_CANCEL,
}


def _stay(status: OrderStatus, *facts: Fact) -> dict[Fact, OrderStatus]:
    return dict.fromkeys(facts, status)


_ENDED: Final = (_F.ACCEPT, _F.FILL, _F.LAST_FILL, _F.CANCEL, _F.EXPIRE, _F.REQUEST_CANCEL,
                 _F.REFUSE_CANCEL, _F.LOSE, _F.SIGN)  # fmt: skip

TRANSITIONS: Final[Mapping[OrderStatus, Mapping[Fact, OrderStatus]]] = {
    _S.SUBMITTED: {
        **_WORKING,
        **_stay(_S.SUBMITTED, _F.SIGN, _F.LOSE),
        _F.ACCEPT: _S.ACCEPTED,
        _F.REJECT: _S.REJECTED,
    },
    _S.ACCEPTED: {**_WORKING, **_stay(_S.ACCEPTED, _F.ACCEPT, _F.LOSE, _F.REFUSE_CANCEL, _F.SIGN)},
    _S.PARTIALLY_FILLED: {
        **_WORKING,
        **_stay(_S.PARTIALLY_FILLED, _F.ACCEPT, _F.LOSE, _F.REFUSE_CANCEL, _F.SIGN),
    },
    _S.PENDING_CANCEL: {
        **_stay(_S.PENDING_CANCEL, _F.ACCEPT, _F.FILL, _F.LOSE, _F.REQUEST_CANCEL, _F.SIGN),
        _F.LAST_FILL: _S.FILLED,
        _F.CANCEL: _S.CANCELED,
        _F.EXPIRE: _S.EXPIRED,
        _F.REFUSE_CANCEL: _S.ACCEPTED,
        _F.REJECT: _S.REJECTED,
    },
    _S.FILLED: _stay(_S.FILLED, *_ENDED),
    _S.CANCELED: _stay(_S.CANCELED, *_ENDED),
    _S.EXPIRED: _stay(_S.EXPIRED, *_ENDED),
    _S.REJECTED: _stay(_S.REJECTED, _F.REJECT, _F.LOSE, _F.REQUEST_CANCEL, _F.REFUSE_CANCEL),
}
"""Status -> fact -> next status. A missing cell is a contradiction."""

_PROOF: Final = frozenset({_F.ACCEPT, _F.FILL, _F.LAST_FILL, _F.CANCEL, _F.REJECT, _F.EXPIRE})
"""What settles the question of a lost order. Our own acts and a refused cancel prove nothing."""


class Order(Struct, kw_only=True, gc=False):
    """One order and what is known of it. ``spent`` is notional, ``fee`` the fees so far."""

    client_order_id: ClientOrderId
    bundle_id: BundleId
    leg: int
    purpose: Purpose
    instrument_id: InstrumentId
    side: Side
    price: Price
    qty: Qty
    tif: TimeInForce
    submitted_ns: int
    status: OrderStatus = OrderStatus.SUBMITTED
    filled: Qty = ZERO_QTY
    spent: Cash = ZERO_CASH
    fee: Cash = ZERO_CASH
    venue_order_id: VenueOrderId | None = None
    unresolved: bool = False
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether it may still trade."""
        return self.status not in TERMINAL

    @property
    def remaining(self) -> Qty:
        """The shares that may still trade; 0 once terminal."""
        return Qty(max(0, self.qty - self.filled)) if self.open else ZERO_QTY


class OrdersImage(Struct, frozen=True, kw_only=True):
    """All orders, oldest first, and the ids of the open ones."""

    orders: list[Order]
    open: list[ClientOrderId]
    anomaly: str


class Orders:
    """All orders of a journal: a fold of decisions and venue facts."""

    __slots__ = ("_open", "_orders", "anomaly", "open")

    def __init__(self) -> None:
        """No orders yet."""
        self._orders: dict[ClientOrderId, Order] = {}
        self._open: dict[ClientOrderId, Order] = {}
        self.open: Mapping[ClientOrderId, Order] = self._open
        """The orders that may still trade; a plain attribute, because risk asks often."""
        self.anomaly = ""
        """The newest contradiction between journal and venue, in words; empty when none."""

    def image(self) -> OrdersImage:
        """All of it as one record, which shares its orders: store it before anything moves on."""
        return OrdersImage(
            orders=list(self._orders.values()), open=list(self._open), anomaly=self.anomaly
        )

    def restore(self, image: OrdersImage) -> None:
        """Become what ``image`` shows; it belongs to these orders from now on.

        Raises ``KeyError`` if it names an open order that it does not hold.
        """
        self._orders = {order.client_order_id: order for order in image.orders}
        self.open = self._open = {order_id: self._orders[order_id] for order_id in image.open}
        self.anomaly = image.anomaly

    def __len__(self) -> int:
        """How many orders this journal holds."""
        return len(self._orders)

    def __iter__(self) -> Iterator[Order]:
        """All orders, oldest first."""
        return iter(self._orders.values())

    def get(self, client_order_id: ClientOrderId) -> Order | None:
        """One order, or nothing if it is not ours."""
        return self._orders.get(client_order_id)

    def unresolved(self, instrument_id: InstrumentId | None = None) -> bool:
        """Whether the outcome of some order (of this instrument) is unknown."""
        for order in self._open.values():
            if order.unresolved and (instrument_id is None or instrument_id == order.instrument_id):
                return True
        return False

    def submit(self, command: SubmitOrder) -> None:
        """Mark an order in flight. A second use of its id is an anomaly and changes nothing."""
        if command.client_order_id in self._orders:
            self.anomaly = f"client order id {command.client_order_id} was used twice"
            return
        order = Order(
            client_order_id=command.client_order_id,
            bundle_id=command.bundle_id,
            leg=command.leg,
            purpose=command.purpose,
            instrument_id=command.instrument_id,
            side=command.side,
            price=command.price,
            qty=command.qty,
            tif=command.tif,
            submitted_ns=command.ts,
        )
        self._orders[order.client_order_id] = order
        self._open[order.client_order_id] = order

    def learn(
        self,
        client_order_id: ClientOrderId,
        fact: Fact,
        *,
        venue_order_id: VenueOrderId | None = None,
        reason: str = "",
    ) -> Order | None:
        """Apply one fact; the order, or nothing (and an anomaly) if it is not ours."""
        order = self._orders.get(client_order_id)
        if order is None:
            self.anomaly = f"{fact.value} for unknown order {client_order_id}"
            return None
        following = TRANSITIONS[order.status].get(fact)
        if following is None:
            self.anomaly = f"{fact.value} for order {client_order_id} that is {order.status.value}"
            return order
        order.status = following
        if fact is Fact.LOSE:
            order.unresolved = order.open
        elif fact in _PROOF:
            order.unresolved = False
        order.venue_order_id = venue_order_id or order.venue_order_id
        order.reason = reason or order.reason
        if not order.open:
            self._open.pop(client_order_id, None)
        return order

    def fill(self, event: OrderFilled) -> Order | None:
        """Count a fill the portfolio had not seen; nothing (and an anomaly) if it is not ours."""
        order = self._orders.get(event.client_order_id)
        if order is None:
            self.anomaly = f"fill {event.trade_id} for unknown order {event.client_order_id}"
            return None
        if (event.instrument_id, event.side) != (order.instrument_id, order.side):
            self.anomaly = (
                f"fill {event.trade_id} is a {event.side.value} of {event.instrument_id}, order"
                f" {order.client_order_id} a {order.side.value} of {order.instrument_id}"
            )
        filled = Qty(order.filled + event.qty)
        if filled > order.qty + DUST:
            self.anomaly = f"order {order.client_order_id} filled {filled} of {order.qty}"
        notional = notional_up if order.side is Side.BUY else notional_down
        order.filled = filled
        order.spent = Cash(order.spent + notional(event.price, event.qty))
        order.fee = Cash(order.fee + event.fee)
        self.learn(order.client_order_id, Fact.LAST_FILL if filled >= order.qty else Fact.FILL)
        return order
