"""The tape: raw frames as they came, with receive time and connection, for replay.

Writing is off the hot path: ``Tape.write`` copies the bytes into a bounded queue and returns; one
thread compresses and writes. When the queue is full the frame is dropped and counted, loudly: the
bot is never made to wait for a disk. Reading streams with flat memory.

File ``<folder>/YYYYMMDD-HH.tape.zst`` (UTC hour of the receive time): a sequence of zstd frames
("blocks"), each complete in itself. A file is only ever appended to, so a crash loses at most the
block being written; a later run cuts a broken end off (into ``<file>.cut-<offset>``) and continues
the same file. Inside a block, records follow each other:

    u32 length of the payload | u8 kind | u32 connection | i64 receive time, ns | payload

all little-endian. Kind 0 is a websocket text frame as received. Kinds 1 and 2 say that a connection
came up or was lost; their payload is JSON ``{"instruments": [...], "reason": "..."}`` and a replay
voids those books. Every file begins with the eight bytes ``FLTTAPE1`` outside any block.

Must not: decode frames, block the caller, or hide a loss.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import queue
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec
import zstandard

from fleet.clock import NS_PER_MS, NS_PER_SECOND

MAGIC: Final = b"FLTTAPE1"
SUFFIX: Final = ".tape.zst"
HEADER: Final = struct.Struct("<IBIq")
BLOCK_BYTES: Final = 1 << 20
"""A block is closed at this size of raw records, or after ``FLUSH_S`` seconds."""
PAYLOAD_BYTES_MAX: Final = 32 << 20
FLUSH_S: Final = 2.0
QUEUE_FRAMES: Final = 65_536
QUEUE_BYTES_MAX: Final = 64 << 20
"""Both bound the memory a stuck disk can cost."""
LEVEL: Final = 3
"""zstd's default: 200 MB/s and a tenth of the size on these frames."""
NS_PER_HOUR: Final = 3_600 * NS_PER_SECOND


class TapeError(Exception):
    """A tape that cannot be written or read; the text names the file."""


class FrameKind(IntEnum):
    """What a record is."""

    FRAME = 0
    CONNECTED = 1
    DISCONNECTED = 2


_KINDS: Final = tuple(FrameKind)


class TapeFrame(NamedTuple):
    """One record. ``ts_recv`` is nanoseconds, ``connection`` counts the connections of one run."""

    ts_recv: int
    connection: int
    payload: bytes
    kind: FrameKind = FrameKind.FRAME


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeHealth:
    """How the tape is doing. ``failure`` is the error that stopped the writer, if any."""

    written: int
    dropped: int
    queued: int
    failure: str


class Tape:
    """Writes frames in the background. One ``Tape`` per folder; ``close`` flushes."""

    def __init__(
        self,
        folder: Path,
        *,
        queue_frames: int = QUEUE_FRAMES,
        flush_s: float = FLUSH_S,
    ) -> None:
        """Make the folder and start the writer. Raises ``TapeError`` if it cannot be written."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise TapeError(f"cannot record to {folder}: {error}; choose another folder") from error
        self._queue: queue.Queue[TapeFrame | None] = queue.Queue(queue_frames)
        self._writer = _Writer(folder)
        self._flush_s = flush_s
        self._queued_bytes = 0
        self._taken_bytes = 0
        self._dropped = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="tape", daemon=True)
        self._thread.start()

    def write(
        self,
        ts_recv: int,
        connection: int,
        payload: bytes | memoryview,
        kind: FrameKind = FrameKind.FRAME,
    ) -> bool:
        """Queue one record; false if it was dropped because the writer is behind or has failed."""
        size = len(payload)
        # Each counter has one writer (this thread, the writer thread), so no lock is needed.
        behind = self._queued_bytes - self._taken_bytes + size > QUEUE_BYTES_MAX
        if behind or size > PAYLOAD_BYTES_MAX or self._writer.failure or self._closed:
            self._dropped += 1
            return False
        try:
            self._queue.put_nowait(TapeFrame(ts_recv, connection, bytes(payload), kind))
        except queue.Full:
            self._dropped += 1
            return False
        self._queued_bytes += size
        return True

    def health(self) -> TapeHealth:
        """Counts since the start."""
        return TapeHealth(
            written=self._writer.written,
            dropped=self._dropped + self._writer.lost,
            queued=self._queue.qsize(),
            failure=self._writer.failure,
        )

    def close(self, timeout_s: float = 10.0) -> TapeHealth:
        """Write what is queued, end the thread and return the final counts."""
        if not self._closed:
            self._closed = True
            try:
                self._queue.put(None, timeout=timeout_s)
            except queue.Full:
                self._writer.failure = self._writer.failure or "the writer does not keep up"
            self._thread.join(timeout_s)
        return self.health()

    def _run(self) -> None:
        writer = self._writer
        flush_at = time.monotonic() + self._flush_s
        running = True
        while running:
            try:
                record = self._queue.get(timeout=max(0.0, flush_at - time.monotonic()))
            except queue.Empty:
                record = None
            else:
                running = record is not None
            if record is not None:
                self._taken_bytes += len(record.payload)
                writer.add(record)
            if not running or time.monotonic() >= flush_at:
                writer.flush()
                flush_at = time.monotonic() + self._flush_s
        writer.close()


class _Writer:
    """Collects records into blocks and appends them to the file of their hour."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._file: BinaryIO | None = None
        self._hour = -1
        self._block = bytearray()
        self._records = 0
        self.written = 0
        self.lost = 0
        self.failure = ""

    def add(self, record: TapeFrame) -> None:
        hour = record.ts_recv // NS_PER_HOUR
        if hour != self._hour:
            self.flush()
            self.close()
            self._hour = hour
        self._block += HEADER.pack(
            len(record.payload), record.kind, record.connection, record.ts_recv
        )
        self._block += record.payload
        self._records += 1
        if len(self._block) >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Append the block. After an error nothing more is written: a gap must not look whole."""
        if not self._records:
            return
        if self.failure:
            self.lost += self._records
        else:
            try:
                if self._file is None:
                    self._file = _open_for_append(tape_path(self._folder, self._hour))
                self._file.write(self._compressor.compress(bytes(self._block)))
                self._file.flush()
                self.written += self._records
            except (OSError, TapeError) as error:
                self.failure = str(error)
                self.lost += self._records
        self._block.clear()
        self._records = 0

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def tape_path(folder: Path, hour: int) -> Path:
    """The file of an hour, counted in hours since the epoch."""
    at = datetime.fromtimestamp(hour * 3_600, tz=UTC)
    return folder / f"{at:%Y%m%d-%H}{SUFFIX}"


def _open_for_append(path: Path) -> BinaryIO:
    """Open ``path`` at its sound end: a block that a crash left unfinished is cut off first."""
    file = path.open("ab+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise TapeError(
            f"{path} is being written by another process; one tape, one writer"
        ) from error
    size = file.seek(0, os.SEEK_END)
    if size < len(MAGIC):
        file.truncate(0)
        file.write(MAGIC)
        return file
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        file.close()
        raise TapeError(f"{path} is not a tape; move it away")
    end = len(MAGIC)
    for block_end, _ in _blocks(file, path):
        end = block_end
    if end < size:
        # What a crash left is useless, what a bad disk left may not be: keep the bytes aside.
        file.seek(end)
        path.with_name(f"{path.name}.cut-{end}").write_bytes(file.read())
        file.truncate(end)
    file.seek(0, os.SEEK_END)
    return file


def _blocks(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset after the block, its records) for each sound block; ends at the first broken one."""
    limit = BLOCK_BYTES + PAYLOAD_BYTES_MAX + HEADER.size
    pending = b""
    start = file.tell()
    while True:
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        records = bytearray()
        consumed = 0
        while not decompressor.eof:
            chunk = pending or file.read(1 << 16)
            if not chunk:
                return
            try:
                records += decompressor.decompress(chunk)
            except zstandard.ZstdError:
                return
            if len(records) > limit:
                raise TapeError(f"{path}: a block of more than {limit} bytes; the file is damaged")
            consumed += len(chunk)
            pending = b""
        pending = decompressor.unused_data
        start += consumed - len(pending)
        yield start, bytes(records)


@dataclass(slots=True)
class ReadReport:
    """Filled while a tape is read: how many records, and how many bytes at the end were broken."""

    frames: int = 0
    broken_bytes: int = 0


def read_tape(path: Path, report: ReadReport | None = None) -> Iterator[TapeFrame]:
    """The records of one tape file, in order.

    A last block that is cut short is no error: reading ends there and ``report.broken_bytes`` says
    how much was left over. Raises ``TapeError`` for a file that is no tape.
    """
    report = report if report is not None else ReadReport()
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise TapeError(f"{path} is not a tape; a recording ends in .jsonl.gz")
            end = len(MAGIC)
            for block_end, block in _blocks(file, path):
                end = block_end
                yield from _records(block, path, report)
            report.broken_bytes = file.seek(0, os.SEEK_END) - end
    except OSError as error:
        raise TapeError(f"cannot read {path}: {error}") from error


def _records(block: bytes, path: Path, report: ReadReport) -> Iterator[TapeFrame]:
    at, size = 0, len(block)
    while at < size:
        if size - at < HEADER.size:
            raise TapeError(f"{path}: a record's header is cut short inside a sound block")
        length, kind, connection, ts_recv = HEADER.unpack_from(block, at)
        at += HEADER.size
        if at + length > size or kind >= len(_KINDS):
            raise TapeError(f"{path}: a record is damaged inside a sound block")
        report.frames += 1
        yield TapeFrame(ts_recv, connection, block[at : at + length], _KINDS[kind])
        at += length


class _Stamp(msgspec.Struct, gc=False):
    timestamp: int


def read_recording(path: Path) -> Iterator[TapeFrame]:
    """The frames of a ``.jsonl.gz`` recording: one JSON message a line, stamped by the venue.

    The receive time was not recorded, so ``ts_recv`` is the message's own timestamp. Raises
    ``TapeError`` for a file that cannot be read or a line without a timestamp.
    """
    decode = msgspec.json.Decoder(_Stamp, strict=False).decode
    try:
        with gzip.open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                payload = line.rstrip()
                if payload:
                    try:
                        stamp = decode(payload).timestamp
                    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                        raise TapeError(f"{path} line {number}: {error}") from error
                    yield TapeFrame(stamp * NS_PER_MS, 0, payload)
    except (OSError, EOFError) as error:
        raise TapeError(f"cannot read {path}: {error}") from error


def read_any(path: Path, report: ReadReport | None = None) -> Iterator[TapeFrame]:
    """``read_tape`` or ``read_recording``, by the file's name."""
    if path.name.endswith(SUFFIX):
        return read_tape(path, report)
    if path.name.endswith(".jsonl.gz"):
        return read_recording(path)
    raise TapeError(f"{path}: expected a tape (*{SUFFIX}) or a recording (*.jsonl.gz)")
