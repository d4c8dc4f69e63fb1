"""Tries every clause of the contract on a host and writes down what was said.

Without flags that is a sandbox of its own, and the file is the one the suite replays. With
``--host`` it is any other: ``polymarket`` (real money: it asks first), or the port of a sandbox.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
from pathlib import Path
from typing import Final

from fleet.venues.polymarket.hosts import Hosts, sandbox_hosts
from tests.contract import transcript
from tests.contract.execution_clauses import CLAUSES, Clause, laws
from tests.contract.execution_wire import SLUG, HostBench, LiveBench, SandboxBench, head_of
from tests.contract.transcript import Head, Line

FOLDER: Final = Path(__file__).parents[1] / "data" / "transcripts"
KEY_NAME: Final = "POLYMARKET_PRIVATE_KEY"
FROM_SANDBOX: Final = (
    "recorded from this repository's own sandbox, not from Polymarket: where it was made, the real"
    " venue cannot be reached"
)


def asked() -> argparse.Namespace:
    """The flags."""
    flags = argparse.ArgumentParser(prog="record_transcript.py", description=__doc__)
    flags.add_argument("--host", default="", help="'polymarket', or the port of a sandbox")
    flags.add_argument("--market", default=SLUG, help="slug of a quiet, thin market with a fee")
    flags.add_argument("--pace", type=int, default=4, help="replay this many times faster")
    flags.add_argument("--out", type=Path, default=None, help="the file to write")
    return flags.parse_args()


def bench_for(flags: argparse.Namespace, key: bytes) -> LiveBench:
    """A bench that records."""
    bench: LiveBench
    if not flags.host:
        bench = SandboxBench()
    elif flags.host == "polymarket":
        # Polygon's finality is a few blocks; more is what the live path waits for.
        bench = HostBench(Hosts(), key, flags.market, confirmations=3)
    else:
        bench = HostBench(sandbox_hosts(int(flags.host)), key, flags.market)
    bench.records = True
    return bench


async def record(clause: Clause, flags: argparse.Namespace, key: bytes) -> tuple[Head, list[Line]]:
    """One clause. Raises ``AssertionError`` if it does not hold."""
    bench = bench_for(flags, key)
    try:
        await bench.open()
        await clause(bench)
        laws(bench)
        said = bench.recorder.lines()
        if isinstance(bench, HostBench):
            await bench.go_home()
    finally:
        await bench.close()
    assert not bench.failures, bench.failures
    for line in said:
        line.ms //= flags.pace
    source = flags.host if flags.host == "polymarket" else "sandbox"
    note = f"recorded from {flags.host}" if source == "polymarket" else FROM_SANDBOX
    return head_of(bench, recorded_from=source, note=note), said


def main() -> int:
    """Record every clause and write the file."""
    flags = asked()
    key = b""
    if flags.host:
        text = os.environ.pop(KEY_NAME, "") or getpass.getpass("private key of the wallet: ")
        key = bytes.fromhex(text.strip().removeprefix("0x"))
    if flags.host == "polymarket":
        print(f"This trades with real money in {flags.market}: about twice the depth at the best "
              "price, bought and sold again, clause by clause.")  # fmt: skip
        if input("Type YES to go on: ") != "YES":
            return 1
    out = flags.out or FOLDER / f"{flags.host if flags.host == 'polymarket' else 'sandbox'}.jsonl"
    clauses: dict[str, list[Line]] = {}
    heads: list[Head] = []
    for clause in CLAUSES:
        head, said = asyncio.run(record(clause, flags, key))
        heads.append(head)
        clauses[clause.__name__] = said
        print(f"{clause.__name__}: {len(said)} lines")
    transcript.write(out, heads[0], clauses)
    print(f"{out}: {out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
