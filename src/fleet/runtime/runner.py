"""The loop: a bounded inbox, the engine, and the commands it returns.

Nothing acts inside the callback that received a message: feeds, venues, timers and operators put
events in the inbox and the loop takes them out at its own pace, account facts before market data.
The inbox is bounded. When market data piles up beyond it, the market part is thrown away, every
book is declared void and the feed is asked to start afresh: late data is worse than none. Account
facts are never thrown away. The same when this process stood still (SIGSTOP, a sleeping machine):
the sockets then hold what was true before, and it would be taken for the market of now.

An error of the journal ends the run: what cannot be recorded may not be done. An error of our own
ends it too (``crashed``): the process exits, and start-up, which is recovery, sorts it out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.domain import events as ev
from fleet.domain.commands import Approved, CancelOrder, Command, RequestForecast, StartTimer
from fleet.engine.engine import Engine
from fleet.journal.database import JournalError
from fleet.runtime.execution import Execution
from fleet.runtime.latency import LatencyWindow

INBOX_MAX: Final = 20_000
BATCH: Final = 256
TICK: Final = "tick"
_OBSERVED: Final = (ev.TradePrinted, ev.MarketResolved)
TICK_S: Final = 1.0
STILL_NS: Final = 5 * NS_PER_SECOND
"""So long without a tick and what the sockets hold is too old: five ticks, far above any pause of
the collector or of a busy machine."""
MarketSink = Callable[[Sequence[ev.AnyEvent]], None]
ForecastSink = Callable[[RequestForecast], None]
"""Takes a request and returns at once; the answer comes as a fact."""


class Runner:
    """Feeds one engine and carries out what it commands."""

    def __init__(self, engine: Engine, clock: Clock, on_overflow: Callable[[], None]) -> None:
        """Run ``engine``; ``on_overflow`` asks for a new feed, for late data was thrown away."""
        self.engine = engine
        self.latency = LatencyWindow()
        self.handled = 0
        self.overflows = 0
        self.errors = 0
        self.failure = ""
        """Why the run ended by itself; empty while it runs."""
        self.execution: Execution | None = None
        self.forecasts: ForecastSink | None = None
        """Where forecasts are asked for; nothing when nobody makes any."""
        self._clock = clock
        self._on_overflow = on_overflow
        self._market: deque[ev.AnyEvent] = deque()
        self._facts: deque[ev.Event] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._feeds = 0
        self._ticked_ns = 0
        """When the loop last ran; 0 while it does not."""
        self._log = logs.get("runner")
        self._timers: set[asyncio.TimerHandle] = set()

    # --- in -----------------------------------------------------------------------------------

    def feed_sink(self) -> MarketSink:
        """The sink of a new feed. Market data of feeds before it is dropped, and its own is once it
        was found to be late: what a feed still sends until it is replaced is no market of now.
        """
        self._feeds += 1
        number = self._feeds

        def put(events: Sequence[ev.AnyEvent]) -> None:
            if number == self._feeds:
                self.put_market(events)
            else:
                self.put_facts([event for event in events if isinstance(event, ev.Event)])

        return put

    def put_market(self, events: Sequence[ev.AnyEvent]) -> None:
        """Take market data, and whatever else a feed tells, in its order."""
        still_ns = self._stood_still_ns()
        if still_ns:
            self._start_afresh(events, _still(still_ns))
            return
        if len(self._market) + len(events) > INBOX_MAX:
            self.overflows += 1
            self._start_afresh(events, f"the inbox was full ({INBOX_MAX} events)")
            return
        self._market.extend(events)
        self._wake.set()

    def put_facts(self, events: Sequence[ev.Event]) -> None:
        """The sink of venues, timers and operators."""
        self._facts.extend(events)
        self._wake.set()

    def _stood_still_ns(self) -> int:
        """For how long the loop did not run, if that was too long, and it is running."""
        now_ns = self._clock.now_ns()
        still_ns = now_ns - self._ticked_ns
        if not self._ticked_ns or still_ns <= STILL_NS:
            return 0
        self._ticked_ns = now_ns  # Told once.
        return still_ns

    def _start_afresh(self, events: Sequence[ev.AnyEvent], reason: str) -> None:
        self.errors += 1
        self._feeds += 1
        kept = [e for e in (*self._market, *events) if isinstance(e, ev.Event)]
        self._market.clear()
        self._log.error("MARKET DATA dropped, books void", reason=reason)
        now_ns = self._clock.now_ns()
        self.put_facts(
            [
                *kept,
                ev.FeedDisconnected(
                    ts_event=now_ns,
                    ts_recv=now_ns,
                    connection="inbox",
                    instruments=tuple(self.engine.state.books),
                    reason=reason,
                ),
            ]
        )
        self._on_overflow()

    @property
    def backlog(self) -> int:
        """Events waiting."""
        return len(self._market) + len(self._facts)

    # --- the loop -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Handle events until ``stop``; returns early with ``failure`` set when it cannot go on."""
        self._ticked_ns = self._clock.now_ns()
        tick = asyncio.create_task(self._tick())
        try:
            while not self._stopping and not self.failure:
                await self._wake.wait()
                self._wake.clear()
                await self._drain()
        finally:
            tick.cancel()
            self._ticked_ns = 0
            for timer in self._timers:
                timer.cancel()

    def stop(self) -> None:
        """End the loop after the event at hand."""
        self._stopping = True
        self._wake.set()

    async def _drain(self) -> None:
        handled = 0
        while (self._facts or self._market) and not self.failure and not self._stopping:
            event: ev.AnyEvent = self._facts.popleft() if self._facts else self._market.popleft()
            self.handle(event)
            handled += 1
            if handled % BATCH == 0:
                await asyncio.sleep(0)

    def handle(self, event: ev.AnyEvent) -> Sequence[Command]:
        """One event through the engine, and its commands carried out."""
        try:
            if isinstance(event, _OBSERVED) and self.execution is not None:
                self.execution.observe(event)
            commands = self.engine.handle(event)
            if commands:
                self._carry_out(commands)
        except JournalError as error:
            self._fail(f"the journal cannot be written: {error}")
            return ()
        self.handled += 1
        if isinstance(event, ev.BookChanged):
            self.latency.add(self._clock.now_ns() - event.ts_recv)
        elif isinstance(event, ev.FrameRejected):
            self.errors += 1
        return commands

    def note(self, facts: Sequence[ev.Event]) -> bool:
        """Make what is about to be done durable; false, and it must not be done, if that fails."""
        try:
            return self.engine.note(facts)
        except JournalError as error:
            self._fail(f"the journal cannot be written: {error}")
            return False

    def _fail(self, reason: str) -> None:
        if self.failure:
            return  # The first reason is the one to cure; what follows from it is told once.
        self.errors += 1
        self.failure = reason
        self._log.error("TRADING STOPPED", reason=reason)
        self._wake.set()

    def crashed(self, reason: str) -> None:
        """Some other part of the process cannot go on."""
        self._fail(reason)

    def _carry_out(self, commands: Sequence[Command]) -> None:
        execution = self.execution
        for command in commands:
            match command:
                case StartTimer():
                    self._start_timer(command)
                case RequestForecast() if self.forecasts is not None:
                    self.forecasts(command)
                case Approved() if execution is not None:
                    execution.submit(command)
                case CancelOrder() if execution is not None:
                    execution.cancel(command.client_order_id)
                case _:
                    self._fail(f"no venue to carry out {command}")

    def _start_timer(self, command: StartTimer) -> None:
        delay_s = max(0, command.at_ns - self._clock.now_ns()) / NS_PER_SECOND
        handle: asyncio.TimerHandle | None = None

        def fire() -> None:
            if handle is not None:
                self._timers.discard(handle)
            now_ns = self._clock.now_ns()
            self.put_facts([ev.TimerFired(ts_event=now_ns, ts_recv=now_ns, name=command.name)])

        handle = asyncio.get_running_loop().call_later(delay_s, fire)
        self._timers.add(handle)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            still_ns = self._stood_still_ns()
            if still_ns:
                self._start_afresh((), _still(still_ns))
            now_ns = self._ticked_ns = self._clock.now_ns()
            self.put_facts([ev.TimerFired(ts_event=now_ns, ts_recv=now_ns, name=TICK)])


def _still(still_ns: int) -> str:
    return f"this process stood still for {still_ns / NS_PER_SECOND:.0f} s"
