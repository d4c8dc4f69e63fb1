"""The proof that a bot's journal and its venue's ledger tell one story, whatever was killed when.

The two are written by different code into different files. ``prove`` folds them apart and compares
them at every ``Reconciled``: there the journal must hold exactly what the ledger held when that run
began, to the last unit, fill and settlement. In between, every prefix of the journal must balance,
nothing may be decided, sent, filled or booked twice, and the venue may know no request that was not
decided first. What it reads are prefixes that never change, so it may look at a running bot: give
it the ledger as read *before* the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.config import Mode, Paths
from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, OperationId, RunOperation, SubmitOrder
from fleet.domain.instruments import Side
from fleet.domain.units import Qty
from fleet.engine.state import State
from fleet.journal.store import Entry, JournalReader
from fleet.venues.paper_accounts import PaperAccounts


class Disproved(AssertionError):  # noqa: N818 - named for what was found
    """What does not hold, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How much was proved: counts over the whole journal and ledger."""

    runs: int
    reconciled: int
    """Start-ups at which journal and ledger were compared and agreed."""
    adopted: int
    """Venue facts that the journal had missed and start-up brought back."""
    absent: int
    """Requests that were decided, never arrived, and were never sent again."""
    orders: int
    fills: int
    failed: int
    """Fills that failed to settle."""
    operations: int
    entries: int

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, {self.reconciled} agreements, {self.orders} orders,"
            f" {self.fills} fills ({self.failed} failed), {self.operations} operations,"
            f" {self.adopted} facts adopted, {self.absent} requests never sent,"
            f" {self.entries} entries"
        )


def prove(ledger: Iterable[Entry], journal: Iterable[Entry]) -> Proof:
    """Check everything. Raises ``Disproved``."""
    written = list(ledger)
    _ledger_alone(written)
    reader = _JournalProof(written)
    for entry in journal:
        reader.take(entry)
    reader.finish()
    return reader.proof()


def prove_files(root: Path, bot: str = "arbhunter") -> Proof:
    """``prove`` over the files of a bot that may be running. Raises ``Disproved``."""
    ledger, journal = entries_of(root, bot)
    return prove(ledger, journal)


def entries_of(root: Path, bot: str = "arbhunter") -> tuple[list[Entry], list[Entry]]:
    """Ledger and journal, read in the order ``prove`` needs, each entry checked."""
    paths = Paths(root=root)
    found = []
    for path in (paths.paper_ledger(bot), paths.journal(bot, Mode.PAPER)):
        with JournalReader(path) as reader:
            found.append(list(reader.read()))
    return found[0], found[1]


def agree(state: State, accounts: PaperAccounts) -> None:
    """Journal and venue hold the same, to the last unit. Raises ``Disproved``."""
    portfolio = state.portfolio
    if portfolio.cash != accounts.cash:
        raise Disproved(f"cash: journal {portfolio.cash}, venue {accounts.cash}")
    held = {token: p.qty for token, p in portfolio.positions.items() if p.qty}
    if held != accounts.tokens:
        raise Disproved(f"tokens: journal {held}, venue {accounts.tokens}")
    ours = {trade: portfolio.settlement(trade) for trade in portfolio.trades()}
    if ours != accounts.settlements:
        wrong = {
            trade: (ours.get(trade), accounts.settlements.get(trade))
            for trade in ours.keys() | accounts.settlements.keys()
            if ours.get(trade) != accounts.settlements.get(trade)
        }
        raise Disproved(f"fills (journal, venue): {wrong}")


def started(run_id: str) -> int:
    """When a run began: its id is that time in hexadecimal, then the process."""
    return int(run_id.split("-", 1)[0], 16)


def _once(seen: set[str], name: str, what: str) -> None:
    if name in seen:
        raise Disproved(f"{what} {name} is there twice")
    seen.add(name)


def _ledger_alone(ledger: Sequence[Entry]) -> None:
    """The venue's own story: each request taken once, each trade once, nothing below zero."""
    orders: set[str] = set()
    trades: set[str] = set()
    operations: set[str] = set()
    accounts = PaperAccounts()
    failed = False
    run_ns = 0
    for entry in ledger:
        if started(entry.run_id) < run_ns:
            raise Disproved(f"ledger entry {entry.seq} is of a run that was over")
        run_ns = started(entry.run_id)
        match entry.event:
            case ev.OrderAccepted(client_order_id=name) | ev.OrderRejected(client_order_id=name):
                _once(orders, name, "at the venue, order")
            case ev.OrderFilled(trade_id=name):
                _once(trades, name, "at the venue, trade")
            case ev.OperationConfirmed(operation_id=name) | ev.OperationRejected(operation_id=name):
                _once(operations, name, "at the venue, operation")
            case ev.FillSettled(status=ev.SettlementStatus.FAILED):
                failed = True
            case _:
                pass
        accounts.apply(entry.event)
        if not failed and (accounts.cash < 0 or min(accounts.tokens.values(), default=0) < 0):
            raise Disproved(f"the venue's account is below zero after entry {entry.seq}")


class _JournalProof:
    """Folds the journal entry by entry and compares it with the ledger at each agreement."""

    def __init__(self, ledger: Sequence[Entry]) -> None:
        self._ledger = ledger
        self._accounts = PaperAccounts()
        self._folded = 0
        """How much of the ledger the accounts hold; it grows from start-up to start-up."""
        self.state = State()
        self._orders: dict[ClientOrderId, SubmitOrder] = {}
        self._operations: dict[OperationId, RunOperation] = {}
        self._ids: set[str] = set()
        self._runs: list[str] = []
        self._reconciled = self._adopted = self._absent = self._entries = 0

    def take(self, entry: Entry) -> None:
        """The next entry."""
        event = entry.event
        self._entries += 1
        match event:
            case ev.RunStarted():
                if self._runs and started(entry.run_id) <= started(self._runs[-1]):
                    raise Disproved(f"run {entry.run_id} began before {self._runs[-1]}")
                self._runs.append(entry.run_id)
            case ev.DecisionMade():
                self._decided(event)
            case ev.OrderRejected(reason="the venue never had it"):
                self._absent += 1
            case ev.OperationRejected(reason="the venue never had it"):
                self._absent += 1
            case ev.ReconciliationFailed():
                raise Disproved(f"entry {entry.seq}: {event.difference}")
            case ev.TradingStateChanged(by="engine"):
                raise Disproved(f"entry {entry.seq}: the engine halted: {event.reason}")
            case _:
                pass
        self.state.apply(event)
        if self.state.anomaly:
            raise Disproved(f"entry {entry.seq}: {self.state.anomaly}")
        book = self.state.portfolio
        if book.cash + book.cost != book.deposited + book.realised:
            raise Disproved(f"entry {entry.seq}: cash and cost do not balance")
        if isinstance(event, ev.Reconciled):
            self._adopted += event.adopted
            self._agree(entry)

    def _decided(self, event: ev.DecisionMade) -> None:
        if event.decision != self.state.decisions + 1:
            raise Disproved(f"decision {event.decision} follows {self.state.decisions}")
        for plan in event.opened:
            _once(self._ids, plan.bundle_id, "bundle")
        for order in event.orders:
            _once(self._ids, order.client_order_id, "order")
            self._orders[order.client_order_id] = order
        for operation in event.operations:
            _once(self._ids, operation.operation_id, "operation")
            self._operations[operation.operation_id] = operation

    def _agree(self, entry: Entry) -> None:
        """At a start-up the journal must hold what the ledger held when the run began."""
        while self._folded < len(self._ledger):
            fact = self._ledger[self._folded]
            opening = fact.run_id == entry.run_id and isinstance(fact.event, ev.CashDeposited)
            if not (opening or started(fact.run_id) < started(entry.run_id)):
                break
            self._accounts.apply(fact.event)
            self._folded += 1
        try:
            agree(self.state, self._accounts)
        except Disproved as error:
            raise Disproved(f"start-up at entry {entry.seq}: {error}") from error
        left = [*self.state.orders.open, *self.state.bundles.pending]
        if left:
            raise Disproved(f"start-up at entry {entry.seq} left open: {left}")
        self._reconciled += 1

    def finish(self) -> None:
        """What the venue was asked, and gave, must have been decided, at that price or better."""
        filled: dict[ClientOrderId, int] = {}
        for entry in self._ledger:
            match entry.event:
                case (
                    ev.OrderAccepted(client_order_id=name) | ev.OrderRejected(client_order_id=name)
                ):
                    if name not in self._orders:
                        raise Disproved(f"order {name} reached the venue undecided")
                case ev.OrderFilled() as fill:
                    self._filled(fill, filled)
                case ev.OperationConfirmed() as done:
                    asked = self._operations.get(done.operation_id)
                    same = asked is not None and (asked.burn, asked.mint, asked.cash) == (
                        done.burn, done.mint, done.cash,
                    )  # fmt: skip
                    if not same:
                        raise Disproved(f"operation {done.operation_id} was not decided like that")
                case _:
                    pass

    def _filled(self, fill: ev.OrderFilled, filled: dict[ClientOrderId, int]) -> None:
        order = self._orders.get(fill.client_order_id)
        if order is None or (order.instrument_id, order.side) != (fill.instrument_id, fill.side):
            raise Disproved(f"trade {fill.trade_id} belongs to no such order")
        worse = fill.price > order.price if order.side is Side.BUY else fill.price < order.price
        total = Qty(filled.get(order.client_order_id, 0) + fill.qty)
        filled[order.client_order_id] = total
        if worse or total > order.qty:
            raise Disproved(f"trade {fill.trade_id} goes beyond order {order.client_order_id}")

    def proof(self) -> Proof:
        """What was proved."""
        facts = [entry.event for entry in self._ledger]
        failed = ev.SettlementStatus.FAILED
        return Proof(
            runs=len(self._runs),
            reconciled=self._reconciled,
            adopted=self._adopted,
            absent=self._absent,
            orders=len(self._orders),
            fills=sum(isinstance(fact, ev.OrderFilled) for fact in facts),
            failed=sum(isinstance(f, ev.FillSettled) and f.status is failed for f in facts),
            operations=len(self._operations),
            entries=self._entries,
        )
