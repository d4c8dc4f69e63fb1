"""The memory's SQLite files: made, opened and migrated like the fleet's others, used by threads.

A file is opened for any thread; ``lock`` lets one at a time use it, because forecasts are made
beside the loop. Every failure is a ``MemoryFailed`` whose text names the cure.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fleet.forecasting.port import MemoryFailed
from fleet.journal import database
from fleet.journal.database import JournalDamaged, JournalError

FIRST_SCHEMA: Final = 1
_META: Final = "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"

Migration = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryKind:
    """One kind of file: its number in the header, its first tables, and every step since.

    The step from schema n to n + 1 is ``migrations[n - 1]``; one that was released never changes.
    ``checked`` runs SQLite's own full check when it is opened.
    """

    application_id: int
    ddl: str
    migrations: Sequence[Migration] = ()
    checked: bool = True
    damaged: str = ""
    """What to do about damage instead of restoring a backup."""


class MemoryFile:
    """An open file of one kind, made if there is none, brought to the newest schema."""

    def __init__(self, path: Path, kind: MemoryKind) -> None:
        """Open it. Raises ``MemoryFailed``."""
        self.path = path
        self.lock = threading.RLock()
        self._damaged = kind.damaged
        version = FIRST_SCHEMA + len(kind.migrations)
        try:
            database.create(
                path,
                application_id=kind.application_id,
                version=FIRST_SCHEMA,
                ddl=_META + kind.ddl,
            )
            self.db = database.connect(path, read_only=False, any_thread=True)
        except JournalError as error:
            raise self._failed(error) from error
        try:
            database.require_identity(
                self.db,
                path,
                application_id=kind.application_id,
                version=version,
                oldest=FIRST_SCHEMA,
            )
            if kind.checked:
                database.integrity(self.db, path)
            _migrate(self.db, kind.migrations, version)
        except JournalError as error:
            self.db.close()
            raise self._failed(error) from error
        except database.DRIVER_ERRORS as error:
            self.db.close()
            raise self._failed(database.translate(error, path, "open")) from error

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        with self.lock:
            self.db.close()

    @contextmanager
    def change(self, doing: str) -> Iterator[None]:
        """All of it, durably, or nothing; one writer of all processes at a time."""
        with self._transaction("BEGIN IMMEDIATE", doing):
            yield

    @contextmanager
    def view(self) -> Iterator[None]:
        """Everything read inside is of one moment, whoever writes meanwhile."""
        with self._transaction("BEGIN", "read"):
            yield

    @contextmanager
    def _transaction(self, begin: str, doing: str) -> Iterator[None]:
        with self.lock:
            try:
                self.db.execute(begin)
                try:
                    yield
                    self.db.execute("COMMIT")
                finally:
                    if self.db.in_transaction:
                        self.db.execute("ROLLBACK")
            except database.DRIVER_ERRORS as error:
                raise self._failed(database.translate(error, self.path, doing)) from error

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises ``MemoryFailed``."""
        with self.lock:
            try:
                return self.db.execute(query, values).fetchall()
            except database.DRIVER_ERRORS as error:
                raise self._failed(database.translate(error, self.path, "read")) from error

    def _failed(self, error: JournalError) -> MemoryFailed:
        text = str(error)
        if self._damaged and isinstance(error, JournalDamaged):
            text = f"{text.removesuffix(database.RESTORE_CURE)}{self._damaged}"
        return MemoryFailed(text)


def _migrate(db: sqlite3.Connection, migrations: Sequence[Migration], version: int) -> None:
    """Each step once, whichever process is first, in one transaction with the number it leaves."""
    while database.identity(db)[1] < version:
        db.execute("BEGIN IMMEDIATE")
        try:
            found = database.identity(db)[1]  # Asked again: another process may have been first.
            if found < version:
                migrations[found - FIRST_SCHEMA](db)
                db.execute(f"PRAGMA user_version={found + 1}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
