"""Kelly's fraction and the normal quantile, against the formulas themselves."""

from __future__ import annotations

from fractions import Fraction
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.units import SCALE
from fleet.strategies.kelly import confident, kelly_fraction, kelly_stake
from tests.builders import c, p

PRICES = st.integers(1, SCALE - 1)


@pytest.mark.parametrize(
    ("probability", "cost", "fraction"),
    [("0.6", "0.5", "0.2"), ("0.5", "0.5", "0"), ("0.4", "0.5", "0"), ("1", "0.5", "1"),
     ("0.9", "0.8", "0.5"), ("0.2", "0", "0"), ("0.2", "1", "0")],
)  # fmt: skip
def test_kelly_of_known_bets(probability: str, cost: str, fraction: str) -> None:
    assert kelly_fraction(p(probability), p(cost)) == p(fraction)


@given(probability=PRICES, cost=PRICES)
def test_kelly_is_the_formula_rounded_down(probability: int, cost: int) -> None:
    exact = max(Fraction(0), Fraction(probability - cost, SCALE - cost))
    assert 0 <= exact * SCALE - kelly_fraction(probability, cost) < 1


@given(probability=PRICES, more=PRICES, cost=PRICES, less=PRICES)
def test_kelly_grows_with_the_chance_and_falls_with_the_cost(
    probability: int, more: int, cost: int, less: int
) -> None:
    low, high = sorted((probability, more))
    assert kelly_fraction(low, cost) <= kelly_fraction(high, cost)
    cheap, dear = sorted((cost, less))
    assert kelly_fraction(probability, dear) <= kelly_fraction(probability, cheap)


@given(bankroll=st.integers(-SCALE, 10**6 * SCALE), probability=PRICES, cost=PRICES,
       fraction=st.integers(1, SCALE))  # fmt: skip
def test_a_stake_is_never_more_than_its_fraction_of_the_bankroll(
    bankroll: int, probability: int, cost: int, fraction: int
) -> None:
    stake = kelly_stake(bankroll, probability, cost, fraction)
    assert 0 <= stake <= max(0, bankroll) * fraction // SCALE
    assert stake <= kelly_stake(max(bankroll, 0), probability, cost, SCALE)


def test_a_quarter_of_kelly() -> None:
    assert kelly_stake(c("1000"), p("0.6"), p("0.5"), p("0.25")) == c("50")
    assert kelly_stake(0, p("0.6"), p("0.5"), p("0.25")) == 0


@pytest.mark.parametrize("percent", range(50, 100))
def test_the_quantiles_are_those_of_the_normal_distribution(percent: int) -> None:
    exact = round(NormalDist().inv_cdf(percent / 100) * SCALE)
    assert confident(exact + 2, SCALE, percent)
    assert not confident(exact - 2, SCALE, percent)


def test_nothing_rests_on_a_deviation_nobody_measured() -> None:
    assert not confident(SCALE, 0, 50)
    assert not confident(SCALE, -1, 50)


@pytest.mark.parametrize("percent", [49, 100])
def test_a_percent_without_a_quantile_is_refused(percent: int) -> None:
    with pytest.raises(IndexError, match=r"outside 50\.\.99"):
        confident(1, 1, percent)
