"""Unmodified ccxt against the local Binance: what it is told is what it knows how to read."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ccxt.async_support as ccxt
import httpx
import pytest

from fleet.clock import LiveClock
from fleet.domain.units import SCALE
from fleet.sandbox.binance.server import KEY, SECRET, UID, BinanceServer, BinanceSettings


async def with_ccxt(story: Any, **settings: Any) -> None:
    server = BinanceServer(BinanceSettings(still=True, minutes=30, seconds=5, **settings),
                           LiveClock())  # fmt: skip
    port = await server.start()
    peer = ccxt.binance({
        "apiKey": KEY, "secret": SECRET, "enableRateLimit": False,
        "options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}},
    })  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    peer.urls["api"] = {
        name: base + urlsplit(url).path if isinstance(url, str) else url
        for name, url in peer.urls["api"].items()
    }
    server.exchange.markets["ETHUSDT"].write(
        [(2_999 * SCALE, 2 * SCALE)], [(3_001 * SCALE, SCALE), (3_002 * SCALE, SCALE)]
    )
    try:
        async with asyncio.timeout(30):
            await story(server, peer, base)
    finally:
        await peer.close()
        await server.stop()


def test_ccxt_trades_reads_and_cancels() -> None:
    async def story(server: BinanceServer, peer: Any, base: str) -> None:
        del base
        markets = await peer.load_markets()
        steps = markets["ETH/USDT"]["precision"]
        assert (steps["amount"], steps["price"]) == (0.0001, 0.01)
        assert markets["ETH/USDT"]["limits"]["cost"]["min"] == 5
        taken = await peer.create_order(
            "ETH/USDT", "limit", "buy", 1.5, 3_002,
            {"clientOrderId": "mine-1", "timeInForce": "IOC"},
        )  # fmt: skip
        assert (taken["status"], taken["filled"], taken["cost"]) == ("closed", 1.5, 4_502)
        assert [t["price"] for t in taken["trades"]] == [3_001, 3_002]
        resting = await peer.create_order("ETH/USDT", "limit", "buy", 1, 2_000)
        balance = await peer.fetch_balance()
        assert balance["USDT"] == {"free": 3_498.0, "used": 2_000.0, "total": 5_498.0}
        assert balance["ETH"]["total"] == 1.4985
        assert [o["id"] for o in await peer.fetch_open_orders("ETH/USDT")] == [resting["id"]]
        assert (await peer.cancel_order(resting["id"], "ETH/USDT"))["status"] == "canceled"
        trades = await peer.fetch_my_trades("ETH/USDT")
        assert [t["fee"]["currency"] for t in trades] == ["ETH", "ETH"]
        assert (await peer.fetch_order(taken["id"], "ETH/USDT"))["clientOrderId"] == "mine-1"
        assert len(await peer.fetch_ohlcv("ETH/USDT", "1m", limit=10)) == 10
        assert len(await peer.fetch_ohlcv("ETH/USDT", "5m")) in {6, 7, 8}
        assert (await peer.fetch_order_book("ETH/USDT"))["bids"] == [[2_999, 2]]
        assert server.rest.requests["POST order"] == 2

    asyncio.run(with_ccxt(story))


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"price": "3001.005"}, ccxt.InvalidOrder),
        ({"price": "700"}, None),
        ({"price": "1"}, ccxt.InvalidOrder),
        ({"quantity": "0.00001"}, ccxt.InvalidOrder),
        ({"quantity": "0.001"}, ccxt.BadRequest),
        ({"quantity": "100"}, ccxt.InsufficientFunds),
        ({"quantity": "0.000000001"}, ccxt.BadRequest),
        ({"quantity": "many"}, ccxt.BadRequest),
        ({"symbol": "NOUSDT"}, ccxt.BadSymbol),
        ({"side": "HOLD"}, ccxt.BadRequest),
        ({"timeInForce": ""}, ccxt.BadRequest),
    ],
)
def test_ccxt_knows_the_refusals(how: dict[str, str], error: type[Exception] | None) -> None:
    async def story(server: BinanceServer, peer: Any, base: str) -> None:
        del server, base
        await peer.load_markets()
        # Not through ccxt's rounding, or the filters would never see it.
        order = {
            "symbol": "ETHUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
            "price": "3000", "quantity": "0.1", **how,
        }  # fmt: skip
        if error is None:
            assert (await peer.privatePostOrder(order))["status"] == "NEW"
            return
        with pytest.raises(error):
            await peer.privatePostOrder(order)

    asyncio.run(with_ccxt(story))


def test_keys_signatures_and_clocks_are_checked_in_binances_words() -> None:
    async def story(server: BinanceServer, peer: Any, base: str) -> None:
        await peer.load_markets()
        peer.options["timeDifference"] = 60_000
        with pytest.raises(ccxt.InvalidNonce):
            await peer.fetch_balance()
        peer.options["timeDifference"] = 0
        peer.secret = "X" * 64
        with pytest.raises(ccxt.AuthenticationError, match="-1022"):
            await peer.fetch_balance()
        peer.secret, peer.apiKey = SECRET, "Z" * 64
        with pytest.raises(ccxt.AuthenticationError, match="-2015"):
            await peer.fetch_balance()
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            nothing = await client.get("/api/v3/klines", params={"symbol": "NO", "interval": "1m"})
            assert (nothing.status_code, nothing.json()["code"]) == (400, -1121)
            odd = await client.post("/sandbox/faults", json={"name": "no-such"})
            assert odd.status_code == 400
            on = await client.post("/sandbox/faults", json={"name": "ban", "where": "time"})
            assert on.json() == {"on": ["ban"]}
            assert (await client.get("/api/v3/time")).status_code == 418
            assert (await client.delete("/sandbox/faults")).json() == {"on": []}
            given = await client.post("/sandbox/deposit", json={"asset": "ETH", "amount": "2"})
            assert given.status_code == 200
        assert server.ledger.held(UID, "ETH") == [2 * SCALE, 0]

    asyncio.run(with_ccxt(story))


def test_weights_are_counted_and_the_limit_is_kept() -> None:
    async def story(server: BinanceServer, peer: Any, base: str) -> None:
        del peer
        server.rest.weight_limit = 40
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            answers = [await client.get("/api/v3/exchangeInfo") for _ in range(14)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:2] == [200, 200]
        assert 429 in statuses or 418 in statuses
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["code"] == -1003

    asyncio.run(with_ccxt(story))


def test_a_new_server_opens_with_the_books_the_old_one_answered_from(tmp_path: Path) -> None:
    async def first(server: BinanceServer, peer: Any, base: str) -> None:
        del server, base
        await peer.create_order("ETH/USDT", "limit", "buy", 1, 3_001, {"timeInForce": "IOC"})
        await peer.create_order("ETH/USDT", "limit", "buy", 1, 2_000, {"clientOrderId": "rests"})

    async def second(server: BinanceServer, peer: Any, base: str) -> None:
        del base
        assert [o["clientOrderId"] for o in await peer.fetch_open_orders("ETH/USDT")] == ["rests"]
        assert (await peer.fetch_balance())["ETH"]["total"] == 0.999
        # It rests in the book again, and another match has another id.
        server.exchange.cross(
            server.exchange.markets["ETHUSDT"], bid=1_999 * SCALE, ask=2_000 * SCALE
        )
        trades = await peer.fetch_my_trades("ETH/USDT")
        assert [t["takerOrMaker"] for t in trades] == ["taker", "maker"]
        assert len({t["id"] for t in trades}) == 2

    path = tmp_path / "binance.sqlite"
    asyncio.run(with_ccxt(first, path=path))
    asyncio.run(with_ccxt(second, path=path))
