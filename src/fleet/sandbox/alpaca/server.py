"""The local Alpaca as one server on 127.0.0.1: REST, websockets, the market, the operator's door.

``POST /sandbox/faults`` turns a fault on (``{"name": "lost-answer", "where": "orders"}``),
``DELETE`` all off; ``POST /sandbox/clock`` sets the time (``{"now": "2026-11-23T14:30:00Z"}``).
"""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from fleet.clock import NS_PER_SECOND, Clock
from fleet.domain.units import parse_units
from fleet.sandbox.alpaca.days import Calendar, MarketClock
from fleet.sandbox.alpaca.exchange import Exchange, iso
from fleet.sandbox.alpaca.faults import Fault, Faults
from fleet.sandbox.alpaca.prices import Prices, SeededPrices
from fleet.sandbox.alpaca.rest import RestRoutes
from fleet.sandbox.alpaca.streams import Streams

HOST: Final = "127.0.0.1"
KEY: Final = "SANDBOXKEY"
SECRET: Final = "sandbox-secret-of-no-value"  # noqa: S105 - a play key
"""The play key pair of the one account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpacaSettings:
    """``prices`` replaces the seeded market; ``path`` keeps the books."""

    port: int = 0
    seed: int = 7
    symbols: tuple[str, ...] = ("AAPL", "MSFT", "SPY")
    path: Path | None = None
    cash: str = "100000"
    step_s: float = 0.05
    prices: Prices | None = None
    calendar: Calendar = field(default_factory=Calendar)


class AlpacaServer:
    """One server; ``port`` is known once it is started."""

    def __init__(self, settings: AlpacaSettings, clock: Clock) -> None:
        """Open the books; nothing listens yet."""
        self.settings = settings
        self.clock = MarketClock(clock, settings.calendar)
        self.exchange = Exchange(
            self.clock, settings.prices or SeededPrices(settings.seed), settings.symbols,
            path=str(settings.path) if settings.path is not None else ":memory:",
            cash=parse_units(settings.cash),
        )  # fmt: skip
        self.faults = Faults(settings.seed)
        self.rest = RestRoutes(self.exchange, self.clock, self.faults, (KEY, SECRET))
        self.streams = Streams(self.rest, self.faults)
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; the port."""
        app = web.Application()
        self.rest.add_to(app)
        self.streams.add_to(app)
        app.router.add_post("/sandbox/faults", self._put_fault)
        app.router.add_delete("/sandbox/faults", self._clear_faults)
        app.router.add_post("/sandbox/clock", self._set_clock)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.port or self.settings.port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        self._task = asyncio.create_task(self._run())
        return self.port

    async def stop(self) -> None:
        """Close everything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.streams.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self.exchange.close()

    async def _run(self) -> None:
        while True:
            self.exchange.step()
            await self.streams.tick()
            await asyncio.sleep(self.settings.step_s)

    async def _put_fault(self, request: web.Request) -> web.Response:
        try:
            self.faults.add(Fault(**await request.json()))
        except (ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"on": [fault.name for fault in self.faults.on]})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        del request
        self.faults.clear()
        return web.json_response({"on": []})

    async def _set_clock(self, request: web.Request) -> web.Response:
        try:
            moment = dt.datetime.fromisoformat((await request.json())["now"])
        except (KeyError, ValueError, TypeError) as error:
            return web.json_response({"error": f"write {{'now': time}}: {error}"}, status=400)
        self.clock.set_ns(int(moment.timestamp()) * NS_PER_SECOND)
        return web.json_response({"now": iso(self.clock.now_ns())})
