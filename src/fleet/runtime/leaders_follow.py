"""Whom a bot follows: the list of ``fleet leaders`` and the settings, looked at again and again.

A change of the list becomes a ``LeadersChosen`` in the journal, and the listener is started afresh
over the wallets that are followed now. A list that cannot be read changes nothing: whoever was
followed still is, so that what was copied can be left. Without a list and without wallets in the
settings nobody is followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fleet import logs
from fleet.clock import Clock
from fleet.domain import events as ev
from fleet.domain.knowledge import Followed
from fleet.engine.state import State
from fleet.journal.database import JournalError
from fleet.journal.leaders import LeaderStore
from fleet.runtime.components import ComponentFailed, Health
from fleet.runtime.execution import FactSink
from fleet.runtime.leader_part import LeaderPart

LOOK_S: Final = 5.0
COPIED: Final = "copied"


class FollowLeaders:
    """A component around the listener."""

    name = "leaders"

    def __init__(
        self,
        state: State,
        file: Path,
        feed: str,
        clock: Clock,
        sink: FactSink,
        *,
        manual: Sequence[str],
        copy_watched: bool,
        listen: Callable[[tuple[str, ...]], LeaderPart],
    ) -> None:
        """``listen`` makes a listener over wallets; ``copy_watched`` copies whoever is watched,
        which is for play money.
        """
        self._state, self._file, self._feed = state, file, feed
        self._clock, self._sink, self._manual = clock, sink, tuple(manual)
        self._copy_watched = copy_watched
        self._listen = listen
        self._part: LeaderPart | None = None
        self._wallets: tuple[str, ...] | None = None
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        self._log = logs.get("leaders")

    async def start(self) -> None:
        """Follow who is to be followed now. Raises ``ComponentFailed``."""
        await self.look()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except ComponentFailed as error:
                self._problem = str(error)

    async def look(self) -> None:
        """Read the list once and act on what changed. Raises ``ComponentFailed``."""
        try:
            followed = self._followed()
            self._problem = ""
        except JournalError as error:
            if str(error) != self._problem:
                self._log.warning("LEADERS not read", reason=str(error))
            self._problem = str(error)
            followed = tuple(self._state.leaders.chosen.values())
        if followed != tuple(self._state.leaders.chosen.values()):
            now_ns = self._clock.now_ns()
            self._log.info(
                "LEADERS", followed=len(followed), copied=sum(one.copied for one in followed)
            )
            self._sink([ev.LeadersChosen(ts_event=now_ns, ts_recv=now_ns, leaders=followed)])
        # Who was dropped is listened to as long as something of theirs is held.
        wallets = tuple(dict.fromkeys([*(one.wallet for one in followed), *self._held()]))
        if wallets != self._wallets:
            self._wallets = wallets
            if self._part is not None:
                await self._part.stop()
            self._part = self._listen(wallets)
            await self._part.start()

    def _held(self) -> list[str]:
        """The wallets whose copies are still held; a copy's key begins with its wallet."""
        return [standing.key.partition("|")[0]
                for standing in self._state.bundles.standings.all.values()]  # fmt: skip

    def _followed(self) -> tuple[Followed, ...]:
        if not self._file.exists():
            return tuple(self._choose(wallet, "", "named in ELITE_WALLETS, not scored")
                         for wallet in self._manual)  # fmt: skip
        with LeaderStore(self._file, feed=self._feed, read_only=True) as store:
            leaders = store.followed(self._clock.now_ns(), self._manual)
        return tuple(self._choose(one.wallet, one.status, one.verdict) for one in leaders)

    def _choose(self, wallet: str, status: str, verdict: str) -> Followed:
        copied = status == COPIED or self._copy_watched
        return Followed(wallet=wallet, copied=copied, verdict=verdict)

    def health(self) -> Health:
        """The listener's, or that the list cannot be read."""
        if self._problem:
            return Health(ok=False, detail=self._problem)
        if self._task is not None and self._task.done():
            return Health(ok=False, detail="it does not look at the list any more")
        return self._part.health() if self._part is not None else Health(ok=True)

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._part is not None:
            await self._part.stop()
            self._part, self._wallets = None, None
