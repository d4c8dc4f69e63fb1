"""Every forecaster on one question, each judged by its own record: what the bot may act on.

The desk asks all its forecasters, remembers what each said, calibrates and blends each answer with
the market price, and names the one to act on: the one with the most weight, which is 0 unless it
has shown skill against the price. When a question is answered it learns, and judges anew. All of it
blocks or waits: it lives in a thread of its own, never on a trading loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from fleet.forecasting.port import (
    Connected,
    Forecast,
    Forecaster,
    ForecastFailed,
    Item,
    Kind,
    Memory,
    Question,
)
from fleet.forecasting.record import Blend, Resolved
from fleet.journal.database import JournalError

DAY_NS: Final = 86_400_000_000_000
REFIT_EVERY_NS: Final = 600_000_000_000
"""Judging anew takes seconds of one core, and one more answer changes little."""


class Calibrator(Protocol):
    """Judges a forecaster by its record."""

    def apply(
        self, forecaster: str, category: str, probability: float, price: float | None
    ) -> Blend:
        """The calibrated forecast, blended with the price."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One forecaster's forecast and what it is worth."""

    forecast: Forecast
    blend: Blend


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All that was said of one question, the one to act on last; ``failures`` by forecaster."""

    question: Question
    made: Sequence[Made]
    failures: Mapping[str, ForecastFailed]


class Desk:
    """Forecasters, memory and record of one bot."""

    def __init__(
        self,
        *,
        forecasters: Sequence[Forecaster],
        memory: Memory,
        fit: Callable[[Sequence[Resolved]], Calibrator],
        now_ns: int,
    ) -> None:
        """Ask ``forecasters`` and judge them by their record as of ``now_ns``.

        Raises ``MemoryFailed``.
        """
        self._forecasters = tuple(forecasters)
        self._memory = memory
        self._fit = fit
        self._open: dict[str, list[Item]] = {}
        self._learned = 0
        self._fitted_ns = now_ns - REFIT_EVERY_NS
        self.asked = self.failed = 0
        self.cost_usd = 0.0
        for item in memory.items(Kind.FORECAST):
            if item.outcome is None:
                self._open.setdefault(str(item.facts["question"]), []).append(item)
        self.record = self._read_record()
        self._calibration = fit(self._due(now_ns))

    @property
    def waiting(self) -> Sequence[str]:
        """The questions that were forecast and are not answered yet."""
        return tuple(self._open)

    async def answer(self, question: Question) -> Answer:
        """Ask everybody. Raises ``ForecastFailed`` if nobody could say anything, ``MemoryFailed``
        if what was said cannot be remembered.
        """
        results = await asyncio.gather(
            *(self._ask(forecaster, question) for forecaster in self._forecasters)
        )
        failures = {name: said for name, said in results if isinstance(said, ForecastFailed)}
        forecasts = [said for _, said in results if isinstance(said, Forecast)]
        self.asked += len(results)
        self.failed += len(failures)
        self.cost_usd += sum(said.cost_usd for _, said in results)
        if not forecasts:
            raise ForecastFailed(
                "; ".join(f"{name}: {error}" for name, error in failures.items()),
                sum(error.cost_usd for error in failures.values()),
            )
        items = [_item(question, forecast) for forecast in forecasts]
        self._memory.add(items)
        new = {item.id: item for item in (*self._open.get(question.id, ()), *items)}
        self._open[question.id] = list(new.values())
        made = [
            Made(forecast=f, blend=self._calibration.apply(
                f.forecaster, question.category, f.probability, question.price))
            for f in forecasts
        ]  # fmt: skip
        made.sort(key=lambda m: (m.blend.weight, m.forecast.forecaster))
        return Answer(question=question, made=made, failures=failures)

    async def _ask(
        self, forecaster: Forecaster, question: Question
    ) -> tuple[str, Forecast | ForecastFailed]:
        try:
            return forecaster.name, await forecaster.forecast(question)
        except ForecastFailed as error:
            return forecaster.name, error

    def learn(self, question_id: str, outcome: float, resolved_ns: int) -> int:
        """A question was answered: note it on every forecast of it; how many there were.

        The question itself becomes a row that later forecasts may find. Raises ``MemoryFailed``.
        """
        said = self._open.get(question_id, [])
        if not said:
            return 0
        known = [replace(item, outcome=outcome, known_ns=resolved_ns) for item in said]
        last = known[-1]
        question = Item(
            id=question_id, kind=Kind.RESOLVED, text=last.text, known_ns=resolved_ns,
            category=last.category, source=last.source, outcome=outcome, price=last.price,
            facts={"event": last.facts.get("event", ""), "asked": last.facts.get("made", 0),
                   "closes": last.facts.get("closes", 0)},
        )  # fmt: skip
        self._memory.add([*known, question])
        del self._open[question_id]
        self.record = (*self.record, *(_resolved(item) for item in known))
        self._learned += len(known)
        return len(known)

    def judge(self, now_ns: int) -> bool:
        """Fit anew if something was learned since and it is time; whether it was."""
        if not self._learned or now_ns - self._fitted_ns < REFIT_EVERY_NS:
            return False
        self._calibration = self._fit(self._due(now_ns))
        self._learned, self._fitted_ns = 0, now_ns
        return True

    def _due(self, now_ns: int) -> Sequence[Resolved]:
        """The record without questions that were answered before they were to close, until then."""
        return [one for one in self.record if one.closes_ns <= now_ns]

    def figures(self) -> Mapping[str, float]:
        """The KPIs: accuracy, Brier and the price's Brier of our own record, cost, error rate."""
        record = self.record
        priced = [r for r in record if r.price is not None]
        figures: dict[str, float] = {
            "forecasts": self.asked - self.failed,
            "error_rate": self._error_rate(),
            "cost_usd": self.cost_usd,
            "resolved": len(record),
        }
        made = self.asked - self.failed
        if made:
            figures["cost_per_forecast_usd"] = self.cost_usd / made
        if record:
            right = sum((r.probability > 0.5) == (r.outcome > 0.5) for r in record)
            figures["accuracy"] = right / len(record)
            figures["brier"] = sum((r.probability - r.outcome) ** 2 for r in record) / len(record)
        if priced:
            total = sum((r.price - r.outcome) ** 2 for r in priced if r.price is not None)
            figures["brier_price"] = total / len(priced)
        return figures

    def _error_rate(self) -> float:
        """The share of calls to others that brought nothing; of forecasts where none is made."""
        try:
            calls = [one.attempts() for one in self._forecasters if isinstance(one, Connected)]
        except JournalError:
            calls = []
        # Those who share an access tell the same figures.
        made, failed = max(calls, default=(0, 0))
        if made:
            return failed / made
        return self.failed / self.asked if self.asked else 0.0

    async def close(self) -> None:
        """Let go of connections and of the memory."""
        connected = [one for one in self._forecasters if isinstance(one, Connected)]
        await asyncio.gather(*(one.close() for one in connected))
        self._memory.close()

    def _read_record(self) -> tuple[Resolved, ...]:
        items = self._memory.items(Kind.FORECAST)
        return tuple(_resolved(item) for item in items if item.outcome is not None)


def _item(question: Question, forecast: Forecast) -> Item:
    # The newest of a day replaces those before it: ten forecasts of one afternoon are one opinion.
    return Item(
        id=f"{forecast.forecaster}|{question.id}|{forecast.as_of_ns // DAY_NS}",
        kind=Kind.FORECAST,
        text=question.text,
        known_ns=forecast.as_of_ns,
        category=question.category,
        source=question.source,
        price=question.price,
        facts={
            "question": question.id,
            "event": question.event_id,
            "closes": question.closes_ns,
            "forecaster": forecast.forecaster,
            "probability": forecast.probability,
            "made": forecast.as_of_ns,
            "model": forecast.model,
            "prompt": forecast.prompt_hash,
        },
    )


def _resolved(item: Item) -> Resolved:
    facts = item.facts
    return Resolved(
        question_id=str(facts["question"]),
        forecaster=str(facts["forecaster"]),
        category=item.category,
        probability=float(str(facts["probability"])),
        price=item.price,
        outcome=item.outcome if item.outcome is not None else float("nan"),
        made_ns=int(str(facts["made"])),
        resolved_ns=item.known_ns,
        source=item.source,
        event_id=str(facts.get("event", "")),
        closes_ns=int(str(facts.get("closes", 0))),
    )
