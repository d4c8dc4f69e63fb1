"""SQLite files of ours: how they are made, opened, recognised, and what their errors mean.

A file is made whole under another name and then linked into place, so that a file which exists but
is empty or without its tables is always damage, never "not made yet". Every file carries an
application id (which kind of file) and a user version (its schema). Errors of the driver become
one tree whose texts name the cure; nothing here retries, guesses or repairs.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

BUSY_TIMEOUT_S: Final = 5.0
FULL_BELOW_BYTES: Final = 256 * 1024
"""An I/O error with less free space than this is told as a full disk: SQLite reports a shared
memory file it could not grow as a plain I/O error."""

RESTORE_CURE: Final = (
    "stop the bot, keep the file for study, and restore the newest backup with"
    " ./backup.sh --restore FILE --to DIR"
)


class JournalError(Exception):
    """Something is wrong with a journal or the fleet state; the text names the cure."""


class JournalUnavailable(JournalError):  # noqa: N818 - named for what was found
    """It cannot be opened or written now; what it holds is not in doubt."""


class JournalFull(JournalUnavailable):
    """The disk is full. The batch was rolled back whole; writing works again with space."""


class JournalReadOnly(JournalUnavailable):
    """The file, its directory or its disk refuses writing."""


class JournalBusy(JournalUnavailable):
    """Another process held the file's write lock for longer than the busy timeout."""


class JournalDamaged(JournalError):  # noqa: N818 - named for what was found
    """What it holds cannot be trusted: broken pages, a gap, a wrong checksum, an unknown kind."""


class JournalForeign(JournalError):  # noqa: N818 - named for what was found
    """A sound file, but not the one asked for: another program's, bot's, mode's or schema's."""


class JournalForked(JournalError):  # noqa: N818 - named for what was found
    """Somebody else appended to the journal behind this writer's back."""


DRIVER_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What the driver raises. It fails with the second when the words of its own complaint quote a
damaged page that is no text any more."""


def translate(error: sqlite3.Error | UnicodeDecodeError, path: Path, doing: str) -> JournalError:
    """The ``JournalError`` for a driver error met while ``doing`` something with ``path``."""
    if isinstance(error, UnicodeDecodeError):
        return JournalDamaged(
            f"cannot {doing} {path}: it holds bytes that are no text; {RESTORE_CURE}"
        )
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    what = f"cannot {doing} {path}: {error}"
    if code == sqlite3.SQLITE_FULL or (
        code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN} and _disk_is_full(path)
    ):
        return JournalFull(f"{what}; free space on its disk, then start again")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        return JournalReadOnly(
            f"{what}; make it, its -wal and -shm files and their directory writable for the user"
            " who runs the fleet"
        )
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return JournalDamaged(f"{what}; {RESTORE_CURE}")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return JournalBusy(f"{what}; find who holds it with: fuser {path}")
    if code == sqlite3.SQLITE_CONSTRAINT:
        return JournalForked(f"{what}; two writers, or an attempt to change history: stop one")
    return JournalUnavailable(
        f"{what}; check the path, its permissions and the disk's health (dmesg), then start again"
    )


def create(
    path: Path, *, application_id: int, version: int, ddl: str, rows: Iterable[tuple[str, str]] = ()
) -> bool:
    """Make a file of ours at ``path`` (0600, WAL) with ``ddl`` and ``rows`` of its table ``meta``.

    False if it was there already (or another process made it first). Raises ``JournalError``.
    """
    if path.exists():
        return False
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(draft, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(f"BEGIN; {ddl} COMMIT;")
            db.executemany("INSERT INTO meta(key, value) VALUES (?, ?)", rows)
            db.execute(f"PRAGMA application_id={application_id}")
            db.execute(f"PRAGMA user_version={version}")
            db.execute("PRAGMA journal_mode=WAL")
        finally:
            db.close()
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        sync_directory(path.parent)
    except DRIVER_ERRORS as error:
        raise translate(error, path, "make") from error
    except OSError as error:
        raise _os_error(error, path, "make") from error
    finally:
        _remove_draft(draft)
    return True


def connect(
    path: Path, *, read_only: bool, immutable: bool = False, any_thread: bool = False
) -> sqlite3.Connection:
    """Open an existing file. ``immutable`` only for copies that nobody writes: no side files.

    ``any_thread`` for a caller that lets one thread at a time use the connection, by a lock.
    Raises ``JournalUnavailable`` if it is missing or cannot be opened, ``JournalDamaged`` if it
    is no database any more.
    """
    if not path.is_file():
        raise JournalUnavailable(f"cannot open {path}: there is no such file; check the name")
    if not read_only and not os.access(path, os.W_OK, effective_ids=True):
        # Asked before SQLite is, which would leave read-only side files behind.
        raise JournalReadOnly(
            f"cannot write {path}; make it writable for the user who runs the fleet"
        )
    mode = "mode=ro" if read_only else "mode=rw"
    uri = f"{path.absolute().as_uri()}?{mode}{'&immutable=1' if immutable else ''}"
    try:
        db = sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=not any_thread,
        )
    except DRIVER_ERRORS as error:
        raise translate(error, path, "open") from error
    try:
        if not read_only:
            mode_now = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            db.execute("PRAGMA synchronous=FULL")
            if mode_now != "wal":
                raise JournalUnavailable(
                    f"{path} cannot use a write-ahead log ({mode_now}); put var/ on a local disk"
                )
        db.execute("PRAGMA trusted_schema=OFF")
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except DRIVER_ERRORS as error:
        db.close()
        raise translate(error, path, "open") from error
    except JournalError:
        db.close()
        raise
    return db


def identity(db: sqlite3.Connection) -> tuple[int, int]:
    """The application id and user version of an open file."""
    application_id: int = db.execute("PRAGMA application_id").fetchone()[0]
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return application_id, version


def require_identity(
    db: sqlite3.Connection,
    path: Path,
    *,
    application_id: int,
    version: int,
    oldest: int | None = None,
) -> None:
    """Raise ``JournalForeign`` unless the open file is of this kind and schema.

    With ``oldest``, every schema from that one to ``version`` will do.
    """
    found_id, found_version = identity(db)
    if found_id != application_id:
        empty = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        if empty:
            raise JournalDamaged(f"{path} is empty: it was cut off; {RESTORE_CURE}")
        raise JournalForeign(
            f"{path} is an SQLite file of another program (application id {found_id:#x}, not"
            f" {application_id:#x}); move it away or correct the path"
        )
    if found_version > version:
        raise JournalForeign(
            f"{path} has schema {found_version}, newer than this code's {version}; run the newer"
            " code, or restore a backup made by this one"
        )
    if found_version < (version if oldest is None else oldest):
        raise JournalForeign(
            f"{path} has schema {found_version}, which this code ({version}) cannot read; run the"
            " code that wrote it"
        )


def integrity(db: sqlite3.Connection, path: Path) -> None:
    """Run SQLite's own full check. Raises ``JournalDamaged`` with its first finding."""
    try:
        found: str = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except DRIVER_ERRORS as error:
        raise translate(error, path, "check") from error
    if found != "ok":
        raise JournalDamaged(f"{path} is damaged: {found}; {RESTORE_CURE}")


def sync_directory(path: Path) -> None:
    """Make renames and links in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove_draft(draft: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def _os_error(error: OSError, path: Path, doing: str) -> JournalError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return JournalFull(f"cannot {doing} {path}: the disk is full; free space on it")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return JournalReadOnly(
            f"cannot {doing} {path}: {error.strerror}; make its directory writable for the user"
            " who runs the fleet"
        )
    return JournalUnavailable(f"cannot {doing} {path}: {error.strerror}; check path and disk")


def _disk_is_full(path: Path) -> bool:
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < FULL_BELOW_BYTES
