"""Measure this checkout and its peers in one session: one table, and bench/results.json.

Each measurement is a program of its own (bench/ours, bench/peers), run in a fresh process; ours and
the peer's take turns (A B A B) on the same frames, and the median of the turns counts. The machine
may be shared: trust the ratios before the microseconds. What cannot be measured is null and says
why.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

BENCH = Path(__file__).resolve().parent
CHECKOUT = BENCH.parent
PEERS = BENCH / ".peers" / "bin" / "python"
CANDLE_PEERS = BENCH / ".peers" / "candles" / "bin" / "python"
RESULTS = BENCH / "results.json"
TIME_LIMIT_S = 900

Values = Mapping[str, float]
Result = dict[str, float | str | None]


class UnmeasuredError(RuntimeError):
    """A measurement that could not be made; the text says why and what to do."""


def call(python: str | Path, program: str, *arguments: object) -> Values:
    """Run one measuring program and read its line of JSON."""
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT / 'src'}:{BENCH}:{BENCH / 'ours'}"}
    if program.startswith("peers/"):
        environment["PYTHONPATH"] = str(BENCH)
    command = [str(python), str(BENCH / program), *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
    )
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise UnmeasuredError(
            f"{program}: {words[-1] if words else f'exit code {done.returncode}'}"
        )
    values: Values = json.loads(done.stdout.strip().splitlines()[-1])
    return values


def ours(program: str, *arguments: object) -> Values:
    """Run one of our programs with the Python that runs this one."""
    return call(sys.executable, f"ours/{program}", *arguments)


def peer(program: str, *arguments: object) -> Values:
    """Run a peer's program in its own environment."""
    if not PEERS.exists():
        raise UnmeasuredError("the peers are not installed; `make bench-peers` installs them")
    return call(PEERS, f"peers/{program}", *arguments)


def candle_peer(program: str, *arguments: object) -> Values:
    """Run a candle peer's program in the second environment."""
    if not CANDLE_PEERS.exists():
        raise UnmeasuredError("the peers are not installed; `make bench-peers` installs them")
    return call(CANDLE_PEERS, f"peers/{program}", *arguments)


class Session:
    """The measurements of one run, taken turn about."""

    def __init__(self, rounds: int) -> None:
        """Take ``rounds`` turns of everything that is compared."""
        self.rounds = rounds
        self.result: Result = {}
        self.reasons: dict[str, str] = {}

    def turns(self, runs: Mapping[str, Sequence[object]]) -> dict[str, Values]:
        """Medians of ``{name: (ours|peer, program, argument...)}``, A B A B; what fails is left out."""
        taken: dict[str, list[Values]] = {name: [] for name in runs}
        for _ in range(self.rounds):
            for name, (run, *arguments) in runs.items():
                if name in self.reasons:
                    continue
                try:
                    taken[name].append(run(*arguments))  # type: ignore[operator]
                except (UnmeasuredError, subprocess.TimeoutExpired) as problem:
                    self.reasons[name] = str(problem)
                    print(f"  {name}: not measured: {problem}", file=sys.stderr)
        return {
            name: {key: median(v[key] for v in values) for key in numbers(values[0])}
            for name, values in taken.items()
            if values and name not in self.reasons
        }

    def put(self, key: str, value: float | None, *names: str) -> None:
        """Keep a figure, or null with the reasons of the programs it needed."""
        self.result[key] = None if value is None else round(value, 3)
        if value is None:
            reasons = [self.reasons[name] for name in names if name in self.reasons]
            self.result[f"{key}_why"] = "; ".join(dict.fromkeys(reasons)) or "not measured"


def numbers(values: Values) -> list[str]:
    """The keys whose medians make sense."""
    return [key for key, value in values.items() if isinstance(value, int | float)]


def figure(found: Mapping[str, Values], name: str, key: str = "p50_us") -> float | None:
    """One figure of one program, or nothing."""
    return found[name][key] if name in found else None


def ratio(slow: float | None, fast: float | None) -> float | None:
    """How many times faster, or nothing if either is missing."""
    return slow / fast if slow and fast else None


def measure_decision(session: Session, folder: Path, count: int, orders: int) -> None:
    """Frame to decision, ours and NautilusTrader's, on frames of ``orders`` orders."""
    frames = folder / f"frames-{orders}"
    made = subprocess.run(
        [sys.executable, str(BENCH / "frames.py"), str(frames), "--count", str(count),
         "--orders", str(orders)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    print(f"  frames of {2 * orders} changes: {made.stdout.strip()}")
    suffix = "" if orders == 1 else f"_{2 * orders}_changes"
    own, bare, engine = (f"{kind}{suffix}" for kind in ("decision", "bare", "engine"))
    found = session.turns(
        {
            own: (ours, "decision.py", frames),
            engine: (peer, "nautilus.py", "engine", frames),
            bare: (peer, "nautilus.py", "bare", frames),
        }
    )
    mine = figure(found, own)
    theirs, theirs_bare = figure(found, engine), figure(found, bare)
    session.put(f"frame_to_decision_us_p50{suffix}", mine, own)
    session.put(f"frame_to_decision_us_p99{suffix}", figure(found, own, "p99_us"), own)
    session.put(f"frame_to_decision_vs_nautilus{suffix}", ratio(theirs, mine), own, engine)
    session.put(f"frame_to_decision_vs_nautilus_bare{suffix}", ratio(theirs_bare, mine), own, bare)
    session.put(f"nautilus_engine_us_p50{suffix}", theirs, engine)
    session.put(f"nautilus_bare_us_p50{suffix}", theirs_bare, bare)


def measure_orders(session: Session, folder: Path, count: int) -> None:
    """Frame to two signed orders, in memory and durable, against py-clob-client-v2."""
    # Beside the bots' journals: a durable write costs what the disk under them costs.
    (CHECKOUT / "var").mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=CHECKOUT / "var") as disk:
        found = session.turns(
            {
                "orders": (ours, "orders.py", "memory", count, folder),
                "clob": (peer, "clob_client.py", count),
                "durable": (ours, "orders.py", "durable", count, disk),
                "signing": (ours, "sign_two.py", count * 4),
            }
        )
    mine, theirs = figure(found, "orders"), figure(found, "clob")
    session.put("two_orders_us_p50", mine, "orders")
    session.put("two_orders_us_p99", figure(found, "orders", "p99_us"), "orders")
    session.put("two_orders_vs_clob_client", ratio(theirs, mine), "orders", "clob")
    session.put("clob_client_two_orders_us_p50", theirs, "clob")
    session.put("two_orders_signing_us_p50", figure(found, "signing"), "signing")
    session.put(
        "signing_vs_clob_client", ratio(theirs, figure(found, "signing")), "signing", "clob"
    )
    session.put("two_orders_durable_us_p50", figure(found, "durable"), "durable")
    session.put("two_orders_durable_us_p99", figure(found, "durable", "p99_us"), "durable")


def measure_live(session: Session, folder: Path, count: int) -> None:
    """What the live path adds to an order, and the rate it keeps up under the venue's limits."""
    found = session.turns({"live": (ours, "live_path.py", "--orders", count)})
    path = found.get("live", {})
    session.put("post_us_p50", path.get("venue_us"), "live")
    session.put("post_socket_us_p50", path.get("kept_us"), "live")
    session.put("post_signing_us_p50", path.get("sign_cold_us"), "live")
    added = path["venue_us"] - path["kept_us"] if path else None
    session.put("post_added_us_p50", added, "live")
    session.put("post_vs_httpx", ratio(path.get("no_lane_us"), path.get("venue_us")), "live")
    session.rounds = 1
    found = session.turns({"rate": (ours, "sustained.py", 20, folder)})
    session.put("orders_per_s", figure(found, "rate", "orders_per_s"), "rate")
    session.put("orders_rate_limited", figure(found, "rate", "limited"), "rate")


def measure_rest(session: Session, folder: Path, laps: int) -> None:
    """Replay speed and memory over laps of the frames; the bot's start, memory and recovery."""
    found = session.turns({"replay": (ours, "replaying.py", folder / "frames-1", laps)})
    session.put("replay_frames_per_s", figure(found, "replay", "frames_per_s"), "replay")
    session.put("replay_frames", figure(found, "replay", "frames"), "replay")
    session.put("replay_rss_growth_mb", figure(found, "replay", "rss_growth_mb"), "replay")
    session.rounds = 1
    found = session.turns({"process": (ours, "process.py", CHECKOUT, 3)})
    session.put("ready_s", figure(found, "process", "ready_s"), "process")
    session.put("rss_mb", figure(found, "process", "rss_mb"), "process")
    found = session.turns({"recovery": (ours, "recovery.py", 1_000_000)})
    session.put("recovery_1m_entries_s", figure(found, "recovery", "recovery_s"), "recovery")
    session.put("fold_1m_entries_s", figure(found, "recovery", "fold_s"), "recovery")


def measure_memory(session: Session, rows: int) -> None:
    """A search of the retrieval memory among ``rows`` vectors, and the naive way."""
    (CHECKOUT / "var").mkdir(mode=0o700, exist_ok=True)
    session.rounds = 1
    with tempfile.TemporaryDirectory(prefix="bench-", dir=CHECKOUT / "var") as disk:
        found = session.turns({"memory": (ours, "memory_search.py", rows, disk)})
    mine = figure(found, "memory", "p50_ms")
    session.put("memory_search_ms_p50", mine, "memory")
    session.put("memory_search_ms_p99", figure(found, "memory", "p99_ms"), "memory")
    session.put("memory_search_half_ms_p50", figure(found, "memory", "half_p50_ms"), "memory")
    naive = figure(found, "memory", "argsort_p50_ms")
    session.put("memory_search_vs_argsort", ratio(naive, mine), "memory")
    session.put("memory_open_s", figure(found, "memory", "open_s"), "memory")


def measure_leaders(session: Session, count: int) -> None:
    """From a chain log's departure to the fact, and a block of 10,000 logs, ours and web3.py's."""
    found = session.turns({"leaders": (ours, "leader_logs.py", count)})
    session.put("leader_log_to_fact_us_p50", figure(found, "leaders"), "leaders")
    session.put("leader_log_to_fact_us_p99", figure(found, "leaders", "p99_us"), "leaders")
    block = figure(found, "leaders", "block_ms")
    session.put("leader_block_10k_logs_ms", block, "leaders")
    session.put("leader_log_cpu_us", figure(found, "leaders", "block_cpu_us"), "leaders")
    theirs = figure(found, "leaders", "web3_block_ms")
    session.put("leader_block_vs_web3", ratio(theirs, block), "leaders")
    (CHECKOUT / "var").mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=CHECKOUT / "var") as disk:
        found = session.turns({"copying": (ours, "copying.py", count, disk)})
    session.put("leader_fact_to_order_us_p50", figure(found, "copying"), "copying")
    session.put("leader_fact_to_order_us_p99", figure(found, "copying", "p99_us"), "copying")
    session.put("leader_block_10k_facts_ms", figure(found, "copying", "block_ms"), "copying")


def measure_candles(session: Session, folder: Path) -> None:
    """A year of minutes, SMA 20/60, by both our drivers and three peers, and whether they agree."""
    path = folder / "year.npy"
    subprocess.run([sys.executable, str(BENCH / "candles.py"), str(path)], check=True)
    ours("bars.py", "sweep", path)  # Leaves the quantities the peers trade.
    found = session.turns(
        {
            "sweep": (ours, "bars.py", "sweep", path),
            "vectorbt": (candle_peer, "bars.py", "vectorbt", path),
            "engine_bars": (ours, "bars.py", "engine", path),
            "nautilus_bars": (peer, "bars.py", "nautilus", path),
            "backtesting": (candle_peer, "bars.py", "backtesting", path),
        }
    )
    job, theirs = figure(found, "sweep", "job_ms"), figure(found, "vectorbt", "job_ms")
    session.put("candles_sweep_ms", job, "sweep")
    session.put("candles_sweep_vs_vectorbt", ratio(theirs, job), "sweep", "vectorbt")
    session.put("candles_sweep_1000_s", figure(found, "sweep", "sweep_s"), "sweep")
    longer = figure(found, "sweep", "four_times_ms")
    session.put("candles_four_times_the_bars", ratio(longer, job), "sweep")
    session.put("candles_sweep_grown_mb", figure(found, "sweep", "grown_mb"), "sweep")
    session.put("candles_sweep_peak_mb", figure(found, "sweep", "peak_mb"), "sweep")
    seconds = figure(found, "engine_bars", "seconds")
    session.put("candles_engine_bars_per_s", figure(found, "engine_bars", "bars_per_s"),
                "engine_bars")  # fmt: skip
    session.put("candles_drivers_agree", figure(found, "engine_bars", "same"), "engine_bars")
    slow = figure(found, "nautilus_bars", "seconds")
    session.put("candles_engine_vs_nautilus", ratio(slow, seconds), "engine_bars", "nautilus_bars")
    session.put("vectorbt_ms", theirs, "vectorbt")
    session.put("backtesting_s", figure(found, "backtesting", "seconds"), "backtesting")
    session.put("nautilus_bars_s", slow, "nautilus_bars")
    for name in ("vectorbt", "backtesting"):
        for key in ("fills", "apart", "unexplained", "price_difference"):
            session.put(f"candles_{name}_{key}", figure(found, name, key), name)
        percent = figure(found, name, "profit_difference")
        session.put(f"candles_{name}_profit_ppm", percent and percent * 1e6, name)


def show(result: Result) -> None:
    """One table, with the reason where there is no figure."""
    width = max(map(len, result))
    print()
    for key, value in result.items():
        if key.endswith("_why"):
            continue
        text = f"null: {result[f'{key}_why']}" if value is None else f"{value:>12}"
        print(f"  {key:<{width}}  {text}")


def main() -> None:
    """Measure everything, print the table, write the results."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: 3)")
    parser.add_argument("--frames", type=int, default=200_000, help="frames a turn")
    parser.add_argument("--orders", type=int, default=500, help="pairs of orders a turn")
    parser.add_argument("--laps", type=int, default=5, help="replays of the frames; 50 for 10 M")
    args = parser.parse_args()
    session = Session(args.rounds)
    print("Measuring, some minutes; ours and the peers' take turns.")
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        folder = Path(name)
        for orders in (1, 2):
            measure_decision(session, folder, args.frames, orders)
        measure_orders(session, folder, args.orders)
        rounds = session.rounds
        measure_live(session, folder, args.orders)
        session.rounds = rounds
        measure_candles(session, folder)
        measure_rest(session, folder, args.laps)
    session.rounds = rounds
    measure_leaders(session, 1_000)
    measure_memory(session, 100_000)
    session.result["machine"] = f"{os.cpu_count()} cores, {platform.machine()}"
    session.result["python"] = platform.python_version()
    RESULTS.write_text(json.dumps(session.result, indent=2) + "\n")
    show(session.result)
    print(f"\nWritten to {RESULTS.relative_to(CHECKOUT)}")


if __name__ == "__main__":
    main()
