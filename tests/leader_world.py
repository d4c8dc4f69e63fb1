"""A followed chain for tests: anvil, a contract that emits the venue's events, a listener."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_abi.abi import encode as abi_encode

from fleet.clock import LiveClock
from fleet.domain.events import Event, LeaderMoved, LeaderTraded, SightingUndone
from fleet.journal.chain_cursor import ChainCursor
from fleet.venues.polymarket.keys import keccak
from fleet.venues.polymarket.leader_listener import LeaderListener, ListenerSettings
from fleet.venues.polymarket.leader_logs import LeaderContracts, LeaderLogs
from fleet.venues.polymarket.leader_tracker import LeaderTracker
from fleet.venues.polymarket.rpc_pool import RpcPool

ROOT = Path(__file__).parents[1]
BINARY = ROOT / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
ARTIFACT = ROOT / "tests" / "contracts" / "LeaderLogs.json"
CHAIN = 31_337
ALICE = "0x" + "a1" * 20
BOB = "0x" + "b2" * 20
MALLORY = "0x" + "c3" * 20
TOKEN = 7**60
SIGNATURES = {
    "matchOrders": "address,address,uint8,uint256,uint256,uint256,uint256",
    "fills": "address,address,uint256,uint256",
    "filledV1": "address,address,uint256,uint256,uint256,uint256",
    "move": "address,address,address,uint256,uint256",
    "split": "address,uint256[],uint256[]",
    "merge": "address,uint256[],uint256[]",
    "redeem": "address,uint256[],uint256[]",
    "convert": "address,uint256,uint256,uint256",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def call_data(name: str, *values: Any) -> str:
    types = SIGNATURES[name]
    selector = keccak(f"{name}({types})".encode())[:4]
    return "0x" + (selector + abi_encode(types.split(","), values)).hex()


def topic(address: str) -> str:
    return "0x" + "00" * 12 + address[2:].lower()


class Anvil:
    """One node that mines when asked to. It can die and come back with its chain."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.http = f"http://127.0.0.1:{self.port}"
        self.ws = f"ws://127.0.0.1:{self.port}"
        self.contract = ""
        """The exchange."""
        self.ledger = ""
        """The outcome tokens and their adapters."""
        self.account = ""
        self._state = folder / "anvil.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.AsyncClient(trust_env=False, timeout=60)

    async def start(self) -> None:
        """Start the binary itself: a killed launcher would leave it alive."""
        self._process = subprocess.Popen(  # noqa: ASYNC220 - starts at once
            [BINARY, "--silent", "--no-mining", "--order", "fifo", "--port", str(self.port),
             "--state", self._state, "--slots-in-an-epoch", "1", "--gas-limit", "500000000000",
             "--disable-code-size-limit", "--preserve-historical-states"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        async with asyncio.timeout(60):
            while True:
                with suppress(httpx.TransportError):
                    await self.rpc("eth_chainId")
                    return
                await asyncio.sleep(0.05)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """SIGTERM lets it keep its chain; SIGKILL does not."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    async def close(self) -> None:
        await self._client.aclose()
        self.end(signal.SIGKILL)

    async def rpc(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = (await self._client.post(self.http, json=body)).json()
        assert "error" not in answer, answer
        return answer["result"]

    async def deploy(self) -> str:
        """The two contracts whose events the listener believes: a ledger and its exchange."""
        self.account = (await self.rpc("eth_accounts"))[0]
        code = json.loads(ARTIFACT.read_text())["bytecode"]
        for _ in range(2):
            made = code + (self.ledger or "0x").removeprefix("0x").rjust(64, "0")
            sent = await self.rpc("eth_sendTransaction", {"from": self.account, "data": made})
            await self.mine()
            at = (await self.rpc("eth_getTransactionReceipt", sent))["contractAddress"]
            self.ledger, self.contract = self.ledger or at, at
        return self.contract

    def transaction(self, name: str, *values: Any, gas: int = 40_000_000) -> dict[str, str]:
        exchange = name in {"matchOrders", "fills", "filledV1"}
        return {
            "from": self.account, "to": self.contract if exchange else self.ledger,
            "data": call_data(name, *values), "gas": hex(gas),
        }  # fmt: skip

    async def send(self, name: str, *values: Any, gas: int = 40_000_000) -> str:
        """A transaction that waits for the next block."""
        sent: str = await self.rpc("eth_sendTransaction", self.transaction(name, *values, gas=gas))
        return sent

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            await self.rpc("evm_mine")

    async def logs(self) -> list[dict[str, Any]]:
        """Every log of the contract on the chain as it is now."""
        found: list[dict[str, Any]] = await self.rpc(
            "eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": self.contract}
        )
        return found


@asynccontextmanager
async def anvil(folder: Path) -> AsyncIterator[Anvil]:
    """A running node with the contract."""
    if not BINARY.exists() or not os.access(BINARY, os.X_OK):
        pytest.skip("anvil is not installed: npm has it for Linux on x86-64 alone")
    node = Anvil(folder)
    await node.start()
    try:
        await node.deploy()
        yield node
    finally:
        await node.close()


def contracts_of(node: Anvil) -> LeaderContracts:
    """The venue's contracts in two: one exchange of both versions, one ledger that is its cash."""
    return LeaderContracts(
        exchanges=(node.contract,), exchanges_v1=(node.contract,), ledgers=(node.ledger,),
        adapters=(), cash=node.ledger,
    )  # fmt: skip


class Memory:
    """A cursor kept in memory, for tests that do not restart."""

    def __init__(self) -> None:
        self.kept: tuple[int, Sequence[Any], Sequence[Any]] | None = None
        self._sightings: dict[str, Any] = {}

    def load(self) -> tuple[int, Sequence[Any], Sequence[Any]] | None:
        return self.kept

    def save(self, safe: int, blocks: Sequence[Any], changed: Mapping[str, Any]) -> None:
        for name, told in changed.items():
            if told is None:
                self._sightings.pop(name, None)
            else:
                self._sightings[name] = tuple(told)
        self.kept = (safe, list(blocks), list(self._sightings.values()))


class Heard:
    """What the listener told, and the fold a copier would make of it."""

    def __init__(self) -> None:
        self.facts: list[Event] = []
        self.told: dict[str, LeaderTraded | LeaderMoved] = {}
        self.repeated: list[str] = []
        """Ids told while they were told: a copier that did not look would copy twice."""
        self.wrong: list[str] = []
        """Ids taken back that were not told."""

    def __call__(self, facts: Sequence[Event]) -> None:
        for fact in facts:
            self.facts.append(fact)
            if isinstance(fact, LeaderTraded | LeaderMoved):
                if fact.sighting_id in self.told:
                    self.repeated.append(fact.sighting_id)
                self.told[fact.sighting_id] = fact
            elif isinstance(fact, SightingUndone) and self.told.pop(fact.sighting_id, None) is None:
                self.wrong.append(fact.sighting_id)

    @property
    def trades(self) -> list[LeaderTraded]:
        return [one for one in self.told.values() if isinstance(one, LeaderTraded)]

    @property
    def moves(self) -> list[LeaderMoved]:
        return [one for one in self.told.values() if isinstance(one, LeaderMoved)]


def listener_of(
    urls: Sequence[str],
    heard: Callable[[Sequence[Event]], None],
    *,
    contracts: LeaderContracts,
    wallets: Sequence[str] = (ALICE, BOB),
    cursor: Memory | ChainCursor | None = None,
    chain_id: int = CHAIN,
    verify_blocks: int = 4,
    head_age_s: float = 60.0,
) -> LeaderListener:
    """A listener over real sockets."""
    return LeaderListener(
        LeaderTracker(LeaderLogs(wallets, contracts), heard),
        RpcPool(urls, jitter=lambda: 0.5),
        LiveClock(),
        cursor=cursor or Memory(),
        settings=ListenerSettings(
            chain_id=chain_id, verify_blocks=verify_blocks,
            head_age_max_ns=int(head_age_s * 1e9), timeout_s=10,
        ),
    )  # fmt: skip


@asynccontextmanager
async def listening(listener: LeaderListener) -> AsyncIterator[LeaderListener]:
    """Run it for a while, and raise what it raised."""
    task = asyncio.create_task(listener.run())
    try:
        await until(lambda: listener.synced or task.done())
        yield listener
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(fulfilled: Callable[[], object], *, within_s: float = 20.0) -> None:
    """Wait for something to come true."""
    async with asyncio.timeout(within_s):
        while not fulfilled():  # noqa: ASYNC110 - nothing tells when; a test looks
            await asyncio.sleep(0.01)
