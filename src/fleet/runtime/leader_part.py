"""The chain as a part of a bot: the listener, its file, and the slow check, under the supervisor.

``start`` returns once the listener runs, not once a node answered: a node that is down is the
listener's to wait for, and ``health`` says so. Facts go where the runner takes facts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.domain.events import Event
from fleet.journal.chain_cursor import ChainCursor
from fleet.journal.database import JournalError
from fleet.runtime.components import ComponentFailed, Health
from fleet.runtime.listener_settings import ListenerEnv
from fleet.venues.polymarket.leader_activity import EVERY_NS, ActivityCheck
from fleet.venues.polymarket.leader_listener import LeaderListener, ListenerSettings
from fleet.venues.polymarket.leader_logs import LeaderContracts, LeaderLogs
from fleet.venues.polymarket.leader_tracker import LeaderTracker
from fleet.venues.polymarket.rpc_pool import RpcPool
from fleet.venues.transport import HttpSettings, JsonClient

FactSink = Callable[[Sequence[Event]], None]
DATA_HTTP: Final = HttpSettings(timeout_s=10.0, attempts=2, per_second=5, burst=5)
"""The check is in no hurry and shares the Data API with everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderPlace:
    """Where leaders are followed. ``data_url`` empty: without the slow check."""

    wallets: tuple[str, ...]
    urls: tuple[str, ...]
    chain_id: int
    cursor: Path
    bot: str
    mode: str
    feed: str
    data_url: str = ""
    contracts: LeaderContracts | None = None


class LeaderPart:
    """The component. Raises ``ComponentFailed`` at ``start`` for a file that cannot be used."""

    name: Final = "leaders"

    def __init__(self, place: LeaderPlace, env: ListenerEnv, sink: FactSink, clock: Clock) -> None:
        """Tell facts to ``sink`` (the runner's ``put_facts``)."""
        self._place, self._env, self._sink, self._clock = place, env, sink, clock
        self._cursor: ChainCursor | None = None
        self._listener: LeaderListener | None = None
        self._activity: ActivityCheck | None = None
        self._http: JsonClient | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._log = logs.get("leaders")

    async def start(self) -> None:
        """Open the file and begin to listen."""
        place = self._place
        if not place.wallets:
            self._log.warning("LEADERS none: nobody is followed")
            return
        try:
            place.cursor.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._cursor = ChainCursor(
                place.cursor, bot=place.bot, mode=place.mode, feed=place.feed
            )
            tracker = LeaderTracker(LeaderLogs(place.wallets, place.contracts), self._sink)
            self._listener = LeaderListener(
                tracker,
                RpcPool(place.urls),
                self._clock,
                cursor=self._cursor,
                settings=ListenerSettings(
                    chain_id=place.chain_id,
                    verify_blocks=self._env.verify_blocks,
                    head_age_max_ns=self._env.head_age_s * NS_PER_SECOND,
                ),
            )
        except (JournalError, OSError) as error:
            raise ComponentFailed(str(error)) from error
        self._tasks = [asyncio.create_task(self._listener.run())]
        if place.data_url:
            self._http = JsonClient(place.data_url, DATA_HTTP, clock=self._clock)
            self._activity = ActivityCheck(
                self._http, tracker.reader.wallets, told=self._listener.knows,
                missed=self._listener.read_transaction, clock=self._clock,
            )  # fmt: skip
            self._tasks.append(asyncio.create_task(self._check()))

    def health(self) -> Health:
        """Well while the listener runs; ``hearing`` says whether a node is followed."""
        listener = self._listener
        if listener is None:
            return Health(ok=True, detail="nobody is followed")
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                return Health(ok=False, detail=f"{type(error).__name__}: {error}")
        if not listener.url:
            return Health(ok=True, detail=f"no node: {listener.problem or 'connecting'}")
        return Health(ok=True, detail=f"block {listener.tracker.window.tip}")

    async def stop(self) -> None:
        """End, leaving the file as far as was read."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        http, self._http = self._http, None
        if http is not None:
            await http.close()
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            cursor.close()
        self._listener = None

    @property
    def hearing(self) -> bool:
        """Whether a node is followed and everything it showed so far was told."""
        return self._listener is not None and self._listener.synced

    def figures(self) -> dict[str, int]:
        """Counters for status and metrics; empty while it does not run."""
        if self._listener is None:
            return {}
        found = self._listener.figures()
        if self._activity is not None:
            found |= {
                "activity_missed": self._activity.missed,
                "activity_failures": self._activity.failures,
            }
        return found

    async def _check(self) -> None:
        """The slow check, for ever."""
        while self._activity is not None:
            await asyncio.sleep(EVERY_NS / NS_PER_SECOND)
            await self._activity.round()
