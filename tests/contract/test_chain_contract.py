"""One suite for two chains: the sandbox's, and anvil, a real EVM node.

What our client relies on must hold on both: the sender and hash of our bytes, nonces, the pool's
words, reverts, proof of death. Anvil has none of the venue's contracts; a few bytes of code stand in
for an adapter that reverts.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from fleet.domain.commands import OperationId
from fleet.domain.instruments import Universe
from fleet.venues.polymarket.chain import (
    ChainOperations,
    ChainStatus,
    OperationFutile,
    SendStatus,
    WalletBusy,
)
from fleet.venues.polymarket.chain_contracts import Approve, Contract, Split
from fleet.venues.polymarket.chain_node import ChainNode, NodeRefused
from fleet.venues.polymarket.chain_transactions import Transaction, TransactionSigner, assemble
from fleet.venues.polymarket.contracts import POLYGON
from fleet.venues.polymarket.keys import keccak
from tests.chain_world import ChainWorld, opened, serving, signer

BINARY = Path(__file__).parents[2] / "node_modules" / ".bin" / "anvil"
GWEI = 10**9
ADAPTER = Contract.CTF_ADAPTER.address
REVERTING = "0x637939f42460e01b60005260046000fd"
"""PUSH4 TransferFromFailed() PUSH1 e0 SHL PUSH1 0 MSTORE PUSH1 4 PUSH1 0 REVERT."""
_secrets = count(1)


class OneChain(Protocol):
    """What the suite needs of a chain beside its RPC address."""

    url: str

    async def mine(self, blocks: int) -> None: ...

    async def fund(self, wallet: str) -> None: ...

    async def dearer(self) -> None:
        """Make the base fee five times what it was."""
        ...

    async def break_adapter(self, wallet: str) -> None:
        """From now on the standard adapter cannot take the wallet's pUSD."""
        ...


class SandboxChain:
    def __init__(self, world: ChainWorld, url: str) -> None:
        self.world, self.url = world, url

    async def mine(self, blocks: int) -> None:
        self.world.blocks(blocks)

    async def fund(self, wallet: str) -> None:
        self.world.give(wallet, 100)

    async def dearer(self) -> None:
        self.world.chain.base_fee_wei *= 5

    async def break_adapter(self, wallet: str) -> None:
        self.world.state.approve(wallet, ADAPTER, 0)


class AnvilChain:
    def __init__(self, url: str) -> None:
        self.url = url

    async def mine(self, blocks: int) -> None:
        await rpc(self.url, "anvil_mine", hex(blocks))

    async def fund(self, wallet: str) -> None:
        await rpc(self.url, "anvil_setBalance", wallet, hex(100 * 10**18))

    async def dearer(self) -> None:
        block = (await rpc(self.url, "eth_getBlockByNumber", "latest", False))["result"]
        fee = 100 * int(block["baseFeePerGas"], 16) + 500 * GWEI
        await rpc(self.url, "anvil_setNextBlockBaseFeePerGas", hex(fee))

    async def break_adapter(self, wallet: str) -> None:
        del wallet
        await rpc(self.url, "anvil_setCode", ADAPTER, REVERTING)


async def rpc(url: str, method: str, *params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer: dict[str, Any] = (await client.post(url, json=body)).json()
    return answer


@pytest.fixture
def anvil() -> Iterator[str]:
    if not BINARY.exists():
        pytest.skip("anvil is not installed: npm has it for Linux on x86-64 alone")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    resolved = shutil.which(str(BINARY)) or str(BINARY)
    arguments = [
        resolved, "--silent", "--no-mining", "--order", "fifo", "--port", str(port),
        "--chain-id", str(POLYGON), "--base-fee", str(30 * GWEI), "--accounts", "0",
    ]  # fmt: skip
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "anvil ended by itself"
                assert time.monotonic() < limit, "anvil does not listen"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def chain_of(kind: str, url: str) -> AsyncIterator[OneChain]:
    if kind == "anvil":
        yield AnvilChain(url)
        return
    world = ChainWorld.make()
    async with serving(world) as address:
        yield SandboxChain(world, address)
    world.close()


Scene = Callable[[OneChain, ChainNode, TransactionSigner], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture(params=["sandbox", "anvil"])
def play(request: pytest.FixtureRequest) -> Play:
    """Plays a scene on a chain, with an open node and a funded wallet of its own."""
    kind: str = request.param
    url: str = request.getfixturevalue("anvil") if kind == "anvil" else ""
    wallet = signer(next(_secrets).to_bytes(32, "big"))

    def run(scene: Scene) -> None:
        async def whole() -> None:
            async with chain_of(kind, url) as chain, opened(chain.url) as node:
                await chain.fund(wallet.address)
                await scene(chain, node, wallet)

        asyncio.run(whole())

    return run


def plain(nonce: int, wallet: TransactionSigner, *, gwei: int = 100) -> Transaction:
    """An empty transaction to oneself."""
    return Transaction(
        chain_id=POLYGON, nonce=nonce, priority_fee=30 * GWEI * gwei // 100,
        fee_cap=gwei * GWEI, gas=21_000, to=wallet.address,
    )  # fmt: skip


def operations_of(node: ChainNode, wallet: TransactionSigner) -> ChainOperations:
    return ChainOperations(wallet, node, Universe(instruments={}, markets={}), confirmations=2)


APPROVE = Approve(spender=ADAPTER)
SPLIT = Split(condition_id="0x" + "11" * 32, amount=5_000_000, neg_risk=False)


def test_the_node_reads_our_bytes_as_we_meant_them(play: Play) -> None:
    async def scene(chain: OneChain, node: ChainNode, wallet: TransactionSigner) -> None:
        operations = operations_of(node, wallet)
        prepared = await operations.prepare_call(APPROVE, OperationId("a"))
        assert await node.transaction(prepared.transaction_hash) is None
        answer = await rpc(chain.url, "eth_sendRawTransaction", prepared.raw)
        assert answer["result"] == prepared.transaction_hash
        told = (await rpc(chain.url, "eth_getTransactionByHash", prepared.transaction_hash))[
            "result"
        ]
        assert told["from"].lower() == wallet.address.lower()
        assert told["to"].lower() == Contract.PUSD.address.lower()
        assert (int(told["nonce"], 16), int(told["chainId"], 16)) == (0, POLYGON)
        assert told["input"].startswith("0x095ea7b3")
        assert told["blockNumber"] is None
        assert int(told["type"], 16) == 2
        assert (await operations.outcome(prepared.transaction_hash)).status is (ChainStatus.PENDING)
        assert await node.nonce(wallet.address) == 0
        assert await node.nonce(wallet.address, "pending") == 1
        await chain.mine(2)
        receipt = (await rpc(chain.url, "eth_getTransactionReceipt", prepared.transaction_hash))[
            "result"
        ]
        assert (receipt["status"], receipt["type"]) == ("0x1", "0x2")
        assert receipt["transactionHash"] == prepared.transaction_hash
        # A split of nothing known and a void are other calls: the hash names the bytes.
        assert prepared.transaction_hash == "0x" + keccak(bytes.fromhex(prepared.raw[2:])).hex()
        assert await node.nonce(wallet.address) == 1

    play(scene)


def test_the_same_bytes_again_are_known_and_then_too_late(play: Play) -> None:
    async def scene(chain: OneChain, node: ChainNode, wallet: TransactionSigner) -> None:
        operations = operations_of(node, wallet)
        prepared = await operations.prepare_call(APPROVE, OperationId("a"))
        assert (await operations.send(prepared)).status is SendStatus.ACCEPTED
        again = await operations.send(prepared)
        assert again.status is SendStatus.ACCEPTED
        assert "already" in again.reason
        with pytest.raises(WalletBusy):
            await operations.prepare_call(APPROVE, OperationId("b"))
        await chain.mine(4)
        late = await operations.send(prepared)
        assert late.status is SendStatus.UNKNOWN
        assert (await operations.outcome(prepared.transaction_hash)).status is (
            ChainStatus.CONFIRMED
        )
        assert await node.nonce(wallet.address) == 1

    play(scene)


def test_two_transactions_of_one_nonce_are_never_both_mined(play: Play) -> None:
    async def scene(chain: OneChain, node: ChainNode, wallet: TransactionSigner) -> None:
        cheap, dear = wallet.sign(plain(0, wallet)), wallet.sign(plain(0, wallet, gwei=200))
        await node.send(cheap.raw)
        weak = wallet.sign(plain(0, wallet, gwei=99))
        with pytest.raises(NodeRefused, match="replacement transaction underpriced"):
            await node.send(weak.raw)
        await node.send(dear.raw)
        await chain.mine(4)
        found = [await node.receipt(tx.transaction_hash) for tx in (cheap, weak, dear)]
        assert [one is not None for one in found] == [False, False, True]
        for tx in (cheap, weak):
            with pytest.raises(NodeRefused, match="nonce too low"):
                await node.send(tx.raw)
        assert await node.nonce(wallet.address) == 1

    play(scene)


def test_a_later_nonce_waits_for_the_gap(play: Play) -> None:
    async def scene(chain: OneChain, node: ChainNode, wallet: TransactionSigner) -> None:
        second = wallet.sign(plain(1, wallet))
        await node.send(second.raw)
        await chain.mine(4)
        assert await node.receipt(second.transaction_hash) is None
        assert await node.nonce(wallet.address, "pending") == 0
        await node.send(wallet.sign(plain(0, wallet)).raw)
        await chain.mine(4)
        assert await node.receipt(second.transaction_hash) is not None
        assert await node.nonce(wallet.address) == 2

    play(scene)


def test_a_void_proves_an_unsent_operation_dead(play: Play) -> None:
    async def scene(chain: OneChain, node: ChainNode, wallet: TransactionSigner) -> None:
        crashed = await operations_of(node, wallet).prepare_call(APPROVE, OperationId("a"))
        operations = operations_of(node, wallet)
        operations.restore(crashed.transaction_hash)
        await chain.mine(4)
        assert (await operations.outcome(crashed.transaction_hash)).status is ChainStatus.UNKNOWN
        void = await operations.void()
        assert (await operations.send(void)).status is SendStatus.ACCEPTED
        assert (await operations.outcome(crashed.transaction_hash)).status is ChainStatus.UNKNOWN
        await chain.mine(4)
        assert (await operations.outcome(crashed.transaction_hash)).status is ChainStatus.DEAD
        assert (await operations.send(crashed)).status is SendStatus.UNKNOWN
        await chain.mine(4)
        assert await node.receipt(crashed.transaction_hash) is None

    play(scene)


def test_a_stuck_transaction_is_outbid(play: Play) -> None:
    async def scene(chain: OneChain, node: ChainNode, wallet: TransactionSigner) -> None:
        operations = operations_of(node, wallet)
        stuck = await operations.prepare_call(APPROVE, OperationId("a"))
        assert (await operations.send(stuck)).status is SendStatus.ACCEPTED
        await chain.dearer()
        await chain.mine(1)
        # A node of Polygon keeps it in its pool; anvil forgets it. Neither is an end.
        assert not (await operations.outcome(stuck.transaction_hash)).status.final
        with pytest.raises(WalletBusy):
            await operations.prepare_call(APPROVE, OperationId("b"))
        void = await operations.void()
        assert void.nonce == stuck.nonce
        assert (await operations.send(void)).status is SendStatus.ACCEPTED
        await chain.mine(6)
        assert (await operations.outcome(void.transaction_hash)).status is ChainStatus.CONFIRMED
        assert (await operations.outcome(stuck.transaction_hash)).status is ChainStatus.DEAD

    play(scene)


def test_a_revert_is_foreseen_and_explained(play: Play) -> None:
    async def scene(chain: OneChain, node: ChainNode, wallet: TransactionSigner) -> None:
        operations = operations_of(node, wallet)
        prepared = await operations.prepare_call(SPLIT, OperationId("a"))
        await chain.break_adapter(wallet.address)
        assert (await operations.send(prepared)).status is SendStatus.ACCEPTED
        await chain.mine(6)
        outcome = await operations.outcome(prepared.transaction_hash)
        assert outcome.status is ChainStatus.REVERTED
        assert "TransferFromFailed" in outcome.reason
        assert await node.nonce(wallet.address) == 1
        with pytest.raises(OperationFutile, match="TransferFromFailed"):
            await operations.prepare_call(SPLIT, OperationId("b"))

    play(scene)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chain_id": 1}, "chain id"),
        ({"gas": 20_000}, "intrinsic gas too low"),
        ({"gas": 20_000_000, "fee_cap": 10**14}, "insufficient funds"),
    ],
)
def test_the_pool_refuses_in_the_same_words(
    play: Play, changes: dict[str, Any], words: str
) -> None:
    async def scene(chain: OneChain, node: ChainNode, wallet: TransactionSigner) -> None:
        del chain
        # Past the signer's guard: only a node may refuse it here.
        transaction = replace(plain(0, wallet), **changes)
        signature = wallet._key.sign_digest(transaction.digest)
        signed = assemble(transaction, signature, wallet.address)
        with pytest.raises(NodeRefused, match=f"(?i){words}"):
            await node.send(signed.raw)
        assert await node.transaction(signed.transaction_hash) is None

    play(scene)
