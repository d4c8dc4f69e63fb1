"""The real ArbHunter and Sandbox under the real PM2, killed, stopped, frozen, doubled and halted.

Each restart is a proof: ``tests.proof`` folds journal and ledger apart and compares them at every
start-up there ever was.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.domain import events as ev
from tests.e2e.fleet_home import FleetHome
from tests.e2e.pm2_home import Pm2, gone, private_pm2, until
from tests.proof import Proof, entries_of, prove_files

pytestmark = [pytest.mark.pm2, pytest.mark.slow]

KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", "1"))
ALWAYS_RESTART = {"exp_backoff_restart_delay": None, "restart_delay": 0, "max_restarts": 1_000_000}


@contextmanager
def running(root: Path, **overrides: object) -> Iterator[tuple[Pm2, FleetHome]]:
    """A fleet under a PM2 of its own, ready."""
    home = FleetHome(root)
    with private_pm2() as pm2:
        pm2.run("start", str(home.applications(pm2, **overrides)))
        home.ready()
        yield pm2, home


def started_again(pm2: Pm2, old: int) -> int:
    """Wait until PM2 has started the process that follows ``old``; its pid."""

    def look() -> int:
        app = pm2.app("ArbHunter")
        return app.pid if app.online and app.pid != old and not gone(app.pid) else 0

    return until(look, "PM2 starts it again")


def kill_rounds(root: Path, *, seed: int, kills: int, say: bool = False) -> Proof:
    """Kill the bot ``kills`` times, prove each time it is back, and at the end. The soak's too."""
    draw = random.Random(seed)
    with running(root, **ALWAYS_RESTART) as (pm2, home):
        pid, proof = home.ready(), prove_files(root)
        for number in range(kills):
            if number and draw.random() < 0.25:
                # While it starts: anywhere between its first instruction and a little after ready.
                pid = started_again(pm2, pid)
                time.sleep(draw.uniform(0.0, 1.2))
            else:
                pid = home.ready(after=pid if number else 0)
                proof = prove_files(root)
                time.sleep(draw.uniform(0.0, 1.6))
            os.kill(pid, signal.SIGKILL)
            if say:
                print(f"  kill {number + 1:3}: {proof}", flush=True)
        home.ready(after=pid)
        home.filled()
        pm2.run("stop", "ArbHunter")
        assert pm2.app("ArbHunter").status == "stopped"
    proof = prove_files(root)
    _, journal = entries_of(root)
    assert isinstance(journal[-1].event, ev.RunStopped)
    return proof


def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    proof = kill_rounds(tmp_path, seed=SEED, kills=KILLS)
    print(proof)
    # A kill before the journal is opened leaves no run in it.
    assert KILLS // 2 < proof.runs <= KILLS + 1
    assert proof.reconciled >= KILLS // 2
    assert min(proof.orders, proof.fills) >= KILLS
    log = (tmp_path / "logs" / "arbhunter.log").read_text()
    assert "ERROR" not in log, [line for line in log.splitlines() if "ERROR" in line][:5]
