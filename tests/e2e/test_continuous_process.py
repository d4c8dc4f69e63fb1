"""The wrapper with real processes: restarts what was killed, leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

WRAPPER = """
import asyncio, sys
from pathlib import Path
from fleet.clock import LiveClock
from fleet.runtime.continuous import RestartPolicy
from fleet.runtime.guardian import Guardian
from fleet.runtime.kept_process import Command
from fleet.runtime.wrapping import keep

home, bodies = Path(sys.argv[1]), sys.argv[2:]
clock = LiveClock()
policy = RestartPolicy(delay_ns=50_000_000, failures_max=3)
def say(code, text, remedy=""):
    print(code, text, flush=True)

guardian = Guardian(home / "guardian.json", policy, clock, say, say)
commands = [
    Command(name=f"c{n}", words=[sys.executable, "-c", body], environ={"PYTHONPATH": ":".join(
        sys.path), "HOME_DIR": str(home), "NAME": f"c{n}"}, home=home, pulse=home / f"c{n}.pulse",
        hang_s=1.0)
    for n, body in enumerate(bodies)
]
sys.exit(asyncio.run(keep(commands, policy, clock, guardian)))
"""
SLEEPER = """
import os, signal, sys, time
from pathlib import Path
home, name = Path(os.environ["HOME_DIR"]), os.environ["NAME"]
def end(*_):
    with (home / "ends").open("a") as ends: ends.write(name + chr(10))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
with (home / name).open("a") as pids: pids.write(f"{os.getpid()}{chr(10)}")
time.sleep(600)
"""
FORKING = SLEEPER.replace(
    "time.sleep(600)",
    "import subprocess\nsubprocess.Popen(['sleep', '600'])\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)",
)
TIED = "from fleet.runtime.kept_process import end_with_parent\nimport os\n" + SLEEPER.replace(
    "with (home / name)", "end_with_parent(os.getppid())\nwith (home / name)"
)


class Wrapped:
    """A wrapper under test."""

    def __init__(self, home: Path, *bodies: str) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRAPPER, str(home), *bodies],
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def pids(self, name: str = "c0") -> list[int]:
        file = self.home / name
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def until(self, met: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not met():
            assert time.monotonic() < deadline, "not in 20 s"
            time.sleep(0.01)

    def starts(self, count: int, name: str = "c0") -> int:
        self.until(lambda: len(self.pids(name)) >= count)
        return self.pids(name)[count - 1]

    def end(self) -> str:
        told, _ = self.process.communicate(timeout=20)
        return told


@pytest.fixture
def wrap(tmp_path: Path) -> Iterator[Callable[..., Wrapped]]:
    made: list[Wrapped] = []

    def start(*bodies: str) -> Wrapped:
        made.append(Wrapped(tmp_path, *bodies))
        return made[-1]

    yield start
    for one in made:
        children = [int(p) for f in one.home.glob("c?") for p in f.read_text().split()]
        for pid in (one.process.pid, *children):
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
        one.process.communicate(timeout=20)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_killed_child_is_started_again_and_sigterm_ends_all_in_reverse_order(
    wrap: Callable[..., Wrapped], tmp_path: Path
) -> None:
    wrapped = wrap(SLEEPER, SLEEPER, SLEEPER)
    pids = [wrapped.starts(1, name) for name in ("c0", "c1", "c2")]
    os.kill(pids[1], signal.SIGKILL)
    pids.append(wrapped.starts(2, "c1"))
    report = json.loads((tmp_path / "guardian.json").read_text())
    assert report["processes"][1]["restarts"] == 1
    assert report["processes"][0]["restarts"] == 0
    wrapped.process.send_signal(signal.SIGTERM)
    told = wrapped.end()
    assert wrapped.process.returncode == 0
    assert "RESTART c1 attempt 1/1000: it was ended by SIGKILL" in told
    assert (tmp_path / "ends").read_text().split() == ["c2", "c1", "c0"]
    assert all(gone(pid) for pid in pids)


def test_what_ignores_the_request_is_killed_with_all_it_started(
    wrap: Callable[..., Wrapped],
) -> None:
    wrapped = wrap(FORKING)
    pid = wrapped.starts(1)
    wrapped.until(lambda: len(psutil.Process(pid).children()) == 1)
    (grandchild,) = psutil.Process(pid).children()
    wrapped.process.send_signal(signal.SIGINT)
    wrapped.end()
    assert wrapped.process.returncode == 0
    assert gone(pid)
    wrapped.until(lambda: gone(grandchild.pid))


@pytest.mark.parametrize(("code", "starts"), [(78, 1), (75, 1), (0, 1), (69, 1), (1, 3)])
def test_only_failures_are_tried_again(
    wrap: Callable[..., Wrapped], code: int, starts: int
) -> None:
    wrapped = wrap(SLEEPER.replace("time.sleep(600)", f"sys.exit({code})"))
    wrapped.end()
    assert len(wrapped.pids()) == starts
    assert wrapped.process.returncode == (78 if code == 1 else code)


def test_a_child_without_a_sign_of_life_is_replaced(
    wrap: Callable[..., Wrapped], tmp_path: Path
) -> None:
    wrapped = wrap(SLEEPER)
    first = wrapped.starts(1)
    (tmp_path / "c0.pulse").touch()
    os.kill(first, signal.SIGSTOP)
    second = wrapped.starts(2)
    assert gone(first)
    os.kill(second, signal.SIGTERM)
    told = wrapped.end()
    assert "it gave no sign of life" in told
    assert wrapped.process.returncode == 0


def test_a_child_hears_that_its_wrapper_was_killed(wrap: Callable[..., Wrapped]) -> None:
    wrapped = wrap(TIED)
    pid = wrapped.starts(1)
    wrapped.process.kill()
    wrapped.until(lambda: gone(pid))
