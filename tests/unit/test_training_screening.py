"""Screening keeps what tells something, says so when nothing does, and sees only its part."""

from dataclasses import replace

import numpy as np
import pytest

from fleet.research.screening import Screening, screen
from fleet.research.training_plan import Plan, TrainingError
from fleet.research.training_set import training_set, usual_terms
from tests.training_world import candles

PLAN = Plan(horizons=(4, 12))


def screened(drift: float, seed: int = 1, *, garbage: bool = False) -> Screening:
    made = candles(3_000, seed=seed, drift=drift)
    if garbage:
        late = made.close.copy()
        late[2_000:] = late[2_000:] * np.random.default_rng(0).uniform(0.5, 2.0, 1_000)
        opened = made.open.copy()
        opened[2_001:] = late[2_000:-1]
        high = np.maximum(np.maximum(opened, late), made.high)
        low = np.minimum(np.minimum(opened, late), made.low)
        made = replace(made, close=late, open=opened, high=high, low=low)
    rows = training_set(made, PLAN)
    return screen(rows, rows.warm_up, 2_000, horizons=(4, 12), folds=3, seed=7)


def test_a_planted_edge_is_found() -> None:
    found = screened(0.002)
    assert set(found.kept[:2]) == {"hour_sin", "hour_cos"}
    assert [one.verdict for one in found.table[:2]] == ["kept", "kept"]


def test_of_noise_little_is_more_than_chance_and_it_says_so() -> None:
    found = screened(0.0)
    assert found.chance
    assert len(found.kept) == 8
    assert sum(one.more_than_chance for one in found.table) <= 5


def test_bars_after_its_part_change_nothing() -> None:
    assert screened(0.002) == screened(0.002, garbage=True)


def test_features_alike_are_kept_once() -> None:
    found = screened(0.002)
    like = {one.name: one.verdict for one in found.table if one.verdict.startswith("like ")}
    assert like
    assert not set(like) & set(found.kept)
    assert all(verdict.removeprefix("like ") in found.kept for verdict in like.values())


def test_labels_are_moves_that_pay_their_cost() -> None:
    made = candles(1_200, seed=1, drift=0.0)
    rows = training_set(made, PLAN, names=("return_1",))
    labels, opens = rows.labels(4), made.open
    assert np.isnan(labels[-5:]).all()
    assert not np.isnan(labels[:-5]).any()
    # Bought at the next open with fee and slippage, sold four bars later likewise.
    paid = opens[5:] * (1 - 0.001) * (1 - 0.0002) > opens[1:-4] * (1 + 0.001) * (1 + 0.0002)
    assert (labels[:-5] == paid).all()


def test_steps_fit_the_price() -> None:
    made = candles(1_200, seed=1, drift=0.0)
    assert (usual_terms(made, PLAN).tick, usual_terms(made, PLAN).lot) == (1_000_000, 1_000)
    share = replace(made, exchange="ALPACA")
    assert usual_terms(share, PLAN).tick == 1_000_000
    penny = replace(made, open=made.open / 1e4, high=made.high / 1e4, low=made.low / 1e4,
                    close=made.close / 1e4)  # fmt: skip
    assert usual_terms(penny, PLAN).tick == 100


def test_too_few_bars_are_refused() -> None:
    with pytest.raises(TrainingError, match="has 999 bars, training needs 1000"):
        training_set(candles(999, seed=1, drift=0.0), PLAN)
