"""A forecaster gets a weight only where its record shows skill against the price, and says so."""

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest

from fleet.forecasting.calibration import (
    MIN_EVENTS,
    MIN_QUESTIONS,
    Calibration,
    CalibrationError,
    Earned,
)
from fleet.forecasting.logistic import expit, logit
from fleet.forecasting.record import Resolved
from tests.forecast_world import record_of


@pytest.fixture(scope="module")
def skilled() -> Calibration:
    """Sees the truth exactly, in categories a and b; c has too few questions."""
    record = record_of(600, noise=0.1, categories=("a", "b"))
    few = [replace(one, category="c", question_id=f"c{one.question_id}") for one in record[:9]]
    return Calibration.fit([*record, *few])


def _line(calibration: Calibration, category: str = "") -> Earned:
    return next(one for one in calibration.table() if one.category == category)


def test_skill_that_is_shown_earns_its_weight(skilled: Calibration) -> None:
    pool = _line(skilled)
    assert pool.weight == pool.fitted_weight > 0.6
    assert pool.high < 0 and pool.p_adjusted < 0.05
    assert pool.brier < pool.price_brier
    blend = skilled.apply("f", "a", 0.8, 0.5)
    assert blend.weight == _line(skilled, "a").weight > 0.6
    assert 0.6 < blend.probability < 0.85
    assert 0.0 < blend.deviation < 0.1
    assert blend.verdict.startswith("edge found: f in a: 300 questions of 300 events")
    assert f"{_line(skilled, 'a').difference:+.4f}" in blend.verdict


def test_the_blend_lies_between_the_two_in_log_odds(skilled: Calibration) -> None:
    line = _line(skilled, "a")
    for probability in (0.0, 0.03, 0.4, 0.97, 1.0):
        for price in (0.01, 0.5, 0.9):
            calibrated = line.a + line.b * float(logit(probability))
            market = float(logit(price))
            blend = skilled.apply("f", "a", probability, price).probability
            expected = float(expit((1 - line.weight) * market + line.weight * calibrated))
            assert blend == pytest.approx(expected)


def test_a_forecaster_that_knows_less_than_the_price_gets_nothing() -> None:
    calibration = Calibration.fit(record_of(600, noise=3.0, categories=("a", "b")))
    for category in ("a", "b", "", "unseen"):
        for price in (0.00005, 0.123, 0.5, 1.0):
            blend = calibration.apply("f", category, 0.9, price)
            assert (blend.weight, blend.probability) == (0.0, price)
            assert blend.verdict.startswith("no edge found: f ")
    assert "600 questions of 600 events" in _line(calibration).verdict


@pytest.mark.parametrize("seed", range(6))
def test_an_echo_of_the_price_never_earns_anything(seed: int) -> None:
    chances = random.Random(seed)
    record = [
        replace(one, price=one.probability, outcome=float(chances.random() < one.probability))
        for one in record_of(300, noise=1.0, seed=seed)
    ]
    calibration = Calibration.fit(record)
    assert all(one.weight == 0.0 for one in calibration.table())


def test_too_few_questions_or_events_show_nothing() -> None:
    record = record_of(MIN_QUESTIONS - 1, noise=0.0, price_noise=4.0)
    told = Calibration.fit(record).apply("f", "a", 0.9, 0.5)
    assert told.weight == 0.0
    assert "(fewer than 50 of 30)" in told.verdict
    many = record_of(400, noise=0.0, price_noise=4.0)
    one_story = [replace(one, event_id=f"e{i % (MIN_EVENTS - 1)}") for i, one in enumerate(many)]
    assert Calibration.fit(many).apply("f", "a", 0.9, 0.5).weight > 0.0
    assert Calibration.fit(one_story).apply("f", "a", 0.9, 0.5).weight == 0.0


def test_the_same_question_asked_often_is_one_question() -> None:
    record = record_of(MIN_QUESTIONS - 10, noise=0.0, price_noise=4.0)
    often = [replace(one, made_ns=one.made_ns + n) for one in record for n in range(9)]
    line = _line(Calibration.fit(often))
    assert line.questions == pytest.approx(MIN_QUESTIONS - 10)
    assert line.weight == 0.0


def test_a_category_with_few_questions_has_the_pools_line_but_no_weight(
    skilled: Calibration,
) -> None:
    assert skilled.apply("f", "c", 0.8, 0.5).weight == 0.0
    assert _line(skilled, "c").b == pytest.approx(_line(skilled).b, abs=0.2)
    unseen = skilled.apply("f", "d", 0.8, 0.5)
    assert unseen.weight == 0.0
    assert unseen.verdict == "no edge found: f has no resolved question in d"


def test_a_category_where_it_shows_nothing_is_not_carried_by_the_others() -> None:
    good = record_of(600, noise=0.0, price_noise=2.0)
    blind = [
        replace(one, category="b", question_id=f"b{one.question_id}")
        for one in record_of(200, noise=9.0, price_noise=0.3, seed=5)
    ]
    calibration = Calibration.fit([*good, *blind])
    assert _line(calibration).weight > 0.0
    assert calibration.apply("f", "a", 0.8, 0.5).weight > 0.0
    assert calibration.apply("f", "b", 0.8, 0.5).weight == 0.0


def test_without_a_price_it_is_calibrated_and_stakes_nothing() -> None:
    # Twice as sure as it may be.
    record = [
        replace(one, probability=float(expit(2.0 * logit(one.probability))), price=None)
        for one in record_of(2_000, noise=0.0)
    ]
    calibration = Calibration.fit(record)
    assert _line(calibration).b == pytest.approx(0.5, abs=0.1)
    blend = calibration.apply("f", "a", 0.9, None)
    assert blend.probability == pytest.approx(float(expit(0.5 * logit(0.9))), abs=0.03)
    assert (blend.weight, blend.verdict) == (0.0, "no price to compare with, so no stake")


def test_a_stranger_moves_nothing() -> None:
    nobody = Calibration()
    assert nobody.apply("x", "a", 0.9, 0.3).probability == 0.3
    assert nobody.apply("x", "a", 0.9, None).probability == 0.9
    blend = nobody.apply("x", "a", 0.9, 0.3)
    assert blend.weight == 0.0 and blend.deviation > 0.1
    assert blend.verdict == "no edge found: x has no resolved record"
    assert Calibration.fit([]).table() == ()


def test_forecasters_are_judged_apart_and_the_order_of_records_is_nothing() -> None:
    record = [*record_of(300, noise=0.1), *record_of(300, noise=3.0, name="g", seed=2)]
    first = Calibration.fit(record, seed=4)
    shuffled = list(record)
    random.Random(9).shuffle(shuffled)
    assert Calibration.fit(shuffled, seed=4).table() == first.table()
    assert {(one.forecaster, one.weight > 0) for one in first.table()} == {
        ("f", True),
        ("g", False),
    }


def test_more_doubt_with_fewer_questions() -> None:
    small, large = (Calibration.fit(record_of(n, noise=0.5)) for n in (150, 2_400))
    assert small.apply("f", "a", 0.8, None).deviation > 2 * (
        large.apply("f", "a", 0.8, None).deviation
    )


def test_the_deviation_is_about_the_spread_of_refits_on_other_worlds() -> None:
    said = []
    told = []
    for seed in range(16):
        calibration = Calibration.fit(record_of(250, noise=0.2, price_noise=1.5, seed=seed))
        if (blend := calibration.apply("f", "a", 0.8, 0.5)).weight > 0.0:
            said.append(blend.probability)
            told.append(blend.deviation)
    assert len(said) > 10
    mean = sum(said) / len(said)
    spread = math.sqrt(sum((p - mean) ** 2 for p in said) / len(said))
    assert spread / 1.7 < sum(told) / len(told) < 1.7 * spread


def test_it_is_saved_and_read_whole(skilled: Calibration) -> None:
    text = skilled.to_json()
    again = Calibration.from_json(text)
    assert again.table() == skilled.table()
    assert again.apply("f", "a", 0.8, 0.5) == skilled.apply("f", "a", 0.8, 0.5)
    unpriced = Calibration.fit([replace(r, price=None) for r in record_of(60, noise=1)])
    assert Calibration.from_json(unpriced.to_json()).to_json() == unpriced.to_json()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 1, "earned": [{}]}', '{"version": 1, "earned": 7}', "nul"]
)
def test_what_is_no_calibration_is_refused_with_the_cure(text: str) -> None:
    with pytest.raises(CalibrationError, match="fit it anew"):
        Calibration.from_json(text)


def test_another_version_is_refused(skilled: Calibration) -> None:
    held = json.loads(skilled.to_json()) | {"version": 99}
    with pytest.raises(CalibrationError, match="version 99"):
        Calibration.from_json(json.dumps(held))


@pytest.mark.parametrize(
    "wrong",
    [("probability", 1.1), ("probability", float("nan")), ("price", -0.1), ("outcome", 0.5)],
)
def test_impossible_records_are_refused(wrong: tuple[str, float]) -> None:
    name, value = wrong
    changes: dict[str, Any] = {name: value}
    record: Resolved = replace(record_of(1, noise=1)[0], **changes)
    with pytest.raises(CalibrationError, match="leave"):
        Calibration.fit([record])


def test_an_answer_that_is_no_probability_is_refused(skilled: Calibration) -> None:
    for probability, price in ((1.2, 0.5), (float("nan"), 0.5), (0.5, 2.0)):
        with pytest.raises(CalibrationError, match="no probability"):
            skilled.apply("f", "a", probability, price)
