"""What the local Alpaca can be told to do wrong: faults by name and rate, drawn from a seed.

    name             what happens
    lost-answer      the request takes effect, its connection ends without an answer
    lost-request     the request has no effect, its connection ends without an answer
    error-after      the request takes effect, the answer is 500
    error-before     the request has no effect, the answer is 503
    gateway          the request has no effect, the answer is a page of status 403
    rate-limit       429 with Retry-After; the request has no effect
    slow             the answer comes 0.3 s late
    stream-duplicate a stream message comes twice
    stream-drop      a stream message is missing
    stream-cut       the stream's connection ends
    bar-late         the newest complete bar is not there yet

``where`` is a part of the path ("orders", "bars") or empty for any; ``method`` likewise.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

STREAM: Final = ("stream-duplicate", "stream-drop", "stream-cut")
DATA: Final = ("bar-late",)
NAMES: Final = (
    "lost-answer", "lost-request", "error-after", "error-before", "gateway", "rate-limit", "slow",
    *STREAM, *DATA,
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault; ``times`` is how often it still strikes, -1 for ever."""

    name: str
    rate: float = 1.0
    where: str = ""
    method: str = ""
    times: int = -1
    struck: int = 0

    def __post_init__(self) -> None:
        """Refuse a name nobody knows and a rate that is none."""
        if self.name not in NAMES:
            raise ValueError(f"no fault {self.name!r}; there are {', '.join(NAMES)}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate {self.rate} is outside 0..1")


class Faults:
    """The faults that are on."""

    def __init__(self, seed: int) -> None:
        """None yet."""
        self._rng = random.Random(seed)  # noqa: S311 - a simulation
        self.on: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Turn one on."""
        self.on.append(fault)

    def clear(self) -> None:
        """Turn all off."""
        self.on.clear()

    def strike(self, path: str, method: str) -> str:
        """The name of the fault that strikes a request, or empty."""
        return self._draw(
            fault for fault in self.on
            if fault.name not in STREAM + DATA and fault.where in path
            and fault.method in {"", method}
        )  # fmt: skip

    def strike_message(self) -> str:
        """The name of the fault that strikes a stream message, or empty."""
        return self._draw(fault for fault in self.on if fault.name in STREAM)

    def strike_data(self) -> str:
        """The name of the fault that strikes an answer of bars, or empty."""
        return self._draw(fault for fault in self.on if fault.name in DATA)

    def _draw(self, faults: Iterable[Fault]) -> str:
        for fault in faults:
            if fault.times and self._rng.random() < fault.rate:
                fault.times -= 1
                fault.struck += 1
                return fault.name
        return ""
