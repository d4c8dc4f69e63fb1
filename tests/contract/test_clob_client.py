"""py-clob-client-v2, unmodified, against the sandbox: its host is the sandbox and it cannot tell."""

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import httpx
import pytest
import websockets.sync.client as ws_client
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import (
    ApiCreds,
    BalanceAllowanceParams,
    BookParams,
    DropNotificationParams,
    MarketOrderArgs,
    OpenOrderParams,
    OrderArgs,
    OrderArgsV1,
    OrderMarketCancelParams,
    OrderPayload,
    OrderScoringParams,
    OrdersScoringParams,
    PartialCreateOrderOptions,
    PostOrdersV2Args,
    TradeParams,
)
from py_clob_client_v2.exceptions import PolyApiException
from websockets.exceptions import ConnectionClosed

from fleet.clock import LiveClock
from fleet.domain.events import SettlementStatus
from fleet.domain.units import SCALE
from fleet.sandbox.listing import MarketState
from fleet.sandbox.server import SandboxServer, SandboxSettings
from fleet.sandbox.simulator import SimulatorSettings
from fleet.sandbox.trading.floor import FloorSettings
from fleet.venues.polymarket.wire_user import UserDecoder, UserOrder, UserTrade

T = TypeVar("T")
FUNDS = "10000"
WALLETS = {1: "0x" + "a1" * 20, 2: "0x" + "a2" * 20, 3: "0x" + "a3" * 20}
FRESH_KEYS = iter(range(1, 1_000))


async def _start() -> tuple[SandboxServer, int]:
    # Slow flow and no mispricings: what is asked about stands still long enough.
    simulator = SimulatorSettings(speed=0.01, mispricing_every_s=0, timed_markets=False)
    server = SandboxServer(
        SandboxSettings(port=0, simulator=simulator, floor=FloorSettings(max_age_scale=0)),
        LiveClock(),
    )
    server.exchange.faults.mined_s = 0.2
    server.exchange.faults.confirmed_s = 0.2
    return server, await server.start()


class Venue:
    """A sandbox on a loop of its own, so that the synchronous client can be called here."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.server, port = self.run(_start())
        self.origin = f"127.0.0.1:{port}"
        self.http = httpx.Client(base_url=f"http://{self.origin}", timeout=20)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self) -> None:
        self.http.close()
        self.run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def client(self, signature_type: int = 0) -> ClobClient:
        """A logged-in client of a wallet with money; every call has a key of its own."""
        number = next(FRESH_KEYS)
        key = f"0x{number:064x}"
        host = f"http://{self.origin}/clob"
        address = ClobClient(host, chain_id=137, key=key).get_address()
        deposit: dict[str, Any] = {"wallet": address, "amount": FUNDS}
        funder = None
        if signature_type:
            funder = f"0x{signature_type:02d}{number:038d}"
            deposit |= {"wallet": funder, "owner": address, "signature_type": signature_type}
        assert self.http.post("/sandbox/deposit", json=deposit).status_code == 200
        client = ClobClient(
            host, chain_id=137, key=key, signature_type=signature_type or None, funder=funder
        )
        client.set_api_creds(client.create_or_derive_api_key())
        return client

    def market(self, *, neg_risk: bool = False) -> MarketState:
        """A quiet market whose bids and asks leave room on both sides."""
        return next(
            m
            for m in self.server.simulator.listings.markets
            if m.spec.neg_risk is neg_risk
            and not m.spec.placeholder
            and not m.spec.taker_delay_ms
            and m.tick == SCALE // 100
            and 0.3 < m.mid() / SCALE < 0.7
            and len(m.levels(0, buy=False)) > 3
        )


@pytest.fixture(scope="module")
def venue() -> Iterator[Venue]:
    made = Venue()
    yield made
    made.stop()


def refused(status: int, text: str) -> Any:
    """The client's exception for an answer of the venue."""
    return pytest.raises(PolyApiException, match=rf"(?s)status_code={status}.*{text}")


def bought(client: ClobClient, token: str, *, dollars: float = 20.0) -> dict[str, Any]:
    """Buy at whatever it costs and wait for the settlement, as the client does by itself."""
    answer: dict[str, Any] = client.create_and_post_market_order(
        MarketOrderArgs(token_id=token, amount=dollars, side="BUY", price=0.99, order_type="FAK"),
        order_type="FAK",
    )
    return answer


def test_keys_are_created_once_derived_forever_and_deleted(venue: Venue) -> None:
    client = ClobClient(f"http://{venue.origin}/clob", chain_id=137, key="0x" + "7f" * 32)
    with refused(400, "Could not derive api key!"):
        client.derive_api_key()
    creds = client.create_api_key()
    with refused(400, "Could not create api key"):
        client.create_api_key()
    assert client.derive_api_key() == creds == client.create_or_derive_api_key()
    second = client.create_api_key(nonce=5)
    assert second.api_key != creds.api_key
    client.set_api_creds(creds)
    assert client.get_api_keys() == {"apiKeys": [creds.api_key, second.api_key]}
    assert client.get_closed_only_mode() == {"closed_only": False}
    assert client.delete_api_key() == "OK"
    with refused(401, "Unauthorized/Invalid api key"):
        client.get_api_keys()
    with refused(400, "Could not derive api key!"):
        client.derive_api_key()
    with refused(400, "Could not create api key"):
        client.create_api_key()
    client.set_api_creds(second)
    assert client.get_api_keys() == {"apiKeys": [second.api_key]}


def test_wrong_logins_are_401(venue: Venue) -> None:
    client = venue.client()
    creds = client.creds
    for wrong in (
        ApiCreds(creds.api_key, creds.api_secret, "other"),
        ApiCreds(creds.api_key, "AAAA", creds.api_passphrase),
        ApiCreds("no-such-key", creds.api_secret, creds.api_passphrase),
        venue.client().creds,
    ):
        client.set_api_creds(wrong)
        with refused(401, "Unauthorized/Invalid api key"):
            client.get_open_orders()
    amoy = ClobClient(f"http://{venue.origin}/clob", chain_id=80002, key="0x" + "7e" * 32)
    with refused(401, "Invalid L1 Request headers"):
        amoy.create_api_key()


def test_server_time_and_markets(venue: Venue) -> None:
    client = ClobClient(
        f"http://{venue.origin}/clob", chain_id=137, key="0x" + "7d" * 32, use_server_time=True
    )
    client.set_api_creds(client.create_or_derive_api_key())
    assert len(client.get_api_keys()["apiKeys"]) == 1
    market = venue.market()
    token = market.spec.tokens[0]
    condition = market.spec.condition_id
    assert client.get_version() == 2
    assert abs(client.get_server_time() - time.time()) < 10
    assert client.get_market(condition)["condition_id"] == condition
    assert client.get_clob_market_info(condition)["c"] == condition
    for page in (
        client.get_markets(),
        client.get_sampling_markets(),
        client.get_simplified_markets(),
        client.get_sampling_simplified_markets(),
    ):
        assert page["count"] == len(page["data"]) > 10
    book = client.get_order_book(token)
    assert client.get_order_book_hash(book) == book["hash"]
    assert client.get_tick_size(token) == "0.01"
    assert client.get_neg_risk(token) is False
    assert len(client.get_order_books([BookParams(token_id=t) for t in market.spec.tokens])) == 2
    assert float(client.get_midpoint(token)["mid"]) > 0
    assert client.get_prices([BookParams(token_id=token, side="BUY")])[token]["BUY"]
    assert client.get_spreads([BookParams(token_id=token)])[token]
    assert client.get_last_trades_prices([BookParams(token_id=token)])[0]["token_id"] == token
    assert client.calculate_market_price(token, "BUY", 1.0) > 0


@pytest.mark.parametrize("neg_risk", [False, True])
@pytest.mark.parametrize("signature_type", [0, 1, 2, 3])
def test_an_order_s_whole_life_with_every_signature_type(
    venue: Venue, signature_type: int, *, neg_risk: bool
) -> None:
    client = venue.client(signature_type)
    token = venue.market(neg_risk=neg_risk).spec.tokens[0]
    posted = client.create_and_post_order(
        OrderArgs(token_id=token, price=0.02, size=10, side="BUY")
    )
    assert posted == {
        "success": True,
        "errorMsg": "",
        "orderID": posted["orderID"],
        "status": "live",
        "makingAmount": "",
        "takingAmount": "",
        "tradeIDs": [],
        "transactionsHashes": [],
    }
    order = client.get_order(posted["orderID"])
    assert order["maker_address"].lower() == client.builder.funder.lower()
    assert (order["price"], order["original_size"], order["status"]) == ("0.02", "10", "LIVE")
    assert order["owner"] == client.creds.api_key
    assert client.get_open_orders() == [order]
    done = client.cancel_order(OrderPayload(orderID=posted["orderID"]))
    assert done == {"canceled": [posted["orderID"]], "not_canceled": {}}
    assert client.get_order(posted["orderID"]) is None
    assert client.get_open_orders() == []

    before = cash(client)
    matched = bought(client, token)
    assert matched["status"] == "matched"
    assert len(matched["transactionsHashes"]) == 1, "the client waited for the settlement"
    shares = float(matched["takingAmount"])
    spent = before - cash(client)
    paid = float(matched["makingAmount"])
    assert paid <= spent <= paid * 1.08, "the fee is on top"
    assert held(client, token) == pytest.approx(shares)
    sold = client.create_and_post_order(
        OrderArgs(token_id=token, price=0.01, size=5, side="SELL"), order_type="FOK"
    )
    assert (sold["status"], sold["makingAmount"]) == ("matched", "5")
    assert held(client, token) == pytest.approx(shares - 5)
    trades = client.get_trades()
    assert {t["id"] for t in trades} == {*matched["tradeIDs"], *sold["tradeIDs"]}
    assert {t["trader_side"] for t in trades} == {"TAKER"}
    assert {t["side"] for t in trades} == {"BUY", "SELL"}
    assert all(t["status"].startswith("TRADE_STATUS_") for t in trades)


def cash(client: ClobClient) -> float:
    answer = client.get_balance_allowance(BalanceAllowanceParams(asset_type="COLLATERAL"))
    assert set(answer) == {"balance", "allowances"}
    return int(answer["balance"]) / 1e6


def held(client: ClobClient, token: str) -> float:
    answer = client.get_balance_allowance(
        BalanceAllowanceParams(asset_type="CONDITIONAL", token_id=token)
    )
    return int(answer["balance"]) / 1e6


def test_every_order_type_and_its_refusals(venue: Venue) -> None:
    client = venue.client()
    market = venue.market()
    token = market.spec.tokens[0]
    ask = market.best(0, buy=False)
    assert ask is not None
    low = OrderArgs(token_id=token, price=0.02, size=10, side="BUY")
    gtd = client.create_and_post_order(
        OrderArgs(
            token_id=token, price=0.02, size=10, side="BUY", expiration=int(time.time()) + 300
        ),
        order_type="GTD",
    )
    assert gtd["status"] == "live"
    assert client.get_order(gtd["orderID"])["order_type"] == "GTD"
    only = client.create_and_post_order(low, post_only=True)
    assert only["status"] == "live"
    with refused(400, "order crosses book"):
        client.create_and_post_order(
            OrderArgs(token_id=token, price=ask / SCALE, size=10, side="BUY"), post_only=True
        )
    with refused(400, "FOK orders are fully filled or killed"):
        client.create_and_post_order(low, order_type="FOK")
    with refused(400, "no orders found to match with FAK order"):
        client.create_and_post_order(low, order_type="FAK")
    with refused(400, "invalid expiration"):
        client.create_and_post_order(low, order_type="GTD")
    with refused(400, "lower than the minimum: 5"):
        client.create_and_post_order(OrderArgs(token_id=token, price=0.02, size=4, side="BUY"))
    with refused(400, "not enough balance / allowance"):
        client.create_and_post_order(OrderArgs(token_id=token, price=0.02, size=10, side="SELL"))
    with refused(400, "breaks minimum tick size rule: 0.01"):
        other = next(
            m.spec.tokens[0]
            for m in venue.server.simulator.listings.markets
            if m.tick == SCALE // 1_000
        )
        assert client.get_tick_size(other) == "0.001"
        # Signed for the token, with the price of a finer market.
        fine = ClobClient(f"http://{venue.origin}/clob", 137, client.signer.private_key)
        fine.set_api_creds(client.creds)
        fine._ClobClient__tick_sizes[token] = "0.001"
        fine.create_and_post_order(
            OrderArgs(token_id=token, price=0.021, size=10, side="BUY"),
            PartialCreateOrderOptions(tick_size="0.001"),
        )
    fok = client.create_and_post_market_order(
        MarketOrderArgs(token_id=token, amount=10, side="BUY", price=0.9), order_type="FOK"
    )
    assert fok["status"] == "matched"
    signed = client.create_order(low)
    assert client.post_order(signed)["status"] == "live"
    with refused(400, "Duplicated."):
        client.post_order(signed)
    assert len(client.cancel_all()["canceled"]) == 3


def test_batches_and_every_way_to_cancel(venue: Venue) -> None:
    client = venue.client()
    market, other = venue.market(), venue.market(neg_risk=True)
    token, complement = market.spec.tokens

    def low(where: str, price: float = 0.02) -> Any:
        signed = client.create_order(OrderArgs(token_id=where, price=price, size=10, side="BUY"))
        return PostOrdersV2Args(order=signed, orderType="GTC")

    twin = low(token, 0.03)
    answers = client.post_orders(
        [low(token), twin, low(complement), low(other.spec.tokens[0]), twin]
    )
    assert [a["status"] for a in answers] == ["live"] * 4 + [""]
    assert answers[4]["success"] is True
    assert answers[4]["orderID"] == ""
    assert "Duplicated." in answers[4]["errorMsg"]
    ids = [a["orderID"] for a in answers[:4]]
    assert [o["id"] for o in client.get_open_orders()] == ids
    by_token = client.get_open_orders(OpenOrderParams(asset_id=token))
    assert [o["id"] for o in by_token] == ids[:2]
    by_market = client.get_open_orders(OpenOrderParams(market=market.spec.condition_id))
    assert [o["id"] for o in by_market] == ids[:3]
    assert [o["id"] for o in client.get_open_orders(OpenOrderParams(id=ids[2]))] == [ids[2]]
    assert client.is_order_scoring(OrderScoringParams(orderId=ids[0])) == {"scoring": False}
    assert client.are_orders_scoring(OrdersScoringParams(orderIds=ids[:2])) == {
        ids[0]: False, ids[1]: False,
    }  # fmt: skip
    done = client.cancel_orders([ids[0], "0x" + "0" * 64])
    assert done["canceled"] == [ids[0]]
    assert list(done["not_canceled"]) == ["0x" + "0" * 64]
    gone = client.cancel_market_orders(OrderMarketCancelParams(asset_id=token))
    assert gone["canceled"] == [ids[1]]
    gone = client.cancel_market_orders(OrderMarketCancelParams(market=market.spec.condition_id))
    assert gone["canceled"] == [ids[2]]
    assert client.cancel_all()["canceled"] == [ids[3]]
    again = client.cancel_order(OrderPayload(orderID=ids[3]))
    assert again["canceled"] == []
    assert "already canceled or matched" in again["not_canceled"][ids[3]]
    with refused(400, r"Too many orders in payload: 16, max allowed: 15"):
        client.post_orders([low(token) for _ in range(16)])
    noted = client.get_notifications()
    assert len([n for n in noted if n["type"] == 1]) == 4
    client.drop_notifications(DropNotificationParams(ids=[str(noted[0]["id"])]))
    assert client.get_notifications() == noted[1:]


def test_orders_of_others_and_wrong_signatures_are_refused(venue: Venue) -> None:
    client, stranger = venue.client(), venue.client()
    token = venue.market().spec.tokens[0]
    args = OrderArgs(token_id=token, price=0.02, size=10, side="BUY")
    signed = client.create_order(args)
    with refused(400, "the order signer address has to be the address of the API KEY"):
        stranger.post_order(signed)
    # Signed for the other exchange.
    with refused(400, "order_version_mismatch"):
        client.post_order(client.create_order(args, PartialCreateOrderOptions(neg_risk=True)))
    with refused(400, "order_version_mismatch"):
        client.post_order(client.create_order(args, PartialCreateOrderOptions(version=3)))
    signed.makerAmount = "210000"
    with refused(400, "invalid signature"):
        client.post_order(signed)
    old = client.builder.build_order(
        OrderArgsV1(token_id=token, price=0.02, size=10, side="BUY"),
        PartialCreateOrderOptions(tick_size="0.01", neg_risk=False),
        version=1,
        fee_rate_bps=0,
    )
    with refused(400, "invalid order version, please use the latest clob-client"):
        client.post_order(old)
    mine = client.create_and_post_order(args)["orderID"]
    assert stranger.get_order(mine) is None
    assert stranger.cancel_order(OrderPayload(orderID=mine))["canceled"] == []
    assert stranger.get_open_orders() == []
    # A wallet belongs to who used it first, and an address with a key to itself.
    for wallet in (venue.client(2).builder.funder, client.get_address()):
        thief = ClobClient(client.host, 137, stranger.signer.private_key, stranger.creds, 2, wallet)
        with refused(400, "invalid signature"):
            thief.create_and_post_order(args)
    posted = {"address": client.get_address(), "standing": "closed_only"}
    assert venue.http.post("/sandbox/account", json=posted).status_code == 200
    assert client.get_closed_only_mode() == {"closed_only": True}
    with refused(400, "address in closed only mode"):
        client.create_and_post_order(args)
    venue.http.post("/sandbox/account", json=posted | {"standing": "banned"})
    with refused(400, "address banned"):
        client.create_and_post_order(args)


def test_trades_are_told_to_both_sides_and_filtered(venue: Venue) -> None:
    maker, taker = venue.client(), venue.client(3)
    market = venue.market()
    token, complement = market.spec.tokens
    bid, ask = market.best(0, buy=True), market.best(0, buy=False)
    assert bid is not None
    assert ask is not None
    if ask - bid < 2 * market.tick:
        bought(taker, token, dollars=market.depth(0, buy=False) * ask / SCALE / SCALE + 1)
        bid, ask = market.best(0, buy=True), market.best(0, buy=False)
        assert bid is not None
        assert ask is not None
    inside = (ask - market.tick) / SCALE
    # The maker bids for NO where the taker buys YES: a mint across the books.
    resting = maker.create_and_post_order(
        OrderArgs(token_id=complement, price=round(1 - inside, 2), size=20, side="BUY")
    )
    assert resting["status"] == "live"
    crossing = taker.create_and_post_order(
        OrderArgs(token_id=token, price=round(inside, 2), size=12, side="BUY"), order_type="FAK"
    )
    assert crossing["status"] == "matched"
    (trade,) = taker.get_trades(TradeParams(id=crossing["tradeIDs"][0]))
    assert (trade["trader_side"], trade["size"], trade["asset_id"]) == ("TAKER", "12", token)
    (seen,) = maker.get_trades()
    assert seen["trader_side"] == "MAKER"
    assert seen["taker_order_id"] == crossing["orderID"]
    (fill,) = seen["maker_orders"]
    assert fill["order_id"] == resting["orderID"]
    assert (fill["asset_id"], fill["side"], fill["matched_amount"]) == (complement, "BUY", "12")
    assert maker.get_order(resting["orderID"])["size_matched"] == "12"
    assert maker.get_order(resting["orderID"])["associate_trades"] == [trade["id"]]
    # The filters look at the taker's asset: the maker's own token finds nothing (nautilus #3345).
    assert maker.get_trades(TradeParams(asset_id=complement)) == []
    assert len(maker.get_trades(TradeParams(asset_id=token))) == 1
    assert len(maker.get_trades(TradeParams(maker_address=maker.get_address()))) == 1
    assert maker.get_trades(TradeParams(maker_address=venue.client().get_address())) == []
    at = int(trade["match_time"])
    assert len(maker.get_trades(TradeParams(after=at - 5, before=at + 5))) == 1
    assert maker.get_trades(TradeParams(after=at + 60)) == []
    page = maker.get_trades_paginated()
    assert (page["count"], page["next_cursor"]) == (1, "LTE=")
    assert held(maker, complement) == 12.0


def test_heartbeats_must_go_on(venue: Venue) -> None:
    client = venue.client()
    token = venue.market().spec.tokens[0]
    first = client.post_heartbeat()["heartbeat_id"]
    second = client.post_heartbeat(first)["heartbeat_id"]
    assert first != second
    with refused(400, f"Invalid Heartbeat ID.*{second}"):
        client.post_heartbeat(first)
    order = client.create_and_post_order(
        OrderArgs(token_id=token, price=0.02, size=10, side="BUY")
    )["orderID"]
    beats = venue.server.floor.desk.heartbeats
    assert client.creds.api_key not in beats.lapsed(time.time_ns() + 14 * 10**9)
    assert client.creds.api_key in beats.lapsed(time.time_ns() + 16 * 10**9)
    venue.run(_later(venue.server, 16))
    assert client.get_order(order) is None
    with refused(400, "Invalid Heartbeat ID"):
        client.post_heartbeat(second)
    assert client.post_heartbeat()["heartbeat_id"]


async def _later(server: SandboxServer, seconds: int) -> None:
    server.floor.step(time.time_ns() + seconds * 10**9)
    server.floor.publish()


def test_the_data_api_tells_what_the_client_did(venue: Venue) -> None:
    client = venue.client(2)
    market = venue.market()
    token = market.spec.tokens[0]
    matched = bought(client, token)
    wallet = client.builder.funder

    def rows(path: str, **params: Any) -> list[dict[str, Any]]:
        answer = venue.http.get(f"/data-api/v2/{path}", params={"user": wallet} | params)
        assert answer.status_code == 200, answer.text
        envelope = answer.json()
        assert envelope["pagination"]["has_more"] is False
        assert envelope["pagination"]["next_cursor"] is None
        found: list[dict[str, Any]] = envelope["data"]
        return found

    (position,) = rows("positions")
    assert position["current_size"] == float(matched["takingAmount"])
    assert position["status"] == "OPEN"
    assert position["entry_cost_usdc"] == float(matched["makingAmount"])
    assert position["entry_fees_usdc"] > 0
    (trade,) = rows("trades")
    assert trade["transaction_hash"] == matched["transactionsHashes"][0]
    assert trade["size"] == position["current_size"]
    assert [r["type"] for r in rows("activity")] == ["TRADE", "DEPOSIT"]
    assert [r["type"] for r in rows("activity", type="DEPOSIT")] == ["DEPOSIT"]
    assert rows("trades", condition_id="0x00") == []
    assert rows("value")[0]["value"] == position["current_value"]
    assert all(r["tokens_approved"] for r in rows("approvals"))
    assert rows("positions", user="0x" + "99" * 20) == []
    wrong = venue.http.get("/data-api/v2/positions", params={"user": "me"})
    assert (wrong.status_code, wrong.json()["parameter"]) == (400, "user")


def test_the_user_channel_tells_it_all_to_our_own_decoder(venue: Venue) -> None:
    client, taker = venue.client(), venue.client()
    market = venue.market(neg_risk=True)
    token = market.spec.tokens[0]
    creds = client.creds
    login = {
        "type": "user",
        "auth": {
            "apiKey": creds.api_key,
            "secret": creds.api_secret,
            "passphrase": creds.api_passphrase,
        },
    }
    decoder = UserDecoder()
    with ws_client.connect(f"ws://{venue.origin}/ws/user") as link:
        link.send(json.dumps(login))
        link.send("PING")
        assert link.recv(timeout=20) == "PONG"
        order = client.create_and_post_order(
            OrderArgs(token_id=token, price=0.02, size=10, side="BUY")
        )["orderID"]
        client.cancel_order(OrderPayload(orderID=order))
        client.create_and_post_market_order(
            MarketOrderArgs(token_id=token, amount=10, side="BUY", price=0.99, order_type="FAK"),
            order_type="FAK", defer_exec=True,
        )  # fmt: skip
        seen: list[Any] = []
        while not seen or getattr(seen[-1], "status", None) is not SettlementStatus.CONFIRMED:
            text = link.recv(timeout=20)
            assert isinstance(text, str)
            seen += decoder.decode(text.encode(), time.time_ns())
        assert all(isinstance(e, UserOrder | UserTrade) for e in seen)
        actions = [e.action for e in seen if isinstance(e, UserOrder) and e.order_id == order]
        assert actions == ["PLACEMENT", "CANCELLATION"]
        steps = [e.status for e in seen if isinstance(e, UserTrade)]
        assert steps == [
            SettlementStatus.MATCHED, SettlementStatus.MINED, SettlementStatus.CONFIRMED,
        ]  # fmt: skip
        # Another market only: what happens here is not told any more.
        link.send(json.dumps({"operation": "unsubscribe", "markets": [market.spec.condition_id]}))
        link.send("PING")
        assert link.recv(timeout=20) == "PONG"
        client.create_and_post_order(OrderArgs(token_id=token, price=0.02, size=10, side="BUY"))
        link.send("PING")
        assert link.recv(timeout=20) == "PONG"
        link.send("nonsense")
        assert link.recv(timeout=20) == "INVALID OPERATION"
    assert taker.get_trades() == []
    login["auth"]["secret"] = "AAAA"  # type: ignore[index]
    with ws_client.connect(f"ws://{venue.origin}/ws/user") as link:
        link.send(json.dumps(login))
        with pytest.raises(ConnectionClosed) as closed:
            link.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_too_many_orders_are_429_and_cancelling_still_works(venue: Venue) -> None:
    client = venue.client()
    token = venue.market().spec.tokens[0]
    args = OrderArgs(token_id=token, price=0.02, size=5, side="BUY")
    batch = [PostOrdersV2Args(order=client.create_order(args), orderType="GTC") for _ in range(15)]
    assert all(a["status"] == "live" for a in client.post_orders(batch))
    with refused(429, "Too many requests"):
        # Twins are refused, and cost a token all the same.
        for _ in range(40):
            client.post_orders(batch)
    body = '{"orderID":"0x00"}'
    headers = client._l2_headers("DELETE", "/order", serialized_body=body)
    answer = venue.http.request("DELETE", "/clob/order", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Poly-RateLimit-Tier"] == "Standard"
    assert 100 < int(answer.headers["Poly-RateLimit-Remaining"]) < 120
    assert len(client.cancel_all()["canceled"]) == 15
    assert venue.http.get("/sandbox").json()["rate_limited"] >= 1


def test_a_wallet_without_allowance_is_refused(venue: Venue) -> None:
    client = ClobClient(f"http://{venue.origin}/clob", chain_id=137, key="0x" + "6b" * 32)
    client.set_api_creds(client.create_or_derive_api_key())
    deposit = {"wallet": client.get_address(), "amount": "100", "approve": False}
    venue.http.post("/sandbox/deposit", json=deposit)
    answer = client.get_balance_allowance(BalanceAllowanceParams(asset_type="COLLATERAL"))
    assert answer["balance"] == "100000000"
    assert set(answer["allowances"].values()) == {"0"}
    token = venue.market().spec.tokens[0]
    args = OrderArgs(token_id=token, price=0.02, size=10, side="BUY")
    with refused(400, "not enough balance / allowance"):
        client.create_and_post_order(args)
    venue.http.post("/sandbox/deposit", json=deposit | {"approve": True, "amount": "-1"})
    assert client.create_and_post_order(args)["status"] == "live"
    over = venue.http.post("/sandbox/deposit", json=deposit | {"amount": "-1000"})
    assert over.status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("deposit", {"wallet": "0x12", "amount": "1"}),
        ("deposit", {"wallet": "0x" + "12" * 20, "amount": "1.1234567"}),
        ("deposit", {"wallet": "0x" + "12" * 20, "amount": "much"}),
        ("deposit", {"wallet": "0x" + "12" * 20, "amount": "1", "signature_type": 3}),
        ("deposit", {"wallet": "0x" + "12" * 20, "amount": "1", "owner": "0x" + "13" * 20}),
        ("deposit", {"wallet": "0x" + "12" * 20, "amount": "1", "memo": "x"}),
        ("account", {"address": "0x" + "12" * 20, "standing": "rich"}),
        ("resolve", {"market": "0x00", "winner": 2}),
        ("resolve", {"market": "0x00", "winner": 1}),
    ],
)
def test_the_operator_is_told_what_is_wrong(venue: Venue, path: str, body: dict[str, Any]) -> None:
    answer = venue.http.post(f"/sandbox/{path}", json=body)
    assert answer.status_code in {400, 404}
    assert answer.json()["error"]


def test_a_resolved_market_cancels_and_pays_its_winners(venue: Venue) -> None:
    client = venue.client()
    market = venue.market(neg_risk=False)
    condition, token = market.spec.condition_id, market.spec.tokens[0]
    matched = bought(client, token)
    resting = client.create_and_post_order(
        OrderArgs(token_id=token, price=0.02, size=10, side="BUY")
    )["orderID"]
    resolved = venue.http.post("/sandbox/resolve", json={"market": condition, "winner": 0})
    assert resolved.status_code == 200
    assert client.get_order(resting) is None
    noted = [n["payload"] for n in client.get_notifications() if n["type"] == 1]
    assert [(n["id"], n["status"]) for n in noted] == [(resting, "CANCELED_MARKET_RESOLVED")]
    with refused(404, "No orderbook exists for the requested token id"):
        client.create_and_post_order(OrderArgs(token_id=token, price=0.02, size=10, side="BUY"))
    rows = venue.http.get("/data-api/v2/positions", params={"user": client.get_address()})
    (position,) = rows.json()["data"]
    assert (position["status"], position["redeemable"]) == ("REDEEMABLE", True)
    assert position["current_value"] == float(matched["takingAmount"])
