"""The websocket half of the local Binance: combined streams of candles, best quotes and trades."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from aiohttp import web

from fleet.sandbox.binance.bars import INTERVALS, MINUTE_MS, SECOND_MS, Bar
from fleet.sandbox.binance.exchange import Exchange, SymbolMarket
from fleet.sandbox.binance.faults import Faults
from fleet.sandbox.binance.symbols import shown

HEARTBEAT_S: Final = 20.0


class _Client:
    """One connection and what it listens to."""

    def __init__(
        self, socket: web.WebSocketResponse, streams: set[str],
        transport: asyncio.BaseTransport | None,
    ) -> None:  # fmt: skip
        self.socket, self.streams, self.transport = socket, streams, transport
        self.silent = False


class Streams:
    """Every connection. ``tick`` is called often; messages of trades go out with the next."""

    def __init__(self, exchange: Exchange, faults: Faults) -> None:
        """Nobody listens yet."""
        self._exchange, self._faults = exchange, faults
        self._clients: list[_Client] = []
        self._due: list[tuple[str, dict[str, Any]]] = []
        self._tops: dict[str, int] = {}
        self.opened = 0
        exchange.on_trade = self._traded

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_get("/stream", self._serve)
        app.router.add_get("/ws", self._serve)

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S)
        await socket.prepare(request)
        asked = request.query.get("streams", "")
        streams = set(asked.split("/")) if asked else set()
        client = _Client(socket, streams, request.transport)
        self._clients.append(client)
        self.opened += 1
        self._tops.clear()
        try:
            async for message in socket:
                said = json.loads(message.data)
                if said.get("method") == "SUBSCRIBE":
                    client.streams.update(said.get("params", []))
                elif said.get("method") == "UNSUBSCRIBE":
                    client.streams.difference_update(said.get("params", []))
                await socket.send_str(json.dumps({"result": None, "id": said.get("id")}))
        finally:
            self._clients.remove(client)
        return socket

    def _traded(self, market: SymbolMarket, price: int, qty: int, side: str) -> None:
        symbol, now_ms = market.spec.symbol, self._exchange.now_ms()
        self._due.append((f"{symbol.lower()}@trade", {
            "e": "trade", "E": now_ms, "s": symbol, "t": market.update_id, "p": shown(price),
            "q": shown(qty), "T": now_ms, "m": side == "SELL", "M": True,
        }))  # fmt: skip

    async def tick(self) -> None:
        """Close candles that are over and send everything that is new."""
        now_ms = self._exchange.now_ms()
        for market in self._exchange.markets.values():
            self._candles(market, now_ms)
            if self._tops.get(market.spec.symbol) != market.update_id:
                self._tops[market.spec.symbol] = market.update_id
                self._top(market)
        due, self._due = self._due, []
        for stream, payload in due:
            for client in list(self._clients):
                if stream in client.streams and not client.silent:
                    await self._send(client, stream, payload)

    def _candles(self, market: SymbolMarket, now_ms: int) -> None:
        name = market.spec.symbol.lower()
        over = market.candles.seconds.roll(now_ms)
        minutes = market.candles.minutes.roll(now_ms)
        for interval, step_ms in INTERVALS.items():
            stream = f"{name}@kline_{interval}"
            if not any(stream in client.streams for client in self._clients):
                continue
            shorter = over if step_ms == SECOND_MS else minutes
            length = SECOND_MS if step_ms == SECOND_MS else MINUTE_MS
            for bar in shorter:
                if (bar.opened_ms + length) % step_ms == 0:
                    whole = market.candles.closing(interval, bar.opened_ms + length - step_ms)
                    if whole is not None:
                        self._candle(market, interval, whole, closed=True)
            live = market.candles.closing(interval, now_ms - now_ms % step_ms)
            if live is not None:
                self._candle(market, interval, live, closed=False)

    def _candle(self, market: SymbolMarket, interval: str, bar: Bar, *, closed: bool) -> None:
        symbol = market.spec.symbol
        self._due.append((f"{symbol.lower()}@kline_{interval}", {
            "e": "kline", "E": self._exchange.now_ms(), "s": symbol, "k": {
                "t": bar.opened_ms, "T": bar.opened_ms + INTERVALS[interval] - 1, "s": symbol,
                "i": interval, "f": 1, "L": 1, "o": shown(bar.open), "c": shown(bar.close),
                "h": shown(bar.high), "l": shown(bar.low), "v": shown(bar.volume),
                "n": bar.trades, "x": closed, "q": shown(bar.quote), "V": shown(bar.volume // 2),
                "Q": shown(bar.quote // 2), "B": "0",
            },
        }))  # fmt: skip

    def _top(self, market: SymbolMarket) -> None:
        bids, asks = market.side("BUY"), market.side("SELL")
        if bids and asks:
            self._due.append((f"{market.spec.symbol.lower()}@bookTicker", {
                "u": market.update_id, "s": market.spec.symbol,
                "b": shown(bids[0].price), "B": shown(bids[0].qty),
                "a": shown(asks[0].price), "A": shown(asks[0].qty),
            }))  # fmt: skip

    async def _send(self, client: _Client, stream: str, payload: dict[str, Any]) -> None:
        fault = self._faults.strike_message()
        text = json.dumps({"stream": stream, "data": payload})
        if fault == "ws-drop":
            return
        if fault == "ws-silent":
            client.silent = True
            return
        if fault == "ws-cut" and isinstance(client.transport, asyncio.Transport):
            client.transport.abort()
            client.silent = True
            return
        if fault == "ws-malformed":
            text = text[: len(text) // 2]
        try:
            await client.socket.send_str(text)
            if fault == "ws-duplicate":
                await client.socket.send_str(text)
        except (ConnectionError, RuntimeError):
            client.silent = True
