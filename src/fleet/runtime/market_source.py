"""Where a bot's market data comes from: the catalogue and the feed of Polymarket or of the sandbox.

The two differ in their addresses and in nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fleet import logs
from fleet.clock import Clock
from fleet.config import Paths
from fleet.domain.instruments import Universe
from fleet.journal.tape import Tape, TapeError
from fleet.runtime.settings import FleetSettings, PolymarketEnv, SandboxEnv
from fleet.runtime.source_port import SourceFailed
from fleet.runtime.spec import Loaded
from fleet.venues.polymarket.catalog import Catalog, CatalogSettings, load_catalog
from fleet.venues.polymarket.feed import MarketFeed, token_groups
from fleet.venues.polymarket.shard import FeedSettings
from fleet.venues.polymarket.universe_file import UniverseFileError, save_universe
from fleet.venues.port import AnswerInvalid, EventSink, Feed, VenueError
from fleet.venues.transport import HttpSettings, JsonClient
from fleet.venues.websocket import SessionSettings

PAUSES_S: Final[Sequence[float]] = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)
"""Waits before asking again; about 16 s in all, then the process ends and is restarted."""

TAPE_CLOSE_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where one market place is, and how fast it may be asked."""

    gamma_url: str
    clob_url: str
    ws_url: str
    http: HttpSettings


def addresses(feed: str, venue: PolymarketEnv, sandbox: SandboxEnv) -> Addresses:
    """The addresses of ``sandbox`` or ``polymarket``."""
    if feed != "sandbox":
        return Addresses(
            gamma_url=venue.gamma_url,
            clob_url=venue.clob_url,
            ws_url=venue.ws_url,
            # A tenth of what the venue's general limit allows (9,000 per 10 s).
            http=HttpSettings(per_second=90, burst=90),
        )
    origin = f"127.0.0.1:{sandbox.port}"
    return Addresses(
        gamma_url=f"http://{origin}/gamma",
        clob_url=f"http://{origin}/clob",
        ws_url=f"ws://{origin}/ws/market",
        http=HttpSettings(timeout_s=5, attempts=1, per_second=1_000, burst=200),
    )


async def read_catalog(place: Addresses, settings: CatalogSettings, now_ns: int) -> Catalog:
    """The catalogue of a market place. Raises ``VenueError``."""
    gamma = JsonClient(place.gamma_url, place.http)
    clob = JsonClient(place.clob_url, place.http)
    try:
        return await load_catalog(gamma, clob, settings, now_ns=now_ns)
    finally:
        await gamma.close()
        await clob.close()


class MarketSource:
    """Catalogue and feed of one market place."""

    def __init__(self, feed: str, loaded: Loaded, paths: Paths, clock: Clock) -> None:
        """``feed`` is ``sandbox`` or ``polymarket``."""
        env = loaded.of(PolymarketEnv)
        self.name = feed
        self._clock = clock
        self._paths = paths
        self._keep_tape = loaded.of(FleetSettings).tape
        self._tape: Tape | None = None
        self._markets_max = env.markets_max
        self._data_age_ns = env.data_age_max_ns
        self._addresses = addresses(feed, env, loaded.of(SandboxEnv))
        self._log = logs.get("source")

    async def load_universe(self, ending: asyncio.Event) -> Universe | None:
        """The catalogue; nothing when the end was asked for meanwhile. Raises ``SourceFailed``."""
        problem = ""
        for pause_s in (*PAUSES_S, 0.0):
            try:
                return await self._load_once(last=not pause_s)
            except VenueError as error:
                if str(error) != problem:
                    problem = str(error)
                    self._log.warning("CATALOGUE not loaded yet", reason=problem)
            try:
                async with asyncio.timeout(pause_s):
                    await ending.wait()
                return None
            except TimeoutError:
                continue
        cure = (
            "start the sandbox (`make start`, or `fleet sandbox`)"
            if self.name == "sandbox"
            else "check the network and POLYMARKET_GAMMA_URL, POLYMARKET_CLOB_URL in .env"
        )
        raise SourceFailed(f"the catalogue of {self.name} cannot be read: {problem}; {cure}")

    async def _load_once(self, *, last: bool) -> Universe:
        """One reading. A market the CLOB said nothing of may be one we hold: until the ``last`` try
        that is no catalogue. Raises ``VenueError``.
        """
        catalog = await read_catalog(
            self._addresses, CatalogSettings(markets_max=self._markets_max), self._clock.now_ns()
        )
        if catalog.unanswered and not last:
            raise AnswerInvalid(f"the CLOB said nothing of {catalog.unanswered} markets")
        universe = catalog.universe
        self._log.info(
            "CATALOGUE",
            markets=len(universe.markets),
            sets=len(universe.sets),
            ladders=len(universe.ladders),
            left_out=sum(catalog.left_out.values()),
        )
        return universe

    @property
    def clob_url(self) -> str:
        """Where the CLOB is."""
        return self._addresses.clob_url

    def clob(self) -> JsonClient:
        """A connection to the public side of the CLOB; the caller closes it."""
        return JsonClient(self._addresses.clob_url, self._addresses.http)

    def make_feed(self, universe: Universe, sink: EventSink) -> Feed:
        """A feed of the whole universe that has not been started. Raises ``OSError``."""
        if self._keep_tape and self._tape is None:
            folder = self._paths.tape(self.name)
            try:
                save_universe(folder, universe)
                self._tape = Tape(folder)
            except (TapeError, UniverseFileError) as error:
                raise OSError(str(error)) from error
        return MarketFeed(
            self._addresses.ws_url,
            token_groups(universe.markets.values()),
            sink,
            settings=FeedSettings(session=SessionSettings(data_age_max_ns=self._data_age_ns)),
            tape=self._tape,  # One for all feeds: a restarted feed writes on where it ended.
            clock=self._clock,
        )

    def close(self) -> None:
        """Write the rest of the tape, if there is one."""
        if self._tape is None:
            return
        health = self._tape.close(TAPE_CLOSE_S)
        if health.failure or health.dropped:
            self._log.warning("TAPE has gaps", dropped=health.dropped, reason=health.failure)
