"""How long a bot takes to know what it knew: a journal of a million entries, with and without a
snapshot of its first 99 %.

The journal is what ArbHunter would write: bundles of two orders, each signed, accepted, filled,
mined and confirmed, then merged and closed. Each start is a fresh process, measured from outside:
from its start, imports and all, to a state that reconciliation may ask about the venue. Files come
from a warm page cache. That both ways give the same state is checked, not assumed.

Run by bench/run.py: ``recovery.py ENTRIES``.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil
from timing import report

from fleet.domain import events as ev
from fleet.domain.commands import (
    BundleId,
    ClientOrderId,
    CloseBundle,
    LegPlan,
    OpenBundle,
    OperationId,
    OperationKind,
    Purpose,
    RunOperation,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.engine.image import image_of
from fleet.journal.store import JournalStore
from fleet.runtime import snapshots

START_NS = 1_760_000_000_000_000_000
TOKENS = (InstrumentId("1" * 77), InstrumentId("2" * 77))
SHARES, PRICE = Qty(10 * SCALE), Price(48 * SCALE // 100)
WHOLE = Cash(10 * SCALE)
BATCH = 5_000
STARTS = 3


def history() -> Iterator[ev.Event]:
    """A deposit, then bundle after bundle."""
    yield ev.CashDeposited(ts_event=START_NS, ts_recv=START_NS, deposit_id="d", amount=WHOLE)
    for number in count(1):
        yield from bundle(number, START_NS + number * 1_000_000_000)


def bundle(number: int, now: int) -> Iterator[ev.Event]:
    """One bundle from its decision to its end: fourteen entries."""
    at: Any = {"ts_event": now, "ts_recv": now}
    name = BundleId(f"b{number}")
    legs = tuple(
        LegPlan(instrument_id=token, side=Side.BUY, qty=SHARES, limit=PRICE, unwind=PRICE)
        for token in TOKENS
    )
    opened = OpenBundle(
        bundle_id=name, idea="COMPLEMENT_BUY", key="0x" + "ab" * 32, legs=legs, start=None,
        finish=OperationKind.MERGE, payoff=Price(SCALE), budget=WHOLE, edge=Cash(SCALE // 10),
    )  # fmt: skip
    orders = tuple(
        SubmitOrder(
            client_order_id=ClientOrderId(f"o{2 * number - 1 + leg}"), bundle_id=name, leg=leg,
            purpose=Purpose.LEG, instrument_id=token, side=Side.BUY, price=PRICE, qty=SHARES,
            tif=TimeInForce.FAK, ts=now,
        )
        for leg, token in enumerate(TOKENS)
    )  # fmt: skip
    quotes = tuple(
        ev.QuoteSeen(instrument_id=token, bid=PRICE, bid_qty=SHARES, ask=PRICE, ask_qty=SHARES,
                     ts_event=now)
        for token in TOKENS
    )  # fmt: skip
    yield ev.DecisionMade(
        **at, decision=3 * number - 2, opened=(opened,), orders=orders, quotes=quotes
    )
    for order in orders:
        venue_id = ev.VenueOrderId(
            "0x" + hashlib.sha256(order.client_order_id.encode()).hexdigest()
        )
        trade = ev.TradeId(f"{venue_id}-1")
        name_of: Any = {"client_order_id": order.client_order_id}
        yield ev.OrderSigned(**at, **name_of, venue_order_id=venue_id)
        yield ev.OrderAccepted(**at, **name_of, venue_order_id=venue_id)
        yield ev.OrderFilled(
            **at, **name_of, trade_id=trade, instrument_id=order.instrument_id, side=order.side,
            price=order.price, qty=order.qty, fee=Cash(SCALE // 100),
        )  # fmt: skip
        yield ev.FillSettled(**at, trade_id=trade, status=ev.SettlementStatus.MINED)
        yield ev.FillSettled(**at, trade_id=trade, status=ev.SettlementStatus.CONFIRMED)
    merge = RunOperation(
        operation_id=OperationId(f"x{number}"), bundle_id=name, kind=OperationKind.MERGE,
        subject=opened.key, burn=tuple((token, SHARES) for token in TOKENS), mint=(), cash=WHOLE,
    )  # fmt: skip
    yield ev.DecisionMade(**at, decision=3 * number - 1, operations=(merge,))
    yield ev.OperationConfirmed(
        **at, operation_id=merge.operation_id, kind=merge.kind, burn=merge.burn, mint=(),
        cash=merge.cash,
    )  # fmt: skip
    yield ev.DecisionMade(
        **at, decision=3 * number, closed=(CloseBundle(bundle_id=name, outcome="DONE"),)
    )


def journal(path: Path) -> JournalStore:
    """Open it as a bot does."""
    return JournalStore(path, bot="bench", mode="paper", run_id="bench")


def write(path: Path, events: Iterator[ev.Event], number: int) -> None:
    """Append ``number`` of ``events``."""
    with journal(path) as store:
        while number:
            batch = list(islice(events, min(BATCH, number)))
            store.write(batch)
            number -= len(batch)


def start(path: Path, wanted: str) -> tuple[float, dict[str, object]]:
    """Seconds from the start of a process until it knows its state, and what it says of it."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, __file__, wanted, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        if child.stdout is None:
            raise RuntimeError("no pipe to the child")
        ready = child.stdout.readline()
        seconds = time.perf_counter() - began
        rest = child.stdout.read()
    if ready != "ready\n" or child.returncode:
        sys.exit(f"{wanted}: it ended with code {child.returncode}")
    said: dict[str, object] = msgspec.json.decode(rest)
    return seconds, said


def be_a_bot(path: Path, wanted: str) -> None:
    """A bot's start up to what it may ask the venue; all it needs for that is imported."""
    from fleet.runtime import bot, memory  # noqa: F401 - what a bot's process imports
    from fleet.runtime.recovery import query_of

    if wanted == "fold":
        snapshots.WORTH = sys.maxsize  # type: ignore[misc]
    with journal(path) as store:
        state = snapshots.recover(store)
        query_of(state)
        memory.settle()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        rss_mb = psutil.Process().memory_info().rss / 2**20
        # The order of a set is the process's own.
        image = msgspec.json.encode(image_of(state), order="sorted")
        report({"rss_mb": rss_mb, "orders": len(state.orders), "cash": state.portfolio.cash,
                "image": hashlib.sha256(image).hexdigest()})  # fmt: skip


def main() -> None:
    """Make the journal, start with and without a snapshot, print the figures."""
    if sys.argv[1] in {"recover", "fold"}:
        be_a_bot(Path(sys.argv[2]), sys.argv[1])
        return
    entries = int(sys.argv[1])
    early = entries * 99 // 100
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        path, events = Path(name) / "bench-paper.db", history()
        write(path, events, early)
        first_s, _ = start(path, "recover")
        kept = snapshots.snapshot_path(path)
        if not kept.exists():
            sys.exit("no snapshot was written; more entries are needed")
        write(path, events, entries - early)
        starts = [start(path, "recover") for _ in range(STARTS)]
        snapshot_mb, journal_mb = (file.stat().st_size / 2**20 for file in (kept, path))
        shutil.move(kept, path.with_suffix(".aside"))
        fold_s, folded = start(path, "fold")
    said = starts[-1][1]
    if {**said, "rss_mb": 0} != {**folded, "rss_mb": 0}:
        sys.exit(f"the snapshot gives another state: {said} and not {folded}")
    report(
        {
            "recovery_s": median(seconds for seconds, _ in starts),
            "fold_s": fold_s,
            "fold_and_write_s": first_s,
            "recovery_rss_mb": said["rss_mb"],
            "fold_rss_mb": folded["rss_mb"],
            "snapshot_mb": snapshot_mb,
            "journal_mb": journal_mb,
            "entries": entries,
        }
    )


if __name__ == "__main__":
    main()
