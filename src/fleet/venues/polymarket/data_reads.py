"""What any wallet did and holds, read from the Data API v2 (docs/polymarket.md, "Data API").

Rows are old by what the CDN keeps (trades up to 300 s, positions 5 s), so this is for judging and
checking, never for following. Pages are walked by cursor, at the pace of the ``JsonClient``'s
budget, up to a bound; a history cut by the bound says from when on it is whole. A page that brings
nothing new ends the walk as incomplete: servers have repeated their last page for ever.

Money is read exactly and rounded to 1e-8 (a row's price is an average, off every grid). Must not
guess: a row that cannot be read makes the answer ``AnswerInvalid``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price, Qty
from fleet.venues.port import AnswerInvalid
from fleet.venues.transport import JsonClient

PAGE: Final = 1_000
PAGES_MAX: Final = 20
"""Rows asked at once, and pages walked: 20,000 trades of one wallet."""
STATUSES: Final = ("OPEN", "REDEEMABLE", "REDEEMABLE_LOST", "CLOSED")
OUTCOME_UNKNOWN: Final = 999
Period = Literal["day", "week", "month", "all"]


class _Pagination(msgspec.Struct):
    has_more: bool = False
    next_cursor: str | None = None


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    pagination: _Pagination = msgspec.field(default_factory=_Pagination)


class _TradeRow(msgspec.Struct):
    proxy_wallet: str
    token_id: str
    condition_id: str
    side: Side
    size: Decimal
    price: Decimal
    timestamp: int
    transaction_hash: str = ""
    title: str | None = None
    event_slug: str | None = None
    outcome_index: int | None = None


class _PositionRow(msgspec.Struct):
    token_id: str
    condition_id: str
    status: str
    current_size: Decimal
    avg_price: Decimal
    realized_pnl: Decimal
    total_pnl: Decimal
    outcome_index: int | None = None


class _LeaderRow(msgspec.Struct):
    user_id: str
    pnl: Decimal
    volume: Decimal
    rank: int | None = None
    user_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletTrade:
    """One row of trades: a taker's whole match, or one maker's part. ``ts_ns`` has whole seconds.

    ``outcome`` None where the venue does not say; ``taker`` None where it was not asked.
    """

    wallet: str
    ts_ns: int
    market_id: str
    token_id: str
    side: Side
    price: Price
    qty: Qty
    outcome: int | None = None
    taker: bool | None = None
    event_slug: str = ""
    title: str = ""
    tx: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeHistory:
    """Trades, oldest first. ``complete_from_ns``: none is missing from there on; 0 is all."""

    trades: tuple[WalletTrade, ...]
    complete_from_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletPosition:
    """One position. Dollars and shares at 1e-8; P&L as the venue counts it."""

    market_id: str
    token_id: str
    status: str
    qty: Qty
    avg_price: Price
    realized_pnl: int
    total_pnl: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderRank:
    """One row of the leaderboard; dollars at 1e-8."""

    rank: int
    wallet: str
    name: str
    pnl: int
    volume: int


class DataReads:
    """Reads of one Data API. Every method raises ``VenueError``."""

    def __init__(self, http: JsonClient, *, pages_max: int = PAGES_MAX, page: int = PAGE) -> None:
        """Ask ``http``, whose budget bounds the rate; at most ``pages_max`` pages a question."""
        self._http = http
        self._pages_max, self._page = pages_max, page

    async def trades(self, wallet: str, *, since_s: int = 0, until_s: int = 0) -> TradeHistory:
        """Every trade of a wallet, each with its leg: asked once for all and once for takers."""
        asked = {"user": wallet} | _window(since_s, until_s)
        rows, cut = await self._walk("/v2/trades", asked | {"taker_only": "false"}, _TradeRow)
        takers, cut_takers = await self._walk(
            "/v2/trades", asked | {"taker_only": "true"}, _TradeRow
        )
        # A cut list of takers cannot say who was none.
        known = {_key(row) for row in takers}
        oldest_taker = min((row.timestamp for row in takers), default=0) if cut_takers else 0
        trades = [
            _trade(row, taker=None if row.timestamp <= oldest_taker else _key(row) in known)
            for row in rows
        ]
        trades.sort(key=lambda trade: trade.ts_ns)
        # Rows of the oldest second may go on behind the bound.
        from_ns = trades[0].ts_ns + NS_PER_SECOND if cut and trades else since_s * NS_PER_SECOND
        return TradeHistory(trades=tuple(trades), complete_from_ns=from_ns)

    async def market_trades(
        self, market_id: str, *, since_s: int = 0, until_s: int = 0
    ) -> TradeHistory:
        """Everybody's taker trades in one market."""
        asked = {"condition_id": market_id} | _window(since_s, until_s)
        rows, cut = await self._walk("/v2/trades", asked | {"taker_only": "true"}, _TradeRow)
        trades = sorted((_trade(row, taker=True) for row in rows), key=lambda trade: trade.ts_ns)
        from_ns = trades[0].ts_ns + NS_PER_SECOND if cut and trades else since_s * NS_PER_SECOND
        return TradeHistory(trades=tuple(trades), complete_from_ns=from_ns)

    async def positions(
        self, wallet: str, statuses: Sequence[str] = STATUSES
    ) -> tuple[WalletPosition, ...]:
        """Positions of these statuses, closed ones too."""
        asked = {"user": wallet, "status": ",".join(statuses)}
        rows, _ = await self._walk("/v2/positions", asked, _PositionRow)
        return tuple(
            WalletPosition(
                market_id=row.condition_id,
                token_id=row.token_id,
                status=row.status,
                qty=Qty(_units(row.current_size, "current_size")),
                avg_price=Price(_units(row.avg_price, "avg_price")),
                realized_pnl=_units(row.realized_pnl, "realized_pnl"),
                total_pnl=_units(row.total_pnl, "total_pnl"),
            )
            for row in rows
        )

    async def leaderboard(self, *, period: Period = "month", count: int = 50) -> list[LeaderRank]:
        """The first ``count`` wallets by profit."""
        asked = {"time_period": period, "sort_by": "PNL"}
        rows, _ = await self._walk("/v2/leaderboard", asked, _LeaderRow, rows_max=count)
        return [
            LeaderRank(
                rank=row.rank if row.rank is not None else index,
                wallet=row.user_id,
                name=row.user_name or "",
                pnl=_units(row.pnl, "pnl"),
                volume=_units(row.volume, "volume"),
            )
            for index, row in enumerate(rows[:count], 1)
        ]

    async def _walk(
        self, path: str, asked: Mapping[str, str], shape: Any, *, rows_max: int = 0
    ) -> tuple[list[Any], bool]:
        """All rows, and whether there are more than we went for."""
        limit = min(self._page, rows_max) if rows_max else self._page
        seen: set[bytes] = set()
        found: list[Any] = []
        cursor = ""
        for _ in range(self._pages_max):
            params = {**asked, "limit": str(limit)} | ({"cursor": cursor} if cursor else {})
            page = await self._http.get(path, _Page, params)
            fresh = _fresh([bytes(raw) for raw in page.data], seen)
            found += [_read(raw, shape, path) for raw in fresh]
            more = page.pagination.next_cursor
            if page.pagination.has_more != bool(more):
                raise AnswerInvalid(f"{path}: has_more and next_cursor contradict each other")
            if not more or (rows_max and len(found) >= rows_max):
                return found, bool(more)
            if not fresh:
                return found, True
            cursor = more
        return found, True


def _fresh(rows: Sequence[bytes], seen: set[bytes]) -> list[bytes]:
    """Rows of a page that no earlier page had; two alike in one page are two trades."""
    fresh = [row for row in rows if row not in seen]
    seen.update(rows)
    return fresh


def _read(raw: bytes, shape: Any, path: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=shape, strict=False)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise AnswerInvalid(f"{path}: {error}") from error


def _window(since_s: int, until_s: int) -> dict[str, str]:
    # Without a start the venue answers with a default window of its own.
    window = {"start": str(since_s)}
    return window | ({"end": str(until_s)} if until_s else {})


def _key(row: _TradeRow) -> tuple[str, str, str, Decimal, Decimal]:
    return (row.transaction_hash, row.token_id, row.side.value, row.size, row.price)


def _trade(row: _TradeRow, *, taker: bool | None) -> WalletTrade:
    price, qty = _units(row.price, "price"), _units(row.size, "size")
    if not 0 < price < SCALE or qty <= 0:
        raise AnswerInvalid(f"/v2/trades: {row.size} shares at {row.price} is no trade")
    outcome = row.outcome_index
    return WalletTrade(
        wallet=row.proxy_wallet,
        ts_ns=row.timestamp * NS_PER_SECOND,
        market_id=row.condition_id,
        token_id=row.token_id,
        side=row.side,
        price=Price(price),
        qty=Qty(qty),
        outcome=outcome if outcome in (0, 1) else None,
        taker=taker,
        event_slug=row.event_slug or "",
        title=row.title or "",
        tx=row.transaction_hash,
    )


def _units(number: Decimal, what: str) -> int:
    if not number.is_finite() or abs(number) >= Decimal(10**11):
        raise AnswerInvalid(f"the Data API gave {what} {number}")
    return int((number * SCALE).to_integral_value())
