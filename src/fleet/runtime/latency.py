"""A window of the newest latencies: percentiles when read, next to nothing when added."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW: Final = 4_096


class LatencyWindow:
    """The newest ``WINDOW`` latencies, in nanoseconds."""

    def __init__(self) -> None:
        """Empty."""
        self._values: deque[int] = deque(maxlen=WINDOW)

    def add(self, latency_ns: int) -> None:
        """Remember one."""
        self._values.append(latency_ns)

    def percentile_us(self, share: int) -> int | None:
        """The ``share`` percentile (0 to 100) in microseconds; nothing when empty."""
        if not self._values:
            return None
        ordered = sorted(self._values)
        return ordered[min(len(ordered) - 1, len(ordered) * share // 100)] // 1_000
