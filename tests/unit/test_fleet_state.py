"""Kill latch, wallet leases and the day board of ``var/fleet.db``."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.domain.units import Cash
from fleet.journal.database import JournalDamaged, JournalError, JournalForeign
from fleet.journal.fleet import FleetState, LatchChanged, LeaseHeld, LeaseLost, read_latch
from fleet.journal.store import JournalStore

SRC = str(Path(__file__).parents[2] / "src")
SECOND = 1_000_000_000
TTL = 10 * SECOND


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "var" / "fleet.db"


def test_a_latch_holds_until_an_explicit_resume(path: Path) -> None:
    with FleetState(path) as state:
        assert state.latched() is None
        state.halt("losing money", "operator", 5)
        state.halt("again", "watchdog", 6)
    with FleetState(path) as other:
        latch = other.latched()
        assert latch is not None
        assert (latch.reason, latch.by, latch.ts) == ("losing money", "operator", 5)
        assert latch.readable
        assert other.resume("operator", 7)
        assert other.latched() is None
        assert not other.resume("operator", 8)
        assert [(e.action, e.by) for e in other.history()] == [
            ("HALT", "operator"),
            ("HALT", "watchdog"),
            ("RESUME", "operator"),
        ]
        other.halt("third", "operator", 9)
        assert read_latch(path) == other.latched()


def test_only_what_was_seen_is_cleared(path: Path) -> None:
    with FleetState(path) as state:
        state.halt("first", "operator", 1)
        seen = state.latched()
        state.halt("second, worse", "watchdog", 2)
        with pytest.raises(LatchChanged, match="halted again"):
            state.resume("operator", 3, seen=seen)
        assert state.latched() is not None
        assert state.resume("operator", 4, seen=state.latched())


def test_an_open_reader_sees_a_halt_set_elsewhere(path: Path) -> None:
    with FleetState(path) as mine, FleetState(path) as theirs:
        assert mine.latched() is None
        theirs.halt("stop", "dashboard", 1)
        latch = mine.latched()
        assert latch is not None
        assert latch.reason == "stop"


def test_the_history_cannot_be_rewritten(path: Path) -> None:
    with FleetState(path) as state:
        state.halt("stop", "operator", 1)
    raw = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError, match="never removed"):
        raw.execute("DELETE FROM latch")
    with pytest.raises(sqlite3.IntegrityError, match="never changes"):
        raw.execute("UPDATE latch SET action = 'RESUME'")
    raw.close()
    assert read_latch(path) is not None


@pytest.mark.parametrize("damage", ["empty", "cut", "rubbish", "pages"])
def test_a_damaged_file_reads_as_latched(path: Path, damage: str) -> None:
    with FleetState(path) as state:
        for n in range(200):
            state.halt(f"reason {n}" * 10, "operator", n)
        state.resume("operator", 1)
    content = bytearray(path.read_bytes())
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "rubbish":
        path.write_bytes(b"\0" * len(content))
    else:
        content[4096 * 3 : 4096 * 4] = os.urandom(4096)
        path.write_bytes(content)
    latch = read_latch(path)
    assert latch is not None
    assert not latch.readable
    assert "restore" in latch.reason
    with pytest.raises(JournalDamaged):
        FleetState(path)


def test_a_file_that_is_no_fleet_state_reads_as_latched(path: Path) -> None:
    JournalStore(path, bot="arbhunter", mode="paper", run_id="r").close()
    with pytest.raises(JournalForeign, match="another program"):
        FleetState(path)
    latch = read_latch(path)
    assert latch is not None
    assert not latch.readable


def test_no_file_is_not_latched_and_looking_makes_none(path: Path) -> None:
    assert read_latch(path) is None
    assert not path.exists()


def test_the_file_is_private(path: Path) -> None:
    with FleetState(path) as state:
        state.halt("x", "y", 1)
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file


def test_one_wallet_one_engine(path: Path) -> None:
    with FleetState(path) as state:
        lease = state.acquire("0xabc", "arbhunter", 10, TTL, 100)
        with pytest.raises(LeaseHeld, match="arbhunter") as told:
            state.acquire("0xabc", "polyai", 11, TTL, 100 + TTL - 1)
        assert (told.value.pid, told.value.expires_ns) == (10, 100 + TTL)
        assert state.holds(lease, 100 + TTL - 1)
        assert not state.holds(lease, 100 + TTL)
        state.acquire("0xdef", "polyai", 11, TTL, 100)


def test_a_holder_that_slept_is_told_it_was_superseded(path: Path) -> None:
    with FleetState(path) as state:
        old = state.acquire("w", "arbhunter", 10, TTL, 0)
        new = state.acquire("w", "polyai", 11, TTL, TTL)
        assert new.token == old.token + 1
        assert not state.holds(old, 1)
        with pytest.raises(LeaseLost, match="polyai"):
            state.renew(old, TTL, TTL + 1)
        state.release(old)
        assert state.holds(new, TTL + 1)


def test_renewing(path: Path) -> None:
    with FleetState(path) as state:
        lease = state.acquire("w", "arbhunter", 10, TTL, 0)
        longer = state.renew(lease, TTL, 5 * SECOND)
        assert longer.expires_ns == 15 * SECOND
        assert longer.token == lease.token
        assert longer.alive(15 * SECOND - 1)
        assert not longer.alive(15 * SECOND)
        late = state.renew(longer, TTL, 60 * SECOND)
        assert state.holds(late, 69 * SECOND)
        state.release(late)
        with pytest.raises(LeaseLost, match="released"):
            state.renew(late, TTL, 61 * SECOND)
        assert state.acquire("w", "polyai", 11, TTL, 61 * SECOND).token == late.token + 1


def test_a_restart_takes_its_own_dead_lease_over_but_no_other(path: Path) -> None:
    with FleetState(path) as state:
        dead = state.acquire("w", "arbhunter", 10, TTL, 0)
        with pytest.raises(LeaseHeld):
            state.acquire("w", "polyai", 11, TTL, 1, predecessor_dead=True)
        mine = state.acquire("w", "arbhunter", 12, TTL, 1, predecessor_dead=True)
        assert mine.token == dead.token + 1
        with pytest.raises(LeaseLost):
            state.renew(dead, TTL, 2)


RACE = """
import os, sys
from pathlib import Path
from fleet.journal.fleet import FleetState, LeaseHeld
with FleetState(Path(sys.argv[1])) as state:
    sys.stdin.readline()
    try:
        print(state.acquire("w", f"bot{os.getpid()}", os.getpid(), 10**12, 0).token)
    except LeaseHeld:
        print("held")
"""


def test_of_racing_processes_one_gets_the_lease(path: Path) -> None:
    FleetState(path).close()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": SRC},
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    said = sorted(child.communicate()[0].strip() for child in children)
    assert said == ["1", "held", "held", "held"]


def test_the_day_is_summed_over_the_fleet_and_survives(path: Path) -> None:
    with FleetState(path) as state:
        state.publish_day_pnl("arbhunter", "paper", "w1", "2026-11-20", Cash(-300))
        state.publish_day_pnl("polyai", "paper", "w2", "2026-11-20", Cash(100))
        state.publish_day_pnl("arbhunter", "live", "w1", "2026-11-20", Cash(-7))
        state.publish_day_pnl("arbhunter", "paper", "w1", "2026-11-20", Cash(-500))
    with FleetState(path) as again:
        assert again.day_pnl("paper", "2026-11-20") == -400
        assert again.day_pnl("live", "2026-11-20") == -7
        assert again.day_pnl("paper", "2026-11-21") == 0


def test_an_unreadable_board_is_an_error_not_a_zero(path: Path) -> None:
    state = FleetState(path)
    state.close()
    raw = sqlite3.connect(path)
    raw.execute("DROP TABLE day_pnl")
    raw.commit()
    raw.close()
    with FleetState(path) as again, pytest.raises(JournalError, match="day_pnl"):
        again.day_pnl("paper", "2026-11-20")
