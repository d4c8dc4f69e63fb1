"""Posted orders are believed only as signed, whatever is done to them on the way."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import Side
from fleet.sandbox.exchange.contract import Refused
from fleet.sandbox.listing import Listings, MarketState
from fleet.sandbox.simulator import MarketSimulator, SimulatorSettings
from fleet.sandbox.trading import posted_orders as orders
from fleet.sandbox.trading.accounts import Accounts, ApiKey
from fleet.venues.polymarket.amounts import OrderAmounts
from fleet.venues.polymarket.contracts import (
    POLYGON,
    Exchange,
    SignatureType,
    exchange_address,
)
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.polymarket.signing import OrderSigner, wire_batch, wire_body

START_NS = 1_790_000_000_000_000_000
KEY = SecretKey(b"\x01" * 32)
WALLET = "0x9999999999999999999999999999999999999999"
SIMULATOR = MarketSimulator(SimulatorSettings(mispricing_every_s=0), START_NS)
LISTINGS: Listings = SIMULATOR.listings


def market(*, neg_risk: bool) -> MarketState:
    return next(m for m in LISTINGS.markets if m.spec.neg_risk is neg_risk)


def fresh() -> tuple[orders.OrderChecks, ApiKey]:
    accounts = Accounts()
    key = accounts.create(KEY.address, 0)
    assert key is not None
    return orders.OrderChecks(accounts, LISTINGS, chain_id=POLYGON), key


def body(
    owner: str,
    kind: SignatureType = SignatureType.EOA,
    *,
    neg_risk: bool = False,
    signed_neg_risk: bool | None = None,
    tif: TimeInForce = TimeInForce.GTC,
) -> dict[str, Any]:
    funder = None if kind is SignatureType.EOA else WALLET
    signer = OrderSigner(KEY, signature_type=kind, funder=funder)
    order = signer.order(
        token_id=market(neg_risk=neg_risk).spec.tokens[1],
        side=Side.BUY,
        amounts=OrderAmounts(maker=5_200_000, taker=10_000_000),
        neg_risk=neg_risk if signed_neg_risk is None else signed_neg_risk,
        salt=123,
        timestamp_ms=1_790_000_000_000,
        expiration_s=1_790_000_600 if tif is TimeInForce.GTD else 0,
    )
    decoded: dict[str, Any] = json.loads(wire_body(signer.sign(order), owner, tif))
    return decoded


def verified(posted: dict[str, Any]) -> orders.Verified:
    """What fresh checks make of ``posted``; the owner OWNER stands for their key."""
    checks, key = fresh()
    if posted["owner"] == "OWNER":
        posted = posted | {"owner": key.owner}
    return checks.verify(orders.read_order(json.dumps(posted).encode()), key)


@pytest.mark.parametrize("kind", list(SignatureType))
@pytest.mark.parametrize("neg_risk", [False, True])
def test_every_signature_type_is_verified_and_named_by_its_digest(
    kind: SignatureType, *, neg_risk: bool
) -> None:
    funder = None if kind is SignatureType.EOA else WALLET
    signer = OrderSigner(KEY, signature_type=kind, funder=funder)
    found = verified(body("OWNER", kind, neg_risk=neg_risk))
    exchange = Exchange.NEG_RISK_V2 if neg_risk else Exchange.STANDARD_V2
    assert found.exchange_address == exchange_address(POLYGON, exchange)
    request = found.request
    assert (request.address, request.maker) == (KEY.address, funder or KEY.address)
    assert (request.maker_amount, request.taker_amount) == (5_200_000, 10_000_000)
    assert request.order_id == signer.order_id(
        signer.order(
            token_id=request.token_id, side=Side.BUY, neg_risk=neg_risk, salt=123,
            amounts=OrderAmounts(maker=5_200_000, taker=10_000_000),
            timestamp_ms=1_790_000_000_000,
        )
    )  # fmt: skip


def test_gtd_carries_its_expiration_and_nothing_else_does() -> None:
    found = verified(body("OWNER", tif=TimeInForce.GTD)).request
    assert (found.tif, found.expiration_s) == (TimeInForce.GTD, 1_790_000_600)
    for change in ({"orderType": "GTC"}, {"orderType": "FOK"}):
        with pytest.raises(Refused, match="invalid expiration"):
            verified(body("OWNER", tif=TimeInForce.GTD) | change)
    with pytest.raises(Refused, match="invalid post-only order"):
        verified(body("OWNER", tif=TimeInForce.FAK) | {"postOnly": True})


CHANGES: dict[str, Any] = {
    "salt": 124,
    "maker": "0x" + "12" * 20,
    "signer": "0x" + "12" * 20,
    "makerAmount": "5200001",
    "takerAmount": "10000001",
    "side": "SELL",
    "signatureType": 2,
    "timestamp": "1790000000001",
    "metadata": "0x" + "01" * 32,
    "builder": "0x" + "01" * 32,
}


@pytest.mark.parametrize("kind", [SignatureType.EOA, SignatureType.POLY_1271])
@pytest.mark.parametrize("field", CHANGES)
def test_a_change_of_any_signed_field_is_found(kind: SignatureType, field: str) -> None:
    posted = body("OWNER", kind)
    posted["order"][field] = CHANGES[field]
    with pytest.raises(Refused) as caught:
        verified(posted)
    assert caught.value.status == 400
    assert caught.value.text in {orders.INVALID_SIGNATURE, orders.WRONG_SIGNER}


@pytest.mark.parametrize("kind", [SignatureType.EOA, SignatureType.POLY_1271])
def test_an_order_for_another_exchange_is_a_version_mismatch(kind: SignatureType) -> None:
    for neg_risk in (False, True):
        posted = body("OWNER", kind, neg_risk=neg_risk, signed_neg_risk=not neg_risk)
        with pytest.raises(Refused, match="order_version_mismatch"):
            verified(posted)
    posted = body("OWNER", kind)
    posted["order"]["tokenId"] = market(neg_risk=False).spec.tokens[0]
    with pytest.raises(Refused, match="invalid signature"):
        verified(posted)


def test_the_wallet_signature_s_appendix_must_be_the_order_s_own() -> None:
    whole = body("OWNER", SignatureType.POLY_1271)["order"]["signature"]
    for wrong in (whole[:-2] + "bb", whole[:132], whole[:132] + whole[196:], "0x"):
        posted = body("OWNER", SignatureType.POLY_1271)
        posted["order"]["signature"] = wrong
        with pytest.raises(Refused, match="invalid signature"):
            verified(posted)


def test_owner_and_old_versions_are_told_in_the_venue_s_words() -> None:
    with pytest.raises(Refused, match="the order owner has to be the owner of the API KEY"):
        verified(body("00000000-0000-4000-8000-000000000001"))
    old = body("OWNER")
    del old["order"]["timestamp"]
    old["order"] |= {"taker": "0x" + "00" * 20, "nonce": "0", "feeRateBps": "0"}
    for posted in (old, [old]):
        with pytest.raises(Refused, match="please use the latest clob-client"):
            orders.read_order(json.dumps(posted).encode())


def test_a_batch_has_one_to_fifteen_orders() -> None:
    one = json.dumps(body("OWNER")).encode()
    assert len(orders.read_orders(wire_batch([one] * 15))) == 15
    with pytest.raises(Refused, match="Too many orders in payload: 16, max allowed: 15"):
        orders.read_orders(b"[" + b",".join([one] * 16) + b"]")
    with pytest.raises(Refused, match="Invalid order payload"):
        orders.read_orders(b"[]")


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=80), st.floats(allow_nan=False),
    st.just("0x" + "00" * 20), st.just(str(1 << 256)), st.just("-1"), st.just([]),
)  # fmt: skip


@given(field=st.sampled_from([*CHANGES, "tokenId", "signature", "expiration"]), value=ODD)
def test_no_payload_brings_anything_but_a_refusal(field: str, value: Any) -> None:
    posted = body("OWNER")
    before = posted["order"][field]
    posted["order"][field] = value
    if value == before:
        return
    with pytest.raises(Refused) as caught:
        verified(posted)
    assert caught.value.status == 400


@given(st.binary(max_size=200))
def test_no_bytes_bring_anything_but_a_refusal(payload: bytes) -> None:
    for read in (orders.read_order, orders.read_orders):
        with pytest.raises(Refused, match="Invalid order payload"):
            read(payload)
