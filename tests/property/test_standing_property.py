"""What stands is what was bought less what is gone, at every prefix and in any interleaving.

The walks of the engine's own property, with exits, flattening and redemptions added: fills come
late, sales fail after their bundle has closed, orders move more than their bundle has.
"""

from __future__ import annotations

import random

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import (
    FLATTEN,
    BundleId,
    LegPlan,
    OpenBundle,
    OperationIntent,
    OperationKind,
    OrderIntent,
    Purpose,
)
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import Cash, Price, Qty
from fleet.engine.standing import record_of
from fleet.engine.state import State, fold
from tests.builders import Rig, canceled, settled, snapshot, tick
from tests.property.test_engine_property import (
    PAIR,
    TOKENS,
    WORLD,
    Chooser,
    World,
    cents,
    lots,
    often,
)


def attributed(state: State, token: InstrumentId) -> int:
    """Shares of a token that stand, and those that open bundles hold."""
    total = 0
    records = [record_of(bundle) for bundle in state.bundles.open.values()]
    for standing in (*state.bundles.standings.all.values(), *records):
        total += sum(leg.left for leg in standing.legs if leg.instrument_id == token)
    return total


def check(state: State) -> None:
    """Every share held has an owner, and nobody owns what is not held."""
    for token in TOKENS:
        assert attributed(state, token) == state.portfolio.position(token).qty, token
    standing = state.bundles.standings
    for one in standing.all.values():
        assert not state.bundles.open.get(one.bundle_id)
        assert any(leg.left for leg in one.legs)
        assert all(leg.left >= 0 for leg in one.legs)
    assert set(standing.image().sales) <= set(state.unsettled)


class Leavers(World):
    """The engine's world, in which bundles are left again."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(WORLD)  # With room for many bundles.

    def calm(self, by: Chooser) -> None:
        """Trading is on, books are whole and most fills are on chain: then bundles are left."""
        self.operator_resumes(by)
        for token in TOKENS:
            self.say(snapshot(token, [("0.01", "500")], [("0.99", "500")], at=self.later()))
        for trade in list(self.rig.state.unsettled):
            if often(by):
                self.fact(settled(trade, ev.SettlementStatus.MINED, at=self.later()))
        for order in list(self.rig.state.orders.open):
            if often(by):
                self.left[order] = Qty(0)
                self.fact(canceled(order, at=self.later()))

    def some_token(self, by: Chooser) -> InstrumentId:
        held = [token for token in TOKENS if self.held(token)]
        return InstrumentId(by.choice(held or TOKENS))

    def wish_an_exit(self, by: Chooser) -> None:
        standing = self.rig.engine.view.standing
        named = by.choice(list(standing)) if standing else BundleId("b0")
        token = self.some_token(by)
        held = self.held(token)
        leg = LegPlan(
            instrument_id=token, side=Side.SELL, qty=held if held and often(by) else lots(by),
            limit=cents(by.randint(15, 30)), unwind=cents(1),
        )  # fmt: skip
        exit_id = self.rig.engine.view.next_bundle_id()
        made = OpenBundle(
            bundle_id=exit_id, idea="EXIT", key=token, legs=(leg,), start=None, finish=None,
            payoff=Price(0), budget=Cash(0), edge=Cash(0), exits=named,
        )  # fmt: skip
        sale = OrderIntent(
            bundle_id=exit_id, leg=0, purpose=Purpose.LEG, instrument_id=token, side=Side.SELL,
            price=leg.limit, qty=leg.qty,
        )  # fmt: skip
        self.say(tick(self.later()), made, *[sale] * by.randint(0, 1))

    def flatten(self, by: Chooser) -> None:
        token = self.some_token(by)
        sale = OrderIntent(
            bundle_id=FLATTEN, leg=0, purpose=Purpose.UNWIND, instrument_id=token, side=Side.SELL,
            price=cents(25), qty=self.held(token) if often(by) else lots(by),
        )  # fmt: skip
        pair = by.choice(PAIR)
        whole = Qty(min(self.held(one) for one in pair))
        merge = OperationIntent(
            bundle_id=FLATTEN, kind=OperationKind.MERGE, subject="m",
            burn=tuple((one, whole) for one in pair), mint=(), cash=Cash(whole),
        )  # fmt: skip
        self.say(tick(self.later()), merge if whole and by.randint(0, 1) else sale)

    def redeem(self, by: Chooser) -> None:
        token = self.some_token(by)
        qty = self.held(token)
        if qty:
            self.say(tick(self.later()), OperationIntent(
                bundle_id=BundleId("redeem"), kind=OperationKind.REDEEM, subject="m",
                burn=((token, qty),), mint=(), cash=Cash(by.choice([0, qty])),
            ))  # fmt: skip


MOVES = (
    *[World.wish_a_bundle] * 4, *[World.venue_fills] * 6, *[World.wish_to_close] * 4,
    *[Leavers.wish_an_exit] * 4, *[Leavers.flatten] * 2, *[Leavers.calm] * 4,
    *[World.venue_settles] * 4, Leavers.redeem, World.wish_a_merge, World.wish_a_split,
    World.wish_an_order, World.chain_answers, World.venue_ends_an_order, World.operator_limits,
    World.venue_repeats_itself,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_what_stands_is_what_was_bought_and_is_not_gone(seed: int) -> None:
    by = random.Random(seed)
    world = Leavers()
    world.failures = bool(seed % 4)
    world.start("1000")
    for _ in range(180):
        by.choice(MOVES)(world, by)
        if world.rig.state.trading_by == "engine":
            break  # A fill failed whose tokens were on their way into a redemption.
        check(world.rig.state)
    state = fold((), WORLD)
    for entry in world.rig.entries:
        state.apply(entry)
        if not state.anomaly and state.trading_by != "engine":
            check(state)
    assert state.bundles.standings.image() == world.rig.state.bundles.standings.image()


def test_the_walks_meet_what_they_are_for() -> None:
    """Exits, flattening and redemptions happen, and sales fail after all was attributed."""
    met: dict[str, int] = {}
    for seed in range(1, 12):
        by = random.Random(seed)
        world = Leavers()
        world.start("1000")
        for _ in range(180):
            by.choice(MOVES)(world, by)
            met["standing"] = met.get("standing", 0) + len(world.rig.engine.view.standing)
        sold = {t.trade_id for t in world.facts
                if isinstance(t, ev.OrderFilled) and t.side is Side.SELL}  # fmt: skip
        for fact in world.facts:
            if not isinstance(fact, ev.FillSettled) or fact.trade_id not in sold:
                continue
            if fact.status is ev.SettlementStatus.FAILED:
                met["failed"] = met.get("failed", 0) + 1
        for command in world.sent.values():
            bundle = world.rig.state.bundles.get(command.bundle_id)
            name = "flatten" if bundle is None else bundle.plan.idea
            met[name] = met.get(name, 0) + 1
        for ran in world.ran.values():
            met[ran.kind.value] = met.get(ran.kind.value, 0) + 1
    assert all(
        met.get(name, 0) >= 3 for name in ("standing", "failed", "flatten", "EXIT", "REDEEM")
    ), met
