"""What an ``Item`` is in a table: checked, cleaned, and back. The same for both stores.

A NUL character and a lone surrogate exist in articles but in no Postgres text: in words they become
the replacement character, in ids they are refused, because an id must be found again. What is not
JSON, or not a finite number, is refused with the id of its item.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from fleet.forecasting.embedding_cache import text_hash
from fleet.forecasting.port import Item, Kind, MemoryFailed

INT64: Final = 2**63
KINDS: Final = tuple(Kind)


class Row(NamedTuple):
    """An item as its columns."""

    kind: str
    id: str
    text: str
    text_hash: bytes
    known_ns: int
    category: str
    source: str
    outcome: float | None
    price: float | None
    facts: str


def rows_of(items: Iterable[Item]) -> list[Row]:
    """One row for each (kind, id), the last one of several. Raises ``MemoryFailed``."""
    rows = {(item.kind, item.id): _row(item) for item in items}
    return list(rows.values())


def item_of(columns: Sequence[Any]) -> Item:
    """The item of a row's columns."""
    row = Row(*columns)
    return Item(
        id=row.id,
        kind=Kind(row.kind),
        text=row.text,
        known_ns=row.known_ns,
        category=row.category,
        source=row.source,
        outcome=row.outcome,
        price=row.price,
        facts=json.loads(row.facts),
    )


def clean(text: str) -> str:
    """``text`` without what no Postgres text may hold."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def bounded(moment_ns: int) -> int:
    """A moment as 64 bits hold it: what is later than all of them stays later than all rows."""
    return max(-INT64, min(moment_ns, INT64 - 1))


def _row(item: Item) -> Row:
    if not item.id or clean(item.id) != item.id:
        raise MemoryFailed(f"{item.kind.value} {item.id!r}: an id is words without NUL characters")
    if not -INT64 <= item.known_ns < INT64 - 1:
        raise MemoryFailed(_refused(item, "known_ns is not nanoseconds since the epoch"))
    for name, value in (("outcome", item.outcome), ("price", item.price)):
        if value is not None and not (math.isfinite(value) and 0.0 <= value <= 1.0):
            raise MemoryFailed(_refused(item, f"{name} is {value}, not from 0 to 1 or None"))
    text = clean(item.text)
    return Row(
        kind=item.kind.value,
        id=item.id,
        text=text,
        text_hash=text_hash(text),
        known_ns=item.known_ns,
        category=clean(item.category),
        source=clean(item.source),
        outcome=None if item.outcome is None else float(item.outcome),
        price=None if item.price is None else float(item.price),
        facts=_facts(item),
    )


def _facts(item: Item) -> str:
    try:
        # Escapes keep surrogates and NUL out of the column, and bring them back as they were.
        return json.dumps(dict(item.facts), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise MemoryFailed(_refused(item, f"facts are not JSON values ({error})")) from error


def _refused(item: Item, why: str) -> str:
    return f"{item.kind.value} {item.id!r} is not kept: {why}; correct it and add it again"
