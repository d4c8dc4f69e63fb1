"""`make soak` and `make chaos` ended by SIGTERM leave no PM2 daemon, exchange, bot or file behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.pm2_home import ROOT, gone, marked, until

pytestmark = pytest.mark.slow
SHARED = Path("/dev/shm")


@contextmanager
def program(script: str, *flags: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A program of ``scripts/``; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / script), *flags], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **environ},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def children(pid: int) -> set[int]:
    """The processes that a process started, and theirs."""
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # It ended while it was looked at.
            if parent == pid:
                found |= {int(folder.name)} | children(int(folder.name))
    return found


def pm2_homes(pids: set[int]) -> set[str]:
    """The settings ``PM2_HOME=...`` of some processes: their daemon, which is nobody's child."""
    found: set[str] = set()
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found |= {word.decode() for word in words if word.startswith(b"PM2_HOME=")}
    return found


@pytest.mark.pm2
@pytest.mark.parametrize("after_s", [0.0, 3.0])
def test_a_soak_that_is_ended_takes_its_fleet_along(tmp_path: Path, after_s: float) -> None:
    """At once, while PM2's daemon is being started, or in the middle of the kills."""
    with program("soak.py", "--round", "1", "--kills", "50", TMPDIR=str(tmp_path)) as soak:
        homes = until(lambda: list(tmp_path.glob("soak-*")), "a home", 30)
        daemons = until(lambda: pm2_homes(children(soak.pid)), "PM2 is started", 30)
        if after_s:
            until(lambda: marked(f"FLEET_HOME={homes[0]}"), "its fleet runs", 60)
            time.sleep(after_s)
        started = children(soak.pid) | marked(f"FLEET_HOME={homes[0]}")
        soak.send_signal(signal.SIGTERM)
        said, _ = soak.communicate(timeout=60)
    assert soak.returncode == 143, said
    assert "FAILED" not in said
    until(lambda: all(map(gone, started)), f"all of {started} end", 20)
    assert marked(f"FLEET_HOME={homes[0]}") == set()
    assert not any(marked(one) or Path(one.partition("=")[2]).exists() for one in daemons)
    assert list(tmp_path.glob("soak-*")) == []


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_chaos_that_is_ended_leaves_no_file_and_no_worker(jobs: str) -> None:
    with program("chaos.py", "--seeds", "1000", "--jobs", jobs, PYTHONUNBUFFERED="1") as chaos:
        assert chaos.stdout is not None
        assert "seed 1:" in chaos.stdout.readline()
        started = children(chaos.pid)
        mine = [folder for folder in SHARED.glob("chaos-*") if owner(folder) == chaos.pid]
        chaos.send_signal(signal.SIGTERM)
        said, _ = chaos.communicate(timeout=60)
    assert chaos.returncode == 143, said
    assert "lives held, 0 did not" in said
    until(lambda: all(map(gone, started)), f"all of {started} end", 20)
    assert mine and not any(folder.exists() for folder in mine)


def owner(folder: Path) -> int:
    """The process that made a run's folder."""
    return int(folder.name.split("-")[1])
