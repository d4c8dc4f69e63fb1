"""A day of PolyAI on the sandbox at 100 times the speed, and what it did to its memory.

The sandbox's order flow and every interval of the bot run 100 times as fast, so 864 seconds hold
the events, scans, forecasts and samples of a day. Prints the resident memory each minute and ends
with 1 if the last quarter needs a tenth more than the second. It is no test of the suite: it takes
a quarter of an hour of one core (`make day`).
"""

# ruff: noqa: INP001, T201 - a script

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(__file__).resolve().parent.parent
SPEED: Final = 100
DAY_S: Final = 86_400
GROWTH_MAX: Final = 1.10


def settings(port: int) -> str:
    """The balanced profile's intervals, and PolyAI's other times, at the speed."""
    return "\n".join(
        (
            f"SANDBOX_PORT={port}",
            f"POLYAI_SCAN_INTERVAL_MINUTES={5 / SPEED}",
            f"POLYAI_NEWS_INTERVAL_MINUTES={10 / SPEED}",
            f"POLYAI_LLM_BASE_URL=http://127.0.0.1:{port}/models/v1",
            "POLYAI_LLM_API_KEY=local",
            "POLYAI_LLM_MODELS=sandbox-model",
            "POLYAI_LLM_PRICES=sandbox-model=0.1/0.4",
            "POLYAI_LLM_DAY_BUDGET_USD=1000",
            "POLYAI_LLM_QUESTION_BUDGET_USD=100",
            f"POLYAI_NEWS_FEEDS=http://127.0.0.1:{port}/models/rss/world.xml",
            "",
        )
    )


@contextlib.contextmanager
def running(name: str, command: list[str], home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that ends with this one."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "FLEET_HOME": str(home)}
    with (home / f"{name}.out").open("ab") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def main() -> int:
    """Run it; 0 when memory stayed flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=DAY_S / SPEED, help="shorten the day")
    parser.add_argument("--port", type=int, default=18_799, help="the sandbox's port")
    arguments = parser.parse_args()
    samples: list[float] = []
    with tempfile.TemporaryDirectory(prefix="polyai-day-") as folder:
        home = Path(folder)
        (home / ".env").write_text(settings(arguments.port))
        (home / ".env").chmod(0o600)
        (home / "logs").mkdir(mode=0o700)
        fleet = [sys.executable, "-m", "fleet.cli.main", "sandbox", "--root", str(home)]
        bot = [sys.executable, str(ROOT / "run_polyai.py")]
        with running("sandbox", [*fleet, "--speed", str(SPEED)], home):
            time.sleep(5)
            with running("polyai", bot, home) as process:
                samples = measure(process, arguments.seconds)
        for name in ("sandbox", "polyai"):
            print("\n".join((home / f"{name}.out").read_text().splitlines()[-8:]))
    if not samples:
        return 1
    quarter = max(1, len(samples) // 4)
    before, after = max(samples[quarter : 2 * quarter] or samples), max(samples[-quarter:])
    print(f"memory: {before:.0f} MB in the second quarter, {after:.0f} MB in the last")
    return 0 if after <= before * GROWTH_MAX else 1


def measure(process: subprocess.Popen[bytes], seconds: float) -> list[float]:
    """The resident megabytes, each second, told each minute; empty if the bot ended early."""
    watched, started_s, samples = psutil.Process(process.pid), time.monotonic(), []
    while time.monotonic() - started_s < seconds:
        if process.poll() is not None:
            print(f"the bot ended by itself with {process.returncode}")
            return []
        samples.append(watched.memory_info().rss / 1e6)
        if len(samples) % 60 == 0:
            print(f"{len(samples) * SPEED / 3600:5.1f} h  {samples[-1]:.0f} MB", flush=True)
        time.sleep(1)
    return samples


if __name__ == "__main__":
    sys.exit(main())
