"""Penalised logistic regression, against scikit-learn's and against what must hold."""

import numpy as np
import pytest

from fleet.forecasting.logistic import CLIP, expit, fit, logit


def _sample(n: int = 200, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    chances = np.random.default_rng(3)
    features = chances.normal(size=(n, k))
    odds = features @ np.array([1.0, -0.5, 0.2])[:k]
    return features, (chances.random(n) < expit(odds)).astype(np.float64)


def test_it_finds_what_scikit_learn_finds() -> None:
    from sklearn.linear_model import LogisticRegression

    features, outcomes = _sample()
    weights = np.linspace(0.2, 2.0, len(outcomes))
    theirs = LogisticRegression(C=1 / 4.0, fit_intercept=False, tol=1e-10, max_iter=1_000)
    theirs.fit(features, outcomes, sample_weight=weights)
    ours = fit(features, outcomes, penalty=np.full(3, 4.0), centre=np.zeros(3), weights=weights)
    assert ours.coefficients == pytest.approx(theirs.coef_[0], abs=1e-5)


def test_an_offset_counts_as_a_known_part_of_the_answer() -> None:
    features, outcomes = _sample()
    free = fit(features, outcomes, penalty=np.full(3, 1e-9), centre=np.zeros(3)).coefficients
    rest = fit(
        features[:, 1:], outcomes, penalty=np.full(2, 1e-9), centre=np.zeros(2),
        offset=features[:, 0] * free[0],
    ).coefficients  # fmt: skip
    assert rest == pytest.approx(free[1:], abs=1e-5)


def test_without_data_the_belief_stands() -> None:
    centre = np.array([0.3, -2.0])
    found = fit(np.empty((0, 2)), np.empty(0), penalty=np.array([4.0, 25.0]), centre=centre)
    assert found.coefficients == pytest.approx(centre)
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx([0.5, 0.2])


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_perfect_divide_stays_finite(scale: float) -> None:
    features = np.array([[-2.0], [-1.0], [1.0], [2.0]]) * scale
    outcomes = np.array([0.0, 0.0, 1.0, 1.0])
    found = fit(features, outcomes, penalty=np.ones(1), centre=np.zeros(1))
    gradient = features.T @ (expit(features @ found.coefficients) - outcomes) + found.coefficients
    assert gradient == pytest.approx([0.0], abs=1e-4)


def test_log_odds_and_back() -> None:
    p = np.array([CLIP, 0.02, 0.5, 0.7, 1 - CLIP])
    assert expit(logit(p)) == pytest.approx(p)
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert 0.0 < expit(-1e6) < expit(1e6) <= 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"penalty": np.zeros(3)},
        {"penalty": np.ones(2)},
        {"outcomes": np.ones(7)},
        {"features": np.full((200, 3), np.nan)},
        {"offset": np.ones(1)},
    ],
)
def test_what_cannot_be_fitted_is_refused(wrong: dict[str, np.ndarray]) -> None:
    features, outcomes = _sample()
    given = {"penalty": np.ones(3), "centre": np.zeros(3)} | wrong
    with pytest.raises(ValueError):
        fit(given.pop("features", features), given.pop("outcomes", outcomes), **given)
