"""A CLOB that answers what a test tells it to: for the odd answers no sound exchange would give.

It keeps orders and trades as rows of the reference's shapes, on a real socket of 127.0.0.1. An
order that is posted rests, unless ``next_answers`` says otherwise: ``(status, body)`` to answer so,
``DROP`` to take the order and cut the connection, ``DEAF`` to cut it and take nothing.
"""

import asyncio
import json
from typing import Any, Self

from aiohttp import web

from fleet.venues.polymarket.auth import ApiCredentials
from fleet.venues.polymarket.hosts import Hosts, sandbox_hosts
from fleet.venues.polymarket.keys import SecretKey

DROP, DEAF, HANG = "drop", "deaf", "hang"
KEY = SecretKey(b"\x01" * 32)
CREDENTIALS = ApiCredentials(
    address=KEY.address, api_key="00000000-0000-4000-8000-000000000001",
    secret="AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", passphrase="pass",
)  # fmt: skip


class OddClob:
    """``async with OddClob() as clob`` serves until the end of the block."""

    def __init__(self) -> None:
        self.next_answers: list[Any] = []
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str, bytes]] = []
        self.posted: list[list[str]] = []
        """The order ids of each POST, in its order."""
        self.resting: dict[str, dict[str, Any]] = {}
        self.trades: list[dict[str, Any]] = []
        self.cash = 1_000_000_000
        self.tokens: dict[str, int] = {}
        self.cancel_refusal = ""
        self.pongs = True
        self.time_s = 1_760_000_000
        self.sockets: list[web.WebSocketResponse] = []
        self.port = 0
        self.ids: dict[str, str] = {}
        """Salt -> order id, told by the test, since nothing here can hash an order."""

    @property
    def hosts(self) -> Hosts:
        return sandbox_hosts(self.port)

    async def __aenter__(self) -> Self:
        app = web.Application()
        add = app.router.add_route
        add("POST", "/clob/order", self._post)
        add("POST", "/clob/orders", self._post)
        add("DELETE", "/clob/{path:order|orders|cancel-all}", self._cancel)
        add("GET", "/clob/data/order/{id}", self._order)
        add("GET", "/clob/data/orders", self._orders)
        add("GET", "/clob/data/trades", self._trades)
        add("GET", "/clob/balance-allowance", self._balance)
        add("GET", "/clob/balance-allowance/update", self._balance)
        add("GET", "/clob/time", self._time)
        add("GET", "/clob/version", self._version)
        add("POST", "/clob/v1/heartbeats", self._beat)
        add("GET", "/ws/user", self._user)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for socket in self.sockets:
            await socket.close()
        await self._runner.cleanup()

    def paths(self, start: str) -> list[str]:
        """The requests that begin so, method first."""
        return [f"{m} {path}" for m, path, _ in self.requests if f"{m} {path}".startswith(start)]

    async def _odd(self, request: web.Request) -> web.Response | None:
        """The scripted answer of this request, if there is one."""
        if not self.next_answers:
            return None
        answer = self.next_answers.pop(0)
        if answer == HANG:
            await request.read()
            await asyncio.sleep(3)
        if isinstance(answer, str):
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        status, body = answer
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=self.headers)

    async def _note(self, request: web.Request) -> bytes:
        body = await request.read()
        self.requests.append((request.method, request.path.removeprefix("/clob"), body))
        return body

    async def _post(self, request: web.Request) -> web.Response:
        said = json.loads(await self._note(request))
        entries = said if isinstance(said, list) else [said]
        ids = [self.ids[str(entry["order"]["salt"])] for entry in entries]
        self.posted.append(ids)
        deaf = bool(self.next_answers) and self.next_answers[0] != DROP
        if not deaf:
            for order_id, entry in zip(ids, entries, strict=True):
                self.resting[order_id] = order_row(order_id, entry["order"])
        odd = await self._odd(request)
        if odd is not None:
            return odd
        results = [_live(order_id) for order_id in ids]
        return web.json_response(results if isinstance(said, list) else results[0],
                                 headers=self.headers)  # fmt: skip

    async def _cancel(self, request: web.Request) -> web.Response:
        body = await self._note(request)
        if (odd := await self._odd(request)) is not None:
            return odd
        if request.path.endswith("cancel-all"):
            wanted = list(self.resting)
        else:
            said = json.loads(body)
            wanted = said if isinstance(said, list) else [said["orderID"]]
        found = [o for o in wanted if o in self.resting and not self.cancel_refusal]
        for order_id in found:
            del self.resting[order_id]
        reason = self.cancel_refusal or "order not found"
        return web.json_response(
            {"canceled": found, "not_canceled": {o: reason for o in wanted if o not in found}}
        )

    async def _order(self, request: web.Request) -> web.Response:
        await self._note(request)
        row = self.resting.get(request.match_info["id"])
        return web.json_response(row, status=200 if row else 404)

    async def _orders(self, request: web.Request) -> web.Response:
        await self._note(request)
        if (odd := await self._odd(request)) is not None:
            return odd
        return web.json_response({"data": list(self.resting.values()), "next_cursor": "LTE="})

    async def _trades(self, request: web.Request) -> web.Response:
        await self._note(request)
        wanted = request.query.get("id")
        rows = [row for row in self.trades if wanted in {None, row["id"]}]
        # One row a page: the cursor is used in every test.
        at = int(request.query["next_cursor"]) if request.query["next_cursor"].isdigit() else 0
        after = "LTE=" if at + 1 >= len(rows) else str(at + 1)
        return web.json_response({"data": rows[at : at + 1], "next_cursor": after})

    async def _balance(self, request: web.Request) -> web.Response:
        await self._note(request)
        token = request.query.get("token_id")
        amount = self.tokens.get(token, 0) if token else self.cash
        return web.json_response({"balance": str(amount), "allowances": {"0xspender": "7"}})

    async def _time(self, _: web.Request) -> web.Response:
        return web.Response(text=str(self.time_s))

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": 2})

    async def _beat(self, request: web.Request) -> web.Response:
        body = json.loads(await self._note(request))
        if body["heartbeat_id"] == "wrong":
            return web.json_response(
                {"error_msg": "Invalid Heartbeat ID", "heartbeat_id": "right"}, status=400
            )
        return web.json_response({"heartbeat_id": "next"})

    async def _user(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            if message.data == "PING":
                if self.pongs:
                    await socket.send_str("PONG")
            else:
                self.requests.append(("WS", "/ws/user", message.data.encode()))
        return socket

    async def tell(self, frame: Any) -> None:
        """Send a frame to every client of the user channel."""
        for socket in self.sockets:
            if not socket.closed:
                await socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))


def _live(order_id: str) -> dict[str, Any]:
    return {"success": True, "errorMsg": "", "orderID": order_id, "status": "live",
            "makingAmount": "", "takingAmount": "", "tradeIDs": [], "transactionsHashes": []}  # fmt: skip


def order_row(order_id: str, order: dict[str, Any]) -> dict[str, Any]:
    """A row of /data/orders: this order, resting."""
    buys = order["side"] == "BUY"
    shares = int(order["takerAmount" if buys else "makerAmount"])
    dollars = int(order["makerAmount" if buys else "takerAmount"])
    return {
        "id": order_id, "status": "LIVE", "market": "0xm", "asset_id": order["tokenId"],
        "side": order["side"], "original_size": f"{shares / 1e6:g}", "size_matched": "0",
        "price": f"{dollars / shares:g}", "order_type": "GTC", "created_at": 1_760_000_000,
        "associate_trades": [], "owner": "o", "maker_address": order["maker"],
    }  # fmt: skip


def trade_row(
    trade_id: str,
    order_id: str,
    token: str,
    *,
    size: str = "10",
    price: str = "0.52",
    status: str = "TRADE_STATUS_MATCHED",
    match_time: int = 1_760_000_000,
) -> dict[str, Any]:
    """A row of /data/trades in which ``order_id`` bought as taker from one maker."""
    return {
        "id": trade_id, "taker_order_id": order_id, "market": "0xm", "asset_id": token,
        "side": "BUY", "size": size, "fee_rate_bps": "1000", "price": price, "status": status,
        "match_time": str(match_time), "last_update": str(match_time), "trader_side": "TAKER",
        "maker_orders": [{
            "order_id": "0xflow", "owner": "f", "maker_address": "0xf", "matched_amount": size,
            "price": price, "fee_rate_bps": "0", "asset_id": token, "outcome": "Yes",
            "side": "SELL",
        }],
    }  # fmt: skip
