"""A disk that is full, a file that may not grow, a journal that became read-only: trading stops.

Each drill trades on the local market, takes the disk away, sees the bot end with one clear error,
gives it back, and proves that nothing was commanded after the failed write and nothing was lost.
"""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.config import Mode
from fleet.domain import events as ev
from tests.e2e.fleet_home import FleetHome
from tests.proof import Proof, entries_of, prove_files

pytestmark = pytest.mark.slow
MEGABYTE = 1 << 20


def need_root() -> None:
    """Mounting a disk and making a file immutable are root's; two drills below do without."""
    if os.geteuid() != 0 or shutil.which("chattr") is None:
        pytest.skip(
            "needs root and chattr: the kernel allows mounts and immutable files to no other"
        )


@contextmanager
def small_disk(folder: Path, size: str = "12m") -> Iterator[None]:
    """A file system in memory, just for ``folder``."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def market(tmp_path: Path, home: FleetHome) -> Iterator[None]:
    """The sandbox in a home of its own: its disk is fine."""
    other = FleetHome(tmp_path / "market")
    other.port = home.port
    other.configure()
    with other.sandbox():
        yield


def fill(folder: Path) -> Path:
    """Take every last byte of a disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (MEGABYTE, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


def errors(home: FleetHome) -> str:
    """The ERROR lines of the bot's log."""
    return "\n".join(line for line in home.log().splitlines() if " ERROR " in line)


def comes_back(home: FleetHome, before: Proof) -> None:
    """The next start agrees with the venue and trades on."""
    with home.bot() as bot:
        home.ready(pid=bot.pid)
        home.filled()
        bot.terminate()
        assert bot.wait(15) == 0
    after = prove_files(home.root)
    assert after.runs == before.runs + 1
    assert after.reconciled == before.reconciled + 1
    assert after.orders > before.orders


def stops(home: FleetHome, bot: "subprocess.Popen[bytes]", cure: str) -> Proof:
    """The bot ends by itself with an error that names the cure; its story holds together."""
    assert bot.wait(20) == 1
    told = errors(home)
    assert "TRADING STOPPED" in told, told
    assert cure in told, told
    assert home.log().count("TRADING STOPPED") == 1
    return prove_files(home.root)


def test_a_full_disk_stops_trading_and_loses_nothing(tmp_path: Path) -> None:
    need_root()
    home = FleetHome(tmp_path / "fleet", FLEET_DISK_FREE_MIN_MB="1")
    with small_disk(home.paths.var), market(tmp_path, home):
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            home.filled(3)
            filler = fill(home.paths.var)
            proof = stops(home, bot, "free space on its disk")
        before = (proof.orders, proof.fills)
        with home.bot() as bot:
            assert bot.wait(15) in {1, 78}, "a full disk is no place to start"
        assert "free" in errors(home).splitlines()[-1]
        again = prove_files(home.root)
        assert (again.orders, again.fills) == before
        filler.unlink()
        comes_back(home, again)


def test_a_file_that_may_not_grow_stops_trading(tmp_path: Path) -> None:
    """The same without root: the kernel refuses to let the log of the journal grow."""
    home = FleetHome(tmp_path / "fleet")
    with market(tmp_path, home):
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            home.filled(3)
            log = home.paths.journal("arbhunter", Mode.PAPER).with_suffix(".db-wal")
            size = max(log.stat().st_size, home.paths.fleet_db.stat().st_size)
            resource.prlimit(bot.pid, resource.RLIMIT_FSIZE, (size, size))
            proof = stops(home, bot, "then start again")
        comes_back(home, proof)


def test_a_journal_that_became_read_only_stops_trading(tmp_path: Path) -> None:
    need_root()
    home = FleetHome(tmp_path / "fleet")
    journal = home.paths.journal("arbhunter", Mode.PAPER)
    with market(tmp_path, home):
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            home.filled(3)
            # Not the shared memory: the kernel would end the process for writing to its pages.
            files = [journal, journal.with_suffix(".db-wal")]
            subprocess.run(["chattr", "+i", *files], check=True)
            try:
                assert bot.wait(20) == 1
            finally:
                subprocess.run(["chattr", "-i", *files], check=True)
        assert "TRADING STOPPED" in errors(home)
        assert "permissions" in errors(home)
        comes_back(home, prove_files(home.root))


def test_a_read_only_disk_is_no_place_to_start(tmp_path: Path) -> None:
    need_root()
    home = FleetHome(tmp_path / "fleet", FLEET_DISK_FREE_MIN_MB="1")
    with small_disk(home.paths.var), market(tmp_path, home):
        with home.bot("--duration", "6") as bot:
            assert bot.wait(20) == 0
        proof = prove_files(home.root)
        subprocess.run(["mount", "-o", "remount,ro", home.paths.var], check=True)
        with home.bot() as bot:
            assert bot.wait(15) in {1, 78}
        assert "writable" in errors(home).splitlines()[-1]
        subprocess.run(["mount", "-o", "remount,rw", home.paths.var], check=True)
        assert prove_files(home.root) == proof
        comes_back(home, proof)


def test_a_bot_that_stops_for_its_disk_leaves_nothing_commanded(tmp_path: Path) -> None:
    """Every order at the venue was decided durably first: the ledger may lag, never lead."""
    home = FleetHome(tmp_path / "fleet")
    with market(tmp_path, home):
        with home.bot() as bot:
            home.ready(pid=bot.pid)
            home.filled(3)
            started_s = time.monotonic()
            resource.prlimit(bot.pid, resource.RLIMIT_FSIZE, (4096, 4096))
            assert bot.wait(20) == 1
            assert time.monotonic() - started_s < 20
        ledger, journal = entries_of(home.root)
        decided = {
            order.client_order_id
            for entry in journal
            if isinstance(entry.event, ev.DecisionMade)
            for order in entry.event.orders
        }
        arrived = {
            entry.event.client_order_id
            for entry in ledger
            if isinstance(entry.event, ev.OrderAccepted | ev.OrderRejected)
        }
        assert arrived <= decided
        comes_back(home, prove_files(home.root))
