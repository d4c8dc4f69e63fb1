"""What ``make start`` has to do for each application, given what PM2 already runs.

``pm2 start FILE`` on a running fleet restarts every bot, fails on some states, and takes over a
same-named application of another checkout with this checkout's settings. So the launcher looks
first and acts per application. Pure: no process is touched here.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fleet.ops.pm2rpc import App


class Step(StrEnum):
    """One thing to do for one application; the values are read by scripts/fleet.sh."""

    KEEP = "keep"
    """It runs: leave it alone."""
    START = "start"
    """PM2 does not know it."""
    RENEW = "renew"
    """It is down: delete the entry and start afresh, so that today's settings apply."""
    WAIT = "wait"
    """PM2 is about to start or stop it itself; a start now would crash PM2's command line."""
    FOREIGN = "foreign"
    """An application of this name belongs to another directory: refuse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A step for one application and the words for the operator."""

    name: str
    step: Step
    detail: str


def plan(names: Iterable[str], apps: Iterable[App], root: Path) -> tuple[Task, ...]:
    """Decide the step for each of ``names``; ``root`` is this checkout's directory."""
    known = list(apps)
    return tuple(_task(name, [app for app in known if app.name == name], root) for name in names)


def belongs(app: App, root: Path) -> bool:
    """Tell whether PM2 started the application from this checkout."""
    return os.path.realpath(app.cwd) == os.path.realpath(root)


def _task(name: str, entries: list[App], root: Path) -> Task:
    foreign = next((app for app in entries if not belongs(app, root)), None)
    if foreign is not None:
        return Task(name=name, step=Step.FOREIGN, detail=foreign.cwd)
    if not entries:
        return Task(name=name, step=Step.START, detail="not started yet")
    app = entries[-1]
    if app.online:
        return Task(name=name, step=Step.KEEP, detail=f"already running, pid {app.pid}")
    if app.gave_up or app.status == "stopped":
        ended = "" if app.exit_code is None else f", last exit code {app.exit_code}"
        return Task(name=name, step=Step.RENEW, detail=f"was {app.status}{ended}")
    return Task(name=name, step=Step.WAIT, detail=f"is {app.status}")
