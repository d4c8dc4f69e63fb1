"""Files as QuantConnect's Lean engine keeps US stocks: a zip with one CSV, no header.

Prices are dollars times 10,000 and times are New York's. A minute file is one day and its name
tells which (``20131004_trade.zip``: milliseconds since midnight, open, high, low, close, shares);
a daily or hourly file is the whole history (``spy.zip``: ``yyyyMMdd HH:mm``). In quote files each
minute has the bars of the bid and of the ask with their sizes; they become candles of the middle
without a volume, and a minute with one side missing is left out: its middle is unknown.
(Lean, Data/equity/readme.md, read 2026-11.)
"""

from __future__ import annotations

import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from fleet.research.candle_rows import Rows
from fleet.research.intervals import NEW_YORK, SECOND, CandlesError, to_utc
from fleet.research.series import Floats, Times

PRICE_SCALE: Final = 10_000
_DAY_FILE: Final = re.compile(r"(\d{8})_(trade|quote)\.zip", re.IGNORECASE)
_TRADE, _QUOTE = 6, 11


def is_day_file(path: Path) -> bool:
    """Whether the name is one of a minute file."""
    return _DAY_FILE.fullmatch(path.name) is not None


def day_files(folder: Path, kind: str = "trade") -> list[Path]:
    """The minute files of one kind in a folder, oldest first."""
    found = ((_DAY_FILE.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(path for match, path in found if match is not None and match[2] == kind)


def is_lean(first_line: str) -> bool:
    """Whether a line of a CSV is one of Lean's: whole numbers, as many as a bar has."""
    fields = first_line.strip().split(",")
    time, *rest = fields
    written = bool(re.fullmatch(r"\d{8} \d{2}:\d{2}", time))
    since_midnight = time.isdigit() and int(time) < 86_400_000
    whole = all(re.fullmatch(r"\d*(\.0+)?", field) for field in rest)
    return (written or since_midnight) and whole and len(fields) in {_TRADE, _QUOTE}


def read_lean(path: Path, body: bytes) -> Rows:
    """The bars of one Lean CSV; the day of a minute file comes from the name of ``path``.

    Raises ``CandlesError`` if a row is not one of its format.
    """
    try:
        table = pl.read_csv(body, has_header=False, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise CandlesError(f"{path} is no Lean file: {error}") from error
    if table.width not in {_TRADE, _QUOTE}:
        raise CandlesError(f"{path} has {table.width} columns; Lean writes {_TRADE} or {_QUOTE}")
    try:
        local = _local(path, table.to_series(0))
        numbers = [table.to_series(n).cast(pl.Float64).to_numpy() for n in range(1, table.width)]
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise CandlesError(f"{path} is no Lean file: {error}") from error
    ts = to_utc(local, NEW_YORK)
    if table.width == _TRADE:
        prices = [number / PRICE_SCALE for number in numbers[:4]]
        return Rows.of(ts, [*prices, numbers[4]])
    return _middles(ts, numbers)


def read_lean_zip(path: Path) -> Rows:
    """The bars of a zip with one CSV. Raises ``CandlesError`` for a file that is none."""
    return read_lean(path, unzip_one(path))


def unzip_one(path: Path) -> bytes:
    """What the one file in a zip holds. Raises ``CandlesError`` for any other zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if len(names) != 1:
                raise CandlesError(f"{path} holds {len(names)} files; one CSV was expected")
            return archive.read(names[0])
    except (zipfile.BadZipFile, OSError) as error:
        raise CandlesError(f"{path} cannot be read as a zip: {error}") from error


def _local(path: Path, times: pl.Series) -> Times:
    if is_day_file(path):
        day = path.name[:8]
        midnight = int(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp())
        passed = times.cast(pl.Int64).to_numpy()
        return np.asarray(midnight * SECOND + passed * 1_000_000, dtype=np.int64)
    written = times.str.to_datetime("%Y%m%d %H:%M", time_unit="ns", strict=True)
    return np.asarray(written.cast(pl.Int64).to_numpy(), dtype=np.int64)


def _middles(ts: Times, numbers: list[Floats]) -> Rows:
    """Candles of the middle of bid and ask; highs and lows are those of each side's, halved."""
    bids, asks = numbers[:4], numbers[5:9]
    known = np.ones(len(ts), dtype=np.bool_)
    for side in (*bids, *asks):
        known &= np.isfinite(side) & (side > 0.0)
    middles = [
        ((bid + ask) / (2 * PRICE_SCALE))[known] for bid, ask in zip(bids, asks, strict=True)
    ]
    return Rows.of(ts[known], [*middles, np.zeros(int(known.sum()))])
