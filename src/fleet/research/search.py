"""Stages 2 and 3: a coarse search for a model, then a finer one around the best, with its rule.

Coarse: Optuna's TPE sampler over horizon, features and trees, thresholds fixed at what is usual;
hopeless choices are pruned after a fold. Fine: the same around the best of the coarse stage, with
thresholds, stops and sizing. Any number of workers may run ``search`` on one storage at once: each
works until the stage has its trials, and exactly one makes the fine stage. One worker alone, given
the same seed, tries the same choices in the same order. Every trial is counted, whoever ran it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from fleet.research.examination import Examination
from fleet.research.studies import ABOUT
from fleet.research.training_plan import Choice, Plan, TrainingError

if TYPE_CHECKING:
    import optuna

Progress = Callable[[str, int, int], None]
"""Told a stage, how much of it is done, and of how much."""
CENTRE: Final = "centre"
CHOICE: Final = "choice"
SHARPE_BAR: Final = "sharpe_bar"
WORKER: Final = "worker"
STARTUP_TRIALS: Final = 8
"""Whole trials before any is pruned, and random ones before TPE models them."""
CENTRE_WAIT_S: Final = 30.0
_POLL_S: Final = 0.1
TREES: Final = (30, 120)
LEAVES: Final = (3, 16)
LEAF_ROWS: Final = (20, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best choice, its value, and the Sharpe ratio of a bar of every trial of both stages."""

    choice: Choice
    value: float
    tried: tuple[float, ...]
    pruned: int


def search(
    examination: Examination,
    storage: optuna.storages.BaseStorage,
    name: str,
    *,
    about: Mapping[str, Any] | None = None,
    worker: int = 0,
    progress: Progress | None = None,
) -> Found:
    """Run trials until both stages have theirs. ``worker`` tells samplers apart, 0 is the first.

    Raises ``TrainingError`` if no trial could be completed.
    """
    import optuna

    plan = examination.plan
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    coarse = optuna.create_study(
        study_name=f"{name}:coarse", storage=storage, direction="maximize", pruner=pruner,
        load_if_exists=True,
    )  # fmt: skip
    if about is not None:
        coarse.set_user_attr(ABOUT, dict(about))
    coarse.sampler = _sampler(coarse, plan, 2 * worker)
    _work(
        coarse,
        plan.coarse_trials,
        examination,
        _coarse_choice,
        _telling(progress, "coarse"),
        worker,
    )
    fine = _fine_study(coarse, storage, name, pruner)
    centre = _centre(coarse, fine)
    fine.sampler = _sampler(fine, plan, 2 * worker + 1)

    def around(trial: optuna.Trial, of: Examination) -> Choice:
        return _fine_choice(trial, of, centre)

    _work(fine, plan.fine_trials, examination, around, _telling(progress, "fine"), worker)
    return found_in(coarse.trials, fine.trials)


def found_in(coarse: list[optuna.trial.FrozenTrial], fine: list[optuna.trial.FrozenTrial]) -> Found:
    """The best of all trials; of equals the earlier. Raises ``TrainingError`` for none."""
    trials = [*coarse, *fine]
    whole = [one for one in trials if one.state.name == "COMPLETE"]
    if not whole:
        failed = next((one.user_attrs["error"] for one in trials if "error" in one.user_attrs), "")
        raise TrainingError(f"no trial could be completed: {failed or 'none has ended yet'}")
    best = max(whole, key=lambda one: one.value if one.value is not None else float("-inf"))
    return Found(
        choice=Choice.of(json.loads(best.user_attrs[CHOICE])),
        value=float(best.value or 0.0),
        tried=tuple(float(t.user_attrs[SHARPE_BAR]) for t in trials if SHARPE_BAR in t.user_attrs),
        pruned=sum(one.state.name == "PRUNED" for one in trials),
    )


def _sampler(study: optuna.Study, plan: Plan, worker: int) -> optuna.samplers.BaseSampler:
    """Seeded; one that resumes a study does not begin as the one before it began."""
    import optuna

    seed = (plan.seed * 1_000_003 + worker * 7_919 + len(study.trials) * 104_729) % 2**32
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)


def _telling(progress: Progress | None, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(stage, done, total) if progress is not None else None


Ask = Callable[["optuna.Trial", Examination], Choice]


def _ended(study: optuna.Study) -> int:
    return sum(one.state.is_finished() for one in study.get_trials(deepcopy=False))


def _work(
    study: optuna.Study,
    target: int,
    of: Examination,
    ask: Ask,
    tell: Callable[[int, int], None],
    worker: int,
) -> None:
    """Run trials until ``target`` have ended, here or elsewhere."""

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr(WORKER, worker)
        return _objective(trial, of, ask)

    while (done := _ended(study)) < target:
        tell(done, target)
        study.optimize(objective, n_trials=1, catch=(TrainingError,))
    tell(target, target)


def _objective(trial: optuna.Trial, of: Examination, ask: Ask) -> float:
    import optuna

    choice = ask(trial, of)
    trial.set_user_attr(CHOICE, json.dumps(choice.plain()))

    def on_fold(number: int, value: float) -> bool:
        trial.report(value, number)
        return trial.should_prune()

    try:
        examined = of.examine(choice, on_fold)
    except ValueError as error:
        trial.set_user_attr("error", str(error))
        raise TrainingError(str(error)) from error
    trial.set_user_attr(SHARPE_BAR, examined.sharpe_bar)
    if examined.stopped:
        raise optuna.TrialPruned
    return examined.value


# --- what is tried -------------------------------------------------------------------------------


def _coarse_choice(trial: optuna.Trial, of: Examination) -> Choice:
    return Choice(
        horizon=trial.suggest_categorical("horizon", of.plan.horizons),
        features=trial.suggest_int("features", min(3, len(of.kept)), len(of.kept)),
        learning_rate=trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
        trees=trial.suggest_int("trees", *TREES, log=True),
        leaves=trial.suggest_int("leaves", *LEAVES, log=True),
        leaf_rows=trial.suggest_int("leaf_rows", *LEAF_ROWS, log=True),
        ridge=trial.suggest_float("ridge", 1e-3, 10.0, log=True),
        columns=trial.suggest_float("columns", 0.3, 1.0),
    )


def _fine_choice(trial: optuna.Trial, of: Examination, centre: Choice) -> Choice:
    def near(name: str, value: int, bounds: tuple[int, int]) -> int:
        low = min(max(bounds[0], value // 2), bounds[1])
        return trial.suggest_int(name, low, max(low, min(bounds[1], value * 2)), log=True)

    few = max(1, min(centre.features - 2, len(of.kept)))
    rate = centre.learning_rate
    return replace(
        centre,
        features=trial.suggest_int("features", few, min(centre.features + 2, len(of.kept))),
        learning_rate=trial.suggest_float("learning_rate", rate / 2, rate * 2, log=True),
        trees=near("trees", centre.trees, TREES),
        leaves=near("leaves", centre.leaves, LEAVES),
        leaf_rows=near("leaf_rows", centre.leaf_rows, LEAF_ROWS),
        enter_edge=trial.suggest_float("enter_edge", -0.01, 0.06),
        gap=trial.suggest_float("gap", 0.0, 0.05),
        stop_loss=trial.suggest_categorical("stop_loss", (0.0, 0.02, 0.05)),
        take_profit=trial.suggest_categorical("take_profit", (0.0, 0.04, 0.1)),
        vol_scale=trial.suggest_categorical("vol_scale", (0.0, 0.5, 1.0)),
    )


# --- the fine stage is made once -----------------------------------------------------------------


def _fine_study(
    coarse: optuna.Study, storage: optuna.storages.BaseStorage, name: str, pruner: Any
) -> optuna.Study:
    """Made by whoever comes first, around the best choice at that moment."""
    import optuna

    called = f"{name}:fine"
    try:
        fine = optuna.create_study(
            study_name=called, storage=storage, direction="maximize", pruner=pruner
        )
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(study_name=called, storage=storage, pruner=pruner)
    fine.set_user_attr(CENTRE, json.dumps(found_in(coarse.trials, []).choice.plain()))
    return fine


def _centre(coarse: optuna.Study, fine: optuna.Study) -> Choice:
    """What the fine stage is around; its maker may be about to say so, or may have died."""
    until = time.monotonic() + CENTRE_WAIT_S
    while CENTRE not in fine.user_attrs:
        if time.monotonic() > until:
            fine.set_user_attr(CENTRE, json.dumps(found_in(coarse.trials, []).choice.plain()))
        time.sleep(_POLL_S)
    return Choice.of(json.loads(fine.user_attrs[CENTRE]))
