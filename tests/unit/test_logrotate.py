"""Rotation of PM2's files: nothing lost, bounded, private, and restartable at any point."""

import gzip
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.cli import main as cli
from fleet.journal import locks
from fleet.ops import logrotate
from fleet.ops.logrotate import Policy, parse_size, rotate_folder


def archives(folder: Path, name: str) -> dict[str, bytes]:
    return {path.name: gzip.decompress(path.read_bytes()) for path in folder.glob(f"{name}.*.gz")}


def test_a_large_file_is_archived_and_emptied_in_place(tmp_path: Path) -> None:
    log = tmp_path / "arbhunter-out.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"one\n" * 100)
        inode = log.stat().st_ino
        assert rotate_folder(tmp_path, Policy(max_bytes=400)).rotated == (log,)
        # PM2's descriptor is in append mode: it goes on at the start of the emptied file.
        writer.write(b"two\n")
    assert log.stat().st_ino == inode
    assert log.read_bytes() == b"two\n"
    assert archives(tmp_path, log.name) == {"arbhunter-out.log.1.gz": b"one\n" * 100}
    assert (tmp_path / "arbhunter-out.log.1.gz").stat().st_mode & 0o777 == 0o600


def test_small_files_and_the_bots_own_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "arbhunter-out.log").write_bytes(b"x" * 399)
    (tmp_path / "arbhunter.log").write_bytes(b"x" * 4000)
    assert rotate_folder(tmp_path, Policy(max_bytes=400)) == logrotate.Report(rotated=(), failed=())
    assert len(list(tmp_path.iterdir())) == 2


def test_the_newest_is_one_and_only_so_many_stay(tmp_path: Path) -> None:
    log = tmp_path / "sandbox-error.log"
    for n in range(6):
        log.write_bytes(b"%d" % n * 10)
        rotate_folder(tmp_path, Policy(max_bytes=10, keep=3))
    assert archives(tmp_path, log.name) == {
        "sandbox-error.log.1.gz": b"5" * 10,
        "sandbox-error.log.2.gz": b"4" * 10,
        "sandbox-error.log.3.gz": b"3" * 10,
    }
    rotate_folder(tmp_path, Policy(max_bytes=10, keep=3))
    log.write_bytes(b"6" * 10)
    rotate_folder(tmp_path, Policy(max_bytes=10, keep=1))
    assert archives(tmp_path, log.name) == {"sandbox-error.log.1.gz": b"6" * 10}


def test_what_a_killed_pass_left_is_archived_not_lost(tmp_path: Path) -> None:
    log = tmp_path / "sandbox-out.log"
    log.write_bytes(b"")
    (tmp_path / "sandbox-out.log.rotating").write_bytes(b"only here")
    (tmp_path / "sandbox-out.log.gz.partial").write_bytes(b"half")
    rotate_folder(tmp_path, Policy(max_bytes=10))
    assert archives(tmp_path, log.name) == {"sandbox-out.log.1.gz": b"only here"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "sandbox-out.log",
        "sandbox-out.log.1.gz",
    ]


def test_a_full_disk_keeps_the_log_and_is_reported(tmp_path: Path) -> None:
    """A file size limit stops the copy as a full disk does; the other file is still rotated."""
    (tmp_path / "big-out.log").write_bytes(os.urandom(300_000))
    (tmp_path / "small-out.log").write_bytes(b"x" * 1000)
    code = (
        "import signal, sys\nfrom pathlib import Path\n"
        "from fleet.ops.logrotate import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "report = rotate_folder(Path(sys.argv[1]), Policy(max_bytes=1000))\n"
        "print([p.name for p in report.rotated], [(p.name, why) for p, why in report.failed])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )  # fmt: skip
    assert done.stdout == "['small-out.log'] [('big-out.log', 'File too large')]\n"
    assert (tmp_path / "big-out.log").stat().st_size == 300_000
    assert not (tmp_path / "big-out.log.rotating").exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"x" * 100)
    (tmp_path / "evil-out.log").symlink_to(elsewhere)
    report = rotate_folder(tmp_path, Policy(max_bytes=10))
    assert len(report.failed) == 1
    assert elsewhere.read_bytes() == b"x" * 100


@pytest.mark.parametrize(
    ("text", "size"), [("500", 500), ("64K", 65536), ("10m", 10 * 2**20), (" 1G ", 2**30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "1.5M", "-1", "10MB", "ten"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="10M"):
        parse_size(text)


def test_the_command_rotates_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a-out.log").write_bytes(b"x" * 2048)
    arguments = ["logrotate", "--root", str(tmp_path), "--max-size"]
    assert cli.main([*arguments, "1K"]) == 0
    assert "rotated a-out.log" in capsys.readouterr().out
    assert cli.main([*arguments, "0"]) == 78
    assert cli.main([*arguments, "1X"]) == 78
    assert "10M" in capsys.readouterr().err


def test_a_second_watcher_exits_75_and_a_single_pass_yields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fleet.cli.logrotate.TWIN_WAIT_S", 0.0)
    with locks.acquire(tmp_path / "var" / "locks" / "logrotate.lock"):
        assert cli.main(["logrotate", "--root", str(tmp_path), "--every", "1"]) == 75
        assert "already" in capsys.readouterr().err
        assert cli.main(["logrotate", "--root", str(tmp_path)]) == 0
