"""PolyAI's settings for models and news, and what becomes of them: forecasters and news sources.

Whose key goes where: ``POLYAI_LLM_API_KEY`` to whatever endpoint is set; ``OPENAI_API_KEY`` to
OpenAI alone and ``OPENROUTER_API_KEY`` to OpenRouter alone, because that is what users set them
for. No key travels unencrypted, but to this machine itself. Without a key there is no forecaster,
and one line says why: a fleet without models is a working fleet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fleet.clock import Clock
from fleet.config import (
    Secret,
    count,
    flag,
    one_of,
    positive_dollars,
    ratio,
    seconds,
    secret,
    setting,
    url,
)
from fleet.domain.units import SCALE, Cash
from fleet.forecasting.answers import POOLS
from fleet.forecasting.budget import Budget
from fleet.forecasting.endpoint import OPENAI_HOST, OPENROUTER_HOST, Endpoint
from fleet.forecasting.llm import Access, LlmForecaster, Sampling
from fleet.forecasting.port import Memory, NewsSource
from fleet.forecasting.prices import Price, PriceTable, PriceUnknown, prices
from fleet.forecasting.usage import UsageLedger

OPENAI_URL: Final = f"https://{OPENAI_HOST}/v1"
OPENROUTER_URL: Final = f"https://{OPENROUTER_HOST}/api/v1"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
USAGE_FILE: Final = "usage.sqlite"
NEWS_FILE: Final = "news.sqlite"


def at_least_one(value: str) -> int:
    """A whole number from 1 to 100."""
    number = count(value)
    if not 1 <= number <= 100:
        raise ValueError("expected a whole number from 1 to 100")
    return number


def names(value: str) -> tuple[str, ...]:
    """Comma-separated names, each once."""
    found = tuple(part.strip() for part in value.split(",") if part.strip())
    if len(set(found)) != len(found):
        raise ValueError("expected each name once")
    return found


def addresses(value: str) -> tuple[str, ...]:
    """Comma-separated addresses."""
    return tuple(url("https", "http")(address) for address in names(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmEnv:
    """Which models are asked, how, and what that may cost."""

    key: Secret = setting(
        "POLYAI_LLM_API_KEY",
        secret,
        "",
        "the key of the language model endpoint; any word for a local server that wants none",
    )
    openai_key: Secret = setting(
        "OPENAI_API_KEY", secret, "", "a key of OpenAI, sent to OpenAI alone"
    )
    openrouter_key: Secret = setting(
        "OPENROUTER_API_KEY", secret, "", "a key of OpenRouter, sent to OpenRouter alone"
    )
    base_url: str | None = setting(
        "POLYAI_LLM_BASE_URL",
        url("https", "http"),
        None,
        "the address of an endpoint that speaks OpenAI's chat completions; by key OpenAI or"
        " OpenRouter",
    )
    models: tuple[str, ...] = setting(
        "POLYAI_LLM_MODELS",
        names,
        "",
        "the models, comma-separated; gpt-4.1-mini if none is named",
    )
    ensemble: bool = setting(
        "POLYAI_LLM_ENSEMBLE",
        flag,
        "false",
        "whether several models are one forecaster, their samples pooled, or each its own",
    )
    prices: Mapping[str, Price] = setting(
        "POLYAI_LLM_PRICES",
        prices,
        "",
        "what models cost, MODEL=READ/WRITTEN[/CACHED] in dollars per million tokens,"
        " comma-separated; over the built-in table",
    )
    samples: int = setting(
        "POLYAI_LLM_SAMPLES", at_least_one, "5", "the independent answers of each model"
    )
    samples_min: int = setting(
        "POLYAI_LLM_SAMPLES_MIN",
        at_least_one,
        "3",
        "the good answers of each model without which there is no forecast",
    )
    pool: str = setting(
        "POLYAI_LLM_POOL",
        one_of(*POOLS),
        "median",
        "how answers become one: median, trimmed (mean logit without the extremes) or logit-mean",
    )
    day_budget: Cash = setting(
        "POLYAI_LLM_DAY_BUDGET_USD",
        positive_dollars,
        "2",
        "the most dollars spent on models in a UTC day",
    )
    question_budget: Cash = setting(
        "POLYAI_LLM_QUESTION_BUDGET_USD",
        positive_dollars,
        "0.25",
        "the most dollars spent on one question in a UTC day",
    )
    timeout_ns: int = setting(
        "POLYAI_LLM_TIMEOUT_S",
        seconds,
        "60",
        "the seconds a forecast may take, news and retries included",
    )
    concurrency: int = setting(
        "POLYAI_LLM_CONCURRENCY", at_least_one, "4", "the calls under way at the same time"
    )
    tokens_max: int = setting(
        "POLYAI_LLM_MAX_TOKENS",
        count,
        "1500",
        "the tokens a model may write in one answer; more for models that think at length",
    )
    temperature: int | None = setting(
        "POLYAI_LLM_TEMPERATURE",
        ratio,
        None,
        "the sampling temperature; the model's own if not set, as some models allow no other",
    )
    seed: int | None = setting(
        "POLYAI_LLM_SEED", count, None, "the seed of the first answer, for endpoints that take one"
    )
    show_price: bool = setting(
        "POLYAI_LLM_SHOW_PRICE", flag, "true", "whether models are told the market price"
    )

    @staticmethod
    def check(values: Mapping[str, Any]) -> list[str]:
        """Sampling that can never succeed, and calls that cannot be made."""
        problems = []
        if values["samples_min"] > values["samples"]:
            problems.append(
                f"POLYAI_LLM_SAMPLES_MIN={values['samples_min']} is above"
                f" POLYAI_LLM_SAMPLES={values['samples']}: no forecast could be made; lower it"
            )
        if not values["timeout_ns"] or not values["tokens_max"]:
            problems.append("POLYAI_LLM_TIMEOUT_S and POLYAI_LLM_MAX_TOKENS must be above 0")
        return problems


DEFAULT_MODELS: Final[Mapping[str, str]] = {OPENROUTER_HOST: "openai/gpt-4.1-mini"}
DEFAULT_MODEL: Final = "gpt-4.1-mini"


@dataclass(frozen=True, slots=True)
class _Chosen:
    base_url: str
    key: Secret


def _choose(env: LlmEnv) -> _Chosen | str:
    """Endpoint and key, or in words why there is none."""
    base_url = env.base_url
    if base_url is None:
        only_openrouter = env.openrouter_key and not (env.key or env.openai_key)
        base_url = OPENROUTER_URL if only_openrouter else OPENAI_URL
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    key = env.key
    if not key and host == OPENAI_HOST:
        key = env.openai_key
    if not key and host == OPENROUTER_HOST:
        key = env.openrouter_key
    if not key and (env.openai_key or env.openrouter_key):
        return f"no key for {host}: set POLYAI_LLM_API_KEY (others' keys are sent to them alone)"
    if not key:
        return "no key: set POLYAI_LLM_API_KEY, OPENAI_API_KEY or OPENROUTER_API_KEY"
    if parts.scheme != "https" and host not in LOOPBACK:
        return f"a key is not sent to {base_url} unencrypted: use https"
    return _Chosen(base_url, key)


def forecasters_from(
    env: LlmEnv,
    *,
    directory: Path,
    clock: Clock,
    news: NewsSource | None = None,
    memory: Memory | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[LlmForecaster, ...]:
    """A forecaster of each model, or one of all; none without a key, and ``say`` is told why.

    ``directory`` holds the ledger. Nothing is opened and no library loaded before the first
    forecast; all of them belong to the loop and thread that make it.
    """
    chosen = _choose(env)
    if isinstance(chosen, str):
        say(f"no language model is asked: {chosen}")
        return ()
    host = urlsplit(chosen.base_url).hostname or ""
    models = env.models or (DEFAULT_MODELS.get(host, DEFAULT_MODEL),)
    table = PriceTable(env.prices)
    try:
        for model in models:
            table.of(model)
    except PriceUnknown as error:
        say(f"no language model is asked: {error}")
        return ()
    access = Access(
        endpoint=Endpoint(
            base_url=chosen.base_url,
            key=chosen.key,
            tokens_max=env.tokens_max,
            temperature=None if env.temperature is None else env.temperature / SCALE,
        ),
        budget=Budget(
            UsageLedger(directory / USAGE_FILE),
            table,
            clock,
            day_max=env.day_budget,
            question_max=env.question_budget,
            tokens_max=env.tokens_max,
        ),
        seats=asyncio.Semaphore(env.concurrency),
    )
    sampling = Sampling(
        samples=env.samples,
        samples_min=env.samples_min,
        pool=env.pool,
        timeout_ns=env.timeout_ns,
        seed=env.seed,
        show_price=env.show_price,
    )
    groups = [models] if env.ensemble else [(model,) for model in models]
    return tuple(
        LlmForecaster(group, access, sampling, news=news, memory=memory) for group in groups
    )


def forecaster_from(
    env: LlmEnv,
    *,
    directory: Path,
    clock: Clock,
    news: NewsSource | None = None,
    memory: Memory | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> LlmForecaster | None:
    """The first of ``forecasters_from``, ``None`` if there is none."""
    made = forecasters_from(
        env, directory=directory, clock=clock, news=news, memory=memory, say=say
    )
    return made[0] if made else None
