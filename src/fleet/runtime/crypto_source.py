"""Where a bot's coins come from: the catalogue and the feed of Binance or of the local server.

Both are public: no key is used. The feed tells closed bars, as many of them from before the start
as the bot's rule needs to know, best quotes and trades.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fleet import logs
from fleet.clock import Clock
from fleet.config import SANDBOX, Paths
from fleet.domain.instruments import InstrumentError, Universe
from fleet.runtime.components import ComponentFailed
from fleet.runtime.crypto_settings import CryptoEnv, hosts_of
from fleet.runtime.market_source import PAUSES_S
from fleet.runtime.source_port import OpenSource, SourceFailed
from fleet.runtime.spec import Loaded
from fleet.venues.port import EventSink, Feed, FeedHealth, VenueError
from fleet.venues.transport import JsonClient

if TYPE_CHECKING:
    from fleet.venues.crypto.catalog import Catalog
    from fleet.venues.crypto.client import BinanceClient
    from fleet.venues.crypto.feed import CryptoFeed

LIVE: Final = "live"
HISTORY_SPARE: Final = 2
"""Bars more than the rule needs: one may be missing at the venue."""


def crypto_source(symbols: Sequence[str], interval: str, history: int) -> OpenSource:
    """Opens the source of some symbols; ``history`` bars from before the start are told."""

    def open_source(feed: str, loaded: Loaded, _paths: Paths, clock: Clock) -> CryptoSource:
        return CryptoSource(feed, loaded, clock, symbols, interval, history)

    return open_source


class CryptoSource:
    """Catalogue and feed of some symbols."""

    clob_url = ""

    def __init__(
        self, feed: str, loaded: Loaded, clock: Clock, symbols: Sequence[str], interval: str,
        history: int,
    ) -> None:  # fmt: skip
        """``feed`` is ``sandbox`` for the local server, anything else for Binance itself."""
        self.name = feed
        self._hosts = hosts_of(loaded.of(CryptoEnv), SANDBOX if feed == SANDBOX else LIVE)
        self._clock = clock
        self._symbols = tuple(symbols)
        self._interval = interval
        self._history = history + HISTORY_SPARE
        self._catalog: Catalog | None = None
        self._log = logs.get("source")

    async def load_universe(self, ending: asyncio.Event) -> Universe | None:
        """The catalogue; nothing when the end was asked for meanwhile. Raises ``SourceFailed``."""
        problem = ""
        for pause_s in (*PAUSES_S, 0.0):
            try:
                return await self._load_once()
            except InstrumentError as error:
                raise SourceFailed(str(error)) from error
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
            "start the local Binance (`python -m fleet.sandbox.binance`)"
            if self.name == SANDBOX
            else "check the network; some countries cannot reach Binance"
        )
        raise SourceFailed(f"the catalogue of {self._hosts.name} cannot be read: {problem}; {cure}")

    async def _load_once(self) -> Universe:
        from fleet.venues.crypto.catalog import load_catalog

        client = self._client()
        try:
            await client.start()
            self._catalog = await load_catalog(client, self._symbols, signed=False)
        finally:
            await client.close()
        self._log.info("CATALOGUE", symbols=len(self._catalog.rules), quote=self._catalog.quote)
        return self._catalog.universe

    def _client(self) -> BinanceClient:
        from fleet.venues.crypto.client import BinanceClient

        return BinanceClient(self._hosts, clock=self._clock)

    def clob(self) -> JsonClient:
        """There is none. Raises ``ComponentFailed``."""
        raise ComponentFailed("coins have no CLOB: this component is not for them")

    def make_feed(self, universe: Universe, sink: EventSink) -> Feed:
        """A feed of all symbols that has not been started. Raises ``ValueError``."""
        from fleet.venues.crypto.feed import CryptoFeed, CryptoFeedSettings

        if self._catalog is None or self._catalog.universe is not universe:
            raise ValueError("the catalogue of this source was not loaded")
        settings = CryptoFeedSettings(interval=self._interval, history=self._history)
        client = self._client()
        feed = CryptoFeed(client, self._catalog.rules, sink, settings=settings, clock=self._clock)
        return _OwnFeed(feed, client)

    def close(self) -> None:
        """Nothing is left open: a feed closes its own connections."""


class _OwnFeed:
    """A feed that closes its client when it stops, and fails to start as other feeds do."""

    def __init__(self, feed: CryptoFeed, client: BinanceClient) -> None:
        self._feed = feed
        self._client = client

    async def start(self) -> None:
        try:
            await self._feed.start()
        except VenueError as error:
            await self._client.close()
            raise ComponentFailed(str(error)) from error

    async def stop(self) -> None:
        await self._feed.stop()
        await self._client.close()

    def health(self) -> FeedHealth:
        return self._feed.health()
