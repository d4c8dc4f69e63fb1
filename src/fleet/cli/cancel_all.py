"""Cancel every order of bots, and let them go on as they were.

A bot whose orders are not answered for in time stays halted and says so. Exit codes: 0 no order is
open any more, 1 a bot failed or did not answer, 2 no such bot.
"""

from __future__ import annotations

import argparse

from fleet.cli.ask import add_bot, ask
from fleet.journal.inbox import CANCEL_ALL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet cancel-all`` takes."""
    add_bot(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask for it; the exit code."""
    return ask("cancel-all", CANCEL_ALL, arguments.bot, wait_s=arguments.wait)
