"""A training that others can join: a study in a journal file or Postgres, and its workers.

``open_study`` trains with the trials kept in a study and leaves in it what a worker needs: plan,
features, where the candles are and their digest. ``work`` is such a worker: it loads the same
candles (another digest is refused: a trial on other data would be believed) and runs trials until
the study has enough. It may be started any number of times, anywhere that reaches the storage, and
killed at any time: a trial it leaves behind is counted as neither done nor failed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.research.candles import load_file, resample
from fleet.research.screening import Screening
from fleet.research.search import Found, Progress, found_in, search
from fleet.research.series import Candles
from fleet.research.studies import Studies
from fleet.research.training import Trained, open_examination, train
from fleet.research.training_plan import Plan, TrainingError
from fleet.strategies.rules import Terms


def load_candles(
    path: Path, *, symbol: str = "", exchange: str = "", interval_ns: int = 0
) -> Candles:
    """The candles of a file, made into longer ones if asked for. Raises ``CandlesError``."""
    candles = load_file(path, symbol=symbol, exchange=exchange).candles
    return resample(candles, interval_ns) if interval_ns else candles


def open_study(
    studies: Studies,
    name: str,
    candles: Candles,
    plan: Plan,
    *,
    data: Path | None = None,
    terms: Terms | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train in the study ``name``, made now or begun before with the same plan and candles.

    Raises ``TrainingError`` if the study is of another plan or other candles.
    """
    storage = studies.storage(name, create=True)
    about = {
        "plan": plan.plain(),
        "data": "" if data is None else str(data.absolute()),
        "symbol": candles.symbol, "exchange": candles.exchange,
        "interval_ns": candles.interval_ns, "digest": candles.digest,
        "terms": None if terms is None else dataclasses.asdict(terms),
    }  # fmt: skip
    _check_same(studies, name, about)

    def told(screening: Screening) -> Mapping[str, Any]:
        return {**about, "kept": list(screening.kept)}

    return train(
        candles, plan, terms=terms, storage=storage, name=name, progress=progress, about=told
    )


def _check_same(studies: Studies, name: str, about: Mapping[str, Any]) -> None:
    try:
        before = studies.about(name)
    except TrainingError:
        return  # Not there yet, or left by someone who died before it said what it is.
    asked = Plan.of(about["plan"])
    if before["digest"] != about["digest"] or Plan.of(before["plan"]) != asked:
        raise TrainingError(
            f"the study {name} was begun with another plan or other candles: choose another name"
        )


def work(
    studies: Studies,
    name: str,
    *,
    worker: int,
    data: Path | None = None,
    progress: Progress | None = None,
) -> Found:
    """Run trials of a study until it has enough. ``worker`` is a number of its own, from 1 on.

    Raises ``TrainingError`` if there is no such study, or for other candles than its own.
    """
    about = studies.about(name)
    plan = Plan.of(about["plan"])
    place = data or (Path(about["data"]) if about["data"] else None)
    if place is None:
        raise TrainingError(f"the study {name} does not say where its candles are: give --data")
    candles = load_candles(
        place, symbol=about["symbol"], exchange=about["exchange"],
        interval_ns=int(about["interval_ns"]),
    )  # fmt: skip
    if candles.digest != about["digest"]:
        raise TrainingError(f"{place} does not hold the candles of the study {name}: give --data")
    terms = Terms(**about["terms"]) if about["terms"] else None
    examination, _, _ = open_examination(candles, plan, terms, tuple(about["kept"]))
    return search(examination, studies.storage(name), name, worker=worker, progress=progress)


def best_of(studies: Studies, name: str) -> Found:
    """The best choice of a study so far. Raises ``TrainingError``."""
    trials = studies.trials(name)
    return found_in(trials.get("coarse", []), trials.get("fine", []))
