"""``trades.csv``: one row a fill, exported from the journals with exact decimals.

A fill is counted once, by trade id, as the portfolio counts it. ``notional`` is price x quantity at
1e-8, a buy's rounded up and a sell's down, as the portfolio books them; ``fee`` is dollars paid.
``settlement`` is the last known step of the fill: a FAILED one was reversed by the venue.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.config import LEDGER_MODE
from fleet.domain.commands import BundleId, ClientOrderId
from fleet.domain.events import (
    DecisionMade,
    FillSettled,
    OrderAccepted,
    OrderFilled,
    OrderSigned,
    SettlementStatus,
    TradeId,
    VenueOrderId,
)
from fleet.domain.instruments import Side
from fleet.domain.units import format_units, notional_down, notional_up
from fleet.journal.store import Entry, JournalReader

HEADER: Final = (
    "time",
    "bot",
    "mode",
    "instrument",
    "side",
    "price",
    "qty",
    "fee",
    "notional",
    "order_id",
    "venue_order_id",
    "trade_id",
    "bundle_id",
    "settlement",
    "seq",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeRow:
    """One fill with what the journal knows about its order and settlement."""

    seq: int
    fill: OrderFilled
    bundle_id: BundleId | None
    venue_order_id: VenueOrderId | None
    settlement: SettlementStatus

    def cells(self, bot: str, mode: str) -> tuple[str, ...]:
        """The row as text, in the order of ``HEADER``."""
        fill = self.fill
        notional = notional_up if fill.side is Side.BUY else notional_down
        return (
            iso_utc(fill.ts_event or fill.ts_recv),
            bot,
            mode,
            fill.instrument_id,
            fill.side.value,
            format_units(fill.price),
            format_units(fill.qty),
            format_units(fill.fee),
            format_units(notional(fill.price, fill.qty)),
            fill.client_order_id,
            self.venue_order_id or "",
            fill.trade_id,
            self.bundle_id or "",
            self.settlement.value,
            str(self.seq),
        )


def iso_utc(ts_ns: int) -> str:
    """Nanoseconds since the epoch as ISO 8601 in UTC with all nine decimals; "" for 0."""
    if not ts_ns:
        return ""
    seconds, rest = divmod(ts_ns, NS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def trade_rows(entries: Iterable[Entry]) -> list[TradeRow]:
    """The fills of one journal, ordered by entry number."""
    fills: dict[TradeId, tuple[int, OrderFilled]] = {}
    bundles: dict[ClientOrderId, BundleId] = {}
    venue_ids: dict[ClientOrderId, VenueOrderId] = {}
    settlements: dict[TradeId, SettlementStatus] = {}
    for entry in entries:
        event = entry.event
        if isinstance(event, OrderFilled):
            fills.setdefault(event.trade_id, (entry.seq, event))
        elif isinstance(event, DecisionMade):
            bundles.update((order.client_order_id, order.bundle_id) for order in event.orders)
        elif isinstance(event, OrderSigned | OrderAccepted):
            venue_ids[event.client_order_id] = event.venue_order_id
        elif isinstance(event, FillSettled):
            settlements[event.trade_id] = event.status
    return [
        TradeRow(
            seq=seq,
            fill=fill,
            bundle_id=bundles.get(fill.client_order_id),
            venue_order_id=venue_ids.get(fill.client_order_id),
            settlement=settlements.get(fill.trade_id, SettlementStatus.MATCHED),
        )
        for seq, fill in fills.values()
    ]


def export_trades(journals: Sequence[JournalReader], path: Path) -> int:
    """Write the fills of ``journals``, one after the other, to ``path``; how many there are.

    The paper venue's ledgers are left out: they tell the same fills from the other side.
    Raises ``JournalDamaged`` at an entry that cannot be trusted: half an export is none.
    """
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for journal in journals:
            if journal.mode == LEDGER_MODE:
                continue
            rows = trade_rows(journal.read())
            writer.writerows(row.cells(journal.bot, journal.mode) for row in rows)
            count += len(rows)
    return count


def count_trades(path: Path) -> Mapping[tuple[str, str], int]:
    """How many rows a ``trades.csv`` has of each (bot, mode)."""
    counts: dict[tuple[str, str], int] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["bot"], row["mode"])
            counts[key] = counts.get(key, 0) + 1
    return counts
