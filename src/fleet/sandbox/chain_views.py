"""How the sandbox's chain shows its blocks, transactions, receipts and logs: geth's JSON.

Pure shaping of what ``chain_state`` keeps. Roots and blooms are of the right length and mean
nothing; no client here checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.chain_pool import BLOCK_GAS, Chain
from fleet.sandbox.chain_state import MINED, ChainTx
from fleet.venues.polymarket.chain_transactions import (
    Transaction,
    read_transaction,
    signature_of,
)

_ROOT: Final = "0x" + "00" * 32
_BLOOM: Final = "0x" + "00" * 256
_NOBODY: Final = "0x" + "00" * 20


def block_json(chain: Chain, number: int, *, full: bool) -> dict[str, Any]:
    """A block, with whole transactions if ``full`` and else their hashes.

    ``extraData`` is empty: on Polygon it is longer than web3.py accepts without its
    proof-of-authority middleware, which works here too.
    """
    mined = chain.state.mined_between(number, number)
    return {
        "number": hex(number),
        "hash": chain.block_hash(number),
        "parentHash": chain.block_hash(number - 1),
        "timestamp": hex(chain.block_time_ns(number) // NS_PER_SECOND),
        "baseFeePerGas": hex(chain.base_fee_wei),
        "gasLimit": hex(BLOCK_GAS),
        "gasUsed": hex(sum(tx.gas_used for tx in mined)),
        "miner": _NOBODY,
        "difficulty": "0x1",
        "totalDifficulty": hex(number),
        "extraData": "0x",
        "nonce": "0x0000000000000000",
        "mixHash": _ROOT,
        "sha3Uncles": _ROOT,
        "stateRoot": _ROOT,
        "transactionsRoot": _ROOT,
        "receiptsRoot": _ROOT,
        "logsBloom": _BLOOM,
        "size": "0x220",
        "uncles": [],
        "transactions": [
            transaction_json(chain, tx) if full else tx.transaction_hash for tx in mined
        ],
    }


def transaction_json(chain: Chain, tx: ChainTx) -> dict[str, Any]:
    """A transaction; its block is null while it waits."""
    made = made_of(chain, tx)
    parity, r, s = signature_of(tx.raw) if tx.raw else (0, 0, 0)
    mined = tx.status == MINED
    return {
        "hash": tx.transaction_hash,
        "type": "0x2",
        "chainId": hex(made.chain_id),
        "nonce": hex(made.nonce),
        "from": tx.sender,
        "to": made.to,
        "value": hex(made.value),
        "gas": hex(made.gas),
        "gasPrice": hex(tx.gas_price if mined else made.fee_cap),
        "maxFeePerGas": hex(made.fee_cap),
        "maxPriorityFeePerGas": hex(made.priority_fee),
        "input": "0x" + made.call_data.hex(),
        "accessList": [],
        "blockHash": chain.block_hash(tx.block) if mined else None,
        "blockNumber": hex(tx.block) if mined else None,
        "transactionIndex": hex(_index(chain, tx)) if mined else None,
        "v": hex(parity),
        "yParity": hex(parity),
        "r": hex(r),
        "s": hex(s),
    }


def made_of(chain: Chain, tx: ChainTx) -> Transaction:
    """What was sent; a settlement of the venue is shown as an empty call of the exchange."""
    if tx.raw:
        return read_transaction(tx.raw).transaction
    return Transaction(
        chain_id=chain.chain_id, nonce=tx.nonce, priority_fee=0, fee_cap=0, gas=tx.gas_used,
        to=str(tx.logs[-1]["address"]),
    )  # fmt: skip


def receipt_json(chain: Chain, tx: ChainTx) -> dict[str, Any]:
    """What became of a mined transaction."""
    block = chain.state.mined_between(tx.block, tx.block)
    index = _index(chain, tx)
    return {
        "transactionHash": tx.transaction_hash,
        "transactionIndex": hex(index),
        "blockHash": chain.block_hash(tx.block),
        "blockNumber": hex(tx.block),
        "from": tx.sender,
        "to": made_of(chain, tx).to,
        "status": "0x1" if tx.succeeded else "0x0",
        "type": "0x2",
        "gasUsed": hex(tx.gas_used),
        "cumulativeGasUsed": hex(sum(one.gas_used for one in block[: index + 1])),
        "effectiveGasPrice": hex(tx.gas_price),
        "contractAddress": None,
        "logsBloom": _BLOOM,
        "logs": logs_json(chain, tx),
    }


def logs_json(chain: Chain, tx: ChainTx) -> list[dict[str, Any]]:
    """The event logs of a mined transaction, numbered within their block."""
    block = chain.state.mined_between(tx.block, tx.block)
    index = _index(chain, tx)
    first = sum(len(one.logs) for one in block[:index])
    return [
        {
            **log,
            "blockNumber": hex(tx.block),
            "blockHash": chain.block_hash(tx.block),
            "transactionHash": tx.transaction_hash,
            "transactionIndex": hex(index),
            "logIndex": hex(first + place),
            "removed": False,
        }
        for place, log in enumerate(tx.logs)
    ]


def log_matches(log: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a log passes a filter's addresses and topics, as ``eth_getLogs`` reads them."""
    addresses = wanted.get("address") or []
    addresses = [addresses] if isinstance(addresses, str) else addresses
    if addresses and log["address"].lower() not in {str(a).lower() for a in addresses}:
        return False
    topics = wanted.get("topics") or []
    if len(topics) > len(log["topics"]):
        return False
    for want, have in zip(topics, log["topics"], strict=False):
        choices = want if isinstance(want, list) else [want]
        if want is not None and choices and have.lower() not in {str(c).lower() for c in choices}:
            return False
    return True


def _index(chain: Chain, tx: ChainTx) -> int:
    block = chain.state.mined_between(tx.block, tx.block)
    return next(i for i, one in enumerate(block) if one.transaction_hash == tx.transaction_hash)
