"""The simulated venue: live books, pretended orders, pessimistic fills.

Theory of operation. An order sent at t arrives at t + latency and meets the book as it is *then*.
It passes the venue's own checks (tick, minimums, free cash or settled tokens) with the venue's own
words, walks the depth to its limit, and pays the instrument's fee. What it takes stays taken: the
same shown depth is not sold to us twice, in either of the two mirrored books. Resting orders fill
only when a trade goes *through* their price. Answers come after another latency; fills are MATCHED,
then MINED, then CONFIRMED, and their tokens are not free before MINED. Splits, merges, conversions
and redemptions take their time too.

The venue keeps accounts of its own and writes each fact to its ledger, durably, before it answers:
when the bot dies, the ledger is the truth that recovery reconciles with. An order that was sent but
had not arrived when the process died never reached the venue, and ``account`` says so.

Everything is driven by the times handed in; there is no clock and no chance here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec.structs import replace

from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, RunOperation, SubmitOrder, TimeInForce
from fleet.domain.instruments import Instrument, InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, notional_up
from fleet.engine.book import Book
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.paper_accounts import PaperAccounts
from fleet.venues.paper_depth import TakenDepth

MS: Final = 1_000_000
NO_MATCH: Final = (
    "no orders found to match with FAK order. FAK orders are partially filled or killed if no match"
    " is found."
)
NOT_FULL: Final = "order couldn't be fully filled. FOK orders are fully filled or killed."
NO_BOOK: Final = "No orderbook exists for the requested token id"
MARKET_RESOLVED: Final = "CANCELED_MARKET_RESOLVED"
NO_BALANCE: Final = "not enough balance / allowance"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperSettings:
    """How slow the pretended venue is. Defaults: a server near the venue on a bad day.

    Mining takes 2.0 s in the median on the real chain, 3.0 s at the 90th percentile.
    """

    latency_ns: int = 60 * MS
    answer_ns: int = 40 * MS
    mined_ns: int = 3_000 * MS
    confirmed_ns: int = 8_000 * MS
    operation_ns: int = 4_000 * MS
    consumed_ns: int = 30_000 * MS
    """How long depth that we took stays taken, counted from the last time we took of its level."""
    cash: Cash = Cash(1_000 * SCALE)


class Ledger(Protocol):
    """Where the venue's own facts are kept."""

    def write(self, events: Sequence[ev.Event]) -> int:
        """Append them durably."""
        ...


@dataclass(order=True, slots=True)
class _Due:
    at_ns: int
    number: int
    what: SubmitOrder | RunOperation | ClientOrderId | ev.Event = field(compare=False)
    """A request, an answer, or the id of an order whose cancel is on its way."""


@dataclass(slots=True)
class _Resting:
    order: SubmitOrder
    remaining: Qty


class PaperVenue:
    """An exchange that exists only here, fed by real books."""

    def __init__(
        self,
        *,
        settings: PaperSettings,
        instruments: Mapping[InstrumentId, Instrument],
        books: Mapping[InstrumentId, Book],
        ledger: Ledger,
        facts: Iterable[ev.Event] = (),
        now_ns: int = 0,
    ) -> None:
        """Open the account: fold ``facts`` of earlier runs, or deposit the starting cash."""
        self.settings = settings
        self._instruments = instruments
        self._books = books
        self._ledger = ledger
        self.accounts = PaperAccounts()
        self._queue: list[_Due] = []
        self._number = 0
        self._resting: dict[ClientOrderId, _Resting] = {}
        self._taken = TakenDepth(settings.consumed_ns)
        self._ended: set[InstrumentId] = set()
        for fact in facts:
            self.accounts.apply(fact)
        for fact in self.accounts.unfinished(now_ns, settings.mined_ns, settings.confirmed_ns):
            self._at(fact.ts_event, fact)
        if not self.accounts.opened:
            self._record(
                ev.CashDeposited(
                    ts_event=now_ns, ts_recv=now_ns, deposit_id="paper-start", amount=settings.cash
                )
            )

    # --- requests -----------------------------------------------------------------------------

    def submit(self, request: SubmitOrder | RunOperation, now_ns: int) -> None:
        """Send a request; it arrives later."""
        delay = (
            self.settings.latency_ns
            if isinstance(request, SubmitOrder)
            else self.settings.operation_ns
        )
        self._at(now_ns + delay, request)

    def cancel(self, client_order_id: ClientOrderId, now_ns: int) -> None:
        """Ask for a cancel; it arrives later, and the order may fill until then."""
        self._schedule(now_ns + self.settings.latency_ns, client_order_id)

    def _cancel(self, client_order_id: ClientOrderId, now_ns: int) -> None:
        """Cancel a resting order; anything else is refused as the venue refuses it."""
        kind: type[ev.OrderCanceled | ev.CancelRejected] = ev.OrderCanceled
        reason = "asked to"
        if self._resting.pop(client_order_id, None) is None:
            kind, reason = ev.CancelRejected, "the order is already canceled or matched"
        self._deliver(kind(ts_event=now_ns, client_order_id=client_order_id, reason=reason))

    def next_due_ns(self) -> int | None:
        """When ``advance`` has something to do next; nothing when it has not."""
        return self._queue[0].at_ns if self._queue else None

    def advance(self, now_ns: int) -> list[ev.Event]:
        """Let time pass: arrivals are matched, and the answers that are due come back in order."""
        answers: list[ev.Event] = []
        while self._queue and self._queue[0].at_ns <= now_ns:
            due = heapq.heappop(self._queue)
            match due.what:
                case SubmitOrder():
                    self._arrive(due.what, due.at_ns)
                case RunOperation():
                    self._operate(due.what, due.at_ns)
                case str():
                    self._cancel(due.what, due.at_ns)
                case ev.FillSettled():
                    self._record(due.what)
                    answers.append(replace(due.what, ts_recv=due.at_ns))
                case _:
                    answers.append(replace(due.what, ts_recv=due.at_ns))
        return answers

    def account(self, query: AccountQuery) -> AccountTruth:
        """The venue's books, and the facts that answer what the journal leaves open."""
        for order_id in self.accounts.unended(query.open_orders) - self._resting.keys():
            self._record(
                ev.OrderCanceled(
                    client_order_id=order_id, reason="nothing of it rests at the paper venue"
                )
            )
        sent = [due.what for due in self._queue]
        return self.accounts.answer(
            query,
            [request.client_order_id for request in sent if isinstance(request, SubmitOrder)],
            [request.operation_id for request in sent if isinstance(request, RunOperation)],
        )

    # --- arrivals -----------------------------------------------------------------------------

    def _arrive(self, order: SubmitOrder, now_ns: int) -> None:
        if self.accounts.knows_order(order.client_order_id):
            return
        instrument = self._instruments[order.instrument_id]
        fills = self._match(order, now_ns)
        refusal = self._refusal(order, instrument, fills)
        if order.instrument_id in self._ended:
            refusal = NO_BOOK
        if refusal:
            self._deliver(
                ev.OrderRejected(
                    ts_event=now_ns, client_order_id=order.client_order_id, reason=refusal
                )
            )
            return
        venue_id = ev.VenueOrderId(f"paper-{order.client_order_id}")
        facts: list[ev.Event] = [
            ev.OrderAccepted(
                ts_event=now_ns, client_order_id=order.client_order_id, venue_order_id=venue_id
            )
        ]
        facts += [
            self._fill(order, price, qty, index, instrument, now_ns, maker=False)
            for index, (price, qty) in enumerate(fills)
        ]
        for price, qty in fills:
            self._taken.take(instrument, order.side, price, qty, now_ns)
        left = Qty(order.qty - sum(qty for _, qty in fills))
        if left and order.tif in {TimeInForce.GTC, TimeInForce.GTD}:
            self._resting[order.client_order_id] = _Resting(order, left)
        elif left:
            facts.append(
                ev.OrderCanceled(
                    ts_event=now_ns,
                    client_order_id=order.client_order_id,
                    reason="the rest of a FAK order is killed",
                )
            )
        self._deliver(*facts)

    def _refusal(
        self, order: SubmitOrder, instrument: Instrument, fills: Sequence[ev.Level]
    ) -> str:
        tick = self._books[order.instrument_id].tick
        if order.price % tick or not instrument.prices(order.price):
            return f"Price ({order.price}) breaks minimum tick size rule: {tick}"
        if order.qty < instrument.min_qty:
            return f"Size ({order.qty}) lower than the minimum: {instrument.min_qty}"
        matched = sum(qty for _, qty in fills)
        resting_kind = order.tif in {TimeInForce.GTC, TimeInForce.GTD}
        if (matched or not resting_kind) and (
            notional_up(order.price, order.qty) < instrument.min_notional
        ):
            return "invalid amount for a marketable order, min size: $1"
        if order.side is Side.BUY:
            fees = instrument.fees.fee(order.price, order.qty)
            if notional_up(order.price, order.qty) + fees > self.accounts.cash - self._held_cash():
                return NO_BALANCE
        elif order.qty > self.accounts.free(order.instrument_id) - self._held(order.instrument_id):
            return NO_BALANCE
        if order.tif is TimeInForce.FOK and matched < order.qty:
            return NOT_FULL
        if not matched and not resting_kind:
            return NO_MATCH
        return ""

    def _held_cash(self) -> int:
        return sum(
            notional_up(r.order.price, r.remaining)
            for r in self._resting.values()
            if r.order.side is Side.BUY
        )

    def _held(self, instrument_id: InstrumentId) -> int:
        return sum(
            r.remaining
            for r in self._resting.values()
            if r.order.side is Side.SELL and r.order.instrument_id == instrument_id
        )

    def _match(self, order: SubmitOrder, now_ns: int) -> list[ev.Level]:
        book, instrument = self._books[order.instrument_id], self._instruments[order.instrument_id]
        if not book.usable:
            return []
        fills: list[ev.Level] = []
        left = int(order.qty)
        for price, shown in book.levels(order.side):
            beyond = price > order.price if order.side is Side.BUY else price < order.price
            if beyond or not left:
                break
            part = min(left, self._taken.left(instrument, order.side, price, shown, now_ns))
            if part > 0:
                fills.append((price, Qty(part)))
                left -= part
        return fills

    def on_trade(self, event: ev.TradePrinted) -> None:
        """Fill resting orders that somebody's trade went through."""
        instrument = self._instruments.get(event.instrument_id)
        if instrument is None or not self._resting:
            return
        prints = {
            event.instrument_id: event.price,
            instrument.complement: Price(SCALE - event.price),
        }
        left = int(event.qty)
        for order_id, resting in list(self._resting.items()):
            order = resting.order
            price = prints.get(order.instrument_id)
            if price is None or not left:
                continue
            through = price < order.price if order.side is Side.BUY else price > order.price
            if not through:
                continue
            qty = Qty(min(left, resting.remaining))
            left -= qty
            number = self.accounts.fills_of(order_id)
            rules = self._instruments[order.instrument_id]
            fill = self._fill(order, order.price, qty, number, rules, event.ts_recv, maker=True)
            resting.remaining = Qty(resting.remaining - qty)
            if not resting.remaining:
                del self._resting[order_id]
            self._deliver(fill)

    def on_resolved(self, event: ev.MarketResolved) -> None:
        """A question is answered: what rests is cancelled, and nothing is traded any more."""
        self._ended.update(token for token, _ in event.payouts)
        for order_id, resting in list(self._resting.items()):
            if resting.order.instrument_id in self._ended:
                del self._resting[order_id]
                self._deliver(
                    ev.OrderCanceled(
                        ts_event=event.ts_recv, client_order_id=order_id, reason=MARKET_RESOLVED
                    )
                )

    def _fill(
        self,
        order: SubmitOrder,
        price: Price,
        qty: Qty,
        number: int,
        instrument: Instrument,
        now_ns: int,
        *,
        maker: bool,
    ) -> ev.OrderFilled:
        return ev.OrderFilled(
            ts_event=now_ns,
            trade_id=ev.TradeId(f"{order.client_order_id}-{number}"),
            client_order_id=order.client_order_id,
            instrument_id=order.instrument_id,
            side=order.side,
            price=price,
            qty=qty,
            fee=Cash(0) if maker else instrument.fees.fee(price, qty),
            maker=maker,
        )

    def _operate(self, request: RunOperation, now_ns: int) -> None:
        if self.accounts.knows_operation(request.operation_id):
            return
        short = -request.cash > self.accounts.cash - self._held_cash() or any(
            qty > self.accounts.free(token) - self._held(token) for token, qty in request.burn
        )
        if short:
            self._deliver(
                ev.OperationRejected(
                    ts_event=now_ns, operation_id=request.operation_id, reason=NO_BALANCE
                )
            )
            return
        self._deliver(
            ev.OperationConfirmed(
                ts_event=now_ns,
                operation_id=request.operation_id,
                kind=request.kind,
                burn=request.burn,
                mint=request.mint,
                cash=request.cash,
            )
        )

    # --- answers ------------------------------------------------------------------------------

    def _deliver(self, *facts: ev.Event) -> None:
        """Record facts durably, then let their answers travel; settlements follow by themselves."""
        self._record(*facts)
        for fact in facts:
            self._at(fact.ts_event + self.settings.answer_ns, fact)
            if isinstance(fact, ev.OrderFilled):
                for status, delay in (
                    (ev.SettlementStatus.MINED, self.settings.mined_ns),
                    (ev.SettlementStatus.CONFIRMED, self.settings.confirmed_ns),
                ):
                    at_ns = fact.ts_event + delay
                    self._at(
                        at_ns,
                        ev.FillSettled(ts_event=at_ns, trade_id=fact.trade_id, status=status),
                    )

    def _record(self, *facts: ev.Event) -> None:
        self._ledger.write(facts)
        for fact in facts:
            self.accounts.apply(fact)

    def _at(self, at_ns: int, what: SubmitOrder | RunOperation | ev.Event) -> None:
        self._schedule(at_ns, what)

    def _schedule(
        self, at_ns: int, what: SubmitOrder | RunOperation | ClientOrderId | ev.Event
    ) -> None:
        self._number += 1
        heapq.heappush(self._queue, _Due(at_ns, self._number, what))
