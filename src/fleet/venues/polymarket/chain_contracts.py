"""Polymarket's contracts beside the exchanges: where they live, and the calls made to them.

A call is a value (``Split``, ``Merge``, ...); ``encode`` makes the contract address and the call
data of it, ``decode`` reads them back. Amounts are base units (1e-6) as on chain, ids are texts of
0x and 64 hex digits. The bot's side encodes, the sandbox's chain decodes.

Addresses, functions and approvals: the venue's contract list and the official client's
configuration, read 2026-11; adapters as in the source of ctf-exchange-v2. Only Polygon has them.

Invariant: only calls of the closed union ``ChainCall`` can be encoded or decoded, and their
collateral is always pUSD, so nothing here can describe a transfer to somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError

from fleet.venues.polymarket.contracts import (
    POLYGON,
    ContractError,
    Exchange,
    exchange_address,
)
from fleet.venues.polymarket.contracts import Contract as Contract  # noqa: PLC0414 - told on
from fleet.venues.polymarket.keys import checksum_address, keccak

UNLIMITED: Final = 2**256 - 1
"""The allowance that is never used up: what the official client approves."""
PARENT_NONE: Final = bytes(32)
PARTITION: Final = (1, 2)
"""YES is slot 1 and NO slot 2 of a condition; adapters ignore it and want it anyway."""


class CallUnknown(ValueError):  # noqa: N818 - named for what happened
    """Call data that is none of the calls this program makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Turn ``amount`` pUSD into ``amount`` of YES and of NO."""

    condition_id: str
    amount: int
    neg_risk: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Turn ``amount`` of YES and of NO into ``amount`` pUSD."""

    condition_id: str
    amount: int
    neg_risk: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeem:
    """Turn all YES and all NO of a resolved condition into what they pay."""

    condition_id: str
    neg_risk: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Convert:
    """Turn ``amount`` NO of the questions in ``index_set`` into YES of the others and pUSD."""

    event_market_id: str
    index_set: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """Let ``spender`` take up to ``amount`` pUSD."""

    spender: str
    amount: int = UNLIMITED


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveForAll:
    """Let ``operator`` move all outcome tokens of ``ledger``, or no longer."""

    ledger: Contract
    operator: str
    approved: bool = True


ChainCall = Split | Merge | Redeem | Convert | Approve | ApproveForAll

_ADAPTER_ARGUMENTS: Final = ("address", "bytes32", "bytes32", "uint256[]", "uint256")
_SIGNATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "splitPosition": _ADAPTER_ARGUMENTS,
    "mergePositions": _ADAPTER_ARGUMENTS,
    "redeemPositions": _ADAPTER_ARGUMENTS[:-1],
    "convertPositions": ("bytes32", "uint256", "uint256"),
    "approve": ("address", "uint256"),
    "setApprovalForAll": ("address", "bool"),
}


def _selectors() -> dict[bytes, str]:
    return {selector(name, arguments): name for name, arguments in _SIGNATURES.items()}


def selector(name: str, arguments: tuple[str, ...]) -> bytes:
    """The four bytes that name a function: the start of the Keccak of its signature."""
    return keccak(f"{name}({','.join(arguments)})".encode())[:4]


_NAMES: Final = _selectors()


def adapter(*, neg_risk: bool) -> Contract:
    """The collateral adapter a market's split, merge and redeem go to."""
    return Contract.NEG_RISK_CTF_ADAPTER if neg_risk else Contract.CTF_ADAPTER


def require_polygon(chain_id: int) -> None:
    """Raise ``ContractError`` for a chain on which the adapters have no address."""
    if chain_id != POLYGON:
        raise ContractError(
            f"chain id {chain_id} has no Polymarket adapters; operations need {POLYGON} (Polygon)"
        )


def encode(call: ChainCall) -> tuple[str, bytes]:
    """The contract's address and the call data. Raises ``ContractError`` for a malformed id."""
    match call:
        case Split() | Merge():
            name = "splitPosition" if isinstance(call, Split) else "mergePositions"
            to, arguments = adapter(neg_risk=call.neg_risk), _adapter_arguments(call.condition_id)
            return to.address, _packed(name, (*arguments, _amount(call.amount)))
        case Redeem():
            to, arguments = adapter(neg_risk=call.neg_risk), _adapter_arguments(call.condition_id)
            return to.address, _packed("redeemPositions", arguments)
        case Convert():
            numbers = (call.index_set, _amount(call.amount))
            packed = _packed("convertPositions", (word(call.event_market_id), *numbers))
            return Contract.NEG_RISK_CTF_ADAPTER.address, packed
        case Approve():
            return Contract.PUSD.address, _packed("approve", (call.spender, call.amount))
        case ApproveForAll():
            return call.ledger.address, _packed("setApprovalForAll", (call.operator, call.approved))


def decode(to: str, call_data: bytes) -> ChainCall:
    """The call that ``call_data`` to the contract at ``to`` is. Raises ``CallUnknown``."""
    name = _NAMES.get(call_data[:4], "")
    contract = next((c for c in Contract if c.address.lower() == to.lower()), None)
    if not name or contract is None:
        raise CallUnknown(f"0x{call_data[:4].hex()} of {to} is no call known here")
    try:
        values = abi_decode(_SIGNATURES[name], call_data[4:])
    except DecodingError as error:
        raise CallUnknown(f"the arguments of {name} cannot be read: {error}") from error
    reader = _READERS.get((contract, name))
    if reader is None:
        raise CallUnknown(f"{contract.name} has no {name}")
    return reader(values)


def word(text: str) -> bytes:
    """The 32 bytes of 0x and 64 hex digits. Raises ``ContractError``."""
    try:
        value = bytes.fromhex(text[2:])
    except ValueError:
        value = b""
    if len(value) != 32 or text[:2] != "0x" or len(text) != 66:
        raise ContractError(f"{text!r} is not 0x and 64 hex digits, as an id on chain is")
    return value


# --- what a wallet has to allow ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One permission: ``call`` gives it, ``purpose`` says what fails without it."""

    call: Approve | ApproveForAll
    purpose: str


def required_approvals(chain_id: int = POLYGON) -> tuple[Approval, ...]:
    """What an EOA must have approved to trade and to operate on its tokens.

    The official client approves more (perps, combos, automatic redemption); nothing here uses
    them, so nothing here asks for them.
    """
    require_polygon(chain_id)
    places = {
        exchange_address(chain_id, Exchange.STANDARD_V2): "standard markets",
        exchange_address(chain_id, Exchange.NEG_RISK_V2): "neg-risk markets",
    }
    adapters = {
        Contract.CTF_ADAPTER.address: "standard markets",
        Contract.NEG_RISK_CTF_ADAPTER.address: "neg-risk markets",
    }
    third = exchange_address(chain_id, Exchange.V3)
    return (
        *(Approval(call=Approve(spender=a), purpose=f"buy in {p}") for a, p in places.items()),
        Approval(call=Approve(spender=third), purpose="buy in Protocol V2 markets"),
        *(Approval(call=Approve(spender=a), purpose=f"split in {p}") for a, p in adapters.items()),
        *(
            Approval(call=ApproveForAll(ledger=Contract.CTF, operator=a), purpose=f"sell in {p}")
            for a, p in places.items()
        ),
        *(
            Approval(
                call=ApproveForAll(ledger=Contract.CTF, operator=a),
                purpose=f"merge, redeem and convert in {p}",
            )
            for a, p in adapters.items()
        ),
        Approval(
            call=ApproveForAll(ledger=Contract.POSITION_MANAGER, operator=third),
            purpose="sell in Protocol V2 markets",
        ),
    )


# --- inside ------------------------------------------------------------------------------------


def _packed(name: str, values: tuple[object, ...]) -> bytes:
    arguments = _SIGNATURES[name]
    return selector(name, arguments) + abi_encode(arguments, values)


def _adapter_arguments(condition_id: str) -> tuple[object, ...]:
    return (Contract.PUSD.address, PARENT_NONE, word(condition_id), PARTITION)


def _amount(amount: int) -> int:
    if not 0 < amount <= UNLIMITED:
        raise ContractError(f"an amount of {amount} base units cannot be moved")
    return amount


def _text(value: bytes) -> str:
    return "0x" + value.hex()


_Values = tuple[Any, ...]


def _split_or_merge(
    kind: type[Split | Merge],
    neg_risk: bool,  # noqa: FBT001
    values: _Values,
) -> ChainCall:
    return kind(condition_id=_text(values[2]), amount=values[4], neg_risk=neg_risk)


def _redeem(neg_risk: bool, values: _Values) -> ChainCall:  # noqa: FBT001
    return Redeem(condition_id=_text(values[2]), neg_risk=neg_risk)


def _approve_for_all(ledger: Contract, values: _Values) -> ChainCall:
    return ApproveForAll(ledger=ledger, operator=checksum_address(values[0]), approved=values[1])


def _readers() -> dict[tuple[Contract, str], Callable[[_Values], ChainCall]]:
    found: dict[tuple[Contract, str], Callable[[_Values], ChainCall]] = {
        (Contract.NEG_RISK_CTF_ADAPTER, "convertPositions"): lambda v: Convert(
            event_market_id=_text(v[0]), index_set=v[1], amount=v[2]
        ),
        (Contract.PUSD, "approve"): lambda v: Approve(spender=checksum_address(v[0]), amount=v[1]),
    }
    for to, neg_risk in ((Contract.CTF_ADAPTER, False), (Contract.NEG_RISK_CTF_ADAPTER, True)):
        found[to, "splitPosition"] = partial(_split_or_merge, Split, neg_risk)
        found[to, "mergePositions"] = partial(_split_or_merge, Merge, neg_risk)
        found[to, "redeemPositions"] = partial(_redeem, neg_risk)
    for ledger in (Contract.CTF, Contract.POSITION_MANAGER):
        found[ledger, "setApprovalForAll"] = partial(_approve_for_all, ledger)
    return found


_READERS: Final = _readers()


# --- errors of the contracts -------------------------------------------------------------------

ERROR_TEXT: Final = bytes.fromhex("08c379a0")
"""``Error(string)``: what a ``require`` with a text reverts with."""
TRANSFER_FROM_FAILED: Final = bytes.fromhex("7939f424")
"""``TransferFromFailed()``: the adapters could not take the pUSD."""
_MEANINGS: Final = {
    TRANSFER_FROM_FAILED: "TransferFromFailed: too little pUSD, or too small an allowance",
    bytes.fromhex("49b8b3ac"): "OnlyUnpaused: the adapter is paused by its admins",
}


def revert_words(payload: bytes) -> str:
    """What a contract reverted with, for a person; never empty."""
    if payload[:4] == ERROR_TEXT:
        try:
            (text,) = abi_decode(["string"], payload[4:])
        except DecodingError:
            return f"0x{payload.hex()}"
        return str(text)
    if not payload:
        return "reverted without a word"
    return _MEANINGS.get(payload[:4], f"0x{payload.hex()}")
