"""The retrieval memory: opened from the settings, and what it holds, in words.

Resolved questions, our forecasts with their outcome, and news, found by meaning and never from
after the moment asked about. Without DATABASE_URL it lives in ``var/memory`` (``embedded_memory``),
with it in Postgres (``postgres_memory``); the embedding cache is in ``var/memory`` either way.

``python -m fleet.forecasting.memory`` says whether there is anything in it: 0 with the counts, 1
with the command that fills it, or with what is wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet.config import ConfigError, Paths, Secret, load, read_env_file
from fleet.forecasting.embedded_memory import CACHE_NAME, FILE_NAME, EmbeddedMemory
from fleet.forecasting.embedders import embedder_from
from fleet.forecasting.embedding_cache import CachedEmbedder
from fleet.forecasting.memory_settings import MemoryEnv
from fleet.forecasting.port import Embedder, Kind, Memory, MemoryFailed

if TYPE_CHECKING:
    from fleet.forecasting.postgres_memory import PostgresMemory

FILL: Final = "fill it with: fleet memory load FILE"


def directory_of(paths: Paths) -> Path:
    """Where the embedded memory and the embedding cache are."""
    return paths.var / "memory"


def open_memory(
    settings: MemoryEnv,
    paths: Paths,
    *,
    embedder: Embedder | None = None,
    fallback_key: Secret | None = None,
) -> EmbeddedMemory | PostgresMemory:
    """The memory of the settings, with its embedder behind the cache. Raises ``MemoryFailed``.

    ``embedder`` instead of the one the settings name; ``fallback_key`` as in ``embedder_from``.
    The caller closes it.
    """
    inner = embedder or embedder_from(settings, fallback_key=fallback_key)
    cached = CachedEmbedder(inner, directory_of(paths) / CACHE_NAME)
    try:
        if not settings.database_url:
            return EmbeddedMemory(directory_of(paths), cached)
        from fleet.forecasting.postgres_memory import PostgresMemory

        return PostgresMemory(settings.database_url, cached)
    except MemoryFailed:
        cached.close()
        raise


def is_made(settings: MemoryEnv, paths: Paths) -> bool:
    """Whether there is a memory to open; looking makes none."""
    return bool(settings.database_url) or (directory_of(paths) / FILE_NAME).exists()


def counted(memory: Memory) -> str:
    """How many rows of each kind, as a person reads it."""
    rows = memory.count()
    words = {
        Kind.RESOLVED: "resolved questions",
        Kind.FORECAST: "forecasts",
        Kind.NEWS: "articles",
    }
    return ", ".join(f"{rows[kind]:,} {word}" for kind, word in words.items())


def environment(paths: Paths, environ: Mapping[str, str]) -> dict[str, str]:
    """``.env`` with the environment over it. Raises ``ConfigError``."""
    from dotenv import dotenv_values

    return {
        **read_env_file(paths.env_file, lambda file: dotenv_values(file, interpolate=False)),
        **environ,
    }


def report(paths: Paths, environ: Mapping[str, str]) -> tuple[int, str]:
    """The exit code and the line that say whether the memory has data."""
    try:
        settings = load(MemoryEnv, environment(paths, environ))
        if not is_made(settings, paths):
            return 1, f"the memory is empty: there is no {directory_of(paths) / FILE_NAME}; {FILL}"
        memory = open_memory(settings, paths)
        try:
            if not any(memory.count().values()):
                return 1, f"the memory is empty; {FILL}"
            return 0, f"the memory holds {counted(memory)}"
        finally:
            memory.close()
    except (ConfigError, MemoryFailed) as error:
        return 1, str(error)


def main() -> int:
    """Print the report of this fleet's memory; its exit code."""
    home = os.environ.get("FLEET_HOME")
    root = Path(home).absolute() if home else Path(__file__).resolve().parents[3]
    code, text = report(Paths(root=root), os.environ)
    (sys.stderr if code else sys.stdout).write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
