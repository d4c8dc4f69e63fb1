"""The gate: each limit alone stops a model, and a model that reaches all of them passes."""

from dataclasses import replace

import numpy as np
import pytest

from fleet.research.baselines import Baseline
from fleet.research.gate import Reason, judge
from fleet.research.metrics import Performance
from fleet.research.sweep import Outcome
from fleet.research.training_plan import Choice, GateLimits, Plan, TrainingError
from fleet.research.walk_forward import Stretch, fold_returns
from fleet.strategies.rules import Rule

GOOD = Performance(
    bars=5_000, total_return=0.4, cagr=0.8, sharpe=4.0, sortino=5.0, max_drawdown=-0.1,
    exposure=0.4, turnover=20.0, win_rate=0.6, profit_factor=1.8, trades=80, fees=100.0,
    sharpe_bar=0.08, skew=0.0, kurtosis=3.0,
)  # fmt: skip
TRIED = [-0.01, 0.0, 0.01, 0.02]
NAN = float("nan")


def stretch(performance: Performance = GOOD, **changes: object) -> Stretch:
    empty = np.empty(0)
    outcome = Outcome(
        fills=np.empty((0, 6), np.int64), equity=np.empty(0, np.int64), cash=0, held=0, missed=0,
        performance=performance,
    )  # fmt: skip
    made = Stretch(
        first=0, last=10, performance=performance, fold_returns=(0.1, 0.1, -0.1), timing_p=0.01,
        scores=empty, outcome=outcome,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def rule(name: str, sharpe: float) -> Baseline:
    made = Rule(kind="buy_and_hold")
    poor = replace(GOOD, sharpe=sharpe)
    return Baseline(name=name, rule=made, tried=1, development=poor, performance=poor)


RULES = (rule("sma_cross", 1.0), rule("buy_and_hold", NAN))


def reasons(
    walked: Stretch, rules: tuple[Baseline, ...] = RULES, *, synthetic: bool = False,
    report: Stretch | None = None, report_rules: tuple[Baseline, ...] = (),
) -> set[Reason]:  # fmt: skip
    verdict = judge(
        walked, rules, TRIED, GateLimits(), synthetic=synthetic, report=report,
        report_rules=report_rules,
    )  # fmt: skip
    return set(verdict.reasons)


def test_a_model_that_reaches_every_limit_passes() -> None:
    verdict = judge(stretch(), RULES, TRIED, GateLimits(), synthetic=False)
    assert verdict.passed
    assert verdict.line() == "passed the gate"
    assert verdict.deflated_sharpe > 0.95
    assert verdict.trials == 4


@pytest.mark.parametrize(
    ("walked", "reason"),
    [
        (stretch(replace(GOOD, trades=29)), Reason.TRADES_TOO_FEW),
        (stretch(replace(GOOD, total_return=0.0)), Reason.RETURN_NOT_POSITIVE),
        (stretch(replace(GOOD, bars=400)), Reason.SHARPE_WITHIN_LUCK),
        (stretch(timing_p=0.051), Reason.TIMING_WITHIN_LUCK),
        (stretch(timing_p=NAN), Reason.TIMING_WITHIN_LUCK),
        (stretch(fold_returns=(0.9, -0.1, -0.1)), Reason.FOLDS_UNSTABLE),
        (stretch(replace(GOOD, max_drawdown=-0.26)), Reason.DRAWDOWN_TOO_DEEP),
        (stretch(replace(GOOD, max_drawdown=NAN)), Reason.DRAWDOWN_TOO_DEEP),
        (stretch(replace(GOOD, sharpe=1.0)), Reason.RULE_BETTER),
    ],
)
def test_each_limit_alone_stops_it(walked: Stretch, reason: Reason) -> None:
    assert reasons(walked) == {reason}


def test_holding_made_up_bars_and_the_bars_kept_aside_stop_it_too() -> None:
    assert reasons(stretch(), (rule("buy_and_hold", 4.5),)) == {Reason.HOLDING_BETTER}
    assert reasons(stretch(), synthetic=True) == {Reason.DATA_SYNTHETIC}
    lost = stretch(replace(GOOD, total_return=-0.01))
    assert reasons(stretch(), report=lost) == {Reason.REPORT_NOT_CONFIRMED}
    beaten = (rule("breakout", 4.1),)
    assert reasons(stretch(), report=stretch(), report_rules=beaten) == {
        Reason.REPORT_NOT_CONFIRMED
    }
    assert reasons(stretch(), report=stretch(), report_rules=RULES) == set()


def test_what_never_traded_is_unknown_and_unknown_is_not_good_enough() -> None:
    idle = replace(
        GOOD, trades=0, total_return=0.0, sharpe=NAN, sharpe_bar=NAN, skew=NAN, kurtosis=NAN,
        max_drawdown=0.0,
    )  # fmt: skip
    found = reasons(stretch(idle, timing_p=NAN, fold_returns=(0.0, 0.0)))
    assert {Reason.TRADES_TOO_FEW, Reason.SHARPE_WITHIN_LUCK, Reason.RULE_BETTER} <= found


def test_more_trials_ask_for_more() -> None:
    few = judge(stretch(), RULES, TRIED * 50, GateLimits(), synthetic=False)
    many = judge(stretch(), RULES, TRIED * 5_000, GateLimits(), synthetic=False)
    assert (few.trials, many.trials) == (200, 20_000)
    assert many.deflated_sharpe < few.deflated_sharpe


def test_fold_returns_chain_to_the_whole() -> None:
    equity = np.array([110, 120, 90, 99, 198, 180], np.int64)
    outcome = replace(stretch().outcome, equity=equity)
    found = fold_returns(outcome, 100, 3)
    assert found == pytest.approx((0.2, 99 / 120 - 1, 180 / 99 - 1))
    assert np.prod([1 + gain for gain in found]) == pytest.approx(1.8)


# --- plans ---------------------------------------------------------------------------------------


def test_plans_and_choices_survive_being_written() -> None:
    import json

    plan = Plan(trials=7, horizons=(3,), limits=GateLimits(trades_min=5))
    assert Plan.of(json.loads(json.dumps(plan.plain()))) == plan
    assert (plan.coarse_trials, plan.fine_trials) == (4, 3)
    choice = Choice(horizon=3, features=2, learning_rate=0.1 / 3, trees=9, leaves=4, leaf_rows=20,
                    ridge=0.1, columns=0.5)  # fmt: skip
    assert Choice.of(json.loads(json.dumps(choice.plain()))) == choice


@pytest.mark.parametrize(
    "changes", [{"trials": 1}, {"development": 0.95}, {"walk_folds": 1}, {"horizons": ()},
                {"embargo": -1}, {"cash": 0}],
)  # fmt: skip
def test_plans_nobody_can_carry_out_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(TrainingError):
        Plan(**changes)  # type: ignore[arg-type]


def test_plans_of_another_version_are_refused() -> None:
    with pytest.raises(TrainingError, match="another version"):
        Plan.of({**Plan().plain(), "version": 99})
    with pytest.raises(TrainingError, match="no plan can be read"):
        Plan.of({**Plan().plain(), "surprise": 1})


def test_a_rule_buys_above_and_sells_below_what_is_usual() -> None:
    choice = Choice(horizon=3, features=2, learning_rate=0.1, trees=9, leaves=4, leaf_rows=20,
                    ridge=0.1, columns=0.5, enter_edge=0.03, gap=0.05, stop_loss=0.02,
                    vol_scale=0.5)  # fmt: skip
    made = choice.rule(0.45, 0.006)
    assert (made.enter, made.leave) == (48_000_000, 43_000_000)
    assert (made.stop_loss, made.vol_window, made.vol_target) == (2_000_000, 48, 300_000)
    assert choice.rule(0.02, 0.006).leave == 0
