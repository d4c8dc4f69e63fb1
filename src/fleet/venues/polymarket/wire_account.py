"""What the CLOB's account endpoints answer: open orders, trades, balances. Pure.

A row becomes the same record its websocket frame does (``wire_user``), so that what is known of an
order or trade does not depend on the way it was learnt. Rows are read wholly or not at all: one
row that cannot be read makes the page ``FrameError``, because it may be the fill we look for.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.domain.events import SettlementStatus, TradeId, VenueOrderId
from fleet.domain.instruments import InstrumentId, MarketId, Side
from fleet.venues.polymarket.frames import UNREADABLE, FrameError, read_price, read_qty
from fleet.venues.polymarket.wire_user import (
    SECONDS_MAX,
    STATUS_PREFIX,
    MakerOrder,
    TraderSide,
    UserOrder,
    UserTrade,
    read_maker_fills,
)

FIRST_CURSOR: Final = "MA=="
LAST_CURSOR: Final = "LTE="
BASE_UNITS_PER: Final = 100
"""Our units (1e-8) in one base unit (1e-6)."""
NOT_BROADCAST: Final = "MATCHED_NOT_BROADCASTED"
"""A REST-only status: matched, and the transaction is not out yet (reference 4.4)."""


class _OrderRow(msgspec.Struct):
    id: VenueOrderId
    asset_id: InstrumentId
    side: Side
    original_size: str
    size_matched: str
    price: str
    status: str = ""
    market: MarketId = MarketId("")
    order_type: str = ""
    created_at: int = 0
    associate_trades: list[TradeId] | None = None


class _TradeRow(msgspec.Struct):
    id: TradeId
    taker_order_id: VenueOrderId
    asset_id: InstrumentId
    side: Side
    size: str
    price: str
    status: str
    match_time: int
    trader_side: TraderSide
    market: MarketId = MarketId("")
    last_update: int = 0
    maker_orders: list[MakerOrder] | None = None
    transaction_hash: str | None = None


class _OrderPage(msgspec.Struct):
    data: list[_OrderRow] | None = None
    next_cursor: str = LAST_CURSOR


class _TradePage(msgspec.Struct):
    data: list[_TradeRow] | None = None
    next_cursor: str = LAST_CURSOR


class _Balance(msgspec.Struct):
    balance: str
    allowances: dict[str, str] | None = None


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What the wallet holds of one asset at 1e-8, and what each spender may take of it."""

    amount: int
    allowances: dict[str, int]


_ORDER_PAGE: Final = msgspec.json.Decoder(_OrderPage, strict=False)
_ORDER: Final = msgspec.json.Decoder(_OrderRow, strict=False)
_TRADE_PAGE: Final = msgspec.json.Decoder(_TradePage, strict=False)
_BALANCE: Final = msgspec.json.Decoder(_Balance, strict=False)


def read_orders(body: bytes, ts_recv: int) -> tuple[list[UserOrder], str]:
    """The open orders of one page and the next cursor. Raises ``FrameError``."""
    try:
        page = _ORDER_PAGE.decode(body)
        return [_order(row, ts_recv) for row in page.data or ()], page.next_cursor
    except UNREADABLE as error:
        raise FrameError("orders_unreadable", str(error)[:120]) from error


def read_order(body: bytes, ts_recv: int) -> UserOrder | None:
    """One open order, or nothing where the venue answers with nothing. Raises ``FrameError``."""
    if body.strip() in {b"", b"null", b"{}"}:
        return None
    try:
        return _order(_ORDER.decode(body), ts_recv)
    except UNREADABLE as error:
        raise FrameError("order_unreadable", str(error)[:120]) from error


def read_trades(body: bytes, ts_recv: int) -> tuple[list[UserTrade], str]:
    """The trades of one page, timed by their match, and the next cursor. Raises ``FrameError``."""
    try:
        page = _TRADE_PAGE.decode(body)
        return [_trade(row, ts_recv) for row in page.data or ()], page.next_cursor
    except UNREADABLE as error:
        raise FrameError("trades_unreadable", str(error)[:120]) from error


def read_balance(body: bytes) -> Balance:
    """A balance with its allowances. Raises ``FrameError``."""
    try:
        row = _BALANCE.decode(body)
        return Balance(
            amount=int(row.balance) * BASE_UNITS_PER,
            allowances={who: int(amount) for who, amount in (row.allowances or {}).items()},
        )
    except UNREADABLE as error:
        raise FrameError("balance_unreadable", str(error)[:120]) from error


def _order(row: _OrderRow, ts_recv: int) -> UserOrder:
    return UserOrder(
        ts_event=_time(row.created_at),
        ts_recv=ts_recv,
        order_id=row.id,
        market_id=row.market,
        instrument_id=row.asset_id,
        side=row.side,
        price=read_price(row.price),
        original_qty=read_qty(row.original_size),
        matched_qty=read_qty(row.size_matched),
        action="UPDATE",
        status=row.status.removeprefix("ORDER_STATUS_").upper(),
        order_type=row.order_type,
        trade_ids=tuple(row.associate_trades or ()),
    )


def _trade(row: _TradeRow, ts_recv: int) -> UserTrade:
    status = row.status.removeprefix(STATUS_PREFIX)
    if status == NOT_BROADCAST:
        status = SettlementStatus.MATCHED.value
    if status not in SettlementStatus.__members__:
        raise FrameError("trade_status_unknown", repr(row.status[:40]))
    return UserTrade(
        ts_event=_time(row.match_time),
        ts_recv=ts_recv,
        trade_id=row.id,
        taker_order_id=row.taker_order_id,
        market_id=row.market,
        instrument_id=row.asset_id,
        side=row.side,
        price=read_price(row.price),
        qty=read_qty(row.size),
        status=SettlementStatus[status],
        trader_side=row.trader_side,
        maker_fills=read_maker_fills(row.maker_orders or ()),
        transaction_hash=row.transaction_hash or "",
    )


def _time(stamp: int) -> int:
    return stamp * (NS_PER_SECOND if stamp < SECONDS_MAX else NS_PER_MS)
