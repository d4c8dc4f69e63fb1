"""Binance's answers as typed records, and as exact integers. Pure.

Numbers are texts on this wire ("0.00100000"), so nothing passes through a float. A record whose
numbers do not fit 1e-8 exactly is refused (``AnswerInvalid``), never rounded.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from fleet.domain.units import UnitsError, parse_units
from fleet.venues.port import AnswerInvalid

T = TypeVar("T")


class FillRow(Struct, frozen=True, rename="camel"):
    """One match, as the answer to an order tells it."""

    price: str
    qty: str
    commission: str
    commission_asset: str
    trade_id: int


class OrderRow(Struct, frozen=True, rename="camel"):
    """An order, as told by POST, GET and DELETE; ``fills`` only by POST."""

    symbol: str
    order_id: int
    client_order_id: str
    status: str
    executed_qty: str
    orig_qty: str = "0"
    transact_time: int = 0
    time: int = 0
    update_time: int = 0
    orig_client_order_id: str = ""
    fills: list[FillRow] = field(default_factory=list)


class TradeRow(Struct, frozen=True, rename="camel"):
    """One match of ``myTrades``; ``time`` in milliseconds."""

    id: int
    order_id: int
    price: str
    qty: str
    commission: str
    commission_asset: str
    time: int
    is_buyer: bool
    is_maker: bool


class BalanceRow(Struct, frozen=True):
    """What the account holds of one asset."""

    asset: str
    free: str
    locked: str


class AccountRow(Struct, frozen=True, rename="camel"):
    """The account; ``uid`` names it."""

    balances: list[BalanceRow]
    uid: int = 0
    can_trade: bool = True


class Rates(Struct, frozen=True):
    """Commission rates, as decimals."""

    maker: str = "0"
    taker: str = "0"


class CommissionRow(Struct, frozen=True, rename="camel"):
    """What is charged on a symbol (``account/commission``)."""

    standard_commission: Rates = field(default_factory=Rates)
    tax_commission: Rates = field(default_factory=Rates)
    special_commission: Rates = field(default_factory=Rates)


class SymbolRow(Struct, frozen=True, rename="camel"):
    """One symbol of ``exchangeInfo``; the filters are of many shapes."""

    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    is_spot_trading_allowed: bool = True
    filters: list[dict[str, Any]] = field(default_factory=list)


class LimitRow(Struct, frozen=True, rename="camel"):
    """One rate limit of ``exchangeInfo``."""

    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int


class ExchangeRow(Struct, frozen=True, rename="camel"):
    """``exchangeInfo``."""

    symbols: list[SymbolRow]
    rate_limits: list[LimitRow] = field(default_factory=list)


class TickerRow(Struct, frozen=True, rename="camel"):
    """The best bid and ask."""

    bid_price: str
    bid_qty: str
    ask_price: str
    ask_qty: str


class TimeRow(Struct, frozen=True, rename="camel"):
    """The venue's clock, in milliseconds."""

    server_time: int


def read(answer: Any, shape: type[T], what: str) -> T:
    """An answer as ``shape``. Raises ``AnswerInvalid``."""
    try:
        return msgspec.convert(answer, shape)
    except msgspec.ValidationError as error:
        raise AnswerInvalid(f"{what}: {error}") from None


def exact(text: str, what: str) -> int:
    """A decimal text at 1e-8. Raises ``AnswerInvalid`` if it does not fit exactly."""
    try:
        return parse_units(text)
    except UnitsError as error:
        raise AnswerInvalid(f"{what}: {error}") from None
