"""Scores and intervals against sums made by hand and by another way."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.forecasting.scoring import (
    Bin,
    brier,
    calibration_table,
    holm,
    log_score,
    paired,
    question_weights,
    skill,
)

P = np.array([0.9, 0.2, 0.5, 0.0])
Y = np.array([1.0, 0.0, 1.0, 1.0])


def test_scores_by_hand() -> None:
    assert brier(P, Y) == pytest.approx([0.01, 0.04, 0.25, 1.0])
    clipped = -math.log(0.0001)
    assert log_score(P, Y) == pytest.approx([-math.log(0.9), -math.log(0.8), math.log(2), clipped])
    assert skill(0.1, 0.2) == 0.5
    assert math.isnan(skill(0.0, 0.0))


def test_a_question_counts_once_however_often_it_was_asked() -> None:
    assert question_weights(["a", "b", "a", "a"]) == pytest.approx([1 / 3, 1.0, 1 / 3, 1 / 3])


def test_bins_hold_equal_numbers_and_never_part_equals() -> None:
    p = np.array([0.5] * 6 + [0.1, 0.2, 0.8, 0.9])
    y = np.array([1.0, 0, 1, 0, 1, 0, 0, 0, 1, 1])
    bins = calibration_table(p, y, np.ones(10), bins=5)
    assert [(b.low, b.high, b.questions) for b in bins] == [
        (0.1, 0.2, 2.0), (0.5, 0.5, 6.0), (0.8, 0.9, 2.0),
    ]  # fmt: skip
    assert [b.happened for b in bins] == [0.0, 0.5, 1.0]
    even = calibration_table(np.linspace(0, 1, 100), np.ones(100), np.ones(100))
    assert [b.questions for b in even] == [10.0] * 10
    assert calibration_table(np.empty(0), np.empty(0), np.empty(0)) == ()


ROWS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.booleans()), min_size=1)


@given(ROWS, st.randoms())
def test_a_table_loses_nothing_and_ignores_order(
    rows: list[tuple[float, bool]], mix: Random
) -> None:
    def table(of: list[tuple[float, bool]]) -> tuple[Bin, ...]:
        p, y = (np.array(column, dtype=np.float64) for column in zip(*of, strict=True))
        return calibration_table(p, y, np.ones(len(of)))

    bins = table(rows)
    assert sum(b.questions for b in bins) == len(rows)
    assert sum(b.questions * b.said for b in bins) == pytest.approx(sum(p for p, _ in rows))
    assert sum(b.questions * b.happened for b in bins) == pytest.approx(sum(y for _, y in rows))
    shuffled = list(rows)
    mix.shuffle(shuffled)
    assert [(b.low, b.high, b.questions) for b in table(shuffled)] == [
        (b.low, b.high, b.questions) for b in bins
    ]


def test_single_events_give_the_usual_test_of_a_mean() -> None:
    values = np.random.default_rng(5).normal(-0.1, 1.0, 400)
    found = paired(values, np.ones(400), range(400))
    error = values.std(ddof=1) / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    expected = math.erfc(abs(values.mean() / error) / math.sqrt(2))
    assert found.p_value == pytest.approx(expected, abs=1e-3)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.02)


def test_copies_of_an_event_add_no_certainty() -> None:
    values = np.random.default_rng(5).normal(-0.1, 1.0, 60)
    once = paired(values, np.ones(60), range(60))
    copied = paired(np.repeat(values, 9), np.ones(540), np.repeat(np.arange(60), 9).tolist())
    assert copied.p_value == pytest.approx(once.p_value)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    naive = paired(np.repeat(values, 9), np.ones(540), range(540))
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_one_event_shows_nothing_and_no_difference_is_none() -> None:
    one = paired(np.array([-1.0, -1.0]), np.ones(2), ["a", "a"])
    assert (one.low, one.high, one.p_value, one.events) == (-math.inf, math.inf, 1.0, 1)
    same = paired(np.zeros(50), np.ones(50), range(50))
    assert (same.mean, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    with pytest.raises(ValueError):
        paired(np.zeros(3), np.ones(3), ["a"])


def test_the_seed_decides_the_interval() -> None:
    values = np.random.default_rng(5).normal(0.0, 1.0, 40)
    first, again, other = (paired(values, np.ones(40), range(40), seed=s) for s in (1, 1, 2))
    assert first == again
    assert first.low != other.low


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    chances = np.random.default_rng(11)
    held = 0
    for trial in range(200):
        shared = np.repeat(chances.normal(0.2, 1.0, 50), 3)
        found = paired(
            shared + chances.normal(0, 0.5, 150), np.ones(150), (np.arange(150) // 3).tolist(),
            seed=trial, resamples=400,
        )  # fmt: skip
        held += found.low <= 0.2 <= found.high
    assert 178 <= held <= 199


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([]) == ()
