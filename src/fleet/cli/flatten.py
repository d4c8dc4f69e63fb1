"""Sell what bots hold: cancel what rests, merge pairs, sell the rest, and open nothing more.

It costs what selling at once costs, so it asks first; without a terminal it needs --yes. It holds
over restarts until `fleet resume`, and goes on after this command has ended. Exit codes: 0 nothing
is held any more that can be sold, 1 still under way, failed or no answer, 2 --yes is missing, or no
such bot.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from fleet.cli.ask import EXIT_FAILED, EXIT_USAGE, add_bot, ask

WAIT_S: Final = 60.0
"""Cancels, then a merge or two on the chain, then sales that have to be mined."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet flatten`` takes."""
    add_bot(parser, wait_s=WAIT_S)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Ask the person, then the bots; the exit code."""
    whose = arguments.bot or "every bot"
    if not arguments.yes:
        if not sys.stdin.isatty():
            print("fleet flatten: no terminal to ask on; say --yes", file=sys.stderr)
            return EXIT_USAGE
        if input(f"sell what {whose} holds, at what the books pay? [y/N] ").strip().lower() not in {
            "y", "yes",
        }:  # fmt: skip
            print("nothing was asked for")
            return EXIT_FAILED
    return ask("flatten", "flatten", arguments.bot, wait_s=arguments.wait)
