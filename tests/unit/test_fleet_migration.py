"""An older ``fleet.db`` opens, keeps its history and is brought to the newest schema once."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.domain.units import Cash
from fleet.journal import database, fleet_file
from fleet.journal.database import JournalError, JournalForeign
from fleet.journal.fleet import FleetState, read_latch
from fleet.journal.halts import HALTS, HaltCode, code_of

SRC = str(Path(__file__).parents[2] / "src")

# As the first release made it, word for word: what users have on their disks.
OLD_DDL = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE latch(
    id INTEGER PRIMARY KEY,
    action TEXT NOT NULL CHECK (action IN ('HALT', 'RESUME')),
    reason TEXT NOT NULL,
    by TEXT NOT NULL,
    ts INTEGER NOT NULL
) STRICT;
CREATE TRIGGER latch_never_changes BEFORE UPDATE ON latch
BEGIN SELECT raise(ABORT, 'the history of halts never changes'); END;
CREATE TRIGGER latch_never_goes BEFORE DELETE ON latch
BEGIN SELECT raise(ABORT, 'the history of halts is never removed'); END;
CREATE TABLE lease(
    wallet TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    pid INTEGER NOT NULL,
    token INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE day_pnl(
    mode TEXT NOT NULL,
    day TEXT NOT NULL,
    bot TEXT NOT NULL,
    wallet TEXT NOT NULL,
    pnl INTEGER NOT NULL,
    PRIMARY KEY (mode, day, bot, wallet)
) STRICT, WITHOUT ROWID;
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.db"
    assert database.create(path, application_id=0x464C4653, version=1, ddl=OLD_DDL)
    db = sqlite3.connect(path, isolation_level=None)
    db.executemany(
        "INSERT INTO latch(action, reason, by, ts) VALUES (?, ?, ?, ?)",
        [
            ("HALT", "drill", "ann", 1),
            ("RESUME", "cleared: drill", "ann", 2),
            ("HALT", "the fleet lost $104.20 on 2026-11-19 (limit $100.00)", "ArbHunter", 3),
        ],
    )
    db.execute("INSERT INTO lease VALUES ('paper:arbhunter', 'ArbHunter', 7, 41, 99)")
    db.execute("INSERT INTO day_pnl VALUES ('paper', '2026-11-19', 'ArbHunter', 'w', -10420)")
    db.close()
    return path


def version(path: Path) -> int:
    db = sqlite3.connect(path)
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    return found


def test_an_old_file_opens_with_all_its_history(old: Path) -> None:
    with FleetState(old) as state:
        told = [(e.action, e.by, e.ts, e.code) for e in state.history()]
        assert told == [
            ("HALT", "ann", 1, HaltCode.OPERATOR),
            ("RESUME", "ann", 2, HaltCode.OPERATOR),
            ("HALT", "ArbHunter", 3, HaltCode.DAY_LOSS),
        ]
        latch = state.latched()
        assert latch is not None
        assert latch.code is HaltCode.DAY_LOSS
        assert [(lease.owner, lease.token) for lease in state.leases()] == [("ArbHunter", 41)]
        assert state.day_pnl("paper", "2026-11-19") == Cash(-10420)
        state.halt("more", "bot", 4, code=HaltCode.UNKNOWN_FILL)
        assert state.history()[-1].code is HaltCode.UNKNOWN_FILL
    assert version(old) == fleet_file.SCHEMA_VERSION == 2


def test_history_is_as_fixed_after_the_migration_as_before(old: Path) -> None:
    FleetState(old).close()
    db = sqlite3.connect(old, isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError, match="never changes"):
        db.execute("UPDATE latch SET code = 'OPERATOR'")
    with pytest.raises(sqlite3.IntegrityError, match="never removed"):
        db.execute("DELETE FROM latch")
    db.close()


def test_a_latch_in_an_old_file_is_seen_by_whoever_only_looks(old: Path) -> None:
    latch = read_latch(old)
    assert latch is not None
    assert latch.readable
    assert "the fleet lost" in latch.reason


def test_each_step_runs_once(old: Path) -> None:
    db = sqlite3.connect(old, isolation_level=None)
    assert fleet_file.migrate(db) == 1
    assert fleet_file.migrate(db) == 0
    db.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE latch ADD COLUMN code TEXT NOT NULL DEFAULT 'OPERATOR'")
        db.execute("SELECT 1 FROM nowhere")

    with monkeypatch.context() as patched:
        patched.setattr(fleet_file, "MIGRATIONS", (half,))
        with pytest.raises(JournalError, match="nowhere"):
            FleetState(old)
    assert version(old) == 1
    with FleetState(old) as state:
        assert len(state.history()) == 3


def test_a_newer_file_is_refused(old: Path) -> None:
    db = sqlite3.connect(old)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(JournalForeign, match="newer than this code"):
        FleetState(old)


def test_a_process_of_the_older_code_may_go_on_writing(old: Path) -> None:
    older = sqlite3.connect(old, isolation_level=None)
    FleetState(old).close()
    older.execute("INSERT INTO latch(action, reason, by, ts) VALUES ('HALT', 'late', 'old', 9)")
    older.close()
    with FleetState(old) as state:
        assert state.history()[-1].code is HaltCode.OPERATOR


MIGRATOR = """
import sys
from pathlib import Path
from fleet.journal.fleet import FleetState
sys.stdin.readline()
with FleetState(Path(sys.argv[1])) as state:
    print(len(state.history()))
"""


def test_processes_that_open_it_together_migrate_it_once(old: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATOR, str(old)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": SRC},
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.communicate() for child in children] == [("3\n", "")] * 4


def test_every_reason_has_its_remedy_and_a_strange_one_is_a_persons() -> None:
    assert set(HALTS) == set(HaltCode)
    assert all(halt.meaning and halt.remedy for halt in HALTS.values())
    assert code_of("FROM_THE_FUTURE") is HaltCode.OPERATOR
