"""Copying, one rule at a time: what is copied, what is refused and why, how much, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import FLATTEN
from fleet.domain.events import TradingState
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Cash
from fleet.engine.risk import RiskLimits
from fleet.strategies.mimic_exits import EXITS_MAX
from fleet.strategies.mimic_settings import MimicSettings
from fleet.strategies.mimic_stakes import EXIT, IDEA, followed_wallets
from tests.builders import (
    DAY,
    NS,
    filled,
    market_id,
    no,
    orders_of,
    q,
    settled,
    trading,
    universe,
    yes,
)
from tests.forecast_bot import forecast
from tests.mimic_world import (
    ANN,
    ASKS_NOBODY,
    BOB,
    LEE,
    Stage,
    asked,
    chosen,
    moved,
    sent,
    traded,
    undone,
)

SECOND = NS
AI = MimicSettings()


def test_a_purchase_is_copied_in_part_at_the_leaders_price_and_the_slippage() -> None:
    stage = Stage()
    assert sent(stage.buys("100", "0.50")) == [("BUY", "y1", "50", "0.52")]
    plan = stage.opened()[0]
    assert (plan.idea, plan.key, plan.answers) == (IDEA, f"{LEE}|m1|y1", ("s1",))
    assert plan.payoff == SCALE // 2
    # Bought at 0.51 what the leader has for 0.50.
    assert plan.edge == -SCALE // 2


def test_the_outcome_that_was_bought_is_the_one_that_is_copied() -> None:
    stage = Stage()
    assert sent(stage.buys(token=no(2), price="0.50")) == [("BUY", "n2", "50", "0.52")]


def test_a_sale_or_a_gift_is_no_purchase() -> None:
    stage = Stage()
    assert not stage.sells()
    assert not stage.moves((yes(), "100"), kind=ev.MoveKind.SPLIT)
    assert not stage.opened()
    assert not stage.refused()


def test_a_trade_told_twice_is_copied_once() -> None:
    stage = Stage()
    stage.fill(stage.buys(name="x"))
    assert not stage.buys(name="x")
    assert not stage.buys(name="x", block=2)
    assert len(stage.opened()) == 1
    assert stage.view.leaders.totals.repeated == 2


def test_nobody_is_copied_before_somebody_was_chosen() -> None:
    stage = Stage(copied=())
    assert not stage.buys()
    assert stage.bot.figures()["watched"] == 1
    stage.say(chosen(LEE))
    assert not stage.tick()  # Nor afterwards, what was bought before.
    assert stage.buys()


def test_who_is_watched_is_not_copied_and_who_is_dropped_no_more() -> None:
    stage = Stage(settings=AI)
    assert not stage.buys(wallet=BOB)
    assert not stage.refused()
    stage.buys()
    stage.say(chosen(ANN))
    stage.tick()
    assert stage.refused() == ["NOT_COPIED"]


REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("SIGHTING_OLD", {}, {"age": 31 * SECOND}),
    ("MARKET_ENDING", {"min_left_ns": 11 * DAY}, {}),
    ("PRICE_RAN", {}, {"price": "0.48"}),
    ("PRICE_RAN", {"max_price": 50 * SCALE // 100}, {}),
    ("MARKET_UNKNOWN", {}, {"token": "elsewhere"}),
    ("COPY_LIMIT", {"max_copy": Cash(2 * SCALE)}, {}),
    ("MARKET_LIMIT", {"max_market": Cash(2 * SCALE)}, {}),
    ("LEADER_LIMIT", {"max_leader": Cash(2 * SCALE)}, {}),
    ("DAY_LIMIT", {"max_day": Cash(2 * SCALE)}, {}),
]


@pytest.mark.parametrize(("reason", "settings", "trade"), REFUSALS)
def test_what_is_refused_at_once_is_journalled_with_its_reason(
    reason: str, settings: dict[str, Any], trade: dict[str, Any]
) -> None:
    stage = Stage(**settings)
    assert not stage.buys(**trade)
    assert stage.refused() == [reason]
    assert stage.view.leaders.totals.refused == {reason: 1}
    assert stage.bot.figures()[f"refused_{reason.lower()}"] == 1
    assert not stage.view.leaders.waiting()


def test_an_unknown_end_is_no_reason() -> None:
    assert Stage(universe(1, end_ns=0)).buys()


def test_a_placeholder_is_not_copied() -> None:
    world = universe(3, end_ns=10 * DAY, one_set=True)
    group = replace(world.sets[0], placeholders=frozenset({market_id(1)}))
    stage = Stage(replace(world, sets=(group,)))
    stage.buys()
    assert stage.refused() == ["MARKET_UNKNOWN"]


def test_a_resolved_market_is_not_copied() -> None:
    stage = Stage()
    stage.say(ev.MarketResolved(market_id=stage.world.instruments[yes()].market_id,
                                payouts=((yes(), SCALE), (no(), 0))))  # type: ignore[arg-type]  # fmt: skip
    stage.buys()
    assert stage.refused() == ["MARKET_RESOLVED"]


def test_too_little_depth_is_refused_and_the_size_ends_with_it() -> None:
    stage = Stage()
    stage.quote(1, "0.49", "0.51", "4")
    stage.buys()
    assert stage.refused() == ["DEPTH_THIN"]
    stage.quote(1, "0.49", "0.51", "7")
    assert sent(stage.buys()) == [("BUY", "y1", "7", "0.52")]


def test_cash_bounds_a_copy() -> None:
    stage = Stage(cash="10")
    assert sent(stage.buys("1000")) == [("BUY", "y1", "19.23", "0.52")]
    assert Stage(cash="2").buys() == []


def test_the_cap_holds_for_all_pieces_together() -> None:
    stage = Stage(max_copy=Cash(60 * SCALE))
    stage.fill(stage.buys("100", "0.50"))
    assert sent(stage.fill(stage.buys("200"))) == []
    spent = stage.view.position(yes()).cost
    assert 59 * SCALE < spent <= 60 * SCALE
    stage.buys("100")
    assert stage.refused() == ["COPY_LIMIT"]


def test_the_limit_of_the_day_begins_anew_at_midnight() -> None:
    stage = Stage(max_day=Cash(27 * SCALE))
    stage.copy()
    stage.buys(token=yes(2))
    assert stage.refused() == ["DAY_LIMIT"]
    stage.now += DAY
    stage.quote(2, "0.49", "0.51")
    assert stage.buys(token=yes(2))


def test_small_pieces_wait_for_each_other() -> None:
    stage = Stage()
    assert not stage.buys("6")
    assert not stage.refused()
    commands = stage.buys("6")
    assert sent(commands) == [("BUY", "y1", "6", "0.52")]
    assert stage.opened()[0].answers == ("s1", "s2")
    stage.fill(commands)
    assert not stage.buys("6")
    stage.tick(29 * SECOND)
    assert not stage.refused()
    stage.tick(2 * SECOND)
    assert stage.refused() == ["SIZE_SMALL"]


def test_pieces_wait_while_a_copy_is_under_way_and_are_copied_together() -> None:
    stage = Stage()
    commands = stage.buys("100")
    for _ in range(3):
        assert not stage.buys("20")
    assert not stage.tick(SECOND)
    stage.fill(commands)
    assert sent(stage.tick(SECOND)) == [("BUY", "y1", "30", "0.52")]
    assert stage.opened()[1].answers == ("s2", "s3", "s4")
    stage.buys("20")
    stage.tick(SECOND)
    stage.tick(31 * SECOND)
    assert stage.refused() == ["COPY_UNDER_WAY"]


def test_trading_that_is_off_is_waited_for_while_the_trade_is_young() -> None:
    stage = Stage()
    stage.say(trading(TradingState.HALTED, at=stage.now))
    assert not stage.buys()
    stage.now += 10 * SECOND
    stage.say(trading(TradingState.ACTIVE, at=stage.now))
    assert stage.tick()
    for state in (TradingState.HALTED, TradingState.REDUCING):
        stage.say(trading(state, at=stage.now))
        assert not stage.buys(token=yes(2))
        stage.tick(31 * SECOND)
        assert stage.refused().pop() == "TRADING_OFF"


def test_a_void_book_is_waited_for() -> None:
    stage = Stage()
    stage.say(ev.FeedDisconnected(ts_recv=stage.now, connection="c", instruments=(yes(),),
                                  reason="gone"))  # fmt: skip
    assert not stage.buys()
    stage.quote(1, "0.49", "0.51")
    assert stage.tick(SECOND)


def test_who_has_left_before_we_followed_is_not_followed() -> None:
    stage = Stage(settings=AI)
    stage.buys()
    stage.sells("100")
    stage.tick()
    assert stage.refused() == ["LEADER_LEFT"]


def test_what_the_leader_has_left_is_what_is_copied() -> None:
    stage = Stage(settings=AI)
    stage.buys()
    stage.sells("40")
    commands = stage.say(forecast(1, "0.90", at=stage.now, price="0.50"))
    assert sent(commands) == [("BUY", "y1", "30", "0.52")]


def test_what_was_left_when_it_was_copied_is_what_is_followed_out() -> None:
    stage = Stage(settings=AI)
    stage.buys("100")
    stage.sells("40")
    stage.fill(stage.say(forecast(1, "0.90", at=stage.now, price="0.50")))
    assert stage.held() == q("30")
    assert sent(stage.sells("30")) == [("SELL", "y1", "15", "0.49")]


def test_a_hedged_leader_is_not_copied() -> None:
    stage = Stage()
    stage.moves((no(), "30"))
    stage.buys("100")
    assert stage.refused() == ["LEADER_HEDGED"]
    stage.moves((no(), "-10"))
    assert stage.buys("100", token=yes())


def test_leaders_on_both_sides_are_netted() -> None:
    stage = Stage(copied=(LEE, ANN))
    stage.copy("100")
    assert stage.held() == q("50")
    # Ann wants 60 NO: together 40 YES, so 20 for us; and none of her NO.
    commands = stage.buys("60", wallet=ANN, token=no())
    assert sent(commands) == [("SELL", "y1", "30", "0.49")]
    assert stage.refused() == ["LEADERS_OPPOSED"]
    stage.fill(commands)
    assert stage.bot.figures()["exits_netted"] == 1
    assert stage.held() == q("20")
    # With 200 NO more they want NO together, 80 for us; and no YES.
    commands = stage.buys("200", wallet=ANN, token=no())
    assert sent(commands) == [("BUY", "n1", "80", "0.52")]
    stage.fill(commands)
    assert sent(stage.tick(6 * SECOND)) == [("SELL", "y1", "20", "0.49")]


def test_a_leader_who_buys_the_other_side_is_leaving() -> None:
    stage = Stage()
    stage.copy("100")
    commands = stage.buys("100", token=no())
    assert sent(commands) == [("SELL", "y1", "50", "0.49")]


# --- approval ---------------------------------------------------------------------------------


def test_the_forecaster_is_asked_once_and_its_approval_is_acted_on_at_once() -> None:
    stage = Stage(settings=AI)
    assert asked(stage.buys()) == ["m1"]
    assert not stage.buys()
    assert not stage.tick(SECOND)
    commands = stage.say(forecast(1, "0.60", at=stage.now, price="0.50"))
    assert sent(commands) == [("BUY", "y1", "100", "0.52")]
    assert stage.opened()[0].answers == ("s1", "s2")
    assert stage.opened()[0].payoff == 60 * SCALE // 100


def test_no_is_judged_by_the_other_side_of_the_forecast() -> None:
    stage = Stage(settings=AI)
    stage.buys(token=no())
    assert not sent(stage.say(forecast(1, "0.60", at=stage.now, price="0.50")))
    stage.tick()
    assert stage.refused() == ["FORECAST_DOUBTS"]
    stage.now += SECOND
    stage.buys(token=no())
    assert sent(stage.say(forecast(1, "0.40", at=stage.now, price="0.50")))


@pytest.mark.parametrize(
    ("percent", "blend", "copied"),
    # The cost is 0.52; one deviation (0.03) above it is 84 %.
    [(60, "0.53", True), (70, "0.53", False), (70, "0.54", True), (80, "0.54", False),
     (80, "0.55", True), (90, "0.55", False)],
)  # fmt: skip
def test_the_confidence_decides(percent: int, blend: str, *, copied: bool) -> None:
    stage = Stage(settings=replace(AI, min_ai_confidence=percent))
    stage.buys()
    commands = stage.say(forecast(1, blend, at=stage.now, price="0.50", deviation="0.03"))
    assert bool(sent(commands)) is copied
    stage.tick(SECOND)
    assert stage.refused() == ([] if copied else ["FORECAST_DOUBTS"])


def test_of_several_answers_the_last_one_may_still_approve() -> None:
    stage = Stage(settings=AI)
    stage.buys()
    assert not stage.say(forecast(1, "0.50", at=stage.now, weight="0", price="0.50"))
    assert sent(stage.say(forecast(1, "0.60", at=stage.now, price="0.50")))


def test_a_forecaster_without_skill_cannot_approve() -> None:
    stage = Stage(settings=AI)
    stage.buys()
    stage.say(forecast(1, "0.99", at=stage.now, weight="0", price="0.50"))
    stage.tick(SECOND)
    assert stage.refused() == ["FORECAST_UNSKILLED"]


def test_where_it_is_told_to_let_pass_it_does() -> None:
    stage = Stage(settings=replace(AI, unskilled_approves=True))
    stage.buys()
    stage.say(forecast(1, "0.50", at=stage.now, weight="0", price="0.50"))
    assert sent(stage.tick(SECOND))
    assert stage.bot.figures()["approved_unskilled"] == 1


def test_no_answer_in_time_is_a_refusal() -> None:
    stage = Stage(settings=AI)
    stage.buys()
    assert not stage.tick(30 * SECOND)
    stage.tick(SECOND)
    assert stage.refused() == ["FORECAST_MISSING"]


def test_a_failed_forecast_is_not_asked_for_again_at_once() -> None:
    stage = Stage(settings=AI)
    request = stage.buys()[0]
    stage.say(ev.ForecastFailed(
        ts_recv=stage.now, request_id=request.request_id, market_id=request.market_id,  # type: ignore[union-attr]
        forecaster="f", reason="no answer",
    ))  # fmt: skip
    assert not stage.tick(SECOND)
    assert stage.bot.figures()["approvals_failed"] == 1


def test_a_young_forecast_approves_but_never_refuses() -> None:
    stage = Stage(settings=AI)
    stage.say(forecast(1, "0.60", at=stage.now, price="0.50"))
    stage.now += 30 * SECOND
    assert sent(stage.buys())
    stage = Stage(settings=AI)
    stage.say(forecast(1, "0.40", at=stage.now, price="0.50"))
    stage.now += 30 * SECOND
    assert asked(stage.buys()) == ["m1"]


def test_a_forecast_of_another_price_or_age_is_asked_for_anew() -> None:
    for price, wait in (("0.44", 1), ("0.50", 61)):
        stage = Stage(settings=AI)
        stage.say(forecast(1, "0.60", at=stage.now, price=price))
        stage.now += wait * SECOND
        stage.quote(1, "0.49", "0.51")
        assert asked(stage.buys()) == ["m1"]


def test_nobody_is_asked_about_what_is_refused_anyway() -> None:
    stage = Stage(settings=AI)
    assert not stage.buys(price="0.40")
    assert not stage.buys("4")


# --- exits ------------------------------------------------------------------------------------


def test_the_leaders_part_is_our_part() -> None:
    stage = Stage()
    plan = stage.copy("100")
    commands = stage.sells("25")
    assert sent(commands) == [("SELL", "y1", "12.5", "0.49")]
    leaving = stage.opened()[-1]
    assert (leaving.idea, leaving.exits) == (EXIT, plan.bundle_id)
    stage.fill(commands)
    stage.now += 6 * SECOND
    assert sent(stage.sells("75")) == [("SELL", "y1", "37.5", "0.49")]


@pytest.mark.parametrize("kind", list(ev.MoveKind))
def test_every_way_to_give_up_shares_is_followed(kind: ev.MoveKind) -> None:
    stage = Stage()
    stage.copy("100")
    assert sent(stage.moves((yes(), "-100"), kind=kind)) == [("SELL", "y1", "50", "0.49")]


def test_what_was_held_before_we_watched_counts_for_nothing() -> None:
    stage = Stage()
    assert not stage.sells("500")
    stage.copy("100")
    assert sent(stage.sells("500")) == [("SELL", "y1", "50", "0.49")]


def test_an_exit_needs_no_approval_no_entry_rule_and_not_even_active_trading() -> None:
    stage = Stage()
    stage.copy("100")
    stage.say(chosen(), trading(TradingState.REDUCING, at=stage.now))
    stage.quote(1, "0.10", "0.90")
    assert LEE in followed_wallets(stage.view)
    assert sent(stage.sells("100", "0.10", age=DAY)) == [("SELL", "y1", "50", "0.1")]


def test_an_exit_waits_while_trading_is_halted() -> None:
    stage = Stage()
    stage.copy("100")
    stage.say(trading(TradingState.HALTED, at=stage.now))
    assert not stage.sells("100")
    assert sent(stage.say(trading(TradingState.REDUCING, at=stage.now)))


def test_a_sale_walks_down_a_thin_book_step_by_step() -> None:
    stage = Stage()
    stage.copy("100")
    stage.quote(1, "0.49", "0.51", "20")
    commands = stage.sells("100")
    assert sent(commands) == [("SELL", "y1", "20", "0.49")]
    stage.fill(commands)
    stage.quote(1, "0.30", "0.51", "100")
    assert not stage.tick(SECOND)
    assert sent(stage.tick(5 * SECOND)) == [("SELL", "y1", "30", "0.3")]


def test_a_missed_sale_is_tried_again() -> None:
    stage = Stage()
    stage.copy("100")
    stage.kill(stage.sells("100"))
    assert not stage.tick(SECOND)
    assert sent(stage.tick(5 * SECOND)) == [("SELL", "y1", "50", "0.49")]


def test_no_dust_is_kept_and_none_is_sold() -> None:
    stage = Stage()
    stage.copy("20")
    assert not stage.sells("8")  # 4 of 10 shares: less than the venue takes.
    assert sent(stage.sells("4")) == [("SELL", "y1", "10", "0.49")]  # 4 would stay for ever.


def test_an_exit_waits_for_the_copy_to_settle() -> None:
    stage = Stage()
    orders = stage.buys("100")
    assert not stage.sells("100")
    assert not stage.tick(SECOND)
    assert sent(stage.fill(orders)) == [("SELL", "y1", "50", "0.49")]


def test_what_is_being_sold_is_not_sold_again() -> None:
    stage = Stage()
    stage.copy("100")
    stage.copy("100")
    assert len(sent(stage.sells("100"))) == 2  # 25 of each 50, and no answer for long.
    assert not stage.tick(6 * SECOND)
    assert not stage.sells("1", token=yes(2))


def test_no_more_is_offered_than_has_settled() -> None:
    stage = Stage()
    stage.copy("100")
    (order,) = orders_of(stage.buys("100"))
    stage.say(filled(order, "50", "0.52", trade="late", at=stage.now))
    commands = stage.sells("200")
    assert sent(commands) == [("SELL", "y1", "50", "0.49")]
    assert not stage.tick(SECOND)
    decisions = [e for e in stage.rig.entries if isinstance(e, ev.DecisionMade)]
    assert not [d.refused for d in decisions if d.refused]
    stage.fill(commands)
    assert sent(stage.say(settled("late", ev.SettlementStatus.MINED, at=stage.now)))


def test_an_undone_purchase_is_not_copied() -> None:
    stage = Stage(settings=AI)
    stage.buys(name="x")
    stage.say(undone("x", at=stage.now))
    assert not sent(stage.say(forecast(1, "0.90", at=stage.now, price="0.50")))
    assert stage.view.leaders.totals.canceled == 1
    assert not stage.refused()


def test_the_copy_of_an_undone_purchase_is_sold_after_the_patience() -> None:
    stage = Stage()
    stage.fill(stage.buys("50", name="a"))
    stage.fill(stage.buys("100", name="x"))
    stage.say(undone("x", at=stage.now))
    assert not stage.tick(9 * SECOND)
    assert sent(stage.tick(2 * SECOND)) == [("SELL", "y1", "50", "0.49")]
    assert stage.bot.figures()["exits_undone"] == 1


def test_an_undone_purchase_that_is_mined_again_stays_copied_once() -> None:
    stage = Stage()
    first = "0x" + "a" * 64 + "-3"
    again = "0x" + "a" * 64 + "-9"
    stage.fill(stage.buys(name=first, block=5))
    stage.say(undone(first, at=stage.now))
    assert not stage.buys(name=again, block=6)
    assert not stage.tick(11 * SECOND)
    assert sent(stage.sells("50", block=7)) == [("SELL", "y1", "25", "0.49")]
    assert len([plan for plan in stage.opened() if plan.idea == IDEA]) == 1


def test_what_risk_refuses_is_refused_once() -> None:
    stage = Stage(limits=RiskLimits(max_order_notional=Cash(SCALE)))
    assert not stage.buys()
    for _ in range(3):
        stage.tick(SECOND)
    assert stage.refused() == ["RISK_REFUSED"]
    assert not stage.opened()


def test_a_resolved_market_is_redeemed_not_sold() -> None:
    stage = Stage()
    stage.copy("100")
    stage.say(ev.MarketResolved(ts_recv=stage.now, market_id=stage.world.instruments[yes()].market_id,
                                payouts=((yes(), SCALE), (no(), 0))))  # type: ignore[arg-type]  # fmt: skip
    assert not sent(stage.moves((yes(), "-100"), kind=ev.MoveKind.REDEEM))
    stage.fill(stage.tick(SECOND))
    assert stage.held() == 0


def test_a_flattened_bot_copies_nothing_and_leaves_the_selling_to_the_worker() -> None:
    stage = Stage()
    stage.copy("100")
    stage.say(ev.OperatorCommanded(ts_recv=stage.now, action="flatten", by="test"))
    assert not stage.buys(token=yes(2))
    assert not stage.sells("100")
    (order,) = orders_of(stage.tick(SECOND))
    assert (order.side, order.qty, order.bundle_id) == (Side.SELL, q("50"), FLATTEN)
    assert [plan.idea for plan in stage.opened()] == [IDEA]


def test_many_exits_of_one_moment_leave_room_for_others() -> None:
    stage = Stage(universe(12, end_ns=10 * DAY))
    for number in range(1, 13):
        stage.copy("100", token=yes(number))
    stage.say(trading(TradingState.HALTED, at=stage.now))
    for number in range(1, 13):
        stage.sells("100", token=yes(number))
    commands = stage.say(trading(TradingState.REDUCING, at=stage.now))
    assert len(sent(commands)) == EXITS_MAX
    while commands:  # Each that settles makes room for the next.
        commands = stage.fill(commands)
    assert not any(stage.held(yes(number)) for number in range(1, 13))


def test_the_verdict_says_what_came_of_it() -> None:
    stage = Stage()
    assert stage.bot.trader.verdict() == "copies: no leader was seen to trade yet"
    stage.buys(wallet=BOB)
    assert "none of a wallet that is copied" in stage.bot.trader.verdict()
    stage.copy()
    stage.buys(price="0.30")
    stage.tick()
    assert stage.bot.trader.verdict() == (
        "copies: 1 opened, 1 purchases refused, most for PRICE_RAN"
    )


@pytest.mark.parametrize(
    "change",
    [{"copy_ratio": 0}, {"copy_ratio": 2 * SCALE}, {"min_ai_confidence": 40},
     {"min_ai_confidence": 100}, {"max_price": SCALE}, {"max_copy": Cash(-1)}, {"max_age_ns": 0},
     {"hedge_ratio": -1}, {"max_slippage": -1}, {"exit_slippage": -1}, {"undo_patience_ns": -1}],
)  # fmt: skip
def test_senseless_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change)).split("_ns")[0] + "|times"):
        replace(ASKS_NOBODY, **change)


def test_the_builders_tell_what_they_say() -> None:
    assert traded("a", side=Side.SELL).qty == q("100")
    assert moved("a", (yes(), "-1")).changes == ((yes(), -SCALE),)
