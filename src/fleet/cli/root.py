"""Where this fleet lives: ``var/``, ``logs/``, ``backups/`` and ``.env`` are found from here."""

from __future__ import annotations

import os
from pathlib import Path

import fleet


def fleet_root() -> Path:
    """``FLEET_HOME`` if set, otherwise the directory that holds ``src``."""
    home = os.environ.get("FLEET_HOME")
    return Path(home).absolute() if home else Path(fleet.__file__).resolve().parents[2]
