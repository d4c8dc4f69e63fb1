"""A private PM2 for a test: the real one from node_modules, in a PM2_HOME of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fleet.ops import pm2rpc
from fleet.ops.pm2rpc import App

ROOT = Path(__file__).resolve().parents[2]
PM2 = ROOT / "node_modules" / ".bin" / "pm2"
T = TypeVar("T")


def until(look: Callable[[], T], what: str, within_s: float = 15.0) -> T:
    """Poll ``look`` until it is truthy; fails with ``what`` after ``within_s`` seconds."""
    deadline_s = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Tell whether the process has ended (a zombie nobody has reaped yet counts as ended)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def marked(variable: str) -> set[int]:
    """The processes that run with ``NAME=value`` in their environment."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and not gone(int(folder.name)):
            try:
                words = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # It ended while it was looked at, or is another user's.
            if variable.encode() in words:
                found.add(int(folder.name))
    return found


@dataclass(slots=True)
class Pm2:
    """One PM2 daemon's directory and its command line."""

    home: Path
    env: dict[str, str]

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 40.0) -> str:
        """Run ``pm2 ...`` and return stdout and stderr together."""
        done = subprocess.run(
            [str(PM2), *arguments],
            env=self.env,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def start(self, name: str, script: Path, **options: object) -> App:
        """Start a Python script as an application and return what PM2 lists."""
        app = {
            "name": name,
            "script": str(script),
            "cwd": str(script.parent),
            "interpreter": sys.executable,
            "merge_logs": True,
            "vizion": False,
            "filter_env": [""],
            "out_file": str(script.parent / f"{name}-out.log"),
            "error_file": str(script.parent / f"{name}-error.log"),
            **options,
        }
        app["env"] = {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
        file = script.parent / f"{name}.config.js"
        file.write_text(f"module.exports = {{ apps: [{json.dumps(app)}] }}\n")
        self.run("start", str(file))
        return self.app(name)

    def app(self, name: str) -> App:
        """Return the one application of this name."""
        (found,) = [app for app in pm2rpc.list_apps(self.home) if app.name == name]
        return found

    def daemon_pid(self) -> int:
        """Return the pid the daemon wrote."""
        return int((self.home / "pm2.pid").read_text())

    def close(self) -> None:
        """End the daemon and everything it started, whatever state the test left."""
        pids = set()
        try:
            pids = {app.pid for app in pm2rpc.list_apps(self.home, timeout_s=1.0) if app.pid}
            self.run("kill", check=False, timeout_s=20)
        except (pm2rpc.Pm2Error, subprocess.TimeoutExpired):
            pids.add(0)  # Nobody to ask: whatever is left is ended below.
        pid_file = self.home / "pm2.pid"
        if pid_file.exists():
            pids.add(int(pid_file.read_text()))
        for pid in pids - {0}:
            if not gone(pid) and str(self.home) in Path(f"/proc/{pid}/environ").read_text():
                os.kill(pid, signal.SIGKILL)
        # Whoever was interrupted while it started the daemon has written no pid yet.
        for pid in marked(f"PM2_HOME={self.home}"):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)


@contextmanager
def private_pm2(extra_env: Mapping[str, str] | None = None) -> Iterator[Pm2]:
    """Give a PM2 whose daemon is not running yet; ends it afterwards."""
    assert PM2.exists(), "PM2 is not installed: run `make setup`"
    # A socket's path may have 107 characters; pytest's own temporary paths can be longer.
    home = Path(tempfile.mkdtemp(prefix="pm2-", dir="/tmp"))
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PM2_HOME": str(home),
        "PM2_DISABLE_VERSION_CHECK": "1",
        # What the daemon would run as `node $_ update` after an internal error.
        "_": str(home / "no-such-program"),
        **(extra_env or {}),
    }
    pm2 = Pm2(home, env)
    try:
        yield pm2
    finally:
        pm2.close()
