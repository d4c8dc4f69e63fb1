"""The local Alpaca's websockets: ``/stream`` (trade updates) and ``/v2/iex`` (bars and quotes).

The data stream speaks msgpack to who asks for it, as alpaca-py does, and JSON to others.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, Final

import msgspec
from aiohttp import WSMsgType, web

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE
from fleet.sandbox.alpaca.exchange import Row, iso
from fleet.sandbox.alpaca.faults import Faults
from fleet.sandbox.alpaca.prices import MINUTE_S
from fleet.sandbox.alpaca.rest import RestRoutes, bar_row, number

JSON: Final = "application/json"
Rows = list[dict[str, Any]]


class Streams:
    """Everybody who listens."""

    def __init__(self, rest: RestRoutes, faults: Faults) -> None:
        """Nobody yet."""
        self._rest, self._faults = rest, faults
        self._listeners: set[web.WebSocketResponse] = set()
        self._subscribers: dict[web.WebSocketResponse, tuple[str, dict[str, list[str]]]] = {}
        self._queue: list[Row] = []
        self._minute = rest.clock.now_ns() // NS_PER_SECOND // MINUTE_S
        rest.exchange.on_update = self._update

    def add_to(self, app: web.Application) -> None:
        """Register the paths."""
        app.router.add_get("/stream", self._trade_updates)
        app.router.add_get("/v2/iex", self._data)

    async def close(self) -> None:
        """End every connection."""
        for socket in [*self._listeners, *self._subscribers]:
            await socket.close()

    def _update(self, event: str, order: Row, more: Row) -> None:
        data = {"timestamp": iso(self._rest.clock.now_ns()), **more, "event": event,
                "order": dict(order)}  # fmt: skip
        self._queue.append({"stream": "trade_updates", "data": data})

    # --- trade updates ------------------------------------------------------------------------

    async def _trade_updates(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        allowed = False
        async for message in socket:
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                break
            asked = json.loads(message.data)
            data = asked.get("data", {})
            if asked.get("action") == "authenticate":
                allowed = self._rest.known(data.get("key_id", ""), data.get("secret_key", ""))
                status = "authorized" if allowed else "unauthorized"
                await socket.send_json({
                    "stream": "authorization", "data": {"status": status, "action": "authenticate"},
                })  # fmt: skip
            elif asked.get("action") == "listen" and allowed:
                await socket.send_json({
                    "stream": "listening", "data": {"streams": data.get("streams", [])},
                })  # fmt: skip
                self._listeners.add(socket)
        self._listeners.discard(socket)
        return socket

    async def tick(self) -> None:
        """Send what happened since the last call."""
        queue, self._queue = self._queue, []
        for message in queue:
            for socket in list(self._listeners):
                fault = self._faults.strike_message()
                if fault == "stream-cut":
                    self._listeners.discard(socket)
                    await socket.close()
                elif fault != "stream-drop" and not socket.closed:
                    for _ in range(2 if fault == "stream-duplicate" else 1):
                        # Paper accounts get binary frames, live ones text (docs, 2026-11).
                        await socket.send_bytes(json.dumps(message).encode())
        await self._send_data()

    # --- market data --------------------------------------------------------------------------

    async def _data(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        encoding = request.headers.get("Content-Type") or JSON
        wanted: dict[str, list[str]] = {"trades": [], "quotes": [], "bars": []}
        await _send(socket, encoding, [{"T": "success", "msg": "connected"}])
        async for message in socket:
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                break
            binary = message.type is WSMsgType.BINARY
            asked = msgspec.msgpack.decode(message.data) if binary else json.loads(message.data)
            if asked.get("action") == "auth":
                if not self._rest.known(asked.get("key", ""), asked.get("secret", "")):
                    await _send(
                        socket, encoding, [{"T": "error", "code": 402, "msg": "auth failed"}]
                    )
                    break
                self._subscribers[socket] = (encoding, wanted)
                await _send(socket, encoding, [{"T": "success", "msg": "authenticated"}])
            elif asked.get("action") == "subscribe" and socket in self._subscribers:
                for channel, before in wanted.items():
                    wanted[channel] = sorted({*before, *asked.get(channel, [])})
                await _send(socket, encoding, [{"T": "subscription", **wanted}])
        self._subscribers.pop(socket, None)
        return socket

    async def _send_data(self) -> None:
        clock, prices = self._rest.clock, self._rest.exchange.prices
        now_ns = clock.now_ns()
        minute = now_ns // NS_PER_SECOND // MINUTE_S
        ended, self._minute = minute > self._minute, minute
        for socket, (encoding, wanted) in list(self._subscribers.items()):
            rows: Rows = []
            for symbol in wanted["quotes"]:
                quote = prices.quote(symbol, now_ns)
                if quote is not None:
                    rows.append({
                        "T": "q", "S": symbol, "t": iso(now_ns), "bx": "V", "ax": "V",
                        "bp": number(quote.bid), "bs": quote.bid_qty // SCALE,
                        "ap": number(quote.ask), "as": quote.ask_qty // SCALE,
                        "c": ["R"], "z": "C",
                    })  # fmt: skip
            for symbol in wanted["bars"] if ended else []:
                bar = self._rest.bar(symbol, (minute - 1) * MINUTE_S, MINUTE_S)
                if bar is not None:
                    rows.append({"T": "b", "S": symbol, **bar_row(bar)})
            if rows and not socket.closed:
                await _send(socket, encoding, rows)


async def _send(socket: web.WebSocketResponse, encoding: str, rows: Rows) -> None:
    if encoding == JSON:
        await socket.send_json(rows)
        return
    # msgpack has times of its own.
    timed = [
        {**row, "t": dt.datetime.fromisoformat(row["t"])} if "t" in row else row for row in rows
    ]
    await socket.send_bytes(msgspec.msgpack.encode(timed))
