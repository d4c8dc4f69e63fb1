"""The components every bot has: latch watch, wallet lease, feed, status.

Each is small, owns one outside thing, and reports its health in words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_DAY, NS_PER_SECOND, Clock
from fleet.domain.units import Cash, format_dollars
from fleet.journal.database import JournalError
from fleet.journal.fleet import FleetState, Lease, LeaseLost
from fleet.journal.halts import HaltCode
from fleet.runtime import pm2
from fleet.runtime.components import ComponentFailed, Health
from fleet.runtime.status import StatusBoard
from fleet.venues.port import Feed

LATCH_S: Final = 0.5
LEASE_NS: Final = 30 * NS_PER_SECOND
RENEW_S: Final = 5.0
STATUS_S: Final = 1.0
TABLE_EVERY: Final = 60
FIRST_SNAPSHOTS_S: Final = 5.0
"""How long the start waits for the last books once every connection is up."""


class Periodic:
    """A component that does one thing every so many seconds."""

    def __init__(self, name: str, period_s: float) -> None:
        """Called ``name``, beating every ``period_s``."""
        self.name = name
        self._period_s = period_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Do it once, then keep doing it; what is kept doing already goes on."""
        if self._task is not None and not self._task.done():
            return
        self.beat()
        self._task = asyncio.create_task(self._run())

    def beat(self) -> None:
        """The thing to do; subclasses say what."""

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            self.beat()

    def health(self) -> Health:
        """Healthy while the task lives."""
        if self._task is None or not self._task.done():
            return Health(ok=True)
        error = None if self._task.cancelled() else self._task.exception()
        return Health(ok=False, detail=f"{type(error).__name__}: {error}")

    async def stop(self) -> None:
        """Stop beating."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None


class LatchWatch(Periodic):
    """Looks at the fleet's kill latch and tells when it is set."""

    def __init__(self, fleet: FleetState, on_latched: Callable[[str], None]) -> None:
        """``on_latched`` is told the reason, each time it is seen set."""
        super().__init__("latch", LATCH_S)
        self._fleet = fleet
        self._on_latched = on_latched

    def beat(self) -> None:
        """Look once."""
        latch = self._fleet.latched()
        if latch is not None:
            self._on_latched(f"kill latch set by {latch.by}: {latch.reason}")


class LeaseKeeper(Periodic):
    """Keeps the wallet's lease alive; losing it means that nobody here may sign any more."""

    def __init__(
        self, fleet: FleetState, lease: Lease, clock: Clock, on_lost: Callable[[str], None]
    ) -> None:
        """Renew ``lease``; ``on_lost`` is told when that is no longer possible."""
        super().__init__("lease", RENEW_S)
        self.lease = lease
        self._fleet = fleet
        self._clock = clock
        self._on_lost = on_lost

    def beat(self) -> None:
        """Renew once."""
        now_ns = self._clock.now_ns()
        try:
            self.lease = self._fleet.renew(self.lease, LEASE_NS, now_ns)
        except LeaseLost as error:
            self._on_lost(f"the wallet's lease was lost: {error}")
        except JournalError as error:
            if not self.lease.alive(now_ns):
                self._on_lost(f"the wallet's lease ran out and cannot be renewed: {error}")


class FeedPart:
    """The market feed; a restart makes a new one."""

    name = "feed"

    def __init__(self, make: Callable[[], Feed], *, patience_s: float = FIRST_SNAPSHOTS_S) -> None:
        """``make`` builds a feed that has not been started."""
        self._make = make
        self._patience_s = patience_s
        self._feed: Feed | None = None
        self._up_s: float | None = None
        self._log = logs.get("feed")

    async def start(self) -> None:
        """Begin to connect. Raises ``ComponentFailed`` if there is nothing to subscribe to."""
        self._up_s = None
        try:
            self._feed = self._make()
            await self._feed.start()
        except (ValueError, OSError) as error:
            raise ComponentFailed(str(error)) from error

    async def restart(self) -> None:
        """Drop every connection and start afresh, so that all books get new snapshots."""
        await self.stop()
        await self.start()

    def health(self) -> Health:
        """Whether every connection is up."""
        if self._feed is None:
            return Health(ok=False, detail="not started")
        health = self._feed.health()
        if health.healthy:
            return Health(ok=True)
        detail = health.failure or f"{health.connected} of {health.connections} connections are up"
        return Health(ok=False, detail=detail)

    @property
    def settled(self) -> bool:
        """Whether every connection is up and every book has its snapshot, or will have none.

        A market that ended after it was listed never sends one: what is still missing after the
        patience stays void, and nobody trades on a void book.
        """
        health = self._feed.health() if self._feed is not None else None
        if health is None or not health.healthy:
            self._up_s = None
            return False
        now_s = asyncio.get_running_loop().time()
        if self._up_s is None:
            self._up_s = now_s
        if health.awaiting and now_s - self._up_s < self._patience_s:
            return False
        if health.awaiting:
            self._log.warning("BOOKS missing: not traded until their snapshots come",
                              instruments=health.awaiting)  # fmt: skip
        return True

    async def stop(self) -> None:
        """Close the connections."""
        if self._feed is not None:
            await self._feed.stop()
            self._feed = None


class StatusPart(Periodic):
    """Writes the status file, publishes PM2's metrics and the day's result, logs the table."""

    def __init__(
        self,
        board: StatusBoard,
        clock: Clock,
        *,
        write: Callable[[dict[str, object]], None],
        channel: pm2.Channel | None,
        day_board: Callable[[Cash], None],
    ) -> None:
        """Beat once a second; ``day_board`` is told the day's realised result."""
        super().__init__("status", STATUS_S)
        self._board = board
        self._clock = clock
        self._write = write
        self._channel = channel
        self._day_board = day_board
        self._beats = 0
        self._problem = ""
        self._log = logs.get("status")

    def beat(self) -> None:
        """Write once."""
        now_ns = self._clock.now_ns()
        self._day_board(self._day_result(now_ns))
        try:
            self._write(self._board.snapshot(now_ns))
            self._problem = ""
        except OSError as error:
            self._problem = f"the status file cannot be written: {error}"
        if self._channel is not None:
            self._channel.metrics(self._board.metrics())
        self._beats += 1
        if self._beats % TABLE_EVERY == 0:
            for line in self._board.table(now_ns):
                self._log.info(line)

    async def stop(self) -> None:
        """Write once more: the last word of a bot that ends in order."""
        await super().stop()
        try:
            self._write(self._board.snapshot(self._clock.now_ns()))
        except OSError as error:
            self._log.warning("STATUS file not written", reason=str(error))

    def _day_result(self, now_ns: int) -> Cash:
        portfolio = self._board.portfolio
        return portfolio.day_realised if now_ns // NS_PER_DAY <= portfolio.day else Cash(0)

    def health(self) -> Health:
        """Unhealthy when the file cannot be written."""
        if self._problem:
            return Health(ok=False, detail=self._problem)
        return super().health()


class DayBoard:
    """The fleet's day: publishes one bot's result and sets the kill latch at the fleet's limit."""

    def __init__(
        self,
        fleet: FleetState,
        clock: Clock,
        *,
        bot: str,
        mode: str,
        limit: Cash,
        trip: Callable[[HaltCode, str], None],
    ) -> None:
        """Results of ``bot`` in ``mode``; at a loss of ``limit`` over all bots it will ``trip``."""
        self._fleet = fleet
        self._trip = trip
        self._bot = bot
        self._mode = mode
        self._limit = limit
        self._clock = clock
        self._told: tuple[str, int] | None = None
        self._log = logs.get("day")

    def __call__(self, result: Cash) -> None:
        """Publish a changed result; set the latch if all bots together lost the limit."""
        day = utc_day(self._clock.now_ns())
        if self._told == (day, result):
            return
        try:
            self._fleet.publish_day_pnl(self._bot, self._mode, self._bot, day, result)
            total = self._fleet.day_pnl(self._mode, day)
        except JournalError as error:
            self._log.error("DAY BOARD cannot be written", reason=str(error))
            return
        self._told = (day, result)
        if total <= -self._limit and self._fleet.latched() is None:
            self._trip(
                HaltCode.DAY_LOSS,
                f"the fleet lost ${format_dollars(Cash(-total))} on {day}"
                f" (limit ${format_dollars(self._limit)})",
            )


def utc_day(now_ns: int) -> str:
    """The UTC day of a time, ``YYYY-MM-DD``."""
    return datetime.fromtimestamp(now_ns // NS_PER_SECOND, UTC).date().isoformat()
