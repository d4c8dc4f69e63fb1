"""Log lines a person can grep: ``YYYY-MM-DD HH:MM:SS LEVEL [bot mode feed] MESSAGE key=value``.

One call of ``start`` per process opens three outlets: the bot's own file (rotated by size),
standard output, and for warnings and errors standard error, which PM2 keeps apart. Each has a queue
and a thread of its own, so that a full disk, a stopped terminal or a hung PM2 daemon can hold up
neither the bot nor the other outlets. When a queue is full, its lines are dropped and counted; the
count is written when there is room.

Invariant: every line, those of a traceback included, begins with the time. A value cannot forge a
line, because everything that breaks lines or steers a terminal is shown as an escape.
"""

from __future__ import annotations

import io
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

QUEUE_MAX: Final = 10_000
FILE_BYTES_MAX: Final = 10_000_000
FILES_KEPT: Final = 14
NAME: Final = "fleet"
_STOP: Final = None
_TIME: Final = "%Y-%m-%d %H:%M:%S"


def get(component: str = "") -> structlog.typing.FilteringBoundLogger:
    """A logger; before ``start`` it goes nowhere but to warnings on standard error."""
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        logging.getLogger(NAME),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[_render],
        component=component,
    )
    return logger


def _render(
    _logger: Any,
    _method: str,
    event: MutableMapping[str, Any],
) -> tuple[tuple[str], dict[str, Any]]:
    message = _plain(str(event.pop("event", "")))
    event.pop("component", None)
    exc_info = event.pop("exc_info", None)
    pairs = " ".join(f"{key}={_value(value)}" for key, value in event.items())
    line = f"{message} {pairs}" if pairs else message
    return (line,), {"exc_info": exc_info} if exc_info else {}


def _plain(text: str) -> str:
    """``text`` on one line: breaks as `` | ``, other control characters as escapes."""
    if text.isprintable():
        return text
    joined = " | ".join(part for part in text.splitlines() if part)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in joined)


def _value(value: object) -> str:
    shown = _plain(str(value))
    if shown and not any(c in shown for c in ' "='):
        return shown
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Lines(logging.Formatter):
    """Puts time, level and label before every line, those of a traceback too."""

    def __init__(self, label: str) -> None:
        super().__init__("%(message)s")
        self._label = _plain(label)

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime(_TIME, time.localtime(record.created))
        head = f"{when} {record.levelname} [{self._label}]"
        message, *trace = super().format(record).splitlines() or [""]
        return "\n".join([f"{head} {message}", *(f"{head}   | {_plain(line)}" for line in trace)])


class _Queue(logging.Handler):
    """Hands finished lines to the outlets; never waits."""

    def __init__(self, outlets: Sequence[_Outlet]) -> None:
        super().__init__()
        self._outlets = outlets

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        for outlet in self._outlets:
            if record.levelno >= outlet.level:
                outlet.put(line)


class _Outlet(threading.Thread):
    """Writes lines to one place, in a thread that may be held up without hurting anybody."""

    def __init__(self, sink: _File | _Stream, level: int) -> None:
        super().__init__(name=f"log-{sink.name}", daemon=True)
        self.level = level
        self.lines: queue.Queue[str | None] = queue.Queue(QUEUE_MAX)
        self.dropped = 0
        self.failed = ""
        self._sink = sink

    def put(self, line: str) -> None:
        try:
            self.lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def run(self) -> None:
        while (line := self.lines.get()) is not _STOP:
            if self.dropped and self.lines.qsize() < QUEUE_MAX // 2:
                dropped, self.dropped = self.dropped, 0
                when = time.strftime(_TIME)
                self._write(f"{when} WARNING {dropped} log lines were dropped: too many at once")
            self._write(line)
        self._sink.close()

    def _write(self, line: str) -> None:
        try:
            self._sink.write(f"{line}\n".encode("utf-8", "backslashreplace"))
            self.failed = ""
        except (OSError, ValueError) as error:
            self.failed = str(error)  # The reader is gone, the disk is full: the others go on.

    def stop(self, deadline: float) -> None:
        """Write what is queued until ``deadline`` (of ``time.monotonic``)."""
        try:
            self.lines.put(_STOP, timeout=max(0.0, deadline - time.monotonic()))
        except queue.Full:
            return
        self.join(max(0.0, deadline - time.monotonic()))


class _Descriptor:
    """A file descriptor to which lines are written whole, or at least each on a line of its own."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._torn = False

    def write(self, line: bytes) -> None:
        """Write a line. Raises ``OSError``; what follows half a line then begins a new one."""
        data = b"\n" + line if self._torn else line
        sent = 0
        try:
            while sent < len(data):
                sent += os.write(self.fd, data[sent:])
        finally:
            self._torn = sent < len(data) and (sent > 0 or self._torn)


class _File:
    """A log file that makes room for itself: ``x.log`` becomes ``x.log.1``, and so on."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._out = _Descriptor(_open(path))

    def write(self, line: bytes) -> None:
        status = os.fstat(self._out.fd)
        if status.st_nlink == 0:  # Somebody removed it.
            self._switch(_open(self._path))
        elif status.st_size + len(line) > FILE_BYTES_MAX:
            self._rotate()
        self._out.write(line)

    def _rotate(self) -> None:
        """Move the files on by one; where that is not possible, go on in the one that is open.

        The next file is made first: on a full disk nothing is moved, line after line, out of reach.
        """
        fresh = self._path.with_name(f"{self._path.name}.next")
        try:
            fd = _open(fresh)
        except OSError:
            return
        try:
            for number in range(FILES_KEPT - 1, 0, -1):
                if self._numbered(number).exists():
                    self._numbered(number).replace(self._numbered(number + 1))
            self._path.replace(self._numbered(1))
            fresh.replace(self._path)
        except OSError:
            os.close(fd)
            return
        self._switch(fd)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _switch(self, fd: int) -> None:
        self.close()
        self._out = _Descriptor(fd)

    def close(self) -> None:
        os.close(self._out.fd)


def _open(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


class _Stream:
    """A standard stream, by its descriptor: a thread stuck in it holds no lock that others need.

    A stream that has no descriptor (replaced by a test or an embedding program) is written to as
    is.
    """

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self._stream = stream
        self._out: _Descriptor | None = None
        try:
            self._out = _Descriptor(stream.fileno())
        except (io.UnsupportedOperation, ValueError, AttributeError):
            return

    def write(self, line: bytes) -> None:
        if self._out is not None:
            self._out.write(line)
        else:
            self._stream.write(line.decode())
            self._stream.flush()

    def close(self) -> None:
        """Streams are not ours to close."""


class Logs:
    """The running outlets; ``stop`` writes what is queued."""

    def __init__(self, outlets: Sequence[_Outlet], handler: logging.Handler) -> None:
        """Keep what ``stop`` has to undo."""
        self._outlets = outlets
        self._handler = handler

    @property
    def problem(self) -> str:
        """Why the log file cannot be written; empty when it can."""
        return next((o.failed for o in self._outlets if o.name == "log-file"), "")

    def stop(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, for at most ``timeout_s`` seconds, and let go of the file."""
        logging.getLogger(NAME).removeHandler(self._handler)
        deadline = time.monotonic() + timeout_s
        for outlet in self._outlets:
            outlet.stop(deadline)


def start(*, label: str, file: Path | None, level: int = logging.INFO) -> Logs:
    """Begin to log. ``label`` (bot, mode, feed) stands in every line.

    Raises ``OSError`` if the file cannot be opened.
    """
    outlets: list[_Outlet] = []
    if file is not None:
        outlets.append(_Outlet(_File(file), level))
    streams: Sequence[tuple[str, TextIO | None, int]] = (
        ("out", sys.stdout, level),
        ("err", sys.stderr, logging.WARNING),
    )
    if sys.stdout and sys.stderr and sys.stdout.isatty() and sys.stderr.isatty():
        streams = streams[:1]  # One terminal: a person need not read every warning twice.
    # A process that was started with a closed stream has None in its place.
    outlets += [_Outlet(_Stream(n, stream), least) for n, stream, least in streams if stream]
    for outlet in outlets:
        outlet.start()
    handler = _Queue(outlets)
    handler.setFormatter(_Lines(label))
    root = logging.getLogger(NAME)
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False
    return Logs(outlets, handler)
