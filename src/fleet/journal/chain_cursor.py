"""How far a bot has read the chain: its safe block, the newest blocks' hashes, what it told.

One small file a bot, mode and market place, one writer. It holds nothing that could not be read
from the chain again, but without it a restart would begin at the head and lose what happened in
between, and could not take back what a reorganisation undid meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fleet.journal.record_file import Kind, RecordFile

CHAIN_CURSOR: Final = Kind(
    application_id=0x464C4343,  # FLCC
    version=1,
    ddl="""
CREATE TABLE safe(one INTEGER PRIMARY KEY CHECK (one = 1), block INTEGER NOT NULL) STRICT;
CREATE TABLE block(
    number INTEGER PRIMARY KEY,
    hash TEXT NOT NULL,
    parent TEXT NOT NULL,
    time_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE sighting(
    id TEXT PRIMARY KEY,
    wallet TEXT NOT NULL,
    block INTEGER NOT NULL,
    block_hash TEXT NOT NULL,
    digest TEXT NOT NULL
) STRICT, WITHOUT ROWID;
""",
)
Row = tuple[int, str, str, int]
Sighting = tuple[str, str, int, str, str]


class ChainCursor(RecordFile):
    """The open file. Every method raises ``JournalError``."""

    def __init__(self, path: Path, *, bot: str, mode: str, feed: str) -> None:
        """Open it for its owner, making it if there is none."""
        super().__init__(path, CHAIN_CURSOR, {"bot": bot, "mode": mode, "feed": feed})

    def load(self) -> tuple[int, Sequence[Row], Sequence[Sighting]] | None:
        """Safe block, blocks oldest first, sightings; ``None`` if nothing was ever saved."""
        safe = self.rows("SELECT block FROM safe")
        if not safe:
            return None
        blocks = self.rows("SELECT number, hash, parent, time_ns FROM block ORDER BY number")
        sightings = self.rows(
            "SELECT id, wallet, block, block_hash, digest FROM sighting ORDER BY block, id"
        )
        return int(safe[0][0]), [tuple(row) for row in blocks], [tuple(row) for row in sightings]

    def save(
        self, safe: int, blocks: Sequence[Row], changed: Mapping[str, Sighting | None]
    ) -> None:
        """Replace safe block and blocks, and put or remove sightings, all or nothing."""
        with self.transaction("record the chain's progress in"):
            self.db.execute("INSERT OR REPLACE INTO safe VALUES (1, ?)", (safe,))
            self.db.execute("DELETE FROM block")
            self.db.executemany("INSERT INTO block VALUES (?, ?, ?, ?)", blocks)
            self.db.executemany(
                "DELETE FROM sighting WHERE id = ?",
                [(name,) for name, told in changed.items() if told is None],
            )
            self.db.executemany(
                "INSERT OR REPLACE INTO sighting VALUES (?, ?, ?, ?, ?)",
                [told for told in changed.values() if told is not None],
            )
