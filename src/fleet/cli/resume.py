"""Clear the kill latch, so that bots may trade again once they are restarted or reconciled.

Asks first; without a terminal it needs --yes. Exit codes: 0 cleared or it was not set, 1 not
cleared, 2 --yes is missing.
"""

from __future__ import annotations

import argparse
import sys

from fleet.cli.halt import operator
from fleet.cli.root import fleet_root
from fleet.clock import LiveClock
from fleet.config import Paths
from fleet.journal.database import JournalError
from fleet.journal.fleet import FleetState, Latch, read_latch
from fleet.ops.trades import iso_utc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet resume`` takes."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Clear the latch. Returns the exit code."""
    path = Paths(root=fleet_root()).fleet_db
    latch = read_latch(path)
    if latch is None:
        print("the fleet is not halted")
        return 0
    if not latch.readable:
        print(f"fleet resume: {latch.reason}", file=sys.stderr)
        return 1
    print(f"halted {iso_utc(latch.ts)} by {latch.by}: {latch.reason}")
    if not arguments.yes:
        if not sys.stdin.isatty():
            print("fleet resume: no terminal to ask on; say --yes", file=sys.stderr)
            return 2
        if input("clear it? [y/N] ").strip().lower() not in {"y", "yes"}:
            print("still halted")
            return 1
    return _clear(latch)


def _clear(latch: Latch) -> int:
    try:
        with FleetState(Paths(root=fleet_root()).fleet_db) as state:
            reason = f"cleared: {latch.reason}"
            state.resume(operator(), LiveClock().now_ns(), reason, seen=latch)
    except JournalError as error:
        print(f"fleet resume: {error}", file=sys.stderr)
        return 1
    print("resumed; bots that exited with code 78 start again with: make start")
    return 0
