"""What Alpaca says, as typed rows, with exact numbers. Pure.

Orders, positions and activities carry decimal texts; market data carries JSON numbers, whose
shortest decimal form is taken as meant. Unknown fields are ignored, missing ones are an error.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE, UnitsError, parse_units
from fleet.venues.port import AnswerInvalid

T = TypeVar("T")


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v2/account``."""

    id: str
    status: str
    currency: str = "USD"
    cash: str
    accrued_fees: str = "0"
    trading_blocked: bool = False
    account_blocked: bool = False
    trade_suspended_by_user: bool = False


class ClockRow(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v2/clock``."""

    timestamp: str
    is_open: bool
    next_open: str
    next_close: str


class CalendarRow(msgspec.Struct, frozen=True, kw_only=True):
    """One day of ``GET /v2/calendar``, in New York time; sessions as ``HHMM``."""

    date: str
    open: str
    close: str
    session_open: str = ""
    session_close: str = ""


class AssetRow(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /v2/assets/{symbol}``."""

    symbol: str
    name: str | None = ""
    status: str
    tradable: bool
    fractionable: bool = False
    asset_class: str = msgspec.field(name="class", default="us_equity")


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of ``GET /v2/positions``."""

    symbol: str
    qty: str


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """An order, from REST and inside a trade update."""

    id: str
    client_order_id: str
    symbol: str
    side: str
    status: str
    qty: str | None = None
    filled_qty: str = "0"
    updated_at: str | None = None


class UpdateRow(msgspec.Struct, frozen=True, kw_only=True):
    """The ``data`` of one ``trade_updates`` message."""

    event: str
    order: OrderRow
    timestamp: str = ""
    price: str | float | None = None
    qty: str | float | None = None


class ActivityRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of ``GET /v2/account/activities``: a fill (FILL), or cash and shares otherwise moved."""

    id: str
    activity_type: str
    transaction_time: str = ""
    date: str = ""
    symbol: str = ""
    side: str = ""
    price: str = "0"
    qty: str = "0"
    cum_qty: str = "0"
    order_id: str = ""
    net_amount: str = "0"


class BarRow(msgspec.Struct, frozen=True, kw_only=True):
    """One candle; ``t`` is its begin."""

    t: str
    o: float
    h: float
    l: float  # noqa: E741 - the venue's name
    c: float
    v: float


class QuoteRow(msgspec.Struct, frozen=True, kw_only=True):
    """The best bid and ask; sizes in shares."""

    t: str
    bp: float = 0
    bs: float = 0
    ap: float = 0
    ask_size: float = msgspec.field(name="as", default=0)


class TradeRow(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's trade."""

    t: str
    p: float
    s: float
    i: int = 0


class SnapshotRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One symbol of ``GET /v2/stocks/snapshots``."""

    latest_quote: QuoteRow | None = None
    latest_trade: TradeRow | None = None


def read(answer: object, kind: type[T], what: str) -> T:
    """``answer`` as ``kind``. Raises ``AnswerInvalid``."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise AnswerInvalid(f"{what}: {error}") from None


def exact(value: object, what: str) -> int:
    """A decimal text as an integer at 1e-8, exactly. Raises ``AnswerInvalid``."""
    text = str(value)
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    try:
        return parse_units(text)
    except UnitsError as error:
        raise AnswerInvalid(f"{what}: {error}") from None


def rounded(value: Any, what: str) -> int:
    """A number as an integer at 1e-8, to the nearest. Raises ``AnswerInvalid``."""
    try:
        amount = Decimal(str(value)) * SCALE
        return int(amount.to_integral_value(ROUND_HALF_EVEN))
    except (InvalidOperation, ValueError, OverflowError):
        raise AnswerInvalid(f"{what}: {value!r} is no number") from None


def nanoseconds(text: str, what: str) -> int:
    """An RFC 3339 time as nanoseconds since the epoch, finer digits kept. Raises ``AnswerInvalid``.

    ``datetime`` reads microseconds only; Alpaca writes nanoseconds.
    """
    head, dot, tail = text.partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    try:
        when = dt.datetime.fromisoformat(head + tail[len(digits) :] if dot else text)
    except ValueError:
        raise AnswerInvalid(f"{what}: {text!r} is no time") from None
    if when.tzinfo is None:
        raise AnswerInvalid(f"{what}: {text!r} has no time zone")
    return int(when.timestamp()) * NS_PER_SECOND + int(digits[:9].ljust(9, "0"))


def iso(time_ns: int) -> str:
    """Nanoseconds as RFC 3339 in UTC, to the microsecond."""
    return moment(time_ns).isoformat().replace("+00:00", "Z")


def moment(time_ns: int) -> dt.datetime:
    """Nanoseconds as a time in UTC, to the microsecond."""
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_ns // 1_000)


def newest_last(rows: Sequence[ActivityRow]) -> list[ActivityRow]:
    """Activities in the order of their ids, which begin with their time."""
    return sorted(rows, key=lambda row: row.id)
