"""Keys and the account behind them: /auth, /data, balances, notifications, scoring (4.1, 4.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from fleet.sandbox.exchange.contract import OrderView, Refused, TradeView
from fleet.sandbox.request_reading import (
    CURSOR_END,
    ApiError,
    cursor_of,
    cursor_offset,
    json_answer,
)
from fleet.sandbox.trading.account_frames import order_object, trade_object
from fleet.sandbox.trading.accounts import ApiKey, Standing
from fleet.sandbox.trading.approvals import UNLIMITED
from fleet.sandbox.trading.desk import Desk
from fleet.sandbox.trading.posted_orders import INVALID_PAYLOAD
from fleet.venues.polymarket.contracts import Exchange, SignatureType, exchange_address

PAGE: Final = 500
"""Rows of one page; our choice, the venue's number is unknown."""
NOT_CREATED: Final = "Could not create api key"
NOT_DERIVED: Final = "Could not derive api key!"
BAD_TRADE_PARAMS: Final = "Invalid trade params payload"
COLLATERAL: Final = "COLLATERAL"
ASSET_TYPES: Final = (COLLATERAL, "CONDITIONAL", "CONDITIONAL-V2")


class AccountRoutes:
    """Handlers of one desk."""

    def __init__(self, desk: Desk) -> None:
        """Tell the keys and accounts of ``desk``."""
        self._desk = desk

    def add_to(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Register every route under ``prefix``."""
        gets = {
            "/auth/derive-api-key": self._derive,
            "/auth/api-keys": self._keys,
            "/auth/ban-status/closed-only": self._closed_only,
            "/data/order/{order_id}": self._order,
            "/data/orders": self._orders,
            "/data/pre-migration-orders": self._pre_migration_orders,
            "/data/trades": self._trades,
            "/balance-allowance": self._balance,
            "/balance-allowance/update": self._balance,
            "/notifications": self._notifications,
            "/order-scoring": self._scoring,
        }
        for path, handler in gets.items():
            router.add_get(prefix + path, handler)
        router.add_post(f"{prefix}/auth/api-key", self._create)
        router.add_delete(f"{prefix}/auth/api-key", self._delete)
        router.add_delete(f"{prefix}/notifications", self._drop_notifications)
        router.add_post(f"{prefix}/orders-scoring", self._scorings)

    # --- keys ---------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.Response:
        key = self._desk.accounts.create(*self._desk.login.wallet(request))
        if key is None:
            raise ApiError(400, NOT_CREATED)
        return _key_answer(key)

    async def _derive(self, request: web.Request) -> web.Response:
        key = self._desk.accounts.derive(*self._desk.login.wallet(request))
        if key is None:
            raise ApiError(400, NOT_DERIVED)
        return _key_answer(key)

    async def _keys(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        return json_answer({"apiKeys": self._desk.accounts.keys_of(key.address)})

    async def _delete(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        # Nobody could cancel them afterwards.
        self._desk.exchange.cancel_all(key.owner, self._desk.now_ns())
        self._desk.publish()
        self._desk.heartbeats.end(key.owner)
        self._desk.accounts.delete(key.owner)
        self._desk.hang_up(key.owner)
        return json_answer("OK")

    async def _closed_only(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        standing = self._desk.accounts.standing(key.address)
        return json_answer({"closed_only": standing is not Standing.ACTIVE})

    # --- orders and trades --------------------------------------------------------------------

    async def _order(self, request: web.Request) -> web.Response:
        """An active order; ``null`` for any other, as the venue answers (py-clob-client #217)."""
        key = await self._desk.key(request)
        order = self._desk.exchange.order(key.owner, request.match_info["order_id"])
        return json_answer(None if order is None else order_object(order))

    async def _orders(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        query = request.query
        found = [
            order_object(order)
            for order in self._desk.exchange.orders(key.owner)
            if _order_matches(order, query)
        ]
        return _page(found, query)

    async def _pre_migration_orders(self, request: web.Request) -> web.Response:
        await self._desk.key(request)
        return _page([], request.query)

    async def _trades(self, request: web.Request) -> web.Response:
        """``market`` and ``asset_id`` are compared with the taker's asset, as at the venue."""
        key = await self._desk.key(request)
        query = request.query
        after_s, before_s = _time(query, "after"), _time(query, "before")
        found = [
            trade_object(trade, key.owner)
            for trade in self._desk.exchange.trades(key.owner, after_s=after_s, before_s=before_s)
            if _trade_matches(trade, query)
        ]
        return _page(found, query)

    # --- balances -----------------------------------------------------------------------------

    async def _balance(self, request: web.Request) -> web.Response:
        """The balance as it is: there is no cache here that ``update`` would have to refresh."""
        key = await self._desk.key(request)
        query = request.query
        asset_type = query.get("asset_type", "")
        token_id = query.get("token_id", "")
        if asset_type not in ASSET_TYPES:
            raise ApiError(400, "invalid asset_type")
        if asset_type != COLLATERAL and not token_id:
            raise ApiError(400, "token_id is required")
        wallet = self._desk.accounts.wallet(key.address, _signature_type(query))
        if wallet is None:
            balance, spenders = 0, dict.fromkeys(self._spenders(), 0)
        elif asset_type == COLLATERAL:
            balance = self._desk.exchange.cash(wallet)
            allowance = self._desk.approvals.allowance
            spenders = {s: allowance(wallet, s) for s in self._spenders()}
        else:
            balance = self._desk.exchange.tokens(wallet).get(token_id, 0)
            approved = self._desk.approvals.approved
            spenders = {s: UNLIMITED if approved(wallet, s) else 0 for s in self._spenders()}
        return json_answer(
            {
                "balance": str(balance),
                "allowances": {s: str(amount) for s, amount in spenders.items()},
            }
        )

    def _spenders(self) -> Sequence[str]:
        return [exchange_address(self._desk.chain_id, exchange) for exchange in Exchange]

    # --- notifications and scoring ------------------------------------------------------------

    async def _notifications(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        return json_answer(self._desk.notifications.of(key.owner))

    async def _drop_notifications(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        self._desk.notifications.drop(key.owner, request.query.get("ids", "").split(","))
        return json_answer("OK")

    async def _scoring(self, request: web.Request) -> web.Response:
        """No market of the sandbox pays liquidity rewards, so no order scores."""
        await self._desk.key(request)
        if not request.query.get("order_id"):
            raise ApiError(400, "order_id is required")
        return json_answer({"scoring": False})

    async def _scorings(self, request: web.Request) -> web.Response:
        await self._desk.key(request)
        try:
            ids = msgspec.json.decode(await request.read(), type=list[str])
        except msgspec.MsgspecError:
            raise Refused(400, INVALID_PAYLOAD) from None
        return json_answer(dict.fromkeys(ids, False))


def _key_answer(key: ApiKey) -> web.Response:
    return json_answer({"apiKey": key.owner, "secret": key.secret, "passphrase": key.passphrase})


def _order_matches(order: OrderView, query: Mapping[str, str]) -> bool:
    return (
        query.get("id", order.order_id) == order.order_id
        and query.get("market", order.condition_id) == order.condition_id
        and query.get("asset_id", order.token_id) == order.token_id
    )


def _trade_matches(trade: TradeView, query: Mapping[str, str]) -> bool:
    wallet = query.get("maker_address")
    return (
        query.get("id", trade.trade_id) == trade.trade_id
        and query.get("market", trade.condition_id) == trade.condition_id
        and query.get("asset_id", trade.token_id) == trade.token_id
        and (
            wallet is None
            or wallet.lower() in {trade.maker.lower(), *(m.maker.lower() for m in trade.makers)}
        )
    )


def _page(rows: Sequence[dict[str, Any]], query: Mapping[str, str]) -> web.Response:
    offset = cursor_offset(query.get("next_cursor", ""))
    page = [] if offset is None else rows[offset : offset + PAGE]
    after = (offset or 0) + len(page)
    more = offset is not None and after < len(rows)
    return json_answer(
        {
            "limit": PAGE,
            "count": len(page),
            "next_cursor": cursor_of(after) if more else CURSOR_END,
            "data": page,
        }
    )


def _time(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ApiError(400, BAD_TRADE_PARAMS)
    return int(text)


def _signature_type(query: Mapping[str, str]) -> SignatureType:
    text = query.get("signature_type", "0")
    if text not in {"0", "1", "2", "3"}:
        raise ApiError(400, "invalid signature_type")
    return SignatureType(int(text))
