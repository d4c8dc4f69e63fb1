"""Prices of what markets are about: the dollar prices of coins, asked for every so often.

The wire is Binance's public ``GET /api/v3/ticker/price?symbols=[...]`` (spot API documentation,
read 2026-11), which the sandbox speaks too. A price older than ``FRESH_NS`` is not told: unknown is
not unchanged. No key is needed; nothing here trades.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.domain.units import UnitsError, parse_units
from fleet.runtime.components import Health
from fleet.venues.port import VenueError
from fleet.venues.transport import JsonClient

SYMBOLS: Final = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB")
QUOTE: Final = "USDT"
FRESH_NS: Final = 120 * NS_PER_SECOND


class _Ticker(msgspec.Struct):
    symbol: str
    price: str


class ReferencePrices:
    """A component; the newest prices by symbol (``BTC``), dollars at 1e-8."""

    name = "references"

    def __init__(
        self, connect: Callable[[], JsonClient], clock: Clock, *, every_s: float = 15.0
    ) -> None:
        """``connect`` opens the price server; nothing is opened before ``start``."""
        self._connect = connect
        self._clock = clock
        self._every_s = every_s
        self._prices: dict[str, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        self._log = logs.get("references")

    def fresh(self) -> Sequence[tuple[str, int]]:
        """(symbol, dollars at 1e-8) of the prices that are not old."""
        now_ns = self._clock.now_ns()
        return tuple(
            (symbol, price)
            for symbol, (price, told_ns) in self._prices.items()
            if now_ns - told_ns <= FRESH_NS
        )

    async def start(self) -> None:
        """Begin to ask; returns at once."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        client = self._connect()
        try:
            while True:
                await self._ask(client)
                await asyncio.sleep(self._every_s)
        finally:
            await client.close()

    async def _ask(self, client: JsonClient) -> None:
        wanted = "[" + ",".join(f'"{symbol}{QUOTE}"' for symbol in SYMBOLS) + "]"
        try:
            answer = await client.get("/api/v3/ticker/price", list[_Ticker], {"symbols": wanted})
            prices = {t.symbol.removesuffix(QUOTE): parse_units(t.price) for t in answer}
        except (VenueError, UnitsError) as error:
            if str(error) != self._problem:
                self._problem = str(error)
                self._log.warning("REFERENCE PRICES not known", reason=self._problem)
            return
        self._problem = ""
        now_ns = self._clock.now_ns()
        for symbol, price in prices.items():
            if price > 0:
                self._prices[symbol] = (price, now_ns)

    def health(self) -> Health:
        """Unhealthy when its task has died; what the server does not say is in the detail."""
        if self._task is None or not self._task.done():
            return Health(ok=True, detail=self._problem)
        error = None if self._task.cancelled() else self._task.exception()
        return Health(ok=False, detail=f"{type(error).__name__}: {error}")

    async def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
