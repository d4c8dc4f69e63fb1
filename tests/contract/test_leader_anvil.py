"""The listener on anvil, a real EVM node, with a contract that emits the venue's events."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from fleet.domain.events import MoveKind, SightingUndone
from fleet.domain.instruments import Side
from fleet.journal.chain_cursor import ChainCursor
from tests.leader_world import (
    ALICE,
    ARTIFACT,
    BOB,
    MALLORY,
    TOKEN,
    Anvil,
    Heard,
    Memory,
    anvil,
    contracts_of,
    listener_of,
    listening,
    until,
)

Web = Any


def oracle(node: Anvil, logs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Sighting id -> the fill of a followed wallet, as web3.py reads the V2 event."""
    abi = [
        one for one in json.loads(ARTIFACT.read_text())["abi"]
        if one.get("name") == "OrderFilled" and len(one["inputs"]) == 10
    ]  # fmt: skip
    event = Web3().eth.contract(address=Web3.to_checksum_address(node.contract), abi=abi)
    found = {}
    followed = {Web3.to_checksum_address(one) for one in (ALICE, BOB)}
    for log in logs:
        if (
            log["topics"][0]
            != "0x"
            + Web3.keccak(
                text="OrderFilled(bytes32,address,address,uint8,uint256,uint256,uint256,uint256,"
                "bytes32,bytes32)"
            ).hex()
        ):
            continue
        shaped = log | {
            "topics": [bytes.fromhex(t[2:]) for t in log["topics"]],
            "data": bytes.fromhex(log["data"][2:]),
            "logIndex": int(log["logIndex"], 16),
        }
        read: Any = event.events.OrderFilled().process_log(shaped)["args"]
        if read["maker"] in followed:
            found[f"{log['transactionHash']}:{shaped['logIndex']}"] = dict(read)
    return found


def agrees(heard: Heard, wanted: dict[str, dict[str, Any]], node: Anvil) -> None:
    """What stands told is what web3.py reads off the chain: nothing else, nothing missing."""
    assert set(wanted) == {one.sighting_id for one in heard.trades}
    for one in heard.trades:
        read = wanted[one.sighting_id]
        buys = read["side"] == 0
        amounts = (read["makerAmountFilled"], read["takerAmountFilled"])
        cash, shares = amounts if buys else amounts[::-1]
        assert one.wallet == read["maker"]
        assert one.side is (Side.BUY if buys else Side.SELL)
        assert one.instrument_id == str(read["tokenId"])
        assert one.qty == shares * 100
        assert abs(one.price * shares - cash * 10**8) * 2 <= shares
        assert one.maker is (read["taker"].lower() != node.contract.lower())
    assert heard.repeated == heard.wrong == []


def test_a_match_is_told_once_a_wallet_with_its_leg(tmp_path: Path) -> None:
    async def scene() -> None:
        heard = Heard()
        async with anvil(tmp_path) as node:
            contracts = contracts_of(node)
            await node.send("matchOrders", ALICE, BOB, 0, TOKEN, 1, 2, 0)
            await node.mine()
            async with listening(listener_of([node.ws], heard, contracts=contracts)) as one:
                # The first start begins at the head: what was before is not told.
                assert not heard.facts
                await node.send("matchOrders", ALICE, BOB, 0, TOKEN, 4_300_000, 10_000_000, 99)
                await node.send("matchOrders", ALICE, MALLORY, 1, TOKEN, 5_000_001, 10_000_003, 7)
                await node.send("matchOrders", MALLORY, MALLORY, 1, TOKEN, 5, 10, 7)
                await node.mine()
                await until(lambda: len(heard.trades) == 3)
                sold, bought, dust = heard.trades
                assert (sold.side, sold.maker, sold.price) == (Side.SELL, True, 43_000_000)
                assert (bought.side, bought.maker, bought.price) == (Side.BUY, False, 43_000_000)
                assert bought.qty == 10 * 10**8
                assert (dust.side, dust.maker, dust.price) == (Side.BUY, True, 49_999_995)
                block = await node.rpc("eth_getBlockByNumber", "latest", False)
                assert {t.ts_event for t in heard.trades} == {int(block["timestamp"], 16) * 10**9}
                assert {t.block_hash for t in heard.trades} == {block["hash"]}
                await node.mine(9)
                await until(lambda: one.progress.safe >= int(block["number"], 16))
                wanted = oracle(node, await node.logs())
                first = [name for name, read in wanted.items() if read["takerAmountFilled"] < 3]
                agrees(heard, {n: r for n, r in wanted.items() if n not in first}, node)
                assert one.progress.omitted == 0
                assert one.tracker.counts.settlements >= 3
                assert not heard.moves

    asyncio.run(scene())


def test_moves_without_a_trade_are_told_with_their_kind(tmp_path: Path) -> None:
    async def scene() -> None:
        heard = Heard()
        async with anvil(tmp_path) as node:
            contracts = contracts_of(node)
            async with listening(listener_of([node.ws], heard, contracts=contracts)):
                pair, even, odd = [TOKEN, TOKEN + 1], [5_000_000] * 2, [5_000_000, 1]
                await node.send("split", ALICE, pair, even)
                await node.send("merge", ALICE, pair, even)
                await node.send("redeem", ALICE, pair, odd)
                await node.send("convert", BOB, TOKEN, TOKEN + 3, 9)
                await node.send("move", BOB, ALICE, BOB, TOKEN, 4)
                await node.send("move", MALLORY, MALLORY, MALLORY, TOKEN, 4)
                await node.send("filledV1", BOB, node.contract, 0, TOKEN, 30, 50)
                await node.send("filledV1", BOB, ALICE, TOKEN, 0, 50, 20)
                await node.mine()
                await until(lambda: len(heard.moves) == 6 and len(heard.trades) == 2)
                kinds = {(m.wallet.lower(), m.kind): dict(m.changes) for m in heard.moves}
                yes, no = str(TOKEN), str(TOKEN + 1)
                assert kinds == {
                    (ALICE, MoveKind.SPLIT): {yes: 5 * 10**8, no: 5 * 10**8},
                    (ALICE, MoveKind.MERGE): {yes: -5 * 10**8, no: -5 * 10**8},
                    (ALICE, MoveKind.REDEEM): {yes: -5 * 10**8, no: -100},
                    (BOB, MoveKind.CONVERT): {yes: -900, str(TOKEN + 3): 900},
                    (ALICE, MoveKind.TRANSFER): {yes: -400},
                    (BOB, MoveKind.TRANSFER): {yes: 400},
                }
                old = {(t.side, t.maker, t.price) for t in heard.trades}
                assert old == {(Side.BUY, False, 60_000_000), (Side.SELL, True, 40_000_000)}
                assert heard.repeated == heard.wrong == []

    asyncio.run(scene())


@pytest.mark.parametrize("remined", [False, True])
def test_a_reorganisation_of_three_blocks_is_taken_back(tmp_path: Path, remined: bool) -> None:
    async def scene() -> None:
        heard = Heard()
        async with anvil(tmp_path) as node:
            contracts = contracts_of(node)
            async with listening(listener_of([node.ws], heard, contracts=contracts)) as one:
                await node.send("matchOrders", ALICE, BOB, 0, TOKEN, 4_000_000, 10_000_000, 0)
                await node.mine()
                for cash in (1, 2, 3):
                    await node.send("matchOrders", ALICE, BOB, 0, TOKEN, cash, 10_000_000, 0)
                    await node.send("split", BOB, [TOKEN + cash, 5], [cash, cash])
                    await node.mine()
                await until(lambda: len(heard.trades) == 8 and len(heard.moves) == 3)
                again = [
                    [node.transaction("matchOrders", ALICE, BOB, 0, TOKEN, 9, 10_000_000, 0), 2]
                ]
                await node.rpc("anvil_reorg", 3, again if remined else [])
                await node.mine(2)
                await until(lambda: not heard.moves and one.synced)
                await until(lambda: len(heard.trades) == (4 if remined else 2))
                agrees(heard, oracle(node, await node.logs()), node)
                assert sum(isinstance(f, SightingUndone) for f in heard.facts) == 9
                assert one.tracker.counts.forks >= 1

    asyncio.run(scene())


def test_a_node_that_dies_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        heard = Heard()
        async with anvil(tmp_path) as node:
            contracts = contracts_of(node)
            async with listening(listener_of([node.ws], heard, contracts=contracts)) as one:
                for cash in range(1, 4):
                    await node.send("matchOrders", ALICE, BOB, 0, TOKEN, cash, 10_000_000, 0)
                    await node.mine()
                await until(lambda: len(heard.trades) == 6)
                node.end(signal.SIGTERM)
                await until(lambda: not one.synced)
                await node.start()
                for cash in range(4, 8):
                    await node.send("matchOrders", ALICE, BOB, 1, TOKEN, cash, 10_000_000, 0)
                    await node.mine()
                await until(lambda: one.synced and len(heard.trades) == 14)
                agrees(heard, oracle(node, await node.logs()), node)
                assert one.reconnects >= 1

    asyncio.run(scene())


def test_what_happened_between_two_processes_is_told_by_the_second(tmp_path: Path) -> None:
    async def scene() -> None:
        path, owner = tmp_path / "cursor.db", {"bot": "m", "mode": "paper", "feed": "sandbox"}
        async with anvil(tmp_path) as node:
            contracts, first, second = contracts_of(node), Heard(), Heard()
            with ChainCursor(path, **owner) as cursor:
                one = listener_of([node.ws], first, contracts=contracts, cursor=cursor)
                async with listening(one):
                    await node.send("matchOrders", ALICE, BOB, 0, TOKEN, 1, 10_000_000, 0)
                    await node.mine()
                    await until(lambda: len(first.trades) == 2)
            await node.rpc("anvil_reorg", 1, [])
            await node.send("matchOrders", BOB, ALICE, 0, TOKEN, 2, 10_000_000, 0)
            await node.mine(140)
            with ChainCursor(path, **owner) as cursor:
                two = listener_of([node.ws], second, contracts=contracts, cursor=cursor)
                async with listening(two):
                    await until(lambda: len(second.trades) == 2)
            # What the first one told is taken back by the second, which never told it.
            assert sorted(second.wrong) == sorted(first.told)
            agrees_ids = {one.sighting_id for one in second.trades}
            assert agrees_ids == set(oracle(node, await node.logs()))
            assert second.repeated == []

    asyncio.run(scene())


def test_ten_thousand_logs_in_one_block(tmp_path: Path) -> None:
    async def scene() -> None:
        heard, memory = Heard(), Memory()
        async with anvil(tmp_path) as node:
            contracts = contracts_of(node)
            one = listener_of([node.ws], heard, contracts=contracts, cursor=memory)
            async with listening(one):
                for _ in range(5):
                    await node.send("fills", ALICE, BOB, TOKEN, 2_000, gas=30_000_000)
                await node.mine()
                await until(lambda: len(heard.trades) == 10_000)
                await node.mine(9)
                await until(lambda: one.progress.safe >= one.tracker.window.tip - 8)
            assert len(heard.trades) == 10_000
            assert heard.repeated == heard.wrong == []
            assert len({t.sighting_id for t in heard.trades}) == 10_000
            assert {t.price for t in heard.trades} == {100 * (400_000 + n) for n in range(2_000)}

    asyncio.run(scene())


def test_the_bytecode_is_the_sources(tmp_path: Path) -> None:
    solc = Path(__file__).parents[2] / "node_modules" / "solc"
    if not solc.exists():
        pytest.skip("solc is not installed; it is only needed to change the contract")
    made = subprocess.run(
        ["node", "tests/contracts/compile.mjs"], cwd=ARTIFACT.parents[2], check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    del tmp_path
    told, kept = json.loads(made.stdout), json.loads(ARTIFACT.read_text())
    assert told["bytecode"] == kept["bytecode"]
