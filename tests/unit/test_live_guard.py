"""The guard of the trading key: what it signs, what it refuses, and that it shows nothing."""

import copy
import json
import pickle
from dataclasses import replace

import pytest
from msgspec import structs

from fleet.domain.commands import (
    BundleId,
    ClientOrderId,
    Purpose,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.instruments import Instrument, InstrumentId, MarketId, Side
from fleet.venues.polymarket.chain_transactions import Transaction
from fleet.venues.polymarket.contracts import (
    AMOY,
    POLYGON,
    ContractError,
    Exchange,
    SignatureType,
)
from fleet.venues.polymarket.guard import (
    GuardCode,
    GuardRefused,
    SigningGuard,
    SigningLimits,
    salt_of,
    wire_tif_of,
)
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.polymarket.signing import (
    MAX_SALT,
    ExchangeOrder,
    SignedOrder,
    order_digest,
    recover_signer,
)
from tests.builders import NS, c, p, q

SECRET = b"\x01" * 32
TOKEN, OTHER = InstrumentId("1234567890"), InstrumentId("987654321")
OWNER = "00000000-0000-4000-8000-000000000001"
INSTRUMENT = Instrument(id=TOKEN, market_id=MarketId("0xm"), complement=OTHER, outcome="Yes",
                        tick=p("0.01"))  # fmt: skip
ORDER = SubmitOrder(
    client_order_id=ClientOrderId("o1"), bundle_id=BundleId("b"), leg=0, purpose=Purpose.LEG,
    instrument_id=TOKEN, side=Side.BUY, price=p("0.52"), qty=q("10"), tif=TimeInForce.FAK,
    ts=1_760_000_000 * NS,
)  # fmt: skip


class Lease:
    alive = True

    def __call__(self) -> bool:
        return self.alive


def guard(
    *,
    lease: Lease | None = None,
    neg_risk: bool = False,
    limits: SigningLimits | None = None,
    signature_type: SignatureType = SignatureType.EOA,
    funder: str | None = None,
    chain_id: int = POLYGON,
) -> SigningGuard:
    return SigningGuard(
        SecretKey(SECRET), instruments={TOKEN: replace(INSTRUMENT, neg_risk=neg_risk)},
        lease_alive=lease or Lease(), limits=limits, signature_type=signature_type, funder=funder,
        chain_id=chain_id,
    )  # fmt: skip


def signed(body: bytes, exchange: Exchange = Exchange.STANDARD_V2) -> SignedOrder:
    """The signed order that posted bytes hold."""
    said = json.loads(body)["order"]
    order = ExchangeOrder(
        exchange=exchange, salt=said["salt"], maker=said["maker"], signer=said["signer"],
        token_id=said["tokenId"], maker_amount=int(said["makerAmount"]),
        taker_amount=int(said["takerAmount"]), side=Side(said["side"]),
        signature_type=SignatureType(said["signatureType"]), timestamp_ms=int(said["timestamp"]),
        metadata=said["metadata"], builder=said["builder"],
    )  # fmt: skip
    return SignedOrder(order=order, order_id="0x" + order_digest(order, POLYGON).hex(),
                       signature=said["signature"])  # fmt: skip


def refused(guarded: SigningGuard, order: SubmitOrder) -> GuardCode:
    with pytest.raises(GuardRefused) as error:
        guarded.sign_order(order, OWNER)
    assert guarded.signed == 0
    return error.value.code


def test_an_order_is_signed_by_the_key_for_the_contract_that_settles_its_token() -> None:
    guarded = guard()
    wire = guarded.sign_order(ORDER, OWNER)
    found = signed(wire.body)
    assert found.order_id == wire.venue_order_id == guarded.venue_order_id(ORDER)
    assert recover_signer(found, POLYGON) == guarded.address
    negative = guard(neg_risk=True).sign_order(ORDER, OWNER)
    found = signed(negative.body, Exchange.NEG_RISK_V2)
    assert found.order_id == negative.venue_order_id != wire.venue_order_id
    assert recover_signer(found, POLYGON) == guarded.address


def test_a_deposit_wallet_is_maker_and_signer() -> None:
    wallet = "0x" + "99" * 20
    guarded = guard(signature_type=SignatureType.POLY_1271, funder=wallet)
    found = signed(guarded.sign_order(ORDER, OWNER).body)
    assert found.order.maker == found.order.signer == guarded.wallet
    assert recover_signer(found, POLYGON) == guarded.address


def test_a_fak_buy_goes_out_as_gtc_sized_in_shares() -> None:
    wire = guard().sign_order(structs.replace(ORDER, price=p("0.37"), qty=q("7.77")), OWNER)
    said = json.loads(wire.body)
    assert said["orderType"] == "GTC" == wire.wire_tif.value
    # 7.77 shares and not a cent more than they cost, though 2.8749 is no whole number of cents.
    assert (said["order"]["takerAmount"], said["order"]["makerAmount"]) == ("7770000", "2874900")
    sell = structs.replace(ORDER, side=Side.SELL)
    assert wire_tif_of(sell) is TimeInForce.FAK
    said = json.loads(guard().sign_order(sell, OWNER).body)
    assert said["orderType"] == "FAK"
    assert (said["order"]["makerAmount"], said["order"]["takerAmount"]) == ("10000000", "5200000")


def test_the_same_order_has_one_id_for_ever_and_another_order_another() -> None:
    one, again = guard().sign_order(ORDER, OWNER), guard().sign_order(ORDER, OWNER)
    assert one == again
    other = structs.replace(ORDER, client_order_id=ClientOrderId("o2"))
    assert guard().venue_order_id(other) != one.venue_order_id
    assert salt_of("0xAB", "o1") == salt_of("0xab", "o1") != salt_of("0xab", "o2")
    assert all(0 <= salt_of("0xab", f"o{n}") < MAX_SALT for n in range(1_000))


def test_a_smoke_order_may_be_told_not_to_take() -> None:
    resting = structs.replace(ORDER, tif=TimeInForce.GTC)
    said = json.loads(guard().sign_order(resting, OWNER, post_only=True).body)
    assert said["postOnly"] is True
    with pytest.raises(GuardRefused, match="FIELDS_INVALID"):
        guard().sign_order(structs.replace(ORDER, side=Side.SELL), OWNER, post_only=True)


def test_what_is_beyond_the_limits_is_never_signed() -> None:
    limits = SigningLimits(max_order_notional=c("5.20"))
    assert guard(limits=limits).sign_order(ORDER, OWNER).venue_order_id
    above = structs.replace(ORDER, qty=q("10.01"))
    assert refused(guard(limits=limits), above) is GuardCode.NOTIONAL_ABOVE_LIMIT
    # Chaos seed 57: a leg that was to be sold was worth more than what may be bought.
    sale = structs.replace(above, side=Side.SELL)
    assert guard(limits=limits).sign_order(sale, OWNER).venue_order_id
    with pytest.raises(ValueError, match="positive"):
        SigningLimits(max_order_notional=c("0"))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"instrument_id": InstrumentId("5")}, GuardCode.TOKEN_UNKNOWN),
        ({"price": p("0.525")}, GuardCode.PRICE_OFF_GRID),
        ({"price": p("1")}, GuardCode.PRICE_OFF_GRID),
        ({"price": p("0")}, GuardCode.PRICE_OFF_GRID),
        ({"qty": q("4.99")}, GuardCode.QTY_INVALID),
        ({"qty": q("10.001")}, GuardCode.QTY_INVALID),
        ({"tif": TimeInForce.FOK}, GuardCode.KIND_NOT_OFFERED),
        ({"tif": TimeInForce.GTD}, GuardCode.KIND_NOT_OFFERED),
        ({"ts": -1}, GuardCode.FIELDS_INVALID),
    ],
)
def test_what_is_no_order_is_never_signed(changes: dict[str, object], code: GuardCode) -> None:
    assert refused(guard(), structs.replace(ORDER, **changes)) is code


def test_a_grid_that_became_finer_is_followed() -> None:
    guarded = SigningGuard(
        SecretKey(SECRET), instruments={TOKEN: INSTRUMENT}, lease_alive=Lease(),
        tick_of=lambda _token: p("0.001"),
    )  # fmt: skip
    finer = structs.replace(ORDER, price=p("0.973"))
    assert guarded.sign_order(finer, OWNER).venue_order_id


def test_without_the_lease_nothing_at_all_is_signed() -> None:
    lease = Lease()
    guarded = guard(lease=lease)
    transactions = guarded.transactions()
    login = guarded.login_headers(1_760_000_000)
    assert login["POLY_SIGNATURE"] == (
        "0x39fb062ac2ac3dbddeddc003602b87262dc256ac12b026caf3e34b9a0493efc0480608acf2d6304739400d55"
        "fc17fcbe5042761f7d673e91a93278db61bdde5f1b"
    )
    to_self = Transaction(chain_id=POLYGON, nonce=0, priority_fee=1, fee_cap=1, gas=21_000,
                          to=guarded.address)  # fmt: skip
    assert transactions.sign(to_self).sender == guarded.address
    lease.alive = False
    assert refused(guarded, ORDER) is GuardCode.LEASE_LOST
    with pytest.raises(GuardRefused, match="LEASE_LOST"):
        guarded.login_headers(1_760_000_000)
    with pytest.raises(GuardRefused, match="LEASE_LOST"):
        transactions.sign(to_self)


def test_a_transfer_to_somebody_is_not_among_what_it_signs() -> None:
    theft = Transaction(chain_id=POLYGON, nonce=0, priority_fee=1, fee_cap=1, gas=21_000,
                        to="0x" + "99" * 20, value=1)  # fmt: skip
    with pytest.raises(ValueError, match="no POL"):
        guard().transactions().sign(theft)


def test_the_key_cannot_be_asked_for() -> None:
    guarded = guard()
    public = {name for name in dir(guarded) if not name.startswith("_")}
    for name in public:
        assert not isinstance(getattr(guarded, name), SecretKey), name
    shown = repr(guarded) + str(guarded) + repr(guarded.transactions())
    assert SECRET.hex() not in shown
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copying(guarded)


def test_a_chain_without_the_venue_is_refused() -> None:
    with pytest.raises(ContractError):
        guard(chain_id=1)
    with pytest.raises(ContractError):
        guard(chain_id=AMOY).transactions()
