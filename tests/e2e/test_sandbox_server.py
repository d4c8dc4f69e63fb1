"""The sandbox as a process and as a server: real sockets, the venue's own client, a stuck reader."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import websockets.asyncio.client as ws_client
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import BookParams
from websockets.exceptions import ConnectionClosed

from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.domain.units import SCALE, parse_price
from fleet.sandbox.market_channel import SNAPSHOT_ASSETS_MAX
from fleet.sandbox.server import SandboxServer, SandboxSettings
from fleet.sandbox.simulator import SimulatorSettings

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "fleet.cli.main", "sandbox"]
START_S_MAX = 20.0
Session = Callable[[SandboxServer, str], Awaitable[None]]


def serve(session: Session, **settings: Any) -> None:
    """Run ``session`` against a server of its own."""

    async def main() -> None:
        simulator = settings.pop("simulator", SimulatorSettings(speed=4, mispricing_every_s=2))
        server = SandboxServer(
            SandboxSettings(port=0, simulator=simulator, **settings), LiveClock()
        )
        port = await server.start()
        try:
            async with asyncio.timeout(30):
                await session(server, f"127.0.0.1:{port}")
        finally:
            await server.stop()
        assert server.pump.cancelled(), "the markets must not have failed"

    asyncio.run(main())


def tokens_of(server: SandboxServer) -> list[str]:
    return list(server.simulator.listings.by_token)


async def objects(socket_: ws_client.ClientConnection, count: int) -> list[dict[str, Any]]:
    """The next ``count`` JSON objects, arrays opened, texts left out."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        text = await socket_.recv()
        if text[:1] in {"{", "["}:
            message = json.loads(text)
            found += message if isinstance(message, list) else [message]
    return found


def test_the_market_channel_s_conversation() -> None:
    async def session(server: SandboxServer, host: str) -> None:
        first, second, third = tokens_of(server)[0], tokens_of(server)[2], tokens_of(server)[3]
        async with ws_client.connect(f"ws://{host}/ws/market") as link:
            await link.send(json.dumps({"type": "market", "assets_ids": [first]}))
            snapshots = json.loads(await link.recv())
            assert isinstance(snapshots, list), "snapshots come as an array"
            assert [(b["event_type"], b["asset_id"]) for b in snapshots] == [("book", first)]
            await link.send("PING")
            await text_is(link, "PONG")
            await link.send(json.dumps({"operation": "subscribe", "assets_ids": [first]}))
            await text_is(link, "NO NEW ASSETS")
            await link.send(json.dumps({"operation": "subscribe", "assets_ids": [second, third]}))
            books = {b["asset_id"] for b in await objects_until(link, "book", second)}
            assert second in books
            for nonsense in ("{", "[]", '{"assets_ids":["1"]}', '{"type":"user"}', "hello"):
                await link.send(nonsense)
                await text_is(link, "INVALID OPERATION")
            await link.send(
                json.dumps({"operation": "unsubscribe", "assets_ids": [first, second, third]})
            )
            await link.send("PING")
            await text_is(link, "PONG")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await link.recv()

    serve(session)


async def text_is(link: ws_client.ClientConnection, wanted: str) -> None:
    """The next frame that is not JSON is ``wanted``."""
    while True:
        text = await link.recv()
        if text[:1] not in {"{", "["}:
            assert text == wanted
            return


async def objects_until(
    link: ws_client.ClientConnection, event_type: str, token: str
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while not any(m["event_type"] == event_type and m.get("asset_id") == token for m in found):
        found += await objects(link, 1)
    return found


def test_custom_messages_need_the_flag_and_a_repeated_asset_toggles_it() -> None:
    async def session(server: SandboxServer, host: str) -> None:
        tokens = tokens_of(server)
        async with ws_client.connect(f"ws://{host}/ws/market") as link:
            await link.send(json.dumps({"type": "market", "assets_ids": tokens}))
            plain = await objects(link, 400)
            assert "best_bid_ask" not in {m["event_type"] for m in plain}
            assert "price_change" in {m["event_type"] for m in plain}
            await link.send(
                json.dumps(
                    {
                        "operation": "subscribe",
                        "assets_ids": tokens[:1],
                        "custom_feature_enabled": True,
                    }
                )
            )
            await text_is(link, "NO NEW ASSETS")
            custom = await objects(link, 400)
            assert "best_bid_ask" in {m["event_type"] for m in custom}

    serve(session)


def test_more_than_500_assets_get_no_snapshots() -> None:
    async def session(server: SandboxServer, host: str) -> None:
        unknown = [str(n) for n in range(SNAPSHOT_ASSETS_MAX)]
        async with ws_client.connect(f"ws://{host}/ws/market") as link:
            await link.send(
                json.dumps({"type": "market", "assets_ids": [*unknown, *tokens_of(server)]})
            )
            # Snapshots come as one array; a book after a trade comes alone.
            assert (await link.recv())[:1] == "{"

    serve(session, simulator=SimulatorSettings(speed=4, mispricing_every_s=0))


def test_a_reader_that_stops_reading_is_cut_off_and_others_do_not_notice() -> None:
    async def session(server: SandboxServer, host: str) -> None:
        tokens = tokens_of(server)
        subscribe = json.dumps({
            "type": "market", "assets_ids": tokens, "custom_feature_enabled": True,
        })  # fmt: skip
        # A client with unread frames waits for its whole close timeout; there are always some here.
        async with ws_client.connect(f"ws://{host}/ws/market", close_timeout=0.2) as good:
            await good.send(subscribe)
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            narrow.connect(("127.0.0.1", int(host.partition(":")[2])))
            stuck = await ws_client.connect(f"ws://{host}/ws/market", sock=narrow)
            await stuck.send(subscribe)
            stuck.transport.pause_reading()
            while not server.channel.clients_cut_off:
                await good.recv()
            await asyncio.sleep(0.1)
            assert server.channel.clients_cut_off == 1
            assert server.channel.clients == 1
            for _ in range(100):
                await good.recv()
            stuck.transport.abort()
            await stuck.wait_closed()

    serve(
        session,
        client_queue_max=1_024,
        simulator=SimulatorSettings(speed=40, mispricing_every_s=1),
    )


def test_the_venue_s_own_client_reads_the_sandbox() -> None:
    """py-clob-client-v2, unmodified: its host is the sandbox and it cannot tell."""

    async def session(server: SandboxServer, host: str) -> None:
        await asyncio.to_thread(read_all, server, f"http://{host}/clob")

    def read_all(server: SandboxServer, url: str) -> None:
        client = ClobClient(url, chain_id=137)
        listings = server.simulator.listings
        token = tokens_of(server)[0]
        market = listings.by_token[token][0]
        condition = market.spec.condition_id
        assert client.get_ok() == "OK"
        assert abs(int(client.get_server_time()) - time.time()) < 5
        book = client.get_order_book(token)
        shown = book if isinstance(book, dict) else vars(book)
        assert shown["asset_id"] == token
        assert client.get_tick_size(token) == "0.01"
        assert client.get_neg_risk(token) is False
        assert 0 < float(client.get_midpoint(token)["mid"]) < 1
        assert 0 < float(client.get_price(token, "BUY")["price"]) < 1
        assert float(client.get_spread(token)["spread"]) > 0
        assert client.get_market(condition)["condition_id"] == condition
        assert len(client.get_markets()["data"]) == len(listings.by_condition)
        assert client.get_markets()["next_cursor"] == "LTE="
        books = client.get_order_books([BookParams(token_id=t) for t in tokens_of(server)[:3]])
        assert len(books) == 3

    serve(session)


def test_rest_reads_agree_with_one_another_and_errors_are_the_venue_s() -> None:
    async def session(server: SandboxServer, host: str) -> None:
        async with httpx.AsyncClient(base_url=f"http://{host}", timeout=10) as http:

            async def get(path: str, status: int = 200, **params: Any) -> Any:
                answer = await http.get(path, params=params)
                assert answer.status_code == status, (path, answer.text)
                assert answer.headers["content-type"].startswith("application/json")
                return answer.json()

            token = tokens_of(server)[0]
            book = await get("/clob/book", token_id=token)
            assert parse_price(book["bids"][-1]["price"]) < parse_price(book["asks"][-1]["price"])
            assert await get("/clob/version") == {"version": 2}
            both = (await http.post("/clob/books", json=[
                {"token_id": token}, {"token_id": "1"},
            ])).json()  # fmt: skip
            assert [b["asset_id"] for b in both] == [token]
            prices = (await http.post("/clob/prices", json=[
                {"token_id": token, "side": "BUY"}, {"token_id": token, "side": "SELL"},
            ])).json()  # fmt: skip
            assert parse_price(prices[token]["BUY"]) > parse_price(prices[token]["SELL"])
            for path, shape in (
                ("midpoints", dict),
                ("spreads", dict),
                ("last-trades-prices", list),
            ):
                batch = await http.post(f"/clob/{path}", json=[{"token_id": token}])
                assert isinstance(batch.json(), shape), path
            assert (await http.post("/clob/books", content=b"{")).status_code == 400
            many = [{"token_id": "1"}] * 501
            assert (await http.post("/clob/books", json=many)).status_code == 400
            missing = "No orderbook exists for the requested token id"
            assert await get("/clob/book", 404, token_id="1") == {"error": missing}
            assert await get("/clob/markets/0x00", 404) == {"error": "market not found"}
            for path in ("/clob/rewards/user", "/clob/builder/trades", "/clob/rfq/config"):
                assert (await get(path, 501))["code"] == "not_built"
            compact = await get(f"/clob/clob-markets/{book['market']}")
            assert compact["c"] == book["market"]
            history = await get("/clob/prices-history", market=token, interval="1h", fidelity=1)
            assert history["history"]
            await get("/clob/prices-history", 400, market=token)
            await get("/clob/price", 400, token_id=token, side="LONG")
            await get("/nowhere", 404)
            await get("/gamma/markets", 422, liquidity_num_min=5)
            await get("/gamma/markets/keyset", 422, offset=5)
            await get("/gamma/markets/keyset", 422, limit=101)
            await get("/gamma/events/id-that-is-none", 422)
            event = await get("/gamma/events/slug/coast-league-champion")
            assert event["negRiskAugmented"] is True
            assert len(event["markets"]) == 7
            assert await get(f"/gamma/events/{event['id']}") | {"volume": 0} == event | {
                "volume": 0
            }

    serve(session, simulator=SimulatorSettings(speed=0.01, mispricing_every_s=0))


@pytest.mark.parametrize("kind", ["markets", "events"])
def test_keyset_pages_walk_the_whole_listing_once(kind: str) -> None:
    async def session(server: SandboxServer, host: str) -> None:
        listings = server.simulator.listings
        wanted = listings.by_condition if kind == "markets" else listings.groups
        seen: list[str] = []
        params: dict[str, Any] = {"limit": 7, "closed": "false"}
        async with httpx.AsyncClient(base_url=f"http://{host}/gamma", timeout=10) as http:
            while True:
                page = (await http.get(f"/{kind}/keyset", params=params)).json()
                seen += [row["id"] for row in page[kind]]
                if "next_cursor" not in page:
                    break
                params["after_cursor"] = page["next_cursor"]
        assert len(seen) == len(set(seen)) == len(wanted)

    serve(session)


def test_clob_pages_walk_the_whole_listing_once() -> None:
    async def session(server: SandboxServer, host: str) -> None:
        seen: list[str] = []
        cursor = ""
        async with httpx.AsyncClient(base_url=f"http://{host}/clob", timeout=10) as http:
            while cursor != "LTE=":
                answer = await http.get("/markets", params={"next_cursor": cursor})
                page = answer.json()
                assert page["count"] == len(page["data"]) <= page["limit"] == 10
                seen += [row["condition_id"] for row in page["data"]]
                cursor = page["next_cursor"]
            assert (await http.get("/markets", params={"next_cursor": "?"})).status_code == 400
        assert seen == list(server.simulator.listings.by_condition)

    serve(session, clob_page_size=10)


def test_the_truth_can_be_found_in_the_frames() -> None:
    """What /sandbox/truth says of a standing mispricing is what /books offers at that moment."""

    async def session(server: SandboxServer, host: str) -> None:
        checked = 0
        async with httpx.AsyncClient(base_url=f"http://{host}", timeout=10) as http:
            while checked < 3:
                await asyncio.sleep(0.05)
                told = (await http.get("/sandbox/truth")).json()["mispricings"]
                now_ns = server.simulator.now_ns
                standing = [m for m in told if m["end_ns"] > now_ns + NS_PER_SECOND // 5]
                if not standing:
                    continue
                legs = standing[-1]["legs"]
                books = (await http.post(
                    "/clob/books", json=[{"token_id": leg["token_id"]} for leg in legs]
                )).json()  # fmt: skip
                offered = {b["asset_id"]: b["asks"][-1]["price"] for b in books}
                assert offered == {leg["token_id"]: leg["price"] for leg in legs}
                cost = sum(parse_price(p) for p in offered.values())
                assert parse_price(standing[-1]["cost"]) == cost < 10 * SCALE
                checked += 1

    serve(session)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def launch(root: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [*COMMAND, "--root", str(root), *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_ready(root: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    path = root / "var" / "status" / "sandbox.json"
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if path.exists():
            status: dict[str, Any] = json.loads(path.read_text())
            if status["ready"]:
                return status
        time.sleep(0.05)
    raise AssertionError("not ready in time")


def test_the_process_reports_refuses_twins_stays_small_and_stops_clean(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    port = free_port()
    process = launch(tmp_path / "a", "--port", str(port))
    processes.append(process)
    status = wait_ready(tmp_path / "a", process)
    assert status["bot"] == "Sandbox"
    assert status["pid"] == process.pid
    assert status["healthy"]
    about = httpx.get(f"http://127.0.0.1:{port}/sandbox", trust_env=False).json()
    assert (about["service"], about["seed"]) == ("fleet-sandbox", 7)
    measured = psutil.Process(process.pid)
    bound = [c.laddr for c in measured.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert [(a.ip, a.port) for a in bound] == [("127.0.0.1", port)]

    twin = launch(tmp_path / "b", "--port", str(port))
    processes.append(twin)
    _, errors = twin.communicate(timeout=START_S_MAX)
    assert twin.returncode == 75
    assert f"process {process.pid}" in errors

    spent = measured.cpu_times()
    time.sleep(5)
    after = measured.cpu_times()
    assert after.user + after.system - spent.user - spent.system < 0.5, "10 % of one core"
    assert measured.memory_info().rss < 100e6
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    assert "SIMULATED" in out
    assert all(line[:4].isdigit() and line[10] == " " for line in out.splitlines())
    final = json.loads((tmp_path / "a" / "var" / "status" / "sandbox.json").read_text())
    assert not final["ready"]


def test_a_port_of_something_else_is_told_with_the_cure(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = launch(tmp_path, "--port", str(other.getsockname()[1]))
        processes.append(process)
        _, errors = process.communicate(timeout=START_S_MAX)
    assert process.returncode == 78
    assert "--port" in errors


@pytest.mark.parametrize(
    "arguments", [("--speed", "0"), ("--mispricing-every", "0.2"), ("--port", "70000")]
)
def test_settings_out_of_range_stay_down(
    tmp_path: Path, processes: list[subprocess.Popen[str]], arguments: tuple[str, str]
) -> None:
    process = launch(tmp_path, *arguments)
    processes.append(process)
    _, errors = process.communicate(timeout=START_S_MAX)
    assert process.returncode == 78
    assert arguments[1].rstrip("0").rstrip(".") in errors


def test_a_closed_server_hangs_up_on_its_clients() -> None:
    async def main() -> None:
        server = SandboxServer(SandboxSettings(port=0), LiveClock())
        port = await server.start()
        async with ws_client.connect(f"ws://127.0.0.1:{port}/ws/market") as link:
            await server.stop()
            with pytest.raises(ConnectionClosed) as closed:
                await link.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001

    asyncio.run(main())
