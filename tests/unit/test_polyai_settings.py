"""PolyAI's settings: profiles, what outranks them, and what is refused with its cure."""

import json
from pathlib import Path

import pytest

from fleet.bots.polyai import SPEC, forecast_settings, limits, sample_ns, statarb_settings, strategy
from fleet.bots.polyai_settings import MINUTE_NS, PROFILES, PolyEnv, minutes, percent
from fleet.clock import NS_PER_SECOND
from fleet.config import ConfigError, load
from fleet.domain.units import SCALE, Cash
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.runtime.spec import Loaded
from fleet.strategies.statarb_relations import Kind
from tests.builders import universe


@pytest.mark.parametrize(("profile", "scan", "news"), [
    ("aggressive", 3, 5), ("balanced", 5, 10), ("conservative", 10, 15),
])  # fmt: skip
def test_profiles_are_those_of_the_guide(profile: str, scan: int, news: int) -> None:
    env = load(PolyEnv, {"POLYAI_PROFILE": profile})
    assert (env.intervals.scan_ns, env.intervals.news_ns) == (scan * MINUTE_NS, news * MINUTE_NS)
    assert set(PROFILES) == {"aggressive", "balanced", "conservative"}


def test_intervals_outrank_the_profile() -> None:
    env = load(PolyEnv, {"POLYAI_SCAN_INTERVAL_MINUTES": "0.5", "POLYAI_PROFILE": "aggressive"})
    assert (env.intervals.scan_ns, env.intervals.news_ns) == (30 * NS_PER_SECOND, 5 * MINUTE_NS)


@pytest.mark.parametrize("text", ["0", "0.001", "-1", "soon", ""])
def test_intervals_are_at_least_a_second(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        minutes(text)


@pytest.mark.parametrize("text", ["50", "100", "high"])
def test_a_confidence_is_between_a_coin_and_certainty(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        percent(text)


def test_a_bet_above_the_order_limit_is_refused_with_its_cure() -> None:
    with pytest.raises(ConfigError, match="lower the first or raise the second"):
        load(PolyEnv, {"POLYAI_MAX_BET_USD": "200", "POLYAI_MAX_ORDER_USD": "100"})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"subject": "statarb", "proven": ["MAGIC"]}'])
def test_a_proof_that_is_none_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    proof = tmp_path / "proof.json"
    proof.write_text(text)
    with pytest.raises(ConfigError, match="POLYAI_STATARB_PROOF"):
        load(PolyEnv, {"POLYAI_STATARB_PROOF": str(proof)})


def test_only_proven_kinds_stake_outside_the_sandbox(tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    proof.write_text(json.dumps({"subject": "statarb", "proven": ["LADDER"]}))
    env = load(PolyEnv, {"POLYAI_STATARB_PROOF": str(proof)})
    real = statarb_settings(env, play_money=False)
    assert (real.allowed, real.stake_unproven) == ((Kind.LADDER,), False)
    assert statarb_settings(load(PolyEnv, {}), play_money=False).allowed == ()
    play = statarb_settings(env, play_money=True)
    assert play.stake_unproven
    assert play.step_ns * (play.formation + play.validation) <= 20 * MINUTE_NS
    for settings, money in ((real, False), (play, True)):
        assert settings.step_ns >= sample_ns(settings.scan_ns, play_money=money)


def test_a_stage_shrinks_every_size() -> None:
    env = load(PolyEnv, {})
    whole, tenth = forecast_settings(env), forecast_settings(env, 10)
    assert (tenth.max_bet, tenth.max_market, tenth.max_group) == (
        whole.max_bet // 10, whole.max_market // 10, whole.max_group // 10,
    )  # fmt: skip
    assert statarb_settings(env, play_money=False, stage_percent=10).max_position == Cash(5 * SCALE)


@pytest.mark.parametrize("key", ["POLYAI_FORECASTS", "POLYAI_STATARB"])
def test_either_part_can_be_left_out(key: str) -> None:
    view = View(State(universe(1)))
    loaded = Loaded(items=[load(PolyEnv, {key: "false"})], feed="sandbox")
    assert len(strategy(loaded, view).verdicts()) == 1
    assert len(strategy(Loaded(items=[load(PolyEnv, {})], feed="sandbox"), view).verdicts()) == 2
    assert limits(loaded).max_order_notional == Cash(100 * SCALE)
    assert SPEC.start(loaded).mode == "paper"
