"""Tell a live bot's journal of money that came into its wallet, or left it, from outside.

A deposit or withdrawal is a difference between journal and venue, and a bot refuses to start with
one, as it should. This writes it down, with the reason, so that both agree again. AMOUNT is
dollars, negative for what left. The bot must be stopped; nothing is moved, only recorded.

Exit codes: 0 recorded, 75 the bot is running, 78 there is no such journal or it cannot be written,
2 wrong words.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from fleet.cli.doctor import bot_of
from fleet.cli.root import fleet_root
from fleet.clock import LiveClock
from fleet.config import Mode, Paths
from fleet.domain.events import CashDeposited
from fleet.domain.units import Cash, UnitsError, format_units, parse_cash
from fleet.engine.state import fold
from fleet.journal.database import JournalError
from fleet.journal.locks import LockError, TwinRunning, acquire
from fleet.journal.store import JournalStore
from fleet.runtime.bootstrap import FEEDS
from fleet.runtime.spec import EXIT_OK, EXIT_STAY_DOWN, EXIT_TWIN, BotSpec

REASON_MAX: Final = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet cash`` takes."""
    parser.add_argument("bot", type=bot_of, metavar="BOT", help="the bot whose wallet it is")
    parser.add_argument("amount", type=_amount, metavar="AMOUNT",
                        help="dollars, such as 250 or -99.5")  # fmt: skip
    parser.add_argument("--reason", required=True, help="what it was, for whoever reads it later")
    parser.add_argument("--feed", choices=FEEDS, default=FEEDS[0],
                        help="which venue (default: the local sandbox)")  # fmt: skip


def _amount(text: str) -> Cash:
    try:
        amount = parse_cash(text)
    except UnitsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not amount:
        raise argparse.ArgumentTypeError("nothing is nothing to record")
    return amount


def run(arguments: argparse.Namespace) -> int:
    """Record it. Returns the exit code."""
    spec: BotSpec = arguments.bot
    paths = Paths(root=fleet_root())
    file = paths.journal(spec.slug, Mode.LIVE, arguments.feed)
    if not file.exists():
        print(f"fleet cash: {spec.name} has never traded live here ({file} does not exist): its"
              " first start takes the wallet's balance as it is", file=sys.stderr)  # fmt: skip
        return EXIT_STAY_DOWN
    try:
        with acquire(paths.lock(spec.slug)):
            cash = _record(spec, file, arguments.amount, arguments.reason[:REASON_MAX])
    except TwinRunning as error:
        print(f"fleet cash: {error}; stop it first: `pm2 stop {spec.name}`", file=sys.stderr)
        return EXIT_TWIN
    except (LockError, JournalError) as error:
        print(f"fleet cash: {error}", file=sys.stderr)
        return EXIT_STAY_DOWN
    print(f"{spec.name}: recorded {format_units(arguments.amount)} dollars; the journal now says"
          f" {format_units(cash)}. The next start compares it with the venue.")  # fmt: skip
    return EXIT_OK


def _record(spec: BotSpec, file: Path, amount: Cash, reason: str) -> Cash:
    now_ns = LiveClock().now_ns()
    with JournalStore(
        file, bot=spec.name, mode=Mode.LIVE.value, run_id=f"cash-{now_ns:x}"
    ) as journal:  # fmt: skip
        journal.write(
            [
                CashDeposited(
                    ts_event=now_ns, ts_recv=now_ns, amount=amount,
                    deposit_id=f"by hand {now_ns}: {reason}",
                )
            ]
        )  # fmt: skip
        return fold(entry.event for entry in journal.read()).portfolio.cash
