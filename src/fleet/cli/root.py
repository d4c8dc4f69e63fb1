"""Where this fleet lives, from which everything else is found, and who is asking."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import fleet


def fleet_root() -> Path:
    """``FLEET_HOME`` if set, otherwise the directory that holds ``src``."""
    home = os.environ.get("FLEET_HOME")
    return Path(home).absolute() if home else Path(fleet.__file__).resolve().parents[2]


def operator() -> str:
    """Who is asking, for the history: the login name, or the user id if it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
