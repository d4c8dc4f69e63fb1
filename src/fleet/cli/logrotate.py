"""Rotate the log files PM2 writes (logs/*-out.log, logs/*-error.log), once or for ever.

PM2 runs this as the application LogRotate, so that a machine without cron and logrotate keeps its
disk. It ends when it is told to, and when the PM2 daemon dies, since nobody then writes those
files.
"""

import argparse
import os
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Final

from fleet.cli.status import checkout
from fleet.journal import locks
from fleet.ops.logrotate import Policy, Report, parse_size, rotate_folder
from fleet.runtime import pm2

EX_CONFIG: Final = 78
TWIN_WAIT_S: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.add_argument("--every", type=float, default=0.0, metavar="SECONDS",
                        help="look again every so often (default: one pass)")  # fmt: skip
    parser.add_argument("--max-size", default="10M", metavar="SIZE",
                        help="rotate a file that has reached this, like 10M")  # fmt: skip
    parser.add_argument("--keep", type=int, default=7, metavar="N",
                        help="archives to keep of each file")  # fmt: skip
    parser.add_argument("--root", type=Path, default=checkout(), metavar="DIR",
                        help="the fleet's directory (default: this program's)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Rotate; 78 for a policy that makes no sense, 75 for a second watcher, 1 if a file failed."""
    try:
        policy = Policy(max_bytes=parse_size(arguments.max_size), keep=arguments.keep)
    except ValueError as error:
        print(f"fleet logrotate: {error}", file=sys.stderr)
        return EX_CONFIG
    lock_path = arguments.root / "var" / "locks" / "logrotate.lock"
    watching = arguments.every > 0
    try:
        lock = locks.acquire(lock_path, TWIN_WAIT_S if watching else 0.0)
    except locks.TwinRunning as error:
        if not watching:
            return 0  # LogRotate is at work already, which is all that was wanted.
        print(f"fleet logrotate: {error}", file=sys.stderr)
        return locks.EXIT_TWIN
    except locks.LockError as error:
        print(f"fleet logrotate: {error}", file=sys.stderr)
        return EX_CONFIG
    with lock:
        folder = arguments.root / "logs"
        if not watching:
            return 1 if _tell(rotate_folder(folder, policy)).failed else 0
        return _watch(folder, policy, arguments.every)


def _watch(folder: Path, policy: Policy, every_s: float) -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # Setting an event is safe in any thread, so no event loop is needed to dispatch.
    channel = pm2.connect(
        os.environ, dispatch=lambda call: call(), on_shutdown=stop.set, on_orphan=stop.set
    )
    archives = failures = 0
    while True:
        report = _tell(rotate_folder(folder, policy))
        archives, failures = archives + len(report.rotated), failures + len(report.failed)
        if channel is not None:
            channel.metrics({"rotated": archives, "failed": failures})
            channel.ready()
        if stop.wait(every_s):
            break
    if channel is not None:
        channel.close()
    return 0


def _tell(report: Report) -> Report:
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    for path in report.rotated:
        print(f"{now} rotated {path.name}", flush=True)
    for path, reason in report.failed:
        print(f"{now} could not rotate {path.name}: {reason}", file=sys.stderr, flush=True)
    return report
