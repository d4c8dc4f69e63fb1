"""Everything a bot knows: books, portfolio, orders, bundles, permission to trade.

``State.apply`` is the only way in, one event at a time; folding the journal through it gives the
durable part back (everything but the books). ``View`` is the read-only face strategies get.
Trading starts HALTED in every mode and is switched on by an event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from fleet.domain import events as ev
from fleet.domain.instruments import InstrumentId, MarketId, Universe
from fleet.domain.units import ZERO_CASH, Price
from fleet.engine.book import Book
from fleet.engine.bundle import OperationStatus
from fleet.engine.bundles import Bundles
from fleet.engine.leaders import Leaders
from fleet.engine.orders import Fact, Orders
from fleet.engine.portfolio import Portfolio
from fleet.engine.sparse_book import SparseBook

STANDING_ORDERS: Final = ("resume", "reduce", "flatten", "pause")
EMPTY_UNIVERSE: Final = Universe(instruments={}, markets={})


class Payout(Struct, frozen=True):
    """What a share of a token pays since its market was resolved."""

    market_id: MarketId
    price: Price
    told_ns: int
    """When we learned of it."""


class State:
    """The fold of all events. Single-threaded; mutated by ``apply`` and nothing else."""

    def __init__(self, universe: Universe = EMPTY_UNIVERSE) -> None:
        """Know the universe, nothing else; trading is HALTED."""
        self.universe = universe
        self.books: dict[InstrumentId, Book] = {
            i.id: (Book if i.ceiling else SparseBook)(i.id, i.tick)
            for i in universe.instruments.values()
        }
        self.portfolio = Portfolio()
        self.orders = Orders()
        self.bundles = Bundles()
        self.leaders = Leaders()
        self.trading = ev.TradingState.HALTED
        self.trading_reason = "not started"
        self.trading_by = "start"
        self.reconciled = False
        self.operator = "resume"
        """The newest standing order of a person: resume, reduce, flatten or pause. Survives
        restarts."""
        self.resolved: dict[InstrumentId, Payout] = {}
        """The tokens of resolved markets, those of markets outside the universe included."""
        self.forecasts: dict[MarketId, ev.ForecastReceived] = {}
        """The newest forecast of each market, until the market is resolved."""
        self.now_ns = 0
        self.moment_ns = 0
        """The newest venue time seen in market data."""
        self.last_market_ns = 0
        """When market data was last received, 0 when never."""
        self.crossed_frames = 0
        self.decisions = 0
        self.rejected_frames = 0
        self.anomaly = ""
        """The newest contradiction; the engine halts on it and clears it."""
        self.unsettled: dict[ev.TradeId, ev.OrderFilled] = {}
        """The fills that may still fail."""
        self._handlers: Mapping[type, Callable[..., None]] = {
            ev.BookChanged: self._book_changed,
            ev.BookSnapshot: self._book_snapshot,
            ev.TradePrinted: self._trade_printed,
            ev.BarClosed: self._bar_closed,
            ev.TickSizeChanged: self._tick_changed,
            ev.FeedConnected: self._feed_changed,
            ev.FeedDisconnected: self._feed_changed,
            ev.FrameRejected: self._frame_rejected,
            ev.CashDeposited: self.portfolio.deposit,
            ev.TradingStateChanged: self._trading_changed,
            ev.Reconciled: self._reconciled,
            ev.RunStarted: self._run_started,
            ev.OperatorCommanded: self._operator_commanded,
            ev.DecisionMade: self._decided,
            ev.OrderSigned: self._order_fact,
            ev.OrderAccepted: self._order_fact,
            ev.OrderRejected: self._order_fact,
            ev.SubmitUnknown: self._order_fact,
            ev.OrderCanceled: self._order_fact,
            ev.OrderExpired: self._order_fact,
            ev.CancelRejected: self._order_fact,
            ev.OrderFilled: self._filled,
            ev.FillSettled: self._settled,
            ev.OperationSigned: self._operation_signed,
            ev.OperationConfirmed: self._operated,
            ev.OperationRejected: self._operation_rejected,
            ev.MarketResolved: self._resolved,
            ev.ForecastReceived: self._forecast,
            ev.LeadersChosen: self.leaders.choose,
            ev.LeaderTraded: self.leaders.traded,
            ev.LeaderMoved: self.leaders.moved,
            ev.SightingUndone: self.leaders.undone,
            ev.CopyRefused: self.leaders.refused,
        }

    def apply(self, event: ev.AnyEvent) -> None:
        """Fold one event in. Events that change nothing are accepted silently."""
        if event.ts_recv > self.now_ns:  # noqa: PLR1730 - hot path
            self.now_ns = event.ts_recv
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    # --- market -------------------------------------------------------------------------------

    def _book_changed(self, event: ev.BookChanged) -> None:
        ts_event, ts_recv, changes = event
        self.last_market_ns = ts_recv
        if ts_event > self.moment_ns:  # noqa: PLR1730 - hot path
            self.moment_ns = ts_event
        books = self.books
        book: Book | None = None
        for instrument_id, side, price, qty in changes:
            book = books.get(instrument_id)
            if book is not None and book.ready:
                book.apply(side, price, qty)
                book.ts_event = ts_event
        if book is not None and book.best_bid >= book.best_ask:
            self.crossed_frames += 1

    def _book_snapshot(self, event: ev.BookSnapshot) -> None:
        self.last_market_ns = event.ts_recv
        self.moment_ns = max(self.moment_ns, event.ts_event)
        book = self.books.get(event.instrument_id)
        if book is None:
            return
        if event.tick is not None and event.tick != book.tick:
            book.void(event.tick)
        book.replace(event.bids, event.asks, event.ts_event)
        if book.crossed:
            self.crossed_frames += 1

    def _trade_printed(self, event: ev.TradePrinted) -> None:
        self.last_market_ns = event.ts_recv

    def _bar_closed(self, event: ev.BarClosed) -> None:
        self.last_market_ns = event.ts_recv
        if event.ts_event > self.moment_ns:  # noqa: PLR1730 - hot path
            self.moment_ns = event.ts_event

    def _tick_changed(self, event: ev.TickSizeChanged) -> None:
        book = self.books.get(event.instrument_id)
        if book is not None:
            book.void(event.tick)

    def _feed_changed(self, event: ev.FeedConnected | ev.FeedDisconnected) -> None:
        for instrument_id in event.instruments:
            book = self.books.get(instrument_id)
            if book is not None:
                book.void()

    def _frame_rejected(self, _event: ev.FrameRejected) -> None:
        self.rejected_frames += 1

    # --- permission ---------------------------------------------------------------------------

    def _run_started(self, _event: ev.RunStarted) -> None:
        self.trading = ev.TradingState.HALTED
        self.trading_reason = "started, not reconciled yet"
        self.trading_by = "start"
        self.reconciled = False

    def _reconciled(self, _event: ev.Reconciled) -> None:
        self.reconciled = True

    def _operator_commanded(self, event: ev.OperatorCommanded) -> None:
        if event.action in STANDING_ORDERS:
            self.operator = event.action

    def _trading_changed(self, event: ev.TradingStateChanged) -> None:
        self.trading = event.state
        self.trading_reason = event.reason
        self.trading_by = event.by
        # The engine halts on an anomaly in the very next entry: whoever folds the journal must see
        # it answered too, or every restart would halt on it again.
        self.anomaly = ""

    # --- orders and money ---------------------------------------------------------------------

    def _decided(self, event: ev.DecisionMade) -> None:
        if event.decision <= self.decisions:
            self.anomaly = f"decision {event.decision} was recorded twice"
            return
        self.decisions = event.decision
        for plan in event.opened:
            self.bundles.open_bundle(plan, event.ts_event)
            if plan.answers:
                self.leaders.copied(plan, event.ts_event)
        for order in event.orders:
            self.orders.submit(order)
            self.bundles.note_order(order.bundle_id, order.leg, order.purpose, event.ts_event)
        for operation in event.operations:
            self.bundles.start_operation(operation)
        for cancel in event.cancels:
            self.orders.learn(cancel.client_order_id, Fact.REQUEST_CANCEL)
        for close in event.closed:
            self.bundles.close(close, event.ts_event)
        self._collect_anomalies()

    def _order_fact(
        self,
        event: ev.OrderSigned
        | ev.OrderAccepted
        | ev.OrderRejected
        | ev.SubmitUnknown
        | ev.OrderCanceled
        | ev.OrderExpired
        | ev.CancelRejected,
    ) -> None:
        self.orders.learn(
            event.client_order_id,
            _ORDER_FACTS[type(event)],
            venue_order_id=getattr(event, "venue_order_id", None),
            reason=getattr(event, "reason", ""),
        )
        self._collect_anomalies()

    def _filled(self, event: ev.OrderFilled) -> None:
        if not self.portfolio.fill(event):
            return
        self.unsettled[event.trade_id] = event
        order = self.orders.fill(event)
        if order is not None:
            self.bundles.note_fill(order, event)
        self._collect_anomalies()

    def _settled(self, event: ev.FillSettled) -> None:
        before = self.portfolio.settlement(event.trade_id)
        self.portfolio.settle(event)
        after = self.portfolio.settlement(event.trade_id)
        failed = ev.SettlementStatus.FAILED
        fill = self.unsettled.get(event.trade_id)
        if fill is not None and after is failed and before is not failed:
            order = self.orders.get(fill.client_order_id)
            if order is not None:
                self.bundles.note_fill(order, fill, failed=True)
        if after in {failed, ev.SettlementStatus.CONFIRMED}:
            self.unsettled.pop(event.trade_id, None)
            self.bundles.settled(event.trade_id)
        self._collect_anomalies()

    def _operated(self, event: ev.OperationConfirmed) -> None:
        if self.portfolio.operate(event):
            self.bundles.end_operation(
                event.operation_id, OperationStatus.CONFIRMED, event.cash, event.ts_event,
                burn=event.burn, mint=event.mint,
            )  # fmt: skip
        self._collect_anomalies()

    def _operation_signed(self, event: ev.OperationSigned) -> None:
        self.bundles.sign_operation(event.operation_id, event.transaction_hash)
        self._collect_anomalies()

    def _operation_rejected(self, event: ev.OperationRejected) -> None:
        self.bundles.end_operation(
            event.operation_id, OperationStatus.REJECTED, ZERO_CASH, event.ts_event
        )
        self._collect_anomalies()

    def _resolved(self, event: ev.MarketResolved) -> None:
        for instrument_id, price in event.payouts:
            before = self.resolved.get(instrument_id)
            if before is None:
                self.resolved[instrument_id] = Payout(event.market_id, price, event.ts_recv)
                self.bundles.resolve(instrument_id, price)
                self.leaders.resolve(instrument_id, price)
            elif before.price != price:
                self.anomaly = f"market {event.market_id} was resolved twice, and differently"
            book = self.books.get(instrument_id)
            if book is not None:
                book.void()
        self.forecasts.pop(event.market_id, None)

    def _forecast(self, event: ev.ForecastReceived) -> None:
        if any(payout.market_id == event.market_id for payout in self.resolved.values()):
            return  # It was under way when the question was answered.
        before = self.forecasts.get(event.market_id)
        if before is None or event.as_of_ns >= before.as_of_ns:
            self.forecasts[event.market_id] = event

    def _collect_anomalies(self) -> None:
        for part in (self.orders, self.portfolio, self.bundles):
            if part.anomaly:
                self.anomaly, part.anomaly = part.anomaly, ""


_ORDER_FACTS: Final[Mapping[type, Fact]] = {
    ev.OrderSigned: Fact.SIGN,
    ev.OrderAccepted: Fact.ACCEPT,
    ev.OrderRejected: Fact.REJECT,
    ev.SubmitUnknown: Fact.LOSE,
    ev.OrderCanceled: Fact.CANCEL,
    ev.OrderExpired: Fact.EXPIRE,
    ev.CancelRejected: Fact.REFUSE_CANCEL,
}


def fold(events: Iterable[ev.AnyEvent], universe: Universe = EMPTY_UNIVERSE) -> State:
    """The state after these events; what recovery and every reader of a journal use."""
    state = State(universe)
    for event in events:
        state.apply(event)
    return state
