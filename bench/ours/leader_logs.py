"""From a log's departure at a node to the fact the engine gets, and a block of 10,000 logs.

The node is a process of its own on loopback that speaks JSON-RPC over a websocket. ``p50_us`` and
``p99_us``: COUNT fills of a followed wallet, one every 2 ms, each from the moment before the node
sends it to the moment its ``LeaderTraded`` is in the sink (both on the machine's monotonic clock,
so the sender's own work and the loopback are in it). ``block_ms``: 10,000 of them sent at once,
from the first departure to the last fact; ``block_cpu_us`` what one costs us. ``web3_block_ms`` is the same
block through web3.py's LogsSubscription, whose handler does nothing.

Run by bench/run.py: ``leader_logs.py COUNT``; ``leader_logs.py serve COUNT`` is the node.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

import uvloop
from aiohttp import web
from timing import report, summary

from fleet.clock import LiveClock
from fleet.domain.events import LeaderTraded
from fleet.venues.polymarket.leader_listener import LeaderListener, ListenerSettings
from fleet.venues.polymarket.leader_logs import ORDER_FILLED, LeaderLogs
from fleet.venues.polymarket.leader_tracker import LeaderTracker
from fleet.venues.polymarket.rpc_pool import RpcPool
from fleet.venues.polymarket.rpc_socket import RpcSocket

BLOCK = 10_000
WALLET = "0x" + "a1" * 20
PAUSE_S = 0.002
START_NUMBER = 100


class Node:
    """Answers what a listener asks and sends what the parent orders: a line of stdin each."""

    def __init__(self, count: int) -> None:
        """Send ``count`` paced logs, then a block of them."""
        self.count = count
        self.number = START_NUMBER
        self.sent: list[int] = []
        self.hearer: web.WebSocketResponse | None = None
        self.name = ""
        """Who subscribed to fills last, and under which name."""

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One client."""
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        count = 0
        async for message in socket:
            asked = json.loads(message.data)
            if asked["method"] == "bench":
                await self.order(paced=asked["params"][0])
                result: Any = self.sent
            elif asked["method"] == "eth_subscribe":
                count += 1
                result = hex(count)
                # web3.py subscribes to everything, and only once.
                if ORDER_FILLED in str(asked["params"]) or asked["params"] == ["logs", {}]:
                    self.hearer, self.name = socket, result
            else:
                result = self.answer(asked["method"])
            told = {"jsonrpc": "2.0", "id": asked["id"], "result": result}
            await socket.send_str(json.dumps(told))
        return socket

    def answer(self, method: str) -> Any:
        """What a quiet chain answers."""
        if method == "eth_getBlockByNumber":
            parent = f"0x{self.number - 1:064x}"
            return {"number": hex(self.number), "hash": f"0x{self.number:064x}",
                    "parentHash": parent, "timestamp": "0x6b000000"}  # fmt: skip
        return [] if method == "eth_getLogs" else "0x89"

    async def order(self, *, paced: bool) -> None:
        """Send logs of the next block, paced or at once."""
        total = self.count if paced else BLOCK
        frames = [json.dumps(self.frame(place, paced=paced)) for place in range(total)]
        self.sent = []
        assert self.hearer is not None
        for frame in frames:
            self.sent.append(time.monotonic_ns())
            await self.hearer.send_str(frame)
            if paced:
                await asyncio.sleep(PAUSE_S)

    def frame(self, place: int, *, paced: bool) -> dict[str, Any]:
        """One fill."""
        owner = "0x" + "00" * 12 + WALLET[2:]
        words = [0, 7**60, 400_000 + place, 1_000_000, 0, 0, 0]
        return {
            "jsonrpc": "2.0", "method": "eth_subscription", "params": {
                "subscription": self.name,
                "result": {
                    "address": "0xE111180000d2663C0091e4f400237545B87B996B",
                    "topics": [ORDER_FILLED, f"0x{place:064x}", owner, owner],
                    "data": "0x" + "".join(f"{word:064x}" for word in words),
                    "blockNumber": hex(START_NUMBER + 1), "removed": False,
                    "blockHash": f"0x{START_NUMBER + 1:064x}", "transactionIndex": "0x1",
                    "transactionHash": f"0x{place + 1 + BLOCK * 10 * paced:064x}",
                    "logIndex": hex(place), "blockTimestamp": "0x6b000002",
                },
            },
        }  # fmt: skip


async def serve(count: int) -> None:
    """Be the node until the parent closes stdin."""
    app = web.Application()
    app.router.add_get("/", Node(count).serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


class Nowhere:
    """A cursor that keeps nothing: the file is written every half second, not for every log."""

    def load(self) -> None:
        """Always the first start."""

    def save(self, safe: int, blocks: object, changed: object) -> None:
        """Keep nothing."""


async def ours(url: str, count: int) -> dict[str, object]:
    """The listener's times."""
    arrived: list[int] = []
    places: list[int] = []

    def sink(facts: Any) -> None:
        now = time.monotonic_ns()
        for fact in facts:
            assert isinstance(fact, LeaderTraded)
            arrived.append(now)
            places.append(int(fact.sighting_id.split(":")[1]))

    listener = LeaderListener(
        LeaderTracker(LeaderLogs([WALLET]), sink), RpcPool([url]), LiveClock(), cursor=Nowhere(),
        settings=ListenerSettings(head_age_max_ns=10**12, timeout_s=120),
    )  # fmt: skip
    task = asyncio.create_task(listener.run())
    while not listener.synced:  # noqa: ASYNC110 - nothing tells when
        await asyncio.sleep(0.01)
    socket = RpcSocket(url, timeout_s=120)
    await socket.open()
    sent: list[int] = await socket.call("bench", [True], list[int])
    await asyncio.sleep(0.1)
    paced = summary([at - sent[place] for at, place in zip(arrived, places, strict=True)])
    assert len(arrived) == count
    arrived.clear()
    places.clear()
    cpu = time.process_time_ns()
    sent = await socket.call("bench", [False], list[int])
    while len(arrived) < BLOCK:  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.01)
    cpu = time.process_time_ns() - cpu
    block_ms = (arrived[-1] - sent[0]) / 1e6
    task.cancel()
    await asyncio.wait({task})
    await socket.close()
    return {**paced, "block_ms": block_ms, "block_cpu_us": cpu / BLOCK / 1e3,
            "block_sent_ms": (sent[-1] - sent[0]) / 1e6}  # fmt: skip


async def theirs(url: str) -> float:
    """The same block through web3.py's subscription manager; milliseconds."""
    from web3 import AsyncWeb3, WebSocketProvider
    from web3.types import RPCEndpoint
    from web3.utils.subscriptions import LogsSubscription

    provider: Any = WebSocketProvider(
        url, subscription_response_queue_size=2 * BLOCK, max_connection_retries=1,
        request_timeout=120, websocket_kwargs={"proxy": None, "max_size": None},
    )  # fmt: skip
    arrived: list[int] = []

    async def on_log(_: Any) -> None:
        arrived.append(time.monotonic_ns())

    async with AsyncWeb3(provider) as web3:
        manager: Any = web3.subscription_manager
        await manager.subscribe(LogsSubscription(handler=on_log))
        task = asyncio.create_task(manager.handle_subscriptions(run_forever=True))
        answer: Any = await web3.provider.make_request(RPCEndpoint("bench"), [False])
        while len(arrived) < BLOCK:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
    return (arrived[-1] - answer["result"][0]) / 1e6


def main() -> None:
    """Measure; print one JSON line."""
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
        return
    count = int(sys.argv[1])
    node = subprocess.Popen(
        [sys.executable, __file__, "serve", str(count)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert node.stdout is not None
        url = f"ws://127.0.0.1:{int(node.stdout.readline())}/"
        found = uvloop.run(ours(url, count))
        report({**found, "web3_block_ms": uvloop.run(theirs(url))})
    finally:
        if node.stdin is not None:
            node.stdin.close()
        node.wait(timeout=20)


if __name__ == "__main__":
    main()
