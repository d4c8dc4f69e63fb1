"""What a bot knows when it starts: its journal folded, the first entries from a snapshot.

Theory of operation. A snapshot is a shortcut and never a source: it is always made from a journal
that was just folded, never from the state of a bot that trades, which may be an event ahead of
what was written. It is used only if it is whole, was folded by this very code (``stamp``), is of
this bot and mode, and the entry it ends at has the same checksum in the journal; the chain makes
that checksum stand for every entry before it. Then only later entries are read and proven. Any
doubt is told in the log and costs a full fold, nothing else.

``recover`` is how a bot starts and writes a new snapshot when it had to read many entries, before
trading begins. ``refresh`` does the same when a bot has ended, so that a long run's entries are not
left to the next start. Neither is ever called while a bot trades. Full proofs (backup, ``fleet
journal``) read everything and know no snapshots.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fleet import logs
from fleet.domain import commands, events, instruments, knowledge, units
from fleet.domain.instruments import Universe
from fleet.engine import (
    bundle,
    bundles,
    image,
    leader_holding,
    leaders,
    orders,
    portfolio,
    standing,
    state,
)
from fleet.engine.image import StateImage, image_of, restore
from fleet.engine.state import EMPTY_UNIVERSE, State
from fleet.journal import codec, snapshot, store
from fleet.journal.database import JournalDamaged, JournalError
from fleet.journal.snapshot import Head, SnapshotUnusableError
from fleet.journal.store import JournalReader
from fleet.runtime import memory

WORTH: Final = 20_000
"""Entries read at a start after which a new snapshot is written: some 0.2 s of folding, against
some 25 ms of writing for every 20,000 entries the journal has."""

MOST_AT_THE_END: Final = 300_000
"""New entries above which the next start has to do it: 3 s of the 15 s in which a bot must end,
of which its wind-down may take 7 (``fleet.runtime.shutdown``)."""

_FOLDING: Final = (
    units, instruments, commands, events, knowledge, portfolio, orders, bundle, bundles, standing,
    leader_holding, leaders, state, image, codec, store, snapshot,
)  # fmt: skip
"""The modules whose text decides what a journal folds to and how that is stored."""


def snapshot_path(journal: Path) -> Path:
    """Where the snapshot of a journal lies: beside it."""
    return journal.with_suffix(".snapshot")


def stamp(loaded_ns: int) -> str:
    """A name of this code's way to fold: of the sources of all modules that take part.

    Any edit of them gives another one, so that nobody can forget to change it. Empty, which no
    snapshot fits, if a source cannot be read or was changed after ``loaded_ns``, when this process
    had loaded it: then it does not say what runs here.
    """
    digest = hashlib.sha256()
    for module in _FOLDING:
        try:
            file = Path(module.__file__ or "")
            if file.stat().st_ctime_ns > loaded_ns:
                return ""
            digest.update(file.read_bytes())
        except OSError:
            return ""
        digest.update(module.__name__.encode())
    return digest.hexdigest()


def recover(
    journal: JournalReader, universe: Universe = EMPTY_UNIVERSE, *, loaded_ns: int | None = None
) -> State:
    """What ``journal`` folds to. Raises ``JournalError`` if what had to be read is not sound.

    ``loaded_ns`` is a time at which this process had loaded its code: its start, by default now.
    """
    log = logs.get("recovery")
    began = time.monotonic()
    mark = stamp(time.time_ns() if loaded_ns is None else loaded_ns)
    path = snapshot_path(journal.path)
    with memory.uncollected():
        known, seq = _remembered(journal, universe, path, mark)
        skipped = seq
        for entry in journal.read(seq):
            known.apply(entry.event)
            seq = entry.seq
        if mark and seq - skipped > WORTH:
            _keep(path, Head(bot=journal.bot, mode=journal.mode, stamp=mark, seq=seq,
                             crc=journal.crc_at(seq)), known)  # fmt: skip
    log.info("FOLDED the journal", entries=seq - skipped, from_snapshot=skipped,
             ms=int((time.monotonic() - began) * 1000))  # fmt: skip
    return known


def refresh(journal: Path, *, bot: str, mode: str, loaded_ns: int) -> None:
    """Bring the snapshot of a journal nobody writes any more up to date, if that is worth it.

    Not if the code was changed since ``loaded_ns``: the next start runs other code and folds anew.
    Never raises what is wrong with either: it logs that, and the next start will tell.
    """
    log = logs.get("recovery")
    mark = stamp(loaded_ns)
    if not mark or not journal.exists():
        return
    try:
        with JournalReader(journal, bot=bot, mode=mode) as reader:
            new = reader.last_seq - _covered(reader, mark)
            if WORTH < new <= MOST_AT_THE_END:
                recover(reader, loaded_ns=loaded_ns)
    except JournalError as error:
        log.warning("SNAPSHOT not written", reason=str(error))


def _covered(journal: JournalReader, mark: str) -> int:
    """Up to which entry there is a snapshot that fits, as far as its head can be believed."""
    try:
        head = snapshot.read_head(snapshot_path(journal.path))
    except SnapshotUnusableError:
        return 0
    return 0 if head is None or any(_doubts(head, journal, mark)) else head.seq


def _remembered(
    journal: JournalReader, universe: Universe, path: Path, mark: str
) -> tuple[State, int]:
    """The state of a fitting snapshot and the entry it ends at, or an empty state and 0."""
    try:
        found = snapshot.read(path)
        if found is None:
            return State(universe), 0
        reason = next(_doubts(found.head, journal, mark), "")
        if not reason:
            return restore(found.image(StateImage), universe), found.head.seq
    except KeyError as error:
        reason = f"it contradicts itself about {error}"
    except SnapshotUnusableError as error:
        reason = str(error)
    logs.get("recovery").warning(
        "SNAPSHOT not used: the whole journal is read", file=str(path), reason=reason
    )
    return State(universe), 0


def _doubts(head: Head, journal: JournalReader, mark: str) -> Iterator[str]:
    """What speaks against using a snapshot."""
    if (head.bot, head.mode) != (journal.bot, journal.mode):
        yield f"it is {head.bot}'s of {head.mode}, the journal {journal.bot}'s of {journal.mode}"
    if not mark:
        yield "the code on the disk is not the code that runs; restart the bot"
    if head.stamp != mark:
        yield "other code folded it"
    try:
        crc = journal.crc_at(head.seq)
    except JournalDamaged as error:
        yield str(error)
        return
    if crc != head.crc:
        yield f"entry {head.seq} of the journal is another one than when it was made"


def _keep(path: Path, head: Head, known: State) -> None:
    """Write a snapshot of what was just folded; failing costs the next start time, nothing else."""
    log = logs.get("recovery")
    try:
        snapshot.write(path, head, image_of(known))
    except SnapshotUnusableError as error:
        log.warning("SNAPSHOT not written", file=str(path), reason=str(error))
    else:
        log.info("SNAPSHOT written", file=str(path), entries=head.seq)
