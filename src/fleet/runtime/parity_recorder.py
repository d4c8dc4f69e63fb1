"""Beside every order that takes, its shadow: what the live quotes would have given it.

Theory of operation. The paper venue already meets the book as it is when the order would have
arrived. What it cannot know, and the shadow adds, is this:

- *How late we really are.* Paper travels for PAPER_LATENCY_MS. The shadow arrives after the round
  trip to the venue as it is measured now (the 90th percentile): the venue has matched an order, at
  the latest, when its answer is back.
- *The venue's own delay.* Orders that take are held back in some markets (50 ms in crypto markets,
  reference 8; more in sport, which is not modelled). LIVE_SHADOW_TAKER_DELAY_MS is added to all.
- *How old what we see is.* The quotes here at time t left the venue a feed lag earlier. The book an
  order meets at the venue is the one we see a lag after its arrival; the shadow waits for that one.
- *Whether the quote was meant.* For a while after the arrival the shadow watches whether the shares
  it would have taken are still offered, or were traded by somebody, or were withdrawn untraded.
- *What the venue really did*, in a live session: the same rows then hold real fills.

An order's row is complete when its own end is known and the watch is over; one whose end does not
come within two minutes is written as not ended. Rows are written in batches, off the decision's
path; a crash loses the last few seconds of them, whatever they were. A full disk stops no trading:
rows are then dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, SubmitOrder, TimeInForce
from fleet.domain.instruments import Instrument, InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.engine.book import Book
from fleet.journal.database import JournalError
from fleet.runtime.components import Health
from fleet.runtime.latency import LatencyWindow
from fleet.runtime.parity_store import ParityStore, Shadow
from fleet.runtime.parts import Periodic

TAKERS: Final = frozenset({TimeInForce.FAK, TimeInForce.FOK})
PATIENCE_NS: Final = 120 * NS_PER_SECOND
PENDING_MAX: Final = 2_000
ROWS_MAX: Final = 5_000
FILLS_MAX: Final = 20_000
FLUSH_S: Final = 5.0
LAG_MAX_NS: Final = NS_PER_SECOND
"""A feed lag above this is a clock that differs, not a network."""

CallLater = Callable[[float, Callable[[], None]], object]
"""``loop.call_later``: seconds, and what to do then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSettings:
    """``latency_ns`` and ``feed_lag_ns`` hold until they have been measured.

    ``taker_delay_ns`` is how long the venue holds back an order that takes, on top.
    """

    latency_ns: int
    feed_lag_ns: int
    hold_ns: int
    taker_delay_ns: int = 0


@dataclass(slots=True, kw_only=True)
class _Pending:
    order: SubmitOrder
    sent_ns: int
    latency_ns: int
    lag_ns: int
    tick: Price
    fill_qty: int = 0
    fill_cash: int = 0
    ended: bool = False
    watched: bool = False
    quote_qty: int | None = None
    quote_cash: int | None = None
    worst: Price = Price(0)
    traded: int = 0
    firm_qty: int | None = None


class ParityRecorder(Periodic):
    """A component that shadows orders. Feed it submits, durable facts and trades."""

    def __init__(
        self,
        store: ParityStore,
        books: Mapping[InstrumentId, Book],
        instruments: Mapping[InstrumentId, Instrument],
        clock: Clock,
        settings: ShadowSettings,
        *,
        call_later: CallLater,
        round_trip_ns: Callable[[], int | None] = lambda: None,
    ) -> None:
        """``books`` are the live ones, as the engine keeps them. ``round_trip_ns`` is the round
        trip to the venue as measured now, nothing while it has not been.
        """
        super().__init__("parity", FLUSH_S)
        self._store = store
        self._books = books
        self._instruments = instruments
        self._clock = clock
        self._settings = settings
        self._call_later = call_later
        self._round_trip_ns = round_trip_ns
        self._lags = LatencyWindow()
        self._lag_ns = settings.feed_lag_ns
        self._pending: dict[ClientOrderId, _Pending] = {}
        self._rows: list[Shadow] = []
        self._reversals: list[tuple[ClientOrderId, Qty, Cash]] = []
        self._fills: dict[ev.TradeId, tuple[ClientOrderId, Qty, Cash]] = {}
        self._problem = ""
        self.written = 0
        self.dropped = 0
        self._log = logs.get("parity")

    # --- in -----------------------------------------------------------------------------------

    def submitted(self, order: SubmitOrder) -> None:
        """An order was handed to the venue just now."""
        instrument = self._instruments.get(order.instrument_id)
        if order.tif not in TAKERS or instrument is None:
            return
        if len(self._pending) >= PENDING_MAX:
            self.dropped += 1
            return
        measured_ns = self._round_trip_ns()
        latency_ns = self._settings.latency_ns if measured_ns is None else measured_ns
        latency_ns += self._settings.taker_delay_ns
        pending = _Pending(
            order=order, sent_ns=self._clock.now_ns(), latency_ns=latency_ns, lag_ns=self._lag_ns,
            tick=self._books[order.instrument_id].tick,
        )  # fmt: skip
        self._pending[order.client_order_id] = pending
        wait_ns = latency_ns + pending.lag_ns
        self._call_later(wait_ns / NS_PER_SECOND, lambda: self._arrived(pending))

    def observe(self, trade: ev.TradePrinted) -> None:
        """Somebody traded: the quotes it took were meant."""
        if trade.ts_event:
            self._lags.add(min(max(0, trade.ts_recv - trade.ts_event), LAG_MAX_NS))
        if not self._pending:
            return
        instrument = self._instruments.get(trade.instrument_id)
        if instrument is None:
            return
        mirrored = (instrument.complement, trade.side.opposite, Price(SCALE - trade.price))
        for pending in self._pending.values():
            if pending.quote_qty is None or pending.watched:
                continue
            for token, side, price in (
                (trade.instrument_id, trade.side, trade.price), mirrored
            ):  # fmt: skip
                if token == pending.order.instrument_id and side is pending.order.side:
                    within = price <= pending.worst if side is Side.BUY else price >= pending.worst
                    pending.traded += trade.qty if within else 0

    def __call__(self, events: Sequence[ev.Event]) -> None:
        """Durable facts: what became of the orders themselves."""
        for event in events:
            match event:
                case ev.OrderFilled():
                    self._filled(event)
                case ev.OrderCanceled() | ev.OrderRejected() | ev.OrderExpired():
                    self._ended(event.client_order_id)
                case ev.FillSettled(status=ev.SettlementStatus.FAILED):
                    self._reversed(event.trade_id)
                case _:
                    pass

    def _filled(self, event: ev.OrderFilled) -> None:
        pending = self._pending.get(event.client_order_id)
        if pending is None or event.trade_id in self._fills:
            return
        cash = event.price * event.qty // SCALE
        if len(self._fills) >= FILLS_MAX:
            del self._fills[next(iter(self._fills))]
        self._fills[event.trade_id] = (event.client_order_id, event.qty, Cash(cash))
        pending.fill_qty += event.qty
        pending.fill_cash += cash
        if pending.fill_qty >= pending.order.qty:
            self._ended(event.client_order_id)

    def _ended(self, order_id: ClientOrderId) -> None:
        pending = self._pending.get(order_id)
        if pending is not None:
            pending.ended = True
            self._complete(pending)

    def _reversed(self, trade_id: ev.TradeId) -> None:
        fill = self._fills.pop(trade_id, None)
        if fill is None:
            return
        order_id, qty, cash = fill
        pending = self._pending.get(order_id)
        if pending is None:
            self._reversals.append((order_id, qty, cash))
        else:
            pending.fill_qty -= qty
            pending.fill_cash -= cash

    # --- the shadow ---------------------------------------------------------------------------

    def _arrived(self, pending: _Pending) -> None:
        """Meet the book as it is now, within the order's limit."""
        order = pending.order
        book = self._books[order.instrument_id]
        if not book.usable:
            pending.watched = True
            self._complete(pending)
            return
        qty = cash = 0
        for price, shown in book.levels(order.side):
            beyond = price > order.price if order.side is Side.BUY else price < order.price
            if beyond or qty >= order.qty:
                break
            part = min(order.qty - qty, shown)
            qty += part
            cash += price * part // SCALE
            pending.worst = price
        if order.tif is TimeInForce.FOK and qty < order.qty:
            qty = cash = 0
        pending.quote_qty, pending.quote_cash = qty, cash
        self._call_later(self._settings.hold_ns / NS_PER_SECOND, lambda: self._held(pending))

    def _held(self, pending: _Pending) -> None:
        """How much of what it would have taken was there for real."""
        book = self._books[pending.order.instrument_id]
        if pending.quote_qty is not None and book.usable:
            there = 0
            if pending.quote_qty:
                there = book.depth(pending.order.side, pending.worst) + pending.traded
            pending.firm_qty = min(pending.quote_qty, there)
        pending.watched = True
        self._complete(pending)

    def _complete(self, pending: _Pending) -> None:
        if not (pending.ended and pending.watched):
            return
        if self._pending.pop(pending.order.client_order_id, None) is not None:
            self._row(pending)

    def _row(self, pending: _Pending) -> None:
        if len(self._rows) >= ROWS_MAX:
            self.dropped += 1
            return
        order = pending.order
        self._rows.append(
            Shadow(
                order_id=order.client_order_id, bundle_id=order.bundle_id,
                sent_ns=pending.sent_ns, latency_ns=pending.latency_ns, lag_ns=pending.lag_ns,
                instrument_id=order.instrument_id, side=order.side, price=order.price,
                tick=pending.tick, qty=order.qty, fill_qty=Qty(pending.fill_qty),
                fill_cash=Cash(pending.fill_cash), ended=pending.ended,
                quote_qty=None if pending.quote_qty is None else Qty(pending.quote_qty),
                quote_cash=None if pending.quote_cash is None else Cash(pending.quote_cash),
                firm_qty=None if pending.firm_qty is None else Qty(pending.firm_qty),
            )
        )  # fmt: skip

    # --- out ----------------------------------------------------------------------------------

    def beat(self) -> None:
        """Work out how late quotes are, write what is complete, give up on what does not end."""
        now_ns = self._clock.now_ns()
        lag_us = self._lags.percentile_us(50)  # Sorted here, so that no order waits for it.
        if lag_us is not None:
            self._lag_ns = lag_us * 1_000
        for pending in list(self._pending.values()):
            if now_ns - pending.sent_ns > PATIENCE_NS:
                del self._pending[pending.order.client_order_id]
                self._row(pending)
        self._flush()

    def _flush(self) -> None:
        rows, reversals = self._rows, self._reversals
        if not rows and not reversals:
            return
        try:
            if rows:
                self._store.write(rows)
                self.written += len(rows)
                self._rows = []
            if reversals:
                self._store.reverse(reversals)
                self._reversals = []
        except JournalError as error:
            if not self._problem:
                self._log.warning("PARITY not written", reason=str(error))
            self._problem = str(error)
        else:
            self._problem = ""

    async def stop(self) -> None:
        """Write the rest: what has not ended is written as that."""
        await super().stop()
        for pending in self._pending.values():
            self._row(pending)
        self._pending.clear()
        self._flush()

    def health(self) -> Health:
        """Unhealthy while rows cannot be written."""
        return Health(ok=False, detail=self._problem) if self._problem else super().health()
