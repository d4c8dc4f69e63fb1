"""The grid of history, and which relations pass both parts of the window."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fleet.domain.instruments import InstrumentId, Market, MarketId, Universe
from fleet.domain.market import PricesSampled
from fleet.domain.units import SCALE
from fleet.strategies.statarb_fit import FitSettings, fit, signals
from fleet.strategies.statarb_history import History
from fleet.strategies.statarb_relations import Kind, Relations, pair
from tests.builders import NS, instrument, market_id, p, universe
from tests.statarb_world import (
    START_S,
    STEP_S,
    one_event,
    recording,
    reverting_pairs,
    together,
)

STEP_NS = STEP_S * NS
YEAR_S = 365 * 86_400


def sample(step: int, *quotes: tuple[int, str, str], late: int = 0) -> PricesSampled:
    at = step * STEP_NS + late
    return PricesSampled(at, at, [(market_id(n), p(bid), p(ask)) for n, bid, ask in quotes])


def history(count: int = 2, rows: int = 4) -> History:
    return History([market_id(n + 1) for n in range(count)], ["BTC"], step_ns=STEP_NS, rows=rows)


def settings(**changes: int) -> FitSettings:
    chosen = {
        "formation": 240, "validation": 160, "false_discovery": SCALE // 10,
        "broken_level": SCALE // 10, "min_half_life": SCALE, "max_half_life": 20 * SCALE,
        "min_mid": SCALE // 20, "max_candidates": 400, "max_pairs": 100,
    } | changes  # fmt: skip
    return FitSettings(**chosen)


def filled(paths: np.ndarray, world: Universe | None = None, *, rows: int = 400) -> History:
    quotes = recording(paths, world)
    ids = list(quotes.universe.markets)
    known = History(ids, [], step_ns=STEP_NS, rows=rows)
    for poll in quotes.polls:
        known.add(PricesSampled(poll.at_s * NS, poll.at_s * NS, poll.quotes))
    return known


def test_samples_fill_a_grid_and_gaps_stay_unknown() -> None:
    known = history()
    assert known.add(sample(10, (1, "0.40", "0.42"), (2, "0.10", "0.20")))
    assert known.add(sample(12, (1, "0.50", "0.52")))
    assert known.step == 12
    assert known.known == 3
    nan = math.nan
    expected = [[nan, nan], [0.41, 0.15], [nan, nan], [0.51, nan]]
    np.testing.assert_allclose(known.mids, expected, equal_nan=True)


def test_the_last_quote_of_a_step_stays_and_the_past_is_not_rewritten() -> None:
    known = history()
    known.add(sample(10, (1, "0.40", "0.42"), (2, "0.10", "0.20")))
    known.add(sample(10, (1, "0.60", "0.62"), late=NS))
    assert known.mids[-1].tolist() == pytest.approx([0.61, 0.15])
    known.add(sample(11))
    assert not known.add(sample(10, (1, "0.70", "0.72")))
    assert known.mids[-2].tolist() == pytest.approx([0.61, 0.15])


def test_a_long_silence_empties_the_grid() -> None:
    known = history()
    known.add(sample(10, (1, "0.40", "0.42")))
    known.add(sample(10_000, (1, "0.50", "0.52")))
    assert np.isfinite(known.mids).sum() == 1
    assert known.known == known.rows


def test_strangers_and_worthless_references_are_left_out() -> None:
    known = history()
    at = 10 * STEP_NS
    known.add(PricesSampled(at, at, [(MarketId("?"), p("0.1"), p("0.2"))], [("BTC/USD", 0)]))
    assert not np.isfinite(known.mids).any()
    assert not np.isfinite(known.references).any()
    known.add(PricesSampled(at, at, [], [("btcusdt", 60_000 * SCALE), ("DOGE", SCALE)]))
    assert known.references[-1].tolist() == [60_000.0]


def test_a_short_history_proves_nothing() -> None:
    known = filled(reverting_pairs(2, 399, seed=1), one_event(4))
    found = fit(known, Relations(one_event(4), max_legs=12), settings())
    assert not found.tested
    assert found.candidates == 0


def test_what_comes_back_is_proven_with_its_half_life() -> None:
    world = one_event(12)
    known = filled(reverting_pairs(6, 400, seed=3, life=4.0, width=0.03), world)
    found = fit(known, Relations(world, max_legs=12), settings())
    assert len(found.proven) >= 3
    own = {pair(market_id(2 * n + 1), market_id(2 * n + 2), together=True).key for n in range(6)}
    assert {one.key for one in found.proven} <= own
    lives = [found.tested[one.key].half_life / SCALE for one in found.proven]
    assert 2 <= np.median(lives) <= 7


def test_the_same_window_gives_the_same_fit_however_it_was_filled() -> None:
    world = one_event(8)
    paths = reverting_pairs(4, 900, seed=5, life=4.0, width=0.03)
    relations = Relations(world, max_legs=12)
    long = filled(paths, world)
    short = History(list(world.markets), [], step_ns=STEP_NS, rows=400)
    for poll in recording(paths, world).polls[-400:]:
        short.add(PricesSampled(poll.at_s * NS, poll.at_s * NS, poll.quotes))
    assert fit(long, relations, settings()) == fit(short, relations, settings())


def test_walks_that_look_alike_are_hardly_ever_proven() -> None:
    """Under the null of no relation at all the chance of any proof in a fit is below the rate."""
    world = one_event(20, size=20)
    relations = Relations(world, max_legs=12)
    fits = [
        fit(filled(together(20, 200, seed=seed), world, rows=200), relations,
            settings(formation=120, validation=80))
        for seed in range(100)
    ]  # fmt: skip
    assert np.mean([one.candidates for one in fits]) > 20
    # Binomial with n = 100 and p at most 0.1: more than 20 has a chance of one in a thousand.
    assert sum(bool(one.proven) for one in fits) <= 20


def test_a_level_that_moved_between_the_parts_is_no_relation() -> None:
    world = one_event(2)
    paths = reverting_pairs(1, 400, seed=3, life=3.0, width=0.02)
    relations = Relations(world, max_legs=12)
    key = pair(market_id(1), market_id(2), together=True).key
    assert fit(filled(paths, world), relations, settings()).tested[key].proven
    paths[240:, 1] += 0.06
    moved = fit(filled(np.clip(paths, 0.03, 0.97), world), relations, settings())
    assert not moved.tested[key].proven


def test_what_is_held_is_tested_even_if_it_is_no_candidate() -> None:
    world = one_event(4)
    paths = np.concatenate(
        [reverting_pairs(1, 400, seed=3, life=3.0, width=0.02), together(2, 400, seed=9)], axis=1
    )
    relations = Relations(world, max_legs=12)
    held = pair(market_id(1), market_id(3), together=True)
    without = fit(filled(paths, world), relations, settings(max_pairs=0))
    assert not without.tested
    found = fit(filled(paths, world), relations, settings(max_pairs=0), (held,))
    assert found.candidates == 0
    assert found.tested[held.key].broken
    assert not found.tested[held.key].proven


def test_missing_quotes_break_nothing() -> None:
    world = one_event(2)
    paths = reverting_pairs(1, 400, seed=3, life=3.0, width=0.02)
    known = filled(paths, world)
    known.mids[-120:, 1] = np.nan
    held = pair(market_id(1), market_id(2), together=True)
    tested = fit(known, Relations(world, max_legs=12), settings(), (held,)).tested[held.key]
    assert not tested.proven
    assert not tested.broken
    assert math.isnan(tested.validation_p)


def test_candidates_are_bounded() -> None:
    world = one_event(12, size=12)
    known = filled(together(12, 400, seed=2), world)
    found = fit(known, Relations(world, max_legs=12), settings(max_candidates=5))
    assert found.candidates == len(found.tested) == 5


def test_a_signal_says_how_far_out_the_spread_stands() -> None:
    world = universe(2, tick="0.001")
    paths = np.full((400, 2), 0.5)
    paths[:, 1] += np.where(np.arange(400) % 2, 0.01, -0.01)
    paths[-1, 1] = 0.56
    known = filled(paths, world)
    one = pair(market_id(2), market_id(1), together=True)
    found = signals(known, Relations(world, max_legs=12), {}, [one], 400)[one.key]
    assert found.z > 5 * SCALE
    assert found.target == pytest.approx(0, abs=SCALE // 1_000)
    assert found.sigma == pytest.approx(SCALE // 100, rel=0.1)
    known.mids[-1, 0] = np.nan
    assert not signals(known, Relations(world, max_legs=12), {}, [one], 400)
    assert signals(known, Relations(world, max_legs=12), {}, [], 400) == {}


def test_digitals_are_measured_against_their_underlying() -> None:
    """A strip priced at 60 % volatility: found again, and the strike that is off stands out."""
    from fleet.strategies.statarb_statistics import digital_price

    strikes = [58_000, 60_000, 62_000, 64_000]
    end_s = START_S + 3 * 86_400
    markets = {
        market_id(n): Market(
            id=market_id(n),
            question=f"Will the price of Bitcoin be above ${strike:,} on June 26?",
            yes=InstrumentId(f"y{n}"), no=InstrumentId(f"n{n}"), end_ns=end_s * NS,
        )
        for n, strike in enumerate(strikes, 1)
    }  # fmt: skip
    tokens = {
        token: instrument(token, other, market.id, tick="0.001")
        for market in markets.values()
        for token, other in ((market.yes, market.no), (market.no, market.yes))
    }
    world = Universe(instruments=tokens, markets=markets)
    rng = np.random.default_rng(8)
    spot = 61_000 * np.exp(np.cumsum(rng.normal(size=400) * 0.0008))
    years = (end_s - START_S - np.arange(400) * STEP_S) / YEAR_S
    fair = digital_price(spot[:, None], np.array(strikes)[None, :], np.array(0.6), years[:, None])
    noise = rng.normal(size=fair.shape) * 0.004
    paths = fair + noise
    paths[-1, 2] += 0.05
    relations = Relations(world, max_legs=12)
    known = History(list(markets), ["BTC"], step_ns=STEP_NS, rows=400)
    told = [(("BTC", round(one * SCALE)),) for one in spot]
    for poll in recording(paths, world, references=told).polls:
        at = poll.at_s * NS
        known.add(PricesSampled(at, at, poll.quotes, poll.references))
    found = fit(known, relations, settings(max_pairs=0))
    assert found.strips[("BTC", end_s * NS)] == pytest.approx(0.6, rel=0.07)
    wanted = [one for one in relations.fixed if one.kind is Kind.THRESHOLD]
    found_at = signals(known, relations, found.strips, wanted, 400)
    zs = {one.legs[0][0]: found_at[one.key].z / SCALE for one in wanted}
    assert max(zs, key=lambda one: zs[one]) == market_id(3)
    assert zs[market_id(3)] > 4
