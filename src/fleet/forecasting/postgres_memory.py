"""The retrieval memory in Postgres with pgvector: Supabase, or any other by ``DATABASE_URL``.

Same answers as the embedded memory. Up to ``EXACT_ROWS`` eligible rows Postgres compares them all;
beyond, an HNSW index is walked until enough rows pass the filters (``hnsw.iterative_scan``), and
whenever that yields too few, or a tie at the end, all are compared after all: what was known in
time decides what may be found, never how many. The candidates are ranked again here, as the
embedded memory ranks.

Every call is one transaction with a statement timeout, without prepared statements or session
state, so it works through a transaction pooler. A connection that broke is replaced and the call
made once more; if the answer to an ``add`` was lost, its rows may then count as not new. The
password is in no error and no log line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np

from fleet.config import Secret
from fleet.forecasting import postgres_schema
from fleet.forecasting.embedding_cache import CachedEmbedder
from fleet.forecasting.memory_rows import KINDS, Row, bounded, item_of, rows_of
from fleet.forecasting.memory_settings import POSTGRES_SCHEMES
from fleet.forecasting.port import Item, Kind, MemoryFailed, Neighbour
from fleet.forecasting.vectors import exact

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from psycopg import Connection
    from psycopg_pool import ConnectionPool

T = TypeVar("T")
EXACT_ROWS: Final = 20_000
SPARE: Final = 32
"""Candidates beyond ``top`` that are ranked again."""
CONNECT_S: Final = 10
SEARCH_MS: Final = 10_000
ADD_MS: Final = 120_000
MIGRATE_MS: Final = 600_000
CONNECTIONS_MAX: Final = 4
FILL_BATCH: Final = 256
EF_SEARCH: Final = 200
SCAN_TUPLES_MAX: Final = 200_000

_SELECT: Final = (
    "SELECT kind, id, text, text_hash, known_ns, category, source, outcome, price, facts"
    " FROM fleet.memory_item"
)


class PostgresMemory:
    """``Memory`` in Postgres. ``embedder`` is closed with it.

    ``exact_rows`` is how many eligible rows are all compared; beyond, the index is asked first.
    """

    def __init__(
        self, address: Secret, embedder: CachedEmbedder, *, exact_rows: int = EXACT_ROWS
    ) -> None:
        """Connect, migrate, and embed what this embedder lacks. Raises ``MemoryFailed``."""
        self.embedder = embedder
        self.exact_rows = exact_rows
        self._address = address
        self._seen = 0
        self._pool: ConnectionPool[Connection[Any]] | None = None
        self._table = self._migrate()
        self._pool = self._connected()
        try:
            self._catch_up()
        except MemoryFailed:
            self._pool.close()
            raise

    def close(self) -> None:
        """Close connections and cache; closing twice is harmless."""
        if self._pool is not None:
            self._pool.close()
        self.embedder.close()

    def __enter__(self) -> Self:
        """Use it for a while."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def count(self) -> Mapping[Kind, int]:
        """Rows of each kind. Raises ``MemoryFailed``."""
        found = dict(
            self._call(
                lambda db: db.execute(
                    "SELECT kind, count(*) FROM fleet.memory_item GROUP BY kind"
                ).fetchall()
            )
        )
        return {kind: int(found.get(kind.value, 0)) for kind in Kind}

    def get(self, kind: Kind, item_id: str) -> Item | None:
        """One row. Raises ``MemoryFailed``."""
        query = f"{_SELECT} WHERE kind = %s AND id = %s"
        found = self._call(lambda db: db.execute(query.encode(), (kind.value, item_id)).fetchone())
        return item_of(found) if found else None

    def items(self, kind: Kind | None = None) -> Sequence[Item]:
        """Every row (of a kind), by ``known_ns`` and id. Raises ``MemoryFailed``."""
        kinds = [one.value for one in ([kind] if kind else KINDS)]
        query = f"{_SELECT} WHERE kind = ANY(%s) ORDER BY known_ns, id, kind"
        found = self._call(lambda db: db.execute(query.encode(), (kinds,)).fetchall(), ms=ADD_MS)
        return [item_of(row) for row in found]

    def add(self, items: Sequence[Item]) -> int:
        """Add or replace rows, all or none, durable on return; how many were new.

        Raises ``MemoryFailed``.
        """
        rows = rows_of(items)
        if not rows:
            return 0
        vectors = self.embedder.embed([row.text for row in rows])
        return self._call(lambda db: self._put(db, rows, vectors), ms=ADD_MS)

    def _put(self, db: Connection[Any], rows: list[Row], vectors: NDArray[np.float32]) -> int:
        db.execute("SET LOCAL synchronous_commit = on")
        db.execute("SELECT pg_advisory_xact_lock(%s)", (postgres_schema.WRITER,))
        keys = []
        fresh = 0
        with db.cursor() as cursor:
            cursor.executemany(_UPSERT.encode(), rows, returning=True)
            while True:
                key, new = cursor.fetchone() or (0, False)
                keys.append(key)
                fresh += new
                if not cursor.nextset():
                    break
        self._put_vectors(db, keys, [row.text_hash for row in rows], vectors)
        return fresh

    def _put_vectors(
        self,
        db: Connection[Any],
        keys: Sequence[int],
        hashes: Sequence[bytes],
        vectors: NDArray[np.float32],
    ) -> None:
        query = (
            f"INSERT INTO fleet.{self._table} AS v(key, text_hash, embedding)"  # noqa: S608
            " SELECT i.key, i.text_hash, %s FROM fleet.memory_item i"
            # Another process may have changed the text since it was read.
            " WHERE i.key = %s AND i.text_hash = %s FOR SHARE"
            " ON CONFLICT (key) DO UPDATE SET"
            " text_hash = excluded.text_hash, embedding = excluded.embedding"
            " WHERE v.text_hash <> excluded.text_hash"
        )
        with db.cursor() as cursor:
            cursor.executemany(query.encode(), list(zip(vectors, keys, hashes, strict=True)))

    # --- searching ----------------------------------------------------------------------------

    def search(
        self,
        text: str,
        *,
        before_ns: int,
        top: int = 3,
        kinds: Sequence[Kind] = (),
        exclude: Sequence[str] = (),
    ) -> Sequence[Neighbour]:
        """The ``top`` rows nearest in meaning with ``known_ns < before_ns``, best first.

        Of equally near ones the smaller id comes first. Raises ``MemoryFailed``.
        """
        if top <= 0:
            return []
        query = self.embedder.embed([text])[0]
        allowed = (
            bounded(before_ns),
            [kind.value for kind in (kinds or KINDS)],
            [item_id.replace("\0", "") for item_id in exclude],
        )
        self._catch_up()
        return self._call(lambda db: self._search(db, query, allowed, top))

    def _search(
        self, db: Connection[Any], query: NDArray[np.float32], allowed: tuple[Any, ...], top: int
    ) -> list[Neighbour]:
        # All of it from one moment: a row replaced in between would get another text's vector.
        db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM fleet.memory_item WHERE known_ns < %s"
            " AND kind = ANY(%s) AND NOT id = ANY(%s) LIMIT %s) AS found",
            (*allowed, self.exact_rows + 1),
        ).fetchone()
        many = bool(row and row[0] > self.exact_rows)
        found = self._by_index(db, query, allowed, top) if many and query.any() else None
        if found is None:
            found = self._compared(db, query, allowed, top)
        similarities = exact(
            np.array([vector.to_numpy() for *_, vector, _ in found]).reshape(-1, len(query)), query
        )
        ranked = sorted(
            (-similarity, item_id, kind, key)
            for (key, item_id, kind, _, _), similarity in zip(
                found, similarities.tolist(), strict=True
            )
        )[:top]
        by_key = f"{_SELECT} WHERE key = ANY(%s)"
        rows = db.execute(by_key.encode(), ([key for *_, key in ranked],)).fetchall()
        items = {(item.kind.value, item.id): item for item in map(item_of, rows)}
        return [Neighbour(items[kind, item_id], -negative) for negative, item_id, kind, _ in ranked]

    def _by_index(
        self, db: Connection[Any], query: NDArray[np.float32], allowed: tuple[Any, ...], top: int
    ) -> list[tuple[Any, ...]] | None:
        """Candidates by the HNSW index; ``None`` where they may not be the best."""
        limit = 4 * top + SPARE
        db.execute(f"SET LOCAL hnsw.ef_search = {EF_SEARCH}".encode())
        db.execute(f"SET LOCAL hnsw.max_scan_tuples = {SCAN_TUPLES_MAX}".encode())
        db.execute("SET LOCAL hnsw.iterative_scan = strict_order")
        db.execute("SET LOCAL enable_sort = off")  # Only the index gives rows in order.
        found = self._ordered(db, query, allowed, limit, ties=False)
        if len(found) < limit or found[-1][-1] <= found[top - 1][-1]:
            return None
        return found

    def _compared(
        self, db: Connection[Any], query: NDArray[np.float32], allowed: tuple[Any, ...], top: int
    ) -> list[tuple[Any, ...]]:
        """Candidates by comparing all rows: the best, and whatever is as good as the last."""
        db.execute("SET LOCAL enable_indexscan = off")
        limit = top + SPARE
        while True:
            found = self._ordered(db, query, allowed, limit, ties=True)
            if len(found) < limit:
                return found
            last, edge = found[top - 1][-1], found[-1][-1]
            # Postgres broke equal distances by id already; nearly equal ones are ranked here.
            if edge - last > _NEARLY or edge == last:
                return found
            limit *= 8

    def _ordered(
        self,
        db: Connection[Any],
        query: NDArray[np.float32],
        allowed: tuple[Any, ...],
        limit: int,
        *,
        ties: bool,
    ) -> list[tuple[Any, ...]]:
        query_words = (
            "SELECT i.key, i.id, i.kind, v.embedding, v.embedding <#> %s AS distance"  # noqa: S608
            f" FROM fleet.{self._table} v JOIN fleet.memory_item i ON i.key = v.key"
            " AND i.text_hash = v.text_hash"
            " WHERE i.known_ns < %s AND i.kind = ANY(%s) AND NOT i.id = ANY(%s)"
            # The index gives rows by distance alone; asking it for more would forbid it.
            f" ORDER BY distance{', i.id, i.kind' if ties else ''} LIMIT %s"
        )
        return db.execute(query_words.encode(), (query, *allowed, limit)).fetchall()

    # --- rows of other processes and embedders ------------------------------------------------

    def _catch_up(self) -> None:
        """Embed what this embedder has no vector of: other embedders' rows, or changed ones."""
        [(newest,)] = self._call(
            lambda db: db.execute("SELECT coalesce(max(seq), 0) FROM fleet.memory_item").fetchall()
        )
        if newest == self._seen:
            return
        query = (
            "SELECT i.key, i.text, i.text_hash FROM fleet.memory_item i"  # noqa: S608
            f" LEFT JOIN fleet.{self._table} v ON v.key = i.key"
            " WHERE i.seq > %s AND (v.key IS NULL OR v.text_hash <> i.text_hash) LIMIT %s"
        )
        while rows := self._call(
            lambda db: db.execute(query.encode(), (self._seen, FILL_BATCH)).fetchall(), ms=ADD_MS
        ):
            keys, texts, hashes = zip(*rows, strict=True)
            vectors = self.embedder.embed(texts)
            put = partial(self._put_vectors, keys=keys, hashes=hashes, vectors=vectors)
            self._call(put, ms=ADD_MS)
        self._seen = newest

    # --- connections --------------------------------------------------------------------------

    def _migrate(self) -> str:
        import psycopg

        try:
            with psycopg.connect(
                self._address.reveal(), connect_timeout=CONNECT_S, prepare_threshold=None
            ) as db:
                db.execute(f"SET LOCAL statement_timeout = {MIGRATE_MS}".encode())
                return postgres_schema.migrate(
                    db, embedder=self.embedder.name, dim=self.embedder.dim
                )
        except psycopg.errors.InsufficientPrivilege as error:
            raise self._failed(
                error,
                "enable the extension `vector` in the database and let this user make the schema"
                " `fleet`",
            ) from None
        except psycopg.errors.FeatureNotSupported as error:
            raise self._failed(error, "use a Postgres that has pgvector 0.8 or newer") from None
        except psycopg.Error as error:
            raise self._failed(error, _CHECK) from None

    def _connected(self) -> ConnectionPool[Connection[Any]]:
        from pgvector.psycopg import register_vector
        from psycopg_pool import ConnectionPool

        def configure(db: Connection[Any]) -> None:
            register_vector(db)
            db.commit()

        return ConnectionPool(
            self._address.reveal(),
            kwargs={
                "connect_timeout": CONNECT_S,
                "prepare_threshold": None,
                "application_name": "fleet-memory",
            },
            min_size=1,
            max_size=CONNECTIONS_MAX,
            timeout=CONNECT_S,
            check=ConnectionPool.check_connection,
            configure=configure,
            open=True,
        )

    def _call(self, do: Callable[[Connection[Any]], T], *, ms: int = SEARCH_MS) -> T:
        """One transaction; once more if the connection broke. Raises ``MemoryFailed``."""
        import psycopg
        from psycopg_pool import PoolTimeout

        pool = self._pool
        if pool is None:
            raise MemoryFailed("the memory is closed")
        for again in (True, False):
            try:
                with pool.connection() as db:
                    db.execute(f"SET LOCAL statement_timeout = {ms}".encode())
                    db.execute("SET LOCAL jit = off")  # Dearer than any query here.
                    return do(db)
            except psycopg.errors.QueryCanceled as error:
                raise self._failed(
                    error, f"it took longer than {ms / 1000:.0f} s: see what else the server does"
                ) from None
            except PoolTimeout as error:
                raise self._failed(error, _CHECK) from None
            except psycopg.OperationalError as error:
                if not again:
                    raise self._failed(error, _CHECK) from None
            except psycopg.Error as error:
                raise self._failed(error, "see the message, then try again") from None
        raise AssertionError  # The second round returned or raised.

    def _failed(self, error: Exception, cure: str) -> MemoryFailed:
        address = self._address.reveal()
        words = " ".join(str(error).split())[:300]
        try:
            parts = urlsplit(address)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in POSTGRES_SCHEMES:  # Nobody knows which part of it is secret.
            return MemoryFailed(f"Postgres: the address is not understood; {cure}")
        for secret in {address, parts.password or "", unquote(parts.password or "")} - {""}:
            words = words.replace(secret, "***")
        place = f"{parts.hostname or 'the local socket'}{parts.path}"
        return MemoryFailed(f"Postgres at {place}: {words}; {cure}")


_CHECK: Final = "check DATABASE_URL, the network and that the server runs, then try again"
_NEARLY: Final = 1e-4
"""More than the rounding of a float32 inner product of two thousand numbers differs by."""
_UPSERT: Final = """
INSERT INTO fleet.memory_item AS i(kind, id, text, text_hash, known_ns, category, source, outcome,
                                   price, facts, seq)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, nextval('fleet.memory_seq'))
ON CONFLICT (kind, id) DO UPDATE SET
    text = excluded.text, text_hash = excluded.text_hash, known_ns = excluded.known_ns,
    category = excluded.category, source = excluded.source, outcome = excluded.outcome,
    price = excluded.price, facts = excluded.facts, seq = excluded.seq
RETURNING key, (xmax = 0)
"""
