"""How good probabilities were: scores, calibration, and differences with honest intervals.

Lower is better for both scores. A question asked several times counts once: its rows share a weight
of 1. Rows of one event rise and fall together, so intervals resample whole events, not rows.

- Brier score: mean of (p - y)^2 (Brier, Monthly Weather Review 78, 1950).
- Log score: mean of -log(p given to what happened), natural logarithm, with p clipped to
  [0.0001, 0.9999] so that one sure mistake costs 9.2 and not infinity (Good 1952).
- Skill: 1 - score / reference; 0 is as good as the reference, 1 perfect (Murphy 1988).
- Paired difference: the mean of (score - reference's score) with a clustered percentile bootstrap
  (Efron and Tibshirani 1993; resampling clusters: Cameron, Gelbach and Miller 2008) and the test of
  Diebold and Mariano (1995) with a variance clustered by event in the place of the one over time.
- Many looks at once: Holm's step-down correction (1979).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fleet.forecasting.logistic import CLIP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

LEVEL: Final = 0.95
RESAMPLES: Final = 2_000
"""Enough for the ends of a 95 % interval (Efron and Tibshirani 1993, section 14.6: 1,000)."""
_CHUNK: Final = 2_000_000
"""Drawn cluster numbers held at once, so that memory stays flat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A mean difference of scores, ours minus the reference's: below 0 is in our favour.

    ``low`` and ``high`` bound the interval; ``p_value`` is two-sided; ``questions`` is the weight,
    ``events`` the number of clusters. With fewer than two events nothing is known: the interval is
    infinite and ``p_value`` 1.
    """

    mean: float
    low: float
    high: float
    p_value: float
    questions: float
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One line of a calibration table: what was said and how often it happened."""

    low: float
    high: float
    said: float
    happened: float
    questions: float


def brier(probability: Floats, outcome: Floats) -> Floats:
    """(n,) squared errors."""
    return np.asarray((probability - outcome) ** 2, dtype=np.float64)


def log_score(probability: Floats, outcome: Floats) -> Floats:
    """(n,) natural log losses, probabilities clipped to [CLIP, 1 - CLIP]."""
    p = np.clip(probability, CLIP, 1.0 - CLIP)
    return np.asarray(-np.where(outcome > 0.5, np.log(p), np.log1p(-p)), dtype=np.float64)


def question_weights(questions: Sequence[Hashable]) -> Floats:
    """(n,) weights with which every question counts once, however often it was asked."""
    _, code, count = np.unique(codes_of(questions), return_inverse=True, return_counts=True)
    return np.asarray(1.0 / count[code], dtype=np.float64)


def mean(values: Floats, weights: Floats) -> float:
    """The weighted mean; NaN of nothing."""
    total = float(weights.sum())
    return float(weights @ values) / total if total > 0 else math.nan


def skill(score: float, reference: float) -> float:
    """1 - score / reference; NaN where the reference is perfect and nothing can be gained."""
    return 1.0 - score / reference if reference > 0 else math.nan


def calibration_table(
    probability: Floats, outcome: Floats, weights: Floats, bins: int = 10
) -> tuple[Bin, ...]:
    """Bins of about equal numbers of questions, by rising probability.

    Equal probabilities are never parted, so that the table does not depend on the order of rows;
    there may be fewer bins than asked for.
    """
    order = np.argsort(probability, kind="stable")
    p, y, w = probability[order], outcome[order], weights[order]
    if not p.size:
        return ()
    # The middle of each group of equals decides its bin.
    _, start, code = np.unique(p, return_index=True, return_inverse=True)
    ends = np.cumsum(w)
    before = np.concatenate([[0.0], ends])[start]
    after = np.concatenate([before[1:], [ends[-1]]])
    number = np.minimum((((before + after) / 2.0) / ends[-1] * bins).astype(np.int64), bins - 1)
    rows = number[code]
    return tuple(
        Bin(
            low=float(p[rows == one].min()),
            high=float(p[rows == one].max()),
            said=mean(p[rows == one], w[rows == one]),
            happened=mean(y[rows == one], w[rows == one]),
            questions=float(w[rows == one].sum()),
        )
        for one in np.unique(rows)
    )


def paired(
    difference: Floats,
    weights: Floats,
    events: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Paired:
    """The mean of ``difference`` (n,), its bootstrap interval over events and a clustered test.

    Deterministic by ``seed``. Raises ``ValueError`` for lengths that differ.
    """
    if not difference.shape == weights.shape == (len(events),):
        raise ValueError("differences, weights and events must be as many")
    codes = codes_of(events)
    clusters = int(codes.max()) + 1 if codes.size else 0
    middle = mean(difference, weights)
    total = float(weights.sum())
    if clusters < 2:
        return Paired(
            mean=middle, low=-math.inf, high=math.inf, p_value=1.0, questions=total, events=clusters
        )
    sums = np.bincount(codes, weights * difference, clusters).astype(np.float64)
    sizes = np.bincount(codes, weights, clusters).astype(np.float64)
    drawn = _resampled_means(sums, sizes, seed, resamples)
    low, high = np.quantile(drawn, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return Paired(
        mean=middle,
        low=float(low),
        high=float(high),
        p_value=_clustered_p(middle, sums - middle * sizes, total),
        questions=total,
        events=clusters,
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values, in the order given: below 0.05 holds for all of them together."""
    adjusted = [1.0] * len(p_values)
    worst = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda i: (p_values[i], i))):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = worst
    return tuple(adjusted)


def draw_clusters(clusters: int, resamples: int, seed: int) -> Ints:
    """(resamples, clusters) numbers of clusters drawn with replacement, the same for one seed."""
    return np.random.default_rng(seed).integers(0, clusters, (resamples, clusters))


def codes_of(labels: Sequence[Hashable]) -> Ints:
    """(n,) a number for each label, from 0, in order of first appearance."""
    seen: dict[Hashable, int] = {}
    return np.fromiter((seen.setdefault(one, len(seen)) for one in labels), np.int64, len(labels))


def _resampled_means(sums: Floats, sizes: Floats, seed: int, resamples: int) -> Floats:
    rng = np.random.default_rng(seed)
    clusters = sums.size
    at_once = max(1, _CHUNK // clusters)
    found = []
    for done in range(0, resamples, at_once):
        drawn = rng.integers(0, clusters, (min(at_once, resamples - done), clusters))
        found.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(found)


def _clustered_p(middle: float, deviations: Floats, total: float) -> float:
    """Two-sided p-value of a mean of 0: clusters independent, normal in large samples."""
    clusters = deviations.size
    variance = clusters / (clusters - 1) * float(deviations @ deviations) / total**2
    return math.erfc(abs(middle) / math.sqrt(2.0 * variance)) if variance > 0 else 1.0
