"""Which markets are asked for, in what order, how often; and what is never asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import Command, RequestForecast
from fleet.domain.events import TradingState
from fleet.domain.instruments import MarketId, OutcomeSet, SetId, Universe
from fleet.domain.units import SCALE, Price, Qty
from tests.builders import NS, market_id, no, trading, universe, yes
from tests.forecast_bot import DAY, MINUTE, Stage, asked, forecast

HOUR = 60 * MINUTE


def failed(number: int, request: str, at: int) -> ev.ForecastFailed:
    return ev.ForecastFailed(
        ts_recv=at, request_id=request, market_id=market_id(number), forecaster="f", reason="no"
    )


def round_of(stage: Stage, minutes: int = 10) -> list[MarketId]:
    """What is asked for in the next minutes, tick by tick, nothing answered."""
    found: list[Command] = stage.tick()
    for _ in range(minutes * 12 - 1):
        found += stage.tick(5 * NS)
    return asked(found)


def world(count: int = 3, **changes: object) -> Universe:
    return universe(count, **{"end_ns": 10 * DAY, **changes})  # type: ignore[arg-type]


def with_ends(*ends_ns: int) -> Universe:
    made = universe(len(ends_ns))
    markets = {
        key: replace(market, end_ns=end)
        for (key, market), end in zip(made.markets.items(), ends_ns, strict=True)
    }
    return replace(made, markets=markets)


def test_a_request_names_its_market_and_moment() -> None:
    stage = Stage(per_round=1)
    assert stage.tick() == [RequestForecast(request_id=f"m1@{NS}", market_id=market_id(), ts=NS)]
    assert stage.bot.figures()["forecasts_asked"] == 1


def test_the_tightest_and_deepest_are_asked_for_first_and_the_round_is_spread() -> None:
    stage = Stage(world(5), per_round=3)
    stage.quote(2, "0.49", "0.52")
    stage.quote(3, "0.49", "0.51", "2000")
    stage.quote(4, "0.49", "0.50", "300")
    assert asked(stage.tick()) == ["m4"]
    assert asked(stage.tick(199 * NS)) == []
    assert asked(stage.tick(NS)) == ["m3"]
    assert asked(stage.tick(200 * NS)) == ["m1"]
    assert asked(stage.tick(199 * NS)) == []


@pytest.mark.parametrize(
    ("bid", "ask", "qty"),
    [("0.40", "0.46", "1000"), ("0.02", "0.04", "9000"), ("0.97", "0.98", "1000"),
     ("0.49", "0.51", "40"), ("0.51", "0.51", "1000")],
)  # fmt: skip
def test_wide_thin_crossed_and_nearly_certain_markets_are_not_worth_a_forecast(
    bid: str, ask: str, qty: str
) -> None:
    stage = Stage(world(1))
    stage.quote(1, bid, ask, qty)
    assert round_of(stage, 1) == []
    stage.quote(1, "0.49", "0.51")
    stage.wait(10 * MINUTE)
    assert round_of(stage, 1) == ["m1"]


def test_only_markets_within_the_horizon_are_asked_for() -> None:
    stage = Stage(with_ends(0, HOUR // 2, 2 * HOUR, 59 * DAY, 61 * DAY))
    assert round_of(stage) == ["m3", "m4"]


def test_placeholders_and_resolved_and_ended_markets_are_never_asked_for() -> None:
    made = world(4)
    group = OutcomeSet(id=SetId("s"), title="S", markets=tuple(made.markets), augmented=True,
                       placeholders=frozenset({market_id(2)}))  # fmt: skip
    stage = Stage(replace(made, sets=(group,)))
    payouts = ((yes(3), Price(SCALE)), (no(3), Price(0)))
    stage.rig.say(ev.MarketResolved(ts_recv=stage.now, market_id=market_id(3), payouts=payouts))
    assert round_of(stage) == ["m1", "m4"]
    stage.wait(10 * DAY)
    stage.quote_all()
    assert round_of(stage) == []


def test_a_market_is_asked_for_once_until_it_answers_or_is_lost() -> None:
    stage = Stage(world(1), interval_ns=MINUTE, patience_ns=5 * MINUTE)
    assert round_of(stage, 5) == ["m1"]
    assert asked(stage.tick(5 * NS)) == []
    assert stage.bot.figures()["forecasts_lost"] == 1
    # The pause after a loss, then the next round.
    assert round_of(stage, 3) == ["m1"]


def test_an_answer_gives_the_market_back_and_a_fresh_forecast_needs_no_other() -> None:
    stage = Stage(world(1), interval_ns=10 * MINUTE)
    (request,) = [c for c in stage.tick() if isinstance(c, RequestForecast)]
    stage.hear(1, weight="0", request=request.request_id)
    assert not stage.bot.trader.schedule.under_way
    assert round_of(stage, 10) == []
    assert round_of(stage, 1) == ["m1"]


def test_an_answer_to_another_request_leaves_the_one_under_way() -> None:
    stage = Stage(world(1))
    stage.tick()
    stage.hear(1, weight="0", request="of another process")
    assert list(stage.bot.trader.schedule.under_way) == ["m1"]
    assert stage.bot.figures()["forecasts_received"] == 1


def test_failures_are_asked_again_after_pauses_that_double() -> None:
    stage = Stage(world(1), interval_ns=10 * NS, patience_ns=NS, backoff_ns=MINUTE,
                  backoff_ns_max=4 * MINUTE)  # fmt: skip
    pauses = []
    last = stage.now
    for _ in range(5):
        while not (commands := asked(stage.tick(NS))):
            pass
        pauses.append((stage.now - last) // MINUTE)
        last = stage.now
        assert commands == ["m1"]
        stage.rig.say(failed(1, f"m1@{stage.now}", stage.now))
    assert pauses == [0, 1, 2, 4, 4]
    assert stage.bot.figures()["forecasts_failed"] == 5
    stage.rig.say(failed(1, f"m1@{stage.now}", stage.now))
    assert stage.bot.figures()["forecasts_failed"] == 5


def test_held_markets_come_first_whatever_their_books_the_oldest_forecast_before() -> None:
    stage = Stage(world(4), per_round=3, max_bet=5 * SCALE)
    stage.bet(3)
    stage.wait(MINUTE)
    stage.bet(2)
    stage.quote(2, "0.30", "0.60")
    stage.wait(30 * MINUTE)
    assert round_of(stage)[:3] == ["m3", "m2", "m1"]


def test_what_is_too_little_to_sell_needs_no_forecast() -> None:
    stage = Stage(world(2), per_round=1, max_bet=5 * SCALE)
    stage.bet(2)
    stage.quote(2, "0.40", "0.60")
    (standing,) = stage.view.standing.values()
    standing.legs[0].left = Qty(5 * SCALE)
    assert asked(stage.tick(20 * MINUTE)) == ["m2"]
    standing.legs[0].left = Qty(5 * SCALE - 1)
    assert asked(stage.tick(20 * MINUTE)) == ["m1"]


def test_more_held_markets_than_a_round_has_take_turns() -> None:
    stage = Stage(world(4), per_round=2, max_bet=5 * SCALE, patience_ns=20 * MINUTE)
    for number in (1, 2, 3):
        stage.bet(number)
        stage.wait(NS)
    assert asked(stage.tick(9 * MINUTE)) == ["m1"]
    assert asked(stage.tick(5 * MINUTE)) == ["m2"]
    for name in ("m1", "m2"):
        stage.hear(int(name[1]), weight="0", request=stage.bot.trader.schedule.under_way[
            MarketId(name)].request_id)  # fmt: skip
    assert asked(stage.tick(5 * MINUTE))[:1] == ["m3"]


def test_under_reducing_only_what_is_held_is_asked_for_and_nothing_while_halted() -> None:
    stage = Stage(world(3), max_bet=5 * SCALE)
    stage.bet(2)
    stage.wait(20 * MINUTE)
    stage.rig.say(trading(TradingState.HALTED, at=stage.now))
    assert round_of(stage, 1) == []
    assert stage.bot.trader.schedule.requests(stage.view, (market_id(2),)) == ()
    stage.rig.say(trading(TradingState.REDUCING, at=stage.now))
    assert round_of(stage) == ["m2"]


def test_a_queue_that_turns_to_reducing_drops_what_is_not_held() -> None:
    stage = Stage(world(3), per_round=3)
    assert asked(stage.tick()) == ["m1"]
    stage.rig.say(trading(TradingState.REDUCING, at=stage.now))
    assert round_of(stage, 9) == []


def test_a_market_whose_price_has_run_away_is_next() -> None:
    stage = Stage(world(4), per_round=3, interval_ns=9 * MINUTE)
    stage.quote(4, "0.55", "0.57")
    assert stage.hear(4) == []
    assert stage.bot.figures()["drifted"] == 1
    assert asked(stage.tick()) == ["m1"]
    stage.tick(150 * NS)
    assert asked(stage.tick(30 * NS)) == ["m4"]
    assert asked(stage.tick(180 * NS)) == ["m2"]
    # The round's number holds.
    assert asked(stage.tick(120 * NS)) == []


def test_a_market_that_waits_already_is_moved_to_the_front() -> None:
    stage = Stage(world(3), per_round=3, interval_ns=9 * MINUTE)
    assert asked(stage.tick()) == ["m1"]
    stage.hear(3, as_of=stage.now - 3 * MINUTE, price="0.4")
    assert asked(stage.tick(180 * NS)) == ["m3"]
    assert asked(stage.tick(180 * NS)) == ["m2"]


def test_after_a_restart_the_journal_says_what_is_fresh() -> None:
    stage = Stage(world(2), per_round=5)
    stage.tick()
    stage.hear(1, weight="0", request=f"m1@{stage.now}")
    again = Stage(stage.world, stage.settings, state=stage.rig.state)
    again.now = stage.now
    assert asked(again.tick(NS)) == ["m2"]


def test_a_forecast_of_a_market_that_left_the_catalogue_is_ignored() -> None:
    stage = Stage(world(1))
    assert stage.rig.say(forecast(9, at=stage.now)) == []
    assert asked(stage.tick()) == ["m1"]
