"""What a bot's live starts leave behind on one market: smoke orders, and the stages of its limits.

Its one writer is the live start, under the bot's lock. Smoke orders are kept here and not in the
bot's journal, because they are no decision of the engine: nothing that folds the journal may count
them. A smoke order is written before its first byte leaves, so that a crash cannot leave one
resting that nobody knows of; ``smoke_ids`` lets the live venue tell them from unknown orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from fleet.domain.events import VenueOrderId
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import Price, Qty
from fleet.journal.record_file import Kind, RecordFile

GATE: Final = Kind(
    application_id=0x464C4754,  # FLGT
    version=1,
    ddl="""
CREATE TABLE smoke(
    order_id TEXT PRIMARY KEY,
    ts INTEGER NOT NULL,
    instrument TEXT NOT NULL,
    price INTEGER NOT NULL,
    qty INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('SIGNED', 'REFUSED', 'ENDED', 'FILLED')),
    detail TEXT NOT NULL,
    ended_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER smoke_never_goes BEFORE DELETE ON smoke
BEGIN SELECT raise(ABORT, 'smoke orders are never forgotten'); END;
CREATE TABLE stage(
    id INTEGER PRIMARY KEY,
    ts INTEGER NOT NULL,
    day TEXT NOT NULL,
    percent INTEGER NOT NULL CHECK (percent IN (0, 10, 50, 100)),
    reason TEXT NOT NULL
) STRICT;
CREATE TRIGGER stage_never_changes BEFORE UPDATE ON stage
BEGIN SELECT raise(ABORT, 'the history of stages never changes'); END;
CREATE TRIGGER stage_never_goes BEFORE DELETE ON stage
BEGIN SELECT raise(ABORT, 'the history of stages is never removed'); END;
""",
)


class SmokeState(Enum):
    """What is known of a smoke order."""

    SIGNED = "SIGNED"
    """It may be at the venue."""
    REFUSED = "REFUSED"
    """The venue proved that it does not have it."""
    ENDED = "ENDED"
    """It was cancelled, and that was proven."""
    FILLED = "FILLED"
    """Somebody traded with it: money moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeRecord:
    """One smoke order. ``ts`` and ``ended_ns`` are nanoseconds, 0 while it has not ended."""

    order_id: VenueOrderId
    ts: int
    instrument_id: InstrumentId
    price: Price
    qty: Qty
    state: SmokeState
    detail: str = ""
    ended_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """The share of the limits in force from the UTC ``day`` on (``YYYY-MM-DD``), and why."""

    ts: int
    day: str
    percent: int
    reason: str


def owner(bot: str, feed: str) -> Mapping[str, str]:
    """Whose file it is."""
    return {"bot": bot, "feed": feed}


class GateStore(RecordFile):
    """An open gate file. Every method raises ``JournalError`` if it cannot be read or written."""

    def __init__(self, path: Path, *, bot: str, feed: str, read_only: bool = False) -> None:
        """Open the file of ``bot`` on ``feed``, making it if there is none."""
        super().__init__(path, GATE, owner(bot, feed), read_only=read_only)

    # --- smoke orders -------------------------------------------------------------------------

    def smoke_signed(self, record: SmokeRecord) -> None:
        """Remember an order that is about to be sent; durable when this returns."""
        with self.transaction("remember a smoke order in"):
            self.db.execute(
                "INSERT INTO smoke VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                (record.order_id, record.ts, record.instrument_id, record.price, record.qty,
                 SmokeState.SIGNED.value, record.detail),
            )  # fmt: skip

    def smoke_ended(
        self, order_id: VenueOrderId, state: SmokeState, detail: str, now_ns: int
    ) -> None:
        """Say how it ended, as far as that is proven."""
        with self.transaction("end a smoke order in"):
            self.db.execute(
                "UPDATE smoke SET state = ?, detail = ?, ended_ns = ? WHERE order_id = ?",
                (state.value, detail, now_ns, order_id),
            )

    def smoke_open(self) -> list[SmokeRecord]:
        """Those that may still be at the venue, oldest first."""
        return [record for record in self.smokes() if record.state is SmokeState.SIGNED]

    def smokes(self) -> list[SmokeRecord]:
        """All smoke orders there ever were, oldest first."""
        return [
            SmokeRecord(
                order_id=VenueOrderId(order_id), ts=ts, instrument_id=InstrumentId(instrument),
                price=Price(price), qty=Qty(qty), state=SmokeState(state), detail=detail,
                ended_ns=ended_ns,
            )
            for order_id, ts, instrument, price, qty, state, detail, ended_ns in self.rows(
                "SELECT * FROM smoke ORDER BY ts, order_id"
            )
        ]  # fmt: skip

    def smoke_ids(self) -> frozenset[VenueOrderId]:
        """The venue ids of all smoke orders: ours, though no journal names them."""
        return frozenset(record.order_id for record in self.smokes())

    # --- stages -------------------------------------------------------------------------------

    def stage(self) -> StageRecord | None:
        """The stage in force; nothing before the first live start."""
        rows = self.rows("SELECT ts, day, percent, reason FROM stage ORDER BY id DESC LIMIT 1")
        return _stage(*rows[0]) if rows else None

    def stages(self) -> list[StageRecord]:
        """Every stage there ever was, oldest first."""
        return [_stage(*row) for row in self.rows("SELECT ts, day, percent, reason FROM stage")]

    def record_stage(self, record: StageRecord) -> None:
        """Put a new stage in force."""
        with self.transaction("record a stage in"):
            self.db.execute(
                "INSERT INTO stage(ts, day, percent, reason) VALUES (?, ?, ?, ?)",
                (record.ts, record.day, record.percent, record.reason),
            )


def _stage(ts: int, day: str, percent: int, reason: str) -> StageRecord:
    return StageRecord(ts=ts, day=day, percent=percent, reason=reason)
