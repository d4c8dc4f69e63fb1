"""Our orders at Alpaca and what is proven of each. Pure: told answers and times, it gives facts.

    phase     means                                     left by
    SENT      journalled and posted, no answer yet      any answer
    UNKNOWN   the answer proved nothing (or none came)  found by its id, or proven absent
    WORKING   the venue has it                          a final status
    CLOSED    over; its last fact is said

Rules. A fill is told once. Its id is the order's and how much of it had traded then (``cum_qty``),
which a trade update and an activity both say, so news of a fill is the same fill from wherever. A
final status closes an order only when every share it counts (``filled_qty``) has come as a fill.
Absence is taken as proven by Alpaca's own "not found" twice, ``SECOND_LOOK_NS`` apart, the first
not before ``absent_ns`` after the request was given up: Alpaca has no time limit for requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, SubmitOrder, TimeInForce
from fleet.domain.events import SettlementStatus, TradeId, VenueOrderId
from fleet.domain.instruments import Side
from fleet.domain.units import Price, Qty, format_units
from fleet.venues.stocks.fees import RegulatoryFees
from fleet.venues.stocks.wire import OrderRow, exact

SECOND_LOOK_NS: Final = NS_PER_SECOND
ABSENT: Final = "the venue does not have it, and it was sent too long ago to arrive"
REST_KILLED: Final = "the rest of an IOC order is killed"
NOT_OPEN: Final = "the order is not open"
FINAL: Final = frozenset({
    "filled", "canceled", "expired", "rejected", "done_for_day", "replaced", "stopped",
})  # fmt: skip
"""Statuses after which nothing more trades (docs "Order lifecycle", read 2026-11)."""


class Phase(Enum):
    """Where an order stands; see the table above."""

    SENT = "SENT"
    UNKNOWN = "UNKNOWN"
    WORKING = "WORKING"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierOrder:
    """An order the journal already has: as commanded, and how far it came.

    One whose ``OrderSigned`` never became durable has no ``venue_order_id``: it was never sent.
    """

    request: SubmitOrder
    venue_order_id: VenueOrderId | None
    accepted: bool
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One fill as the venue told it, from a trade update or an activity; units at 1e-8."""

    order_id: str
    cum_qty: int
    qty: int
    price: int
    at_ns: int


@dataclass(slots=True, kw_only=True)
class Tracked:
    """One order; quantities at 1e-8."""

    request: SubmitOrder
    wire_id: VenueOrderId
    phase: Phase = Phase.SENT
    told: bool = False
    order_id: str = ""
    executed: int = 0
    gross: int = 0
    final: str = ""
    given_up_ns: int = 0
    absent_ns: int = 0
    asked: bool = False
    cancel_due: bool = False
    matches: dict[int, Match] = field(default_factory=dict)
    last: ev.Event | None = None

    @property
    def urgent(self) -> bool:
        """Whether only a look at the venue brings it on, should the stream be mute."""
        rests = self.request.tif is TimeInForce.GTC
        return self.phase is Phase.UNKNOWN or bool(self.final) or (
            self.phase is Phase.WORKING and (not rests or self.asked)
        )  # fmt: skip


def wire_id(journal: str, client_order_id: ClientOrderId) -> VenueOrderId:
    """The id the venue knows an order by: a hash, so the same after any restart."""
    digest = hashlib.sha256(f"{journal}\n{client_order_id}".encode()).hexdigest()
    return VenueOrderId(f"f{digest[:46]}")


class OrderDesk:
    """All orders of this journal. Facts pile up in order; ``take`` hands them out."""

    def __init__(self, fees: RegulatoryFees, *, absent_ns: int) -> None:
        """No orders."""
        self._fees, self._absent_ns = fees, absent_ns
        self._tracked: dict[ClientOrderId, Tracked] = {}
        self._open: dict[ClientOrderId, Tracked] = {}
        self._by_wire: dict[str, Tracked] = {}
        self._by_order: dict[str, Tracked] = {}
        self._facts: list[ev.Event] = []

    def take(self) -> list[ev.Event]:
        """The facts since the last call, in order."""
        facts, self._facts = self._facts, []
        return facts

    def get(self, client_order_id: ClientOrderId) -> Tracked | None:
        """One order, if it was ever ours."""
        return self._tracked.get(client_order_id)

    def open(self) -> Iterator[Tracked]:
        """The orders that are not closed, oldest first."""
        return iter(tuple(self._open.values()))

    def of_order(self, order_id: str) -> Tracked | None:
        """The order the venue calls ``order_id``, if it is known to be ours."""
        return self._by_order.get(order_id)

    def bind(self, row: OrderRow) -> Tracked | None:
        """Learn which of our orders a row of the venue is; ``None`` for somebody else's."""
        tracked = self._by_wire.get(row.client_order_id)
        if tracked is not None:
            tracked.order_id = row.id
            self._by_order[row.id] = tracked
        return tracked

    @property
    def urgent(self) -> bool:
        """Whether some order waits for a look."""
        return any(tracked.urgent for tracked in self._open.values())

    @property
    def busy(self) -> bool:
        """Whether anything is open."""
        return bool(self._open)

    def due_cancels(self) -> list[Tracked]:
        """The orders to cancel now; not named again until an answer asks for it."""
        due = [t for t in self._open.values() if t.cancel_due and t.order_id]
        for tracked in due:
            tracked.cancel_due = False
        return due

    # --- ours ---------------------------------------------------------------------------------

    def sent(self, request: SubmitOrder, name: VenueOrderId) -> Tracked:
        """An order is journalled and about to be posted."""
        return self._add(Tracked(request=request, wire_id=name))

    def resume(self, order: EarlierOrder, now_ns: int) -> None:
        """An order of an earlier run of this journal; what happened since is not known."""
        if order.venue_order_id is None:
            return
        phase = Phase.CLOSED if not order.open else (
            Phase.WORKING if order.accepted else Phase.UNKNOWN)  # fmt: skip
        told = order.accepted or not order.open
        self._add(
            Tracked(
                request=order.request, wire_id=order.venue_order_id, phase=phase, told=told,
                given_up_ns=now_ns,
            )
        )  # fmt: skip

    def _add(self, tracked: Tracked) -> Tracked:
        name = tracked.request.client_order_id
        self._tracked[name] = self._by_wire[tracked.wire_id] = tracked
        if tracked.phase is not Phase.CLOSED:
            self._open[name] = tracked
        return tracked

    def ask_cancel(self, client_order_id: ClientOrderId, now_ns: int) -> None:
        """The engine wants it cancelled."""
        tracked = self._open.get(client_order_id)
        if tracked is None:
            self._facts.append(ev.CancelRejected(
                ts_event=now_ns, ts_recv=now_ns, client_order_id=client_order_id,
                reason=NOT_OPEN))  # fmt: skip
        else:
            tracked.asked = tracked.cancel_due = True

    # --- answers ------------------------------------------------------------------------------

    def rejected(self, tracked: Tracked, reason: str, now_ns: int) -> None:
        """It is proven that the venue does not have it."""
        if tracked.phase is Phase.CLOSED or tracked.told:
            return
        self._close(tracked, ev.OrderRejected(
            ts_event=now_ns, ts_recv=now_ns, client_order_id=tracked.request.client_order_id,
            reason=reason))  # fmt: skip

    def unknown(self, tracked: Tracked, reason: str, now_ns: int) -> None:
        """Nothing is proven."""
        if tracked.phase is not Phase.SENT:
            return
        tracked.phase, tracked.given_up_ns = Phase.UNKNOWN, now_ns
        self._facts.append(ev.SubmitUnknown(
            ts_event=now_ns, ts_recv=now_ns, client_order_id=tracked.request.client_order_id,
            reason=reason))  # fmt: skip

    def seen(self, row: OrderRow, now_ns: int) -> Tracked | None:
        """The venue shows an order: in an answer or an update; ``None`` if it is not ours."""
        tracked = self.bind(row)
        if tracked is None or tracked.phase is Phase.CLOSED:
            return tracked
        executed = exact(row.filled_qty, "filled_qty")
        if row.status == "rejected" and not executed and not tracked.told:
            self.rejected(tracked, "the venue lists it as rejected", now_ns)
            return tracked
        self.accepted(tracked, now_ns)
        tracked.executed = max(tracked.executed, executed)
        if row.status in FINAL:
            tracked.final, tracked.cancel_due = row.status, False
        self._try_close(tracked, now_ns)
        return tracked

    def accepted(self, tracked: Tracked, now_ns: int) -> None:
        """The venue has the order."""
        if tracked.phase is Phase.CLOSED:
            return
        tracked.phase = Phase.WORKING
        if not tracked.told:
            tracked.told = True
            self._facts.append(ev.OrderAccepted(
                ts_event=now_ns, ts_recv=now_ns,
                client_order_id=tracked.request.client_order_id,
                venue_order_id=tracked.wire_id))  # fmt: skip

    def matched(self, tracked: Tracked, match: Match, now_ns: int) -> None:
        """A fill of an order, from wherever."""
        if match.cum_qty in tracked.matches:
            return
        tracked.matches[match.cum_qty] = match
        tracked.gross += match.qty
        tracked.executed = max(tracked.executed, match.cum_qty, tracked.gross)
        if tracked.phase is not Phase.CLOSED:
            self._facts += self.facts_of(tracked, match, now_ns)
        self._try_close(tracked, now_ns)

    def absent(self, tracked: Tracked, began_ns: int, now_ns: int) -> None:
        """A look that began at ``began_ns`` did not find it."""
        if tracked.told or tracked.phase is not Phase.UNKNOWN:
            return
        if began_ns < tracked.given_up_ns + self._absent_ns:
            return
        if not tracked.absent_ns:
            tracked.absent_ns = began_ns
        elif began_ns - tracked.absent_ns >= SECOND_LOOK_NS:
            self.rejected(tracked, ABSENT, now_ns)

    def still_rests(self, tracked: Tracked) -> None:
        """A look found the order open although a cancel was asked for: ask again."""
        if tracked.phase is Phase.WORKING and tracked.asked and not tracked.final:
            tracked.cancel_due = True

    # --- steps --------------------------------------------------------------------------------

    def facts_of(
        self, tracked: Tracked, match: Match, now_ns: int
    ) -> tuple[ev.OrderFilled, ev.FillSettled]:
        """A match as the facts it is: a fill, and that it is final (a broker guarantees it)."""
        request = tracked.request
        price, qty = Price(match.price), Qty(match.qty)
        name = TradeId(f"{tracked.wire_id}@{format_units(match.cum_qty)}")
        return (
            ev.OrderFilled(
                ts_event=match.at_ns, ts_recv=now_ns, trade_id=name,
                client_order_id=request.client_order_id, instrument_id=request.instrument_id,
                side=request.side, price=price, qty=qty,
                fee=self._fees.charged(request.side, price, qty),
            ),
            ev.FillSettled(
                ts_event=match.at_ns, ts_recv=now_ns, trade_id=name,
                status=SettlementStatus.CONFIRMED,
            ),
        )  # fmt: skip

    def _try_close(self, tracked: Tracked, now_ns: int) -> None:
        if tracked.phase is Phase.CLOSED or not tracked.final or tracked.gross < tracked.executed:
            return
        if tracked.gross >= tracked.request.qty:
            self._close(tracked, None)
            return
        takes = tracked.request.tif is not TimeInForce.GTC
        reason = "asked to" if tracked.asked else (
            REST_KILLED if takes and tracked.final == "canceled" else tracked.final)  # fmt: skip
        self._close(tracked, ev.OrderCanceled(
            ts_event=now_ns, ts_recv=now_ns, client_order_id=tracked.request.client_order_id,
            reason=reason))  # fmt: skip

    def _close(self, tracked: Tracked, fact: ev.Event | None) -> None:
        tracked.phase, tracked.last = Phase.CLOSED, fact
        tracked.cancel_due = False
        self._open.pop(tracked.request.client_order_id, None)
        if fact is not None:
            self._facts.append(fact)


def signed_cash(side: Side, amount: int) -> int:
    """What a notional does to cash."""
    return -amount if side is Side.BUY else amount
