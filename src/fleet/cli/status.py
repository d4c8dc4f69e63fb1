"""Show what runs, whether it is healthy, and if not, why.

Reads what each process says of itself (var/status/*.json) and, where it can be reached, what PM2
says of the processes. Exit code 0: everything expected is healthy. 1: something is not.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import fleet
from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.ops import health, launch, pm2rpc
from fleet.ops.health import BotStatus, Unreadable
from fleet.ops.pm2rpc import App, Pm2Error

POLL_S: Final = 0.2
TAIL_LINES: Final = 6
TAIL_BYTES: Final = 8192
# Older daemons take an interpreter below a path like /home/ubuntu for Bun, and break Python.
PM2_OLDEST: Final = [7, 0, 4]
COLUMNS: Final = (
    "APP", "PROCESS", "HEALTH", "MODE", "FEED", "TRADING", "UP", "RESTARTS",
    "OPPS", "TRADES", "P&L", "ERRORS", "CPU", "MEMORY",
)  # fmt: skip
# Applications that are no bots: running is all that is asked of them.
WITHOUT_STATUS: Final = {"LogRotate"}
STOP_CODES: Final = {
    75: "another instance of it is running already (exit 75): stop that one first",
    78: "it asked to stay down (exit 78): cure what its last lines say, then `make start`",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One application: its own words, PM2's words, and the problems found."""

    name: str
    app: App | None
    status: BotStatus | Unreadable | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A look at the whole fleet. ``pm2_problem`` is empty when PM2 answered."""

    rows: tuple[Row, ...]
    pm2_problem: str

    @property
    def healthy(self) -> bool:
        """Nothing at all, or any problem, is not healthy."""
        return bool(self.rows) and not any(row.problems for row in self.rows)

    @property
    def hopeless(self) -> bool:
        """PM2 has given an application up: waiting longer changes nothing."""
        return any(row.app is not None and row.app.gave_up for row in self.rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS",
                        help="wait until everything expected is healthy")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--expect", nargs="+", default=[], metavar="APP",
                        help="applications that must be healthy (default: all that are known)",
                        )  # fmt: skip
    parser.add_argument("--plan", nargs="+", default=[], metavar="APP",
                        help="only say what `make start` would do for these")  # fmt: skip
    parser.add_argument("--root", type=Path, default=checkout(), metavar="DIR",
                        help="the fleet's directory (default: this program's)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Print the table (or JSON, or the plan) and return the exit code."""
    root: Path = arguments.root
    if arguments.plan:
        return _print_plan(arguments.plan, root)
    expected: list[str] = arguments.expect
    deadline_s = time.monotonic() + arguments.wait
    seen = look(root, expected)
    while not seen.healthy and not seen.hopeless and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
        seen = look(root, expected)
    if arguments.json:
        print(json.dumps(_document(seen), indent=2))
    else:
        print(_table(seen))
        _print_problems(seen, root, tail=arguments.wait > 0)
    return 0 if seen.healthy else 1


def checkout() -> Path:
    """Return the directory of the checkout this package runs from."""
    return Path(fleet.__file__).resolve().parents[2]


def look(root: Path, expected: Sequence[str] = ()) -> Fleet:
    """Read the status files and PM2 once. ``expected`` names come first and must exist."""
    pm2_problem, apps = "", {}
    try:
        for app in pm2rpc.list_apps(pm2rpc.home(os.environ)):
            if launch.belongs(app, root):
                apps[app.name] = app
    except Pm2Error as error:
        pm2_problem = str(error)
    # A file that cannot be read still names its bot by its own name, in lower case.
    statuses = {entry.bot.lower(): entry for entry in health.read_all(root / "var" / "status")}
    names = {name.lower(): name for name in [*expected, *apps]}
    for entry in statuses.values():
        names.setdefault(entry.bot.lower(), entry.bot)
    wanted = {name.lower() for name in expected}
    now_ns = LiveClock().now_ns()
    rows = tuple(
        _row(name, apps.get(name), statuses.get(key), now_ns)
        for key, name in names.items()
        if not wanted or key in wanted
    )
    return Fleet(rows=rows, pm2_problem=pm2_problem)


def _row(name: str, app: App | None, status: BotStatus | Unreadable | None, now_ns: int) -> Row:
    problems: list[str] = []
    down = app is not None and not app.online
    if app is not None and app.gave_up:
        code = app.exit_code
        told = STOP_CODES.get(code) if code is not None else None
        problems.append(told or f"PM2 has given it up after {app.restarts} restarts")
    elif app is not None and down:
        problems.append(f"PM2 lists it as {app.status}")
    if status is not None and not down:
        problems += health.problems(status, now_ns)
    elif status is None and not down and name not in WITHOUT_STATUS:
        problems.append("it has not reported yet")
    if app is not None and isinstance(status, BotStatus) and app.online and not problems:
        problems += _twin(app, status)
    return Row(name=name, app=app, status=status, problems=tuple(problems))


def _twin(app: App, status: BotStatus) -> list[str]:
    if app.pid == status.pid:
        return []
    return [f"process {status.pid} reports, but PM2 keeps process {app.pid}: end the stray one"]


def _table(seen: Fleet) -> str:
    if not seen.rows:
        return "Nothing runs and nothing ever ran here: `make start` starts the fleet."
    rows = [COLUMNS, *(_cells(row) for row in seen.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cells(row: Row) -> tuple[str, ...]:
    app, status = row.app, row.status if isinstance(row.status, BotStatus) else None
    running = app is None or app.online
    process = "not under PM2" if app is None else app.status + (f" {app.pid}" if app.online else "")
    if app is not None and app.gave_up:
        process = "given up"
    own: tuple[str, ...] = ("-",) * 3
    figures: tuple[str, ...] = ("-",) * 4
    if status is not None:
        own = (status.mode, status.feed, status.trading if running else "-")
        figures = (str(status.opportunities), str(status.trades), status.pnl, str(status.errors))
    started_ns = status.started_ns if status is not None else app.started_ms * 10**6 if app else 0
    up = _duration((LiveClock().now_ns() - started_ns) // NS_PER_SECOND) if running else "-"
    return (
        row.name,
        process,
        ("healthy" if not row.problems else "NOT HEALTHY") if running else "down",
        *own,
        up,
        str(app.restarts) if app else "-",
        *figures,
        f"{app.cpu:.1f}%" if app and app.online else "-",
        f"{app.memory / 2**20:.0f} MB" if app and app.online else "-",
    )


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(max(0, seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {seconds:02}s"


def _print_problems(seen: Fleet, root: Path, *, tail: bool) -> None:
    if seen.pm2_problem:
        print(f"PM2: {seen.pm2_problem}")
    for row in seen.rows:
        for problem in row.problems:
            print(f"{row.name}: {problem}")
        if tail and row.problems:
            for stream in ("error", "out"):
                path = root / "logs" / f"{row.name.lower()}-{stream}.log"
                for line in _last_lines(path):
                    print(f"  {path.name}: {line}")


def _last_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []  # No log yet: the problem itself has been told.


def _document(seen: Fleet) -> dict[str, object]:
    return {
        "healthy": seen.healthy,
        "pm2": seen.pm2_problem or "ok",
        "apps": [
            {
                "name": row.name,
                "healthy": not row.problems,
                "problems": row.problems,
                "status": asdict(row.status) if row.status is not None else None,
                "pm2": {**asdict(row.app), "gave_up": row.app.gave_up} if row.app else None,
            }
            for row in seen.rows
        ],
    }


def _print_plan(names: Sequence[str], root: Path) -> int:
    try:
        home = pm2rpc.home(os.environ)
        apps = pm2rpc.list_apps(home)
        _warn_if_old(pm2rpc.version(home))
    except pm2rpc.DaemonDown:
        apps = ()
    except Pm2Error as error:
        print(f"PM2: {error}", file=sys.stderr)
        return 1
    for task in launch.plan(names, apps, root):
        print(f"{task.step}\t{task.name}\t{task.detail}")
    return 0


def _warn_if_old(version: str) -> None:
    parts = [int(part) for part in version.split(".")[:3] if part.isdigit()]
    if parts < PM2_OLDEST:
        oldest = ".".join(map(str, PM2_OLDEST))
        print(
            f"Note: the running PM2 daemon is {version}; this fleet is tested with {oldest} and"
            " newer. `npx pm2 update` replaces the daemon (it restarts all it keeps).",
            file=sys.stderr,
        )
