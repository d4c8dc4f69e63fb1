"""The embedded memory when files are torn, gone, full, foreign or not writable, and kill -9."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.clock import NS_PER_SECOND, ManualClock
from fleet.forecasting.embedded_memory import EmbeddedMemory, matrix_name
from fleet.forecasting.embedding_cache import CachedEmbedder
from fleet.forecasting.memory_schema import QUARANTINE_NS
from fleet.forecasting.port import Item, Kind, MemoryFailed
from fleet.forecasting.vectors import HEADER_BYTES
from tests.unit.test_embedding_cache import Counting

NEVER = 2**62
ROOT = Path(__file__).resolve().parents[2]
ROW = 384 * 4


def opened(folder: Path, **more: ManualClock) -> EmbeddedMemory:
    return EmbeddedMemory(folder, CachedEmbedder(Counting(), folder / "embeddings.db"), **more)


def items(count: int, first: int = 0) -> list[Item]:
    return [
        Item(id=f"i{n:03}", kind=Kind.RESOLVED, text=f"text number {n}", known_ns=n)
        for n in range(first, first + count)
    ]


def matrix(folder: Path) -> Path:
    return folder / matrix_name("counting")


def finds_all(memory: EmbeddedMemory, count: int) -> bool:
    return all(
        memory.search(f"text number {n}", before_ns=NEVER, top=1)[0].item.id == f"i{n:03}"
        for n in range(count)
    )


def asked(memory: EmbeddedMemory) -> list[str]:
    inner = memory.embedder.inner
    assert isinstance(inner, Counting)
    return inner.asked


def replaced(path: Path, content: bytes) -> None:
    """As a person's copy would, not under a running process's mapping."""
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["torn", "gone", "zeros", "flipped", "empty", "foreign"])
def test_a_damaged_matrix_is_made_again_without_embedding(tmp_path: Path, damage: str) -> None:
    memory = opened(tmp_path)
    memory.add(items(40))
    memory.close()
    path = matrix(tmp_path)
    whole = path.read_bytes()
    match damage:
        case "torn":
            replaced(path, whole[: HEADER_BYTES + 17 * ROW + 100])
        case "gone":
            path.unlink()
        case "zeros":
            replaced(path, whole[: HEADER_BYTES + 9 * ROW] + b"\0" * (31 * ROW))
        case "flipped":
            at = HEADER_BYTES + 5 * ROW + 3
            replaced(path, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        case "empty":
            replaced(path, b"")
        case "foreign":
            replaced(path, b"something else" * 10_000)
    memory = opened(tmp_path)
    assert finds_all(memory, 40)
    assert asked(memory) == []
    memory.close()
    assert path.read_bytes() == whole


def test_a_matrix_that_goes_while_it_is_used_is_made_again(tmp_path: Path) -> None:
    memory = opened(tmp_path)
    memory.add(items(10))
    matrix(tmp_path).unlink()
    assert finds_all(memory, 10)
    replaced(matrix(tmp_path), b"\0" * (HEADER_BYTES + 20 * ROW))
    assert finds_all(memory, 10)
    memory.close()


def test_a_lost_cache_costs_only_embedding_again(tmp_path: Path) -> None:
    memory = opened(tmp_path)
    memory.add(items(10))
    memory.close()
    for file in tmp_path.glob("embeddings*"):
        file.unlink()
    matrix(tmp_path).unlink()
    memory = opened(tmp_path)
    assert len(asked(memory)) == 10
    assert finds_all(memory, 10)
    memory.close()


def test_files_are_private_and_old_slots_are_used_again_after_a_rest(tmp_path: Path) -> None:
    clock = ManualClock(10**18)
    memory = opened(tmp_path, clock=clock)
    memory.add(items(4))
    for number in range(6):
        clock.advance(NS_PER_SECOND)
        memory.add([Item(id="i000", kind=Kind.RESOLVED, text=f"version {number}", known_ns=0)])
    size = matrix(tmp_path).stat().st_size
    assert size == HEADER_BYTES + 10 * ROW
    clock.advance(QUARANTINE_NS + NS_PER_SECOND)
    for number in range(6, 12):
        memory.add([Item(id="i000", kind=Kind.RESOLVED, text=f"version {number}", known_ns=0)])
    assert matrix(tmp_path).stat().st_size == size
    found = memory.search("version 11", before_ns=NEVER, top=9)
    assert found[0].item.text == "version 11" and len(found) == 4
    memory.close()
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_reader_follows_slots_that_moved_and_were_used_again(tmp_path: Path) -> None:
    clock = ManualClock(10**18)
    writer, reader = opened(tmp_path, clock=clock), opened(tmp_path)
    writer.add(items(3))
    assert len(reader.search("text", before_ns=NEVER, top=9)) == 3
    for number in range(8):
        clock.advance(QUARANTINE_NS + NS_PER_SECOND)
        writer.add(
            [Item(id="i001", kind=Kind.RESOLVED, text=f"now {number}", known_ns=number),
             *items(1, first=50 + number)]
        )  # fmt: skip
    found = reader.search("now 7", before_ns=NEVER, top=99)
    assert found == writer.search("now 7", before_ns=NEVER, top=99)
    assert found[0].item.text == "now 7" and len(found) == 11
    writer.close()
    reader.close()


def test_threads_take_turns(tmp_path: Path) -> None:
    memory = opened(tmp_path)
    memory.add(items(30))
    failures: list[str] = []

    def work(number: int) -> None:
        for turn in range(10):
            memory.add(items(1, first=100 + number * 10 + turn))
            if not finds_all(memory, 30):
                failures.append(f"{number} {turn}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert memory.count()[Kind.RESOLVED] == 70
    memory.close()


@pytest.mark.parametrize("what", ["text", "newer"])
def test_another_file_in_its_place_is_refused(tmp_path: Path, what: str) -> None:
    opened(tmp_path).close()
    path = tmp_path / "memory.db"
    if what == "text":
        for side in tmp_path.glob("memory.db-*"):
            side.unlink()
        path.write_text("no database")
    else:
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version=99")
        db.close()
    with pytest.raises(MemoryFailed, match=r"restore|newer than this code"):
        opened(tmp_path)


def test_a_damaged_page_is_refused_with_the_cure(tmp_path: Path) -> None:
    memory = opened(tmp_path)
    memory.add(items(400))
    memory.close()
    path = tmp_path / "memory.db"
    content = bytearray(path.read_bytes())
    for start in range(3 * 4096, len(content), 4096):
        content[start : start + 300] = b"\xff" * 300
    path.write_bytes(content)
    with pytest.raises(MemoryFailed, match="restore the newest backup"):
        opened(tmp_path)


# --- the disk -------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A place where file modes hold, which they do not for root."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if root:
            os.chown(place, 65534, 65534)
            os.seteuid(65534)
        try:
            yield place
        finally:
            if root:
                os.seteuid(0)


def test_files_that_refuse_writing_are_told_with_the_cure(unprivileged: Path) -> None:
    folder = unprivileged / "memory"
    memory = opened(folder)
    memory.add(items(3))
    matrix(folder).chmod(0o400)
    with pytest.raises(MemoryFailed, match="make it and its directory writable"):
        memory.add(items(1, first=7))
    assert memory.get(Kind.RESOLVED, "i007") is None
    matrix(folder).chmod(0o600)
    assert memory.add(items(1, first=7)) == 1
    memory.close()
    (folder / "memory.db").chmod(0o400)
    with pytest.raises(MemoryFailed, match="make it writable"):
        opened(folder)


FILL = """
import signal, resource, sys
from pathlib import Path
from tests.unit.test_embedded_memory import finds_all, items, opened
from fleet.forecasting.port import Kind, MemoryFailed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
memory = opened(folder)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))
count = 0
try:
    while count < 2_000:
        memory.add(items(20, first=count))
        count += 20
    print("never full")
except MemoryFailed as error:
    print(error)
assert memory.count()[Kind.RESOLVED] == count
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert finds_all(memory, count)
assert memory.add(items(20, first=count)) == 20
memory.close()
memory = opened(folder)
assert finds_all(memory, count + 20)
memory.close()
print("whole")
"""


def test_where_nothing_can_be_written_nothing_is_lost(tmp_path: Path) -> None:
    # The matrix grows fastest: it meets the limit first, then the write-ahead logs.
    for limit in (HEADER_BYTES + 333 * ROW, 150_000):
        done = subprocess.run(
            [sys.executable, "-c", FILL, str(tmp_path / str(limit)), str(limit)],
            capture_output=True, text=True, cwd=ROOT, check=False,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said, whole = done.stdout.strip().splitlines()
        assert whole == "whole"
        assert "cannot" in said and ("disk" in said or "space" in said)


HAMMER = """
import sys
from pathlib import Path
from tests.unit.test_embedded_memory import items, opened
memory = opened(Path(sys.argv[1]))
count = memory.count()
count = sum(count.values())
while True:
    memory.add(items(3, first=count))
    count += 3
    print(count, flush=True)
"""


def test_kill_9_loses_no_row_that_was_added(tmp_path: Path) -> None:
    told = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(tmp_path)],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(7):
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
    memory = opened(tmp_path)
    count = memory.count()[Kind.RESOLVED]
    assert count >= told
    assert finds_all(memory, count)
    memory.close()
