"""Cancelling at the venue itself, with every engine dead: ``fleet cancel-all --direct``.

Needs the wallet's key or API key in ``.env`` and the way to the venue, nothing else: no bot, no
journal, no ``fleet.db``. What it cannot prove to be gone it reports as open.
"""

from __future__ import annotations

import asyncio
import os
import sys

from dotenv import dotenv_values

from fleet.cli.root import fleet_root
from fleet.clock import LiveClock
from fleet.config import ConfigError, Paths, load, read_env_file
from fleet.runtime.account_checks import configured
from fleet.runtime.live_standing import live_hosts
from fleet.runtime.settings import PolymarketEnv, SandboxEnv, WalletEnv
from fleet.runtime.venue_probe import VenueProbe
from fleet.runtime.wallet import load_wallet, read_key
from fleet.venues.polymarket.auth import ApiCredentials
from fleet.venues.polymarket.cancel_all import CancelReport, cancel_all
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.port import VenueError

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def cancel_direct(feed: str, wait_s: float, bot: str = "") -> int:
    """Ask the venue to cancel every order of the wallet (of ``bot``) until none is open.

    Returns 0 when the venue says that nothing is open, 1 when something is or it is not known, 2
    when settings or key are missing.
    """
    paths = Paths(root=fleet_root())
    try:
        wallet = load_wallet(paths, os.environ, bot)
        hosts = hosts_of(feed, paths)
        report = asyncio.run(_cancel(hosts, wallet, wait_s))
    except ConfigError as error:
        print(f"fleet cancel-all: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ValueError as error:
        print(f"fleet cancel-all: {error}; correct the address in .env", file=sys.stderr)
        return EXIT_USAGE
    except VenueError as error:
        print(f"fleet cancel-all: the venue let nobody in: {error}; what rests there is NOT known:"
              " look at the venue's own page", file=sys.stderr)  # fmt: skip
        return EXIT_FAILED
    return _tell(report, hosts)


def wallets_of(bot: str) -> list[str]:
    """Whose wallets are meant: the bot's, or of all bots that have one, and that of ``.env``.

    The one of ``.env`` is left out only where it names no key and others do.
    """
    paths = Paths(root=fleet_root())
    own = sorted(file.stem for file in paths.wallet_file("").parent.glob("?*.env"))
    if bot:
        return [bot.lower() if bot.lower() in own else ""]
    try:
        shared = load_wallet(paths, os.environ)
    except ConfigError:
        return ["", *own]  # It is asked for, so that its problem is told.
    named = bool(shared.private_key) or shared.key_file is not None
    return [*([""] if named or not own else []), *own]


def hosts_of(feed: str, paths: Paths) -> Hosts:
    """The venue's addresses from the settings of ``.env``, overruled by the environment.

    Raises ``ConfigError``, or ``ValueError`` for an address that cannot be used.
    """
    pairs = {**read_env_file(paths.env_file, dotenv_values), **os.environ}
    return live_hosts(feed, load(PolymarketEnv, pairs), load(SandboxEnv, pairs))


async def _cancel(hosts: Hosts, wallet: WalletEnv, wait_s: float) -> CancelReport:
    return await cancel_all(hosts, await _credentials(hosts, wallet), patience_s=wait_s)


async def _credentials(hosts: Hosts, wallet: WalletEnv) -> ApiCredentials:
    key = read_key(wallet)
    found = configured(wallet, key)
    if found is not None:
        return found
    async with VenueProbe(hosts, LiveClock()) as probe:
        return await probe.derive_api_key(key)


def _tell(report: CancelReport, hosts: Hosts) -> int:
    print(f"{hosts.name}: cancelled {len(report.canceled)} orders")
    for order in report.still_open:
        print(f"STILL OPEN {order.order_id}", file=sys.stderr)
    if report.unknown:
        print(f"what is open is NOT known: {report.unknown}", file=sys.stderr)
    if report.clean:
        print("the venue says that nothing is open any more")
    return EXIT_OK if report.clean else EXIT_FAILED
