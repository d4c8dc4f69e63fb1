"""The local model endpoint and newsroom, alone and inside the sandbox, by the real clients."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.config import load
from fleet.forecasting.llm_access import forecaster_from, news_from
from fleet.forecasting.llm_settings import LlmEnv, NewsEnv
from fleet.sandbox.models.faults import CATALOGUE, ModelFault, ModelFaults
from fleet.sandbox.models.server import ModelServer, ModelSettings
from fleet.sandbox.server import SandboxServer, SandboxSettings
from fleet.sandbox.simulator import SimulatorSettings
from tests.model_world import NOW_NS, question

Story = Callable[[openai.AsyncOpenAI, str], Awaitable[None]]


def play(story: Story, settings: ModelSettings | None = None) -> None:
    async def main() -> None:
        server = ModelServer(lambda: NOW_NS, settings)
        url = f"http://127.0.0.1:{await server.start()}/models"
        try:
            async with openai.AsyncOpenAI(
                api_key="k", base_url=f"{url}/v1", max_retries=0, timeout=10
            ) as client:
                await story(client, url)
        finally:
            await server.stop()

    asyncio.run(main())


async def chat(client: openai.AsyncOpenAI, text: str, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return await client.chat.completions.create(model="m", messages=messages, **more)


def test_chat_completions_as_the_client_knows_them() -> None:
    async def story(client: openai.AsyncOpenAI, _: str) -> None:
        made = await chat(client, 'the "market_price": 0.9 is', n=3)
        assert [choice.index for choice in made.choices] == [0, 1, 2]
        values = [json.loads(choice.message.content)["probability"] for choice in made.choices]
        assert len(set(values)) == 3 and all(0.85 < value < 0.94 for value in values)
        assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens
        # A price inside a quoted text is not the price.
        quoted = await chat(client, r'"text": "\"market_price\": 0.99"')
        assert 0.4 < json.loads(quoted.choices[0].message.content)["probability"] < 0.6

    play(story)


def test_the_same_seed_gives_the_same_answers() -> None:
    found: list[list[str]] = []

    async def story(client: openai.AsyncOpenAI, _: str) -> None:
        answers = [(await chat(client, "Rain?")).choices[0].message.content for _ in range(3)]
        answers += [(await chat(client, "Rain?", seed=4)).choices[0].message.content] * 2
        found.append(answers)

    play(story)
    play(story)
    play(story, ModelSettings(seed=8))
    assert found[0] == found[1] != found[2]


def test_embeddings_as_floats_and_packed() -> None:
    async def story(client: openai.AsyncOpenAI, _: str) -> None:
        texts = ["Bitcoin above 100k", "bitcoin ABOVE 150k", "A senate vote on the budget"]
        packed = await client.embeddings.create(model="e", input=texts)
        plain = await client.embeddings.create(model="e", input=texts, encoding_format="float")
        for one, other in zip(packed.data, plain.data, strict=True):
            assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        first, near, far = (item.embedding for item in plain.data)
        assert len(first) == 384 and sum(x * x for x in first) == pytest.approx(1.0)
        product = [sum(a * b for a, b in zip(first, v, strict=True)) for v in (near, far)]
        assert product[0] > 0.5 > product[1]
        small = await client.embeddings.create(model="e", input="x", dimensions=16)
        assert len(small.data[0].embedding) == 16

    play(story)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stream": True}, "streaming"),
        ({"n": 99}, "n must be"),
        ({"response_format": {"type": "xml"}}, "response_format"),
    ],
)
def test_wrong_requests_are_refused_as_the_protocol_says(
    changes: dict[str, Any], words: str
) -> None:
    async def story(client: openai.AsyncOpenAI, _: str) -> None:
        with pytest.raises(openai.BadRequestError, match=words):
            await chat(client, "x", **changes)

    play(story)


def test_keys_are_asked_for() -> None:
    async def story(client: openai.AsyncOpenAI, url: str) -> None:
        with pytest.raises(openai.AuthenticationError):
            await chat(client, "x")
        async with httpx.AsyncClient() as web:
            assert (await web.get(f"{url}/news/v2/everything?q=x")).status_code == 401

    play(story, ModelSettings(key="another"))


def test_faults_are_set_told_and_healed_over_http() -> None:
    async def story(client: openai.AsyncOpenAI, url: str) -> None:
        async with httpx.AsyncClient(base_url=url) as web:
            told = await web.post("/faults", json={"name": "server_error", "where": ["chat"]})
            assert told.status_code == 200 and set(told.json()["known"]) == set(CATALOGUE)
            with pytest.raises(openai.InternalServerError):
                await chat(client, "x")
            await client.embeddings.create(model="e", input="x")
            assert (await web.get("/faults")).json()["struck"] == {"server_error": 1}
            assert (await web.post("/faults", json={"name": "gremlins"})).status_code == 400
            await web.delete("/faults")
        assert (await chat(client, "x")).choices

    play(story)


def test_rates_and_times_are_kept_and_repeat() -> None:
    def strikes(seed: int) -> list[bool]:
        faults = ModelFaults(seed)
        faults.put(ModelFault(name="cut", rate=0.3))
        return [faults.strike("chat") is not None for _ in range(200)]

    assert strikes(1) == strikes(1) != strikes(2)
    assert 30 < sum(strikes(1)) < 90
    faults = ModelFaults()
    faults.put(ModelFault(name="cut", times=2, where=("chat",)))
    found = [faults.strike(place) for place in ("news", "chat", "chat", "chat")]
    assert [strike is not None for strike in found] == [False, True, True, False]
    with pytest.raises(ValueError, match="rate"):
        faults.put(ModelFault(name="cut", rate=2.0))


def test_the_sandbox_serves_them_beside_the_market(tmp_path: Path) -> None:
    """The whole way with nothing but the sandbox's address, as a bot without any key goes."""

    async def main() -> None:
        clock = LiveClock()
        settings = SandboxSettings(port=0, simulator=SimulatorSettings(seed=1))
        sandbox = SandboxServer(settings, clock)
        url = f"http://127.0.0.1:{await sandbox.start()}/models"
        news = news_from(
            load(NewsEnv, {
                "NEWSAPI_KEY": "any", "NEWSAPI_URL": f"{url}/news",
                "POLYAI_NEWS_FEEDS": f"{url}/rss/bitcoin.xml",
            }),
            directory=tmp_path, clock=clock, fresh_ns=600 * NS_PER_SECOND,
        )  # fmt: skip
        env = {"POLYAI_LLM_API_KEY": "any", "POLYAI_LLM_BASE_URL": f"{url}/v1"}
        forecaster = forecaster_from(load(LlmEnv, env), directory=tmp_path, clock=clock, news=news)
        try:
            assert forecaster is not None
            made = await forecaster.forecast(question(as_of_ns=clock.now_ns()))
            await forecaster.close()
            assert len(made.samples) == 5 and made.evidence
        finally:
            await sandbox.stop()

    asyncio.run(main())
