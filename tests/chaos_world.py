"""A whole life of ArbHunter, live on the sandbox, from one seed: faults, kills, and the proofs.

``play`` makes the schedule (``Schedule``: which faults hold when, who is killed where) from the
seed, lives it on one virtual loop, then heals everything, lets trading end, and proves: the
journal's fold equals the exchange's ledger to the last unit, no order was decided, signed, accepted
or filled twice, and what was at stake stayed under its caps at every entry.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import Universe
from fleet.domain.units import SCALE, Cash
from fleet.engine.risk import RiskLimits
from fleet.journal.store import JournalReader
from fleet.sandbox.faults_catalogue import Fault, FaultRule
from fleet.strategies.arbitrage import ArbSettings
from fleet.strategies.legs import ExecutionSettings
from fleet.venues.polymarket.auth import ApiCredentials, l1_headers
from fleet.venues.polymarket.catalog import CatalogSettings, load_catalog
from fleet.venues.polymarket.contracts import POLYGON
from fleet.venues.polymarket.hosts import sandbox_hosts
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.port import VenueError
from fleet.venues.transport import HttpSettings, JsonClient
from tests.chaos_bot import BotProcess, Killed, Mortal, Point
from tests.chaos_checks import JournalWatch, Posted, Seen, at_rest, nothing_rests, same_holdings
from tests.chaos_loop import PROCESS, LoopClock, VirtualLoop, run_virtually
from tests.chaos_sandbox import SandboxProcess
from tests.chaos_wire import Wire, WireTransport
from tests.proof import Disproved

START_NS = 1_795_000_000 * NS_PER_SECOND
KEY = SecretKey(bytes([1] * 32))
HOSTS = sandbox_hosts(8788)
DEPOSIT = "2000"
LIMITS = RiskLimits(
    max_order_notional=Cash(60 * SCALE),
    max_market_exposure=Cash(120 * SCALE),
    max_wallet_exposure=Cash(1_500 * SCALE),
    max_day_turnover=Cash(1_000_000 * SCALE),
    max_day_loss=Cash(1_000_000 * SCALE),
    max_orders_in_flight=12,
)
REST_S_MAX = 240.0
"""How long a healed world may take to come to rest."""

REQUEST_FAULTS = (
    Fault.LOST_REQUEST, Fault.TIMEOUT_AFTER_ACCEPTANCE, Fault.ERROR_BEFORE, Fault.ERROR_AFTER,
    Fault.GATEWAY_ERROR, Fault.RATE_LIMITED, Fault.SLOW_REQUEST, Fault.SLOW_ANSWER,
)  # fmt: skip
FRAME_FAULTS = {
    Fault.FREEZE: 0.002, Fault.DROP: 0.002, Fault.DUPLICATE: 0.1, Fault.REORDER: 0.05,
    Fault.NO_REPLAY: 0.3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens at a time of the run: a fault, or a kill."""

    at_s: float
    rule: FaultRule | None = None
    kill: str = ""
    """``bot``, ``sandbox``, or empty."""
    point: Point | None = None
    """Where the bot is to die; nothing means at once."""
    after: bool = True
    """Sandbox: whether it dies after it handled an order, or before."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a seed brings."""

    seed: int
    length_s: float
    steps: tuple[Step, ...]
    together: bool

    @classmethod
    def of(cls, seed: int) -> Schedule:
        """The schedule of a seed: always the same."""
        draw = random.Random(f"chaos:{seed}")
        length_s = draw.uniform(15, 40)
        steps: list[Step] = []
        for fault in draw.sample(REQUEST_FAULTS, draw.randint(2, 5)):
            seconds = {Fault.LOST_REQUEST: 0.0, Fault.TIMEOUT_AFTER_ACCEPTANCE: 30.0}.get(fault)
            rule = FaultRule(fault=fault, rate=draw.uniform(0.02, 0.3), seconds=seconds,
                             where=("*/clob/*",) if draw.random() < 0.3 else ())  # fmt: skip
            steps.append(Step(draw.uniform(0, 3), rule=rule))
        for fault in draw.sample(list(FRAME_FAULTS), draw.randint(1, 4)):
            rule = FaultRule(fault=fault, rate=FRAME_FAULTS[fault] * draw.uniform(0.3, 1),
                             seconds=draw.uniform(1, 12) if fault is Fault.FREEZE else None)  # fmt: skip
            steps.append(Step(draw.uniform(0, 3), rule=rule))
        if draw.random() < 0.5:
            steps.append(Step(draw.uniform(2, 12), rule=FaultRule(
                fault=Fault.ENGINE_RESTART, times=1, seconds=draw.uniform(1, 5),
                then_seconds=draw.uniform(2, 8))))  # fmt: skip
        if draw.random() < 0.5:
            steps.append(Step(draw.uniform(0, 10), rule=FaultRule(
                fault=Fault.TICK_CHANGE, rate=0.01)))  # fmt: skip
        # Every second life has no failing settlement: there the caps must hold to the unit.
        if seed % 2:
            steps += [
                Step(0.0, rule=FaultRule(fault=fault, rate=draw.uniform(0.02, 0.2)))
                for fault in (Fault.SETTLEMENT_FAILED, Fault.SETTLEMENT_RETRYING)
            ]
        if draw.random() < 0.5:
            steps.append(Step(0.0, rule=FaultRule(
                fault=Fault.DELAYED_ORDER, rate=draw.uniform(0.05, 0.3),
                seconds=draw.uniform(0.05, 3))))  # fmt: skip
        for _ in range(draw.randint(1, 6)):
            point = draw.choice([*Point, None])
            steps.append(Step(draw.uniform(1, length_s), kill="bot", point=point))
        steps += [
            Step(draw.uniform(3, length_s), kill="sandbox", after=draw.random() < 0.7)
            for _ in range(draw.choice((0, 0, 1, 2)))
        ]
        ordered = tuple(sorted(steps, key=lambda step: step.at_s))
        return cls(seed, length_s, ordered, draw.random() < 0.3)


@dataclass(slots=True)
class Report:
    """What a life has seen and proved."""

    seed: int
    seen: Seen = field(default_factory=Seen)
    bot_kills: int = 0
    sandbox_kills: int = 0
    points: dict[str, int] = field(default_factory=dict)
    struck: dict[str, int] = field(default_factory=dict)
    posted: int = 0
    virtual_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.virtual_s:.0f} s lived, {self.bot_kills}+{self.sandbox_kills}"
            f" kills, {self.seen.orders} orders ({self.posted} posted), {self.seen.fills} fills"
            f" ({self.seen.failed} failed), {self.seen.operations} operations,"
            f" {self.seen.reconciled} agreements, {sum(self.struck.values())} faults"
        )


class World:
    """Both processes, the wire between them, and whoever kills them."""

    def __init__(self, schedule: Schedule, folder: Path, loop: VirtualLoop) -> None:
        self.schedule, self.folder, self.loop = schedule, folder, loop
        self.clock = LoopClock(loop, START_NS)
        self.draw = random.Random(f"world:{schedule.seed}")
        self.wire = Wire(schedule.seed, self)
        self.posted = Posted()
        self.report = Report(schedule.seed)
        self.universe: Universe | None = None
        self.credentials: ApiCredentials | None = None
        self.sandbox: SandboxProcess | None = None
        self.bot: BotProcess | None = None
        self.life: Mortal | None = None
        self.problem: BaseException | None = None
        self._lives = self._sandboxes = 0
        self._sandbox_dies: Step | None = None
        self._rules: list[FaultRule] = []
        self._next_point: Point | None = None
        """Where the next bot is to die: a point that only a start passes."""

    # --- the sandbox --------------------------------------------------------------------------

    async def start_sandbox(self) -> None:
        """A sandbox on its files."""
        self._sandboxes += 1
        sandbox = SandboxProcess(
            self._sandboxes, self.folder, self.schedule.seed, self.loop, self.clock
        )
        await sandbox.start()
        for rule in self._rules:
            sandbox.server.faults.put(rule, self.clock.now_ns())
        self.sandbox = sandbox
        self.wire.serve(sandbox)

    def kill_sandbox(self) -> None:
        """kill -9 of the exchange; PM2 starts it again."""
        if self.sandbox is None:
            return
        self.report.sandbox_kills += 1
        self._count_faults()
        self.sandbox.kill()
        self.sandbox = None
        self.wire.serve(None)
        self.wire.spawn("", self._restart_sandbox())

    async def _restart_sandbox(self) -> None:
        await asyncio.sleep(self.draw.uniform(0.3, 3))
        await self.start_sandbox()

    def _count_faults(self) -> None:
        if self.sandbox is not None:
            for fault, count in self.sandbox.server.faults.struck.items():
                self.report.struck[fault.value] = self.report.struck.get(fault.value, 0) + count

    # --- the bot ------------------------------------------------------------------------------

    def start_bot(self) -> None:
        """A bot on its journal."""
        self._lives += 1
        name = f"bot-{self._lives}"
        self.life = Mortal(name, self._died)
        self.life.armed, self._next_point = self._next_point, None
        self.wire.spawn(name, self._live(self.life))

    async def _live(self, life: Mortal) -> None:
        assert self.universe is not None and self.credentials is not None
        settings = ArbSettings(
            trade_size=Cash(50 * SCALE), cooldown_ns=200_000_000,
            execution=ExecutionSettings(
                together=self.schedule.together, rest_together=not self.schedule.together
            ),
        )  # fmt: skip
        bot = self.bot = BotProcess(
            life, journal=self.folder / "arbhunter-live.db", universe=self.universe, limits=LIMITS,
            settings=settings, hosts=HOSTS, key=KEY, credentials=self.credentials,
            clock=self.clock, jitter=self.draw.random, adopted_ns=START_NS,
            wire=self.wire,
        )  # fmt: skip
        try:
            await bot.run()
            self.problem = self.problem or Disproved(f"{life.name} ended: {bot.failure}")
            why = bot.failure
        except Killed:
            return
        except VenueError as error:
            why = str(error)
        except (AssertionError, Disproved) as error:
            self.problem = self.problem or error
            why = str(error)
        # It ended by itself: the process exits and PM2 starts it again.
        if not life.dead:
            life.kill()
            self.report.points[f"exit: {why[:60]}"] = 1

    def _died(self, life: Mortal) -> None:
        self.report.bot_kills += 1
        name = life.armed.value if life.armed is not None else "at once"
        self.report.points[name] = self.report.points.get(name, 0) + 1
        self.wire.dead.add(life.name)
        self.loop.call_soon(self._reap, life, self.bot)

    def _reap(self, life: Mortal, bot: BotProcess | None) -> None:
        for task in self.loop.tasks_of(life.name):
            task.cancel()
        if bot is not None and bot.life is life:
            bot.store._db.close()
        for link in list(self.wire.links):
            if link.process == life.name:
                link.broken("the bot is gone")
        self.wire.spawn("", self._restart_bot())

    async def _restart_bot(self) -> None:
        await asyncio.sleep(self.draw.uniform(0.1, 2))
        self.start_bot()

    # --- what the wire tells ------------------------------------------------------------------

    def leaving(self, request: httpx.Request) -> None:
        """The bot is about to send."""
        life = self._sender()
        if life is None:
            return
        if request.method == "DELETE":
            life.at(Point.BEFORE_CANCEL)
        elif _is_transaction(request):
            life.at(Point.BEFORE_SEND)
        elif _is_order(request):
            life.at(Point.BEFORE_POST)
            self._proved(lambda: self.posted.posted(request.content))
        else:
            life.at()

    def left(self, request: httpx.Request) -> None:
        """It is on its way."""
        life = self._sender()
        if life is not None and _is_order(request):
            life.at(Point.AFTER_POST)
        elif life is not None and _is_transaction(request):
            life.at(Point.AFTER_SEND)

    def handled(self, request: httpx.Request, answer: web.Response) -> None:
        """The exchange has acted, and may die before it says so."""
        if _is_order(request):
            if answer.status == 200 and isinstance(answer.body, bytes):
                body = answer.body
                self._proved(lambda: self.posted.answered(body))
            if self._sandbox_dies is not None:
                self._sandbox_dies = None
                self.kill_sandbox()
                raise Killed

    def broke(self, error: Exception) -> None:
        """The sandbox has a defect."""
        self.problem = self.problem or error

    def answered(self, request: httpx.Request) -> None:
        """The answer is at the bot's door."""
        life = self._sender()
        if life is not None:
            life.at(*([Point.BEFORE_ANSWER] if _is_order(request) else []))

    def _sender(self) -> Mortal | None:
        name = PROCESS.get()
        if name in self.wire.dead:
            raise Killed(name)
        return self.life if self.life is not None and self.life.name == name else None

    def _proved(self, check: Any) -> None:
        try:
            check()
        except Disproved as error:
            self.problem = self.problem or error

    # --- the life -----------------------------------------------------------------------------

    async def prepare(self) -> None:
        """A sandbox, a wallet with money, a key, the catalogue."""
        await self.start_sandbox()
        transport = WireTransport(self.wire)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8788") as http:
            body = {"wallet": KEY.address, "amount": DEPOSIT}
            (await http.post("/sandbox/deposit", json=body)).raise_for_status()
            now_s = self.clock.now_ns() // NS_PER_SECOND
            login = l1_headers(KEY, chain_id=POLYGON, timestamp_s=now_s)
            answer = await http.post("/clob/auth/api-key", headers=login)
            made = answer.raise_for_status().json()
        self.credentials = ApiCredentials(
            address=KEY.address, api_key=made["apiKey"], secret=made["secret"],
            passphrase=made["passphrase"],
        )  # fmt: skip
        fast = HttpSettings(per_second=10_000, burst=10_000)
        gamma = JsonClient(HOSTS.gamma_url, fast, clock=self.clock)
        clob = JsonClient(HOSTS.clob_url, fast, clock=self.clock)
        catalog = await load_catalog(gamma, clob, CatalogSettings(), now_ns=self.clock.now_ns())
        self.universe = catalog.universe

    async def live(self) -> None:
        """The schedule, step by step."""
        self.start_bot()
        for step in self.schedule.steps:
            await asyncio.sleep(max(0.0, step.at_s - self.loop.time()))
            self._raise_problem()
            self._do(step)
        await asyncio.sleep(max(0.0, self.schedule.length_s - self.loop.time()))

    def _do(self, step: Step) -> None:
        if step.rule is not None:
            if not step.rule.times:
                self._rules.append(step.rule)
            if self.sandbox is not None:
                self.sandbox.server.faults.put(step.rule, self.clock.now_ns())
        elif step.kill == "sandbox":
            if step.after:
                self._sandbox_dies = step
            else:
                self.kill_sandbox()
        elif self.life is not None and not self.life.dead:
            if step.point in {None, Point.AT_RECOVERY}:
                self._next_point = step.point
                self.life.kill()
            else:
                self.life.armed = step.point

    async def rest(self) -> None:
        """Heal everything, end trading, and wait until nothing is open any more."""
        self._sandbox_dies, self._rules, self._next_point = None, [], None
        end_s = self.loop.time() + REST_S_MAX
        while True:
            self._raise_problem()
            if self.loop.time() > end_s:
                raise Disproved("it never came to rest: " + self._open())
            await asyncio.sleep(1.0)
            life, bot = self.life, self.bot
            if self.sandbox is not None and self.sandbox.server.faults.active:
                self._count_faults()
                self.sandbox.server.faults.struck.clear()
                self.sandbox.server.faults.clear()
            if life is not None:
                life.armed = None
            if (
                bot is None
                or bot.life is not life
                or bot.life.dead
                or not bot.ready
                or bot.runner is None
            ):
                continue
            state = bot.runner.engine.state
            if state.trading.value == "ACTIVE":
                bot.halt()
            elif not self._open():
                return

    def _open(self) -> str:
        return ", ".join(self.bot.open_now()) if self.bot is not None else "no bot"

    def _raise_problem(self) -> None:
        if self.problem is not None:
            raise self.problem

    def prove(self) -> Report:
        """Fold the file and compare it with the exchange."""
        assert self.universe is not None and self.sandbox is not None and self.bot is not None
        self._raise_problem()
        watch = JournalWatch(self.universe, LIMITS)
        with JournalReader(self.folder / "arbhunter-live.db") as reader:
            for entry in reader.read():
                try:
                    watch.take(entry.event)
                except Disproved as error:
                    raise Disproved(f"entry {entry.seq}: {error}") from error
        at_rest(watch.state)
        exchange = self.sandbox.server.exchange
        nothing_rests(exchange.state.active)
        same_holdings(
            watch.state, cash=exchange.cash(KEY.address), tokens=exchange.tokens(KEY.address)
        )
        report = self.report
        report.seen, report.virtual_s = watch.seen, self.loop.time()
        report.posted = sum(self.posted.sent.values())
        return report


def _is_order(request: httpx.Request) -> bool:
    return request.method == "POST" and request.url.path in {"/clob/order", "/clob/orders"}


def _is_transaction(request: httpx.Request) -> bool:
    return request.url.path == "/rpc" and b"eth_sendRawTransaction" in request.content


def play(seed: int, schedule: Schedule | None = None) -> Report:
    """One life from its seed. Raises what it disproves."""
    random.seed(seed)
    shared = Path("/dev/shm")
    folder = Path(
        tempfile.mkdtemp(prefix=f"chaos-{seed}-", dir=shared if shared.is_dir() else None)
    )

    async def main(loop: VirtualLoop) -> Report:
        loop.set_exception_handler(_quiet)
        world = World(schedule or Schedule.of(seed), folder, loop)
        loop.connect = world.wire.lane
        with world.wire.in_place():
            try:
                await world.prepare()
                await world.live()
                await world.rest()
                return world.prove()
            finally:
                world.loop.call_soon(lambda: None)

    try:
        report = run_virtually(main)
    finally:
        shutil.rmtree(folder)
    assert isinstance(report, Report)
    return report


def _quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What the killed leave behind is no news."""
    if not isinstance(context.get("exception"), Killed | asyncio.CancelledError):
        loop.default_exception_handler(context)
