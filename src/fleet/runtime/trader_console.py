"""What the Trader shows at a terminal: progress of long work, checks, and the words of the end.

Progress goes to standard error, by rich, and only where that is a terminal: a log keeps no bars.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from fleet.runtime.preflight import Check
from fleet.runtime.trader_research import Told

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it: work that was asked for did not come to its end."""


@contextmanager
def progress(title: str) -> Iterator[Told]:
    """Bars for the steps of a long work; silent where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _name, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {title: bars.add_task(title, total=None)}

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield told


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends work as Ctrl-C does: by ``KeyboardInterrupt``, which puts files in order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(lines: Iterable[str]) -> None:
    """Lines on standard output."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"{text}\n")


def check_lines(checks: Iterable[Check]) -> Iterator[str]:
    """Checks, one a line, with their cures. A warning passes."""
    for check in checks:
        verdict = "ok  " if check.ok else "FAIL"
        cure = f"  ->  {check.problem}" if check.problem else ""
        yield f"{verdict} {check.name:<13} {check.found}{cure}"
