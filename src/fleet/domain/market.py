"""Facts of the market: plain tuples, one a frame, because they come by the hundred thousand.

They live on the tape, not in the journal. Times are nanoseconds since the epoch: ``ts_event`` the
venue's, ``ts_recv`` ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fleet.domain.instruments import InstrumentId, MarketId, Side
from fleet.domain.units import Price, Qty

LevelChange = tuple[InstrumentId, Side, Price, Qty]
"""(token, side, price, new total at that price); a total of 0 removes the level."""
Level = tuple[Price, Qty]


class BookSnapshot(NamedTuple):
    """The whole book of one instrument; levels in any order."""

    ts_event: int
    ts_recv: int
    instrument_id: InstrumentId
    bids: Sequence[Level]
    asks: Sequence[Level]
    tick: Price | None = None


class BookChanged(NamedTuple):
    """The level changes of one frame, applied together: one moment of the venue."""

    ts_event: int
    ts_recv: int
    changes: Sequence[LevelChange]


class TradePrinted(NamedTuple):
    """Somebody's trade; ``side`` is the taker's."""

    ts_event: int
    ts_recv: int
    instrument_id: InstrumentId
    side: Side
    price: Price
    qty: Qty


class BarClosed(NamedTuple):
    """One candle that is complete; nothing of it was known before ``ts_event``, when it closed.

    ``interval_ns`` is its length. ``volume`` is in units of the instrument.
    """

    ts_event: int
    ts_recv: int
    instrument_id: InstrumentId
    interval_ns: int
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Qty


class PricesSampled(NamedTuple):
    """The tops of many books at one moment, and the prices of underlyings.

    ``quotes`` is (market, best bid and best ask of YES), of two-sided books only; ``references`` is
    (symbol, dollars at 1e-8).
    """

    ts_event: int
    ts_recv: int
    quotes: Sequence[tuple[MarketId, Price, Price]]
    references: Sequence[tuple[str, int]] = ()
