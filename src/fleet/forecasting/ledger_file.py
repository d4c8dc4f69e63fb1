"""Small SQLite files of the forecasters: what was spent, what was asked of news sources.

Made, recognised and opened like every file of the fleet (``journal.database``): 0600, write-ahead
log, synchronous. A file is opened when it is first used, by the thread that uses it, and belongs
to that thread from then on; several processes may share one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.journal import database
from fleet.journal.database import JournalError
from fleet.journal.table_file import TableFile


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """One kind of file: its number in the header, its schema, its tables."""

    application_id: int
    version: int
    ddl: str


class _Opened(TableFile):
    def __init__(self, path: Path, kind: FileKind) -> None:
        self.path = path
        database.create(
            path, application_id=kind.application_id, version=kind.version, ddl=_ddl(kind)
        )
        self.db = database.connect(path, read_only=False)
        try:
            database.require_identity(
                self.db, path, application_id=kind.application_id, version=kind.version
            )
            database.integrity(self.db, path)
        except database.DRIVER_ERRORS as error:
            self.db.close()
            raise database.translate(error, path, "open") from error
        except JournalError:
            self.db.close()
            raise


class LedgerFile:
    """A file of one kind; every method raises ``JournalError``, whose text names the cure."""

    def __init__(self, path: Path, kind: FileKind) -> None:
        """Nothing is opened or made yet."""
        self.path = path
        self._kind = kind
        self._opened: _Opened | None = None

    def _file(self) -> _Opened:
        if self._opened is None:
            self._opened = _Opened(self.path, self._kind)
        return self._opened

    @contextmanager
    def transaction(self, doing: str) -> Iterator[None]:
        """All of it, durably, or nothing; another writer waits."""
        with self._file().transaction(doing):
            yield

    def change(self, statement: str, *values: float | str | bytes | None) -> int:
        """One statement inside a transaction; the number of its last new row."""
        return self._file().db.execute(statement, values).lastrowid or 0

    def rows(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self._file().rows(query, *values)

    def close(self) -> None:
        """Close it; the next use opens it again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _ddl(kind: FileKind) -> str:
    """``database.create`` expects a table ``meta`` for its rows."""
    meta = "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    return meta + kind.ddl
