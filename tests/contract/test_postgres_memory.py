"""What only the memory in Postgres has: migrations, an index, connections that break, a password."""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest

from fleet.config import Secret
from fleet.forecasting import postgres_schema
from fleet.forecasting.embedding_cache import CachedEmbedder
from fleet.forecasting.hashed_ngrams import HashedNgrams
from fleet.forecasting.port import Item, Kind, MemoryFailed
from fleet.forecasting.postgres_memory import PostgresMemory
from tests.contract.memory_worlds import Database, fresh_database, postgres_server

NEVER = 2**62


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory(prefix="run-") as runtime,
        pytest.MonkeyPatch.context() as set_,
    ):
        set_.setenv("XDG_RUNTIME_DIR", runtime)
        with postgres_server() as address:
            yield address


@pytest.fixture
def database(server: str, tmp_path: Path) -> Database:
    return Database(fresh_database(server, "only"), tmp_path / "embeddings.db")


def _items(count: int) -> list[Item]:
    rng = np.random.default_rng(3)
    words = np.array([f"term{n}" for n in range(200)])
    return [
        Item(id=f"i{n}", kind=Kind.NEWS, text=" ".join(rng.choice(words, 8)), known_ns=n)
        for n in range(count)
    ]


def test_two_processes_that_start_together_migrate_once(database: Database) -> None:
    context = multiprocessing.get_context("fork")
    starts = [context.Process(target=_start, args=(database,)) for _ in range(4)]
    for start in starts:
        start.start()
    for start in starts:
        start.join(60)
        assert start.exitcode == 0
    with psycopg.connect(database.address.reveal()) as db:
        found = db.execute("SELECT number FROM fleet.memory_migration ORDER BY number").fetchall()
        assert found == [(n + 1,) for n in range(len(postgres_schema.MIGRATIONS))]
        assert db.execute("SELECT count(*) FROM fleet.memory_embedder").fetchone() == (1,)
    memory = database.open()
    assert memory.count()[Kind.NEWS] == 1
    memory.close()


def _start(database: Database) -> None:
    memory = database.open()
    memory.add([Item(id="same", kind=Kind.NEWS, text="same", known_ns=1)])
    memory.close()


def test_a_database_of_newer_code_is_refused(database: Database) -> None:
    database.open().close()
    with psycopg.connect(database.address.reveal()) as db:
        db.execute("INSERT INTO fleet.memory_migration(number) VALUES (99)")
    with pytest.raises(MemoryFailed, match="run the newer code"):
        database.open()


def test_the_index_is_used_beyond_the_bound_and_finds_nearly_all(database: Database) -> None:
    items = _items(1_200)
    with database.open() as memory:
        memory.add(items)
        exact = [memory.search(one.text, before_ns=NEVER, top=5) for one in items[::40]]
    with psycopg.connect(database.address.reveal(), autocommit=True) as db:
        db.execute("ANALYZE")
        assert _scans(db) == 0
    database.exact_rows = 10
    with database.open() as memory:
        found = [memory.search(one.text, before_ns=NEVER, top=5) for one in items[::40]]
        # What few rows pass is what is found, though the walk begins among the others.
        late = memory.search(items[1_199].text, before_ns=30, top=5)
    with psycopg.connect(database.address.reveal(), autocommit=True) as db:
        assert _scans(db) > 0
    same = [
        len({one.item.id for one in here} & {one.item.id for one in there}) / 5
        for here, there in zip(exact, found, strict=True)
    ]
    assert sum(same) / len(same) > 0.95
    assert all(one[0] == there[0] for one, there in zip(exact, found, strict=True))
    assert len(late) == 5
    assert all(one.item.known_ns < 30 for one in late)


def _scans(db: psycopg.Connection) -> int:
    db.execute("SELECT pg_stat_force_next_flush()")
    [(scans,)] = db.execute(
        "SELECT sum(idx_scan)::int FROM pg_stat_user_indexes WHERE indexrelname LIKE '%embedding%'"
    ).fetchall()
    return int(scans)


def test_a_connection_that_broke_is_replaced(database: Database) -> None:
    with database.open() as memory:
        memory.add(_items(3))
        with psycopg.connect(database.address.reveal(), autocommit=True) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'fleet-memory'"
            )
        assert memory.count()[Kind.NEWS] == 3
        assert len(memory.search("term1", before_ns=NEVER)) == 3


def test_a_statement_that_waits_too_long_is_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.open() as memory:
        monkeypatch.setattr("fleet.forecasting.postgres_memory.ADD_MS", 50)
        with psycopg.connect(database.address.reveal()) as db:
            db.execute("SELECT pg_advisory_xact_lock(%s)", (postgres_schema.WRITER,))
            with pytest.raises(MemoryFailed, match="longer than"):
                memory.add(_items(1))
        monkeypatch.undo()
        assert memory.add(_items(1)) == 1


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://bot:hunter2%21@127.0.0.1:1/fleet",
        "postgresql://bot:hunter2%21@127.0.0.1:1/fleet?no_such_word=1",
        "postgresql://bot:hunter2%21@[::1/fleet",
        "host=127.0.0.1 port=1 password=hunter2! dbname='x",
    ],
)
def test_the_password_is_told_to_nobody(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = CachedEmbedder(HashedNgrams(), tmp_path / "embeddings.db")
    with caplog.at_level(logging.DEBUG), pytest.raises(MemoryFailed) as caught:
        PostgresMemory(Secret(address), cache)
    cache.close()
    told = f"{caught.value!r} {caught.getrepr(chain=True, showlocals=False)} {caplog.text}"
    assert "hunter2" not in str(caught.value)
    assert "DATABASE_URL" in str(caught.value)
    assert "hunter2" not in caplog.text
    assert caught.value.__cause__ is None, told


def test_a_pool_that_cannot_connect_logs_no_password(
    server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.forecasting.postgres_memory.CONNECT_S", 1)
    address = fresh_database(server, "gone").replace("postgres@", "postgres:hunter2%21@")
    cache = CachedEmbedder(HashedNgrams(), tmp_path / "embeddings.db")
    with caplog.at_level(logging.DEBUG), PostgresMemory(Secret(address), cache) as memory:
        with psycopg.connect(server, autocommit=True) as db:
            db.execute("DROP DATABASE gone WITH (FORCE)")
        with pytest.raises(MemoryFailed, match="check DATABASE_URL") as caught:
            memory.count()
    assert "hunter2" not in f"{caught.value}{caplog.text}"
