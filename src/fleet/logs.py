"""Log lines a person can grep: ``YYYY-MM-DD HH:MM:SS LEVEL [bot mode feed] MESSAGE key=value``.

One call of ``start`` per process sets two outlets, both behind a queue and a thread of their own so
that a full disk, a slow terminal or a hung PM2 daemon can never hold the bot up: the bot's own file
(rotated by size) and standard output. Warnings and errors also go to standard error, which PM2 keeps
apart. When the queue is full, lines are dropped and counted; the count is logged when there is room.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import sys
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

QUEUE_MAX: Final = 10_000
FILE_BYTES_MAX: Final = 10_000_000
FILES_KEPT: Final = 14
NAME: Final = "fleet"
_STOP: Final = None


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
    message = str(event.pop("event", ""))
    event.pop("component", None)
    exc_info = event.pop("exc_info", None)
    pairs = " ".join(f"{key}={_value(value)}" for key, value in event.items())
    line = f"{message} {pairs}" if pairs else message
    return (line.replace("\n", " | "),), {"exc_info": exc_info} if exc_info else {}


def _value(value: object) -> str:
    shown = str(value)
    return f'"{shown}"' if " " in shown or not shown else shown


class _Queue(logging.Handler):
    """Hands finished lines to the writer thread; never waits."""

    def __init__(self, writer: _Writer) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.put(record.levelno, self.format(record))


class _Writer(threading.Thread):
    """Writes lines to the file and the standard streams, and survives all of them failing."""

    def __init__(self, file: logging.handlers.RotatingFileHandler | None) -> None:
        super().__init__(name="log-writer", daemon=True)
        self.lines: queue.Queue[tuple[int, str] | None] = queue.Queue(QUEUE_MAX)
        self.dropped = 0
        self.failed = ""
        self._file = file

    def put(self, level: int, line: str) -> None:
        try:
            self.lines.put_nowait((level, line))
        except queue.Full:
            self.dropped += 1

    def run(self) -> None:
        while True:
            item = self.lines.get()
            if item is _STOP:
                break
            level, line = item
            if self.dropped and self.lines.qsize() < QUEUE_MAX // 2:
                line = f"{line}\n{self.dropped} log lines were dropped before this one"
                self.dropped = 0
            self._write_file(level, line)
            _write_stream(sys.stdout, line)
            if level >= logging.WARNING:
                _write_stream(sys.stderr, line)
        if self._file is not None:
            self._file.close()

    def _write_file(self, level: int, line: str) -> None:
        if self._file is None:
            return
        record = logging.LogRecord(NAME, level, "", 0, line, (), None)
        try:
            if self._file.shouldRollover(record):
                self._file.doRollover()
            stream = self._file.stream or self._file._open()  # noqa: SLF001 - after a failed roll
            self._file.stream = stream
            stream.write(f"{line}\n")
            stream.flush()
            self.failed = ""
        except OSError as error:
            self.failed = str(error)


def _write_stream(stream: TextIO, line: str) -> None:
    try:
        stream.write(f"{line}\n")
        stream.flush()
    except (OSError, ValueError):
        return  # The reader is gone (PM2 died); the file still has the line.


class Logs:
    """The running outlets; ``stop`` writes what is queued."""

    def __init__(self, writer: _Writer, handler: logging.Handler) -> None:
        """Keep what ``stop`` has to undo."""
        self._writer = writer
        self._handler = handler

    @property
    def problem(self) -> str:
        """Why the log file cannot be written; empty when it can."""
        return self._writer.failed

    def stop(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, for at most ``timeout_s`` seconds, and let go of the file."""
        logging.getLogger(NAME).removeHandler(self._handler)
        try:
            self._writer.lines.put(_STOP, timeout=timeout_s)
        except queue.Full:
            return
        self._writer.join(timeout_s)


def start(*, label: str, file: Path | None, level: int = logging.INFO) -> Logs:
    """Begin to log. ``label`` (bot, mode, feed) stands in every line.

    Raises ``OSError`` if the file cannot be opened.
    """
    rotating = None
    if file is not None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_APPEND, 0o600))
        rotating = logging.handlers.RotatingFileHandler(
            file, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8"
        )
    writer = _Writer(rotating)
    writer.start()
    handler = _Queue(writer)
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s %(levelname)s [{label}] %(message)s", "%Y-%m-%d %H:%M:%S")
    )
    root = logging.getLogger(NAME)
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False
    return Logs(writer, handler)
