"""What a training does and what it found worth trying: plan, choice, and their plain forms.

A ``Plan`` fixes everything but the data: the same plan, data, code and one worker give the same
model to the bit. A ``Choice`` is one point of the search. Both are flat, so that they can be
written as JSON and read again without loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleet.domain.units import SCALE
from fleet.research.features import DEFAULT
from fleet.strategies.rules import Rule

PLAN_VERSION: Final = 1
VOL_WINDOW: Final = 48
"""Bars over which a position's volatility is measured when it is sized by it."""


class TrainingError(ValueError):
    """A training that cannot be done; the text names the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """What a model must reach; ``gate`` says how each is measured."""

    trades_min: int = 30
    deflated_sharpe_min: float = 0.95
    timing_p_max: float = 0.05
    folds_positive_min: float = 0.6
    drawdown_max: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to train. ``trials`` are those of the coarse and the fine search together.

    Of the bars before ``report_from_ns`` (0: all), at most the newest ``look_back`` (0: all), the
    first ``development`` share is for choosing and the rest for the walk forward. Rates are at
    1e-8, ``cash`` in quote currency.
    """

    trials: int = 60
    seed: int = 1
    development: float = 0.6
    search_folds: int = 4
    walk_folds: int = 5
    embargo: int = 24
    look_back: int = 0
    report_from_ns: int = 0
    horizons: tuple[int, ...] = (4, 12, 24, 48)
    features: tuple[str, ...] = DEFAULT
    fee_rate: int = SCALE // 1_000
    slippage: int = 2 * SCALE // 10_000
    cash: int = 10_000
    shifts: int = 2_000
    limits: GateLimits = dataclasses.field(default_factory=GateLimits)

    def __post_init__(self) -> None:
        """Refuse what could not be carried out."""
        if self.trials < 2:
            raise TrainingError(f"{self.trials} trials: give 2 at least, one a search")
        if not 0.2 <= self.development <= 0.9:
            raise TrainingError("development is a share of the bars from 0.2 to 0.9")
        if self.search_folds < 2 or self.walk_folds < 2:
            raise TrainingError("a search and a walk forward need 2 folds at least")
        if not self.horizons or min(self.horizons) < 1 or self.embargo < 0:
            raise TrainingError("horizons are bars above 0, the embargo is not negative")
        if self.cash < 1:
            raise TrainingError("cash must be above 0")

    @property
    def coarse_trials(self) -> int:
        """How many trials the coarse search has."""
        return max(1, self.trials * 3 // 5)

    @property
    def fine_trials(self) -> int:
        """How many trials refine what the coarse one found."""
        return self.trials - self.coarse_trials

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"version": PLAN_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Plan:
        """Read ``plain`` again. Raises ``TrainingError`` for another version's plan."""
        if plain.get("version") != PLAN_VERSION:
            raise TrainingError("the plan was written by another version: start a new study")
        values = {key: value for key, value in plain.items() if key != "version"}
        try:
            values["limits"] = GateLimits(**values["limits"])
            values["horizons"] = tuple(values["horizons"])
            values["features"] = tuple(values["features"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise TrainingError(f"no plan can be read of it: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One point of the search: the model, when to act on it, how much to hold.

    ``features`` counts the best screened ones. ``enter_edge`` is how far the probability must be
    above its usual value to buy, ``gap`` how far below that point it must fall to sell.
    ``vol_scale`` sizes a position to that multiple of the usual volatility of a bar (0: never).
    """

    horizon: int
    features: int
    learning_rate: float
    trees: int
    leaves: int
    leaf_rows: int
    ridge: float
    columns: float
    enter_edge: float = 0.0
    gap: float = 0.01
    stop_loss: float = 0.0
    take_profit: float = 0.0
    vol_scale: float = 0.0

    @property
    def reach(self) -> int:
        """Bars until a label is known: the next open, and the horizon from there."""
        return self.horizon + 1

    def rule(self, usual: float, volatility: float) -> Rule:
        """The rule that acts on the scores; ``usual`` is how often a move pays at all."""
        enter = min(max(round((usual + self.enter_edge) * SCALE), 0), SCALE)
        leave = min(max(round((usual + self.enter_edge - self.gap) * SCALE), 0), enter)
        target = round(self.vol_scale * volatility * SCALE)
        return Rule(
            kind="model_threshold", enter=enter, leave=leave,
            stop_loss=round(self.stop_loss * SCALE), take_profit=round(self.take_profit * SCALE),
            vol_window=VOL_WINDOW if target else 0, vol_target=target,
        )  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Choice:
        """Read ``plain`` again. Raises ``TrainingError``."""
        try:
            return cls(**plain)
        except TypeError as error:
            raise TrainingError(f"no choice can be read of it: {error}") from error
