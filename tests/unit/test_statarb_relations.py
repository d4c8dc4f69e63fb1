"""Which relations a universe names, which questions are digitals, and which limits markets share."""

from __future__ import annotations

import pytest

from fleet.domain.instruments import InstrumentId, Ladder, Market, MarketId, Universe
from fleet.domain.units import SCALE
from fleet.strategies.statarb_relations import (
    Kind,
    Relations,
    Threshold,
    pair,
    read_threshold,
    symbol_of,
)
from tests.builders import DAY, instrument, market_id, universe


def asked(question: str, *, end_ns: int = DAY) -> Market:
    return Market(
        id=MarketId("m"),
        question=question,
        yes=InstrumentId("y"),
        no=InstrumentId("n"),
        end_ns=end_ns,
    )


@pytest.mark.parametrize(
    ("question", "symbol", "low", "high"),
    [
        ("Will the price of Bitcoin be above $66,000 on June 26?", "BTC", 66_000, None),
        ("Will the price of Ethereum be greater than $2,200 on June 28?", "ETH", 2_200, None),
        ("Will the price of Bitcoin be less than $54,000 on June 30?", "BTC", None, 54_000),
        ("Will the price of Solana be between $30 and $40 on June 28?", "SOL", 30, 40),
        ("Bitcoin above 120k on Jul 4?", "BTC", 120_000, None),
    ],
)
def test_digitals_are_read(question: str, symbol: str, low: int | None, high: int | None) -> None:
    found = read_threshold(asked(question))
    assert found == Threshold(
        symbol=symbol,
        low=None if low is None else low * SCALE,
        high=None if high is None else high * SCALE,
        end_ns=DAY,
    )
    assert found.strip == (symbol, DAY)


@pytest.mark.parametrize(
    "question",
    [
        "Will Bitcoin reach $100,000 in June?",
        "Will Bitcoin dip to $54,000 June 22-28?",
        "Will Bitcoin be above $66,000 by June 26?",
        "Will Bitcoin ever be above $66,000 on June 26?",
        "Will Bitcoin or Ethereum be above $66,000 on June 26?",
        "Will Bitcoin be above $66,000 and below $70,000 on June 26?",
        "Will the price of Bitcoin be between $70,000 and $66,000 on June 26?",
        "Will the price of gold be above $3,000 on June 26?",
        "Ostium FDV above $300M one day after launch?",
        "Will the Bitcoin Volatility Index be above 60 on June 26?",
        "Bitcoin Up or Down on June 24?",
        "",
    ],
)
def test_what_is_not_plainly_a_digital_is_none(question: str) -> None:
    assert read_threshold(asked(question)) is None


def test_a_digital_needs_its_end() -> None:
    assert read_threshold(asked("Bitcoin above 66,000 on June 26?", end_ns=0)) is None


@pytest.mark.parametrize(
    ("name", "symbol"), [("BTC", "BTC"), ("btc/usd", "BTC"), ("ETHUSDT", "ETH"), ("USD", "USD")]
)
def test_references_are_told_by_their_symbol(name: str, symbol: str) -> None:
    assert symbol_of(name) == symbol


def test_sets_and_neighbouring_rungs_are_relations() -> None:
    whole = Relations(universe(3, one_set=True), max_legs=12)
    assert [(r.kind, r.legs) for r in whole.fixed] == [
        (Kind.SET, ((market_id(1), 1), (market_id(2), 1), (market_id(3), 1)))
    ]
    rungs = Relations(universe(3, ladder=True), max_legs=12)
    assert [(r.kind, r.legs) for r in rungs.fixed] == [
        (Kind.LADDER, ((market_id(2), 1), (market_id(1), -1))),
        (Kind.LADDER, ((market_id(3), 1), (market_id(2), -1))),
    ]


def test_sets_that_are_long_or_open_are_left_out() -> None:
    assert not Relations(universe(3, one_set=True), max_legs=2).fixed
    assert not Relations(universe(3, one_set=True, augmented=True), max_legs=12).fixed


def test_a_relation_is_found_again_by_its_key_alone() -> None:
    world = universe(3, ladder=True)
    relations = Relations(world, max_legs=12)
    for relation in relations.fixed:
        assert relations.named(relation.key) == relation
    against = pair(market_id(1), market_id(3), together=False)
    assert against.legs == ((market_id(1), 1), (market_id(3), 1))
    assert Relations(world, max_legs=12).named(against.key) == against


@pytest.mark.parametrize(
    "key", ["PAIR|+|m1|m9", "PAIR|+|m1|m1", "PAIR|*|m1|m2", "PAIR|m1|m2", "LADDER:x:y", ""]
)
def test_keys_of_nothing_known_name_nothing(key: str) -> None:
    assert Relations(universe(2), max_legs=12).named(key) is None


def test_markets_of_one_underlying_share_a_limit_whatever_their_event() -> None:
    markets = {
        market_id(n): Market(
            id=market_id(n), question=question, yes=InstrumentId(f"y{n}"),
            no=InstrumentId(f"n{n}"), event_id=event, category="crypto", end_ns=DAY,
        )
        for n, question, event in (
            (1, "Bitcoin above 60,000 on June 26?", "a"),
            (2, "Will Bitcoin reach $90,000 in June?", "b"),
            (3, "Will it rain?", "c"),
            (4, "Will it snow?", ""),
        )
    }  # fmt: skip
    tokens = {
        token: instrument(token, other, market.id)
        for market in markets.values()
        for token, other in ((market.yes, market.no), (market.no, market.yes))
    }
    ladder = Ladder(id="l", title="", rungs=(market_id(3), market_id(4)))
    relations = Relations(
        Universe(instruments=tokens, markets=markets, ladders=(ladder,)), max_legs=12
    )

    def groups(first: int, second: int) -> tuple[str, ...]:
        return relations.groups(pair(market_id(first), market_id(second), together=True))

    assert groups(1, 2) == ("underlying:BTC",)
    assert groups(1, 3) == ("underlying:BTC", "event:c", "ladder:l")
    assert groups(3, 4) == ("event:c", "ladder:l")
    assert relations.related(market_id(1)) == relations.related(market_id(2)) == "underlying:BTC"


def test_a_market_alone_is_paired_within_its_category() -> None:
    world = universe(1)
    assert Relations(world, max_legs=12).related(market_id(1)) == "market:m1"
    lone = Market(
        id=market_id(1), question="?", yes=InstrumentId("y1"), no=InstrumentId("n1"), category="x"
    )
    known = Universe(instruments=world.instruments, markets={lone.id: lone})
    assert Relations(known, max_legs=12).related(lone.id) == "category:x"
