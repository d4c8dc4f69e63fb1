"""Parity inside a running bot: its file, its two components, and where it listens.

``parity`` opens the file of this bot, mode and market; ``watched`` puts an ear between the runner
and the venue, ``recorder`` is a second reader behind the journal (see ``ReportingJournal``), and
``nodes`` are the components. None of it is required: a bot trades on without its shadows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fleet.clock import Clock
from fleet.config import Mode, Paths
from fleet.domain.commands import Approved, ClientOrderId, SubmitOrder
from fleet.domain.events import MarketResolved, TradePrinted
from fleet.engine.state import State
from fleet.runtime.components import Node
from fleet.runtime.execution import Execution
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.parity_recorder import ParityRecorder, ShadowSettings
from fleet.runtime.parity_store import ParityStore
from fleet.runtime.round_trip import RoundTrip
from fleet.runtime.settings import PaperEnv
from fleet.runtime.spec import Loaded
from fleet.venues.account import AccountQuery, AccountTruth


class WatchedExecution:
    """A venue whose orders and trades the recorder sees too, after the venue itself."""

    def __init__(self, execution: Execution, recorder: ParityRecorder) -> None:
        """Pass everything on to ``execution``."""
        self._execution = execution
        self._recorder = recorder

    @property
    def name(self) -> str:
        """The venue's."""
        return self._execution.name

    def submit(self, approved: Approved) -> None:
        """Send it first: no order waits for its shadow."""
        self._execution.submit(approved)
        if isinstance(approved.request, SubmitOrder):
            self._recorder.submitted(approved.request)

    def cancel(self, client_order_id: ClientOrderId) -> None:
        """Pass it on."""
        self._execution.cancel(client_order_id)

    def observe(self, event: TradePrinted | MarketResolved) -> None:
        """Somebody's trade, or a market's end."""
        self._execution.observe(event)
        if isinstance(event, TradePrinted):
            self._recorder.observe(event)

    async def account(self, query: AccountQuery) -> AccountTruth:
        """Pass it on."""
        return await self._execution.account(query)

    def close(self) -> None:
        """Pass it on."""
        self._execution.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityParts:
    """What one bot needs for its parity."""

    recorder: ParityRecorder
    round_trip: RoundTrip
    measured: bool = True
    """Whether there is a venue whose distance is measured."""

    def watched(self, execution: Execution) -> Execution:
        """``execution`` with the recorder listening."""
        return WatchedExecution(execution, self.recorder)

    def nodes(self) -> list[Node]:
        """The components; neither is required. Without a CLOB there is no way to measure."""
        nodes = [Node(component=self.recorder, required=False)]
        if self.measured:
            nodes.insert(0, Node(component=self.round_trip, required=False))
        return nodes


@contextmanager
def parity(
    *, paths: Paths, bot: str, mode: Mode, feed: str, state: State, clock: Clock, loaded: Loaded,
    clob_url: str,
) -> Iterator[ParityParts]:  # fmt: skip
    """Open the parity file of ``bot`` (its slug), on a running event loop. Raises ``JournalError``.

    The distance of the CLOB at ``clob_url`` is measured, if there is one. The file is closed at the
    end; stop the components before.
    """
    env = loaded.of(LiveEnv)
    round_trip = RoundTrip(clob_url, clock)
    with ParityStore(paths.parity(bot, mode, feed), bot=bot, mode=mode.value, feed=feed) as store:
        recorder = ParityRecorder(
            store,
            state.books,
            state.universe.instruments,
            clock,
            ShadowSettings(
                latency_ns=loaded.of(PaperEnv).latency_ns,
                feed_lag_ns=env.feed_lag_ns,
                hold_ns=env.hold_ns,
                taker_delay_ns=env.taker_delay_ns,
            ),
            call_later=asyncio.get_running_loop().call_later,
            round_trip_ns=round_trip.round_trip_ns,
        )
        yield ParityParts(recorder=recorder, round_trip=round_trip, measured=bool(clob_url))
