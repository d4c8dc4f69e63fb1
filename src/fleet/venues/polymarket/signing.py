"""Signed orders: EIP-712 for every exchange and wallet type, and the bytes that are posted.

The encoding is written out here, with everything constant cached (type hashes, domain separators,
account words), because a general EIP-712 encoder costs ten times the signature itself. It is
checked against the reference vectors and, on random orders, against py-clob-client-v2.

How an order is signed. ``struct = keccak(type hash, 11 words)``; ``order id = keccak(0x1901,
domain separator, struct)``, which is also the id the venue will answer with, so it is known before
anything is sent. Signature types 0 to 2 sign the order id. Type 3 (deposit wallet, ERC-7739) signs
the struct wrapped in ``TypedDataSign`` and appends the domain, the struct and the type string, from
which the wallet contract rebuilds what was signed.

Invariants: salt and timestamp come from the caller (nothing here is random or reads a clock); the
same order gives the same signature; the bytes a header signs are the bytes that are sent.
This module sends nothing and must not log.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec
from sha3 import keccak_256

from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import Side
from fleet.venues.polymarket.amounts import OrderAmounts
from fleet.venues.polymarket.contracts import (
    DOMAIN_NAME,
    DOMAIN_VERSION,
    POLYGON,
    Exchange,
    SignatureType,
    exchange_address,
)
from fleet.venues.polymarket.keys import (
    SecretKey,
    SigningError,
    checksum_address,
    keccak,
    recover_address,
)
from fleet.venues.polymarket.order_words import (
    account_words,
    address_word,
    bytes32_words,
    exchange_of,
    token_word,
)

ZERO_BYTES32: Final = "0x" + "00" * 32
MAX_SALT: Final = 2**53
"""A salt travels as a JSON number, which other parsers read as a double."""
MAX_BATCH: Final = 15
"""Orders in one POST /orders (CLOB reference, read 2026-11)."""

ORDER_TYPE: Final = (
    b"Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,"
    b"uint256 takerAmount,uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,"
    b"bytes32 builder)"
)
_DOMAIN_TYPE: Final = (
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_WRAPPED_TYPE: Final = (
    b"TypedDataSign(Order contents,string name,string version,uint256 chainId,"
    b"address verifyingContract,bytes32 salt)" + ORDER_TYPE
)
_RESTING: Final = (TimeInForce.GTC, TimeInForce.GTD)
_GTD: Final = TimeInForce.GTD

_ORDER_TYPE_HASH: Final = keccak(ORDER_TYPE)
_WRAPPED_TYPE_HASH: Final = keccak(_WRAPPED_TYPE)
_WALLET_NAME_VERSION: Final = keccak(b"DepositWallet") + keccak(b"1")
_TYPE_SUFFIX: Final = ORDER_TYPE + len(ORDER_TYPE).to_bytes(2, "big")
_BUY: Final = Side.BUY
_WORDS: Final = struct.Struct(">32s 24xQ 64s 32s 24xQ 24xQ 31xB 31xB 24xQ 64s")
"""The type hash and the order's 11 words; 64 bits of base units are more money than there is."""


class ExchangeOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order as the exchange signs it, its contract, and the expiration only HTTP carries.

    Amounts are base units (1e-6), ``timestamp_ms`` the creation time, ``expiration_s`` Unix
    seconds or 0; ``token_id`` is canonical decimal text, ``metadata`` and ``builder`` are 0x and 64
    hex digits.
    """

    exchange: Exchange
    salt: int
    maker: str
    signer: str
    token_id: str
    maker_amount: int
    taker_amount: int
    side: Side
    signature_type: SignatureType
    timestamp_ms: int
    expiration_s: int = 0
    metadata: str = ZERO_BYTES32
    builder: str = ZERO_BYTES32


class SignedOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order with the id the venue will give it and its signature, both 0x hex."""

    order: ExchangeOrder
    order_id: str
    signature: str


@lru_cache(maxsize=16)
def domain_separator(chain_id: int, exchange: Exchange) -> bytes:
    """The EIP-712 domain separator of ``exchange`` on ``chain_id``."""
    return keccak(
        keccak(_DOMAIN_TYPE)
        + keccak(DOMAIN_NAME.encode())
        + keccak(DOMAIN_VERSION[exchange].encode())
        + chain_id.to_bytes(32, "big")
        + address_word(exchange_address(chain_id, exchange))
    )


def order_struct_hash(order: ExchangeOrder) -> bytes:
    """The EIP-712 struct hash of the order.

    Raises ``SigningError`` for a field that cannot be, or a number of more than 64 bits.
    """
    try:
        words = _WORDS.pack(
            _ORDER_TYPE_HASH,
            order.salt,
            account_words(order.maker, order.signer),
            token_word(order.token_id),
            order.maker_amount,
            order.taker_amount,
            0 if order.side is _BUY else 1,
            order.signature_type,
            order.timestamp_ms,
            bytes32_words(order.metadata, order.builder),
        )
    except struct.error as error:
        raise SigningError(f"a field of the order is no uint256 of 64 bits: {order}") from error
    digest: bytes = keccak_256(words).digest()  # Not by way of `keccak`: hot.
    return digest


def order_digest(order: ExchangeOrder, chain_id: int) -> bytes:
    """The EIP-712 digest of the order: the 32 bytes of its id."""
    return keccak(
        b"\x19\x01" + domain_separator(chain_id, order.exchange) + order_struct_hash(order)
    )


def recover_signer(signed: SignedOrder, chain_id: int) -> str:
    """The checksummed address of the key that made ``signed.signature``.

    For type 3 the appended domain, struct and type string must be this order's own. Raises
    ``SigningError`` when the signature is no signature or its appendix belongs to another order.
    """
    order = signed.order
    hashed = order_struct_hash(order)
    domain = domain_separator(chain_id, order.exchange)
    try:
        signature = bytes.fromhex(signed.signature.removeprefix("0x"))
    except ValueError as error:
        raise SigningError("the signature is not hex") from error
    if order.signature_type is SignatureType.POLY_1271:
        if signature[65:] != domain + hashed + _TYPE_SUFFIX:
            raise SigningError("the wallet signature's appendix is not this order's")
        digest = _wrapped_digest(domain, hashed, chain_id, order.signer)
        signature = signature[:65]
    else:
        digest = keccak(b"\x19\x01" + domain + hashed)
    return recover_address(digest, signature)


class OrderSigner:
    """Builds and signs the orders of one account: a key, a chain, a wallet type."""

    __slots__ = ("_is_wallet", "_key", "address", "chain_id", "maker", "signature_type", "signer")

    def __init__(
        self,
        key: SecretKey,
        *,
        chain_id: int = POLYGON,
        signature_type: SignatureType = SignatureType.EOA,
        funder: str | None = None,
    ) -> None:
        """``funder`` is the wallet that holds the funds; types 1 to 3 need it, type 0 has none.

        Raises ``SigningError`` if it is missing, malformed or differs from the key of a type 0.
        """
        if signature_type is SignatureType.EOA:
            if funder is not None and funder.lower() != key.address.lower():
                raise SigningError(
                    f"signature type 0 trades from the key's own address {key.address}, not from "
                    f"{funder}; drop the funder or set the wallet's signature type (1, 2 or 3)"
                )
            funder = key.address
        elif funder is None:
            raise SigningError(
                f"signature type {int(signature_type)} ({signature_type.name}) needs the address "
                "of the wallet that holds the funds"
            )
        exchange_address(chain_id, Exchange.STANDARD_V2)
        self._key = key
        self.address: Final = key.address
        self.chain_id: Final = chain_id
        self.signature_type: Final = signature_type
        self.maker: Final = checksum_address(funder)
        self._is_wallet: Final = signature_type is SignatureType.POLY_1271
        self.signer: Final = self.maker if self._is_wallet else key.address

    def __repr__(self) -> str:
        return f"OrderSigner({self.address}, maker={self.maker}, {self.signature_type.name})"

    def order(
        self,
        *,
        token_id: str,
        side: Side,
        amounts: OrderAmounts,
        neg_risk: bool,
        salt: int,
        timestamp_ms: int,
        expiration_s: int = 0,
        metadata: str = ZERO_BYTES32,
        builder: str = ZERO_BYTES32,
    ) -> ExchangeOrder:
        """An unsigned order of this account for the exchange that settles ``token_id``."""
        return ExchangeOrder(
            exchange=exchange_of(token_id, neg_risk),
            salt=salt,
            maker=self.maker,
            signer=self.signer,
            token_id=token_id,
            maker_amount=amounts.maker,
            taker_amount=amounts.taker,
            side=side,
            signature_type=self.signature_type,
            timestamp_ms=timestamp_ms,
            expiration_s=expiration_s,
            metadata=metadata,
            builder=builder,
        )

    def order_id(self, order: ExchangeOrder) -> str:
        """The id the venue will give ``order``: 0x and 64 hex digits, known before sending."""
        return "0x" + order_digest(order, self.chain_id).hex()

    def sign(self, order: ExchangeOrder) -> SignedOrder:
        """Sign ``order``. Raises ``SigningError`` if it is not one of this account's."""
        return self.sign_all((order,))[0]

    def sign_all(self, orders: Sequence[ExchangeOrder]) -> list[SignedOrder]:
        """Sign all of them or, with the ``SigningError`` of ``sign``, none.

        Everything is hashed before anything is signed: the curve's tables push all else out of the
        processor's nearest cache, which costs each piece of work between two signatures twice.
        """
        chain_id, is_wallet = self.chain_id, self._is_wallet
        ids, digests, suffixes = [], [], []
        for order in orders:
            self._require_ours(order)
            hashed = order_struct_hash(order)
            domain = domain_separator(chain_id, order.exchange)
            digest = keccak_256(b"\x19\x01" + domain + hashed).digest()
            ids.append(digest)
            if is_wallet:
                digests.append(_wrapped_digest(domain, hashed, chain_id, self.signer))
                suffixes.append((domain + hashed + _TYPE_SUFFIX).hex())
            else:
                digests.append(digest)
                suffixes.append("")
        signatures = self._key.sign_digests(digests)
        return [
            SignedOrder(
                order=order,
                order_id=f"0x{ids[index].hex()}",
                signature=f"0x{signatures[index].hex()}{suffixes[index]}",
            )
            for index, order in enumerate(orders)
        ]

    def _require_ours(self, order: ExchangeOrder) -> None:
        if (
            order.maker != self.maker
            or order.signer != self.signer
            or order.signature_type is not self.signature_type
        ):
            raise SigningError(f"the order is of {order.maker}, not of {self!r}")
        if not 0 <= order.salt < MAX_SALT:
            raise SigningError(f"salt {order.salt} is outside 0..2^53")
        if order.maker_amount <= 0 or order.taker_amount <= 0:
            raise SigningError("an order's amounts must be positive")


def wire_body(
    signed: SignedOrder,
    owner: str,
    order_type: TimeInForce,
    *,
    post_only: bool = False,
    defer_exec: bool = False,
) -> bytes:
    """The JSON body of POST /order, ready to be hashed and sent as it is.

    ``owner`` is the API key's id. Raises ``SigningError`` for an expiration on anything but GTD (or
    a GTD without one), for post-only on an order that takes, and for an owner that is no key id.
    """
    order = signed.order
    kind: str = order_type._value_  # `value` is a function of Python, and this is hot.
    if (order.expiration_s > 0) is not (order_type is _GTD):
        raise SigningError(
            f"a {kind} order with expiration {order.expiration_s}: GTD needs one in "
            "Unix seconds, every other type has 0"
        )
    if post_only and order_type not in _RESTING:
        raise SigningError(f"post-only is for GTC and GTD, not {kind}")
    _require_owner(owner)
    return (
        f'{{"order":{{"salt":{order.salt},"maker":"{order.maker}","signer":"{order.signer}",'
        f'"tokenId":"{order.token_id}","makerAmount":"{order.maker_amount}",'
        f'"takerAmount":"{order.taker_amount}","side":"{order.side._value_}",'
        f'"expiration":"{order.expiration_s}","signatureType":{order.signature_type._value_},'
        f'"timestamp":"{order.timestamp_ms}","metadata":"{order.metadata}",'
        f'"builder":"{order.builder}","signature":"{signed.signature}"}},"owner":"{owner}",'
        f'"orderType":"{kind}","deferExec":{"true" if defer_exec else "false"},'
        f'"postOnly":{"true" if post_only else "false"}}}'
    ).encode()


@lru_cache(maxsize=64)
def _require_owner(owner: str) -> None:
    """Refuse what is no API key's id; an exception is not cached."""
    if not owner.replace("-", "").isalnum() or not owner.isascii():
        raise SigningError("the owner must be the API key's id: letters, digits and dashes")


def wire_batch(bodies: list[bytes]) -> bytes:
    """The JSON body of POST /orders from 1 to 15 bodies of ``wire_body``; the venue is not atomic.

    Raises ``SigningError`` for more or none.
    """
    if not 1 <= len(bodies) <= MAX_BATCH:
        raise SigningError(f"a batch holds 1 to {MAX_BATCH} orders, not {len(bodies)}")
    return b"[" + b",".join(bodies) + b"]"


def _wrapped_digest(domain: bytes, hashed: bytes, chain_id: int, wallet: str) -> bytes:
    """What a deposit wallet's owner really signs: the order nested in ERC-7739 TypedDataSign."""
    wrapped = keccak(
        _WRAPPED_TYPE_HASH
        + hashed
        + _WALLET_NAME_VERSION
        + chain_id.to_bytes(32, "big")
        + address_word(wallet)
        + bytes(32)
    )
    return keccak(b"\x19\x01" + domain + wrapped)
