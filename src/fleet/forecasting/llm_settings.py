"""PolyAI's settings for language models and for news; ``llm_access`` makes something of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

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
from fleet.domain.units import Cash
from fleet.forecasting.prices import Price, prices

POOLS: Final = ("median", "trimmed", "logit-mean")


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
    prices: tuple[tuple[str, Price], ...] = setting(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsEnv:
    """Where news come from. How often is the bot's ``POLYAI_NEWS_INTERVAL_MINUTES``."""

    key: Secret = setting(
        "NEWSAPI_KEY", secret, "", "the key of newsapi.org; asked at most 100 times a UTC day"
    )
    base_url: str = setting(
        "NEWSAPI_URL", url("https", "http"), "https://newsapi.org", "the address of NewsAPI"
    )
    feeds: tuple[str, ...] = setting(
        "POLYAI_NEWS_FEEDS", addresses, "", "the addresses of RSS or Atom feeds, comma-separated"
    )
