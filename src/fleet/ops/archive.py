"""What is inside a backup: how it is collected, packed, unpacked and proven.

A backup holds ``var/`` databases (copied by SQLite's own backup, never by ``cp``: a copied file of
a running writer is corrupt or behind), ``.env``, bots' own wallets, the logs of the last days,
``trades.csv`` and ``SHA256SUMS`` over all of it. Not in it: the raw tape, locks, code.

``prove`` is the only judge of a backup, when it is made and when it is restored: every sum, every
database's integrity, every journal folded to its last entry and its fills counted against
``trades.csv``. The fold is the engine's, handed in by the caller: this package may not import it.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from fleet.clock import NS_PER_DAY
from fleet.config import LEDGER_MODE
from fleet.domain.events import Event
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import Cash, Qty
from fleet.journal import database, fleet_file, store
from fleet.journal.database import JournalDamaged, JournalError
from fleet.journal.store import JournalReader
from fleet.ops.trades import count_trades, export_trades

SUMS: Final = "SHA256SUMS"
TRADES: Final = "trades.csv"
_MAGIC: Final = b"SQLite format 3\0"
_BLOCK: Final = 1 << 20


class ArchiveDamaged(Exception):  # noqa: N818 - named for what was found
    """A backup whose content is not what was put in; the text names what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What a journal's events add up to; ``anomaly`` is the fold's own objection, or empty."""

    fills: int
    cash: Cash
    positions: tuple[tuple[InstrumentId, Qty], ...]
    anomaly: str = ""


Fold = Callable[[Iterable[Event]], Folded]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalProof:
    """One journal of a backup, read to its end and folded."""

    name: str
    bot: str
    mode: str
    entries: int
    folded: Folded


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found to hold: files summed, databases sound, journals folded."""

    files: int
    databases: int
    journals: tuple[JournalProof, ...]

    @property
    def fills(self) -> int:
        """The fills of all bots' journals."""
        bots = (journal for journal in self.journals if journal.mode != LEDGER_MODE)
        return sum(journal.folded.fills for journal in bots)


def collect(root: Path, content: Path, *, now_ns: int, log_days: int) -> None:
    """Copy what belongs in a backup of ``root`` to the new directory ``content``.

    Raises ``JournalError`` for a database that is damaged or cannot be read, ``OSError``.
    """
    content.mkdir(mode=0o700)
    shutil.copyfile(root / ".env", content / ".env")
    for wallet in sorted((root / "wallets").glob("*.env")):
        target = content / wallet.relative_to(root)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(wallet, target)
    journals: list[Path] = []
    for source in sorted(_databases(root / "var")):
        target = content / source.relative_to(root)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if copy_database(source, target) == store.APPLICATION_ID:
            journals.append(target)
    for log in sorted(_recent(root / "logs", since_ns=now_ns - log_days * NS_PER_DAY)):
        target = content / log.relative_to(root)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            shutil.copy2(log, target)
        except FileNotFoundError:
            continue  # rotated away since it was listed; its successor is listed too
    readers = [JournalReader(path, immutable=True) for path in journals]
    try:
        export_trades(readers, content / TRADES)
    finally:
        for reader in readers:
            reader.close()
    lines = [f"{_sha256(path)}  {path.relative_to(content)}\n" for path in _files(content)]
    (content / SUMS).write_text("".join(lines), encoding="utf-8")


def copy_database(source: Path, target: Path) -> int:
    """Copy a database that may be written to at this moment; its application id.

    Raises ``JournalError`` if it cannot be read or the copy is not sound.
    """
    if source.stat().st_size == 0:
        # SQLite takes it for a new database; ours are made whole, so it was cut off.
        raise JournalDamaged(f"{source} is empty: it was cut off; {database.RESTORE_CURE}")
    with closing(database.connect(source, read_only=True)) as db:
        try:
            with closing(sqlite3.connect(target)) as copy:
                db.backup(copy)
        except sqlite3.Error as error:
            # Which side failed is in the error's words; a full disk can only be the target's.
            raise database.translate(error, target, f"copy {source} to") from error
    with closing(database.connect(target, read_only=True, immutable=True)) as db:
        try:
            database.integrity(db, target)
        except JournalDamaged as error:
            raise JournalDamaged(f"{source}: {error}") from error
        return database.identity(db)[0]


def pack(content: Path, tar: Path) -> None:
    """Put all files of ``content`` into one tar file, without this machine's user names."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mode = 0o600
        return member

    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in _files(content):
            name = str(path.relative_to(content))
            archive.add(path, arcname=name, recursive=False, filter=anonymous)


def unpack(tar: Path, tree: Path) -> None:
    """Unpack ``tar`` into the new directory ``tree``: plain files only, 0600, inside it.

    Raises ``ArchiveDamaged`` for anything a backup of ours does not contain.
    """
    tree.mkdir(mode=0o700)
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                source = archive.extractfile(member) if member.isreg() else None
                if source is None or name.is_absolute() or ".." in name.parts:
                    raise ArchiveDamaged(f"{member.name!r} does not belong in a backup")
                target = tree / name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with target.open("xb") as file:
                    target.chmod(0o600)
                    shutil.copyfileobj(source, file, _BLOCK)
    except (tarfile.TarError, FileExistsError, EOFError) as error:
        raise ArchiveDamaged(f"the archive inside cannot be read: {error}") from error


def prove(tree: Path, fold: Fold) -> Proof:
    """Prove an unpacked backup. Raises ``ArchiveDamaged`` naming the first thing that fails."""
    _check_sums(tree)
    databases = sorted(_databases(tree / "var"))
    proofs: list[JournalProof] = []
    try:
        for path in databases:
            with closing(database.connect(path, read_only=True, immutable=True)) as db:
                database.integrity(db, path)
                application_id = database.identity(db)[0]
            if application_id == store.APPLICATION_ID:
                proofs.append(fold_journal(path, fold, name=str(path.relative_to(tree))))
            elif application_id == fleet_file.APPLICATION_ID:
                _require_readable_latch(path)
    except JournalError as error:
        raise ArchiveDamaged(str(error)) from error
    _check_trades(tree / TRADES, proofs)
    return Proof(
        files=sum(1 for _ in _files(tree)), databases=len(databases), journals=tuple(proofs)
    )


def fold_journal(path: Path, fold: Fold, *, name: str) -> JournalProof:
    """Read a journal nobody writes to its end, checking every entry, and fold it.

    Raises ``JournalError``.
    """
    with JournalReader(path, immutable=True) as reader:
        count = 0

        def events() -> Iterator[Event]:
            nonlocal count
            for entry in reader.read():
                count = entry.seq
                yield entry.event

        folded = fold(events())
        if count != reader.last_seq:
            raise JournalDamaged(f"{name}: the fold stopped at {count} of {reader.last_seq}")
        return JournalProof(
            name=name, bot=reader.bot, mode=reader.mode, entries=count, folded=folded
        )


def _require_readable_latch(path: Path) -> None:
    with closing(database.connect(path, read_only=True, immutable=True)) as db:
        database.require_identity(
            db,
            path,
            application_id=fleet_file.APPLICATION_ID,
            version=fleet_file.SCHEMA_VERSION,
            oldest=fleet_file.FIRST_SCHEMA,
        )


def _check_sums(tree: Path) -> None:
    sums = tree / SUMS
    if not sums.is_file():
        raise ArchiveDamaged(f"it has no {SUMS}: it is no backup of a fleet")
    expected: dict[str, str] = {}
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        expected[name] = digest
    found = {str(path.relative_to(tree)): path for path in _files(tree) if path != sums}
    if odd := sorted(expected.keys() ^ found.keys()):
        raise ArchiveDamaged(f"{odd[0]} is in only one of the archive and its {SUMS}")
    for name, path in found.items():
        if _sha256(path) != expected[name]:
            raise ArchiveDamaged(f"{name} is not what {SUMS} says")


def _check_trades(path: Path, proofs: list[JournalProof]) -> None:
    exported = dict(count_trades(path)) if path.is_file() else {}
    folded: dict[tuple[str, str], int] = {}
    for proof in proofs:
        if proof.mode == LEDGER_MODE:
            continue
        key = (proof.bot, proof.mode)
        folded[key] = folded.get(key, 0) + proof.folded.fills
    folded = {key: fills for key, fills in folded.items() if fills}
    if exported != folded:
        raise ArchiveDamaged(f"{TRADES} counts fills {exported}, the journals fold to {folded}")


def _databases(var: Path) -> Iterator[Path]:
    """Every SQLite file below ``var``, and every ``*.db`` that ought to be one."""
    for path in _files(var):
        hidden = any(part.startswith(".") for part in path.relative_to(var).parts)
        if not hidden and (path.suffix == ".db" or _starts_with(path, _MAGIC)):
            yield path


def _recent(logs: Path, *, since_ns: int) -> Iterator[Path]:
    for path in _files(logs):
        try:
            if path.stat().st_mtime_ns >= since_ns:
                yield path
        except FileNotFoundError:
            continue  # rotated away since it was listed


def _files(root: Path) -> Iterator[Path]:
    """All regular files below ``root``, in a fixed order; links are not followed."""
    if root.is_dir():
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path


def _starts_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except FileNotFoundError:
        return False  # a side file of a database that was just closed


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
