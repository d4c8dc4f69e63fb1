"""Time as a port: nanoseconds since the epoch as integers.

The engine never asks a clock; only the shell does, and stamps events with it.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

NS_PER_SECOND: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
NS_PER_DAY: Final = 86_400 * NS_PER_SECOND


class Clock(Protocol):
    """What the shell asks for the time."""

    def now_ns(self) -> int:
        """Wall-clock nanoseconds since the epoch; never goes back within one clock."""
        ...


class LiveClock:
    """The machine's clock, made monotonic: wall time at construction plus monotonic progress.

    A clock step of the machine (NTP, a person) must not make timers or ages jump.
    """

    __slots__ = ("_offset_ns",)

    def __init__(self) -> None:
        """Take the offset between wall and monotonic time once."""
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """Wall-clock nanoseconds, never going back."""
        return time.monotonic_ns() + self._offset_ns


class ManualClock:
    """A clock that moves when told; for replay and tests."""

    __slots__ = ("_now_ns",)

    def __init__(self, now_ns: int = 0) -> None:
        """Start at ``now_ns``."""
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """The time set last."""
        return self._now_ns

    def advance_to(self, now_ns: int) -> None:
        """Move to ``now_ns``; a time in the past is ignored, time never goes back."""
        self._now_ns = max(self._now_ns, now_ns)

    def advance(self, delta_ns: int) -> None:
        """Move on by ``delta_ns``. Raises ``ValueError`` if it is negative."""
        if delta_ns < 0:
            raise ValueError("time does not go back")
        self._now_ns += delta_ns
