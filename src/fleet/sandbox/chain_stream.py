"""``eth_subscribe`` of the sandbox's chain: new heads and logs over a websocket.

The same address as the RPC, by GET. Every ordinary method works here, too. Each connection looks
for new blocks by itself and sends what its subscriptions ask for, block by block and in order; a
client that does not read holds up nobody but itself, and is cut off after ``SEND_S``. There is no
replay: what was mined before a subscription is for ``eth_getLogs`` to find.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import WSMsgType, web

from fleet.sandbox.chain_pool import Chain
from fleet.sandbox.chain_rpc import ChainRpc
from fleet.sandbox.chain_views import block_json, log_matches, logs_json

LOOK_S: Final = 0.05
SEND_S: Final = 5.0
CLIENTS_MAX: Final = 64
SUBSCRIPTIONS_MAX: Final = 100


class ChainStream:
    """The websocket half of the endpoint."""

    def __init__(self, rpc: ChainRpc, chain: Chain, now_ns: Callable[[], int]) -> None:
        """Answer as ``rpc`` does, and tell of ``chain``'s blocks."""
        self._rpc, self._chain, self._now_ns = rpc, chain, now_ns
        self.clients = 0

    def add_to(self, router: web.UrlDispatcher, path: str = "/rpc") -> None:
        """Answer GET with an upgrade on ``path``."""
        router.add_get(path, self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One client from its handshake to its end."""
        if self.clients >= CLIENTS_MAX:
            return web.Response(status=503, text="too many clients")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        wanted: dict[str, tuple[str, dict[str, Any]]] = {}
        self.clients += 1
        teller = asyncio.create_task(self._tell(socket, wanted))
        try:
            async for message in socket:
                if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:  # web3.py sends binary
                    body = (
                        message.data if isinstance(message.data, bytes) else message.data.encode()
                    )
                    answer = self._answer(body, wanted)
                    await socket.send_str(msgspec.json.encode(answer).decode())
        finally:
            self.clients -= 1
            teller.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError, TimeoutError):
                await teller
        return socket

    def _answer(self, body: bytes, wanted: dict[str, tuple[str, dict[str, Any]]]) -> Any:
        """The answer to a frame; subscriptions are kept in ``wanted``."""
        try:
            asked = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return self._rpc.answer(body)
        method = asked.get("method") if isinstance(asked, dict) else None
        if method not in {"eth_subscribe", "eth_unsubscribe"}:
            return self._rpc.answer(body)
        params = asked.get("params")
        first = params[0] if isinstance(params, list) and params else None
        told: dict[str, Any] = {"jsonrpc": "2.0", "id": asked.get("id")}
        if method == "eth_unsubscribe":
            return {**told, "result": wanted.pop(str(first), None) is not None}
        if first not in {"newHeads", "logs"} or len(wanted) >= SUBSCRIPTIONS_MAX:
            words = f"no {first!r} subscription: newHeads and logs, at most {SUBSCRIPTIONS_MAX}"
            return {**told, "error": {"code": -32602, "message": words}}
        chosen = params[1] if len(params) > 1 and isinstance(params[1], dict) else {}
        name = f"0x{id(wanted) & 0xFFFFFFFF:x}{len(wanted) + 1:04x}"
        wanted[name] = (str(first), chosen)
        return {**told, "result": name}

    async def _tell(
        self, socket: web.WebSocketResponse, wanted: dict[str, tuple[str, dict[str, Any]]]
    ) -> None:
        """Send each new block's heads and logs until the client is gone."""
        seen = self._chain.height(self._now_ns())
        while not socket.closed:
            await asyncio.sleep(LOOK_S)
            now_ns = self._now_ns()
            self._chain.step(now_ns)
            for number in range(seen + 1, self._chain.height(now_ns) + 1):
                for name, (kind, chosen) in list(wanted.items()):
                    for found in self._found(kind, chosen, number):
                        frame = {
                            "jsonrpc": "2.0",
                            "method": "eth_subscription",
                            "params": {"subscription": name, "result": found},
                        }
                        async with asyncio.timeout(SEND_S):
                            await socket.send_str(msgspec.json.encode(frame).decode())
                seen = number

    def _found(self, kind: str, chosen: dict[str, Any], number: int) -> list[dict[str, Any]]:
        if kind == "newHeads":
            return [block_json(self._chain, number, full=False)]
        mined = self._chain.state.mined_between(number, number)
        logs = [log for tx in mined for log in logs_json(self._chain, tx)]
        return [log for log in logs if log_matches(log, chosen)]
