"""Chaotic lives of ArbHunter, live on the sandbox, one a seed, until one does not hold.

`make chaos SEEDS=1000` runs them; each line is a life that was proved (``tests.chaos_world``). A life
that disproves something prints its seed, what does not hold, and how to repeat it; the run goes on
and ends with 1. The same seed gives the same life on the same commit.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos_mortal import Killed
from tests.chaos_processes import Report
from tests.chaos_schedule import Schedule
from tests.chaos_world import FOLDER, play
from tests.stopping import STOPPED, Stopped, end_in_order

CAUSES_SHOWN = 6


@dataclass(slots=True)
class Totals:
    """What all lives together have seen."""

    lives: int = 0
    failures: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    fullest: float = 0.0

    def add(self, report: Report) -> None:
        """Count one life."""
        self.lives += 1
        self.points.update(report.points)
        self.struck.update(report.struck)
        self.happened.update(report.happened)
        self.refused.update(report.seen.refused)
        self.fullest = max(self.fullest, report.fullest)
        seen = report.seen
        self.counts.update(
            {
                "bot kills": report.bot_kills, "sandbox kills": report.sandbox_kills,
                "orders": seen.orders, "posted": report.posted, "fills": seen.fills,
                "failed settlements": seen.failed, "operations": seen.operations,
                "agreements": seen.reconciled, "never sent": seen.absent,
                "redemptions": seen.redeemed, "of losers": seen.lost,
            }
        )  # fmt: skip

    def __str__(self) -> str:
        def told(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in counter.most_common())

        return (
            f"{self.lives} lives held, {len(self.failures)} did not\n"
            f"  {told(self.counts)}\n  died: {told(self.points)}\n  faults: {told(self.struck)}\n"
            f"  happened: {told(self.happened)}\n  refused: {told(self.refused)}\n"
            f"  fullest cap over all bots: {self.fullest:.1%}"
        )


def lived(seed: int) -> Report | str:
    """One life: its report, or why it failed. Runs in a process of its own."""
    logging.getLogger("fleet").setLevel(logging.CRITICAL)
    try:
        return play(seed)
    except (Exception, Killed) as error:  # noqa: BLE001 - whatever it is, it is of this seed
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return "".join(traceback.format_exception(cause)[-CAUSES_SHOWN:])


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, metavar="N",
                        help="how many lives (default: 100)")  # fmt: skip
    parser.add_argument("--first", type=int, default=1, metavar="SEED",
                        help="the first seed (default: 1)")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="SEED", help="repeat one life, with its log")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1,
                        help="processes (default: one a core)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print failures and totals only")
    return parser.parse_args(argv)


def results(seeds: Sequence[int], jobs: int) -> Iterator[tuple[int, Report | str]]:
    """Each life's result, in the order of the seeds."""
    if jobs == 1:
        yield from ((seed, lived(seed)) for seed in seeds)
        return
    # Spawned, not forked: a life must not depend on those before it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            yield from zip(seeds, pool.map(lived, seeds), strict=True)
        except (KeyboardInterrupt, GeneratorExit):
            for worker in multiprocessing.active_children():
                worker.kill()  # A life holds nothing but files, and those go with the folder.
            raise


@contextmanager
def shelter() -> Iterator[None]:
    """A folder for the files of all lives, gone at the end however it comes."""
    shared = Path("/dev/shm")
    folder = tempfile.mkdtemp(
        prefix=f"chaos-{os.getpid()}-", dir=shared if shared.is_dir() else None
    )
    os.environ[FOLDER] = folder  # The workers' too.
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Live, and say what was seen; 143 if SIGTERM ended it."""
    arguments = parse(sys.argv[1:])
    end_in_order()
    with shelter():
        return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    """One life with its schedule, or all of them with their totals."""
    if arguments.seed is not None:
        for step in Schedule.of(arguments.seed).steps:
            print(step)
        print(play(arguments.seed))
        return 0
    totals, began_s = Totals(), time.monotonic()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    code = 0
    try:
        for seed, result in results(seeds, arguments.jobs):
            if isinstance(result, str):
                totals.failures.append(seed)
                print(f"FAILED seed {seed}\n{result}Repeat: .venv/bin/python scripts/chaos.py"
                      f" --seed {seed}", flush=True)  # fmt: skip
                continue
            totals.add(result)
            if not arguments.quiet:
                print(result, flush=True)
    except Stopped:
        code = STOPPED
    except KeyboardInterrupt:
        pass
    print(f"{totals}\n  {time.monotonic() - began_s:.0f} s")
    return 1 if totals.failures else code


if __name__ == "__main__":
    sys.exit(main())
