"""The embedded retrieval memory: rows in SQLite, vectors in a mapped matrix, exact search.

``memory.db`` (WAL, synchronous=FULL, 0600) is the truth; ``add`` writes vectors first, durably, and
then the rows in one transaction, so a row that is there has its vector. What the matrix lacks, or
holds with a wrong CRC, is written again from the embedding cache before it is searched. Any number
of processes may search while one adds; of two that add, one waits. Any thread may call, one at a
time does. Each search sees the rows of one moment: those known before ``before_ns``, nothing else,
and that is decided before the best are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from fleet.clock import Clock, LiveClock
from fleet.forecasting import memory_schema as schema
from fleet.forecasting.embedding_cache import CachedEmbedder
from fleet.forecasting.memory_file import MemoryFile
from fleet.forecasting.memory_rows import KINDS, Row, bounded, item_of, rows_of
from fleet.forecasting.port import Item, Kind, MemoryFailed, Neighbour
from fleet.forecasting.vectors import Matrix, checksum, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE_NAME: Final = "memory.db"
CACHE_NAME: Final = "embeddings.db"
NOBODY: Final = -1
FILL_BATCH: Final = 256
TRIES: Final = 5
"""Searches begun again because rows came or went whose vectors this process had to make."""


@dataclass(slots=True)
class _Index:
    """What a search needs of every slot, (n,) each: its kind's number, when known, its CRC."""

    kind: NDArray[np.int8]
    known: NDArray[np.int64]
    crc: NDArray[np.int64]
    count: int = 0
    seq: int = 0

    @classmethod
    def empty(cls) -> _Index:
        """Of no slot."""
        return cls(
            kind=np.empty(0, np.int8), known=np.empty(0, np.int64), crc=np.empty(0, np.int64)
        )

    def hold(self, slot: int) -> None:
        """Make room for a slot."""
        if slot >= len(self.kind):
            more = max(slot + 1, 2 * len(self.kind), 1_024) - len(self.kind)
            self.kind = np.concatenate([self.kind, np.full(more, NOBODY, np.int8)])
            self.known = np.concatenate([self.known, np.zeros(more, np.int64)])
            self.crc = np.concatenate([self.crc, np.zeros(more, np.int64)])
        self.count = max(self.count, slot + 1)


class EmbeddedMemory:
    """``Memory`` in a directory. ``embedder`` is closed with it."""

    def __init__(
        self, directory: Path, embedder: CachedEmbedder, *, clock: Clock | None = None
    ) -> None:
        """Open it, made if there is none; damage of the matrix is repaired.

        Raises ``MemoryFailed``.
        """
        self.directory = directory
        self.embedder = embedder
        self._clock = clock or LiveClock()
        self._file = MemoryFile(directory / FILE_NAME, schema.KIND)
        self._matrix = Matrix(
            directory / matrix_name(embedder.name), name=embedder.name, dim=embedder.dim
        )
        self._index = _Index.empty()
        self._helper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="memory")
        try:
            self._catch_up()
        except MemoryFailed:
            self.close()
            raise

    def close(self) -> None:
        """Close files and cache; closing twice is harmless."""
        with self._file.lock:
            self._helper.shutdown()
            self._matrix.close()
            self._file.close()
            self.embedder.close()

    def __enter__(self) -> Self:
        """Use it for a while."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def count(self) -> Mapping[Kind, int]:
        """Rows of each kind. Raises ``MemoryFailed``."""
        found = dict(self._file.rows("SELECT kind, count(*) FROM item GROUP BY kind"))
        return {kind: int(found.get(kind.value, 0)) for kind in Kind}

    def get(self, kind: Kind, item_id: str) -> Item | None:
        """One row. Raises ``MemoryFailed``."""
        found = self._file.rows(schema.BY_ID, (kind.value, item_id))
        return item_of(found[0]) if found else None

    def items(self, kind: Kind | None = None) -> Sequence[Item]:
        """Every row (of a kind), by ``known_ns`` and id. Raises ``MemoryFailed``."""
        if kind is None:
            return [item_of(columns) for columns in self._file.rows(schema.ALL)]
        return [item_of(columns) for columns in self._file.rows(schema.ALL_OF, (kind.value,))]

    # --- adding ---------------------------------------------------------------------------------

    def add(self, items: Sequence[Item]) -> int:
        """Add or replace rows, all or none, durable on return; how many were new.

        Raises ``MemoryFailed``.
        """
        rows = rows_of(items)
        if not rows:
            return 0
        vectors = self.embedder.embed([row.text for row in rows])
        with self._file.change("add to"):
            return self._put(rows, vectors)

    def _put(self, rows: Sequence[Row], vectors: NDArray[np.float32]) -> int:
        db = self._file.db
        seq: int = db.execute(schema.NEXT_SEQ).fetchone()[0]
        free = self._free_slots(len(rows))
        written: list[tuple[int, int]] = []
        fresh = 0
        for place, row in enumerate(rows):
            old = db.execute(schema.SLOT_BY_ID, (row.kind, row.id)).fetchone()
            if old is not None and Row(*old[1:]) == row:
                continue
            fresh += old is None
            if old is not None and Row(*old[1:]).text_hash == row.text_hash:
                slot = old[0]
                db.execute("DELETE FROM item WHERE slot = ?", (slot,))
            else:
                slot = free.pop()
                db.execute("DELETE FROM retired WHERE slot = ?", (slot,))
                if old is not None:
                    self._retire(old[0], seq)
                written.append((slot, place))
            db.execute(schema.PUT, (slot, seq, *row))
        if written:
            places = [place for _, place in written]
            self._matrix.write((slot for slot, _ in written), vectors[places])
            db.executemany(
                schema.PUT_VECTOR,
                [(self.embedder.name, slot, checksum(vectors[place])) for slot, place in written],
            )
        return fresh

    def _retire(self, slot: int, seq: int) -> None:
        db = self._file.db
        db.execute("DELETE FROM item WHERE slot = ?", (slot,))
        db.execute("DELETE FROM vector WHERE slot = ?", (slot,))
        db.execute("INSERT INTO retired VALUES (?, ?, ?)", (slot, seq, self._clock.now_ns()))

    def _free_slots(self, count: int) -> list[int]:
        """Slots to pop: first those that have rested long enough, then those never used."""
        db = self._file.db
        before = self._clock.now_ns() - schema.QUARANTINE_NS
        rested = [slot for (slot,) in db.execute(schema.RESTED, (before, count))]
        following: int = db.execute(schema.NEXT_SLOT).fetchone()[0]
        unused = range(following, following + count - len(rested))
        return [*reversed(unused), *reversed(rested)]

    # --- searching ------------------------------------------------------------------------------

    def search(
        self,
        text: str,
        *,
        before_ns: int,
        top: int = 3,
        kinds: Sequence[Kind] = (),
        exclude: Sequence[str] = (),
    ) -> Sequence[Neighbour]:
        """The ``top`` rows nearest in meaning with ``known_ns < before_ns``, best first.

        Of equally near ones the smaller id comes first. Raises ``MemoryFailed``.
        """
        if top <= 0:
            return []
        query = self.embedder.embed([text])[0]
        wanted = [KINDS.index(kind) for kind in (kinds or KINDS)]
        with self._file.lock:
            for _ in range(TRIES):
                with self._file.view():
                    lacking = self._refresh()
                    if not lacking:
                        found = self._nearest(query, bounded(before_ns), top, wanted, exclude)
                        if found is not None:
                            return found
                        lacking = self._broken(range(self._index.count))
                self._fill(lacking)
        raise MemoryFailed(
            f"{self._matrix.path} keeps changing under the search; find who writes it with: fuser"
            f" {self._matrix.path}"
        )

    def _nearest(
        self,
        query: NDArray[np.float32],
        before_ns: int,
        top: int,
        kinds: Sequence[int],
        exclude: Sequence[str],
    ) -> list[Neighbour] | None:
        """The best of the index's moment; ``None`` if one of them has another vector by now."""
        index = self._index
        kind = index.kind[: index.count]
        eligible = index.known[: index.count] < before_ns
        eligible &= np.isin(kind, kinds) if len(kinds) < len(KINDS) else kind != NOBODY
        for item_id in exclude:
            for name in KINDS:
                for (slot,) in self._file.rows(
                    "SELECT slot FROM item WHERE kind = ? AND id = ?", (name.value, item_id)
                ):
                    eligible[slot] = False
        matrix = self._matrix.rows(index.count)
        if len(matrix) < index.count:
            return None
        slots, similarities = nearest(matrix, query, eligible, top, self._helper)
        ranked = sorted(
            (-similarity, *self._file.rows("SELECT id, kind FROM item WHERE slot = ?", (slot,))[0],
             slot)
            for slot, similarity in zip(slots.tolist(), similarities.tolist(), strict=True)
        )[:top]  # fmt: skip
        if self._broken([slot for *_, slot in ranked]):
            return None
        return [
            Neighbour(item_of(self._file.rows(schema.BY_SLOT, (slot,))[0]), -negative)
            for negative, _, _, slot in ranked
        ]

    # --- the index and the matrix ----------------------------------------------------------------

    def _catch_up(self) -> None:
        """Read what changed and make good what the matrix lacks."""
        with self._file.lock:
            for _ in range(TRIES):
                with self._file.view():
                    lacking = self._refresh()
                if not lacking:
                    return
                self._fill(lacking)

    def _refresh(self) -> list[int]:
        """Take in all changes since the last look; slots whose vector is missing or wrong.

        If there are any, the changes are looked at again next time.
        """
        index = self._index
        last = index.seq
        seen = last
        for slot, seq in self._file.rows(schema.GONE, (last,)):
            index.hold(slot)
            index.kind[slot] = NOBODY
            seen = max(seen, seq)
        changed = []
        lacking = []
        numbers = {kind.value: number for number, kind in enumerate(KINDS)}
        for slot, kind, known, crc, seq in self._file.rows(
            schema.CHANGED, (self.embedder.name, last)
        ):
            index.hold(slot)
            index.kind[slot] = numbers[kind]
            index.known[slot] = known
            if crc is None:
                lacking.append(slot)
            else:
                index.crc[slot] = crc
                changed.append(slot)
            seen = max(seen, seq)
        lacking += self._broken(changed)
        if not lacking:
            index.seq = seen
        return lacking

    def _broken(self, slots: Sequence[int]) -> list[int]:
        """Those of the slots whose row in the matrix is not what the database says."""
        index = self._index
        matrix = self._matrix.rows(index.count)
        return [
            slot
            for slot in slots
            if index.kind[slot] != NOBODY
            and (slot >= len(matrix) or checksum(matrix[slot]) != index.crc[slot])
        ]

    def _fill(self, slots: Sequence[int]) -> None:
        """Write the vectors of slots again, from the cache or else from the texts."""
        for start in range(0, len(slots), FILL_BATCH):
            part = slots[start : start + FILL_BATCH]
            texts: dict[int, tuple[bytes, str]] = {}
            for slot in part:
                for text_hash, text in self._file.rows(
                    "SELECT text_hash, text FROM item WHERE slot = ?", (slot,)
                ):
                    texts[slot] = (text_hash, text)
            vectors = self.embedder.embed([text for _, text in texts.values()])
            with self._file.change("repair"):
                # Only what still is the same text: another process may have moved the item.
                same = [
                    (place, slot)
                    for place, (slot, (text_hash, _)) in enumerate(texts.items())
                    if self._file.rows(
                        "SELECT 1 FROM item WHERE slot = ? AND text_hash = ?", (slot, text_hash)
                    )
                ]
                if same:
                    kept = vectors[[place for place, _ in same]]
                    self._matrix.write([slot for _, slot in same], kept)
                    self._file.db.executemany(
                        schema.PUT_VECTOR,
                        [
                            (self.embedder.name, slot, checksum(row))
                            for (_, slot), row in zip(same, kept, strict=True)
                        ],
                    )


def matrix_name(embedder: str) -> str:
    """The file of an embedder's vectors: readable, and different for different names."""
    readable = re.sub(r"[^a-z0-9]+", "-", embedder.lower()).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(embedder.encode()).hexdigest()[:8]}.vectors"
