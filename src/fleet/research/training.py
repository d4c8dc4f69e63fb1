"""The four stages over one series, the gate, and the manifest of what came out.

``train`` screens features, searches coarsely and finely on the development part, walks forward
through the rest, and judges. Bars from the plan's ``report_from_ns`` on are kept aside: no stage
sees them, the final model trades them once, unchanged, and the gate asks them last. What comes back
is a manifest and a model file, ready for the registry; a model that fails comes back too. The same
candles, plan and code give the same bytes, wherever it runs (with one worker: others in one study
make the order of trials a matter of chance; the manifest of what they found still rebuilds it).
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleet import __version__
from fleet.research.baselines import Baseline, baselines, choose_rules
from fleet.research.examination import Examination
from fleet.research.gate import Verdict, judge
from fleet.research.registry import plain
from fleet.research.screening import Screening, screen
from fleet.research.search import Found, Progress, search
from fleet.research.series import Candles
from fleet.research.studies import in_memory
from fleet.research.training_plan import Choice, Plan, TrainingError
from fleet.research.training_set import TrainingSet, training_set
from fleet.research.walk_forward import Stretch, final_model, trade, walk
from fleet.strategies.rules import Terms

if TYPE_CHECKING:
    import optuna

MANIFEST_VERSION: Final = 1
LIBRARIES: Final = ("numpy", "scikit-learn", "optuna", "numba")
CODE: Final = (
    "research/baselines.py", "research/examination.py", "research/features.py", "research/gate.py",
    "research/indicators.py", "research/metrics.py", "research/model.py", "research/screening.py",
    "research/search.py", "research/splits.py", "research/sweep.py", "research/training.py",
    "research/training_plan.py", "research/training_set.py", "research/walk_forward.py",
    "strategies/decision.py", "strategies/rules.py", "forecasting/logistic.py",
)  # fmt: skip
"""The files that decide what comes out; their digest is the version of the code."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What a training made: the registry's manifest and model file."""

    manifest: Mapping[str, Any]
    content: bytes

    @property
    def passed(self) -> bool:
        """Whether the gate let it through."""
        return self.manifest["verdict"]["passed"] is True


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Candles that may be learnt from, and where the part kept aside begins."""

    candles: Candles
    kept_aside: int
    """Row of ``candles`` from which on no stage looks; their number if none is kept aside."""


def parts_of(candles: Candles, plan: Plan) -> Parts:
    """Cut to the plan's look-back and find the part kept aside. Raises ``TrainingError``."""
    aside = len(candles)
    if plan.report_from_ns:
        aside = int(np.searchsorted(candles.ts, plan.report_from_ns))
        if not 0 < aside < len(candles):
            raise TrainingError(
                f"the report begins before or after all bars of {candles.symbol}: choose a time"
                " within them"
            )
    first = max(0, aside - plan.look_back) if plan.look_back else 0
    return Parts(candles=candles.rows(first, len(candles)), kept_aside=aside - first)


def open_examination(
    candles: Candles, plan: Plan, terms: Terms | None, kept: tuple[str, ...] = ()
) -> tuple[Examination, Parts, Screening | None]:
    """Stage 1 and what the search needs; with ``kept`` features nothing is screened again."""
    parts = parts_of(candles, plan)
    rows = training_set(parts.candles, plan, names=kept, terms=terms)
    last = int(parts.kept_aside * plan.development)
    if kept:
        # Rows before the widest screened feature knew itself are not used: it may not be among
        # the kept ones, and both ways must see the same rows.
        return Examination(_widened(rows, plan), plan, kept, last), parts, None
    screening = screen(
        rows, rows.warm_up, last, horizons=plan.horizons, folds=plan.search_folds, seed=plan.seed
    )
    return Examination(rows, plan, screening.kept, last), parts, screening


def train(
    candles: Candles,
    plan: Plan,
    *,
    terms: Terms | None = None,
    storage: optuna.storages.BaseStorage | None = None,
    name: str = "study",
    progress: Progress | None = None,
    about: Callable[[Screening], Mapping[str, Any]] | None = None,
) -> Trained:
    """Run all stages. Without ``storage`` trials end with the process.

    ``about`` makes what workers of the study find in it. Raises ``TrainingError``,
    ``CandlesError`` and ``ValueError`` for candles that cannot be trained on.
    """
    _tell(progress, "screening", 0)
    examination, parts, screening = open_examination(candles, plan, terms)
    if screening is None:
        raise TrainingError("nothing was screened")
    _tell(progress, "screening", 1)
    found = search(
        examination, storage if storage is not None else in_memory(), name,
        about=about(screening) if about is not None else None, progress=progress,
    )  # fmt: skip
    _tell(progress, "walk forward", 0)
    rows, last, choice = examination.rows, parts.kept_aside, found.choice
    walked = walk(examination, choice, last)
    chosen = choose_rules(rows, examination.first, examination.last)
    rules = baselines(rows, chosen, examination.last, last)
    model = final_model(examination, choice, last)
    report: Stretch | None = None
    report_rules: tuple[Baseline, ...] = ()
    if last < len(rows):
        scores = model.scores(examination.values(choice)[last:])
        report = trade(examination, choice, scores, last, len(rows))
        report_rules = baselines(rows, chosen, last, len(rows))
    verdict = judge(
        walked, rules, found.tried, plan.limits, synthetic=rows.candles.synthetic,
        report=report, report_rules=report_rules,
    )  # fmt: skip
    _tell(progress, "walk forward", 1)
    content = model.to_bytes()
    manifest = {
        "version": MANIFEST_VERSION,
        "series": _series(parts),
        "plan": plan.plain(),
        "terms": dataclasses.asdict(rows.terms),
        "screening": dataclasses.asdict(screening),
        "features": model.names,
        "choice": choice.plain(),
        "rule": dataclasses.asdict(examination.rule(choice)),
        "search": _searched(found),
        "walk_forward": _stretch(walked, rules, rows),
        "report": None if report is None else _stretch(report, report_rules, rows),
        "verdict": _verdict(verdict),
        "seed": plan.seed,
        "code": code_version(),
        "model_sha256": hashlib.sha256(content).hexdigest(),
    }
    return Trained(manifest=plain(manifest), content=content)


def rebuild(manifest: Mapping[str, Any], candles: Candles) -> bytes:
    """The model file again, from its manifest and the candles it was made of.

    ``candles`` may hold more than those. Raises ``TrainingError`` if they are not the same, or if
    what comes out is not the same to the bit (other versions of code or libraries, which the
    manifest names).
    """
    series, plan = manifest["series"], Plan.of(manifest["plan"])
    same = candles.between(int(series["first_ns"]), int(series["last_ns"]) + 1)
    same = replace(same, symbol=series["symbol"], exchange=series["exchange"])
    if same.digest != series["digest"]:
        raise TrainingError("these are not the candles the model was made of: give the same file")
    kept = tuple(manifest["screening"]["kept"])
    terms = Terms(**manifest["terms"])
    examination, _, _ = open_examination(
        same, replace(plan, report_from_ns=0, look_back=0), terms, kept
    )
    choice = Choice.of(manifest["choice"])
    content = final_model(examination, choice, len(same)).to_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["model_sha256"]:
        now, then = code_version(), manifest["code"]
        changed = [key for key in now if now[key] != then.get(key)] or ["nothing it knows of"]
        raise TrainingError(
            f"the model came out different; what changed since: {', '.join(changed)}"
        )
    return content


def code_version() -> dict[str, str]:
    """What the result depends on besides data and plan."""
    package = Path(__file__).resolve().parents[1]
    sha = hashlib.sha256()
    for name in CODE:
        sha.update((package / name).read_bytes())
    return {
        "fleet": __version__,
        "source": sha.hexdigest()[:16],
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _widened(rows: TrainingSet, plan: Plan) -> TrainingSet:
    from fleet.research.features import warm_up

    return replace(rows, warm_up=warm_up(plan.features))


def _tell(progress: Progress | None, stage: str, done: int) -> None:
    if progress is not None:
        progress(stage, done, 1)


def _series(parts: Parts) -> dict[str, Any]:
    """The candles learnt from; those kept aside are told apart."""
    learnt = parts.candles.rows(0, parts.kept_aside)
    return {
        "exchange": learnt.exchange, "symbol": learnt.symbol, "interval_ns": learnt.interval_ns,
        "bars": len(learnt), "first_ns": int(learnt.ts[0]), "last_ns": int(learnt.ts[-1]),
        "digest": learnt.digest, "source": learnt.source, "synthetic": learnt.synthetic,
    }  # fmt: skip


def _searched(found: Found) -> dict[str, Any]:
    return {
        "value": found.value, "trials": len(found.tried), "pruned": found.pruned,
        "sharpe_bar": found.tried,
    }  # fmt: skip


def _stretch(one: Stretch, rules: tuple[Baseline, ...], rows: TrainingSet) -> dict[str, Any]:
    return {
        "first_ns": int(rows.candles.ts[one.first]),
        "last_ns": int(rows.candles.ts[one.last - 1]),
        "model": dataclasses.asdict(one.performance),
        "fold_returns": one.fold_returns,
        "timing_p": one.timing_p,
        "baselines": {
            rule.name: {
                "rule": dataclasses.asdict(rule.rule), "tried": rule.tried,
                **dataclasses.asdict(rule.performance),
            }
            for rule in rules
        },
    }  # fmt: skip


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        **dataclasses.asdict(verdict),
        "reasons": [reason.name for reason in verdict.reasons],
        "line": verdict.line(),
    }
