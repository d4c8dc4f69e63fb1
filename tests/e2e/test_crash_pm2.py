"""The real ArbHunter and Sandbox under the real PM2, killed, stopped, frozen, doubled and halted.

Each restart is a proof: ``tests.proof`` folds journal and ledger apart and compares them at every
start-up there ever was.
"""

import json
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


def test_the_daemons_death_ends_the_bot_in_order(tmp_path: Path) -> None:
    with running(tmp_path) as (pm2, home):
        pid = home.ready()
        home.filled()
        os.kill(pm2.daemon_pid(), signal.SIGKILL)
        until(lambda: gone(pid), "the bot ends by itself", 5)
    prove_files(tmp_path)
    _, journal = entries_of(tmp_path)
    assert isinstance(journal[-1].event, ev.RunStopped)
    assert journal[-1].event.reason == "the PM2 daemon is gone"
    assert 'STOPPED code=0 reason="the PM2 daemon is gone"' in home.log()


def test_a_twin_stays_down_and_the_first_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as (pm2, home):
        pid = home.ready()
        twin = json.loads(home.applications(pm2).read_text().partition("apps: ")[2].rstrip(" }\n;"))
        (app,) = [app for app in twin if app["name"] == "ArbHunter"]
        file = tmp_path / "twin.config.js"
        file.write_text(f"module.exports = {{ apps: [{json.dumps({**app, 'name': 'Twin'})}] }}\n")
        pm2.run("start", str(file))
        until(lambda: pm2.app("Twin").gave_up, "PM2 leaves the twin down")
        assert pm2.app("Twin").exit_code == 75
        starts = home.log().count("TWIN")
        assert starts == 1
        time.sleep(1.5)  # Three times PM2's first back-off.
        assert home.log().count("TWIN") == starts
        assert home.ready() == pid
    prove_files(tmp_path)


def test_a_frozen_bot_is_seen_and_a_thawed_one_too(tmp_path: Path) -> None:
    with running(tmp_path) as (pm2, home):
        pid = home.ready()
        status = ["status", "--root", str(tmp_path)]
        assert home.fleet(*status, pm2=pm2).returncode == 0
        os.kill(pid, signal.SIGSTOP)
        try:
            seen = until(lambda: unhealthy(home, pm2, status), "the frozen bot is seen", 12)
            assert "its last sign of life is" in seen
            assert pm2.app("ArbHunter").online, "PM2 itself does not see it"
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: home.fleet(*status, pm2=pm2).returncode == 0, "healthy again", 10)
        assert home.ready() == pid


def unhealthy(home: FleetHome, pm2: Pm2, status: list[str]) -> str:
    """What ``fleet status`` says when it ends with 1; nothing while all is well."""
    done = home.fleet(*status, pm2=pm2)
    return done.stdout if done.returncode == 1 else ""


def test_halt_keeps_the_bot_down_until_resume(tmp_path: Path) -> None:
    with running(tmp_path) as (pm2, home):
        home.filled()
        assert home.fleet("halt", "the test says so").returncode == 0
        until(lambda: pm2.app("ArbHunter").gave_up, "the bot stays down", 10)
        assert pm2.app("ArbHunter").exit_code == 78
        assert 'TRADING HALTED by="kill latch"' in home.log()
        prove_files(tmp_path)

        pm2.run("restart", "ArbHunter", check=False)
        until(lambda: "PREFLIGHT" in home.log(), "a restart is refused")
        until(lambda: pm2.app("ArbHunter").gave_up, "and it stays down again")
        assert pm2.app("ArbHunter").exit_code == 78
        orders = prove_files(tmp_path).orders

        assert home.fleet("resume", "--yes").returncode == 0
        pm2.run("restart", "ArbHunter")
        home.ready()
        home.filled()
        pm2.run("stop", "ArbHunter")
    assert prove_files(tmp_path).orders > orders


def test_stop_ends_in_order_within_its_time(tmp_path: Path) -> None:
    with running(tmp_path) as (pm2, home):
        pid = home.ready()
        home.filled()
        started_s = time.monotonic()
        pm2.run("stop", "ArbHunter")
        assert time.monotonic() - started_s < 5.0, "PM2 kills after 15 s"
        assert gone(pid)
        assert pm2.app("ArbHunter").status == "stopped"
    prove_files(tmp_path)
    _, journal = entries_of(tmp_path)
    assert isinstance(journal[-1].event, ev.RunStopped)
    assert 'STOPPED code=0 reason="signal SIGINT"' in home.log()
