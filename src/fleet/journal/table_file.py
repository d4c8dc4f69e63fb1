"""An open SQLite file of ours whose tables are read and changed: close, transactions, queries.

Who opens it decides what it must be (``fleet_file``, ``record_file``); what is common afterwards is
here. Every change is one short IMMEDIATE transaction: of two writers one waits for the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fleet.journal import database


class TableFile:
    """The connection ``db`` to the file at ``path``."""

    path: Path
    db: sqlite3.Connection

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self.db.close()

    def __enter__(self) -> Self:
        """Use it for a while."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @contextmanager
    def transaction(self, doing: str) -> Iterator[None]:
        """All of it, durably, or nothing. Raises ``JournalError`` naming what was tried."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            finally:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
        except database.DRIVER_ERRORS as error:
            raise database.translate(error, self.path, doing) from error

    def rows(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises ``JournalError``."""
        try:
            return self.db.execute(query, values).fetchall()
        except database.DRIVER_ERRORS as error:
            raise database.translate(error, self.path, "read") from error
