"""Read candles from a file somebody has: what it is, is found out; what it lacks, is asked for.

Known are Parquet and Arrow/Feather tables, CSV with a header, Binance's own dumps (CSV without a
header, zipped or not), freqtrade's JSON, and Lean's zips of US stocks (one file, or a folder of
minute days). Symbol, exchange and interval come from the caller, from the file itself (what
``fleet candles`` wrote tells them), or from its name (``ETHUSDT_1h.parquet``,
``ETH_USDT-5m.feather``, ``BTCUSDT-1m-2024-01.zip``); the interval is checked against the times.

Times without a zone are UTC (Lean's are New York's). Nothing is sorted, dropped or filled here.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from fleet.research.candle_rows import Rows
from fleet.research.intervals import CandlesError, format_interval, parse_interval
from fleet.research.lean_files import (
    day_files,
    is_day_file,
    is_lean,
    read_lean,
    read_lean_zip,
    unzip_one,
)
from fleet.research.series import Times

FORMATS: Final = (
    "Parquet, Feather, CSV with a header, Binance's dumps, freqtrade's JSON, or Lean's zips"
)
TIME_NAMES: Final = ("ts", "timestamp", "open_time", "time", "date", "datetime", "opentime", "t")
_SHORT: Final = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
NUMBERS: Final = ("open", "high", "low", "close", "volume")
_NAMED: Final = re.compile(
    r"(?P<symbol>[A-Za-z0-9]+(?:_[A-Z]{3,5})?)[-_](?P<interval>\d{1,3}[smhdw])(?![A-Za-z0-9])"
)
_DUMP_COLUMNS: Final = 12
ALIKE: Final = 0.9
# A time is in the unit that puts it between 1990 and 2100.
_FIRST_S, _LAST_S = 631_152_000, 4_102_444_800
_SCALES: Final = (1_000_000_000, 1_000_000, 1_000, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCandles:
    """Rows as a file has them, and whose they are."""

    rows: Rows
    symbol: str
    exchange: str
    interval_ns: int
    source: str
    notes: tuple[str, ...] = ()


def read_file(
    path: Path, *, symbol: str = "", exchange: str = "", interval: str = ""
) -> FileCandles:
    """Read a file (or a folder of Lean's minute days), finding out what it is.

    What the caller names goes before what the file's name says. Raises ``CandlesError`` with the
    cure: no such file, no known format, a column missing, a symbol or interval nobody told.
    """
    if not path.exists():
        raise CandlesError(f"there is no {path}; give --data a file of candles ({FORMATS})")
    try:
        rows, told = _read(path)
    except (OSError, pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise CandlesError(f"{path} cannot be read: {error}") from error
    if not len(rows):
        raise CandlesError(f"{path} holds no bars")
    named = {**_named(path), **told}
    written = plain_symbol(named.get("symbol", ""))
    symbol = plain_symbol(symbol) or written
    if not symbol:
        raise CandlesError(f"the name of {path} tells no symbol; give it with --symbol")
    return FileCandles(
        rows=rows,
        symbol=symbol,
        exchange=(exchange or named.get("exchange", "") or "FILE").upper(),
        interval_ns=_interval(path, rows.ts, interval or named.get("interval", "")),
        source=told.get("source") or f"file:{path.name}",
        notes=(f"{path.name} is read as {symbol}, but tells {written}: is it the right file?",)
        if written not in {"", symbol}
        else (),
    )


def plain_symbol(text: str) -> str:
    """``ETH/USDT``, ``eth_usdt`` and ``ETHUSDT`` are one: letters and digits, in capitals."""
    return re.sub(r"[^A-Z0-9]", "", text.upper())


# --- formats -------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[Rows, dict[str, str]]:
    """The rows, and what the file itself tells of them."""
    if path.is_dir():
        return _folder(path)
    match path.suffix.lower():
        case ".parquet" | ".pq":
            told = {
                key.removeprefix("fleet."): value
                for key, value in pl.read_parquet_metadata(path).items()
                if key.startswith("fleet.")
            }
            return _table(path, pl.read_parquet(path)), told
        case ".feather" | ".arrow" | ".ipc":
            return _table(path, pl.read_ipc(path)), {}
        case ".csv" | ".txt":
            return _csv(path, path.read_bytes()), {}
        case ".json":
            return _json(path), {}
        case ".zip":
            body = unzip_one(path)
            if is_lean(body[:200].split(b"\n", 1)[0].decode("ascii", "replace")):
                return read_lean(path, body), _lean_names(path)
            return _csv(path, body), {}
    raise CandlesError(f"{path} is of no known format; known are {FORMATS}")


def _folder(path: Path) -> tuple[Rows, dict[str, str]]:
    days = day_files(path)
    if not days:
        raise CandlesError(f"the folder {path} has no Lean minute files such as 20131004_trade.zip")
    return Rows.joined([read_lean_zip(day) for day in days]), _lean_names(days[0])


def _lean_names(path: Path) -> dict[str, str]:
    """Lean's folders tell the symbol of a day and the interval of a history."""
    if is_day_file(path):
        return {"symbol": path.parent.name, "exchange": "ALPACA", "interval": "1m"}
    interval = {"daily": "1d", "hour": "1h"}.get(path.parent.name, "")
    return {"symbol": path.stem, "exchange": "ALPACA", "interval": interval}


def _table(path: Path, table: pl.DataFrame) -> Rows:
    """Rows of a table by the names of its columns, in any case."""
    by_name = {name.lower().strip().replace(" ", "_"): name for name in table.columns}
    time = next((by_name[name] for name in TIME_NAMES if name in by_name), None)
    found = [by_name.get(name) or by_name.get(_SHORT[name]) for name in NUMBERS]
    missing = [name for name, column in zip(NUMBERS, found, strict=True) if column is None]
    if time is None or missing:
        lacks = [*([] if time else [f"a time ({', '.join(TIME_NAMES)})"]), *missing]
        raise CandlesError(
            f"{path} has the columns {', '.join(table.columns)}; it lacks {', '.join(lacks)}"
        )
    try:
        columns = [
            table.get_column(column).cast(pl.Float64).fill_null(float("nan")).to_numpy()
            for column in found
            if column is not None
        ]
        return Rows.of(_times(path, table.get_column(time)), columns)
    except pl.exceptions.InvalidOperationError as error:
        raise CandlesError(f"{path} has a field that is no number: {error}") from error


def _times(path: Path, column: pl.Series) -> Times:
    """A column of times in any unit as nanoseconds UTC."""
    if column.null_count():
        raise CandlesError(f"{path} has {column.null_count()} rows without a time")
    if column.dtype == pl.String:
        number = column.cast(pl.Int64, strict=False)
        if number.null_count() == 0:
            return _scaled(path, number.to_numpy())
        try:
            column = column.str.to_datetime(time_unit="ns", time_zone="UTC", strict=True)
        except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError) as error:
            raise CandlesError(
                f"{path} has times that cannot be read, such as {column[0]!r};"
                " write them like 2025-06-01 17:23 (UTC) or as a number since 1970"
            ) from error
    if isinstance(column.dtype, pl.Date | pl.Datetime):
        return np.asarray(column.cast(pl.Datetime("ns")).cast(pl.Int64).to_numpy(), dtype=np.int64)
    return _scaled(path, column.cast(pl.Int64).to_numpy())


def _scaled(path: Path, times: Times) -> Times:
    """Numbers since 1970 in s, ms, us or ns, each in its own unit (Binance: us since 2025)."""
    ts = np.zeros(len(times), dtype=np.int64)
    known = np.zeros(len(times), dtype=np.bool_)
    for scale in _SCALES:
        per_s = 1_000_000_000 // scale
        fits = (times >= _FIRST_S * per_s) & (times < _LAST_S * per_s)
        ts[fits] = times[fits] * scale
        known |= fits
    if not known.all():
        raise CandlesError(
            f"{path} has times such as {times[~known][0]}, which are no time from 1990 to 2099"
        )
    return ts


def _csv(path: Path, body: bytes) -> Rows:
    first = body[:400].split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    fields = first.split(",")
    if fields[0].strip().isdigit():
        if len(fields) != _DUMP_COLUMNS:
            raise CandlesError(
                f"{path} has no header and {len(fields)} columns; Binance's dumps have"
                f" {_DUMP_COLUMNS}. Write a header: ts,open,high,low,close,volume"
            )
        table = pl.read_csv(body, has_header=False, infer_schema=False)
        table = table.select(table.columns[:6]).rename(
            dict(zip(table.columns[:6], ("ts", *NUMBERS), strict=True))
        )
    else:
        table = pl.read_csv(body, infer_schema=False)
    return _table(path, table)


def _json(path: Path) -> Rows:
    try:
        bars = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise CandlesError(f"{path} is no JSON: {error}") from error
    if not isinstance(bars, list) or not all(
        isinstance(bar, list) and len(bar) == 6 for bar in bars
    ):
        raise CandlesError(f"{path} is no list of [time, open, high, low, close, volume]")
    names = dict(zip(("ts", *NUMBERS), zip(*bars, strict=True), strict=False))
    body = io.BytesIO()
    pl.DataFrame(
        {key: [str(value) for value in column] for key, column in names.items()}
    ).write_csv(body)
    return _csv(path, body.getvalue())


# --- whose ---------------------------------------------------------------------------------------


def _named(path: Path) -> Mapping[str, str]:
    """What the name of the file and of its folder tell."""
    found = _NAMED.match(path.name)
    told = {"symbol": found["symbol"], "interval": found["interval"]} if found else {}
    if any(part.lower().startswith("binance") for part in path.absolute().parts):
        told["exchange"] = "BINANCE"
    return told


def _interval(path: Path, ts: Times, named: str) -> int:
    """The interval named, if the times bear it out; otherwise the usual distance of the bars."""
    steps, counts = np.unique(np.diff(np.unique(ts)), return_counts=True)
    usual = int(steps[np.argmax(counts)]) if len(steps) else 0
    if not named:
        if not usual:
            raise CandlesError(f"{path} has one bar; give its interval with --interval")
        return usual
    interval_ns = parse_interval(named)
    # A few bars may be missing, of stocks at night many; nearly all of them cannot be.
    alike = usual == interval_ns or (usual > interval_ns and counts.max() < ALIKE * counts.sum())
    if usual and not alike:
        raise CandlesError(
            f"{path} should hold {named} bars, but most are {format_interval(usual)} apart;"
            f" give --interval {format_interval(usual)}"
        )
    return interval_ns
