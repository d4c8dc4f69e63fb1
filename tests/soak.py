"""Lives and kills from ever new seeds, until something does not hold or somebody stops it.

A *life* is the bot over the faulty paper venue in virtual time (``tests.faulty_world.play``). A
*kill round* is the real bot under the real PM2, killed with kill -9 at random moments
(``tests.e2e.test_crash_pm2.kill_rounds``). Each prints a line; a failure prints its seed and how to
repeat it, and ends with 1. Ctrl-C ends with 0, SIGTERM with 143; neither leaves anything behind.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.test_crash_pm2 import kill_rounds
from tests.faulty_world import play
from tests.proof import Proof
from tests.stopping import STOPPED, Stopped, end_in_order

LIVES_A_ROUND = 50


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, metavar="N",
                        help="stop after N lives (default: never)")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=0.0, metavar="M",
                        help="stop after about M minutes (default: never)")  # fmt: skip
    parser.add_argument("--first", type=int, default=0, metavar="SEED",
                        help="the first seed (default: drawn from the clock)")  # fmt: skip
    parser.add_argument("--steps", type=int, default=300, help="steps a life (default: 300)")
    parser.add_argument("--kills", type=int, default=200, metavar="K",
                        help="kills a round under PM2; 0 for none (default: 200)")  # fmt: skip
    parser.add_argument("--life", type=int, metavar="SEED", help="repeat one life and end")
    parser.add_argument("--round", type=int, metavar="SEED", help="repeat one kill round and end")
    return parser.parse_args(argv)


@dataclass(slots=True)
class Totals:
    """What the soak has seen."""

    lives: int = 0
    deaths: int = 0
    rounds: int = 0
    kills: int = 0
    orders: int = 0
    fills: int = 0
    failed: int = 0
    adopted: int = 0
    absent: int = 0

    def add(self, proof: Proof) -> None:
        """Count one proof."""
        self.orders += proof.orders
        self.fills += proof.fills
        self.failed += proof.failed
        self.adopted += proof.adopted
        self.absent += proof.absent

    def __str__(self) -> str:
        return (
            f"{self.lives} lives with {self.deaths} deaths, {self.rounds} rounds with {self.kills}"
            f" kill -9; {self.orders} orders, {self.fills} fills ({self.failed} failed),"
            f" {self.adopted} facts adopted, {self.absent} requests never sent"
        )


@contextmanager
def repeatable(what: str, flags: str) -> Iterator[None]:
    """Whatever goes wrong in it, say how to repeat it."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:
        print(f"FAILED {what}. Repeat: .venv/bin/python scripts/soak.py {flags}", flush=True)
        raise


def live(seed: int, steps: int, totals: Totals) -> None:
    """One life."""
    began_s = time.monotonic()
    with repeatable(f"life {seed}", f"--life {seed} --steps {steps}"):
        world, proof = play(seed, steps)
    totals.lives += 1
    totals.deaths += world.kills
    totals.add(proof)
    print(f"life {seed}: {time.monotonic() - began_s:.1f} s, {proof}", flush=True)


def kill_round(seed: int, kills: int, totals: Totals) -> None:
    """One round under PM2. A failing round's home is kept."""
    root = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        with repeatable(f"kill round {seed} in {root}", f"--round {seed} --kills {kills}"):
            proof = kill_rounds(root, seed=seed, kills=kills, say=True)
    except KeyboardInterrupt:
        shutil.rmtree(root)
        raise
    shutil.rmtree(root)
    totals.rounds += 1
    totals.kills += kills
    totals.add(proof)
    print(f"kill round {seed}: {proof}", flush=True)


def soak(arguments: argparse.Namespace, totals: Totals) -> None:
    """Run until the limits; what fails is raised."""
    if arguments.life is not None:
        live(arguments.life, arguments.steps, totals)
        return
    if arguments.round is not None:
        kill_round(arguments.round, arguments.kills, totals)
        return
    seed = arguments.first or int(time.time())
    end_s = time.monotonic() + arguments.minutes * 60 if arguments.minutes else float("inf")
    while time.monotonic() < end_s:
        live(seed, arguments.steps, totals)
        seed += 1
        if arguments.kills and totals.lives % LIVES_A_ROUND == 0:
            kill_round(seed, arguments.kills, totals)
        if arguments.seeds and totals.lives >= arguments.seeds:
            return


def main() -> int:
    """Soak, and say what was seen; an error ends it with 1."""
    totals = Totals()
    arguments = parse(sys.argv[1:])
    end_in_order()
    try:
        soak(arguments, totals)
    except Stopped:
        return STOPPED
    except KeyboardInterrupt:
        pass
    finally:
        print(totals, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
