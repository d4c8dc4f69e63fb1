"""Resolved questions for tests: memories, records and files of a world whose truth is known."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from fleet.forecasting.embedded_memory import EmbeddedMemory
from fleet.forecasting.embedding_cache import CachedEmbedder
from fleet.forecasting.hashed_ngrams import HashedNgrams
from fleet.forecasting.port import Item, Kind, Question
from fleet.forecasting.record import Resolved

DAY_NS = 86_400 * 10**9
SUBJECTS = ["rain", "snow", "wind", "frost", "hail", "fog", "heat", "storm", "flood", "drought"]
PLACES = [
    "Oslo",
    "Lima",
    "Cairo",
    "Quito",
    "Delhi",
    "Accra",
    "Hanoi",
    "Turin",
    "Perth",
    "Osaka",
    "Malmo",
    "Natal",
]


def memory_in(folder: Path, items: Iterable[Item] = ()) -> EmbeddedMemory:
    """The real embedded memory with its default embedder."""
    memory = EmbeddedMemory(folder, CachedEmbedder(HashedNgrams(), folder / "embeddings.db"))
    memory.add(list(items))
    return memory


def resolved_item(
    number: int, *, asked: int, closes: int, known: int, outcome: float, price: float | None = 0.5,
    source: str = "poly", text: str = "",
) -> Item:  # fmt: skip
    """A resolved question; moments in days."""
    words = f"Will there be {SUBJECTS[number % 10]} in {PLACES[number % 12]} number {number}?"
    return Item(
        id=f"q{number}", kind=Kind.RESOLVED, text=text or words, known_ns=known * DAY_NS,
        category=source, source=source, outcome=outcome, price=price,
        facts={"asked": asked * DAY_NS, "closes": closes * DAY_NS},
    )  # fmt: skip


def question(day: int, *, price: float | None = 0.5, closes: int = 0, **more: Any) -> Question:
    """A question asked on a day."""
    held = {"id": "asked", "text": "Will there be rain in Oslo number 0?", "source": "poly"}
    return Question(
        **(held | more), as_of_ns=day * DAY_NS, price=price, closes_ns=closes * DAY_NS,
        category="poly",
    )  # fmt: skip


def chance(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-odds))


def record_of(
    count: int, *, noise: float, price_noise: float = 1.0, seed: int = 1,
    categories: Sequence[str] = ("a",), name: str = "f",
) -> list[Resolved]:  # fmt: skip
    """Forecasts that see the true log odds through ``noise``, the price through its own."""
    chances = random.Random(seed)
    found = []
    for number in range(count):
        truth = chances.gauss(0.0, 1.5)
        found.append(
            Resolved(
                question_id=str(number), forecaster=name, category=categories[number % len(categories)],
                probability=chance(truth + chances.gauss(0.0, noise)),
                price=chance(truth + chances.gauss(0.0, price_noise)),
                outcome=float(chances.random() < chance(truth)),
                made_ns=number * DAY_NS, resolved_ns=(number + 1) * DAY_NS,
            )
        )  # fmt: skip
    return found


def file_rows(count: int = 240, *, shift: float = 0.0, seed: int = 1) -> list[dict[str, Any]]:
    """Rows of the file's schema over 24 weeks; truth lies ``shift`` log odds from the price."""
    chances = random.Random(seed)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = []
    for number in range(count):
        odds = chances.gauss(0.0, 1.5)
        asked = start + timedelta(days=7 * (number * 24 // count))
        closes = asked + timedelta(days=chances.choice([5, 12, 20, 45]))
        words = (SUBJECTS[number % 10], PLACES[number % 12], PLACES[(number // 12) % 12])
        rows.append(
            {
                "source": ("poly", "mani")[number % 2],
                "id": f"n{number}",
                "question": f"{words[0]} {number} over {words[1]} or {number * 7} near {words[2]}?",
                "close": closes.isoformat(),
                "freeze_datetime": asked.isoformat(),
                "freeze_value": chance(odds),
                "resolved": True,
                "resolution_date": closes.date().isoformat(),
                "resolved_to": float(chances.random() < chance(odds + shift)),
            }
        )
    return rows


def write_file(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A parquet file of rows."""
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    return path
