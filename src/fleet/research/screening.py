"""Stage 1: which features tell anything about the label, and still do in other parts of the past.

A feature's gain at a horizon is its mutual information with the label over ``BINS`` equal bins,
less what the same label tells when it is drawn anew in blocks of random length from random places
(stationary bootstrap, Politis and Romano 1994): labels overlap, and blocks keep that, but neither
the moment nor the hour of the day. A feature tells something if at some horizon none of these told
as much, and it still gains in three quarters of the folds there. Kept are such features, those
furthest beyond chance first, unless a better one says the same (rank correlation). Screening sees
the development part only. It never finds nothing: ``chance`` says when too few told more than
chance and the best of the others were taken, so that the later stages have something to reject.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet.research.series import Floats
from fleet.research.training_set import TrainingSet

BINS: Final = 12
DRAWS: Final = 40
FOLD_DRAWS: Final = 3
BLOCK: Final = 8
"""The mean length of a block, in lengths of a label: what overlaps is a small part of it."""
HOLDS_MIN: Final = 0.75
CORRELATION_MAX: Final = 0.9
KEPT_MIN: Final = 8
KEPT_MAX: Final = 20

Small = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """One feature at its best horizon, and what became of it.

    ``gain`` in bits; ``beyond`` chance in standard deviations of the labels drawn anew; ``holds``
    is the share of folds in which it gains.
    """

    name: str
    horizon: int
    gain: float
    beyond: float
    holds: float
    more_than_chance: bool
    verdict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """``kept`` best first; ``chance`` if too few told more than chance and the best were taken."""

    kept: tuple[str, ...]
    table: tuple[Screened, ...]
    chance: bool


def screen(
    rows: TrainingSet, first: int, last: int, *, horizons: tuple[int, ...], folds: int, seed: int
) -> Screening:
    """Rank the features over rows ``first`` to before ``last``."""
    rng = np.random.default_rng(seed)
    found: list[Screened | None] = [None] * len(rows.names)
    for horizon in horizons:
        # What a label knows must not come from beyond the part.
        end = last - horizon - 1
        label = rows.labels(horizon)[first:end]
        if len(label) < 10 * BINS * folds or not 0 < float(label.sum()) < len(label):
            continue
        drawn = [label[_blocks(rng, len(label), BLOCK * (horizon + 1))] for _ in range(DRAWS)]
        bounds = [len(label) * part // folds for part in range(folds + 1)]
        for column, name in enumerate(rows.names):
            values = rows.values[first:end, column]
            bins = _bins(values)
            told = _information(bins, label)
            luck = np.array([_information(bins, other) for other in drawn])
            spread = float(luck.std())
            gain = told - float(luck.mean())
            holds = float(np.mean([
                _gains(values[a:b], label[a:b], [one[a:b] for one in drawn[:FOLD_DRAWS]])
                for a, b in pairwise(bounds)
            ]))  # fmt: skip
            one = Screened(
                name=name, horizon=horizon, gain=gain, holds=holds,
                beyond=gain / spread if spread > 0 else 0.0,
                more_than_chance=told > float(luck.max()) and holds >= HOLDS_MIN,
            )  # fmt: skip
            best = found[column]
            if best is None or _order(one) < _order(best):
                found[column] = one
    return _verdict(rows, first, last, [one for one in found if one is not None])


def _order(one: Screened) -> tuple[bool, float, str]:
    """Sorts what is more than chance first, then what is furthest beyond it."""
    return (not one.more_than_chance, -one.beyond, one.name)


def _gains(values: Floats, label: Floats, drawn: list[Floats]) -> bool:
    """Whether a part tells more about its own label than about those drawn anew."""
    bins = _bins(values)
    luck = float(np.mean([_information(bins, other) for other in drawn]))
    return _information(bins, label) > luck


def _blocks(rng: np.random.Generator, count: int, length: int) -> Small:
    """Indices of a stationary bootstrap: blocks of geometric length from anywhere, in a circle."""
    begins = rng.random(count) < 1.0 / length
    begins[0] = True
    starts = np.flatnonzero(begins)
    number = np.cumsum(begins) - 1
    origin = rng.integers(0, count, len(starts))
    return np.asarray((origin[number] + np.arange(count) - starts[number]) % count, np.int64)


def _bins(values: Floats) -> Small:
    """Each value's bin by rank: about equally many in each, ties together."""
    inner = np.quantile(values, np.arange(1, BINS) / BINS)
    return np.searchsorted(inner, values, side="right")


def _information(bins: Small, label: Floats) -> float:
    """Mutual information of bins and a label of 0 and 1, in bits."""
    counts = np.bincount(bins * 2 + label.astype(np.int64), minlength=2 * BINS)
    joint = counts.reshape(-1, 2) / len(label)
    alone = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log2(joint[seen] / alone[seen])).sum())


def _verdict(rows: TrainingSet, first: int, last: int, found: list[Screened]) -> Screening:
    found = sorted(found, key=_order)
    place = {name: column for column, name in enumerate(rows.names)}
    ranks = np.argsort(np.argsort(rows.values[first:last], axis=0, kind="stable"), axis=0)
    alike: Any = np.abs(np.nan_to_num(np.atleast_2d(np.corrcoef(ranks, rowvar=False))))
    kept: list[str] = []
    table: list[Screened] = []
    chance = False
    for one in found:
        twin = next((k for k in kept if alike[place[k], place[one.name]] > CORRELATION_MAX), None)
        if twin is not None:
            verdict = f"like {twin}"
        elif one.more_than_chance and len(kept) < KEPT_MAX:
            verdict = "kept"
        elif not one.more_than_chance and len(kept) < KEPT_MIN:
            verdict, chance = "kept, though no more than chance", True
        else:
            verdict = "enough are better" if one.more_than_chance else "no more than chance"
        if verdict.startswith("kept"):
            kept.append(one.name)
        table.append(replace(one, verdict=verdict))
    return Screening(kept=tuple(kept), table=tuple(table), chance=chance)
