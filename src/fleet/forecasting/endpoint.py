"""One call of one model: the ``openai`` client against any endpoint that speaks its protocol.

Theory of operation. The client does transport, credentials and the classes of errors; everything
that decides is here: no retries of its own, no redirects, no compressed or oversized bodies, and
the body is read with our own strict frames, because the client builds its objects from whatever it
gets. ``complete`` either returns a ``Reply`` or raises ``CallFailed``, which says what became of
the call, whether trying again may help, and whether the endpoint certainly did nothing for it
(``free``). A timeout or a cut answer is never free: it may have been charged.

The key is in the client and nowhere else: texts of errors are scrubbed of it, exceptions of the
client, which carry the request, are not chained.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import urlsplit

import msgspec

from fleet.config import Secret
from fleet.forecasting.budget import Usage
from fleet.forecasting.prompts import ANSWER_SCHEMA, Prompt
from fleet.forecasting.usage import Outcome
from fleet.forecasting.wording import plain

if TYPE_CHECKING:
    import httpx2
    import openai

OPENAI_HOST: Final = "api.openai.com"
OPENROUTER_HOST: Final = "openrouter.ai"
BODY_BYTES_MAX: Final = 2 * 1024 * 1024
CONNECT_S: Final = 5.0
TEXT_MAX: Final = 300
RETRY_STATUSES: Final = frozenset({408, 409, 425, 429})
NO_MONEY: Final = ("insufficient_quota", "insufficient credits", "billing")
"""A 429 or 402 for want of money; waiting does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a model said. ``usage`` is ``None`` if the endpoint did not tell."""

    content: str
    refusal: str
    finish: str
    usage: Usage | None


class CallFailed(Exception):  # noqa: N818 - named for what happened
    """A call that brought no reply."""

    def __init__(
        self,
        text: str,
        outcome: Outcome,
        *,
        again: bool = False,
        free: bool = False,
        wait_s: float = 0.0,
        hopeless: bool = False,
    ) -> None:
        """``again``: a later try may help, not before ``wait_s``. ``hopeless``: no call will."""
        super().__init__(text)
        self.outcome = outcome
        self.again, self.free, self.wait_s, self.hopeless = again, free, wait_s, hopeless


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details | None = None
    cost: float | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: msgspec.Raw = msgspec.Raw(b"null")


class Endpoint:
    """An endpoint and its key. Belongs to the loop it is first used in; ``close`` it there."""

    def __init__(
        self,
        *,
        base_url: str,
        key: Secret,
        tokens_max: int,
        temperature: float | None = None,
    ) -> None:
        """Nothing is imported or opened before the first call."""
        self.base_url = base_url
        self._host = urlsplit(base_url).hostname or ""
        self._key = key
        self._tokens_max = tokens_max
        self._temperature = temperature
        self._client: openai.AsyncOpenAI | None = None

    def parameters(self, seed: int | None = None) -> dict[str, Any]:
        """What is sent beside model and messages; part of the prompt's hash."""
        # OpenAI's newer models refuse max_tokens; most other servers know nothing else.
        limit = "max_completion_tokens" if self._host == OPENAI_HOST else "max_tokens"
        sent: dict[str, Any] = {limit: self._tokens_max}
        if self._temperature is not None:
            sent["temperature"] = self._temperature
        if seed is not None:
            sent["seed"] = seed
        return sent

    async def complete(
        self, model: str, prompt: Prompt, *, seed: int | None, timeout_s: float
    ) -> Reply:
        """Ask once. Raises ``CallFailed``."""
        import httpx2
        import openai

        client = self._open()
        request: dict[str, Any] = {
            "model": model,
            "messages": [{"role": role, "content": text} for role, text in prompt.messages],
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "forecast",
                    "strict": True,
                    "schema": dict(ANSWER_SCHEMA),
                },
            },
            **self.parameters(seed),
        }
        if self._host == OPENROUTER_HOST:
            request["extra_body"] = {"usage": {"include": True}}
        limits = httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        try:
            raw = await client.chat.completions.with_raw_response.create(**request, timeout=limits)
            return self._read(raw.content)
        except openai.APIStatusError as error:
            self._status(error)
        except openai.APIConnectionError as error:
            self._connection(error)
        except AnswerTooLarge as error:
            raise CallFailed(str(error), Outcome.TOO_LARGE) from None
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            text = self._said(f"no answer could be read: {error}")
            raise CallFailed(text, Outcome.CUT, again=True) from None

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _open(self) -> openai.AsyncOpenAI:
        if self._client is None:
            import openai

            self._client = openai.AsyncOpenAI(
                api_key=self._key.reveal(),
                base_url=self.base_url,
                max_retries=0,
                default_headers={"Accept-Encoding": "identity"},
                http_client=openai.DefaultAsyncHttpx2Client(
                    follow_redirects=False, event_hooks={"response": [_bounded]}
                ),
            )
            if self._host != OPENAI_HOST:
                # The client takes these from the environment; they are for OpenAI alone.
                self._client.organization = self._client.project = None
        return self._client

    def _read(self, body: bytes) -> Reply:
        try:
            frame = msgspec.json.decode(body, type=_Completion)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise CallFailed(
                self._said(f"the endpoint's body is no completion: {error}"), Outcome.INVALID
            ) from None
        if not frame.choices:
            raise CallFailed("the endpoint's completion has no choice", Outcome.INVALID)
        choice = frame.choices[0]
        return Reply(
            content=choice.message.content or "",
            refusal=choice.message.refusal or "",
            finish=choice.finish_reason or "",
            usage=_usage(bytes(frame.usage)),
        )

    def _status(self, error: openai.APIStatusError) -> NoReturn:
        status, headers = error.status_code, error.response.headers
        text = self._said(f"{self._host} answered {status}: {error.message}")
        reasons = f"{error.code} {error.type} {text}".lower()
        if status == 429 and not any(reason in reasons for reason in NO_MONEY):
            wait_s = retry_after_s(headers, time.time())
            raise CallFailed(
                text, Outcome.RATE_LIMITED, again=True, free=True, wait_s=wait_s
            ) from None
        if status >= 500 or status in {408, 409, 425}:
            wait_s = retry_after_s(headers, time.time())
            raise CallFailed(text, Outcome.SERVER_ERROR, again=True, wait_s=wait_s) from None
        cure = _CURES.get(status, "")
        raise CallFailed(
            text + cure,
            Outcome.RATE_LIMITED if status == 429 else Outcome.REJECTED,
            free=True,
            hopeless=True,
        ) from None

    def _connection(self, error: openai.APIConnectionError) -> NoReturn:
        import httpx2
        import openai

        cause = error.__cause__
        if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
            text = self._said(f"cannot reach {self._host}: {cause}")
            raise CallFailed(text, Outcome.UNREACHABLE, again=True, free=True) from None
        if isinstance(error, openai.APITimeoutError):
            raise CallFailed("no answer in time", Outcome.TIMEOUT, again=True) from None
        text = self._said(f"the connection ended before the answer did: {cause}")
        raise CallFailed(text, Outcome.CUT, again=True) from None

    def _said(self, text: str) -> str:
        """``text`` without the key, on one line, of a bounded length."""
        return plain(text.replace(self._key.reveal() or "\0", "***"), TEXT_MAX)


_CURES: Final[Mapping[int, str]] = {
    401: "; check the key (POLYAI_LLM_API_KEY)",
    402: "; the account has no credit",
    403: "; this key may not use this model",
    404: "; check POLYAI_LLM_MODELS and POLYAI_LLM_BASE_URL",
}


class AnswerTooLarge(Exception):  # noqa: N818 - named for what was found
    """A body larger than any answer, or compressed although that was not asked for."""


class _Counted:
    """A body that ends with an error when it gets too large."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self._size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._size += len(chunk)
            if self._size > BODY_BYTES_MAX:
                raise AnswerTooLarge(f"the answer is larger than {BODY_BYTES_MAX} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bounded(response: httpx2.Response) -> None:
    import httpx2

    encoding = response.headers.get("content-encoding", "identity")
    if encoding.lower() not in {"", "identity"}:
        raise AnswerTooLarge(f"the answer is compressed ({plain(encoding, 40)}), unasked")

    class Stream(_Counted, httpx2.AsyncByteStream):
        """The library wants its own kind of stream."""

    stream = response.stream
    if isinstance(stream, httpx2.AsyncByteStream):
        response.stream = Stream(stream)


def _usage(raw: bytes) -> Usage | None:
    try:
        frame = msgspec.json.decode(raw, type=_Usage | None)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if frame is None or frame.prompt_tokens < 0 or frame.completion_tokens < 0:
        return None
    details = frame.prompt_tokens_details
    cached = details.cached_tokens or 0 if details else 0
    return Usage(
        read=frame.prompt_tokens,
        written=frame.completion_tokens,
        cached=max(0, min(cached, frame.prompt_tokens)),
        reported_usd=frame.cost,
    )


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float:
    """The seconds an endpoint asks to wait, by ``retry-after-ms`` or ``Retry-After``; 0 if none."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            wait_s = float(text) * unit
        except ValueError:
            continue
        if 0.0 <= wait_s < 1e9:
            return wait_s
    try:
        when = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return 0.0
    return max(0.0, when.timestamp() - now_s)
