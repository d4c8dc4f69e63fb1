"""Frames and REST objects: exact keys, texts and numbers, and the venue's book hash."""

import json
from itertools import pairwise
from typing import Any

import pytest
from py_clob_client_v2.clob_types import OrderBookSummary, OrderSummary
from py_clob_client_v2.utilities import generate_orderbook_summary_hash

from fleet.clock import NS_PER_SECOND
from fleet.domain.events import (
    BookChanged,
    BookSnapshot,
    FrameRejected,
    MarketListed,
    MarketResolved,
    TickSizeChanged,
    TradePrinted,
)
from fleet.domain.units import parse_price
from fleet.sandbox import clob, gamma
from fleet.sandbox.market_frames import book_object
from fleet.sandbox.simulator import MarketSimulator, SimulatorSettings
from fleet.venues.polymarket.wire import Decoder

START_NS = 1_795_000_000 * NS_PER_SECOND
BOOK = "market asset_id timestamp hash bids asks min_order_size tick_size neg_risk last_trade_price"
# Reference 5.1, with what the venue's documentation shows of each.
FIELDS = {
    "book": BOOK,
    "price_change": "market price_changes timestamp",
    "last_trade_price": "market asset_id price size side fee_rate_bps transaction_hash timestamp",
    "tick_size_change": "market asset_id old_tick_size new_tick_size timestamp",
    "best_bid_ask": "market asset_id best_bid best_ask spread timestamp",
    "new_market": "id question market slug description assets_ids outcomes event_message tags"
    " condition_id active clob_token_ids sports_market_type line game_start_time"
    " order_price_min_tick_size group_item_title taker_base_fee fees_enabled fee_schedule timestamp",
    "market_resolved": "id market assets_ids winning_asset_id winning_outcome event_message tags"
    " timestamp",
}
FACTS: dict[str, type] = {
    "book": BookSnapshot,
    "price_change": BookChanged,
    "last_trade_price": TradePrinted,
    "tick_size_change": TickSizeChanged,
    "new_market": MarketListed,
    "market_resolved": MarketResolved,
}


@pytest.fixture(scope="module")
def found() -> MarketSimulator:
    return MarketSimulator(SimulatorSettings(speed=4), START_NS)


@pytest.fixture(scope="module")
def frames(found: MarketSimulator) -> dict[str, list[bytes]]:
    by_type: dict[str, list[bytes]] = {}
    for frame in found.step(START_NS + 320 * NS_PER_SECOND):
        by_type.setdefault(frame.event_type, []).append(frame.payload)
    return by_type


@pytest.mark.parametrize("event_type", FIELDS)
def test_every_message_has_exactly_the_venue_s_fields(
    frames: dict[str, list[bytes]], event_type: str
) -> None:
    assert frames[event_type]
    for payload in frames[event_type]:
        message = json.loads(payload)
        assert list(message)[-1] == "event_type" or event_type == "new_market"
        assert set(message) == {*FIELDS[event_type].split(), "event_type"}
        assert message["event_type"] == event_type
        assert message["timestamp"].isdigit()
        assert len(message["timestamp"]) == 13


def test_price_changes_are_texts_and_come_in_mirrored_pairs(
    frames: dict[str, list[bytes]], found: MarketSimulator
) -> None:
    for payload in frames["price_change"]:
        entries = json.loads(payload)["price_changes"]
        assert len(entries) % 2 == 0
        for yes, no in zip(entries[::2], entries[1::2], strict=True):
            keys = {"asset_id", "price", "size", "side", "hash", "best_bid", "best_ask"}
            assert set(yes) == set(no) == keys
            assert all(isinstance(v, str) for v in [*yes.values(), *no.values()])
            assert parse_price(yes["price"]) + parse_price(no["price"]) == parse_price("1")
            assert yes["size"] == no["size"]
            assert {yes["side"], no["side"]} == {"BUY", "SELL"}
            assert parse_price(yes["best_bid"]) + parse_price(no["best_ask"]) == parse_price("1")


@pytest.mark.parametrize("event_type", [*FIELDS])
def test_our_own_parser_reads_every_message(
    frames: dict[str, list[bytes]], event_type: str
) -> None:
    decoder = Decoder()
    for payload in frames[event_type]:
        facts = decoder.decode(payload, 0)
        assert not any(isinstance(f, FrameRejected) for f in facts), facts
        if event_type in FACTS:
            assert [type(f) for f in facts] == [FACTS[event_type]]


def test_the_book_hash_is_the_one_py_clob_client_computes(found: MarketSimulator) -> None:
    for market in found.listings.markets:
        for outcome in (0, 1):
            book = book_object(market, outcome)
            summary = OrderBookSummary(
                market=book["market"], asset_id=book["asset_id"], timestamp=book["timestamp"],
                bids=[OrderSummary(**level) for level in book["bids"]],
                asks=[OrderSummary(**level) for level in book["asks"]],
                min_order_size=book["min_order_size"], neg_risk=book["neg_risk"],
                tick_size=book["tick_size"], last_trade_price=book["last_trade_price"],
                hash=book["hash"],
            )  # fmt: skip
            assert generate_orderbook_summary_hash(summary) == book["hash"]


def test_best_levels_come_last(found: MarketSimulator) -> None:
    for market in found.listings.markets:
        book = book_object(market, 0)
        bids = [parse_price(x["price"]) for x in book["bids"]]
        asks = [parse_price(x["price"]) for x in book["asks"]]
        assert bids == sorted(bids)
        assert asks == sorted(asks, reverse=True)


def test_clob_market_objects(found: MarketSimulator) -> None:
    market = found.listings.markets[0]
    full = clob.market_object(market)
    assert [t["token_id"] for t in full["tokens"]] == list(market.spec.tokens)
    assert sum(t["price"] for t in full["tokens"]) == pytest.approx(1)
    assert isinstance(full["minimum_tick_size"], float)
    compact = clob.compact_market(market)
    assert compact["fd"] == {"r": 0.07, "e": 1, "to": True}
    assert compact["t"] == [
        {"t": market.spec.tokens[0], "o": "Yes"}, {"t": market.spec.tokens[1], "o": "No"},
    ]  # fmt: skip
    free = next(m for m in found.listings.markets if m.spec.category == "geopolitics")
    assert "fd" not in clob.compact_market(free)
    assert gamma.market_object(free)["feesEnabled"] is False


def test_gamma_puts_lists_into_texts(found: MarketSimulator) -> None:
    row = gamma.market_object(found.listings.markets[0])
    for key in ("outcomes", "outcomePrices", "clobTokenIds"):
        assert isinstance(row[key], str)
        inside: list[Any] = json.loads(row[key])
        assert len(inside) == 2
        assert all(isinstance(x, str) for x in inside)
    assert row["outcomes"] == '["Yes", "No"]'


def test_history_is_one_point_a_minute_and_now(found: MarketSimulator) -> None:
    market = found.listings.markets[0]
    now_s = found.now_ns // NS_PER_SECOND
    shown = clob.price_history(
        market, 1, start_s=0, end_s=now_s, fidelity_min=1, now_ns=found.now_ns
    )["history"]
    assert [set(p) for p in shown] == [{"t", "p"}] * len(shown)
    assert shown[-1]["t"] == now_s
    assert all(b["t"] - a["t"] >= 60 for a, b in pairwise(shown[:-1]))
    assert len(shown) >= 5
    few = clob.price_history(
        market, 0, start_s=now_s - 150, end_s=now_s, fidelity_min=2, now_ns=found.now_ns
    )["history"]
    assert 2 <= len(few) < len(shown)
