"""Orders in and out: /order and /orders, cancel-all, cancel-market-orders, heartbeats.

Each handler: who is asking (401), can the body be read (400), is there a token for it (429), then
one call of the exchange an order, then publish. A batch is not atomic: each of its orders is taken
or refused by itself. Nothing awaits between the exchange's answer and its publication.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from fleet.sandbox.exchange.contract import Cancelled, Refused
from fleet.sandbox.request_reading import json_answer
from fleet.sandbox.trading.account_frames import placement_object, refusal_object
from fleet.sandbox.trading.accounts import ApiKey
from fleet.sandbox.trading.desk import Desk
from fleet.sandbox.trading.posted_orders import (
    INVALID_PAYLOAD,
    PostedOrder,
    read_order,
    read_orders,
    too_many,
)

CANCELS_MAX: Final = 1_000
"""Ids in one DELETE /orders (changelog 2026-06-15; the official client's own cap is 3,000)."""
INVALID_HEARTBEAT: Final = "Invalid Heartbeat ID"


class CancelFrame(msgspec.Struct):
    """The body of DELETE /order."""

    orderID: str  # noqa: N815 - the venue's spelling


class CancelMarketFrame(msgspec.Struct):
    """The body of DELETE /cancel-market-orders; empty means whatever it is."""

    market: str = ""
    asset_id: str = ""


class HeartbeatFrame(msgspec.Struct):
    """The body of POST /v1/heartbeats."""

    heartbeat_id: str | None = None


class OrderRoutes:
    """Handlers of one desk."""

    def __init__(self, desk: Desk) -> None:
        """Take and cancel orders for ``desk``."""
        self._desk = desk

    def add_to(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Register every route under ``prefix``."""
        router.add_post(f"{prefix}/order", self._post_one)
        router.add_post(f"{prefix}/orders", self._post_many)
        router.add_delete(f"{prefix}/order", self._cancel_one)
        router.add_delete(f"{prefix}/orders", self._cancel_many)
        router.add_delete(f"{prefix}/cancel-all", self._cancel_all)
        router.add_delete(f"{prefix}/cancel-market-orders", self._cancel_market)
        for path in ("/v1/heartbeats", "/heartbeats"):
            router.add_post(prefix + path, self._heartbeat)

    async def _post_one(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        posted = read_order(await request.read())
        charge = self._desk.limits.orders(key.address, 1)
        try:
            answer, status = self._place(posted, key), 200
        except Refused as error:
            answer, status = {"error": error.text}, error.status
        finally:
            self._desk.publish()
        return json_answer(answer, status=status, headers=charge.headers())

    async def _post_many(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        batch = read_orders(await request.read())
        charge = self._desk.limits.orders(key.address, len(batch))
        answers = []
        for posted in batch:
            try:
                answers.append(self._place(posted, key))
            except Refused as error:
                answers.append(refusal_object(error.text))
            finally:
                self._desk.publish()
        return json_answer(answers, headers=charge.headers())

    def _place(self, posted: PostedOrder, key: ApiKey) -> dict[str, Any]:
        verified = self._desk.checks.verify(posted, key)
        self._desk.may_spend(verified.request, verified.exchange_address)
        return placement_object(self._desk.exchange.place(verified.request, self._desk.now_ns()))

    # --- cancels ------------------------------------------------------------------------------

    async def _cancel_one(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        frame = _decoded(await request.read(), CancelFrame)
        return self._cancel(key, [frame.orderID])

    async def _cancel_many(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        ids: list[str] = _decoded(await request.read(), list[str])
        if len(ids) > CANCELS_MAX:
            raise too_many(len(ids), CANCELS_MAX)
        if not ids:
            raise Refused(400, INVALID_PAYLOAD)
        return self._cancel(key, ids)

    def _cancel(self, key: ApiKey, ids: Sequence[str]) -> web.Response:
        charge = self._desk.limits.cancels(key.address, len(ids))
        cancelled = self._desk.exchange.cancel(key.owner, ids, self._desk.now_ns())
        self._desk.publish()
        return _cancel_answer(cancelled, charge.headers())

    async def _cancel_all(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        return self._cancel_many_at_once(
            key, lambda now_ns: self._desk.exchange.cancel_all(key.owner, now_ns)
        )

    async def _cancel_market(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        frame = _decoded(await request.read(), CancelMarketFrame)
        if not frame.market and not frame.asset_id:
            raise Refused(400, INVALID_PAYLOAD)
        return self._cancel_many_at_once(
            key,
            lambda now_ns: self._desk.exchange.cancel_market(
                key.owner, now_ns, condition_id=frame.market, token_id=frame.asset_id
            ),
        )

    def _cancel_many_at_once(self, key: ApiKey, cancel: Callable[[int], Cancelled]) -> web.Response:
        charge = self._desk.limits.cancels(key.address, 1)
        cancelled = cancel(self._desk.now_ns())
        charge.more(len(cancelled.canceled))
        self._desk.publish()
        return _cancel_answer(cancelled, charge.headers())

    # --- heartbeats ---------------------------------------------------------------------------

    async def _heartbeat(self, request: web.Request) -> web.Response:
        key = await self._desk.key(request)
        frame = _decoded(await request.read(), HeartbeatFrame)
        right, next_id = self._desk.heartbeats.beat(key.owner, frame.heartbeat_id or "")
        if right:
            return json_answer({"heartbeat_id": next_id})
        return json_answer({"error_msg": INVALID_HEARTBEAT, "heartbeat_id": next_id}, status=400)


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError:
        raise Refused(400, INVALID_PAYLOAD) from None


def _cancel_answer(cancelled: Cancelled, headers: Mapping[str, str]) -> web.Response:
    return json_answer(
        {
            "canceled": list(cancelled.canceled),
            "not_canceled": dict(cancelled.not_canceled),
        },
        headers=headers,
    )
