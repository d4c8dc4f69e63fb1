"""Everything that plays in one run of a bot, built around its journal and not yet started."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from fleet.clock import Clock
from fleet.config import Paths
from fleet.domain import events as ev
from fleet.domain.instruments import Universe
from fleet.engine.engine import Engine
from fleet.engine.risk import Risk
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.journal.fleet import FleetState, Lease
from fleet.journal.store import JournalStore
from fleet.ops.alerts import Alert
from fleet.runtime.components import Node, Supervisor
from fleet.runtime.guards import Guards, Seat
from fleet.runtime.parity_part import ParityParts, parity
from fleet.runtime.parts import FeedPart, LatchWatch, LeaseKeeper
from fleet.runtime.reporting import Reporter, ReportingJournal
from fleet.runtime.runner import Runner
from fleet.runtime.session import Ground, Setup
from fleet.runtime.snapshots import recover
from fleet.runtime.source_port import Source
from fleet.runtime.spec import BotSpec, Loaded
from fleet.runtime.status import Identity, StatusBoard


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a run takes place: whose it is, and what all its parts share."""

    spec: BotSpec
    setup: Setup
    loaded: Loaded
    paths: Paths
    clock: Clock
    alert: Alert
    fleet: FleetState
    lease: Lease
    run_id: ev.RunId
    started_ns: int
    latched: Callable[[Runner, str], None]
    """Told when the kill latch is seen set."""
    given_up: Callable[[str], None]
    """Told when a required component cannot be kept up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """The parts of one run."""

    journal: JournalStore
    runner: Runner
    feed: FeedPart
    source: Source
    guards: Guards
    keeper: LeaseKeeper
    supervisor: Supervisor
    board: StatusBoard
    shadows: ParityParts
    ground: Ground

    @property
    def state(self) -> State:
        """What the bot knows."""
        return self.runner.engine.state


def build(stage: Stage, source: Source, universe: Universe, stack: ExitStack) -> Cast:
    """Open the files of the run on ``stack``, fold the journal, make the parts. Raises
    ``JournalError``.
    """
    spec, setup, clock, paths = stage.spec, stage.setup, stage.clock, stage.paths
    journal = stack.enter_context(
        JournalStore(
            paths.journal(spec.slug, setup.mode, setup.feed), bot=spec.name,
            mode=setup.mode.value, run_id=stage.run_id,
        )
    )  # fmt: skip
    state = recover(journal, universe, loaded_ns=stage.started_ns)
    shadows = stack.enter_context(
        parity(paths=paths, bot=spec.slug, mode=setup.mode, feed=setup.feed, state=state,
               clock=clock, loaded=stage.loaded, clob_url=source.clob_url)
    )  # fmt: skip
    reporter = Reporter(state, opportunity=spec.opportunity)
    engine = Engine(
        state=state,
        strategy=spec.strategy(stage.loaded, View(state)),
        risk=Risk(setup.limits),
        journal=ReportingJournal(journal, reporter, shadows.recorder),
    )
    runner = Runner(engine, clock, lambda: supervisor.failed("feed", "its data was late"))
    feed = FeedPart(lambda: source.make_feed(universe, runner.feed_sink()))
    seat = Seat(bot=spec.name, mode=setup.mode.value, feed=setup.feed, wallet=stage.lease.wallet)
    guards = Guards(seat, stage.fleet, runner, clock, stage.alert)
    keeper = LeaseKeeper(stage.fleet, stage.lease, clock, guards.lease_lost)
    supervisor = Supervisor(
        [
            Node(component=keeper),
            Node(component=LatchWatch(stage.fleet, lambda why: stage.latched(runner, why))),
            Node(component=feed, requires=("lease", "latch")),
        ],
        clock,
        stage.given_up,
    )
    board = StatusBoard(
        Identity(bot=spec.name, mode=setup.mode.value, feed=setup.feed,
                 started_ns=stage.started_ns),
        engine=engine, runner=runner, reporter=reporter, supervisor=supervisor, disk=paths.var,
    )  # fmt: skip
    ground = Ground(
        spec=spec, loaded=stage.loaded, paths=paths, feed=setup.feed, clock=clock,
        run_id=stage.run_id, state=state, adopted_ns=journal.began_ns or stage.started_ns,
        limits=setup.limits, lease=stage.lease,
        lease_alive=lambda: keeper.lease.alive(clock.now_ns()),
        note=runner.note, facts=runner.put_facts, crashed=runner.crashed,
    )  # fmt: skip
    return Cast(
        journal=journal, runner=runner, feed=feed, source=source, guards=guards, keeper=keeper,
        supervisor=supervisor, board=board, shadows=shadows, ground=ground,
    )  # fmt: skip
