"""How often such questions came true: by category and horizon, shrunk towards the whole.

A rate of few questions is drawn towards its parent's: overall -> category -> category and horizon.
Each level has a Beta prior with the parent's mean and the strength of ``STRENGTH`` questions
(Gelman et al., Bayesian Data Analysis, 3rd ed. 2013, section 5.3, with the strength fixed), so 20
questions of a category weigh as much as everything else. Nothing known: one half.

Only counts are kept. It must not look at outcomes known at or after the moment it is asked for;
``Tally`` answers by bisection over time, so one object serves every moment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

DAY_NS: Final = 86_400 * 10**9
STRENGTH: Final = 20.0
HORIZON_DAYS: Final = (7, 30, 90)
"""Upper bounds of the bands of time to the close; the last band is open."""
HORIZON_NAMES: Final = ("under 7 days", "7 to 30 days", "30 to 90 days", "over 90 days")
UNKNOWN_HORIZON: Final = -1


def horizon_band(as_of_ns: int, closes_ns: int) -> int:
    """Which band of ``HORIZON_NAMES``; ``UNKNOWN_HORIZON`` without a close after ``as_of_ns``."""
    if closes_ns <= as_of_ns or as_of_ns <= 0:
        return UNKNOWN_HORIZON
    days = (closes_ns - as_of_ns) / DAY_NS
    return sum(days >= bound for bound in HORIZON_DAYS)


@dataclass(slots=True)
class _Count:
    """Times at which outcomes became known, in order, and how many were YES up to each."""

    times: list[int] = field(default_factory=list)
    yes: list[float] = field(default_factory=lambda: [0.0])

    def add(self, known_ns: int, outcome: float) -> None:
        self.times.append(known_ns)
        self.yes.append(self.yes[-1] + outcome)

    def before(self, moment_ns: int) -> tuple[int, float]:
        n = bisect_left(self.times, moment_ns)
        return n, self.yes[n]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What base rates need of a resolved question."""

    known_ns: int
    outcome: float
    category: str
    horizon: int


class Tally:
    """Base rates at any moment, from all outcomes known before it."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        """Sort by time once; n log n."""
        self._all = _Count()
        self._category: dict[str, _Count] = {}
        self._horizon: dict[tuple[str, int], _Count] = {}
        for one in sorted(outcomes, key=lambda o: o.known_ns):
            self._all.add(one.known_ns, one.outcome)
            self._category.setdefault(one.category, _Count()).add(one.known_ns, one.outcome)
            key = (one.category, one.horizon)
            self._horizon.setdefault(key, _Count()).add(one.known_ns, one.outcome)

    def rate(self, category: str, horizon: int, before_ns: int) -> float:
        """The shrunk rate of YES, strictly within (0, 1), from outcomes known before then."""
        rate = self.overall(before_ns)
        for count in (self._category.get(category), self._horizon.get((category, horizon))):
            if count is not None:
                n, yes = count.before(before_ns)
                rate = (yes + STRENGTH * rate) / (n + STRENGTH)
        return rate

    def overall(self, before_ns: int) -> float:
        """The rate of everything, with one YES and one NO assumed (Laplace)."""
        n, yes = self._all.before(before_ns)
        return (yes + 1.0) / (n + 2.0)

    def count(self, before_ns: int) -> int:
        """How many outcomes are known before then."""
        return self._all.before(before_ns)[0]
