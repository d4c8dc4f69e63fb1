"""A fleet of a test's own: its settings, state and logs in a temporary home, its own local market.

The programs are the real ones. The market is mispriced all the time and the paper venue is quick,
so that a second of trading holds many orders, fills and settlements.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.clock import LiveClock
from fleet.config import Paths
from fleet.ops import health
from tests.e2e.pm2_home import ROOT, Pm2, gone, until

SETTINGS: Mapping[str, str] = {
    "PAPER_CASH_USD": "1000000",
    "PAPER_MINED_MS": "400",
    "PAPER_OPERATION_MS": "300",
    "ARB_COOLDOWN_MS": "50",
    "ARB_MAX_OPEN_BUNDLES": "12",
    "ARB_MAX_MARKET_USD": "1000000",
    "ARB_MAX_WALLET_USD": "1000000",
    "ARB_MAX_DAY_TURNOVER_USD": "100000000",
    "ARB_MAX_DAY_LOSS_USD": "1000000",
    "FLEET_MAX_DAY_LOSS_USD": "1000000",
    "FLEET_MAX_EXPOSURE_USD": "1000000",
    "FLEET_MAX_WALLET_USD": "1000000",
    "FLEET_MAX_MARKET_USD": "1000000",
    "FLEET_MAX_SET_USD": "1000000",
    "FLEET_MAX_DAY_TURNOVER_USD": "100000000",
}
MARKET = ("--mispricing-every", "1", "--seed", "5")


def free_port() -> int:
    """A port of 127.0.0.1 nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class FleetHome:
    """One home: ``.env``, ``var/`` and ``logs/``."""

    def __init__(self, root: Path, *, slug: str = "arbhunter", **settings: str) -> None:
        self.root = root
        self.slug = slug
        self.paths = Paths(root=root)
        self.port = free_port()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "FLEET_HOME": str(root),
            "PYTHONUNBUFFERED": "1",
        }
        for folder in (self.paths.var, self.paths.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.configure(**settings)

    def configure(self, **settings: str) -> None:
        """Write ``.env``."""
        pairs = {**SETTINGS, "SANDBOX_PORT": str(self.port), **settings}
        text = "".join(f"{key}={value}\n" for key, value in pairs.items())
        self.paths.env_file.write_text(text)
        self.paths.env_file.chmod(0o600)

    # --- programs -----------------------------------------------------------------------------

    @contextmanager
    def sandbox(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The local market, without PM2; ended in order at the end if it still runs."""
        command = [sys.executable, "-m", "fleet.cli.main", "sandbox", "--root", str(self.root)]
        out = (self.paths.logs / "sandbox-out.log").open("ab")
        process = subprocess.Popen(
            [*command, *MARKET, *arguments], env=self.env, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            until(lambda: self._ready("sandbox", process.pid), "the sandbox is ready")
            yield process
        finally:
            process.terminate()
            process.wait(10)
            out.close()

    @contextmanager
    def bot(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The bot without PM2; killed at the end if it still runs."""
        out = (self.paths.logs / f"{self.slug}-out.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, str(ROOT / f"run_{self.slug}.py"), *arguments],
            env=self.env, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)
            out.close()

    def fleet(self, *arguments: str, pm2: Pm2 | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``fleet ...`` on this home."""
        env = self.env if pm2 is None else {**self.env, "PM2_HOME": str(pm2.home)}
        return subprocess.run(
            [sys.executable, "-m", "fleet.cli.main", *arguments],
            env=env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    # --- what they say ------------------------------------------------------------------------

    def _ready(self, bot: str, pid: int | None = None) -> int:
        """The pid of a ready process; 0 while there is none (or another than ``pid``)."""
        status = health.read(self.paths.status(bot))
        if isinstance(status, health.Unreadable) or gone(status.pid):
            return 0
        fresh = pid is None or status.pid == pid
        healthy = not health.problems(status, LiveClock().now_ns())
        return status.pid if fresh and healthy else 0

    def ready(self, *, after: int = 0, pid: int | None = None, within_s: float = 20.0) -> int:
        """Wait until the bot is ready as another process than ``after``; its pid."""
        return until(
            lambda: found if (found := self._ready(self.slug, pid)) != after else 0,
            f"{self.slug} is ready\n{self.tail()}",
            within_s,
        )

    def status(self) -> dict[str, Any]:
        """The bot's status file."""
        found: dict[str, Any] = json.loads(self.paths.status(self.slug).read_text())
        return found

    def log(self) -> str:
        """The bot's log so far."""
        file = self.paths.logs / f"{self.slug}.log"
        return file.read_text() if file.exists() else ""

    def tail(self) -> str:
        """The end of the log, for a failure's message."""
        return "\n".join(self.log().splitlines()[-15:])

    def filled(self, count: int = 1) -> None:
        """Wait until there are that many fills more than now."""
        goal = self.log().count("FILLED") + count
        until(lambda: self.log().count("FILLED") >= goal, f"{count} fills", 30)

    # --- under PM2 ----------------------------------------------------------------------------

    def applications(self, pm2: Pm2, **overrides: object) -> Path:
        """The real ecosystem's Sandbox and ArbHunter, moved into this home; ``None`` drops a key."""
        shown = subprocess.run(
            ["node", "-p", "JSON.stringify(require(process.argv[1]).apps)",
             str(ROOT / "ecosystem.config.js")],
            env=pm2.env, capture_output=True, text=True, check=True,
        )  # fmt: skip
        apps = []
        for app in json.loads(shown.stdout):
            if app["name"] not in {"Sandbox", "ArbHunter"}:
                continue
            slug = app["name"].lower()
            app |= {
                "env": self.env,
                "out_file": str(self.paths.logs / f"{slug}-out.log"),
                "error_file": str(self.paths.logs / f"{slug}-error.log"),
                **overrides,
            }
            if slug == "sandbox":
                app["args"] = ["sandbox", "--root", str(self.root), *MARKET]
            apps.append({key: value for key, value in app.items() if value is not None})
        file = self.root / "ecosystem.config.js"
        file.write_text(f"module.exports = {{ apps: {json.dumps(apps)} }}\n")
        return file
