"""A small SQLite file of ours beside the journal: one kind, one owner, one writer.

What is in its tables is the business of its user. Like the journal it is made whole, carries an
application id, a schema number and whose it is (``meta``), and is refused when any of that is
another's: a file of paper is never taken for one of live, nor one bot's for another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.journal import database
from fleet.journal.database import JournalError, JournalForeign
from fleet.journal.table_file import TableFile

_META: Final = "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of file: its number in the header, its schema and its tables."""

    application_id: int
    version: int
    ddl: str


class RecordFile(TableFile):
    """An open file of one kind; made if there is none, unless it is only to be read."""

    def __init__(
        self, path: Path, kind: Kind, owner: Mapping[str, str], *, read_only: bool = False
    ) -> None:
        """Open it for ``owner``. Raises ``JournalError``; ``JournalForeign`` if it is another's."""
        self.path = path
        if not read_only:
            database.create(
                path,
                application_id=kind.application_id,
                version=kind.version,
                ddl=_META + kind.ddl,
                rows=owner.items(),
            )
        self.db = database.connect(path, read_only=read_only)
        try:
            database.require_identity(
                self.db, path, application_id=kind.application_id, version=kind.version
            )
            database.integrity(self.db, path)
            self._require(owner)
        except database.DRIVER_ERRORS as error:
            self.db.close()
            raise database.translate(error, path, "open") from error
        except JournalError:
            self.db.close()
            raise

    def _require(self, owner: Mapping[str, str]) -> None:
        found = dict(self.db.execute("SELECT key, value FROM meta"))
        wrong = {key: found.get(key) for key in owner if found.get(key) != owner[key]}
        if wrong:
            raise JournalForeign(
                f"{self.path} belongs to {wrong}, not to {dict(owner)}; move it away or correct the"
                " path"
            )
