"""The local Alpaca's REST: trading and market data, with its shapes, its errors and its faults."""

from __future__ import annotations

import asyncio
import datetime as dt
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE, format_units
from fleet.sandbox.alpaca.days import Day, MarketClock
from fleet.sandbox.alpaca.exchange import NAMES, OPEN, ApiError, Exchange, iso
from fleet.sandbox.alpaca.faults import Faults
from fleet.sandbox.alpaca.prices import MINUTE_S, Bar

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
UNITS: Final = {"Min": 60, "T": 60, "Hour": 3_600, "H": 3_600}
BARS_MAX: Final = 10_000
SLOW_S: Final = 0.3


def number(value: int) -> float:
    """An integer at 1e-8 as the JSON number market data has."""
    return float(format_units(value))


def bar_row(bar: Bar) -> dict[str, Any]:
    """A candle as Alpaca writes it."""
    return {
        "t": iso(bar.begin_s * NS_PER_SECOND)[:19] + "Z", "o": number(bar.open),
        "h": number(bar.high), "l": number(bar.low), "c": number(bar.close),
        "v": number(bar.volume), "n": 100, "vw": number((bar.high + bar.low) // 2),
    }  # fmt: skip


class RestRoutes:
    """Every path of the used part."""

    def __init__(
        self, exchange: Exchange, clock: MarketClock, faults: Faults, keys: tuple[str, str]
    ) -> None:
        """``keys`` are the only key and secret."""
        self.exchange, self.clock, self.faults = exchange, clock, faults
        self._keys = keys
        self.seen: list[tuple[str, str]] = []
        """(method, path) of every request that was let in."""

    def add_to(self, app: web.Application) -> None:
        """Register the paths."""
        for method, path, handler in (
            ("GET", "/v2/account", self._account),
            ("GET", "/v2/clock", self._clock),
            ("GET", "/v2/calendar", self._calendar),
            ("GET", "/v2/assets/{symbol}", self._asset),
            ("GET", "/v2/positions", self._positions),
            ("GET", "/v2/account/activities", self._activities),
            ("GET", "/v2/orders", self._orders),
            ("POST", "/v2/orders", self._place),
            ("GET", "/v2/orders:by_client_order_id", self._by_name),
            ("GET", "/v2/orders/{id}", self._by_id),
            ("DELETE", "/v2/orders/{id}", self._cancel),
            ("GET", "/v2/stocks/bars", self._bars),
            ("GET", "/v2/stocks/snapshots", self._snapshots),
        ):
            app.router.add_route(method, path, self._guarded(handler))

    # --- who may, and what goes wrong ---------------------------------------------------------

    def known(self, key: str, secret: str) -> bool:
        """Whether these are the key and the secret."""
        pairs = zip((key, secret), self._keys, strict=True)
        return all(hmac.compare_digest(a.encode(), b.encode()) for a, b in pairs)

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            headers = request.headers
            if not self.known(
                headers.get("APCA-API-KEY-ID", ""), headers.get("APCA-API-SECRET-KEY", "")
            ):
                return _refusal(401, 40110000, "request is not authorized")
            fault = self.faults.strike(request.path, request.method)
            if fault == "lost-request":
                return _hang_up(request)
            if fault == "error-before":
                return web.Response(status=503, text="service unavailable")
            if fault == "gateway":
                return web.Response(status=403, text="<html>Forbidden</html>")
            if fault == "rate-limit":
                body = json.dumps({"message": "too many requests."})
                return web.Response(status=429, text=body, headers={"Retry-After": "1"})
            self.seen.append((request.method, request.path))
            try:
                answer = await handler(request)
            except ApiError as error:
                answer = web.json_response(error.body, status=error.status)
            if fault == "lost-answer":
                return _hang_up(request)
            if fault == "error-after":
                return _refusal(500, 50010000, "internal server error occurred")
            if fault == "slow":
                await asyncio.sleep(SLOW_S)
            return answer

        return guarded

    # --- account ------------------------------------------------------------------------------

    async def _account(self, request: web.Request) -> web.Response:
        del request
        cash = format_units(self.exchange.cash)
        return web.json_response({
            "id": str(uuid.uuid5(NAMES, "account")), "account_number": "PA0SANDBOX00",
            "status": self.exchange.status, "crypto_status": "INACTIVE", "currency": "USD",
            "buying_power": cash, "regt_buying_power": cash, "daytrading_buying_power": "0",
            "non_marginable_buying_power": cash, "cash": cash, "accrued_fees": "0",
            "portfolio_value": cash, "pattern_day_trader": False, "trading_blocked": False,
            "transfers_blocked": False, "account_blocked": False,
            "created_at": "2026-01-02T00:00:00Z", "trade_suspended_by_user": False,
            "multiplier": "1", "shorting_enabled": False, "equity": cash, "last_equity": cash,
            "long_market_value": "0", "short_market_value": "0", "initial_margin": "0",
            "maintenance_margin": "0", "last_maintenance_margin": "0", "sma": "0",
            "daytrade_count": 0,
        })  # fmt: skip

    async def _clock(self, request: web.Request) -> web.Response:
        del request
        opens_ns, closes_ns = self.clock.next_times()
        return web.json_response({
            "timestamp": iso(self.clock.now_ns()), "is_open": self.clock.is_open(),
            "next_open": iso(opens_ns), "next_close": iso(closes_ns),
        })  # fmt: skip

    async def _calendar(self, request: web.Request) -> web.Response:
        try:
            begin, end = (dt.date.fromisoformat(request.query[name]) for name in ("start", "end"))
        except (KeyError, ValueError):
            return _refusal(422, 42210000, "start and end must be dates")

        def row(day: Day) -> dict[str, str]:
            return {
                "date": day.date.isoformat(), "open": day.opens, "close": day.closes,
                "session_open": day.early.replace(":", ""),
                "session_close": day.late.replace(":", ""),
                "settlement_date": (day.date + dt.timedelta(days=1)).isoformat(),
            }  # fmt: skip

        return web.json_response([row(day) for day in self.clock.calendar.days(begin, end)])

    async def _asset(self, request: web.Request) -> web.Response:
        symbol = request.match_info["symbol"]
        if symbol not in self.exchange.symbols:
            raise ApiError(404, 40410000, f"asset not found for {symbol}")
        return web.json_response({
            "id": str(uuid.uuid5(NAMES, symbol)), "class": "us_equity", "exchange": "NASDAQ",
            "symbol": symbol, "name": f"{symbol} of the sandbox", "status": "active",
            "tradable": True, "marginable": False, "shortable": False, "easy_to_borrow": False,
            "fractionable": True, "attributes": [],
        })  # fmt: skip

    async def _positions(self, request: web.Request) -> web.Response:
        del request
        return web.json_response([
            {
                "asset_id": str(uuid.uuid5(NAMES, symbol)), "symbol": symbol,
                "exchange": "NASDAQ", "asset_class": "us_equity", "asset_marginable": False,
                "qty": format_units(qty), "avg_entry_price": "0", "side": "long",
                "market_value": "0", "cost_basis": "0", "unrealized_pl": "0",
                "unrealized_plpc": "0", "unrealized_intraday_pl": "0",
                "unrealized_intraday_plpc": "0", "current_price": "0", "lastday_price": "0",
                "change_today": "0", "qty_available": format_units(qty),
            }
            for symbol, qty in self.exchange.positions().items()
        ])  # fmt: skip

    async def _activities(self, request: web.Request) -> web.Response:
        query = request.query
        rows = sorted(self.exchange.activities, key=lambda row: str(row["id"]))
        if after := query.get("after"):
            begin = dt.datetime.fromisoformat(after).strftime("%Y%m%d%H%M%S%f")[:17]
            rows = [row for row in rows if row["id"][:17] >= begin]
        if query.get("direction") != "asc":
            rows.reverse()
        if token := query.get("page_token"):
            names = [row["id"] for row in rows]
            rows = rows[names.index(token) + 1 :] if token in names else rows
        inner = {"count"}
        page = rows[: int(query.get("page_size", "100"))]
        return web.json_response([
            {name: value for name, value in row.items() if name not in inner} for row in page
        ])  # fmt: skip

    # --- orders -------------------------------------------------------------------------------

    async def _place(self, request: web.Request) -> web.Response:
        row = self.exchange.place(await request.json())
        answer = web.json_response({**row, "status": "pending_new"})
        self.exchange.begin(row)
        return answer

    async def _orders(self, request: web.Request) -> web.Response:
        wanted = request.query.get("status", "open")
        rows = [
            row
            for row in self.exchange.orders.values()
            if wanted == "all" or (row["status"] in OPEN) == (wanted == "open")
        ]
        return web.json_response(rows)

    async def _by_name(self, request: web.Request) -> web.Response:
        return web.json_response(self.exchange.by_name(request.query.get("client_order_id", "")))

    async def _by_id(self, request: web.Request) -> web.Response:
        return web.json_response(self.exchange.by_id(request.match_info["id"]))

    async def _cancel(self, request: web.Request) -> web.Response:
        self.exchange.cancel(request.match_info["id"])
        return web.Response(status=204)

    # --- market data --------------------------------------------------------------------------

    def bar(self, symbol: str, begin_s: int, length_s: int) -> Bar | None:
        """The candle of a span that has begun; its minutes are those that traded."""
        now_s = self.clock.now_ns() // NS_PER_SECOND
        minutes = [
            one for start in range(begin_s, begin_s + length_s, MINUTE_S)
            if start < now_s and (one := self.exchange.prices.minute(symbol, start)) is not None
        ]  # fmt: skip
        if not minutes:
            return None
        return Bar(
            begin_s, minutes[0].open, max(m.high for m in minutes), min(m.low for m in minutes),
            minutes[-1].close, sum(m.volume for m in minutes),
        )  # fmt: skip

    async def _bars(self, request: web.Request) -> web.Response:
        query = request.query
        text = query.get("timeframe", "")
        unit = text.lstrip("0123456789")
        if unit not in UNITS or not text[: -len(unit)].isdecimal():
            return _refusal(400, 40010001, f"invalid timeframe {text}")
        length_s = int(text[: -len(unit)]) * UNITS[unit]
        now_ns = self.clock.now_ns()
        begin_s = _seconds(query.get("start"), now_ns - 86_400 * NS_PER_SECOND)
        end_s = min(_seconds(query.get("end"), now_ns), now_ns // NS_PER_SECOND)
        first = -(-begin_s // length_s) * length_s
        late = bool(self.faults.strike_data())
        limit, skip = int(query.get("limit", "1000")), int(query.get("page_token") or "0")
        found: list[tuple[str, dict[str, Any]]] = []
        for symbol in sorted(query.get("symbols", "").split(",")):
            begins = list(range(first, end_s + 1, length_s))
            complete = [begin for begin in begins if begin + length_s <= now_ns // NS_PER_SECOND]
            for begin in begins:
                if late and complete and begin >= complete[-1]:
                    continue
                bar = self.bar(symbol, begin, length_s) if self._traded(begin) else None
                if bar is not None and symbol in self.exchange.symbols:
                    found.append((symbol, bar_row(bar)))
        page = found[skip : skip + min(limit, BARS_MAX)]
        bars: dict[str, list[dict[str, Any]]] = {}
        for symbol, row in page:
            bars.setdefault(symbol, []).append(row)
        more = skip + len(page) < len(found)
        token = str(skip + len(page)) if more else None
        return web.json_response({"bars": bars, "next_page_token": token})

    def _traded(self, begin_s: int) -> bool:
        moment_ns = begin_s * NS_PER_SECOND
        zone_day = dt.datetime.fromtimestamp(begin_s, dt.UTC)
        for date in (zone_day.date(), zone_day.date() - dt.timedelta(days=1)):
            day = self.clock.calendar.day(date)
            if day is not None and day.moment_ns(day.early) <= moment_ns < day.moment_ns(day.late):
                return True
        return False

    async def _snapshots(self, request: web.Request) -> web.Response:
        answer: dict[str, Any] = {}
        now_ns = self.clock.now_ns()
        for symbol in request.query.get("symbols", "").split(","):
            quote = self.exchange.prices.quote(symbol, now_ns)
            if symbol not in self.exchange.symbols or quote is None:
                continue
            stamp = iso(now_ns)
            answer[symbol] = {
                "latestQuote": {
                    "t": stamp, "bp": number(quote.bid), "bs": quote.bid_qty // SCALE,
                    "bx": "V", "ap": number(quote.ask), "as": quote.ask_qty // SCALE, "ax": "V",
                    "c": ["R"], "z": "C",
                },
                "latestTrade": {
                    "t": stamp, "p": number(quote.ask if quote.step % 2 else quote.bid),
                    "s": 100, "i": quote.step, "x": "V", "c": ["@"], "z": "C",
                },
            }  # fmt: skip
        return web.json_response(answer)


def _seconds(text: str | None, default_ns: int) -> int:
    if not text:
        return default_ns // NS_PER_SECOND
    try:
        return int(dt.datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise ApiError(400, 40010001, f"invalid time {text}") from None


def _refusal(status: int, code: int, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)


def _hang_up(request: web.Request) -> web.Response:
    """End the connection without an answer."""
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=500)
