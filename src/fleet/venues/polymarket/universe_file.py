"""The catalogue of a recording, kept beside its tape, so that a replay knows fees, sets and
ladders.

``universe.json`` holds what was known when the recording began. A tape without one can still be
replayed (``recordings.infer_universe``), but then only as single markets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from fleet.domain.instruments import InstrumentError, Universe

NAME: Final = "universe.json"


class UniverseFileError(ValueError):
    """A saved universe that cannot be read or written; the text names the file."""


def save_universe(folder: Path, universe: Universe) -> Path:
    """Write ``universe`` into the folder of a tape, replacing an older one in one step."""
    file = folder / NAME
    part = file.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.encode(universe))
        part.replace(file)
    except OSError as error:
        raise UniverseFileError(f"cannot write {file}: {error}; choose another folder") from error
    return file


def find_universe(recording: Path) -> Universe | None:
    """The universe kept beside a recording; nothing if there is none.

    Raises ``UniverseFileError`` for one that is there and cannot be understood.
    """
    file = recording.parent / NAME
    try:
        return msgspec.json.decode(file.read_bytes(), type=Universe)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, InstrumentError) as error:
        raise UniverseFileError(
            f"cannot use {file}: {error}; move it away to replay single markets only"
        ) from error
