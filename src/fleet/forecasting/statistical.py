"""The forecaster that needs no key: price, base rates, nearest resolved questions, time, path.

With a price it starts at the price and lets the resolved record move it; without one it starts at
the base rate of the category and horizon (decision 0019). Both are ridge logistic regressions with
an offset (``logistic``), whose coefficients are believed to be 0 with the deviations below, so that
an empty record gives the price, or the base rate, itself.

Always point in time. The model is fitted on questions known, and due to be known (``history``),
before the start of the refit interval that holds ``as_of_ns``; neighbours are those known before
``as_of_ns``; every teaching example is seen as it stood at its own moment, with the neighbours and
base rates of then. Same memory, same question: same answer, to the last bit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final

import numpy as np

from fleet.forecasting.base_rates import DAY_NS, Tally, horizon_band
from fleet.forecasting.evidence_features import (
    NEIGHBOURS,
    PRICED,
    UNPRICED,
    priced_row,
    unpriced_row,
)
from fleet.forecasting.history import group_of, outcome_of, past_of, usable
from fleet.forecasting.logistic import expit, fit, logit
from fleet.forecasting.port import (
    Forecast,
    ForecastFailed,
    Kind,
    Memory,
    MemoryFailed,
    Neighbour,
    Question,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NAME: Final = "statistical"
MODEL: Final = "statistical-v1"
REFIT_NS: Final = DAY_NS
EXAMPLES_MAX: Final = 2_000
"""Only the latest teach: more change nothing at this shrinkage, and each costs a search."""
DEVIATIONS: Final = {"bias": 0.25}
OTHER_DEVIATION: Final = 0.1
UNPRICED_DEVIATION: Final = 0.25
UNPRICED_CENTRE: Final = {"neighbours": 0.5}


@dataclass(frozen=True, slots=True)
class _Model:
    """Coefficients and base rates as of ``cut_ns``; ``examples`` taught the priced part."""

    cut_ns: int
    tally: Tally
    priced: Floats
    unpriced: Floats
    examples: int


class StatisticalForecaster:
    """Answers from the memory alone; safe to call from several threads."""

    def __init__(
        self, memory: Memory, *, fit_before_ns: int | None = None, refit_ns: int = REFIT_NS
    ) -> None:
        """``fit_before_ns`` fixes the model in time, for evaluation; otherwise it is refitted
        every ``refit_ns``. A question as of before ``fit_before_ns`` is then refused.
        """
        self._memory = memory
        self._fixed_ns = fit_before_ns
        self._refit_ns = refit_ns
        self._model: _Model | None = None
        self._lock = Lock()

    @property
    def name(self) -> str:
        """The name of its record."""
        return NAME

    async def forecast(self, question: Question) -> Forecast:
        """The probability as of then, found off the event loop. Raises ``ForecastFailed``."""
        return await asyncio.to_thread(self.answer, question)

    def answer(self, question: Question) -> Forecast:
        """The same at once. Raises ``ForecastFailed``."""
        if question.price is not None and not usable(question.price):
            raise ForecastFailed(
                f"question {question.id}: price {question.price!r} is no probability;"
                " ask with one in [0, 1], or with none"
            )
        try:
            with self._lock:
                model = self._fitted(question)
            near = self._near(question)
        except MemoryFailed as error:
            raise ForecastFailed(f"the memory cannot be asked: {error}") from error
        rate, overall = _rates(model.tally, question, model.cut_ns)
        if question.price is not None:
            row = priced_row(question, question.price, rate, overall, near)
            odds = float(logit(question.price)) + float(row @ model.priced)
        elif model.tally.count(model.cut_ns) or near:
            odds = float(logit(rate)) + float(unpriced_row(rate, near) @ model.unpriced)
        else:
            raise ForecastFailed(
                f"question {question.id} has no price and the memory holds nothing resolved"
                " before it; fill it with `fleet memory load`"
            )
        return Forecast(
            question_id=question.id,
            forecaster=NAME,
            probability=float(expit(odds)),
            as_of_ns=question.as_of_ns,
            model=f"{MODEL}/{model.examples}",
            evidence=tuple(one.item.id for one in near),
        )

    def coefficients(self, question: Question) -> dict[str, float]:
        """What each feature of ``PRICED`` counts for such a question, for reports."""
        with self._lock:
            model = self._fitted(question)
        return dict(zip(PRICED, map(float, model.priced), strict=True))

    def _fitted(self, question: Question) -> _Model:
        cut_ns = self._fixed_ns
        if cut_ns is None:
            cut_ns = question.as_of_ns // self._refit_ns * self._refit_ns
        elif question.as_of_ns < cut_ns:
            raise ForecastFailed(
                f"question {question.id} is older than what this model was fitted on;"
                " fit it on what was known before the question"
            )
        if self._model is None or self._model.cut_ns != cut_ns:
            self._model = self._fit(cut_ns)
        return self._model

    def _fit(self, cut_ns: int) -> _Model:
        found = (past_of(item) for item in self._memory.items(Kind.RESOLVED))
        due = [past for past in found if past is not None and past.due(cut_ns)]
        tally = Tally(outcome_of(past) for past in due)
        teaching = [past for past in due if past.asked.as_of_ns][-EXAMPLES_MAX:]
        priced: list[tuple[float, Floats, float]] = []
        unpriced: list[tuple[float, Floats, float]] = []
        for past in teaching:
            asked = past.asked
            rate, overall = _rates(tally, asked, asked.as_of_ns)
            near = self._near(asked)
            unpriced.append((float(logit(rate)), unpriced_row(rate, near), past.outcome))
            if asked.price is not None:
                row = priced_row(asked, asked.price, rate, overall, near)
                priced.append((float(logit(asked.price)), row, past.outcome))
        own = np.array([DEVIATIONS.get(name, OTHER_DEVIATION) for name in PRICED])
        centre = np.array([UNPRICED_CENTRE.get(name, 0.0) for name in UNPRICED])
        return _Model(
            cut_ns=cut_ns,
            tally=tally,
            priced=_coefficients(priced, own, np.zeros(len(PRICED))),
            unpriced=_coefficients(unpriced, np.full(len(UNPRICED), UNPRICED_DEVIATION), centre),
            examples=len(priced),
        )

    def _near(self, question: Question) -> Sequence[Neighbour]:
        return self._memory.search(
            question.text,
            before_ns=question.as_of_ns,
            top=NEIGHBOURS,
            kinds=(Kind.RESOLVED,),
            exclude=(question.id,),
        )


def _rates(tally: Tally, question: Question, before_ns: int) -> tuple[float, float]:
    """The base rate of its like, and of everything, from what was known before then."""
    horizon = horizon_band(question.as_of_ns, question.closes_ns)
    return tally.rate(group_of(question), horizon, before_ns), tally.overall(before_ns)


def _coefficients(
    examples: Sequence[tuple[float, Floats, float]], deviation: Floats, centre: Floats
) -> Floats:
    return fit(
        np.array([row for _, row, _ in examples]).reshape(len(examples), centre.size),
        np.array([outcome for *_, outcome in examples]),
        penalty=deviation**-2.0,
        centre=centre,
        offset=np.array([offset for offset, *_ in examples]),
    ).coefficients
