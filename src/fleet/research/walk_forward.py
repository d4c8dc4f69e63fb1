"""Stage 4: the chosen model walks forward through bars that nothing was chosen on.

The part is cut into folds. Before each the model is grown again from everything before it, less
what its labels reach into and an embargo; it scores the fold, and the rule, fixed since the
development part, trades all folds in one run. So each figure is out of sample, after fees and
slippage. Nothing here may look for a better choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fleet.research.examination import Examination
from fleet.research.metrics import Performance, timing_p_value
from fleet.research.model import Model, fit
from fleet.research.series import Floats
from fleet.research.splits import walk_forward
from fleet.research.sweep import Outcome, run
from fleet.research.training_plan import Choice
from fleet.strategies import decision as d


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stretch:
    """A rule traded over rows ``first`` to before ``last``; ``fold_returns`` of equal parts of it.

    ``timing_p`` is how often the same holdings at other times earned as much, gross of fees.
    """

    first: int
    last: int
    performance: Performance
    fold_returns: tuple[float, ...]
    timing_p: float
    scores: Floats
    outcome: Outcome


def walk(examination: Examination, choice: Choice, last: int) -> Stretch:
    """Walk from the end of the development part to before row ``last``.

    Raises ``TrainingError`` and ``ValueError`` for too few bars.
    """
    rows, plan, first = examination.rows, examination.plan, examination.last
    values = examination.values(choice)
    scores = np.full(last - first, np.nan)
    for split in walk_forward(
        rows.warm_up, first, last, folds=plan.walk_folds, reach=choice.reach, embargo=plan.embargo
    ):
        scored = slice(split.first - first, split.last - first)
        scores[scored] = examination.fitted(choice, split).scores(values[split.first : split.last])
    return trade(examination, choice, scores, first, last)


def final_model(examination: Examination, choice: Choice, last: int) -> Model:
    """The model to trade with: grown from all rows before ``last`` whose labels end before it."""
    rows = examination.rows
    train = np.arange(rows.warm_up, last - choice.reach, dtype=np.int64)
    return fit(
        examination.values(choice), rows.labels(choice.horizon), train,
        examination.names(choice), choice, seed=examination.plan.seed,
        embargo=examination.plan.embargo,
    )  # fmt: skip


def trade(
    examination: Examination, choice: Choice, scores: Floats, first: int, last: int
) -> Stretch:
    """Trade rows ``first`` to before ``last`` by the choice's rule on their ``scores``."""
    rows, plan = examination.rows, examination.plan
    bars = rows.bars(first, last)
    outcome = run(bars, examination.rule(choice), rows.terms, rows.cash, scores)
    return Stretch(
        first=first, last=last, performance=outcome.performance,
        fold_returns=fold_returns(outcome, rows.cash, plan.walk_folds),
        timing_p=_timing(outcome, rows.candles.close[first:last], plan.shifts, plan.seed),
        scores=scores, outcome=outcome,
    )  # fmt: skip


def fold_returns(outcome: Outcome, cash: int, folds: int) -> tuple[float, ...]:
    """What the equity gained in each of ``folds`` equal parts."""
    ends = [len(outcome.equity) * part // folds - 1 for part in range(1, folds + 1)]
    marks = [cash, *(int(outcome.equity[end]) for end in ends)]
    return tuple(after / before - 1.0 for before, after in pairwise(marks))


def _timing(outcome: Outcome, close: Floats, shifts: int, seed: int) -> float:
    """The p value of when it held, by shares of equity at each close; NaN without a fill."""
    if not len(outcome.fills) or len(close) < 3:
        return float("nan")
    held = np.zeros(len(close))
    np.add.at(held, outcome.fills[:, d.BAR], outcome.fills[:, d.QTY])
    share = np.cumsum(held) * close / outcome.equity
    return timing_p_value(share[:-1], close[1:] / close[:-1] - 1.0, shifts=shifts, seed=seed)
