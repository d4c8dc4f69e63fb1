"""Sampled tops of books, kept so that a restarted bot need not begin its statistics anew.

One file a bot and market place, one writer. A sample is a moment: the best bid and ask of YES of
every market that had both, and the prices of underlyings. It is market data, not the journal: what
is lost here costs only patience. Rows older than ``KEEP_NS``, and beyond ``ROWS_MAX``, are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from fleet.clock import NS_PER_DAY
from fleet.domain.instruments import MarketId
from fleet.domain.market import PricesSampled
from fleet.domain.units import Price
from fleet.journal.record_file import Kind, RecordFile

KEEP_NS: Final = 7 * NS_PER_DAY
ROWS_MAX: Final = 5_000
PRICES: Final = Kind(
    application_id=0x464C5052,  # FLPR
    version=1,
    ddl="""
CREATE TABLE market(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE sample(
    ts_ns INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;
""",
)
_Body = tuple[list[tuple[int, int, int]], list[tuple[str, int]]]


class PriceHistory(RecordFile):
    """The samples of one bot on one market place."""

    def __init__(self, path: Path, *, bot: str, feed: str, read_only: bool = False) -> None:
        """Open it, or make it. Raises ``JournalError``."""
        super().__init__(path, PRICES, {"bot": bot, "feed": feed}, read_only=read_only)
        self._numbers = {MarketId(str(i)): int(n) for n, i in self.rows("SELECT * FROM market")}

    def add(self, sample: PricesSampled) -> None:
        """Keep one moment; the same moment again replaces it. Raises ``JournalError``."""
        with self.transaction("write prices to"):
            numbers = dict(self._numbers)
            for market_id, _, _ in sample.quotes:
                if market_id not in numbers:
                    number = len(numbers) + 1
                    self.db.execute("INSERT INTO market VALUES (?, ?)", (number, market_id))
                    numbers[market_id] = number
            quotes = [(numbers[name], int(bid), int(ask)) for name, bid, ask in sample.quotes]
            body: _Body = (quotes, list(sample.references))
            self.db.execute(
                "INSERT OR REPLACE INTO sample VALUES (?, ?)",
                (sample.ts_event, msgspec.msgpack.encode(body)),
            )
            self.db.execute("DELETE FROM sample WHERE ts_ns < ?", (sample.ts_event - KEEP_NS,))
            self.db.execute(
                "DELETE FROM sample WHERE ts_ns <= "
                "(SELECT ts_ns FROM sample ORDER BY ts_ns DESC LIMIT 1 OFFSET ?)",
                (ROWS_MAX,),
            )
        self._numbers = numbers

    def newest(self, limit: int) -> Sequence[PricesSampled]:
        """The newest ``limit`` moments, oldest first. Raises ``JournalError``."""
        names = {number: market_id for market_id, number in self._numbers.items()}
        rows = self.rows("SELECT ts_ns, body FROM sample ORDER BY ts_ns DESC LIMIT ?", limit)
        samples = []
        for ts_ns, blob in reversed(rows):
            quotes, references = msgspec.msgpack.decode(blob, type=_Body)
            samples.append(
                PricesSampled(
                    ts_event=ts_ns,
                    ts_recv=ts_ns,
                    quotes=tuple((names[n], Price(bid), Price(ask)) for n, bid, ask in quotes),
                    references=tuple(references),
                )
            )
        return samples
