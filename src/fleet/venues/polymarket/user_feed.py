"""The user channel: what the venue says about our orders and trades, as it happens.

Theory of operation. One connection for one API key, all markets. Silence is normal here (nobody
trades with us for hours), so data age proves nothing: the watch is on the keep-alive answers, and
what a frozen channel would hide is found by the venue's regular surveys. Nothing is replayed after
a reconnect, so every connection, the first included, and every frame that could not be read, is
reported to ``on_gap``: its owner must reload orders and trades then.

Must not: guess at a frame, log the key, or hold an event back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock, LiveClock
from fleet.domain.events import FrameRejected
from fleet.venues.polymarket.auth import ApiCredentials
from fleet.venues.polymarket.wire_user import UserDecoder, UserOrder, UserTrade
from fleet.venues.transport import Jitter
from fleet.venues.websocket import Action, Session, SessionSettings, SessionState, SocketLink

PING: Final = b"PING"
SLEEP_MAX_S: Final = 1.0
USER_SESSION: Final = SessionSettings(data_age_max_ns=30 * NS_PER_SECOND, lifetime_ns=0)
"""Dead 30 s after the last frame of any kind (PONG comes every 10 s); no planned reconnects."""

Sighting = UserOrder | UserTrade


class UserFeed:
    """The user channel of one API key."""

    def __init__(
        self,
        url: str,
        credentials: ApiCredentials,
        *,
        on_sightings: Callable[[Sequence[Sighting]], None],
        on_gap: Callable[[str], None],
        settings: SessionSettings = USER_SESSION,
        clock: Clock | None = None,
        jitter: Jitter = random.random,
    ) -> None:
        """Sightings go to ``on_sightings`` in the order they came; both calls are on the loop."""
        self._url = url
        self._credentials = credentials
        self._on_sightings, self._on_gap = on_sightings, on_gap
        self._settings = settings
        self._clock = clock or LiveClock()
        self._session = Session(settings, now_ns=self._clock.now_ns(), jitter=jitter)
        self._decoder = UserDecoder()
        self._log = logs.get("user_feed")
        self._awake = asyncio.Event()
        self._socket: SocketLink | None = None
        self._link_task: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self.failure = ""
        """Why the channel stopped for good: a defect of this program; empty while it lives."""
        self.losses = 0
        self.frames = 0

    @property
    def connected(self) -> bool:
        """Whether the channel is up now."""
        return self._session.state is SessionState.OPEN

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Close; nothing is reported afterwards."""
        self._stopped = True
        tasks = [task for task in (self._task, self._link_task) if task is not None]
        self._drop("stopped")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self) -> None:
        while not self.failure:
            self._awake.clear()
            now_ns = self._clock.now_ns()
            while (action := self._session.poll(now_ns)) is not None:
                self._act(action)
            delay_s = (self._session.wake_ns() - self._clock.now_ns()) / NS_PER_SECOND
            try:
                await asyncio.wait_for(self._awake.wait(), min(max(0.0, delay_s), SLEEP_MAX_S))
            except TimeoutError:
                continue

    def _act(self, action: Action) -> None:
        if action is Action.CONNECT:
            link = SocketLink(self._opened, self._frame, self._closed)
            self._socket = link
            timeout_s = self._settings.connect_timeout_ns / NS_PER_SECOND
            task = asyncio.create_task(link.run(self._url, connect_timeout_s=timeout_s))
            task.add_done_callback(partial(self._ended, link))
            self._link_task = task
        elif action is Action.PING and self._socket is not None:
            self._socket.send(PING)
        elif action in {Action.DROP_SILENT, Action.DROP_TIMEOUT}:
            self._drop("silent" if action is Action.DROP_SILENT else "no connection in time")

    def _drop(self, reason: str) -> None:
        if self._socket is not None:
            self._socket.close(reason)
        if self._link_task is not None and self._session.state is SessionState.CONNECTING:
            self._link_task.cancel()

    def _opened(self) -> None:
        self._session.opened(self._clock.now_ns())
        if self._socket is not None:
            self._socket.send(self._credentials.subscription())
        self._log.info("USER CHANNEL connected", losses=self.losses)
        self._on_gap("connected")
        self._awake.set()

    def _closed(self, reason: str) -> None:
        if self._stopped:
            return
        self.losses += 1
        delay_ns = self._session.closed(self._clock.now_ns())
        self._log.warning("USER CHANNEL lost", reason=reason,
                          retry_s=round(delay_ns / NS_PER_SECOND, 3))  # fmt: skip
        self._awake.set()

    def _ended(self, link: SocketLink, task: asyncio.Task[None]) -> None:
        """The task of a link ended; an exception is a defect of ours, and ends the channel."""
        if task.cancelled() or (error := task.exception()) is None or self._socket is not link:
            return
        self.failure = f"{type(error).__name__}: {error}"
        self._log.error("USER CHANNEL failed", error=self.failure, exc_info=error)
        self._on_gap(self.failure)
        self._awake.set()

    def _frame(self, frame: memoryview) -> None:
        now_ns = self._clock.now_ns()
        self.frames += 1
        self._session.data_ns = now_ns
        sightings: list[Sighting] = []
        for event in self._decoder.decode(frame, now_ns):
            if isinstance(event, FrameRejected):
                self._log.warning("USER FRAME rejected", reason=event.reason)
                self._on_gap(event.reason)
            else:
                sightings.append(event)
        if sightings:
            self._on_sightings(sightings)
