"""Frames through the replay that ``fleet replay`` runs: engine, strategy, risk, paper venue, hash.

Lap after lap of the same frames, receive times moving on, so that memory can be watched over any
number. Run by bench/run.py: ``replaying.py FRAMES LAPS``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import psutil
from bot import START_NS, universe
from timing import read_frames, report

from fleet.engine.view import View
from fleet.journal.tape import TapeFrame
from fleet.runtime.replay import Replay, ReplaySettings
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from fleet.venues.polymarket.wire import Decoder

STEP_NS = 5_000_000
PAUSE_NS = 30_000_000_000
"""Between laps: a replay lets what is under way end for this long."""


def recorded(frames: list[bytes], lap: int) -> Iterator[TapeFrame]:
    """One lap of frames, five milliseconds apart, made as they are read."""
    now_ns = START_NS + lap * (len(frames) * STEP_NS + PAUSE_NS)
    for frame in frames:
        now_ns += STEP_NS
        yield TapeFrame(now_ns, 1, frame)


def main() -> None:
    """Replay LAPS laps; print frames a second and how much memory grew after the first lap."""
    frames, laps = read_frames(sys.argv[1]), int(sys.argv[2])
    process = psutil.Process()
    replay = Replay(universe(), ReplaySettings(), Decoder().decode, build)
    rates: list[float] = []
    first_mb = 0.0
    result = None
    for lap in range(laps):
        result = replay.run(recorded(frames, lap))
        rates.append(len(frames) / result.seconds)
        if lap == 0:
            first_mb = process.memory_info().rss / 2**20
    if result is None or result.quality.rejected or result.orders or result.anomalies:
        sys.exit(f"these frames must lead to nothing: {result}")
    report(
        {
            "frames_per_s": sorted(rates)[len(rates) // 2],
            "frames": len(frames) * laps,
            "rss_growth_mb": process.memory_info().rss / 2**20 - first_mb,
            "mirrored": result.quality.mirrored / max(1, result.quality.moments),
        }
    )


def build(view: View) -> Arbitrage:
    """ArbHunter's strategy with its defaults."""
    return Arbitrage(ArbSettings(), view)


if __name__ == "__main__":
    main()
