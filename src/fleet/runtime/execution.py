"""Where commands go and answers come from: the runner's side of a venue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from fleet.clock import Clock
from fleet.domain.commands import Approved, ClientOrderId
from fleet.domain.events import Event, MarketResolved, TradePrinted
from fleet.journal.database import JournalError
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.paper import PaperVenue

FactSink = Callable[[Sequence[Event]], None]


class Execution(Protocol):
    """A venue as the runner sees it: requests out, facts back through the sink, an account."""

    @property
    def name(self) -> str:
        """What the venue is called in logs and journal."""
        ...

    def submit(self, approved: Approved) -> None:
        """Carry out an approved request; never waits for the answer."""
        ...

    def cancel(self, client_order_id: ClientOrderId) -> None:
        """Ask for a cancel; never waits."""
        ...

    def observe(self, event: TradePrinted | MarketResolved) -> None:
        """See somebody's trade or a market's end: a simulated venue fills and cancels by them."""
        ...

    async def account(self, query: AccountQuery) -> AccountTruth:
        """The venue's books and the facts that answer ``query``."""
        ...

    def close(self) -> None:
        """Stop answering."""
        ...


class PaperExecution:
    """The paper venue on the event loop: its due times become callbacks."""

    def __init__(
        self, venue: PaperVenue, clock: Clock, sink: FactSink, on_failure: Callable[[str], None]
    ) -> None:
        """Answers go to ``sink``, on the loop, when they are due.

        ``on_failure`` is told when the ledger cannot be written: what the venue did since is not
        known then, only a restart (which asks the ledger) settles it.
        """
        self._venue = venue
        self._clock = clock
        self._sink = sink
        self._on_failure = on_failure
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._closed = False

    @property
    def name(self) -> str:
        """``paper``."""
        return "paper"

    def submit(self, approved: Approved) -> None:
        """Send to the pretended venue."""
        self._venue.submit(approved.request, self._clock.now_ns())
        self._arm()

    def cancel(self, client_order_id: ClientOrderId) -> None:
        """Cancel at the pretended venue."""
        self._venue.cancel(client_order_id, self._clock.now_ns())
        self._arm()

    def observe(self, event: TradePrinted | MarketResolved) -> None:
        """Let resting orders fill, or end with their market."""
        if isinstance(event, MarketResolved):
            self._venue.on_resolved(event)
        else:
            self._venue.on_trade(event)
        self._arm()

    async def account(self, query: AccountQuery) -> AccountTruth:
        """The pretended venue's books."""
        truth = self._venue.account(query)
        self._arm()
        return truth

    def close(self) -> None:
        """No further answers."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        due_ns = self._venue.next_due_ns()
        if due_ns is None or self._closed:
            return
        if self._timer is not None:
            if self._timer_ns <= due_ns:
                return
            self._timer.cancel()
        delay_s = max(0, due_ns - self._clock.now_ns()) / 1e9
        self._timer_ns = due_ns
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._closed:
            return
        try:
            answers = self._venue.advance(self._clock.now_ns())
        except JournalError as error:
            self.close()
            self._on_failure(f"the paper venue's ledger cannot be written: {error}")
            return
        if answers:
            self._sink(answers)
        self._arm()
