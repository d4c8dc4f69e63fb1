"""Penalised logistic regression on few features, fitted exactly and the same way every time.

What it is for: every number this package learns (calibration, blend, the statistical forecaster) is
a coefficient that starts at a stated belief (``centre``) and moves only as far as the resolved
record pushes it. That is the mode of a posterior with normal priors, found by Newton's method
(McCullagh and Nelder 1989, chapter 4; the penalty is ridge, Hoerl and Kennard 1970). Own code
instead of scikit-learn's: an offset and a centre other than 0 are needed, and a bot that forecasts
need not pay its 155 MB.

It must not choose penalties: the caller states them, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CLIP: Final = 1e-4
"""Probabilities are read as within [CLIP, 1 - CLIP]: one tick of the finest market (1e-4)."""
MAX_STEPS: Final = 100
TOLERANCE: Final = 1e-10


def logit(probability: Floats | float) -> Floats:
    """Log odds of probabilities, after clipping them to [CLIP, 1 - CLIP]."""
    clipped = np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1.0 - CLIP)
    return np.asarray(np.log(clipped / (1.0 - clipped)), dtype=np.float64)


def expit(log_odds: Floats | float) -> Floats:
    """Probabilities of log odds; never exactly 0 or 1 within +-700."""
    clipped = np.clip(np.asarray(log_odds, dtype=np.float64), -700.0, 700.0)
    return np.asarray(1.0 / (1.0 + np.exp(-clipped)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Coefficients (k,) and the inverse of the penalised information (k, k)."""

    coefficients: Floats
    covariance: Floats


def fit(
    features: Floats,
    outcomes: Floats,
    *,
    penalty: Floats,
    centre: Floats,
    offset: Floats | None = None,
    weights: Floats | None = None,
) -> Fitted:
    """Minimise ``sum w * log loss + 0.5 * sum penalty * (b - centre) ** 2``.

    ``features`` is (n, k), ``outcomes`` (n,) of 0 and 1, ``offset`` (n,) in log odds, ``weights``
    (n,) not negative, ``penalty`` (k,) positive, so that one answer exists whatever the data (also
    for n = 0, and where a line parts YES from NO): a penalty of v is a normal prior with standard
    deviation 1/sqrt(v). Raises ``ValueError`` for shapes that do not fit, values that are not
    finite and penalties that are not positive.
    """
    n, k = features.shape
    offset = np.zeros(n) if offset is None else offset
    weights = np.ones(n) if weights is None else weights
    if not (outcomes.shape == offset.shape == weights.shape == (n,)):
        raise ValueError(f"{n} rows of features need as many outcomes, offsets and weights")
    if not (penalty.shape == centre.shape == (k,)) or not (penalty > 0).all():
        raise ValueError(f"{k} features need as many positive penalties and as many centres")
    if not all(np.isfinite(part).all() for part in (features, outcomes, offset, weights)):
        raise ValueError("features, outcomes, offsets and weights must be finite numbers")

    def loss(at: Floats) -> float:
        eta = offset + features @ at
        fit_loss = weights @ (np.logaddexp(0.0, eta) - outcomes * eta)
        return float(fit_loss + 0.5 * penalty @ (at - centre) ** 2)

    at = centre.astype(np.float64).copy()
    now = loss(at)
    for _ in range(MAX_STEPS):
        chance = expit(offset + features @ at)
        gradient = features.T @ (weights * (chance - outcomes)) + penalty * (at - centre)
        spread = weights * chance * (1.0 - chance)
        information = (features * spread[:, None]).T @ features + np.diag(penalty)
        step = np.linalg.solve(information, gradient)
        scale = 1.0
        # Convex: a short enough step always gains; 2**-30 is below any gain that matters.
        while loss(at - scale * step) > now and scale > 2.0**-30:
            scale /= 2.0
        at = at - scale * step
        later = loss(at)
        if now - later <= TOLERANCE * (1.0 + abs(now)):
            break
        now = later
    chance = expit(offset + features @ at)
    spread = weights * chance * (1.0 - chance)
    information = (features * spread[:, None]).T @ features + np.diag(penalty)
    return Fitted(
        np.asarray(at, dtype=np.float64), np.asarray(np.linalg.inv(information), dtype=np.float64)
    )
