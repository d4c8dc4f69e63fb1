"""Intervals, luck and false discoveries, against what can be worked out by hand or another way."""

import math
from random import Random

import numpy as np
import pytest

from fleet.research.leader_statistics import (
    Bet,
    benjamini_hochberg,
    cluster_interval,
    luck_p_value,
    permutation_p,
    spearman,
)


def bet(event: str, price: float, *, won: bool, shares: float = 100) -> Bet:
    cost = price * shares
    return Bet(
        event=event, stake=cost, pnl=(shares if won else 0) - cost,
        held=((cost, shares), (0.0, 0.0)), exited=0.0,
    )  # fmt: skip


def test_luck_of_bets_that_all_win_is_the_product_of_their_prices() -> None:
    bets = [bet(str(n), 0.9, won=True) for n in range(10)]
    assert luck_p_value(bets) == pytest.approx(0.9**10, abs=0.03)


def test_a_bet_at_99_cents_that_won_is_no_evidence_though_the_bootstrap_has_never_seen_it_lose(
) -> None:  # fmt: skip
    bets = [bet(str(n), 0.99, won=True) for n in range(40)]
    edge = cluster_interval([b.event for b in bets], [b.stake for b in bets], [b.pnl for b in bets])
    assert edge is not None
    assert edge.low > 0
    assert luck_p_value(bets) > 0.5


def test_markets_of_one_event_are_one_piece_of_luck() -> None:
    together = [bet("one", 0.5, won=True) for _ in range(10)]
    assert luck_p_value(together) == pytest.approx(0.5, abs=0.03)
    assert luck_p_value(together, together=False) < 0.01


def test_luck_p_values_of_fair_bettors_are_uniform() -> None:
    random = Random(3)
    found = [
        luck_p_value([bet(str(n), 0.3, won=random.random() < 0.3) for n in range(30)])
        for _ in range(300)
    ]
    # One in ten falls below 0.1, and ties make it fewer, never many more.
    assert sum(p <= 0.1 for p in found) / 300 < 0.15
    assert sum(p <= 0.1 for p in found) > 5


def test_real_skill_is_found() -> None:
    random = Random(4)
    skilled = [bet(str(n), 0.5, won=random.random() < 0.7) for n in range(100)]
    assert luck_p_value(skilled) < 0.01


def test_losing_is_never_lucky() -> None:
    assert luck_p_value([bet("a", 0.5, won=False)]) == pytest.approx(1.0)
    assert luck_p_value([]) == 1.0


def test_a_pair_that_pays_for_sure_needs_no_luck() -> None:
    sure = Bet(event="a", stake=96, pnl=4, held=((48, 100), (48, 100)), exited=0.0)
    assert luck_p_value([sure]) == pytest.approx(1.0), "every life of it pays the same four"


def test_sales_win_or_lose_by_a_coin() -> None:
    sold = [Bet(event=str(n), stake=50, pnl=1, held=((0, 0), (0, 0)), exited=1.0) for n in range(6)]
    assert luck_p_value(sold) == pytest.approx(1 / 64, abs=0.008)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        wins = rng.random(60) < 0.5
        found = cluster_interval(
            [str(n) for n in range(60)], [50.0] * 60, [50.0 if w else -50.0 for w in wins]
        )
        assert found is not None
        covered += found.low <= 0 <= found.high
    assert 0.82 <= covered / 200 <= 0.97


def test_clusters_make_the_interval_wider() -> None:
    pnl = [10.0 if n % 20 < 10 else -10.0 for n in range(200)]
    apart = cluster_interval([str(n) for n in range(200)], [10.0] * 200, pnl)
    events = cluster_interval([str(n // 10) for n in range(200)], [10.0] * 200, pnl)
    assert apart is not None
    assert events is not None
    assert events.high - events.low > 2 * (apart.high - apart.low)
    assert (apart.clusters, events.clusters) == (200, 20)


def test_one_event_says_nothing() -> None:
    found = cluster_interval(["a", "a"], [1.0, 1.0], [0.5, 0.5])
    assert found is not None
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert cluster_interval([], [], []) is None


def test_q_values_are_those_of_the_published_example() -> None:
    # Benjamini and Hochberg (1995), section 4: 15 p-values, of which a rate of 0.05 finds four.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
         0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip
    q = benjamini_hochberg(p[::-1])[::-1]
    assert sum(value <= 0.05 for value in q) == 4
    assert q[3] == pytest.approx(0.0095 * 15 / 4)
    assert q == sorted(q)
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg([1.2])
    assert benjamini_hochberg([]) == []


def test_rank_correlation() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 25]) == pytest.approx(0.8)
    assert spearman([1, 2, 2, 4], [1, 2, 2, 4]) == pytest.approx(1.0)
    assert math.isnan(spearman([1, 2], [1, 2]))
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert permutation_p(list(range(30)), list(range(30))) < 0.001
    assert permutation_p([1, 1, 1], [1, 2, 3]) == 1.0
    with pytest.raises(ValueError, match="same length"):
        spearman([1], [1, 2])
