"""A server that knows one recorded conversation and nothing else.

Theory of operation. The lines are walked in order. A frame goes out when as much time has passed
since the last request that did something as it had when it was recorded; before the line of such a
request the walk stands still until that very request comes (and hurries up to it, once it is
there), so nothing that depended on it is told before it. A request that only asks is answered with
what was said to it between the same two happenings; asked at a moment when nobody asked it in the
recording, it waits for the next time somebody did. How often the bot looks is thus its own affair,
while the world it sees changes as it did.

A request that is not in the recording is a failure: it is answered 500 and kept in ``failures``,
which whoever plays the transcript must find empty. An order that comes twice is such a request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Final

from aiohttp import WSMsgType, web

from fleet.venues.polymarket.hosts import Hosts, sandbox_hosts
from tests.contract.transcript import Line, Names, is_act, key_of, may_repeat

PATIENCE_S: Final = 20.0
CANCEL: Final = "DELETE /clob/order "
TELLING: Final = {
    "apiKey": "00000000-0000-4000-8000-000000000001",
    "secret": "cmVwbGF5ZWQgc2VjcmV0IG9mIG5vYm9keSBhdCBhbGw=",
    "passphrase": "replayed",
}
"""The credentials of a replay; nobody's."""


def _not_canceled(order_id: str) -> Line:
    """What the venue says of a cancel that comes after the end (reference 4.4)."""
    said = {"canceled": [], "not_canceled": {order_id: "the order is already canceled or matched"}}
    return Line(ms=0, what="read", text=json.dumps(said))


class Replay:
    """One conversation, once more."""

    def __init__(self, said: list[Line], names: Names, *, repeat: bool = False) -> None:
        """``repeat`` sends every frame twice."""
        self.failures: list[str] = []
        self._said, self._names, self._copies = said, names, 2 if repeat else 1
        self._happened = [i for i, line in enumerate(said) if line.what != "read"]
        self._at = -1
        """The last happening that is over."""
        self._read = -1
        """The furthest line that was read."""
        self._given: dict[str, int] = {}
        """The line each question was answered with last."""
        self._moved = asyncio.Condition()
        self._asked: dict[int, asyncio.Future[Line]] = {}
        self._links: list[web.WebSocketResponse] = []
        self._joined = 0
        names.key(TELLING)

    async def start(self) -> Hosts:
        """Listen; the addresses."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_get("/ws/user", self._channel)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._walk = asyncio.create_task(self._play())
        return sandbox_hosts(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        self._walk.cancel()
        await asyncio.gather(self._walk, return_exceptions=True)
        await self._runner.cleanup()

    def left(self) -> list[str]:
        """The asks of the recording that nobody made."""
        return [
            line.key for i, line in enumerate(self._said) if line.what == "ask" and i > self._at
        ]

    # --- the walk -----------------------------------------------------------------------------

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        began_s, began_ms = loop.time(), 0
        opened = 0
        for i in self._happened:
            line = self._said[i]
            if line.what == "ask":
                await self._until(partial(self._asked.__contains__, i))
                began_s, began_ms = loop.time(), line.ms
            elif line.what == "open":
                opened += 1
                await self._until(partial(self._has_joined, opened))
                began_s, began_ms = loop.time(), line.ms
            else:
                await self._due(i, began_s + (line.ms - began_ms) / 1e3)
            if line.what == "answer":
                ask = next(n for n in self._asked if self._said[n].number == line.number)
                self._asked[ask].set_result(line)
            elif line.what == "frame":
                for link in self._links[-1:] * self._copies:
                    await link.send_str(self._names.show(line.text))
            async with self._moved:
                self._at = i
                self._moved.notify_all()

    async def _due(self, i: int, at_s: float) -> None:
        """Wait until a time, or until the next request that does something is already there."""
        loop = asyncio.get_running_loop()

        def ahead() -> bool:
            return any(ask > i for ask in self._asked)

        if (wait_s := at_s - loop.time()) > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._until(ahead)
            except TimeoutError:
                return

    def _has_joined(self, times: int) -> bool:
        return self._joined >= times

    def _has_moved(self, since: int) -> bool:
        return self._at != since

    async def _until(self, done: Callable[[], bool]) -> None:
        async with self._moved:
            await self._moved.wait_for(done)

    # --- requests -----------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        key = key_of(request.method, request.path, request.query, body, self._names)
        try:
            async with asyncio.timeout(PATIENCE_S):
                line = await self._found(request, key, body)
        except TimeoutError:
            line = self._fail(f"nobody went on to answer {key}")
        text = self._names.show(line.text)
        if request.path == "/rpc":
            text = json.dumps({**json.loads(text), "id": json.loads(body)["id"]})
        return web.Response(status=line.status, text=text, headers=line.headers,
                            content_type="application/json")  # fmt: skip

    async def _found(self, request: web.Request, key: str, body: bytes) -> Line:
        asks = [i for i, line in enumerate(self._said) if line.what == "ask" and line.key == key]
        fresh = [i for i in asks if i not in self._asked]
        if not is_act(request.method, request.path, body) or (
            asks and not fresh and may_repeat(key)
        ):
            return await self._look(key, asks)
        if not fresh and key.startswith(CANCEL) and "orderID" in (asked := json.loads(body)):
            # On a busy machine a bot may cancel what had filled meanwhile, which changes nothing.
            return _not_canceled(str(asked["orderID"]))
        if not fresh:
            return self._fail(f"not in the recording: {key}")
        async with self._moved:
            self._asked[fresh[0]] = asyncio.get_running_loop().create_future()
            self._moved.notify_all()
        return await self._asked[fresh[0]]

    async def _look(self, key: str, asks: list[int]) -> Line:
        """What was said to a question, as far as the conversation has come."""
        known = [i for i, line in enumerate(self._said) if line.what == "read" and line.key == key]
        # A cancel repeated is answered as the cancel was.
        known += [self._answer_to(ask) for ask in asks]
        if not known:
            return self._fail(f"not in the recording: {key}")
        while True:
            low, high, wall = self._window()
            here = [i for i in known if low < i < high]
            later = [i for i in known if high < i < wall]
            before = [i for i in known if i <= low]
            if here:
                last = self._given.get(key, -1)
                fresh = [i for i in here if i >= self._read and i > last]
                found = min(fresh) if fresh else max(here)
                self._read, self._given[key] = max(self._read, found), found
                return self._said[found]
            if before and not later:
                return self._said[max(before)]
            await self._until(partial(self._has_moved, self._at))

    def _answer_to(self, ask: int) -> int:
        number = self._said[ask].number
        return next(
            i for i, line in enumerate(self._said) if (line.what, line.number) == ("answer", number)
        )

    def _window(self) -> tuple[int, int, int]:
        """The last happening, the next one, and the next that waits for the bot."""
        ends = [i for i in self._happened if i > self._at]
        walls = [i for i in ends if self._said[i].what in {"ask", "open"}]
        over = len(self._said)
        return self._at, min(ends, default=over), min(walls, default=over)

    def _fail(self, words: str) -> Line:
        self.failures.append(words)
        return Line(ms=0, what="read", status=500, text=json.dumps({"error": words}))

    # --- the user channel ---------------------------------------------------------------------

    async def _channel(self, request: web.Request) -> web.StreamResponse:
        link = web.WebSocketResponse()
        await link.prepare(request)
        joined = False
        async for message in link:
            if message.type is not WSMsgType.TEXT:
                continue
            if message.data == "PING":
                await link.send_str("PONG")
            elif not joined:
                joined = True
                self._links.append(link)
                async with self._moved:
                    self._joined += 1
                    self._moved.notify_all()
        return link
