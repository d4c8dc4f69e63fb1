"""Score wallets, and keep the list of those EliteMimic looks at.

`scan` scores the venue's leaderboard (or the wallets of a recording), `score` the wallets it is
given, `watch` puts a wallet on the list with its verdict, `drop` takes it off, `list` shows whom
EliteMimic follows and how. A wallet that does not pass the gate of docs/leaders.md is watched on
paper and never copied, whoever put it on the list; that nobody passes is a normal answer.

Exit codes: 0 done, 1 the venue did not tell what was needed, 2 an argument or recording that cannot
be used, 78 settings that cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dotenv import dotenv_values

from fleet.bots.elitemimic_settings import LeadersEnv
from fleet.cli.cancel_direct import hosts_of
from fleet.cli.evaluate_leaders import instant
from fleet.cli.root import fleet_root, operator
from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.config import ConfigError, Paths, load, read_env_file
from fleet.journal.database import JournalError
from fleet.journal.leaders import Leader, LeaderStore, ScoreRecord, leaders_file
from fleet.runtime.bootstrap import FEEDS
from fleet.venues.polymarket.keys import SigningError, checksum_address
from fleet.venues.port import VenueError

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_SETTINGS = 0, 1, 2, 78
COUNT: Final = 25
PERIODS: Final = ("day", "week", "month", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands of ``fleet leaders``."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    scan = verbs.add_parser("scan", help="score the leaderboard, or the wallets of a recording")
    scan.add_argument("--period", choices=PERIODS, default="month",
                      help="which leaderboard (default month)")  # fmt: skip
    scan.add_argument("--count", type=_positive, default=COUNT, metavar="N",
                      help=f"how many wallets from its top (default {COUNT})")  # fmt: skip
    scan.add_argument("--data", type=Path, metavar="DIR",
                      help="score the wallets of recorded picks instead")  # fmt: skip
    scan.add_argument("--as-of", type=instant, metavar="DATE",
                      help="with --data: score with what was known then")  # fmt: skip
    score = verbs.add_parser("score", help="score these wallets together")
    score.add_argument("wallets", nargs="+", type=_wallet, metavar="WALLET")
    watch = verbs.add_parser("watch", help="score a wallet and put it on the list")
    watch.add_argument("wallet", type=_wallet, metavar="WALLET")
    drop = verbs.add_parser("drop", help="take a wallet off the list")
    drop.add_argument("wallet", type=_wallet, metavar="WALLET")
    shown = verbs.add_parser("list", help="whom EliteMimic follows, and how")
    for verb in (scan, score, watch):
        verb.add_argument("--measure", type=_positive, default=0, metavar="N",
                          help="price copies by others' trades in the newest N markets of each"
                               " wallet (default: one cent worse than the wallet)")  # fmt: skip
    for verb in (scan, score, watch, drop, shown):
        verb.add_argument("--feed", choices=FEEDS, default=FEEDS[0],
                          help="which venue (default: the local sandbox)")  # fmt: skip
        verb.add_argument("--json", action="store_true", help="one JSON document instead of lines")


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return int(text)


def _wallet(text: str) -> str:
    try:
        return checksum_address(text)
    except SigningError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(arguments: argparse.Namespace) -> int:
    """Do one of them. Returns the exit code."""
    paths = Paths(root=fleet_root())
    try:
        manual = _manual(paths)
        match arguments.verb:
            case "drop":
                return _drop(arguments, paths)
            case "list":
                return _show(arguments, paths, manual)
            case _:
                return _score(arguments, paths)
    except ConfigError as error:
        print(f"fleet leaders: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except JournalError as error:
        print(f"fleet leaders: {error}", file=sys.stderr)
        return EXIT_FAILED


def _manual(paths: Paths) -> tuple[str, ...]:
    pairs = {**read_env_file(paths.env_file, dotenv_values), **os.environ}
    return load(LeadersEnv, pairs).wallets


# --- scoring --------------------------------------------------------------------------------------


def _score(arguments: argparse.Namespace, paths: Paths) -> int:
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    from fleet.research.leader_records import RecordingError
    from fleet.research.leader_session import judged, judged_recording, read_histories

    scanned, recorded = arguments.verb == "scan", getattr(arguments, "data", None)
    if scanned and arguments.as_of is not None and recorded is None:
        print("fleet leaders: --as-of needs --data: a venue does not say when its markets ended",
              file=sys.stderr)  # fmt: skip
        return EXIT_BAD_INPUT
    now_ns = LiveClock().now_ns()
    with LeaderStore(leaders_file(paths.var, arguments.feed), feed=arguments.feed) as store:
        earlier = {
            wallet: record.p_value
            for wallet, record in store.latest(now_ns).items()
            if record.p_value is not None
        }
        try:
            if recorded is not None:
                found = judged_recording(recorded, arguments.as_of, now_ns, earlier)
            else:
                wallets = (
                    getattr(arguments, "wallets", None) or [arguments.wallet] if not scanned else []
                )
                hosts = hosts_of(arguments.feed, paths)
                histories, source = asyncio.run(
                    read_histories(
                        hosts, wallets, now_ns, period=getattr(arguments, "period", "month"),
                        count=getattr(arguments, "count", COUNT), measure=arguments.measure,
                    )
                )  # fmt: skip
                found = judged(histories, now_ns, now_ns, earlier, source)
        except (RecordingError, ValueError) as error:
            print(f"fleet leaders: {error}", file=sys.stderr)
            return EXIT_BAD_INPUT
        except VenueError as error:
            print(f"fleet leaders: nothing was scored: {error}{_cure(arguments)}", file=sys.stderr)
            return EXIT_FAILED
        if recorded is None:
            # What a recording of the past says must not rule over what is copied today.
            store.record(found)
        if arguments.verb == "watch":
            store.watch(arguments.wallet, now_ns, operator())
    _tell(found, as_json=arguments.json)
    return EXIT_OK


def _cure(arguments: argparse.Namespace) -> str:
    if arguments.verb == "scan":
        return "; name wallets with `fleet leaders score`, or a recording with --data"
    if arguments.feed == FEEDS[0]:
        return "; is the sandbox running? start it with `fleet sandbox`"
    return "; try again"


def _tell(found: Sequence[ScoreRecord], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_score_json(record) for record in found], indent=1))
        return
    from fleet.research.leader_report import score_lines

    for record in found:
        for line in score_lines(record.wallet, record.verdict, json.loads(record.body)):
            print(line)
    passed = sum(record.copied for record in found)
    if not found:
        print("nobody was scored: the venue names no wallet")
    elif not passed:
        print(f"none of {len(found)} is worth copying; that is a normal answer")
    else:
        print(f"{passed} of {len(found)} pass the gate")


def _score_json(record: ScoreRecord) -> dict[str, Any]:
    return {
        "wallet": record.wallet,
        "scored_ns": record.scored_ns,
        "as_of_ns": record.as_of_ns,
        "copied": record.copied,
        "verdict": record.verdict,
        "score": json.loads(record.body),
    }


# --- the list -------------------------------------------------------------------------------------


def _drop(arguments: argparse.Namespace, paths: Paths) -> int:
    with LeaderStore(leaders_file(paths.var, arguments.feed), feed=arguments.feed) as store:
        dropped = store.drop(arguments.wallet, LiveClock().now_ns(), operator())
    if arguments.json:
        print(json.dumps({"wallet": arguments.wallet, "dropped": dropped}))
    else:
        print(f"{arguments.wallet} {'dropped' if dropped else 'was not on the list'}")
    if arguments.wallet in _manual(paths):
        print("it still stands in ELITE_WALLETS of .env: take it out there too", file=sys.stderr)
    return EXIT_OK


def _show(arguments: argparse.Namespace, paths: Paths, manual: tuple[str, ...]) -> int:
    file = leaders_file(paths.var, arguments.feed)
    if file.exists():
        with LeaderStore(file, feed=arguments.feed, read_only=True) as store:
            found = store.followed(LiveClock().now_ns(), manual)
    else:
        found = [Leader.unscored(wallet) for wallet in manual]
    if arguments.json:
        print(json.dumps([_leader_json(leader) for leader in found], indent=1))
        return EXIT_OK
    for leader in found:
        scored = _day(leader.scored_ns) if leader.scored_ns else "never"
        print(f"{leader.wallet} {leader.status:7} scored {scored}: {leader.verdict}")
    copied = sum(leader.status == "copied" for leader in found)
    print(f"{len(found)} on the list, {copied} copied")
    return EXIT_OK


def _leader_json(leader: Leader) -> dict[str, Any]:
    return {
        "wallet": leader.wallet,
        "status": leader.status,
        "verdict": leader.verdict,
        "scored_ns": leader.scored_ns,
        "score": json.loads(leader.score_json) if leader.score_json else None,
    }


def _day(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // NS_PER_SECOND, UTC).strftime("%Y-%m-%d")
