"""Make, verify or restore an encrypted backup of the fleet (what backup.sh runs).

A backup is one gpg file (AES256) with the databases under var/, .env, the logs of the last 7 days,
trades.csv and SHA256SUMS. It gets its final name only after it was decrypted, checked and every
journal folded.

settings, in .env or the environment:
  BACKUP_PASSPHRASE_FILE  file, mode 0600, whose first line is the passphrase (no default)
  BACKUP_DIR              where backups go (default: backups)
  BACKUP_KEEP             how many of the newest stay (default: 14)

exit codes:
   0  done: the backup is made, or proven, or brought back
   2  wrong arguments
  65  a backup or a database is damaged or truncated, or the passphrase is wrong
  69  something is missing: gpg, or the .venv (run: make setup)
  73  cannot write: disk full, permissions, or the target directory is not empty
  75  another backup or restore is running
  78  a setting is wrong or missing, or the passphrase file is not private
 130, 143, 129  interrupted by SIGINT, SIGTERM, SIGHUP; nothing was left
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Final

from dotenv import dotenv_values

from fleet.cli.root import fleet_root
from fleet.clock import LiveClock
from fleet.config import LEDGER_MODE, ConfigError, Paths, read_env_file
from fleet.domain.events import Event
from fleet.domain.units import format_dollars, format_units
from fleet.engine import state
from fleet.ops import backup
from fleet.ops.archive import Folded, JournalProof, Proof
from fleet.ops.backup import BackupError

_STOPPED_BY: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet backup`` takes."""
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--restore", metavar="FILE", type=Path, help="bring this backup back")
    action.add_argument("--verify", metavar="FILE", type=Path, help="prove this backup")
    parser.add_argument(
        "--to", metavar="DIR", type=Path, help="where --restore puts it: a new or empty directory"
    )
    parser.add_argument(
        "--passphrase-file",
        metavar="FILE",
        type=Path,
        help="instead of BACKUP_PASSPHRASE_FILE, for a machine that has no .env yet",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it; one line on success, one on failure. Returns the exit code."""
    if (arguments.restore is None) != (arguments.to is None):
        print("backup failed: --restore FILE and --to DIR belong together", file=sys.stderr)
        return 2
    for number in _STOPPED_BY:
        signal.signal(number, _stop)
    started = time.monotonic()
    doing = "restore" if arguments.restore else "verify" if arguments.verify else "backup"
    try:
        done = _act(arguments, fleet_root())
    except BackupError as error:
        print(f"{doing} failed: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    print(f"{done}, {time.monotonic() - started:.1f} s")
    return 0


def _act(arguments: argparse.Namespace, root: Path) -> str:
    try:
        env = read_env_file(Paths(root=root).env_file, _parse_env)
    except ConfigError as error:
        raise BackupError(backup.EX_CONFIG, "; ".join(error.problems)) from error
    env.update(os.environ)
    if arguments.passphrase_file is not None:
        env["BACKUP_PASSPHRASE_FILE"] = str(arguments.passphrase_file.absolute())
    settings = backup.settings_from(root, env)
    if arguments.verify is not None:
        proof = backup.verify(root, arguments.verify, settings.passphrase_file, fold_events)
        _print_journals(proof)
        return f"verify: {arguments.verify} holds: {_counts(proof)}"
    if arguments.restore is not None:
        proof = backup.restore(
            root, arguments.restore, arguments.to, settings.passphrase_file, fold_events
        )
        _print_journals(proof)
        return f"restore: {arguments.to} from {arguments.restore}: {_counts(proof)}"
    made = backup.create(root, settings, fold_events, now_ns=LiveClock().now_ns())
    gone = f", {made.removed} old removed" if made.removed else ""
    return f"backup: {made.path} {_size(made.size)}, proven: {_counts(made.proof)}{gone}"


def _parse_env(file: Path) -> dict[str, str | None]:
    return dotenv_values(file, interpolate=False)


def fold_events(events: Iterable[Event]) -> Folded:
    """The engine's own fold, as the proof of a journal."""
    folded = state.fold(events)
    portfolio = folded.portfolio
    return Folded(
        fills=len(portfolio.trades()),
        cash=portfolio.cash,
        positions=tuple(sorted((key, held.qty) for key, held in portfolio.positions.items())),
        anomaly=folded.anomaly,
    )


def describe(journal: JournalProof) -> str:
    """One journal's proof in one line."""
    folded = journal.folded
    # A venue's ledger names orders it was never told of as a bot's journal is.
    objects = bool(folded.anomaly) and journal.mode != LEDGER_MODE
    positions = ", ".join(f"{_short(key)} {format_units(qty)}" for key, qty in folded.positions)
    return (
        f"{journal.name}: {journal.bot} {journal.mode}, {journal.entries} entries,"
        f" {folded.fills} fills, cash {format_dollars(folded.cash)}, positions {positions or '-'}"
        + (f"; the fold objects: {folded.anomaly}" if objects else "")
    )


def _print_journals(proof: Proof) -> None:
    for journal in proof.journals:
        print(describe(journal))


def _counts(proof: Proof) -> str:
    return (
        f"{proof.files} files, {proof.databases} databases, {len(proof.journals)} journals,"
        f" {proof.fills} fills"
    )


def _short(instrument_id: str) -> str:
    """A token id of 77 digits, cut for a person."""
    return instrument_id if len(instrument_id) <= 16 else f"{instrument_id[:12]}…"


def _size(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB" if size >= 1_000_000 else f"{size / 1_000:.1f} kB"


def _stop(number: int, _frame: FrameType | None) -> None:
    """Leave through the ``finally`` blocks, which remove what is half done."""
    print(f"backup failed: interrupted by {signal.Signals(number).name}", file=sys.stderr)
    raise SystemExit(128 + number)
