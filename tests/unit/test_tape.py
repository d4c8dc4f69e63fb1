"""The tape: what is written is read back, whatever a crash or a full queue does."""

import gzip
import json
import os
import threading
import time
import tracemalloc
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.clock import NS_PER_SECOND
from fleet.journal import tape as tape_module
from fleet.journal.tape import (
    MAGIC,
    FrameKind,
    ReadReport,
    Tape,
    TapeError,
    TapeFrame,
    read_any,
    read_recording,
    read_tape,
    tape_path,
)

HOUR_NS = 3_600 * NS_PER_SECOND
T0 = 497_222 * HOUR_NS + 59 * 60 * NS_PER_SECOND
"""One minute before a full hour (2026-09-21 14:59 UTC)."""


def record(folder: Path, frames: list[TapeFrame]) -> None:
    tape = Tape(folder)
    for frame in frames:
        assert tape.write(frame.ts_recv, frame.connection, frame.payload, frame.kind)
    health = tape.close()
    assert (health.written, health.dropped, health.failure) == (len(frames), 0, "")


def read_folder(folder: Path) -> list[TapeFrame]:
    return [frame for path in sorted(folder.glob("*.tape.zst")) for frame in read_tape(path)]


def some_frames(number: int, start: int = 0) -> list[TapeFrame]:
    return [TapeFrame(T0 + i, i % 3, b"frame %d " % i * 20) for i in range(start, start + number)]


frames_strategy = st.lists(
    st.builds(
        TapeFrame,
        st.integers(T0, T0 + HOUR_NS),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=300),
        st.sampled_from(FrameKind),
    ),
    max_size=30,
)


@given(frames_strategy)
def test_round_trip(frames: list[TapeFrame]) -> None:
    import tempfile

    frames.sort(key=lambda frame: frame.ts_recv)
    with tempfile.TemporaryDirectory() as name:
        record(Path(name), frames)
        assert read_folder(Path(name)) == frames


def test_a_file_for_each_utc_hour(tmp_path: Path) -> None:
    frames = [TapeFrame(T0, 1, b"a"), TapeFrame(T0 + 120 * NS_PER_SECOND, 1, b"b")]
    record(tmp_path, frames)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["20260921-14.tape.zst", "20260921-15.tape.zst"]
    assert tape_path(tmp_path, T0 // HOUR_NS).name == names[0]


def test_a_second_run_appends(tmp_path: Path) -> None:
    record(tmp_path, some_frames(10))
    record(tmp_path, some_frames(10, start=10))
    assert read_folder(tmp_path) == some_frames(20)


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_last_block_is_reported_and_the_rest_read(tmp_path: Path, cut: int) -> None:
    record(tmp_path, some_frames(10))
    record(tmp_path, some_frames(10, start=10))
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - cut)
    report = ReadReport()
    assert list(read_tape(path, report)) == some_frames(10)
    assert report.frames == 10 and report.broken_bytes > 0


def test_a_run_after_a_crash_continues_behind_the_torn_block(tmp_path: Path) -> None:
    record(tmp_path, some_frames(10))
    (path,) = tmp_path.iterdir()
    sound = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\x28\xb5\x2f\xfd torn")
    record(tmp_path, some_frames(5, start=10))
    report = ReadReport()
    assert list(read_tape(path, report)) == some_frames(15)
    assert report.broken_bytes == 0
    (kept,) = tmp_path.glob("*.cut-*")
    assert kept.name.endswith(f".cut-{sound}") and kept.read_bytes() == b"\x28\xb5\x2f\xfd torn"


def test_a_file_of_a_crash_before_its_first_byte(tmp_path: Path) -> None:
    tape_path(tmp_path, T0 // HOUR_NS).write_bytes(MAGIC[:3])
    record(tmp_path, some_frames(3))
    assert read_folder(tmp_path) == some_frames(3)


def test_a_damaged_byte_ends_the_reading_there(tmp_path: Path) -> None:
    record(tmp_path, some_frames(50))
    (path,) = tmp_path.iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    report = ReadReport()
    assert list(read_tape(path, report)) == []
    assert report.broken_bytes == len(damaged) - len(MAGIC)


def test_a_full_queue_drops_and_counts_but_never_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk hangs: opening the file does not return until the test lets it."""
    released, really_open = threading.Event(), tape_module._open_for_append

    def hang(path: Path) -> BinaryIO:
        assert released.wait(30)
        return really_open(path)

    monkeypatch.setattr(tape_module, "_open_for_append", hang)
    tape = Tape(tmp_path, queue_frames=100, flush_s=0.0)
    taken = [tape.write(T0, 1, b"%d" % number) for number in range(1_000)]
    kept = taken.count(True)
    assert 100 <= kept < 200 and tape.health().dropped == 1_000 - kept
    assert not taken[-1]
    released.set()
    assert tape.close().written == kept
    assert [frame.payload for frame in read_folder(tmp_path)][:100] == [
        b"%d" % n for n in range(100)
    ]


def test_a_huge_backlog_is_bounded_in_bytes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, really_open = threading.Event(), tape_module._open_for_append

    def hang(path: Path) -> BinaryIO:
        assert released.wait(30)
        return really_open(path)

    monkeypatch.setattr(tape_module, "_open_for_append", hang)
    monkeypatch.setattr(tape_module, "QUEUE_BYTES_MAX", 10_000)
    tape = Tape(tmp_path, flush_s=0.0)
    taken = [tape.write(T0, 1, b"x" * 1_000) for _ in range(50)]
    assert 10 <= taken.count(True) < 25
    released.set()
    assert tape.close().failure == ""


def test_a_failing_disk_stops_the_tape_and_says_so(tmp_path: Path) -> None:
    tape_path(tmp_path, T0 // HOUR_NS).write_bytes(b"something else entirely")
    tape = Tape(tmp_path)
    tape.write(T0, 1, b"lost")
    health = tape.close()
    assert "is not a tape" in health.failure
    assert (health.written, health.dropped) == (0, 1)
    assert not tape.write(T0, 1, b"after")


def test_two_writers_of_one_tape_are_refused(tmp_path: Path) -> None:
    first, second = Tape(tmp_path, flush_s=0.0), Tape(tmp_path, flush_s=0.0)
    first.write(T0, 1, b"first")
    deadline = time.monotonic() + 10
    while not first.health().written:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    second.write(T0, 1, b"second")
    assert "another process" in second.close().failure
    assert first.close().failure == ""


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TapeError, match="cannot record to"):
        Tape(tmp_path / "file" / "tape")


def test_reading_what_is_no_tape(tmp_path: Path) -> None:
    stray = tmp_path / "x.tape.zst"
    stray.write_bytes(b"no tape at all")
    with pytest.raises(TapeError, match="is not a tape"):
        list(read_tape(stray))
    with pytest.raises(TapeError, match="cannot read"):
        list(read_tape(tmp_path / "absent.tape.zst"))
    with pytest.raises(TapeError, match="expected a tape"):
        read_any(tmp_path / "frames.csv")


def test_reading_needs_little_memory(tmp_path: Path) -> None:
    """Forty megabytes of frames are read within a few: one block at a time."""
    record(tmp_path, [TapeFrame(T0 + i, 1, os.urandom(100) * 20) for i in range(20_000)])
    (path,) = tmp_path.iterdir()
    tracemalloc.start()
    total = sum(len(frame.payload) for frame in read_tape(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 40_000_000
    assert peak < 8_000_000


def write_recording(path: Path, lines: list[str]) -> None:
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines) + "\n")


def test_recording_takes_the_frames_own_time(tmp_path: Path) -> None:
    path = tmp_path / "game.jsonl.gz"
    lines = [
        json.dumps({"event_type": "book", "timestamp": str(1_750_212_212_579 + i)}) for i in (0, 1)
    ]
    write_recording(path, [lines[0], "", lines[1]])
    assert list(read_any(path)) == [
        TapeFrame(1_750_212_212_579_000_000, 0, lines[0].encode()),
        TapeFrame(1_750_212_212_580_000_000, 0, lines[1].encode()),
    ]


def test_recording_with_a_bad_line_names_it(tmp_path: Path) -> None:
    path = tmp_path / "game.jsonl.gz"
    write_recording(path, ['{"timestamp":"1"}', '{"no":"stamp"}'])
    with pytest.raises(TapeError, match="line 2"):
        list(read_recording(path))


def test_recording_cut_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "game.jsonl.gz"
    write_recording(path, [f'{{"timestamp":"{i}"}}' for i in range(1_000)])
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(TapeError, match="cannot read"):
        list(read_recording(path))


@pytest.mark.realdata
def test_every_recorded_frame_is_understood(fleet_data: Path) -> None:
    """The recordings of June 2025, in the old one-asset shape: no frame is rejected or ignored."""
    from fleet.domain.events import BookChanged, BookSnapshot
    from fleet.venues.polymarket.wire import Decoder

    folder = fleet_data / "orderbook" / "signaldrift_mlb_2025"
    assert folder.is_dir(), f"{folder} is missing"
    decoder = Decoder()
    frames = books = 0
    for path in sorted(folder.glob("*.jsonl.gz")):
        for frame in read_recording(path):
            (event,) = decoder.decode(frame.payload, frame.ts_recv)
            assert isinstance(event, BookSnapshot | BookChanged)
            assert event.ts_event == frame.ts_recv
            frames += 1
            books += isinstance(event, BookSnapshot)
    assert frames > 50_000 and books > 1_000
    assert not decoder.rejected and not decoder.ignored
