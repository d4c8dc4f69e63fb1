"""One synchronous entry: an event in, commands out.

``handle`` folds the event into the state, asks the strategy, lets risk judge, makes the decision
record, and has event and decision journalled in one durable write *before* it returns the commands.
If the journal cannot be written, nothing is commanded and the engine is halted for good: what
cannot be recorded may not be done.

The engine has no clock, no chance and no IO of its own; the same events give the same commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from fleet.domain.commands import (
    Approved,
    CancelOrder,
    Command,
    Intent,
    OperationId,
    RequestForecast,
    RunOperation,
    StartTimer,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.events import (
    DURABLE,
    AnyEvent,
    BarClosed,
    BookChanged,
    BookSnapshot,
    CopyRefused,
    DecisionMade,
    Event,
    OrderAccepted,
    QuoteSeen,
    TradePrinted,
    TradingState,
    TradingStateChanged,
)
from fleet.domain.instruments import InstrumentId
from fleet.engine.orders import OrderStatus
from fleet.engine.risk import Risk
from fleet.engine.state import State
from fleet.engine.verdict import Verdict
from fleet.engine.view import View

NOTHING: Final[Sequence[Command]] = ()
Wish = Intent | StartTimer | RequestForecast | CopyRefused
"""What a strategy may ask for; only the intents among them can cost money. What it decided not to
do is journalled as it stands."""
_HALTED: Final = TradingState.HALTED


class Strategy(Protocol):
    """Looks at a read-only view and returns wishes. Called once for every event."""

    def on_event(self, event: AnyEvent, view: View) -> Sequence[Wish]:
        """React to one event that is already folded into the view."""
        ...

    def figures(self) -> Mapping[str, int]:
        """Counters since the start of the process, by name; ``opportunities`` is among them."""
        ...


class Journal(Protocol):
    """Where durable facts go before they are acted upon."""

    def write(self, events: Sequence[Event]) -> int:
        """Append all of them in one durable step and return the last sequence number."""
        ...


class Engine:
    """State, strategy, risk and journal behind one function."""

    __slots__ = ("_durable", "_journal", "dropped_intents", "failed", "risk", "state", "strategy",
                 "view")  # fmt: skip

    def __init__(self, *, state: State, strategy: Strategy, risk: Risk, journal: Journal) -> None:
        """Decide over ``state``; trading stays HALTED until an event allows it."""
        self.state = state
        self.view = View(state)
        self.strategy = strategy
        self.risk = risk
        self._journal = journal
        self._durable = frozenset(DURABLE.values())
        self.dropped_intents = 0
        """Wishes that could cost money and came while trading was halted: not even judged."""
        self.failed = False
        """Whether the journal could not be written; nothing is commanded any more."""

    def handle(self, event: AnyEvent) -> Sequence[Command]:
        """Fold one event and decide.

        Returns the commands to carry out, in order; most events give none. Raises what the journal
        raises when it cannot be written, after halting for good.
        """
        kind = type(event)
        if kind is BookChanged or kind is BookSnapshot or kind is TradePrinted or kind is BarClosed:
            self.state.apply(event)
            intents = self.strategy.on_event(event, self.view)
            if not intents:
                return NOTHING
            return self._decide(event, intents, [])
        return self._handle_fact(event)

    def note(self, facts: Sequence[Event]) -> bool:
        """Fold what we are about to do (an order or a transaction signed), in one durable write.

        The strategy is not asked. False, and it must not be done, when the engine has failed or a
        fact contradicts what is known. Raises what the journal raises, after halting for good.
        """
        if self.failed:
            return False
        records = list(facts)
        for fact in facts:
            self.state.apply(fact)
        sound = not self.state.anomaly
        if not sound:
            records.append(self._halt_on_anomaly(facts[-1]))
        self._write(records)
        return sound

    def _handle_fact(self, event: AnyEvent) -> Sequence[Command]:
        records: list[Event] = []
        if isinstance(event, Event) and type(event) in self._durable:
            records.append(event)
        self.state.apply(event)
        if self.failed:
            self._halt_for_good()
            return NOTHING
        halt = self._halt_on_anomaly(event) if self.state.anomaly else None
        if halt is not None:
            records.append(halt)
        cancels = self._cancel_all_if_halted(halt or event)
        if cancels is not None:
            records.append(cancels)
        intents = self.strategy.on_event(event, self.view)
        commands: Sequence[Command] = cancels.cancels if cancels is not None else NOTHING
        if intents:
            return (*commands, *self._decide(event, intents, records))
        if records:
            self._write(records)
        return commands

    def _cancel_all_if_halted(self, event: AnyEvent) -> DecisionMade | None:
        """A halt cancels whatever rests; the only command that passes while halted."""
        if self.state.trading is not TradingState.HALTED:
            return None
        if not isinstance(event, TradingStateChanged | OrderAccepted):
            return None
        resting = tuple(
            CancelOrder(client_order_id=order.client_order_id)
            for order in self.state.orders.open.values()
            if order.tif in {TimeInForce.GTC, TimeInForce.GTD}
            and order.status is not OrderStatus.PENDING_CANCEL
        )
        if not resting:
            return None
        decision = DecisionMade(
            ts_event=self.state.now_ns,
            ts_recv=event.ts_recv,
            decision=self.state.decisions + 1,
            cancels=resting,
        )
        self.state.apply(decision)
        return decision

    def _halt_on_anomaly(self, event: AnyEvent) -> Event:
        halt = TradingStateChanged(
            ts_event=event.ts_recv,
            ts_recv=event.ts_recv,
            state=TradingState.HALTED,
            reason=f"journal and venue contradict each other: {self.state.anomaly}",
            by="engine",
        )
        self.state.apply(halt)
        return halt

    def _decide(
        self, event: AnyEvent, wishes: Sequence[Wish], records: list[Event]
    ) -> Sequence[Command]:
        if self.failed:
            return NOTHING
        commands: list[Command] = []
        intents: list[Intent] = []
        halted = self.state.trading is _HALTED
        for wish in wishes:
            if type(wish) is StartTimer:
                commands.append(wish)
            elif type(wish) is CopyRefused:
                self.state.apply(wish)
                records.append(wish)
            elif halted:  # A forecast is paid for too.
                self.dropped_intents += 1
            elif type(wish) is RequestForecast:
                commands.append(wish)
            else:
                intents.append(wish)  # type: ignore[arg-type]  # the only ones left
        if intents:
            verdict = self.risk.check(intents, self.state)
            decision = self._record(event, verdict)
            records.append(decision)
            self.state.apply(decision)
            if self.state.anomaly:
                halt = self._halt_on_anomaly(event)
                cancels = self._cancel_all_if_halted(halt)
                records.append(halt)
                if cancels is not None:
                    records.append(cancels)
                    commands.extend(cancels.cancels)
            else:
                commands += [Approved(order) for order in decision.orders]
                if decision.operations:
                    commands += [Approved(operation) for operation in decision.operations]
        if records:
            self._write(records)
        return commands

    def _record(self, event: AnyEvent, verdict: Verdict) -> DecisionMade:
        state = self.state
        now = state.now_ns
        number = len(state.orders)
        orders = []
        for intent in verdict.orders:
            number += 1
            orders.append(
                SubmitOrder(
                    client_order_id=f"o{number}",  # type: ignore[arg-type]  # hot: plain values
                    bundle_id=intent.bundle_id,
                    leg=intent.leg,
                    purpose=intent.purpose,
                    instrument_id=intent.instrument_id,
                    side=intent.side,
                    price=intent.price,
                    qty=intent.qty,
                    tif=intent.tif,
                    ts=now,
                )
            )
        seen: dict[InstrumentId, None] = {}
        for plan in verdict.opened:
            for leg in plan.legs:
                seen[leg.instrument_id] = None
        for order in orders:
            seen[order.instrument_id] = None
        quotes = []
        for instrument_id in seen:
            book = state.books.get(instrument_id)
            if book is not None:
                bid, ask, tick = book.best_bid, book.best_ask, book.tick
                quotes.append(
                    QuoteSeen(
                        instrument_id=instrument_id,
                        bid=bid * tick,  # type: ignore[arg-type]
                        bid_qty=book.bids[bid],  # type: ignore[arg-type]
                        ask=ask * tick,  # type: ignore[arg-type]
                        ask_qty=book.asks[ask],  # type: ignore[arg-type]
                        ts_event=book.ts_event,
                    )
                )
        return DecisionMade(
            ts_event=now,
            ts_recv=event.ts_recv,
            decision=state.decisions + 1,
            opened=tuple(verdict.opened),
            orders=tuple(orders),
            operations=self._operations(verdict) if verdict.operations else (),
            closed=tuple(verdict.closed),
            refused=tuple(verdict.refused),
            quotes=tuple(quotes),
        )

    def _operations(self, verdict: Verdict) -> tuple[RunOperation, ...]:
        first = self.state.bundles.operations + 1
        return tuple(
            RunOperation(
                operation_id=OperationId(f"x{first + index}"),
                bundle_id=intent.bundle_id,
                kind=intent.kind,
                subject=intent.subject,
                burn=intent.burn,
                mint=intent.mint,
                cash=intent.cash,
            )
            for index, intent in enumerate(verdict.operations)
        )

    def _write(self, records: Sequence[Event]) -> None:
        written = False
        try:
            self._journal.write(records)
            written = True
        finally:
            if not written:
                self.failed = True
                self._halt_for_good()

    def _halt_for_good(self) -> None:
        self.state.trading = TradingState.HALTED
        self.state.trading_reason = "the journal cannot be written"
        self.state.trading_by = "engine"
