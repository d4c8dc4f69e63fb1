"""The Trader on paper, as processes against the local Binance: alone, and kept by its wrapper."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fleet.journal.fleet import FleetState

ROOT = Path(__file__).resolve().parents[2]
WORDS = (
    "--symbol ETHUSDT --feed sandbox --interval 1s --rule buy_and_hold --unproven".split()  # noqa: SIM905
)


@pytest.fixture(scope="module")
def binance() -> Iterator[int]:
    """The local Binance in a process of its own; its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fleet.sandbox.binance", "--port", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
    assert found is not None
    yield int(found[1])
    process.kill()
    process.communicate()


class Started:
    """A started Trader and what it has said so far."""

    def __init__(self, home: Path, port: int, *words: str) -> None:
        self.home = home
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "run_trader.py"), *words],
            env={**kept, "FLEET_HOME": str(home), "BINANCE_SANDBOX_PORT": str(port)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += iter(self.process.stdout.readline, "")  # until everybody has closed it

    def close(self) -> None:
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def said(self, text: str) -> int:
        return sum(text in line for line in list(self.lines))

    def until(self, met: Callable[[], object]) -> None:
        deadline = time.monotonic() + 40
        while not met():
            assert time.monotonic() < deadline, "".join(self.lines)
            time.sleep(0.02)

    def child(self) -> int:
        (found,) = psutil.Process(self.process.pid).children()
        return found.pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(40)
        self._reader.join(5)
        return code


@pytest.fixture
def start(tmp_path: Path, binance: int) -> Iterator[Callable[..., Started]]:
    made: list[Started] = []

    def run(*words: str) -> Started:
        made.append(Started(tmp_path, binance, *words))
        return made[-1]

    yield run
    for one in made:
        if one.process.poll() is None:
            family = [psutil.Process(one.process.pid)]
            for process in family + family[0].children(recursive=True):
                process.kill()
        one.process.wait()
        one.close()


def status(home: Path, slug: str = "trader-binance-ethusdt") -> dict[str, object]:
    found: dict[str, object] = json.loads((home / "var" / "status" / f"{slug}.json").read_text())
    return found


def test_one_token_is_bought_held_over_a_restart_and_never_bought_twice(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    first = start("paper", *WORDS)
    first.until(lambda: first.said("FILLED BUY"))
    assert first.said("UNPROVEN BINANCE:ETHUSDT")
    assert first.end(signal.SIGINT) == 0
    assert first.said("SUMMARY BINANCE:ETHUSDT: pnl=")
    spent = status(tmp_path)["cash"]
    second = start("paper", *WORDS)
    second.until(lambda: second.said("READY"))
    time.sleep(2.5)  # Two more bars close, which a bot that forgot would buy on.
    assert second.end() == 0
    assert not second.said("FILLED BUY")
    assert status(tmp_path)["cash"] == spent


def test_the_wrapper_restarts_a_killed_bot_with_its_position_and_leaves_no_orphan(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    wrapper = start("paper", *WORDS, "--infinite", "--auto-restart", "--restart-delay", "0.2")
    wrapper.until(lambda: wrapper.said("FILLED BUY"))
    bot = wrapper.child()
    os.kill(bot, signal.SIGKILL)
    wrapper.until(lambda: wrapper.said("READY") == 2)
    assert wrapper.said("attempt 1/1000: it was ended by SIGKILL")
    again = wrapper.child()
    assert again != bot
    heartbeat = tmp_path / "var" / "wrapper" / "trader-binance-ethusdt-wrapper.json"
    guardian = json.loads(heartbeat.read_text())
    assert guardian["wrapper_pid"] == wrapper.process.pid
    assert wrapper.end() == 0
    assert not psutil.pid_exists(again)
    assert wrapper.said("FILLED BUY") == 1
    assert wrapper.said("SUMMARY BINANCE:ETHUSDT: pnl=")


def test_a_set_kill_latch_is_never_restarted(start: Callable[..., Started], tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    with FleetState(tmp_path / "var" / "fleet.db") as fleet:
        fleet.halt("a test", "test", time.time_ns())
    wrapper = start("paper", *WORDS, "--auto-restart", "--restart-delay", "0.1")
    assert wrapper.ended() == 78
    assert wrapper.said("a person must repair something first")
    assert wrapper.said("WRAPPER started") == 1


def test_a_second_wrapper_of_the_same_token_stays_out(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    first = start("paper", *WORDS, "--auto-restart")
    first.until(lambda: first.said("WRAPPER started"))
    second = start("paper", *WORDS, "--auto-restart")
    assert second.ended() == 75
    assert first.end() == 0
