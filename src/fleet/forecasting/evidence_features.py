"""What the statistical forecaster looks at besides the price, as numbers around 0.

Each feature is 0 where nothing is known, so that it then says nothing. Times to the close are in
days, the rest in log odds. Nothing here may use what was not known at ``Question.as_of_ns``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from fleet.forecasting.base_rates import DAY_NS
from fleet.forecasting.history import usable
from fleet.forecasting.logistic import logit
from fleet.forecasting.port import Neighbour, Question

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NEIGHBOURS: Final = 8
LEAST_SIMILARITY: Final = 0.25
"""Cosine below which a neighbour says nothing: unrelated questions share this much wording."""
NEIGHBOUR_STRENGTH: Final = 2.0
"""The question's own prior weighs as much as this many identical resolved questions."""
USUAL_DAYS: Final = 30.0
DRIFT_NS: Final = DAY_NS
LEAST_POINTS: Final = 3

PRICED: Final = ("bias", "slope", "slope by horizon", "base rate", "neighbours", "drift", "noise")
"""Added to logit(price)."""
UNPRICED: Final = ("bias", "neighbours")
"""Added to the logit of the base rate."""


def neighbour_rate(neighbours: Sequence[Neighbour], prior: float) -> float:
    """How often the nearest resolved questions came true, shrunk to ``prior``.

    A neighbour counts by how far its similarity exceeds ``LEAST_SIMILARITY``; the prior counts as
    ``NEIGHBOUR_STRENGTH`` identical ones (kernel regression with a Beta prior).
    """
    mass = yes = 0.0
    for one in neighbours:
        if one.item.outcome is not None:
            weight = max(0.0, one.similarity - LEAST_SIMILARITY) / (1.0 - LEAST_SIMILARITY)
            mass += weight
            yes += weight * one.item.outcome
    return (yes + NEIGHBOUR_STRENGTH * prior) / (mass + NEIGHBOUR_STRENGTH)


def path_features(question: Question) -> tuple[float, float]:
    """(drift, noise) of the last day's path in log odds; (0, 0) with too few points.

    Drift is the change over the day; noise the standard deviation of the changes between points,
    scaled to a day by the square root of time.
    """
    start = question.as_of_ns - DRIFT_NS
    points = [(t, p) for t, p in question.path if start <= t <= question.as_of_ns and usable(p)]
    if len(points) < LEAST_POINTS or points[-1][0] <= points[0][0]:
        return 0.0, 0.0
    odds = logit(np.array([p for _, p in points]))
    days = (points[-1][0] - points[0][0]) / DAY_NS
    steps = np.diff(odds)
    noise = math.sqrt(float(steps @ steps) / days)
    return float(odds[-1] - odds[0]), noise


def priced_row(
    question: Question, price: float, rate: float, overall: float, near: Sequence[Neighbour]
) -> Floats:
    """(7,) features of a question with a price, in the order of ``PRICED``."""
    odds = float(logit(price))
    days = (question.closes_ns - question.as_of_ns) / DAY_NS
    horizon = math.log(max(days, 1.0) / USUAL_DAYS) if days > 0 else 0.0
    drift, noise = path_features(question)
    return np.array(
        [
            1.0,
            odds / 2.0,
            horizon * odds / 2.0,
            float(logit(rate) - logit(overall)),
            float(logit(neighbour_rate(near, price))) - odds,
            drift,
            noise * odds / 2.0,
        ]
    )


def unpriced_row(rate: float, near: Sequence[Neighbour]) -> Floats:
    """(2,) features of a question without a price, in the order of ``UNPRICED``."""
    return np.array([1.0, float(logit(neighbour_rate(near, rate)) - logit(rate))])
