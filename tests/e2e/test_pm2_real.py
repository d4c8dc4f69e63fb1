"""The channel and the rpc client against the real PM2 of node_modules."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.ops import pm2rpc
from fleet.ops.logrotate import Policy, rotate_folder
from tests.e2e.pm2_home import ROOT, Pm2, gone, private_pm2, until

pytestmark = [pytest.mark.pm2, pytest.mark.slow]

# A bot as small as it can be: calls arrive in its own thread, as in the real one.
BOT = """
import json, os, queue, signal, sys, time
from pathlib import Path
from fleet.runtime import pm2

here = Path(__file__).parent
calls = queue.Queue()
state = {"trading": "ACTIVE"}

def stop(reason):
    (here / "ended").write_text(json.dumps([reason, time.time()]))
    sys.exit(0)

def trade(mode):
    state["trading"] = mode
    return dict(state)

signal.signal(signal.SIGINT, lambda *_: stop("signal"))
channel = pm2.connect(
    os.environ, dispatch=calls.put, on_shutdown=lambda: stop("shutdown"),
    on_orphan=lambda: stop("orphan"))
channel.action("pause", lambda _: trade("HALTED"))
channel.action("resume", lambda _: trade("ACTIVE"))
channel.action("status", lambda argument: {**state, "argument": argument})
time.sleep(WARM_UP_S)
channel.ready()
n = 0
while True:
    n += 1
    channel.metrics({"P&L": pm2.Metric(value="3.20", unit="USD"), "mode": "paper", "loops": n})
    (here / "loops").write_text(str(n))
    try:
        calls.get(timeout=0.05)()
    except queue.Empty:
        continue
"""

BYSTANDER = "import time\nwhile True: time.sleep(1)\n"


@pytest.fixture
def pm2() -> Iterator[Pm2]:
    with private_pm2() as daemon:
        yield daemon


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def bot(tmp_path: Path, warm_up_s: float = 0.0) -> Path:
    return write(tmp_path / "bot.py", BOT.replace("WARM_UP_S", str(warm_up_s)))


def test_metrics_actions_and_ready(pm2: Pm2, tmp_path: Path) -> None:
    started_s = time.monotonic()
    app = pm2.start("Bot", bot(tmp_path, 1.5), wait_ready=True, listen_timeout=10_000)
    took_s = time.monotonic() - started_s
    assert app.online
    assert 1.5 <= took_s < 9.0, "pm2 start returned before the bot was ready, or by its timeout"

    until(lambda: pm2.app("Bot").metrics, "the metrics reach the daemon")
    metrics = {metric.name: metric for metric in pm2.app("Bot").metrics}
    assert (metrics["P&L"].value, metrics["P&L"].unit) == ("3.20", "USD")
    assert metrics["mode"].value == "paper"
    first = int(metrics["loops"].value)
    until(
        lambda: any(int(m.value) > first for m in pm2.app("Bot").metrics if m.name == "loops"),
        "later values replace earlier ones",
    )
    described = pm2.run("describe", "Bot")
    assert "P&L" in described
    assert "3.20 USD" in described

    assert pm2.app("Bot").actions == ("pause", "resume", "status")
    assert "HALTED" in pm2.run("trigger", "Bot", "pause", timeout_s=10)
    assert "HALTED" in pm2.run("trigger", "Bot", "status", timeout_s=10)
    assert "ACTIVE" in pm2.run("trigger", "Bot", "resume", timeout_s=10)
    assert "250" in pm2.run("trigger", "Bot", "status", "250", timeout_s=10)

    pm2.run("stop", "Bot")
    assert json.loads((tmp_path / "ended").read_text())[0] == "signal"
    assert pm2.app("Bot").status == "stopped"


def test_the_daemons_death_stops_the_bot_within_a_second(pm2: Pm2, tmp_path: Path) -> None:
    app = pm2.start("Bot", bot(tmp_path))
    until((tmp_path / "loops").exists, "the bot runs")
    killed_s = time.time()
    os.kill(pm2.daemon_pid(), signal.SIGKILL)
    until((tmp_path / "ended").exists, "the bot notices")
    reason, ended_s = json.loads((tmp_path / "ended").read_text())
    assert reason == "orphan"
    assert ended_s - killed_s < 1.0
    until(lambda: gone(app.pid), "the bot ends")
    with pytest.raises(pm2rpc.DaemonDown):
        pm2rpc.list_apps(pm2.home)


def test_a_hung_daemon_stalls_neither_bot_nor_observer(pm2: Pm2, tmp_path: Path) -> None:
    pm2.start("Bot", bot(tmp_path))
    until((tmp_path / "loops").exists, "the bot runs")
    pid = pm2.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        before = int((tmp_path / "loops").read_text() or 0)
        started_s = time.monotonic()
        with pytest.raises(pm2rpc.DaemonSilent):
            pm2rpc.list_apps(pm2.home, timeout_s=1.0)
        assert time.monotonic() - started_s < 3.0
        until(lambda: int((tmp_path / "loops").read_text() or 0) > before + 20, "the bot goes on")
    finally:
        os.kill(pid, signal.SIGCONT)


HOSTILE = """
import os, queue, sys, time
from decimal import Decimal
from fleet.runtime import pm2

calls = queue.Queue()
channel = pm2.connect(
    os.environ, dispatch=calls.put, on_shutdown=sys.exit, on_orphan=sys.exit)
deep = "x"
for _ in range(900):
    deep = {"d": deep}
channel.action("evil", lambda _: [float("nan"), None, deep, "\\n", b"\\xff", "\\ud800", 10**400])
channel.ready()
channel.metrics({
    "nan": float("nan"), "inf": float("inf"), "none": None, "blank": "", "line\\nbreak": "a\\nb",
    "": "no name", "__proto__": {"value": 1}, "toString": "x", "hasOwnProperty": 1,
    "surrogate": "\\ud800", "long": "x" * 3_000_000, "huge": 10**300, "money": Decimal("NaN"),
    "{red-fg}": "{bold}", "nested": {"value": None}, "object": object(), "unit": pm2.Metric(
        value=None, unit="\\x00"),
})
while True:
    calls.get()()
"""


def test_hostile_values_hurt_neither_daemon_nor_bystander(pm2: Pm2, tmp_path: Path) -> None:
    bystander = pm2.start("Bystander", write(tmp_path / "bystander.py", BYSTANDER))
    hostile = pm2.start("Hostile", write(tmp_path / "hostile.py", HOSTILE))
    daemon_pid = pm2.daemon_pid()
    until(lambda: len(pm2.app("Hostile").metrics) >= 16, "all hostile metrics arrive")
    answered = pm2.run("trigger", "Hostile", "evil", timeout_s=10)
    assert "nan" in answered
    assert "huge" in answered
    described = pm2.run("describe", "Hostile")
    assert "nan" in described
    assert "TypeError" not in described
    assert pm2.daemon_pid() == daemon_pid
    assert (pm2.app("Bystander").pid, pm2.app("Bystander").restarts) == (bystander.pid, 0)
    assert (pm2.app("Hostile").pid, pm2.app("Hostile").restarts) == (hostile.pid, 0)
    assert "global error" not in (pm2.home / "pm2.log").read_text()


def test_control_an_unguarded_null_does_kill_the_daemon(pm2: Pm2, tmp_path: Path) -> None:
    """Without this the test above could not fail: PM2 7.0.4 dies of one bare null."""
    bystander = pm2.start("Bystander", write(tmp_path / "bystander.py", BYSTANDER))
    daemon_pid = pm2.daemon_pid()
    raw = "import os, time\nos.write(int(os.environ['NODE_CHANNEL_FD']), b'null\\n')\n"
    script = write(tmp_path / "raw.py", raw + "time.sleep(9)\n")
    pm2.run("start", str(script), "--interpreter", sys.executable, "--no-autorestart", check=False)
    until(lambda: gone(daemon_pid), "the daemon dies of a bare null")
    os.kill(bystander.pid, signal.SIGKILL)  # Nobody else ends what a dead daemon left behind.


@pytest.mark.parametrize(("code", "stays_down"), [(78, True), (75, True), (1, False)])
def test_stop_codes_stay_down(pm2: Pm2, tmp_path: Path, code: int, stays_down: bool) -> None:
    """With the ecosystem file's own restart settings."""
    settings = ecosystem_apps(pm2, tmp_path)["ArbHunter"]
    keys = ["stop_exit_codes", "min_uptime", "max_restarts", "exp_backoff_restart_delay"]
    script = write(
        tmp_path / "exits.py",
        "import sys, pathlib\n"
        "with pathlib.Path(__file__).with_name('starts').open('a') as f: f.write('x')\n"
        f"sys.exit({code})\n",
    )
    pm2.start("Exits", script, **{key: settings[key] for key in keys})
    starts = tmp_path / "starts"
    if stays_down:
        until(lambda: pm2.app("Exits").gave_up, "PM2 gives it up")
        time.sleep(1.5)  # three times the first back-off
        assert starts.read_text() == "x"
        assert pm2.app("Exits").exit_code == code
    else:
        until(lambda: starts.exists() and len(starts.read_text()) >= 3, "PM2 starts it again")


def ecosystem_apps(pm2: Pm2, tmp_path: Path) -> dict[str, dict[str, object]]:
    """Read a copy of the real ecosystem file, with an environment that is only there."""
    copy = tmp_path / "ecosystem.config.js"
    copy.write_text((ROOT / "ecosystem.config.js").read_text())
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    for name in ("python", "fleet"):
        write(binaries / name, f'#!/bin/sh\nexec {sys.executable} "$@"\n').chmod(0o755)
    shown = subprocess.run(
        ["node", "-p", "JSON.stringify(require(process.argv[1]).apps)", str(copy)],
        env=pm2.env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {app["name"]: app for app in json.loads(shown.stdout)}


def test_no_secret_of_the_shell_reaches_pm2(tmp_path: Path) -> None:
    canary = "canary-5e1f"
    secrets = {
        "POLYMARKET_PRIVATE_KEY": canary, "AWS_SECRET_ACCESS_KEY": canary, "npm_config_x": canary,
        "X": canary, "P": canary, "DATABASE_URL": f"postgres://u:{canary}@h/d", "PYTHONPATH": canary,
    }  # fmt: skip
    with private_pm2(secrets) as pm2:
        apps = ecosystem_apps(pm2, tmp_path)
        assert {"ArbHunter", "Sandbox"} <= set(apps)
        write(
            tmp_path / "run_arbhunter.py",
            "import json, os, pathlib, time\n"
            "pathlib.Path(__file__).with_name('env').write_text(json.dumps(dict(os.environ)))\n"
            "os.write(int(os.environ['NODE_CHANNEL_FD']), b'\"ready\"\\n')\n"
            "time.sleep(60)\n",
        )
        file = str(tmp_path / "ecosystem.config.js")
        pm2.run("start", file, "--only", "ArbHunter")
        pm2.run("start", file, "--only", "ArbHunter")
        pm2.run("restart", "ArbHunter")
        pm2.run("save")
        assert canary not in (pm2.home / "dump.pm2").read_text()
        assert canary not in pm2.run("jlist")
        until((tmp_path / "env").exists, "the bot has written its environment")
        seen = (tmp_path / "env").read_text()
        assert canary not in seen
        assert json.loads(seen)["PATH"] == os.environ["PATH"]


def test_rotation_while_pm2_writes(pm2: Pm2, tmp_path: Path) -> None:
    writer = """
import time
for n in range(6000):
    print(n, "x" * 100)
    if n % 20 == 0:
        time.sleep(0.01)
print("done")
time.sleep(60)
"""
    pm2.start("Writer", write(tmp_path / "writer.py", writer))
    live = tmp_path / "Writer-out.log"
    policy = Policy(max_bytes=100_000, keep=20)

    def written() -> bytes:
        """All that is left of the log, oldest first; the last line may be in an archive already."""
        report = rotate_folder(tmp_path, policy)
        assert not report.failed
        time.sleep(0.02)
        archives = sorted(
            tmp_path.glob("Writer-out.log.*.gz"), key=lambda path: -int(path.suffixes[-2][1:])
        )
        parts = [*(gzip.decompress(path.read_bytes()) for path in archives), live.read_bytes()]
        return b"".join(parts)

    until(lambda: written().endswith(b"done\n"), "the writer has written everything", 30)
    text = written()
    assert len(list(tmp_path.glob("Writer-out.log.*.gz"))) >= 3
    numbers = [int(line.split()[0]) for line in text.splitlines() if line != b"done"]
    assert numbers == sorted(set(numbers)), "lines repeated or out of order"
    # What is written between the last read and the truncation, some microseconds, is lost: mostly
    # nothing, and a few lines when this process is preempted just there.
    assert len(numbers) >= 5940
    assert b"\0" not in text
