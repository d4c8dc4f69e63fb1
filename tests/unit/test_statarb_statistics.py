"""Unit-root tests, half-lives, false discovery and digital prices against published values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fleet.strategies.statarb_statistics import (
    adf_p_values,
    adf_statistics,
    benjamini_hochberg,
    critical_value,
    digital_price,
    half_lives,
    hedge_ratios,
    moments,
    normal_cdf,
)

# US real GDP 1959Q1 to 2009Q3 (Federal Reserve Bank of St. Louis, public domain), the series of
# statsmodels' macrodata, whose tests give the statistics of `adfuller` checked below.
REAL_GDP = np.array([
    2710.349, 2778.801, 2775.488, 2785.204, 2847.699, 2834.39, 2839.022, 2802.616, 2819.264,
    2872.005, 2918.419, 2977.83, 3031.241, 3064.709, 3093.047, 3100.563, 3141.087, 3180.447,
    3240.332, 3264.967, 3338.246, 3376.587, 3422.469, 3431.957, 3516.251, 3563.96, 3636.285,
    3724.014, 3815.423, 3828.124, 3853.301, 3884.52, 3918.74, 3919.556, 3950.826, 3980.97, 4063.013,
    4131.998, 4160.267, 4178.293, 4244.1, 4256.46, 4283.378, 4263.261, 4256.573, 4264.289, 4302.259,
    4256.637, 4374.016, 4398.829, 4433.943, 4446.264, 4525.769, 4633.101, 4677.503, 4754.546,
    4876.166, 4932.571, 4906.252, 4953.05, 4909.617, 4922.188, 4873.52, 4854.34, 4795.295, 4831.942,
    4913.328, 4977.511, 5090.663, 5128.947, 5154.072, 5191.499, 5251.762, 5356.131, 5451.921,
    5450.793, 5469.405, 5684.569, 5740.3, 5816.222, 5825.949, 5831.418, 5873.335, 5889.495,
    5908.467, 5787.373, 5776.617, 5883.46, 6005.717, 5957.795, 6030.184, 5955.062, 5857.333,
    5889.074, 5866.37, 5871.001, 5944.02, 6077.619, 6197.468, 6325.574, 6448.264, 6559.594,
    6623.343, 6677.264, 6740.275, 6797.344, 6903.523, 6955.918, 7022.757, 7050.969, 7118.95,
    7153.359, 7193.019, 7269.51, 7332.558, 7458.022, 7496.6, 7592.881, 7632.082, 7733.991, 7806.603,
    7865.016, 7927.393, 7944.697, 8027.693, 8059.598, 8059.476, 7988.864, 7950.164, 8003.822,
    8037.538, 8069.046, 8157.616, 8244.294, 8329.361, 8417.016, 8432.485, 8486.435, 8531.108,
    8643.769, 8727.919, 8847.303, 8904.289, 9003.18, 9025.267, 9044.668, 9120.684, 9184.275,
    9247.188, 9407.052, 9488.879, 9592.458, 9666.235, 9809.551, 9932.672, 10008.874, 10103.425,
    10194.277, 10328.787, 10507.575, 10601.179, 10684.049, 10819.914, 11014.254, 11043.044,
    11258.454, 11267.867, 11334.544, 11297.171, 11371.251, 11340.075, 11380.128, 11477.868,
    11538.77, 11596.43, 11598.824, 11645.819, 11738.706, 11935.461, 12042.817, 12127.623, 12213.818,
    12303.533, 12410.282, 12534.113, 12587.535, 12683.153, 12748.699, 12915.938, 12962.462,
    12965.916, 13060.679, 13099.901, 13203.977, 13321.109, 13391.249, 13366.865, 13415.266, 13324.6,
    13141.92, 12925.41, 12901.504, 12990.341,
])  # fmt: skip


def ou(rng: np.random.Generator, count: int, length: int, life: float) -> np.ndarray:
    """Ornstein-Uhlenbeck paths of unit standard deviation, one row each."""
    keep = 0.5 ** (1 / life)
    paths = np.zeros((count, length))
    paths[:, 0] = rng.standard_normal(count)
    for t in range(1, length):
        noise = rng.standard_normal(count) * math.sqrt(1 - keep * keep)
        paths[:, t] = keep * paths[:, t - 1] + noise
    return paths


def test_the_statistic_is_that_of_statsmodels() -> None:
    # statsmodels/tsa/tests/test_stattools.py, TestADFConstant: four lags, a constant; the values come
    # from Stata, to five decimals.
    statistic = adf_statistics(REAL_GDP[None, :], lags=4)
    assert statistic[0] == pytest.approx(0.97505319, abs=5e-6)
    assert adf_p_values(statistic)[0] == pytest.approx(0.99399563, abs=5e-6)


def test_critical_values_are_those_of_statsmodels() -> None:
    # The same test: [-3.476, -2.883, -2.573] at 1, 5 and 10 per cent for 198 observations, and -3.896,
    # -3.336, -3.044 for two variables without end.
    found = [critical_value(level, 198) for level in (0.01, 0.05, 0.10)]
    assert found == pytest.approx([-3.464, -2.876, -2.575], abs=2e-3)
    two = [critical_value(level, 10**9, 2) for level in (0.01, 0.05, 0.10)]
    assert two == pytest.approx([-3.89644, -3.33613, -3.04445], abs=1e-6)


@pytest.mark.parametrize("variables", [1, 2])
@pytest.mark.parametrize("level", [0.01, 0.05, 0.10])
def test_p_values_and_critical_values_agree(variables: int, level: float) -> None:
    """Two papers of the same author, sixteen years apart, say the same of an endless series."""
    at = np.array([critical_value(level, 10**9, variables)])
    assert adf_p_values(at, variables)[0] == pytest.approx(level, rel=0.03)


def test_a_batch_is_its_rows() -> None:
    rng = np.random.default_rng(1)
    walks = np.cumsum(rng.standard_normal((5, 90)), axis=1)
    walks[2, 40:43] = np.nan
    together = adf_statistics(walks, lags=2)
    alone = [adf_statistics(walks[i : i + 1], lags=2)[0] for i in range(5)]
    assert together == pytest.approx(alone)
    assert np.isfinite(together).all()


def test_the_statistic_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(2)
    y = np.cumsum(rng.standard_normal(120)) / 100
    change = np.diff(y)
    design = np.column_stack([y[1:-1], change[:-1], np.ones(118)])
    beta, rest, _, _ = np.linalg.lstsq(design, change[1:])
    error = np.sqrt(rest[0] / (118 - 3) * np.linalg.inv(design.T @ design)[0, 0])
    assert adf_statistics(y[None, :])[0] == pytest.approx(beta[0] / error, rel=1e-6)


def test_what_stands_still_or_is_short_has_no_statistic() -> None:
    still = np.full((1, 100), 0.4)
    short = np.array([[0.1, 0.2, 0.1, 0.3]])
    empty = np.full((1, 50), np.nan)
    for series in (still, short, empty):
        assert np.isnan(adf_statistics(series)).all()
        assert adf_p_values(adf_statistics(series)).tolist() == [1.0]
        assert np.isinf(half_lives(series)).all()


def test_random_walks_are_called_stationary_as_often_as_promised() -> None:
    rng = np.random.default_rng(3)
    walks = np.cumsum(rng.standard_normal((2_000, 96)), axis=1)
    share = (adf_p_values(adf_statistics(walks)) <= 0.05).mean()
    # Two thousand draws at five per cent: four standard errors are two per cent.
    assert 0.03 <= share <= 0.07


def test_two_random_walks_are_called_cointegrated_as_often_as_promised() -> None:
    rng = np.random.default_rng(4)
    y = np.cumsum(rng.standard_normal((2_000, 96)), axis=1)
    x = np.cumsum(rng.standard_normal((2_000, 96)), axis=1)
    _, residual = hedge_ratios(y, x)
    p_values = adf_p_values(adf_statistics(residual, constant=False), variables=2)
    assert 0.03 <= (p_values <= 0.05).mean() <= 0.08


def test_a_reverting_pair_is_found_and_its_ratio_too() -> None:
    rng = np.random.default_rng(5)
    x = np.cumsum(rng.standard_normal((50, 240)), axis=1)
    y = 1.5 * x + ou(rng, 50, 240, 3)
    slope, residual = hedge_ratios(y, x)
    assert np.median(slope) == pytest.approx(1.5, abs=0.1)
    p_values = adf_p_values(adf_statistics(residual, constant=False), variables=2)
    assert (p_values <= 0.05).mean() > 0.9


@pytest.mark.parametrize("life", [2.0, 5.0, 12.0])
def test_the_half_life_is_found(life: float) -> None:
    rng = np.random.default_rng(6)
    found = half_lives(ou(rng, 200, 800, life))
    assert np.median(found) == pytest.approx(life, rel=0.1)


def test_what_runs_away_has_no_half_life() -> None:
    away = np.cumsum(np.exp(np.arange(60) / 20))[None, :]
    assert np.isinf(half_lives(away)).all()


def test_false_discoveries_are_bounded() -> None:
    # The example of Benjamini and Hochberg (1995), section 3.2: four of fifteen at 5 per cent.
    p_values = np.array([
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
        0.5719, 0.6528, 0.7590, 1.0000,
    ])  # fmt: skip
    assert benjamini_hochberg(p_values, 0.05).sum() == 4
    assert benjamini_hochberg(p_values[::-1], 0.05)[-4:].all()
    assert not benjamini_hochberg(np.array([0.2, 0.9]), 0.05).any()
    assert len(benjamini_hochberg(np.zeros(0), 0.05)) == 0


def test_the_normal_distribution_keeps_its_tails() -> None:
    x = np.linspace(-8, 8, 161)
    exact = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    assert normal_cdf(x) == pytest.approx(exact, rel=2e-7)


def test_a_digital_is_a_coin_at_the_money_and_sure_far_from_it() -> None:
    one = np.array([1.0])
    at = digital_price(np.array([100.0]), np.array([100.0]), np.array([0.001]), one)
    assert at[0] == pytest.approx(0.5, abs=1e-3)
    # Hull, Options, Futures and Other Derivatives: d2 of S=49, K=50, sigma=20 %, T=0.3846, r=0.
    d2 = (math.log(49 / 50) - 0.02 * 0.3846) / (0.2 * math.sqrt(0.3846))
    value = digital_price(np.array([49.0]), np.array([50.0]), np.array([0.2]), np.array([0.3846]))
    assert value[0] == pytest.approx(0.5 * math.erfc(-d2 / math.sqrt(2)), rel=1e-6)
    sure = digital_price(np.array([200.0, 50.0]), np.array([100.0]), np.array([0.1]), one)
    assert sure.tolist() == pytest.approx([1.0, 0.0], abs=1e-9)


def test_moments_leave_out_what_was_not_quoted() -> None:
    mean, deviation = moments(np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]]))
    assert mean[0] == 2.0
    assert deviation[0] == pytest.approx(math.sqrt(2))
    assert np.isnan(mean[1])
    assert np.isnan(deviation[1])
