"""The orderly end: nothing rests, what was under way is answered, the books agree, then stop.

The caller has halted trading, which commands a cancel of everything that rests; the runner's loop
must still run, because the venue's answers come through it. Then, each with a deadline so that the
whole fits into what PM2 grants before SIGKILL (``kill_timeout``, 15 s): wait until no order is
open, ask the venue for its books, and fold in what the journal missed. What a deadline cuts off is
told and left to the next start, which is recovery and asks again; nothing is assumed to be
cancelled.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from fleet import logs
from fleet.clock import Clock
from fleet.domain.events import ReconciliationFailed
from fleet.runtime.execution import Execution
from fleet.runtime.recovery import difference, missed_facts, query_of, strangers
from fleet.runtime.runner import Runner
from fleet.venues.account import AccountTruth
from fleet.venues.port import VenueError

ANSWERS_S: Final = 4.0
ACCOUNT_S: Final = 3.0
"""7 s of 15: stopping components and saving have their own bounds."""
POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How it went: orders the venue did not answer for, and what differs, empty when nothing."""

    unanswered: tuple[str, ...]
    difference: str
    asked: bool

    @property
    def clean(self) -> bool:
        """Whether nothing rests and the books agree."""
        return self.asked and not self.unanswered and not self.difference


async def wind_down(
    runner: Runner,
    execution: Execution,
    clock: Clock,
    *,
    answers_s: float = ANSWERS_S,
    account_s: float = ACCOUNT_S,
) -> Ending:
    """Wait for the answers, ask for the account, agree. Never raises what a venue raises."""
    log = logs.get("shutdown")
    unanswered = await _answers(runner, answers_s)
    if unanswered:
        log.warning("ORDERS not answered for before the end: the next start asks",
                    orders=", ".join(unanswered[:5]), count=len(unanswered))  # fmt: skip
    if runner.failure:
        return Ending(unanswered=unanswered, difference="", asked=False)
    truth = await _account(runner, execution, account_s)
    if truth is None:
        log.warning("ACCOUNT not answered before the end: the next start asks")
        return Ending(unanswered=unanswered, difference="", asked=False)
    left = _agree(runner, truth, execution.name, clock.now_ns())
    if left:
        log.error("ACCOUNTS differ at the end", difference=left)
    return Ending(unanswered=unanswered, difference=left, asked=True)


def _agree(runner: Runner, truth: AccountTruth, venue: str, now_ns: int) -> str:
    """Fold in what was missed; what differs then. Only a start may say ``Reconciled``."""
    state = runner.engine.state
    left = strangers(state, truth)
    if not left:
        for event in missed_facts(state, truth, now_ns):
            runner.handle(event)
        left = difference(state, truth)
    if left:
        runner.handle(
            ReconciliationFailed(ts_event=now_ns, ts_recv=now_ns, venue=venue, difference=left)
        )
    return left


async def _answers(runner: Runner, patience_s: float) -> tuple[str, ...]:
    """Wait until no order is open; those that still are when patience ends."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    orders = runner.engine.state.orders
    while True:
        if not orders.open or runner.failure or loop.time() >= deadline:
            return tuple(orders.open)
        await asyncio.sleep(POLL_S)


async def _account(runner: Runner, execution: Execution, patience_s: float) -> AccountTruth | None:
    try:
        return await asyncio.wait_for(execution.account(query_of(runner.engine.state)), patience_s)
    except (TimeoutError, OSError, VenueError):
        return None
