"""One signed HTTP channel to the CLOB: the exact bytes out, the answer back, within the limits.

Theory of operation. Requests go out on kept-alive connections (HTTP/2 over TLS, HTTP/1.1 to a
sandbox) as the bytes that were signed; a body is made once and never serialised again. httpx's
transport is used directly: an order needs no redirects, cookies or proxies.

Every request is admitted by ``Limits`` first. ``insist`` repeats what may be repeated (reads and
cancels, which are idempotent); ``send`` sends once and says in ``TransportFailed.sent`` whether the
request may have left. No secret is logged or put in an error.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from fleet.clock import NS_PER_SECOND, Clock
from fleet.venues.polymarket.auth import ApiCredentials, l2_headers
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.limits import Call, Limits
from fleet.venues.polymarket.outcomes import Refusal
from fleet.venues.port import AnswerInvalid, RequestRefused, TransportFailed
from fleet.venues.transport import USER_AGENT, Backoff

ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
URLS_KEPT: Final = 100
RETRY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
PAUSING: Final = frozenset({425, 429, 503})
"""Statuses after which nothing of the kind is sent for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Times of the client, in seconds. A silence of ``answer_s`` makes an order's fate unknown."""

    connect_s: float = 2.0
    answer_s: float = 10.0
    tries: int = 4
    """How often a read or a cancel is tried in all."""
    keepalive_s: float = 300.0
    connections: int = 16


class Answer(NamedTuple):
    """Status, headers and the whole body."""

    status: int
    headers: httpx.Headers
    body: bytes


class ClobHttp:
    """Requests to one CLOB, signed with one API key or with none."""

    def __init__(
        self,
        hosts: Hosts,
        credentials: ApiCredentials | None,
        *,
        limits: Limits,
        settings: ClientSettings,
        clock: Clock,
    ) -> None:
        """Nothing is opened before the first request."""
        self.limits = limits
        self.skew_ns = 0
        """How far the venue's clock is ahead of ours; request signatures carry the venue's time."""
        self.requests = 0
        self._clock = clock
        self._credentials = credentials
        self._settings = settings
        self._transport = httpx.AsyncHTTPTransport(
            http2=not hosts.local,
            limits=httpx.Limits(
                max_connections=settings.connections,
                max_keepalive_connections=settings.connections,
                keepalive_expiry=settings.keepalive_s,
            ),
        )
        self._origin = hosts.clob_url
        self._urls: dict[str, httpx.URL] = {}
        self._extensions = {
            "timeout": {
                "connect": settings.connect_s, "pool": settings.connect_s,
                "read": settings.answer_s, "write": settings.answer_s,
            }
        }  # fmt: skip
        self._fixed = [
            (b"Host", urlsplit(hosts.clob_url).netloc.encode()),
            (b"User-Agent", USER_AGENT.encode()),
            (b"Accept", b"application/json"),
        ]

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def insist(
        self,
        method: str,
        path: str,
        call: Call,
        body: bytes = b"",
        *,
        tokens: int = 1,
        params: Mapping[str, str] | None = None,
        signed: bool = True,
    ) -> Answer:
        """A request that may be repeated. Raises ``VenueError`` when the tries are used up."""
        backoff = Backoff(NS_PER_SECOND // 10, 2 * NS_PER_SECOND, random.random)
        for attempt in range(1, self._settings.tries + 1):
            last = attempt == self._settings.tries
            try:
                answer = await self.once(
                    method, path, call, body, tokens=tokens, params=params, signed=signed
                )
            except TransportFailed:
                if last:
                    raise
            else:
                if answer.status < 400:
                    return answer
                if last or answer.status not in RETRY_STATUSES:
                    raise refusal_error(method, path, answer)
            await asyncio.sleep(backoff.next_ns() / NS_PER_SECOND)
        raise ValueError("ClientSettings.tries must be at least 1")

    async def once(
        self,
        method: str,
        path: str,
        call: Call,
        body: bytes = b"",
        *,
        tokens: int = 1,
        params: Mapping[str, str] | None = None,
        signed: bool = True,
    ) -> Answer:
        """One request, one answer, whatever its status. Raises ``VenueError``."""
        await self.admit(call, tokens)
        answer = await self.send(method, path, body, params=params, signed=signed)
        if answer.status >= 400:
            self.refused(answer, call)
        else:
            self.note_remaining(answer, call)
        return answer

    async def admit(self, call: Call, tokens: int) -> None:
        """Wait until every limit has room for this call, and take the room."""
        while wait_ns := self.limits.wait_ns(call, tokens, self._clock.now_ns()):  # noqa: ASYNC110
            await asyncio.sleep(wait_ns / NS_PER_SECOND)
        self.limits.take(call, tokens, self._clock.now_ns())

    async def send(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        params: Mapping[str, str] | None = None,
        signed: bool = True,
    ) -> Answer:
        """Send exactly ``body`` now, without asking the limits. ``path`` has no query.

        Raises ``TransportFailed``, whose ``sent`` matters, or ``AnswerInvalid``.
        """
        headers = self._headers(method, path, body, signed=signed)
        url = self._urls.get(path) or self._url(path)
        if params:
            url = url.copy_merge_params(params)
        request = httpx.Request(
            method, url, headers=headers, content=body or None,
            extensions=self._extensions,
        )  # fmt: skip
        self.requests += 1
        try:
            response = await self._transport.handle_async_request(request)
            try:
                content = await _content(response, path)
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise TransportFailed(
                f"{method} {path}: cannot connect ({error})", sent=False
            ) from error
        except httpx.TransportError as error:
            reason = f"{type(error).__name__} {error}".strip()
            raise TransportFailed(f"{method} {path}: no answer ({reason})", sent=True) from error
        return Answer(response.status_code, response.headers, content)

    def _headers(
        self, method: str, path: str, body: bytes, *, signed: bool
    ) -> list[tuple[bytes, bytes]]:
        headers = list(self._fixed)
        if body:
            headers += ((b"Content-Type", b"application/json"),
                        (b"Content-Length", b"%d" % len(body)))  # fmt: skip
        if signed and self._credentials is not None:
            now_s = (self._clock.now_ns() + self.skew_ns) // NS_PER_SECOND
            proof = l2_headers(self._credentials, now_s, method, path, body)
            headers += ((name.encode(), text.encode()) for name, text in proof.items())
        return headers

    def _url(self, path: str) -> httpx.URL:
        url = httpx.URL(self._origin + path)
        if len(self._urls) < URLS_KEPT and not path.startswith("/data/order/"):
            self._urls[path] = url
        return url

    def refused(self, answer: Answer, call: Call) -> Refusal:
        """The refusal in words; a venue that asks to wait is obeyed."""
        retry_ns = _retry_after_ns(answer.headers.get("retry-after", ""))
        if answer.status in PAUSING:
            now_ns = self._clock.now_ns()
            self.limits.hold(call, now_ns + (retry_ns or NS_PER_SECOND))
        self.note_remaining(answer, call)
        return Refusal(
            status=answer.status,
            text=answer.body[:500].decode("utf-8", "replace"),
            retry_after_ns=retry_ns,
            counted=any(name.startswith("poly-ratelimit") for name in answer.headers),
        )

    def note_remaining(self, answer: Answer, call: Call) -> None:
        """Take the venue's own count of what is left, where it tells it."""
        left = answer.headers.get("poly-ratelimit-remaining", "")
        if left.isascii() and left.isdigit():
            self.limits.remaining(call, int(left), self._clock.now_ns())


async def _content(response: httpx.Response, path: str) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > ANSWER_BYTES_MAX:
            raise AnswerInvalid(f"{path}: more than {ANSWER_BYTES_MAX} bytes")
    return bytes(content)


def refusal_error(method: str, path: str, answer: Answer) -> RequestRefused:
    """An HTTP error as the exception it is for whoever cannot do without the answer."""
    text = answer.body[:500].decode("utf-8", "replace")
    return RequestRefused(
        f"{method} {path}: HTTP {answer.status} {text[:200]!r}", status=answer.status, body=text
    )


def _retry_after_ns(text: str) -> int:
    """Whole or broken seconds, as both occur; 0 for anything else."""
    whole, _, fraction = text.strip().partition(".")
    if not (whole + fraction).isdigit() or not text.isascii() or len(text) > 9:
        return 0
    return int(whole or "0") * NS_PER_SECOND + int(fraction[:9].ljust(9, "0") or "0")
