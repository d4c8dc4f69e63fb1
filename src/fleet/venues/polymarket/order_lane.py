"""Kept connections that carry nothing but orders, from signed bytes to the wire in one write.

Theory of operation. httpx needs 300 to 600 us between a request and its first byte on the wire
(pool, locks, header checks, and HPACK on HTTP/2; bench/ours/live_path.py). An order's request is
known down to the byte before it is decided, so a *lane* writes it into an open HTTP/1.1 connection
at once, in the caller's turn of the loop. Everything else, and every order for which no lane is
free, goes through httpx.

A lane has one request under way at a time. The answer is read with h11, to which the request is
only told afterwards. A lane is used again after a whole answer that allows it; a closed one is
replaced in the background, with back-off.

What is known of a lost request: before ``send`` nothing has left; after it, anything may have. So
every failure here is ``sent=True``, and nothing is ever repeated.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import Final, cast
from urllib.parse import urlsplit

import h11
import httpx

from fleet import logs
from fleet.clock import NS_PER_SECOND
from fleet.venues.polymarket.clob_http import Answer
from fleet.venues.port import TransportFailed
from fleet.venues.transport import Backoff

ANSWER_BYTES_MAX: Final = 1024 * 1024
CONNECT_S: Final = 5.0
STABLE_S: Final = 10.0
_END: Final = h11.EndOfMessage


class OrderLane(asyncio.Protocol):
    """One connection."""

    def __init__(self, target: str, host: str) -> None:
        """``target`` and ``host`` are what h11 is told of a request."""
        self._told = h11.Request(
            method="POST", target=target, headers=[("Host", host), ("Content-Length", "0")]
        )
        self._parser = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._response: h11.Response | None = None
        self._body = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self.lost = asyncio.get_running_loop().create_future()
        """Done when the connection is gone."""

    @property
    def idle(self) -> bool:
        """Whether a request can be written now."""
        return self._transport is not None and self._waiting is None

    def send(self, request: bytes, answer_s: float) -> asyncio.Future[Answer]:
        """Write the whole request now; the answer, or ``TransportFailed`` with ``sent`` true."""
        if self._transport is None or self._waiting is not None:
            raise TransportFailed("the lane is not free", sent=False)
        loop = asyncio.get_running_loop()
        self._transport.write(request)
        self._waiting = waiting = loop.create_future()
        self._timer = loop.call_later(answer_s, self.drop, f"no answer within {answer_s:g} s")
        return waiting

    def drop(self, reason: str) -> None:
        """Give the connection up; a request under way has no answer."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(TransportFailed(f"no answer ({reason})", sent=True))

    # --- called by the loop -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is up."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        if self._waiting is None:
            self.drop("bytes that nobody asked for")
            return
        try:
            if self._parser.our_state is h11.IDLE:
                # Told only now: uvloop writes at the end of its turn, and every instruction before
                # that would keep the order waiting.
                self._parser.send(self._told)
                self._parser.send(_END())
            self._parser.receive_data(data)
            while True:
                event = self._parser.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                if isinstance(event, h11.Response):
                    self._response = event
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > ANSWER_BYTES_MAX:
                        self.drop("the answer is too long")
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._answered()
                    return
        except h11.RemoteProtocolError as error:
            self.drop(f"the answer is no HTTP: {error}")

    def _answered(self) -> None:
        waiting, self._waiting = self._waiting, None
        response, self._response = self._response, None
        body, self._body = bytes(self._body), bytearray()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE:
            self._parser.start_next_cycle()
        elif self._transport is not None:
            self._transport.close()
            self._transport = None
        if waiting is not None and response is not None and not waiting.done():
            headers = httpx.Headers(list(response.headers))
            waiting.set_result(Answer(response.status_code, headers, body))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; what it owed will not come."""
        self._transport = None
        self._fail(f"the connection was lost: {exc}" if exc is not None else "closed by the venue")
        if not self.lost.done():
            self.lost.set_result(None)


class OrderLanes:
    """A few lanes to one CLOB, kept open."""

    def __init__(self, clob_url: str, *, count: int = 2, answer_s: float = 10.0) -> None:
        """Nothing is opened before ``start``."""
        parts = urlsplit(clob_url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._netloc = parts.netloc
        self._prefix = parts.path
        self._secure = parts.scheme == "https"
        self._count = count
        self._answer_s = answer_s
        self._lanes: list[OrderLane] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._heads: dict[str, bytes] = {}
        self._log = logs.get("order_lane")
        self.sent = 0
        """Requests that went out on a lane."""

    def start(self) -> None:
        """Begin to connect; orders use httpx until a lane is up. Starting twice is harmless."""
        if self._keepers:
            return
        context: ssl.SSLContext | None = None
        if self._secure:
            context = httpx.create_ssl_context()
            context.set_alpn_protocols(["http/1.1"])
        self._keepers = [asyncio.create_task(self._keep(context)) for _ in range(self._count)]

    async def close(self) -> None:
        """Close the connections."""
        for keeper in self._keepers:
            keeper.cancel()
        lanes = tuple(self._lanes)
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []
        for lane in lanes:
            lane.drop("closed here")

    @property
    def ready(self) -> int:
        """Lanes that could take an order now."""
        return sum(lane.idle for lane in self._lanes)

    def send(
        self, path: str, fixed: bytes, changing: bytes, body: bytes
    ) -> asyncio.Future[Answer] | None:
        """Write a POST now; the answer to come, or nothing if no lane is free (nothing was sent).

        ``fixed`` are header lines that are always the same, ``changing`` those of this request,
        each line with its end.
        """
        for lane in self._lanes:
            if lane.idle:
                head = self._heads.get(path)
                if head is None:
                    line = f"POST {self._prefix}{path} HTTP/1.1\r\nHost: {self._netloc}\r\n"
                    head = self._heads[path] = line.encode() + fixed
                self.sent += 1
                length = b"Content-Length: %d\r\n\r\n" % len(body)
                return lane.send(b"".join((head, changing, length, body)), self._answer_s)
        return None

    async def _keep(self, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(NS_PER_SECOND // 4, 30 * NS_PER_SECOND, random.random)
        while True:
            try:
                async with asyncio.timeout(CONNECT_S):
                    _, lane = await loop.create_connection(
                        lambda: OrderLane(self._prefix or "/", self._netloc),
                        self._host, self._port, ssl=context,
                    )  # fmt: skip
            except (OSError, TimeoutError) as error:
                self._log.warning("ORDER LANE not connected", reason=str(error))
                await asyncio.sleep(backoff.next_ns() / NS_PER_SECOND)
                continue
            self._lanes.append(lane)
            began_s = loop.time()
            try:
                await lane.lost
            finally:
                self._lanes.remove(lane)
            # A server that accepts and drops is not hammered; an idle time-out costs no wait.
            if loop.time() - began_s >= STABLE_S:
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next_ns() / NS_PER_SECOND)
