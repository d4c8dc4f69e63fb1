"""The chain as the sandbox's server serves it: beside the CLOB, over one ledger, with its clock."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from fleet.clock import ManualClock
from fleet.domain.commands import OperationKind
from fleet.domain.instruments import Universe
from fleet.sandbox.server import SandboxServer, SandboxSettings
from fleet.venues.polymarket.chain import ChainOperations, ChainStatus, SendStatus
from fleet.venues.polymarket.chain_account import ChainAccount, approve_missing
from fleet.venues.polymarket.chain_contracts import Contract
from fleet.venues.polymarket.chain_node import ChainNode
from fleet.venues.polymarket.contracts import POLYGON
from fleet.venues.polymarket.hosts import sandbox_hosts
from fleet.venues.port import AnswerInvalid
from tests.chain_world import START_NS, legs, opened, operation, signer, universe_of

WALLET = signer().address


async def post(port: int, path: str, body: dict[str, object]) -> dict[str, str]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(f"http://127.0.0.1:{port}{path}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


def test_a_wallet_is_funded_approved_and_operates_through_the_server(tmp_path: Path) -> None:
    async def life(clock: ManualClock, *, first: bool) -> None:
        server = SandboxServer(SandboxSettings(port=0, state=tmp_path / "sandbox.db"), clock)
        port = await server.start()

        async def tick(_: float) -> None:
            clock.advance(10**9)
            await asyncio.sleep(0.01)

        try:
            async with opened(sandbox_hosts(port).rpc_url) as node:
                account = ChainAccount(node)
                if not first:
                    assert await account.cash(WALLET) == 88 * 10**8
                    assert all(state.given for state in await account.approvals(WALLET))
                    return
                deposit = {"wallet": WALLET, "amount": "100", "approve": False}
                assert (await post(port, "/sandbox/deposit", deposit))["balance"] == "100000000"
                markets = server.simulator.listings.markets
                market = next(m for m in markets if m.spec.neg_risk and not m.closed)
                operations = ChainOperations(signer(), node, universe_of(markets), confirmations=1)
                assert not any(state.given for state in await account.approvals(WALLET))
                given = [a async for a in approve_missing(operations, account, sleep=tick)]
                assert len(given) == 10
                split = operation(OperationKind.SPLIT, mint=legs(market, 12), dollars="-12")
                prepared = await operations.prepare(split)
                assert (await operations.send(prepared)).status is SendStatus.ACCEPTED
                outcome = await operations.resolve(prepared.transaction_hash)
                for _ in range(30):
                    if outcome.status.final:
                        break
                    await tick(1)
                    outcome = await operations.resolve(prepared.transaction_hash)
                assert outcome.status is ChainStatus.CONFIRMED
                assert server.exchange.cash(WALLET) == 88_000_000
        finally:
            await server.stop()

    clock = ManualClock(START_NS)
    asyncio.run(life(clock, first=True))
    asyncio.run(life(clock, first=False))


def test_a_node_of_another_chain_is_refused() -> None:
    async def scene() -> None:
        server = SandboxServer(SandboxSettings(port=0), ManualClock(START_NS))
        port = await server.start()
        try:
            node = ChainNode(sandbox_hosts(port).rpc_url, chain_id=80_002)
            with pytest.raises(AnswerInvalid, match=f"chain {POLYGON}, not 80002"):
                await node.open()
            await node.close()
        finally:
            await server.stop()

    asyncio.run(scene())


def test_a_call_needs_an_open_node() -> None:
    node = ChainNode("http://127.0.0.1:1/rpc", chain_id=POLYGON)
    operations = ChainOperations(signer(), node, Universe(instruments={}, markets={}))
    with pytest.raises(RuntimeError, match="not open"):
        asyncio.run(operations.outcome("0x" + "11" * 32))
    with pytest.raises(ValueError, match="one block at least"):
        ChainOperations(signer(), node, Universe(instruments={}, markets={}), confirmations=0)
    assert Contract.PUSD.address
