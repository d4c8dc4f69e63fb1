"""What a mined transaction did to a wallet, read from the logs of its receipt. Pure.

Only two contracts are believed: pUSD about dollars and the CTF about outcome tokens; whatever
another contract claims in its logs moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError

from fleet.domain.instruments import InstrumentId
from fleet.venues.polymarket.chain_contracts import Contract
from fleet.venues.polymarket.chain_planning import Moves, moves_of
from fleet.venues.polymarket.keys import keccak
from fleet.venues.port import AnswerInvalid

TRANSFER: Final = keccak(b"Transfer(address,address,uint256)")
TRANSFER_SINGLE: Final = keccak(b"TransferSingle(address,address,address,uint256,uint256)")
TRANSFER_BATCH: Final = keccak(b"TransferBatch(address,address,address,uint256[],uint256[])")


def moves_in(logs: Sequence[Mapping[str, Any]], wallet: str) -> Moves:
    """The wallet's net changes. Raises ``AnswerInvalid`` for a log that cannot be read."""
    cash = 0
    tokens: dict[InstrumentId, int] = {}
    for log in logs:
        topics = [_bytes(topic) for topic in log["topics"]]
        at = str(log["address"]).lower()
        try:
            if at == Contract.PUSD.address.lower() and topics[0] == TRANSFER:
                (amount,) = abi_decode(["uint256"], _bytes(log["data"]))
                cash += amount * _sign(topics[1], topics[2], wallet)
            elif at == Contract.CTF.address.lower() and topics[0] in {
                TRANSFER_SINGLE, TRANSFER_BATCH,
            }:  # fmt: skip
                sign = _sign(topics[2], topics[3], wallet)
                for token, amount in _transfers(topics[0], _bytes(log["data"])):
                    name = InstrumentId(str(token))
                    tokens[name] = tokens.get(name, 0) + amount * sign
        except (DecodingError, IndexError) as error:
            raise AnswerInvalid(f"a log of {at} cannot be read: {error}") from error
    return moves_of(cash, {token: amount for token, amount in tokens.items() if amount})


def _transfers(topic: bytes, payload: bytes) -> list[tuple[int, int]]:
    if topic == TRANSFER_SINGLE:
        token, amount = abi_decode(["uint256", "uint256"], payload)
        return [(token, amount)]
    tokens, amounts = abi_decode(["uint256[]", "uint256[]"], payload)
    return list(zip(tokens, amounts, strict=False))


def _sign(giver: bytes, taker: bytes, wallet: str) -> int:
    """+1 if the wallet receives, -1 if it gives, 0 for others' transfers and those to itself."""
    ours = bytes.fromhex(wallet[2:])
    return int(taker[-20:] == ours) - int(giver[-20:] == ours)


def _bytes(value: Any) -> bytes:
    return bytes.fromhex(value[2:]) if isinstance(value, str) else bytes(value)
