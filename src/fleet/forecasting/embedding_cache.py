"""Nothing is embedded twice: vectors kept by embedder and SHA-256 of the text, in SQLite.

Shared by all processes of the fleet, and the place from which a lost or torn matrix is made again
without asking a paid endpoint. Of two processes that miss the same text at once, one embeds it and
the other waits and finds it (a lock file, let go between batches). Not bounded: a row of 384 floats
is 2.2 kB, a thousand new texts a day are 0.8 GB a year, ``fleet memory stats`` shows the size, and
a file that is removed is made again. Commits reach the disk with SQLite's own checkpoints
(synchronous=NORMAL): a power cut may lose the last of them, which only costs embedding them again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fleet.forecasting.memory_file import MemoryFile, MemoryKind
from fleet.forecasting.port import Embedder, MemoryFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

KIND: Final = MemoryKind(
    application_id=0x464C4543,  # FLEC
    ddl="""
CREATE TABLE embedding(
    embedder TEXT NOT NULL,
    text_hash BLOB NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (embedder, text_hash)
) STRICT;
CREATE TABLE asked(
    embedder TEXT PRIMARY KEY,
    hits INTEGER NOT NULL,
    misses INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
""",
    checked=False,  # Of hundreds of megabytes, and every vector of it can be made again.
    damaged="remove it, its -wal and -shm files: it is made again from the texts",
)
BATCH: Final = 256
"""Texts between two chances for another process."""
LOCK_WAIT_S: Final = 300.0
"""Longer than one batch of a slow endpoint with all its retries."""
LOCK_POLL_S: Final = 0.01


def text_hash(text: str) -> bytes:
    """What a text is known by; a lone surrogate counts as the replacement character."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


class CachedEmbedder:
    """An ``Embedder`` that asks the one inside only for what no process has asked before.

    ``hits`` and ``misses`` count texts since it was opened, ``totals`` those of all processes;
    what was found is written there when something is embedded or the cache is closed. Any thread
    may use it.
    """

    def __init__(self, inner: Embedder, path: Path) -> None:
        """Open the cache at ``path``, made if there is none. Raises ``MemoryFailed``."""
        self.inner = inner
        self.name = inner.name
        self.dim = inner.dim
        self.path = path
        self.hits = 0
        self.misses = 0
        self._told = (0, 0)
        self._file = MemoryFile(path, KIND)
        try:
            self._file.db.execute("PRAGMA synchronous=NORMAL")
            self._lock = os.open(
                path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            self._file.close()
            raise MemoryFailed(
                f"cannot open {path.with_suffix('.lock')}: {error.strerror}; make its directory"
                " writable for the user who runs the fleet"
            ) from error

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), dim) float32, rows of length 1. Raises ``MemoryFailed``."""
        with self._file.lock:
            return self._embed(texts)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        hashes = [text_hash(text) for text in texts]
        rows = np.empty((len(texts), self.dim), dtype=np.float32)
        wanted = dict(zip(hashes, texts, strict=True))
        for start in range(0, len(wanted), BATCH):
            part = list(wanted)[start : start + BATCH]
            found = self._find(part)
            missing = [one for one in part if one not in found]
            if missing:
                found |= self._make(missing, wanted)
            for place, one in enumerate(hashes):
                if one in found:
                    rows[place] = found[one]
        return rows

    def size(self) -> tuple[int, int]:
        """Vectors of this embedder, and bytes of the whole file. Raises ``MemoryFailed``."""
        found = self._file.rows("SELECT count(*) FROM embedding WHERE embedder = ?", [self.name])
        return int(found[0][0]), self.path.stat().st_size

    def totals(self) -> tuple[int, int]:
        """Texts found and texts embedded, ever, under this name. Raises ``MemoryFailed``."""
        with self._file.lock:
            found = self._file.rows(
                "SELECT hits, misses FROM asked WHERE embedder = ?", [self.name]
            )
            hits, misses = found[0] if found else (0, 0)
            return hits + self.hits - self._told[0], misses + self.misses - self._told[1]

    def close(self) -> None:
        """Let go of the files; closing twice is harmless."""
        with self._file.lock:
            if self._lock >= 0 and (self.hits, self.misses) != self._told:
                # Counts are not worth a failure at the end.
                with suppress(MemoryFailed), self._file.change("count in"):
                    self._tell()
        self._file.close()
        close = getattr(self.inner, "close", None)
        if close is not None:
            close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _find(self, hashes: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        found: dict[bytes, NDArray[np.float32]] = {}
        for key in hashes:
            for (blob,) in self._file.rows(
                "SELECT vector FROM embedding WHERE embedder = ? AND text_hash = ?",
                (self.name, key),
            ):
                if len(blob) == 4 * self.dim:  # Else it is made again.
                    found[key] = np.frombuffer(blob, dtype="<f4")
        self.hits += len(found)
        return found

    def _make(
        self, hashes: Sequence[bytes], texts: dict[bytes, str]
    ) -> dict[bytes, NDArray[np.float32]]:
        with self._alone():
            found = self._find(hashes)  # Another process may have been first.
            missing = [one for one in hashes if one not in found]
            if not missing:
                return found
            vectors = self.inner.embed([texts[one] for one in missing])
            self.misses += len(missing)
            with self._file.change("keep vectors in"):
                self._file.db.executemany(
                    "INSERT OR REPLACE INTO embedding VALUES (?, ?, ?)",
                    [
                        (self.name, one, row.astype("<f4").tobytes())
                        for one, row in zip(missing, vectors, strict=True)
                    ],
                )
                self._tell()
        return found | dict(zip(missing, vectors, strict=True))

    def _tell(self) -> None:
        """Add what was counted since the last time, inside a transaction."""
        self._file.db.execute(
            "INSERT INTO asked VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
            " hits = hits + excluded.hits, misses = misses + excluded.misses",
            (self.name, self.hits - self._told[0], self.misses - self._told[1]),
        )
        self._told = (self.hits, self.misses)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise MemoryFailed(
                        f"another process has been embedding for {LOCK_WAIT_S:.0f} s; find it with:"
                        f" fuser {self.path.with_suffix('.lock')}"
                    ) from error
                time.sleep(LOCK_POLL_S)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
