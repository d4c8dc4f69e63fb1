"""Scores of the later part: means, differences with intervals, by any label of the rows.

Every column is one way to answer the same questions. A question counts once, however often it was
asked, and every interval resamples whole events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from fleet.forecasting.scoring import (
    Bin,
    Paired,
    brier,
    calibration_table,
    holm,
    log_score,
    mean,
    paired,
    question_weights,
    skill,
)
from fleet.research.forecast_questions import Asked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

COLUMNS: Final = ("price", "base rate", "forecast", "calibrated", "blend unearned", "blend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Mean scores of one column over the later part; skills are of the Brier score."""

    brier: float
    log: float
    skill_price: float
    skill_base_rate: float
    against_price: Paired
    against_base_rate: Paired
    log_against_price: Paired


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One source, or one horizon, of the later part.

    ``difference`` is the Brier score of the blend less the price's and ``unearned`` the same of the
    blend with the fitted weight, earned or not, whose p-value ``p_adjusted`` corrects for all
    slices of its kind. ``weight`` is what the earlier part earned, NaN for a horizon.
    """

    name: str
    questions: float
    events: int
    happened: float
    price: float
    forecast: float
    weight: float
    difference: Paired
    unearned: Paired
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The later part as arrays of one length; ``columns`` has each of ``COLUMNS``."""

    columns: Mapping[str, Floats]
    outcomes: Floats
    weights: Floats
    events: tuple[str, ...]
    seed: int

    @classmethod
    def of(cls, rows: Sequence[Asked], columns: Mapping[str, Floats], seed: int) -> Self:
        """The rows, weighted so that a question counts once."""
        return cls(
            columns,
            np.array([one.outcome for one in rows]),
            question_weights([one.question.id for one in rows]),
            tuple(one.question.event_id for one in rows),
            seed,
        )

    def score(self, name: str) -> Score:
        """The scores of one column, against the price and the base rate."""
        own, price, rate = (self._brier(one) for one in (name, "price", "base rate"))
        logs = log_score(self.columns[name], self.outcomes)
        value = mean(own, self.weights)
        return Score(
            brier=value,
            log=mean(logs, self.weights),
            skill_price=skill(value, mean(price, self.weights)),
            skill_base_rate=skill(value, mean(rate, self.weights)),
            against_price=self._paired(own - price),
            against_base_rate=self._paired(own - rate),
            log_against_price=self._paired(logs - log_score(self.columns["price"], self.outcomes)),
        )

    def table(self, name: str) -> tuple[Bin, ...]:
        """The calibration table of one column."""
        return calibration_table(self.columns[name], self.outcomes, self.weights)

    def slices(
        self,
        labels: Sequence[str],
        *,
        order: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
    ) -> tuple[Slice, ...]:
        """The rows by label, those of ``order`` first; ``weights`` is what each has earned."""
        price, forecast, blend, unearned = (
            self._brier(one) for one in ("price", "forecast", "blend", "blend unearned")
        )
        held = np.array(labels)
        names = [one for one in order if one in labels]
        found = []
        for name in [*names, *sorted(set(labels) - set(names))]:
            own = np.flatnonzero(held == name)
            part = self.weights[own]
            found.append(
                Slice(
                    name=name,
                    questions=float(part.sum()),
                    events=len({self.events[i] for i in own}),
                    happened=mean(self.outcomes[own], part),
                    price=mean(price[own], part),
                    forecast=mean(forecast[own], part),
                    weight=math.nan if weights is None else weights.get(name, 0.0),
                    difference=self._paired(blend - price, own),
                    unearned=self._paired(unearned - price, own),
                    p_adjusted=1.0,
                )
            )
        adjusted = holm([one.unearned.p_value for one in found])
        return tuple(replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True))

    def _brier(self, name: str) -> Floats:
        return brier(self.columns[name], self.outcomes)

    def _paired(self, difference: Floats, chosen: NDArray[np.intp] | None = None) -> Paired:
        at = np.arange(difference.size) if chosen is None else chosen
        events = [self.events[i] for i in at]
        return paired(difference[at], self.weights[at], events, seed=self.seed)
