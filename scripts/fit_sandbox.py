"""Fit the sandbox's order flow to recordings, and compare the simulator with others of them.

    python scripts/fit_sandbox.py fit --data DIR --days 20250617 20250619
    python scripts/fit_sandbox.py compare --data DIR --days 20250624

``DIR`` is the folder of the recorded frames (one ``.jsonl.gz`` a game, ``YYYYMMDD_`` first).
``fit`` prints the quantiles that ``src/fleet/sandbox/flow_fit.py`` holds as constants; ``compare``
prints the simulator's quantiles beside the recordings' as a Markdown table. Nothing is written.
"""

# ruff: noqa: INP001, T201 - a script, whose whole output is what it prints
import argparse
import gzip
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.flow_fit import LEVELS_AT
from fleet.sandbox.flow_stats import KINDS, QUANTITIES, FlowStats
from fleet.sandbox.market_frames import book_object
from fleet.sandbox.simulator import MarketSimulator, SimulatorSettings

SIMULATED_START_NS = 1_795_000_000 * NS_PER_SECOND
SHOWN = (0.10, 0.25, 0.50, 0.75, 0.90)


def recorded(folder: Path, days: Sequence[str]) -> FlowStats:
    """Measure one token of every game of ``days``. Raises ``FileNotFoundError`` if there is none."""
    stats = FlowStats()
    paths = sorted(p for p in folder.glob("*.jsonl.gz") if p.name[:8] in days)
    if not paths:
        raise FileNotFoundError(f"no *.jsonl.gz of {', '.join(days)} in {folder}")
    for path in paths:
        with gzip.open(path, "rt") as file:
            frames = [json.loads(line) for line in file]
        stats.add(frames[0]["asset_id"], frames)
    return stats


def simulated(*, seed: int, seconds: int) -> FlowStats:
    """Measure the simulator's own sports games: what the recordings are recordings of."""
    simulator = MarketSimulator(
        SimulatorSettings(seed=seed, mispricing_every_s=0, timed_markets=False), SIMULATED_START_NS
    )
    games = [m for m in simulator.listings.markets if m.spec.game_start_ns]
    frames = [[{"event_type": "book", **book_object(m, 0)}] for m in games]
    for frame in simulator.step(SIMULATED_START_NS + seconds * NS_PER_SECOND):
        for market, own in zip(games, frames, strict=True):
            if market.spec.tokens[0] in frame.assets:
                own.append(json.loads(frame.payload))
    stats = FlowStats()
    for market, own in zip(games, frames, strict=True):
        stats.add(market.spec.tokens[0], own)
    return stats


def print_fit(stats: FlowStats) -> None:
    """Print the constants of ``flow_fit.FITTED``."""
    for name in QUANTITIES:
        values = [round(v, 4) for v in stats.quantiles(name, LEVELS_AT)]
        print(f"{name:16} n={len(stats.samples[name]):6} {values}")
    counts = stats.samples["changes"]
    shares = [round(sum(c == n for c in counts) / len(counts), 3) for n in range(1, 6)]
    print(f"{'changes 1..5':16} {shares}")
    print(f"{'book share':16} {stats.book_share:.4f}")
    print(f"{'kinds':16} { {k: round(stats.kind_share(k), 3) for k in KINDS} }")


def print_comparison(real: FlowStats, made: FlowStats) -> None:
    """Print a Markdown table, recorded / simulated in each cell."""
    print("| quantity | " + " | ".join(f"p{p * 100:.0f}" for p in SHOWN) + " |")
    print("|---" * (len(SHOWN) + 1) + "|")
    for name in QUANTITIES:
        pairs = zip(real.quantiles(name, SHOWN), made.quantiles(name, SHOWN), strict=True)
        print(f"| {name} | " + " | ".join(f"{a:g} / {b:g}" for a, b in pairs) + " |")
    print(
        f"\nbook share {real.book_share:.3f} / {made.book_share:.3f}; "
        + ", ".join(f"{k} {real.kind_share(k):.2f} / {made.kind_share(k):.2f}" for k in KINDS)
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["fit", "compare"])
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--days", nargs="+", required=True, metavar="YYYYMMDD")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3_600, help="simulated time")
    arguments = parser.parse_args()
    try:
        real = recorded(arguments.data, arguments.days)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 66
    if arguments.action == "fit":
        print_fit(real)
    else:
        print_comparison(real, simulated(seed=arguments.seed, seconds=arguments.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
