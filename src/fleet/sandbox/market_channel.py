"""The market websocket channel: who subscribed to what, and what each is sent (reference 5.1).

Theory of operation. ``MarketChannel`` keeps an index from token to clients. ``publish`` puts each
frame into the bounded queue of every client concerned; one writer task a client sends from it. A
client whose queue is full is cut off (``queue_max``): nothing here ever waits for a reader or grows
for one. Snapshots go through the same queue, so a client always sees them in their place among the
changes.

Text answers that are no JSON, as at the venue: ``PONG`` to ``PING``; ``NO NEW ASSETS`` to a
subscription that names nothing new (its flag is applied first, as the venue does);
``INVALID OPERATION`` to what is no subscription at all.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiohttp import WSMsgType, web

from fleet.sandbox.listing import Listings
from fleet.sandbox.market_frames import Frame, book_message, encode

PING: Final = "PING"
PONG: Final = b"PONG"
NO_NEW_ASSETS: Final = b"NO NEW ASSETS"
INVALID_OPERATION: Final = b"INVALID OPERATION"
SNAPSHOT_ASSETS_MAX: Final = 500
"""More assets than this on one connection: no snapshots, only changes (reference 5.3)."""
MESSAGE_BYTES_MAX: Final = 1 << 20
CLOSE_S_MAX: Final = 1.0
SEND_BUFFER_BYTES: Final = 128 * 1024
"""The kernel would keep megabytes for a slow reader: minutes of a market nobody sees any more."""


class SubscriptionFrame(msgspec.Struct):
    """Any frame a client may send, but PING."""

    assets_ids: list[str] = msgspec.field(default_factory=list)
    type: str = ""
    operation: str = ""
    custom_feature_enabled: bool | None = None


@dataclass(slots=True, eq=False)
class Client:
    """One connection. ``queue`` is bounded; a full one ends the connection."""

    queue: asyncio.Queue[bytes]
    transport: asyncio.Transport | None
    assets: set[str] = field(default_factory=set)
    custom: bool = False
    sent: int = 0
    dropped: bool = False


class MarketChannel:
    """The clients of ``/ws/market``."""

    def __init__(
        self, listings: Listings, *, queue_max: int, clients_max: int, note: Callable[[str], None]
    ) -> None:
        """Serve ``listings``; ``note`` is told of clients that were cut off."""
        self._listings = listings
        self._queue_max = queue_max
        self._clients_max = clients_max
        self._note = note
        self._by_asset: dict[str, set[Client]] = {}
        self._clients: dict[Client, web.WebSocketResponse] = {}
        self.frames_sent = 0
        self.clients_cut_off = 0

    @property
    def clients(self) -> int:
        """Connections open now."""
        return len(self._clients)

    def publish(self, frames: Iterable[Frame]) -> None:
        """Queue each frame for every client it concerns."""
        for frame in frames:
            for client in self._concerned(frame):
                self._queue(client, frame.payload)

    def _concerned(self, frame: Frame) -> set[Client]:
        if frame.everyone:
            return {c for c in self._clients if c.custom}
        first, *others = frame.assets
        found = self._by_asset.get(first, set())
        for asset in others:
            found = found | self._by_asset.get(asset, set())
        return {c for c in found if c.custom} if frame.custom else found

    def _queue(self, client: Client, payload: bytes) -> None:
        try:
            client.queue.put_nowait(payload)
        except asyncio.QueueFull:
            self._cut_off(client)

    def _cut_off(self, client: Client) -> None:
        if client.dropped:
            return
        client.dropped = True
        self.clients_cut_off += 1
        self._note(f"cut off a client that was {self._queue_max} frames behind")
        # aiohttp's close() would wait for the peer, which is what a stuck peer never answers.
        if client.transport is not None:
            client.transport.abort()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it ends."""
        if len(self._clients) >= self._clients_max:
            return web.json_response(
                {"error": f"more than {self._clients_max} connections: close one"}, status=503
            )
        link = web.WebSocketResponse(compress=False, max_msg_size=MESSAGE_BYTES_MAX)
        _bound_send_buffer(request.transport)
        await link.prepare(request)
        client = Client(asyncio.Queue(self._queue_max), request.transport)
        self._clients[client] = link
        writer = asyncio.create_task(self._write(client, link))
        try:
            async for message in link:
                if message.type is WSMsgType.TEXT:
                    self._received(client, message.data)
        finally:
            writer.cancel()
            self._forget(client)
            await asyncio.gather(writer, return_exceptions=True)
        return link

    async def _write(self, client: Client, link: web.WebSocketResponse) -> None:
        while True:
            payload = await client.queue.get()
            await link.send_frame(payload, WSMsgType.TEXT)
            client.sent += 1
            self.frames_sent += 1

    def _forget(self, client: Client) -> None:
        self._clients.pop(client, None)
        self._leave(client, list(client.assets))

    async def close(self) -> None:
        """Close every connection with 1001, going away; cut off those that do not answer."""
        clients = list(self._clients.items())
        closing = [
            asyncio.wait_for(link.close(code=1001, message=b"sandbox stops"), CLOSE_S_MAX)
            for _, link in clients
        ]
        ended = await asyncio.gather(*closing, return_exceptions=True)
        for (client, _), result in zip(clients, ended, strict=True):
            if isinstance(result, BaseException) and client.transport is not None:
                client.transport.abort()

    def _received(self, client: Client, text: str) -> None:
        if text == PING:
            self._queue(client, PONG)
            return
        try:
            frame = msgspec.json.decode(text, type=SubscriptionFrame)
        except msgspec.MsgspecError:
            self._queue(client, INVALID_OPERATION)
            return
        operation = frame.operation or ("subscribe" if frame.type.lower() == "market" else "")
        if frame.custom_feature_enabled is not None:
            client.custom = frame.custom_feature_enabled
        if operation == "subscribe":
            self._subscribe(client, frame.assets_ids)
        elif operation == "unsubscribe":
            self._leave(client, frame.assets_ids)
        else:
            self._queue(client, INVALID_OPERATION)

    def _subscribe(self, client: Client, assets: Sequence[str]) -> None:
        fresh = [a for a in dict.fromkeys(assets) if a not in client.assets]
        if not fresh:
            self._queue(client, NO_NEW_ASSETS)
            return
        for asset in fresh:
            client.assets.add(asset)
            self._by_asset.setdefault(asset, set()).add(client)
        if len(client.assets) > SNAPSHOT_ASSETS_MAX:
            return
        snapshots = self._snapshots(fresh)
        if snapshots:
            self._queue(client, encode(snapshots))

    def _snapshots(self, assets: Iterable[str]) -> list[dict[str, Any]]:
        """One ``book`` per listed token; unknown and resolved tokens have none."""
        found = (self._listings.by_token.get(a) for a in assets)
        return [book_message(m, outcome) for m, outcome in filter(None, found) if not m.closed]

    def _leave(self, client: Client, assets: Iterable[str]) -> None:
        for asset in assets:
            client.assets.discard(asset)
            watching = self._by_asset.get(asset)
            if watching is not None:
                watching.discard(client)
                if not watching:
                    del self._by_asset[asset]


def _bound_send_buffer(transport: asyncio.Transport | None) -> None:
    link = None if transport is None else transport.get_extra_info("socket")
    if link is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
