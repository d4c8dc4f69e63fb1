"""Checks before trading; each names what is wrong and the cure.

``run`` makes all of them and reports all of them: an operator repairs in one go. A check never
changes anything.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.config import Paths
from fleet.journal.fleet import read_latch
from fleet.journal.halts import HALTS
from fleet.journal.locks import holder

PYTHON_MIN: Final = (3, 11)
EARLIEST_NS: Final = 1_700_000_000 * 1_000_000_000
"""A clock before this (November 2023) has not been set."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its outcome; ``problem`` is empty when it passed."""

    name: str
    found: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether it passed."""
        return not self.problem


def run(
    paths: Paths, *, bot: str, now_ns: int, disk_free_min_mb: int, extra: Sequence[Check] = ()
) -> list[Check]:
    """All checks of one bot, in the order they are worth repairing in."""
    checks: list[Callable[[], Check]] = [
        _python,
        lambda: _clock(now_ns),
        lambda: _folder("state folder", paths.var),
        lambda: _folder("log folder", paths.logs),
        lambda: _disk(paths.var, disk_free_min_mb),
        lambda: _env_file(paths.env_file),
        lambda: _latch(paths.fleet_db),
        lambda: _twin(paths.lock(bot)),
    ]
    return [*(check() for check in checks), *extra]


def _python() -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < PYTHON_MIN:
        return Check("python", found, "install Python 3.11 or newer and run `make setup` again")
    return Check("python", found)


def _clock(now_ns: int) -> Check:
    if now_ns < EARLIEST_NS:
        return Check("clock", str(now_ns), "the machine's clock is not set: set it, use NTP")
    return Check("clock", "set")


def _nearest(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _folder(name: str, folder: Path) -> Check:
    nearest = _nearest(folder)
    if not nearest.is_dir():
        return Check(name, str(folder), f"{nearest} is not a directory: move it away")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Check(name, str(folder), f"make {nearest} writable for the user of the fleet")
    return Check(name, str(folder))


def _disk(folder: Path, minimum_mb: int) -> Check:
    free_mb = shutil.disk_usage(_nearest(folder)).free // 1_000_000
    found = f"{free_mb} MB free"
    if free_mb < minimum_mb:
        return Check("disk", found, f"free at least {minimum_mb} MB (FLEET_DISK_FREE_MIN_MB)")
    return Check("disk", found)


def _env_file(file: Path) -> Check:
    try:
        mode = file.stat().st_mode & 0o777
    except FileNotFoundError:
        return Check("settings", "no .env: defaults are used")
    if mode & 0o077:
        return Check("settings", oct(mode), f"run `chmod 600 {file}`")
    return Check("settings", f"{file}, {oct(mode)}")


def _latch(fleet_db: Path) -> Check:
    latch = read_latch(fleet_db)
    if latch is None:
        return Check("kill latch", "clear")
    cure = f"{latch.code.value}: {HALTS[latch.code].remedy}" if latch.readable else latch.reason
    return Check("kill latch", f"set by {latch.by}: {latch.reason}", cure)


def _twin(lock: Path) -> Check:
    try:
        pid = holder(lock)
    except OSError as error:
        return Check("twin", f"unknown: {error}", f"make {lock} readable and writable")
    if pid is None:
        return Check("twin", "none")
    return Check("twin", f"running as process {pid}", "stop it first, or leave it be")
