"""``GET /v2/leaderboard`` of the Data API: this exchange's wallets by what they won.

``time_period`` (day, week, month, all) keeps the wallets that traded within it and counts their
volume in it; the P&L is that of all time, which the venue windows too. ``sort_by`` is PNL or
VOLUME. Other accounts than this exchange's do not exist here.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from fleet.clock import NS_PER_DAY
from fleet.sandbox.exchange.contract import TradeView
from fleet.sandbox.request_reading import ApiError, json_answer, whole
from fleet.sandbox.trading import holdings
from fleet.sandbox.trading.desk import Desk

DAYS: Final = {"day": 1, "week": 7, "month": 30, "all": 0}
PAGE, PAGE_MAX = 100, 1_000


class LeaderRoutes:
    """Handlers of one desk."""

    def __init__(self, desk: Desk) -> None:
        """Tell the wallets of ``desk``."""
        self._desk = desk

    def add_to(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Register the route under ``prefix``."""
        router.add_get(f"{prefix}/v2/leaderboard", self._leaderboard)

    async def _leaderboard(self, request: web.Request) -> web.Response:
        period = request.query.get("time_period", "day")
        key = {"PNL": "pnl", "VOLUME": "volume"}.get(request.query.get("sort_by", "PNL").upper())
        if period not in DAYS or key is None:
            raise ApiError(400, "time_period is day, week, month or all; sort_by PNL or VOLUME")
        limit = whole(request.query, "limit", PAGE, low=1, high=PAGE_MAX)
        since_ns = self._desk.now_ns() - DAYS[period] * NS_PER_DAY if DAYS[period] else 0
        rows = [row for w in self._desk.accounts.wallets() if (row := self._row(w, since_ns))]
        rows.sort(key=lambda row: (-row[key], row["user_id"]))
        answer = [
            {"rank": rank, **row} | {name: holdings.number(row[name]) for name in ("pnl", "volume")}
            for rank, row in enumerate(rows[:limit], 1)
        ]
        return json_answer(
            {
                "data": answer,
                "pagination": {"limit": limit, "offset": 0, "has_more": False, "next_cursor": None},
            }
        )

    def _row(self, wallet: str, since_ns: int) -> dict[str, Any] | None:
        """P&L and volume in base units; None for a wallet that did not trade in the period."""
        trades: dict[str, TradeView] = {}
        for owner in self._desk.accounts.owners_of(wallet):
            trades |= {t.trade_id: t for t in self._desk.exchange.trades(owner)}
        fills = holdings.fills_of(wallet, trades.values())
        volume = sum(fill.cash for fill in fills if fill.at_ns >= since_ns)
        if not volume:
            return None
        listings = self._desk.listings
        costs = holdings.costs(fills, self._desk.exchange.operations(wallet), listings)
        held = self._desk.exchange.tokens(wallet)
        pnl = sum(
            cost.realized - cost.spent - cost.fees
            + holdings.value_of({token: held.get(token, 0)}, listings)
            for token, cost in costs.items()
        )  # fmt: skip
        return {"user_id": wallet, "pnl": pnl, "volume": volume, "user_name": ""}
