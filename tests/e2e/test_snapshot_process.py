"""A bot with a long journal: it leaves a snapshot, dies, and comes back by it, or without it."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from fleet.config import Mode
from fleet.domain import events as ev
from fleet.domain.units import ZERO_CASH
from fleet.engine.image import image_of
from fleet.engine.state import fold
from fleet.journal import snapshot
from fleet.journal.store import JournalReader, JournalStore
from fleet.runtime.snapshots import WORTH, recover, snapshot_path
from tests.e2e.fleet_home import FleetHome

pytestmark = pytest.mark.slow
LONG = WORTH + 1


def lengthen(path: Path) -> None:
    """As many entries as are worth a snapshot, none of which moves money."""
    now = time.time_ns()
    with JournalStore(path, bot="ArbHunter", mode="paper", run_id="long") as store:
        store.write(
            [
                ev.CashDeposited(
                    ts_event=now, ts_recv=now, deposit_id=f"nothing-{n}", amount=ZERO_CASH
                )
                for n in range(LONG)
            ]
        )


def came_up(home: FleetHome, bot: subprocess.Popen[bytes]) -> None:
    """Wait until it is ready; tell all it said if it does not come."""
    try:
        home.ready(pid=bot.pid)
    except AssertionError as error:
        raise AssertionError(f"exit code {bot.poll()}\n{home.log()}") from error


def test_it_comes_back_by_its_snapshot_and_does_not_need_it(tmp_path: Path) -> None:
    home = FleetHome(tmp_path)
    journal = home.paths.journal("arbhunter", Mode.PAPER)
    kept = snapshot_path(journal)
    lengthen(journal)
    with home.sandbox():
        with home.bot() as bot:
            came_up(home, bot)
            assert f"FOLDED the journal entries={LONG} from_snapshot=0" in home.log()
            home.filled()
            bot.kill()
            assert bot.wait(15) == -signal.SIGKILL
        head = snapshot.read_head(kept)
        assert head is not None
        assert (head.bot, head.mode, head.seq) == ("ArbHunter", "paper", LONG)
        with home.bot() as bot:
            came_up(home, bot)
            assert f"from_snapshot={LONG}" in home.log()
            bot.kill()
            bot.wait(15)
        kept.write_bytes(kept.read_bytes()[:-1])
        with home.bot() as bot:
            came_up(home, bot)
            assert "SNAPSHOT not used: the whole journal is read" in home.log()
            bot.send_signal(signal.SIGINT)
            assert bot.wait(15) == 0
    assert "Accounts differ" not in home.log()
    with JournalReader(journal) as reader:
        resumed = recover(reader)
        assert image_of(resumed) == image_of(fold(entry.event for entry in reader.read()))
    assert resumed.portfolio.trades()
