"""Polygon transactions: their bytes, their hash, and the guard that signs them.

Only EIP-1559 transactions (type 2). The hash of a transaction is known once it is signed, before
anyone has seen it; a chain mines at most one transaction of an address for each nonce, so two
signed ones with the same nonce can never both take effect. Signing is deterministic: the same
fields give the same bytes and the same hash.

Invariant: a ``TransactionSigner`` signs calls of ``ChainCall`` to Polymarket's contracts, approvals
of Polymarket's contracts alone, and the empty transaction to itself that voids a nonce. It moves
no POL and no tokens to anybody, whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import rlp
from rlp.exceptions import RLPException

from fleet.venues.polymarket.chain_contracts import (
    Approve,
    ApproveForAll,
    CallUnknown,
    Contract,
    decode,
    require_polygon,
    required_approvals,
)
from fleet.venues.polymarket.keys import (
    SecretKey,
    SigningError,
    checksum_address,
    keccak,
    recover_address,
)

TYPE: Final = b"\x02"
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Half the order of secp256k1: EIP-2 takes no signature with a larger s."""
FIELDS: Final = 12
GAS_MAX: Final = 20_000_000
"""Of one transaction; a third of a block of Polygon."""
FEE_MAX_WEI: Final = 5 * 10**18
"""Most POL one transaction may burn (gas x fee cap), whatever a node suggests."""


class TransactionInvalid(ValueError):  # noqa: N818 - named for what happened
    """Bytes that are no signed EIP-1559 transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """The fields of an EIP-1559 transaction; fees and ``value`` are wei, ``to`` checksummed."""

    chain_id: int
    nonce: int
    priority_fee: int
    fee_cap: int
    gas: int
    to: str
    value: int = 0
    call_data: bytes = b""
    access_list: tuple[Any, ...] = ()

    def fields(self) -> list[Any]:
        """What is signed, in order."""
        return [
            self.chain_id, self.nonce, self.priority_fee, self.fee_cap, self.gas,
            bytes.fromhex(self.to[2:]), self.value, self.call_data, list(self.access_list),
        ]  # fmt: skip

    @property
    def digest(self) -> bytes:
        """The 32 bytes the sender signs."""
        return keccak(TYPE + _rlp(self.fields()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """A transaction ready to send: ``raw`` is 0x hex, ``transaction_hash`` its name on chain."""

    transaction: Transaction
    sender: str
    raw: str
    transaction_hash: str


def assemble(transaction: Transaction, signature: bytes, sender: str) -> SignedTransaction:
    """Join a transaction and the 65-byte signature (v 27 or 28) of its digest."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    raw = TYPE + _rlp([*transaction.fields(), signature[64] - 27, r, s])
    return SignedTransaction(
        transaction=transaction,
        sender=sender,
        raw="0x" + raw.hex(),
        transaction_hash="0x" + keccak(raw).hex(),
    )


def read_transaction(raw: str) -> SignedTransaction:
    """Read what ``eth_sendRawTransaction`` is given, and who signed it.

    Raises ``TransactionInvalid`` in the words of geth, where it has any.
    """
    try:
        body = bytes.fromhex(raw.removeprefix("0x"))
    except ValueError:
        raise TransactionInvalid("invalid argument 0: json: invalid hex string") from None
    if body[:1] != TYPE:
        raise TransactionInvalid("transaction type not supported")
    try:
        parts = rlp.decode(body[1:])
    except RLPException as error:
        raise TransactionInvalid(f"rlp: {error}") from error
    if not isinstance(parts, list | tuple) or len(parts) != FIELDS:
        raise TransactionInvalid("rlp: wrong number of fields for a type 2 transaction")
    transaction = _read_fields(parts)
    v, r, s = (_whole(part) for part in parts[9:])
    if v > 1 or s > _HALF_ORDER:
        raise TransactionInvalid("invalid transaction v, r, s values")
    signature = _word(r) + _word(s) + bytes((27 + v,))
    try:
        sender = recover_address(transaction.digest, signature)
    except SigningError:
        raise TransactionInvalid("invalid transaction v, r, s values") from None
    return SignedTransaction(
        transaction=transaction,
        sender=sender,
        raw="0x" + body.hex(),
        transaction_hash="0x" + keccak(body).hex(),
    )


def signature_of(raw: str) -> tuple[int, int, int]:
    """Parity, r and s of bytes that ``read_transaction`` has accepted."""
    parity, r, s = (_whole(part) for part in rlp.decode(bytes.fromhex(raw[2:])[1:])[9:])
    return parity, r, s


class TransactionSigner:
    """One EOA's transactions. The key stays in its ``SecretKey``; only digests go to it."""

    def __init__(
        self, key: SecretKey, *, chain_id: int, permit: Callable[[], None] = lambda: None
    ) -> None:
        """``permit`` is asked before every signature, and before what was signed leaves; it raises
        where neither may be.

        Raises ``ContractError`` for a chain without Polymarket's adapters.
        """
        require_polygon(chain_id)
        self._key = key
        self.permit: Final = permit
        self.address: Final = key.address
        self.chain_id: Final = chain_id
        asked = (approval.call for approval in required_approvals(chain_id))
        self._trusted: Final = frozenset(
            (call.spender, Contract.PUSD)
            if isinstance(call, Approve)
            else (call.operator, call.ledger)
            for call in asked
        )

    def __repr__(self) -> str:
        return f"TransactionSigner({self.address})"

    def sign(self, transaction: Transaction) -> SignedTransaction:
        """Sign what an account of this fleet may do. Raises ``SigningError`` for anything else."""
        self._check(transaction)
        self.permit()
        signature = self._key.sign_digest(transaction.digest)
        return assemble(transaction, signature, self.address)

    def _check(self, transaction: Transaction) -> None:
        if transaction.chain_id != self.chain_id:
            raise SigningError(
                f"the transaction is for chain {transaction.chain_id}, not {self.chain_id}"
            )
        if transaction.value or transaction.access_list:
            raise SigningError("a transaction of this wallet sends no POL")
        if transaction.gas > GAS_MAX or transaction.gas * transaction.fee_cap > FEE_MAX_WEI:
            raise SigningError(
                f"gas {transaction.gas} at {transaction.fee_cap} wei is above what one transaction "
                f"may burn ({GAS_MAX} gas, {FEE_MAX_WEI} wei); is the node sound?"
            )
        if transaction.to == self.address and not transaction.call_data:
            return
        try:
            call = decode(transaction.to, transaction.call_data)
        except CallUnknown as error:
            raise SigningError(f"not signed: {error}") from error
        trusted = True
        if isinstance(call, Approve):
            trusted = call.amount == 0 or (call.spender, Contract.PUSD) in self._trusted
        elif isinstance(call, ApproveForAll):
            trusted = not call.approved or (call.operator, call.ledger) in self._trusted
        if not trusted:
            raise SigningError(f"not signed: {call} would trust a contract that is not the venue's")


def _read_fields(parts: Any) -> Transaction:
    """The nine signed fields. Raises ``TransactionInvalid``."""
    if not all(isinstance(part, bytes) for part in (*parts[:8], *parts[9:])):
        raise TransactionInvalid("rlp: a list where a value belongs")
    if len(parts[5]) != 20:
        raise TransactionInvalid("`to` is missing: a contract cannot be created this way")
    chain_id, nonce, priority_fee, fee_cap, gas = (_whole(part) for part in parts[:5])
    return Transaction(
        chain_id=chain_id,
        nonce=nonce,
        priority_fee=priority_fee,
        fee_cap=fee_cap,
        gas=gas,
        to=checksum_address("0x" + parts[5].hex()),
        value=_whole(parts[6]),
        call_data=parts[7],
        access_list=_frozen(parts[8]),
    )


def _frozen(part: Any) -> tuple[Any, ...]:
    if isinstance(part, bytes):
        raise TransactionInvalid("rlp: a value where the access list belongs")
    return tuple(part)


def _whole(part: bytes) -> int:
    if part[:1] == b"\x00" or len(part) > 32:
        raise TransactionInvalid("rlp: non-canonical integer (leading zero bytes)")
    return int.from_bytes(part, "big")


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _rlp(fields: list[Any]) -> bytes:
    encoded: bytes = rlp.encode(fields)
    return encoded
