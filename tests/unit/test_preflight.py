import os
from pathlib import Path

import pytest

from fleet.config import Paths
from fleet.journal.fleet import FleetState
from fleet.journal.locks import acquire
from fleet.runtime import preflight
from fleet.runtime.preflight import Check

NOW = 1_795_000_000 * 1_000_000_000


def checks(root: Path, *, now_ns: int = NOW, disk_free_min_mb: int = 1) -> dict[str, Check]:
    found = preflight.run(
        Paths(root=root), bot="bot", now_ns=now_ns, disk_free_min_mb=disk_free_min_mb
    )
    return {check.name: check for check in found}


def failed(root: Path, *, now_ns: int = NOW, disk_free_min_mb: int = 1) -> dict[str, Check]:
    found = checks(root, now_ns=now_ns, disk_free_min_mb=disk_free_min_mb)
    return {name: check for name, check in found.items() if not check.ok}


def test_a_fresh_checkout_passes_and_nothing_is_made(tmp_path: Path) -> None:
    assert failed(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []
    assert list(checks(tmp_path)) == [
        "python", "clock", "state folder", "log folder", "disk", "settings", "kill latch", "twin",
    ]  # fmt: skip


def test_a_clock_that_is_not_set(tmp_path: Path) -> None:
    assert "use NTP" in failed(tmp_path, now_ns=5)["clock"].problem


def test_too_little_space(tmp_path: Path) -> None:
    assert "FLEET_DISK_FREE_MIN_MB" in failed(tmp_path, disk_free_min_mb=10**9)["disk"].problem


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    problem = failed(tmp_path)["log folder"].problem
    assert problem == f"{tmp_path / 'logs'} is not a directory: move it away"


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: "var" not in str(path))
    (tmp_path / "var").mkdir()
    assert "writable" in failed(tmp_path)["state folder"].problem


def test_settings_that_others_may_read(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text("")
    env.chmod(0o600)
    assert "settings" not in failed(tmp_path)
    env.chmod(0o644)
    assert failed(tmp_path)["settings"].problem == f"run `chmod 600 {env}`"


def test_a_latch_that_is_set_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path)
    with FleetState(paths.fleet_db) as fleet:
        fleet.halt("test fire", "me", NOW)
    check = failed(tmp_path)["kill latch"]
    assert check.found == "set by me: test fire"
    assert check.problem.startswith("OPERATOR: ")
    assert check.problem.endswith("`fleet resume`")
    paths.fleet_db.write_bytes(b"no database" * 1_000)
    assert "kill latch" in failed(tmp_path)


def test_a_running_twin(tmp_path: Path) -> None:
    with acquire(Paths(root=tmp_path).lock("bot"), 0):
        check = failed(tmp_path)["twin"]
    assert check.found == f"running as process {os.getpid()}"
    assert "twin" not in failed(tmp_path)


def test_a_lock_that_cannot_be_looked_at(tmp_path: Path) -> None:
    lock = Paths(root=tmp_path).lock("bot")
    lock.mkdir(parents=True)
    check = failed(tmp_path)["twin"]
    assert "readable and writable" in check.problem


def test_all_problems_at_once_and_the_callers_own(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    extra = [Check("venue", "none", "start it")]
    found = preflight.run(
        Paths(root=tmp_path), bot="bot", now_ns=5, disk_free_min_mb=10**9, extra=extra
    )
    assert [c.name for c in found if not c.ok] == ["clock", "log folder", "disk", "venue"]
