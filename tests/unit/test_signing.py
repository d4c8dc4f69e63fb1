"""Signed orders against the reference vectors (chain 137, key 0x01 x 32), and the bytes posted."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest

from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import Side
from fleet.venues.polymarket.amounts import OrderAmounts
from fleet.venues.polymarket.contracts import (
    AMOY,
    POLYGON,
    ContractError,
    Exchange,
    SignatureType,
    exchange_address,
    exchange_for,
    is_position_id,
)
from fleet.venues.polymarket.keys import (
    SecretKey,
    SigningError,
    checksum_address,
    keccak,
    recover_address,
)
from fleet.venues.polymarket.signing import (
    MAX_SALT,
    ORDER_TYPE,
    ExchangeOrder,
    OrderSigner,
    SignedOrder,
    domain_separator,
    order_digest,
    order_struct_hash,
    recover_signer,
    wire_batch,
    wire_body,
)

SECRET = bytes([1]) * 32
ADDRESS = "0x1a642f0E3c3aF545E7AcBD38b07251B3990914F1"
WALLET = checksum_address("0x" + "99" * 20)
OWNER = "00000000-0000-0000-0000-000000000001"
POSITION_ID = (1 << 248) | (0xABCDEF << 120) | (2 << 104) | (137 << 24) | (3 << 8) | 1


def signer(kind: SignatureType = SignatureType.EOA, chain_id: int = POLYGON) -> OrderSigner:
    funder = None if kind is SignatureType.EOA else WALLET
    return OrderSigner(SecretKey(SECRET), chain_id=chain_id, signature_type=kind, funder=funder)


def vector_order(
    account: OrderSigner, *, neg_risk: bool = False, expiration_s: int = 0
) -> ExchangeOrder:
    return account.order(
        token_id="1234567890",
        side=Side.BUY,
        amounts=OrderAmounts(5_200_000, 10_000_000),
        neg_risk=neg_risk,
        salt=123456789,
        timestamp_ms=1760000000000,
        expiration_s=expiration_s,
    )


def test_the_hash_is_ethereums_keccak_and_not_nist_sha3() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak(b"").hex() == empty
    assert keccak(b"") != hashlib.sha3_256(b"").digest()


def test_the_order_type_is_the_documented_one() -> None:
    assert len(ORDER_TYPE) == 186
    expected = "bb86318a2138f5fa8ae32fbe8e659f8fcf13cc6ae4014a707893055433818589"
    assert keccak(ORDER_TYPE).hex() == expected


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        (
            Exchange.STANDARD_V2,
            "3264e159346253e26a64e00b69032db0e7d32f94628de3e6eecb50304d7af3d2",
        ),
        (
            Exchange.NEG_RISK_V2,
            "9b858f53327b0bd13af8ec14cfb35234fb9eb7b0504d1a4e61f433840d30e81a",
        ),
        (Exchange.V3, "466c63910185bbd55e8679264200c4e0abdcbb0c6264eb3d41d13326022e095b"),
    ],
)
def test_domain_separators(exchange: Exchange, expected: str) -> None:
    assert domain_separator(POLYGON, exchange).hex() == expected


def test_amoy_has_its_own_domains() -> None:
    for exchange in Exchange:
        assert domain_separator(AMOY, exchange) != domain_separator(POLYGON, exchange)


def test_order_a_matches_its_vector() -> None:
    account = signer()
    order = vector_order(account)
    struct = "7931b705d17210e54e90371c2463c39caf7e8f9723af2a113b6aa89ac2f8c16d"
    assert order_struct_hash(order).hex() == struct
    signed = account.sign(order)
    assert signed.order_id == "0x4ebb4e23db8cab1ffa3647a868c38d031105b32a2ec521fcb01f9f42199bbccf"
    assert signed.order_id == account.order_id(order)
    assert signed.signature == (
        "0x486bd166aba0fe02d0d16564baddc467cfc7da36a65b3d3c7a0cf511bb34acd92"
        "cf19120aa4ff12f5a30bc136ba9228da9901a6dc660e3139f8c4d320f8ea2021c"
    )


def test_order_a_on_the_neg_risk_exchange_matches_its_vector() -> None:
    account = signer()
    expected = "0x15071cc1a9b9779fd3756dcdc347ace5dce4d2ccfc02c4fc92c43f97f1766ca8"
    assert account.order_id(vector_order(account, neg_risk=True)) == expected


def test_order_b_of_a_deposit_wallet_matches_its_vector() -> None:
    account = signer(SignatureType.POLY_1271)
    order = vector_order(account)
    assert order.signer == order.maker == WALLET
    struct = "79a57ad5c60318b130afa279e86683c29cbdd9c47567fdc748cd3264261998d5"
    assert order_struct_hash(order).hex() == struct
    signed = account.sign(order)
    assert signed.order_id == "0xeb5255f89a7b26d0ac59a51e5e2484b93bf7c8432fc9479e3a5a194ef42ba8b0"
    raw = bytes.fromhex(signed.signature[2:])
    assert len(raw) == 317
    assert raw[:65].hex() == (
        "e3fef681cd299bcbeec234e5e89472f4c0ee529a813a9e10b4f84d965c28a8b5"
        "4ed70a80b8333d941374edea8a90b88d4763706b2e93431ecb4b7a2e5935c19b1b"
    )
    whole = "0c5352e89483817ef4c4a1b5b213824bbad8247f6ee457b0486074810c9c8306"
    assert keccak(raw).hex() == whole
    really_signed = bytes.fromhex(
        "3eaa5da1f01ab3029861575d13d145ca7b79f64bab364320d13a30ae52a9a643"
    )
    assert recover_address(really_signed, raw[:65]) == ADDRESS


@pytest.mark.parametrize("kind", list(SignatureType))
@pytest.mark.parametrize("chain_id", [POLYGON, AMOY])
def test_whoever_signed_is_recovered(kind: SignatureType, chain_id: int) -> None:
    account = signer(kind, chain_id)
    assert recover_signer(account.sign(vector_order(account)), chain_id) == ADDRESS


@pytest.mark.parametrize("kind", list(SignatureType))
@pytest.mark.parametrize(
    "change", ["salt", "maker_amount", "taker_amount", "timestamp_ms", "side", "token_id"]
)
def test_a_changed_order_is_not_the_signed_one(kind: SignatureType, change: str) -> None:
    account = signer(kind)
    signed = account.sign(vector_order(account))
    values = {"side": Side.SELL, "token_id": "7"}
    order = msgspec.structs.replace(signed.order, **{change: values.get(change, 1)})
    forged = SignedOrder(order=order, order_id=signed.order_id, signature=signed.signature)
    try:
        assert recover_signer(forged, POLYGON) != ADDRESS
    except SigningError:
        assert kind is SignatureType.POLY_1271


@pytest.mark.parametrize("signature", ["0x", "0xzz", "0x" + "00" * 65, "0x" + "ff" * 64 + "1b"])
def test_what_is_no_signature_is_said_to_be_none(signature: str) -> None:
    account = signer()
    order = vector_order(account)
    broken = SignedOrder(order=order, order_id=account.order_id(order), signature=signature)
    with pytest.raises(SigningError):
        recover_signer(broken, POLYGON)


def test_an_order_is_signed_for_the_exchange_of_its_token() -> None:
    assert is_position_id(POSITION_ID)
    assert not is_position_id(1234567890)
    assert not is_position_id(POSITION_ID | (1 << 50))
    assert exchange_for(POSITION_ID, neg_risk=True) is Exchange.V3
    assert exchange_for(1234567890, neg_risk=True) is Exchange.NEG_RISK_V2
    assert exchange_for(1234567890, neg_risk=False) is Exchange.STANDARD_V2


def test_another_chain_is_refused_with_those_known() -> None:
    with pytest.raises(ContractError, match="137"):
        exchange_address(1, Exchange.V3)
    with pytest.raises(ContractError, match="80002"):
        OrderSigner(SecretKey(SECRET), chain_id=1)


def test_the_body_is_the_documented_shape_byte_for_byte() -> None:
    account = signer()
    signed = account.sign(vector_order(account))
    zero = "0x" + "00" * 32
    expected = {
        "order": {
            "salt": 123456789,
            "maker": ADDRESS,
            "signer": ADDRESS,
            "tokenId": "1234567890",
            "makerAmount": "5200000",
            "takerAmount": "10000000",
            "side": "BUY",
            "expiration": "0",
            "signatureType": 0,
            "timestamp": "1760000000000",
            "metadata": zero,
            "builder": zero,
            "signature": signed.signature,
        },
        "owner": OWNER,
        "orderType": "FAK",
        "deferExec": False,
        "postOnly": False,
    }
    body = wire_body(signed, OWNER, TimeInForce.FAK)
    assert body == json.dumps(expected, separators=(",", ":")).encode()


def test_a_gtd_body_carries_the_expiration_that_is_not_signed() -> None:
    account = signer()
    late = account.sign(vector_order(account, expiration_s=1760000300))
    assert late.order_id == account.order_id(vector_order(account))
    body = json.loads(wire_body(late, OWNER, TimeInForce.GTD, post_only=True, defer_exec=True))
    assert body["order"]["expiration"] == "1760000300"
    assert (body["postOnly"], body["deferExec"], body["orderType"]) == (True, True, "GTD")


@pytest.mark.parametrize(
    ("tif", "expiration_s", "post_only", "owner", "match"),
    [
        (TimeInForce.GTC, 1760000300, False, OWNER, "GTD needs one"),
        (TimeInForce.GTD, 0, False, OWNER, "GTD needs one"),
        (TimeInForce.FAK, 0, True, OWNER, "post-only"),
        (TimeInForce.FOK, 0, True, OWNER, "post-only"),
        (TimeInForce.FAK, 0, False, 'a","x":"', "API key"),
        (TimeInForce.FAK, 0, False, "", "API key"),
    ],
)
def test_a_body_the_venue_would_misread_is_not_made(
    tif: TimeInForce, expiration_s: int, post_only: bool, owner: str, match: str
) -> None:
    account = signer()
    signed = account.sign(vector_order(account, expiration_s=expiration_s))
    with pytest.raises(SigningError, match=match):
        wire_body(signed, owner, tif, post_only=post_only)


def test_a_batch_is_an_array_of_at_most_fifteen() -> None:
    account = signer()
    body = wire_body(account.sign(vector_order(account)), OWNER, TimeInForce.FAK)
    assert json.loads(wire_batch([body, body])) == [json.loads(body)] * 2
    assert len(json.loads(wire_batch([body] * 15))) == 15
    for count in (0, 16):
        with pytest.raises(SigningError, match="1 to 15"):
            wire_batch([body] * count)


@pytest.mark.parametrize("kind", list(SignatureType)[1:])
def test_a_wallet_type_needs_its_wallet(kind: SignatureType) -> None:
    with pytest.raises(SigningError, match="needs the address"):
        OrderSigner(SecretKey(SECRET), signature_type=kind)


def test_a_plain_key_trades_only_for_itself() -> None:
    with pytest.raises(SigningError, match="drop the funder"):
        OrderSigner(SecretKey(SECRET), funder=WALLET)
    assert OrderSigner(SecretKey(SECRET), funder=ADDRESS.lower()).maker == ADDRESS


def test_another_accounts_order_is_not_signed() -> None:
    stranger = OrderSigner(SecretKey(bytes([2]) * 32))
    with pytest.raises(SigningError, match="not of OrderSigner"):
        signer().sign(vector_order(stranger))


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("salt", MAX_SALT, "salt"),
        ("salt", -1, "salt"),
        ("maker_amount", 0, "positive"),
        ("taker_amount", -1, "positive"),
        ("timestamp_ms", -1, "uint256"),
        ("maker_amount", 1 << 256, "uint256"),
        ("taker_amount", 1 << 64, "64 bits"),
        ("token_id", "0x12", "plain decimal"),
        ("token_id", "012", "plain decimal"),
        ("token_id", "", "plain decimal"),
        ("token_id", "\N{ARABIC-INDIC DIGIT ONE}", "plain decimal"),
        ("metadata", "0x12", "64 hex digits"),
        ("builder", "zz" * 33, "64 hex digits"),
    ],
)
def test_a_field_that_cannot_be_signed_is_named(field: str, value: object, match: str) -> None:
    account = signer()
    order = msgspec.structs.replace(vector_order(account), **{field: value})
    with pytest.raises(SigningError, match=match):
        account.sign(order)


def test_a_type_3_signature_over_another_orders_appendix_is_refused() -> None:
    account = signer(SignatureType.POLY_1271)
    signed = account.sign(vector_order(account))
    other = vector_order(account, neg_risk=True)
    moved = SignedOrder(order=other, order_id=account.order_id(other), signature=signed.signature)
    with pytest.raises(SigningError, match="appendix"):
        recover_signer(moved, POLYGON)


def test_the_same_order_gives_the_same_signature() -> None:
    account = signer()
    order = vector_order(account)
    assert account.sign(order) == account.sign(order)
    assert order_digest(order, POLYGON).hex() == account.order_id(order)[2:]
