"""How long ArbHunter takes from its start to being ready, and how much memory it holds then.

The bot runs as PM2 runs it: over a socket pair in place of PM2's channel, on which it says
``"ready"`` when it really is. It runs in a temporary directory of its own, so that neither journals
nor logs of this checkout are touched; the sandbox is started too, unless one already listens.

Run by bench/run.py: ``process.py CHECKOUT STARTS``.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from timing import report

SANDBOX_PORT = 8788
READY_WITHIN_S = 30.0
SETTLED_AFTER_S = 10.0
STOPPED_WITHIN_S = 15.0


class NotReadyError(RuntimeError):
    """The program ended or stayed silent; the text says which, with its last words."""


@contextmanager
def started(command: Sequence[str], root: Path) -> Iterator[tuple[psutil.Process, float]]:
    """Run ``command`` in ``root``; give its process and the seconds until it said it was ready."""
    ours, theirs = socket.socketpair()
    log = root / "logs" / f"bench-{time.monotonic_ns()}.log"
    with ours, log.open("wb") as out:
        began = time.perf_counter()
        with theirs:
            child = subprocess.Popen(
                command,
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "NODE_CHANNEL_FD": str(theirs.fileno())},
            )
        try:
            seconds = _wait_ready(ours, child, log, began)
            yield psutil.Process(child.pid), seconds
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
                try:
                    child.wait(STOPPED_WITHIN_S)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def _wait_ready(
    channel: socket.socket, child: subprocess.Popen[bytes], log: Path, began: float
) -> float:
    heard = b""
    while b'"ready"\n' not in heard:
        left = began + READY_WITHIN_S - time.perf_counter()
        channel.settimeout(max(left, 0.001))
        try:
            part = channel.recv(65536)
        except TimeoutError:
            raise NotReadyError(
                f"not ready within {READY_WITHIN_S:.0f} s: {_last_words(log)}"
            ) from None
        if not part:
            code = child.wait(STOPPED_WITHIN_S)
            raise NotReadyError(f"ended with code {code}: {_last_words(log)}")
        heard += part
    return time.perf_counter() - began


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


@contextmanager
def temporary_checkout(checkout: Path) -> Iterator[Path]:
    """A directory with what a bot reads from its own, and nothing it has written before."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        root = Path(name)
        for script in checkout.glob("run_*.py"):
            shutil.copy(script, root / script.name)
        example = checkout / ".env.example"
        if example.exists():
            shutil.copy(example, root / ".env")
            (root / ".env").chmod(0o600)
        for folder in ("logs", "var"):
            (root / folder).mkdir(mode=0o700)
        yield root


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def sandbox(root: Path) -> Iterator[None]:
    """A sandbox on its usual port: the one that runs, or one for the time of the measurement."""
    if _listening(SANDBOX_PORT):
        yield
        return
    fleet = Path(sys.executable).with_name("fleet")
    with started([str(fleet), "sandbox", "--root", str(root)], root):
        yield


def main() -> None:
    """Start the bot STARTS times; print the median of the times and the memory of the last."""
    checkout, starts = Path(sys.argv[1]), int(sys.argv[2])
    if not (checkout / "run_arbhunter.py").exists():
        sys.exit("there is no run_arbhunter.py yet")
    seconds: list[float] = []
    rss_mb = 0.0
    try:
        with temporary_checkout(checkout) as root, sandbox(root):
            for number in range(starts):
                command = [sys.executable, str(root / "run_arbhunter.py"), "--mode", "paper",
                           "--feed", "sandbox"]  # fmt: skip
                with started(command, root) as (process, taken):
                    seconds.append(taken)
                    if number == starts - 1:
                        time.sleep(SETTLED_AFTER_S)
                        rss_mb = process.memory_info().rss / 2**20
    except NotReadyError as problem:
        sys.exit(f"{problem}")
    report({"ready_s": sorted(seconds)[len(seconds) // 2], "rss_mb": rss_mb, "starts": starts})


if __name__ == "__main__":
    main()
