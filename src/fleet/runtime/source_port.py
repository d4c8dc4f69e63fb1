"""Where a bot's market comes from, as the bot sees it: a catalogue and feeds of it.

``market_source`` is that of Polymarket and its sandbox, ``crypto_source`` that of Binance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from fleet.domain.instruments import Universe
from fleet.venues.port import EventSink, Feed
from fleet.venues.transport import JsonClient

if TYPE_CHECKING:
    from fleet.clock import Clock
    from fleet.config import Paths
    from fleet.runtime.spec import Loaded


class SourceFailed(Exception):  # noqa: N818 - a fact, like the events
    """The market cannot be read; the text says why and what to do."""


class Source(Protocol):
    """Catalogue and feed of one market place."""

    @property
    def clob_url(self) -> str:
        """Where Polymarket's CLOB is; empty for a market that has none, and no resolutions."""
        ...

    async def load_universe(self, ending: asyncio.Event) -> Universe | None:
        """The catalogue; nothing when the end was asked for meanwhile. Raises ``SourceFailed``."""
        ...

    def clob(self) -> JsonClient:
        """A connection to the public side of the CLOB; the caller closes it."""
        ...

    def make_feed(self, universe: Universe, sink: EventSink) -> Feed:
        """A feed of the whole universe that has not been started. Raises ``OSError``."""
        ...

    def close(self) -> None:
        """Let go of what is left open."""
        ...


OpenSource = Callable[[str, "Loaded", "Paths", "Clock"], Source]
"""Makes the source of a feed's name."""
