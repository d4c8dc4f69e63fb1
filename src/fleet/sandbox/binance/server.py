"""The local Binance as one server on 127.0.0.1: REST, websocket, the market, the operator's door.

``POST /sandbox/faults`` turns a fault on (``{"name": "lost-answer", "where": "order"}``),
``DELETE`` all off; ``POST /sandbox/deposit`` gives an account money. Run alone:
``python -m fleet.sandbox.binance``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from fleet.clock import NS_PER_MS, Clock
from fleet.domain.units import UnitsError, parse_units
from fleet.sandbox.binance.exchange import Exchange
from fleet.sandbox.binance.faults import Faults
from fleet.sandbox.binance.flow import Flow
from fleet.sandbox.binance.ledger import Ledger, Trader
from fleet.sandbox.binance.rest import RestRoutes
from fleet.sandbox.binance.streams import Streams
from fleet.sandbox.binance.symbols import DEFAULT_SYMBOLS, SymbolSpec

HOST: Final = "127.0.0.1"
KEY: Final = "K" * 64
SECRET: Final = "S" * 64
"""The play key pair of the first account."""
UID: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BinanceSettings:
    """``still`` leaves the market to whoever writes its books; ``path`` keeps the ledger."""

    port: int = 0
    seed: int = 7
    symbols: tuple[SymbolSpec, ...] = DEFAULT_SYMBOLS
    path: Path | None = None
    still: bool = False
    step_s: float = 0.25
    cash: str = "10000"
    rate: str = "0.001"
    minutes: int = 1_500
    seconds: int = 600


class BinanceServer:
    """One server; ``port`` is known once it is started."""

    def __init__(self, settings: BinanceSettings, clock: Clock) -> None:
        """Open the ledger and the first account; nothing listens yet."""
        self.settings = settings
        self.ledger = Ledger(str(settings.path) if settings.path is not None else ":memory:")
        self.exchange = Exchange(settings.symbols, self.ledger, lambda: clock.now_ns() // NS_PER_MS)
        self.faults = Faults(settings.seed)
        self.rest = RestRoutes(self.exchange, self.faults)
        self.streams = Streams(self.exchange, self.faults)
        self.flow = Flow(self.exchange, settings.seed, still=settings.still)
        self.flow.begin(minutes=settings.minutes, seconds=settings.seconds)
        if self.ledger.by_key(KEY) is None:
            rate = parse_units(settings.rate)
            self.ledger.open_account(Trader(UID, KEY, SECRET, rate, rate))
            self.deposit("USDT", settings.cash)
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._task: asyncio.Task[None] | None = None

    def deposit(self, asset: str, amount: str, uid: int = UID) -> None:
        """Give an account something. Raises ``UnitsError``."""
        self.ledger.move(uid, asset, free=parse_units(amount))
        self.ledger.commit()

    async def start(self) -> int:
        """Listen; the port."""
        app = web.Application()
        self.rest.add_to(app)
        self.streams.add_to(app)
        app.router.add_post("/sandbox/faults", self._put_fault)
        app.router.add_delete("/sandbox/faults", self._clear_faults)
        app.router.add_post("/sandbox/deposit", self._deposit)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.settings.port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        self._task = asyncio.create_task(self._run())
        return self.port

    async def stop(self) -> None:
        """Close everything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        self.ledger.close()

    async def _run(self) -> None:
        """Move the market every step and the streams more often, so that bars end on time."""
        parts = 5
        while True:
            self.flow.step()
            for _ in range(parts):
                await self.streams.tick()
                await asyncio.sleep(self.settings.step_s / parts)

    async def _put_fault(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(self.rest.put_fault(await request.json()))
        except (ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        del request
        self.faults.clear()
        return web.json_response({"on": []})

    async def _deposit(self, request: web.Request) -> web.Response:
        asked: dict[str, Any] = await request.json()
        try:
            self.deposit(str(asked["asset"]), str(asked["amount"]), int(asked.get("uid", UID)))
        except (KeyError, UnitsError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"asset": asked["asset"]})
