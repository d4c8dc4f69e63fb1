"""Logs read as facts: layouts, legs, prices, and what is refused."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode as abi_encode
from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.instruments import Side
from fleet.venues.polymarket.contracts import POLYGON, Exchange, exchange_address
from fleet.venues.polymarket.keys import SigningError, checksum_address, keccak
from fleet.venues.polymarket.leader_logs import (
    EXCHANGES_V1,
    ORDER_FILLED,
    ORDER_FILLED_V1,
    TRANSFER_BATCH,
    TRANSFER_SINGLE,
    ChainLog,
    LeaderContracts,
    LeaderLogs,
    LogMalformed,
    topic_of,
)
from fleet.venues.polymarket.leader_moves import CASH_MOVED, CONVERTED, MERGED, REDEEMED, moves_of

ALICE = checksum_address("0x" + "a1" * 20)
BOB = checksum_address("0x" + "b2" * 20)
AT = exchange_address(POLYGON, Exchange.STANDARD_V2)
V2_TYPES = ("uint8", "uint256", "uint256", "uint256", "uint256", "bytes32", "bytes32")
READER = LeaderLogs([ALICE], LeaderContracts(exchanges_v1=EXCHANGES_V1))


def log_of(
    *topics: str, payload: str = "0x", at: str = AT, index: int = 3, tx: str = "0xAB"
) -> ChainLog:
    return ChainLog(
        address=at, topics=topics, data=payload, block_number="0x10", block_hash="0xFE",
        transaction_hash=tx, log_index=hex(index),
    )  # fmt: skip


def filled(
    side: int, token: int, given_: int, taken: int, *, maker: str = ALICE, taker: str = BOB,
    at: str = AT,
) -> ChainLog:  # fmt: skip
    values = (side, token, given_, taken, 55, bytes(32), bytes(32))
    payload = "0x" + abi_encode(V2_TYPES, values).hex()
    return log_of(
        ORDER_FILLED, "0x" + "01" * 32, topic_of(maker), topic_of(taker), payload=payload, at=at
    )


@pytest.mark.parametrize(
    ("topic", "event"),
    [
        (
            ORDER_FILLED,
            "OrderFilled(bytes32,address,address,uint8" + ",uint256" * 4 + ",bytes32,bytes32)",
        ),
        (
            ORDER_FILLED_V1,
            "OrderFilled(bytes32,address,address,uint256,uint256,uint256,uint256,uint256)",
        ),
        (TRANSFER_SINGLE, "TransferSingle(address,address,address,uint256,uint256)"),
        (TRANSFER_BATCH, "TransferBatch(address,address,address,uint256[],uint256[])"),
        (CASH_MOVED, "Transfer(address,address,uint256)"),
        (CONVERTED, "PositionsConverted(address,bytes32,uint256,uint256)"),
    ],
)
def test_topics_are_the_events_names(topic: str, event: str) -> None:
    assert topic == "0x" + keccak(event.encode()).hex()


def test_merges_and_redemptions_have_two_layouts_each() -> None:
    merges = (
        "PositionsMerge(address,address,bytes32,bytes32,uint256[],uint256)",
        "PositionsMerge(address,bytes32,uint256)",
    )
    redemptions = (
        "PayoutRedemption(address,address,bytes32,bytes32,uint256[],uint256)",
        "PayoutRedemption(address,bytes32,uint256[],uint256)",
    )
    assert {"0x" + keccak(event.encode()).hex() for event in merges} == MERGED
    assert {"0x" + keccak(event.encode()).hex() for event in redemptions} == REDEEMED


@given(
    side=st.sampled_from([0, 1]),
    token=st.integers(1, 2**256 - 1),
    shares=st.integers(1, 10**15),
    cash=st.integers(0, 10**15),
)
def test_the_price_is_the_nearest_and_the_fee_is_not_in_it(
    side: int, token: int, shares: int, cash: int
) -> None:
    amounts = (cash, shares) if side == 0 else (shares, cash)
    log = filled(side, token, *amounts)
    if cash > shares:
        with pytest.raises(LogMalformed):
            READER.trade(log, ts_event=1, ts_recv=2)
        return
    trade = READER.trade(log, ts_event=1, ts_recv=2)
    assert trade is not None
    assert trade.side is (Side.BUY if side == 0 else Side.SELL)
    assert (trade.instrument_id, trade.qty) == (str(token), shares * 100)
    assert 2 * abs(trade.price * shares - cash * 10**8) <= shares
    assert (trade.wallet, trade.sighting_id, trade.block) == (ALICE, "0xab:3", 16)
    assert trade.block_hash == "0xfe"


def test_the_leg_is_told_by_whom_the_fill_names_as_taker() -> None:
    resting = READER.trade(filled(0, 9, 4, 10), ts_event=1, ts_recv=1)
    own = READER.trade(filled(0, 9, 4, 10, taker=AT), ts_event=1, ts_recv=1)
    assert resting is not None
    assert own is not None
    assert (resting.maker, own.maker) == (True, False)


def test_what_nobody_asked_for_is_nobodys_trade() -> None:
    of_another = filled(0, 9, 4, 10, maker=BOB, taker=ALICE)
    elsewhere = filled(0, 9, 4, 10, at=BOB)
    dead = filled(0, 9, 4, 10, at=EXCHANGES_V1[0])
    for log in (of_another, elsewhere, dead):
        assert READER.trade(log, ts_event=1, ts_recv=1) is None


def test_a_fill_of_v1_has_its_side_in_the_assets() -> None:
    types = ("uint256",) * 5
    for gives, takes, side, cash in ((0, 7, Side.BUY, 30), (7, 0, Side.SELL, 60)):
        payload = "0x" + abi_encode(types, (gives, takes, 30, 60, 1)).hex()
        log = log_of(
            ORDER_FILLED_V1, "0x" + "01" * 32, topic_of(ALICE), topic_of(BOB), payload=payload,
            at=EXCHANGES_V1[1],
        )  # fmt: skip
        if side is Side.SELL:
            # 60 dollars for 30 shares is no trade.
            with pytest.raises(LogMalformed):
                READER.trade(log, ts_event=1, ts_recv=1)
            continue
        trade = READER.trade(log, ts_event=1, ts_recv=1)
        assert trade is not None
        assert (trade.side, trade.instrument_id, trade.price) == (side, "7", cash * 10**8 // 60)


@pytest.mark.parametrize(
    ("side", "token", "given_", "taken"),
    [(2, 9, 4, 10), (0, 0, 4, 10), (0, 9, 4, 0), (1, 9, 0, 4)],
)
def test_a_fill_that_cannot_be_is_malformed(side: int, token: int, given_: int, taken: int) -> None:
    with pytest.raises(LogMalformed):
        READER.trade(filled(side, token, given_, taken), ts_event=1, ts_recv=1)


@given(payload=st.text("0123456789abcdefgX", max_size=450), topics=st.integers(1, 5))
def test_no_log_makes_the_reader_guess(payload: str, topics: int) -> None:
    parts = [topic_of(ALICE)] * topics
    ledger = LeaderContracts().ledgers[0]
    for event, at in ((ORDER_FILLED, AT), (TRANSFER_SINGLE, ledger), (TRANSFER_BATCH, ledger)):
        log = log_of(event, *parts[1:], payload="0x" + payload, at=at)
        # Whatever is read of noise is malformed, or an exact layout by chance of its length.
        try:
            trade = READER.trade(log, ts_event=1, ts_recv=1) if at == AT else None
            transfer = READER.transfer(log) if at == ledger else None
        except LogMalformed:
            continue
        assert trade is None
        assert transfer is None or len(payload) % 64 == 0


def test_a_batch_names_as_many_amounts_as_tokens() -> None:
    ledger = LeaderContracts().ledgers[0]
    topics = (TRANSFER_BATCH, topic_of(BOB), topic_of(BOB), topic_of(ALICE))
    for tokens, amounts in (([1, 2], [3, 4]), ([1, 2], [3]), ([], [])):
        payload = "0x" + abi_encode(("uint256[]", "uint256[]"), (tokens, amounts)).hex()
        log = log_of(*topics, payload=payload, at=ledger)
        if len(tokens) != len(amounts):
            with pytest.raises(LogMalformed):
                READER.transfer(log)
            continue
        transfer = READER.transfer(log)
        assert transfer is not None
        assert [(int(t), n) for t, n in transfer.amounts] == list(zip(tokens, amounts, strict=True))


def test_a_settlement_is_not_told_as_a_move() -> None:
    ledger = LeaderContracts().ledgers[0]
    payload = "0x" + abi_encode(("uint256", "uint256"), (9, 10)).hex()
    by_exchange = log_of(
        TRANSFER_SINGLE, topic_of(AT), topic_of(BOB), topic_of(ALICE), payload=payload, at=ledger
    )
    by_another = log_of(
        TRANSFER_SINGLE, topic_of(BOB), topic_of(BOB), topic_of(ALICE), payload=payload, at=ledger,
        index=4,
    )  # fmt: skip
    fill = filled(0, 9, 4, 10)
    assert moves_of(READER, [by_exchange], ts_event=1, ts_recv=1) == []
    assert moves_of(READER, [by_another, fill], ts_event=1, ts_recv=1) == []
    assert len(moves_of(READER, [by_another], ts_event=1, ts_recv=1)) == 1


def test_wallets_are_normalised_and_strangers_refused() -> None:
    reader = LeaderLogs([ALICE.lower(), ALICE, BOB.lower()])
    assert reader.wallets == (ALICE, BOB)
    filters = reader.filters()
    assert filters[0]["topics"] == [[ORDER_FILLED], None, [topic_of(ALICE), topic_of(BOB)]]
    assert len(filters[0]["address"]) == 3
    with pytest.raises(SigningError):
        LeaderLogs(["0x12"])
