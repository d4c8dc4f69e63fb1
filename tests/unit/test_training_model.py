"""The model is scikit-learn's to the bit, is calibrated unseen, and is a file of numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fleet.domain.events import BarClosed
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import SCALE, Price, Qty
from fleet.research import model as module
from fleet.research.model import MAGIC, Model, fit
from fleet.research.scorer import ModelScorer
from fleet.research.training_plan import Choice, Plan, TrainingError
from fleet.research.training_set import TrainingSet, training_set
from tests.training_world import candles

CHOICE = Choice(
    horizon=4, features=3, learning_rate=0.1, trees=20, leaves=6, leaf_rows=20, ridge=0.1,
    columns=0.7,
)  # fmt: skip
NAMES = ("hour_sin", "hour_cos", "return_12")


@pytest.fixture(scope="module")
def rows() -> TrainingSet:
    return training_set(candles(2_000, seed=1, drift=0.002), Plan(), names=NAMES)


def fitted(rows: TrainingSet, labels: np.ndarray | None = None) -> Model:
    train = np.arange(rows.warm_up, len(rows), dtype=np.int64)
    known = rows.labels(4) if labels is None else labels
    return fit(rows.values, known, train, NAMES, CHOICE, seed=3, embargo=24)


def test_log_odds_are_those_of_scikit_learn(rows: TrainingSet) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    train = np.arange(rows.warm_up, len(rows) - 5)
    own = fitted(rows)
    known = rows.labels(4)
    trees = HistGradientBoostingClassifier(
        learning_rate=0.1, max_iter=20, max_leaf_nodes=6, min_samples_leaf=20,
        l2_regularization=0.1, max_features=0.7, early_stopping=False, random_state=3,
    ).fit(rows.values[train], known[train])  # fmt: skip
    theirs = trees.decision_function(rows.values[rows.warm_up :])
    assert (own.log_odds(rows.values[rows.warm_up :]) == theirs).all()


def test_it_learns_what_is_there_and_says_how_sure_it_is(rows: TrainingSet) -> None:
    fresh = training_set(candles(4_000, seed=9, drift=0.002), Plan(), names=NAMES)
    scores = fitted(rows).scores(fresh.values)
    known = ~np.isnan(fresh.labels(4)) & ~np.isnan(scores)
    paid = fresh.labels(4)[known]
    sure, unsure = scores[known] > 0.6, scores[known] < 0.35
    assert sure.sum() > 300
    assert unsure.sum() > 300
    # Of bars it had never seen, about as many paid as it said.
    assert abs(paid[sure].mean() - scores[known][sure].mean()) < 0.08
    assert abs(paid[unsure].mean() - scores[known][unsure].mean()) < 0.08


def test_of_noise_it_says_next_to_nothing() -> None:
    noise = training_set(candles(2_000, seed=2, drift=0.0), Plan(), names=NAMES)
    scores = fitted(noise).scores(noise.values[noise.warm_up :])
    usual = float(np.nanmean(noise.labels(4)))
    assert abs(float(scores.mean()) - usual) < 0.03
    assert float(scores.std()) < 0.05, "in sample, where boosting would be sure of itself"


def test_a_calibration_that_turns_it_around_says_it_knows_nothing(rows: TrainingSet) -> None:
    raw = np.linspace(-2.0, 2.0, 400)
    against = (raw < 0).astype(np.float64)
    turned = module._calibrated(fitted(rows), raw, against)
    assert turned.slope == 0.0
    assert turned.scores(rows.values[50:60]) == pytest.approx(0.5, abs=0.01)


def test_the_same_rows_give_the_same_bytes_and_back(rows: TrainingSet) -> None:
    one, two = fitted(rows).to_bytes(), fitted(rows).to_bytes()
    assert one == two
    read = Model.from_bytes(one)
    assert read.to_bytes() == one
    assert (read.scores(rows.values[50:]) == fitted(rows).scores(rows.values[50:])).all()


def test_a_missing_feature_is_no_opinion(rows: TrainingSet) -> None:
    values = rows.values[100:103].copy()
    values[1, 2] = np.nan
    assert np.isnan(fitted(rows).scores(values)).tolist() == [False, True, False]


def test_rows_that_teach_nothing_are_refused(rows: TrainingSet) -> None:
    with pytest.raises(TrainingError, match="teach nothing"):
        fitted(rows, np.ones(len(rows)))
    with pytest.raises(ValueError, match="2 columns for 3 features"):
        fitted(rows).scores(rows.values[:5, :2])


def test_damaged_files_are_refused(rows: TrainingSet) -> None:
    content = fitted(rows).to_bytes()
    for broken in (b"", b"PK\x03\x04", content[:-8], content + b"\0", MAGIC, MAGIC + b"{}\n",
                   b"\x80\x04" + content):  # fmt: skip
        with pytest.raises(TrainingError, match="no model file"):
            Model.from_bytes(broken)


def test_trees_that_lead_in_circles_are_refused(rows: TrainingSet) -> None:
    model = fitted(rows)
    inner = int(np.flatnonzero(model.leaf == 0)[0])
    for name, value in (("left", inner), ("right", 10**6), ("column", 3), ("roots", -1)):
        array = getattr(model, name).copy()
        array[inner if name != "roots" else 0] = value
        with pytest.raises(TrainingError, match="damaged"):
            Model.from_bytes(replace(model, **{name: array}).to_bytes())


def test_a_header_that_promises_too_much_is_refused(rows: TrainingSet) -> None:
    content = fitted(rows).to_bytes()
    end = content.index(b"\n", len(MAGIC))
    header = json.loads(content[len(MAGIC) : end])
    header["sizes"][0] = 10**12
    with pytest.raises(TrainingError, match="longer than the file"):
        Model.from_bytes(MAGIC + json.dumps(header).encode() + content[end:])


def test_bar_by_bar_it_scores_as_in_the_matrix() -> None:
    made = candles(300, seed=4, drift=0.002)
    rows_ = training_set(candles(2_000, seed=1, drift=0.002), Plan(), names=NAMES)
    model = fitted(rows_)
    from fleet.research.features import matrix

    expected = model.scores(matrix(made, NAMES).values)
    scorer = ModelScorer(model, symbol="ETHUSDT", exchange="BINANCE")
    told = []
    for row in range(len(made)):
        closed = int(made.ts[row]) + made.interval_ns
        opened, high, low, close, volume = (
            round(float(getattr(made, name)[row]) * SCALE)
            for name in ("open", "high", "low", "close", "volume")
        )
        bar = BarClosed(
            closed, closed, InstrumentId("BINANCE:ETHUSDT"), made.interval_ns, Price(opened),
            Price(high), Price(low), Price(close), Qty(volume),
        )  # fmt: skip
        told.append(scorer(bar))
    assert scorer.bars_needed == 13
    assert np.isnan(told[:12]).all()
    assert not np.isnan(told[12:]).any()
    assert told[12:] == expected[12:].tolist()
