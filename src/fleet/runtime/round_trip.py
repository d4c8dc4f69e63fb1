"""How long the venue is away: its clock is asked every so often on a connection that stays open.

The 90th percentile of the newest answers is what parity takes for the time an order travels.
"""

from __future__ import annotations

import asyncio
from typing import Final

from fleet import logs
from fleet.clock import Clock
from fleet.runtime.components import Health
from fleet.runtime.latency import LatencyWindow
from fleet.venues.port import VenueError
from fleet.venues.transport import HttpSettings, JsonClient

EVERY_S: Final = 10.0
SHARE: Final = 90
HTTP: Final = HttpSettings(timeout_s=5.0, attempts=1, per_second=1, burst=2)


class RoundTrip:
    """A component that measures; ``round_trip_ns`` is nothing until one answer has come."""

    name = "round-trip"

    def __init__(self, clob_url: str, clock: Clock, *, every_s: float = EVERY_S) -> None:
        """Ask the CLOB at ``clob_url`` for its time."""
        self._clob_url = clob_url
        self._clock = clock
        self._every_s = every_s
        self._window = LatencyWindow()
        self._round_trip_ns: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        self._log = logs.get("round-trip")

    def round_trip_ns(self) -> int | None:
        """The 90th percentile of the newest round trips."""
        return self._round_trip_ns

    async def start(self) -> None:
        """Begin to measure, on a connection of its own; returns at once."""
        self._problem = ""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        client = JsonClient(self._clob_url, HTTP, clock=self._clock)
        warm = False
        try:
            while True:
                warm = await self._measure(client, keep=warm)
                await asyncio.sleep(self._every_s if warm else min(1.0, self._every_s))
        finally:
            await client.close()

    async def _measure(self, client: JsonClient, *, keep: bool) -> bool:
        """Ask once. The first answer on a connection opened it, which no order has to wait for."""
        began_ns = self._clock.now_ns()
        try:
            await client.get("/time", int)
        except VenueError as error:
            if not self._problem:
                self._log.warning("VENUE not measured", reason=str(error))
            self._problem = str(error)
            return False
        self._problem = ""
        if keep:
            self._window.add(self._clock.now_ns() - began_ns)
            self._round_trip_ns = (self._window.percentile_us(SHARE) or 0) * 1_000
        return True

    def health(self) -> Health:
        """Healthy while it keeps asking: a venue that does not answer is no fault of this part,
        and nothing a restart of it would heal. The detail tells.
        """
        if self._task is None or not self._task.done():
            return Health(ok=True, detail=self._problem)
        return Health(ok=False, detail="it has ended")

    async def stop(self) -> None:
        """Stop measuring and hang up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
