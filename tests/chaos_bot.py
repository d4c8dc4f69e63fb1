"""ArbHunter's live half as a process of a chaos run: real parts, killed between any two steps.

The parts are the bot's own: catalogue, feed, runner, engine, strategy, risk, journal file, signing
guard, live venue, recovery. What stands around them here is what kills them: ``Mortal`` raises
``Killed`` at a named point, and after that nothing this process does has any effect. No part knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.domain import events as ev
from fleet.domain.instruments import Universe
from fleet.engine.engine import Engine
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.journal.store import JournalStore
from fleet.runtime.live_session import _earlier_operations, _earlier_orders
from fleet.runtime.recovery import missed_facts, overdue, query_of, reconcile
from fleet.runtime.runner import Runner
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from fleet.venues.polymarket.auth import ApiCredentials
from fleet.venues.polymarket.chain import ChainOperations
from fleet.venues.polymarket.chain_node import ChainNode
from fleet.venues.polymarket.client import ClobClient
from fleet.venues.polymarket.clob_http import ClientSettings
from fleet.venues.polymarket.feed import MarketFeed, token_groups
from fleet.venues.polymarket.guard import SigningGuard
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.polymarket.live import LiveSettings, LiveVenue
from fleet.venues.polymarket.live_account import Account, held_tokens
from fleet.venues.polymarket.shard import FeedSettings
from fleet.venues.polymarket.user_feed import UserFeed
from fleet.venues.port import VenueError
from fleet.venues.transport import HttpSettings, JsonClient
from fleet.venues.websocket import SessionSettings
from tests.chaos_chain import WireNode
from tests.chaos_wire import Wire
from tests.proof import Disproved

BOT, MODE = "ArbHunter", "live"
RESOLVE_NS = 5 * NS_PER_SECOND
MARKET = SessionSettings(data_age_max_ns=5 * NS_PER_SECOND, backoff_max_ns=NS_PER_SECOND)
USER = SessionSettings(
    data_age_max_ns=25 * NS_PER_SECOND, lifetime_ns=0, backoff_max_ns=NS_PER_SECOND
)


class Killed(BaseException):
    """The process ends here, as by kill -9."""


class Point(Enum):
    """Where a bot can be killed."""

    BEFORE_SIGN = "before sign"
    BEFORE_JOURNAL = "before the id is journalled"
    AFTER_JOURNAL = "after the id is journalled"
    BEFORE_POST = "before POST"
    AFTER_POST = "after POST"
    BEFORE_ANSWER = "before the answer"
    AT_FILL = "before a fill is journalled"
    BETWEEN_LEGS = "after a fill is journalled"
    AT_SETTLEMENT = "between match and settlement"
    BEFORE_CANCEL = "before a cancel"
    AT_OPERATION = "before an operation's hash is journalled"
    BEFORE_SEND = "before a transaction is sent"
    AFTER_SEND = "after a transaction is sent"
    AT_WRITE = "before any write"
    AFTER_WRITE = "after any write"
    AT_RECOVERY = "while the account is read"


class Mortal:
    """A process that can be killed, and what it has to do with once it is."""

    def __init__(self, name: str, on_death: Callable[[Mortal], None]) -> None:
        self.name = name
        self.dead = False
        self.armed: Point | None = None
        self.passed: dict[Point, int] = {}
        self._on_death = on_death

    def at(self, *points: Point) -> None:
        """These places are passed: die here if that was planned, or if it happened before."""
        for point in points:
            self.passed[point] = self.passed.get(point, 0) + 1
        if self.armed in points:
            self.kill()
        if self.dead:
            raise Killed(self.name)

    def kill(self) -> None:
        """It is dead from now on."""
        if not self.dead:
            self.dead = True
            self._on_death(self)


class MortalJournal:
    """A journal file whose writer may die just before or just after a write."""

    def __init__(self, store: JournalStore, life: Mortal) -> None:
        self._store, self._life = store, life

    def write(self, events: Sequence[ev.Event]) -> int:
        """Append, if the process lives."""
        life, kinds = self._life, {type(event) for event in events}
        signed, filled = ev.OrderSigned in kinds, ev.OrderFilled in kinds
        before = [Point.AT_WRITE]
        before += [Point.BEFORE_JOURNAL] if signed else []
        before += [Point.AT_FILL] if filled else []
        before += [Point.AT_SETTLEMENT] if ev.FillSettled in kinds else []
        before += [Point.AT_OPERATION] if ev.OperationSigned in kinds else []
        life.at(*before)
        seq = self._store.write(events)
        after = [Point.AFTER_WRITE]
        after += [Point.AFTER_JOURNAL] if signed else []
        after += [Point.BETWEEN_LEGS] if filled else []
        life.at(*after)
        return seq


class MortalGuard(SigningGuard):
    """The signing guard of a process that may die before it signs."""

    life: Mortal

    def sign_orders(self, *arguments: Any, **options: Any) -> Any:
        """Sign, if the process lives."""
        self.life.at(Point.BEFORE_SIGN)
        return super().sign_orders(*arguments, **options)


class BotProcess:
    """One life of the bot."""

    def __init__(
        self,
        life: Mortal,
        *,
        journal: Path,
        universe: Universe,
        limits: RiskLimits,
        settings: ArbSettings,
        hosts: Hosts,
        key: SecretKey,
        credentials: ApiCredentials,
        clock: Any,
        jitter: Callable[[], float],
        adopted_ns: int,
        wire: Wire | None,
    ) -> None:
        self.life, self.clock, self._wire = life, clock, wire
        self.universe, self._limits, self._settings = universe, limits, settings
        self._hosts, self._key, self._credentials = hosts, key, credentials
        self._jitter, self._adopted_ns = jitter, adopted_ns
        self.run_id = ev.RunId(f"{clock.now_ns():x}-{life.name.partition('-')[2]}")
        self.store = JournalStore(journal, bot=BOT, mode=MODE, run_id=self.run_id)
        self.runner: Runner | None = None
        self.live: LiveVenue | None = None
        self.ready = False
        self.failure = ""

    async def run(self) -> None:
        """Start-up, which is recovery, then trading until the end."""
        life, clock = self.life, self.clock
        state = State(self.universe)
        for entry in self.store.read():
            state.apply(entry.event)
        engine = Engine(
            state=state,
            strategy=Arbitrage(self._settings, View(state)),
            risk=Risk(self._limits),
            journal=MortalJournal(self.store, life),
        )
        self.runner = runner = Runner(engine, clock, lambda: None)
        node = self._node()
        await node.open()
        self.live = live = self._venue(runner, state, node)
        runner.execution = live
        self._stamp(ev.RunStarted, run_id=self.run_id, bot=BOT, mode=MODE, version="chaos")
        await live.start()
        left = await self._reconcile(live, state)
        if left:
            raise Disproved(f"{life.name}: journal and venue do not agree: {left}")
        feed = self._feed(runner)
        await feed.start()
        loop = asyncio.create_task(runner.run())
        self._stamp(ev.TradingStateChanged, state=ev.TradingState.ACTIVE, reason="told", by="start")
        self.ready = True
        watch = asyncio.create_task(self._watch(live, runner))
        done, _ = await asyncio.wait({loop, watch}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        self.failure = runner.failure or "ended"

    def _node(self) -> ChainNode:
        url, chain_id = self._hosts.rpc_url, self._hosts.chain_id
        if self._wire is None:
            return ChainNode(url, chain_id=chain_id)
        node = WireNode(url, chain_id=chain_id)
        node.wire = self._wire
        return node

    def open_now(self) -> list[str]:
        """What is open, under way or unsettled."""
        if self.runner is None:
            return ["the start"]
        state = self.runner.engine.state
        left = [*state.orders.open, *state.bundles.pending, *state.portfolio.unsettled_trades()]
        return list(map(str, left))

    async def _reconcile(self, live: LiveVenue, state: State) -> str:
        assert self.runner is not None
        while True:
            try:
                truth = await live.account(query_of(state))
            except VenueError:
                await asyncio.sleep(0.5)
                continue
            self.life.at(Point.AT_RECOVERY)
            return reconcile(
                state, truth, self.runner.handle, venue=live.name, now_ns=self.clock.now_ns()
            )

    async def _watch(self, live: LiveVenue, runner: Runner) -> None:
        """As the bot's own watch: orders of unknown outcome are asked about."""
        asked_ns = 0
        while not runner.failure:
            await asyncio.sleep(0.25)
            now_ns = self.clock.now_ns()
            state = runner.engine.state
            if overdue(state, now_ns - RESOLVE_NS) and now_ns - asked_ns > RESOLVE_NS:
                asked_ns = now_ns
                try:
                    truth = await live.account(query_of(state))
                except VenueError:
                    continue
                runner.put_facts(missed_facts(state, truth, self.clock.now_ns()))

    def halt(self) -> None:
        """An operator ends trading: what rests is cancelled, nothing new is opened."""
        self._stamp(ev.TradingStateChanged, state=ev.TradingState.HALTED, reason="told", by="test")

    def _stamp(self, kind: type[ev.Event], **fields: object) -> None:
        now_ns = self.clock.now_ns()
        assert self.runner is not None
        self.runner.handle(kind(ts_event=now_ns, ts_recv=now_ns, **fields))

    def _venue(self, runner: Runner, state: State, node: ChainNode) -> LiveVenue:
        guard = MortalGuard(
            self._key, instruments=self.universe.instruments, lease_alive=lambda: True,
            tick_of=lambda token: state.books[token].tick,
        )  # fmt: skip
        guard.life = self.life
        client = ClobClient(
            self._hosts, self._credentials, clock=self.clock,
            settings=ClientSettings(answer_s=4.0),
        )  # fmt: skip

        def journal(events: Sequence[ev.Event]) -> bool:
            for event in events:
                runner.handle(event)
            return not runner.failure

        chain = ChainOperations(
            guard.transactions(), node, self.universe, monotonic_ns=self.clock.now_ns
        )
        data_api = JsonClient(
            self._hosts.data_url, HttpSettings(per_second=1_000, burst=1_000), clock=self.clock
        )
        return LiveVenue(
            client=client,
            guard=guard,
            stream=lambda seen, gap: UserFeed(
                self._hosts.user_ws_url, self._credentials, on_sightings=seen, on_gap=gap,
                settings=USER, clock=self.clock, jitter=self._jitter,
            ),
            instruments=self.universe.instruments,
            journal=journal,
            sink=runner.put_facts,
            on_failure=runner.crashed,
            earlier=_earlier_orders(state),
            operations=chain,
            earlier_operations=_earlier_operations(state),
            account=Account(
                client, guard.wallet, adopted_ns=self._adopted_ns,
                held=lambda: held_tokens(data_api, guard.wallet),
            ),
            settings=LiveSettings(),
            clock=self.clock,
        )  # fmt: skip

    def _feed(self, runner: Runner) -> MarketFeed:
        return MarketFeed(
            self._hosts.market_ws_url,
            token_groups(self.universe.markets.values()),
            runner.put_market,
            settings=FeedSettings(session=MARKET, snapshot_timeout_ns=2_000 * NS_PER_MS),
            clock=self.clock,
            jitter=self._jitter,
        )
