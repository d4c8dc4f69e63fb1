"""Forecasters that any other has to beat: the market's price, and the base rate."""

from __future__ import annotations

from typing import Final

from fleet.forecasting.base_rates import Tally, horizon_band
from fleet.forecasting.history import group_of, outcome_of, past_of, usable
from fleet.forecasting.port import Forecast, ForecastFailed, Kind, Memory, Question

MARKET: Final = "market"
BASE_RATE: Final = "base-rate"


class MarketForecaster:
    """Says what the price says."""

    @property
    def name(self) -> str:
        """The name of its record."""
        return MARKET

    async def forecast(self, question: Question) -> Forecast:
        """The price. Raises ``ForecastFailed`` where there is none."""
        if question.price is None or not usable(question.price):
            raise ForecastFailed(
                f"question {question.id} has no market price in [0, 1]; ask one that has"
            )
        return Forecast(
            question_id=question.id,
            forecaster=MARKET,
            probability=question.price,
            as_of_ns=question.as_of_ns,
        )


class BaseRateForecaster:
    """Says how often questions of that category and horizon came true before.

    The memory is read once, when it is made; each answer uses what was known before the question,
    and from ``until_ns`` on, if given, only what was due by then.
    """

    def __init__(self, memory: Memory, *, until_ns: int | None = None) -> None:
        """Read the memory. Raises ``MemoryFailed``."""
        found = (past_of(item) for item in memory.items(Kind.RESOLVED))
        past = [one for one in found if one is not None]
        if until_ns is not None:
            past = [one for one in past if one.due(until_ns)]
        self._tally = Tally(outcome_of(one) for one in past)

    @property
    def name(self) -> str:
        """The name of its record."""
        return BASE_RATE

    async def forecast(self, question: Question) -> Forecast:
        """The rate, one half where nothing is known. Never fails."""
        horizon = horizon_band(question.as_of_ns, question.closes_ns)
        return Forecast(
            question_id=question.id,
            forecaster=BASE_RATE,
            probability=self._tally.rate(group_of(question), horizon, question.as_of_ns),
            as_of_ns=question.as_of_ns,
        )
