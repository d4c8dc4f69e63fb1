"""The kernel lock that keeps twins out."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fleet.journal.locks import LockError, TwinRunning, acquire, holder

SRC = str(Path(__file__).parents[2] / "src")
HOLD = """
import sys, time
from pathlib import Path
from fleet.journal.locks import acquire
lock = acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def hold_elsewhere(path: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SRC},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_holder_is_told_who_runs(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "bot.lock"
    child = hold_elsewhere(path)
    try:
        assert holder(path) == child.pid
        with pytest.raises(TwinRunning) as told:
            acquire(path, wait_s=0.1)
        assert told.value.pid == child.pid
        assert str(child.pid) in str(told.value)
    finally:
        child.kill()
        child.communicate()


def test_kill_9_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "bot.lock"
    child = hold_elsewhere(path)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert holder(path) is None
    with acquire(path, wait_s=1.0):
        assert path.read_text() == f"{os.getpid()}\n"


def test_waiting_outlives_a_dying_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "bot.lock"
    first = acquire(path)
    timer = threading.Timer(0.2, first.release)
    timer.start()
    started = time.monotonic()
    acquire(path, wait_s=5.0).release()
    assert 0.1 < time.monotonic() - started < 4.0
    timer.join()


def test_release_twice_and_take_again(tmp_path: Path) -> None:
    path = tmp_path / "bot.lock"
    lock = acquire(path)
    assert lock.fileno() >= 0
    lock.release()
    lock.release()
    assert lock.fileno() == -1
    acquire(path).release()
    assert path.exists()


def test_the_descriptor_is_not_inherited(tmp_path: Path) -> None:
    path = tmp_path / "bot.lock"
    lock = acquire(path)
    assert not os.get_inheritable(lock.fileno())
    sleeper = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        lock.release()
        acquire(path).release()
    finally:
        sleeper.kill()
        sleeper.wait()


def test_the_lock_file_is_private(tmp_path: Path) -> None:
    with acquire(tmp_path / "locks" / "bot.lock") as lock:
        assert lock.path.stat().st_mode & 0o777 == 0o600
        assert lock.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_path_that_cannot_be_made_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError, match="writable"):
        acquire(tmp_path / "file" / "bot.lock")


def test_a_free_lock_has_no_holder(tmp_path: Path) -> None:
    assert holder(tmp_path / "none.lock") is None
    (tmp_path / "rubbish.lock").write_text("not a pid")
    assert holder(tmp_path / "rubbish.lock") is None
    fd = os.open(tmp_path / "rubbish.lock", os.O_RDWR)
    try:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX)
        assert holder(tmp_path / "rubbish.lock") == 0
    finally:
        os.close(fd)
