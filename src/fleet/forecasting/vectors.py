"""Vectors in a file that is mapped into memory, and the exact search over them.

The file is a header of 4,096 bytes and one float32 row of ``dim`` numbers a slot. It is no truth of
its own: which slots count, and the CRC-32 of each, is in the memory's database, so a torn, missing
or foreign file is found out and written again. A slot is written before the database names it,
never while it does; a file is replaced by another, never cut, so that nobody's mapping breaks.

The search is exact: a first pass in float32, in chunks so that memory stays flat, keeps
every row that could be among the best given the worst rounding error of a float32 sum; those are
summed again in float64, always in the same order, and ties are broken by id.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import numpy as np

from fleet.forecasting.port import MemoryFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_BYTES: Final = 4_096
_HEADER: Final = "<8sI16s"
_MAGIC: Final = b"FLTVEC01"
CHUNK_ROWS: Final = 8_192
FEW: Final = 8
"""Fewer than one eligible row in eight are gathered before they are multiplied."""


def rounding(dim: int) -> float:
    """The largest error of a float32 inner product of unit rows: 2 n u (Higham 2002, 3.1)."""
    return 2 * dim * 2.0**-24


def unit_rows(vectors: NDArray[Any], *, count: int, dim: int, who: str) -> NDArray[np.float32]:
    """``vectors`` as float32 rows of length 1. Raises ``MemoryFailed`` for any other shape."""
    if vectors.shape != (count, dim):
        raise MemoryFailed(
            f"{who} answered with vectors of shape {vectors.shape}, not {(count, dim)}: set"
            " POLYAI_EMBEDDING_DIM to the length of the model's vectors"
        )
    if not np.isfinite(vectors).all():
        raise MemoryFailed(f"{who} answered with numbers that are not finite: try another model")
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    lengths[lengths == 0] = 1.0
    rows: NDArray[np.float32] = (wide / lengths).astype(np.float32)
    return rows


def exact(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine similarities of unit rows, in float64 and in one order of summing, in [-1, 1]."""
    wide = query.astype(np.float64)
    found = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), CHUNK_ROWS // 4):
        part = rows[start : start + CHUNK_ROWS // 4].astype(np.float64)
        found[start : start + len(part)] = (part * wide).sum(axis=1)
    return np.clip(found, -1.0, 1.0)


def nearest(
    matrix: NDArray[np.float32],
    query: NDArray[np.float32],
    eligible: NDArray[np.bool_],
    top: int,
    helper: Executor | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Slots and similarities, best first, of the ``top`` best eligible rows and of all their ties.

    ``matrix`` is (n, dim), ``eligible`` (n,). Rows that are not eligible are never compared.
    ``helper`` takes chunks too where there are several.
    """
    # Both take the next chunk from the same iterator, which the interpreter's lock guards: a
    # helper that gets no core holds up nothing.
    starts = iter(range(0, len(matrix), CHUNK_ROWS))
    help_ = None
    if helper is not None and len(matrix) > CHUNK_ROWS:
        help_ = helper.submit(_promising, matrix, query, eligible, top, starts)
    slots, values = _promising(matrix, query, eligible, top, starts)
    if help_ is not None and not help_.cancel():
        more, their_values = help_.result()
        slots, values = np.concatenate([slots, more]), np.concatenate([values, their_values])
    slots, _ = _kept(slots, values, top, rounding(matrix.shape[1]))
    similarities = np.empty(len(slots), dtype=np.float64)
    for start in range(0, len(slots), CHUNK_ROWS // 4):
        part = slots[start : start + CHUNK_ROWS // 4]
        similarities[start : start + len(part)] = exact(matrix[part], query)
    if len(similarities) > top:
        last = np.partition(similarities, len(similarities) - top)[len(similarities) - top]
        best = similarities >= last
        slots, similarities = slots[best], similarities[best]
    order = np.argsort(-similarities, kind="stable")
    return slots[order], similarities[order]


def _promising(
    matrix: NDArray[np.float32],
    query: NDArray[np.float32],
    eligible: NDArray[np.bool_],
    top: int,
    starts: Iterator[int],
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Slots and float32 products of the rows in some chunks that could be among their best."""
    margin = rounding(matrix.shape[1])
    slots: NDArray[np.intp] = np.empty(0, dtype=np.intp)
    values: NDArray[np.float32] = np.empty(0, dtype=np.float32)
    for start in starts:
        chosen = np.flatnonzero(eligible[start : start + CHUNK_ROWS])
        if not len(chosen):
            continue
        chunk = matrix[start : start + CHUNK_ROWS]
        if len(chosen) * FEW < len(chunk):
            found = _products(chunk[chosen], query)
        else:
            found = _products(chunk, query)
            found = found if len(chosen) == len(chunk) else found[chosen]
        slots, values = _kept(
            np.concatenate([slots, chosen + start]), np.concatenate([values, found]), top, margin
        )
    return slots, values


def _products(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    # Not `rows @ query`: BLAS's threads spin while they wait for one another, and on a machine with
    # busy cores that took five times the processor time (docs/memory.md). Row by row it stays in
    # the caller's thread, without the interpreter's lock, and reads memory nearly as fast.
    products: NDArray[np.float32] = np.vecdot(rows, query)
    return products


def _kept(
    slots: NDArray[np.intp], values: NDArray[np.float32], top: int, margin: float
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    if len(values) <= top:
        return slots, values
    kept = values >= _least(values, top) - margin
    return slots[kept], values[kept]


def _least(values: NDArray[np.float32], top: int) -> np.float32:
    """The ``top``-th best of at least as many."""
    place = len(values) - top
    least: np.float32 = np.partition(values, place)[place]
    return least


def checksum(row: NDArray[np.float32]) -> int:
    """CRC-32 of a row's bytes, little endian."""
    return crc32(np.ascontiguousarray(row, dtype="<f4").data)


class Matrix:
    """The mapped file of one embedder's vectors."""

    def __init__(self, path: Path, *, name: str, dim: int) -> None:
        """Name it; nothing is opened before it is asked for."""
        self.path = path
        self.dim = dim
        self._header = struct.pack(
            _HEADER, _MAGIC, dim, hashlib.sha256(name.encode()).digest()[:16]
        )
        self._inode = -1
        self._rows: NDArray[np.float32] = np.empty((0, dim), dtype=np.float32)

    def rows(self, count: int) -> NDArray[np.float32]:
        """The first ``count`` rows that are there, read only; fewer if the file is too short.

        None at all if there is no file, or if it is not this embedder's. Raises ``MemoryFailed``.
        """
        try:
            size, inode = self._stat()
            in_file = (size - HEADER_BYTES) // (self.dim * 4) if size else 0
            # A mapping of a file that was cut kills the process that touches what is gone.
            if in_file < len(self._rows) or inode != self._inode:
                self._rows = self._rows[:0]
            if len(self._rows) < min(count, in_file):
                self._map()
        except OSError as error:
            raise self._failed(error, "read") from error
        return self._rows[:count]

    def write(self, slots: Iterable[int], vectors: NDArray[np.float32]) -> None:
        """Write rows durably. For the one writer the database lets in. Raises ``MemoryFailed``."""
        try:
            fd = self._open_for_writing()
            try:
                for slot, row in zip(slots, vectors, strict=True):
                    rest = memoryview(np.ascontiguousarray(row, dtype="<f4").tobytes())
                    place = HEADER_BYTES + slot * self.dim * 4
                    while rest:
                        written = os.pwrite(fd, rest, place)
                        rest, place = rest[written:], place + written
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._failed(error, "write") from error

    def close(self) -> None:
        """Let go of the mapping."""
        self._rows = self._rows[:0].copy()
        self._inode = -1

    def _stat(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return 0, -1
        return (found.st_size, found.st_ino) if found.st_size >= HEADER_BYTES else (0, -1)

    def _map(self) -> None:
        with self.path.open("rb") as file:
            header = file.read(len(self._header))
            if header != self._header:
                return
            whole = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            self._inode = os.fstat(file.fileno()).st_ino
        count = (len(whole) - HEADER_BYTES) // (self.dim * 4)
        rows = np.frombuffer(whole, dtype="<f4", count=count * self.dim, offset=HEADER_BYTES)
        self._rows = rows.reshape(count, self.dim)

    def _open_for_writing(self) -> int:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._fresh()
        if os.pread(fd, len(self._header), 0) == self._header:
            return fd
        os.close(fd)
        return self._fresh()

    def _fresh(self) -> int:
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}.new")
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, self._header.ljust(HEADER_BYTES, b"\0"), 0)
            os.fsync(fd)
            draft.replace(self.path)
        except OSError:
            os.close(fd)
            draft.unlink(missing_ok=True)
            raise
        return fd

    def _failed(self, error: OSError, doing: str) -> MemoryFailed:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            cure = "the disk is full; free space on it, then try again: nothing was lost"
        elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            cure = "make it and its directory writable for the user who runs the fleet"
        else:
            cure = "check the path and the disk's health (dmesg); the file may be removed, it is"
            cure += " made again from the rows"
        return MemoryFailed(f"cannot {doing} {self.path}: {error.strerror}; {cure}")
