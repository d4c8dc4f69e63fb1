"""What a mode is: which venue carries out a bot's commands, and what must hold before it may.

``Setup`` is all that ``bootstrap`` decides by mode; ``Bot`` does the same with each of them. A
session is open from before the accounts are reconciled until after the last command: it gives the
``Execution`` and takes care of whatever the venue needs around it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from fleet.clock import Clock
from fleet.config import LEDGER_MODE, Mode, Paths
from fleet.domain import events as ev
from fleet.engine.risk import RiskLimits
from fleet.engine.state import State
from fleet.journal.fleet import Lease
from fleet.journal.store import JournalStore
from fleet.runtime.execution import Execution, FactSink, PaperExecution
from fleet.runtime.settings import PaperEnv, paper_settings
from fleet.runtime.spec import BotSpec, Loaded
from fleet.venues.paper import PaperVenue


class SessionRefused(Exception):  # noqa: N818 - named for what happened
    """This venue may not be traded on now; ``code`` is the exit code, the text names the cure."""

    def __init__(self, code: int, text: str) -> None:
        """Keep the code for the process."""
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a session stands on: the bot's state and the ways back into its engine.

    ``note`` makes what is about to be done durable (false: it may not be done); ``facts`` takes
    what happened; ``crashed`` ends the run for a defect. ``lease`` is the wallet's, as it was
    granted; ``lease_alive`` says whether it still holds.
    """

    spec: BotSpec
    loaded: Loaded
    paths: Paths
    feed: str
    clock: Clock
    run_id: ev.RunId
    state: State
    adopted_ns: int
    """When the journal was begun: what the account held before is its opening balance."""
    limits: RiskLimits
    lease: Lease
    lease_alive: Callable[[], bool]
    note: Callable[[Sequence[ev.Event]], bool]
    facts: FactSink
    crashed: Callable[[str], None]


OpenSession = Callable[[Ground], AbstractAsyncContextManager[Execution]]
"""Opens a session. Raises ``SessionRefused``, ``JournalError`` or ``VenueError``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What differs between the modes of one bot."""

    mode: Mode
    feed: str
    wallet: str
    """What the lease is for: nobody else may trade it at the same time."""
    note: str
    """What kind of money this is, in words for the log."""
    limits: RiskLimits
    open_session: OpenSession
    duration_s: float | None = None


@asynccontextmanager
async def paper_session(ground: Ground) -> AsyncIterator[Execution]:
    """The simulated venue, with its own durable ledger."""
    with JournalStore(
        ground.paths.paper_ledger(ground.spec.slug, ground.feed),
        bot=ground.spec.name, mode=LEDGER_MODE, run_id=ground.run_id,
    ) as ledger:  # fmt: skip
        venue = PaperVenue(
            settings=paper_settings(ground.loaded.of(PaperEnv)),
            instruments=ground.state.universe.instruments,
            books=ground.state.books,
            ledger=ledger,
            facts=(entry.event for entry in ledger.read()),
            now_ns=ground.clock.now_ns(),
        )
        execution = PaperExecution(venue, ground.clock, ground.facts, ground.crashed)
        try:
            yield execution
        finally:
            execution.close()
