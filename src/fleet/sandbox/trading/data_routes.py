"""Data API v2 (reference 6.2): what a wallet did and holds, as old as the venue's CDN serves it.

An answer is kept for its route's age and given again to the same question: activity 15 s, positions
5 s, trades 300 s (third-party measurements). ``max_age`` scales them; 0 answers afresh. Only this
exchange's accounts are told; the anonymous flow has no wallet, so ``user`` is always required.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.exchange.contract import BASE_UNIT, TradeView
from fleet.sandbox.request_reading import ApiError, cursor_of, cursor_offset, listed
from fleet.sandbox.trading import holdings
from fleet.sandbox.trading.approvals import UNLIMITED
from fleet.sandbox.trading.desk import Desk
from fleet.venues.polymarket.contracts import Exchange, exchange_address
from fleet.venues.polymarket.keys import SigningError, checksum_address

AGES_S: Final = {"trades": 300, "activity": 15, "positions": 5, "value": 5, "approvals": 5}
KEPT: Final = 256
PAGE, PAGE_MAX = 100, 1_000
Rows = Sequence[dict[str, Any]]


class DataRoutes:
    """Handlers of one desk."""

    def __init__(self, desk: Desk, *, max_age: float = 1.0) -> None:
        """Tell the wallets of ``desk``."""
        self._desk = desk
        self._max_age = max_age
        self._kept: dict[str, tuple[int, bytes]] = {}

    def add_to(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Register every route under ``prefix``."""
        rows: dict[str, Callable[[web.Request, str], Rows]] = {
            "trades": self._trades,
            "activity": self._activity,
            "positions": self._positions,
            "value": self._value,
            "approvals": self._approvals,
        }
        for name, make in rows.items():
            router.add_get(f"{prefix}/v2/{name}", self._cached(name, make))

    def _cached(
        self, name: str, make: Callable[[web.Request, str], Rows]
    ) -> Callable[[web.Request], Any]:
        """A handler that asks ``make`` only when its last answer is too old."""
        age_ns = int(AGES_S[name] * NS_PER_SECOND * self._max_age)

        async def handler(request: web.Request) -> web.Response:
            now_ns = self._desk.now_ns()
            question = request.path_qs
            made_ns, body = self._kept.pop(question, (now_ns - age_ns, b""))
            if now_ns - made_ns >= age_ns:
                rows = make(request, _wallet(request))
                made_ns, body = now_ns, msgspec.json.encode(_envelope(rows, request.query))
            self._kept[question] = (made_ns, body)
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
            headers = {
                "Age": str((now_ns - made_ns) // NS_PER_SECOND),
                "Cache-Control": f"public, max-age={age_ns // NS_PER_SECOND}",
            }
            return web.Response(body=body, headers=headers, content_type="application/json")

        return handler

    def _history(self, wallet: str) -> list[holdings.Fill]:
        """The wallet's fills through all of its owner's keys."""
        trades: dict[str, TradeView] = {}
        for owner in self._desk.accounts.owners_of(wallet):
            trades |= {t.trade_id: t for t in self._desk.exchange.trades(owner)}
        return holdings.fills_of(wallet, trades.values())

    def _trades(self, request: web.Request, wallet: str) -> Rows:
        query = request.query
        everything = query.get("taker_only", "true") == "false"
        least = _decimal(query, "filter_amount")
        in_cash = query.get("filter_type", "CASH") == "CASH"
        rows = [
            holdings.trade_row(wallet, fill, self._desk.listings)
            for fill in self._history(wallet)
            if (fill.taker or everything) and (fill.cash if in_cash else fill.size) >= least
        ]
        return _newest(_filtered(rows, request))

    def _activity(self, request: web.Request, wallet: str) -> Rows:
        query = request.query
        listings = self._desk.listings
        rows = [holdings.activity_of_fill(wallet, f, listings) for f in self._history(wallet)]
        rows += [
            holdings.activity_of_operation(wallet, operation, listings)
            for operation in self._desk.exchange.operations(wallet)
        ]
        wanted = set(listed(request, "type"))
        without = {"DEPOSIT", "WITHDRAWAL"}
        if query.get("exclude_deposits_withdrawals") != "true":
            without = set()
        rows = [r for r in rows if r["type"] not in without and (not wanted or r["type"] in wanted)]
        found = _newest(_filtered(rows, request))
        return found[::-1] if query.get("sort_direction", "DESC").upper() == "ASC" else found

    def _positions(self, request: web.Request, wallet: str) -> Rows:
        listings = self._desk.listings
        held = self._desk.exchange.tokens(wallet)
        known = holdings.costs(
            self._history(wallet), self._desk.exchange.operations(wallet), listings
        )
        nothing = holdings.Cost(condition_id="", outcome="")
        rows = [
            holdings.position_row(
                wallet, token, held.get(token, 0), known.get(token, nothing), listings
            )
            for token in dict.fromkeys((*held, *known))
        ]
        holdings.mark_mergeable(rows, held)
        wanted = set(listed(request, "status"))
        return [
            row
            for row in _filtered(rows, request)
            if (row["status"] in wanted)
            or ("MERGEABLE" in wanted and row["mergeable"])
            or (not wanted and row["status"] != "CLOSED")
        ]

    def _value(self, _: web.Request, wallet: str) -> Rows:
        held = self._desk.exchange.tokens(wallet)
        worth = holdings.value_of(held, self._desk.listings)
        return [{"proxy_wallet": wallet, "value": holdings.number(worth)}]

    def _approvals(self, _: web.Request, wallet: str) -> Rows:
        """Allowances of pUSD and token approvals of the three exchanges."""
        approvals = self._desk.approvals
        spenders = [exchange_address(self._desk.chain_id, exchange) for exchange in Exchange]
        return [
            {
                "proxy_wallet": wallet,
                "spender": spender,
                "collateral_allowance": str(approvals.allowance(wallet, spender)),
                "collateral_unlimited": approvals.allowance(wallet, spender) == UNLIMITED,
                "tokens_approved": approvals.approved(wallet, spender),
            }
            for spender in spenders
        ]


def _wallet(request: web.Request) -> str:
    try:
        return checksum_address(request.query.get("user", ""))
    except SigningError:
        raise _wrong("user", "user must be an address: 0x and 40 hex digits") from None


def _filtered(rows: Rows, request: web.Request) -> list[dict[str, Any]]:
    """Rows of the conditions, side and times asked for. Both spellings of a condition are taken."""
    query = request.query
    conditions = {*listed(request, "condition_id"), *listed(request, "condition")}
    start_s, end_s = _time(query, "start", 0), _time(query, "end", 1 << 62)
    side = query.get("side", "").upper()
    return [
        row
        for row in rows
        if (not conditions or row["condition_id"] in conditions)
        and (not side or row.get("side", side) == side)
        and start_s <= row.get("timestamp", start_s) <= end_s
    ]


def _newest(rows: Rows) -> Rows:
    return sorted(rows, key=lambda row: row["timestamp"], reverse=True)


def _envelope(rows: Rows, query: Mapping[str, str]) -> dict[str, Any]:
    limit = _time(query, "limit", PAGE)
    if not 1 <= limit <= PAGE_MAX:
        raise _wrong("limit", f"limit must be in 1..{PAGE_MAX}")
    try:
        offset = cursor_offset(query.get("cursor", ""))
    except ApiError:
        raise _wrong("cursor", "cursor is not one of ours") from None
    if offset is None:
        offset = len(rows)
    page = rows[offset : offset + limit]
    more = offset + len(page) < len(rows)
    return {
        "data": page,
        "pagination": {
            "limit": limit,
            "offset": offset,
            "has_more": more,
            "next_cursor": cursor_of(offset + len(page)) if more else None,
        },
    }


def _time(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise _wrong(name, f"{name} must be a whole number")
    return int(text)


def _decimal(query: Mapping[str, str], name: str) -> int:
    """A decimal of dollars or shares as base units, rounded down."""
    text = query.get(name, "0")
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isdecimal() or not text.isascii():
        raise _wrong(name, f"{name} must be a number")
    return int(whole or "0") * BASE_UNIT + int(fraction[:6].ljust(6, "0"))


def _wrong(parameter: str, text: str) -> ApiError:
    return ApiError(
        400,
        text,
        fields={
            "code": "invalid_parameter",
            "retryable": False,
            "trace_id": "",
            "parameter": parameter,
        },
    )
