"""Read resolved questions with the market's price at a past moment, and part them in time.

The schema is that of ForecastBench's market questions joined with their resolutions, one row for
each time a question was asked: ``source``, ``id``, ``question``, ``freeze_datetime``,
``freeze_value`` (the price then), ``resolved``, ``resolution_date``, ``resolved_to``; also read
where present: ``close``, ``category``, ``event_id``, ``background``, ``resolution_criteria``.

An outcome counts as known from the day *after* its resolution date, which has no time of day. A
question is one id of one source, however often it was asked. Questions of one event are found by
their words, because the file does not name events, and only widen intervals.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fleet.forecasting.base_rates import DAY_NS
from fleet.forecasting.port import Item, Kind, Question

if TYPE_CHECKING:
    import polars as pl

REQUIRED: Final = (
    "source", "id", "question", "freeze_datetime", "freeze_value", "resolved", "resolution_date",
    "resolved_to",
)  # fmt: skip
OPTIONAL: Final = ("close", "category", "event_id", "background", "resolution_criteria")
SAME_EVENT: Final = 0.6
"""Share of common words from which two questions of a source are taken as one event."""
COMPARED_MAX: Final = 8_000
"""Questions of a source that are all compared with each other: about five seconds."""
_WORD_SLOTS: Final = 1_024
_WORD: Final = re.compile(r"\w+")
NS: Final = 10**9


class QuestionFileError(Exception):
    """The file cannot be evaluated; the text names the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as it was asked once, and what became of it."""

    question: Question
    outcome: float
    known_ns: int

    @property
    def price(self) -> float:
        """The market's probability when it was asked."""
        price = self.question.price
        return math.nan if price is None else price

    @property
    def due_ns(self) -> int:
        """When it is in a record whatever its outcome: known, and past the announced close."""
        return max(self.known_ns, self.question.closes_ns + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """All usable rows, by time asked, source and id; what was left out is counted by reason."""

    path: str
    rows: tuple[Asked, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Rows asked, and due, before ``split_ns``; rows asked at or after it, of other questions.

    ``between`` counts rows in neither: asked before, not due by then.
    """

    split_ns: int
    earlier: tuple[Asked, ...]
    later: tuple[Asked, ...]
    between: int


def read_questions(path: Path) -> Questions:
    """Read and check a file. Raises ``QuestionFileError``."""
    table = _table(path)
    resolved = [row for row in table if row["resolved"] is True]
    if not resolved:
        raise QuestionFileError(
            f"{path}: none of its {len(table)} rows is resolved; give a file with outcomes"
        )
    left_out: dict[str, int] = {"not resolved": len(table) - len(resolved)}
    rows: dict[tuple[str, int], Asked] = {}
    for row in resolved:
        asked, reason = _asked(row, path)
        if asked is None:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        key = (asked.question.id, asked.question.as_of_ns)
        if key in rows:
            left_out["asked twice at one moment"] = left_out.get("asked twice at one moment", 0) + 1
        rows.setdefault(key, asked)
    _check(rows.values(), path)
    ordered = sorted(rows.values(), key=lambda a: (a.question.as_of_ns, a.question.id))
    return Questions(path=str(path), rows=tuple(_with_events(ordered)), left_out=left_out)


def part(questions: Questions, split_ns: int | None = None) -> Parts:
    """Part the rows at a moment, or where both parts have most questions.

    The moment is chosen by counts of questions alone, never by outcomes. Raises
    ``QuestionFileError`` where a part has nothing to learn from or to report on.
    """
    moments = sorted({one.question.as_of_ns for one in questions.rows})
    if split_ns is None:
        choices = [_part(questions.rows, moment) for moment in moments]
        parts = max(choices, key=lambda p: min(_distinct(p.earlier), _distinct(p.later)))
    else:
        parts = _part(questions.rows, split_ns)
    cure = f"give a --split between {text_of(moments[0])} and {text_of(moments[-1])}, or more rows"
    for name, rows in (("before", parts.earlier), ("from", parts.later)):
        outcomes = {one.outcome for one in rows}
        if len(outcomes) < 2:
            what = "no usable question" if not rows else f"only outcome {outcomes.pop():.0f}"
            raise QuestionFileError(
                f"{questions.path}: {what} {name} {text_of(parts.split_ns)}; {cure}"
            )
    return parts


def record_end_ns(rows: Sequence[Asked]) -> int:
    """When the record was taken: the last outcome known that was not dated by its close.

    Some sources date an outcome by the announced close, which may lie after the record was taken.
    """
    known = [r.known_ns for r in rows if not 0 <= r.known_ns - r.question.closes_ns <= 2 * DAY_NS]
    return max(known or [r.known_ns for r in rows])


def _part(rows: Sequence[Asked], split_ns: int) -> Parts:
    earlier = tuple(r for r in rows if r.question.as_of_ns < split_ns and r.due_ns <= split_ns)
    seen = {one.question.id for one in earlier}
    later = tuple(r for r in rows if r.question.as_of_ns >= split_ns and r.question.id not in seen)
    between = len(rows) - len(earlier) - len(later)
    return Parts(split_ns=split_ns, earlier=earlier, later=later, between=between)


def _distinct(rows: Sequence[Asked]) -> int:
    return len({one.question.id for one in rows})


def items_of(rows: Sequence[Asked]) -> tuple[Item, ...]:
    """A memory row for each question, as it stood when it was first asked."""
    first: dict[str, Asked] = {}
    for one in rows:
        first.setdefault(one.question.id, one)
    return tuple(
        Item(
            id=one.question.id,
            kind=Kind.RESOLVED,
            text=one.question.text,
            known_ns=one.known_ns,
            category=one.question.category,
            source=one.question.source,
            outcome=one.outcome,
            price=one.question.price,
            facts={
                "asked": one.question.as_of_ns,
                "closes": one.question.closes_ns,
                "event": one.question.event_id,
            },
        )
        for one in first.values()
    )


def text_of(moment_ns: int) -> str:
    """A date, or a date and time where it is not midnight, UTC."""
    moment = datetime.fromtimestamp(moment_ns / NS, UTC)
    midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    return moment.date().isoformat() if midnight else moment.isoformat(timespec="minutes")


def _table(path: Path) -> list[dict[str, Any]]:
    # Two threads are as fast as more here, and polars' memory grows with them.
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    import polars as pl

    if not path.is_file():
        raise QuestionFileError(f"{path} is no file; name a parquet file of resolved questions")
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise QuestionFileError(
            f"{path} cannot be read as parquet ({str(error).splitlines()[0]}); write it again"
        ) from error
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise QuestionFileError(
            f"{path} has no column {', '.join(missing)}; it needs {', '.join(REQUIRED)}"
        )
    if not frame.height:
        raise QuestionFileError(f"{path} has no rows; give a file with resolved questions")
    _check_types(frame, path)
    kept = [name for name in (*REQUIRED, *OPTIONAL) if name in frame.columns]
    return frame.select(kept).to_dicts()


def _check_types(frame: pl.DataFrame, path: Path) -> None:
    for name in ("freeze_value", "resolved_to"):
        if not frame.schema[name].is_numeric():
            raise QuestionFileError(f"{path}: column {name} holds no numbers; cast it to Float64")
    if str(frame.schema["resolved"]) != "Boolean":
        raise QuestionFileError(f"{path}: column resolved is not true or false; cast it to Boolean")


def _asked(row: Mapping[str, Any], path: Path) -> tuple[Asked | None, str]:
    """The row, or why it is left out. Raises ``QuestionFileError`` for a defect."""
    name = f"{path}: question {row['id']!r} of {row['source']!r}"
    price = row["freeze_value"]
    if price is None or not 0.0 <= price <= 1.0:
        raise QuestionFileError(
            f"{name} has the price {price} in freeze_value, which is no probability;"
            " leave such rows out or give them their price"
        )
    if row["resolved_to"] not in {0.0, 1.0}:
        return None, "resolved to neither YES nor NO"
    asked_ns = _moment(row["freeze_datetime"])
    resolved_ns = _moment(row["resolution_date"])
    if asked_ns is None or resolved_ns is None or not row["id"] or not row["question"]:
        raise QuestionFileError(
            f"{name} lacks an id, a text, or a date in freeze_datetime or resolution_date that"
            " ISO 8601 knows; mend or leave out that row"
        )
    known_ns = (resolved_ns // DAY_NS + 1) * DAY_NS
    if known_ns <= asked_ns:
        return None, "resolved before it was asked"
    source = str(row["source"] or "")
    question = Question(
        id=f"{source}:{row['id']}",
        text=str(row["question"]),
        as_of_ns=asked_ns,
        background=_text(row.get("background")),
        criteria=_text(row.get("resolution_criteria")),
        category=_text(row.get("category")) or source,
        source=source,
        event_id=_text(row.get("event_id")),
        closes_ns=_moment(row.get("close")) or 0,
        price=float(price),
    )
    return Asked(question=question, outcome=float(row["resolved_to"]), known_ns=known_ns), ""


def _text(value: object) -> str:
    return "" if value in {None, "N/A"} else str(value)


def _moment(value: object) -> int | None:
    """Nanoseconds of an ISO 8601 date or time (UTC where it names no zone), ``None`` for others."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
    elif isinstance(value, datetime):
        moment = value
    else:
        return None
    zoned = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int(zoned.timestamp()) * NS


def _check(rows: Iterable[Asked], path: Path) -> None:
    outcomes: dict[str, float] = {}
    for one in rows:
        if outcomes.setdefault(one.question.id, one.outcome) != one.outcome:
            raise QuestionFileError(
                f"{path}: question {one.question.id} is YES in one row and NO in another;"
                " mend the outcome or leave the question out"
            )
    if len(set(outcomes.values())) < 2:
        told = "none" if not outcomes else f"all {len(outcomes)} the same way"
        raise QuestionFileError(
            f"{path}: of its resolved questions {told} went YES or NO; both are needed to score"
        )


def _with_events(rows: Sequence[Asked]) -> list[Asked]:
    """Rows whose event the file does not name get one, by the words of the question.

    Questions are compared within a source, and in a large one within a day of closing.
    """
    unnamed = {one.question.id: one.question for one in rows if not one.question.event_id}
    size = Counter(asked.source for asked in unnamed.values())
    texts: dict[tuple[str, int], dict[str, str]] = {}
    for asked in unnamed.values():
        day = asked.closes_ns // DAY_NS if size[asked.source] > COMPARED_MAX else 0
        texts.setdefault((asked.source, day), {})[asked.id] = asked.text
    event = {qid: name for of in texts.values() for qid, name in _events(of).items()}
    return [
        one
        if one.question.event_id
        else replace(one, question=replace(one.question, event_id=event[one.question.id]))
        for one in rows
    ]


def _events(texts: Mapping[str, str]) -> dict[str, str]:
    """The first question of each group of like wording, by question."""
    ids = sorted(texts)
    words = np.zeros((len(ids), _WORD_SLOTS), dtype=np.float32)
    for row, qid in enumerate(ids):
        for word in _WORD.findall(texts[qid].lower()):
            words[row, zlib.crc32(word.encode()) % _WORD_SLOTS] = 1.0
    sizes = words.sum(axis=1)
    first = np.arange(len(ids))
    for row in range(1, len(ids)):
        common = words[:row] @ words[row]
        alike = common >= SAME_EVENT * (sizes[:row] + sizes[row] - common)
        if alike.any():
            groups = np.unique(first[:row][alike])
            first[row] = groups[0]
            for other in groups[1:]:
                first[first == other] = groups[0]
    return {qid: ids[first[row]] for row, qid in enumerate(ids)}
