"""What a forecaster's word is worth: Platt's line, the blend with the price, and the verdict.

A forecaster earns a stake only by its own resolved record. ``fit`` proves, out of sample and over
whole events, whether blending it with the market price scores better than the price alone; a
category may be bet on only where that is shown (decision 0019):

1. at least ``MIN_QUESTIONS`` questions of at least ``MIN_EVENTS`` events with a price;
2. the 95 % interval of the Brier difference, by a bootstrap over events, lies below 0;
3. Holm's correction over the categories that have so many leaves p below 0.05.

All categories together are judged as one more, for questions without a category.

What the pool shows does not carry over to a category that has not shown it: skill at one kind of
question says little about another. Everywhere else the weight is 0, the blend is the price exactly,
and the verdict says "no edge found" with the figures.

Given the same records in any order, and the same seed, the result is the same. It must not see a
record whose outcome was not known when the fit is used: that is the caller's to leave out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from fleet.forecasting.blending import (
    LINE_SD,
    POOLED,
    Line,
    Rows,
    blend_out_of_sample,
    covariances,
    fit_lines,
    rows_of,
)
from fleet.forecasting.logistic import expit, logit
from fleet.forecasting.record import Blend, Resolved
from fleet.forecasting.scoring import Paired, brier, holm, mean, paired

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

VERSION: Final = 1
MIN_QUESTIONS: Final = 50
MIN_EVENTS: Final = 30
"""Fewer clusters than about 30 make clustered intervals too narrow (Cameron, Gelbach, Miller)."""
SIGNIFICANCE: Final = 0.05


class CalibrationError(ValueError):
    """A record or a saved calibration that cannot be used; the text names the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """What one forecaster's record shows in one category ('' for all of them together).

    ``fitted_weight`` is the weight of least loss, ``weight`` what may be used: the same where an
    edge was shown, otherwise 0. ``brier``, ``price_brier`` and ``difference`` are out of sample on
    the questions with a price; NaN and infinite bounds where there are none. ``covariance`` holds
    the rows of the (3, 3) covariance of ``a``, ``b`` and the fitted weight.
    """

    forecaster: str
    category: str
    a: float
    b: float
    fitted_weight: float
    weight: float
    questions: float
    priced: float
    events: int
    brier: float
    price_brier: float
    difference: float
    low: float
    high: float
    p_adjusted: float
    covariance: tuple[tuple[float, ...], ...]
    verdict: str


class Calibration:
    """Lines, weights and verdicts of all forecasters, by category."""

    def __init__(self, earned: Sequence[Earned] = ()) -> None:
        """Without a record: nobody has earned anything."""
        self._earned = {(one.forecaster, one.category): one for one in earned}

    @classmethod
    def fit(cls, records: Sequence[Resolved], *, seed: int = 0) -> Self:
        """Learn from resolved records. Raises ``CalibrationError`` for impossible ones."""
        by_name: dict[str, list[Resolved]] = {}
        for record in records:
            _check(record)
            by_name.setdefault(record.forecaster, []).append(record)
        found = [
            one for name in sorted(by_name) for one in _fit_forecaster(name, by_name[name], seed)
        ]
        return cls(found)

    def apply(
        self, forecaster: str, category: str, probability: float, price: float | None
    ) -> Blend:
        """The calibrated forecast blended with the price, and what the record says of it.

        Without a price the blend is the calibrated probability and the weight 0: nothing to bet
        against. Raises ``CalibrationError`` for numbers that are no probabilities.
        """
        for number in (probability,) if price is None else (probability, price):
            _check_probability(number, forecaster)
        earned = self._earned.get((forecaster, category)) or self._earned.get((forecaster, POOLED))
        if earned is None:
            return _unproven(forecaster, probability, price)
        weight, verdict = earned.weight, earned.verdict
        if earned.category != category:
            weight = 0.0
            verdict = f"no edge found: {forecaster} has no resolved question in {_name(category)}"
        line = Line(earned.a, earned.b, weight)
        raw = np.array([probability])
        if price is None:
            blend = float(expit(line.calibrated(raw))[0])
            slope = (1.0, float(logit(probability)), 0.0)
            weight, verdict = 0.0, "no price to compare with, so no stake"
        else:
            quoted = np.array([price])
            # Exactly the price where nothing was earned: clipping would move a price of 0.00005.
            blend = float(expit(line.blended(raw, quoted))[0]) if weight > 0.0 else price
            used = earned.fitted_weight
            gap = float(line.calibrated(raw)[0] - logit(price))
            slope = (used, used * float(logit(probability)), gap)
        return Blend(
            probability=blend,
            weight=weight,
            deviation=_deviation(slope, earned.covariance, blend),
            verdict=verdict,
        )

    def table(self) -> tuple[Earned, ...]:
        """Every line, forecasters and categories in order, the pool first."""
        return tuple(self._earned[key] for key in sorted(self._earned))

    def to_json(self) -> str:
        """A versioned text; infinite bounds and NaN are null."""
        rows = [{key: _plain(value) for key, value in asdict(one).items()} for one in self.table()]
        return json.dumps({"version": VERSION, "earned": rows}, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What ``to_json`` wrote. Raises ``CalibrationError`` for anything else."""
        cure = "fit it anew from the resolved record"
        try:
            held = json.loads(text)
            if held["version"] != VERSION:
                raise CalibrationError(f"calibration version {held['version']} unknown; {cure}")
            return cls([_read(row) for row in held["earned"]])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise CalibrationError(f"this is no saved calibration ({error}); {cure}") from error


def _check_probability(number: float, forecaster: str) -> None:
    if not 0.0 <= number <= 1.0:
        raise CalibrationError(
            f"{forecaster}: {number!r} is no probability in [0, 1]; leave such an answer out"
        )


def _check(record: Resolved) -> None:
    _check_probability(record.probability, record.forecaster)
    if record.price is not None:
        _check_probability(record.price, record.forecaster)
    if record.outcome not in {0.0, 1.0}:
        raise CalibrationError(
            f"question {record.question_id}: outcome {record.outcome!r} is neither 1 nor 0;"
            " leave out what was not resolved YES or NO"
        )


def _fit_forecaster(name: str, records: Sequence[Resolved], seed: int) -> list[Earned]:
    rows = rows_of(records, seed)
    lines = fit_lines(rows)
    spread = covariances(rows, tuple(lines), seed)
    priced = rows.take(rows.priced)
    ours = brier(blend_out_of_sample(priced), priced.outcome)
    theirs = brier(priced.price, priced.outcome)
    shown = {category: _compare(priced, ours - theirs, category, seed) for category in lines}
    adjusted = _adjusted(shown)
    found = []
    for category, line in lines.items():
        mine = shown[category]
        weight = line.w if _passes(mine, adjusted[category]) else 0.0
        own = _members(rows, category)
        of_priced = _members(priced, category)
        found.append(
            Earned(
                forecaster=name,
                category=category,
                a=line.a,
                b=line.b,
                fitted_weight=line.w,
                weight=weight,
                questions=float(rows.weight[own].sum()),
                priced=mine.questions,
                events=mine.events,
                brier=mean(ours[of_priced], priced.weight[of_priced]),
                price_brier=mean(theirs[of_priced], priced.weight[of_priced]),
                difference=mine.mean,
                low=mine.low,
                high=mine.high,
                p_adjusted=adjusted[category],
                covariance=tuple(tuple(map(float, row)) for row in spread[category]),
                verdict=_verdict(name, category, mine, weight, adjusted[category]),
            )
        )
    return found


def _members(rows: Rows, category: str) -> Bools:
    if category == POOLED:
        return np.ones(rows.size, dtype=np.bool_)
    return np.asarray(rows.category == category, dtype=np.bool_)


def _compare(priced: Rows, difference: Floats, category: str, seed: int) -> Paired:
    own = _members(priced, category)
    part = priced.take(own)
    return paired(difference[own], part.weight, part.event.tolist(), seed=seed)


def _enough(shown: Paired) -> bool:
    return shown.questions >= MIN_QUESTIONS and shown.events >= MIN_EVENTS


def _adjusted(shown: Mapping[str, Paired]) -> dict[str, float]:
    """p-values over the categories that can pass; of the pool its own, of the others 1."""
    judged = [name for name in shown if name != POOLED and _enough(shown[name])]
    family = dict(zip(judged, holm([shown[name].p_value for name in judged]), strict=True))
    return {**dict.fromkeys(shown, 1.0), **family, POOLED: shown[POOLED].p_value}


def _passes(shown: Paired, adjusted: float) -> bool:
    return _enough(shown) and shown.high < 0.0 and adjusted < SIGNIFICANCE


def _name(category: str) -> str:
    return category or "all categories"


def _verdict(name: str, category: str, shown: Paired, weight: float, adjusted: float) -> str:
    figures = (
        f"{name} in {_name(category)}: {shown.questions:.0f} questions of {shown.events} events"
        " with a price"
    )
    if shown.events >= 2:
        figures += (
            f", Brier of the blend against the price {shown.mean:+.4f},"
            f" 95 % interval [{shown.low:+.4f}, {shown.high:+.4f}], adjusted p {adjusted:.3f}"
        )
    if weight > 0.0:
        return f"edge found: {figures}"
    cause = "" if _enough(shown) else f" (fewer than {MIN_QUESTIONS} of {MIN_EVENTS})"
    return f"no edge found: {figures}{cause}"


def _unproven(forecaster: str, probability: float, price: float | None) -> Blend:
    """Nothing is known of this forecaster: the price stands, doubt as believed beforehand."""
    spread = LINE_SD * math.hypot(1.0, float(logit(probability)))
    blend = probability if price is None else price
    return Blend(
        probability=blend,
        weight=0.0,
        deviation=spread * blend * (1.0 - blend),
        verdict=f"no edge found: {forecaster} has no resolved record",
    )


def _deviation(
    slope: tuple[float, ...], covariance: Sequence[Sequence[float]], blend: float
) -> float:
    """Delta method: from (a, b, w) to log odds to the probability."""
    direction = np.array(slope)
    variance = float(direction @ np.array(covariance) @ direction)
    return math.sqrt(max(variance, 0.0)) * blend * (1.0 - blend)


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(row: Mapping[str, object]) -> Earned:
    held = dict(row)
    missing = {"low": -math.inf, "high": math.inf}
    for key, value in held.items():
        if value is None:
            held[key] = missing.get(key, math.nan)
    covariance = held["covariance"]
    if not isinstance(covariance, list):
        raise TypeError("covariance is no list")
    held["covariance"] = tuple(tuple(map(float, line)) for line in covariance)
    return Earned(**held)  # type: ignore[arg-type]
