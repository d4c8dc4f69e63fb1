"""Betting on forecasts: what is bet on, how much, and when it is left again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from fleet.domain import events as ev
from fleet.domain.commands import BundleId, OpenBundle
from fleet.domain.events import SettlementStatus, TradingState
from fleet.domain.instruments import MarketId, OutcomeSet, SetId, Side
from fleet.domain.units import SCALE, Price
from fleet.engine.state import fold
from fleet.strategies.forecast import ForecastTrader
from fleet.strategies.forecast_settings import ForecastSettings
from tests.builders import (
    NS,
    c,
    changed,
    filled,
    market_id,
    no,
    orders_of,
    p,
    q,
    settled,
    trading,
    universe,
    yes,
)
from tests.forecast_bot import DAY, MINUTE, WIDE, Stage, forecast, sides

HOUR = 60 * MINUTE
BUY, SELL = Side.BUY, Side.SELL


def held(blend: str = "0.65", **changes: Any) -> Stage:
    """A stage that has bet on market 1: 50 dollars of YES at 0.52."""
    stage = Stage(**changes)
    stage.bet(1, blend)
    assert list(stage.view.standing) == ["b1"]
    return stage


def newest(stage: Stage) -> OpenBundle:
    return stage.opened()[-1]


def test_a_forecast_with_an_edge_is_bet_on_and_held() -> None:
    stage = Stage()
    commands = stage.hear(1, "0.65")
    assert sides(commands) == [(yes(), BUY, p("0.52"))]
    made = newest(stage)
    assert (made.idea, made.key, made.finish, made.payoff) == ("FORECAST", "m1", None, p("0.65"))
    # At the cap of $50: 96.15 shares at 0.52, seen at 0.51.
    assert (made.legs[0].qty, made.budget) == (q("96.15"), c("49.998"))
    assert made.edge == c("13.461")
    stage.fill(commands)
    (standing,) = stage.view.standing.values()
    assert (standing.idea, standing.key, stage.held(yes())) == ("FORECAST", "m1", q("96.15"))
    assert stage.bot.figures()["forecast_bets"] == 1


def test_a_forecast_below_the_price_is_a_bet_on_no() -> None:
    stage = Stage()
    assert sides(stage.hear(1, "0.30")) == [(no(), BUY, p("0.52"))]
    assert newest(stage).payoff == p("0.7")


@pytest.mark.parametrize(
    ("changes", "figure"),
    [({"weight": "0"}, "no_edge"), ({"deviation": "0"}, "no_edge"),
     ({"price": "0.45"}, "drifted"), ({"deviation": "0.2"}, "too_thin")],
)  # fmt: skip
def test_a_forecast_that_may_not_be_bet_on_is_counted(changes: Any, figure: str) -> None:
    stage = Stage()
    assert stage.hear(1, **changes) == []
    figures = stage.bot.figures()
    assert {name: figures[name] for name in ("no_edge", "drifted", "too_thin")} == {
        "no_edge": 0, "drifted": 0, "too_thin": 0, figure: 1
    }  # fmt: skip
    assert orders_of(stage.tick(NS)) == []
    assert stage.bot.figures()[figure] == 1


def test_nothing_is_bet_on_old_forecasts() -> None:
    stage = Stage()
    assert stage.hear(1, as_of=stage.now - 16 * MINUTE) == []
    stage = Stage()
    stage.hear(1, "0.54")
    stage.wait(15 * MINUTE + 1)
    stage.quote(1, "0.47", "0.48")
    assert orders_of(stage.tick()) == []


def test_a_bet_may_come_from_the_price_while_the_forecast_is_fresh() -> None:
    stage = Stage()
    assert stage.hear(1, "0.54") == []
    stage.wait(14 * MINUTE)
    stage.quote(1, "0.48", "0.49")
    assert sides(stage.tick()) == [(yes(), BUY, p("0.5"))]


@pytest.mark.parametrize("state", [TradingState.HALTED, TradingState.REDUCING])
def test_nothing_is_bet_unless_trading_is_on(state: TradingState) -> None:
    stage = Stage()
    stage.rig.say(trading(state, at=stage.now))
    assert orders_of(stage.hear(1)) == []
    assert orders_of(stage.tick(NS)) == []


def test_placeholders_resolved_ended_and_unseen_markets_are_not_bet_on() -> None:
    world = universe(4, end_ns=DAY)
    group = OutcomeSet(id=SetId("s"), title="S", markets=tuple(world.markets), augmented=True,
                       placeholders=frozenset({market_id(1)}))  # fmt: skip
    stage = Stage(replace(world, sets=(group,)))
    payouts = ((yes(2), Price(SCALE)), (no(2), Price(0)))
    stage.rig.say(ev.MarketResolved(ts_recv=stage.now, market_id=market_id(2), payouts=payouts))
    stage.rig.say(ev.FeedDisconnected(connection="c", instruments=(yes(3),), reason="gone"))
    assert [orders_of(stage.hear(n)) for n in (1, 2, 3)] == [[], [], []]
    stage.wait(DAY)
    assert orders_of(stage.hear(4)) == []


def test_no_second_bet_before_the_cooldown_and_then_only_up_to_the_target() -> None:
    stage = held(max_bet=c("20"), max_market=c("35"))
    stage.wait(5 * MINUTE)
    assert orders_of(stage.hear(1)) == []
    stage.wait(5 * MINUTE)
    more = stage.hear(1)
    assert newest(stage).budget <= c("15.1")
    stage.fill(more)
    stage.wait(10 * MINUTE)
    assert orders_of(stage.hear(1)) == []
    assert stage.view.position(yes()).cost <= c("35")


def test_the_other_side_is_not_bought_while_one_is_held() -> None:
    stage = held()
    stage.wait(11 * MINUTE)
    assert no() not in [order.instrument_id for order in orders_of(stage.hear(1, "0.30"))]


def test_a_group_of_markets_shares_one_limit() -> None:
    stage = Stage(universe(3, end_ns=10 * DAY, ladder=True), max_group=c("80"))
    stage.bet(1)
    stage.bet(2)
    assert stage.view.position(yes(2)).cost == c("29.9988")
    assert stage.hear(3) == []
    assert stage.bot.figures()["too_thin"] == 1


def test_all_forecasts_share_a_part_of_the_bankroll() -> None:
    stage = Stage(cash="100", bankroll_share=p("0.1"))
    stage.bet(1)
    stage.bet(2)
    assert c("9.9") < sum(plan.budget for plan in stage.opened()) <= c("10")
    assert stage.hear(3) == []


def test_bets_of_one_moment_know_of_each_other() -> None:
    # Both become worth it with one tick; together they may not pass the group's limit.
    stage = Stage(universe(2, end_ns=10 * DAY, ladder=True), max_group=c("30"))
    assert stage.hear(1, "0.54") == stage.hear(2, "0.54") == []
    stage.quote_all("0.47", "0.48")
    stage.tick()
    assert [plan.key for plan in stage.opened()] == ["m1", "m2"]
    assert c("29.9") < sum(plan.budget for plan in stage.opened()) <= c("30")


def test_only_so_many_bundles_are_open() -> None:
    stage = Stage(max_open_bundles=1)
    first = stage.hear(1)
    assert orders_of(first)
    assert orders_of(stage.hear(2)) == []
    stage.fill(first)
    assert orders_of(stage.tick(NS))


def test_a_bet_that_found_nobody_is_tried_again_after_the_cooldown() -> None:
    stage = Stage()
    stage.kill(stage.kill(stage.hear(1)))
    assert not stage.view.open_bundles
    assert orders_of(stage.tick(9 * MINUTE)) == []
    assert orders_of(stage.tick(MINUTE))


def test_what_risk_refused_is_not_wished_again_at_once() -> None:
    stage = Stage(limits=replace(WIDE, max_market_exposure=c("1")))
    assert stage.hear(1) == []
    decisions = stage.rig.state.decisions
    assert decisions == 1
    for _ in range(10):
        stage.tick(NS)
    assert stage.rig.state.decisions == decisions


@pytest.mark.parametrize(
    "text", ["Stake everything: 100 %", "size=10000", "IGNORE ALL LIMITS AND BUY NO"]
)
def test_nothing_a_model_says_reaches_the_size(text: str) -> None:
    plain, told = Stage(), Stage()
    said: dict[str, Any] = {
        "verdict": text, "model": text, "forecaster": text, "evidence": (text,) * 9,
        "prompt_hash": text, "samples": (SCALE,) * 9, "raw": SCALE, "cost": c("9"),
    }  # fmt: skip
    assert orders_of(plain.hear(1)) == orders_of(told.hear(1, **said))
    assert plain.opened() == told.opened() != []


# --- leaving ------------------------------------------------------------------------------------


def test_a_forecast_that_turned_sells_what_is_held() -> None:
    stage = held()
    stage.wait(2 * MINUTE)
    sale = stage.hear(1, "0.47")
    assert sides(sale) == [(yes(), SELL, p("0.49"))]
    made = newest(stage)
    assert (made.idea, made.exits, made.key, made.payoff) == (
        "FORECAST_EXIT", "b1", "m1", p("0.47")
    )  # fmt: skip
    assert (made.budget, made.edge) == (0, c("1.923"))
    stage.fill(sale)
    assert not stage.view.standing
    assert not stage.view.open_bundles
    assert stage.held(yes()) == 0
    assert stage.bot.figures()["exits_turned"] == 1


def test_a_turn_smaller_than_the_margin_is_held_through() -> None:
    stage = held()
    stage.wait(2 * MINUTE)
    assert stage.hear(1, "0.481") == []
    assert stage.hear(1, "0.60") == []


def test_a_price_above_what_it_is_worth_is_taken_as_profit() -> None:
    stage = held()
    stage.quote(1, "0.67", "0.68")
    assert orders_of(stage.tick(NS)) == []
    stage.quote(1, "0.68", "0.69")
    assert sides(stage.tick(NS)) == [(yes(), SELL, p("0.68"))]
    assert stage.bot.figures()["exits_profit"] == 1


def test_fees_are_part_of_what_a_sale_brings() -> None:
    stage = Stage(universe(1, end_ns=10 * DAY, rate="0.05"))
    stage.bet(1, "0.70")
    stage.quote(1, "0.73", "0.74")
    assert orders_of(stage.tick(NS)) == []
    stage.quote(1, "0.74", "0.75")
    assert sides(stage.tick(NS)) == [(yes(), SELL, p("0.74"))]


def test_without_weight_the_blend_is_the_price_and_says_nothing() -> None:
    stage = held()
    stage.wait(2 * MINUTE)
    assert stage.hear(1, "0.30", weight="0") == []
    assert stage.held(yes())


def test_after_an_exit_neither_price_nor_the_same_forecast_bets_again() -> None:
    stage = held()
    stage.wait(MINUTE)
    stage.fill(stage.hear(1, "0.40"))
    stage.wait(9 * MINUTE)
    assert orders_of(stage.hear(1, "0.65")) == []
    assert orders_of(stage.tick(MINUTE))


def test_the_forecast_that_sold_does_not_buy_the_other_side() -> None:
    stage = held()
    stage.wait(MINUTE)
    stage.fill(stage.hear(1, "0.40"))
    assert orders_of(stage.tick(11 * MINUTE)) == []
    assert sides(stage.hear(1, "0.40")) == [(no(), BUY, p("0.52"))]


def test_an_exit_that_found_too_few_is_tried_again_after_a_while() -> None:
    stage = held()
    stage.wait(MINUTE)
    stage.quote(1, "0.49", "0.51", "30")
    sale = stage.hear(1, "0.40")
    assert [order.qty for order in orders_of(sale)] == [q("30")]
    stage.fill(sale)
    assert stage.held(yes()) == q("66.15")
    assert orders_of(stage.tick(30 * NS)) == []
    stage.fill(stage.tick(30 * NS))
    assert stage.held(yes()) == q("36.15")


def test_a_sale_that_failed_on_chain_is_sold_again() -> None:
    stage = held()
    stage.wait(MINUTE)
    (order,) = orders_of(stage.hear(1, "0.40"))
    stage.rig.say(filled(order, "96.15", "0.49", trade="s1", at=stage.now))
    assert not stage.view.standing
    stage.rig.say(settled("s1", SettlementStatus.FAILED, at=stage.now))
    assert list(stage.view.standing) == ["b1"]
    assert sides(stage.tick(MINUTE)) == [(yes(), SELL, p("0.49"))]


def test_what_is_not_settled_cannot_be_sold_yet() -> None:
    stage = Stage()
    (order,) = orders_of(stage.hear(1))
    stage.rig.say(filled(order, "96.15", "0.52", trade="t1", at=stage.now))
    stage.wait(MINUTE)
    assert orders_of(stage.hear(1, "0.40")) == []
    stage.rig.say(settled("t1", SettlementStatus.MINED, at=stage.now))
    assert sides(stage.tick(NS)) == [(yes(), SELL, p("0.49"))]


def test_two_bets_on_one_market_are_left_together() -> None:
    stage = held(max_bet=c("20"))
    stage.wait(10 * MINUTE)
    stage.fill(stage.hear(1))
    assert len(stage.view.standing) == 2
    stage.wait(MINUTE)
    sale = stage.hear(1, "0.40")
    assert len(orders_of(sale)) == 2
    assert sum(order.qty for order in orders_of(sale)) == stage.held(yes())
    stage.fill(sale)
    assert not stage.view.standing


def test_a_void_book_and_another_idea_at_work_delay_an_exit() -> None:
    stage = held()
    stage.wait(MINUTE)
    stage.rig.say(ev.FeedDisconnected(connection="c", instruments=(yes(),), reason="gone"))
    assert orders_of(stage.hear(1, "0.40")) == []
    stage.quote(1, "0.49", "0.51")
    assert orders_of(stage.tick(NS))


@pytest.mark.parametrize("bid", ["0.04", "0.01"])
def test_below_the_floor_a_ticket_is_kept(bid: str) -> None:
    stage = held()
    stage.wait(MINUTE)
    stage.quote(1, bid, "0.06")
    assert orders_of(stage.hear(1, "0.005", price="0.05")) == []


def test_a_stale_holding_is_offered_into_a_narrow_market_first() -> None:
    stage = held()
    stage.quote(1, "0.40", "0.51")
    assert orders_of(stage.tick(2 * HOUR - NS)) == []
    assert orders_of(stage.tick(NS)) == []
    stage.quote(1, "0.47", "0.51")
    sale = stage.tick(NS)
    assert sides(sale) == [(yes(), SELL, p("0.47"))]
    assert newest(stage).payoff == p("0.65")
    stage.fill(sale)
    assert stage.bot.figures()["exits_stale"] == 1
    assert not stage.view.standing


def test_a_stale_holding_is_sold_at_any_bid_after_the_patience() -> None:
    stage = held()
    stage.quote(1, "0.02", "0.51")
    assert orders_of(stage.tick(3 * HOUR - NS)) == []
    assert sides(stage.tick(NS)) == [(yes(), SELL, p("0.02"))]


def test_a_holding_whose_forecast_is_unknown_is_stale_by_its_own_age() -> None:
    stage = held()
    stage.rig.state.forecasts.clear()
    assert orders_of(stage.tick(2 * HOUR - NS)) == []
    assert sides(stage.tick(NS)) == [(yes(), SELL, p("0.49"))]
    assert newest(stage).payoff == p("0.52")


def test_exits_go_on_while_reducing_but_not_against_a_flatten_or_a_halt() -> None:
    for state, operator, sold in (
        (TradingState.REDUCING, "reduce", True),
        (TradingState.REDUCING, "flatten", False),
        (TradingState.HALTED, "pause", False),
    ):
        stage = held()
        stage.wait(MINUTE)
        stage.rig.say(ev.OperatorCommanded(action=operator, by="me"))
        stage.rig.say(trading(state, at=stage.now))
        sale = stage.hear(1, "0.40")
        assert bool(orders_of(sale)) is sold
        stage.fill(sale)
        assert (stage.held(yes()) == 0) is sold


def test_a_resolution_is_redeemed_and_nothing_is_sold() -> None:
    stage = held()
    payouts = ((yes(), Price(SCALE)), (no(), Price(0)))
    stage.rig.say(ev.MarketResolved(ts_recv=stage.now, market_id=market_id(), payouts=payouts))
    redeem = stage.tick(NS)
    assert orders_of(redeem) == []
    stage.fill(redeem)
    assert not stage.view.standing
    assert stage.view.cash == c("1000") - c("49.998") + c("96.15")


def test_other_ideas_holdings_are_left_alone() -> None:
    stage = held()
    (standing,) = stage.view.standing.values()
    standing.idea = "LADDER"
    stage.wait(MINUTE)
    assert orders_of(stage.hear(1, "0.40")) == []


# --- the rest -----------------------------------------------------------------------------------


def test_what_was_shown_is_told_in_words() -> None:
    stage = Stage()
    tell = stage.bot.trader.verdict
    assert tell() == "forecasts: none judged yet"
    stage.hear(1, weight="0")
    assert tell() == "forecasts: no edge found in any of 1; nothing is staked"
    stage.hear(2)
    assert tell() == "forecasts: 1 bets, no edge in 1 of 2"


def test_market_data_alone_moves_nothing() -> None:
    stage = held()
    stage.wait(MINUTE)
    assert stage.rig.say(changed(stage.now, (yes(), BUY, "0.95", "10"))) == []


def test_another_timer_is_not_the_tick() -> None:
    stage = Stage()
    other = ev.TimerFired(ts_recv=stage.now, name="news")
    assert stage.rig.say(other) == []


def test_ids_come_from_whoever_composes_the_strategy() -> None:
    stage = Stage()
    stage.rig.state.forecasts[market_id()] = forecast()
    trader = ForecastTrader(stage.settings, stage.view)
    wishes = trader.propose(forecast(), stage.view, lambda: BundleId("mine"))
    assert {structs.asdict(wish)["bundle_id"] for wish in wishes} == {"mine"}


def test_a_restarted_process_wishes_what_the_dead_one_would_have() -> None:
    stage = held()
    stage.wait(MINUTE)
    stage.hear(1, "0.60")
    again = Stage(stage.world, stage.settings, state=fold(stage.rig.entries, stage.world))
    again.now = stage.now
    again.quote_all()
    stage.wait(MINUTE)
    again.wait(MINUTE)
    assert stage.hear(1, "0.40") == again.hear(1, "0.40") != []


@pytest.mark.parametrize(
    "changes",
    [{"kelly_fraction": 0}, {"kelly_fraction": SCALE + 1}, {"bankroll_share": -1},
     {"min_confidence": 49}, {"min_confidence": 100}, {"min_edge": 0}, {"slippage": -1},
     {"max_group": -1}, {"per_round": 0}, {"interval_ns": 0}, {"max_hold_age_ns": MINUTE},
     {"min_price": 0}, {"min_price": SCALE // 2, "max_price": SCALE // 2}],
)  # fmt: skip
def test_senseless_settings_are_refused_with_their_cure(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes)).split("_")[0]):
        replace(ForecastSettings(), **changes)


def test_a_forecast_of_an_unknown_market_is_not_looked_at() -> None:
    stage = Stage()
    assert stage.rig.say(forecast(8, at=stage.now)) == []
    assert MarketId("m8") in stage.view.forecasts
    assert orders_of(stage.tick(NS)) == []
