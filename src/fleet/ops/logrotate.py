"""Rotation of the log files PM2 writes: copy, truncate, compress, keep N.

PM2 keeps a bot's stdout and stderr open in append mode for as long as the bot lives, so those files
cannot be renamed: PM2 would go on writing into the renamed one. They are copied and truncated.
Nothing global is needed: no root, no cron, no logrotate, no network. The bots' own files
(``arbhunter.log``) are rotated by the bots and never touched here.

Invariants. What was in the file is in an archive, at least once: a crash between copy and truncate
repeats lines, it loses none. The one gap is that of every copy-and-truncate: a line PM2 writes in
the microseconds between the last read and the truncation is lost. Archives are
``NAME.1.gz`` (newest) to ``NAME.<keep>.gz``, mode 0600. A failure of one file is reported and does
not stop the others.
"""

import gzip
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

PATTERNS: Final = ("*-out.log", "*-error.log")
COPY_BYTES: Final = 1 << 20
SIZE: Final = re.compile(r"(\d+)([KMG]?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a file is rotated and how many archives of it stay."""

    max_bytes: int = 10 * 2**20
    keep: int = 7

    def __post_init__(self) -> None:
        """Raise ValueError for a policy that would rotate always or keep nothing."""
        if self.max_bytes < 1 or self.keep < 1:
            raise ValueError("rotation needs a size of at least 1 byte and at least 1 archive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one pass did: rotated files, and failures as (file, reason)."""

    rotated: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]


def parse_size(text: str) -> int:
    """Parse ``500``, ``64K``, ``10M`` or ``1G`` into bytes; raises ValueError with the cure."""
    match = SIZE.fullmatch(text.strip().upper())
    if match is None:
        raise ValueError(f"size {text!r}: write a whole number with K, M or G, like 10M")
    return int(match[1]) << 10 * " KMG".index(match[2] or " ")


def rotate_folder(folder: Path, policy: Policy) -> Report:
    """Rotate each of PM2's log files in ``folder`` that has outgrown the policy."""
    rotated: list[Path] = []
    failed: list[tuple[Path, str]] = []
    for path in sorted(path for pattern in PATTERNS for path in folder.glob(pattern)):
        try:
            _finish_interrupted(path, policy)
            if path.stat().st_size >= policy.max_bytes:
                _rotate(path, policy)
                rotated.append(path)
        except OSError as error:
            failed.append((path, f"{error.strerror or error}"))
    return Report(rotated=tuple(rotated), failed=tuple(failed))


def _copy_path(path: Path) -> Path:
    return path.with_name(path.name + ".rotating")


def _rotate(path: Path, policy: Policy) -> None:
    copy = _copy_path(path)
    try:
        _copy_and_truncate(path, copy)
    except OSError:
        # A full disk: the log is untouched, so the half copy is worth nothing.
        copy.unlink(missing_ok=True)
        raise
    _archive(path, copy, policy)


def _copy_and_truncate(path: Path, copy: Path) -> None:
    source = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        target = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while chunk := os.read(source, COPY_BYTES):
                _write_all(target, chunk)
            os.fsync(target)
            # The sync took its time: fetch what came meanwhile, then cut at once.
            while chunk := os.read(source, COPY_BYTES):
                _write_all(target, chunk)
            os.ftruncate(source, 0)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _write_all(fd: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]


def _finish_interrupted(path: Path, policy: Policy) -> None:
    """Archive the copy a killed pass left behind; it may hold lines that are nowhere else."""
    copy = _copy_path(path)
    if copy.exists():
        _archive(path, copy, policy)


def _archive(path: Path, copy: Path, policy: Policy) -> None:
    """Compress ``copy`` as the newest archive, moving the older ones up by one."""
    partial = path.with_name(path.name + ".gz.partial")
    with copy.open("rb") as source, _create(partial) as raw, gzip.GzipFile(
        filename="", mode="wb", compresslevel=6, fileobj=raw
    ) as target:  # fmt: skip
        shutil.copyfileobj(source, target, COPY_BYTES)
    for number in range(policy.keep, 0, -1):
        older = path.with_name(f"{path.name}.{number}.gz")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}.gz"))
    partial.replace(path.with_name(f"{path.name}.1.gz"))
    copy.unlink()
    for extra in path.parent.glob(f"{path.name}.*.gz"):
        number_text = extra.name.removeprefix(path.name + ".").removesuffix(".gz")
        if number_text.isdigit() and int(number_text) > policy.keep:
            extra.unlink()


def _create(path: Path) -> BinaryIO:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    return os.fdopen(fd, "wb")
