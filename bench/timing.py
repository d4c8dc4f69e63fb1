"""What every measured program shares: reading the frames, timing each, printing one JSON line.

Standard library only; imported by programs of two environments.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns


def read_frames(path: str) -> list[bytes]:
    """The frames that ``bench/frames.py`` wrote, one a line."""
    return Path(path).read_bytes().splitlines()


def time_each(call: Callable[[bytes], object], frames: list[bytes]) -> list[int]:
    """Nanoseconds of ``call`` for every frame, the clock's own cost (some 50 ns) included."""
    clock = perf_counter_ns
    taken = []
    append = taken.append
    for frame in frames:
        start = clock()
        call(frame)
        append(clock() - start)
    return taken


def summary(nanoseconds: list[int]) -> dict[str, float]:
    """Median, 99th percentile and mean in microseconds."""
    ordered = sorted(nanoseconds)
    return {
        "p50_us": ordered[len(ordered) // 2] / 1000,
        "p99_us": ordered[len(ordered) * 99 // 100] / 1000,
        "mean_us": sum(ordered) / len(ordered) / 1000,
        "count": len(ordered),
    }


def report(values: dict[str, object]) -> None:
    """Print the one line the caller reads."""
    sys.stdout.write(json.dumps(values) + "\n")
