"""The resolved record: what a forecaster said, what the market said, what happened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """One forecast whose question is answered. ``outcome`` is 1.0 for YES, 0.0 for NO.

    ``price`` is the market's probability of YES when the forecast was made, ``None`` without one.
    """

    question_id: str
    forecaster: str
    category: str
    probability: float
    price: float | None
    outcome: float
    made_ns: int
    resolved_ns: int
    source: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """A calibrated forecast blended with the market price.

    ``weight`` is the share of the forecaster in logit space, 0 where it has not shown skill against
    the price; ``deviation`` the standard error of ``probability``. ``verdict`` says in words what
    was shown or that no edge was found.
    """

    probability: float
    weight: float
    deviation: float
    verdict: str


class RecordUnreadable(Exception):  # noqa: N818 - named for what was found
    """A file of resolved forecasts that cannot be used; the text names the cure."""


def write_record(file: Path, record: Iterable[Resolved]) -> None:
    """Write one JSON object a line, replacing ``file`` in one step. Raises ``OSError``."""
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in record))
    part.replace(file)


def read_record(file: Path) -> tuple[Resolved, ...]:
    """What ``write_record`` wrote. Raises ``RecordUnreadable``."""
    try:
        lines = file.read_bytes().splitlines()
        return tuple(msgspec.json.decode(line, type=Resolved) for line in lines if line)
    except (OSError, msgspec.MsgspecError) as error:
        raise RecordUnreadable(
            f"{file} cannot be read as a record of forecasts: {error}; write it with"
            " `fleet evaluate forecasts --record FILE`"
        ) from error
