"""The journal store: durable, append-only, checked, and clear about what is wrong."""

import sqlite3
from pathlib import Path
from typing import ClassVar

import pytest

from fleet.domain.commands import BundleId, ClientOrderId, RefusalCode, Refused
from fleet.domain.events import (
    DURABLE,
    DecisionMade,
    Event,
    OrderRejected,
    OrderSigned,
    RunId,
    RunStarted,
    TimerFired,
    VenueOrderId,
)
from fleet.journal.codec import Codec
from fleet.journal.database import (
    JournalDamaged,
    JournalError,
    JournalForeign,
    JournalForked,
    JournalUnavailable,
)
from fleet.journal.store import JournalReader, JournalStore, MemoryJournal


def signed(n: int) -> OrderSigned:
    return OrderSigned(
        ts_event=n,
        ts_recv=n + 1,
        client_order_id=ClientOrderId(f"c{n}"),
        venue_order_id=VenueOrderId(f"0x{n:064x}"),
    )


def start(run: str = "r1") -> RunStarted:
    return RunStarted(run_id=RunId(run), bot="arbhunter", mode="paper", version="1")


def opened(path: Path, run_id: str = "r1", codec: Codec | None = None) -> JournalStore:
    return JournalStore(path, bot="arbhunter", mode="paper", run_id=run_id, codec=codec)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "arbhunter-paper.db"


def test_what_is_written_is_read_back_with_its_place_and_cause(path: Path) -> None:
    with opened(path) as store:
        assert store.last_seq == 0
        assert store.write([start()]) == 1
        assert store.write([signed(5), signed(6), signed(7)]) == 4
        assert store.write([]) == 4
        entries = list(store.read())
    assert [(e.seq, e.cause_seq, e.ts_event, e.ts_recv) for e in entries] == [
        (1, None, 0, 0),
        (2, None, 5, 6),
        (3, 2, 6, 7),
        (4, 2, 7, 8),
    ]
    assert [e.event for e in entries] == [start(), signed(5), signed(6), signed(7)]
    assert {(e.run_id, e.kind, e.version) for e in entries[1:]} == {("r1", "OrderSigned", 1)}


def test_runs_follow_each_other_in_one_file(path: Path) -> None:
    with opened(path) as store:
        store.write([signed(1)])
    with opened(path, "r2") as store:
        assert store.last_seq == 1
        assert store.write([signed(2)]) == 2
        assert [(e.seq, e.run_id) for e in store.read()] == [(1, "r1"), (2, "r2")]
        assert [e.seq for e in store.read(after_seq=1)] == [2]
        assert list(store.read(after_seq=2)) == []
        assert store.check() == 2


def test_a_reader_follows_a_writer_and_makes_nothing_wait(path: Path) -> None:
    with opened(path) as store, JournalReader(path, bot="arbhunter", mode="paper") as reader:
        seen = 0
        for n in range(5):
            store.write([signed(n)])
            fresh = list(reader.read(after_seq=seen))
            assert [e.event for e in fresh] == [signed(n)]
            seen = fresh[-1].seq
        store.checkpoint()
        assert reader.last_seq == 5


def test_reading_spans_many_chunks(path: Path) -> None:
    with opened(path) as store:
        store.write([signed(n) for n in range(2_500)])
        assert sum(1 for _ in store.read()) == 2_500
        assert next(iter(store.read(after_seq=1_999))).event == signed(1_999)


def test_a_refusal_keeps_its_code_by_name(path: Path) -> None:
    refused = Refused(
        bundle_id=BundleId("b1"), subject="buy 5", code=RefusalCode.BOOK_STALE, detail="9 s"
    )
    decision = DecisionMade(decision=1, refused=(refused,))
    with opened(path) as store:
        store.write([decision])
        assert [e.event for e in store.read()] == [decision]
    raw = sqlite3.connect(path)
    body = raw.execute("SELECT body FROM entry").fetchone()[0]
    raw.close()
    assert b'"BOOK_STALE"' in body


def test_the_files_are_private(path: Path) -> None:
    with opened(path) as store:
        store.write([signed(1)])
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(
        ("arbhunter-paper.db", "arbhunter-paper.db-wal", "arbhunter-paper.db-shm"), 0o600
    )


def test_what_is_no_durable_event_is_refused_and_leaves_nothing(path: Path) -> None:
    with opened(path) as store:
        with pytest.raises(TypeError, match="TimerFired"):
            store.write([signed(1), TimerFired(name="tick")])
        with pytest.raises(TypeError, match="str"):
            store.write(["no event"])
        assert store.last_seq == 0
        assert list(store.read()) == []
        assert store.write([signed(1)]) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entry WHERE seq = 2",
        "UPDATE entry SET body = x'7b7d' WHERE seq = 1",
        "INSERT INTO entry SELECT 9, run_id, 0, 0, kind, 1, NULL, 0, body FROM entry LIMIT 1",
        "INSERT OR REPLACE INTO entry SELECT 1, run_id, 0, 0, kind, 1, NULL, 0, body FROM entry",
    ],
)
def test_the_file_itself_refuses_to_rewrite_history(path: Path, statement: str) -> None:
    with opened(path) as store:
        store.write([signed(1), signed(2)])
    raw = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(statement)
    raw.close()


def tamper(path: Path, statement: str) -> None:
    raw = sqlite3.connect(path, isolation_level=None)
    for trigger in ("has_no_gap", "never_changes", "never_goes"):
        raw.execute(f"DROP TRIGGER entry_{trigger}")
    raw.execute(statement)
    raw.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM entry WHERE seq = 2", "entry 2 is missing, 3 follows"),
        ("DELETE FROM entry WHERE seq = 1", "entry 1 is missing"),
        ("UPDATE entry SET body = replace(body, 'c2', 'c9') WHERE seq = 2", "entry 2 was changed"),
        ("UPDATE entry SET ts_event = 0 WHERE seq = 3", "entry 3 was changed"),
        ("UPDATE entry SET crc = 1 WHERE seq = 1", "entry 1 was changed"),
        ("UPDATE entry SET kind = 'OrderFilled' WHERE seq = 2", "entry 2 was changed"),
    ],
)
def test_any_tampering_is_found_and_named(path: Path, statement: str, said: str) -> None:
    with opened(path) as store:
        store.write([signed(1), signed(2), signed(3)])
    if "replace(" in statement:
        statement = statement.replace("replace(body", "CAST(replace(CAST(body AS TEXT)").replace(
            "'c9')", "'c9') AS BLOB)"
        )
    tamper(path, statement)
    with JournalReader(path) as reader:
        with pytest.raises(JournalDamaged, match=said) as told:
            list(reader.read())
        assert "--restore" in str(told.value)
        with pytest.raises(JournalDamaged):
            reader.check()


def test_a_reader_ahead_of_the_file_is_told_so(path: Path) -> None:
    with opened(path) as store:
        store.write([signed(1)])
        with pytest.raises(JournalDamaged, match="ends at 1"):
            list(store.read(after_seq=7))


class OrderSignedLater(Event, frozen=True, kw_only=True):
    """An OrderSigned with a version of its own."""

    KIND: ClassVar[str] = "OrderSigned"
    VERSION: ClassVar[int] = 3

    client_order_id: ClientOrderId
    order_hash: VenueOrderId
    nonce: int


def test_old_bodies_are_lifted_step_by_step(path: Path) -> None:
    with opened(path) as store:
        store.write([signed(1)])
    codec = Codec(
        kinds={**DURABLE, "OrderSigned": OrderSignedLater},
        upcasters={
            ("OrderSigned", 1): lambda body: {**body, "order_hash": body["venue_order_id"]},
            ("OrderSigned", 2): lambda body: {**body, "nonce": 0},
        },
    )
    with opened(path, "r2", codec) as store:
        (entry,) = store.read()
        assert entry.version == 1
        assert entry.event == OrderSignedLater(
            ts_event=1,
            ts_recv=2,
            client_order_id=ClientOrderId("c1"),
            order_hash=VenueOrderId(f"0x{1:064x}"),
            nonce=0,
        )
        store.write([entry.event])
    with opened(path) as older, pytest.raises(JournalDamaged, match="version 3, this code reads 1"):
        list(older.read())
    no_upcaster = Codec(kinds={"OrderSigned": OrderSignedLater}, upcasters={})
    with (
        JournalReader(path, codec=no_upcaster) as reader,
        pytest.raises(JournalDamaged, match="run the code that wrote it"),
    ):
        list(reader.read())


def test_an_unknown_kind_is_damage_never_skipped(path: Path) -> None:
    with opened(path) as store:
        store.write([start(), signed(1)])
    fewer = Codec(kinds={"RunStarted": RunStarted})
    with (
        JournalReader(path, codec=fewer) as reader,
        pytest.raises(JournalDamaged, match="entry 2: unknown kind 'OrderSigned'"),
    ):
        list(reader.read())


def test_wrong_file_wrong_bot_wrong_mode_newer_schema(path: Path, tmp_path: Path) -> None:
    opened(path).close()
    with pytest.raises(JournalForeign, match="paper journal of arbhunter"):
        JournalStore(path, bot="arbhunter", mode="live", run_id="r")
    with pytest.raises(JournalForeign, match="not the paper one of polyai"):
        JournalStore(path, bot="polyai", mode="paper", run_id="r")
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version=2")
    raw.close()
    with pytest.raises(JournalForeign, match="newer than this code"):
        opened(path)
    other = tmp_path / "other.db"
    raw = sqlite3.connect(other)
    raw.execute("CREATE TABLE t(x)")
    raw.close()
    with pytest.raises(JournalForeign, match="another program"):
        opened(other)
    with pytest.raises(JournalUnavailable, match="no such file"):
        JournalReader(tmp_path / "none.db")


@pytest.mark.parametrize("content", [b"", b"\0" * 8192, b"not a database at all" * 500])
def test_a_file_that_lost_its_content_is_damage(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(JournalDamaged, match="--restore"):
        opened(path)


def test_a_second_writer_is_found_out(path: Path) -> None:
    with opened(path) as first, opened(path, "twin") as twin:
        first.write([signed(1)])
        with pytest.raises(JournalForked, match="two writers"):
            twin.write([signed(2)])
        with pytest.raises(JournalUnavailable, match="restart"):
            twin.write([signed(2)])
        assert first.write([signed(3)]) == 2
        assert [e.event for e in first.read()] == [signed(1), signed(3)]


def test_memory_keeps_the_same_port() -> None:
    memory = MemoryJournal(run_id="m", codec=Codec())
    assert memory.write([start()]) == 1
    assert memory.write([signed(1), signed(2)]) == 3
    assert [(e.seq, e.cause_seq, e.event) for e in memory.read(after_seq=1)] == [
        (2, None, signed(1)),
        (3, 2, signed(2)),
    ]
    with pytest.raises(TypeError):
        memory.write([signed(3), "no"])
    with pytest.raises(TypeError):
        memory.write([TimerFired(name="tick")])
    assert memory.last_seq == 3


def test_a_bounded_memory_says_what_it_let_go() -> None:
    memory = MemoryJournal(keep=2)
    for n in range(5):
        memory.write([signed(n)])
    assert [e.seq for e in memory.read(after_seq=3)] == [4, 5]
    with pytest.raises(JournalDamaged, match="kept only"):
        memory.read()


def test_a_closed_store_is_a_typed_error(path: Path) -> None:
    store = opened(path)
    store.close()
    store.close()
    with pytest.raises(JournalError):
        store.write([OrderRejected(client_order_id=ClientOrderId("c"), reason="r")])
