"""Give the venue's contracts the approvals they need of a plain-key wallet (POLYMARKET_WALLET=eoa).

Each is one transaction that costs gas, sent only if it is missing; running it again goes on where
it stopped. Only the contracts of docs/polymarket.md are ever approved. Wallets of other kinds are
approved on polymarket.com. No bot may hold the wallet meanwhile.

Exit codes: 0 all are given, 1 one could not be given or nobody can tell, 75 a bot trades on the
wallet, 78 settings or key are missing, or the wallet is of another kind.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from typing import Final

from fleet.cli.cancel_direct import hosts_of
from fleet.cli.doctor import bot_of
from fleet.cli.root import fleet_root
from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.config import ConfigError, Paths
from fleet.domain.instruments import Universe
from fleet.journal.database import JournalError
from fleet.journal.fleet import FleetState, Lease, LeaseHeld, LeaseLost
from fleet.runtime.bootstrap import FEEDS
from fleet.runtime.live_standing import lease_name
from fleet.runtime.spec import EXIT_OK, EXIT_RETRY, EXIT_STAY_DOWN, EXIT_TWIN
from fleet.runtime.wallet import load_wallet, read_key
from fleet.venues.polymarket.chain import ChainOperations
from fleet.venues.polymarket.chain_account import ChainAccount, approve_missing, wallet_problem
from fleet.venues.polymarket.chain_node import ChainNode
from fleet.venues.polymarket.chain_transactions import TransactionSigner
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.keys import SecretKey, SigningError
from fleet.venues.port import VenueError

LEASE_NS: Final = 3_600 * NS_PER_SECOND
"""Ten transactions at a minute or two each, with room."""
NOBODY: Final = Universe(instruments={}, markets={})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet approve`` takes."""
    parser.add_argument("--feed", choices=FEEDS, default=FEEDS[0],
                        help="which venue (default: the local sandbox)")  # fmt: skip
    parser.add_argument("--bot", type=bot_of, default=None, metavar="NAME",
                        help="whose wallet, if it has its own (wallets/NAME.env)")  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="send them; without it, only list them")


def run(arguments: argparse.Namespace) -> int:
    """List or give them. Returns the exit code."""
    paths = Paths(root=fleet_root())
    try:
        key = _plain_key(paths, "" if arguments.bot is None else arguments.bot.slug)
        hosts = hosts_of(arguments.feed, paths)
    except (ConfigError, ValueError) as error:
        print(f"fleet approve: {error}", file=sys.stderr)
        return EXIT_STAY_DOWN
    try:
        with FleetState(paths.fleet_db) as fleet:
            lease = fleet.acquire(
                lease_name(arguments.feed, key.address), "fleet approve", os.getpid(), LEASE_NS,
                LiveClock().now_ns(),
            )  # fmt: skip
            try:
                work = _give if arguments.yes else _list
                return asyncio.run(work(hosts, key, lambda: _require(fleet, lease)))
            finally:
                fleet.release(lease)
    except LeaseHeld as error:
        print(f"fleet approve: {error}", file=sys.stderr)
        return EXIT_TWIN
    except (JournalError, LeaseLost, SigningError, VenueError) as error:
        print(f"fleet approve: {error}; run it again", file=sys.stderr)
        return EXIT_RETRY


def _plain_key(paths: Paths, bot: str) -> SecretKey:
    wallet = load_wallet(paths, os.environ, bot)
    problem = wallet_problem(wallet.signature_type)
    if problem:
        raise ConfigError([problem])
    return read_key(wallet)


async def _list(hosts: Hosts, key: SecretKey, _permit: Callable[[], None]) -> int:
    node = ChainNode(hosts.rpc_url, chain_id=hosts.chain_id)
    await node.open()
    try:
        approvals = await ChainAccount(node).approvals(key.address)
    finally:
        await node.close()
    missing = 0
    for state in approvals:
        missing += not state.given
        print(f"{'given  ' if state.given else 'MISSING'} {state.approval.purpose}")
    if missing:
        print(f"{missing} of {len(approvals)} are missing; `fleet approve --yes` sends them,"
              " each a transaction that costs gas")  # fmt: skip
    return EXIT_RETRY if missing else EXIT_OK


async def _give(hosts: Hosts, key: SecretKey, permit: Callable[[], None]) -> int:
    node = ChainNode(hosts.rpc_url, chain_id=hosts.chain_id)
    await node.open()
    try:
        signer = TransactionSigner(key, chain_id=hosts.chain_id, permit=permit)
        operations = ChainOperations(signer, node, NOBODY)
        async for approval in approve_missing(operations, ChainAccount(node)):
            print(f"given   {approval.purpose}", flush=True)
    finally:
        await node.close()
    return await _list(hosts, key, permit)


def _require(fleet: FleetState, lease: Lease) -> None:
    if not fleet.holds(lease, LiveClock().now_ns()):
        raise LeaseLost("the wallet's lease is not held any more; run it again")
