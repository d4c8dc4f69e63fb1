"""The sandbox as a process of a chaos run: started on its files, killed without a word."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from aiohttp import web

from fleet.sandbox.channel import Channel
from fleet.sandbox.server import SandboxServer, SandboxSettings
from fleet.sandbox.simulator import SimulatorSettings
from fleet.sandbox.trading.floor import FloorSettings
from tests.chaos_loop import PROCESS, LoopClock, VirtualLoop


class SandboxProcess:
    """One life of the exchange."""

    def __init__(
        self, number: int, folder: Path, seed: int, loop: VirtualLoop, clock: LoopClock
    ) -> None:
        self.name = f"sandbox-{number}"
        self._loop = loop
        token = PROCESS.set(self.name)
        try:
            self.server = SandboxServer(
                SandboxSettings(
                    port=0,
                    state=folder / "sandbox.db",
                    simulator=SimulatorSettings(
                        seed=seed, mispricing_every_s=1, timed_markets=False
                    ),
                    floor=FloorSettings(max_age_scale=0),
                    fault_seed=seed + number,
                ),
                clock,
            )
        finally:
            PROCESS.reset(token)
        self.app = web.Application()

    async def start(self) -> None:
        """Take requests."""
        token = PROCESS.set(self.name)
        try:
            await self.server.start()
        finally:
            PROCESS.reset(token)
        runner: Any = self.server._runner
        self.app = runner.app
        # The listening socket is not needed: requests come over the wire of the run.
        for site in list(runner.sites):
            site._server.close()

    def channel(self, path: str) -> Channel[Any]:
        """Who serves a websocket path."""
        return self.server.channel if path == "/ws/market" else self.server.floor.channel

    def kill(self) -> None:
        """kill -9: what is committed stays, everything else is gone."""
        for task in self._loop.tasks_of(self.name):
            task.cancel()
        for holder in (self.server.exchange, self.server.floor.accounts, self.server._chain_state):
            for database in _databases(holder):
                database.close()


def _databases(holder: object) -> list[sqlite3.Connection]:
    """The SQLite connections an object keeps, itself or in a store."""
    kept = (*vars(holder).values(), *_inner(holder))
    return [value for value in kept if isinstance(value, sqlite3.Connection)]


def _inner(holder: object) -> list[object]:
    store = getattr(holder, "_store", None)
    return [] if store is None else list(vars(store).values())
