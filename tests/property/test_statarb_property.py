"""Statistical arbitrage over quotes nobody made on purpose: whatever it opens keeps its limits.

All gates are wide open here (every relation counts as proven, cost is no matter), so that it trades
as much as it can: what must hold then holds always.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.domain import events as ev
from fleet.domain.commands import Intent, OpenBundle, OrderIntent
from fleet.domain.instruments import MarketId, Side
from fleet.domain.units import SCALE, Cash, notional_up
from fleet.engine.view import View
from fleet.research.statarb_backtest import SpreadTrader, run_backtest
from fleet.strategies.statarb import StatArbSettings
from fleet.strategies.statarb_positions import IDEA
from fleet.strategies.statarb_relations import Relations
from tests.statarb_world import one_event, quick, recording

MAX_POSITION, MAX_GROUP = Cash(20 * SCALE), Cash(45 * SCALE)


class Checked(SpreadTrader):
    """The trader, with every wish held against what it promises."""

    opened = 0
    left = 0

    def __init__(self, chosen: StatArbSettings, view: View) -> None:
        super().__init__(chosen, view)
        self._relations = Relations(view.universe, max_legs=chosen.max_legs)

    def on_event(self, event: ev.AnyEvent, view: View) -> Sequence[Intent]:
        wishes = super().on_event(event, view)
        held = {token for token, position in view.positions.items() if position.qty > 0}
        for token in held:
            assert view.instrument(token).complement not in held, "both sides of a market"
        used = self._used(view)
        plans = {wish.bundle_id: wish for wish in wishes if isinstance(wish, OpenBundle)}
        for plan in plans.values():
            if plan.exits:
                self._exit(plan, view)
            else:
                self._entry(plan, view, used)
        for wish in wishes:
            if isinstance(wish, OrderIntent) and wish.bundle_id in plans:
                leg = plans[wish.bundle_id].legs[wish.leg]
                beyond = wish.price > leg.limit if leg.side is Side.BUY else wish.price < leg.limit
                assert not beyond, "worse than the limit"
        return wishes

    def _used(self, view: View) -> dict[str, int]:
        used: dict[str, int] = {}
        stakes = [(s.key, s.cost) for s in view.standing.values()]
        stakes += [(b.plan.key, b.plan.budget) for b in view.open_bundles.values()
                   if not b.plan.exits]  # fmt: skip
        for key, cash in stakes:
            relation = self._relations.named(key)
            assert relation is not None
            for group in self._relations.groups(relation):
                used[group] = used.get(group, 0) + cash
        return used

    def _entry(self, plan: OpenBundle, view: View, used: dict[str, int]) -> None:
        type(self).opened += 1
        assert plan.idea == IDEA
        assert {leg.side for leg in plan.legs} == {Side.BUY}
        assert len({leg.qty for leg in plan.legs}) == 1
        worst = sum(
            notional_up(leg.limit, leg.qty)
            + view.instrument(leg.instrument_id).fees.fee(leg.limit, leg.qty)
            for leg in plan.legs
        )
        assert worst <= plan.budget <= MAX_POSITION
        relation = self._relations.named(plan.key)
        assert relation is not None
        for group in self._relations.groups(relation):
            used[group] = used.get(group, 0) + plan.budget
            assert used[group] <= MAX_GROUP
        markets = [view.instrument(leg.instrument_id).market_id for leg in plan.legs]
        assert sorted(markets) == sorted(market for market, _ in relation.legs)
        busy: set[MarketId] = set()
        for standing in view.standing.values():
            assert standing.key != plan.key
            busy |= {view.instrument(leg.instrument_id).market_id for leg in standing.legs}
        for bundle in view.open_bundles.values():
            assert bundle.plan.key != plan.key
            busy |= {view.instrument(leg.instrument_id).market_id for leg in bundle.plan.legs}
        assert not busy & set(markets)

    def _exit(self, plan: OpenBundle, view: View) -> None:
        type(self).left += 1
        left = {leg.instrument_id: leg.left for leg in view.standing[plan.exits].legs}
        assert {leg.side for leg in plan.legs} == {Side.SELL}
        assert plan.budget == 0
        for leg in plan.legs:
            assert leg.qty <= left[leg.instrument_id]


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    step=st.sampled_from([0.004, 0.01, 0.03]),
    rate=st.sampled_from(["0", "0.05"]),
    later=st.booleans(),
)
def test_limits_hold_whatever_the_quotes(seed: int, step: float, rate: str, later: bool) -> None:
    rng = np.random.default_rng(seed)
    paths = 0.5 + np.cumsum(rng.normal(size=(130, 8)) * step, axis=0)
    paths[:, 1::2] = paths[:, ::2] + rng.normal(size=(130, 4)) * 0.03
    quotes = recording(np.clip(paths, 0.02, 0.98), one_event(8, rate=rate, size=4))
    chosen = quick(
        formation=24, validation=16, refit_ns=1, max_position=MAX_POSITION, max_group=MAX_GROUP,
        cost_margin=0, false_discovery=SCALE, min_half_life=0, rest_ns=0,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fleet.research.statarb_backtest.SpreadTrader", Checked)
        run = run_backtest(quotes, chosen, later=later)
    assert not run.report.anomalies
    assert sum(t.net for t in run.trades) == pytest.approx(run.report.pnl, abs=10_000)


def test_the_examples_trade() -> None:
    """A property of nothing would always hold."""
    Checked.opened = Checked.left = 0
    test_limits_hold_whatever_the_quotes()
    assert Checked.opened > 20
    assert Checked.left > 10
