"""The wire between bot and sandbox inside one process: HTTP requests and websockets without sockets.

``Wire.requests`` is an httpx transport that hands each request to the sandbox's aiohttp application
(all its middlewares, faults too); ``Wire.link`` stands where ``SocketLink`` stands and joins the
sandbox's own channels. Both take seeded time each way, know read timeouts, and break when the other
side dies. A request that left goes on at the exchange whatever happens to its sender.

``Tap`` is where a run watches and kills: it is told of each step of a request.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast
from unittest import mock
from urllib.parse import urlsplit

import h11
import httpx
from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from fleet.sandbox.channel import PING, PONG, Channel
from fleet.venues.port import TransportFailed
from tests.chaos_loop import PROCESS, VirtualLoop

QUEUE_MAX = 4_096


class Tap(Protocol):
    """Told of each request: before it leaves, when it was answered but not heard, when heard.

    ``leaving`` and ``heard`` may end the sender by raising; ``arriving`` and ``handled`` the exchange.
    """

    def leaving(self, request: httpx.Request) -> None:
        """The bot is about to send it."""

    def left(self, request: httpx.Request) -> None:
        """It is on its way; the bot hears nothing yet."""

    def handled(self, request: httpx.Request, answer: web.Response) -> None:
        """The exchange has done it and written its answer."""

    def broke(self, error: Exception) -> None:
        """A handler of the sandbox failed."""

    def answered(self, request: httpx.Request) -> None:
        """The answer has reached the bot's machine; nobody has read it."""


class Serving(Protocol):
    """A sandbox process as the wire sees it."""

    name: str
    """Its process name."""
    app: web.Application

    def channel(self, path: str) -> Channel[Any]:
        """The channel of ``/ws/market`` or ``/ws/user``."""


class _Transport:
    """What a handler sees of its connection: it can be cut."""

    def __init__(self) -> None:
        self.cut = asyncio.get_running_loop().create_future()

    def abort(self) -> None:
        if not self.cut.done():
            self.cut.set_result(None)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def is_closing(self) -> bool:
        return self.cut.done()


class _Protocol:
    """The little of aiohttp's protocol that a request reads."""

    ssl_context = None
    peername = ("127.0.0.1", 1)
    sockname = ("127.0.0.1", 2)
    _reading_paused = False

    def __init__(self, transport: _Transport) -> None:
        self.transport = transport

    def pause_reading(self) -> None:
        """Bodies here are whole before they are read."""

    def resume_reading(self, *, resume_parser: bool = True) -> None:
        """See above."""


class Wire:
    """All connections of one run."""

    def __init__(self, seed: int, tap: Tap, loop: VirtualLoop, *, slow_s: float = 0.03) -> None:
        """Each way takes up to ``slow_s``."""
        self.loop = loop
        self.server: Serving | None = None
        self.tap = tap
        self._slow_s = slow_s
        self._chance = random.Random(f"{seed}:wire")
        self.links: set[WireLink | LaneTransport] = set()
        self.dead: set[str] = set()
        """Processes that are no more: nothing they send leaves, nothing reaches them."""

    def delay_s(self) -> float:
        """The time of one way."""
        return self._slow_s * self._chance.random()

    def serve(self, server: Serving | None) -> None:
        """A sandbox is up, or none is: then every connection breaks."""
        self.server = server
        if server is None:
            for link in list(self.links):
                link.broken("the sandbox is gone")

    def spawn(self, process: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of another process, which inherits nothing of this one."""
        context = contextvars.Context()
        context.run(PROCESS.set, process)
        loop = asyncio.get_running_loop()
        return context.run(lambda: loop.create_task(work, context=context))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The bot's own clients use this wire while the context lasts."""
        with (
            mock.patch("httpx.AsyncHTTPTransport", self._transport),
            mock.patch("httpx._client.AsyncHTTPTransport", self._transport),
            mock.patch("fleet.venues.polymarket.shard.SocketLink", self._link),
            mock.patch("fleet.venues.polymarket.user_feed.SocketLink", self._link),
        ):
            yield

    def lane(self, protocol: asyncio.Protocol) -> LaneTransport:
        """A connection of bytes. Raises ``OSError`` if nothing listens."""
        if self.server is None:
            raise ConnectionRefusedError("connection refused")
        return LaneTransport(self, protocol)

    async def ask(
        self,
        server: Serving,
        request: httpx.Request,
        transport: _Transport,
        timeout_s: float | None,
    ) -> httpx.Response:
        """Hand a request to a sandbox; its handler goes on whatever becomes of the sender.

        Raises ``httpx.TransportError`` for an answer that does not come.
        """
        going = self.spawn(server.name, self._serve(server, request, transport))
        self.tap.left(request)
        waiting: set[asyncio.Future[Any]] = {going, transport.cut}
        done, _ = await asyncio.wait(
            waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        self.tap.answered(request)
        if not done:
            raise httpx.ReadTimeout("no answer in time", request=request)
        if transport.cut.done() or going.cancelled() or going.exception() is not None:
            broken = going.exception() if going.done() and not going.cancelled() else None
            raise httpx.RemoteProtocolError("the connection was cut", request=request) from broken
        return cast("httpx.Response", going.result())

    async def _serve(
        self, server: Serving, request: httpx.Request, transport: _Transport
    ) -> httpx.Response:
        await asyncio.sleep(self.delay_s())
        try:
            answer = await server.app._handle(_to_aiohttp(request, transport))
        except Exception as error:
            # A defect of the sandbox, which the venue would hide behind a 500.
            self.tap.broke(error)
            raise
        assert isinstance(answer, web.Response)
        self.tap.handled(request, answer)
        content = answer.body if isinstance(answer.body, bytes) else b""
        await asyncio.sleep(self.delay_s())
        return httpx.Response(answer.status, headers=list(answer.headers.items()), content=content)

    def _transport(self, **_: object) -> WireTransport:
        return WireTransport(self)

    def _link(
        self,
        on_opened: Callable[[], None],
        on_text: Callable[[memoryview], None],
        on_closed: Callable[[str], None],
    ) -> WireLink:
        return WireLink(self, on_opened, on_text, on_closed)


class WireTransport(httpx.AsyncBaseTransport):
    """Requests to the sandbox's application."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send and wait, as long as the request's own timeout says."""
        wire = self._wire
        await request.aread()
        wire.tap.leaving(request)
        if wire.server is None:
            raise httpx.ConnectError("connection refused", request=request)
        timeout_s = request.extensions.get("timeout", {}).get("read")
        return await wire.ask(wire.server, request, _Transport(), timeout_s)


class LaneTransport(asyncio.Transport):
    """A connection that is written bytes of HTTP/1.1, and answers in them."""

    def __init__(self, wire: Wire, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.wire, self._protocol = wire, protocol
        self.process = PROCESS.get()
        self._context = contextvars.copy_context()
        self._parser = h11.Connection(h11.SERVER)
        self._lost = False
        wire.links.add(self)

    def write(self, content: bytes | bytearray | memoryview) -> None:
        """A whole request."""
        wire = self.wire
        self._parser.receive_data(bytes(content))
        head = self._parser.next_event()
        assert isinstance(head, h11.Request)
        body = b""
        while isinstance(part := self._parser.next_event(), h11.Data):
            body += part.data
        assert isinstance(part, h11.EndOfMessage), "requests are written whole"
        request = httpx.Request(
            head.method.decode(), f"http://127.0.0.1{head.target.decode()}",
            headers=list(head.headers), content=body,
        )  # fmt: skip
        wire.tap.leaving(request)
        if wire.server is None:
            self.broken("the sandbox is gone")
            return
        asyncio.get_running_loop().create_task(self._answer(wire.server, request))

    async def _answer(self, server: Serving, request: httpx.Request) -> None:
        try:
            answer = await self.wire.ask(server, request, _Transport(), None)
        except httpx.TransportError as error:
            self.broken(str(error))
            return
        if self._lost:
            return
        names = {b"content-length", b"transfer-encoding", b"connection"}
        headers = [(n, v) for n, v in answer.headers.raw if n.lower() not in names]
        headers.append((b"content-length", b"%d" % len(answer.content)))
        told = self._parser.send(h11.Response(status_code=answer.status_code, headers=headers))
        told = (told or b"") + (self._parser.send(h11.Data(data=answer.content)) or b"")
        told += self._parser.send(h11.EndOfMessage()) or b""
        self._parser.start_next_cycle()
        self._protocol.data_received(told)

    def broken(self, reason: str) -> None:
        """The connection is gone."""
        if not self._lost:
            self._lost = True
            self.wire.links.discard(self)
            if self.process not in self.wire.dead:
                lost = ConnectionResetError(reason)
                self.wire.loop.run_in(self._context, self._protocol.connection_lost, lost)

    def abort(self) -> None:
        """Our side gives it up."""
        self.broken("aborted")

    close = abort

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._lost


def _to_aiohttp(request: httpx.Request, transport: _Transport) -> web.Request:
    loop = asyncio.get_running_loop()
    headers = CIMultiDict((name, text) for name, text in request.headers.items())
    path = request.url.raw_path.decode("ascii")
    message = RawRequestMessage(
        request.method, path, HttpVersion11, CIMultiDictProxy(headers),
        tuple((name, text) for name, text in request.headers.raw),
        False, None, False, False, URL(path),
    )  # fmt: skip
    protocol: Any = _Protocol(transport)
    payload = StreamReader(protocol, 2**20, loop=loop)
    payload.feed_data(request.content)
    payload.feed_eof()
    task: Any = asyncio.current_task()
    return web.Request(message, payload, protocol, mock.Mock(), task, loop, client_max_size=1 << 20)


class _ServerLink:
    """What a channel writes to: frames wait here for the client's turn."""

    def __init__(self, link: WireLink) -> None:
        self._link = link

    async def send_frame(self, payload: bytes, _kind: object) -> None:
        await asyncio.sleep(self._link.wire.delay_s())
        self._link.deliver(payload)

    async def close(self, *, code: int = 1000, message: bytes = b"") -> bool:
        self._link.broken(f"closed by the venue: {code} {message!r}")
        return True


class WireLink:
    """A client websocket, as ``SocketLink``, joined to a channel of the sandbox."""

    def __init__(
        self,
        wire: Wire,
        on_opened: Callable[[], None],
        on_text: Callable[[memoryview], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self.wire = wire
        self._on_opened, self._on_text, self._on_closed = on_opened, on_text, on_closed
        self.process = PROCESS.get()
        self._context = contextvars.copy_context()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._channel: Channel[Any] | None = None
        self._client: Any = None
        self._writer: asyncio.Task[Any] | None = None

    async def run(self, url: str, *, connect_timeout_s: float) -> None:
        """Connect and stay until the end."""
        reason = ""
        try:
            await asyncio.sleep(self.wire.delay_s())
            server = self.wire.server
            if server is None:
                reason = "ConnectionRefusedError"
                return
            self._join(server, server.channel(urlsplit(url).path))
            self._on_opened()
            reason = await self._ended
        finally:
            self._leave()
            if self.process not in self.wire.dead:
                self._on_closed(reason or "cancelled")

    def _join(self, server: Serving, channel: Channel[Any]) -> None:
        channel._numbers += 1
        transport: Any = _LinkTransport(self)
        link: Any = _ServerLink(self)
        self._client = channel.admit(
            number=channel._numbers, queue=asyncio.Queue(QUEUE_MAX), link=link, transport=transport
        )
        self._channel = channel
        channel._clients[self._client] = None
        self._writer = self.wire.spawn(server.name, channel._write(self._client))
        self.wire.links.add(self)

    def _leave(self) -> None:
        self.wire.links.discard(self)
        channel, self._channel = self._channel, None
        if channel is not None:
            channel._clients.pop(self._client, None)
            channel.forget(self._client)
        if self._writer is not None:
            self._writer.cancel()

    def send(self, text: bytes) -> None:
        """One text frame, at once: what it brings takes its time."""
        channel = self._channel
        if channel is None or self.process in self.wire.dead:
            raise TransportFailed("the websocket is not connected", sent=False)
        if text.decode() == PING:
            channel.send(self._client, PONG)
        else:
            channel.received(self._client, text.decode())

    def deliver(self, payload: bytes) -> None:
        """A frame of the sandbox, if there is still somebody; one who stands still reads it later."""
        if self.process not in self.wire.dead and not self._ended.done():
            self.wire.loop.run_in(self._context, self._read, payload)

    def _read(self, payload: bytes) -> None:
        if self.process not in self.wire.dead and not self._ended.done():
            self._on_text(memoryview(payload))

    def broken(self, reason: str) -> None:
        """The connection is gone."""
        if not self._ended.done():
            self._ended.set_result(reason)

    close = broken


class _LinkTransport:
    """What a channel cuts."""

    def __init__(self, link: WireLink) -> None:
        self._link = link

    def abort(self) -> None:
        self._link.broken("cut by the venue")
