"""From settings to forecasters and news: whose key goes where, and what is said when there is none."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fleet.clock import ManualClock
from fleet.config import ConfigError, load, unknown_keys
from fleet.forecasting.llm import LlmForecaster
from fleet.forecasting.llm_access import forecaster_from, forecasters_from, news_from
from fleet.forecasting.llm_settings import LlmEnv, NewsEnv
from fleet.forecasting.port import ForecastFailed
from tests.model_world import NOW_NS, question


def made(tmp_path: Path, **env: str) -> tuple[LlmForecaster, ...] | str:
    said: list[str] = []
    found = forecasters_from(
        load(LlmEnv, env), directory=tmp_path, clock=ManualClock(NOW_NS), say=said.append
    )
    if found:
        assert said == []
        return found
    (line,) = said
    assert "\n" not in line
    return line


def one(tmp_path: Path, **env: str) -> LlmForecaster:
    found = made(tmp_path, **env)
    assert not isinstance(found, str), found
    return found[0]


def endpoint_of(found: tuple[LlmForecaster, ...] | str) -> tuple[str, str]:
    assert not isinstance(found, str), found
    endpoint = found[0]._access.endpoint
    return endpoint.base_url, endpoint._key.reveal()


def test_without_a_key_there_is_none_and_one_line_says_why(tmp_path: Path) -> None:
    assert made(tmp_path) == (
        "no language model is asked: no key: set POLYAI_LLM_API_KEY, OPENAI_API_KEY or"
        " OPENROUTER_API_KEY"
    )
    env = load(LlmEnv, {})
    assert forecaster_from(env, directory=tmp_path, clock=ManualClock(NOW_NS)) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("env", "url", "key"),
    [
        ({"POLYAI_LLM_API_KEY": "p"}, "https://api.openai.com/v1", "p"),
        ({"OPENAI_API_KEY": "o"}, "https://api.openai.com/v1", "o"),
        ({"OPENROUTER_API_KEY": "r"}, "https://openrouter.ai/api/v1", "r"),
        ({"OPENAI_API_KEY": "o", "OPENROUTER_API_KEY": "r"}, "https://api.openai.com/v1", "o"),
        ({"POLYAI_LLM_API_KEY": "p", "OPENAI_API_KEY": "o"}, "https://api.openai.com/v1", "p"),
        (
            {"OPENROUTER_API_KEY": "r", "OPENAI_API_KEY": "o",
             "POLYAI_LLM_BASE_URL": "https://openrouter.ai/api/v1"},
            "https://openrouter.ai/api/v1",
            "r",
        ),
        (
            {"POLYAI_LLM_API_KEY": "p", "POLYAI_LLM_BASE_URL": "http://localhost:11434/v1"},
            "http://localhost:11434/v1",
            "p",
        ),
    ],
)  # fmt: skip
def test_whose_key_goes_where(tmp_path: Path, env: dict[str, str], url: str, key: str) -> None:
    assert endpoint_of(made(tmp_path, **env)) == (url, key)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"OPENAI_API_KEY": "o", "POLYAI_LLM_BASE_URL": "https://models.example/v1"}, "them alone"),
        ({"OPENROUTER_API_KEY": "r", "POLYAI_LLM_BASE_URL": "https://api.openai.com/v1"}, "alone"),
        ({"POLYAI_LLM_API_KEY": "p", "POLYAI_LLM_BASE_URL": "http://models.example/v1"}, "https"),
        ({"POLYAI_LLM_API_KEY": "p", "POLYAI_LLM_MODELS": "x/y"}, "POLYAI_LLM_PRICES=x/y=READ"),
    ],
)
def test_what_is_not_done(tmp_path: Path, env: dict[str, str], words: str) -> None:
    said = made(tmp_path, **env)
    assert isinstance(said, str) and words in said


def test_the_models_by_endpoint(tmp_path: Path) -> None:
    for env, name in [
        ({"OPENAI_API_KEY": "o"}, "llm:gpt-4.1-mini"),
        ({"OPENROUTER_API_KEY": "o"}, "llm:openai/gpt-4.1-mini"),
    ]:
        found = made(tmp_path, **env)
        assert not isinstance(found, str) and [one.name for one in found] == [name]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("POLYAI_LLM_SAMPLES", "0"),
        ("POLYAI_LLM_SAMPLES", "2"),
        ("POLYAI_LLM_MODELS", "a,a"),
        ("POLYAI_LLM_POOL", "mean"),
        ("POLYAI_LLM_DAY_BUDGET_USD", "0"),
        ("POLYAI_LLM_TIMEOUT_S", "0"),
        ("POLYAI_LLM_PRICES", "m=1"),
        ("POLYAI_LLM_BASE_URL", "localhost:1234"),
    ],
)
def test_wrong_settings_are_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load(LlmEnv, {key: value})


def test_no_key_is_shown(tmp_path: Path) -> None:
    env = load(LlmEnv, {"POLYAI_LLM_API_KEY": "sk-hidden", "OPENAI_API_KEY": "sk-hidden"})
    found = forecasters_from(env, directory=tmp_path, clock=ManualClock(NOW_NS))
    assert "sk-hidden" not in repr(env) + repr(found) + repr(vars(found[0]._access.endpoint))


def test_others_variables_are_no_misspelt_settings_of_ours() -> None:
    known = [LlmEnv, NewsEnv]
    assert unknown_keys({"OPENAI_BASE_URL": "x", "OPENAI_ORG_ID": "y"}, known) == []
    assert "POLYAI_LLM_MODELS" in unknown_keys({"POLYAI_LLM_MODEL": "x"}, known)[0]
    # In .env, which holds nothing but ours, they are.
    assert unknown_keys({"OPENAI_API_KEYS": "x"}, known, ours=True) != []


# --- news ----------------------------------------------------------------------------------------


def news(tmp_path: Path, **env: str) -> tuple[int, list[str]]:
    said: list[str] = []
    found = news_from(
        load(NewsEnv, env), directory=tmp_path, clock=ManualClock(NOW_NS), fresh_ns=1,
        say=said.append,
    )  # fmt: skip
    return (len(found._sources) if found else 0), said


def test_news_sources_by_setting(tmp_path: Path) -> None:
    assert news(tmp_path) == (0, ["no news is read: set NEWSAPI_KEY or POLYAI_NEWS_FEEDS"])
    assert news(tmp_path, NEWSAPI_KEY="k") == (1, [])
    feeds = "https://a.example/rss, https://b.example/rss"
    assert news(tmp_path, NEWSAPI_KEY="k", POLYAI_NEWS_FEEDS=feeds) == (2, [])
    sources, said = news(tmp_path, NEWSAPI_KEY="k", NEWSAPI_URL="http://news.example")
    assert sources == 0 and "unencrypted" in said[0]
    with pytest.raises(ConfigError, match="POLYAI_NEWS_FEEDS"):
        load(NewsEnv, {"POLYAI_NEWS_FEEDS": "a.example/rss"})


# --- where keys really go ------------------------------------------------------------------------


@asynccontextmanager
async def listening(
    seen: list[web.Request], answer: Callable[[web.Request], web.Response]
) -> AsyncIterator[str]:
    """A host that notes every request."""

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_a_redirect_gets_neither_key_nor_question(tmp_path: Path) -> None:
    first: list[web.Request] = []
    stranger: list[web.Request] = []

    async def main() -> None:
        def send_on(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"{there}{request.path}"})

        async with (
            listening(stranger, lambda _: web.json_response({})) as there,
            listening(first, send_on) as here,
        ):
            model = one(
                tmp_path, POLYAI_LLM_API_KEY="secret-key", POLYAI_LLM_BASE_URL=f"{here}/v1",
                POLYAI_LLM_SAMPLES="1", POLYAI_LLM_SAMPLES_MIN="1",
            )  # fmt: skip
            with pytest.raises(ForecastFailed, match="307"):
                await model.forecast(question())
            await model.close()
            env = load(NewsEnv, {"NEWSAPI_KEY": "secret-key", "NEWSAPI_URL": here})
            news = news_from(env, directory=tmp_path, clock=ManualClock(NOW_NS), fresh_ns=1)
            assert news is not None
            with pytest.raises(ForecastFailed, match="307"):
                await news.search("Bitcoin", before_ns=NOW_NS)

    asyncio.run(main())
    assert len(first) == 2 and stranger == []


def test_what_the_environment_holds_for_openai_is_sent_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-mine")
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-mine")
    seen: list[web.Request] = []

    async def main() -> None:
        async with listening(seen, lambda _: web.json_response({"choices": []})) as here:
            model = one(
                tmp_path, POLYAI_LLM_API_KEY="any", POLYAI_LLM_BASE_URL=f"{here}/v1",
                POLYAI_LLM_SAMPLES="1", POLYAI_LLM_SAMPLES_MIN="1",
            )  # fmt: skip
            with pytest.raises(ForecastFailed, match="no choice"):
                await model.forecast(question())
            await model.close()

    asyncio.run(main())
    (request,) = seen
    assert request.headers["Authorization"] == "Bearer any"
    assert "of-mine" not in str(request.headers)


# --- what loading costs --------------------------------------------------------------------------


def test_heavy_libraries_are_not_loaded_by_whoever_only_knows_the_settings() -> None:
    code = "import json, sys, fleet.forecasting.llm_access; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded: Any = json.loads(done.stdout)
    assert not {"openai", "feedparser", "numpy", "pydantic", "polars"} & set(loaded)
