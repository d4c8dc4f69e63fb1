"""Vectors from an endpoint that speaks OpenAI's protocol.

Asked in batches, with a bound on time, retries and the size of an answer. An answer that is not
what was asked for is a failure, never a guess. The key is sent to the endpoint and is in no name,
text or error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np

from fleet.config import Secret
from fleet.forecasting.memory_settings import OPENAI_URL
from fleet.forecasting.port import MemoryFailed
from fleet.forecasting.vectors import unit_rows

if TYPE_CHECKING:
    import httpx2
    from numpy.typing import NDArray
    from openai import OpenAI

BATCH_TEXTS: Final = 128
BATCH_BYTES: Final = 200_000
TEXT_BYTES_MAX: Final = 8_000
"""OpenAI reads 8,191 tokens of a text (2026-11); a token is at least one byte of UTF-8."""
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
"""128 vectors of 2,000 numbers take 6 MB where they are written out in decimals."""
TIMEOUT_S: Final = 30.0
RETRIES: Final = 3


class OpenAiEmbedder:
    """Vectors from an endpoint that speaks OpenAI's protocol."""

    def __init__(self, *, model: str, dim: int, base_url: str, key: Secret) -> None:
        """Nothing is asked yet. Raises ``MemoryFailed`` without a key."""
        own = base_url == OPENAI_URL
        if own and not key:
            raise MemoryFailed(
                "POLYAI_EMBEDDER=openai needs a key: set POLYAI_EMBEDDING_API_KEY or"
                " OPENAI_API_KEY, or POLYAI_EMBEDDER=hashed, which needs none"
            )
        self.model = model
        self.dim = dim
        self.base_url = base_url
        # The same name may be another model elsewhere.
        where = "" if own else f"@{urlsplit(base_url).netloc.rpartition('@')[2]}"
        self.name = f"openai{where}:{model}:{dim}"
        self._key = key
        self._client: OpenAI | None = None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), dim) float32, asked for in batches. Raises ``MemoryFailed``.

        Of a text the first 8,000 bytes are sent; a text of spaces is zeros and costs nothing.
        """
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        for places in _batches(texts):
            rows[places] = self._ask([_cut(texts[place]) for place in places])
        return rows

    def _ask(self, texts: list[str]) -> NDArray[np.float32]:
        import httpx2
        import openai

        # Only these models know the parameter; others refuse it.
        shorter: dict[str, Any] = (
            {"dimensions": self.dim} if self.model.startswith("text-embedding-3") else {}
        )
        try:
            answer = self._connected().embeddings.create(model=self.model, input=texts, **shorter)
            found = {one.index: one.embedding for one in answer.data}
            vectors = np.array([found[place] for place in range(len(texts))], dtype=np.float64)
        except openai.AuthenticationError as error:
            raise MemoryFailed(
                f"{self.name}: the key was refused; set POLYAI_EMBEDDING_API_KEY to a valid one"
            ) from error
        except (openai.OpenAIError, httpx2.HTTPError, AnswerTooLarge) as error:
            raise MemoryFailed(
                f"{self.name}: no vectors: {self._hidden(error)}; check POLYAI_EMBEDDING_URL,"
                " POLYAI_EMBEDDING_MODEL and the network, then try again"
            ) from error
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise MemoryFailed(
                f"{self.name}: the answer is not one vector a text"
                f" ({type(error).__name__}); check that POLYAI_EMBEDDING_URL speaks OpenAI's"
                " protocol"
            ) from error
        return unit_rows(vectors, count=len(texts), dim=self.dim, who=self.name)

    def _connected(self) -> OpenAI:
        if self._client is None:
            import openai

            self._client = openai.OpenAI(
                api_key=self._key.reveal() or "none",  # A local server asks for none.
                base_url=self.base_url,
                timeout=TIMEOUT_S,
                max_retries=RETRIES,
                default_headers={"Accept-Encoding": "identity"},
                http_client=openai.DefaultHttpxClient(
                    follow_redirects=False, event_hooks={"response": [_bound]}
                ),
            )
        return self._client

    def close(self) -> None:
        """Close connections; closing twice is harmless."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _hidden(self, error: Exception) -> str:
        words = " ".join(str(error).split())[:300]
        key = self._key.reveal()
        return words.replace(key, "***") if key else words


class AnswerTooLarge(Exception):  # noqa: N818 - named for what was found
    """An answer beyond ``ANSWER_BYTES_MAX``, or packed, so that nobody knows its size."""


def _bound(response: httpx2.Response) -> None:
    """Let an answer be read up to its bound."""
    import httpx2

    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise AnswerTooLarge("the answer is compressed, which was not asked for")
    inner: Any = response.stream

    class Counted(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for chunk in inner:
                size += len(chunk)
                if size > ANSWER_BYTES_MAX:
                    raise AnswerTooLarge(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
                yield chunk

        def close(self) -> None:
            inner.close()

    response.stream = Counted()


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:TEXT_BYTES_MAX].decode("utf-8", "ignore")


def _batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """The places of texts with something in them, so many at a time that a request stays small."""
    batch: list[int] = []
    size = 0
    for place, text in enumerate(texts):
        if not text.strip():
            continue
        length = min(len(text) * 4, TEXT_BYTES_MAX)
        if batch and (len(batch) == BATCH_TEXTS or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += length
    if batch:
        yield batch
