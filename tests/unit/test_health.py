"""Status files: what counts as healthy, and that nothing unreadable ever does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.clock import NS_PER_SECOND
from fleet.ops import health
from fleet.ops.health import BotStatus, Unreadable

NOW_NS = 1_800_000_000 * NS_PER_SECOND


def document(**changes: object) -> dict[str, object]:
    return {
        "bot": "ArbHunter", "pid": os.getpid(), "mode": "paper", "feed": "sandbox",
        "trading": "ACTIVE", "ready": True, "ts_ns": NOW_NS, "started_ns": NOW_NS, "healthy": True,
        "components": {"feed": "healthy"}, "opportunities": 3, "trades": 2, "pnl": "0.50",
        "errors": 0, **changes,
    }  # fmt: skip


def read(tmp_path: Path, text: str | bytes) -> BotStatus | Unreadable:
    path = tmp_path / "arbhunter.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return health.read(path)


def problems(tmp_path: Path, **changes: object) -> tuple[str, ...]:
    return health.problems(read(tmp_path, json.dumps(document(**changes))), NOW_NS)


def test_a_fresh_ready_healthy_living_bot_has_no_problem(tmp_path: Path) -> None:
    assert problems(tmp_path) == ()
    assert problems(tmp_path, ts_ns=NOW_NS - health.AGE_NS_MAX) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ts_ns": NOW_NS - 6 * NS_PER_SECOND}, "6 s old"),
        # A clock set back must not make a dead bot look alive.
        ({"ts_ns": NOW_NS + 60 * NS_PER_SECOND}, "60 s old"),
        ({"ready": False}, "not ready"),
        ({"ready": "true"}, "not ready"),
        ({"healthy": False, "components": {"feed": "stale"}}, "feed is stale"),
        ({"healthy": None}, "not healthy"),
        ({"pid": 0}, "process 0 is gone"),
        ({"pid": 10**30}, "is gone"),
        ({"pid": "12"}, "pid is not a whole number"),
        ({"pid": True}, "pid is not a whole number"),
        ({"mode": None}, "mode is not a text"),
        ({"components": 5}, "cannot be read"),
    ],
)
def test_each_problem_has_words(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    found = problems(tmp_path, **changes)
    assert any(words in problem for problem in found), found


def test_an_ended_process_is_gone(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, check=True)  # fmt: skip
    assert problems(tmp_path, pid=int(done.stdout)) == (f"its process {int(done.stdout)} is gone",)


@pytest.mark.parametrize("key", ["bot", "pid", "ready", "healthy", "ts_ns", "trading"])
def test_a_missing_field_is_not_guessed(tmp_path: Path, key: str) -> None:
    cut = document()
    del cut[key]
    status = read(tmp_path, json.dumps(cut))
    assert isinstance(status, Unreadable)
    assert key in status.reason


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary() | st.recursive(st.none() | st.booleans() | st.integers() | st.text(),
       lambda s: st.lists(s) | st.dictionaries(st.sampled_from(sorted(document())), s)).map(
           lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_file_is_read_or_refused_with_a_reason(tmp_path: Path, content: bytes) -> None:
    status = read(tmp_path, content)
    if isinstance(status, Unreadable):
        assert health.problems(status, NOW_NS) == (status.reason,)
    else:
        assert isinstance(health.problems(status, NOW_NS), tuple)


def test_a_folder_is_read_in_order_and_may_not_exist(tmp_path: Path) -> None:
    assert health.read_all(tmp_path / "none") == ()
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "a.json").write_text(json.dumps(document(bot="A")))
    (tmp_path / "a.partial").write_text("half")
    assert [status.bot for status in health.read_all(tmp_path)] == ["A", "b"]
