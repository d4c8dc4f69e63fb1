"""Each fault of the sandbox over real sockets, and the bot's own feed surviving those of its data."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
import websockets.asyncio.client as ws_client
from websockets.exceptions import ConnectionClosed

from fleet.clock import NS_PER_MS, NS_PER_SECOND, LiveClock
from fleet.domain.events import (
    AnyEvent,
    BookChanged,
    BookSnapshot,
    FeedDisconnected,
    TickSizeChanged,
)
from fleet.domain.instruments import InstrumentId, Side
from fleet.engine.book import Book
from fleet.sandbox.faults_catalogue import CATALOGUE, Fault, FaultRule
from fleet.sandbox.server import SandboxServer, SandboxSettings
from fleet.sandbox.simulator import SimulatorSettings
from fleet.venues.polymarket.feed import MarketFeed
from fleet.venues.polymarket.shard import FeedSettings
from fleet.venues.websocket import SessionSettings

Session = Callable[[SandboxServer, httpx.AsyncClient], Awaitable[None]]
TIME = "GET /clob/time"


def serve(session: Session, *, seed: int = 7, speed: float = 20) -> None:
    """Run ``session`` against a server of its own."""

    async def main() -> None:
        simulator = SimulatorSettings(seed=seed, speed=speed, mispricing_every_s=2)
        server = SandboxServer(SandboxSettings(port=0, simulator=simulator), LiveClock())
        port = await server.start()
        url = f"http://127.0.0.1:{port}"
        try:
            async with (
                asyncio.timeout(40),
                httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as client,
            ):
                await session(server, client)
        finally:
            await server.stop()
        assert server.pump.cancelled(), "the markets must not have failed"

    asyncio.run(main())


async def put(client: httpx.AsyncClient, name: str, **rule: Any) -> None:
    answer = await client.post("/sandbox/faults", json={"name": name, **rule})
    assert answer.status_code == 200, answer.text


def subscription(server: SandboxServer) -> str:
    tokens = list(server.simulator.listings.by_token)
    return json.dumps({"type": "market", "assets_ids": tokens})


def socket_to(client: httpx.AsyncClient) -> ws_client.connect:
    return ws_client.connect(
        f"ws://{client.base_url.host}:{client.base_url.port}/ws/market", close_timeout=0.2
    )


async def until(condition: Callable[[], object], limit_s: float = 15) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never happened"
        await asyncio.sleep(0.01)


# --- the control API ------------------------------------------------------------------------


def test_the_control_api_sets_lists_and_clears() -> None:
    async def session(server: SandboxServer, client: httpx.AsyncClient) -> None:
        listed = (await client.get("/sandbox/faults")).json()
        assert listed["rules"] == []
        assert set(listed["known"]) == {fault.value for fault in Fault}
        plan = {
            "seed": 99,
            "faults": [
                {"name": "rate_limited", "rate": 0.5, "where": [TIME]},
                {"name": "drop", "times": 1, "for_s": 60},
            ],
        }
        answer = (await client.post("/sandbox/faults", json=plan)).json()
        assert answer["seed"] == server.faults.seed == 99
        assert [(r["name"], r["rate"], r["times_left"]) for r in answer["rules"]] == [
            ("rate_limited", 0.5, None),
            ("drop", 1.0, 1),
        ]
        answer = (await client.delete("/sandbox/faults/drop")).json()
        assert [r["name"] for r in answer["rules"]] == ["rate_limited"]
        statuses = Counter([(await client.get("/clob/time")).status_code for _ in range(40)])
        answer = (await client.delete("/sandbox/faults")).json()
        assert answer["rules"] == []
        assert answer["struck"] == {"rate_limited": statuses[429]}
        assert answer["chances"] == {"rate_limited": 40}
        assert {s["subject"] for s in answer["strikes"]} == {TIME}
        assert (await client.get("/clob/time")).status_code == 200

    serve(session)


def test_the_control_api_refuses_nonsense_and_changes_nothing() -> None:
    async def session(server: SandboxServer, client: httpx.AsyncClient) -> None:
        for body, word in (
            ({"name": "gremlins"}, "timeout_after_acceptance"),
            ({"name": "drop", "rate": 3}, "0..1"),
            ({"name": "drop", "often": True}, "often"),
            ({"faults": [{"name": "drop"}, {"name": "nothing"}]}, "nothing"),
            ("drop", "write"),
        ):
            answer = await client.post("/sandbox/faults", json=body)
            assert answer.status_code == 400
            assert word in answer.json()["error"]
        assert (await client.delete("/sandbox/faults/gremlins")).status_code == 404
        assert not server.faults.active

    serve(session)


def test_two_sandboxes_with_one_seed_fail_alike() -> None:
    told: list[list[int]] = []

    async def session(_: SandboxServer, client: httpx.AsyncClient) -> None:
        await put(client, "error_before", rate=0.4, where=["GET /clob/*"])
        told.append([(await client.get("/clob/time")).status_code for _ in range(60)])

    serve(session, seed=3)
    serve(session, seed=3)
    serve(session, seed=4)
    assert told[0] == told[1] != told[2]
    assert set(told[0]) == {200, 500}


# --- requests -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lost_request", "timeout_after_acceptance"])
def test_no_answer_comes_whatever_the_exchange_did(name: str) -> None:
    async def session(_: SandboxServer, client: httpx.AsyncClient) -> None:
        await put(client, name, times=1, where=[TIME], seconds=0)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/clob/time")
        assert (await client.get("/clob/time")).status_code == 200
        await put(client, name, times=1, where=[TIME], seconds=30)
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/clob/time", timeout=0.2)

    serve(session)


def test_a_refused_request_carries_the_venue_s_words() -> None:
    async def session(_: SandboxServer, client: httpx.AsyncClient) -> None:
        await put(client, "rate_limited", times=1, where=[TIME], seconds=2)
        answer = await client.get("/clob/time")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
        for name in ("error_before", "error_after"):
            await put(client, name, times=1, where=[TIME])
            answer = await client.get("/clob/time")
            assert (answer.status_code, answer.json()) == (500, {"error": "order timed out"})
        await put(client, "gateway_error", times=1, where=[TIME])
        answer = await client.get("/clob/time")
        assert (answer.status_code, answer.headers["content-type"][:9]) == (502, "text/html")

    serve(session)


def test_an_engine_restart_refuses_then_takes_post_only_orders_only() -> None:
    async def session(_: SandboxServer, client: httpx.AsyncClient) -> None:
        await put(client, "engine_restart", times=1, seconds=0.3, then_seconds=60)
        answer = await client.post("/clob/order", json={"postOnly": True})
        assert (answer.status_code, answer.headers["Retry-After"]) == (425, "1")
        assert (await client.delete("/clob/cancel-all")).status_code == 425
        await asyncio.sleep(0.4)
        for body in ({"postOnly": False}, {}, [{"postOnly": True}, {"postOnly": False}], []):
            answer = await client.post("/clob/orders", json=body)
            assert answer.status_code == 503
            assert answer.json()["code"] == "post_only_mode"
            assert answer.headers["Retry-After"] == str(answer.json()["retry_after_seconds"])
        for passed in (
            await client.post("/clob/order", json={"postOnly": True}),
            await client.post("/clob/orders", json=[{"postOnly": True}]),
            await client.delete("/clob/cancel-all"),
            await client.get("/clob/time"),
        ):
            assert passed.status_code not in {425, 503}
        await client.delete("/sandbox/faults")
        answer = await client.post("/clob/order", json={})
        assert answer.status_code not in {425, 503}

    serve(session)


@pytest.mark.parametrize("name", ["slow_request", "slow_answer"])
def test_slowness_takes_its_time(name: str) -> None:
    async def session(_: SandboxServer, client: httpx.AsyncClient) -> None:
        await put(client, name, times=1, where=[TIME], seconds=0.3)
        began_s = time.monotonic()
        assert (await client.get("/clob/time")).status_code == 200
        assert time.monotonic() - began_s >= 0.3

    serve(session)


def test_a_stale_book_is_wide_and_old_while_the_price_is_right() -> None:
    async def session(server: SandboxServer, client: httpx.AsyncClient) -> None:
        token = next(iter(server.simulator.listings.by_token))
        await put(client, "stale_book")
        book = (await client.get("/clob/book", params={"token_id": token})).json()
        books = (await client.post("/clob/books", json=[{"token_id": token}])).json()
        assert books == [book]
        assert [level["price"] for level in book["bids"] + book["asks"]] == ["0.01", "0.99"]
        assert int(book["timestamp"]) <= server.started_ns // NS_PER_MS
        price = (await client.get("/clob/price", params={"token_id": token, "side": "BUY"})).json()
        assert price["price"] != "0.99"
        missing = await client.get("/clob/book", params={"token_id": "1"})
        assert missing.status_code == 404, "an error is no book"
        await client.delete("/sandbox/faults")
        fresh = (await client.get("/clob/book", params={"token_id": token})).json()
        assert fresh["asks"][-1]["price"] == price["price"] or fresh["hash"] != book["hash"]

    serve(session)


# --- the market channel ---------------------------------------------------------------------


async def frames(link: ws_client.ClientConnection, seconds: float) -> list[str]:
    found: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                text = await link.recv()
                assert isinstance(text, str)
                found.append(text)
    except TimeoutError:
        return found


def test_a_frozen_connection_still_answers_ping_and_the_others_go_on() -> None:
    async def session(server: SandboxServer, client: httpx.AsyncClient) -> None:
        async with socket_to(client) as frozen, socket_to(client) as other:
            await frozen.send(subscription(server))
            await frozen.recv()
            await put(client, "freeze", times=1, seconds=60)
            await until(lambda: server.faults.struck)
            await other.send(subscription(server))
            await frames(frozen, 0.3)
            await frozen.send("PING")
            assert await frames(frozen, 1.0) == ["PONG"]
            assert len(await frames(other, 0.5)) > 10
            await client.delete("/sandbox/faults")
            assert len(await frames(frozen, 0.5)) > 10, "clearing the faults thaws it"

    serve(session)


def test_a_dropped_connection_ends_without_a_word() -> None:
    async def session(server: SandboxServer, client: httpx.AsyncClient) -> None:
        async with socket_to(client) as link:
            await link.send(subscription(server))
            await link.recv()
            await put(client, "drop", times=1)
            with pytest.raises(ConnectionClosed) as ended:
                await frames(link, 5)
            assert ended.value.rcvd is None, "no close frame came"
            await until(lambda: not server.channel.clients)

    serve(session)


def test_duplicates_and_disorder_change_the_order_but_lose_nothing() -> None:
    async def session(server: SandboxServer, client: httpx.AsyncClient) -> None:
        async with socket_to(client) as bad, socket_to(client) as good:
            for link in (bad, good):
                await link.send(subscription(server))
                await link.recv()
            server.faults.put(FaultRule(fault=Fault.DUPLICATE, rate=0.2), 0)
            server.faults.put(FaultRule(fault=Fault.REORDER, rate=0.2, seconds=0.1), 0)
            # The second connection is spared: the same frames without a fault.
            spared = server.channel.connected[1].number
            disturb = server.channel.disturb
            assert disturb is not None
            server.channel.disturb = lambda c, payload: (
                (payload,) if c.number == spared else disturb(c, payload)
            )
            await asyncio.sleep(1.5)
            server.pump.cancel()
            await asyncio.sleep(0.2)
            server._faulty_channel.release()
            seen, true = await frames(bad, 0.5), await frames(good, 0.5)
        assert len(true) > 100
        seen = [text for text in seen if text in set(true)]
        assert set(seen) == set(true)
        extra = Counter(seen) - Counter(true)
        assert set(extra.values()) == {1}
        assert 0 < len(extra) <= server.faults.struck[Fault.DUPLICATE]
        first = list(dict.fromkeys(seen))
        assert first != list(dict.fromkeys(true)), "some came after their successor"

    serve(session)


def test_a_subscription_may_get_no_snapshot() -> None:
    async def session(server: SandboxServer, client: httpx.AsyncClient) -> None:
        await put(client, "no_replay", times=1)
        for expected in (False, True):
            async with socket_to(client) as link:
                await link.send(subscription(server))
                first = json.loads(await link.recv())
                assert isinstance(first, list) is expected

    serve(session)


def test_a_tick_changes_on_demand() -> None:
    async def session(server: SandboxServer, client: httpx.AsyncClient) -> None:
        market = next(m for m in server.simulator.listings.markets if m.tick == 1_000_000)
        async with socket_to(client) as link:
            await link.send(subscription(server))
            await put(client, "tick_change", times=1, where=[market.spec.condition_id])
            while True:
                message = json.loads(await link.recv())
                if isinstance(message, dict) and message["event_type"] == "tick_size_change":
                    break
            assert message["market"] == market.spec.condition_id
            assert (message["old_tick_size"], message["new_tick_size"]) == ("0.01", "0.001")
            assert market.tick == 100_000
            answer = await client.get("/clob/tick-size", params={"token_id": market.spec.tokens[0]})
            assert answer.json()["minimum_tick_size"] == 0.001

    serve(session)


# --- the bot's feed -------------------------------------------------------------------------

TIMES = SessionSettings(
    ping_interval_ns=50 * NS_PER_MS,
    data_age_max_ns=60_000 * NS_PER_MS,
    lifetime_ns=0,
    backoff_first_ns=5 * NS_PER_MS,
    backoff_max_ns=50 * NS_PER_MS,
    stable_ns=200 * NS_PER_MS,
)
SETTINGS = FeedSettings(session=TIMES, snapshot_timeout_ns=300 * NS_PER_MS, assets_max=40)
WATCHFUL = replace(
    SETTINGS,
    session=replace(TIMES, data_age_max_ns=400 * NS_PER_MS, lifetime_ns=1_000 * NS_PER_MS),
)


class Books:
    """The sink: what an engine would hold of each token; void books are not ready."""

    def __init__(self, server: SandboxServer) -> None:
        listed = server.simulator.listings.by_token
        self.of = {
            InstrumentId(token): Book(InstrumentId(token), market.tick)
            for token, (market, _) in listed.items()
            if not market.spec.slug.startswith("btc-updown")
        }
        self.seen: Counter[str] = Counter()

    def __call__(self, events: Sequence[AnyEvent]) -> None:
        for event in events:
            self.seen[type(event).__name__] += 1
            if isinstance(event, BookSnapshot):
                book = self.of[event.instrument_id]
                if event.tick is not None and event.tick != book.tick:
                    book.void(event.tick)
                book.replace(event.bids, event.asks, event.ts_event)
            elif isinstance(event, BookChanged):
                for token, side, price, qty in event.changes:
                    if self.of[token].ready:
                        self.of[token].apply(side, price, qty)
            elif isinstance(event, TickSizeChanged):
                self.of[event.instrument_id].void(event.tick)
            elif isinstance(event, FeedDisconnected):
                for token in event.instruments:
                    self.of[token].void()

    def wrong(self, server: SandboxServer) -> list[str]:
        """Books that somebody might trade on and that are not the sandbox's."""
        listed = server.simulator.listings.by_token
        return [
            f"{market.spec.slug} {outcome} {side.value}"
            for token, book in self.of.items()
            for market, outcome in [listed[token]]
            for side in (Side.BUY, Side.SELL)
            if book.ready
            and list(book.levels(side)) != market.levels(outcome, buy=side is Side.SELL)
        ]


DISTURBED = {
    "freeze": FaultRule(fault=Fault.FREEZE, rate=0.002, seconds=1.0),
    "drop": FaultRule(fault=Fault.DROP, rate=0.005),
    "duplicate": FaultRule(fault=Fault.DUPLICATE, rate=0.2),
    "reorder": FaultRule(fault=Fault.REORDER, rate=0.1, seconds=0.2),
    "no_replay": FaultRule(fault=Fault.NO_REPLAY, rate=0.5),
    "tick_change": FaultRule(fault=Fault.TICK_CHANGE, rate=0.2),
}


@pytest.mark.parametrize("name", [*DISTURBED, "all"])
def test_the_feed_survives(name: str) -> None:
    """After any disturbance each book that is ready is the sandbox's own, level by level."""
    rules = list(DISTURBED.values()) if name == "all" else [DISTURBED[name]]
    # Where nothing freezes, neither watchdog nor planned reconnects may heal what is overlooked.
    settings = WATCHFUL if name in {"freeze", "all"} else SETTINGS

    async def session(server: SandboxServer, client: httpx.AsyncClient) -> None:
        books = Books(server)
        pairs = {server.simulator.listings.by_token[t][0].spec.tokens for t in books.of}
        feed = MarketFeed(
            f"ws://127.0.0.1:{client.base_url.port}/ws/market",
            [tuple(map(InstrumentId, pair)) for pair in sorted(pairs)],
            books,
            settings=settings,
            jitter=lambda: 0.5,
        )
        await feed.start()
        try:
            for rule in rules:
                server.faults.put(rule, LiveClock().now_ns())
            await asyncio.sleep(3)
            server.pump.cancel()
            await asyncio.sleep(0.3)
            server._faulty_channel.release()
            await asyncio.sleep(0.5)
            struck = dict(server.faults.struck)
            assert struck.keys() == {rule.fault for rule in rules}
            assert not books.wrong(server), f"{struck} {books.seen}"
            server.faults.clear()
            await until(lambda: all(book.ready for book in books.of.values()))
            assert not books.wrong(server)
            assert not feed.health().failure
        finally:
            await feed.stop()

    serve(session, speed=10)


def test_the_catalogue_s_defaults_are_in_seconds() -> None:
    assert max(spec.seconds for spec in CATALOGUE.values()) * NS_PER_SECOND < 600 * NS_PER_SECOND
