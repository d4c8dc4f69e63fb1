"""How a portfolio divides its capital, and when it has lost too much. Pure.

Inverse volatility with caps: each token's share is proportional to one over its volatility, but
none gets more than the cap, and tokens whose returns go together share one cap, because they are
one bet. What the caps leave over stays cash. Shares are floats that propose; dollars are whole
units at 1e-8, rounded down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fleet.domain.units import Cash

TOLERANCE: Final = 1e-12
LEAST: Final = 1e-4
"""A yearly volatility below 0.01 % is that of a price that stands still: it says nothing."""


def inverse_volatility(volatilities: Mapping[str, float], cap: float) -> dict[str, float]:
    """Shares of the whole, their sum at most 1, none above ``cap``.

    A volatility that is unknown (below ``LEAST``, or no number) counts as the highest known one:
    unknown is not calm. If none is known all get the same.
    """
    known = [value for value in volatilities.values() if _known(value)]
    highest = max(known, default=1.0)
    wanted = {
        name: 1.0 / (value if _known(value) else highest) for name, value in volatilities.items()
    }
    shares = dict.fromkeys(volatilities, 0.0)
    free, left = dict(wanted), 1.0
    while free and left > TOLERANCE:
        whole = sum(free.values())
        over = [name for name, weight in free.items() if left * weight / whole > cap]
        if not over:
            shares.update({name: left * weight / whole for name, weight in free.items()})
            break
        for name in over:
            shares[name] = cap
            left -= cap
            del free[name]
        left = max(left, 0.0)
    return shares


def _known(volatility: float) -> bool:
    return LEAST <= volatility < float("inf")


def related(
    correlations: Mapping[tuple[str, str], float], names: Sequence[str], limit: float
) -> list[tuple[str, ...]]:
    """Groups of names that a chain of correlations above ``limit`` holds together, in order.

    ``correlations`` has a pair in either order; one that is missing or no number counts as above
    the limit, because unknown is not independent.
    """
    groups: list[list[str]] = []
    for name in names:
        near = [
            group for group in groups
            if any(not _pair(correlations, name, other) <= limit for other in group)
        ]  # fmt: skip
        merged = [other for group in near for other in group] + [name]
        groups = [group for group in groups if group not in near] + [merged]
    return [tuple(sorted(group, key=list(names).index)) for group in groups]


def _pair(correlations: Mapping[tuple[str, str], float], one: str, other: str) -> float:
    found = correlations.get((one, other), correlations.get((other, one)))
    return float("nan") if found is None else found


def capped_groups(
    shares: Mapping[str, float], groups: Sequence[Sequence[str]], cap: float
) -> dict[str, float]:
    """Shares in which no group of several together has more than ``cap``, scaled down evenly."""
    capped = dict(shares)
    for group in groups:
        whole = sum(capped[name] for name in group)
        if len(group) > 1 and whole > cap:
            capped.update({name: capped[name] * cap / whole for name in group})
    return capped


def dollars_of(shares: Mapping[str, float], capital: Cash) -> dict[str, Cash]:
    """Each share's part of the capital, rounded down."""
    return {name: Cash(int(share * capital)) for name, share in shares.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawdown:
    """The portfolio's highest result so far and whether it was stopped; results in cash at 1e-8.

    ``peak`` begins at 0, the result before the first trade.
    """

    peak: Cash = Cash(0)
    stopped: bool = False

    def after(self, result: Cash, capital: Cash, limit_ppm: int) -> Drawdown:
        """With a new ``result`` (profit of all tokens since the beginning). Stopped stays stopped.

        It is stopped when what is left is more than ``limit_ppm`` millionths below the peak.
        """
        peak = Cash(max(self.peak, result))
        fallen = (peak - result) * 1_000_000 >= (capital + peak) * limit_ppm
        return Drawdown(peak=peak, stopped=self.stopped or fallen)
