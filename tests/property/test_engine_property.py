"""The engine under any interleaving: caps hold, money adds up, the journal tells the same story.

A world plays venue, operator and a greedy strategy that wishes whatever it likes: plans with false
budgets, overlapping bundles, orders of any size, closings at the worst moment. The venue
acknowledges, fills, loses, duplicates, cancels, rejects and settles in any order it could. Long
walks by seed go deep; the state machine goes less deep but shrinks what it finds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

from fleet.domain import events as ev
from fleet.domain.commands import (
    Approved,
    CloseBundle,
    Command,
    LegPlan,
    OpenBundle,
    OperationId,
    OperationIntent,
    OperationKind,
    OrderIntent,
    Purpose,
    RunOperation,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.events import AnyEvent, SettlementStatus, TradingState
from fleet.domain.instruments import FEE_STEP, InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, notional_up
from fleet.engine.bundle import Bundle
from fleet.engine.orders import TERMINAL, OrderStatus
from fleet.engine.risk import RiskLimits
from fleet.engine.state import fold
from tests.builders import (
    MS,
    NS,
    Rig,
    confirmed,
    deposit,
    durable,
    no,
    snapshot,
    tick,
    trading,
    universe,
    yes,
)

WORLD = universe(2, rate="0.05")
TOKENS = sorted(WORLD.instruments)
LIMITS = RiskLimits(
    max_order_notional=Cash(8 * SCALE),
    max_market_exposure=Cash(10 * SCALE),
    max_wallet_exposure=Cash(13 * SCALE),
    max_orders_in_flight=5,
)
"""So small that a few bundles reach every one of them."""
CASHES = ("40", "11")
"""More than the limits allow to spend, and less."""
SETTLED = [*SettlementStatus, *[SettlementStatus.MINED, SettlementStatus.CONFIRMED] * 3]
PAIR = ((yes(1), no(1)), (yes(2), no(2)))


class Chooser(Protocol):
    """Where choices come from: a seed, or hypothesis."""

    def choice(self, found: Sequence[Any]) -> Any:
        """One of these."""
        ...

    def randint(self, low: int, high: int) -> int:
        """A number of this range, ends included."""
        ...


class Drawn:
    """Choices that hypothesis makes and shrinks."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def choice(self, found: Sequence[Any]) -> Any:
        return self._data.draw(st.sampled_from(found))

    def randint(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))


def cents(number: int) -> Price:
    return Price(number * SCALE // 100)


def often(by: Chooser) -> bool:
    return bool(by.randint(0, 3))


def seldom(by: Chooser) -> bool:
    return not by.randint(0, 4)


def lots(by: Chooser) -> Qty:
    return Qty(by.randint(5, 14) * SCALE)


class World:
    """Everything that can happen to one engine, and what must hold."""

    def __init__(self) -> None:
        self.rig = Rig(WORLD, limits=LIMITS)
        self.now = NS
        self.heard: list[AnyEvent] = []
        self.wishes: list[tuple[int, Any]] = []
        self.commands: list[Command] = []
        self.sent: dict[str, SubmitOrder] = {}
        self.ran: dict[OperationId, RunOperation] = {}
        self.left: dict[str, Qty] = {}
        """What the venue may still fill of each order."""
        self.refused_by_venue: set[str] = set()
        self.fills = 0
        self.failures = True
        self.failed = False
        """Whether a fill failed: what it had freed comes back, and a cap set since may be passed."""
        self.facts: list[ev.Event] = []
        self.ended: dict[str, OrderStatus] = {}
        self.marks: list[tuple[int, dict[str, Any]]] = []

    # --- plumbing -----------------------------------------------------------------------------

    def say(self, event: AnyEvent, *wishes: Any) -> None:
        self.rig.script.next = list(wishes)
        self.heard.append(event)
        self.wishes.extend((len(self.heard), wish) for wish in wishes)
        for command in self.rig.engine.handle(event):
            self.commands.append(command)
            if isinstance(command, Approved):
                self.take(command.request)
        self.marks.append((self.rig.journal.last_seq, durable(self.rig.state)))

    def take(self, request: SubmitOrder | RunOperation) -> None:
        if isinstance(request, SubmitOrder):
            assert request.client_order_id not in self.sent
            self.sent[request.client_order_id] = request
            self.left[request.client_order_id] = request.qty
        else:
            assert request.operation_id not in self.ran
            self.ran[request.operation_id] = request

    def fact(self, event: ev.Event) -> None:
        self.facts.append(event)
        self.say(event)

    def later(self) -> int:
        self.now += MS
        return self.now

    def alive(self, order: SubmitOrder) -> bool:
        return order.client_order_id not in self.refused_by_venue

    def some_order(self, by: Chooser) -> SubmitOrder | None:
        """Any order, the ones that may still fill more often than the others."""
        fillable = [name for name, left in self.left.items() if left]
        names = fillable if fillable and often(by) else sorted(self.sent)
        return self.sent[by.choice(names)] if names else None

    def some_bundle(self, by: Chooser) -> Bundle | None:
        bundles = self.rig.engine.view.open_bundles
        return bundles[by.choice(list(bundles))] if bundles else None

    def held(self, token: InstrumentId) -> Qty:
        return self.rig.engine.view.position(token).settled

    def start(self, cash: str) -> None:
        self.say(deposit(cash))
        for token in TOKENS:
            self.say(snapshot(token, [("0.01", "500")], [("0.99", "500")], at=self.later()))
        self.say(trading(TradingState.ACTIVE))

    # --- the market and the operator ----------------------------------------------------------

    def market_moves(self, by: Chooser) -> None:
        at, bid = self.later(), by.randint(2, 49)
        ask = bid - 1 if seldom(by) else bid + by.randint(1, 50)
        depth = Qty(50 * SCALE)
        token = by.choice(TOKENS)
        self.say(ev.BookSnapshot(at, at, token, [(cents(bid), depth)], [(cents(ask), depth)]))

    def feed_is_lost(self, by: Chooser) -> None:
        token = by.choice(TOKENS)
        self.say(
            ev.FeedDisconnected(
                ts_recv=self.later(), connection="c", instruments=(token,), reason="gone"
            )
        )
        if often(by):
            self.say(snapshot(token, [("0.01", "500")], [("0.99", "500")], at=self.later()))

    def operator_limits(self, by: Chooser) -> None:
        state = by.choice([TradingState.HALTED, TradingState.REDUCING])
        self.say(trading(state, at=self.later()))
        if often(by):
            self.operator_resumes(by)

    def operator_resumes(self, _by: Chooser) -> None:
        self.say(trading(TradingState.ACTIVE, at=self.later()))

    # --- the strategy -------------------------------------------------------------------------

    def some_leg(self, by: Chooser) -> LegPlan:
        return LegPlan(
            instrument_id=by.choice(TOKENS),
            side=by.choice([Side.BUY, Side.BUY, Side.BUY, Side.SELL]),
            qty=lots(by),
            limit=cents(by.randint(20, 70)),
            unwind=cents(by.randint(1, 20)),
        )

    def wish_a_bundle(self, by: Chooser) -> None:
        legs = tuple(self.some_leg(by) for _ in range(by.randint(1, 2)))
        cost: int = sum(notional_up(leg.limit, leg.qty) for leg in legs if leg.side is Side.BUY)
        budget = Cash(cost if often(by) else 1)
        start = OperationKind.SPLIT if seldom(by) else None
        tif, also = by.choice([TimeInForce.FAK, TimeInForce.GTC]), often(by)
        wishes: list[Any] = []
        for offset in range(2 if seldom(by) else 1):
            bundle_id = self.rig.engine.view.next_bundle_id(offset)
            wishes.append(
                OpenBundle(
                    bundle_id=bundle_id,
                    idea="GREEDY",
                    key=legs[0].instrument_id,
                    legs=legs,
                    start=start,
                    finish=None,
                    payoff=Price(SCALE),
                    budget=budget,
                    edge=Cash(1),
                )
            )
            wishes += [
                OrderIntent(
                    bundle_id=bundle_id,
                    leg=index,
                    purpose=Purpose.LEG,
                    instrument_id=leg.instrument_id,
                    side=leg.side,
                    price=leg.limit,
                    qty=leg.qty,
                    tif=tif,
                )
                for index, leg in enumerate(legs)
                if leg.side is Side.BUY and also
            ]
        self.say(tick(self.later()), *wishes)

    def wish_an_order(self, by: Chooser) -> None:
        """What is left of a leg, or what could be sold; now and then something else."""
        bundle = self.some_bundle(by)
        if bundle is None:
            return
        index, unwind = by.randint(0, len(bundle.plan.legs) - 1), seldom(by)
        leg = bundle.plan.legs[index]
        left = Qty(leg.qty - bundle.legs[index].filled)
        right = self.held(leg.instrument_id) if unwind else left
        intent = OrderIntent(
            bundle_id=bundle.id,
            leg=index,
            purpose=Purpose.UNWIND if unwind else Purpose.LEG,
            instrument_id=leg.instrument_id,
            side=Side.SELL if unwind else leg.side,
            price=leg.limit if often(by) else cents(by.randint(20, 70)),
            qty=right if often(by) else by.choice([leg.qty, lots(by)]),
        )
        self.say(tick(self.later()), *[intent] * (2 if seldom(by) else 1))

    def wish_a_split(self, by: Chooser) -> None:
        bundle = self.some_bundle(by)
        if bundle is None:
            return
        leg = bundle.plan.legs[0]
        pair = next(p for p in PAIR if leg.instrument_id in p)
        qty = leg.qty if often(by) else lots(by)
        intent = OperationIntent(
            bundle_id=bundle.id,
            kind=OperationKind.SPLIT,
            subject="m",
            burn=(),
            mint=tuple((token, qty) for token in pair),
            cash=Cash(-qty),
        )
        self.say(tick(self.later()), *[intent] * (2 if seldom(by) else 1))

    def wish_a_merge(self, by: Chooser) -> None:
        bundle, pair = self.some_bundle(by), by.choice(PAIR)
        if bundle is None:
            return
        whole = Qty(min(self.held(token) for token in pair))
        qty = whole if often(by) else lots(by)
        intent = OperationIntent(
            bundle_id=bundle.id,
            kind=OperationKind.MERGE,
            subject="m",
            burn=tuple((token, qty) for token in pair),
            mint=(),
            cash=Cash(qty),
        )
        wishes: list[Any] = [intent] * (2 if seldom(by) else 1)
        if seldom(by):
            wishes.append(structs.replace(intent, kind=OperationKind.REDEEM))
        self.say(tick(self.later()), *wishes)

    def wish_to_close(self, by: Chooser) -> None:
        bundle = self.some_bundle(by)
        if bundle is not None and by.randint(0, 1):
            self.say(tick(self.later()), CloseBundle(bundle_id=bundle.id, outcome="ENOUGH"))

    # --- the venue ----------------------------------------------------------------------------

    def venue_fills(self, by: Chooser) -> None:
        order = self.some_order(by)
        if order is None or not self.left[order.client_order_id] or not self.alive(order):
            return
        left, part = self.left[order.client_order_id], by.randint(1, 4)
        better = by.randint(0, 3) * (-1 if order.side is Side.BUY else 1)
        price = Price(min(max(order.price + cents(better), cents(1)), cents(99)))
        qty = Qty(left if part == 4 else max(1, left * part // 4))
        most = WORLD.instruments[order.instrument_id].fees.fee(price, qty)
        self.left[order.client_order_id] = Qty(left - qty)
        self.fills += 1
        self.fact(
            ev.OrderFilled(
                ts_event=self.later(),
                ts_recv=self.now,
                trade_id=ev.TradeId(f"t{self.fills}"),
                client_order_id=order.client_order_id,
                instrument_id=order.instrument_id,
                side=order.side,
                price=price,
                qty=qty,
                fee=Cash(most * by.randint(0, 4) // 4),
            )
        )

    def venue_answers(self, by: Chooser) -> None:
        order = self.some_order(by)
        if order is None or not self.alive(order):
            return
        name, at = order.client_order_id, self.later()
        venue_id = ev.VenueOrderId(f"v{name}")
        facts: list[ev.Event] = [
            ev.OrderAccepted(ts_recv=at, client_order_id=name, venue_order_id=venue_id),
            ev.OrderSigned(ts_recv=at, client_order_id=name, venue_order_id=venue_id),
            ev.SubmitUnknown(ts_recv=at, client_order_id=name, reason="timeout"),
        ]
        self.fact(by.choice(facts))

    def venue_ends_an_order(self, by: Chooser) -> None:
        """Kill the rest, or reject what nothing is known of; nothing of it fills afterwards."""
        order = self.some_order(by)
        if order is None or not self.alive(order):
            return
        known = self.rig.state.orders.get(order.client_order_id)
        assert known is not None
        name, at = order.client_order_id, self.later()
        self.left[name] = Qty(0)
        if known.status is OrderStatus.SUBMITTED and often(by):
            self.refused_by_venue.add(name)
            self.fact(ev.OrderRejected(ts_recv=at, client_order_id=name, reason="no"))
        else:
            self.fact(ev.OrderCanceled(ts_recv=at, client_order_id=name, reason="rest"))

    def venue_settles(self, by: Chooser) -> None:
        trades = [fact for fact in self.facts if isinstance(fact, ev.OrderFilled)]
        if not trades:
            return
        fill, status = by.choice(trades), by.choice(SETTLED)
        before = self.rig.state.portfolio.settlement(fill.trade_id)
        held = self.rig.state.portfolio.position(fill.instrument_id).qty
        if status is SettlementStatus.FAILED and before is not SettlementStatus.CONFIRMED:
            if not self.failures or (fill.side is Side.BUY and held < fill.qty):
                return
            self.failed = True
        at = self.later()
        self.fact(ev.FillSettled(ts_event=at, ts_recv=at, trade_id=fill.trade_id, status=status))

    def chain_answers(self, by: Chooser) -> None:
        pending = sorted(self.rig.state.bundles.pending)
        if not pending:
            return
        operation = self.ran[by.choice(pending)]
        if often(by):
            self.fact(confirmed(operation, at=self.later()))
        else:
            self.fact(
                ev.OperationRejected(
                    ts_recv=self.later(), operation_id=operation.operation_id, reason="reverted"
                )
            )

    def venue_repeats_itself(self, by: Chooser) -> None:
        """A duplicate of the money: nothing may move."""
        money = [f for f in self.facts if isinstance(f, ev.OrderFilled | ev.OperationConfirmed)]
        if not money:
            return
        before = durable(self.rig.state)
        self.say(by.choice(money))
        assert durable(self.rig.state) == before

    # --- what must hold -----------------------------------------------------------------------

    def nothing_contradicts(self) -> None:
        """The venue above tells no lies, so the engine must not see any."""
        assert self.rig.state.trading_by != "engine", self.rig.state.trading_reason

    def money_is_conserved(self) -> None:
        book = self.rig.state.portfolio
        assert book.cash + book.cost == book.deposited + book.realised

    def dust(self) -> int:
        """Each fill rounds its own fee and notional up."""
        return self.fills * (FEE_STEP + 1)

    def at_stake(self, tokens: set[InstrumentId]) -> int:
        """What these tokens cost and may yet cost, from what was really sent: not from a reserve."""
        total: int = sum(self.rig.state.portfolio.position(token).cost for token in tokens)
        for name, left in self.left.items():
            order = self.sent[name]
            if order.side is Side.BUY and order.instrument_id in tokens and left:
                fees = WORLD.instruments[order.instrument_id].fees
                total += notional_up(order.price, left) + fees.fee(order.price, left)
        for operation in self.rig.state.bundles.pending.values():
            if any(token in tokens for token, _ in operation.mint):
                total += max(0, -operation.cash)
        return total

    def exposure_never_exceeds_the_caps(self) -> None:
        if self.failed:
            return
        for pair in PAIR:
            assert self.at_stake(set(pair)) <= LIMITS.max_market_exposure + self.dust()
        assert self.at_stake(set(TOKENS)) <= LIMITS.max_wallet_exposure + self.dust()

    def every_order_obeys_its_own_limits(self) -> None:
        open_orders = self.rig.state.orders.open
        assert len(open_orders) <= LIMITS.max_orders_in_flight
        for order in self.sent.values():
            if order.side is Side.BUY:
                assert notional_up(order.price, order.qty) <= LIMITS.max_order_notional

    def cash_is_never_promised_twice(self) -> None:
        if self.failed:
            return
        promised = self.at_stake(set(TOKENS)) - self.rig.state.portfolio.cost
        assert promised <= self.rig.state.portfolio.cash + self.dust()

    def nothing_is_sold_or_burnt_that_is_not_held(self) -> None:
        state = self.rig.state
        for token in TOKENS:
            selling = sum(
                o.remaining for o in state.orders.open.values()
                if o.side is Side.SELL and o.instrument_id == token
            )  # fmt: skip
            burning = sum(
                n for op in state.bundles.pending.values() for t, n in op.burn if t == token
            )
            held = state.portfolio.position(token).qty
            assert selling + burning <= held or self.failed

    def no_order_leaves_its_end(self) -> None:
        for order in self.rig.state.orders:
            name = order.client_order_id
            assert name not in self.ended or self.ended[name] is order.status
            if order.status in TERMINAL:
                self.ended[name] = order.status

    def check(self) -> None:
        """What must hold after every step."""
        for rule_of_the_house in (
            self.nothing_contradicts,
            self.money_is_conserved,
            self.exposure_never_exceeds_the_caps,
            self.every_order_obeys_its_own_limits,
            self.cash_is_never_promised_twice,
            self.nothing_is_sold_or_burnt_that_is_not_held,
            self.no_order_leaves_its_end,
        ):
            rule_of_the_house()

    def check_the_end(self) -> None:
        self.check_every_prefix()
        self.check_the_same_again()

    def check_every_prefix(self) -> None:
        """Folding any prefix of the journal gives the durable state the engine had there."""
        entries = self.rig.entries
        state = fold((), WORLD)
        done = 0
        for seq, expected in self.marks:
            for event in entries[done:seq]:
                state.apply(event)
            done = seq
            assert durable(state) == expected

    def check_the_same_again(self) -> None:
        """The same events and wishes, told to another engine, give the same commands."""
        again = Rig(WORLD, limits=LIMITS)
        commands: list[Command] = []
        for number, event in enumerate(self.heard, 1):
            again.script.next = [wish for when, wish in self.wishes if when == number]
            commands.extend(again.engine.handle(event))
        assert commands == self.commands
        assert again.entries == self.rig.entries


STEPS = (
    World.market_moves, World.market_moves, World.feed_is_lost, World.operator_limits,
    World.operator_resumes, World.wish_a_bundle, World.wish_a_bundle, World.wish_a_bundle,
    World.wish_an_order, World.wish_an_order, World.wish_a_split, World.wish_a_merge,
    World.wish_to_close, World.venue_fills, World.venue_fills, World.venue_fills,
    World.venue_answers, World.venue_ends_an_order, World.venue_ends_an_order,
    World.venue_settles, World.venue_settles, World.chain_answers, World.chain_answers,
    World.venue_repeats_itself,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_a_long_walk_by_seed(seed: int) -> None:
    by = random.Random(seed)
    world = World()
    world.failures = bool(seed % 2)
    world.start(CASHES[seed // 2 % 2])
    for _ in range(150):
        by.choice(STEPS)(world, by)
        world.check()
    world.check_the_end()


class EngineMachine(RuleBasedStateMachine):
    """The same world, step by step of hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.start(CASHES[0])

    @rule(data=st.data(), step=st.sampled_from(STEPS))
    def step(self, data: st.DataObject, step: Callable[[World, Chooser], None]) -> None:
        step(self.world, Drawn(data))

    @invariant()
    def what_must_hold_holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.check_the_end()


EngineMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60)
TestEngine = EngineMachine.TestCase
