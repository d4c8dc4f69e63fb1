"""Frames of the user channel: what the venue says about our own orders and trades. Pure.

The result is typed wire structs, not domain facts: only the live path knows which of our orders a
venue order id is. Like the market ``Decoder`` this one never raises and never guesses; but a
rejected frame here may have been a fill, so its reader must reload orders and trades from the venue
after any ``FrameRejected``.

A trade's own side, token, price and size are the taker's. For a maker the fill is the entry of
``maker_orders`` with the maker's order id, which may be the other token and the other side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.domain.events import FrameRejected, SettlementStatus, TradeId, VenueOrderId
from fleet.domain.instruments import InstrumentId, MarketId, Side
from fleet.domain.units import Price, Qty
from fleet.venues.polymarket.frames import (
    TIMESTAMP_MS_MAX,
    UNREADABLE,
    FrameError,
    FrameReader,
    read_price,
    read_qty,
)

SECONDS_MAX: Final = 100_000_000_000
"""A timestamp below this is seconds (year 5138), above it milliseconds (1973): both occur."""
STATUS_PREFIX: Final = "TRADE_STATUS_"

OrderAction = Literal["PLACEMENT", "UPDATE", "CANCELLATION"]
TraderSide = Literal["TAKER", "MAKER"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserOrder:
    """One change of one of our orders. ``status`` is the venue's own word (LIVE, CANCELED...)."""

    ts_event: int
    ts_recv: int
    order_id: VenueOrderId
    market_id: MarketId
    instrument_id: InstrumentId
    side: Side
    price: Price
    original_qty: Qty
    matched_qty: Qty
    action: OrderAction
    status: str
    order_type: str
    trade_ids: tuple[TradeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MakerFill:
    """What one resting order gave in a trade."""

    order_id: VenueOrderId
    instrument_id: InstrumentId
    side: Side
    price: Price
    qty: Qty


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTrade:
    """A trade of ours or its next settlement step. ``trader_side`` says which of the two we are."""

    ts_event: int
    ts_recv: int
    trade_id: TradeId
    taker_order_id: VenueOrderId
    market_id: MarketId
    instrument_id: InstrumentId
    side: Side
    price: Price
    qty: Qty
    status: SettlementStatus
    trader_side: TraderSide
    maker_fills: tuple[MakerFill, ...]
    transaction_hash: str


UserEvent = UserOrder | UserTrade | FrameRejected


class _Order(msgspec.Struct, gc=False):
    id: VenueOrderId
    market: MarketId
    asset_id: InstrumentId
    side: Side
    original_size: str
    size_matched: str
    price: str
    type: OrderAction
    timestamp: int
    status: str = ""
    order_type: str = ""
    associate_trades: list[TradeId] | None = None


class MakerOrder(msgspec.Struct, gc=False):
    """A maker's part of a trade as it is on the wire, in REST rows and user frames alike."""

    order_id: VenueOrderId
    matched_amount: str
    price: str
    asset_id: InstrumentId
    side: Side


class _Trade(msgspec.Struct, gc=False):
    id: TradeId
    taker_order_id: VenueOrderId
    market: MarketId
    asset_id: InstrumentId
    side: Side
    size: str
    price: str
    status: str
    trader_side: TraderSide
    maker_orders: list[MakerOrder]
    timestamp: int | None = None
    last_update: int | None = None
    transaction_hash: str | None = None


class UserDecoder(FrameReader):
    """User-channel frames to ``UserOrder`` and ``UserTrade``."""

    __slots__ = ("_order", "_trade")

    def __init__(self) -> None:
        """Build the typed decoders once."""
        super().__init__()
        self._order = msgspec.json.Decoder(_Order, strict=False).decode
        self._trade = msgspec.json.Decoder(_Trade, strict=False).decode

    def decode(self, frame: bytes | memoryview, ts_recv: int) -> Sequence[UserEvent]:
        """What one frame received at ``ts_recv`` (ns) says; never raises."""
        try:
            return [self._message(message, ts_recv) for message in self._messages(frame)]
        except UNREADABLE as error:
            return (self._reject(error, ts_recv),)

    def _message(self, message: bytes | msgspec.Raw, ts_recv: int) -> UserEvent:
        kind = self._kind(message).event_type
        if kind == "order":
            return _read_order(self._order(message), ts_recv)
        if kind == "trade":
            return _read_trade(self._trade(message), ts_recv)
        return self._unknown(kind, ts_recv)


def _read_order(message: _Order, ts_recv: int) -> UserOrder:
    return UserOrder(
        ts_event=_read_timestamp(message.timestamp),
        ts_recv=ts_recv,
        order_id=message.id,
        market_id=message.market,
        instrument_id=message.asset_id,
        side=message.side,
        price=read_price(message.price),
        original_qty=read_qty(message.original_size),
        matched_qty=read_qty(message.size_matched),
        action=message.type,
        status=message.status,
        order_type=message.order_type,
        trade_ids=tuple(message.associate_trades or ()),
    )


def _read_trade(message: _Trade, ts_recv: int) -> UserTrade:
    stamp = message.timestamp if message.timestamp is not None else message.last_update
    if stamp is None:
        raise FrameError("timestamp_missing")
    status = message.status.removeprefix(STATUS_PREFIX)
    if status not in SettlementStatus.__members__:
        raise FrameError("trade_status_unknown", repr(message.status[:40]))
    return UserTrade(
        ts_event=_read_timestamp(stamp),
        ts_recv=ts_recv,
        trade_id=message.id,
        taker_order_id=message.taker_order_id,
        market_id=message.market,
        instrument_id=message.asset_id,
        side=message.side,
        price=read_price(message.price),
        qty=read_qty(message.size),
        status=SettlementStatus[status],
        trader_side=message.trader_side,
        maker_fills=read_maker_fills(message.maker_orders),
        transaction_hash=message.transaction_hash or "",
    )


def read_maker_fills(makers: Iterable[MakerOrder]) -> tuple[MakerFill, ...]:
    """The makers' parts of a trade. Raises ``FrameError`` for a price or size that is no number."""
    return tuple(
        MakerFill(
            order_id=maker.order_id,
            instrument_id=maker.asset_id,
            side=maker.side,
            price=read_price(maker.price),
            qty=read_qty(maker.matched_amount),
        )
        for maker in makers
    )


def _read_timestamp(stamp: int) -> int:
    if not 0 < stamp <= TIMESTAMP_MS_MAX:
        raise FrameError("timestamp_invalid", str(stamp))
    return stamp * (NS_PER_SECOND if stamp < SECONDS_MAX else NS_PER_MS)
