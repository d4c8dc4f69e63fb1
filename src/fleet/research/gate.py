"""The gate between a model and money: out of sample, after costs, against luck and against rules.

A model passes only if nothing speaks against it; each reason is one of a closed list, so that a
failure can be counted and looked up. "No edge found" is the usual end, not an error. The limits
stand in the plan, before anything is measured. Unknown (NaN) is never good enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fleet.research.baselines import HOLD, Baseline
from fleet.research.examination import known
from fleet.research.metrics import deflated_sharpe
from fleet.research.training_plan import GateLimits
from fleet.research.walk_forward import Stretch

NO_EDGE: Final = "no edge found"


class Reason(Enum):
    """Why a model may not trade; the value says it to a person."""

    DATA_SYNTHETIC = "the candles were made up"
    TRADES_TOO_FEW = "too few trades to judge by"
    RETURN_NOT_POSITIVE = "it lost money after costs"
    SHARPE_WITHIN_LUCK = "so many trials find such a Sharpe ratio by luck"
    TIMING_WITHIN_LUCK = "the same holdings at other times earned as much"
    FOLDS_UNSTABLE = "it earned in too few parts of the time"
    DRAWDOWN_TOO_DEEP = "it fell too far from its peak"
    RULE_BETTER = "a plain rule has a better Sharpe ratio"
    HOLDING_BETTER = "buying and holding has a better Sharpe ratio"
    REPORT_NOT_CONFIRMED = "bars kept aside to the end did not confirm it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``passed`` if there is no reason against it; the figures the reasons rest on."""

    passed: bool
    reasons: tuple[Reason, ...]
    deflated_sharpe: float
    timing_p: float
    folds_positive: float
    trials: int

    def line(self) -> str:
        """One line for a person."""
        if self.passed:
            return "passed the gate"
        told = "; ".join(f"{reason.name}: {reason.value}" for reason in self.reasons)
        return f"{NO_EDGE} ({told})"


def judge(
    walked: Stretch,
    rules: Sequence[Baseline],
    tried: Sequence[float],
    limits: GateLimits,
    *,
    synthetic: bool,
    report: Stretch | None = None,
    report_rules: Sequence[Baseline] = (),
) -> Verdict:
    """Hold what walked forward against the limits and the baselines over the same bars.

    ``tried`` are the Sharpe ratios of a bar of *every* trial; that of the walk is counted to them.
    ``report``, if there is one, are the bars kept aside: there the model must have earned, and
    more for its risk than the best rule and holding did.
    """
    found = walked.performance
    deflated = deflated_sharpe(found, [*tried, known(found.sharpe_bar)])
    positive = sum(gain > 0 for gain in walked.fold_returns) / len(walked.fold_returns)
    plain = [rule for rule in rules if rule.name != HOLD]
    hold = [rule for rule in rules if rule.name == HOLD]
    objections = {
        Reason.DATA_SYNTHETIC: synthetic,
        Reason.TRADES_TOO_FEW: found.trades < limits.trades_min,
        Reason.RETURN_NOT_POSITIVE: not found.total_return > 0,
        Reason.SHARPE_WITHIN_LUCK: not deflated >= limits.deflated_sharpe_min,
        Reason.TIMING_WITHIN_LUCK: not walked.timing_p <= limits.timing_p_max,
        Reason.FOLDS_UNSTABLE: not positive >= limits.folds_positive_min,
        Reason.DRAWDOWN_TOO_DEEP: not found.max_drawdown >= -limits.drawdown_max,
        Reason.RULE_BETTER: not _better(walked, plain),
        Reason.HOLDING_BETTER: not _better(walked, hold),
        Reason.REPORT_NOT_CONFIRMED: report is not None
        and not (report.performance.total_return > 0 and _better(report, report_rules)),
    }
    reasons = tuple(reason for reason, holds in objections.items() if holds)
    return Verdict(
        passed=not reasons, reasons=reasons, deflated_sharpe=deflated, timing_p=walked.timing_p,
        folds_positive=positive, trials=len(tried),
    )  # fmt: skip


def _better(walked: Stretch, rules: Sequence[Baseline]) -> bool:
    own = walked.performance.sharpe
    return not math.isnan(own) and all(own > known(rule.performance.sharpe) for rule in rules)
