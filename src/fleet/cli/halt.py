"""Set the kill latch: every bot of this fleet stops trading at once and stays stopped.

It survives restarts; only `fleet resume` clears it. With --bot, one bot alone is halted: it cancels
what rests, keeps running, and trades again after `fleet resume BOT`. Exit codes: 0 set, 1 it could
not be written (a fleet state that cannot be read already counts as halted), or the bot did not
answer; 2 no such bot.
"""

from __future__ import annotations

import argparse
import sys

from fleet.cli.ask import WAIT_S, ask
from fleet.cli.root import fleet_root, operator
from fleet.clock import LiveClock
from fleet.config import Paths
from fleet.journal.database import JournalError
from fleet.journal.fleet import FleetState, read_latch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet halt`` takes."""
    parser.add_argument("--bot", default="", help="halt this bot alone, without the latch")
    parser.add_argument("reason", nargs="+", help="why, for whoever finds the fleet halted")


def run(arguments: argparse.Namespace) -> int:
    """Set the latch. Returns the exit code."""
    path = Paths(root=fleet_root()).fleet_db
    reason = " ".join(arguments.reason)
    if arguments.bot:
        return ask("halt", "pause", arguments.bot, wait_s=WAIT_S, reason=reason)
    try:
        with FleetState(path) as state:
            state.halt(reason, operator(), LiveClock().now_ns())
            latch = state.latched()
    except JournalError as error:
        latch = read_latch(path)
        told = "it counts as halted all the same" if latch else "THE FLEET IS NOT HALTED"
        print(f"fleet halt: {error}; {told}; `pm2 stop all` stops the bots", file=sys.stderr)
        return 1
    print(f"halted: {reason}")
    if latch is not None and latch.reason != reason:
        print(f"it was halted already: {latch.reason} (by {latch.by})")
    print("trading is stopped until: fleet resume")
    return 0
