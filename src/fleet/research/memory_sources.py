"""Read what the retrieval memory is filled with: resolved questions, closed markets, news, exports.

A file is recognised by its columns, not by its name. What it tells becomes an ``Item`` whose
``known_ns`` is never too early: where a file gives only a day, or only the last quote, the outcome
counts as known a day later; where it gives several moments, the latest counts. Rows that tell no
outcome of YES or NO, or no moment, are left out and counted by reason.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fleet.clock import NS_PER_DAY
from fleet.forecasting.articles import article
from fleet.forecasting.port import Item, Kind
from fleet.research.forecast_questions import QuestionFileError, items_of, read_questions

Row = Mapping[str, Any]
SETTLED: Final = 0.99
"""From this price on an outcome of a closed market counts as the winner: Gamma shows 1, or what the
last trade left when nobody wrote it (0.9995)."""
SUFFIXES: Final = (
    ".parquet", ".csv", ".csv.gz", ".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson",
)  # fmt: skip
LISTS: Final = ("data", "markets", "articles", "items")
"""Where an answer of an API keeps its rows."""


class SourceError(Exception):
    """A file that cannot be read; the text names the cure."""


@dataclass(slots=True)
class Found:
    """What a file held: items, and how many rows were left out for which reason."""

    path: Path
    what: str
    items: list[Item] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read(path: Path) -> Iterator[Found]:
    """The file, or every file of a folder that is understood. Raises ``SourceError``.

    In a folder, a file that is not understood is told as one of which everything was left out.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p))
        if not files:
            raise SourceError(f"{path} holds no {', '.join(SUFFIXES)} file; name another folder")
        for file in files:
            try:
                yield _read(file)
            except SourceError:
                yield Found(file, "not understood", left_out=Counter({"file": 1}))
    elif path.is_file():
        yield _read(path)
    else:
        raise SourceError(f"there is no file or folder {path}; correct the path")


def _read(path: Path) -> Found:
    rows = _rows(path)
    if not rows:
        raise SourceError(f"{path} has no rows; give a file with some")
    columns = set().union(*(row.keys() for row in rows[:100]))
    for what, needed, item_of in _SHAPES:
        if needed <= columns:
            if item_of is None:
                return _questions(path)
            return _converted(path, what, rows, item_of)
    wanted = "; ".join(f"{what}: {', '.join(sorted(needed))}" for what, needed, _ in _SHAPES)
    raise SourceError(f"{path} has the columns of nothing that can be loaded; give one of {wanted}")


def _questions(path: Path) -> Found:
    try:
        questions = read_questions(path)
    except QuestionFileError as error:
        raise SourceError(str(error)) from error
    items = list(items_of(questions.rows))
    left_out = Counter(dict(questions.left_out))
    left_out["asked again later"] = len(questions.rows) - len(items)
    return Found(path, "resolved questions", items, +left_out)


def _converted(
    path: Path, what: str, rows: Iterable[Row], item_of: Callable[[Row], Item | str]
) -> Found:
    found = Found(path, what)
    for row in rows:
        item = item_of(row)
        if isinstance(item, str):
            found.left_out[item] += 1
        else:
            found.items.append(item)
    return found


# --- files ------------------------------------------------------------------------------------


def _suffix(path: Path) -> str:
    return next((s for s in SUFFIXES if path.name.lower().endswith(s)), "")


def _rows(path: Path) -> Sequence[Row]:
    suffix = _suffix(path)
    if not suffix:
        raise SourceError(f"{path} is none of {', '.join(SUFFIXES)}; convert it")
    try:
        if suffix == ".parquet" or suffix.startswith(".csv"):
            return _table(path, suffix)
        content = path.read_bytes()
        text = (gzip.decompress(content) if suffix.endswith(".gz") else content).decode()
        if suffix in {".json", ".json.gz"}:
            return _listed(json.loads(text))
        lines = [json.loads(line) for line in text.split("\n") if line.strip()]
        return _listed(lines)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} cannot be read: {error}; write it again") from error


def _table(path: Path, suffix: str) -> Sequence[Row]:
    # Two threads are as fast as more here, and polars' memory grows with them.
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    import polars as pl

    try:
        if suffix == ".parquet":
            return pl.read_parquet(path).to_dicts()
        return pl.read_csv(path, infer_schema_length=0).to_dicts()
    except pl.exceptions.PolarsError as error:
        raise SourceError(
            f"{path} cannot be read: {str(error).splitlines()[0]}; write it again"
        ) from error


def _listed(value: object) -> list[Row]:
    if isinstance(value, dict):
        for name in LISTS:
            if isinstance(value.get(name), list):
                value = value[name]
                break
        else:
            value = [value]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError("expected a list of objects")
    return value


# --- rows -------------------------------------------------------------------------------------


def moment_ns(value: object) -> int | None:
    """Nanoseconds of a date or time, ISO 8601, UTC where it names no zone; ``None`` for others."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    zoned = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def _number(value: object) -> float | None:
    if isinstance(value, str | int | float):
        try:
            number = float(value)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None


def _list(value: object) -> list[Any]:
    """A list, or the JSON text of one, as Gamma writes it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return []
    return value if isinstance(value, list) else []


def _closed_market(row: Row) -> Item | str:
    """A closed market as Gamma tells it."""
    if str(row["closed"]).lower() != "true":
        return "not closed"
    if [str(name).lower() for name in _list(row["outcomes"])] != ["yes", "no"]:
        return "outcomes other than Yes and No"
    prices = [_number(price) for price in _list(row["outcomePrices"])]
    yes = prices[0] if len(prices) == 2 else None
    if yes is None or 1 - SETTLED < yes < SETTLED:
        return "not settled"
    named = ("closedTime", "umaEndDate", "endDate", "updatedAt")
    moments = [ns for name in named if (ns := moment_ns(row.get(name))) is not None]
    name = str(row.get("conditionId") or row.get("id") or "")
    if not moments or not name or not row["question"]:
        return "no id, question or moment"
    events = _list(row.get("events"))
    inner = events[0].get("slug") if events and isinstance(events[0], dict) else ""
    return Item(
        id=name,
        kind=Kind.RESOLVED,
        text=str(row["question"]),
        known_ns=max(moments),
        category=str(row.get("category") or ""),
        source="polymarket",
        outcome=float(yes >= SETTLED),
        facts={
            "closes": moment_ns(row.get("endDate")) or 0,
            "event": str(row.get("event_slug") or inner or ""),
            "slug": str(row.get("slug") or ""),
        },
    )


def _quoted_market(row: Row) -> Item | str:
    """A market with its outcome and quotes some hours before the last one."""
    last, outcome = moment_ns(row["last_ts"]), _number(row["y"])
    if last is None or not row["slug"] or not row["question"]:
        return "no id, question or moment"
    if outcome not in {0.0, 1.0}:
        return "resolved to neither YES nor NO"
    bid, ask = _number(row.get("bid_24h")), _number(row.get("ask_24h"))
    price = (bid + ask) / 2 if bid is not None and ask is not None else None
    return Item(
        id=str(row["slug"]),
        kind=Kind.RESOLVED,
        text=str(row["question"]),
        # The last quote is about the close; when the outcome was told is not in the file.
        known_ns=last + NS_PER_DAY,
        category=str(row.get("category") or ""),
        source="polymarket",
        outcome=outcome,
        price=price,
        facts={} if price is None else {"asked": last - NS_PER_DAY, "closes": last},
    )


def _outcome(row: Row) -> Item | str:
    """A market's outcome as it was seen at a moment."""
    seen, outcome = moment_ns(row["timestamp"]), _number(row["outcome"])
    if seen is None or not row["market_slug"] or not row["question"]:
        return "no id, question or moment"
    if outcome not in {0.0, 1.0}:
        return "resolved to neither YES nor NO"
    return Item(
        id=str(row["market_slug"]),
        kind=Kind.RESOLVED,
        text=str(row["question"]),
        known_ns=seen,
        source="polymarket",
        outcome=outcome,
    )


def _news(row: Row) -> Item | str:
    """An article, as the bot itself would keep it."""
    named = ("published", "publishedAt", "published_at", "date")
    moments = [ns for name in named if (ns := moment_ns(row.get(name))) is not None]
    source = row.get("source")
    found = article(
        source=str(source.get("name") or "") if isinstance(source, dict) else str(source or ""),
        title=str(row.get("title") or row.get("headline") or ""),
        text=str(row.get("description") or row.get("text") or ""),
        url=str(row.get("url") or row.get("link") or ""),
        published_ns=max(moments, default=None),
    )
    if found is None:
        return "no title or date"
    return Item(
        id=found.id,
        kind=Kind.NEWS,
        text=f"{found.title}. {found.text}".strip(),
        known_ns=found.published_ns,
        category=str(row.get("topic") or row.get("category") or ""),
        source=found.source,
        facts={"title": found.title, "url": found.url},
    )


def exported(item: Item) -> dict[str, object]:
    """An item as a line of an export holds it."""
    return {
        "kind": item.kind.value,
        "id": item.id,
        "text": item.text,
        "known_ns": item.known_ns,
        "category": item.category,
        "source": item.source,
        "outcome": item.outcome,
        "price": item.price,
        "facts": dict(item.facts),
    }


def _exported(row: Row) -> Item | str:
    try:
        return Item(
            id=str(row["id"]),
            kind=Kind(row["kind"]),
            text=str(row["text"]),
            known_ns=int(row["known_ns"]),
            category=str(row.get("category") or ""),
            source=str(row.get("source") or ""),
            outcome=row.get("outcome"),
            price=row.get("price"),
            facts=row.get("facts") or {},
        )
    except (KeyError, ValueError, TypeError):
        return "no row of an export"


_SHAPES: Final[tuple[tuple[str, frozenset[str], Callable[[Row], Item | str] | None], ...]] = (
    ("an export", frozenset({"kind", "id", "text", "known_ns"}), _exported),
    (
        "resolved questions",
        frozenset({"source", "id", "question", "freeze_datetime", "freeze_value", "resolved_to"}),
        None,
    ),
    ("closed markets", frozenset({"question", "outcomes", "outcomePrices", "closed"}),
     _closed_market),
    ("quoted markets", frozenset({"slug", "question", "y", "last_ts"}), _quoted_market),
    ("outcomes", frozenset({"market_slug", "question", "outcome", "timestamp"}), _outcome),
    ("news", frozenset({"headline", "published"}), _news),
    ("news", frozenset({"title", "publishedAt"}), _news),
    ("news", frozenset({"title", "published"}), _news),
    ("news", frozenset({"title", "date"}), _news),
)  # fmt: skip
