"""Local servers that speak the candle parts of Binance's and Alpaca's REST, with faults.

They serve bars of a list on 127.0.0.1 as the venues do: Binance a page from ``startTime`` on with
the forming bar at its end, Alpaca a page with a token for the next. ``faults`` are answered first,
one a request for bars: a status, ``"drop"`` (the connection ends) or ``"hang"`` (half a second).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiohttp import web

MS = 1_000_000
CODES = {429: -1003, 418: -1003, 400: -1100}
"""Binance's codes for too many requests and for a parameter it cannot read; -1000 is unknown."""
Bar = Sequence[float]
"""(time in ms, open, high, low, close, volume)."""


class CandleServer(ABC):
    """What both have in common: bars, a clock, faults, and what was asked."""

    def __init__(self, bars: Sequence[Bar], *, now_ms: int, page: int) -> None:
        self.bars = list(bars)
        self.now_ms = now_ms
        self.page = page
        self.faults: list[int | str] = []
        self.asked: list[dict[str, str]] = []
        self.url = ""

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """What the venue's own server answers."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.add_routes(self.routes())
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self.url
        finally:
            await runner.cleanup()

    def _fault(self, request: web.Request) -> web.Response | None:
        self.asked.append(dict(request.query))
        if not self.faults:
            return None
        fault = self.faults.pop(0)
        if fault == "drop":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        code = CODES.get(int(fault), -1000)
        return web.json_response({"code": code, "msg": f"fault {fault}"}, status=int(fault))


class BinanceServer(CandleServer):
    """Spot: exchangeInfo, time, klines."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v3/exchangeInfo", self._info),
            web.get("/api/v3/time", self._time),
            web.get("/api/v3/klines", self._klines),
        ]

    async def _info(self, _: web.Request) -> web.Response:
        symbol = {
            "symbol": "ETHUSDT", "status": "TRADING", "baseAsset": "ETH", "quoteAsset": "USDT",
            "baseAssetPrecision": 8, "quotePrecision": 8, "orderTypes": ["LIMIT", "MARKET"],
            "isSpotTradingAllowed": True, "permissions": ["SPOT"], "permissionSets": [["SPOT"]],
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000",
                 "tickSize": "0.01"},
                {"filterType": "LOT_SIZE", "minQty": "0.0001", "maxQty": "9000",
                 "stepSize": "0.0001"},
            ],
        }  # fmt: skip
        return web.json_response({"timezone": "UTC", "rateLimits": [], "symbols": [symbol]})

    async def _time(self, _: web.Request) -> web.Response:
        return web.json_response({"serverTime": self.now_ms})

    async def _klines(self, request: web.Request) -> web.Response:
        if (fault := self._fault(request)) is not None:
            return fault
        start = int(request.query["startTime"])
        count = min(int(request.query["limit"]), self.page)
        found = [bar for bar in self.bars if start <= bar[0] <= self.now_ms][:count]
        return web.json_response(
            [
                [
                    int(ts),
                    *(repr(value) for value in values),
                    int(ts) + 59_999,
                    "0",
                    1,
                    "0",
                    "0",
                    "0",
                ]
                for ts, *values in found
            ]
        )


class AlpacaServer(CandleServer):
    """Market data: stock bars with page tokens and keys."""

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v2/stocks/bars", self._bars)]

    async def _bars(self, request: web.Request) -> web.Response:
        if request.headers.get("APCA-API-KEY-ID") != "key":
            return web.json_response({"message": "forbidden."}, status=403)
        if self.faults == ["hang"]:
            self.faults.clear()
            await asyncio.sleep(0.5)
        if (fault := self._fault(request)) is not None:
            return fault
        start, end = (self._ms(request.query[name]) for name in ("start", "end"))
        found = [bar for bar in self.bars if start <= bar[0] <= end]
        at = int(request.query.get("page_token") or 0)
        shown = found[at : at + min(self.page, int(request.query["limit"]))]
        more = str(at + len(shown)) if at + len(shown) < len(found) else None
        told = [
            {
                "t": datetime.fromtimestamp(bar[0] / 1_000, UTC).isoformat().replace("+00:00", "Z"),
                "o": bar[1], "h": bar[2], "l": bar[3], "c": bar[4], "v": bar[5], "n": 1,
                "vw": bar[4],
            }
            for bar in shown
        ]  # fmt: skip
        return web.json_response(
            {"bars": {request.query["symbols"]: told}, "next_page_token": more}
        )

    @staticmethod
    def _ms(written: str) -> int:
        return round(datetime.fromisoformat(written).timestamp() * 1_000)
