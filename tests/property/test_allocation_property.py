"""What no volatilities, correlations or results can make the portfolio do."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.units import SCALE, Cash
from fleet.runtime.trader_allocation import (
    LEAST,
    Drawdown,
    capped_groups,
    dollars_of,
    inverse_volatility,
    related,
)

NAMES = [f"T{n}" for n in range(8)]
VOLATILITIES = st.dictionaries(
    st.sampled_from(NAMES), st.floats(0, 5) | st.just(float("nan")), min_size=1
)
CAPS = st.floats(0.01, 1.0)


@given(VOLATILITIES, CAPS)
def test_shares_never_exceed_the_whole_or_the_cap(vols: dict[str, float], cap: float) -> None:
    shares = inverse_volatility(vols, cap)
    assert shares.keys() == vols.keys()
    assert all(0 <= share <= cap + 1e-9 for share in shares.values())
    assert math.isclose(sum(shares.values()), min(1.0, cap * len(vols)), abs_tol=1e-6)
    assert sum(dollars_of(shares, Cash(5_000 * SCALE)).values()) <= 5_000 * SCALE + 1_000


@given(VOLATILITIES, CAPS)
def test_the_calmer_never_gets_less(vols: dict[str, float], cap: float) -> None:
    shares = inverse_volatility(vols, cap)
    known = sorted((value, name) for name, value in vols.items() if value >= LEAST)
    got = [shares[name] for _, name in known]
    assert all(calm >= wild - 1e-9 for calm, wild in pairwise(got))


@given(
    st.dictionaries(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), st.floats(-1, 1)),
    st.floats(-1, 1),
    CAPS,
)
def test_every_name_is_in_one_group_and_groups_share_a_cap(
    pairs: dict[tuple[str, str], float], limit: float, cap: float
) -> None:
    groups = related(pairs, NAMES, limit)
    assert sorted(name for group in groups for name in group) == NAMES
    where = {name: number for number, group in enumerate(groups) for name in group}
    for one in NAMES:
        for other in NAMES:
            found = pairs.get((one, other), pairs.get((other, one)))
            if one != other and (found is None or found > limit) and (other, one) not in pairs:
                assert where[one] == where[other]
    shares = capped_groups(inverse_volatility(dict.fromkeys(NAMES, 1.0), 1.0), groups, cap)
    assert all(len(g) == 1 or sum(shares[n] for n in g) <= cap + 1e-9 for g in groups)


@given(st.lists(st.integers(-10_000 * SCALE, 10_000 * SCALE)), st.integers(1, 999_999))
def test_a_stop_is_for_ever_and_only_for_a_fall(results: list[int], limit_ppm: int) -> None:
    capital, state, highest = Cash(5_000 * SCALE), Drawdown(), 0
    stopped = False
    for result in results:
        highest = max(highest, result)
        fall = highest - result
        stopped = stopped or fall * 1_000_000 >= (capital + highest) * limit_ppm
        state = state.after(Cash(result), capital, limit_ppm)
        assert (state.peak, state.stopped) == (highest, stopped)


def test_two_bets_that_go_together_are_one() -> None:
    shares = inverse_volatility({"BTC": 0.5, "ETH": 0.5, "GLD": 0.25}, 0.6)
    assert {name: round(share, 3) for name, share in shares.items()} == {
        "BTC": 0.25, "ETH": 0.25, "GLD": 0.5,
    }  # fmt: skip
    pairs = {("BTC", "ETH"): 0.9, ("BTC", "GLD"): 0.1, ("GLD", "ETH"): 0.0}
    groups = related(pairs, ["BTC", "ETH", "GLD"], 0.8)
    assert groups == [("BTC", "ETH"), ("GLD",)]
    capped = capped_groups(shares, groups, 0.3)
    assert [round(capped[name], 3) for name in ("BTC", "ETH", "GLD")] == [0.15, 0.15, 0.5]
