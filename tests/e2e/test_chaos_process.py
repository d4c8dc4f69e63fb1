"""Real processes over real sockets and files: bot and sandbox killed with kill -9 at random moments.

``tests.e2e.test_chaos`` lives many lives in made-up time; here are a few real deaths, with the same
proof at the end.
"""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from fleet.journal.store import JournalReader
from fleet.venues.polymarket.hosts import sandbox_hosts
from tests.chaos_checks import JournalWatch, at_rest, same_holdings
from tests.chaos_process import JOURNAL, universe_of
from tests.chaos_world import KEY, LIMITS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("KILLS", "8"))
SEED = int(os.environ.get("SEED", "1"))
FAULTS = (
    "timeout_after_acceptance=0.05",
    "error_after=0.1",
    "settlement_failed=0.05",
    "drop=0.002",
)


class Fleet:
    """A sandbox and a bot, each started again when it is gone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = (root / "processes.log").open("w")
        self.sandbox = self.start_sandbox()
        self.bot: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, stdout=self.log, stderr=self.log
        )

    def start_sandbox(self) -> subprocess.Popen[bytes]:
        faults = [word for fault in FAULTS for word in ("--faults", fault)]
        return self.start(
            "fleet.cli.main", "sandbox", "--port", str(self.port), "--root", str(self.root),
            "--mispricing-every", "1", "--speed", "2", *faults,
        )  # fmt: skip

    def start_bot(self) -> None:
        self.bot = self.start("tests.chaos_process", str(self.root), str(self.port))

    def keep(self) -> None:
        """What PM2 does: whatever ended is started again."""
        if self.sandbox.poll() is not None:
            self.sandbox = self.start_sandbox()
        if self.bot is not None and self.bot.poll() is not None:
            self.start_bot()

    def entries(self) -> int:
        """How long the journal is."""
        path = self.root / JOURNAL
        if not path.exists():
            return 0
        with JournalReader(path) as reader:
            return reader.last_seq

    def until(self, condition: Callable[[], object], what: str, limit_s: float = 90.0) -> None:
        end_s = time.monotonic() + limit_s
        while not condition():
            self.keep()
            tail = (self.root / "processes.log").read_text()[-2_000:]
            assert time.monotonic() < end_s, f"never happened: {what}\n{tail}"
            time.sleep(0.1)

    def grew(self, before: int) -> bool:
        """Whether the bot wrote some more since the journal had ``before`` entries."""
        return self.entries() > before + 3

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/sandbox", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def end(self) -> None:
        for process in (self.bot, self.sandbox):
            if process is not None:
                process.kill()
                process.wait(20)
        self.log.close()


def test_kill_9_of_bot_and_sandbox_leaves_the_books_level(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    fleet = Fleet(tmp_path)
    try:
        fleet.until(fleet.answers, "the sandbox answers")
        body = {"wallet": KEY.address, "amount": "2000"}
        assert httpx.post(f"{fleet.url}/sandbox/deposit", json=body).status_code == 200
        fleet.start_bot()
        for number in range(KILLS):
            before = fleet.entries()
            fleet.until(partial(fleet.grew, before), "the bot goes on")
            time.sleep(draw.uniform(0, 1.5))
            victim = fleet.sandbox if number % 4 == 3 else fleet.bot
            assert victim is not None
            victim.send_signal(signal.SIGKILL)
            victim.wait(20)
            fleet.keep()
        before = fleet.entries()
        fleet.until(lambda: fleet.answers() and fleet.grew(before), "all is up again")
        httpx.delete(f"{fleet.url}/sandbox/faults", trust_env=False)
        stop_and_prove(fleet)
    finally:
        fleet.end()


def stop_and_prove(fleet: Fleet) -> None:
    """End trading in order, then compare the journal's fold with the exchange's ledger."""
    universe = asyncio.run(universe_of(sandbox_hosts(fleet.port)))

    def stopped() -> bool:
        assert fleet.bot is not None
        fleet.bot.send_signal(signal.SIGTERM)
        try:
            return fleet.bot.wait(60) == 0
        except subprocess.TimeoutExpired:
            return False

    fleet.until(stopped, "the bot ends in order", 180)
    watch = JournalWatch(universe, LIMITS)
    with JournalReader(fleet.root / JOURNAL) as reader:
        for entry in reader.read():
            watch.take(entry.event)
    at_rest(watch.state)
    wallet = httpx.get(f"{fleet.url}/sandbox/wallet/{KEY.address}", trust_env=False).json()
    same_holdings(
        watch.state, cash=int(wallet["cash"]),
        tokens={token: int(amount) for token, amount in wallet["tokens"].items()},
    )  # fmt: skip
    print(watch.seen)
    assert watch.seen.runs > KILLS // 2
    assert min(watch.seen.orders, watch.seen.fills) > 0
