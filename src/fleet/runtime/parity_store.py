"""One row for every order that takes: what it filled, and what the live quotes would have filled.

A file of its own per bot, mode and market, so that paper and live, sandbox and venue are never
judged together. Its one writer is the bot that trades; readers open it read-only. Money is cash at
1e-8, quantities are shares at 1e-8, times nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.domain.commands import BundleId, ClientOrderId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import Cash, Price, Qty
from fleet.journal.record_file import Kind, RecordFile

PARITY: Final = Kind(
    application_id=0x464C5041,  # FLPA
    version=1,
    ddl="""
CREATE TABLE shadow(
    order_id TEXT PRIMARY KEY,
    bundle_id TEXT NOT NULL,
    day TEXT NOT NULL,
    sent_ns INTEGER NOT NULL,
    latency_ns INTEGER NOT NULL,
    lag_ns INTEGER NOT NULL,
    instrument TEXT NOT NULL,
    side TEXT NOT NULL,
    price INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    qty INTEGER NOT NULL,
    fill_qty INTEGER NOT NULL,
    fill_cash INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    quote_qty INTEGER,
    quote_cash INTEGER,
    firm_qty INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX shadow_by_day ON shadow(day);
""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """One order beside its shadow.

    ``quote_*`` are what the live quotes at its arrival would have filled within its limit, nothing
    where no usable book was there. ``firm_qty`` is how much of that was still there, or had been
    traded by others, when the watch ended; nothing where that is not known. ``ended`` says that the
    order's own end is known.
    """

    order_id: ClientOrderId
    bundle_id: BundleId
    sent_ns: int
    latency_ns: int
    lag_ns: int
    instrument_id: InstrumentId
    side: Side
    price: Price
    tick: Price
    qty: Qty
    fill_qty: Qty
    fill_cash: Cash
    ended: bool
    quote_qty: Qty | None
    quote_cash: Cash | None
    firm_qty: Qty | None

    @property
    def day(self) -> str:
        """The UTC day it was sent, ``YYYY-MM-DD``."""
        return utc_day(self.sent_ns)


def utc_day(time_ns: int) -> str:
    """The UTC day of a time, ``YYYY-MM-DD``."""
    return datetime.fromtimestamp(time_ns // NS_PER_SECOND, UTC).date().isoformat()


def owner(bot: str, mode: str, feed: str) -> Mapping[str, str]:
    """Whose file it is."""
    return {"bot": bot, "mode": mode, "feed": feed}


class ParityStore(RecordFile):
    """An open parity file. Every method raises ``JournalError`` if it cannot be read or written."""

    def __init__(
        self, path: Path, *, bot: str, mode: str, feed: str, read_only: bool = False
    ) -> None:
        """Open the file of ``bot`` in ``mode`` on ``feed``, making it if there is none."""
        super().__init__(path, PARITY, owner(bot, mode, feed), read_only=read_only)

    def write(self, shadows: Sequence[Shadow]) -> None:
        """Append them, durably; one that is there already stays as it is."""
        with self.transaction("write a shadow to"):
            self.db.executemany(
                "INSERT OR IGNORE INTO shadow VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                [
                    (s.order_id, s.bundle_id, s.day, s.sent_ns, s.latency_ns, s.lag_ns,
                     s.instrument_id, s.side.value, s.price, s.tick, s.qty, s.fill_qty,
                     s.fill_cash, int(s.ended), s.quote_qty, s.quote_cash, s.firm_qty)
                    for s in shadows
                ],
            )  # fmt: skip

    def reverse(self, reversals: Iterable[tuple[ClientOrderId, Qty, Cash]]) -> None:
        """Take fills back that failed on the chain."""
        with self.transaction("take fills back in"):
            self.db.executemany(
                "UPDATE shadow SET fill_qty = fill_qty - ?, fill_cash = fill_cash - ?"
                " WHERE order_id = ?",
                [(qty, cash, order_id) for order_id, qty, cash in reversals],
            )

    def read(self, *, after_day: str = "") -> list[Shadow]:
        """Every row of the days after ``after_day``, in the order they were sent."""
        rows = self.rows(
            "SELECT order_id, bundle_id, sent_ns, latency_ns, lag_ns, instrument, side, price,"
            " tick, qty, fill_qty, fill_cash, ended, quote_qty, quote_cash, firm_qty"
            " FROM shadow WHERE day > ? ORDER BY sent_ns, order_id",
            after_day,
        )
        return [
            Shadow(
                order_id=r[0], bundle_id=r[1], sent_ns=r[2], latency_ns=r[3], lag_ns=r[4],
                instrument_id=r[5], side=Side(r[6]), price=r[7], tick=r[8], qty=r[9],
                fill_qty=r[10], fill_cash=r[11], ended=bool(r[12]), quote_qty=r[13],
                quote_cash=r[14], firm_qty=r[15],
            )
            for r in rows
        ]  # fmt: skip
