"""The file ``var/fleet.db`` itself: opening, its schema, its migrations, its transactions.

Every change is one short IMMEDIATE transaction, so of two writers one waits for the other and then
sees what it did; a reader never waits. What is in the tables is the business of ``fleet`` (latch,
leases, day), ``inbox``, ``allowances`` and ``claims``, which share one connection.

A new file is made with the first schema and then migrated like an old one: there is one path. Each
migration is a named step that runs once, in one transaction with the number it leaves behind, and
keeps all history. Code older than the file refuses it; a process of the older code that had the
file open already may go on writing what it knows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fleet.journal import database
from fleet.journal.database import JournalError
from fleet.journal.table_file import TableFile

APPLICATION_ID: Final = 0x464C4653
"""``FLFS`` in the file header."""
FIRST_SCHEMA: Final = 1

_FIRST_DDL: Final = """
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

_OPERATORS_AND_LIMITS: Final = (
    # What schema 1 wrote came from the day board, in these words, or from a person.
    "ALTER TABLE latch ADD COLUMN code TEXT NOT NULL DEFAULT 'OPERATOR'",
    "DROP TRIGGER latch_never_changes",
    "UPDATE latch SET code = 'DAY_LOSS' WHERE action = 'HALT' AND reason LIKE 'the fleet lost $%'",
    """CREATE TRIGGER latch_never_changes BEFORE UPDATE ON latch
    BEGIN SELECT raise(ABORT, 'the history of halts never changes'); END""",
    """CREATE TABLE command(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        target TEXT NOT NULL,
        action TEXT NOT NULL
            CHECK (action IN ('pause', 'reduce', 'flatten', 'cancel-all', 'resume')),
        argument TEXT NOT NULL,
        by TEXT NOT NULL,
        ts INTEGER NOT NULL
    ) STRICT""",
    """CREATE TRIGGER command_never_changes BEFORE UPDATE ON command
    BEGIN SELECT raise(ABORT, 'what a person asked for never changes'); END""",
    """CREATE TRIGGER command_never_goes BEFORE DELETE ON command
    BEGIN SELECT raise(ABORT, 'what a person asked for is never removed'); END""",
    """CREATE TABLE answer(
        command_id INTEGER NOT NULL REFERENCES command(id),
        seat TEXT NOT NULL,
        bot TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('UNDER_WAY', 'DONE', 'FAILED')),
        detail TEXT NOT NULL,
        ts INTEGER NOT NULL,
        PRIMARY KEY (command_id, seat)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE allowance(
        place TEXT NOT NULL,
        scope TEXT NOT NULL,
        bot TEXT NOT NULL,
        granted INTEGER NOT NULL CHECK (granted >= 0),
        used INTEGER NOT NULL CHECK (used >= 0),
        PRIMARY KEY (place, scope, bot)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE presence(
        place TEXT NOT NULL,
        bot TEXT NOT NULL,
        wallet TEXT NOT NULL,
        seen_ns INTEGER NOT NULL,
        PRIMARY KEY (place, bot)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE claim(
        wallet TEXT NOT NULL,
        instrument TEXT NOT NULL,
        bot TEXT NOT NULL,
        token INTEGER NOT NULL,
        PRIMARY KEY (wallet, instrument)
    ) STRICT, WITHOUT ROWID""",
)


def _operators_and_limits(db: sqlite3.Connection) -> None:
    """Reasons beside the words of the latch; the inbox; limits over all bots; claims."""
    for statement in _OPERATORS_AND_LIMITS:
        db.execute(statement)


Migration = Callable[[sqlite3.Connection], None]
MIGRATIONS: Final[Sequence[Migration]] = (_operators_and_limits,)
"""The step from schema n to n + 1 at place n - 1; a step that was released never changes."""
SCHEMA_VERSION: Final = FIRST_SCHEMA + len(MIGRATIONS)


class FleetFile(TableFile):
    """An open ``fleet.db``, made if there is none, brought to the newest schema."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises ``JournalDamaged``, ``JournalForeign`` or ``JournalUnavailable``."""
        self.path = path
        database.create(path, application_id=APPLICATION_ID, version=FIRST_SCHEMA, ddl=_FIRST_DDL)
        self.db = database.connect(path, read_only=False)
        try:
            database.require_identity(
                self.db,
                path,
                application_id=APPLICATION_ID,
                version=SCHEMA_VERSION,
                oldest=FIRST_SCHEMA,
            )
            database.integrity(self.db, path)
            migrate(self.db)
        except database.DRIVER_ERRORS as error:
            self.db.close()
            raise database.translate(error, path, "open") from error
        except JournalError:
            self.db.close()
            raise


def migrate(db: sqlite3.Connection) -> int:
    """Bring an open file to the newest schema, each step once; how many steps it took.

    Raises what the driver raises; a step that fails leaves the file as it was before it.
    """
    steps = 0
    while True:
        if database.identity(db)[1] >= SCHEMA_VERSION:
            return steps
        db.execute("BEGIN IMMEDIATE")
        try:
            version = database.identity(db)[1]  # Asked again: another process may have been first.
            if version < SCHEMA_VERSION:
                MIGRATIONS[version - FIRST_SCHEMA](db)
                db.execute(f"PRAGMA user_version={version + 1}")
                steps += 1
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
