"""Make every check of a live start, and start nothing: this machine, the way to the venue, the
account, and parity. What is found is told with its cure.

Exit codes: 0 everything passed (warnings do not count), 78 something failed and a person must
repair it, 1 something could not be found out: unknown is not good, look again.

--json prints one object: bot, feed, checked_at (UTC), result (ok, failed or unknown), exit_code and
checks, a list of objects with name, found, ok, result (ok, warned, failed or unknown) and cure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from fleet.bots.arbhunter import SPEC as ARBHUNTER
from fleet.bots.elitemimic import SPEC as ELITEMIMIC
from fleet.bots.polyai import SPEC as POLYAI
from fleet.cli.root import fleet_root
from fleet.clock import NS_PER_SECOND, Clock, LiveClock
from fleet.config import ConfigError, Paths
from fleet.runtime.bootstrap import FEEDS, load_settings
from fleet.runtime.findings import Finding, exit_code, failed
from fleet.runtime.live_standing import (
    live_hosts,
)
from fleet.runtime.live_start import checked
from fleet.runtime.settings import PolymarketEnv, SandboxEnv, WalletEnv
from fleet.runtime.spec import EXIT_OK, EXIT_RETRY, EXIT_STAY_DOWN, BotSpec
from fleet.runtime.venue_probe import VenueProbe
from fleet.runtime.wallet import load_wallet, read_key
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.port import VenueError

BOTS: Final[Mapping[str, BotSpec]] = {spec.slug: spec for spec in (ARBHUNTER, POLYAI, ELITEMIMIC)}
RESULTS: Final = {EXIT_OK: "ok", EXIT_RETRY: "unknown", EXIT_STAY_DOWN: "failed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``fleet doctor``."""
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--bot", type=bot_of, default=ARBHUNTER, metavar="NAME",
                        help="the bot that is to go live (default: ArbHunter)")  # fmt: skip
    parser.add_argument("--feed", choices=FEEDS, default=FEEDS[0],
                        help="the market place: the local sandbox (default) or Polymarket",
                        )  # fmt: skip
    parser.add_argument("--create-api-key", action="store_true",
                        help="make the wallet's API key at the venue if it has none, then check",
                        )  # fmt: skip


def bot_of(name: str) -> BotSpec:
    """The bot of a name in any case; for argparse."""
    spec = BOTS.get(name.lower())
    if spec is None:
        known = ", ".join(spec.name for spec in BOTS.values())
        raise argparse.ArgumentTypeError(f"there is no bot {name!r}; there are: {known}")
    return spec


def run(arguments: argparse.Namespace) -> int:
    """Check and print. Returns the exit code."""
    spec: BotSpec = arguments.bot
    clock = LiveClock()
    paths = Paths(root=fleet_root())
    try:
        loaded = load_settings(spec, paths, os.environ)
        wallet = load_wallet(paths, os.environ, spec.slug)
        hosts = live_hosts(arguments.feed, loaded.of(PolymarketEnv), loaded.of(SandboxEnv))
    except ConfigError as error:
        findings = [failed("settings", problem, "correct it in .env") for problem in error.problems]
    except ValueError as error:
        findings = [failed("settings", str(error), "correct the address in .env")]
    else:
        if arguments.create_api_key and not asyncio.run(_create_api_key(hosts, wallet, clock)):
            return EXIT_RETRY
        findings = asyncio.run(checked(spec, arguments.feed, paths, loaded, wallet))
    code = exit_code(findings)
    if arguments.json:
        print(json.dumps(document(spec, arguments.feed, findings, clock.now_ns()), indent=2))
    else:
        for finding in findings:
            print(finding.line())
        print(_ending(spec, findings, code))
    return code


async def _create_api_key(hosts: Hosts, wallet: WalletEnv, clock: Clock) -> bool:
    try:
        key = read_key(wallet)
        async with VenueProbe(hosts, clock) as probe:
            made = await probe.create_api_key(key)
    except (ConfigError, VenueError) as error:
        print(f"fleet doctor: no API key was made: {error}", file=sys.stderr)
        return False
    print(f"made API key {made.api_key} for {key.address}", file=sys.stderr)
    return True


def document(spec: BotSpec, feed: str, findings: list[Finding], now_ns: int) -> dict[str, Any]:
    """What ``--json`` prints."""
    code = exit_code(findings)
    checked_at = datetime.fromtimestamp(now_ns // NS_PER_SECOND, UTC)
    return {
        "bot": spec.name,
        "feed": feed,
        "checked_at": checked_at.isoformat().replace("+00:00", "Z"),
        "result": RESULTS[code],
        "exit_code": code,
        "checks": [finding.as_json() for finding in findings],
    }


def _ending(spec: BotSpec, findings: list[Finding], code: int) -> str:
    bad = sum(not finding.ok for finding in findings)
    words = {
        EXIT_OK: "every check passed",
        EXIT_RETRY: f"{bad} of {len(findings)} checks could not be made: look again",
        EXIT_STAY_DOWN: f"{bad} of {len(findings)} checks did not pass: not ready to trade live",
    }
    return f"{spec.name}: {words[code]}"
