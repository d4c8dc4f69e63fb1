"""The backup: collect, pack, seal, open again and prove, then give it its name; keep N.

A file called ``fleet-<time>.tar.gpg`` is a proven backup, always: until it was decrypted, summed,
checked and folded it is called ``.partial``, and whatever interrupts a run (a signal, ``kill -9``,
a full disk) leaves no final file and nothing the next run does not clean up. Plaintext is staged
under ``var/`` only (0700), where its originals are, never in the backup directory, which may be
another machine's disk. One run at a time: the lock is ``var/locks/backup.lock``.

Nothing here prints; the caller gets a value or one ``BackupError`` with its exit code.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fleet import config
from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.journal import locks
from fleet.journal.database import (
    JournalError,
    JournalFull,
    JournalReadOnly,
    sync_directory,
)
from fleet.ops import archive
from fleet.ops.archive import ArchiveDamaged, Fold, Proof
from fleet.ops.backup_settings import BackupSettings
from fleet.ops.gpg import (
    GpgError,
    GpgMissing,
    GpgNoSpace,
    PassphraseFileError,
    SealBroken,
    WrongPassphrase,
    check_passphrase_file,
    private_gpg,
)

EX_DATAERR: Final = 65
EX_UNAVAILABLE: Final = 69
EX_CANTCREAT: Final = 73
EX_TEMPFAIL: Final = 75
EX_CONFIG: Final = 78

LOG_DAYS: Final = 7
_NAME: Final = re.compile(r"fleet-\d{8}T\d{6}\.\d{3}Z\.tar\.gpg")
_STAGE: Final = ".fleet-backup-stage-"


class BackupError(Exception):
    """A backup or restore that did not happen; ``exit_code`` is one of ``sysexits.h``."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupMade:
    """A finished backup: its file, size in bytes, what was proven of it, and how many went."""

    path: Path
    size: int
    proof: Proof
    removed: int


def settings_from(root: Path, env: Mapping[str, str]) -> BackupSettings:
    """Read ``BACKUP_*`` from ``env``, with absolute paths and a checked passphrase file.

    Raises ``BackupError`` (78) with every problem at once.
    """
    problems: list[str] = []
    settings = BackupSettings()
    try:
        settings = config.load(BackupSettings, env)
    except config.ConfigError as error:
        problems.extend(error.problems)
    named = env.get("BACKUP_PASSPHRASE_FILE", "").strip()
    passphrase_file = root / config.path(named)
    if not named:
        problems.append(
            "BACKUP_PASSPHRASE_FILE is not set: name in .env a file, mode 0600, whose first line is"
            " the passphrase, made with (umask 077; head -c 32 /dev/urandom | base64 > FILE), and"
            " keep a copy of it off this machine"
        )
    else:
        try:
            check_passphrase_file(passphrase_file)
        except PassphraseFileError as error:
            problems.append(str(error))
    if problems:
        raise BackupError(EX_CONFIG, "; ".join(problems))
    return replace(settings, passphrase_file=passphrase_file, directory=root / settings.directory)


def create(root: Path, settings: BackupSettings, fold: Fold, *, now_ns: int) -> BackupMade:
    """Make one proven backup of the fleet at ``root`` and let older ones beyond ``keep`` go.

    Raises ``BackupError``; then no new file has a final name and no old one went.
    """
    if not (root / ".env").is_file():
        raise BackupError(EX_CONFIG, f"there is no {root / '.env'}; run: make setup")
    with _alone(root), _told():
        _clean(root / "var", settings.directory)
        settings.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        final = settings.directory / _name(now_ns)
        if final.exists():
            raise BackupError(EX_CANTCREAT, f"{final} is there already; run it again")
        partial = final.with_name(f"{final.name}.partial")
        with (
            _stage(root / "var") as stage,
            private_gpg(settings.passphrase_file, _gpg_prefix(root)) as gpg,
        ):
            archive.collect(root, stage / "content", now_ns=now_ns, log_days=LOG_DAYS)
            archive.pack(stage / "content", stage / "plain.tar")
            shutil.rmtree(stage / "content")
            try:
                gpg.seal(stage / "plain.tar", partial)
                (stage / "plain.tar").unlink()
                gpg.unseal(partial, stage / "again.tar")
                archive.unpack(stage / "again.tar", stage / "again")
                proof = archive.prove(stage / "again", fold)
                _sync(partial)
                size = partial.stat().st_size
                partial.rename(final)
            finally:
                partial.unlink(missing_ok=True)
            sync_directory(settings.directory)
        return BackupMade(path=final, size=size, proof=proof, removed=_prune(settings, final))


def verify(root: Path, file: Path, passphrase_file: Path, fold: Fold) -> Proof:
    """Open ``file`` in private and prove it, leaving nothing. Raises ``BackupError``."""
    with _alone(root), _told():
        _clean(root / "var", None)
        with _stage(root / "var") as stage:
            return _open_and_prove(root, file, passphrase_file, fold, stage / "tree")


def restore(root: Path, file: Path, to: Path, passphrase_file: Path, fold: Fold) -> Proof:
    """Bring ``file`` back as the directory ``to``, which must be new or empty.

    ``to`` appears whole and proven, or not at all. Raises ``BackupError``.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise BackupError(
            EX_CANTCREAT, f"{to} is not empty; name a new directory, nothing is ever overwritten"
        )
    with _alone(root), _told():
        parent = to.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        _clean(parent, None)
        with _stage(parent) as stage:
            proof = _open_and_prove(root, file, passphrase_file, fold, stage / "tree")
            (stage / "tree").rename(to)
            sync_directory(parent)
        return proof


def _open_and_prove(root: Path, file: Path, passphrase_file: Path, fold: Fold, tree: Path) -> Proof:
    if not file.is_file():
        raise BackupError(EX_DATAERR, f"there is no backup {file}; see the backup directory")
    with private_gpg(passphrase_file, _gpg_prefix(root)) as gpg:
        tar = tree.with_name("plain.tar")
        gpg.unseal(file, tar)
        archive.unpack(tar, tree)
        tar.unlink()
    return archive.prove(tree, fold)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    try:
        lock = locks.acquire(root / "var" / "locks" / "backup.lock")
    except locks.TwinRunning as error:
        raise BackupError(EX_TEMPFAIL, f"another backup or restore is running: {error}") from error
    except locks.LockError as error:
        raise BackupError(EX_CANTCREAT, str(error)) from error
    with lock:
        yield


@contextmanager
def _told() -> Iterator[None]:
    """Turn what can go wrong into one ``BackupError`` with its exit code."""
    try:
        yield
    except PassphraseFileError as error:
        raise BackupError(EX_CONFIG, str(error)) from error
    except GpgMissing as error:
        raise BackupError(EX_UNAVAILABLE, str(error)) from error
    except (GpgNoSpace, JournalFull, JournalReadOnly) as error:
        raise BackupError(EX_CANTCREAT, str(error)) from error
    except (WrongPassphrase, SealBroken, ArchiveDamaged, JournalError) as error:
        raise BackupError(EX_DATAERR, str(error)) from error
    except GpgError as error:
        raise BackupError(EX_UNAVAILABLE, str(error)) from error
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        where = f" {error.filename}" if error.filename else ""
        cure = "free space on its disk" if full else "correct the path or its permissions"
        raise BackupError(
            EX_CANTCREAT, f"cannot use{where}: {error.strerror or error}; {cure}"
        ) from error


@contextmanager
def _stage(parent: Path) -> Iterator[Path]:
    """A private directory that goes away with the block; a killed run's is cleaned by the next."""
    stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=parent))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _clean(staging: Path, directory: Path | None) -> None:
    """Remove what a killed run left; the lock says that nobody is using it."""
    for stale in staging.glob(f"{_STAGE}*"):
        shutil.rmtree(stale)
    for partial in directory.glob("fleet-*.partial") if directory else ():
        if _NAME.fullmatch(partial.name.removesuffix(".partial")):
            partial.unlink()


def _prune(settings: BackupSettings, newest: Path) -> int:
    """Remove the oldest backups beyond ``keep``, never the one just made; how many went."""
    older = sorted(
        path
        for path in settings.directory.iterdir()
        if _NAME.fullmatch(path.name) and path != newest
    )
    gone = older[: max(0, len(older) + 1 - settings.keep)]
    for path in gone:
        path.unlink()
    return len(gone)


def _name(now_ns: int) -> str:
    moment = datetime.fromtimestamp(now_ns // NS_PER_SECOND, UTC)
    ms = now_ns % NS_PER_SECOND // NS_PER_MS
    return f"fleet-{moment:%Y%m%dT%H%M%S}.{ms:03d}Z.tar.gpg"


def _gpg_prefix(root: Path) -> str:
    return f"fleet-gpg-{hashlib.sha256(bytes(root.resolve())).hexdigest()[:12]}-"


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
