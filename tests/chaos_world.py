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
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from fleet.clock import NS_PER_SECOND
from fleet.config import Mode
from fleet.domain import events as ev
from fleet.domain.instruments import Side, Universe
from fleet.domain.units import SCALE, Cash, notional_up
from fleet.engine.risk import RiskLimits
from fleet.journal.store import JournalReader
from fleet.runtime.gate_store import GateStore
from fleet.venues.polymarket.auth import l1_headers
from fleet.venues.polymarket.catalog import CatalogSettings, load_catalog
from fleet.venues.polymarket.contracts import POLYGON
from fleet.venues.polymarket.hosts import sandbox_hosts
from fleet.venues.transport import HttpSettings, JsonClient
from tests.chaos_bot import FEED, KEY, SLUG, admit, in_place
from tests.chaos_checks import JournalWatch, Posted, at_rest, nothing_rests, same_holdings
from tests.chaos_fleet import FleetWatch, Neighbour
from tests.chaos_ledger import ExchangeWatch
from tests.chaos_loop import PROCESS, VirtualLoop, run_virtually
from tests.chaos_mortal import Killed, Mortal, Point
from tests.chaos_processes import WALLET, Processes, Report
from tests.chaos_schedule import Schedule
from tests.proof import Disproved

HOSTS = sandbox_hosts(8788)
DEPOSIT = "2000"
REST_S_MAX = 300.0
"""How long a healed world may take to come to rest."""
FOLDER = "CHAOS_FOLDER"
"""The variable that says where lives keep their files; by default in shared memory."""


class World(Processes):
    """Lives a schedule and proves it: told of every entry, signature and request."""

    universe: Universe
    watch: JournalWatch

    def __init__(self, schedule: Schedule, folder: Path, loop: VirtualLoop) -> None:
        super().__init__(schedule, folder, loop, self)
        self.posted = Posted()
        self.ledger = ExchangeWatch(KEY.address, self.ledger_state)

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
        stake = {market: n for market, n in watch.stake.items() if market not in self.resolved}
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
            if self.sandbox_dies is not None:
                self.sandbox_dies = None
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
        await self.post("/sandbox/deposit", {"wallet": KEY.address, "amount": DEPOSIT})
        login = l1_headers(KEY, chain_id=POLYGON, timestamp_s=now_ns // NS_PER_SECOND)
        await self.post("/clob/auth/api-key", None, login)
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
            self.bystanders.append(self.wire.spawn("neighbour", neighbour.run()))
        self.fleet = FleetWatch(
            self.paths.fleet_db, WALLET, self.universe, schedule.conditions, neighbour, self.loop,
            self.clock,
        )  # fmt: skip
        self.watch = JournalWatch(self.universe, RiskLimits(
            max_market_exposure=Cash(1), max_wallet_exposure=Cash(1)))  # fmt: skip

    async def live(self) -> None:
        """The schedule, step by step."""
        self.start_bot()
        self.bystanders.append(self.wire.spawn("", self.person()))
        for step in self.schedule.steps:
            await asyncio.sleep(max(0.0, step.at_s - self.loop.time()))
            self._raise_problem()
            self.do(step)
        await asyncio.sleep(max(0.0, self.schedule.length_s - self.loop.time()))

    # --- the end ------------------------------------------------------------------------------

    async def rest(self) -> None:
        """Heal everything, redeem what is over, end trading, wait until nothing is open any more."""
        self.sandbox_dies, self.rules, self.next = None, [], None
        end_s = self.loop.time() + REST_S_MAX
        self.wanted = "reduce"
        while True:
            self._raise_problem()
            if self.loop.time() > end_s:
                raise Disproved("it never came to rest: " + self._open())
            await asyncio.sleep(1.0)
            if self.sandbox is not None and self.sandbox.server.faults.active:
                self.count_faults()
                self.sandbox.server.faults.struck.clear()
                self.sandbox.server.faults.clear()
            for life in self.lives.values():
                life.armed = None
            bot = self.bot
            if bot is None or not bot.ready or bot.life.cast is None or len(self.lives) != 1:
                continue
            state = bot.life.cast.state
            if self.wanted == "reduce" and state.operator == "reduce":
                if not self._unredeemed() and not state.bundles.pending:
                    self.wanted = "pause"
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
            self.gone(life)
        for task in [*self.bystanders, *self.coming]:
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
