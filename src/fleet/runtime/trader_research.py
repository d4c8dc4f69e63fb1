"""What the Trader asks of research: a validation, made now or made before, and reports.

The launcher is handed an implementation by its script, because nothing that trades imports
research. Research reads candles and writes models and reports; it never trades.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from fleet.runtime.trader_tokens import Token

Told = Callable[[str, int, int], None]
"""Told how far a long piece of work is: its name, how many steps are done, and of how many."""


class ResearchFailed(Exception):  # noqa: N818 - named for what happened
    """No validation could be made; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train on and how. ``bars`` 0 is all there are."""

    token: Token
    interval: str
    root: Path
    """The fleet's, under which cache and registry lie."""
    data: Path | None
    trials: int
    bars: int
    seed: int
    synthetic: bool
    """Whether made-up candles may stand in when there are no others."""
    network: bool
    """Whether missing candles may be downloaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What a training found. A model that failed is recorded too, with its ``reason``."""

    token: str
    interval: str
    passed: bool
    reason: str
    model: str
    """Its name in the registry."""
    synthetic: bool
    volatility: float
    """Standard deviation of a year's returns, for the portfolio's weights; 0 if unknown."""
    lines: tuple[str, ...] = ()
    """The report, for people."""
    files: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Validation:
        """Read ``plain`` again. Raises ``TypeError`` or ``KeyError`` for anything else."""
        lists = {name: tuple(plain[name]) for name in ("lines", "files")}
        return cls(**{**plain, **lists})


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """How tokens move: yearly volatilities (0 unknown) and correlations of pairs (NaN unknown)."""

    volatilities: Mapping[str, float]
    correlations: Mapping[tuple[str, str], float]


class Research(Protocol):
    """What is asked; every question may raise ``ResearchFailed``."""

    def blank(self, job: Job, told: Told) -> Validation:
        """The whole pipeline in small."""
        ...

    def backtest(self, job: Job, told: Told) -> Validation:
        """The whole pipeline, with pictures, and a model kept in the registry."""
        ...

    def fresh(self, job: Job, age_ns: int, now_ns: int) -> Validation | None:
        """The newest validation of the registry for this token and interval, if fresh enough."""
        ...

    def moves(self, jobs: Sequence[Job]) -> Moves:
        """How the jobs' tokens move, alone and together."""
        ...

    def compare(self, root: Path) -> Sequence[str]:
        """What all studies and models have found, as lines for people."""
        ...
