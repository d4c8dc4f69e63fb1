"""One process per name: a kernel ``flock`` that dies with its holder.

PM2 can leave an untracked twin of a bot behind (overlapping restarts, a daemon without ``ps``), so
every bot takes ``var/locks/<bot>.lock`` before anything else and exits 75 if another holds it. The
kernel drops the lock when the process ends, however it ends: there is no stale lock to clean up.
The file's text (the holder's pid) only serves the message; it proves nothing and is never trusted.

The descriptor is not inheritable, so programs started by the bot do not keep the lock alive. A
child made by ``fork`` without ``exec`` shares it: close it there.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

EXIT_TWIN: Final = 75
"""EX_TEMPFAIL of sysexits.h; in ``stop_exit_codes`` of the PM2 file, so PM2 leaves a twin down."""

_POLL_S: Final = 0.05


class LockError(Exception):
    """The lock file cannot be made or opened; the text names the cure."""


class TwinRunning(LockError):  # noqa: N818 - named for what was found
    """Another live process holds the lock. ``pid`` is what it wrote there, 0 if unreadable."""

    def __init__(self, path: Path, pid: int) -> None:
        """Name the lock and its holder."""
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{who} already holds {path}: it is running; stop it first, or leave it alone"
        )
        self.path = path
        self.pid = pid


class Lock:
    """A held lock. ``release`` it or use it as a context manager; releasing twice is harmless."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: Path, fd: int) -> None:
        """Take over ``fd``, which holds the lock on ``path``."""
        self.path = path
        self._fd = fd

    def release(self) -> None:
        """Give the lock back. The file stays: unlinking it would let two processes hold one."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def fileno(self) -> int:
        """The descriptor that holds the lock; -1 when released."""
        return self._fd

    def __enter__(self) -> Self:
        """Hold it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release it."""
        self.release()


def acquire(path: Path, wait_s: float = 0.0) -> Lock:
    """Take the lock on ``path`` (made 0600 if missing), waiting up to ``wait_s`` seconds.

    A short wait lets a dying predecessor go. Raises ``TwinRunning`` if it is still held then, and
    ``LockError`` if the file cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LockError(
            f"cannot open the lock {path}: {error.strerror}; make its directory writable for"
            " the user who runs the fleet"
        ) from error
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                pid = _holder(fd)
                os.close(fd)
                raise TwinRunning(path, pid) from None
            time.sleep(_POLL_S)
        except OSError as error:
            os.close(fd)
            raise LockError(
                f"cannot lock {path}: {error.strerror}; put var/ on a local disk that knows flock"
            ) from error
    _write_pid(fd)
    return Lock(path, fd)


def holder(path: Path) -> int | None:
    """The pid written by the live holder of ``path`` (0 if unreadable), or ``None`` if free.

    Looking takes the lock for an instant; a twin that starts in it waits ``wait_s`` as usual.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(fd)
    finally:
        os.close(fd)
    return None


def _holder(fd: int) -> int:
    text = os.pread(fd, 32, 0).split(b"\n", 1)[0].strip()
    return int(text) if text.isdigit() else 0


def _write_pid(fd: int) -> None:
    """Write our pid for the other's message; a full disk must not keep a bot from its lock."""
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except OSError:
        return
