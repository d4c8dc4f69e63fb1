"""What the local Binance can be told to do wrong: faults by name and rate, drawn from a seed.

    name             what happens
    lost-answer      the request takes effect, its answer never comes
    lost-request     the request has no effect, no answer comes
    error-after      the request takes effect, the answer is 503 (-1007: status unknown)
    error-before     the request has no effect, the answer is 503
    rate-limit       429 with Retry-After; the request has no effect
    ban              418 with Retry-After; the request has no effect
    clock            -1021; the request has no effect
    slow             the answer comes 0.3 s late
    ws-duplicate     a message comes twice
    ws-drop          a message is missing
    ws-cut           the connection ends without a close frame
    ws-silent        the connection stays and says nothing more
    ws-malformed     a message is cut in half

``where`` is the last part of the path ("order", "myTrades") or empty for any; ``method`` likewise.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

NAMES: Final = (
    "lost-answer", "lost-request", "error-after", "error-before", "rate-limit", "ban", "clock",
    "slow", "ws-duplicate", "ws-drop", "ws-cut", "ws-silent", "ws-malformed",
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

    def strike(self, path: str, method: str = "") -> str:
        """The name of the fault that strikes a request, or empty."""
        return self._draw(
            fault for fault in self.on
            if not fault.name.startswith("ws-") and fault.where in {"", path}
            and fault.method in {"", method}
        )  # fmt: skip

    def strike_message(self) -> str:
        """The name of the fault that strikes a websocket message, or empty."""
        return self._draw(fault for fault in self.on if fault.name.startswith("ws-"))

    def _draw(self, faults: Any) -> str:
        for fault in faults:
            if fault.times and self._rng.random() < fault.rate:
                fault.times -= 1
                fault.struck += 1
                return str(fault.name)
        return ""
