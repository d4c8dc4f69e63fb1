"""Calls, transactions and plans: against the reference's selectors, eth-account and arithmetic."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from fleet.domain.commands import OperationKind
from fleet.domain.instruments import InstrumentId, MarketId, OutcomeSet, SetId, Universe
from fleet.domain.units import SCALE, Cash, Qty
from fleet.venues.polymarket.chain_account import wallet_problem
from fleet.venues.polymarket.chain_contracts import (
    Approve,
    ApproveForAll,
    CallUnknown,
    ChainCall,
    Contract,
    Convert,
    Merge,
    Redeem,
    Split,
    decode,
    encode,
    required_approvals,
    revert_words,
    word,
)
from fleet.venues.polymarket.chain_logs import TRANSFER, TRANSFER_SINGLE, moves_in
from fleet.venues.polymarket.chain_planning import OperationUnfit, plan
from fleet.venues.polymarket.chain_transactions import (
    Transaction,
    TransactionInvalid,
    TransactionSigner,
    read_transaction,
)
from fleet.venues.polymarket.contracts import (
    AMOY,
    POLYGON,
    ContractError,
    Exchange,
    SignatureType,
    exchange_address,
)
from fleet.venues.polymarket.keys import SecretKey, SigningError, checksum_address
from fleet.venues.port import AnswerInvalid
from tests.builders import c, market_id, no, q, universe, yes
from tests.chain_world import KEY, operation, signer

CONDITION = "0x" + "ab" * 32
WALLET = signer().address
STRANGER = checksum_address("0x" + "77" * 20)
GWEI = 10**9


# --- calls -------------------------------------------------------------------------------------

CALLS: list[tuple[ChainCall, str]] = [
    (Split(condition_id=CONDITION, amount=5, neg_risk=False), "72ce4275"),
    (Split(condition_id=CONDITION, amount=5, neg_risk=True), "72ce4275"),
    (Merge(condition_id=CONDITION, amount=7, neg_risk=True), "9e7212ad"),
    (Redeem(condition_id=CONDITION, neg_risk=False), "01b7037c"),
    (Convert(event_market_id="0x" + "cd" * 31 + "00", index_set=5, amount=9), "c64748c4"),
    (Approve(spender=Contract.CTF_ADAPTER.address), "095ea7b3"),
    (ApproveForAll(ledger=Contract.CTF, operator=STRANGER, approved=False), "a22cb465"),
]


@pytest.mark.parametrize(("call", "selector"), CALLS)
def test_a_call_has_the_published_selector_and_reads_back(call: ChainCall, selector: str) -> None:
    to, call_data = encode(call)
    assert call_data[:4].hex() == selector
    assert len(call_data) % 32 == 4
    assert decode(to, call_data) == call


def test_the_adapter_follows_the_market() -> None:
    adapters = [
        encode(Split(condition_id=CONDITION, amount=5, neg_risk=neg_risk))[0]
        for neg_risk in (False, True)
    ]
    assert adapters == [
        "0xAdA100Db00Ca00073811820692005400218FcE1f",
        "0xadA2005600Dec949baf300f4C6120000bDB6eAab",
    ]


def test_a_split_is_laid_out_word_by_word() -> None:
    _, call_data = encode(Split(condition_id=CONDITION, amount=5_000_000, neg_risk=False))
    words = [call_data[4 + i : 36 + i] for i in range(0, len(call_data) - 4, 32)]
    assert words[0][12:].hex() == Contract.PUSD.address[2:].lower()
    assert words[1] == bytes(32)
    assert words[2] == word(CONDITION)
    assert [int.from_bytes(w, "big") for w in words[3:]] == [160, 5_000_000, 2, 1, 2]


@pytest.mark.parametrize(
    ("to", "call_data"),
    [
        (Contract.CTF_ADAPTER.address, ""),
        (Contract.CTF_ADAPTER.address, "deadbeef"),
        (STRANGER, "095ea7b3" + "00" * 64),
        (Contract.CTF.address, "095ea7b3" + "00" * 64),
        (Contract.PUSD.address, "095ea7b3" + "00" * 40),
        (Contract.PUSD.address, "a9059cbb" + "00" * 64),  # transfer
        (Contract.CTF_ADAPTER.address, "c64748c4" + "00" * 96),  # convert is the other adapter's
    ],
)
def test_other_calls_are_unknown(to: str, call_data: str) -> None:
    with pytest.raises(CallUnknown):
        decode(to, bytes.fromhex(call_data))


@pytest.mark.parametrize("text", ["", "0x12", "ab" * 33, "0x" + "gg" * 32])
def test_a_malformed_id_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="64 hex digits"):
        encode(Redeem(condition_id=text, neg_risk=False))


def test_nothing_is_not_an_amount() -> None:
    with pytest.raises(ContractError, match="cannot be moved"):
        encode(Split(condition_id=CONDITION, amount=0, neg_risk=False))


def test_the_approvals_are_those_of_the_trading_contracts_alone() -> None:
    found = required_approvals()
    trusted = {a.call.spender for a in found if isinstance(a.call, Approve)}
    assert trusted == {
        *(exchange_address(POLYGON, e) for e in Exchange),
        Contract.CTF_ADAPTER.address,
        Contract.NEG_RISK_CTF_ADAPTER.address,
    }
    with pytest.raises(ContractError, match="Polygon"):
        required_approvals(AMOY)


def test_reverts_are_told_in_words() -> None:
    text = bytes.fromhex("08c379a0" + f"{32:064x}{3:064x}" + "616263".ljust(64, "0"))
    assert revert_words(text) == "abc"
    assert "allowance" in revert_words(bytes.fromhex("7939f424"))
    assert revert_words(b"") == "reverted without a word"
    assert revert_words(bytes.fromhex("08c379a0ff")) == "0x08c379a0ff"
    assert revert_words(bytes.fromhex("12345678")) == "0x12345678"


# --- transactions ------------------------------------------------------------------------------


def made(**changes: object) -> Transaction:
    to, call_data = encode(Split(condition_id=CONDITION, amount=5, neg_risk=False))
    usual = Transaction(
        chain_id=POLYGON, nonce=7, priority_fee=30 * GWEI, fee_cap=90 * GWEI, gas=300_000,
        to=to, call_data=call_data,
    )  # fmt: skip
    return replace(usual, **changes)  # type: ignore[arg-type]


def as_web3(transaction: Transaction) -> dict[str, object]:
    return {
        "type": 2, "chainId": transaction.chain_id, "nonce": transaction.nonce,
        "maxPriorityFeePerGas": transaction.priority_fee, "maxFeePerGas": transaction.fee_cap,
        "gas": transaction.gas, "to": transaction.to, "value": transaction.value,
        "data": "0x" + transaction.call_data.hex(),
    }  # fmt: skip


@given(
    nonce=st.integers(0, 2**63), tip=st.integers(0, 10**11), gas=st.integers(21_000, 10**6),
    neg_risk=st.booleans(), amount=st.integers(1, 2**200),
)  # fmt: skip
def test_eth_account_signs_the_very_same_bytes(
    nonce: int, tip: int, gas: int, neg_risk: bool, amount: int
) -> None:
    to, call_data = encode(Merge(condition_id=CONDITION, amount=amount, neg_risk=neg_risk))
    ours = made(nonce=nonce, priority_fee=tip, fee_cap=10**12, gas=gas, to=to, call_data=call_data)
    signed = signer().sign(ours)
    theirs = Account.sign_transaction(as_web3(ours), KEY)
    assert signed.raw == "0x" + bytes(theirs.raw_transaction).hex()
    assert signed.transaction_hash == "0x" + bytes(theirs.hash).hex()
    assert ours.digest == bytes(TypedTransaction.from_dict(as_web3(ours)).hash())
    assert read_transaction(signed.raw) == signed
    assert Account.recover_transaction(signed.raw) == WALLET


def test_signing_again_gives_the_same_hash() -> None:
    assert signer().sign(made()) == signer().sign(made())
    assert signer().sign(made(nonce=8)).transaction_hash != signer().sign(made()).transaction_hash


def test_bytes_that_are_no_transaction_are_refused() -> None:
    raw = bytes.fromhex(signer().sign(made()).raw[2:])
    legacy = Account.sign_transaction(
        {"nonce": 0, "gasPrice": 1, "gas": 21_000, "to": WALLET, "value": 0, "chainId": 137}, KEY
    )
    for bad, words in (
        ("zz", "hex"),
        ("0x", "type not supported"),
        ("0x" + bytes(legacy.raw_transaction).hex(), "type not supported"),
        ("0x02" + "c0", "number of fields"),
        ("0x" + raw[:-1].hex(), "rlp"),
        ("0x" + raw.hex() + "00", "rlp"),
    ):
        with pytest.raises(TransactionInvalid, match=words):
            read_transaction(bad)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"value": 1}, "sends no POL"),
        ({"chain_id": 1}, "for chain 1"),
        ({"fee_cap": 10**15}, "is the node sound"),
        ({"gas": 10**8, "fee_cap": 1}, "is the node sound"),
        ({"to": STRANGER}, "no call known"),
        ({"to": STRANGER, "call_data": b""}, "no call known"),
        ({"call_data": bytes.fromhex("a9059cbb") + bytes(64)}, "no call known"),
    ],
)
def test_the_signer_signs_nothing_else(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SigningError, match=words):
        signer().sign(made(**changes))


@pytest.mark.parametrize(
    ("call", "signs"),
    [
        (Approve(spender=STRANGER), False),
        (Approve(spender=STRANGER, amount=0), True),
        (Approve(spender=Contract.CTF_ADAPTER.address), True),
        (ApproveForAll(ledger=Contract.CTF, operator=STRANGER), False),
        (ApproveForAll(ledger=Contract.CTF, operator=STRANGER, approved=False), True),
        (ApproveForAll(ledger=Contract.CTF, operator=Contract.CTF_ADAPTER.address), True),
        (
            ApproveForAll(ledger=Contract.POSITION_MANAGER, operator=Contract.CTF_ADAPTER.address),
            False,
        ),
    ],
)
def test_only_the_venues_contracts_are_ever_trusted(call: ChainCall, signs: bool) -> None:
    to, call_data = encode(call)
    if signs:
        signer().sign(made(to=to, call_data=call_data))
        return
    with pytest.raises(SigningError, match="not the venue's"):
        signer().sign(made(to=to, call_data=call_data))


def test_every_required_approval_can_be_signed() -> None:
    for approval in required_approvals():
        to, call_data = encode(approval.call)
        signer().sign(made(to=to, call_data=call_data))


def test_without_the_permit_nothing_is_signed() -> None:
    def lost() -> None:
        raise RuntimeError("the lease is gone")

    guarded = TransactionSigner(SecretKey(KEY), chain_id=POLYGON, permit=lost)
    with pytest.raises(RuntimeError, match="lease"):
        guarded.sign(made())


def test_the_signer_shows_no_key() -> None:
    shown = repr(signer()) + repr(vars(signer()))
    assert KEY.hex() not in shown
    assert str(int.from_bytes(KEY, "big")) not in shown
    with pytest.raises(TypeError):
        pickle.dumps(signer())


def test_the_empty_transaction_to_oneself_may_be_signed() -> None:
    signer().sign(made(to=WALLET, call_data=b"", gas=21_000))


def test_other_wallets_are_told_what_to_do() -> None:
    assert wallet_problem(SignatureType.EOA) == ""
    for kind in (SignatureType.POLY_PROXY, SignatureType.POLY_1271):
        assert "use an EOA wallet" in wallet_problem(kind)


# --- plans -------------------------------------------------------------------------------------


def hexed(number: int, neg_risk: bool = True) -> Universe:
    """``number`` markets of one set, with ids as on chain."""
    plain = universe(number)
    names = {market_id(n): MarketId(f"0x{n:064x}") for n in range(1, number + 1)}
    return Universe(
        instruments={
            t: replace(i, market_id=names[i.market_id], neg_risk=neg_risk)
            for t, i in plain.instruments.items()
        },
        markets={
            names[m]: replace(one, id=names[m], neg_risk=neg_risk)
            for m, one in plain.markets.items()
        },
        sets=(OutcomeSet(id=SetId("0x" + "ee" * 31 + "00"), title="s", markets=tuple(names.values())),),
    )  # fmt: skip


def test_splits_merges_and_redemptions_become_their_calls() -> None:
    known = hexed(1, neg_risk=False)
    pair = ((yes(), q("2.5")), (no(), q("2.5")))
    condition = f"0x{1:064x}"
    assert plan(operation(OperationKind.SPLIT, mint=pair, dollars="-2.5"), known) == Split(
        condition_id=condition, amount=2_500_000, neg_risk=False
    )
    assert plan(operation(OperationKind.MERGE, burn=pair, dollars="2.5"), known) == Merge(
        condition_id=condition, amount=2_500_000, neg_risk=False
    )
    redeem = operation(OperationKind.REDEEM, burn=pair[:1], dollars="2.5")
    assert plan(redeem, known) == Redeem(condition_id=condition, neg_risk=False)


def test_a_convert_uses_the_chains_numbering() -> None:
    known = hexed(3)
    indices = {MarketId(f"0x{n:064x}"): i for n, i in ((1, 2), (2, 0), (3, 1))}
    convert = operation(
        OperationKind.CONVERT,
        burn=((no(1), q("4")), (no(3), q("4"))), mint=((yes(2), q("4")),), dollars="4",
    )  # fmt: skip
    assert plan(convert, known, indices) == Convert(
        event_market_id=known.sets[0].id, index_set=0b110, amount=4_000_000
    )


BAD = [
    (OperationKind.SPLIT, (), ((yes(), q("1")), (no(), q("2"))), "-1", "same quantity"),
    (OperationKind.SPLIT, (), ((yes(), q("1")), (yes(2), q("1"))), "-1", "same quantity"),
    (OperationKind.SPLIT, (), ((yes(), q("1")), (no(), q("1"))), "-0.9", "the contract gives"),
    (OperationKind.SPLIT, ((yes(2), q("1")),), ((yes(), q("1")), (no(), q("1"))), "-1", "cannot"),
    (OperationKind.SPLIT, (), ((yes(), q("0")), (no(), q("0"))), "0", "moves nothing"),
    (OperationKind.MERGE, ((yes(), q("1")), (no(), q("1"))), (), "1.1", "the contract gives"),
    (OperationKind.MERGE, ((InstrumentId("x"), q("1")), (no(), q("1"))), (), "1", "catalogue"),
    (OperationKind.REDEEM, ((yes(), q("1")), (yes(2), q("1"))), (), "1", "one market"),
    (OperationKind.REDEEM, (), (), "0", "one market"),
    (OperationKind.CONVERT, ((no(), q("1")),), (), "0", "two NO tokens"),
    (OperationKind.CONVERT, ((no(), q("1")), (no(2), q("2"))), (), "1", "same quantity"),
    (OperationKind.CONVERT, ((no(), q("1")), (yes(2), q("1"))), (), "1", "not the NO"),
    (OperationKind.CONVERT, ((no(), q("1")), (no(2), q("1"))), (), "1", "would mint"),
]


@pytest.mark.parametrize(("kind", "burn", "mint", "dollars", "words"), BAD)
def test_a_plan_that_no_call_carries_out_is_refused(
    kind: OperationKind,
    burn: tuple[tuple[InstrumentId, Qty], ...],
    mint: tuple[tuple[InstrumentId, Qty], ...],
    dollars: str,
    words: str,
) -> None:
    indices = {MarketId(f"0x{n:064x}"): n - 1 for n in (1, 2, 3)}
    with pytest.raises(OperationUnfit, match=words):
        plan(operation(kind, burn=burn, mint=mint, dollars=dollars), hexed(3), indices)


@given(st.integers(1, 10**15))
def test_amounts_cross_exactly_or_not_at_all(quantity: int) -> None:
    pair = ((yes(), Qty(quantity)), (no(), Qty(quantity)))
    split = operation(OperationKind.SPLIT, mint=pair)

    split = changed(split, cash=Cash(-quantity))
    if quantity % 100:
        with pytest.raises(OperationUnfit, match="base units"):
            plan(split, hexed(1))
    else:
        call = plan(split, hexed(1))
        assert isinstance(call, Split)
        assert call.amount * 100 == quantity


# --- logs --------------------------------------------------------------------------------------


def topic(address: str) -> str:
    return "0x" + address[2:].lower().rjust(64, "0")


def log(at: str, signature: bytes, route: tuple[str, ...], *numbers: int) -> dict[str, object]:
    payload = b"".join(n.to_bytes(32, "big") for n in numbers)
    topics = ["0x" + signature.hex(), *(topic(a) for a in route)]
    return {"address": at, "topics": topics, "data": "0x" + payload.hex()}


def test_only_the_tokens_own_contracts_are_believed() -> None:
    pusd, ctf = Contract.PUSD.address, Contract.CTF.address
    logs = [
        log(pusd, TRANSFER, (WALLET, STRANGER), 5),
        log(pusd, TRANSFER, (STRANGER, WALLET), 7),
        log(pusd, TRANSFER, (STRANGER, STRANGER), 100),
        log(STRANGER, TRANSFER, (STRANGER, WALLET), 10**9),
        log(ctf, TRANSFER_SINGLE, (STRANGER, STRANGER, WALLET), 42, 3),
        log(ctf, TRANSFER_SINGLE, (STRANGER, WALLET, STRANGER), 43, 4),
        log(STRANGER, TRANSFER_SINGLE, (STRANGER, STRANGER, WALLET), 44, 5),
    ]
    moves = moves_in(logs, WALLET)
    assert moves.cash == c("0.000002")
    assert moves.mint == ((InstrumentId("42"), Qty(300)),)
    assert moves.burn == ((InstrumentId("43"), Qty(400)),)
    assert SCALE // 10**6 == 100


def test_a_log_that_cannot_be_read_is_no_move() -> None:
    with pytest.raises(AnswerInvalid):
        moves_in([log(Contract.PUSD.address, TRANSFER, (WALLET, STRANGER))], WALLET)
    with pytest.raises(AnswerInvalid):
        moves_in([log(Contract.PUSD.address, TRANSFER, (WALLET,), 5)], WALLET)
