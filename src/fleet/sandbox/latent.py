"""Fair prices nobody sees: one random process per group of markets, consistent inside the group.

A lone market, a set of exclusive outcomes (fair prices sum to one), a ladder (fair prices rise from
rung to rung) each have one process. All revert slowly to where they began, so that a sandbox may
run for weeks, and jump now and then. Randomness comes from the ``random.Random`` passed in; time is
a number of seconds passed in. Floats are right here: a fair price is a belief, not money.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

REVERSION_S: Final = 900.0
"""Time constant of the pull back to the start."""
JUMPS_PER_S: Final = 1 / 90
JUMP_SIGMAS_S: Final = 40.0
"""A jump is as wide as this many seconds of ordinary movement."""
FAIR_MIN: Final = 0.012
FAIR_MAX: Final = 1 - FAIR_MIN


class LatentProcess(Protocol):
    """A group's fair prices, one per market, in (0, 1)."""

    def fairs(self) -> list[float]:
        """The fair YES prices now."""
        ...

    def advance(self, rng: random.Random, seconds: float) -> None:
        """Let ``seconds`` pass."""
        ...


def logit(p: float) -> float:
    """Log odds of a probability strictly between 0 and 1."""
    return math.log(p / (1 - p))


def _clip(p: float) -> float:
    return min(max(p, FAIR_MIN), FAIR_MAX)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@dataclass(slots=True)
class _Walk:
    """A mean-reverting random walk with jumps, on the whole line."""

    home: float
    volatility: float
    """Standard deviation after one second."""
    value: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            self.value = self.home

    def advance(self, rng: random.Random, seconds: float) -> None:
        sigma = self.volatility * math.sqrt(seconds)
        if rng.random() < JUMPS_PER_S * seconds:
            sigma += self.volatility * math.sqrt(JUMP_SIGMAS_S)
        self.value += (self.home - self.value) * min(1.0, seconds / REVERSION_S)
        self.value += sigma * rng.gauss(0, 1)


class SingleFair:
    """One market: a walk of the log odds."""

    def __init__(self, start: float, volatility: float) -> None:
        """Begin at ``start``; ``volatility`` is of the log odds, per root second."""
        self._walk = _Walk(logit(start), volatility)

    def fairs(self) -> list[float]:
        return [_clip(_expit(self._walk.value))]

    def advance(self, rng: random.Random, seconds: float) -> None:
        self._walk.advance(rng, seconds)

    def place(self, fair: float) -> None:
        """Move to ``fair`` at once: the outcome of a timed market becoming known."""
        self._walk.home = self._walk.value = logit(fair)


class ExclusiveFairs:
    """Exactly one of n outcomes: walks of log weights, normalised to sum to one."""

    def __init__(self, starts: Sequence[float], volatility: float) -> None:
        """Begin at ``starts``, which are scaled to sum to one."""
        self._walks = [_Walk(math.log(p), volatility) for p in starts]

    def fairs(self) -> list[float]:
        weights = [math.exp(w.value) for w in self._walks]
        total = sum(weights)
        return [w / total for w in weights]

    def advance(self, rng: random.Random, seconds: float) -> None:
        for walk in self._walks:
            walk.advance(rng, seconds)

    def shift(self, leg: int, fair: float) -> None:
        """Move one outcome to ``fair``; the others keep their proportions to one another."""
        now = self.fairs()[leg]
        self._walks[leg].value += logit(_clip(fair)) - logit(now)


class ByDateFairs:
    """Whether it happens by date k: one hazard for all dates, so later is never less likely."""

    def __init__(self, starts: Sequence[float], volatility: float) -> None:
        """Begin at ``starts``, rising from rung to rung."""
        self._horizons = [-math.log(1 - p) for p in starts]
        self._walk = _Walk(0.0, volatility)

    def fairs(self) -> list[float]:
        hazard = math.exp(self._walk.value)
        return [_clip(1 - math.exp(-hazard * h)) for h in self._horizons]

    def advance(self, rng: random.Random, seconds: float) -> None:
        self._walk.advance(rng, seconds)


class AboveFairs:
    """Whether it ends above strike k: one walk for all, so a lower strike is never less likely."""

    def __init__(self, starts: Sequence[float], volatility: float) -> None:
        """Begin at ``starts``, in any order of strikes."""
        self._offsets = [logit(p) for p in starts]
        self._walk = _Walk(0.0, volatility)

    def fairs(self) -> list[float]:
        return [_clip(_expit(o + self._walk.value)) for o in self._offsets]

    def advance(self, rng: random.Random, seconds: float) -> None:
        self._walk.advance(rng, seconds)
