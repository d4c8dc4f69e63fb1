"""The sandbox's chain itself: unmodified web3.py, the protocol's errors, and its own restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import ContractLogicError, Web3RPCError

from fleet.domain.commands import OperationKind
from fleet.sandbox.chain_pool import BLOCK_NS, FIRST_BLOCK, TIP_MIN_WEI, Chain, PoolRefused
from fleet.sandbox.chain_state import ChainState, ChainStateError
from fleet.sandbox.exchange.contract import OperationRequest, OperationView
from fleet.venues.polymarket.chain_contracts import ChainCall, Contract, Redeem, Split, encode
from fleet.venues.polymarket.chain_transactions import (
    SignedTransaction,
    Transaction,
    assemble,
)
from fleet.venues.polymarket.contracts import POLYGON
from tests.chain_world import KEY, START_NS, ChainWorld, serving, signer

GWEI = 10**9
WALLET = signer().address
ERC20 = [
    {"type": "function", "name": name, "stateMutability": kind,
     "inputs": [{"type": t, "name": f"a{i}"} for i, t in enumerate(inputs)],
     "outputs": [{"type": out, "name": ""}]}
    for name, kind, inputs, out in (
        ("balanceOf", "view", ["address"], "uint256"),
        ("decimals", "view", [], "uint8"),
        ("allowance", "view", ["address", "address"], "uint256"),
        ("approve", "nonpayable", ["address", "uint256"], "bool"),
    )
]  # fmt: skip
ADAPTER = [
    {
        "type": "function", "name": "splitPosition", "stateMutability": "nonpayable",
        "inputs": [
            {"type": t, "name": f"a{i}"}
            for i, t in enumerate(("address", "bytes32", "bytes32", "uint256[]", "uint256"))
        ],
        "outputs": [],
    }
]  # fmt: skip


def signed(
    call: ChainCall | None, nonce: int = 0, *, gas: int = 500_000, gwei: int = 100
) -> SignedTransaction:
    to, call_data = encode(call) if call is not None else (WALLET, b"")
    return signer().sign(
        Transaction(
            chain_id=POLYGON, nonce=nonce, priority_fee=30 * GWEI * gwei // 100,
            fee_cap=gwei * GWEI, gas=gas, to=to, call_data=call_data,
        )
    )  # fmt: skip


def ask(world: ChainWorld, method: str, *params: Any) -> Any:
    """A call's result, or its error."""
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    answer = world.rpc.answer(json.dumps(body).encode())
    assert answer["id"] == 7
    return answer["result"] if "result" in answer else answer["error"]


def test_unmodified_web3_reads_and_writes() -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 100, approve=False)
        market = world.market(neg_risk=False)
        async with serving(world) as url:
            provider = AsyncHTTPProvider(url)
            web3: Any = AsyncWeb3(provider)
            assert await web3.eth.chain_id == POLYGON
            assert "sandbox" in await web3.client_version
            pusd = web3.eth.contract(web3.to_checksum_address(Contract.PUSD.address), abi=ERC20)
            adapter = web3.eth.contract(
                web3.to_checksum_address(Contract.CTF_ADAPTER.address), abi=ADAPTER
            )
            assert await pusd.functions.balanceOf(WALLET).call() == 100_000_000
            assert await pusd.functions.decimals().call() == 6
            split = adapter.functions.splitPosition(
                Contract.PUSD.address, bytes(32), bytes.fromhex(market.spec.condition_id[2:]),
                [1, 2], 30_000_000,
            )  # fmt: skip
            with pytest.raises(ContractLogicError):
                await split.call({"from": WALLET})
            name, receipt = b"", {}
            for function in (
                pusd.functions.approve(Contract.CTF_ADAPTER.address, 50_000_000), split,
            ):  # fmt: skip
                # web3.py fills in nonce, gas and fees, the latter from the newest block.
                built = await function.build_transaction(
                    {
                        "from": WALLET,
                        "nonce": await web3.eth.get_transaction_count(WALLET, "pending"),
                    }
                )
                made = Account.sign_transaction(dict(built), KEY)
                name = await web3.eth.send_raw_transaction(made.raw_transaction)
                assert name == made.hash
                with pytest.raises(Web3RPCError, match="already known"):
                    await web3.eth.send_raw_transaction(made.raw_transaction)
                world.blocks(3)
                receipt = await web3.eth.wait_for_transaction_receipt(name, timeout=20)
                assert receipt["status"] == 1
            assert await pusd.functions.balanceOf(WALLET).call() == 70_000_000
            block = await web3.eth.get_block(receipt["blockNumber"], full_transactions=True)
            assert [tx["hash"] for tx in block["transactions"]] == [name]
            logs = await web3.eth.get_logs(
                {"address": Contract.CTF.address, "fromBlock": receipt["blockNumber"]}
            )
            assert [one["transactionHash"] for one in logs] == [name]
            assert await web3.eth.get_balance(WALLET) < 100 * 10**18
            await provider.disconnect()
        world.close()

    asyncio.run(scene())


def test_blocks_come_every_two_seconds_and_mine_what_waits() -> None:
    world = ChainWorld.make()
    first = signed(None)
    assert ask(world, "eth_blockNumber") == hex(FIRST_BLOCK)
    assert ask(world, "eth_sendRawTransaction", first.raw) == first.transaction_hash
    waiting = ask(world, "eth_getTransactionByHash", first.transaction_hash)
    assert waiting["blockNumber"] is None
    for wait_ns in (BLOCK_NS // 2, BLOCK_NS // 2 - 1):
        world.now_ns += wait_ns
        assert ask(world, "eth_getTransactionReceipt", first.transaction_hash) is None
    world.now_ns = START_NS + BLOCK_NS
    receipt = ask(world, "eth_getTransactionReceipt", first.transaction_hash)
    assert (receipt["status"], receipt["gasUsed"]) == ("0x1", "0x5208")
    assert receipt["blockNumber"] == hex(FIRST_BLOCK + 1)
    block = ask(world, "eth_getBlockByNumber", receipt["blockNumber"], False)
    assert block["transactions"] == [first.transaction_hash]
    assert (block["hash"], int(block["timestamp"], 16)) == (
        receipt["blockHash"],
        START_NS // 10**9 + 2,
    )
    parent = ask(world, "eth_getBlockByNumber", hex(FIRST_BLOCK), False)
    assert block["parentHash"] == parent["hash"]
    assert ask(world, "eth_getBlockByNumber", hex(FIRST_BLOCK + 9), False) is None
    assert ask(world, "eth_getTransactionCount", WALLET, hex(FIRST_BLOCK)) == "0x0"
    assert ask(world, "eth_getTransactionCount", WALLET, "latest") == "0x1"
    world.close()


@pytest.mark.parametrize(
    ("method", "params", "code", "words"),
    [
        ("eth_mine", [], -32601, "does not exist"),
        ("eth_getBalance", [], -32602, "missing value"),
        ("eth_getBalance", ["0x12"], -32602, "not an address"),
        ("eth_getBalance", [12], -32602, "cannot unmarshal"),
        ("eth_getTransactionCount", [WALLET, "0xzz"], -32602, "hex string"),
        ("eth_call", [{"to": WALLET, "data": "0xzz"}], -32602, "invalid hex"),
        ("eth_call", [{"to": Contract.PUSD.address, "data": "0xdeadbeef"}], 3, "reverted"),
        ("eth_call", [{"to": Contract.PUSD.address, "data": "0x70a08231"}], 3, "reverted"),
        ("eth_getLogs", [{"blockHash": "0x00"}], -32602, "blockHash"),
        ("eth_getLogs", [{"fromBlock": "0x0"}], -32000, "block range"),
        ("eth_sendRawTransaction", ["0x01"], -32000, "not supported"),
    ],
)
def test_errors_are_those_of_a_node(method: str, params: list[Any], code: int, words: str) -> None:
    world = ChainWorld.make()
    error = ask(world, method, *params)
    assert error["code"] == code
    assert words in error["message"]
    world.close()


def test_what_is_no_request_is_answered_too() -> None:
    world = ChainWorld.make()
    assert world.rpc.answer(b"{")["error"]["code"] == -32700
    assert world.rpc.answer(b"7")["error"]["code"] == -32600
    assert world.rpc.answer(b'{"method":"eth_chainId","params":{"a":1}}')["error"]["code"] == -32602
    batch = world.rpc.answer(
        b'[{"id":1,"method":"eth_chainId"},{"id":2,"method":"net_version","params":[]}]'
    )
    assert [(one["id"], one["result"]) for one in batch] == [(1, "0x89"), (2, "137")]
    world.close()


def test_plain_facts() -> None:
    world = ChainWorld.make()
    assert ask(world, "eth_syncing") is False
    assert ask(world, "eth_accounts") == []
    assert ask(world, "eth_getCode", Contract.CTF.address, "latest") == "0x01"
    assert ask(world, "eth_getCode", WALLET, "latest") == "0x"
    assert ask(world, "eth_call", {"to": WALLET, "data": "0x12345678"}) == "0x"
    assert int(ask(world, "eth_gasPrice"), 16) > TIP_MIN_WEI
    history = ask(world, "eth_feeHistory", "0x2", "latest", [50])
    assert len(history["baseFeePerGas"]) == 3
    assert history["reward"] == [[ask(world, "eth_maxPriorityFeePerGas")]] * 2
    world.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"priority_fee": GWEI}, "transaction underpriced: gas tip cap"),
        ({"priority_fee": 200 * GWEI}, "max priority fee per gas higher than max fee per gas"),
        ({"gas": 10**8}, "exceeds block gas limit"),
        ({"value": 1}, "no value and no access list"),
    ],
)
def test_the_pool_says_no_as_geth_does(changes: dict[str, int], words: str) -> None:
    world = ChainWorld.make()
    usual = Transaction(
        chain_id=POLYGON, nonce=0, priority_fee=30 * GWEI, fee_cap=100 * GWEI, gas=21_000, to=WALLET
    )
    bad = replace(usual, **changes)  # type: ignore[arg-type]
    raw = assemble(bad, signer()._key.sign_digest(bad.digest), WALLET).raw
    with pytest.raises(PoolRefused, match=words):
        world.chain.send(raw, world.now_ns)
    world.close()


def test_a_replacement_costs_a_tenth_more() -> None:
    world = ChainWorld.make()
    world.chain.send(signed(None).raw, world.now_ns)
    with pytest.raises(PoolRefused, match="replacement transaction underpriced"):
        world.chain.send(signed(None, gwei=109).raw, world.now_ns)
    world.chain.send(signed(None, gwei=110).raw, world.now_ns)
    assert ask(world, "eth_getTransactionByHash", signed(None).transaction_hash) is None
    # The one that was dropped may come back, for a tenth more than what replaced it.
    with pytest.raises(PoolRefused, match="replacement transaction underpriced"):
        world.chain.send(signed(None).raw, world.now_ns)
    world.close()


def test_too_little_gas_burns_it_and_changes_nothing() -> None:
    world = ChainWorld.make()
    world.give(WALLET, 100)
    market = world.market(neg_risk=False)
    split = Split(condition_id=market.spec.condition_id, amount=10**6, neg_risk=False)
    short = signed(split, gas=100_000)
    world.chain.send(short.raw, world.now_ns)
    world.blocks(3)
    receipt = ask(world, "eth_getTransactionReceipt", short.transaction_hash)
    assert (receipt["status"], int(receipt["gasUsed"], 16), receipt["logs"]) == ("0x0", 100_000, [])
    assert world.exchange.cash(WALLET) == 100_000_000
    world.close()


def test_the_wrong_adapter_is_told() -> None:
    world = ChainWorld.make()
    world.give(WALLET, 100)
    market = world.market(neg_risk=True)
    to, call_data = encode(Redeem(condition_id=market.spec.condition_id, neg_risk=False))
    error = ask(world, "eth_call", {"from": WALLET, "to": to, "data": "0x" + call_data.hex()})
    assert "use the other adapter" in error["message"]
    world.close()


# --- restarts ----------------------------------------------------------------------------------


def test_the_chain_survives_its_restart(tmp_path: Path) -> None:
    world = ChainWorld.make(tmp_path)
    world.give(WALLET, 100)
    market = world.market(neg_risk=False)
    split = Split(condition_id=market.spec.condition_id, amount=10**7, neg_risk=False)
    mined, waiting = signed(split), signed(split, nonce=1)
    world.chain.send(mined.raw, world.now_ns)
    world.blocks(3)
    before = ask(world, "eth_getTransactionReceipt", mined.transaction_hash)
    world.chain.send(waiting.raw, world.now_ns)
    now_ns = world.now_ns
    world.close()

    again = ChainWorld.make(tmp_path, now_ns=now_ns)
    assert ask(again, "eth_getTransactionReceipt", mined.transaction_hash) == before
    assert ask(again, "eth_getTransactionCount", WALLET, "latest") == "0x1"
    assert again.state.approved(WALLET, Contract.CTF_ADAPTER.address)
    with pytest.raises(PoolRefused, match="already known"):
        again.chain.send(waiting.raw, again.now_ns)
    again.blocks(3)
    assert ask(again, "eth_getTransactionReceipt", waiting.transaction_hash)["status"] == "0x1"
    assert again.exchange.cash(WALLET) == 80_000_000
    again.close()


class DiesAfterTheLedger(ChainState):
    """A chain that is killed between the exchange's step and its own note of it."""

    def mine(self, *_: Any) -> None:
        raise KeyboardInterrupt


def test_killed_between_ledger_and_chain_nothing_happens_twice(tmp_path: Path) -> None:
    world = ChainWorld.make(tmp_path)
    world.give(WALLET, 100)
    market = world.market(neg_risk=False)
    split = Split(condition_id=market.spec.condition_id, amount=6 * 10**7, neg_risk=False)
    sent = signed(split)
    world.chain.send(sent.raw, world.now_ns)
    dying = DiesAfterTheLedger(tmp_path / "chain.db", genesis_ns=0)
    chain = Chain(dying, world.chain.execution)
    world.now_ns += 3 * BLOCK_NS
    with pytest.raises(KeyboardInterrupt):
        chain.step(world.now_ns)
    assert world.exchange.cash(WALLET) == 40_000_000
    now_ns = world.now_ns
    dying.close()
    world.close()

    again = ChainWorld.make(tmp_path, now_ns=now_ns)
    again.blocks(1)
    receipt = ask(again, "eth_getTransactionReceipt", sent.transaction_hash)
    # It succeeded, although 40 dollars would not do for it now, and its logs say what it moved.
    assert receipt["status"] == "0x1"
    assert len(receipt["logs"]) == 2
    assert again.exchange.cash(WALLET) == 40_000_000
    again.close()


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chain.db").write_bytes(b"no database at all, but long enough to be read" * 50)
    with pytest.raises(ChainStateError, match="move the file away"):
        ChainState(tmp_path / "chain.db", genesis_ns=START_NS)
    state = ChainState(tmp_path / "newer.db", genesis_ns=START_NS)
    state._db.execute("PRAGMA user_version = 99")
    state.close()
    with pytest.raises(ChainStateError, match="version 99"):
        ChainState(tmp_path / "newer.db", genesis_ns=START_NS)


def test_the_ledger_is_asked_under_the_transactions_name() -> None:
    world = ChainWorld.make()
    world.give(WALLET, 100)
    market = world.market(neg_risk=False)
    sent = signed(Split(condition_id=market.spec.condition_id, amount=10**7, neg_risk=False))
    world.chain.send(sent.raw, world.now_ns)
    world.blocks(3)
    done: Sequence[OperationView] = world.exchange.operations(WALLET)
    assert (done[-1].kind, done[-1].transaction_hash) == (
        OperationKind.SPLIT,
        sent.transaction_hash,
    )
    request = OperationRequest(
        wallet=WALLET, kind=OperationKind.SPLIT, amount=10**7,
        condition_id=market.spec.condition_id, transaction_hash=sent.transaction_hash,
    )  # fmt: skip
    assert world.exchange.operate(request, world.now_ns) == sent.transaction_hash
    assert world.exchange.cash(WALLET) == 90_000_000
    world.close()
