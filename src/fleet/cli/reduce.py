"""Let bots only reduce: sales and the operations that end bundles pass, nothing new is opened.

It holds over restarts until `fleet resume`. Exit codes: 0 every bot does, 1 a bot failed or did not
answer, 2 no such bot.
"""

from __future__ import annotations

import argparse

from fleet.cli.ask import add_bot, ask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet reduce`` takes."""
    add_bot(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask for it; the exit code."""
    return ask("reduce", "reduce", arguments.bot, wait_s=arguments.wait)
