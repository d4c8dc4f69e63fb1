"""Stands between a live venue and any host, passes everything on, and writes down what was said.

The request signatures of the CLOB cover the path and the body, not the host, so whoever is asked
cannot tell. Headers are passed on and never written; the answer to the login is, without its
secrets. ``lines`` refuses to be read while a known secret is in it.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Final

import aiohttp
from aiohttp import WSMsgType, web

from fleet.venues.polymarket.clob_http import RETRY_STATUSES
from fleet.venues.polymarket.hosts import Hosts
from tests.contract.transcript import (
    MS,
    SECRET_ANSWERS,
    Line,
    Names,
    is_act,
    key_of,
    may_repeat,
    thinned,
    without_id,
)

HOP: Final = frozenset({"host", "content-length", "connection", "transfer-encoding",
                        "content-encoding", "accept-encoding"})  # fmt: skip
TOLD: Final = ("retry-after", "poly-ratelimit")


class Recorder:
    """A server on this machine that is the host it was told to be."""

    def __init__(self, target: Hosts, names: Names, secrets: tuple[str, ...] = ()) -> None:
        """``secrets`` must never be written, besides what the login answers."""
        self.target, self.names = target, names
        self._secrets = list(secrets)
        self._began_ns = time.monotonic_ns()
        self._said: list[Line] = []
        self._asked: set[str] = set()
        self._asks = 0

    async def start(self) -> Hosts:
        """Listen; the addresses to use instead of the target's."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_get("/ws/user", self._channel)
        app.router.add_route("*", "/{tail:.*}", self._pass)
        self._session = aiohttp.ClientSession(auto_decompress=True)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        origin = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return Hosts(
            clob_url=f"http://{origin}/clob", gamma_url=self.target.gamma_url,
            data_url=f"http://{origin}/data-api", market_ws_url=self.target.market_ws_url,
            user_ws_url=f"ws://{origin}/ws/user", rpc_url=f"http://{origin}/rpc", relayer_url="",
            geoblock_url="", chain_id=self.target.chain_id, name=self.target.name,
        )  # fmt: skip

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()
        await self._session.close()

    def lines(self) -> list[Line]:
        """What was said. Raises ``ValueError`` if a secret is in it."""
        whole = "\n".join(line.key + line.text for line in self._said)
        if any(secret in whole for secret in self._secrets):
            raise ValueError("a secret got into the transcript; it is not written")
        return thinned(self._said)

    def _say(self, line: Line) -> None:
        line.ms = (time.monotonic_ns() - self._began_ns) // MS
        self._said.append(line)

    def _url(self, path: str) -> str:
        for prefix, url in (
            ("/clob", self.target.clob_url), ("/data-api", self.target.data_url),
            ("/rpc", self.target.rpc_url),
        ):  # fmt: skip
            if path.startswith(prefix):
                return url + path.removeprefix(prefix)
        raise ValueError(f"{path} belongs to no host of the transcript")

    async def _pass(self, request: web.Request) -> web.Response:
        body = await request.read()
        key = key_of(request.method, request.path, request.query, body, self.names)
        acts = is_act(request.method, request.path, body)
        acts = acts and not (may_repeat(key) and key in self._asked)
        self._asked.add(key)
        number = 0
        if acts:
            self._asks += 1
            number = self._asks
            self._say(Line(ms=0, what="ask", key=key, number=number))
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP}
        async with self._session.request(
            request.method, self._url(request.path), params=request.query, headers=headers,
            data=body or None,
        ) as answer:  # fmt: skip
            text = await answer.read()
            told = {k: v for k, v in answer.headers.items() if k.lower().startswith(TOLD)}
        self._note(request.path, text)
        # A read that was put off says nothing of the account; the bot asked again.
        if acts or answer.status not in RETRY_STATUSES:
            said = without_id(text) if request.path == "/rpc" else text.decode()
            self._say(Line(
                ms=0, what="answer" if acts else "read", key="" if acts else key, number=number,
                status=answer.status, text=self.names.hide(said),
                headers=told if answer.status >= 400 else {},
            ))  # fmt: skip
        return web.Response(
            status=answer.status, body=text, headers=told, content_type="application/json"
        )

    def _note(self, path: str, text: bytes) -> None:
        if path.endswith(SECRET_ANSWERS):
            said = json.loads(text)
            if "secret" in said:
                self.names.key(said)
                self._secrets += [said["secret"], said["passphrase"]]

    async def _channel(self, request: web.Request) -> web.StreamResponse:
        here = web.WebSocketResponse()
        await here.prepare(request)
        agent = {"User-Agent": request.headers.get("User-Agent", "")}
        async with self._session.ws_connect(self.target.user_ws_url, headers=agent) as there:
            answers = asyncio.create_task(self._listen(there, here))
            joined = False
            async for message in here:
                if message.type is WSMsgType.TEXT:
                    if not joined:
                        joined = True
                        self._say(Line(ms=0, what="open"))
                    await there.send_str(message.data)
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
        return here

    async def _listen(
        self, there: aiohttp.ClientWebSocketResponse, here: web.WebSocketResponse
    ) -> None:
        async for message in there:
            if message.type is WSMsgType.TEXT:
                if message.data != "PONG":
                    self._say(Line(ms=0, what="frame", text=self.names.hide(message.data)))
                await here.send_str(message.data)
