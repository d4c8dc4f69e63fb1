"""HTTP with a rate budget, and the back-off all connections use.

``JsonClient`` reads and writes JSON. Only reads are retried, and only where a retry is safe
and useful (no answer, 408, 425, 429, 5xx), with jittered back-off that honours ``Retry-After``. A
write is sent once; what its silence means is for the caller to find out.

The other half of the transport, the websocket, is ``websocket.py``.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from fleet.clock import NS_PER_SECOND, Clock, LiveClock
from fleet.venues.port import AnswerInvalid, RequestRefused, TransportFailed

T = TypeVar("T")

USER_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64) polybot-fleet/0.1"
"""Cloudflare answers 403 to clients without a normal one (reference, section 3)."""
RETRY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
Jitter = Callable[[], float]
"""A number in [0, 1); random in production, fixed in tests."""


class Backoff:
    """Delays that double from ``first_ns`` to ``max_ns``, each between half and all of its step."""

    __slots__ = ("_first_ns", "_jitter", "_max_ns", "failures")

    def __init__(self, first_ns: int, max_ns: int, jitter: Jitter) -> None:
        """Start at the first step."""
        self._first_ns, self._max_ns, self._jitter = first_ns, max_ns, jitter
        self.failures = 0

    def next_ns(self) -> int:
        """How long to wait after one more failure."""
        # The exponent is bounded so that a week of failures does not make a huge integer.
        step = min(self._max_ns, self._first_ns << min(self.failures, 40))
        self.failures += 1
        return step // 2 + int(step * self._jitter()) // 2

    def reset(self) -> None:
        """Begin again at the first step."""
        self.failures = 0


class RateBudget:
    """A steady rate with a burst (generic cell rate algorithm): how long must this request wait?"""

    __slots__ = ("_burst_ns", "_full_at_ns", "_interval_ns")

    def __init__(self, *, per_second: int, burst: int) -> None:
        """Allow ``per_second`` requests, ``burst`` at once. Raises ``ValueError`` below 1."""
        if per_second < 1 or burst < 1:
            raise ValueError("a rate budget needs at least one request a second and a burst of one")
        self._interval_ns = NS_PER_SECOND // per_second
        self._burst_ns = self._interval_ns * (burst - 1)
        self._full_at_ns = 0

    def reserve(self, now_ns: int) -> int:
        """Take one request out of the budget; nanoseconds it has to wait before it is sent."""
        full_at = max(self._full_at_ns, now_ns)
        self._full_at_ns = full_at + self._interval_ns
        return max(0, full_at - self._burst_ns - now_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Limits of one HTTP client."""

    timeout_s: float = 10.0
    attempts: int = 5
    """How often a read is tried in all."""
    per_second: int = 20
    burst: int = 20
    retry_after_max_s: float = 60.0


class JsonClient:
    """JSON over HTTP for one host."""

    def __init__(
        self,
        host: str,
        settings: HttpSettings | None = None,
        *,
        clock: Clock | None = None,
        jitter: Jitter = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Talk to ``host`` (``https://...``); nothing is opened before the first request."""
        self._settings = settings or HttpSettings()
        self._clock = clock or LiveClock()
        self._jitter, self._sleep = jitter, sleep
        self._budget = RateBudget(per_second=self._settings.per_second, burst=self._settings.burst)
        local = urlsplit(host).hostname in {"127.0.0.1", "localhost", "::1"}
        self._http = httpx.AsyncClient(
            base_url=host,
            timeout=self._settings.timeout_s,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
            # A proxy of the environment must not get between us and a server on this machine.
            trust_env=not local,
        )
        self.requests = 0

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(
        self,
        path: str,
        shape: type[T],
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Read ``path`` as ``shape``, retrying; every try sends the same ``headers``.

        Raises ``RequestRefused`` (an answer of 4xx, or 5xx to the end), ``TransportFailed`` (no
        answer to the end) or ``AnswerInvalid``.
        """
        backoff = Backoff(NS_PER_SECOND // 4, 8 * NS_PER_SECOND, self._jitter)
        for attempt in range(1, self._settings.attempts + 1):
            last = attempt == self._settings.attempts
            wait_s = backoff.next_ns() / NS_PER_SECOND
            try:
                response = await self._send("GET", path, params=params, headers=headers)
            except TransportFailed:
                if last:
                    raise
            else:
                if response.status_code < 400:
                    return _decode(response, shape)
                if last or response.status_code not in RETRY_STATUSES:
                    raise _refusal(response)
                wait_s = max(wait_s, self._retry_after_s(response))
            await self._sleep(wait_s)
        raise ValueError("HttpSettings.attempts must be at least 1")

    async def post(
        self, path: str, shape: type[T], body: bytes, headers: Mapping[str, str] | None = None
    ) -> T:
        """Send exactly these bytes, once. Raises like ``get``; ``TransportFailed.sent`` matters."""
        response = await self._send(
            "POST",
            path,
            content=body,
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        if response.status_code >= 400:
            raise _refusal(response)
        return _decode(response, shape)

    async def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        wait_ns = self._budget.reserve(self._clock.now_ns())
        if wait_ns:
            await self._sleep(wait_ns / NS_PER_SECOND)
        self.requests += 1
        what = f"{method} {self._http.base_url.netloc.decode()}{path}"
        try:
            async with self._http.stream(method, path, **request) as response:
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > ANSWER_BYTES_MAX:
                        raise AnswerInvalid(f"{what}: more than {ANSWER_BYTES_MAX} bytes")
                return httpx.Response(
                    response.status_code,
                    headers={k: v for k, v in response.headers.items() if k == "retry-after"},
                    content=bytes(content),
                    request=response.request,
                )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise TransportFailed(f"{what}: cannot connect ({error})", sent=False) from error
        except httpx.TransportError as error:
            reason = f"{type(error).__name__} {error}".strip()
            raise TransportFailed(f"{what}: no answer ({reason})", sent=True) from error

    def _retry_after_s(self, response: httpx.Response) -> float:
        """What the venue asks for, in seconds or as a date, within our limit; 0 if nothing."""
        text = response.headers.get("retry-after", "")
        if text.isascii() and text.isdigit():
            return min(float(text[:9]), self._settings.retry_after_max_s)
        try:
            at = email.utils.parsedate_to_datetime(text).timestamp()
        except (TypeError, ValueError):
            return 0.0
        wait_s = at - self._clock.now_ns() / NS_PER_SECOND
        return min(max(0.0, wait_s), self._settings.retry_after_max_s)


def _refusal(response: httpx.Response) -> RequestRefused:
    body = response.content[:500].decode("utf-8", "replace")
    request = response.request
    return RequestRefused(
        f"{request.method} {request.url.netloc.decode()}{request.url.path}: "
        f"HTTP {response.status_code} {body[:200]!r}",
        status=response.status_code,
        body=body,
    )


def _decode(response: httpx.Response, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=shape, strict=False)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        url = response.request.url
        raise AnswerInvalid(f"{url.netloc.decode()}{url.path}: {error}") from error
