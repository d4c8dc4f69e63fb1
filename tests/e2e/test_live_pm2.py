"""ArbHunter live and its exchange under the real PM2; bot, exchange and PM2's daemon killed -9.

A daemon that dies takes nobody with it: the bot sees its channel end and stops by itself, and what
is started afterwards finds the lock free and the journal whole. All settings, the phrase included,
come from the home's ``.env``; PM2 is told nothing but where that home is.

Two things are proved at the end: journal and exchange hold the same to the last unit, and there was
never a second bot, neither among the processes (looked at all the time) nor in the journal, where
no run writes after another has begun. KILLS and SEED ask for more and for other moments.
"""

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.runtime.live_gate import expected_phrase
from tests.chaos_checks import at_rest
from tests.e2e.live_home import LiveHome
from tests.e2e.pm2_home import Pm2, gone, private_pm2, until
from tests.e2e.test_live_process import come_to_rest, no_secret, story

pytestmark = [pytest.mark.pm2, pytest.mark.slow]

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("SEED", "1"))
ALWAYS_RESTART = {"exp_backoff_restart_delay": None, "restart_delay": 0, "max_restarts": 1_000_000}
LOOK_S: Final = 0.05
SETTINGS: Final = {
    "ARB_MODE": "live",
    "ARB_FEED": "sandbox",
    "ARB_SETS": "true",
    "ARB_MAX_OPEN_BUNDLES": "6",
    # A tenth of it holds in the first stage: less than six bundles would put at stake.
    "ARB_MAX_WALLET_USD": "2000",
}


class Crowd:
    """Looks all the time at which processes run for a home, and keeps the most there ever were."""

    def __init__(self, home: LiveHome) -> None:
        self._mark = f"FLEET_HOME={home.root}".encode()
        self._end = threading.Event()
        self.bots: set[int] = set()
        self.most = 0
        self.looks = 0

    def alive(self, program: bytes = b"run_arbhunter.py") -> set[int]:
        """The processes of the home that run ``program`` now."""
        found = set()
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if not any(word.endswith(program) for word in words):
                    continue
                if self._mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
            except OSError:
                continue  # It ended while it was looked at.
        return found

    def _look(self) -> None:
        while not self._end.wait(LOOK_S):
            now = self.alive()
            self.bots |= now
            self.most = max(self.most, len(now))
            self.looks += 1

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look in a thread of its own."""
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()


def resting(home: LiveHome) -> list[str]:
    """The orders that rest at the exchange, by its own file."""
    with closing(sqlite3.connect(f"file:{home.paths.var}/sandbox.db?mode=ro", uri=True)) as db:
        return [row[0] for row in db.execute("SELECT order_id FROM orders WHERE active = 1")]


def one_of_each(home: LiveHome, pm2: Pm2, crowd: Crowd, *, after: int = 0) -> int:
    """Wait until bot and exchange are up under PM2, once each; the bot's pid."""

    def look() -> bool:
        sandbox, bot = pm2.app("Sandbox"), pm2.app("ArbHunter")
        return bot.online and sandbox.online and crowd.alive() == {bot.pid} != {after}

    until(look, f"one of each\n{home.tail()}", 60)
    return pm2.app("ArbHunter").pid


def the_daemon_dies(home: LiveHome, pm2: Pm2, crowd: Crowd, *, resurrect: bool) -> None:
    """Bot and exchange end by themselves, nothing rests, and a new daemon starts one of each."""
    settled, said = home.status()["pid"] in crowd.alive(), len(home.log())
    orphans = crowd.alive() | {pm2.app("Sandbox").pid}
    os.kill(pm2.daemon_pid(), signal.SIGKILL)
    until(lambda: all(map(gone, orphans)) and not crowd.alive(), "all end by themselves", 20)
    assert resting(home) == []
    if settled:
        assert 'reason="the PM2 daemon is gone"' in home.log()[said:], home.tail()
        last = home.events()[-1]
        assert isinstance(last, ev.RunStopped)
        assert last.reason == "the PM2 daemon is gone"
    if resurrect:
        pm2.run("resurrect", timeout_s=90)
    else:
        pm2.run("start", str(home.root / "ecosystem.config.js"), timeout_s=90)


def kill_one(victim: str, home: LiveHome, pm2: Pm2, crowd: Crowd, draw: random.Random) -> None:
    """Kill it, and wait until there is one of each again."""
    bot = pm2.app("ArbHunter").pid
    if victim == "daemon":
        the_daemon_dies(home, pm2, crowd, resurrect=draw.random() < 0.5)
        one_of_each(home, pm2, crowd, after=bot)
        return
    name = "ArbHunter" if victim == "bot" else "Sandbox"
    pid = pm2.app(name).pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: pm2.app(name).online and pm2.app(name).pid != pid, f"PM2 starts {name}", 30)
    one_of_each(home, pm2, crowd, after=bot if victim == "bot" else 0)


def trading(home: LiveHome, pm2: Pm2, crowd: Crowd) -> None:
    """Wait until the one bot is ready and orders are filled."""
    until(lambda: home.ready(within_s=90) == one_of_each(home, pm2, crowd), "the bot is ready", 90)
    home.filled(1)


def kill_rounds(home: LiveHome, pm2: Pm2, crowd: Crowd, draw: random.Random) -> None:
    """Each victim in its turn, the turns drawn, at moments that are drawn."""
    victims: list[str] = []
    for number in range(KILLS):
        victims = victims or draw.sample(["daemon", "bot", "sandbox"], 3)
        if number == 0:
            trading(home, pm2, crowd)
            until(lambda: home.folded().bundles.pending, f"an operation\n{home.tail()}", 60)
        elif draw.random() < 0.5:
            trading(home, pm2, crowd)
        # Otherwise while it starts: checks, recovery and smoke order included.
        time.sleep(draw.uniform(0.0, 1.5))
        kill_one(victims.pop(), home, pm2, crowd, draw)


def one_writer(home: LiveHome) -> list[str]:
    """The runs of the journal: none writes any more once another has begun."""
    runs = [run for run, _ in groupby(home.entries(), key=lambda entry: entry.run_id)]
    assert len(runs) == len(set(runs)), runs
    return runs


def test_kill_9_of_daemon_bot_and_exchange(tmp_path: Path) -> None:
    phrase = expected_phrase("ArbHunter", LiveClock().now_ns())
    home = LiveHome(tmp_path, **SETTINGS, LIVE_CONFIRM=f"'{phrase}'")
    draw, crowd = random.Random(SEED), Crowd(home)
    with private_pm2() as pm2, crowd.watched():
        applications = str(home.applications(pm2, **ALWAYS_RESTART))
        pm2.run("start", applications, "--only", "Sandbox")
        home.admit()
        pm2.run("start", applications, "--only", "ArbHunter")
        pm2.run("save")
        kill_rounds(home, pm2, crowd, draw)
        trading(home, pm2, crowd)
        come_to_rest(home)
        secrets = home.secrets()
        told = (pm2.home / "dump.pm2").read_text() + pm2.run("jlist")
        pm2.run("stop", "ArbHunter")
        at_rest(home.agree())
        pm2.run("stop", "Sandbox")
        assert (pm2.app("ArbHunter").status, pm2.app("Sandbox").status) == ("stopped", "stopped")
        assert crowd.alive() == set()
    seen, runs = story(home), one_writer(home)
    print(seen, f"{len(runs)} runs, {len(crowd.bots)} processes, {crowd.looks} looks")
    assert isinstance(home.events()[-1], ev.RunStopped)
    assert crowd.most == 1 and crowd.looks > 100
    # The first, and one for each kill of the bot or the daemon; only what opened the journal is in.
    assert len(crowd.bots) > KILLS * 2 // 3 and KILLS // 4 < len(runs) <= len(crowd.bots)
    assert min(seen.fills, seen.operations, seen.reconciled) > 0
    assert "TWIN" not in home.log()
    assert not [secret for secret in (*secrets, phrase) if secret in told]
    no_secret(home, secrets)
