"""Record raw market frames to a tape: zstd, one file an hour, for `fleet replay`.

Without --assets the markets are taken from the catalogue, most traded first. Ends after --duration
seconds, or on SIGINT or SIGTERM. Exit code 0: frames were recorded and none was lost. 1: the market
could not be reached, nothing came, or frames were dropped. 78: these settings cannot work.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop
from dotenv import dotenv_values

from fleet.cli.root import fleet_root
from fleet.clock import LiveClock
from fleet.config import ConfigError, Paths, load, read_env_file
from fleet.domain.events import AnyEvent, BookSnapshot, FrameRejected
from fleet.domain.instruments import InstrumentId, Universe
from fleet.journal.tape import Tape, TapeError
from fleet.runtime.market_source import Addresses, addresses, read_catalog
from fleet.runtime.settings import PolymarketEnv, SandboxEnv
from fleet.venues.polymarket.catalog import CatalogSettings
from fleet.venues.polymarket.feed import MarketFeed, token_groups
from fleet.venues.polymarket.universe_file import UniverseFileError, save_universe
from fleet.venues.port import FeedHealth, VenueError

EX_FAILED: Final = 1
EX_CONFIG: Final = 78
REPORT_S: Final = 10.0
Groups = Sequence[tuple[InstrumentId, ...]]


class Counts:
    """The sink of a recording: what came, counted."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.snapshots = self.rejected = self.events = 0

    def __call__(self, events: Sequence[AnyEvent]) -> None:
        """Count."""
        self.events += len(events)
        for event in events:
            self.snapshots += isinstance(event, BookSnapshot)
            self.rejected += isinstance(event, FrameRejected)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.add_argument("--feed", choices=("sandbox", "polymarket"), required=True,
                        help="which market to record")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="where the tape goes (default: var/tape/<feed>)")  # fmt: skip
    parser.add_argument("--duration", type=float, required=True, metavar="SECONDS",
                        help="how long to record")  # fmt: skip
    parser.add_argument("--assets", nargs="+", metavar="TOKEN", default=[],
                        help="token ids to record instead of the catalogue's")  # fmt: skip
    parser.add_argument("--max-markets", type=int, metavar="N",
                        help="markets at most (default: POLYMARKET_MAX_MARKETS)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Record; the exit code says how it went."""
    if not arguments.duration > 0 or (arguments.max_markets or 1) < 1:
        return _fail("--duration and --max-markets must be above zero", EX_CONFIG)
    if bad := [token for token in arguments.assets if not token.isascii() or not token.isdigit()]:
        return _fail(f"--assets takes decimal token ids, not {bad[0][:40]!r}", EX_CONFIG)
    paths = Paths(root=fleet_root())
    try:
        pairs = {**read_env_file(paths.env_file, dotenv_values), **os.environ}
        venue, sandbox = load(PolymarketEnv, pairs), load(SandboxEnv, pairs)
        folder = arguments.out or paths.tape(arguments.feed)
        tape = Tape(folder)
    except (ConfigError, TapeError) as error:
        return _fail(str(error), EX_CONFIG)
    place = addresses(arguments.feed, venue, sandbox)
    groups: Groups = [(InstrumentId(token),) for token in arguments.assets]
    settings = CatalogSettings(markets_max=arguments.max_markets or venue.markets_max)

    async def record() -> tuple[FeedHealth, Counts]:
        chosen = groups
        if not chosen:
            universe = await _catalogued(place, settings)
            save_universe(folder, universe)
            chosen = token_groups(universe.markets.values())
        return await _record(place.ws_url, chosen, tape, arguments.duration)

    try:
        health, counts = uvloop.run(record())
    except UniverseFileError as error:
        return _fail(str(error), EX_FAILED)
    except VenueError as error:
        cure = "; is it running? `make start` starts it" if arguments.feed == "sandbox" else ""
        return _fail(f"{error}{cure}", EX_FAILED)
    finally:
        written = tape.close()
    print(
        f"recorded {written.written} records ({health.frames} frames, {counts.snapshots} snapshots,"
        f" {counts.rejected} rejected) over {health.connections} connections, "
        f"{health.reconnects} reconnects, {written.dropped} dropped"
    )
    if health.failure or written.failure:
        return _fail(health.failure or written.failure, EX_FAILED)
    return 0 if health.frames and not written.dropped else EX_FAILED


async def _catalogued(place: Addresses, settings: CatalogSettings) -> Universe:
    """The catalogue's markets."""
    catalog = await read_catalog(place, settings, LiveClock().now_ns())
    left_out = sum(catalog.left_out.values())
    print(f"{len(catalog.universe.markets)} markets to record, {left_out} left out")
    return catalog.universe


async def _record(
    url: str, groups: Groups, tape: Tape, duration_s: float
) -> tuple[FeedHealth, Counts]:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    counts = Counts()
    feed = MarketFeed(url, groups, counts, tape=tape)
    await feed.start()
    end_at = loop.time() + duration_s
    while not stop.is_set() and (left_s := end_at - loop.time()) > 0 and not feed.health().failure:
        try:
            await asyncio.wait_for(stop.wait(), min(left_s, REPORT_S))
        except TimeoutError:
            health = feed.health()
            print(f"{health.frames} frames, {health.connected} of {health.connections} connected",
                  flush=True)  # fmt: skip
    health = feed.health()
    await feed.stop()
    return health, counts


def _fail(text: str, code: int) -> int:
    print(f"fleet record: {text}", file=sys.stderr)
    return code
