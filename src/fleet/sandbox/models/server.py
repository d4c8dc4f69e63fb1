"""The model endpoint and the news sources on loopback: chat completions, embeddings, NewsAPI, RSS.

Under one prefix of an aiohttp application: ``/v1`` is an endpoint of the OpenAI kind (its answers:
``oracle``), ``/news/v2/everything`` is NewsAPI, ``/rss/NAME.xml`` is a feed about NAME, with
``hostile.xml`` one of articles that attack; ``/faults`` makes all of them misbehave. The same
seed, clock and order of requests bring the same answers. ``ModelServer`` serves them alone.

It is no language model and its news is made up: it proves the plumbing, never a forecaster.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.models import newsroom, oracle
from fleet.sandbox.models.faults import ModelFault, ModelFaults

HOST: Final = "127.0.0.1"
REQUEST_BYTES_MAX: Final = 8 << 20
CHOICES_MAX: Final = 16
STORIES: Final = 40
PROMPTS_COUNTED_MAX: Final = 10_000
FILLER: Final = b" " * 65_536
HUGE_BYTES: Final = 64 << 20
"""A client that takes this much has no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """``noise`` moves answers in logits; ``key`` is the one accepted, any if empty."""

    seed: int = 7
    noise: float = 0.4
    key: str = ""
    hostile_news: bool = False
    cost_usd: float | None = None
    """What the endpoint says each completion cost, as OpenRouter does; nothing if ``None``."""


class ModelRoutes:
    """The routes. ``requests`` counts what was asked, ``bodies`` keeps the last chat requests."""

    def __init__(self, settings: ModelSettings, now_ns: Callable[[], int]) -> None:
        """Serve at the time of ``now_ns``."""
        self.settings = settings
        self.faults = ModelFaults(settings.seed)
        self.requests: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self._now_ns = now_ns
        self._asked: Counter[str] = Counter()

    def add_to(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Register everything below ``prefix``."""
        router.add_post(f"{prefix}/v1/chat/completions", self._chat)
        router.add_post(f"{prefix}/v1/embeddings", self._embeddings)
        router.add_get(f"{prefix}/news/v2/everything", self._news)
        router.add_get(f"{prefix}/rss/{{name}}.xml", self._rss)
        router.add_get(f"{prefix}/faults", self._list_faults)
        router.add_post(f"{prefix}/faults", self._put_fault)
        router.add_delete(f"{prefix}/faults", self._clear_faults)

    # --- the OpenAI protocol ------------------------------------------------------------------

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.requests["chat"] += 1
        asked = await _body_of(request)
        fault = self.faults.strike("chat")
        early = await self._early(request, fault)
        if early is not None:
            return early
        if not self._authorized(request):
            return _error(401, "Incorrect API key provided", "invalid_api_key")
        wrong = _wrong_chat(asked)
        if wrong:
            return _error(400, wrong, "invalid_request_error")
        self.bodies = [*self.bodies[-999:], asked]
        name = fault.name if fault else ""
        count = asked.get("n") or 1
        values = [self._value(asked) for _ in range(count)]
        body = oracle.completion(
            asked,
            contents=[oracle.content_of(value, name) for value in values],
            created_s=self._now_ns() // NS_PER_SECOND,
            fault=name,
        )
        cost = fault.seconds if fault and name == "costly" else self.settings.cost_usd
        if cost is not None and "usage" in body:
            body["usage"]["cost"] = cost
        return await _answer(request, body, name)

    def _value(self, asked: dict[str, Any]) -> float:
        words = "\n".join(str(message.get("content", "")) for message in asked["messages"])
        digest = hashlib.sha256(f"{asked['model']}|{words}".encode()).hexdigest()
        if len(self._asked) > PROMPTS_COUNTED_MAX:
            self._asked.clear()
        self._asked[digest] += 1
        turn = asked.get("seed", f"turn {self._asked[digest]}")
        seed = f"{self.settings.seed}|{asked['model']}|{turn}"
        return oracle.probability(words, seed=seed, noise=self.settings.noise)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        self.requests["embeddings"] += 1
        asked = await _body_of(request)
        fault = self.faults.strike("embeddings")
        early = await self._early(request, fault)
        if early is not None:
            return early
        if not self._authorized(request):
            return _error(401, "Incorrect API key provided", "invalid_api_key")
        texts = asked.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts) or not texts:
            return _error(400, "input must be a text or texts", "invalid_request_error")
        size = asked.get("dimensions") or oracle.DIMENSIONS
        vectors = [oracle.embedding(text, size) for text in texts]
        packed = asked.get("encoding_format") == "base64"
        tokens = sum(len(text) // 4 + 1 for text in texts)
        body = {
            "object": "list",
            "model": asked.get("model", ""),
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": oracle.as_base64(vector) if packed else vector,
                }
                for index, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return await _answer(request, body, fault.name if fault else "")

    def _authorized(self, request: web.Request) -> bool:
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        return kind == "Bearer" and bool(key) and self.settings.key in {"", key}

    # --- news ---------------------------------------------------------------------------------

    def _stories(self, query: str) -> list[newsroom.Story]:
        now_ns = self._now_ns()
        found = newsroom.stories(query, now_ns, seed=self.settings.seed, count=STORIES)
        return [*newsroom.hostile_stories(now_ns), *found] if self.settings.hostile_news else found

    async def _news(self, request: web.Request) -> web.StreamResponse:
        self.requests["news"] += 1
        fault = self.faults.strike("news")
        early = await self._early(request, fault)
        if early is not None:
            return early
        if not request.headers.get("X-Api-Key"):
            return _news_error(401, "apiKeyMissing", "Your API key is missing.")
        query = request.query.get("q", "").strip()
        if not query:
            return _news_error(400, "parametersMissing", "Required parameters are missing: q.")
        found = self._stories(query.replace('"', "").replace(" AND ", " "))
        until = request.query.get("to", "")
        body = newsroom.newsapi_body(found, 100)
        if until:
            body["articles"] = [a for a in body["articles"] if a["publishedAt"][:19] <= until[:19]]
        body["articles"] = body["articles"][: int(request.query.get("pageSize", "100"))]
        return await _answer(request, body, fault.name if fault else "")

    async def _rss(self, request: web.Request) -> web.StreamResponse:
        self.requests["rss"] += 1
        fault = self.faults.strike("rss")
        early = await self._early(request, fault)
        if early is not None:
            return early
        name = request.match_info["name"].replace("-", " ")
        hostile = name == "hostile"
        found = newsroom.hostile_stories(self._now_ns()) if hostile else self._stories(name)
        body = newsroom.rss_body(name, found).encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return web.Response(body=body, content_type="application/rss+xml", headers={"ETag": etag})

    # --- what goes wrong ----------------------------------------------------------------------

    async def _early(
        self, request: web.Request, fault: ModelFault | None
    ) -> web.StreamResponse | None:
        """The answer of a fault that does not depend on what was asked."""
        if fault is None:
            return None
        match fault.name:
            case "rate_limited":
                return _error(429, "Rate limit reached", "rate_limit_exceeded", fault.seconds)
            case "rate_limited_bare":
                return _error(429, "Rate limit reached", "rate_limit_exceeded")
            case "no_credit":
                return _error(429, "You exceeded your current quota", "insufficient_quota")
            case "bad_key":
                sent = request.headers.get("Authorization", "") + request.headers.get(
                    "X-Api-Key", ""
                )
                return _error(401, f"Incorrect API key provided: {sent}", "invalid_api_key")
            case "server_error":
                return _error(500, "The server had an error", "server_error")
            case "gateway_error":
                page = "<html><head><title>502 Bad Gateway</title></head></html>"
                return web.Response(status=502, text=page, content_type="text/html")
            case "slow":
                await asyncio.sleep(fault.seconds)
            case "no_answer":
                await asyncio.sleep(fault.seconds)
                return _hang_up(request)
            case "huge":
                return await _endless(request)
            case "broken_body":
                return web.Response(body=b'{"choices": [{"mess', content_type="application/json")
            case "wrong_body":
                return web.Response(body=b'{"choices": "none", "articles": 3}')
        return None

    async def _list_faults(self, _: web.Request) -> web.Response:
        return web.json_response(self.faults.report())

    async def _put_fault(self, request: web.Request) -> web.Response:
        try:
            self.faults.put(msgspec.json.decode(await request.read(), type=ModelFault))
        except (msgspec.MsgspecError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(self.faults.report())

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self.faults.clear()
        return web.json_response(self.faults.report())


def add_model_routes(
    app: web.Application,
    now_ns: Callable[[], int],
    settings: ModelSettings | None = None,
    *,
    prefix: str = "/models",
) -> ModelRoutes:
    """Serve models and news below ``prefix`` of ``app``."""
    routes = ModelRoutes(settings or ModelSettings(), now_ns)
    routes.add_to(app.router, prefix)
    return routes


class ModelServer:
    """Models and news alone, on a free port of loopback."""

    def __init__(self, now_ns: Callable[[], int], settings: ModelSettings | None = None) -> None:
        """Not listening yet."""
        self._app = web.Application(client_max_size=REQUEST_BYTES_MAX)
        self.routes = add_model_routes(self._app, now_ns, settings)
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; the port."""
        self._runner = web.AppRunner(
            self._app, access_log=None, handle_signals=False, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Close every connection. Idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


async def _body_of(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _wrong_chat(asked: dict[str, Any]) -> str:
    messages = asked.get("messages")
    if not isinstance(asked.get("model"), str) or not asked["model"]:
        return "you must provide a model parameter"
    if not isinstance(messages, list) or not messages:
        return "messages must be a list with something in it"
    if not all(isinstance(message, dict) for message in messages):
        return "a message is an object"
    if asked.get("stream"):
        return "streaming is not served here"
    count = asked.get("n") or 1
    if not isinstance(count, int) or not 1 <= count <= CHOICES_MAX:
        return f"n must be in 1..{CHOICES_MAX}"
    shape = asked.get("response_format") or {"type": "text"}
    if shape.get("type") not in {"text", "json_object", "json_schema"}:
        return "response_format has no such type"
    return ""


async def _answer(request: web.Request, body: Any, fault: str) -> web.StreamResponse:
    encoded = json.dumps(body).encode()
    if fault == "cut":
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        answer.content_length = len(encoded)
        await answer.prepare(request)
        await answer.write(encoded[: len(encoded) // 2])
        _hang_up(request)
        return answer
    if fault == "compressed":
        return web.Response(
            body=gzip.compress(encoded),
            content_type="application/json",
            headers={"Content-Encoding": "gzip"},
        )
    return web.Response(body=encoded, content_type="application/json")


async def _endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    try:
        for _ in range(HUGE_BYTES // len(FILLER)):
            await answer.write(FILLER)
    except OSError:
        pass  # The client had enough.
    return answer


def _hang_up(request: web.Request) -> web.Response:
    """End the connection; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _error(status: int, text: str, code: str, retry_after_s: float | None = None) -> web.Response:
    """An error as OpenAI writes it; NewsAPI's readers find their words in it too."""
    body = {"error": {"message": text, "type": code, "param": None, "code": code}}
    headers = {}
    if retry_after_s is not None:
        headers["Retry-After"] = f"{retry_after_s:g}"
    return web.json_response(body, status=status, headers=headers)


def _news_error(status: int, code: str, text: str) -> web.Response:
    return web.json_response({"status": "error", "code": code, "message": text}, status=status)
