"""Dollars for models: reserved at the worst case before a call, settled at what it cost.

A call is allowed only if the day's and the question's budget hold even when it costs the most it
can: one token a byte read, all allowed tokens written. Both budgets are of a UTC day and shared by
all processes that use the same ledger. What a call did cost is the price table's sum or what the
endpoint itself reported, whichever is more; where neither is known, the worst case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fleet.clock import Clock
from fleet.domain.units import SCALE, Cash
from fleet.forecasting.port import ForecastFailed
from fleet.forecasting.prices import PriceTable
from fleet.forecasting.prompts import Prompt
from fleet.forecasting.usage import Ask, Outcome, Settled, UsageLedger

REPORTED_USD_MAX: Final = 1_000_000.0
"""A reported cost beyond this is not believed to the cent, only that it is too much."""
TOKENS_BELIEVED_MAX: Final = 100_000_000


class BudgetSpent(ForecastFailed):
    """A budget does not allow the call; the text says which and when it will again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an endpoint says a call took; ``reported_usd`` is its own sum, if it tells one."""

    read: int
    written: int
    cached: int = 0
    reported_usd: float | None = None


class Budget:
    """The budgets of one ledger. Every method raises ``JournalError`` besides what it names."""

    def __init__(
        self,
        ledger: UsageLedger,
        prices: PriceTable,
        clock: Clock,
        *,
        day_max: Cash,
        question_max: Cash,
        tokens_max: int,
    ) -> None:
        """``tokens_max`` is what a model may write in one answer."""
        self.ledger = ledger
        self.clock = clock
        self._prices = prices
        self._day_max, self._question_max = day_max, question_max
        self._tokens_max = tokens_max

    def hold(
        self, models: Sequence[str], *, question: str, forecaster: str, prompt: Prompt
    ) -> list[int]:
        """Reserve one attempt for each of ``models``, all or none; their numbers.

        Raises ``BudgetSpent``, ``PriceUnknown``.
        """
        asks = [
            Ask(
                question=question,
                forecaster=forecaster,
                model=model,
                prompt=prompt.digest,
                worst=self._prices.of(model).cost(prompt.tokens_max, self._tokens_max),
            )
            for model in models
        ]
        held = self.ledger.hold(
            asks,
            now_ns=self.clock.now_ns(),
            day_max=self._day_max,
            question_max=self._question_max,
        )
        if isinstance(held, str):
            raise BudgetSpent(held)
        return held

    def settle(
        self,
        attempt: int,
        outcome: Outcome,
        *,
        model: str,
        usage: Usage | None = None,
        free: bool = False,
        latency_ns: int = 0,
        note: str = "",
    ) -> None:
        """Write what became of an attempt. ``free``: the endpoint certainly did no work for it."""
        cost = self._cost(model, usage) if usage is not None else None
        self.ledger.settle(
            attempt,
            Settled(
                outcome=outcome,
                cost=Cash(0) if free else cost,
                read=min(usage.read, TOKENS_BELIEVED_MAX) if usage else 0,
                written=min(usage.written, TOKENS_BELIEVED_MAX) if usage else 0,
                cached=min(usage.cached, TOKENS_BELIEVED_MAX) if usage else 0,
                latency_ns=latency_ns,
                note=note,
            ),
        )

    def _cost(self, model: str, usage: Usage) -> Cash:
        read = min(usage.read, TOKENS_BELIEVED_MAX)
        written = min(usage.written, TOKENS_BELIEVED_MAX)
        listed = self._prices.of(model).cost(read, written, usage.cached)
        reported = min(max(usage.reported_usd or 0.0, 0.0), REPORTED_USD_MAX)
        return max(listed, Cash(-int(-reported * SCALE // 1)))
