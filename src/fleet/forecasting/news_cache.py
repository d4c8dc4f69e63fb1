"""What news sources answered and how often they were asked: durable, shared by processes.

A restart neither forgets the day's requests nor asks again what it knows. Answers are kept for a
week; how old one may be is for its user to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from fleet.clock import NS_PER_DAY
from fleet.forecasting.ledger_file import FileKind, LedgerFile
from fleet.forecasting.port import Evidence

KEPT_NS: Final = 7 * NS_PER_DAY

KIND: Final = FileKind(
    application_id=0x464C4E57,  # FLNW
    version=1,
    ddl="""
CREATE TABLE answer(
    key TEXT PRIMARY KEY,
    fetched_ns INTEGER NOT NULL,
    etag TEXT NOT NULL,
    modified TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE request(
    source TEXT NOT NULL,
    day INTEGER NOT NULL,
    made INTEGER NOT NULL,
    PRIMARY KEY (source, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE pause(source TEXT PRIMARY KEY, until_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID;
""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """An earlier answer. ``etag`` and ``modified`` are the server's own words, to ask again by."""

    fetched_ns: int
    articles: Sequence[Evidence]
    etag: str = ""
    modified: str = ""


class NewsCache(LedgerFile):
    """The file ``news.sqlite``; every method raises ``JournalError``."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet; the thread that first uses it owns it."""
        super().__init__(path, KIND)

    def answer(self, key: str) -> Cached | None:
        """What was answered last."""
        found = self.rows("SELECT fetched_ns, etag, modified, body FROM answer WHERE key = ?", key)
        if not found:
            return None
        fetched_ns, etag, modified, body = found[0]
        articles = msgspec.json.decode(body, type=list[Evidence])
        return Cached(fetched_ns=fetched_ns, articles=articles, etag=etag, modified=modified)

    def keep(self, key: str, cached: Cached) -> None:
        """Keep an answer in place of the one before; those of a week ago go."""
        with self.transaction("keep news"):
            self.change(
                "INSERT OR REPLACE INTO answer(key, fetched_ns, etag, modified, body)"
                " VALUES (?, ?, ?, ?, ?)",
                key, cached.fetched_ns, cached.etag, cached.modified,
                msgspec.json.encode(list(cached.articles)),
            )  # fmt: skip
            self.change("DELETE FROM answer WHERE fetched_ns < ?", cached.fetched_ns - KEPT_NS)

    def take(self, source: str, now_ns: int, *, day_max: int) -> str:
        """Count one request of the UTC day, before it is made; or in words why none may be."""
        day = now_ns // NS_PER_DAY
        with self.transaction("count a request"):
            paused = self.rows("SELECT until_ns FROM pause WHERE source = ?", source)
            if paused and now_ns < paused[0][0]:
                return f"{source} asked to wait for {(paused[0][0] - now_ns) // 10**9} s more"
            if self.requests(source, now_ns) >= day_max:
                return f"{source} was asked {day_max} times today; it is asked again tomorrow (UTC)"
            self.change(
                "INSERT INTO request(source, day, made) VALUES (?, ?, 1)"
                " ON CONFLICT(source, day) DO UPDATE SET made = made + 1",
                source, day,
            )  # fmt: skip
        return ""

    def requests(self, source: str, now_ns: int) -> int:
        """How often it was asked in the UTC day of ``now_ns``."""
        query = "SELECT made FROM request WHERE source = ? AND day = ?"
        found = self.rows(query, source, now_ns // NS_PER_DAY)
        return int(found[0][0]) if found else 0

    def pause(self, source: str, until_ns: int) -> None:
        """Do not ask it before a moment."""
        with self.transaction("pause"):
            self.change(
                "INSERT OR REPLACE INTO pause(source, until_ns) VALUES (?, ?)", source, until_ns
            )
