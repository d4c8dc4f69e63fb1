"""A whole life of ArbHunter, live on the sandbox, from one seed: faults, deaths, and the proofs.

``play`` lives the schedule of a seed (``tests.chaos_schedule``) on one virtual loop: the bot as it
is started, the exchange, the wire between them, a second bot in the same fleet, PM2 and a person who
start what is down. Then it heals everything, lets what was resolved be redeemed, ends trading, and
proves: the journal's fold equals the exchange's ledger to the last unit, no order was decided,
signed, accepted or filled twice, what was at stake stayed under its caps at every entry, over all
bots, and nobody ever signed or sent without the newest lease, above its stage or after a halt.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from fleet.clock import NS_PER_SECOND
from fleet.config import Mode, Paths
from fleet.domain import events as ev
from fleet.domain.instruments import Side, Universe
from fleet.domain.units import SCALE, Cash, notional_up
from fleet.engine.risk import RiskLimits
from fleet.journal.fleet import FleetState
from fleet.journal.inbox import OperatorInbox
from fleet.journal.store import JournalReader
from fleet.runtime.gate_store import GateStore
from fleet.runtime.live_standing import lease_name
from fleet.runtime.spec import EXIT_OK, EXIT_RETRY, EXIT_STAY_DOWN, EXIT_TWIN
from fleet.sandbox.exchange.state import ExchangeState
from fleet.sandbox.faults_catalogue import FaultRule
from fleet.venues.polymarket.auth import l1_headers
from fleet.venues.polymarket.catalog import CatalogSettings, load_catalog
from fleet.venues.polymarket.contracts import POLYGON
from fleet.venues.polymarket.hosts import sandbox_hosts
from fleet.venues.transport import HttpSettings, JsonClient
from tests.chaos_bot import (
    BOT,
    FEED,
    KEY,
    SLUG,
    BotProcess,
    admit,
    in_place,
    put_in_stage,
)
from tests.chaos_checks import JournalWatch, Posted, Seen, at_rest, nothing_rests, same_holdings
from tests.chaos_fleet import FleetWatch, Neighbour, Rival
from tests.chaos_ledger import ExchangeWatch
from tests.chaos_loop import PROCESS, LoopClock, VirtualLoop, run_virtually
from tests.chaos_mortal import Killed, Mortal, Point
from tests.chaos_sandbox import SandboxProcess
from tests.chaos_schedule import Schedule, Step, What
from tests.chaos_wire import Wire, WireTransport
from tests.proof import Disproved

START_NS = 1_795_000_000 * NS_PER_SECOND
HOSTS = sandbox_hosts(8788)
ORIGIN = "http://127.0.0.1:8788"
WALLET = lease_name(FEED, KEY.address)
DEPOSIT = "2000"
REST_S_MAX = 300.0
"""How long a healed world may take to come to rest."""
PERSON_LOOKS_S = 1.0
PERSON = "a person"
FOLDER = "CHAOS_FOLDER"
"""The variable that says where lives keep their files; by default in shared memory."""


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


class World:
    """All processes, the wire between them, and whoever kills and starts them."""

    def __init__(self, schedule: Schedule, folder: Path, loop: VirtualLoop) -> None:
        self.schedule, self.folder, self.loop = schedule, folder, loop
        self.paths = Paths(root=folder)
        self.clock = LoopClock(loop, START_NS)
        self.draw = random.Random(f"world:{schedule.seed}")
        self.wire = Wire(schedule.seed, self, loop)
        self.posted = Posted()
        self.report = Report(schedule.seed)
        self.sandbox: SandboxProcess | None = None
        self.bot: BotProcess | None = None
        self.problem: BaseException | None = None
        self.lives: dict[str, Mortal] = {}
        """The processes of the bot that are not dead, oldest first: two, when a twin starts."""
        self.ledger = ExchangeWatch(KEY.address, self._ledger_state)
        self._sandboxes = self._numbers = 0
        self._sandbox_dies: Step | None = None
        self._rules: list[FaultRule] = []
        self._next: Step | None = None
        """What is planned for the next start: a point that only a start passes."""
        self._coming: set[asyncio.Task[Any]] = set()
        """Starts of the bot that are planned."""
        self._wanted = "resume"
        """What a person wants the bot to do."""
        self._asked_s = -10.0
        self._resolved: set[str] = set()
        self._bystanders: list[asyncio.Task[Any]] = []
        self.universe: Universe
        self.watch: JournalWatch
        self.fleet: FleetWatch

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

    def _ledger_state(self) -> ExchangeState | None:
        return self.sandbox.server.exchange.state if self.sandbox is not None else None

    # --- the bot, and PM2 ---------------------------------------------------------------------

    def start_bot(self) -> None:
        """A bot on its files, as PM2 starts it."""
        self._numbers += 1
        life = Mortal(f"bot-{self._numbers}", self._numbers, self.loop, self, self._died)
        step, self._next = self._next, None
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
        self._gone(life)
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
        self._gone(life)
        if not life.orphan:
            self._start_later(life.down_s or self.draw.uniform(0.1, 2))

    def _gone(self, life: Mortal) -> None:
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
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)

    # --- what a process does: the witness -----------------------------------------------------

    def opened(self, life: Mortal) -> None:
        """It writes the journal from now on."""
        self._proved(lambda: self.fleet.opened(life))
        stage = self.schedule.conditions
        share = stage.percent
        limits, percent = self.watch.limits, life.percent
        self.watch.limits = RiskLimits(
            max_market_exposure=max(
                limits.max_market_exposure, _at(stage.limit(stage.market), percent)
            ),
            max_wallet_exposure=max(
                limits.max_wallet_exposure, _at(stage.limit(stage.wallet), percent)
            ),
            max_orders_in_flight=12,
        )
        if percent != share:
            self.report.note(f"started at {percent} % after {share} %")

    def wrote(self, life: Mortal, events: Sequence[ev.Event]) -> None:
        """These are in the journal: compare them with everything at once."""
        self._proved(lambda: self._wrote(life, events))

    def _wrote(self, life: Mortal, events: Sequence[ev.Event]) -> None:
        watch = self.watch
        for event in events:
            watch.take(event)
            if isinstance(event, ev.DecisionMade):
                self._in_stage(life, event)
        self.ledger.take(events)
        # Nobody can add to what is over, and what left the catalogue has no scope of its own.
        stake = {market: n for market, n in watch.stake.items() if market not in self._resolved}
        self.fleet.within_caps(stake, watch.failed_worth)
        if any(isinstance(event, ev.DecisionMade) for event in events):
            self.fleet.grants(stake, watch.failed_worth)

    def _in_stage(self, life: Mortal, decision: ev.DecisionMade) -> None:
        """No order is above the stage of the process that decides it."""
        stage = self.schedule.conditions
        most = _at(stage.limit(stage.order), life.percent)
        for order in decision.orders:
            cost = notional_up(order.price, order.qty)
            if cost > most and order.side is Side.BUY:
                raise Disproved(
                    f"order {order.client_order_id} costs {cost} at a stage of {life.percent} %,"
                    f" above {most}"
                )

    def signed(self, life: Mortal) -> None:
        """It made a signature."""
        self._proved(lambda: self.fleet.may_act(life, "signs"))

    # --- what the wire tells ------------------------------------------------------------------

    def leaving(self, request: httpx.Request) -> None:
        """The bot is about to send."""
        life = self._sender()
        if life is None:
            return
        if request.method == "DELETE":
            life.at(Point.BEFORE_CANCEL)
        elif _is_transaction(request):
            self._proved(lambda: self.fleet.may_act(life, "sends a transaction"))
            life.at(Point.BEFORE_SEND)
        elif _is_order(request):
            self._proved(lambda: self._may_leave(life, request.content))
            life.at(Point.BEFORE_POST)
        else:
            life.at()

    def _may_leave(self, life: Mortal, body: bytes) -> None:
        self.fleet.may_send(life)
        if self.schedule.conditions.whole_gate:
            self.ledger.others |= set(self._smokes())
        self.ledger.posted(body)
        self.posted.posted(body)

    def _smokes(self) -> frozenset[Any]:
        gate = self.paths.gate(SLUG, FEED)
        with GateStore(gate, bot=SLUG, feed=FEED, read_only=True) as store:
            return store.smoke_ids()

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
                self._proved(lambda: self.ledger.accepted(self.posted.answered(body)))
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
        return self.lives.get(name)

    def _proved(self, check: Callable[[], object]) -> None:
        try:
            check()
        except Disproved as error:
            self.problem = self.problem or error

    # --- the life -----------------------------------------------------------------------------

    async def prepare(self) -> None:
        """A sandbox, a wallet with money, a key, the catalogue, the fleet's files, its other bot."""
        await self.start_sandbox()
        now_ns, schedule = self.clock.now_ns(), self.schedule
        await self._post("/sandbox/deposit", {"wallet": KEY.address, "amount": DEPOSIT})
        login = l1_headers(KEY, chain_id=POLYGON, timestamp_s=now_ns // NS_PER_SECOND)
        await self._post("/clob/auth/api-key", None, login)
        fast = HttpSettings(per_second=10_000, burst=10_000)
        gamma = JsonClient(HOSTS.gamma_url, fast, clock=self.clock)
        clob = JsonClient(HOSTS.clob_url, fast, clock=self.clock)
        self.universe = (await load_catalog(gamma, clob, CatalogSettings(), now_ns=now_ns)).universe
        admit(self.paths, schedule.conditions, now_ns)
        neighbour = None
        if schedule.neighbour:
            neighbour = Neighbour(
                self.paths.fleet_db, self.universe, schedule.conditions, self.clock, schedule.seed
            )
            self._bystanders.append(self.wire.spawn("neighbour", neighbour.run()))
        self.fleet = FleetWatch(
            self.paths.fleet_db, WALLET, self.universe, schedule.conditions, neighbour, self.loop,
            self.clock,
        )  # fmt: skip
        self.watch = JournalWatch(self.universe, RiskLimits(
            max_market_exposure=Cash(1), max_wallet_exposure=Cash(1)))  # fmt: skip

    async def _post(
        self, path: str, body: object, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        transport = WireTransport(self.wire)
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as http:
            return await http.post(path, json=body, headers=headers)

    async def live(self) -> None:
        """The schedule, step by step."""
        self.start_bot()
        self._bystanders.append(self.wire.spawn("", self._person()))
        for step in self.schedule.steps:
            await asyncio.sleep(max(0.0, step.at_s - self.loop.time()))
            self._raise_problem()
            self._do(step)
        await asyncio.sleep(max(0.0, self.schedule.length_s - self.loop.time()))

    def _do(self, step: Step) -> None:
        match step.what:
            case What.FAULT if step.rule is not None:
                if not step.rule.times:
                    self._rules.append(step.rule)
                if self.sandbox is not None:
                    self.sandbox.server.faults.put(step.rule, self.clock.now_ns())
            case What.SANDBOX:
                if step.after:
                    self._sandbox_dies = step
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

    def _kill_bot(self, step: Step) -> None:
        life = self._some_life()
        if life is None:
            return
        life.down_s = step.seconds
        if step.point in {None, Point.AT_RECOVERY, Point.AT_LEASE}:
            self._next = step if step.point is not None else None
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
        for task in list(self._coming):
            task.cancel()
        self._coming.clear()
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
            self._next = step
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

    # --- the person ---------------------------------------------------------------------------

    def _spawn_person(self, work: Any) -> None:
        self._bystanders.append(self.wire.spawn("", work))

    async def _person(self) -> None:
        """Starts what stays down, and lets trade what stopped by itself."""
        while True:
            await asyncio.sleep(PERSON_LOOKS_S * self.draw.uniform(0.5, 1.5))
            if not self.lives and not self._coming:
                # Under a halt, too: it must not come up then.
                if self.fleet.latched_s is None or self.draw.random() < 0.3:
                    self.start_bot()
                continue
            self._ask()

    def _ask(self) -> None:
        bot, now_s = self.bot, self.loop.time()
        if bot is None or not bot.ready or bot.life.cast is None or now_s - self._asked_s < 3.0:
            return
        if bot.life.cast.state.operator != self._wanted:
            self._asked_s = now_s
            with FleetState(self.paths.fleet_db) as fleet:
                OperatorInbox(fleet).post(BOT, self._wanted, by=PERSON, ts=self.clock.now_ns())

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
                await self._post("/sandbox/resolve", {"market": market, "winner": winner})
            found = listings.by_condition.get(market)
            if found is None or found.closed:
                self._resolved.add(market)
                self.report.note("resolved")
                return

    # --- the end ------------------------------------------------------------------------------

    async def rest(self) -> None:
        """Heal everything, redeem what is over, end trading, wait until nothing is open any more."""
        self._sandbox_dies, self._rules, self._next = None, [], None
        end_s = self.loop.time() + REST_S_MAX
        self._wanted = "reduce"
        while True:
            self._raise_problem()
            if self.loop.time() > end_s:
                raise Disproved("it never came to rest: " + self._open())
            await asyncio.sleep(1.0)
            if self.sandbox is not None and self.sandbox.server.faults.active:
                self._count_faults()
                self.sandbox.server.faults.struck.clear()
                self.sandbox.server.faults.clear()
            for life in self.lives.values():
                life.armed = None
            bot = self.bot
            if bot is None or not bot.ready or bot.life.cast is None or len(self.lives) != 1:
                continue
            state = bot.life.cast.state
            if self._wanted == "reduce" and state.operator == "reduce":
                if not self._unredeemed() and not state.bundles.pending:
                    self._wanted = "pause"
            elif state.operator == "pause" and not self._open():
                return

    def _unredeemed(self) -> list[str]:
        """The tokens of answered questions that the wallet still holds."""
        if self.sandbox is None:
            return ["the exchange is down"]
        exchange = self.sandbox.server.exchange
        over = {
            token
            for market in exchange.state.markets.values()
            if market.winner is not None
            for token in market.tokens
        }
        return sorted(over & set(exchange.tokens(KEY.address)))

    def _open(self) -> str:
        left = self.bot.open_now() if self.bot is not None else ["no bot"]
        return ", ".join([*left, *self._unredeemed()])

    def _raise_problem(self) -> None:
        if self.problem is not None:
            raise self.problem

    def prove(self) -> Report:
        """Fold the file and compare it with the exchange."""
        assert self.sandbox is not None and self.bot is not None
        self._raise_problem()
        watch = JournalWatch(self.universe, self.watch.limits)
        with JournalReader(self.paths.journal(SLUG, Mode.LIVE, FEED)) as reader:
            for entry in reader.read():
                try:
                    watch.take(entry.event)
                except Disproved as error:
                    raise Disproved(f"entry {entry.seq}: {error}") from error
        at_rest(watch.state)
        exchange = self.sandbox.server.exchange
        nothing_rests(exchange.state.active)
        self.ledger.at_the_end()
        same_holdings(
            watch.state, cash=exchange.cash(KEY.address), tokens=exchange.tokens(KEY.address)
        )
        report = self.report
        report.seen, report.virtual_s = watch.seen, self.loop.time()
        report.posted = sum(self.posted.sent.values())
        report.fullest = self.fleet.fullest
        return report

    def close(self) -> None:
        """Everything that still lives ends."""
        for life in list(self.lives.values()):
            life.end()
            self._gone(life)
        for task in [*self._bystanders, *self._coming]:
            task.cancel()
        if hasattr(self, "fleet"):
            self.fleet.close()


def _at(dollars: int, percent: int) -> Cash:
    """A stage's share of whole dollars, at 1e-8."""
    return Cash(dollars * SCALE * percent // 100)


def _is_order(request: httpx.Request) -> bool:
    return request.method == "POST" and request.url.path in {"/clob/order", "/clob/orders"}


def _is_transaction(request: httpx.Request) -> bool:
    return request.url.path == "/rpc" and b"eth_sendRawTransaction" in request.content


def play(seed: int, schedule: Schedule | None = None) -> Report:
    """One life from its seed. Raises what it disproves."""
    random.seed(seed)
    shared = Path(os.environ.get(FOLDER) or "/dev/shm")
    folder = Path(
        tempfile.mkdtemp(prefix=f"chaos-{seed}-", dir=shared if shared.is_dir() else None)
    )

    async def main(loop: VirtualLoop) -> Report:
        loop.set_exception_handler(_quiet)
        lived = schedule or Schedule.of(seed)
        world = World(lived, folder, loop)
        gate = lived.conditions.whole_gate
        with in_place(world.wire, world.clock, loop, whole_gate=gate):
            try:
                await world.prepare()
                await world.live()
                await world.rest()
                return world.prove()
            finally:
                world.close()
                await asyncio.sleep(0)

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
