"""What ``backup.sh`` needs to know, apart from its code so that naming a setting stays cheap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet import config
from fleet.config import setting


def _at_least_one(value: str) -> int:
    number = config.count(value)
    if number < 1:
        raise ValueError("expected a whole number of at least 1")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSettings:
    """Where backups go, how many stay, and what seals them. Relative paths start at the root."""

    passphrase_file: Path = setting(
        "BACKUP_PASSPHRASE_FILE",
        config.path,
        Path(),
        "the file, mode 0600, whose first line is the passphrase of backups",
    )
    directory: Path = setting("BACKUP_DIR", config.path, "backups", "where backups go")
    keep: int = setting("BACKUP_KEEP", _at_least_one, "14", "how many of the newest backups stay")
