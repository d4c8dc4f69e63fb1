import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet import logs

HEAD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ ")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "bot.log"


@pytest.fixture
def running(file: Path) -> Iterator[logs.Logs]:
    outlets = logs.start(label="Bot paper sandbox", file=file)
    yield outlets
    outlets.stop()


def written(file: Path, outlets: logs.Logs) -> list[str]:
    outlets.stop()
    return file.read_text().splitlines()


def handlers() -> list[logging.Handler]:
    return [h for h in logging.getLogger(logs.NAME).handlers if isinstance(h, logs._Queue)]


def outlet(outlets: logs.Logs, name: str) -> logs._Outlet:
    return next(o for o in outlets._outlets if o.name == f"log-{name}")


def test_a_line_carries_time_level_label_message_and_pairs(
    capfd: pytest.CaptureFixture[str], running: logs.Logs, file: Path
) -> None:
    logs.get("x").info("ARB OPPORTUNITY", idea="SET", edge="$1.20", about="two words", empty="")
    (line,) = written(file, running)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO \[Bot paper sandbox\] ARB OPPORTUNITY"
        r' idea=SET edge=\$1\.20 about="two words" empty=""',
        line,
    )
    out, err = capfd.readouterr()
    assert out == f"{line}\n"
    assert err == ""


def test_warnings_and_errors_also_go_to_standard_error(
    capfd: pytest.CaptureFixture[str], running: logs.Logs, file: Path
) -> None:
    log = logs.get()
    log.info("fine")
    log.warning("odd")
    log.error("bad")
    lines = written(file, running)
    out, err = capfd.readouterr()
    assert out.splitlines() == lines
    assert err.splitlines() == lines[1:]


def test_debug_is_left_out(running: logs.Logs, file: Path) -> None:
    logs.get().debug("noise")
    assert written(file, running) == []


def test_the_file_is_for_its_owner_only(running: logs.Logs, file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "brk", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"]
)
def test_no_value_forges_a_line(running: logs.Logs, file: Path, brk: str) -> None:
    forged = f"x{brk}2026-01-01 00:00:00 INFO [Bot] EXECUTED pnl=$1000000"
    log = logs.get()
    log.info("ORDER REJECTED", reason=forged)
    log.info(forged)
    lines = written(file, running)
    assert len(lines) == 2
    assert all(HEAD.match(line) and "[Bot paper sandbox]" in line for line in lines)


def test_no_value_steers_a_terminal_or_forges_a_pair(running: logs.Logs, file: Path) -> None:
    logs.get().info("X", a="\x1b[2J\x07gone", b='y" pnl="1', c="a=b")
    (line,) = written(file, running)
    assert line.isprintable()
    assert r"a=\x1b[2J\x07gone" in line
    assert r'b="y\" pnl=\"1" c="a=b"' in line


def test_every_line_of_a_traceback_begins_with_the_time(running: logs.Logs, file: Path) -> None:
    def fail() -> None:
        raise ValueError("first\n2026-01-01 00:00:00 INFO [Bot] EXECUTED")

    try:
        fail()
    except ValueError as error:
        logs.get().error("CRASHED", exc_info=error)
    lines = written(file, running)
    assert len(lines) > 4
    assert all(HEAD.match(line) for line in lines)
    assert all("]   | " in line for line in lines[1:])
    assert any("ValueError: first" in line for line in lines)


def test_text_that_utf8_cannot_hold_does_not_stop_the_log(running: logs.Logs, file: Path) -> None:
    logs.get().info("half \ud800 a pair")
    logs.get().info("next")
    first, second = written(file, running)
    assert r"half \ud800 a pair" in first
    assert second.endswith("next")


def test_a_percent_sign_is_text(running: logs.Logs, file: Path) -> None:
    logs.get().info("100 % sure %s %d")
    assert written(file, running)[0].endswith("100 % sure %s %d")


def test_rotation_by_size_keeps_every_line_and_at_most_so_many_files(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES_MAX", 1_000)
    monkeypatch.setattr(logs, "FILES_KEPT", 3)
    outlets = logs.start(label="B", file=file)
    log = logs.get()
    for number in range(100):
        log.info("LINE", number=number)
    outlets.stop()
    files = sorted(file.parent.iterdir())
    assert [f.name for f in files] == ["bot.log", "bot.log.1", "bot.log.2", "bot.log.3"]
    assert all(f.stat().st_size <= 1_000 and f.stat().st_mode & 0o777 == 0o600 for f in files)
    kept = [line for f in (*reversed(files[1:]), files[0]) for line in f.read_text().splitlines()]
    numbers = [int(line.rsplit("=", 1)[1]) for line in kept]
    assert numbers == list(range(100 - len(numbers), 100))
    assert len(numbers) > 50


def test_a_rotation_that_cannot_be_made_loses_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES_MAX", 200)
    file.parent.mkdir()
    (file.parent / "bot.log.1").write_text("old\n")
    (file.parent / "bot.log.next").mkdir()  # What cannot be opened for writing.
    outlets = logs.start(label="B", file=file)
    for number in range(50):
        logs.get().info("LINE", number=number)
    assert len(written(file, outlets)) == 50
    assert (file.parent / "bot.log.1").read_text() == "old\n"
    assert not (file.parent / "bot.log.2").exists()


def test_a_removed_log_is_made_anew(running: logs.Logs, file: Path) -> None:
    logs.get().info("one")
    wait_for(lambda: file.stat().st_size > 0)
    file.unlink()
    file.parent.rmdir()
    logs.get().info("two")
    assert [line[-3:] for line in written(file, running)] == ["two"]


def test_a_full_disk_is_told_and_the_next_line_begins_a_line(
    running: logs.Logs, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sink = os.write, outlet(running, "file")._sink
    assert isinstance(sink, logs._File)
    room = [7, 0]

    def full(fd: int, data: bytes) -> int:
        if fd != sink._out.fd or not room:
            return real(fd, data)
        left = room.pop(0)
        if left == 0:
            raise OSError(28, "No space left on device")
        return real(fd, data[:left])

    monkeypatch.setattr(os, "write", full)
    logs.get().info("torn")
    wait_for(lambda: bool(running.problem))
    assert "No space left" in running.problem
    logs.get().info("whole again")
    wait_for(lambda: not running.problem)
    half, whole = written(file, running)
    assert len(half) == 7
    assert HEAD.match(whole) and whole.endswith("whole again")


def wait_for(true: object, seconds: float = 5.0) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not within time"
        time.sleep(0.005)


@contextmanager
def stuck_stdout(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard output is a full pipe nobody reads; yields the reading end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    stream = os.fdopen(writing, "w")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield reading
    os.close(reading)
    for thread in threading.enumerate():
        if isinstance(thread, logs._Outlet):
            thread.lines.put(None)
            thread.join(10)
    stream.close()


def test_a_pipe_nobody_reads_holds_up_neither_the_bot_nor_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stuck_stdout(monkeypatch):
        outlets = logs.start(label="B", file=file)
        log = logs.get()
        began = time.monotonic()
        for number in range(logs.QUEUE_MAX + 2_000):
            log.info("LINE", number=number)
            if number % 2_000 == 0:
                wait_for(outlet(outlets, "file").lines.empty)
        assert time.monotonic() - began < 20
        wait_for(outlet(outlets, "file").lines.empty)
        assert 1_900 <= outlet(outlets, "out").dropped <= 2_000
        assert outlet(outlets, "file").dropped == 0
        began = time.monotonic()
        outlets.stop(0.3)
        assert time.monotonic() - began < 3
    assert len(file.read_text().splitlines()) == logs.QUEUE_MAX + 2_000


def test_dropped_lines_are_counted_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE_MAX", 4)
    with stuck_stdout(monkeypatch) as reading:
        outlets = logs.start(label="B", file=None)
        out = outlet(outlets, "out")
        log = logs.get()
        log.info("stuck in the pipe")
        wait_for(out.lines.empty)
        for number in range(11):
            log.info("LINE", number=number)
        assert out.dropped == 7
        read = b""
        while not read.endswith(b"number=3\n"):
            read += os.read(reading, 1 << 16)
        outlets.stop()
    lines = read.decode().lstrip("x").splitlines()
    assert all(HEAD.match(line) for line in lines)
    told = [line for line in lines if "dropped" in line]
    assert len(told) == 1
    assert "7 log lines were dropped" in told[0]


def test_a_process_whose_output_is_stuck_still_ends_with_its_own_code(tmp_path: Path) -> None:
    """A thread inside a buffered stream would abort the interpreter at its end (SIGABRT)."""
    script = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from fleet import logs
        outlets = logs.start(label="B", file=Path({str(tmp_path / "b.log")!r}))
        for _ in range(5_000):
            logs.get().info("x" * 100)
        outlets.stop(0.2)
        sys.exit(75)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.wait(timeout=30) == 75
    assert len((tmp_path / "b.log").read_text().splitlines()) == 5_000


@pytest.mark.parametrize("closing", ["1>&-", "2>&-", "1>&- 2>&-", ">/dev/full 2>/dev/full"])
def test_closed_and_full_streams_are_survived(tmp_path: Path, closing: str) -> None:
    script = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from fleet import logs
        outlets = logs.start(label="B", file=Path({str(tmp_path / "b.log")!r}))
        logs.get().info("one")
        logs.get().error("two")
        outlets.stop()
        sys.exit(0 if not outlets.problem else 1)
    """)
    run = f"exec {sys.executable} -c {shell_quoted(script)} {closing}"
    assert subprocess.run(["/bin/sh", "-c", run], check=False, timeout=30).returncode == 0
    assert [line[-3:] for line in (tmp_path / "b.log").read_text().splitlines()] == ["one", "two"]


def shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def test_stop_writes_what_is_queued_and_lets_go(file: Path) -> None:
    outlets = logs.start(label="B", file=file)
    for number in range(2_000):
        logs.get().info("LINE", number=number)
    assert len(written(file, outlets)) == 2_000
    assert not handlers()
    logs.get().info("after the end")
    assert len(file.read_text().splitlines()) == 2_000


def test_a_log_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file in the way")
    with pytest.raises(OSError, match="logs"):
        logs.start(label="B", file=tmp_path / "logs" / "bot.log")
    assert not handlers()
