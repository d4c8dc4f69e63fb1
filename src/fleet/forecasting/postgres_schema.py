"""The tables of the memory in Postgres, in numbered steps, each applied exactly once.

All of it is in the schema ``fleet``. The steps run in one transaction under an advisory lock, so of
two processes that start together one does the work and the other finds it done; a step that was
released never changes. Every embedder has a table of its own, because pgvector indexes one length;
that table is made, under the same lock, when the embedder is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleet.forecasting.port import MemoryFailed

if TYPE_CHECKING:
    from psycopg import Connection

LOCK: Final = 0x464C4D59_0001
"""Held while tables are made."""
WRITER: Final = 0x464C4D59_0002
"""Held while rows are added, so that ``seq`` grows in the order in which rows become visible."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE fleet.memory_item(
            key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            seq bigint NOT NULL,
            kind text NOT NULL CHECK (kind IN ('RESOLVED', 'FORECAST', 'NEWS')),
            id text COLLATE "C" NOT NULL,
            text text NOT NULL,
            text_hash bytea NOT NULL,
            known_ns bigint NOT NULL,
            category text NOT NULL,
            source text NOT NULL,
            outcome double precision,
            price double precision,
            facts text NOT NULL,
            UNIQUE (kind, id)
        )
        """,
        "CREATE INDEX memory_item_seq ON fleet.memory_item(seq)",
        "CREATE INDEX memory_item_known ON fleet.memory_item(known_ns)",
        "CREATE SEQUENCE fleet.memory_seq",
        """
        CREATE TABLE fleet.memory_embedder(
            number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name text COLLATE "C" NOT NULL UNIQUE,
            dim integer NOT NULL
        )
        """,
    ),
)


def migrate(connection: Connection[Any], *, embedder: str, dim: int) -> str:
    """Bring the database to the newest schema; the name of the embedder's table of vectors.

    Runs inside the caller's transaction. Raises what psycopg raises, and ``MemoryFailed`` for a
    database of newer code.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    connection.execute("CREATE SCHEMA IF NOT EXISTS fleet")
    if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() is None:
        connection.execute("CREATE EXTENSION vector")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS fleet.memory_migration("
        "number integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())"
    )
    row = connection.execute(
        "SELECT coalesce(max(number), 0) FROM fleet.memory_migration"
    ).fetchone()
    found: int = row[0] if row else 0
    if found > len(MIGRATIONS):
        raise MemoryFailed(
            f"the memory in Postgres has schema {found}, newer than this code's {len(MIGRATIONS)}:"
            " run the newer code"
        )
    for number, statements in enumerate(MIGRATIONS[found:], found + 1):
        for statement in statements:
            connection.execute(statement.encode())
        connection.execute("INSERT INTO fleet.memory_migration(number) VALUES (%s)", (number,))
    return _vectors_of(connection, embedder, dim)


def _vectors_of(connection: Connection[Any], embedder: str, dim: int) -> str:
    from psycopg import sql

    known = connection.execute(
        "SELECT number FROM fleet.memory_embedder WHERE name = %s AND dim = %s", (embedder, dim)
    ).fetchone()
    if known is not None:
        return f"memory_vector_{known[0]}"
    made = connection.execute(
        "INSERT INTO fleet.memory_embedder(name, dim) VALUES (%s, %s) RETURNING number",
        (embedder, dim),
    ).fetchone()
    table = f"memory_vector_{made[0] if made else 0}"
    connection.execute(
        sql.SQL(
            "CREATE TABLE fleet.{table}("
            "key bigint PRIMARY KEY REFERENCES fleet.memory_item(key) ON DELETE CASCADE,"
            "text_hash bytea NOT NULL, embedding vector({dim}) NOT NULL)"
        ).format(table=sql.Identifier(table), dim=sql.Literal(dim))
    )
    # Inner product, not cosine: rows have length 1, and pgvector leaves rows of zeros out of a
    # cosine index.
    connection.execute(
        sql.SQL("CREATE INDEX ON fleet.{table} USING hnsw (embedding vector_ip_ops)").format(
            table=sql.Identifier(table)
        )
    )
    return table
