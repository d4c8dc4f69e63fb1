"""Posted orders: reading the payload and proving who signed what, in the venue's order (4.3, 4.6).

1. shape of the payload, 2. owner is the API key's, 3. signer is the key's address, 4. signature:
the digest is recomputed for the exchange that settles the token, and is the order's id. A signature
that fits another exchange or domain version is ``order_version_mismatch``, one that fits none is
``invalid signature``. 5. the wallet is the signer's (``Accounts.claim``), 6. its standing. What
needs the market or the balance is the exchange's to check. Nothing here changes anything but
wallets that are claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import Side
from fleet.sandbox.exchange.contract import OrderRequest, Refused
from fleet.sandbox.listing import Listings
from fleet.sandbox.trading.accounts import Accounts, ApiKey, Standing
from fleet.venues.polymarket.contracts import (
    Exchange,
    SignatureType,
    exchange_address,
    exchange_for,
)
from fleet.venues.polymarket.keys import SigningError, checksum_address
from fleet.venues.polymarket.signing import (
    MAX_BATCH,
    ExchangeOrder,
    SignedOrder,
    order_digest,
    recover_signer,
)

INVALID_PAYLOAD: Final = "Invalid order payload"
WRONG_OWNER: Final = "the order owner has to be the owner of the API KEY"
WRONG_SIGNER: Final = "the order signer address has to be the address of the API KEY"
VERSION_MISMATCH: Final = "order_version_mismatch"
OLD_VERSION: Final = "invalid order version, please use the latest clob-client"
INVALID_SIGNATURE: Final = "invalid signature"
INVALID_EXPIRATION: Final = "invalid expiration"
POST_ONLY_TAKES: Final = "invalid post-only order: only GTC and GTD orders can be post-only"
UINT256_MAX: Final = (1 << 256) - 1
_V1_FIELDS: Final = frozenset({"taker", "nonce", "feeRateBps"})
_RESTING: Final = (TimeInForce.GTC, TimeInForce.GTD)


class OrderFields(msgspec.Struct, kw_only=True, rename="camel"):
    """The signed fields and the expiration, as the wire spells them."""

    salt: int
    maker: str
    signer: str
    token_id: str
    maker_amount: str
    taker_amount: str
    side: Side
    signature_type: int
    timestamp: str
    metadata: str
    builder: str
    signature: str
    expiration: str = "0"


class PostedOrder(msgspec.Struct, kw_only=True, rename="camel"):
    """The body of POST /order. ``defer_exec`` changes nothing here: every match is deferred."""

    order: OrderFields
    owner: str
    order_type: TimeInForce = TimeInForce.GTC
    defer_exec: bool = False
    post_only: bool = False


def read_order(body: bytes) -> PostedOrder:
    """The body of POST /order. Raises ``Refused`` 400."""
    order: PostedOrder = _decoded(body, PostedOrder)
    return order


def read_orders(body: bytes) -> Sequence[PostedOrder]:
    """The body of POST /orders. Raises ``Refused`` 400, also for more than 15 or none."""
    batch: list[PostedOrder] = _decoded(body, list[PostedOrder])
    if len(batch) > MAX_BATCH:
        raise too_many(len(batch), MAX_BATCH)
    if not batch:
        raise Refused(400, INVALID_PAYLOAD)
    return batch


def too_many(count: int, limit: int) -> Refused:
    """The refusal of a batch that is too long."""
    return Refused(400, f"Too many orders in payload: {count}, max allowed: {limit}")


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError:
        raise Refused(400, OLD_VERSION if _is_old(body) else INVALID_PAYLOAD) from None


def _is_old(body: bytes) -> bool:
    """Whether an unreadable order is one of the dead version 1."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return False
    first = found[0] if isinstance(found, list) and found else found
    order = first.get("order") if isinstance(first, dict) else None
    return isinstance(order, dict) and "timestamp" not in order and order.keys() >= _V1_FIELDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """An order whose origin is proven, and the contract it was signed for."""

    request: OrderRequest
    exchange_address: str


class OrderChecks:
    """Turns posted orders of one sandbox into verified requests."""

    def __init__(self, accounts: Accounts, listings: Listings, *, chain_id: int) -> None:
        """Tokens are looked up in ``listings`` for the exchange that settles them."""
        self._accounts = accounts
        self._listings = listings
        self._chain_id = chain_id

    def verify(self, posted: PostedOrder, key: ApiKey) -> Verified:
        """A request the exchange can believe. Raises ``Refused`` 400 in the venue's words."""
        order = _order(posted)
        if posted.owner != key.owner:
            raise Refused(400, WRONG_OWNER)
        wallet_signs = order.signature_type is SignatureType.POLY_1271
        if order.signer != (order.maker if wallet_signs else key.address):
            raise Refused(400, WRONG_SIGNER)
        signed = self._verified(order, posted.order.signature, key.address)
        if not self._accounts.claim(order.maker, key.address, order.signature_type):
            raise Refused(400, INVALID_SIGNATURE)
        standing = self._accounts.standing(key.address)
        if standing is Standing.BANNED:
            raise Refused(400, f"'{key.address}' address banned")
        if standing is Standing.CLOSED_ONLY and order.side is Side.BUY:
            raise Refused(400, f"'{key.address}' address in closed only mode")
        if (posted.order_type is TimeInForce.GTD) != (order.expiration_s > 0):
            raise Refused(400, INVALID_EXPIRATION)
        if posted.post_only and posted.order_type not in _RESTING:
            raise Refused(400, POST_ONLY_TAKES)
        request = OrderRequest(
            order_id="0x" + order_digest(signed, self._chain_id).hex(),
            owner=key.owner,
            address=key.address,
            maker=order.maker,
            token_id=order.token_id,
            side=order.side,
            maker_amount=order.maker_amount,
            taker_amount=order.taker_amount,
            tif=posted.order_type,
            post_only=posted.post_only,
            expiration_s=order.expiration_s,
        )
        return Verified(
            request=request, exchange_address=exchange_address(self._chain_id, signed.exchange)
        )

    def _verified(self, order: ExchangeOrder, signature: str, address: str) -> ExchangeOrder:
        """The order on the exchange it was signed for, which must be the token's."""
        listed = self._listings.by_token.get(order.token_id)
        right = exchange_for(
            int(order.token_id), neg_risk=listed is not None and listed[0].spec.neg_risk
        )
        others = (exchange for exchange in Exchange if exchange is not right)
        for exchange in (right, *others):
            candidate = msgspec.structs.replace(order, exchange=exchange)
            if self._signer(candidate, signature) == address:
                # Nobody knows which exchange settles a token that is not listed; the exchange
                # itself refuses it then.
                if exchange is not right and listed is not None:
                    raise Refused(400, VERSION_MISMATCH)
                return candidate
        raise Refused(400, INVALID_SIGNATURE)

    def _signer(self, order: ExchangeOrder, signature: str) -> str:
        try:
            return recover_signer(
                SignedOrder(order=order, order_id="", signature=signature), self._chain_id
            )
        except SigningError:
            return ""


def _order(posted: PostedOrder) -> ExchangeOrder:
    """The signed fields as numbers. Raises ``Refused`` 400 for what no order can hold."""
    fields = posted.order
    try:
        order = ExchangeOrder(
            exchange=Exchange.STANDARD_V2,
            salt=fields.salt,
            maker=checksum_address(fields.maker),
            signer=checksum_address(fields.signer),
            token_id=str(_number(fields.token_id)),
            maker_amount=_number(fields.maker_amount),
            taker_amount=_number(fields.taker_amount),
            side=fields.side,
            signature_type=SignatureType(fields.signature_type),
            timestamp_ms=_number(fields.timestamp),
            expiration_s=_number(fields.expiration),
            metadata=_bytes32(fields.metadata),
            builder=_bytes32(fields.builder),
        )
    except ValueError:
        raise Refused(400, INVALID_PAYLOAD) from None
    if not 0 <= order.salt <= UINT256_MAX or not order.maker_amount or not order.taker_amount:
        raise Refused(400, INVALID_PAYLOAD)
    return order


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 78) or int(text) > UINT256_MAX:
        raise ValueError(text)
    return int(text)


def _bytes32(text: str) -> str:
    if len(text) != 66 or not text.startswith("0x"):
        raise ValueError(text)
    bytes.fromhex(text[2:])
    return text
