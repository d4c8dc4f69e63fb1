"""From a leader's purchase in the sink to the order that copies it, decision on the disk included.

``p50_us`` and ``p99_us``: COUNT purchases of one leader in turn; after each the copy is refused by
the venue, so that the next is copied too. No forecaster is asked: what one takes is not ours.
``block_ms``: BLOCK purchases of one token told at once, in memory: the first is copied, the others
wait for it.

Run by bench/run.py: ``copying.py COUNT DIRECTORY``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns

from bot import START_NS, MemoryJournal, universe
from frames import YES
from timing import report, summary

from fleet.domain.commands import Approved, SubmitOrder
from fleet.domain.events import (
    BookSnapshot,
    CashDeposited,
    LeadersChosen,
    LeaderTraded,
    OrderCanceled,
    Reconciled,
    TradingState,
    TradingStateChanged,
)
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.knowledge import Followed
from fleet.domain.units import SCALE, Cash, Price, parse_price, parse_qty
from fleet.engine.engine import Engine, Journal
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.journal.store import JournalStore
from fleet.runtime import memory
from fleet.strategies.composed import Composed
from fleet.strategies.mimic import MimicTrader
from fleet.strategies.mimic_settings import MimicSettings
from fleet.strategies.mimic_stakes import EXIT
from fleet.strategies.working import Worker

BLOCK = 10_000
LEADER = "0x" + "a1" * 20
PLENTY = Cash(1_000_000 * SCALE)
STEP_NS = 10_000_000


class Bench:
    """EliteMimic over one market with a tight, deep book."""

    def __init__(self, journal: Journal) -> None:
        """Funded, allowed to trade, and following one leader."""
        state = State(universe())
        settings = MimicSettings(
            min_ai_confidence=0, max_copy=PLENTY, max_market=PLENTY, max_leader=PLENTY,
            max_day=PLENTY,
        )  # fmt: skip
        worker = Worker(settings.execution, by_idea={EXIT: settings.exit_execution})
        limits = RiskLimits(max_day_turnover=PLENTY, max_market_exposure=PLENTY)
        self.engine = Engine(
            state=state, strategy=Composed([MimicTrader(settings, View(state))], worker),
            risk=Risk(limits), journal=journal,
        )  # fmt: skip
        self.now_ns = START_NS
        self.told = 0
        stamp = {"ts_event": START_NS, "ts_recv": START_NS}
        for event in (
            CashDeposited(**stamp, deposit_id="bench", amount=Cash(100_000 * SCALE)),
            Reconciled(**stamp, venue="bench", adopted=0),
            TradingStateChanged(**stamp, state=TradingState.ACTIVE, reason="bench", by="bench"),
            LeadersChosen(**stamp, leaders=(Followed(wallet=LEADER, copied=True),)),
        ):
            self.engine.handle(event)
        self.quote()

    def quote(self) -> None:
        """The book is seen again."""
        depth = parse_qty("10000000")
        for token in self.engine.state.books:
            self.engine.handle(BookSnapshot(
                self.now_ns, self.now_ns, token, [(parse_price("0.49"), depth)],
                [(parse_price("0.51"), depth)], None,
            ))  # fmt: skip

    def purchase(self) -> LeaderTraded:
        """The leader buys a hundred shares at the ask."""
        self.told += 1
        return LeaderTraded(
            ts_event=self.now_ns, ts_recv=self.now_ns, sighting_id=f"0x{self.told:064x}:1",
            wallet=LEADER, instrument_id=InstrumentId(YES), side=Side.BUY,
            price=Price(51 * SCALE // 100), qty=parse_qty("100"), maker=False, block=self.told,
            block_hash="0x",
        )  # fmt: skip

    def tell(self, event: LeaderTraded | OrderCanceled) -> list[SubmitOrder]:
        """The orders an event causes."""
        return [c.request for c in self.engine.handle(event)
                if isinstance(c, Approved) and isinstance(c.request, SubmitOrder)]  # fmt: skip

    def once(self) -> int:
        """Nanoseconds from one purchase to its order; the venue then finds nobody for it."""
        self.now_ns += STEP_NS
        self.quote()
        event = self.purchase()
        start = perf_counter_ns()
        orders = self.tell(event)
        taken = perf_counter_ns() - start
        if len(orders) != 1:
            sys.exit(f"a purchase must be copied by one order, not {len(orders)}")
        while orders:
            order = orders.pop()
            orders += self.tell(OrderCanceled(
                ts_event=self.now_ns, ts_recv=self.now_ns, reason="nobody",
                client_order_id=order.client_order_id,
            ))  # fmt: skip
        return taken


def block_ms() -> float:
    """BLOCK purchases at once."""
    bench = Bench(MemoryJournal())
    start = perf_counter_ns()
    orders = [order for _ in range(BLOCK) for order in bench.tell(bench.purchase())]
    taken = (perf_counter_ns() - start) / 1_000_000
    if len(orders) != 1:
        sys.exit(f"a block of purchases must wait for its first copy, not send {len(orders)}")
    return taken


def main() -> None:
    """Measure both and print one JSON line."""
    count = int(sys.argv[1])
    with tempfile.TemporaryDirectory(dir=sys.argv[2]) as directory:
        file = Path(directory) / "bench.db"
        store = JournalStore(file, bot="bench", mode="paper", run_id="bench")
        bench = Bench(store)
        for _ in range(20):
            bench.once()
        memory.settle()  # As a bot does before it trades.
        taken = [bench.once() for _ in range(count)]
        store.close()
    report({**summary(taken), "block_ms": block_ms()})


if __name__ == "__main__":
    main()
