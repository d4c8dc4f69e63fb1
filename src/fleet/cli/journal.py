"""Read a bot's journal: which facts it holds, in order, and what they add up to.

Names a file, or a bot (all its modes under var/journal). Reads beside a running bot without
disturbing it. Exit codes: 0 sound, 1 damaged or not readable, 2 no such journal.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from fleet.cli.backup import describe, fold_events
from fleet.cli.root import fleet_root
from fleet.domain.events import DURABLE, Event
from fleet.journal.database import JournalError
from fleet.journal.store import Entry, JournalReader
from fleet.ops.archive import JournalProof
from fleet.ops.trades import iso_utc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``fleet journal`` takes."""
    parser.add_argument("journal", metavar="FILE|BOT", help="a journal file, or a bot's name")
    parser.add_argument("--tail", metavar="N", type=int, help="only the last N that match")
    parser.add_argument("--kind", metavar="K", choices=sorted(DURABLE), help="only this kind")
    parser.add_argument(
        "--fold", action="store_true", help="check all entries, print what they add up to"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print entries or the fold. Returns the exit code."""
    paths = _paths(arguments.journal)
    if not paths:
        where = fleet_root() / "var" / "journal"
        known = ", ".join(path.name for path in sorted(where.glob("*.db"))) or "none yet"
        print(
            f"fleet journal: no journal {arguments.journal!r}; in {where}: {known}", file=sys.stderr
        )
        return 2
    try:
        for path in paths:
            with JournalReader(path) as reader:
                if arguments.fold:
                    reader.check()
                    print(describe(_proof(reader)))
                else:
                    _print_entries(reader, arguments.kind, arguments.tail)
    except JournalError as error:
        print(f"fleet journal: {error}", file=sys.stderr)
        return 1
    return 0


def _paths(name: str) -> list[Path]:
    if Path(name).is_file():
        return [Path(name)]
    if "/" in name:
        return []
    return sorted((fleet_root() / "var" / "journal").glob(f"{name.lower()}-*.db"))


def _print_entries(reader: JournalReader, kind: str | None, tail: int | None) -> None:
    wanted: Iterable[Entry] = (e for e in reader.read() if kind in {None, e.kind})
    if tail is not None:
        wanted = deque(wanted, maxlen=max(0, tail))
    for entry in wanted:
        body = msgspec.json.encode(entry.event).decode()
        cause = f" <- {entry.cause_seq}" if entry.cause_seq else ""
        print(f"{entry.seq}{cause} {iso_utc(entry.ts_recv)} {entry.run_id} {entry.kind} {body}")


def _proof(reader: JournalReader) -> JournalProof:
    entries = 0

    def events() -> Iterator[Event]:
        nonlocal entries
        for entry in reader.read():
            entries = entry.seq
            yield entry.event

    folded = fold_events(events())
    return JournalProof(
        name=str(reader.path), bot=reader.bot, mode=reader.mode, entries=entries, folded=folded
    )
