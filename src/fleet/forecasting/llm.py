"""A forecaster made of language models: several independent samples, pooled, paid from a budget.

Theory of operation. ``forecast`` gathers what was known at the question's time (news, the nearest
resolved questions), builds one prompt, reserves the worst case of all samples at once, and asks
for them side by side. A sample is one call and its bounded retries; it ends as a probability or as
a failure with a reason. All samples end by one deadline. If too few are good the forecast fails;
nothing is filled in. What a model said in words is logged for people and goes nowhere else, so
no text, however it got into the prompt, can reach anything but one number in [0, 1].

Must not: know sizes, balances or positions; make a probability of anything but samples; wait
without a limit. It blocks on its ledger for milliseconds: keep it off a trading loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE
from fleet.forecasting import prompts
from fleet.forecasting.answers import AnswerInvalid, pooled, read_answer
from fleet.forecasting.budget import Budget, BudgetSpent
from fleet.forecasting.endpoint import CallFailed, Endpoint, Reply
from fleet.forecasting.port import (
    Evidence,
    Forecast,
    ForecastFailed,
    Kind,
    Memory,
    MemoryFailed,
    Neighbour,
    NewsSource,
    Question,
)
from fleet.forecasting.prices import PriceUnknown
from fleet.forecasting.prompts import Prompt
from fleet.forecasting.usage import Figures, Outcome
from fleet.forecasting.wording import news_query, plain
from fleet.journal.database import JournalError

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 8.0
NEIGHBOURS: Final = 3
NEWS_SHARE: Final = 0.3
"""News may take this share of a forecast's time; then it counts as not available."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a forecast is made. ``samples`` and ``samples_min`` are of each model."""

    samples: int = 5
    samples_min: int = 3
    pool: str = "median"
    tries: int = 3
    timeout_ns: int = 60 * NS_PER_SECOND
    seed: int | None = None
    show_price: bool = True
    evidence_max: int = 8

    def __post_init__(self) -> None:
        """Refuse what cannot make a forecast. Raises ``ValueError``."""
        if not 1 <= self.samples_min <= self.samples:
            raise ValueError(
                f"{self.samples_min} good samples of {self.samples} cannot be had: set"
                " POLYAI_LLM_SAMPLES_MIN from 1 to POLYAI_LLM_SAMPLES"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the forecasters of one endpoint share."""

    endpoint: Endpoint
    budget: Budget
    seats: asyncio.Semaphore
    """How many calls are under way at once, over all of them."""


@dataclass(slots=True)
class _Round:
    """One forecast under way."""

    question: Question
    prompt: Prompt
    deadline: float
    attempts: list[int] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    """Lost samples by reason."""
    lost: Counter[str] = field(default_factory=Counter)
    """Lost samples by model."""
    pointless: str = ""
    """Why no further call is worth making, if so."""


class LlmForecaster:
    """One model, or several whose samples are pooled as one forecaster's."""

    def __init__(
        self,
        models: Sequence[str],
        access: Access,
        sampling: Sampling,
        *,
        news: NewsSource | None = None,
        memory: Memory | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``jitter`` is a number in [0, 1)."""
        self._models = tuple(models)
        self._access = access
        self._sampling = sampling
        self._news, self._memory = news, memory
        self._jitter = jitter
        self._log = logs.get("llm")

    @property
    def name(self) -> str:
        """``llm:MODEL``, or ``llm:A+B``."""
        return f"llm:{'+'.join(self._models)}"

    async def forecast(self, question: Question) -> Forecast:
        """Ask the models. Raises ``ForecastFailed``, with what the attempt has cost."""
        ledger, clock = self._access.budget.ledger, self._access.budget.clock
        deadline = asyncio.get_running_loop().time() + self._sampling.timeout_ns / NS_PER_SECOND
        probability: float | None = None
        samples: list[float] = []
        try:
            prompt = await self._prompt(question)
            ledger.keep_prompt(prompt.digest, prompt.body, clock.now_ns())
            work = _Round(question, prompt, deadline)
            samples = await self._samples(work)
            probability = pooled(samples, self._sampling.pool) if samples else None
            cost = ledger.amounts(work.attempts)
            ledger.note_forecast(
                question=question.id, forecaster=self.name, prompt=prompt.digest,
                probability=probability, samples=len(samples), cost=cost, now_ns=clock.now_ns(),
            )  # fmt: skip
        except JournalError as error:
            raise ForecastFailed(f"the usage ledger: {error}") from error
        except MemoryFailed as error:
            raise ForecastFailed(f"the memory: {error}") from error
        except PriceUnknown as error:
            raise ForecastFailed(str(error)) from error
        if probability is None:
            raise ForecastFailed(self._why(work), cost / SCALE)
        return Forecast(
            question_id=question.id,
            forecaster=self.name,
            probability=probability,
            as_of_ns=question.as_of_ns,
            model="+".join(self._models),
            samples=tuple(samples),
            evidence=prompt.evidence,
            prompt_hash=prompt.digest,
            cost_usd=cost / SCALE,
        )

    def figures(self) -> Figures:
        """The KPIs of all who share the ledger, of all days. Raises ``JournalError``."""
        return self._access.budget.ledger.figures()

    def attempts(self) -> tuple[int, int]:
        """Calls and errors of all who share the ledger. Raises ``JournalError``."""
        figures = self.figures()
        return figures.attempts, figures.errors

    async def close(self) -> None:
        """Close the endpoint's connections and the ledger, for all who share them; used again,
        they open again.
        """
        await self._access.endpoint.close()
        self._access.budget.ledger.close()

    def _why(self, work: _Round) -> str:
        reasons = "; ".join(f"{count}x {text}" for text, count in work.failures.most_common(3))
        need = self._sampling.samples_min * len(self._models)
        return work.pointless or f"fewer than {need} good samples: {reasons}"

    # --- what is known ------------------------------------------------------------------------

    async def _prompt(self, question: Question) -> Prompt:
        evidence, missing = await self._evidence(question)
        seed = self._sampling.seed
        return prompts.build(
            question,
            neighbours=self._neighbours(question),
            evidence=evidence,
            news_missing=missing,
            show_price=self._sampling.show_price,
            parameters={
                "models": self._models,
                "samples": self._sampling.samples,
                **self._access.endpoint.parameters(seed),
            },
        )

    async def _evidence(self, question: Question) -> tuple[Sequence[Evidence], bool]:
        """The news, and whether none could be asked for."""
        if self._news is None:
            return (), False
        limit_s = self._sampling.timeout_ns / NS_PER_SECOND * NEWS_SHARE
        try:
            async with asyncio.timeout(limit_s):
                found = await self._news.search(
                    news_query(question.text),
                    before_ns=question.as_of_ns,
                    limit=self._sampling.evidence_max,
                )
        except ForecastFailed as error:
            self._log.warning("NEWS NOT AVAILABLE", question=question.id, reason=str(error))
            return (), True
        except TimeoutError:
            self._log.warning("NEWS NOT AVAILABLE", question=question.id, reason="too slow")
            return (), True
        return found, False

    def _neighbours(self, question: Question) -> Sequence[Neighbour]:
        if self._memory is None:
            return ()
        return self._memory.search(
            question.text,
            before_ns=question.as_of_ns,
            top=NEIGHBOURS,
            kinds=(Kind.RESOLVED,),
            exclude=(question.id,),
        )

    # --- samples ------------------------------------------------------------------------------

    async def _samples(self, work: _Round) -> list[float]:
        """The good samples of all models, or none if one of the models has too few."""
        models = [m for m in self._models for _ in range(self._sampling.samples)]
        try:
            held = self._access.budget.hold(
                models, question=work.question.id, forecaster=self.name, prompt=work.prompt
            )
        except BudgetSpent as error:
            work.pointless = str(error)
            return []
        work.attempts += held
        seeds = [
            None if self._sampling.seed is None else self._sampling.seed + n
            for n in range(len(models))
        ]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._sample(work, model, attempt, seed))
                    for model, attempt, seed in zip(models, held, seeds, strict=True)
                ]
        except ExceptionGroup as several:
            raise several.exceptions[0] from several  # The ledger's; one reason is enough.
        answers = list(zip(models, (task.result() for task in tasks), strict=True))
        good = Counter(model for model, answer in answers if answer is not None)
        if any(good[model] < self._sampling.samples_min for model in self._models):
            return []
        return [answer for _, answer in answers if answer is not None]

    async def _sample(
        self, work: _Round, model: str, attempt: int, seed: int | None
    ) -> float | None:
        """One call and its retries: a probability, or nothing and its reason in ``work``."""
        loop = asyncio.get_running_loop()
        reason = ""
        for tried in range(1, self._sampling.tries + 1):
            try:
                return await self._attempt(work, model, attempt, seed)
            except AnswerInvalid as error:
                reason, again, wait_s = str(error), False, 0.0
            except CallFailed as error:
                if error.hopeless and not work.pointless:
                    work.pointless = str(error)
                reason, again = str(error), error.again and not work.pointless
                wait_s = max(error.wait_s, self._backoff_s(tried))
            if not again or tried == self._sampling.tries:
                break
            if loop.time() + wait_s >= work.deadline:
                reason = f"{reason}; no time is left for another try"
                break
            await asyncio.sleep(wait_s)
            try:
                (attempt,) = self._access.budget.hold(
                    [model], question=work.question.id, forecaster=self.name, prompt=work.prompt
                )
            except BudgetSpent as error:
                reason = str(error)
                break
            work.attempts.append(attempt)
        self._failed(work, model, reason)
        return None

    def _failed(self, work: _Round, model: str, reason: str) -> None:
        """Note a sample that is lost; once too many are, the rest is not asked for."""
        work.failures[reason] += 1
        work.lost[model] += 1
        if work.lost[model] > self._sampling.samples - self._sampling.samples_min:
            work.pointless = work.pointless or self._why(work)

    def _backoff_s(self, tried: int) -> float:
        """Doubling, between half and all of its step."""
        step = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** (tried - 1))
        return step * (0.5 + self._jitter() / 2)

    async def _attempt(self, work: _Round, model: str, attempt: int, seed: int | None) -> float:
        """One call, settled whatever happens. Raises ``CallFailed`` or ``AnswerInvalid``."""
        budget = self._access.budget
        sent_ns = 0
        try:
            async with asyncio.timeout_at(work.deadline), self._access.seats:
                _worth_making(work)
                sent_ns = time.monotonic_ns()
                left_s = work.deadline - asyncio.get_running_loop().time()
                reply = await self._access.endpoint.complete(
                    model, work.prompt, seed=seed, timeout_s=max(left_s, 0.001)
                )
        except CallFailed as error:
            budget.settle(
                attempt, error.outcome, model=model, free=error.free,
                latency_ns=_since(sent_ns), note=str(error),
            )  # fmt: skip
            raise
        except TimeoutError:
            budget.settle(
                attempt, Outcome.TIMEOUT, model=model, free=not sent_ns,
                latency_ns=_since(sent_ns),
            )  # fmt: skip
            raise CallFailed("no answer in time", Outcome.TIMEOUT) from None
        except asyncio.CancelledError:
            budget.settle(attempt, Outcome.CANCELLED, model=model, free=not sent_ns)
            raise
        outcome, note, probability = _judged(reply)
        budget.settle(
            attempt, outcome, model=model, usage=reply.usage,
            latency_ns=_since(sent_ns), note=note,
        )  # fmt: skip
        if probability is None:
            raise AnswerInvalid(note)
        return probability


def _worth_making(work: _Round) -> None:
    """Raise ``CallFailed`` if the forecast is lost already."""
    if work.pointless:
        raise CallFailed(work.pointless, Outcome.CANCELLED, free=True)


def _judged(reply: Reply) -> tuple[Outcome, str, float | None]:
    """What a reply is worth: its outcome, the words to log, the probability if it has one."""
    if reply.refusal or reply.finish == "content_filter":
        return Outcome.REFUSED, f"the model refused: {plain(reply.refusal, 200)}", None
    if reply.finish == "length":
        text = "the answer was cut off by its length; raise POLYAI_LLM_MAX_TOKENS"
        return Outcome.TRUNCATED, text, None
    try:
        probability, reasoning = read_answer(reply.content)
    except AnswerInvalid as error:
        return Outcome.INVALID, str(error), None
    return Outcome.GOOD, reasoning, probability


def _since(sent_ns: int) -> int:
    return time.monotonic_ns() - sent_ns if sent_ns else 0
