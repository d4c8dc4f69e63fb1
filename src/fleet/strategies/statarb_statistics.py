"""Statistics of spreads: unit-root tests, half-lives, false discovery, the price of a digital.

All of it works on whole batches at once: one row a series, ``nan`` where nothing was quoted. A row
of a regression is used only if every value it needs is there; a gap is never filled in.

Floats live here and in the other ``statarb_*`` modules that compute; they only propose. What
becomes an order is worked out in integers by ``statarb`` and ``statarb_positions``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NS_PER_YEAR: Final = 365.0 * 86_400e9
_TINY: Final = 1e-9
"""Below this standard deviation (dollars) a series stands still: quotes move by 1e-4 at least."""

# MacKinnon (1994), "Approximate Asymptotic Distribution Functions for Unit-Root and Cointegration
# Tests", J. Business & Economic Statistics 12(2), tables 3 and 4: regression with a constant, one
# row for 1 and 2 variables. Left of ``_STAR`` the first polynomial holds, right of it the second.
_STAR: Final = {1: -1.61, 2: -2.62}
_LOWEST: Final = {1: -18.83, 2: -18.86}
_HIGHEST: Final = {1: 2.74, 2: 0.92}
_LEFT: Final = {1: (2.1659, 1.4412, 0.038269), 2: (2.92, 1.5012, 0.039796)}
_RIGHT: Final = {
    1: (1.7339, 0.93202, -0.12745, -0.010368),
    2: (2.1945, 0.64695, -0.29198, -0.042377),
}
# MacKinnon (2010), "Critical Values for Cointegration Tests", Queen's Economics WP 1227, table 1:
# level -> coefficients of 1, 1/T, 1/T^2, 1/T^3, for 1 and 2 variables.
_CRITICAL: Final = {
    1: {
        0.01: (-3.43035, -6.5393, -16.786, -79.433),
        0.05: (-2.86154, -2.8903, -4.234, -40.040),
        0.10: (-2.56677, -1.5384, -2.809, 0.0),
    },
    2: {
        0.01: (-3.89644, -10.9519, -33.527, 0.0),
        0.05: (-3.33613, -6.1101, -6.823, 0.0),
        0.10: (-3.04445, -4.2412, -2.720, 0.0),
    },
}
# Numerical Recipes (2nd ed.), 6.2, ``erfcc``: fractional error below 1.2e-7 everywhere.
_ERFC: Final = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398,
    1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip


def normal_cdf(x: Floats) -> Floats:
    """The standard normal distribution function, element by element."""
    z = np.abs(x) / np.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * z)
    inner = np.full_like(t, _ERFC[-1])
    for coefficient in reversed(_ERFC[:-1]):
        inner = inner * t + coefficient
    tail = 0.5 * t * np.exp(inner - z * z)
    found: Floats = np.where(x < 0, tail, 1.0 - tail)
    return found


def adf_statistics(series: Floats, lags: int = 1, *, constant: bool = True) -> Floats:
    """The augmented Dickey-Fuller t statistic of each row; ``nan`` where it cannot be had.

    ``series`` is (count, time). The change is regressed on the level before, ``lags`` earlier
    changes and a constant (Dickey and Fuller 1979; Said and Dickey 1984).
    """
    count, length = series.shape
    observations = length - 1 - lags
    width = 1 + lags + (1 if constant else 0)
    if observations <= width:
        return np.full(count, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = _spread(series)
        level = (series - _mean(series)[:, None] if constant else series) / scale[:, None]
        change = np.diff(level, axis=1)
        columns = [level[:, lags:-1]]
        columns += [change[:, lags - lag : length - 1 - lag] for lag in range(1, lags + 1)]
        if constant:
            columns.append(np.ones_like(columns[0]))
        design = np.stack(columns, axis=2)
        target = change[:, lags:]
        usable = np.isfinite(target) & np.isfinite(design).all(axis=2)
        design = np.where(usable[:, :, None], design, 0.0)
        target = np.where(usable, target, 0.0)
        moments = np.matmul(design.transpose(0, 2, 1), design)
        # A lag that never moved makes the moments singular; a part in 1e15 changes nothing else.
        moments += (
            np.eye(width) * (1e-15 * (1.0 + np.trace(moments, axis1=1, axis2=2)))[:, None, None]
        )
        inverse = np.linalg.inv(np.where(np.isfinite(moments), moments, np.eye(width)))
        beta = np.einsum("cij,cj->ci", inverse, np.einsum("cti,ct->ci", design, target))
        residual = np.where(usable, target - np.einsum("cti,ci->ct", design, beta), 0.0)
        used = usable.sum(axis=1)
        variance = (residual**2).sum(axis=1) / np.maximum(1, used - width)
        statistic = beta[:, 0] / np.sqrt(variance * inverse[:, 0, 0])
    good = (used > 2 * width) & (scale > _TINY) & (variance > _TINY**2)
    return np.where(good, statistic, np.nan)


def adf_p_values(statistics: Floats, variables: int = 1) -> Floats:
    """MacKinnon's approximate p value of each statistic; 1 where there is none.

    ``variables`` is 1 for a given series (a spread whose weights were fixed beforehand) and 2 for
    the residuals of a regression of one series on another (Engle and Granger 1987).
    """
    filled = np.where(np.isfinite(statistics), statistics, _HIGHEST[variables] + 1.0)
    bounded = np.clip(filled, _LOWEST[variables], _HIGHEST[variables])
    left = np.polynomial.polynomial.polyval(bounded, _LEFT[variables])
    right = np.polynomial.polynomial.polyval(bounded, _RIGHT[variables])
    found = normal_cdf(np.where(bounded <= _STAR[variables], left, right))
    return np.where(filled > _HIGHEST[variables], 1.0, found)


def critical_value(level: float, observations: int, variables: int = 1) -> float:
    """The critical value of the statistic at 0.01, 0.05 or 0.10 for so many observations."""
    terms = _CRITICAL[variables][level]
    inverse = 1.0 / observations
    return terms[0] + inverse * (terms[1] + inverse * (terms[2] + inverse * terms[3]))


def half_lives(series: Floats) -> Floats:
    """The half-life of each row's deviations in time steps; infinite where nothing reverts.

    The fit of an Ornstein-Uhlenbeck process by its exact discretisation, an AR(1) with a constant:
    a deviation shrinks to ``1 + slope`` of itself in one step.
    """
    before, change = series[:, :-1], np.diff(series, axis=1)
    usable = np.isfinite(before) & np.isfinite(change)
    number = np.maximum(1, usable.sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(usable, before, 0.0)
        y = np.where(usable, change, 0.0)
        x = np.where(usable, x - (x.sum(axis=1) / number)[:, None], 0.0)
        slope = (x * y).sum(axis=1) / (x * x).sum(axis=1)
        kept = 1.0 + slope
        life = -np.log(2.0) / np.log(np.clip(kept, _TINY, 1.0 - _TINY))
    reverts = np.isfinite(slope) & (slope < -_TINY) & (usable.sum(axis=1) >= 10)
    return np.where(reverts, life, np.inf)


def hedge_ratios(y: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Slope of each row of ``y`` on the same row of ``x``, and the residuals (Engle-Granger)."""
    usable = np.isfinite(y) & np.isfinite(x)
    number = np.maximum(1, usable.sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        y_mean = (np.where(usable, y, 0.0).sum(axis=1) / number)[:, None]
        x_mean = (np.where(usable, x, 0.0).sum(axis=1) / number)[:, None]
        dy = np.where(usable, y - y_mean, 0.0)
        dx = np.where(usable, x - x_mean, 0.0)
        slope = (dx * dy).sum(axis=1) / (dx * dx).sum(axis=1)
        residual = np.where(usable, (y - y_mean) - slope[:, None] * (x - x_mean), np.nan)
    return slope, residual


def benjamini_hochberg(p_values: Floats, rate: float) -> Bools:
    """Which hypotheses to reject so that at most ``rate`` of the rejections are false.

    Benjamini and Hochberg (1995): with the p values in order, reject up to the last one that is at
    most ``rate`` times its rank over the number of tests.
    """
    count = len(p_values)
    if not count:
        return np.zeros(0, dtype=np.bool_)
    order = np.argsort(p_values, kind="stable")
    under = p_values[order] <= rate * np.arange(1, count + 1) / count
    rejected = np.zeros(count, dtype=np.bool_)
    if under.any():
        rejected[order[: int(np.flatnonzero(under)[-1]) + 1]] = True
    return rejected


def digital_price(spot: Floats, strike: Floats, volatility: Floats, years: Floats) -> Floats:
    """The price of one dollar if the underlying ends above ``strike``: N(d2) at zero interest.

    Black and Scholes (1973). ``volatility`` is yearly; all arguments broadcast.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = volatility * np.sqrt(np.maximum(years, _TINY))
        return normal_cdf(np.log(spot / strike) / deviation - 0.5 * deviation)


def moments(series: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each row over what is quoted; ``nan`` for an empty row."""
    return _mean(series), _spread(series)


def _mean(series: Floats) -> Floats:
    usable = np.isfinite(series)
    total = np.where(usable, series, 0.0).sum(axis=1)
    number = usable.sum(axis=1)
    return np.where(number > 0, total / np.maximum(1, number), np.nan)


def _spread(series: Floats) -> Floats:
    """The standard deviation of each row."""
    usable = np.isfinite(series)
    number = usable.sum(axis=1)
    away = np.where(usable, series - _mean(series)[:, None], 0.0)
    variance = (away * away).sum(axis=1) / np.maximum(1, number - 1)
    return np.where(number > 1, np.sqrt(variance), np.nan)
