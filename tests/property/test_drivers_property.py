"""One decision, two drivers: loop, engine and the rules' definitions agree to the last unit.

The loop and the engine call the same step, so they could be wrong together; the third trader is
written from the definitions alone and looks at whole windows at every bar.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.research.engine_driver import drive
from fleet.research.sweep import Bars, run
from fleet.strategies.rules import Rule
from tests.candle_world import CASH, ETH, RULES, candles, name_of, opinions, terms, trade_slowly

SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("rule", RULES, ids=name_of)
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, slippage=st.sampled_from([0, SCALE // 10_000, SCALE // 200]))
def test_the_loop_does_what_the_definitions_say(rule: Rule, seed: int, slippage: int) -> None:
    series, on = candles(400, seed), terms(slippage=slippage)
    scores = opinions(400, seed)
    slow = trade_slowly(series, rule, on, CASH, scores)
    fast = run(Bars.of(series, ETH.tick), rule, on, CASH, scores)
    assert [tuple(row) for row in fast.fills[:, :4].tolist()] == slow.fills
    assert fast.equity.tolist() == slow.equity
    assert fast.missed == slow.missed


@pytest.mark.parametrize("rule", RULES, ids=name_of)
@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, cash=st.sampled_from([CASH, Cash(6 * SCALE), Cash(10**7 * SCALE)]))
def test_the_engine_does_what_the_loop_does(rule: Rule, seed: int, cash: Cash) -> None:
    series, on, scores = candles(500, seed), terms(), opinions(500, seed)
    loop = run(Bars.of(series, ETH.tick), rule, on, cash, scores)
    engine = drive(series, rule, ETH, on, cash, scores=scores)
    assert np.array_equal(engine.fills[:, :4], loop.fills[:, :4])
    assert np.array_equal(engine.equity, loop.equity)
    assert (engine.cash, engine.held, engine.missed) == (loop.cash, loop.held, loop.missed)
    # The journal knows that a stop or a profit sold, and not which.
    reasons = np.where(loop.fills[:, 4] == 4, 3, loop.fills[:, 4])
    assert np.array_equal(engine.fills[:, 4], reasons)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, start=st.sampled_from([0.0003, 0.07, 12.0, 90_000.0]))
def test_the_price_level_changes_nothing_about_it(seed: int, start: float) -> None:
    tick = {0.0003: Price(10), 0.07: Price(1000)}.get(start, ETH.tick)
    lot = Qty(SCALE // 100) if start < 100 else ETH.lot
    coin = dataclasses.replace(ETH, tick=tick, lot=lot)
    series = candles(300, seed, start=start, tick=tick / SCALE)
    rule, on = Rule(kind="sma_cross", fast=4, slow=11, stop_loss=SCALE // 100), terms(coin)
    loop = run(Bars.of(series, coin.tick), rule, on, CASH)
    engine = drive(series, rule, coin, on, CASH)
    assert loop.equity.tolist() == trade_slowly(series, rule, on, CASH).equity
    assert np.array_equal(engine.equity, loop.equity) and len(loop.fills)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, first=st.integers(1, 200))
def test_no_bar_knows_the_next(seed: int, first: int) -> None:
    """What happened up to a bar is the same whether the series goes on or not."""
    series, scores = candles(260, seed), opinions(260, seed)
    for rule in RULES:
        whole = run(Bars.of(series, ETH.tick), rule, terms(), CASH, scores)
        part = run(Bars.of(series.rows(0, first), ETH.tick), rule, terms(), CASH, scores[:first])
        assert np.array_equal(whole.equity[:first], part.equity)
        assert np.array_equal(whole.fills[whole.fills[:, 0] < first], part.fills)
