"""A websocket channel: its clients, one bounded queue and one writer each (reference 5).

Theory of operation. A kind of channel (``MarketChannel``, ``UserChannel``) decides who is concerned
by a message and calls ``publish_to``; one writer task a client sends from the client's queue. A
client whose queue is full is cut off (``queue_max``): nothing here ever waits for a reader or grows
for one. Everything a client is sent goes through the same queue, so answers, snapshots and changes
keep their order.

``disturb`` is the one place where faults may drop, repeat, hold back or replace what is published
to a client; answers to what the client itself sent (``PONG``, snapshots) do not pass it.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from aiohttp import WSMsgType, web

PING: Final = "PING"
PONG: Final = b"PONG"
INVALID_OPERATION: Final = b"INVALID OPERATION"
MESSAGE_BYTES_MAX: Final = 1 << 20
CLOSE_S_MAX: Final = 1.0
SEND_BUFFER_BYTES: Final = 128 * 1024
"""The kernel would keep megabytes for a slow reader: minutes of a market nobody sees any more."""


@dataclass(slots=True, eq=False, kw_only=True)
class Client:
    """One connection, the ``number``-th of its channel. A full ``queue`` ends it."""

    number: int
    queue: asyncio.Queue[bytes]
    link: web.WebSocketResponse
    transport: asyncio.Transport | None
    sent: int = 0
    dropped: bool = False


C = TypeVar("C", bound=Client)
Disturb = Callable[[Client, bytes], Sequence[bytes]]


class Channel(ABC, Generic[C]):
    """The clients of one websocket path. A kind says what a client is and what its texts mean."""

    name = ""
    """The last part of the path: ``market`` or ``user``."""

    def __init__(self, *, queue_max: int, clients_max: int, note: Callable[[str], None]) -> None:
        """``note`` is told of clients that were cut off."""
        self._queue_max = queue_max
        self._clients_max = clients_max
        self._note = note
        self._clients: dict[C, None] = {}
        self._numbers = 0
        self.disturb: Disturb | None = None
        self.frames_sent = 0
        self.clients_cut_off = 0

    @property
    def clients(self) -> int:
        """Connections open now."""
        return len(self._clients)

    @property
    def connected(self) -> Sequence[C]:
        """Those connections, oldest first."""
        return tuple(self._clients)

    @abstractmethod
    def admit(
        self,
        *,
        number: int,
        queue: asyncio.Queue[bytes],
        link: web.WebSocketResponse,
        transport: asyncio.Transport | None,
    ) -> C:
        """A client of this kind for a new connection."""

    @abstractmethod
    def received(self, client: C, text: str) -> None:
        """Act on a text that is not ``PING``."""

    @abstractmethod
    def forget(self, client: C) -> None:
        """Drop what is kept about a client that is gone."""

    def publish_to(self, client: C, payload: bytes) -> None:
        """Send something published, if no fault has other plans with it."""
        disturb = self.disturb
        if disturb is None:
            self.send(client, payload)
            return
        for frame in disturb(client, payload):
            self.send(client, frame)

    def send(self, client: C, payload: bytes) -> None:
        """Queue one frame; cut the client off if it is too far behind."""
        try:
            client.queue.put_nowait(payload)
        except asyncio.QueueFull:
            if not client.dropped:
                self.clients_cut_off += 1
                self._note(f"cut off a client that was {self._queue_max} frames behind")
            self.cut(client)

    def cut(self, client: C) -> None:
        """End a connection at once, without a closing handshake."""
        client.dropped = True
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
        self._numbers += 1
        client = self.admit(
            number=self._numbers,
            queue=asyncio.Queue(self._queue_max),
            link=link,
            transport=request.transport,
        )
        self._clients[client] = None
        writer = asyncio.create_task(self._write(client))
        try:
            async for message in link:
                if message.type is not WSMsgType.TEXT:
                    continue
                if message.data == PING:
                    self.send(client, PONG)
                else:
                    self.received(client, message.data)
        finally:
            writer.cancel()
            self._clients.pop(client, None)
            self.forget(client)
            await asyncio.gather(writer, return_exceptions=True)
        return link

    async def _write(self, client: C) -> None:
        while True:
            payload = await client.queue.get()
            await client.link.send_frame(payload, WSMsgType.TEXT)
            client.sent += 1
            self.frames_sent += 1

    async def close(self) -> None:
        """Close every connection with 1001, going away; cut off those that do not answer."""
        clients = list(self._clients)
        closing = [
            asyncio.wait_for(client.link.close(code=1001, message=b"sandbox stops"), CLOSE_S_MAX)
            for client in clients
        ]
        ended = await asyncio.gather(*closing, return_exceptions=True)
        for client, result in zip(clients, ended, strict=True):
            if isinstance(result, BaseException) and client.transport is not None:
                client.transport.abort()


def _bound_send_buffer(transport: asyncio.Transport | None) -> None:
    link = None if transport is None else transport.get_extra_info("socket")
    if link is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
