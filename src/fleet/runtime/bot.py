"""One running bot: built, recovered, supervised, and stopped in order.

The order matters and is the same at every start, first or after a crash: lease, catalogue, journal
folded, accounts reconciled, feed, and only when every book has its snapshot is trading allowed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import MutableMapping
from contextlib import ExitStack

import fleet as package
from fleet import logs
from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.config import Paths
from fleet.domain import events as ev
from fleet.journal.database import JournalDamaged, JournalError, JournalForeign
from fleet.journal.fleet import FleetState, Lease, LeaseHeld
from fleet.journal.halts import HALTS, HaltCode
from fleet.journal.store import JournalStore
from fleet.ops.alerts import Alerts
from fleet.runtime import memory, pm2
from fleet.runtime.account_watch import AccountWatch
from fleet.runtime.cast import Cast, Stage, build
from fleet.runtime.components import ComponentFailed, Node, Supervisor
from fleet.runtime.execution import Execution
from fleet.runtime.market_source import MarketSource
from fleet.runtime.parts import (
    LEASE_NS,
    DayBoard,
    FeedPart,
    StatusPart,
)
from fleet.runtime.recovery import missed_facts, overdue, query_of, reconcile
from fleet.runtime.resolutions import ResolutionWatch, ended_forecasts
from fleet.runtime.runner import Runner
from fleet.runtime.safety_settings import AlertEnv, SafetyEnv
from fleet.runtime.session import SessionRefused, Setup
from fleet.runtime.settings import FleetSettings
from fleet.runtime.shutdown import wind_down
from fleet.runtime.snapshots import refresh
from fleet.runtime.source_port import Source, SourceFailed
from fleet.runtime.spec import (
    EXIT_OK,
    EXIT_RETRY,
    EXIT_STAY_DOWN,
    EXIT_TWIN,
    BotSpec,
    Loaded,
    Workplace,
)
from fleet.runtime.status import write_status
from fleet.venues.port import VenueError

HEALTH_S = 10.0
LOOK_S = 0.25
RESOLVE_NS = 5 * NS_PER_SECOND


class Bot:
    """Everything of one bot between the lock and the exit code."""

    def __init__(
        self,
        spec: BotSpec,
        setup: Setup,
        loaded: Loaded,
        paths: Paths,
        environ: MutableMapping[str, str],
    ) -> None:
        """Remember; nothing is opened yet."""
        self.spec = spec
        self.setup = setup
        self.mode = setup.mode
        self.feed_name = setup.feed
        self.duration = setup.duration_s
        self.loaded = loaded
        self.paths = paths
        self.environ = environ
        self.clock = LiveClock()
        self.log = logs.get("bot")
        self.alert = Alerts(loaded.of(AlertEnv).webhook, self.clock,
                            source=f"{spec.name} {self.mode.value} {self.feed_name}")  # fmt: skip
        self._ending = asyncio.Event()
        self._code = EXIT_OK
        self._why = ""
        self._started_ns = 0
        self._source: Source | None = None

    # --- life ---------------------------------------------------------------------------------

    async def run(self) -> int:
        """Live until asked to end, and return the exit code."""
        started_ns = self._started_ns = self.clock.now_ns()
        self.log.info(
            "STARTING", version=package.__version__, pid=os.getpid(), mode=self.mode.value,
            feed=self.feed_name, note=self.setup.note,
        )  # fmt: skip
        channel = self._connect_pm2()
        self._on_signals()
        try:
            with FleetState(self.paths.fleet_db) as fleet:
                lease = fleet.acquire(
                    self.setup.wallet, self.spec.name, os.getpid(), LEASE_NS,
                    self.clock.now_ns(), predecessor_dead=True,
                )  # fmt: skip
                try:
                    await self._trade(fleet, lease, channel, started_ns)
                finally:
                    fleet.release(lease)
            if self._code == EXIT_OK:
                refresh(
                    self.paths.journal(self.spec.slug, self.mode, self.feed_name),
                    bot=self.spec.name, mode=self.mode.value, loaded_ns=started_ns,
                )  # fmt: skip
        except LeaseHeld as error:
            self.end(EXIT_TWIN, str(error))
        except (JournalDamaged, JournalForeign) as error:
            self.end(EXIT_STAY_DOWN, str(error))
        except SessionRefused as error:
            self.end(error.code, str(error))
        except (JournalError, ComponentFailed, SourceFailed, VenueError) as error:
            self.end(EXIT_RETRY, str(error))
        finally:
            if self._source is not None:
                self._source.close()
            if channel is not None:
                channel.close()
            self.alert.close()
        level = self.log.info if self._code == EXIT_OK else self.log.error
        level("STOPPED", code=self._code, reason=self._why)
        return self._code

    def end(self, code: int, why: str) -> None:
        """Ask for the end; the first reason counts."""
        if not self._why:
            self._code, self._why = code, why
        self._ending.set()

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.end, EXIT_OK, f"signal {number.name}")

    def _connect_pm2(self) -> pm2.Channel | None:
        loop = asyncio.get_running_loop()
        return pm2.connect(
            self.environ,
            dispatch=loop.call_soon_threadsafe,
            on_shutdown=lambda: self.end(EXIT_OK, "PM2 asked to stop"),
            on_orphan=lambda: self.end(EXIT_OK, "the PM2 daemon is gone"),
        )

    # --- building -----------------------------------------------------------------------------

    async def _trade(
        self,
        fleet: FleetState,
        lease: Lease,
        channel: pm2.Channel | None,
        started_ns: int,
    ) -> None:
        opened = self.spec.source or MarketSource
        source = self._source = opened(self.feed_name, self.loaded, self.paths, self.clock)
        universe = await source.load_universe(self._ending)
        if universe is None:
            return
        run_id = ev.RunId(f"{started_ns:x}-{os.getpid()}")
        stage = Stage(
            spec=self.spec, setup=self.setup, loaded=self.loaded, paths=self.paths,
            clock=self.clock, alert=self.alert, fleet=fleet, lease=lease, run_id=run_id,
            started_ns=started_ns, latched=self._latched,
            given_up=lambda why: self.end(EXIT_RETRY, why),
        )  # fmt: skip
        with ExitStack() as stack:
            cast = build(stage, source, universe, stack)
            # The lease must not run out while the session makes its checks.
            await cast.keeper.start()
            try:
                async with self.setup.open_session(cast.ground) as venue:
                    execution = cast.shadows.watched(venue)
                    cast.runner.execution = execution
                    self._stamp(cast.runner, ev.RunStarted, run_id=run_id, bot=self.spec.name,
                                mode=self.mode.value, version=package.__version__)  # fmt: skip
                    if await self._reconciled(cast.runner, execution):
                        self._complete(cast, execution, fleet, channel)
                        await self._live(cast, execution, channel)
                        self._stamp(cast.runner, ev.RunStopped, run_id=run_id, reason=self._why)
            finally:
                await cast.keeper.stop()

    def _complete(
        self, cast: Cast, execution: Execution, fleet: FleetState, channel: pm2.Channel | None
    ) -> None:
        """Add what supervises, bounds and shows a bot whose accounts agree."""
        board, guards = cast.board, cast.guards
        day_board = DayBoard(
            fleet, self.clock, bot=self.spec.name, mode=self.mode.value,
            limit=self.loaded.of(FleetSettings).max_day_loss, trip=guards.safety.trip,
        )  # fmt: skip
        file = self.paths.status(self.spec.slug)
        status = StatusPart(
            board, self.clock, channel=channel, day_board=day_board,
            write=lambda status: write_status(file, status),
        )  # fmt: skip
        safety = self.loaded.of(SafetyEnv)
        accounts = AccountWatch(
            cast.runner, execution, self.clock, guards.safety.trip,
            every_s=safety.reconcile_ns / NS_PER_SECOND,
        )  # fmt: skip
        resolutions = ResolutionWatch(
            cast.state, cast.source.clob, cast.runner.put_facts, self.clock,
            every_s=safety.resolutions_ns / NS_PER_SECOND,
            also=lambda: ended_forecasts(cast.state, self.clock.now_ns()),
        )  # fmt: skip
        place = Workplace(
            loaded=self.loaded, paths=self.paths, feed=self.feed_name, clock=self.clock,
            state=cast.state, runner=cast.runner, clob=cast.source.clob, board=board,
        )  # fmt: skip
        for node in (
            *guards.nodes(board, safety),
            Node(component=status, requires=("feed",), required=False),
            Node(component=accounts, required=False),
            *([Node(component=resolutions, required=False)] if cast.source.clob_url else []),
            *cast.shadows.nodes(),
            *self.spec.parts(place),
        ):
            cast.supervisor.add(node)
        if channel is not None:
            guards.offer(channel, board)

    # --- living -------------------------------------------------------------------------------

    async def _reconciled(self, runner: Runner, execution: Execution) -> bool:
        state = runner.engine.state
        truth = await execution.account(query_of(state))
        left = reconcile(
            state, truth, runner.handle, venue=execution.name, now_ns=self.clock.now_ns()
        )
        if left:
            code = HaltCode.RECONCILIATION_DIFFERENCE
            self.alert(code.value, left, HALTS[code].remedy.replace("BOT", self.spec.name))
            self.end(
                EXIT_STAY_DOWN,
                f"journal and venue do not agree ({left}); see docs/runbook.md, 'Accounts differ'",
            )
        return not left

    async def _live(self, cast: Cast, execution: Execution, channel: pm2.Channel | None) -> None:
        runner, board, supervisor = cast.runner, cast.board, cast.supervisor
        loop = asyncio.create_task(runner.run())
        watch = asyncio.create_task(self._watch(runner, supervisor, cast.journal))
        resolve = asyncio.create_task(self._resolve(runner, execution))
        try:
            await supervisor.start()
            if await self._first_snapshots(cast.feed, loop, watch, resolve):
                memory.settle()
                self._allow_trading(runner)
                board.ready = True
                if channel is not None:
                    channel.ready()
                after_ms = (self.clock.now_ns() - self._started_ns) // 1_000_000
                self.log.info("READY", after_ms=after_ms)
            await self._until_end(loop, watch, resolve)
            if runner.failure:
                self.end(EXIT_RETRY, runner.failure)
        finally:
            board.ready = False
            if runner.engine.state.trading is not ev.TradingState.HALTED:
                self._stamp(runner, ev.TradingStateChanged, state=ev.TradingState.HALTED,
                            reason=self._why or "stopping", by="stop")  # fmt: skip
            if not loop.done():
                await wind_down(runner, execution, self.clock)
            watch.cancel()
            resolve.cancel()
            runner.stop()
            await asyncio.gather(loop, watch, resolve, return_exceptions=True)
            await supervisor.stop()

    async def _first_snapshots(self, feed: FeedPart, *tasks: asyncio.Task[None]) -> bool:
        """Wait until every book has its snapshot; false when the end comes first."""
        while not feed.settled:
            if self._ending.is_set() or self._left_s() == 0 or any(t.done() for t in tasks):
                return False
            await asyncio.sleep(0.02)
        return True

    def _left_s(self) -> float | None:
        """What is left of the duration that was asked for; nothing when none was."""
        if self.duration is None:
            return None
        return max(0.0, self.duration - (self.clock.now_ns() - self._started_ns) / NS_PER_SECOND)

    def _allow_trading(self, runner: Runner) -> None:
        order = runner.engine.state.operator
        states = {
            "resume": (ev.TradingState.ACTIVE, "reconciled, all books ready"),
            "reduce": (ev.TradingState.REDUCING, "an operator asked for it"),
            "flatten": (ev.TradingState.REDUCING, "an operator asked to sell everything"),
            "pause": (ev.TradingState.HALTED, "paused by an operator"),
        }
        state, reason = states[order]
        self._stamp(runner, ev.TradingStateChanged, state=state, reason=reason, by="start")

    async def _until_end(self, *tasks: asyncio.Task[None]) -> None:
        ending = asyncio.create_task(self._ending.wait())
        done, _ = await asyncio.wait(
            {ending, *tasks}, timeout=self._left_s(), return_when=asyncio.FIRST_COMPLETED
        )
        ending.cancel()
        if not done:
            self.end(EXIT_OK, f"ran for {self.duration:g} s as asked")
        for task in done & set(tasks):
            error = task.exception()
            if error is not None:
                self.end(EXIT_RETRY, f"{type(error).__name__}: {error}")
                self.log.error("CRASHED", exc_info=error)

    async def _watch(self, runner: Runner, supervisor: Supervisor, journal: JournalStore) -> None:
        """Health every ten seconds, and the journal's write-ahead log kept short in between."""
        checked_ns = self.clock.now_ns()
        while True:
            await asyncio.sleep(LOOK_S)
            now_ns = self.clock.now_ns()
            if runner.failure:
                self.end(EXIT_RETRY, runner.failure)
                return
            if now_ns - checked_ns >= HEALTH_S * NS_PER_SECOND:
                checked_ns = now_ns
                await supervisor.check()
            else:
                await supervisor.restart_due()
            if not runner.backlog:
                try:
                    journal.checkpoint()  # In a quiet moment, so that no decision pays for it.
                except JournalError as error:
                    runner.crashed(f"the journal cannot be written: {error}")

    async def _resolve(self, runner: Runner, execution: Execution) -> None:
        """Ask about orders of unknown outcome every five seconds. A venue that is down is no
        reason to end: they block their instruments until it is back.
        """
        state = runner.engine.state
        asked_ns = 0
        while True:
            await asyncio.sleep(LOOK_S)
            now_ns = self.clock.now_ns()
            if now_ns - asked_ns <= RESOLVE_NS or not overdue(state, now_ns - RESOLVE_NS):
                continue
            asked_ns = now_ns
            try:
                truth = await execution.account(query_of(state))
            except VenueError as error:
                self.log.warning("ORDERS of unknown outcome not answered for", reason=str(error))
            else:
                runner.put_facts(missed_facts(state, truth, self.clock.now_ns()))

    def _latched(self, runner: Runner, why: str) -> None:
        if runner.engine.state.trading is not ev.TradingState.HALTED:
            self._stamp(runner, ev.TradingStateChanged, state=ev.TradingState.HALTED, reason=why,
                        by="kill latch")  # fmt: skip
        self.end(EXIT_STAY_DOWN, f"{why}. Find out why, then run `fleet resume`")

    def _stamp(self, runner: Runner, kind: type[ev.Event], **fields: object) -> None:
        now_ns = self.clock.now_ns()
        runner.handle(kind(ts_event=now_ns, ts_recv=now_ns, **fields))
