"""Performance figures against plain numpy, and what chance makes of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from fleet.domain.units import SCALE
from fleet.research.metrics import (
    deflated_sharpe,
    expected_maximum,
    p_value,
    performance,
    timing_p_value,
)
from fleet.research.sweep import Bars, run, sweep
from fleet.strategies.rules import Rule
from tests.candle_world import CASH, ETH, RULES, candles, opinions, terms

YEAR = 525_600


def test_figures_agree_with_their_definitions() -> None:
    series = candles(4000, 5)
    outcome = run(Bars.of(series, ETH.tick), RULES[1], terms(), CASH)
    found, equity = outcome.performance, outcome.equity / SCALE
    returns = np.diff(equity) / equity[:-1]
    assert found.total_return == pytest.approx(equity[-1] / (CASH / SCALE) - 1)
    assert found.sharpe == pytest.approx(returns.mean() / returns.std() * math.sqrt(YEAR))
    downside = math.sqrt((np.minimum(returns, 0) ** 2).mean())
    assert found.sortino == pytest.approx(returns.mean() / downside * math.sqrt(YEAR))
    drawdown = (equity / np.maximum.accumulate(equity) - 1).min()
    assert found.max_drawdown == pytest.approx(drawdown)
    assert found.cagr == pytest.approx((1 + found.total_return) ** (YEAR / 4000) - 1)
    fills = outcome.fills
    held = np.cumsum(np.bincount(fills[:, 0], fills[:, 1], minlength=4000))
    assert found.exposure == pytest.approx((held > 0).mean())
    value = np.abs(fills[:, 1]) / SCALE * fills[:, 2] / SCALE
    assert found.turnover == pytest.approx(value.sum() / equity.mean())
    cash = -np.sign(fills[:, 1]) * value - fills[:, 3] / SCALE
    closed = len(fills) // 2 * 2
    profits = cash[:closed:2] + cash[1:closed:2]
    assert found.trades == closed // 2 > 50
    assert found.win_rate == pytest.approx((profits > 0).mean())
    gains, losses = profits[profits > 0].sum(), -profits[profits < 0].sum()
    assert found.profit_factor == pytest.approx(gains / losses)
    centred = (returns - returns.mean()) / returns.std()
    assert found.skew == pytest.approx((centred**3).mean())
    assert found.kurtosis == pytest.approx((centred**4).mean())


def test_what_cannot_be_known_is_not_zero() -> None:
    flat = performance(np.full(10, SCALE), np.empty((0, 5), np.int64), SCALE, YEAR)
    assert flat.total_return == 0 and flat.trades == 0 and flat.exposure == 0
    assert all(
        math.isnan(x) for x in (flat.sharpe, flat.sortino, flat.win_rate, flat.profit_factor)
    )
    with pytest.raises(ValueError):
        performance(np.empty(0, np.int64), np.empty((0, 5), np.int64), SCALE, YEAR)


def test_a_sweep_gives_what_single_runs_give_in_order() -> None:
    bars, scores = Bars.of(candles(1500, 9), ETH.tick), opinions(1500, 9)
    rules = [*RULES, *(Rule(kind="sma_cross", fast=f, slow=30) for f in range(1, 25))]
    swept = sweep(bars, rules, terms(), CASH, scores=scores, workers=2)
    single = [run(bars, rule, terms(), CASH, scores).performance for rule in rules]
    assert [repr(one) for one in swept] == [repr(one) for one in single]  # NaN equals NaN here.


def test_more_fills_than_were_given_room_are_all_there() -> None:
    """A rule that trades at nearly every other bar outgrows the first array."""
    series = candles(4000, 2)
    often = Rule(kind="sma_cross", fast=1, slow=2)
    outcome = run(Bars.of(series, ETH.tick), often, terms(), CASH)
    assert len(outcome.fills) > 4000 // 16 + 64
    assert outcome.fills[:, 1].sum() == outcome.held


def test_the_expected_maximum_is_that_of_simulated_trials() -> None:
    chance = np.random.default_rng(3)
    best = chance.normal(0, 0.02, (20_000, 50)).max(axis=1).mean()
    assert expected_maximum(50, 0.02) == pytest.approx(best, rel=0.02)
    assert expected_maximum(1, 0.02) == 0


def test_deflation_follows_the_published_example() -> None:
    """Bailey and Lopez de Prado 2014, page 11: SR 2.5, 100 trials, 1250 days: DSR 0.9004."""
    bars = np.cumprod(np.full(10, 1.0))
    base = performance((bars * SCALE).astype(np.int64), np.empty((0, 5), np.int64), SCALE, 250)
    found = dataclasses.replace(
        base, bars=1250, sharpe_bar=2.5 / math.sqrt(250), skew=-3.0, kurtosis=10.0
    )
    # 100 ratios with an annual variance of 1/2.
    tried = np.random.default_rng(1).normal(0, 1, 100)
    tried = (tried - tried.mean()) / tried.std(ddof=1) * math.sqrt(0.5 / 250)
    assert deflated_sharpe(found, tried.tolist()) == pytest.approx(0.9004, abs=0.001)
    assert deflated_sharpe(found, [found.sharpe_bar]) > 0.95
    assert math.isnan(deflated_sharpe(base, [0.1, 0.2]))


def test_a_p_value_is_never_zero() -> None:
    assert p_value(9.0, np.zeros(99)) == pytest.approx(0.01)
    assert p_value(0.0, np.zeros(99)) == 1.0


def test_timing_is_told_from_luck() -> None:
    chance = np.random.default_rng(7)
    returns = chance.normal(0, 0.01, 4000)
    ahead = (np.roll(returns, 0) > 0.004).astype(float)
    blind = np.repeat(chance.integers(0, 2, 200), 20).astype(float)
    assert timing_p_value(ahead, returns, shifts=500, seed=1) == pytest.approx(1 / 501)
    assert timing_p_value(blind, returns, shifts=500, seed=1) > 0.02
    assert timing_p_value(np.ones(4000), returns, shifts=500, seed=1) == 1.0
