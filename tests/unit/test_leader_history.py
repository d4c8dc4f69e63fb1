"""The fold of a wallet's trades: what each market paid, after fees, and when that may be known."""

from dataclasses import replace

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import FeeSchedule
from fleet.domain.units import SCALE, parse_cash
from fleet.research.leader_history import Role, market_results
from tests.leader_builders import START_NS, history, trade

FIVE = FeeSchedule(rate=5 * SCALE // 100)


def test_a_bet_held_to_the_end_pays_its_shares_less_cost_and_fee() -> None:
    (won,) = market_results(history([trade("m", "BUY", "0.4", "10")], won=["m"], fees=FIVE))
    # 10 x 0.05 x 0.4 x 0.6 = 0.12
    assert (won.stake, won.fees) == (parse_cash("4"), parse_cash("0.12"))
    assert won.pnl == parse_cash("5.88")
    (lost,) = market_results(history([trade("m", "BUY", "0.4", "10")], lost=["m"], fees=FIVE))
    assert lost.pnl == parse_cash("-4.12")


def test_makers_pay_no_fee_and_an_unknown_leg_is_taken_for_a_takers() -> None:
    for role, fee in ((Role.MAKER, "0"), (Role.UNKNOWN, "0.12")):
        made = history([trade("m", "BUY", "0.4", "10", role=role)], won=["m"], fees=FIVE)
        assert market_results(made)[0].fees == parse_cash(fee)


def test_what_is_sold_again_is_told_apart_from_what_is_held() -> None:
    made = history(
        [
            trade("m", "BUY", "0.4", "10"),
            trade("m", "SELL", "0.6", "4", at_s=60),
        ],
        lost=["m"],
    )
    (one,) = market_results(made)
    assert one.exited_pnl == parse_cash("0.8")
    assert one.held[0] == (parse_cash("2.4"), 6 * SCALE)
    assert one.pnl == parse_cash("-1.6")
    assert one.holding_ns == 60 * NS_PER_SECOND


def test_a_market_that_was_left_needs_no_resolution() -> None:
    made = history([trade("m", "BUY", "0.4", "10"), trade("m", "SELL", "0.5", "10", at_s=9)])
    assert market_results(made)[0].pnl == parse_cash("1")


def test_an_open_market_has_no_profit() -> None:
    (one,) = market_results(history([trade("m", "BUY", "0.4", "10")]))
    assert one.pnl is None
    assert not one.settled


@pytest.mark.parametrize("sold", ["10.02", "500"])
def test_shares_from_nowhere_are_never_a_profit(sold: str) -> None:
    made = history(
        [trade("m", "BUY", "0.4", "10"), trade("m", "SELL", "0.9", sold, at_s=9)], won=["m"]
    )
    (one,) = market_results(made)
    assert one.unaccounted
    assert one.pnl is None


def test_both_outcomes_of_one_market_are_one_result() -> None:
    made = history(
        [trade("m", "BUY", "0.4", "10"), trade("m", "BUY", "0.5", "10", outcome=1)], won=["m"]
    )
    assert market_results(made)[0].pnl == parse_cash("1")


def test_a_tie_pays_half_of_each() -> None:
    made = history([trade("m", "BUY", "0.4", "10")], won=["m"])
    tie = {"m": replace(made.resolutions["m"], payouts=(SCALE // 2, SCALE // 2))}  # type: ignore[arg-type]
    assert market_results(replace(made, resolutions=tie))[0].pnl == parse_cash("1")


def test_as_of_drops_what_came_or_became_known_later() -> None:
    made = history(
        [trade("m", "BUY", "0.4", "10"), trade("n", "BUY", "0.4", "10", at_s=50)],
        won=["m", "n"],
        known_s=100,
    )
    at = START_NS + 49 * NS_PER_SECOND
    assert [t.market_id for t in made.as_of(at).trades] == ["m"]
    assert made.as_of(at).resolutions == {}
    assert set(made.as_of(START_NS + 100 * NS_PER_SECOND).resolutions) == {"m", "n"}
    assert set(made.as_of(START_NS + 100 * NS_PER_SECOND - 1).resolutions) == set()


def test_an_outcome_without_a_time_is_known_at_no_time() -> None:
    made = history([trade("m", "BUY", "0.4", "10")], won=["m"], known_s=None)
    assert made.as_of(1 << 62).resolutions == {}
    # It still judges what is not cut: the later part of a recording.
    assert market_results(made)[0].pnl == parse_cash("6")
