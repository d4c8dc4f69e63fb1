"""Compares the journal with the venue's books while the bot runs, not only when it starts.

Every ``every_s`` the venue is asked for its books. What the journal had missed is handed to the
engine as at a start; then cash and tokens must agree. Orders fill while the answer travels, so one
difference proves nothing: only one that stands, word for word, in readings ``again_s`` apart, with
nothing missed in between, is told. A venue that does not answer is no difference; it is asked
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from fleet import logs
from fleet.clock import Clock
from fleet.domain import events as ev
from fleet.journal.halts import HaltCode
from fleet.runtime.components import Health
from fleet.runtime.execution import Execution
from fleet.runtime.recovery import difference, missed_facts, query_of, strangers
from fleet.runtime.runner import Runner
from fleet.venues.port import VenueError

AGAIN_S: Final = 2.0
READINGS: Final = 3
"""Readings in a row that must show the same difference."""


class AccountWatch:
    """A component; ``trip`` is told what differs, once it is sure."""

    name = "accounts"

    def __init__(
        self,
        runner: Runner,
        execution: Execution,
        clock: Clock,
        trip: Callable[[HaltCode, str], None],
        *,
        every_s: float,
        again_s: float = AGAIN_S,
    ) -> None:
        """Compare ``runner``'s state with ``execution``'s account."""
        self._runner = runner
        self._execution = execution
        self._clock = clock
        self._trip = trip
        self._every_s = every_s
        self._again_s = again_s
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        self.agreed = 0
        """How often the books agreed."""
        self._log = logs.get("accounts")

    async def start(self) -> None:
        """Begin to compare; returns at once."""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.compare()

    async def compare(self) -> str:
        """One comparison; what differs for sure, empty when nothing does or nobody can say."""
        told = ""
        for reading in range(READINGS):
            if reading:
                await asyncio.sleep(self._again_s)
            left = await self._read()
            if not left or (reading and left != told):
                return ""
            told = left
        self._log.error("ACCOUNTS differ", difference=told)
        now_ns = self._clock.now_ns()
        self._runner.handle(
            ev.ReconciliationFailed(
                ts_event=now_ns, ts_recv=now_ns, venue=self._execution.name, difference=told
            )
        )
        self._trip(_code(told), told)
        return told

    async def _read(self) -> str:
        state = self._runner.engine.state
        try:
            truth = await self._execution.account(query_of(state))
        except VenueError as error:
            if not self._problem:
                self._log.warning("ACCOUNT not answered", reason=str(error))
            self._problem = f"the venue's books cannot be read: {error}"
            return ""
        self._problem = ""
        left = strangers(state, truth)
        if left:
            return left
        missed = missed_facts(state, truth, self._clock.now_ns())
        if missed:
            # What they change shows in the next comparison, when they have been handled.
            self._runner.put_facts(missed)
            return ""
        left = difference(state, truth)
        self.agreed += not left
        return left

    def health(self) -> Health:
        """Unhealthy only when its task has died: a venue that is silent is said in the detail."""
        if self._task is None or not self._task.done():
            return Health(ok=True, detail=self._problem)
        error = None if self._task.cancelled() else self._task.exception()
        return Health(ok=False, detail=f"{type(error).__name__}: {error}")

    async def stop(self) -> None:
        """Stop comparing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None


def _code(words: str) -> HaltCode:
    if words.startswith("the venue filled"):
        return HaltCode.UNKNOWN_FILL
    return HaltCode.RECONCILIATION_DIFFERENCE
