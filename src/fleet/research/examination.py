"""How good a choice is on the development part: fitted and traded fold by fold.

Each fold of the development part is traded by a model that never saw it (purged on both sides,
with an embargo behind), through the very loop that ``sweep`` and, by the same step, the engine use,
after fees and slippage. A choice is worth its mean annual Sharpe ratio over the folds less half of
how much that differs between them: what works in one part alone is worth little. A fold without a
trade earned nothing, so its ratio counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from fleet.research.metrics import Performance
from fleet.research.model import Model, fit
from fleet.research.series import Floats
from fleet.research.splits import Split, purged_folds
from fleet.research.sweep import run
from fleet.research.training_plan import Choice, Plan
from fleet.research.training_set import TrainingSet
from fleet.strategies.rules import Rule

SPREAD_WEIGHT: Final = 0.5
OnFold = Callable[[int, float], bool]
"""Told the fold's number and the value so far; true stops the examination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """``value`` to be maximised; ``sharpe_bar`` is the mean of the folds' ratios of a bar."""

    value: float
    sharpe_bar: float
    folds: tuple[Performance, ...]
    stopped: bool


class Examination:
    """The development part of one series, its features screened."""

    def __init__(self, rows: TrainingSet, plan: Plan, kept: tuple[str, ...], last: int) -> None:
        """Examine on rows after the warm-up and before ``last``; ``kept`` features, best first."""
        self.rows = rows
        self.plan = plan
        self.kept = kept
        self.first = rows.warm_up
        self.last = last
        self.volatility = rows.volatility(self.first, last)
        self._values: dict[int, Floats] = {}

    def names(self, choice: Choice) -> tuple[str, ...]:
        """The features a choice uses."""
        return self.kept[: choice.features]

    def values(self, choice: Choice) -> Floats:
        """Their columns."""
        count = len(self.names(choice))
        if count not in self._values:
            self._values[count] = self.rows.columns(self.kept[:count])
        return self._values[count]

    def usual(self, horizon: int) -> float:
        """How often a move of this horizon paid in the development part."""
        return float(np.nanmean(self.rows.labels(horizon)[self.first : self.last - horizon - 1]))

    def rule(self, choice: Choice) -> Rule:
        """The choice's rule, its thresholds around what was usual in the development part."""
        return choice.rule(self.usual(choice.horizon), self.volatility)

    def fitted(self, choice: Choice, split: Split) -> Model:
        """The model of one split. Raises ``TrainingError``."""
        return fit(
            self.values(choice), self.rows.labels(choice.horizon), split.train,
            self.names(choice), choice, seed=self.plan.seed, embargo=self.plan.embargo,
        )  # fmt: skip

    def examine(self, choice: Choice, on_fold: OnFold | None = None) -> Examined:
        """Fit and trade every fold. Raises ``TrainingError``, ``ValueError`` for too few bars."""
        rule, values = self.rule(choice), self.values(choice)
        found: list[Performance] = []
        # Labels of the last rows would look beyond the development part.
        splits = purged_folds(
            self.first, self.last - choice.reach, folds=self.plan.search_folds,
            reach=choice.reach, embargo=self.plan.embargo,
        )  # fmt: skip
        for number, split in enumerate(splits):
            scores = self.fitted(choice, split).scores(values[split.first : split.last])
            found.append(
                run(
                    self.rows.bars(split.first, split.last), rule, self.rows.terms,
                    self.rows.cash, scores,
                ).performance
            )  # fmt: skip
            value = _value(found)
            if on_fold is not None and number + 1 < len(splits) and on_fold(number, value):
                break
        return Examined(
            value=_value(found),
            sharpe_bar=float(np.mean([known(one.sharpe_bar) for one in found])),
            folds=tuple(found),
            stopped=len(found) < len(splits),
        )


def known(ratio: float) -> float:
    """A ratio, 0 where nothing moved."""
    return 0.0 if math.isnan(ratio) else ratio


def _value(found: list[Performance]) -> float:
    ratios = [known(one.sharpe) for one in found]
    return float(np.mean(ratios) - SPREAD_WEIGHT * np.std(ratios))
