"""Judge a forecaster on resolved questions: fit on the earlier part, report on the later part.

Theory of operation. The rows are parted in time (``forecast_questions.part``): a row teaches only
if its outcome was known, and its close had passed, before the split; a row is reported only if it
was asked at or after it, and its question taught nothing. All questions go into a memory that is
asked as of each question's own moment, so its neighbours were resolved before it was asked.

1. Earlier part: each row is forecast as of its moment, by a model of what was known then. That is
   the record from which the calibration, the blend with the price and the verdict are fitted.
2. Later part: the model is fixed at the split. Forecast, calibrated and blended, it is compared
   with the price and with the base rate of the earlier part, by source and by horizon.

Nothing here is chosen by looking at the later part. Every interval resamples whole events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fleet.forecasting.base_rates import (
    HORIZON_NAMES,
    UNKNOWN_HORIZON,
    horizon_band,
)
from fleet.forecasting.benchmarks import BaseRateForecaster
from fleet.forecasting.blending import Line
from fleet.forecasting.calibration import Calibration
from fleet.forecasting.logistic import expit
from fleet.forecasting.port import Forecaster, ForecastFailed, Memory
from fleet.forecasting.record import Resolved
from fleet.forecasting.scoring import Bin
from fleet.research.forecast_questions import (
    Asked,
    Parts,
    QuestionFileError,
    Questions,
    items_of,
    record_end_ns,
)
from fleet.research.forecast_scores import COLUMNS, Sample, Score, Slice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

AT_ONCE: Final = 4
"""Questions in flight: a language model takes seconds, and its own budget limits it further."""
DUE, EARLY = "due by the end of the file", "ended before its close"
"""A file ends before some closes; of those questions it has only the ones that ended early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastEvaluation:
    """All numbers of one run; ``forecast_report`` turns them into text, JSON and a picture."""

    questions: Questions
    parts: Parts
    model: str
    failures: int
    first_failure: str
    cost_usd: float
    calibration: Calibration
    rows: int
    asked: float
    events: int
    scores: dict[str, Score]
    tables: dict[str, tuple[Bin, ...]]
    sources: tuple[Slice, ...]
    horizons: tuple[Slice, ...]
    timing: tuple[Slice, ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """What is judged: ``walking`` refits as it goes, ``fixed`` is made of what the split knew.

    ``close`` is awaited in the loop of the forecasts, after the last of them.
    """

    name: str
    walking: Forecaster
    fixed: Forecaster
    close: Callable[[], Awaitable[None]] | None = None


def evaluate_forecasts(
    questions: Questions,
    parts: Parts,
    memory: Memory,
    contend: Callable[[Memory, int], Contender],
    *,
    seed: int = 0,
) -> ForecastEvaluation:
    """Fill ``memory``, forecast both parts and score the later one.

    ``contend`` is given the memory and the moment of the split. Raises ``QuestionFileError`` if
    too little could be forecast, ``MemoryFailed`` if the memory cannot be used.
    """
    memory.add(items_of(questions.rows))
    contender = contend(memory, parts.split_ns)
    earlier, later, rates = asyncio.run(
        _forecast_parts(contender, BaseRateForecaster(memory, until_ns=parts.split_ns), parts)
    )
    failed = [text for said in (*earlier, *later) for text in said.failure]
    record = [
        _resolved(one, said.probability, contender.name)
        for one, said in zip(parts.earlier, earlier, strict=True)
        if not said.failure
    ]
    kept = [i for i, said in enumerate(later) if not said.failure]
    if not record or len({parts.later[i].outcome for i in kept}) < 2:
        raise QuestionFileError(
            f"{contender.name} answered too little to be judged: {len(failed)} of"
            f" {len(earlier) + len(later)} questions failed, the first with: {failed[0]}"
        )
    calibration = Calibration.fit(record, seed=seed)
    rows = [parts.later[i] for i in kept]
    columns = _columns(
        rows,
        np.array([later[i].probability for i in kept]),
        np.array([rates[i].probability for i in kept]),
        calibration,
        contender.name,
    )
    sample = Sample.of(rows, columns, seed)
    earned = {
        one.category: one.weight for one in calibration.table() if one.forecaster == contender.name
    }
    end_ns = record_end_ns(questions.rows)
    return ForecastEvaluation(
        questions=questions,
        parts=parts,
        model=contender.name,
        failures=len(failed),
        first_failure=failed[0] if failed else "",
        cost_usd=sum(said.cost_usd for said in (*earlier, *later)),
        calibration=calibration,
        rows=len(rows),
        asked=float(sample.weights.sum()),
        events=len(set(sample.events)),
        scores={name: sample.score(name) for name in COLUMNS},
        tables={name: sample.table(name) for name in COLUMNS},
        sources=sample.slices([one.question.category for one in rows], weights=earned),
        horizons=sample.slices([_horizon_name(one) for one in rows], order=HORIZON_NAMES),
        timing=sample.slices(
            [DUE if one.question.closes_ns < end_ns else EARLY for one in rows], order=(DUE, EARLY)
        ),
        seed=seed,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    probability: float
    cost_usd: float
    failure: tuple[str, ...]


async def _forecast_parts(
    contender: Contender, base_rate: Forecaster, parts: Parts
) -> tuple[list[_Said], list[_Said], list[_Said]]:
    """All in one loop: what the client of a language model opens belongs to one loop."""
    try:
        return (
            await _forecast_all(contender.walking, parts.earlier),
            await _forecast_all(contender.fixed, parts.later),
            await _forecast_all(base_rate, parts.later),
        )
    finally:
        if contender.close is not None:
            await contender.close()


async def _forecast_all(forecaster: Forecaster, rows: Sequence[Asked]) -> list[_Said]:
    """A forecast of each row, in order; a failure is kept, never replaced by a number."""
    seats = asyncio.Semaphore(AT_ONCE)

    async def one(asked: Asked) -> _Said:
        async with seats:
            try:
                made = await forecaster.forecast(asked.question)
            except ForecastFailed as error:
                return _Said(float("nan"), error.cost_usd, (str(error),))
            return _Said(made.probability, made.cost_usd, ())

    return list(await asyncio.gather(*(one(asked) for asked in rows)))


def _resolved(asked: Asked, probability: float, forecaster: str) -> Resolved:
    question = asked.question
    return Resolved(
        question_id=question.id,
        forecaster=forecaster,
        category=question.category,
        probability=probability,
        price=question.price,
        outcome=asked.outcome,
        made_ns=question.as_of_ns,
        resolved_ns=asked.known_ns,
        source=question.source,
        event_id=question.event_id,
    )


def _columns(
    rows: Sequence[Asked], forecast: Floats, rate: Floats, calibration: Calibration, name: str
) -> dict[str, Floats]:
    lines = {one.category: one for one in calibration.table() if one.forecaster == name}
    price = np.array([one.price for one in rows])
    calibrated, unearned, blend = np.empty(len(rows)), np.empty(len(rows)), np.empty(len(rows))
    for at, one in enumerate(rows):
        earned = lines.get(one.question.category, lines[""])
        line = Line(earned.a, earned.b, earned.fitted_weight)
        raw, quoted = forecast[at : at + 1], price[at : at + 1]
        calibrated[at] = expit(line.calibrated(raw))[0]
        # The price itself at weight 0, as ``Calibration.apply`` gives it.
        unearned[at] = expit(line.blended(raw, quoted))[0] if line.w > 0.0 else quoted[0]
        category = one.question.category
        blend[at] = calibration.apply(name, category, float(raw[0]), one.price).probability
    return dict(zip(COLUMNS, (price, rate, forecast, calibrated, unearned, blend), strict=True))


def _horizon_name(asked: Asked) -> str:
    band = horizon_band(asked.question.as_of_ns, asked.question.closes_ns)
    return "close not known" if band == UNKNOWN_HORIZON else HORIZON_NAMES[band]
