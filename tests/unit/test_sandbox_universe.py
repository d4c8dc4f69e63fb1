"""What the sandbox lists."""

from itertools import pairwise

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE
from fleet.sandbox.questions import CENT, MILL
from fleet.sandbox.universe import EventSpec, UniverseBuilder

START_NS = 1_795_000_000 * NS_PER_SECOND


@pytest.fixture(scope="module")
def events() -> tuple[EventSpec, ...]:
    return UniverseBuilder(7, START_NS).build()


def test_the_breadth_a_newcomer_needs(events: tuple[EventSpec, ...]) -> None:
    singles = [e for e in events if e.kind == "single"]
    plain_sets = [e for e in events if e.kind == "set" and not e.augmented]
    assert len(singles) >= 20
    assert len(plain_sets) == 2
    assert all(len(e.markets) >= 5 for e in plain_sets)
    assert {e.kind for e in events} == {"single", "set", "by_date", "above"}
    markets = [m for e in events for m in e.markets]
    assert {m.fees.rate for m in markets} == {0, 4_000_000, 5_000_000, 7_000_000}
    assert {m.tick for m in markets} == {CENT, MILL}


def test_ids_look_like_the_venue_s_and_none_occurs_twice(events: tuple[EventSpec, ...]) -> None:
    markets = [m for e in events for m in e.markets]
    tokens = [t for m in markets for t in m.tokens]
    for found in (
        tokens,
        [m.condition_id for m in markets],
        [m.question_id for m in markets],
        [m.id for m in markets],
        [m.slug for m in markets],
        [e.id for e in events],
    ):
        assert len(found) == len(set(found))
    assert all(t.isdigit() and int(t) < 2**256 for t in tokens)
    assert all(len(m.condition_id) == 66 and int(m.condition_id, 16) for m in markets)


def test_neg_risk_questions_count_up_from_the_set_s_id(events: tuple[EventSpec, ...]) -> None:
    for event in events:
        assert bool(event.neg_risk_market_id) == (event.kind == "set")
        for index, market in enumerate(event.markets):
            assert market.neg_risk == (event.kind == "set")
            if market.neg_risk:
                assert event.neg_risk_market_id.endswith("00")
                assert int(market.question_id, 16) == int(event.neg_risk_market_id, 16) + index


def test_sets_sum_to_one_and_ladders_rise(events: tuple[EventSpec, ...]) -> None:
    for event in events:
        if event.kind == "set":
            assert sum(m.fair for m in event.markets) == pytest.approx(1.0)
        if event.kind in {"by_date", "above"}:
            assert all(a.fair < b.fair for a, b in pairwise(event.rungs))
        if event.kind == "by_date":
            assert all(a.end_ns < b.end_ns for a, b in pairwise(event.rungs))
        if event.kind == "above":
            strikes = [int(m.group_item_title.replace(",", "")) for m in event.rungs]
            assert strikes == sorted(strikes, reverse=True)


def test_only_the_augmented_set_has_placeholders(events: tuple[EventSpec, ...]) -> None:
    for event in events:
        assert any(m.placeholder for m in event.markets) == event.augmented
        assert any(m.neg_risk_other for m in event.markets) == event.augmented


def test_everything_ends_after_the_start(events: tuple[EventSpec, ...]) -> None:
    assert all(m.end_ns > START_NS for e in events for m in e.markets)


def test_the_timed_market_names_its_window() -> None:
    window_ns = START_NS - START_NS % (300 * NS_PER_SECOND)
    event = UniverseBuilder(7, START_NS).updown(window_ns)
    again = UniverseBuilder(7, START_NS + NS_PER_SECOND).updown(window_ns)
    (market,) = event.markets
    assert market.outcomes == ("Up", "Down")
    assert market.end_ns == window_ns + 300 * NS_PER_SECOND
    assert again.markets[0].tokens == market.tokens
    assert market.fees.rate == 7 * SCALE // 100
