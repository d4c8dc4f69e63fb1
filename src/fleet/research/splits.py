"""Which bars a model may learn from and which it is then asked about, with nothing leaking across.

A label looks ahead: that of row i is known ``reach`` bars later. So rows whose label reaches into
what is tested are *purged*, and behind a tested part ``embargo`` rows more are left out, because
their features still look back into it (Lopez de Prado, "Advances in Financial Machine Learning",
2018, chapter 7). ``purged_folds`` learns on both sides of the tested part and serves choosing;
``walk_forward`` learns from the past alone and serves judging. Rows are indices of bars.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fleet.research.series import Times


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows to learn from (rising), and the tested rows from ``first`` to before ``last``."""

    train: Times
    first: int
    last: int


def purged_folds(first: int, last: int, *, folds: int, reach: int, embargo: int) -> list[Split]:
    """Rows ``first`` to before ``last`` in ``folds`` parts, each tested once.

    Raises ``ValueError`` if a fold would be empty or leave nothing to learn from.
    """
    rows = np.arange(first, last, dtype=np.int64)
    splits = []
    for start, end in _parts(first, last, folds):
        before = rows + reach < start
        after = rows >= end + reach + embargo
        splits.append(_checked(rows[before | after], start, end))
    return splits


def walk_forward(
    start: int, first: int, last: int, *, folds: int, reach: int, embargo: int
) -> list[Split]:
    """Rows ``first`` to before ``last`` in parts; each learns from ``start`` to shortly before it.

    Raises ``ValueError`` as ``purged_folds`` does.
    """
    return [
        _checked(np.arange(start, begin - reach - embargo, dtype=np.int64), begin, end)
        for begin, end in _parts(first, last, folds)
    ]


def _parts(first: int, last: int, folds: int) -> list[tuple[int, int]]:
    if folds < 1 or last - first < folds:
        raise ValueError(f"{last - first} rows do not make {folds} folds; give more bars")
    bounds = [first + (last - first) * part // folds for part in range(folds + 1)]
    return list(pairwise(bounds))


def _checked(train: Times, first: int, last: int) -> Split:
    if not len(train):
        raise ValueError(
            f"nothing is left to learn from beside rows {first} to {last}; give more bars, fewer"
            " folds or a shorter horizon"
        )
    return Split(train, first, last)
