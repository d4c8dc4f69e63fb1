"""What copies made beside their leaders, what following cost, and how long it took."""

from __future__ import annotations

import pytest

from fleet.domain import events as ev
from fleet.domain.units import SCALE, Price
from fleet.engine.copy_results import copy_results, summary
from tests.builders import DAY, MS, NS, c, market_id, no, q, universe, yes
from tests.mimic_world import Stage, traded, undone


def resolved(stage: Stage, number: int = 1, *, won: bool = True) -> None:
    pays = Price(SCALE if won else 0)
    stage.say(ev.MarketResolved(
        ts_recv=stage.now, market_id=market_id(number),
        payouts=((yes(number), pays), (no(number), Price(SCALE - pays))),
    ))  # fmt: skip


def test_nothing_copied_has_no_figures() -> None:
    found = summary(Stage().rig.state)
    assert (found.copies, found.slippage_bps, found.lag_p50_ns, found.result) == (0, None, None, 0)


def test_a_copy_that_is_held_is_worth_its_bid() -> None:
    stage = Stage()
    stage.fill(stage.buys("100", "0.50"), "0.51")
    (one,) = copy_results(stage.rig.state)
    assert (one.bought, one.paid, one.result) == (q("50"), c("25.5"), c("-1"))
    assert (one.leader_paid, one.leader_result) == (c("50"), c("-1"))
    assert (one.slippage, one.ended) == (c("0.5"), False)
    found = summary(stage.rig.state)
    assert found.slippage_bps == 200
    assert found.leader_result == c("-0.51")


def test_sales_count_at_what_they_brought_and_the_leaders_at_theirs() -> None:
    stage = Stage()
    stage.fill(stage.buys("100", "0.50"), "0.51")
    stage.now += 6 * NS
    stage.quote(1, "0.60", "0.62")
    stage.fill(stage.sells("100", "0.61"))
    (one,) = copy_results(stage.rig.state)
    assert (one.result, one.leader_result, one.ended) == (c("4.5"), c("11"), True)
    found = summary(stage.rig.state)
    assert (found.ended, found.won, found.leader_won) == (1, 1, 1)


@pytest.mark.parametrize("redeemed", [False, True])
def test_a_resolved_copy_counts_its_payout_before_and_after_redemption(*, redeemed: bool) -> None:
    stage = Stage()
    stage.fill(stage.buys("100", "0.50"), "0.51")
    resolved(stage)
    commands = stage.tick(NS)
    if redeemed:
        stage.fill(commands)
        assert not stage.held()
    (one,) = copy_results(stage.rig.state)
    assert (one.result, one.leader_result, one.ended) == (c("24.5"), c("50"), True)


def test_a_copy_may_win_where_its_leader_left_too_early() -> None:
    stage = Stage()
    stage.fill(stage.buys("100", "0.50"), "0.51")
    stage.sells("50", "0.40")  # Half of it, and our sale finds nobody.
    resolved(stage)
    (one,) = copy_results(stage.rig.state)
    assert (one.result, one.leader_result) == (c("24.5"), c("20"))


def test_an_undone_purchase_has_no_leader_and_still_a_price() -> None:
    stage = Stage()
    stage.fill(stage.buys("100", "0.50", name="x"), "0.51")
    stage.say(undone("x", at=stage.now))
    (one,) = copy_results(stage.rig.state)
    assert (one.leader_paid, one.leader_result, one.slippage) == (0, 0, c("0.5"))


def test_what_was_missed_is_no_copy() -> None:
    stage = Stage()
    stage.kill(stage.kill(stage.buys("100")))
    assert copy_results(stage.rig.state) == []


def test_lags_run_from_the_block_to_the_decision() -> None:
    stage = Stage(universe(4, end_ns=10 * DAY))
    for number, age in enumerate([5, 20, 10, 40], 1):
        stage.say(traded(f"x{number}", "20", age=age * MS, at=stage.now, token=yes(number)))
    found = summary(stage.rig.state)
    assert (found.lag_p50_ns, found.lag_p99_ns) == (10 * MS, 40 * MS)
