"""Let trading go on: clear the kill latch, or take back what was asked of bots.

If the latch is set, it shows why and what to do about it, asks, and clears it; bots that were asked
to reduce, flatten or halt stay so. If it is not set, or a bot is named, the bots are told to trade
again. Without a terminal clearing needs --yes. Exit codes: 0 cleared or told, 1 not cleared, or a
bot did not answer; 2 --yes is missing, or no such bot.
"""

from __future__ import annotations

import argparse
import sys

from fleet.cli.ask import add_bot, ask
from fleet.cli.root import fleet_root, operator
from fleet.clock import LiveClock
from fleet.config import Paths
from fleet.journal.database import JournalError
from fleet.journal.fleet import FleetState, Latch, read_latch
from fleet.journal.halts import HALTS
from fleet.ops.trades import iso_utc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet resume`` takes."""
    add_bot(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Clear the latch, or tell the bots. Returns the exit code."""
    path = Paths(root=fleet_root()).fleet_db
    latch = read_latch(path)
    if latch is None or arguments.bot:
        if latch is None:
            print("the fleet is not halted")
        if not path.exists():
            return 0
        return ask("resume", "resume", arguments.bot, wait_s=arguments.wait)
    if not latch.readable:
        print(f"fleet resume: {latch.reason}", file=sys.stderr)
        return 1
    print(f"halted {iso_utc(latch.ts)} by {latch.by}: {latch.reason}")
    print(f"{latch.code.value}: {HALTS[latch.code].remedy}")
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
