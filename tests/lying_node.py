"""A node that speaks real JSON-RPC over a real websocket and cannot be trusted.

It keeps a chain of its own, made by a seed: fills and transfers of leaders and others, forks of up
to five blocks. It leaves logs out of its subscriptions, repeats and delays them, sends them before or after their
heads, takes logs back with ``removed`` or silently, refuses ranges that are too long, hangs up, and
may leave a log out of ``eth_getLogs`` too. ``truth`` is what the chain says at the end.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import WSMsgType, web
from eth_abi.abi import encode as abi_encode

from fleet.venues.polymarket.leader_logs import ORDER_FILLED, TRANSFER_SINGLE
from tests.leader_world import ALICE, BOB, CHAIN, MALLORY, topic

EXCHANGE = "0x" + "e1" * 20
LEDGER = "0x" + "1d" * 20
_TYPES = ("uint8", "uint256", "uint256", "uint256", "uint256", "bytes32", "bytes32")


@dataclass
class Lies:
    """How often, of a hundred, a node does what it should not."""

    omit: int = 0
    """Of a subscription's logs."""
    repeat: int = 0
    delay: int = 0
    heads_first: int = 50
    """Of blocks whose heads come before their logs."""
    lose_head: int = 0
    removed: int = 50
    """Of forks that are told by removed logs."""
    hang_up: int = 0
    range_max: int = 10_000
    hide: set[str] = field(default_factory=set)
    """Ids never shown, neither in subscriptions nor in ranges."""
    times: bool = True
    """Whether logs carry their block's time."""


@dataclass(frozen=True)
class MadeBlock:
    number: int
    hash: str
    parent: str
    logs: tuple[dict[str, Any], ...]


class FakeChain:
    """Blocks with fills, drawn by a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.blocks: list[MadeBlock] = []
        self._count = 0
        self._dropped: list[dict[str, Any]] = []
        for _ in range(3):
            self.grow(0)

    def grow(self, fills: int) -> MadeBlock:
        """One more block; fills of blocks that were replaced may be mined again in it."""
        self._count += 1
        parent = self.blocks[-1].hash if self.blocks else "0x" + "00" * 32
        number, name = len(self.blocks), f"0x{self._count:064x}"
        drawn = [self._move() if self.rng.random() < 0.2 else self._fill() for _ in range(fills)]
        while self._dropped and self.rng.random() < 0.5:
            drawn.insert(self.rng.randrange(len(drawn) + 1), self._dropped.pop())
        logs = tuple(
            one | {
                "blockNumber": hex(number), "blockHash": name, "logIndex": hex(place),
                "transactionIndex": hex(place), "removed": False,
                "blockTimestamp": hex(1_790_000_000 + 2 * number),
            }
            for place, one in enumerate(drawn)
        )  # fmt: skip
        block = MadeBlock(number, name, parent, logs)
        self.blocks.append(block)
        return block

    def fork(self, depth: int) -> list[MadeBlock]:
        """Drop the newest blocks; the caller grows others in their place."""
        gone = self.blocks[-depth:]
        del self.blocks[-depth:]
        for block in gone:
            self._dropped += block.logs
        return gone

    def _fill(self) -> dict[str, Any]:
        self._count += 1
        maker = self.rng.choice((ALICE, BOB, MALLORY))
        taker = self.rng.choice((EXCHANGE, ALICE, MALLORY))
        given, taken = self.rng.randrange(1, 10**6), 10**6
        side = self.rng.randrange(2)
        amounts = (given, taken) if side == 0 else (taken, given)
        values = (side, self._count, *amounts, 0, bytes(32), bytes(32))
        return {
            "address": EXCHANGE,
            "topics": [ORDER_FILLED, f"0x{self._count:064x}", topic(maker), topic(taker)],
            "data": "0x" + abi_encode(_TYPES, values).hex(),
            "transactionHash": f"0x{self.rng.getrandbits(256):064x}",
        }

    def _move(self) -> dict[str, Any]:
        """A transfer between a followed wallet and another."""
        self._count += 1
        parties = [self.rng.choice((ALICE, BOB)), MALLORY]
        self.rng.shuffle(parties)
        return {
            "address": LEDGER,
            "topics": [TRANSFER_SINGLE, topic(MALLORY), *(topic(one) for one in parties)],
            "data": "0x" + abi_encode(("uint256", "uint256"), (self._count, 10**6)).hex(),
            "transactionHash": f"0x{self.rng.getrandbits(256):064x}",
        }

    def truth(self) -> set[str]:
        """Ids of the followed wallets' fills and moves on the chain as it is."""
        followed = {topic(ALICE), topic(BOB)}
        return {
            id_of(log) for block in self.blocks for log in block.logs
            if log["topics"][2] in followed or log["topics"][0] == TRANSFER_SINGLE
        }  # fmt: skip


def id_of(log: dict[str, Any]) -> str:
    return f"{log['transactionHash']}:{int(log['logIndex'], 16)}"


def head_of(block: MadeBlock) -> dict[str, Any]:
    return {
        "number": hex(block.number), "hash": block.hash, "parentHash": block.parent,
        "timestamp": hex(1_790_000_000 + 2 * block.number),
    }  # fmt: skip


class LyingNode:
    """One server on a chain that several may share."""

    def __init__(self, chain: FakeChain, lies: Lies, seed: int = 0) -> None:
        self.chain, self.lies = chain, lies
        self.rng = random.Random(seed)
        self.url = ""
        self.refused = 0
        self._sockets: dict[web.WebSocketResponse, list[tuple[str, Any]]] = {}
        self._late: list[dict[str, Any]] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def tell(self, block: MadeBlock) -> None:
        """Tell the subscribers of a block, after this node's manner."""
        rng, lies = self.rng, self.lies
        logs = [log for log in block.logs if id_of(log) not in lies.hide]
        now, self._late = self._late, []
        shown = list(now)
        for log in logs:
            drawn = rng.randrange(100)
            if drawn < lies.omit:
                continue
            if drawn < lies.omit + lies.delay:
                self._late.append(log)
                continue
            shown += [log] * (2 if rng.randrange(100) < lies.repeat else 1)
        heads = [] if rng.randrange(100) < lies.lose_head else [("newHeads", head_of(block))]
        frames = [("logs", log) for log in shown]
        order = heads + frames if rng.randrange(100) < lies.heads_first else frames + heads
        await self.send(order)
        if rng.randrange(100) < lies.hang_up:
            await self.hang_up()

    async def take_back(self, gone: list[MadeBlock]) -> None:
        """Send what real nodes send of replaced blocks, or nothing, as anvil does."""
        if self.rng.randrange(100) < self.lies.removed:
            await self.send(
                [("logs", log | {"removed": True}) for block in gone for log in block.logs]
            )

    async def send(self, told: list[tuple[str, dict[str, Any]]]) -> None:
        for socket, wanted in list(self._sockets.items()):
            for kind, result in told:
                for place, (asked, chosen) in enumerate(wanted):
                    if asked == kind and (kind != "logs" or matches(result, chosen)):
                        params = {"subscription": hex(place), "result": self._shaped(result)}
                        frame = {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}
                        with suppress(ConnectionError):
                            await socket.send_str(msgspec.json.encode(frame).decode())

    async def hang_up(self) -> None:
        for socket in list(self._sockets):
            await socket.close()

    def _shaped(self, result: dict[str, Any]) -> dict[str, Any]:
        if self.lies.times or "number" in result:
            return result
        return {key: value for key, value in result.items() if key != "blockTimestamp"}

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        wanted: list[tuple[str, Any]] = []
        self._sockets[socket] = wanted
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                asked = msgspec.json.decode(message.data)
                if self.rng.randrange(4) == 0:
                    await asyncio.sleep(0.001)
                answer = {"jsonrpc": "2.0", "id": asked["id"]} | self._answer(asked, wanted)
                await socket.send_str(msgspec.json.encode(answer).decode())
        except ConnectionError:
            pass
        finally:
            del self._sockets[socket]
        return socket

    def _answer(self, asked: dict[str, Any], wanted: list[tuple[str, Any]]) -> dict[str, Any]:
        method, params = asked["method"], asked["params"]
        blocks = self.chain.blocks
        if method == "eth_chainId":
            return {"result": hex(CHAIN)}
        if method == "eth_subscribe":
            wanted.append((params[0], params[1] if len(params) > 1 else {}))
            return {"result": hex(len(wanted) - 1)}
        if method == "eth_getBlockByNumber":
            number = len(blocks) - 1 if params[0] == "latest" else int(params[0], 16)
            return {"result": head_of(blocks[number]) if number < len(blocks) else None}
        if method == "eth_getTransactionReceipt":
            return {"result": self._receipt(params[0])}
        low, high = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        if high - low >= self.lies.range_max:
            self.refused += 1
            return {"error": {"code": -32005, "message": "query returned more than allowed"}}
        found = [
            self._shaped(log) for block in blocks[low : high + 1] for log in block.logs
            if matches(log, params[0]) and id_of(log) not in self.lies.hide
        ]  # fmt: skip
        return {"result": found}

    def _receipt(self, name: str) -> dict[str, Any] | None:
        for block in self.chain.blocks:
            for log in block.logs:
                if log["transactionHash"] == name:
                    return {"blockHash": block.hash, "logs": [log]}
        return None


def matches(log: dict[str, Any], chosen: dict[str, Any]) -> bool:
    """``eth_getLogs``' filter."""
    if log["address"] not in [a.lower() for a in chosen["address"]]:
        return False
    for want, have in zip(chosen["topics"], log["topics"], strict=False):
        if want is not None and have not in want:
            return False
    return len(chosen["topics"]) <= len(log["topics"])
