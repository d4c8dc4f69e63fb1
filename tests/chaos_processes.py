"""The processes of a chaos run and who starts, kills, stops and asks them: PM2, a person, the steps.

``Processes`` holds the bot's lives, the exchange's, and the bystanders, and does to them what a step
says. It proves nothing; whoever inherits it is told what they do (``chaos_mortal.Witness``,
``chaos_wire.Tap``).
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from fleet.clock import NS_PER_SECOND
from fleet.config import Paths
from fleet.journal.fleet import FleetState
from fleet.journal.inbox import OperatorInbox
from fleet.runtime.live_standing import lease_name
from fleet.runtime.spec import EXIT_OK, EXIT_RETRY, EXIT_STAY_DOWN, EXIT_TWIN
from fleet.sandbox.exchange.state import ExchangeState
from fleet.sandbox.faults_catalogue import FaultRule
from tests.chaos_bot import BOT, FEED, KEY, BotProcess, put_in_stage
from tests.chaos_checks import Seen
from tests.chaos_fleet import FleetWatch, Rival
from tests.chaos_loop import LoopClock, VirtualLoop
from tests.chaos_mortal import Killed, Mortal, Point, Witness
from tests.chaos_sandbox import SandboxProcess
from tests.chaos_schedule import Schedule, Step, What
from tests.chaos_wire import Tap, Wire, WireTransport
from tests.proof import Disproved

START_NS = 1_795_000_000 * NS_PER_SECOND
ORIGIN = "http://127.0.0.1:8788"
WALLET = lease_name(FEED, KEY.address)
PERSON_LOOKS_S = 1.0
PERSON = "a person"


@dataclass(slots=True)
class Report:
    """What a life has seen and proved."""

    seed: int
    seen: Seen = field(default_factory=Seen)
    bot_kills: int = 0
    sandbox_kills: int = 0
    points: dict[str, int] = field(default_factory=dict)
    struck: dict[str, int] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)
    """Daemon deaths, stops, halts, resolutions, stages, rivals, twins, and how starts ended."""
    posted: int = 0
    virtual_s: float = 0.0
    fullest: float = 0.0

    def note(self, what: str, count: int = 1) -> None:
        """Something happened."""
        self.happened[what] = self.happened.get(what, 0) + count

    def __str__(self) -> str:
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.happened.items()))
        return (
            f"seed {self.seed}: {self.virtual_s:.0f} s lived, {self.bot_kills}+{self.sandbox_kills}"
            f" kills, {self.seen.orders} orders ({self.posted} posted), {self.seen.fills} fills"
            f" ({self.seen.failed} failed), {self.seen.operations} operations,"
            f" {self.seen.reconciled} agreements, {sum(self.struck.values())} faults; {told}"
        )


class Listener(Witness, Tap, Protocol):
    """Whoever is told what the processes do."""


class Processes:
    """All processes, the wire between them, and whoever kills and starts them."""

    fleet: FleetWatch

    def __init__(
        self, schedule: Schedule, folder: Path, loop: VirtualLoop, listener: Listener
    ) -> None:
        self.schedule, self.folder, self.loop = schedule, folder, loop
        self.paths = Paths(root=folder)
        self.clock = LoopClock(loop, START_NS)
        self.draw = random.Random(f"world:{schedule.seed}")
        self.wire = Wire(schedule.seed, listener, loop)
        self.report = Report(schedule.seed)
        self.sandbox: SandboxProcess | None = None
        self.bot: BotProcess | None = None
        self.problem: BaseException | None = None
        self.lives: dict[str, Mortal] = {}
        """The processes of the bot that are not dead, oldest first: two, when a twin starts."""
        self.rules: list[FaultRule] = []
        """The faults that hold, also for the next exchange."""
        self.sandbox_dies: Step | None = None
        self.next: Step | None = None
        """What is planned for the next start: a point that only a start passes."""
        self.wanted = "resume"
        """What a person wants the bot to do."""
        self.resolved: set[str] = set()
        self.bystanders: list[asyncio.Task[Any]] = []
        self.coming: set[asyncio.Task[Any]] = set()
        """Starts of the bot that are planned."""
        self._listener = listener
        self._sandboxes = self._numbers = 0
        self._asked_s = -10.0

    # --- the sandbox --------------------------------------------------------------------------

    async def start_sandbox(self) -> None:
        """A sandbox on its files."""
        self._sandboxes += 1
        sandbox = SandboxProcess(
            self._sandboxes, self.folder, self.schedule.seed, self.loop, self.clock
        )
        await sandbox.start()
        for rule in self.rules:
            sandbox.server.faults.put(rule, self.clock.now_ns())
        self.sandbox = sandbox
        self.wire.serve(sandbox)

    def kill_sandbox(self) -> None:
        """kill -9 of the exchange; PM2 starts it again."""
        if self.sandbox is None:
            return
        self.report.sandbox_kills += 1
        self.count_faults()
        self.sandbox.kill()
        self.sandbox = None
        self.wire.serve(None)
        self.wire.spawn("", self._restart_sandbox())

    async def _restart_sandbox(self) -> None:
        await asyncio.sleep(self.draw.uniform(0.3, 3))
        await self.start_sandbox()

    def count_faults(self) -> None:
        if self.sandbox is not None:
            for fault, count in self.sandbox.server.faults.struck.items():
                self.report.struck[fault.value] = self.report.struck.get(fault.value, 0) + count

    def ledger_state(self) -> ExchangeState | None:
        return self.sandbox.server.exchange.state if self.sandbox is not None else None

    # --- the bot, and PM2 ---------------------------------------------------------------------

    def start_bot(self) -> None:
        """A bot on its files, as PM2 starts it."""
        self._numbers += 1
        life = Mortal(f"bot-{self._numbers}", self._numbers, self.loop, self._listener, self._died)
        step, self.next = self.next, None
        if step is not None:
            life.armed = step.point
            life.stop_s = step.seconds if step.what is What.STOP else 0.0
        self.lives[life.name] = life
        environ = self.schedule.conditions.environ(self.clock.now_ns())
        self.bot = BotProcess(life, self.paths, environ, self.clock)
        self.wire.spawn(life.name, self._live(self.bot))

    async def _live(self, bot: BotProcess) -> None:
        life, halted = bot.life, self.fleet.latched_s is not None
        code = EXIT_RETRY
        try:
            code = await bot.run()
            ran = code == EXIT_OK and not life.orphan
            if halted and ran and self.fleet.latched_s is not None:
                self.problem = Disproved(f"{life.name} was started and ran in spite of a halt")
        except Killed:
            return
        except (AssertionError, Disproved) as error:
            self.problem = self.problem or error
        if life.dead:
            return
        self.report.note(f"exit {code}")
        life.end()
        self.gone(life)
        if life.orphan:
            return  # Its daemon is dead; another one has started another bot.
        if code in {EXIT_TWIN, EXIT_STAY_DOWN}:
            return  # Among PM2's stop codes: a person starts it again (``_person``).
        self._start_later(self.draw.uniform(0.1, 2))

    def _died(self, life: Mortal) -> None:
        self.report.bot_kills += 1
        name = life.armed.value if life.armed is not None else "at once"
        self.report.points[name] = self.report.points.get(name, 0) + 1
        self.loop.call_soon(self._reap, life)

    def _reap(self, life: Mortal) -> None:
        self.gone(life)
        if not life.orphan:
            self._start_later(life.down_s or self.draw.uniform(0.1, 2))

    def gone(self, life: Mortal) -> None:
        """Nothing of a process is left."""
        self.wire.dead.add(life.name)
        self.lives.pop(life.name, None)
        self.loop.thaw(life.name)
        for task in self.loop.tasks_of(life.name):
            if task is not asyncio.current_task(self.loop):
                task.cancel()
        for link in list(self.wire.links):
            if link.process == life.name:
                link.broken("the bot is gone")

    def _start_later(self, seconds: float) -> None:
        async def start() -> None:
            await asyncio.sleep(seconds)
            self.start_bot()

        task = self.wire.spawn("", start())
        self.coming.add(task)
        task.add_done_callback(self.coming.discard)

    def _kill_bot(self, step: Step) -> None:
        life = self._some_life()
        if life is None:
            return
        life.down_s = step.seconds
        if step.point in {None, Point.AT_RECOVERY, Point.AT_LEASE}:
            self.next = step if step.point is not None else None
            life.kill()
        else:
            life.armed, life.stop_s = step.point, 0.0

    def _some_life(self) -> Mortal | None:
        """One of the processes of the bot: nearly always there is one."""
        return self.draw.choice(list(self.lives.values())) if self.lives else None

    def _kill_daemon(self, step: Step) -> None:
        """kill -9 of PM2's daemon: its children see their channel end, and whoever starts it again
        (``pm2 resurrect``) starts a twin, whether or not they are done.
        """
        self.report.note("daemon deaths")
        for task in list(self.coming):
            task.cancel()
        self.coming.clear()
        for life in self.lives.values():
            life.orphan = True
            if self.bot is not None and self.bot.life is life:
                self.bot.orphaned()
        self._start_later(step.seconds)

    def _stop_bot(self, step: Step) -> None:
        life = self._some_life()
        if life is None:
            return
        self.report.note("stops")
        if step.rival:
            rival = Rival(self.paths.fleet_db, WALLET, self.clock)
            self.wire.spawn("rival", self._rivalry(rival))
        if step.point in {Point.AT_LEASE, Point.AT_RECOVERY}:
            self.next = step
            life.kill()
        elif step.point is not None:
            life.armed, life.stop_s = step.point, step.seconds
        elif not self.loop.frozen(life.name):
            self.loop.freeze(life.name)
            self.wire.spawn("", self._continue(life, step.seconds))

    async def _continue(self, life: Mortal, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not life.dead:
            self.loop.thaw(life.name)
            life.stopped_s = self.loop.time()

    async def _rivalry(self, rival: Rival) -> None:
        waiting = asyncio.create_task(rival.run(8.0))
        await asyncio.wait({waiting}, timeout=60.0)
        if rival.held:
            self.report.note("rivals that got the wallet")
            await waiting
        else:
            waiting.cancel()

    # --- the steps ---------------------------------------------------------------------------

    def do(self, step: Step) -> None:
        match step.what:
            case What.FAULT if step.rule is not None:
                if not step.rule.times:
                    self.rules.append(step.rule)
                if self.sandbox is not None:
                    self.sandbox.server.faults.put(step.rule, self.clock.now_ns())
            case What.SANDBOX:
                if step.after:
                    self.sandbox_dies = step
                else:
                    self.kill_sandbox()
            case What.BOT:
                self._kill_bot(step)
            case What.DAEMON:
                self._kill_daemon(step)
            case What.STOP:
                self._stop_bot(step)
            case What.LATCH:
                self._spawn_person(self._halt(step.seconds))
            case What.RESOLVE:
                self._spawn_person(self._resolve())
            case _:
                self.report.note("stage changed")
                put_in_stage(self.paths, step.percent, self.clock.now_ns())

    # --- the person ---------------------------------------------------------------------------

    def _spawn_person(self, work: Any) -> None:
        self.bystanders.append(self.wire.spawn("", work))

    async def person(self) -> None:
        """Starts what stays down, and lets trade what stopped by itself."""
        while True:
            await asyncio.sleep(PERSON_LOOKS_S * self.draw.uniform(0.5, 1.5))
            if not self.lives and not self.coming:
                # Under a halt, too: it must not come up then.
                if self.fleet.latched_s is None or self.draw.random() < 0.3:
                    self.start_bot()
                continue
            self._ask()

    def _ask(self) -> None:
        bot, now_s = self.bot, self.loop.time()
        if bot is None or not bot.ready or bot.life.cast is None or now_s - self._asked_s < 3.0:
            return
        if bot.life.cast.state.operator != self.wanted:
            self._asked_s = now_s
            with FleetState(self.paths.fleet_db) as fleet:
                OperatorInbox(fleet).post(BOT, self.wanted, by=PERSON, ts=self.clock.now_ns())

    async def _halt(self, seconds: float) -> None:
        """`fleet halt`, and after a while `fleet resume`."""
        self.report.note("halts")
        with FleetState(self.paths.fleet_db) as fleet:
            fleet.halt("a step of the run", PERSON, self.clock.now_ns())
            self.fleet.latched_s = self.loop.time()
            await asyncio.sleep(seconds)
            fleet.resume(PERSON, self.clock.now_ns())
            self.fleet.latched_s = None

    async def _resolve(self) -> None:
        """The question of a market is answered, of one that is held if there is one."""
        if self.sandbox is None:
            return
        exchange = self.sandbox.server.exchange
        held = sorted(exchange.tokens(KEY.address))
        listings = exchange.simulator.listings
        open_now = [c for c, market in sorted(listings.by_condition.items()) if not market.closed]
        wanted = [
            listings.by_token[token][0].spec.condition_id
            for token in held
            if token in listings.by_token
        ]
        wanted = [condition for condition in wanted if condition in open_now] or open_now
        if not wanted:
            return
        market, first = self.draw.choice(wanted), self.draw.choice((0, 1))
        for winner in (first, 1 - first):
            with suppress(httpx.TransportError):  # It may have done it all the same.
                await self.post("/sandbox/resolve", {"market": market, "winner": winner})
            found = listings.by_condition.get(market)
            if found is None or found.closed:
                self.resolved.add(market)
                self.report.note("resolved")
                return

    async def post(
        self, path: str, body: object, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        transport = WireTransport(self.wire)
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as http:
            return await http.post(path, json=body, headers=headers)
