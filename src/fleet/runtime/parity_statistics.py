"""The two bounds parity rests on: an exact one for a share, a resampled one for a mean.

Both are one-sided 95 % bounds. Nothing here is about money; floats are what statistics are made of.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Final

ALPHA: Final = 0.05
RESAMPLES: Final = 1_000
CLUSTERS_MIN: Final = 10
"""Resampling fewer says more about the few than about the mean."""
SEED: Final = 20_261_120
"""The same rows give the same verdict, whoever asks and when."""


def share_bounds(hits: int, trials: int) -> tuple[float, float]:
    """The one-sided 95 % lower and upper bounds of a share, exact (Clopper and Pearson, 1934).

    The lower bound is the share under which ``hits`` or more of ``trials`` would have a chance of
    5 %, the upper one that under which ``hits`` or fewer would. (0, 1) without trials. Raises
    ``ValueError`` for counts that cannot be.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} of {trials} is no share")
    if not trials:
        return (0.0, 1.0)
    lower = 0.0 if hits == 0 else _solve(lambda p: 1.0 - _at_most(hits - 1, trials, p) - ALPHA)
    upper = 1.0 if hits == trials else _solve(lambda p: ALPHA - _at_most(hits, trials, p))
    return (lower, upper)


def _solve(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(hits: int, trials: int, share: float) -> float:
    """The chance of ``hits`` or fewer of ``trials``; from logarithms, which do not vanish."""
    if share <= 0.0:
        return 1.0
    if share >= 1.0:
        return 1.0 if hits >= trials else 0.0
    log_p, log_q = math.log(share), math.log1p(-share)
    whole = math.lgamma(trials + 1)
    return min(
        1.0,
        math.fsum(
            math.exp(
                whole
                - math.lgamma(k + 1)
                - math.lgamma(trials - k + 1)
                + k * log_p
                + (trials - k) * log_q
            )
            for k in range(hits + 1)
        ),
    )


def mean_bounds(clusters: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """(mean, lower bound, upper bound) of all values, resampling whole clusters.

    Values of one cluster belong together (the legs of one idea) and are drawn together, so that ten
    legs of one lucky moment do not count as ten moments. Zeros without values; with fewer than
    ``CLUSTERS_MIN`` clusters nothing bounds the mean, and the bounds are infinite.
    """
    sums = [(math.fsum(values), len(values)) for values in clusters if values]
    if not sums:
        return (0.0, 0.0, 0.0)
    mean = math.fsum(total for total, _ in sums) / sum(count for _, count in sums)
    if len(sums) < CLUSTERS_MIN:
        return (mean, -math.inf, math.inf)
    draw = random.Random(SEED)  # noqa: S311 - resampling, no secret
    means = []
    for _ in range(RESAMPLES):
        drawn = draw.choices(sums, k=len(sums))
        means.append(math.fsum(t for t, _ in drawn) / sum(c for _, c in drawn))
    means.sort()
    return (mean, percentile(means, 5), percentile(means, 95))


def percentile(ordered: Sequence[float], share: int) -> float:
    """The ``share`` percentile (0 to 100) of sorted values by the nearest rank; 0 without any."""
    if not ordered:
        return 0.0
    rank = max(1, -(-len(ordered) * share // 100))
    return ordered[rank - 1]
