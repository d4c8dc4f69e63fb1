"""How well an embedder finds what belongs together, measured on resolved questions.

Three measures, none of which a person labelled for us:

* **prose**: the writer of a question also described it in prose (its resolution criteria or
  background, the first 1,000 characters). Asked with that text, how often is the question among the
  three nearest of all questions of the file? Sentences that repeat the question are left out of
  what is asked, so that the words are others. Chance is 3 / n.
* **event**: where the file names events, how many of a question's three nearest other questions are
  of its event, as a share of how many could be.
* **outcome**: for each question, the three nearest of those whose outcome was known before it was
  asked forecast it, shrunk to the base rate of all known by then; the Brier score of that against
  the base rate's own, with a 95 % bootstrap interval of the difference over questions.

An interval is drawn over questions. Nothing here is fitted.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleet.forecasting.port import Embedder
from fleet.forecasting.vectors import nearest
from fleet.research.memory_sources import SourceError, moment_ns

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP: Final = 3
PROSE_MIN, PROSE_MAX = 80, 1_000
PROSE_COLUMNS: Final = ("market_info_resolution_criteria", "description", "background")
EVENT_COLUMNS: Final = ("event_slug", "event_title", "event_id")
KNOWN_MIN: Final = 50
"""Outcomes that must be known before a question is forecast from its neighbours."""
SHRINK: Final = 0.3
"""Weight of the base rate beside squared similarities: one neighbour at 0.55 weighs as much."""
RESAMPLES: Final = 2_000
DAY_NS: Final = 86_400 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One question of the file; ``asked_ns`` 0 and ``outcome`` ``None`` where it does not tell."""

    text: str
    prose: str
    event: str
    asked_ns: int
    known_ns: int
    outcome: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The measures of one embedder; ``None`` where the file cannot tell."""

    embedder: str
    questions: int
    prose: float | None
    prose_count: int
    event: float | None
    event_count: int
    brier: float | None
    brier_base: float | None
    difference: tuple[float, float] | None
    brier_count: int
    ms_per_text: float


def read_subjects(path: Path) -> list[Subject]:
    """Each question once, as it stood first. Raises ``SourceError``."""
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    import polars as pl

    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(
            path, infer_schema_length=0
        )  # fmt: skip
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(
            f"{path} cannot be read as a table ({str(error).splitlines()[0]}); give a parquet or"
            " CSV file"
        ) from error
    if "question" not in frame.columns:
        raise SourceError(f"{path} has no column question; it needs one")
    subjects: dict[str, Subject] = {}
    for row in frame.iter_rows(named=True):
        if row["question"]:
            subjects.setdefault(str(row["question"]), _subject(row))
    if len(subjects) < 2 * TOP:
        raise SourceError(f"{path} has {len(subjects)} questions; give a file with more")
    return list(subjects.values())


def measure(subjects: Sequence[Subject], embedder: Embedder) -> Quality:
    """All three measures. Raises ``MemoryFailed`` if the embedder does."""
    texts = [one.text for one in subjects]
    begun = time.perf_counter()
    questions = embedder.embed(texts)
    taken_ms = (time.perf_counter() - begun) * 1e3
    prose, prose_count = _prose(subjects, questions, embedder)
    event, event_count = _event(subjects, questions)
    scores = _outcomes(subjects, questions)
    differences = [mine - base for mine, base in scores]
    return Quality(
        embedder=embedder.name,
        questions=len(subjects),
        prose=prose,
        prose_count=prose_count,
        event=event,
        event_count=event_count,
        brier=_mean([mine for mine, _ in scores]),
        brier_base=_mean([base for _, base in scores]),
        difference=_interval(differences) if differences else None,
        brier_count=len(scores),
        ms_per_text=taken_ms / len(texts),
    )


def render(path: Path, found: Sequence[Quality], missing: Mapping[str, str]) -> str:
    """The measures as a person reads them, and what could not be measured and why."""
    lines = [f"retrieval quality on {path.name}: {found[0].questions if found else 0} questions"]
    for one in found:
        chance = f" (chance {TOP / one.questions:.1%})" if one.prose_count else ""
        lines += [f"{one.embedder} ({one.ms_per_text:.2f} ms a text)"]
        lines.append(
            "  prose    the question among the 3 nearest to its description:"
            f" {_share(one.prose)} of {one.prose_count}{chance}"
        )
        lines.append(
            f"  event    of the 3 nearest, of the same event: {_share(one.event)} of what could be,"
            f" {one.event_count} questions"
        )
        if one.brier is None or one.brier_base is None or one.difference is None:
            lines += ["  outcome  not measured: the file tells no outcomes, or not when"]
            continue
        low, high = one.difference
        verdict = (
            "better than the base rate" if high < 0
            else "worse than the base rate" if low > 0
            else "no better than the base rate is shown"
        )  # fmt: skip
        lines.append(
            f"  outcome  Brier of the 3 nearest {one.brier:.4f}, of the base rate"
            f" {one.brier_base:.4f}, difference {one.brier - one.brier_base:+.4f}"
            f" [{low:+.4f}, {high:+.4f}], {one.brier_count} questions: {verdict}"
        )
    lines += [f"{name}: not measured: {why}" for name, why in missing.items()]
    return "\n".join(lines) + "\n"


def _subject(row: Mapping[str, Any]) -> Subject:
    question = str(row["question"])
    prose = ""
    for name in PROSE_COLUMNS:
        prose = prose or _others(str(row.get(name) or ""), question)
    resolved = row.get("resolved_to") if row.get("resolved") is True else None
    day = moment_ns(row.get("resolution_date"))
    return Subject(
        text=question,
        prose=prose,
        event=next((str(row[name]) for name in EVENT_COLUMNS if row.get(name)), ""),
        asked_ns=moment_ns(row.get("freeze_datetime")) or 0,
        known_ns=0 if day is None else (day // DAY_NS + 1) * DAY_NS,
        outcome=float(resolved) if resolved in {0.0, 1.0} and day is not None else None,
    )


def _others(prose: str, question: str) -> str:
    """The sentences that do not hold the question's own words in their order; enough, or none."""
    core = " ".join(re.findall(r"\w+", question.casefold()))
    kept = [
        sentence
        for sentence in re.split(r"(?<=[.!?])\s+|\n+", prose)
        if core not in " ".join(re.findall(r"\w+", sentence.casefold()))
    ]
    text = " ".join(kept)[:PROSE_MAX].strip()
    return text if len(text) >= PROSE_MIN else ""


def _prose(
    subjects: Sequence[Subject], questions: NDArray[np.float32], embedder: Embedder
) -> tuple[float | None, int]:
    places = [place for place, one in enumerate(subjects) if one.prose]
    if not places:
        return None, 0
    asked = embedder.embed([subjects[place].prose for place in places])
    all_of_them = np.ones(len(questions), dtype=np.bool_)
    hits = 0
    for place, query in zip(places, asked, strict=True):
        slots, _ = nearest(questions, query, all_of_them, TOP)
        hits += place in slots[:TOP]
    return hits / len(places), len(places)


def _event(subjects: Sequence[Subject], questions: NDArray[np.float32]) -> tuple[float | None, int]:
    sizes = Counter(one.event for one in subjects if one.event)
    shares = []
    for place, one in enumerate(subjects):
        others = sizes[one.event] - 1
        if not one.event or not others:
            continue
        eligible = np.ones(len(questions), dtype=np.bool_)
        eligible[place] = False
        slots, _ = nearest(questions, questions[place], eligible, TOP)
        same = sum(subjects[slot].event == one.event for slot in slots[:TOP])
        shares.append(same / min(TOP, others))
    return _mean(shares), len(shares)


def _outcomes(
    subjects: Sequence[Subject], questions: NDArray[np.float32]
) -> list[tuple[float, float]]:
    """(Brier of the neighbours, Brier of the base rate) of each question that can be forecast."""
    told = np.array([one.outcome is not None for one in subjects])
    known = np.array([one.known_ns for one in subjects])
    outcomes = np.array([one.outcome or 0.0 for one in subjects])
    scores = []
    for place, one in enumerate(subjects):
        if one.outcome is None or not one.asked_ns:
            continue
        eligible = told & (known < one.asked_ns)
        eligible[place] = False
        if eligible.sum() < KNOWN_MIN:
            continue
        base = float(outcomes[eligible].mean())
        slots, similarities = nearest(questions, questions[place], eligible, TOP)
        weights = np.clip(similarities[:TOP], 0.0, 1.0) ** 2
        agreed = float((weights * outcomes[slots[:TOP]]).sum())
        forecast = (SHRINK * base + agreed) / (SHRINK + float(weights.sum()))
        scores.append(((forecast - one.outcome) ** 2, (base - one.outcome) ** 2))
    return scores


def _interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, by percentiles; always the same draws."""
    values = np.array(differences)
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
