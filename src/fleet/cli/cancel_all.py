"""Cancel every order of bots, and let them go on as they were.

A bot whose orders are not answered for in time stays halted and says so. With --direct no bot is
asked: the venue itself is, with the wallet's own credentials, for when the engines are dead. Stop
or halt the bots first, or they place new ones. Exit codes: 0 no order is open any more, 1 a bot
failed or did not answer, or something is open or not known, 2 no such bot, or no credentials.
"""

from __future__ import annotations

import argparse
from typing import Final

from fleet.cli.ask import add_bot, ask
from fleet.journal.inbox import CANCEL_ALL

FEEDS: Final = ("sandbox", "polymarket")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet cancel-all`` takes."""
    add_bot(parser)
    parser.add_argument("--direct", action="store_true", help="ask the venue, not the bots")
    parser.add_argument("--feed", choices=FEEDS, default=FEEDS[0],
                        help="with --direct: which venue (default: the local sandbox)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Ask for it; the exit code."""
    if arguments.direct:
        from fleet.cli.cancel_direct import cancel_direct, wallets_of

        return max(
            cancel_direct(arguments.feed, arguments.wait, wallet)
            for wallet in wallets_of(arguments.bot)
        )
    return ask("cancel-all", CANCEL_ALL, arguments.bot, wait_s=arguments.wait)
