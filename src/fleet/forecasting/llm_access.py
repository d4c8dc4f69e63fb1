"""From settings to forecasters and news sources: whose key goes where, and what is asked at all.

``POLYAI_LLM_API_KEY`` goes to whatever endpoint is set; ``OPENAI_API_KEY`` to OpenAI alone and
``OPENROUTER_API_KEY`` to OpenRouter alone, because that is what users set them for. No key travels
unencrypted, but to this machine itself. Without a key there is no forecaster, and one line says
why: a fleet without models is a working fleet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fleet.clock import Clock
from fleet.config import Secret
from fleet.domain.units import SCALE
from fleet.forecasting.budget import Budget
from fleet.forecasting.endpoint import OPENAI_HOST, OPENROUTER_HOST, Endpoint
from fleet.forecasting.llm import Access, LlmForecaster, Sampling
from fleet.forecasting.llm_settings import LlmEnv, NewsEnv
from fleet.forecasting.news import News
from fleet.forecasting.news_api import NewsApi
from fleet.forecasting.news_cache import NewsCache
from fleet.forecasting.port import Memory, NewsSource
from fleet.forecasting.prices import PriceTable, PriceUnknown
from fleet.forecasting.rss import Rss
from fleet.forecasting.usage import UsageLedger

OPENAI_URL: Final = f"https://{OPENAI_HOST}/v1"
OPENROUTER_URL: Final = f"https://{OPENROUTER_HOST}/api/v1"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
USAGE_FILE: Final = "usage.sqlite"
NEWS_FILE: Final = "news.sqlite"
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


def news_from(
    env: NewsEnv,
    *,
    directory: Path,
    clock: Clock,
    fresh_ns: int,
    memory: Memory | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> News | None:
    """All news sources as one; ``None`` without any, and ``say`` is told why.

    ``fresh_ns`` is the interval in which nothing is asked for twice.
    """
    cache = NewsCache(directory / NEWS_FILE)
    sources: list[NewsSource] = []
    parts = urlsplit(env.base_url)
    if env.key and parts.scheme != "https" and parts.hostname not in LOOPBACK:
        say(f"NewsAPI is not asked: a key is not sent to {env.base_url} unencrypted: use https")
    elif env.key:
        sources.append(NewsApi(env.key, cache, clock, base_url=env.base_url, fresh_ns=fresh_ns))
    if env.feeds:
        sources.append(Rss(env.feeds, cache, clock, fresh_ns=fresh_ns))
    if not sources:
        say("no news is read: set NEWSAPI_KEY or POLYAI_NEWS_FEEDS")
        return None
    return News(sources, memory=memory)
