"""The journal when the machine fails it: read-only, full disk, kill -9."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.journal.database import JournalReadOnly, JournalUnavailable
from tests.unit.test_store import opened, signed

REPOSITORY = Path(__file__).parents[2]
PYTHONPATH = f"{REPOSITORY / 'src'}:{REPOSITORY}"


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A directory, and no root's power over file modes, whoever runs the tests."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        root = os.geteuid() == 0
        Path(name).chmod(0o777)
        if root:
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)


def test_a_read_only_journal_says_so() -> None:
    with unprivileged() as place:
        path = place / "var" / "a.db"
        opened(path).close()
        path.chmod(0o400)
        with pytest.raises(JournalReadOnly, match="make it writable"):
            opened(path)
        path.chmod(0o600)
        path.parent.chmod(0o500)
        with pytest.raises(JournalUnavailable, match=r"writable|permissions"):
            opened(path)
        with pytest.raises(JournalReadOnly, match="writable"):
            opened(path.with_name("b.db"))
        path.parent.chmod(0o700)
        opened(path).close()


FILL = """
import sys
from pathlib import Path
from tests.unit.test_store import opened, signed, start
from fleet.journal.store import JournalStore
from fleet.journal.database import JournalFull, JournalUnavailable
if {limit}:
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, hard))
path = Path({path!r})
store = opened(path)
batch = 40
count = 0
ballast = path.with_name("ballast")
if not {limit}:
    ballast.write_bytes(b"x" * 1_200_000)
try:
    while True:
        count = store.write([signed(n) for n in range(count, count + batch)])
except JournalFull as error:
    print("full", count, str(error))
except JournalUnavailable as error:
    print("unavailable", count, str(error))
assert store.last_seq == count
assert [e.event for e in store.read()] == [signed(n) for n in range(count)]
if not {limit}:
    ballast.unlink()
    assert store.write([signed(count)]) == count + 1
    count += 1
store.close()
if {limit}:
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
again = opened(path)
assert again.check() == count, (again.last_seq, count)
print("whole")
"""


def test_a_full_disk_stops_writing_and_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = f"mount -t tmpfs -o size=2m tmpfs {place}"
    wrap: list[str] = []
    for candidate in (["unshare", "-m"], ["unshare", "-rm"]):
        if subprocess.run([*candidate, "sh", "-c", mount], capture_output=True).returncode == 0:
            wrap = candidate
            break
    limit = 0 if wrap else 400_000
    script = tmp_path / "fill.py"
    script.write_text(FILL.format(path=str(place / "a.db"), limit=limit))
    command = [sys.executable, str(script)]
    if wrap:
        command = [*wrap, "sh", "-c", f"{mount} && exec {sys.executable} {script}"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.strip().splitlines()
    assert last == "whole"
    assert first.startswith("full" if wrap else "unavailable")
    assert "free space" in first or not wrap
    assert int(first.split()[1]) > 0


HAMMER = """
import sys
from pathlib import Path
from tests.unit.test_store import opened, signed
store = opened(Path({path!r}), sys.argv[1])
n = store.last_seq
while True:
    n = store.write([signed(k) for k in range(n, n + 3)])
    print(n, flush=True)
"""


def test_kill_9_loses_no_acknowledged_entry(tmp_path: Path) -> None:
    path, script = tmp_path / "arbhunter-paper.db", tmp_path / "hammer.py"
    script.write_text(HAMMER.format(path=str(path)))
    acknowledged = 0
    for run in range(3):
        child = subprocess.Popen(
            [sys.executable, str(script), f"r{run}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
        )
        assert child.stdout is not None
        for _ in range(20 + 7 * run):
            acknowledged = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        rest = child.communicate()[0].splitlines(keepends=True)
        acknowledged = max([acknowledged, *(int(line) for line in rest if line.endswith("\n"))])
        with opened(path, "check") as store:
            assert store.last_seq >= acknowledged
            assert store.last_seq % 3 == 0
            assert store.check() == store.last_seq
            assert [e.event for e in store.read()] == [signed(n) for n in range(store.last_seq)]
