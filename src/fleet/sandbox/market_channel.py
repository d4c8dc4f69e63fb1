"""The market websocket channel: who subscribed to what, and what each is sent (reference 5.1).

``MarketChannel`` keeps an index from token to clients. Snapshots go through a client's queue like
everything else, so it always sees them in their place among the changes.

Text answers that are no JSON, as at the venue: ``PONG`` to ``PING``; ``NO NEW ASSETS`` to a
subscription that names nothing new (its flag is applied first, as the venue does);
``INVALID OPERATION`` to what is no subscription at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiohttp import web

from fleet.sandbox.channel import INVALID_OPERATION, Channel, Client
from fleet.sandbox.listing import Listings
from fleet.sandbox.market_frames import Frame, book_message, encode

NO_NEW_ASSETS: Final = b"NO NEW ASSETS"
SNAPSHOT_ASSETS_MAX: Final = 500
"""More assets than this on one connection: no snapshots, only changes (reference 5.3)."""


class SubscriptionFrame(msgspec.Struct):
    """Any frame a client may send, but PING."""

    assets_ids: list[str] = msgspec.field(default_factory=list)
    type: str = ""
    operation: str = ""
    custom_feature_enabled: bool | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class MarketClient(Client):
    """A reader of books: the tokens it named and whether it wants the custom messages."""

    assets: set[str] = field(default_factory=set)
    custom: bool = False


class MarketChannel(Channel[MarketClient]):
    """The clients of ``/ws/market``."""

    name = "market"

    def __init__(
        self, listings: Listings, *, queue_max: int, clients_max: int, note: Callable[[str], None]
    ) -> None:
        """Serve ``listings``; ``note`` is told of clients that were cut off."""
        super().__init__(queue_max=queue_max, clients_max=clients_max, note=note)
        self._listings = listings
        self._by_asset: dict[str, set[MarketClient]] = {}
        self.without_snapshots: Callable[[Client], bool] = lambda _: False
        """Asked at each subscription: a fault may leave the snapshots out."""

    def admit(
        self,
        *,
        number: int,
        queue: asyncio.Queue[bytes],
        link: web.WebSocketResponse,
        transport: asyncio.Transport | None,
    ) -> MarketClient:
        """A client without subscriptions."""
        return MarketClient(number=number, queue=queue, link=link, transport=transport)

    def publish(self, frames: Iterable[Frame]) -> None:
        """Send each frame to every client it concerns."""
        for frame in frames:
            for client in self._concerned(frame):
                self.publish_to(client, frame.payload)

    def _concerned(self, frame: Frame) -> set[MarketClient]:
        if frame.everyone:
            return {c for c in self._clients if c.custom}
        first, *others = frame.assets
        found = self._by_asset.get(first, set())
        for asset in others:
            found = found | self._by_asset.get(asset, set())
        return {c for c in found if c.custom} if frame.custom else found

    def forget(self, client: MarketClient) -> None:
        """Take a client that is gone out of the index."""
        self._leave(client, list(client.assets))

    def received(self, client: MarketClient, text: str) -> None:
        """Subscribe or unsubscribe."""
        try:
            frame = msgspec.json.decode(text, type=SubscriptionFrame)
        except msgspec.MsgspecError:
            self.send(client, INVALID_OPERATION)
            return
        operation = frame.operation or ("subscribe" if frame.type.lower() == "market" else "")
        if frame.custom_feature_enabled is not None:
            client.custom = frame.custom_feature_enabled
        if operation == "subscribe":
            self._subscribe(client, frame.assets_ids)
        elif operation == "unsubscribe":
            self._leave(client, frame.assets_ids)
        else:
            self.send(client, INVALID_OPERATION)

    def _subscribe(self, client: MarketClient, assets: Sequence[str]) -> None:
        fresh = [a for a in dict.fromkeys(assets) if a not in client.assets]
        if not fresh:
            self.send(client, NO_NEW_ASSETS)
            return
        for asset in fresh:
            client.assets.add(asset)
            self._by_asset.setdefault(asset, set()).add(client)
        if len(client.assets) > SNAPSHOT_ASSETS_MAX or self.without_snapshots(client):
            return
        snapshots = self._snapshots(fresh)
        if snapshots:
            self.send(client, encode(snapshots))

    def _snapshots(self, assets: Iterable[str]) -> list[dict[str, Any]]:
        """One ``book`` per listed token; unknown and resolved tokens have none."""
        found = (self._listings.by_token.get(a) for a in assets)
        return [book_message(m, outcome) for m, outcome in filter(None, found) if not m.closed]

    def _leave(self, client: MarketClient, assets: Iterable[str]) -> None:
        for asset in assets:
            client.assets.discard(asset)
            watching = self._by_asset.get(asset)
            if watching is not None:
                watching.discard(client)
                if not watching:
                    del self._by_asset[asset]
