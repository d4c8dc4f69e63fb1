"""Resolved questions of the memory, read as the questions they were when somebody asked.

The facts of a ``Kind.RESOLVED`` item that this reads, all optional and in nanoseconds: ``asked``
(when ``price`` was taken), ``closes``, ``event``, ``path`` (a list of [time, probability]). An item
that does not tell when its price stood cannot teach anything and only counts for base rates.

A record of what has been resolved so far is not a fair sample: of the questions that close
later, only those that ended early are in it, and those ended mostly one way ("by December 31"
resolves YES early, NO only at the end). So nothing is learned from a question before the close
it had when it was asked: ``due`` says which may be used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fleet.forecasting.base_rates import Outcome, horizon_band
from fleet.forecasting.port import Item, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A resolved question; ``asked`` is how it stood, its price ``None`` if the time is unknown."""

    asked: Question
    known_ns: int
    outcome: float

    def due(self, before_ns: int) -> bool:
        """Whether it was known before then and would have been, whatever its outcome."""
        return self.known_ns < before_ns and self.asked.closes_ns < before_ns


def group_of(question: Question) -> str:
    """Whose base rate applies: the category's, or the source's where there is none."""
    return question.category or question.source


def past_of(item: Item) -> Past | None:
    """The question of a resolved item; ``None`` for one without a YES or NO outcome."""
    if item.outcome not in {0.0, 1.0}:
        return None
    as_of_ns = _moment(item.facts, "asked")
    asked = Question(
        id=item.id,
        text=item.text,
        as_of_ns=as_of_ns,
        category=item.category,
        source=item.source,
        event_id=str(item.facts.get("event") or ""),
        closes_ns=_moment(item.facts, "closes"),
        price=item.price if as_of_ns and usable(item.price) else None,
        path=_path(item.facts.get("path"), as_of_ns),
    )
    return Past(asked=asked, known_ns=item.known_ns, outcome=float(item.outcome or 0.0))


def outcome_of(past: Past) -> Outcome:
    """What base rates count of it."""
    asked = past.asked
    return Outcome(
        known_ns=past.known_ns,
        outcome=past.outcome,
        category=group_of(asked),
        horizon=horizon_band(asked.as_of_ns, asked.closes_ns),
    )


def usable(price: float | None) -> bool:
    """Whether there is a price and it is a probability."""
    return price is not None and math.isfinite(price) and 0.0 <= price <= 1.0


def _moment(facts: Mapping[str, object], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _path(value: object, as_of_ns: int) -> tuple[tuple[int, float], ...]:
    """Points up to ``as_of_ns`` that are a time and a probability, oldest first."""
    if not isinstance(value, list | tuple):
        return ()
    found = []
    for point in value:
        if isinstance(point, list | tuple) and len(point) == 2:
            moment, price = point
            whole = isinstance(moment, int) and isinstance(price, int | float)
            if whole and moment <= as_of_ns and usable(price):
                found.append((moment, float(price)))
    return tuple(sorted(found))
