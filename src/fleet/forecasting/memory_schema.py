"""The tables of the embedded memory, and of every vector the statements that use them.

``item`` is the truth. ``slot`` is an item's place in the matrices of all embedders; an item whose
text changes moves to another slot, so that a process which is searching never sees a vector change
under it. The slot it left is ``retired`` and used again after a while. ``vector`` says of which
slots an embedder's matrix holds the vector, with its CRC-32. ``seq`` grows with every change: a
process reads what is above the last it saw.
"""

from __future__ import annotations

from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.forecasting.memory_file import MemoryKind

QUARANTINE_NS: Final = 600 * NS_PER_SECOND
"""How long a retired slot rests. A search takes milliseconds."""

KIND: Final = MemoryKind(
    application_id=0x464C4D59,  # FLMY
    ddl="""
CREATE TABLE item(
    slot INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('RESOLVED', 'FORECAST', 'NEWS')),
    id TEXT NOT NULL,
    text TEXT NOT NULL,
    text_hash BLOB NOT NULL,
    known_ns INTEGER NOT NULL,
    category TEXT NOT NULL,
    source TEXT NOT NULL,
    outcome REAL,
    price REAL,
    facts TEXT NOT NULL,
    UNIQUE (kind, id)
) STRICT;
CREATE INDEX item_seq ON item(seq);
CREATE TABLE retired(
    slot INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    at_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX retired_seq ON retired(seq);
CREATE TABLE vector(
    embedder TEXT NOT NULL,
    slot INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (embedder, slot)
) STRICT, WITHOUT ROWID;
""",
)

NEXT_SEQ: Final = """
SELECT 1 + max(coalesce((SELECT max(seq) FROM item), 0),
               coalesce((SELECT max(seq) FROM retired), 0))
"""
NEXT_SLOT: Final = """
SELECT 1 + max(coalesce((SELECT max(slot) FROM item), -1),
               coalesce((SELECT max(slot) FROM retired), -1))
"""
RESTED: Final = "SELECT slot FROM retired WHERE at_ns < ? ORDER BY slot LIMIT ?"
CHANGED: Final = """
SELECT i.slot, i.kind, i.known_ns, v.crc, i.seq FROM item i
LEFT JOIN vector v ON v.embedder = ? AND v.slot = i.slot
WHERE i.seq > ?
"""
GONE: Final = "SELECT slot, seq FROM retired WHERE seq > ?"
BY_SLOT: Final = """
SELECT kind, id, text, text_hash, known_ns, category, source, outcome, price, facts
FROM item WHERE slot = ?
"""
BY_ID: Final = """
SELECT kind, id, text, text_hash, known_ns, category, source, outcome, price, facts
FROM item WHERE kind = ? AND id = ?
"""
SLOT_BY_ID: Final = """
SELECT slot, kind, id, text, text_hash, known_ns, category, source, outcome, price, facts
FROM item WHERE kind = ? AND id = ?
"""
ALL: Final = """
SELECT kind, id, text, text_hash, known_ns, category, source, outcome, price, facts
FROM item ORDER BY known_ns, id, kind
"""
ALL_OF: Final = """
SELECT kind, id, text, text_hash, known_ns, category, source, outcome, price, facts
FROM item WHERE kind = ? ORDER BY known_ns, id
"""
PUT: Final = """
INSERT INTO item(slot, seq, kind, id, text, text_hash, known_ns, category, source, outcome, price,
                 facts)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
PUT_VECTOR: Final = "INSERT OR REPLACE INTO vector(embedder, slot, crc) VALUES (?, ?, ?)"
