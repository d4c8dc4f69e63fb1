"""Random orders, login and request headers against the official py-clob-client-v2 1.2.1.

The client invents salt and timestamp; ours takes them from the order the client signed, so equal
signatures mean equal amounts, exchange, account words and encoding.
"""

from __future__ import annotations

import base64
import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from py_clob_client_v2.clob_types import (
    ApiCreds,
    CreateOrderOptions,
    MarketOrderArgsV2,
    OrderArgsV2,
    RequestArgs,
)
from py_clob_client_v2.config import get_contract_config
from py_clob_client_v2.headers.headers import create_level_1_headers, create_level_2_headers
from py_clob_client_v2.order_builder.builder import ROUNDING_CONFIG, OrderBuilder
from py_clob_client_v2.order_utils import SignatureTypeV2
from py_clob_client_v2.order_utils.exchange_order_builder_v2 import ExchangeOrderBuilderV2
from py_clob_client_v2.order_utils.model.order_data_v2 import order_to_json_v2
from py_clob_client_v2.signer import Signer

from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Cash, Price, Qty, parse_price
from fleet.venues.polymarket.amounts import (
    limit_amounts,
    market_buy_amounts,
    market_sell_amounts,
)
from fleet.venues.polymarket.auth import ApiCredentials, l1_headers, l2_headers
from fleet.venues.polymarket.contracts import AMOY, POLYGON, SignatureType
from fleet.venues.polymarket.keys import SecretKey, checksum_address
from fleet.venues.polymarket.signing import OrderSigner, recover_signer, wire_body

OWNER = "7f3a2c10-9b5e-4d21-8c77-0123456789ab"
CENT = 10**6
DOUBLE_EXACT = 2**53

secrets = st.binary(min_size=32, max_size=32).filter(
    lambda b: 0 < int.from_bytes(b, "big") < 2**255
)
wallets = st.binary(min_size=20, max_size=20).map(lambda b: checksum_address("0x" + b.hex()))
bytes32 = st.binary(min_size=32, max_size=32).map(lambda b: "0x" + b.hex())
token_ids = st.integers(1 << 104, (1 << 256) - 1).filter(lambda t: t >> 40 & (1 << 64) - 1 != 0)


@st.composite
def position_ids(draw: st.DrawFn) -> int:
    high = draw(st.integers(0, (1 << 144) - 1)) << 104
    return draw(st.integers(1, 3)) << 248 | high | draw(st.integers(0, (1 << 40) - 1))


@st.composite
def orders(draw: st.DrawFn) -> dict[str, Any]:
    """An order both can express: price on the grid, and every double the client makes exact."""
    tick = draw(st.sampled_from(sorted(ROUNDING_CONFIG)))
    step = parse_price(tick)
    price = Price(step * draw(st.integers(1, SCALE // step - 1)))
    cents = draw(st.integers(1, 10_000_000))
    market = draw(st.booleans())
    decimals = ROUNDING_CONFIG[tick].price
    as_float = float(Decimal(price) / SCALE)
    assume(math.floor(cents / 100 * 100) == cents)
    if market:
        assume(math.floor(as_float * 10**decimals) * 10 ** (8 - decimals) == price)
        fine = 10 ** (ROUNDING_CONFIG[tick].amount + 4)
        assume(cents * CENT * fine // price < DOUBLE_EXACT)
    kind = draw(st.sampled_from(SignatureType))
    secret = draw(secrets)
    protocol_v2 = draw(st.booleans())
    return {
        "secret": secret,
        "kind": kind,
        "funder": None if kind is SignatureType.EOA else draw(wallets),
        "chain_id": draw(st.sampled_from([POLYGON, AMOY])),
        "token": str(draw(position_ids() if protocol_v2 else token_ids)),
        "protocol_v2": protocol_v2,
        "neg_risk": draw(st.booleans()),
        "tick": tick,
        "price": price,
        "float_price": as_float,
        "cents": cents,
        "market": market,
        "side": draw(st.sampled_from(Side)),
        "metadata": draw(bytes32),
        "builder": draw(bytes32),
    }


def client_order(case: dict[str, Any]) -> tuple[OrderBuilder, Any]:
    """The order as the official client builds and signs it."""
    signer = Signer(case["secret"].hex(), case["chain_id"])
    client = OrderBuilder(signer, SignatureTypeV2(int(case["kind"])), case["funder"])
    asset = {"position_id" if case["protocol_v2"] else "token_id": case["token"]}
    options = CreateOrderOptions(tick_size=case["tick"], neg_risk=case["neg_risk"])
    common = {
        **asset,
        "price": case["float_price"],
        "side": case["side"].value,
        "builder_code": case["builder"],
        "metadata": case["metadata"],
    }
    if case["market"]:
        args = MarketOrderArgsV2(amount=case["cents"] / 100, **common)
        return client, client.build_market_order(args, options, version=2)
    args = OrderArgsV2(size=case["cents"] / 100, **common)
    return client, client.build_order(args, options, version=2)


@settings(max_examples=150, deadline=None)
@given(orders())
def test_any_order_is_signed_as_the_official_client_signs_it(case: dict[str, Any]) -> None:
    _, theirs = client_order(case)
    tick, price, size = parse_price(case["tick"]), case["price"], case["cents"] * CENT
    if not case["market"]:
        amounts = limit_amounts(case["side"], price, Qty(size), tick)
    elif case["side"] is Side.BUY:
        amounts = market_buy_amounts(price, Cash(size), tick)
    else:
        amounts = market_sell_amounts(price, Qty(size), tick)
    account = OrderSigner(
        SecretKey(case["secret"]),
        chain_id=case["chain_id"],
        signature_type=case["kind"],
        funder=case["funder"],
    )
    ours = account.sign(
        account.order(
            token_id=case["token"],
            side=case["side"],
            amounts=amounts,
            neg_risk=case["neg_risk"],
            salt=int(theirs.salt),
            timestamp_ms=int(theirs.timestamp),
            metadata=case["metadata"],
            builder=case["builder"],
        )
    )
    assert ours.signature == theirs.signature
    assert recover_signer(ours, case["chain_id"]) == account.address
    for tif in (TimeInForce.GTC, TimeInForce.FAK):
        payload = order_to_json_v2(theirs, OWNER, tif.value)
        expected = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
        assert wire_body(ours, OWNER, tif) == expected


@settings(max_examples=30, deadline=None)
@given(orders())
def test_the_order_id_is_the_official_clients_order_hash(case: dict[str, Any]) -> None:
    _, theirs = client_order(case)
    version = "3" if case["protocol_v2"] else "2"
    account = OrderSigner(
        SecretKey(case["secret"]),
        chain_id=case["chain_id"],
        signature_type=case["kind"],
        funder=case["funder"],
    )
    side = case["side"]
    ours = account.order(
        token_id=case["token"],
        side=side,
        amounts=limit_amounts(side, Price(SCALE // 2), Qty(5 * SCALE), Price(CENT)),
        neg_risk=case["neg_risk"],
        salt=int(theirs.salt),
        timestamp_ms=int(theirs.timestamp),
    )
    builder = ExchangeOrderBuilderV2(
        contract_of(case),
        case["chain_id"],
        Signer(case["secret"].hex(), case["chain_id"]),
        domain_version=version,
    )
    theirs.makerAmount, theirs.takerAmount = str(ours.maker_amount), str(ours.taker_amount)
    theirs.metadata = theirs.builder = "0x" + "00" * 32
    assert account.order_id(ours) == builder.build_order_hash(
        builder.build_order_typed_data(theirs)
    )


def contract_of(case: dict[str, Any]) -> str:
    """The exchange the official configuration names for the order."""
    config = get_contract_config(case["chain_id"])
    if case["protocol_v2"]:
        return str(config.exchange_v3)
    return str(config.neg_risk_exchange_v2 if case["neg_risk"] else config.exchange_v2)


@pytest.mark.parametrize(
    ("price", "size", "lost"),
    [(0.57, 20.0, "price"), (0.29, 10.0, "price"), (0.5, 1.15, "size"), (0.25, 8.04, "size")],
)
def test_where_the_clients_doubles_lose_a_cent_ours_do_not(
    price: float, size: float, lost: str
) -> None:
    client = OrderBuilder(Signer("01" * 32, POLYGON))
    rounding = ROUNDING_CONFIG["0.01"]
    _, maker, taker = client.get_market_order_amounts("SELL", size, price, rounding)
    exact_price, exact_size = round(price * 100), round(size * 100)
    ours = market_sell_amounts(Price(exact_price * CENT), Qty(exact_size * CENT), Price(CENT))
    assert ours == (exact_size * 10_000, exact_price * exact_size * 100)
    if lost == "size":
        assert maker == ours.maker - 10_000
    else:
        assert (maker, taker) == (ours.maker, (exact_price - 1) * exact_size * 100)


@settings(max_examples=30, deadline=None)
@given(
    secrets,
    st.integers(1_600_000_000, 2_000_000_000),
    st.integers(0, 1000),
    st.sampled_from([POLYGON, AMOY]),
)
def test_the_login_is_the_official_clients(
    secret: bytes, timestamp_s: int, nonce: int, chain_id: int
) -> None:
    ours = l1_headers(SecretKey(secret), chain_id=chain_id, timestamp_s=timestamp_s, nonce=nonce)
    theirs = create_level_1_headers(Signer(secret.hex(), chain_id), nonce, timestamp_s)
    assert ours == theirs


@settings(max_examples=60, deadline=None)
@given(
    st.binary(min_size=1, max_size=64),
    st.integers(1_600_000_000, 2_000_000_000),
    st.sampled_from(["GET", "POST", "DELETE"]),
    st.sampled_from(["/order", "/orders", "/data/trades"]),
    st.text(max_size=300),
)
def test_request_headers_are_the_official_clients(
    secret: bytes, timestamp_s: int, method: str, path: str, body: str
) -> None:
    assume(body.isprintable())
    encoded = base64.urlsafe_b64encode(secret).decode()
    signer = Signer("01" * 32, POLYGON)
    credentials = ApiCredentials(
        address=signer.address(), api_key=OWNER, secret=encoded, passphrase="words"
    )
    theirs = create_level_2_headers(
        signer,
        ApiCreds(api_key=OWNER, api_secret=encoded, api_passphrase="words"),
        RequestArgs(method=method, request_path=path, serialized_body=body),
        timestamp_s,
    )
    assert l2_headers(credentials, timestamp_s, method, path, body.encode()) == theirs
