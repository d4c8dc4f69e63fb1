"""A snapshot: what the first entries of a journal fold to, so that a start need not read them.

Derived and disposable: the journal alone is the truth, and a bot without snapshots only starts more
slowly. Whatever speaks against a snapshot makes it not be used, and nothing is ever repaired.

Layout: ``MAGIC``, a CRC-32 of all that follows, the length of the head, the head, the image (both
MessagePack). The head says of which journal it is, up to which entry, with which checksum (the
chain makes that one stand for all entries before it), and by which code it was folded.

What it holds is the business of its user: this module stores any ``msgspec.Struct``. It must not
decide whether a snapshot fits, which takes the journal.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final, TypeVar
from zlib import crc32

import msgspec

from fleet.journal import database

MAGIC: Final = b"FLEETSN1"
_PREFIX: Final = struct.Struct(">8sII")
"""Magic, checksum, length of the head (which the checksum covers too)."""
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)

ImageT = TypeVar("ImageT", bound=msgspec.Struct)


class SnapshotUnusableError(Exception):
    """A snapshot that cannot be read or written; the text says why. The journal is not in doubt."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Of which journal, up to which entry with which checksum, folded by which code."""

    bot: str
    mode: str
    stamp: str
    seq: int
    crc: int


class Snapshot:
    """A snapshot that is whole; its image is decoded only when it is wanted."""

    __slots__ = ("_body", "head")

    def __init__(self, head: Head, body: memoryview) -> None:
        """``body`` is the encoded image."""
        self.head = head
        self._body = body

    def image(self, kind: type[ImageT]) -> ImageT:
        """What was stored. Raises ``SnapshotUnusableError`` if it is no ``kind``."""
        try:
            return msgspec.msgpack.decode(self._body, type=kind)
        except _UNREADABLE as error:
            raise SnapshotUnusableError(f"its image cannot be read: {error}") from error


def read_head(path: Path) -> Head | None:
    """What a snapshot says it is, unproven; nothing if there is none.

    Raises ``SnapshotUnusableError``.
    """
    try:
        with path.open("rb") as file:
            length = _prefix(file.read(_PREFIX.size))[1]
            return _head(file.read(length))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnapshotUnusableError(f"it cannot be read: {error.strerror}") from error


def read(path: Path) -> Snapshot | None:
    """The snapshot at ``path``, its checksum proven; nothing if there is none.

    Raises ``SnapshotUnusableError`` for anything that is not a whole snapshot.
    """
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnapshotUnusableError(f"it cannot be read: {error.strerror}") from error
    crc, length = _prefix(content[: _PREFIX.size])
    rest = content[_PREFIX.size :]
    if _checksum(length, rest) != crc:
        raise SnapshotUnusableError("it is damaged or cut off")
    return Snapshot(_head(rest[:length]), rest[length:])


def write(path: Path, head: Head, image: msgspec.Struct) -> None:
    """Put a snapshot at ``path`` (0600), whole or not at all, in place of an older one.

    For one writer at a time, whom the bot's lock lets in. Raises ``SnapshotUnusableError``; then
    what was there is there still.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        encoded = msgspec.msgpack.encode(head)
        body = msgspec.msgpack.encode(image)
        crc = crc32(body, _checksum(len(encoded), encoded))
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(_PREFIX.pack(MAGIC, crc, len(encoded)))
                file.write(encoded)
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        database.sync_directory(path.parent)
    except OSError as error:
        raise SnapshotUnusableError(f"it cannot be written: {error.strerror}") from error
    except _UNREADABLE as error:
        raise SnapshotUnusableError(f"it cannot be encoded: {error}") from error


def _prefix(content: bytes | memoryview) -> tuple[int, int]:
    """Checksum and length of the head."""
    if len(content) < _PREFIX.size:
        raise SnapshotUnusableError("it is cut off")
    magic, crc, length = _PREFIX.unpack(content)
    if magic != MAGIC:
        raise SnapshotUnusableError("it is no snapshot of this format")
    return crc, length


def _checksum(length: int, content: bytes | memoryview) -> int:
    return crc32(content, crc32(length.to_bytes(4, "big")))


def _head(content: bytes | memoryview) -> Head:
    try:
        return msgspec.msgpack.decode(content, type=Head)
    except _UNREADABLE as error:
        raise SnapshotUnusableError(f"its head cannot be read: {error}") from error
