"""Our orders at Binance and what is proven of each. Pure: told answers and times, it gives facts.

    phase     means                                     left by
    SENT      journalled and posted, no answer yet      any answer
    UNKNOWN   the answer proved nothing (or none came)  found by its id, or proven absent
    WORKING   the venue has it                          a final status
    CLOSED    over; its last fact is said

Rules. A fill is told once, by the venue's trade id. A final status closes an order only when every
match it counts (``executedQty``) has come as a fill; until then its matches must be read. Absence
is proven by -2013 ("Order does not exist") twice, ``SECOND_LOOK_NS`` apart, and only after the
request had become too old for the venue to accept (``recvWindow``): then it never will.

Commission. On a BUY Binance takes it out of the coins bought. The fill's ``qty`` is what arrived,
and its ``fee`` is what the coins that did not arrive had cost, so that cash and position are exact;
an order that traded whole is then some coins short, and ends with an ``OrderCanceled`` that says
so. On a SELL it is taken from the proceeds and is the ``fee``. A commission in a third asset (BNB)
moves neither: its ``fee`` is 0, and it is counted in ``foreign_commissions``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, SubmitOrder, TimeInForce
from fleet.domain.events import SettlementStatus, TradeId, VenueOrderId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, format_units, notional_up
from fleet.venues.crypto.catalog import SymbolRules
from fleet.venues.crypto.wire import OrderRow, TradeRow, exact

SECOND_LOOK_NS: Final = NS_PER_SECOND
LATE_NS: Final = NS_PER_SECOND
"""Beyond ``recvWindow``: clocks differ, and what the venue accepted takes a moment to show."""
ABSENT: Final = "the venue does not have it, and its request is too old to be accepted"
REST_KILLED: Final = "the rest of an IOC order is killed"
NOT_OPEN: Final = "the order is not open"
FINAL: Final = frozenset({
    "FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH",
})  # fmt: skip
RulesOf = Callable[[InstrumentId], SymbolRules]


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


@dataclass(slots=True, kw_only=True)
class Tracked:
    """One order. Quantities at 1e-8; ``gross`` and ``executed`` before commission."""

    request: SubmitOrder
    wire_id: VenueOrderId
    phase: Phase = Phase.SENT
    told: bool = False
    order_id: int = 0
    executed: int = 0
    gross: int = 0
    net: int = 0
    final: str = ""
    sent_ns: int = 0
    absent_ns: int = 0
    asked: bool = False
    cancel_due: bool = False
    trades: set[int] = field(default_factory=set)
    last: ev.Event | None = None

    @property
    def urgent(self) -> bool:
        """Whether only a look at the venue brings it on."""
        rests = self.request.tif is TimeInForce.GTC
        return self.phase is Phase.UNKNOWN or bool(self.final) or (
            self.phase is Phase.WORKING and (not rests or self.asked)
        )  # fmt: skip


def wire_id(journal: str, client_order_id: ClientOrderId) -> VenueOrderId:
    """The id the venue knows an order by: a hash, so the same after any restart.

    ``newClientOrderId`` takes 36 characters of ``[.A-Z:/a-z0-9_-]``.
    """
    digest = hashlib.sha256(f"{journal}\n{client_order_id}".encode()).hexdigest()
    return VenueOrderId(f"f{digest[:34]}")


class OrderDesk:
    """All orders of this journal. Facts pile up in order; ``take`` hands them out."""

    def __init__(self, rules_of: RulesOf, *, recv_window_ns: int) -> None:
        """No orders."""
        self.foreign_commissions = 0
        self._rules_of, self._recv_window_ns = rules_of, recv_window_ns
        self._tracked: dict[ClientOrderId, Tracked] = {}
        self._open: dict[ClientOrderId, Tracked] = {}
        self._by_wire: dict[str, Tracked] = {}
        self._by_order: dict[tuple[str, int], Tracked] = {}
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

    def of_order(self, symbol: str, order_id: int) -> Tracked | None:
        """The order the venue calls ``order_id``, if it is known to be ours."""
        return self._by_order.get((symbol, order_id))

    def bind(self, symbol: str, row: OrderRow) -> Tracked | None:
        """Learn which of our orders a row of the venue is; ``None`` for somebody else's."""
        tracked = self._by_wire.get(row.orig_client_order_id) or self._by_wire.get(
            row.client_order_id
        )
        if tracked is not None:
            tracked.order_id = row.order_id
            self._by_order[symbol, row.order_id] = tracked
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
        due = [t for t in self._open.values() if t.cancel_due and t.phase is not Phase.SENT]
        for tracked in due:
            tracked.cancel_due = False
        return due

    # --- ours ---------------------------------------------------------------------------------

    def sent(self, request: SubmitOrder, name: VenueOrderId, now_ns: int) -> Tracked:
        """An order is journalled and about to be posted."""
        return self._add(Tracked(request=request, wire_id=name, sent_ns=now_ns))

    def resume(self, order: EarlierOrder, now_ns: int) -> None:
        """An order of an earlier run of this journal; what happened since is not known."""
        if order.venue_order_id is None:
            return
        phase = Phase.CLOSED if not order.open else (
            Phase.WORKING if order.accepted else Phase.UNKNOWN)  # fmt: skip
        self._add(
            Tracked(
                request=order.request, wire_id=order.venue_order_id, phase=phase,
                told=order.accepted or not order.open, sent_ns=now_ns,
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
            self._refuse_cancel(client_order_id, NOT_OPEN, now_ns)
        else:
            tracked.asked = tracked.cancel_due = True

    def _refuse_cancel(self, name: ClientOrderId, reason: str, now_ns: int) -> None:
        self._facts.append(
            ev.CancelRejected(ts_event=now_ns, ts_recv=now_ns, client_order_id=name, reason=reason)
        )

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
        # Whatever was sent was sent by now, and is too old to be accepted a window later.
        tracked.phase, tracked.sent_ns = Phase.UNKNOWN, now_ns
        self._facts.append(ev.SubmitUnknown(
            ts_event=now_ns, ts_recv=now_ns, client_order_id=tracked.request.client_order_id,
            reason=reason))  # fmt: skip

    def seen(self, tracked: Tracked, row: OrderRow, now_ns: int) -> None:
        """The venue shows the order: its status, and with a POST its first matches."""
        symbol = self._symbol(tracked)
        self.bind(symbol, row)
        if tracked.phase is Phase.CLOSED:
            return
        if row.status == "REJECTED":
            self.rejected(tracked, "the venue lists it as rejected", now_ns)
            return
        self._accept(tracked, row, now_ns)
        tracked.executed = max(tracked.executed, exact(row.executed_qty, "executedQty"))
        buys = tracked.request.side is Side.BUY
        stamp_ms = row.transact_time or row.update_time or row.time
        self.matched(tracked, [
            TradeRow(
                id=fill.trade_id, order_id=row.order_id, price=fill.price, qty=fill.qty,
                commission=fill.commission, commission_asset=fill.commission_asset, time=stamp_ms,
                is_buyer=buys, is_maker=False,
            )
            for fill in row.fills
        ], now_ns)  # fmt: skip
        if row.status in FINAL:
            tracked.final = row.status
            tracked.cancel_due = False
        self._try_close(tracked, now_ns)

    def matched(self, tracked: Tracked, rows: Iterable[TradeRow], now_ns: int) -> None:
        """Matches of an order, from wherever."""
        for row in rows:
            if row.id in tracked.trades:
                continue
            tracked.trades.add(row.id)
            facts = self.facts_of(tracked, row, now_ns)
            tracked.gross += exact(row.qty, "qty")
            tracked.net += facts[0].qty
            if tracked.phase is not Phase.CLOSED:
                self._facts += facts
        tracked.executed = max(tracked.executed, tracked.gross)
        self._try_close(tracked, now_ns)

    def absent(self, tracked: Tracked, began_ns: int, now_ns: int) -> None:
        """A look that began at ``began_ns`` did not find it."""
        if tracked.told or tracked.phase is not Phase.UNKNOWN:
            return
        if began_ns < tracked.sent_ns + self._recv_window_ns + LATE_NS:
            return
        if not tracked.absent_ns:
            tracked.absent_ns = began_ns
        elif began_ns - tracked.absent_ns >= SECOND_LOOK_NS:
            self.rejected(tracked, ABSENT, now_ns)

    def still_rests(self, tracked: Tracked) -> None:
        """A cancel was refused, and a look found the order open all the same: ask again."""
        if tracked.phase is Phase.WORKING and tracked.asked and not tracked.final:
            tracked.cancel_due = True

    # --- steps --------------------------------------------------------------------------------

    def _symbol(self, tracked: Tracked) -> str:
        return self._rules_of(tracked.request.instrument_id).symbol

    def _accept(self, tracked: Tracked, row: OrderRow, now_ns: int) -> None:
        tracked.phase = Phase.WORKING
        tracked.order_id = row.order_id
        if not tracked.told:
            tracked.told = True
            self._facts.append(ev.OrderAccepted(
                ts_event=now_ns, ts_recv=now_ns,
                client_order_id=tracked.request.client_order_id,
                venue_order_id=tracked.wire_id))  # fmt: skip

    def facts_of(
        self, tracked: Tracked, row: TradeRow, now_ns: int
    ) -> tuple[ev.OrderFilled, ev.FillSettled]:
        """A match as the facts it is: a fill, and that it is final."""
        request, rules = tracked.request, self._rules_of(tracked.request.instrument_id)
        price, gross = exact(row.price, "price"), exact(row.qty, "qty")
        commission = exact(row.commission, "commission")
        qty, fee = gross, 0
        if not commission:
            pass
        elif row.commission_asset == rules.base and request.side is Side.BUY:
            qty = gross - commission
            # Exact: a tick times a lot is whole at 1e-8 (catalog).
            fee = price * gross // SCALE - notional_up(Price(price), Qty(qty))
        elif row.commission_asset == rules.quote:
            fee = commission
        else:
            self.foreign_commissions += 1
        name = TradeId(f"{rules.symbol}-{row.id}")
        stamp_ns = row.time * NS_PER_MS
        return (
            ev.OrderFilled(
                ts_event=stamp_ns, ts_recv=now_ns, trade_id=name,
                client_order_id=request.client_order_id, instrument_id=request.instrument_id,
                side=request.side, price=Price(price), qty=Qty(qty), fee=Cash(fee),
                maker=row.is_maker,
            ),
            ev.FillSettled(
                ts_event=stamp_ns, ts_recv=now_ns, trade_id=name, status=SettlementStatus.CONFIRMED
            ),
        )  # fmt: skip

    def _try_close(self, tracked: Tracked, now_ns: int) -> None:
        if tracked.phase is Phase.CLOSED or not tracked.final or tracked.gross < tracked.executed:
            return
        if tracked.net >= tracked.request.qty:
            self._close(tracked, None)
            return
        short = tracked.gross - tracked.net
        if tracked.gross >= tracked.request.qty:
            base = self._rules_of(tracked.request.instrument_id).base
            reason = f"filled; {format_units(short)} {base} were taken as commission"
        elif tracked.asked:
            reason = "asked to"
        else:
            reason = REST_KILLED if tracked.final == "EXPIRED" else tracked.final.lower()
        self._close(tracked, ev.OrderCanceled(
            ts_event=now_ns, ts_recv=now_ns, client_order_id=tracked.request.client_order_id,
            reason=reason))  # fmt: skip

    def _close(self, tracked: Tracked, fact: ev.Event | None) -> None:
        tracked.phase, tracked.last = Phase.CLOSED, fact
        tracked.cancel_due = False
        self._open.pop(tracked.request.client_order_id, None)
        if fact is not None:
            self._facts.append(fact)
