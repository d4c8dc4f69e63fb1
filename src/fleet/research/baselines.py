"""What a model has to beat: plain rules, each at its best setting of the past, and holding.

The settings are chosen on the development part by Sharpe ratio after costs, as the model's are;
then each rule trades the very bars the model is judged on. Grids are the windows the field's books
use (Donchian's 20 and 55 days, means of 20 to 200, deviations of 1.5 to 2.5), counted in bars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fleet.domain.units import SCALE
from fleet.research.examination import known
from fleet.research.metrics import Performance
from fleet.research.sweep import run, sweep
from fleet.research.training_set import TrainingSet
from fleet.strategies.rules import Rule

HOLD: Final = "buy_and_hold"
_CROSSES: Final = ((5, 20), (10, 30), (10, 50), (20, 60), (20, 100), (50, 200))
_CHANNELS: Final = ((10, 20), (20, 55), (24, 96), (48, 168))
_REVERSIONS: Final = tuple(
    (window, enter, leave) for window in (20, 48, 96) for enter in (15, 20, 25) for leave in (0, 5)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A rule, how many settings of it were tried, and what the best of them did."""

    name: str
    rule: Rule
    tried: int
    development: Performance
    performance: Performance


def choose_rules(rows: TrainingSet, first: int, last: int) -> list[tuple[Rule, int, Performance]]:
    """The best setting of each kind on rows ``first`` to before ``last``: rule, tried, figures."""
    bars, chosen = rows.bars(first, last), []
    for grid in _grids():
        found = sweep(bars, grid, rows.terms, rows.cash, workers=1)
        best = max(range(len(grid)), key=lambda n: known(found[n].sharpe))
        chosen.append((grid[best], len(grid), found[best]))
    return chosen


def baselines(
    rows: TrainingSet, chosen: list[tuple[Rule, int, Performance]], first: int, last: int
) -> tuple[Baseline, ...]:
    """Those rules over rows ``first`` to before ``last``."""
    bars = rows.bars(first, last)
    return tuple(
        Baseline(
            name=rule.kind, rule=rule, tried=tried, development=development,
            performance=run(bars, rule, rows.terms, rows.cash).performance,
        )
        for rule, tried, development in chosen
    )  # fmt: skip


def _grids() -> list[list[Rule]]:
    tenth = SCALE // 10
    return [
        [Rule(kind="sma_cross", fast=fast, slow=slow) for fast, slow in _CROSSES],
        [Rule(kind="breakout", fast=fast, slow=slow) for fast, slow in _CHANNELS],
        [
            Rule(kind="mean_reversion", slow=slow, enter=enter * tenth, leave=leave * tenth)
            for slow, enter, leave in _REVERSIONS
        ],
        [Rule(kind=HOLD)],
    ]
