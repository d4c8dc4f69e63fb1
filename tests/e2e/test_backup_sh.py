"""backup.sh as cron runs it: no terminal, no environment, interrupted, beside a writing fleet."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.journal.fleet import FleetState
from fleet.journal.store import JournalReader, JournalStore
from tests.unit.test_trades import STORY

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "backup.sh"
PASSPHRASE = "a passphrase nobody sees"
SECRET = "hunter2-secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "fleet"
    (root / "logs").mkdir(parents=True)
    (root / "logs" / "arbhunter.log").write_text("2026-11-20 12:00:00 ARB OPPORTUNITY\n")
    (root / "passphrase").write_text(f"{PASSPHRASE}\n")
    (root / "passphrase").chmod(0o600)
    (root / ".env").write_text(f"BACKUP_PASSPHRASE_FILE=passphrase\nPRIVATE_KEY={SECRET}\n")
    (root / ".env").chmod(0o600)
    path = root / "var" / "journal" / "arbhunter-paper.db"
    with JournalStore(path, bot="arbhunter", mode="paper", run_id="r") as store:
        store.write(STORY)
    FleetState(root / "var" / "fleet.db").close()
    return root


def cron(root: Path, *arguments: str, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    """Run it as cron does: an empty environment, a session of its own, no terminal, cwd /."""
    return subprocess.run(
        ["env", "-i", f"FLEET_HOME={root}", "setsid", "-w", str(script), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        timeout=120,
        check=False,
    )


def start(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(SCRIPT)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"FLEET_HOME": str(root)},
        start_new_session=True,
    )


def until(happened: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def big_logs(root: Path, megabytes: int = 40) -> None:
    """Make the backup take long enough to be interrupted in the middle."""
    (root / "logs" / "big.log").write_bytes(os.urandom(megabytes * 1_000_000))


def finished(root: Path) -> list[Path]:
    return sorted((root / "backups").glob("*.tar.gpg"))


def leftovers(root: Path) -> list[Path]:
    return [*(root / "backups").glob("*.partial"), *(root / "var").glob(".fleet-backup-stage-*")]


def test_from_cron_to_a_proven_file_and_back(root: Path, tmp_path: Path) -> None:
    made = cron(root)
    assert made.returncode == 0, made.stderr
    (sealed,) = finished(root)
    assert made.stdout.count("\n") == 1
    assert made.stdout.startswith(f"backup: {sealed} ")
    assert "1 journals, 3 fills" in made.stdout
    assert made.stderr == ""
    back = tmp_path / "back"
    restored = cron(root, "--restore", str(sealed), "--to", str(back))
    assert restored.returncode == 0, restored.stderr
    journal, summary = restored.stdout.splitlines()
    assert journal.startswith(
        "var/journal/arbhunter-paper.db: arbhunter paper, 11 entries, 3 fills, cash "
    )
    assert summary.startswith(f"restore: {back} from {sealed}")
    assert (back / ".env").read_bytes() == (root / ".env").read_bytes()
    assert (back / ".env").stat().st_mode & 0o777 == 0o600
    sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=back, check=False)
    assert sums.returncode == 0
    proven = cron(root, "--verify", str(sealed))
    assert proven.returncode == 0, proven.stderr
    assert leftovers(root) == []


def test_it_finds_its_own_root_and_reads_its_own_env(root: Path) -> None:
    for name in ("src", ".venv"):
        (root / name).symlink_to(REPOSITORY / name)
    script = root / "backup.sh"
    script.write_bytes(SCRIPT.read_bytes())
    script.chmod(0o755)
    with (root / ".env").open("a") as env:
        env.write("BACKUP_DIR=elsewhere\nBACKUP_KEEP=2\n")
    said = [
        subprocess.run(
            ["env", "-i", str(script)], capture_output=True, text=True, cwd="/", check=True
        ).stdout
        for _ in range(3)
    ]
    assert len(list((root / "elsewhere").glob("*.tar.gpg"))) == 2
    assert ["old removed" in line for line in said] == [False, False, True]


def test_a_new_machine_needs_the_file_and_the_passphrase_only(root: Path, tmp_path: Path) -> None:
    assert cron(root).returncode == 0
    bare = tmp_path / "bare"
    bare.mkdir()
    key = root / "passphrase"
    done = cron(
        bare, "--restore", str(finished(root)[0]), "--to", str(tmp_path / "back"),
        "--passphrase-file", str(key),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back" / "var" / "fleet.db").is_file()


def test_without_the_venv_it_says_what_to_run(root: Path) -> None:
    script = root / "backup.sh"
    script.write_bytes(SCRIPT.read_bytes())
    script.chmod(0o755)
    done = cron(root, script=script)
    assert done.returncode == 69
    assert done.stderr.count("\n") == 1
    assert "make -C" in done.stderr


def test_failures_are_one_clear_line(root: Path, tmp_path: Path) -> None:
    (root / "passphrase").chmod(0o644)
    done = cron(root)
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1
    assert "chmod 600" in done.stderr
    (root / "passphrase").chmod(0o600)
    (root / ".env").chmod(0o644)
    done = cron(root)
    assert done.returncode == 78
    assert f"chmod 600 {root}/.env" in done.stderr
    (root / ".env").chmod(0o600)
    assert cron(root, "--restore", "x").returncode == 2
    done = cron(root, "--restore", str(tmp_path / "none"), "--to", str(tmp_path / "new"))
    assert done.returncode == 65
    assert "no backup" in done.stderr
    assert not (tmp_path / "new").exists()


def test_kill_9_leaves_no_final_file_and_the_next_run_works(root: Path) -> None:
    big_logs(root)

    def staged() -> bool:
        return any((root / "var").glob(".fleet-backup-stage-*/content"))

    def sealing() -> bool:
        return any((root / "backups").glob("*.partial"))

    def proving() -> bool:
        return any((root / "var").glob(".fleet-backup-stage-*/again.tar"))

    for moment in (staged, sealing, proving):
        child = start(root)
        until(moment, child)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        assert finished(root) == []
        assert leftovers(root)
    (root / "logs" / "big.log").unlink()
    done = cron(root)
    assert done.returncode == 0, done.stderr
    assert len(finished(root)) == 1
    assert leftovers(root) == []


def test_sigterm_leaves_nothing_at_all(root: Path) -> None:
    big_logs(root)
    child = start(root)
    until(lambda: any((root / "backups").glob("*.partial")), child)
    child.terminate()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 143
    assert "interrupted by SIGTERM" in said
    assert finished(root) == []
    assert leftovers(root) == []


def commands_of(session: int) -> str:
    """The command lines and environments of a session's processes."""
    found: list[bytes] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat = (process / "stat").read_bytes()
            if int(stat.rsplit(b")", 1)[1].split()[3]) == session:
                found += [(process / "cmdline").read_bytes(), (process / "environ").read_bytes()]
        except OSError:
            continue
    return b"\n".join(found).decode(errors="replace")


def test_a_second_run_says_so_and_no_secret_is_seen(root: Path) -> None:
    big_logs(root)
    first = start(root)
    until(lambda: any((root / "backups").glob("*.partial")), first)
    seen = commands_of(first.pid)
    second = cron(root)
    out, err = first.communicate(timeout=60)
    assert second.returncode == 75
    assert second.stderr.count("\n") == 1
    assert f"process {first.pid} already holds" in second.stderr
    assert first.returncode == 0, err
    assert "--passphrase-file" in seen
    for secret in (PASSPHRASE, SECRET):
        assert secret not in seen + out + err + second.stdout + second.stderr


HAMMER = """
import sys
from pathlib import Path
from fleet.domain.events import *
from fleet.journal.store import JournalStore
store = JournalStore(Path(sys.argv[1]), bot="busy", mode="paper", run_id="r")
n = 0
while True:
    store.write([OrderSigned(client_order_id=f"c{k}", venue_order_id="0x") for k in range(n, n + 7)])
    n += 7
    print(n, flush=True)
"""


def test_while_a_bot_writes(root: Path, tmp_path: Path) -> None:
    path = root / "var" / "journal" / "busy-paper.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", HAMMER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
    )
    assert writer.stdout is not None
    count = 0
    try:
        for run in range(3):
            before = int(writer.stdout.readline())
            done = cron(root)
            assert done.returncode == 0, done.stderr
            back = tmp_path / f"back{run}"
            restored = cron(root, "--restore", str(finished(root)[-1]), "--to", str(back))
            assert restored.returncode == 0, restored.stderr
            with JournalReader(back / "var" / "journal" / "busy-paper.db") as copy:
                count = copy.check()
            assert count >= before
            assert count % 7 == 0
            assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    with JournalReader(path) as live:
        assert live.check() >= count


def test_a_full_disk_is_told_and_keeps_the_older_backup(root: Path, tmp_path: Path) -> None:
    small, big = tmp_path / "small", tmp_path / "big.log"
    small.mkdir()
    big.write_bytes(os.urandom(3_000_000))
    with (root / ".env").open("a") as env:
        env.write(f"BACKUP_DIR={small}\nBACKUP_KEEP=1\n")
    mount = f"mount -t tmpfs -o size=1m tmpfs {small}"
    # Where nothing may be mounted, a limit on the size of files stands in for the disk's end.
    wrap, limit = [], "ulimit -f 2000"
    for candidate in (["unshare", "-m"], ["unshare", "-rm"]):
        if subprocess.run([*candidate, "bash", "-c", mount], capture_output=True).returncode == 0:
            wrap, limit = candidate, mount
            break
    steps = (
        f"{limit} && env -i FLEET_HOME={root} {SCRIPT} >/dev/null && ls {small};"
        f" mv {big} {root}/logs; env -i FLEET_HOME={root} {SCRIPT}; echo code $?; ls -A {small};"
        f" env -i FLEET_HOME={root} {SCRIPT} --verify {small}/*.tar.gpg"
    )
    done = subprocess.run(
        [*wrap, "bash", "-c", steps], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    first, code, second, *_ = done.stdout.splitlines()
    assert code == "code 73"
    assert first == second
    assert "free space" in done.stderr
    assert done.stderr.count("\n") == 1
    assert leftovers(root) == []
