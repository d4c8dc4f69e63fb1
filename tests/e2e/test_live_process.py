"""ArbHunter as a live process at the sandbox's exchange: started, killed, refused, doubled.

Two stories are compared at the end, by code that shares nothing: the bot's journal, folded entry by
entry, and the ledger of the exchange, to the last unit of cash and of every token.
"""

import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from fleet.bots.arbhunter import SPEC
from fleet.config import Mode
from fleet.domain import events as ev
from fleet.engine.state import EMPTY_UNIVERSE
from fleet.journal.fleet import read_latch
from fleet.runtime.bootstrap import load_settings
from fleet.runtime.gate_store import GateStore
from fleet.runtime.staging import Stage, staged
from tests.chaos_checks import JournalWatch, Seen, at_rest
from tests.e2e.live_home import KEY, WALLET, LiveHome
from tests.e2e.pm2_home import until
from tests.proof import Disproved, prove_files

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("LIVE_KILLS", "4"))
SEED = int(os.environ.get("SEED", "1"))


def story(home: LiveHome) -> Seen:
    """The journal is whole, and the exchange knows each order once and none that it does not."""
    limits = staged(SPEC.limits(load_settings(SPEC, home.paths, {})), Stage.TENTH)
    watch = JournalWatch(EMPTY_UNIVERSE, limits)
    signed = set()
    for event in home.events():
        watch.take(event)
        if isinstance(event, ev.OrderSigned):
            signed.add(event.venue_order_id)
    gate = home.paths.gate("arbhunter", "sandbox")
    with GateStore(gate, bot="arbhunter", feed="sandbox", read_only=True) as store:
        smokes = store.smoke_ids()
        assert store.smoke_open() == []
    with closing(sqlite3.connect(f"file:{home.paths.var}/sandbox.db?mode=ro", uri=True)) as db:
        posted = [row[0] for row in db.execute("SELECT order_id FROM orders")]
        resting = [row[0] for row in db.execute("SELECT order_id FROM orders WHERE active = 1")]
    assert resting == []
    assert len(posted) == len(set(posted))
    assert set(posted) <= signed | smokes, "the exchange has an order no journal knows"
    assert len(set(posted) & signed) >= watch.seen.fills > 0 or watch.seen.fills == 0
    assert "Duplicated" not in home.log()
    return watch.seen


def started(home: LiveHome, times: int) -> None:
    """Wait until the bot has begun that often."""
    until(lambda: home.log().count("STARTING") >= times, f"it starts\n{home.tail()}", 20)


def come_to_rest(home: LiveHome) -> None:
    """Halt the running bot and wait until nothing is open, under way or unsettled any more."""
    paused = home.fleet("halt", "--bot", home.name, "the books are compared")
    assert paused.returncode == 0, paused.stdout + paused.stderr

    def quiet() -> bool:
        state = home.folded()
        return not [
            *state.orders.open, *state.bundles.pending, *state.portfolio.unsettled_trades()
        ]  # fmt: skip

    until(quiet, f"everything settles\n{home.tail()}", 60)


def once_mined(home: LiveHome) -> None:
    """Journal and ledger agree as soon as what was matched before the stop is on the chain."""

    def look() -> bool:
        try:
            home.agree()
        except Disproved:
            return False
        return True

    until(look, "journal and ledger agree", 30)


def stand_still(home: LiveHome, pid: int) -> None:
    """Stop the process for seconds: what was true before it is nothing to trade on."""
    before = len(home.log())
    os.kill(pid, signal.SIGSTOP)
    time.sleep(6)
    os.kill(pid, signal.SIGCONT)
    until(lambda: "COMPONENT restarted" in home.log()[before:], f"a new feed\n{home.tail()}", 20)
    told = home.log()[before:].splitlines()
    dropped = next(number for number, line in enumerate(told) if "stood still" in line)
    fresh = next(number for number, line in enumerate(told) if "COMPONENT restarted" in line)
    assert not any("ARB OPPORTUNITY" in line for line in told[dropped:fresh])


def no_secret(home: LiveHome, secrets: tuple[str, ...]) -> None:
    """Private key, API secret and passphrase are in no log and in no file of the fleet."""
    assert all(len(secret) > 20 for secret in secrets)
    for file in [*home.paths.logs.rglob("*"), *home.paths.var.rglob("*")]:
        if not file.is_file() or file.name.startswith("sandbox.db"):
            continue  # What the exchange keeps is not what the bot tells.
        content = file.read_bytes()
        assert bytes.fromhex(KEY) not in content, file
        for secret in secrets:
            assert secret.encode() not in content, file


def test_it_trades_and_journal_and_ledger_agree(tmp_path: Path) -> None:
    home = LiveHome(tmp_path)
    with home.sandbox():
        home.admit()
        with home.live() as bot:
            home.ready(pid=bot.pid, within_s=40)
            until(lambda: "EXECUTED" in home.log(), f"a bundle is done\n{home.tail()}", 30)
            code, told = home.refused()
            assert code == 75 and "TWIN" in told, told
            stand_still(home, bot.pid)
            home.filled(2)
            come_to_rest(home)
            bot.send_signal(signal.SIGTERM)
            assert bot.wait(20) == 0
        at_rest(home.agree())
        secrets = home.secrets()
    seen = story(home)
    assert seen.orders > 5 and seen.fills > 5
    assert isinstance(home.events()[-1], ev.RunStopped)
    assert "SMOKE" in home.log() and "RECONCILED" in home.log()
    expected = ("TWIN", "MARKET DATA dropped")
    errors = [line for line in home.log().splitlines() if " ERROR " in line]
    assert [line for line in errors if not any(words in line for words in expected)] == []
    no_secret(home, secrets)


def test_kill_9_of_bot_and_sandbox(tmp_path: Path) -> None:
    # Conversions of sets take a dozen seconds to be final; `make chaos` kills between their steps.
    sets = os.environ.get("LIVE_SETS", "false")
    draw = random.Random(SEED)
    home = LiveHome(tmp_path, ARB_MAX_OPEN_BUNDLES="6", ARB_SETS=sets)
    with home.sandbox() as sandbox:
        home.admit()
        for number in range(KILLS):
            with home.live() as bot:
                if number % 2:
                    # Anywhere between its first check and a little after ready: smoke included.
                    started(home, number + 1)
                    time.sleep(draw.uniform(0.2, 2.0))
                else:
                    home.ready(pid=bot.pid, within_s=40)
                    home.filled(1 + draw.randrange(6))
                    time.sleep(draw.uniform(0.0, 0.4))
                bot.kill()
                bot.wait(10)
        with home.live() as bot:
            home.ready(pid=bot.pid, within_s=40)
            # An order whose fate nobody can say while the venue is down: the bot waits for it.
            home.fault("lost_request", times=1)
            until(lambda: "ORDER UNKNOWN" in home.log(), f"one is unknown\n{home.tail()}", 30)
            sandbox.kill()
            sandbox.wait(10)
            until(lambda: "unknown outcome not answered" in home.log(), home.tail(), 20)
            with home.sandbox():
                home.filled(1)
                assert bot.poll() is None, home.tail()
                come_to_rest(home)
                bot.send_signal(signal.SIGTERM)
                assert bot.wait(20) == 0
                at_rest(home.agree())
    seen = story(home)
    assert seen.runs >= KILLS // 2
    assert seen.reconciled >= KILLS // 2


def test_what_must_not_start_does_not(tmp_path: Path) -> None:
    (tmp_path / "lost").mkdir()
    lost = LiveHome(tmp_path / "lost")
    lost.show_parity()
    # No market at all: nobody has to repair anything, a later start may do. It asks for a while.
    with lost.live() as asking:
        refused_for_a_cure(tmp_path)
        assert asking.wait(60) == 1, lost.tail()
    assert "start the sandbox" in lost.log()


def refused_for_a_cure(root: Path) -> None:
    """What a person must repair ends with 78: parity, phrase, latch, geoblock."""
    home = LiveHome(root)
    down = home.refused()
    assert down[0] == 78 and "parity" in down[1], down
    home.show_parity()
    for wrong in ("ENABLE LIVE ArbHunter 2026-01-01", "yes", "ENABLE LIVE OtherBot 2026-11-20"):
        code, told = home.refused(phrase=wrong)
        assert code == 78, told
        assert "expected is 'ENABLE LIVE ArbHunter" in told
    code, told = home.refused(phrase=" ")
    assert code == 78 and "was not confirmed" in told, told
    assert not home.paths.journal("arbhunter", Mode.LIVE, "sandbox").exists()

    with home.sandbox():
        home.admit()
        assert home.fleet("halt", "a drill").returncode == 0
        code, told = home.refused()
        assert code == 78 and "a drill" in told, told
        assert home.fleet("resume", "--yes").returncode == 0
        assert read_latch(home.paths.fleet_db) is None
    with home.sandbox("--geoblocked"):
        code, told = home.refused()
        assert code == 78 and "geoblock" in told, told
    assert "Traceback" not in (home.paths.logs / "arbhunter-out.log").read_text()
    no_secret(home, (KEY,))


def test_paper_and_live_side_by_side_keep_apart(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "paper").mkdir()
    live = LiveHome(tmp_path / "live", ARB_SETS="false")
    paper = LiveHome(tmp_path / "paper", SANDBOX_PORT=str(live.port))
    with live.sandbox():
        live.admit()
        with paper.bot() as pretending, live.live() as real:
            paper.ready(pid=pretending.pid)
            live.ready(pid=real.pid, within_s=40)
            live.filled(2)
            paper.filled(2)
            pretending.send_signal(signal.SIGTERM)
            real.send_signal(signal.SIGTERM)
            assert (pretending.wait(20), real.wait(20)) == (0, 0)
        # In one home as well: each its own journal, and a live one is never opened as paper.
        with live.bot("--mode", "paper") as pretending:
            live.ready(pid=pretending.pid)
            pretending.send_signal(signal.SIGTERM)
            assert pretending.wait(20) == 0
        once_mined(live)
        # Another wallet's key must not write its balance into this wallet's journal.
        written = len(live.entries())
        live.configure(POLYMARKET_PRIVATE_KEY="02" * 32, POLYMARKET_WALLET="eoa")
        code, told = live.refused()
        assert code == 78 and f"is the journal of wallet {WALLET.lower()}" in told, told
        assert len(live.entries()) == written
    prove_files(tmp_path / "paper")
    prove_files(tmp_path / "live")
    story(live)
    real_file = live.paths.journal("arbhunter", Mode.LIVE, "sandbox")
    pretended = live.paths.journal("arbhunter", Mode.PAPER, "sandbox")
    assert real_file != pretended and real_file.exists() and pretended.exists()
    assert not paper.paths.journal("arbhunter", Mode.LIVE, "sandbox").exists()
