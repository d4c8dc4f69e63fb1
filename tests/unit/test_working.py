"""The worker steps whatever is open, redeems, and sells what a person wants sold."""

from __future__ import annotations

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import FLATTEN, CloseBundle, OperationKind, OrderIntent, Purpose
from fleet.domain.events import TradingState
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price
from fleet.strategies.legs import ExecutionSettings
from fleet.strategies.working import Worker
from tests.builders import (
    MINED,
    NS,
    Rig,
    changed,
    filled,
    leg,
    market_id,
    no,
    order,
    orders_of,
    p,
    plan,
    q,
    settled,
    tick,
    trading,
    universe,
    yes,
)

EXECUTION = ExecutionSettings()


def bought(qty: str = "10") -> Rig:
    """An open bundle whose only leg has filled."""
    rig = Rig(universe())
    rig.open_market()
    made = plan(leg(yes(), "10", "0.52"), finish=None)
    (sent,) = orders_of(rig.wish(made, order(0, yes(), "10", "0.52")))
    rig.say(filled(sent, qty, "0.5"), settled("t1", MINED))
    return rig


def test_a_bundle_takes_its_next_step_after_a_fact_and_after_no_market_data() -> None:
    rig = bought()
    worker = Worker(EXECUTION)
    view = rig.engine.view
    (close,) = worker.work(tick(NS), view)
    assert isinstance(close, CloseBundle)
    assert close.outcome == "HELD"
    assert worker.work(changed(NS, (yes(), Side.BUY, "0.3", "1")), view) == ()


def test_nothing_is_worked_while_trading_is_halted() -> None:
    rig = bought()
    rig.say(trading(TradingState.HALTED))
    assert Worker(EXECUTION).work(tick(NS), rig.engine.view) == ()


@pytest.mark.parametrize(("idea", "sent"), [("OTHER", 1), ("TEST", 2)])
def test_an_idea_may_be_worked_in_its_own_way(idea: str, sent: int) -> None:
    rig = Rig(universe())
    rig.open_market()
    rig.wish(plan(leg(yes(), "10", "0.52"), leg(no(), "10", "0.52")))
    worker = Worker(EXECUTION, by_idea={idea: ExecutionSettings(together=True)})
    assert worker.execution("TEST").together is (idea == "TEST")
    assert len(worker.work(tick(NS), rig.engine.view)) == sent


def test_an_exit_goes_on_while_reducing_and_a_purchase_does_not() -> None:
    rig = bought()
    rig.wish(CloseBundle(bundle_id=plan(leg(yes())).bundle_id, outcome="HELD"))
    rig.wish(plan(leg(yes(), "10", "0.52"), name="b2"))
    rig.wish(plan(leg(yes(), "10", "0.45", side=Side.SELL), name="b3", finish=None, budget="0"))
    rig.say(trading(TradingState.REDUCING))
    wishes = Worker(EXECUTION).work(tick(NS), rig.engine.view)
    (close, sale) = wishes
    assert isinstance(close, CloseBundle)
    assert close.bundle_id == "b2"
    assert isinstance(sale, OrderIntent)
    assert (sale.bundle_id, sale.side, sale.qty) == ("b3", Side.SELL, q("10"))


def test_what_is_resolved_is_redeemed_on_a_timer() -> None:
    rig = bought()
    payouts = ((yes(), Price(SCALE)), (no(), Price(0)))
    rig.say(ev.MarketResolved(ts_recv=NS, market_id=market_id(), payouts=payouts))
    worker, view = Worker(EXECUTION), rig.engine.view
    assert [type(x) for x in worker.work(trading(TradingState.ACTIVE), view)] == [CloseBundle]
    (_, redeem) = worker.work(tick(NS), view)
    assert getattr(redeem, "kind", None) is OperationKind.REDEEM


def test_flatten_sells_what_no_bundle_works() -> None:
    rig = bought()
    rig.wish(CloseBundle(bundle_id=plan(leg(yes())).bundle_id, outcome="HELD"))
    rig.say(ev.OperatorCommanded(action="flatten", by="me"))
    rig.say(trading(TradingState.REDUCING))
    (sale,) = Worker(EXECUTION).work(tick(NS), rig.engine.view)
    assert isinstance(sale, OrderIntent)
    assert (sale.bundle_id, sale.purpose) == (FLATTEN, Purpose.UNWIND)
    assert sale.price == p("0.45")
