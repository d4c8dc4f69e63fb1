"""Real processes over real sockets and files: bot and sandbox killed with kill -9 at random moments.

``tests.e2e.test_chaos`` lives many lives in made-up time; here are a few real deaths of the programs
as they are started, under the same faults, with the same proof at the end. KILLS and SEED ask for
more and for other moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from fleet.clock import LiveClock
from fleet.config import Mode
from fleet.runtime.live_gate import expected_phrase
from tests.chaos_checks import at_rest
from tests.e2e.fleet_home import MARKET
from tests.e2e.live_home import LiveHome
from tests.e2e.pm2_home import ROOT, until
from tests.e2e.test_live_process import come_to_rest, story

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("KILLS", "8"))
SEED = int(os.environ.get("SEED", "1"))
FAULTS = {
    "timeout_after_acceptance": 0.05, "error_after": 0.1, "settlement_failed": 0.05, "drop": 0.002,
}  # fmt: skip
COMMANDS = {
    "sandbox": (sys.executable, "-m", "fleet.cli.main", "sandbox", *MARKET),
    "bot": (sys.executable, str(ROOT / "run_arbhunter.py"), "--mode", "live", "--feed", "sandbox"),
}
LOOK_S = 0.1


class Keeper:
    """What PM2 does: whatever ended is started again."""

    def __init__(self, home: LiveHome) -> None:
        self.home = home
        self.kept: set[str] = set()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def start(self, name: str) -> None:
        """Keep a program running from now on."""
        self.kept.add(name)
        self._keep()

    def kill(self, name: str, number: signal.Signals) -> int:
        """Signal a program; its exit code. A killed one is started again."""
        with self._lock:
            process = self.running[name]
            if number is not signal.SIGKILL:
                self.kept.discard(name)
            process.send_signal(number)
            return process.wait(30)

    def _keep(self) -> None:
        with self._lock:
            for name in self.kept:
                process = self.running.get(name)
                if process is None or process.poll() is not None:
                    root = ("--root", str(self.home.root)) if name == "sandbox" else ()
                    with (self.home.paths.logs / f"{name}-out.log").open("ab") as out:
                        self.running[name] = subprocess.Popen(
                            [*COMMANDS[name], *root],
                            env=self.home.env, stdout=out, stderr=subprocess.STDOUT,
                        )  # fmt: skip

    def _watch(self) -> None:
        while not self._end.wait(LOOK_S):
            self._keep()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Look in a thread of its own; end everything at the end."""
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join()
            for process in self.running.values():
                process.kill()
                process.wait(20)


def answers(home: LiveHome) -> bool:
    """Whether the sandbox is up."""
    try:
        return httpx.get(f"{home.origin}/sandbox", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def entries(home: LiveHome) -> int:
    """How long the journal is."""
    if not home.paths.journal("arbhunter", Mode.LIVE, "sandbox").exists():
        return 0
    return len(home.entries())


def grew(home: LiveHome, before: int) -> bool:
    """Whether the bot wrote some more since the journal had ``before`` entries."""
    return entries(home) > before + 3


def test_kill_9_of_bot_and_sandbox_leaves_the_books_level(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    home = LiveHome(tmp_path, ARB_MAX_OPEN_BUNDLES="6", FLEET_MAX_ERRORS_PER_MINUTE="100000")
    home.env["LIVE_CONFIRM"] = expected_phrase("ArbHunter", LiveClock().now_ns())
    keeper = Keeper(home)
    with keeper.at_work():
        keeper.start("sandbox")
        until(partial(answers, home), "the sandbox answers", 20)
        home.admit()
        keeper.start("bot")
        for number in range(KILLS):
            before = entries(home)
            until(partial(grew, home, before), f"the bot goes on\n{home.tail()}", 90)
            for name, rate in FAULTS.items():
                home.fault(name, rate=rate)
            time.sleep(draw.uniform(0, 1.5))
            keeper.kill("sandbox" if number % 4 == 3 else "bot", signal.SIGKILL)
            until(partial(answers, home), "the sandbox answers", 20)
        before = entries(home)
        until(partial(grew, home, before), f"all is up again\n{home.tail()}", 90)
        home.heal()
        home.ready(within_s=60)
        come_to_rest(home)
        assert keeper.kill("bot", signal.SIGTERM) == 0
        at_rest(home.agree())
    seen = story(home)
    print(seen)
    assert seen.runs > KILLS // 2
    assert min(seen.orders, seen.fills) > 0
