"""The journal: every fact that changes money, orders, permissions or knowledge, in order, for ever.

One SQLite file per bot and mode, one writing process (the bot's lock sees to that). Entries are
numbered from 1 without a gap; triggers refuse a gap, a change and a removal, so the file itself is
append-only. A batch is one durable transaction (write-ahead log, synchronous=FULL): after ``write``
returns it survives a power cut; if ``write`` raises, nothing of it is there.

Each entry carries a CRC-32 chained to the one before, because SQLite finds broken pages but not a
flipped digit inside a body. ``read`` checks number, chain and kind of every entry and raises
``JournalDamaged`` at the first that is wrong: nothing is skipped and nothing is repaired.

A second writer that got past the lock collides on the entry number: ``JournalForked``. After an
error whose outcome on the disk is not certain (an I/O error while committing) the store refuses
to write on: only a restart, which reads what is really there, settles it.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from zlib import crc32

from msgspec import Struct

from fleet.domain.events import Event
from fleet.journal import database
from fleet.journal.codec import Codec
from fleet.journal.database import (
    RESTORE_CURE,
    JournalBusy,
    JournalDamaged,
    JournalError,
    JournalForeign,
    JournalFull,
    JournalUnavailable,
)

APPLICATION_ID: Final = 0x464C4A4E
"""``FLJN`` in the file header: tells a journal from any other SQLite file."""
SCHEMA_VERSION: Final = 1

_DDL: Final = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE entry(
    seq INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    ts_event INTEGER NOT NULL,
    ts_recv INTEGER NOT NULL,
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    cause_seq INTEGER,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TRIGGER entry_has_no_gap BEFORE INSERT ON entry
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entry)
BEGIN SELECT raise(ABORT, 'entries are appended without a gap'); END;
CREATE TRIGGER entry_never_changes BEFORE UPDATE ON entry
BEGIN SELECT raise(ABORT, 'entries never change'); END;
CREATE TRIGGER entry_never_goes BEFORE DELETE ON entry
BEGIN SELECT raise(ABORT, 'entries are never removed'); END;
"""
_INSERT: Final = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT: Final = "SELECT * FROM entry WHERE seq > ? ORDER BY seq LIMIT ?"
_CHUNK: Final = 1000
"""Entries a read fetches at once: short read transactions, so the log can be checkpointed."""
_CHECKPOINT_PAGES: Final = 1000
"""Pages of log (4 MB) after which a commit folds it in itself, some 2 ms, if nobody called
``checkpoint``. A log that is reused commits in 175 us, one that grows in 240 us (measured
2026-11, ext4 on a virtual disk), so a larger bound is slower, not faster."""

_Row = tuple[int, str, int, int, str, int, int | None, int, bytes]


class Entry(Struct, frozen=True, gc=False):
    """One fact as journalled. Times are nanoseconds; ``cause_seq`` is the batch's first entry."""

    seq: int
    run_id: str
    ts_event: int
    ts_recv: int
    kind: str
    version: int
    cause_seq: int | None
    event: Event


class JournalReader:
    """Reads a journal that a bot may be writing to; opens it read-only and never blocks the bot.

    ``immutable`` is for copies nobody writes (a restored backup): it makes no side files.
    ``bot`` and ``mode``, if given, must be those of the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        bot: str | None = None,
        mode: str | None = None,
        immutable: bool = False,
        codec: Codec | None = None,
    ) -> None:
        """Open it. Raises ``JournalUnavailable``, ``JournalDamaged`` or ``JournalForeign``."""
        self.path = path
        self._codec = codec or Codec()
        self._db = self._connect(immutable=immutable)
        try:
            self.bot, self.mode = self._identify(bot, mode)
        except database.DRIVER_ERRORS as error:
            self._db.close()
            raise database.translate(error, path, "open") from error
        except JournalError:
            self._db.close()
            raise

    def _connect(self, *, immutable: bool) -> sqlite3.Connection:
        return database.connect(self.path, read_only=True, immutable=immutable)

    def _identify(self, bot: str | None, mode: str | None) -> tuple[str, str]:
        database.require_identity(
            self._db, self.path, application_id=APPLICATION_ID, version=SCHEMA_VERSION
        )
        meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        if not {"bot", "mode"} <= meta.keys():
            raise JournalDamaged(f"{self.path} has lost its identity; {RESTORE_CURE}")
        found_bot, found_mode = meta["bot"], meta["mode"]
        if bot not in {None, found_bot} or mode not in {None, found_mode}:
            raise JournalForeign(
                f"{self.path} is the {found_mode} journal of {found_bot}, not the {mode or 'any'}"
                f" one of {bot or 'any bot'}; correct the path or move the file away"
            )
        return found_bot, found_mode

    @property
    def last_seq(self) -> int:
        """The number of the last entry on disk, 0 if there is none."""
        return self._tail()[0]

    def read(self, after_seq: int = 0) -> Iterator[Entry]:
        """Entries after ``after_seq``, in order, each checked against the one before it.

        Raises ``JournalDamaged`` at the first that is missing, changed or not understood.
        """
        kinds = self._codec
        try:
            crc = self.crc_at(after_seq)
            seq = after_seq
            while rows := self._db.execute(_SELECT, (seq, _CHUNK)).fetchall():
                for row in rows:
                    # The same as ``_checksum``, here because a recovery reads a million entries.
                    number, run_id, ts_event, ts_recv, kind, version, cause, found, body = row
                    head = f"{crc}|{number}|{run_id}|{ts_event}|{ts_recv}|{kind}|{version}|{cause}|"
                    seq += 1
                    if number != seq or type(body) is not bytes:
                        raise self._wrong(row, seq)
                    crc = crc32(body, crc32(head.encode()))
                    if crc != found:
                        raise self._wrong(row, seq)
                    try:
                        event = kinds.decode(kind, version, body)
                    except JournalDamaged as error:
                        raise JournalDamaged(f"{self.path}: entry {seq}: {error}") from error
                    yield Entry(seq, run_id, ts_event, ts_recv, kind, version, cause, event)
        except database.DRIVER_ERRORS as error:
            raise database.translate(error, self.path, "read") from error

    def crc_at(self, seq: int) -> int:
        """The checksum of an entry, which stands for all entries before it too; 0 for entry 0.

        Raises ``JournalDamaged`` if there is no such entry.
        """
        if seq == 0:
            return 0
        row = self._first("SELECT crc FROM entry WHERE seq = ?", seq)
        if row is None:
            raise JournalDamaged(
                f"{self.path} has no entry {seq}, it ends at {self.last_seq}: the reader is ahead"
                " of the file, so an older copy was put in its place; start from entry 0"
            )
        crc: int = row[0]
        return crc

    @property
    def began_ns(self) -> int:
        """When the first entry that has a time was received, 0 if there is none."""
        row = self._first("SELECT ts_recv FROM entry WHERE ts_recv <> 0 ORDER BY seq LIMIT 1")
        return row[0] if row else 0

    def check(self) -> int:
        """Prove the whole file: SQLite's check, then every entry. Returns the number of entries.

        Raises ``JournalDamaged`` naming the first thing that is wrong.
        """
        database.integrity(self._db, self.path)
        return sum(1 for _ in self.read())

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _tail(self) -> tuple[int, int]:
        """Number and checksum of the last entry."""
        row = self._first("SELECT seq, crc FROM entry ORDER BY seq DESC LIMIT 1")
        return (row[0], row[1]) if row else (0, 0)

    def _first(self, query: str, *values: int) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        except database.DRIVER_ERRORS as error:
            raise database.translate(error, self.path, "read") from error
        return row

    def _wrong(self, row: tuple[Any, ...], seq: int) -> JournalDamaged:
        missing = f"is missing, {row[0]} follows"
        what = missing if row[0] != seq else "was changed after it was written"
        return JournalDamaged(f"{self.path}: entry {seq} {what}; {RESTORE_CURE}")


class JournalStore(JournalReader):
    """The one writer of a journal; it reads too (recovery does, before the first write)."""

    def __init__(
        self, path: Path, *, bot: str, mode: str, run_id: str, codec: Codec | None = None
    ) -> None:
        """Open the journal of ``bot`` in ``mode`` for writing, making it if there is none.

        Opening proves that it can be written: it records the run in ``meta``. Raises the errors of
        ``JournalReader`` and ``JournalFull``, ``JournalReadOnly`` or ``JournalBusy``.
        """
        rows = (("bot", bot), ("mode", mode), ("created_ns", str(time.time_ns())))
        database.create(
            path, application_id=APPLICATION_ID, version=SCHEMA_VERSION, ddl=_DDL, rows=rows
        )
        super().__init__(path, bot=bot, mode=mode, codec=codec)
        self.run_id = run_id
        self._stuck: JournalError | None = None
        try:
            self._db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('run_id', ?)", (run_id,))
        except database.DRIVER_ERRORS as error:
            self._db.close()
            raise database.translate(error, path, "write") from error
        self._seq, self._crc = self._tail()

    def _connect(self, *, immutable: bool) -> sqlite3.Connection:
        return database.connect(self.path, read_only=immutable)

    @property
    def last_seq(self) -> int:
        """The number of the last entry written, 0 if there is none."""
        return self._seq

    def write(self, events: Sequence[object]) -> int:
        """Append ``events`` as one durable transaction; the last entry's number.

        All of them or, on any error, none. Raises ``JournalFull`` (works again with space),
        ``JournalBusy`` (may be tried again), ``JournalForked`` or ``JournalUnavailable`` (both
        final: restart), ``TypeError`` for what is no durable event.
        """
        if self._stuck is not None:
            raise JournalUnavailable(
                f"{self.path} takes no more entries after: {self._stuck}; restart the bot"
            )
        rows, crc = self._rows(events)
        if not rows:
            return self._seq
        execute = self._db.execute
        try:
            execute("BEGIN IMMEDIATE")
            self._db.executemany(_INSERT, rows)
            execute("COMMIT")
        except database.DRIVER_ERRORS as error:
            raise self._failed(error) from error
        self._crc = crc
        self._seq = rows[-1][0]
        return self._seq

    def checkpoint(self) -> None:
        """Fold the log into the file; call it in a quiet moment, off the path of an order.

        Never waits for readers: what they still need stays in the log.
        """
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except database.DRIVER_ERRORS as error:
            raise database.translate(error, self.path, "checkpoint") from error

    def _rows(self, events: Sequence[object]) -> tuple[list[_Row], int]:
        seq, crc, run_id = self._seq, self._crc, self.run_id
        cause: int | None = None
        rows: list[_Row] = []
        for event in events:
            kind, version, body = self._codec.encode(event)
            seq += 1
            ts_event: int = getattr(event, "ts_event", 0)
            ts_recv: int = getattr(event, "ts_recv", 0)
            row = (seq, run_id, ts_event, ts_recv, kind, version, cause, 0, body)
            crc = _checksum(row, crc)
            rows.append((seq, run_id, ts_event, ts_recv, kind, version, cause, crc, body))
            if cause is None:
                cause = seq
        return rows, crc

    def _failed(self, error: sqlite3.Error | UnicodeDecodeError) -> JournalError:
        """Undo the transaction; unless it is proven that nothing stayed, take no more entries."""
        told = database.translate(error, self.path, "write")
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as again:
            told.add_note(f"the rollback failed too: {again}")
            self._stuck = told
            return told
        # A full disk fails before the commit record is written, a busy file before the first page;
        # any other error leaves open whether the disk has the batch.
        if not isinstance(told, JournalFull | JournalBusy):
            self._stuck = told
        return told


class MemoryJournal:
    """The same port in memory, for replay and tests. ``keep`` bounds how many entries stay."""

    def __init__(
        self, *, run_id: str = "memory", keep: int | None = None, codec: Codec | None = None
    ) -> None:
        self.run_id = run_id
        self._codec = codec
        self._entries: deque[Entry] = deque(maxlen=keep)
        self._seq = 0

    @property
    def last_seq(self) -> int:
        """The number of the last entry written, 0 if there is none."""
        return self._seq

    def write(self, events: Sequence[object]) -> int:
        """Append ``events``; the last entry's number. Raises ``TypeError`` for what is no event.

        With a ``codec`` each event goes through its body, so that what is read is what a file
        would give back.
        """
        cause: int | None = None
        batch: list[Entry] = []
        for seq, event in enumerate(events, self._seq + 1):
            if not isinstance(event, Event):
                raise TypeError(f"{type(event).__name__} is not a durable event")
            stored = event
            if self._codec is not None:
                stored = self._codec.decode(*self._codec.encode(event))
            batch.append(
                Entry(
                    seq=seq,
                    run_id=self.run_id,
                    ts_event=event.ts_event,
                    ts_recv=event.ts_recv,
                    kind=event.KIND,
                    version=event.VERSION,
                    cause_seq=cause,
                    event=stored,
                )
            )
            if cause is None:
                cause = seq
        self._entries.extend(batch)
        self._seq += len(batch)
        return self._seq

    def read(self, after_seq: int = 0) -> Iterator[Entry]:
        """The kept entries after ``after_seq``. Raises ``JournalDamaged`` if some were let go."""
        if self._entries and after_seq < self._entries[0].seq - 1:
            raise JournalDamaged(
                f"this memory journal kept only entries from {self._entries[0].seq} on"
            )
        return (entry for entry in tuple(self._entries) if entry.seq > after_seq)


def _checksum(row: tuple[Any, ...], previous: int) -> int:
    """CRC-32 over the previous entry's checksum and all columns but the checksum itself."""
    seq, run_id, ts_event, ts_recv, kind, version, cause_seq, _, body = row
    head = f"{previous}|{seq}|{run_id}|{ts_event}|{ts_recv}|{kind}|{version}|{cause_seq}|"
    return crc32(body, crc32(head.encode()))
