"""The REST half of the local Binance: routes, signatures, clocks, weights, error answers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web

from fleet.sandbox.binance.bars import INTERVALS
from fleet.sandbox.binance.exchange import Exchange
from fleet.sandbox.binance.faults import Fault, Faults
from fleet.sandbox.binance.ledger import Match, Order, Trader
from fleet.sandbox.binance.symbols import ApiError, shown

WEIGHT_LIMIT: Final = 6_000
ORDERS_LIMIT: Final = 100
MINUTE_MS: Final = 60_000
DAY_MS: Final = 1_440 * MINUTE_MS
AHEAD_MS: Final = 1_000
HANG_S: Final = 3_600.0
SLOW_S: Final = 0.3
UNKNOWN: Final = ApiError(
    -1007, "Timeout waiting for response from backend server. Send status unknown; execution "
    "status unknown.", status=503,
)  # fmt: skip
Params = dict[str, str]
Handler = Callable[[Params, "Trader | None"], Any]


class RestRoutes:
    """The routes; ``requests`` counts what was asked by method and path."""

    def __init__(self, exchange: Exchange, faults: Faults) -> None:
        """Serve one exchange."""
        self.exchange, self.faults = exchange, faults
        self.requests: Counter[str] = Counter()
        self.weight_limit = WEIGHT_LIMIT
        self.clock_shift_ms = 0
        """How far this venue's clock is from the machine's."""
        self._minute = self._used = self._refused = 0

    def add_to(self, app: web.Application) -> None:
        """Register every route."""
        public: dict[str, tuple[int, Handler]] = {
            "ping": (1, lambda _p, _t: {}),
            "time": (1, lambda _p, _t: {"serverTime": self.now_ms()}),
            "exchangeInfo": (20, self._exchange_info),
            "klines": (2, self._klines),
            "depth": (5, self._depth),
            "ticker/bookTicker": (2, self._book_ticker),
            "avgPrice": (2, self._average),
        }
        signed: dict[tuple[str, str], tuple[int, Handler]] = {
            ("GET", "account"): (20, self._account),
            ("GET", "account/commission"): (20, self._commission),
            ("POST", "order"): (1, self._place),
            ("GET", "order"): (4, self._order),
            ("DELETE", "order"): (1, self._cancel),
            ("GET", "openOrders"): (6, self._open_orders),
            ("GET", "allOrders"): (20, self._all_orders),
            ("GET", "myTrades"): (20, self._my_trades),
        }
        for path, (weight, handler) in public.items():
            app.router.add_get(f"/api/v3/{path}", self._route(handler, weight, signed=False))
        for (method, path), (weight, handler) in signed.items():
            route = self._route(handler, weight, signed=True)
            app.router.add_route(method, f"/api/v3/{path}", route)
        app.router.add_get("/sapi/v1/bnbBurn", self._route(self._bnb_burn, 1, signed=True))
        # What ccxt's load_markets asks with a key; nothing of it is used.
        for path in ("capital/config/getall", "margin/allPairs", "margin/isolated/allPairs"):
            app.router.add_get(f"/sapi/v1/{path}", self._route(lambda _p, _t: [], 1, signed=False))

    def now_ms(self) -> int:
        """The venue's clock."""
        return self.exchange.now_ms() + self.clock_shift_ms

    # --- around every request -----------------------------------------------------------------

    def _route(
        self, handler: Handler, weight: int, *, signed: bool
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            name = request.path.removeprefix("/api/v3/").removeprefix("/sapi/v1/")
            self.requests[f"{request.method} {name}"] += 1
            fault = self.faults.strike(name, request.method)
            text = await request.text() or request.query_string
            if fault == "lost-request":
                await asyncio.sleep(HANG_S)
            try:
                self._early(fault, weight)
                params = dict(parse_qsl(text, keep_blank_values=True))
                trader = self._trader(request, text, params) if signed else None
                answer: Any = handler(params, trader)
                status = 200
                if fault == "error-after":
                    raise UNKNOWN
            except ApiError as error:
                answer, status = {"code": error.code, "msg": error.msg}, error.status
                headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
                return self._answer(answer, status, headers)
            if fault == "lost-answer":
                await asyncio.sleep(HANG_S)
            if fault == "slow":
                await asyncio.sleep(SLOW_S)
            return self._answer(answer, status, {})

        return serve

    def _early(self, fault: str, weight: int) -> None:
        if fault == "error-before":
            raise ApiError(-1000, "An unknown error occurred while processing the request.",
                           status=503)  # fmt: skip
        if fault == "rate-limit":
            raise ApiError(-1003, "Too many requests.", status=429, retry_after_s=1)
        if fault == "ban":
            raise ApiError(-1003, "Way too many requests; IP banned.", status=418, retry_after_s=2)
        if fault == "clock":
            raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
        minute = self.exchange.now_ms() // MINUTE_MS
        if minute != self._minute:
            self._minute, self._used, self._refused = minute, 0, 0
        self._used += weight
        if self._used > self.weight_limit:
            self._refused += 1
            wait_s = int((minute + 1) * MINUTE_MS - self.exchange.now_ms()) // 1_000 + 1
            status = 418 if self._refused > 10 else 429
            raise ApiError(-1003, "Too much request weight used; current limit is "
                                  f"{self.weight_limit} request weight per 1 MINUTE.",
                           status=status, retry_after_s=wait_s)  # fmt: skip

    def _answer(self, body: Any, status: int, headers: dict[str, str]) -> web.Response:
        return web.Response(
            text=json.dumps(body), status=status, content_type="application/json",
            headers={**headers, "X-MBX-USED-WEIGHT-1M": str(self._used)},
        )  # fmt: skip

    def _trader(self, request: web.Request, text: str, params: Params) -> Trader:
        """Check key, signature and clock, in Binance's order. Raises ``ApiError``."""
        key = request.headers.get("X-MBX-APIKEY", "")
        if not key:
            raise ApiError(-2014, "API-key format invalid.", status=401)
        trader = self.exchange.ledger.by_key(key)
        if trader is None:
            raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", status=401)
        for name in ("timestamp", "signature"):
            if not params.get(name):
                raise ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, "
                                      "or malformed.")  # fmt: skip
        signed, _, signature = text.rpartition("&signature=")
        proper = hmac.new(trader.secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(proper, signature):
            raise ApiError(-1022, "Signature for this request is not valid.")
        window, stamp = params.get("recvWindow", "5000"), params["timestamp"]
        if not window.isdecimal() or not stamp.isdecimal() or int(window) > MINUTE_MS:
            raise ApiError(-1131, "'recvWindow' must be less than 60000.")
        now_ms = self.now_ms()
        if int(stamp) >= now_ms + AHEAD_MS:
            raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's "
                                  "time.")  # fmt: skip
        if now_ms - int(stamp) > int(window):
            raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
        return trader

    # --- public -------------------------------------------------------------------------------

    def _exchange_info(self, params: Params, _: Trader | None) -> Any:
        wanted = json.loads(params.get("symbols", "[]")) or (
            [params["symbol"]] if "symbol" in params else list(self.exchange.markets)
        )
        return {
            "timezone": "UTC", "serverTime": self.now_ms(), "exchangeFilters": [],
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1,
                 "limit": self.weight_limit},
                {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10,
                 "limit": ORDERS_LIMIT},
            ],
            "symbols": [self.exchange.market(symbol).spec.info() for symbol in wanted],
        }  # fmt: skip

    def _klines(self, params: Params, _: Trader | None) -> Any:
        market, interval = self.exchange.market(params.get("symbol", "")), params["interval"]
        now_ms = self.exchange.now_ms()
        market.candles.seconds.roll(now_ms)
        market.candles.minutes.roll(now_ms)
        since, until = int(params.get("startTime", 0)), int(params.get("endTime", 1 << 62))
        limit = min(int(params.get("limit", 500)), 1_000)
        found = [b for b in market.candles.of(interval) if since <= b.opened_ms <= until]
        rows = found[:limit] if "startTime" in params else found[-limit:]
        return [bar.row(INTERVALS[interval]) for bar in rows]

    def _depth(self, params: Params, _: Trader | None) -> Any:
        market = self.exchange.market(params.get("symbol", ""))
        sums: dict[str, dict[int, int]] = {"BUY": {}, "SELL": {}}
        for side, rows in sums.items():
            for level in market.side(side):
                rows[level.price] = rows.get(level.price, 0) + level.qty
        return {
            "lastUpdateId": market.update_id,
            "bids": [[shown(price), shown(qty)] for price, qty in sums["BUY"].items()],
            "asks": [[shown(price), shown(qty)] for price, qty in sums["SELL"].items()],
        }

    def _book_ticker(self, params: Params, _: Trader | None) -> Any:
        depth = self._depth(params, None)
        bid, ask = ((rows or [["0", "0"]])[0] for rows in (depth["bids"], depth["asks"]))
        return {"symbol": params["symbol"], "bidPrice": bid[0], "bidQty": bid[1],
                "askPrice": ask[0], "askQty": ask[1]}  # fmt: skip

    def _average(self, params: Params, _: Trader | None) -> Any:
        market = self.exchange.market(params.get("symbol", ""))
        return {"mins": 5, "price": shown(market.last), "closeTime": self.now_ms()}

    # --- signed -------------------------------------------------------------------------------

    def _account(self, params: Params, trader: Trader | None) -> Any:
        del params
        one = _one(trader)
        rows = {a: held for (uid, a), held in self.exchange.ledger.balances.items()
                if uid == one.uid}  # fmt: skip
        return {
            "makerCommission": one.maker // 10_000, "takerCommission": one.taker // 10_000,
            "buyerCommission": 0, "sellerCommission": 0, "canTrade": True, "canWithdraw": False,
            "canDeposit": False, "accountType": "SPOT", "permissions": ["SPOT"], "uid": one.uid,
            "updateTime": self.now_ms(),
            "balances": [{"asset": asset, "free": shown(free), "locked": shown(locked)}
                         for asset, (free, locked) in sorted(rows.items())],
        }  # fmt: skip

    def _commission(self, params: Params, trader: Trader | None) -> Any:
        one, none = _one(trader), {"maker": "0", "taker": "0", "buyer": "0", "seller": "0"}
        self.exchange.market(params.get("symbol", ""))
        return {
            "symbol": params["symbol"],
            "standardCommission": {**none, "maker": shown(one.maker), "taker": shown(one.taker)},
            "specialCommission": none, "taxCommission": none,
            "discount": {"enabledForAccount": bool(one.bnb_fees), "enabledForSymbol": True,
                         "discountAsset": "BNB", "discount": "0.75"},
        }  # fmt: skip

    def _bnb_burn(self, params: Params, trader: Trader | None) -> Any:
        del params
        return {"spotBNBBurn": bool(_one(trader).bnb_fees)}

    def _place(self, params: Params, trader: Trader | None) -> Any:
        order, matches = self.exchange.place(_one(trader), params)
        row = _row(order)
        row["transactTime"] = order.time_ms
        row["fills"] = [
            {"price": shown(m.price), "qty": shown(m.qty), "commission": shown(m.commission),
             "commissionAsset": m.commission_asset, "tradeId": m.id} for m in matches
        ]  # fmt: skip
        return row

    def _order(self, params: Params, trader: Trader | None) -> Any:
        return _row(self.exchange.query(_one(trader), params))

    def _cancel(self, params: Params, trader: Trader | None) -> Any:
        order = self.exchange.cancel(_one(trader), params)
        row = _row(order)
        return {
            **row,
            "origClientOrderId": row["clientOrderId"],
            "clientOrderId": f"cancel{order.order_id}",
            "transactTime": order.update_ms,
        }

    def _mine(self, params: Params, trader: Trader | None) -> list[Order]:
        symbol = self.exchange.market(params["symbol"]).spec.symbol if "symbol" in params else ""
        return [o for o in self.exchange.ledger.orders.values()
                if o.uid == _one(trader).uid and symbol in {"", o.symbol}]  # fmt: skip

    def _open_orders(self, params: Params, trader: Trader | None) -> Any:
        return [_row(order) for order in self._mine(params, trader) if order.open]

    def _all_orders(self, params: Params, trader: Trader | None) -> Any:
        """Orders from an id on, or of a day at most, or the most recent."""
        since, until = _span(params)
        rows = [o for o in self._mine(params, trader) if since <= o.time_ms <= until]
        if "orderId" in params:
            rows = [o for o in rows if o.order_id >= int(params["orderId"])]
        limit = min(int(params.get("limit", 500)), 1_000)
        first = "orderId" in params or "startTime" in params
        return [_row(order) for order in (rows[:limit] if first else rows[-limit:])]

    def _my_trades(self, params: Params, trader: Trader | None) -> Any:
        """Matches of an order, from an id on, of a day at most, or the most recent."""
        mine = {o.order_id for o in self._mine(params, trader)}
        since, until = _span(params)
        begin, wanted = int(params.get("fromId", 0)), int(params.get("orderId", 0))
        rows = [
            m for m in self.exchange.ledger.matches
            if m.order_id in mine and m.id >= begin and since <= m.time_ms <= until
            and wanted in {0, m.order_id}
        ]  # fmt: skip
        limit = min(int(params.get("limit", 500)), 1_000)
        first = "fromId" in params or "startTime" in params
        return [_match(match) for match in (rows[:limit] if first else rows[-limit:])]

    # --- the operator's ------------------------------------------------------------------------

    def put_fault(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Turn a fault on. Raises ``ValueError``."""
        self.faults.add(Fault(**asked))
        return {"on": [fault.name for fault in self.faults.on]}


def _span(params: Params) -> tuple[int, int]:
    """Start and end in milliseconds. Raises ``ApiError`` -1127 for more than a day."""
    since, until = int(params.get("startTime", 0)), int(params.get("endTime", 1 << 62))
    if {"startTime", "endTime"} <= params.keys() and until - since > DAY_MS:
        raise ApiError(-1127, "More than 24 hours between startTime and endTime.")
    if "startTime" in params and "endTime" not in params:
        until = since + DAY_MS
    return since, until


def _one(trader: Trader | None) -> Trader:
    if trader is None:
        raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", status=401)
    return trader


def _row(order: Order) -> dict[str, Any]:
    return {
        "symbol": order.symbol, "orderId": order.order_id, "orderListId": -1,
        "clientOrderId": order.client_order_id, "price": shown(order.price),
        "origQty": shown(order.qty), "executedQty": shown(order.executed),
        "origQuoteOrderQty": "0.00000000", "cummulativeQuoteQty": shown(order.quote),
        "status": order.status, "timeInForce": order.tif, "type": "LIMIT", "side": order.side,
        "stopPrice": "0.00000000", "icebergQty": "0.00000000", "time": order.time_ms,
        "updateTime": order.update_ms, "workingTime": order.time_ms, "isWorking": True,
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }  # fmt: skip


def _match(match: Match) -> dict[str, Any]:
    quote = match.price * match.qty // 100_000_000
    return {
        "symbol": match.symbol, "id": match.id, "orderId": match.order_id, "orderListId": -1,
        "price": shown(match.price), "qty": shown(match.qty), "quoteQty": shown(quote),
        "commission": shown(match.commission), "commissionAsset": match.commission_asset,
        "time": match.time_ms, "isBuyer": bool(match.is_buyer), "isMaker": bool(match.is_maker),
        "isBestMatch": True,
    }  # fmt: skip
