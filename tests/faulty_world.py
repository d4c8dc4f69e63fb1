"""A whole bot over the faulty paper venue, in virtual time, that may be killed at any write.

``World`` is what the hypothesis machine and the soak play with: engine, ArbHunter's strategy, a
journal and a ledger that survive kills, and synthetic books that are often mispriced. ``check``
holds after every step; ``settle`` lets everything come to rest and proves that journal and venue
agree. ``play`` draws a whole life from one seed, so that a failure of the soak can be repeated.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fleet.domain import events as ev
from fleet.domain.commands import Approved, CancelOrder, Command, RunOperation
from fleet.domain.instruments import (
    InstrumentId,
    Ladder,
    OutcomeSet,
    SetId,
    Side,
    Universe,
)
from fleet.domain.units import Price, Qty, notional_up
from fleet.engine.bundle import Bundle
from fleet.engine.engine import Engine
from fleet.engine.exposure import market_exposure, wallet_exposure
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.journal.codec import Codec
from fleet.journal.store import MemoryJournal
from fleet.runtime.recovery import missed_facts, query_of, reconcile
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from fleet.strategies.legs import ExecutionSettings
from fleet.venues.paper import PaperSettings
from fleet.venues.paper_faults import FaultPlan, FaultyVenue
from tests import builders
from tests.builders import MS, NS, c, durable, market_id, no, p, q, yes
from tests.proof import Proof, agree, prove

START = 1_795_000_000 * NS
MONTH = 30 * builders.DAY
BINARY, SET, LADDER = (1, 2), (3, 4, 5), (6, 7)
MARKETS = (*BINARY, *SET, *LADDER)
FAIR = {1: 50, 2: 30, 3: 20, 4: 30, 5: 50, 6: 40, 7: 60}
"""Middle prices in cents at which no idea pays."""
RATES = {1: "0.02", 2: "0", 6: "0.01", 7: "0.01"}
RESOLVE_NS = 5 * NS
RESYNC_NS = 20 * NS
"""How often the bot asks about everything that is open, as a live adapter's resync does."""
LIMITS = RiskLimits(
    max_order_notional=c("60"),
    max_market_exposure=c("110"),
    max_wallet_exposure=c("300"),
    max_day_turnover=c("1000000"),
    max_day_loss=c("1000000"),
    max_orders_in_flight=6,
)
SETTINGS = ArbSettings(trade_size=c("50"), cooldown_ns=100 * MS)
CASH = c("1000")


class Killed(BaseException):
    """The process ends here, as by kill -9."""


@dataclass(slots=True)
class Fuse:
    """Counts down durable writes and dispatches; at the end the process is killed."""

    left: int = 0

    def burn(self) -> None:
        """One more place where a process can die."""
        if self.left:
            self.left -= 1
            if not self.left:
                raise Killed


class Disk:
    """A durable file in memory; the fuse may burn out just before or just after a write."""

    def __init__(self, fuse: Fuse) -> None:
        self.file = MemoryJournal(codec=Codec())
        self._fuse = fuse

    def write(self, events: Sequence[ev.Event]) -> int:
        """Append, if the process lives."""
        self._fuse.burn()
        seq = self.file.write(events)
        self._fuse.burn()
        return seq


def universe() -> Universe:
    """Two binary markets, an outcome set of three and a ladder of two rungs."""
    plain = builders.universe(len(MARKETS), end_ns=START + MONTH)
    tokens = {
        token: builders.instrument(
            token, i.complement, i.market_id, rate=RATES.get(int(token[1:]), "0")
        )
        for token, i in plain.instruments.items()
    }
    group = OutcomeSet(id=SetId("s"), title="Set", markets=tuple(map(market_id, SET)))
    ladder = Ladder(id="l", title="Ladder", rungs=tuple(map(market_id, LADDER)))
    return replace(plain, instruments=tokens, sets=(group,), ladders=(ladder,))


class World:
    """One bot, one venue, and the things that can happen to them."""

    def __init__(self, seed: int, plan: FaultPlan | None = None, *, together: bool = False) -> None:
        self.now = START
        self.plan = plan or FaultPlan(seed=seed)
        self.settings = replace(SETTINGS, execution=ExecutionSettings(together=together,
                                                                      rest_together=not together))  # fmt: skip
        self.universe = universe()
        self.fuse = Fuse()
        self.journal, self.ledger = Disk(self.fuse), Disk(self.fuse)
        self.sent: set[str] = set()
        self.books: dict[InstrumentId, dict[tuple[Side, Price], Qty]] = {}
        self.kills = 0
        self.struck: dict[str, int] = {}
        self.paused = self.latched = False
        self.next_tick = self.next_resync = self.asked = 0
        for number in MARKETS:
            self._lay(number, FAIR[number], 1, 0, "100")
        self.alive = False
        self.start()

    # --- life and death -----------------------------------------------------------------------

    def start(self) -> None:
        """Start-up as the bot does it; dies and starts again while the fuse burns out in it."""
        while not self.alive:
            try:
                self._start()
                self.alive = True
            except Killed:
                self.kills += 1

    def _start(self) -> None:
        self.now += 700 * MS
        run_id = f"{self.now:x}-{self.kills}"
        self.journal.file.run_id = self.ledger.file.run_id = run_id
        self.shadow = State(self.universe)
        self.folded = 0
        state = State(self.universe)
        for entry in self.journal.file.read():
            state.apply(entry.event)
        self.engine = Engine(
            state=state,
            strategy=Arbitrage(self.settings, View(state)),
            risk=Risk(LIMITS),
            journal=self.journal,
        )
        self.venue = FaultyVenue(
            plan=self.plan,
            settings=PaperSettings(cash=CASH),
            instruments=self.universe.instruments,
            books=state.books,
            ledger=self.ledger,
            facts=[entry.event for entry in self.ledger.file.read()],
            now_ns=self.now,
        )
        self.handle(
            ev.RunStarted(
                ts_event=self.now, ts_recv=self.now, run_id=ev.RunId(run_id), bot="Bot",
                mode="paper", version="0",
            )
        )  # fmt: skip
        truth = self.venue.account(query_of(state))
        left = reconcile(state, truth, self.handle, venue="paper", now_ns=self.now)
        assert not left, f"journal and venue do not agree: {left}"
        self._snapshots(MARKETS)
        wanted = ev.TradingState.HALTED if state.operator == "pause" else ev.TradingState.ACTIVE
        self._trading(wanted, "start")
        self.next_tick = self.now + NS
        self.next_resync = self.now + RESYNC_NS

    def crash(self) -> None:
        """kill -9, and PM2 starts it again."""
        if self.alive:
            self._dead()
            self.start()

    def _dead(self) -> None:
        self.kills += 1
        self.alive = False
        for what, count in self.venue.disturbed.items():
            self.struck[what] = self.struck.get(what, 0) + count

    def arm(self, writes: int) -> None:
        """Let the process die at one of its next durable writes or dispatches."""
        self.fuse.left = writes

    def latch(self) -> None:
        """The kill latch: trading stops, the process ends and stays down."""
        if not self.alive:
            return
        try:
            self._trading(ev.TradingState.HALTED, "kill latch")
        except Killed:
            self.kills += 1
        self.alive = False
        self.latched = True

    def clear(self) -> None:
        """An operator clears the latch and starts the bot."""
        if self.latched:
            self.latched = False
            self.start()

    def pause(self) -> None:
        """An operator's standing order."""
        self._command("pause", ev.TradingState.HALTED)

    def resume(self) -> None:
        """The order to trade again."""
        self._command("resume", ev.TradingState.ACTIVE)

    def reduce(self) -> None:
        """The order to open nothing new."""
        self._command("reduce", ev.TradingState.REDUCING)

    def _command(self, action: str, state: ev.TradingState) -> None:
        def say() -> None:
            self.handle(
                ev.OperatorCommanded(ts_event=self.now, ts_recv=self.now, action=action, by="test")
            )
            self._trading(state, "operator")

        self._living(say)

    def _trading(self, state: ev.TradingState, by: str) -> None:
        self.handle(
            ev.TradingStateChanged(
                ts_event=self.now, ts_recv=self.now, state=state, reason="told", by=by
            )
        )

    def _living(self, act: Callable[[], None]) -> None:
        """Do something that may kill the process; PM2 starts it again."""
        if not self.alive:
            return
        try:
            act()
        except Killed:
            self._dead()
            self.start()

    # --- the runner ---------------------------------------------------------------------------

    def handle(self, event: ev.AnyEvent) -> Sequence[Command]:
        """One event through the engine, and its commands carried out."""
        commands = self.engine.handle(event)
        self._carry_out(commands)
        return commands

    def _carry_out(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Approved):
                request = command.request
                name: str = (
                    request.operation_id
                    if isinstance(request, RunOperation)
                    else request.client_order_id
                )
                assert name not in self.sent, f"{name} was sent twice"
                self.sent.add(name)
                self.fuse.burn()
                self.venue.submit(request, self.now)
            elif isinstance(command, CancelOrder):
                self.venue.cancel(command.client_order_id, self.now)

    def wait(self, span_ns: int) -> None:
        """Let time pass: answers, ticks each second, questions about what is open."""
        if not self.alive:
            self.now += span_ns
            return
        end_ns = self.now + span_ns
        self._living(lambda: self._run_until(end_ns))
        self.now = max(self.now, end_ns)

    def _run_until(self, end_ns: int) -> None:
        while True:
            due_ns = self.venue.next_due_ns()
            at_ns = min(self.next_tick, due_ns if due_ns is not None else end_ns + 1)
            if at_ns > end_ns:
                return
            self.now = max(self.now, at_ns)
            for fact in self.venue.advance(self.now):
                self.handle(fact)
            if self.now >= self.next_tick:
                self.next_tick = self.now + NS
                self.handle(ev.TimerFired(ts_event=self.now, ts_recv=self.now, name="tick"))
                self._watch()

    def _watch(self) -> None:
        unresolved = self.engine.state.orders.unresolved()
        if self.now >= self.next_resync or (unresolved and self.now - self.asked > RESOLVE_NS):
            self.asked = self.now
            self.next_resync = self.now + RESYNC_NS
            self.resolve()

    def resolve(self) -> None:
        """Ask the venue about everything that is open, and believe it."""
        state = self.engine.state
        for fact in missed_facts(state, self.venue.account(query_of(state)), self.now):
            self.handle(fact)

    # --- the market ---------------------------------------------------------------------------

    def move(self, number: int, mid: int, half: int, gap: int, depth: str) -> None:
        """A new pair of books in one frame; ``gap`` cents pull NO away from the mirror of YES."""
        before = {token: dict(self.books[token]) for token in (yes(number), no(number))}
        self._lay(number, mid, half, gap, depth)
        changes: list[ev.LevelChange] = []
        for token, old in before.items():
            new = self.books[token]
            gone = [(token, side, price, Qty(0)) for side, price in old if (side, price) not in new]
            changes += gone
            changes += [
                (token, side, price, qty)
                for (side, price), qty in new.items()
                if old.get((side, price)) != qty
            ]
        self.now += MS
        frame = ev.BookChanged(self.now, self.now, changes)

        def see() -> None:
            self.handle(frame)

        self._living(see)

    def disconnect(self, numbers: Sequence[int]) -> None:
        """A connection is lost; its books come back with snapshots."""
        tokens = tuple(token for n in numbers for token in (yes(n), no(n)))
        lost = ev.FeedDisconnected(
            ts_event=self.now, ts_recv=self.now, connection="1", instruments=tokens, reason="test"
        )

        def reconnect() -> None:
            self.handle(lost)
            self._snapshots(numbers)

        self._living(reconnect)

    def _snapshots(self, numbers: Sequence[int]) -> None:
        for token in (token for n in numbers for token in (yes(n), no(n))):
            book = self.books[token]
            bids = [(price, qty) for (side, price), qty in book.items() if side is Side.BUY]
            asks = [(price, qty) for (side, price), qty in book.items() if side is Side.SELL]
            self.handle(ev.BookSnapshot(self.now, self.now, token, bids, asks))

    def _lay(self, number: int, mid: int, half: int, gap: int, depth: str) -> None:
        """Three levels a side around ``mid`` cents; NO mirrors YES, but for ``gap``."""
        bids = [mid - half - k for k in range(3)]
        asks = [mid + half + k for k in range(3)]
        self.books[yes(number)] = _book(bids, asks, depth)
        self.books[no(number)] = _book(
            [100 - ask - gap for ask in asks], [100 - bid - gap for bid in bids], depth
        )

    # --- proofs -------------------------------------------------------------------------------

    def check(self) -> None:
        """What holds after every step."""
        if not self.alive:
            return
        state, book = self.engine.state, self.engine.state.portfolio
        for entry in self.journal.file.read(self.folded):
            self.shadow.apply(entry.event)
            self.folded = entry.seq
        assert durable(self.shadow) == durable(state), "the journal folds to another state"
        assert not state.anomaly, state.anomaly
        assert state.trading_by != "engine", f"the engine halted: {state.trading_reason}"
        assert book.cash + book.cost == book.deposited + book.realised
        assert book.cash >= 0
        assert len(state.orders.open) <= LIMITS.max_orders_in_flight
        self._check_caps(state)

    def _check_caps(self, state: State) -> None:
        """The caps hold by the engine's own count, and by a plain one that shares none of its code.

        A fill that fails to settle may pass them by what it was worth: a failed sale brings its
        tokens back, a failed purchase leaves a pooled position at its average cost.
        """
        failed = self._failed_worth(state)
        wallet_cap = LIMITS.max_wallet_exposure + failed
        market_cap = LIMITS.max_market_exposure + failed
        assert wallet_exposure(state) <= wallet_cap
        stake = dict.fromkeys(self.universe.markets, 0)
        markets = {token: i.market_id for token, i in self.universe.instruments.items()}
        for token, position in state.portfolio.positions.items():
            stake[markets[token]] += position.cost
        for order in state.orders.open.values():
            if order.side is Side.BUY:
                fee = self.universe.instruments[order.instrument_id].fees.fee(
                    order.price, order.remaining
                )
                stake[markets[order.instrument_id]] += (
                    notional_up(order.price, order.remaining) + fee
                )
        for operation in state.bundles.pending.values():
            if operation.cash < 0:
                stake[markets[operation.mint[0][0]]] -= operation.cash
        for market, at_stake in stake.items():
            assert market_exposure(market, state) <= market_cap
            assert at_stake <= market_cap, f"{at_stake} at stake in {market}"
        total = sum(stake.values())
        assert total <= wallet_cap, f"{total} at stake"

    def _failed_worth(self, state: State) -> int:
        failed = ev.SettlementStatus.FAILED
        trades = (t for t in state.portfolio.trades() if state.portfolio.settlement(t) is failed)
        fills = [self.venue.accounts.fill(trade) for trade in trades]
        return sum(notional_up(fill.price, fill.qty) + fill.fee for fill in fills)

    def settle(self) -> Proof:
        """Let everything come to rest, then prove that journal and venue agree."""
        self.fuse.left = 0
        self.clear()
        self.resume()
        for _ in range(400):
            for number in MARKETS:
                self.move(number, FAIR[number], 1, 0, "500")
            self.wait(NS)
            self.check()
            if self._quiet():
                break
        state = self.engine.state
        assert self._quiet(), (
            f"still open: {list(state.bundles.open.values())} {list(state.orders.open.values())}"
            f" {dict(state.bundles.pending)} {state.portfolio.unsettled_trades()}"
        )
        agree(state, self.venue.accounts)
        self.crash()
        self.check()
        return prove(self.ledger.file.read(), self.journal.file.read())

    def _quiet(self) -> bool:
        state = self.engine.state
        under_way = (
            state.orders.open or state.bundles.pending or state.portfolio.unsettled_trades()
            or self.venue.next_due_ns() is not None
        )  # fmt: skip
        return not under_way and all(self._robbed(b) for b in state.bundles.open.values())

    def _robbed(self, bundle: Bundle) -> bool:
        """Whether it waits for tokens that are gone because a fill failed to settle.

        Bundles share their positions: one may merge tokens another one bought while a fill of its
        own is on the way; if that fill then fails, somebody's tokens are missing for good.
        """
        portfolio = self.engine.state.portfolio
        failed = ev.SettlementStatus.FAILED
        return any(portfolio.settlement(t) is failed for t in portfolio.trades()) and any(
            leg.unwound > leg.filled
            or portfolio.position(plan.instrument_id).qty < leg.filled - leg.unwound
            for plan, leg in zip(bundle.plan.legs, bundle.legs, strict=True)
        )


def _book(bids: Sequence[int], asks: Sequence[int], depth: str) -> dict[tuple[Side, Price], Qty]:
    sides = ((Side.BUY, bids), (Side.SELL, asks))
    return {
        (side, Price(p("0.01") * cent)): q(depth)
        for side, cents in sides
        for cent in cents
        if 0 < cent < 100
    }


def play(seed: int, steps: int = 300) -> tuple[World, Proof]:
    """A whole life drawn from ``seed``, checked after every step and settled at the end."""
    draw = random.Random(seed)
    # Every second life has no failing fills: there every bundle must come to its end.
    plan = FaultPlan(seed=seed, fail=50 if seed % 2 else 0)
    world = World(seed, plan, together=draw.random() < 0.3)
    for _ in range(steps):
        dice = draw.random()
        if dice < 0.55:
            gap = draw.choice((0, 0, 0, 2, 4, 6, -4, -6))
            world.move(draw.choice(MARKETS), draw.randint(10, 90), draw.randint(1, 3), gap,
                       draw.choice(("8", "20", "60", "200")))  # fmt: skip
        elif dice < 0.88:
            world.wait(draw.choice((5, 40, 100, 300, 1_000, 4_000)) * MS)
        elif dice < 0.91:
            world.crash()
        elif dice < 0.94:
            world.arm(draw.randint(1, 12))
        elif dice < 0.96:
            world.disconnect(draw.sample(MARKETS, 3))
        else:
            acts = (world.pause, world.reduce, world.resume, world.resume, world.latch, world.clear,
                    world.clear)  # fmt: skip
            draw.choice(acts)()
        world.check()
    return world, world.settle()
