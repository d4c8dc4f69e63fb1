"""What a start does for each state PM2 can report, and the status command without PM2."""

import json
import os
import time
from pathlib import Path

import pytest

from fleet.cli import main as cli
from fleet.ops.launch import Step, Task, plan
from fleet.ops.pm2rpc import App


def app(cwd: Path, **changes: object) -> App:
    fields: dict[str, object] = {
        "name": "ArbHunter", "pm_id": 0, "namespace": "fleet", "pid": 77, "status": "online",
        "restarts": 0, "started_ms": 0, "uptime_ms": 0, "exit_code": None, "cwd": str(cwd),
        "script": "", "out_log": "", "error_log": "", "memory": 0, "cpu": 0.0, "metrics": (),
        "actions": (), **changes,
    }  # fmt: skip
    return App(**fields)  # type: ignore[arg-type]


def step(root: Path, *apps: App) -> Task:
    (task,) = plan(["ArbHunter"], apps, root)
    return task


def test_an_absent_application_is_started(tmp_path: Path) -> None:
    assert step(tmp_path, app(tmp_path, name="Other")).step is Step.START


@pytest.mark.parametrize(
    ("status", "pid", "expected"),
    [
        ("online", 77, Step.KEEP),
        ("launching", 77, Step.KEEP),
        ("stopped", 0, Step.RENEW),
        ("errored", 0, Step.RENEW),
        ("waiting restart", 0, Step.RENEW),
        ("waiting restart", 77, Step.WAIT),
        ("stopping", 77, Step.WAIT),
    ],
)
def test_each_state_has_its_step(tmp_path: Path, status: str, pid: int, expected: Step) -> None:
    assert step(tmp_path, app(tmp_path, status=status, pid=pid)).step is expected


def test_another_directory_is_foreign_whatever_its_state(tmp_path: Path) -> None:
    other = tmp_path / "other"
    for status in ("online", "stopped", "errored"):
        found = step(tmp_path, app(tmp_path), app(other, status=status))
        assert (found.step, found.detail) == (Step.FOREIGN, str(other))


def test_the_same_directory_by_another_path_is_ours(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert step(tmp_path / "real", app(tmp_path / "link")).step is Step.KEEP


@pytest.fixture
def no_pm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PM2_HOME", str(tmp_path / "pm2"))
    (tmp_path / "var" / "status").mkdir(parents=True)
    return tmp_path


def report(root: Path, bot: str, **changes: object) -> None:
    (root / "var" / "status" / f"{bot.lower()}.json").write_text(
        json.dumps({
            "bot": bot, "pid": os.getpid(), "mode": "paper", "feed": "sandbox",
            "trading": "ACTIVE", "ready": True, "healthy": True, "ts_ns": time.time_ns(),
            "started_ns": time.time_ns(), **changes,
        })
    )  # fmt: skip


def test_status_works_without_pm2(no_pm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(no_pm2, "ArbHunter", pnl="1.25")
    assert cli.main(["status", "--root", str(no_pm2)]) == 0
    out = capsys.readouterr().out
    assert "not under PM2" in out
    assert "1.25" in out
    assert "no PM2 daemon listens" in out
    assert not (no_pm2 / "pm2").exists()


def test_status_of_nothing_is_not_healthy(no_pm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--root", str(no_pm2)]) == 1
    assert "make start" in capsys.readouterr().out


def test_an_expected_bot_that_never_reported_is_a_problem(
    no_pm2: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(no_pm2, "ArbHunter")
    arguments = ["status", "--root", str(no_pm2), "--json", "--expect", "ArbHunter", "Sandbox"]
    assert cli.main(arguments) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["healthy"] is False
    assert {a["name"]: a["problems"] for a in document["apps"]} == {
        "ArbHunter": [],
        "Sandbox": ["it has not reported yet"],
    }


def test_waiting_ends_as_soon_as_all_is_well(no_pm2: Path) -> None:
    report(no_pm2, "ArbHunter")
    started_s = time.monotonic()
    assert cli.main(["status", "--root", str(no_pm2), "--wait", "30"]) == 0
    assert time.monotonic() - started_s < 5


def test_waiting_is_limited_and_shows_the_last_lines(
    no_pm2: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(no_pm2, "ArbHunter", ready=False)
    (no_pm2 / "logs").mkdir()
    (no_pm2 / "logs" / "arbhunter-error.log").write_text("old\n" * 50 + "the reason\n")
    assert cli.main(["status", "--root", str(no_pm2), "--wait", "0.3"]) == 1
    out = capsys.readouterr().out
    assert "arbhunter-error.log: the reason" in out
    assert out.count("old") == 5


def test_the_command_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in cli.COMMANDS)
    assert cli.main([]) == cli.EX_USAGE
    assert cli.main(["stauts"]) == cli.EX_USAGE
    assert "no command 'stauts'" in capsys.readouterr().err
