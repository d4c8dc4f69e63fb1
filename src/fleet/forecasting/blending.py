"""The fits behind a calibration: Platt's line, the blend with the price, and out-of-sample proof.

All in log odds. Platt's line (Platt 1999) turns a raw probability q into ``a + b * logit(q)``; the
blend is ``(1 - w) * logit(price) + w * calibrated``, a logarithmic opinion pool (Genest and Zidek
1986). Each number starts at a belief and moves as far as the record pushes it: the pooled line at
the identity, a category's at the pooled one, the pooled weight at 0 (the price is right), a
category's at the pooled one.

Proof is out of sample twice over: a part of the events is predicted with a line *and* a weight that
were fitted without it, the weight itself on predictions made without what they predict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fleet.forecasting.logistic import expit, fit, logit
from fleet.forecasting.scoring import codes_of, draw_clusters, question_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fleet.forecasting.record import Resolved

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

LINE_SD: Final = 0.5
"""How far a forecaster's line is believed to lie from the identity, in log odds: published
recalibrations of language models have slopes of 0.5 to 2 (Platt fits; Halawi et al. 2024)."""
CATEGORY_SD: Final = 0.25
"""How far a category's line and weight are believed to lie from the pooled ones."""
WEIGHT_SD: Final = 0.5
"""How far the pooled weight is believed to lie from 0, the price being hard to beat."""
FOLDS: Final = 10
INNER_FOLDS: Final = 5
REFITS: Final = 100
"""Bootstrap refits for the covariance of (a, b, w); its relative error is about 1/sqrt(200)."""
POOLED: Final = ""
"""The category that stands for all of them."""


@dataclass(frozen=True, slots=True)
class Rows:
    """One forecaster's record as arrays of one length; ``price`` is NaN without one.

    ``weight`` sums to 1 over the rows of a question; ``event`` numbers the events.
    """

    raw: Floats
    price: Floats
    outcome: Floats
    weight: Floats
    category: NDArray[np.str_]
    event: Ints
    fold: Ints
    questions: tuple[str, ...]

    def take(self, chosen: Bools | Ints) -> Rows:
        """Some of the rows, weights as they are."""
        at = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        return Rows(
            self.raw[at], self.price[at], self.outcome[at], self.weight[at], self.category[at],
            self.event[at], self.fold[at], tuple(self.questions[i] for i in at),
        )  # fmt: skip

    @property
    def priced(self) -> Bools:
        """Which rows have a price."""
        return np.isfinite(self.price)

    @property
    def size(self) -> int:
        """How many rows."""
        return int(self.raw.size)


def rows_of(records: Sequence[Resolved], seed: int) -> Rows:
    """Arrays of records, in an order and with folds that do not depend on the order given.

    A fold is a hash of the event (the question where it has none), so that an event is never
    on both sides.
    """
    ordered = sorted(
        records, key=lambda r: (r.made_ns, r.source, r.question_id, r.probability, r.outcome)
    )
    questions = tuple(f"{r.source}\0{r.question_id}" for r in ordered)
    events = [r.event_id or q for r, q in zip(ordered, questions, strict=True)]
    return Rows(
        raw=np.array([r.probability for r in ordered], dtype=np.float64),
        price=np.array([np.nan if r.price is None else r.price for r in ordered], np.float64),
        outcome=np.array([r.outcome for r in ordered], dtype=np.float64),
        weight=question_weights(questions),
        category=np.array([r.category for r in ordered], dtype=np.str_),
        event=codes_of(events),
        fold=np.array([_fold(event, seed) for event in events], dtype=np.int64),
        questions=questions,
    )


def _fold(event: str, seed: int) -> int:
    digest = hashlib.sha256(f"{seed}\0{event}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


@dataclass(frozen=True, slots=True)
class Line:
    """``a + b * logit(raw)`` and the weight ``w`` against the price, in [0, 1]."""

    a: float
    b: float
    w: float

    def calibrated(self, raw: Floats) -> Floats:
        """Log odds of raw probabilities after Platt's line."""
        return self.a + self.b * logit(raw)

    def blended(self, raw: Floats, price: Floats) -> Floats:
        """Log odds of the blend."""
        market = logit(price)
        return market + self.w * (self.calibrated(raw) - market)


Lines = Mapping[str, Line]


def _platt(rows: Rows, centre: Floats, deviation: float) -> Floats:
    features = np.stack([np.ones(rows.size), logit(rows.raw)], axis=1)
    penalty = np.full(2, deviation**-2)
    return fit(
        features, rows.outcome, penalty=penalty, centre=centre, weights=rows.weight
    ).coefficients


def _weight(rows: Rows, calibrated: Floats, centre: float, deviation: float) -> float:
    """The weight of least log loss, within [0, 1]; ``calibrated`` are log odds."""
    market = logit(rows.price)
    found = fit(
        (calibrated - market)[:, None],
        rows.outcome,
        penalty=np.array([deviation**-2]),
        centre=np.array([centre]),
        offset=market,
        weights=rows.weight,
    ).coefficients
    return float(np.clip(found[0], 0.0, 1.0))


def platt_lines(rows: Rows) -> dict[str, Line]:
    """The pooled line and one for each category, weights left at 0."""
    pooled = _platt(rows, np.array([0.0, 1.0]), LINE_SD)
    lines = {POOLED: Line(float(pooled[0]), float(pooled[1]), 0.0)}
    for category in np.unique(rows.category[rows.category != POOLED]):
        own = _platt(rows.take(rows.category == category), pooled, CATEGORY_SD)
        lines[str(category)] = Line(float(own[0]), float(own[1]), 0.0)
    return lines


def calibrate(rows: Rows, lines: Lines) -> Floats:
    """Log odds of all rows, each by its category's line (the pooled one where it has none)."""
    found = lines[POOLED].calibrated(rows.raw)
    for category, line in lines.items():
        own = rows.category == category
        if category != POOLED:
            found[own] = line.calibrated(rows.raw[own])
    return found


def out_of_fold(rows: Rows, folds: int, shift: int = 0) -> Floats:
    """Calibrated log odds of all rows, each by lines fitted without its fold of the events."""
    found = logit(rows.raw)
    # Other digits of the hash for the inner folds than for the outer ones.
    number = (rows.fold >> shift) % folds
    for one in np.unique(number):
        held = number == one
        if not held.all():
            found[held] = calibrate(rows.take(held), platt_lines(rows.take(~held)))
    return found


def weigh(rows: Rows, calibrated: Floats, lines: Lines) -> dict[str, Line]:
    """The lines with their weights, fitted on the rows that have a price."""
    chosen = rows.priced
    priced, log_odds = rows.take(chosen), calibrated[chosen]
    pooled = _weight(priced, log_odds, 0.0, WEIGHT_SD) if priced.size else 0.0
    found = {}
    for category, line in lines.items():
        own = priced.category == category
        weight = pooled
        if category != POOLED:
            weight = _weight(priced.take(own), log_odds[own], pooled, CATEGORY_SD)
        found[category] = Line(line.a, line.b, weight)
    return found


def fit_lines(rows: Rows, shift: int = 0) -> dict[str, Line]:
    """Lines on all rows, weights on predictions made without what they predict."""
    return weigh(rows, out_of_fold(rows, INNER_FOLDS, shift), platt_lines(rows))


def blend_out_of_sample(rows: Rows) -> Floats:
    """Blended probabilities of rows that all have a price, fitted without their own events."""
    found = rows.price.copy()
    number = rows.fold % FOLDS
    for one in np.unique(number):
        held = number == one
        if held.all():
            continue
        lines = fit_lines(rows.take(~held), shift=16)
        part = rows.take(held)
        blended = found[held]
        for category in np.unique(part.category):
            own = part.category == category
            line = lines.get(str(category), lines[POOLED])
            if line.w > 0.0:
                blended[own] = expit(line.blended(part.raw[own], part.price[own]))
        found[held] = blended
    return found


def covariances(rows: Rows, categories: Sequence[str], seed: int) -> dict[str, Floats]:
    """(3, 3) covariances of (a, b, w) of each line, from refits on events drawn anew."""
    events = int(rows.event.max()) + 1
    order = np.argsort(rows.event, kind="stable")
    starts = np.searchsorted(rows.event[order], np.arange(events + 1))
    members = [order[starts[i] : starts[i + 1]] for i in range(events)]
    drawn: dict[str, list[tuple[float, float, float]]] = {name: [] for name in categories}
    for draw in draw_clusters(events, REFITS, seed):
        sample = rows.take(np.concatenate([members[i] for i in draw]))
        lines = platt_lines(sample)
        lines = weigh(sample, calibrate(sample, lines), lines)
        for name in categories:
            line = lines.get(name, lines[POOLED])
            drawn[name].append((line.a, line.b, line.w))
    return {name: np.cov(np.array(values), rowvar=False) for name, values in drawn.items()}
