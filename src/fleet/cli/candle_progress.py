"""A progress bar on standard error for one download; only made where a person looks at it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """Called with the share done and the bars that came; use it as a context manager."""

    def __init__(self, title: str) -> None:
        """Prepare a bar called ``title``."""
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[bars]:,} bars"),
            TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=1.0, bars=0)

    def __call__(self, share: float, bars: int) -> None:
        """Show how far it is."""
        self._bar.update(self._task, completed=share, bars=bars)

    def __enter__(self) -> Self:
        """Show it."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take it away."""
        self._bar.stop()
