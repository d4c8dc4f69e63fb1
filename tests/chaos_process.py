"""The live half of ArbHunter as a process of its own, over real sockets, to be killed with kill -9.

``python -m tests.chaos_process ROOT PORT`` trades on the sandbox at PORT with its journal in ROOT.
It ends with 0 on SIGTERM, once trading is halted and nothing is open any more; with 1 if it ends by
itself, and whoever started it starts it again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

from fleet.clock import LiveClock
from fleet.domain.instruments import Universe
from fleet.domain.units import SCALE, Cash
from fleet.strategies.arbitrage import ArbSettings
from fleet.venues.polymarket.catalog import CatalogSettings, load_catalog
from fleet.venues.polymarket.guard import SigningGuard
from fleet.venues.polymarket.hosts import Hosts, sandbox_hosts
from fleet.venues.polymarket.login import log_in
from fleet.venues.port import VenueError
from fleet.venues.transport import HttpSettings, JsonClient
from tests.chaos_bot import BotProcess, Mortal
from tests.chaos_world import KEY, LIMITS

LOCAL = HttpSettings(timeout_s=5, attempts=2, per_second=1_000, burst=500)
JOURNAL = "arbhunter-live.db"


async def universe_of(hosts: Hosts) -> Universe:
    """The catalogue now. Raises ``VenueError``."""
    gamma, clob = JsonClient(hosts.gamma_url, LOCAL), JsonClient(hosts.clob_url, LOCAL)
    try:
        found = await load_catalog(gamma, clob, CatalogSettings(), now_ns=LiveClock().now_ns())
        return found.universe
    finally:
        await gamma.close()
        await clob.close()


async def trade(root: Path, port: int) -> int:
    """Live until told to stop; the exit code."""
    hosts, clock = sandbox_hosts(port), LiveClock()
    universe = await universe_of(hosts)
    guard = SigningGuard(KEY, instruments=universe.instruments, lease_alive=lambda: True)
    credentials = await log_in(hosts, guard, http=LOCAL)
    bot = BotProcess(
        Mortal(f"bot-{os.getpid()}", lambda _: None), journal=root / JOURNAL, universe=universe,
        limits=LIMITS, settings=ArbSettings(trade_size=Cash(50 * SCALE), cooldown_ns=200_000_000),
        hosts=hosts, key=KEY, credentials=credentials, clock=clock, jitter=random.random,
        adopted_ns=0, wire=None,
    )  # fmt: skip
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    running = asyncio.create_task(bot.run())
    stopping = asyncio.create_task(_stop(bot, asked))
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
        return 1
    stopping.result()
    os._exit(0)  # What a process leaves behind at its end is what a kill leaves behind.


async def _stop(bot: BotProcess, asked: asyncio.Event) -> None:
    await asked.wait()
    while not bot.ready or bot.runner is None:  # noqa: ASYNC110 - it becomes ready or ends
        await asyncio.sleep(0.1)
    bot.halt()
    while bot.open_now():  # noqa: ASYNC110 - the venue brings it to its end
        await asyncio.sleep(0.2)


def main() -> int:
    """Trade; a sandbox that is not there is a reason to be started again."""
    try:
        return asyncio.run(trade(Path(sys.argv[1]), int(sys.argv[2])))
    except VenueError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
