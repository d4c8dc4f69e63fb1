"""The rpc client against a real Unix socket: framing, every kind of bad answer, time limits.

The real daemon is met in tests/e2e/test_pm2_real.py; here a scripted one gives what it never would.
"""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.ops import pm2rpc
from fleet.ops.pm2rpc import DaemonDown, DaemonSilent, Pm2Error


@contextmanager
def scripted_daemon(home: Path, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Accept one connection on rpc.sock and let ``answer`` talk on it."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(home / "rpc.sock"))
    server.listen(1)

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(65536)
            answer(peer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(5)
        server.close()


def reply(document: object) -> Callable[[socket.socket], None]:
    return lambda peer: peer.sendall(pm2rpc.encode_frame([document, pm2rpc.REQUEST_ID]))


def entry(**env: object) -> dict[str, object]:
    """An application as PM2 7.0.4 lists it, cut to what is read."""
    listed: dict[str, object] = {
        "name": "ArbHunter",
        "pm_id": 3,
        "monit": {"memory": 1_000, "cpu": 1.5},
        "pm2_env": {
            "status": "online",
            "namespace": "fleet",
            "restart_time": 2,
            "pm_uptime": 1_700_000_000_000,
            "pm_cwd": "/srv/fleet",
            "pm_exec_path": "/srv/fleet/run_arbhunter.py",
            "axm_monitor": {"P&L": {"value": 3.2, "unit": "USD"}, "bare": 4, "none": None},
            "axm_actions": [{"action_name": "pause"}, {"broken": 1}],
        },
    }
    assert isinstance(listed["pm2_env"], dict)
    listed["pm2_env"].update(env)
    if "pid" in env:
        listed["pid"] = env["pid"]
    return listed


def listed(tmp_path: Path, *entries: object) -> tuple[pm2rpc.App, ...]:
    with scripted_daemon(tmp_path, reply({"args": [list(entries)]})):
        return pm2rpc.list_apps(tmp_path)


def test_an_application_is_read_in_full(tmp_path: Path) -> None:
    (app,) = listed(tmp_path, entry(pid=77, exit_code=None))
    assert (app.name, app.pm_id, app.pid, app.status, app.restarts) == (
        "ArbHunter", 3, 77, "online", 2,
    )  # fmt: skip
    assert (app.cwd, app.memory, app.cpu, app.exit_code) == ("/srv/fleet", 1000, 1.5, None)
    assert app.actions == ("pause",)
    assert [(m.name, m.value, m.unit) for m in app.metrics] == [
        ("P&L", "3.2", "USD"), ("bare", "4", ""), ("none", "", ""),
    ]  # fmt: skip
    assert app.online
    assert not app.gave_up
    assert app.uptime_ms > 0


@pytest.mark.parametrize(
    ("status", "pid", "gave_up"),
    [
        ("waiting restart", 0, True),
        ("waiting restart", 4321, False),
        ("errored", 0, True),
        ("stopped", 0, False),
        ("online", 77, False),
    ],
)
def test_the_truth_rule(tmp_path: Path, status: str, pid: int, gave_up: bool) -> None:
    (app,) = listed(tmp_path, entry(status=status, pid=pid))
    assert app.gave_up is gave_up


def test_a_restored_stopped_application_has_no_pid(tmp_path: Path) -> None:
    (app,) = listed(tmp_path, entry(status="stopped"))
    assert (app.pid, app.online, app.uptime_ms) == (0, False, 0)


def test_modules_are_left_out(tmp_path: Path) -> None:
    assert listed(tmp_path, entry(pmx_module=True), "junk") == ()


def test_numeric_text_from_an_ecosystem_file_is_a_number(tmp_path: Path) -> None:
    (app,) = listed(tmp_path, entry(restart_time="7", exit_code="many"))
    assert (app.restarts, app.exit_code) == (7, None)


def test_no_socket_and_nobody_listening_are_the_daemon_being_down(tmp_path: Path) -> None:
    with pytest.raises(DaemonDown, match="make start"):
        pm2rpc.list_apps(tmp_path)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "rpc.sock"))
    dead.close()
    with pytest.raises(DaemonDown, match="make start"):
        pm2rpc.list_apps(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rpc.sock"]


def test_a_daemon_that_hangs_up_is_down(tmp_path: Path) -> None:
    with (
        scripted_daemon(tmp_path, lambda peer: peer.sendall(b"\x12\x00")),
        pytest.raises(DaemonDown, match="went away"),
    ):
        pm2rpc.list_apps(tmp_path)


def test_the_time_limit_is_for_the_whole_answer(tmp_path: Path) -> None:
    def drip(peer: socket.socket) -> None:
        for _ in range(8):
            time.sleep(0.1)
            try:
                peer.sendall(b"\x12"[:1])
            except OSError:
                return

    started_s = time.monotonic()
    with scripted_daemon(tmp_path, drip), pytest.raises(DaemonSilent, match="hangs"):
        pm2rpc.list_apps(tmp_path, timeout_s=0.3)
    assert time.monotonic() - started_s < 2.0


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"error": "no such method"}, "refused getMonitorData: no such method"),
        ({"args": [None]}, "instead of a list"),
        ({"args": []}, "instead of a list"),
        ([1], "not PM2's protocol"),
    ],
)
def test_other_answers_are_errors_with_words(tmp_path: Path, document: object, words: str) -> None:
    with scripted_daemon(tmp_path, reply(document)), pytest.raises(Pm2Error, match=words):
        pm2rpc.list_apps(tmp_path)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x11" + struct.pack(">I", 5) + b"j:{[}",
        b"\x11" + struct.pack(">I", 4) + b"s:\xff\xfe",
        b"\x11" + struct.pack(">I", 0xFFFFFFFF),
        b"\x10",
    ],
)
def test_malformed_frames_are_errors(tmp_path: Path, raw: bytes) -> None:
    with (
        scripted_daemon(tmp_path, lambda peer: peer.sendall(raw)),
        pytest.raises(Pm2Error, match=r"cannot be read|not PM2's protocol"),
    ):
        pm2rpc.list_apps(tmp_path)


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=4), st.text())
def test_frames_say_what_they_carry(document: dict[str, object], text: str) -> None:
    frame = pm2rpc.encode_frame([document, text])
    assert frame[0] == 0x12
    (first,) = struct.unpack(">I", frame[1:5])
    assert json.loads(frame[7 : 5 + first]) == document
    assert pm2rpc.decode_part(frame[9 + first :]) == text


@given(st.recursive(st.none() | st.floats() | st.text(), lambda s: st.dictionaries(
    st.sampled_from(["pm2_env", "monit", "pid", "status", "axm_monitor", "axm_actions", "name"]),
    s | st.lists(s))))  # fmt: skip
def test_any_entry_is_read_without_guessing(raw: object) -> None:
    app = pm2rpc._app(raw, 1) if isinstance(raw, dict) else None
    if app is not None:
        assert app.online is (app.status in {"online", "launching"} and app.pid > 0)


def test_the_home_is_chosen_as_pm2_does() -> None:
    assert pm2rpc.home({"PM2_HOME": "/a", "HOME": "/b"}) == Path("/a")
    assert pm2rpc.home({"PM2_HOME": "", "HOME": "/b"}) == Path("/b/.pm2")
    with pytest.raises(Pm2Error, match="PM2_HOME"):
        pm2rpc.home({})
