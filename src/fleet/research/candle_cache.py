"""Downloaded candles on disk: ``var/candles/EXCHANGE/SYMBOL/INTERVAL/YEAR.parquet``.

One file a calendar year (UTC), replaced whole and atomically, so that a reader sees either the old
bars or the new ones and a crash costs at most what was not stored yet. One writer a series: it
holds a kernel lock; readers need none. Each file names its symbol, exchange, interval and source.

What is stored was closed and passed ``candle_quality.settle``; a bar that comes again with other
numbers is *revised*: the newer one wins and is counted, unless its close differs so much that
history was restated (a split), which only a download from scratch can cure.

Another host than the venue's own (a testnet, the local server) has a cache of its own beside it,
``var/candles-HOST``, and the source of its bars names the host: prices nobody traded at must not
be mistaken for a market's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import numpy as np
import polars as pl

from fleet.journal.locks import LockError, acquire
from fleet.research.candle_files import plain_symbol
from fleet.research.candle_rows import Rows
from fleet.research.intervals import SECOND, CandlesError, format_interval, parse_interval
from fleet.research.series import Candles

COLUMNS: Final = ("open", "high", "low", "close", "volume")
ELSEWHERE: Final = " at "
RESTATED: Final = 0.005
"""A stored close and the same bar's close now that differ by more than this are not late trades
but another history: the smallest usual split (5 for 4) moves it by 20 %, a late trade by cents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One series of the cache, from its files' own statistics."""

    exchange: str
    symbol: str
    interval_ns: int
    bars: int
    first_ns: int
    last_ns: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What storing changed: bars that were not there, and times (ns) of bars that differ now."""

    added: int
    revised: tuple[int, ...]


class CandleCache:
    """The series of one directory."""

    def __init__(self, root: Path, host: str = "") -> None:
        """Use ``root``; nothing is made before something is stored. ``host`` if not the venue's."""
        self.root = root
        self._host = host

    @classmethod
    def under(cls, var: Path, url: str = "") -> CandleCache:
        """The cache of the venues themselves, or of another host at ``url``."""
        host = urlsplit(url).netloc
        if url and not host:
            raise CandlesError(f"{url!r} is no address; write it like http://127.0.0.1:8790")
        if not host:
            return cls(var / "candles")
        return cls(var / f"candles-{re.sub(r'[^A-Za-z0-9.]', '-', host)}", host)

    def source(self, exchange: str) -> str:
        """What candles of an exchange say of where they come from."""
        return f"cache:{plain_symbol(exchange)}" + (
            f"{ELSEWHERE}{self._host}" if self._host else ""
        )

    def folder(self, exchange: str, symbol: str, interval_ns: int) -> Path:
        """Where one series lies. Raises ``CandlesError`` for names that are none."""
        parts = (plain_symbol(exchange), plain_symbol(symbol))
        if not all(parts):
            raise CandlesError(f"{exchange!r}, {symbol!r}: both need a letter or a digit")
        return self.root.joinpath(*parts, format_interval(interval_ns))

    def load(self, exchange: str, symbol: str, interval_ns: int) -> Candles | None:
        """The stored series, or ``None`` if there is none. Raises ``CandlesError`` for damage."""
        files = _years(self.folder(exchange, symbol, interval_ns))
        if not files:
            return None
        rows = Rows.joined([_read(file) for file in files])
        try:
            return rows.candles(
                symbol=plain_symbol(symbol), exchange=plain_symbol(exchange),
                interval_ns=interval_ns, source=self.source(exchange),
            )  # fmt: skip
        except ValueError as error:
            raise CandlesError(f"{error}: {_cure(files[0].parent)}") from error

    def series(self) -> list[Stored]:
        """Every series, by exchange, symbol and interval. Raises ``CandlesError`` for damage."""
        found = []
        for folder in sorted(self.root.glob("*/*/*")):
            files = _years(folder)
            if not files:
                continue
            exchange, symbol, interval = folder.parts[-3:]
            spans = [_span(file) for file in files]
            found.append(
                Stored(
                    exchange=exchange, symbol=symbol, interval_ns=parse_interval(interval),
                    bars=sum(count for _, _, count in spans),
                    first_ns=min(first for first, _, _ in spans),
                    last_ns=max(last for _, last, _ in spans),
                    size_bytes=sum(file.stat().st_size for file in files),
                )
            )  # fmt: skip
        return found

    @contextmanager
    def writing(self, exchange: str, symbol: str, interval_ns: int) -> Iterator[None]:
        """Be the one writer of a series. Raises ``CandlesError`` if another is."""
        folder = self.folder(exchange, symbol, interval_ns)
        try:
            lock = acquire(folder / ".lock")
        except LockError as error:
            raise CandlesError(
                f"another download of this series runs, or none can: {error}"
            ) from error
        with lock:
            yield

    def store(self, candles: Candles) -> Merged:
        """Merge closed bars into the files of their years; call it inside ``writing``.

        Raises ``CandlesError`` if they restate the stored history.
        """
        if candles.synthetic:
            raise CandlesError("synthetic candles are never stored among downloaded ones")
        folder = self.folder(candles.exchange, candles.symbol, candles.interval_ns)
        years = (candles.ts // SECOND).astype("datetime64[s]").astype("datetime64[Y]")
        added, revised = 0, []
        for year in np.unique(years):
            part = Rows.of_candles(candles).take(np.asarray(years == year))
            file = folder / f"{year}.parquet"
            old = _read(file) if file.exists() else Rows.joined([])
            merged, found = _merge(old, part, file)
            added += len(merged) - len(old)
            revised += found
            if len(merged) > len(old) or found:
                _replace(file, merged, candles)
        return Merged(added=added, revised=tuple(revised))

    def clear(self, exchange: str, symbol: str, interval_ns: int) -> None:
        """Forget a series; call it inside ``writing``."""
        for file in _years(self.folder(exchange, symbol, interval_ns)):
            file.unlink()


def _years(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9][0-9][0-9][0-9].parquet"))


def _cure(folder: Path) -> str:
    return f"remove {folder} and download it again"


def _read(file: Path) -> Rows:
    try:
        table = pl.read_parquet(file)
        columns = [table.get_column(name).to_numpy() for name in COLUMNS]
        return Rows.of(table.get_column("ts").cast(pl.Int64).to_numpy(), columns)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CandlesError(f"{file} is damaged ({error}): {_cure(file.parent)}") from error


def _span(file: Path) -> tuple[int, int, int]:
    """(first opening, last opening, bars) of one file."""
    try:
        ts = pl.col("ts").cast(pl.Int64)
        row = pl.scan_parquet(file).select(a=ts.min(), b=ts.max(), n=pl.len()).collect().row(0)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CandlesError(f"{file} is damaged ({error}): {_cure(file.parent)}") from error
    return int(row[0] or 0), int(row[1] or 0), int(row[2])


def _merge(old: Rows, fresh: Rows, file: Path) -> tuple[Rows, list[int]]:
    """Both by time, the fresh bar where both have one, and the times where they differ."""
    shared, in_old, in_fresh = np.intersect1d(old.ts, fresh.ts, return_indices=True)
    before, now = old.take(in_old), fresh.take(in_fresh)
    both_told = Rows.joined([before, now])
    places = np.arange(len(shared))
    same = both_told.same(places, places + len(shared))
    moved = np.abs(now.close / before.close - 1.0) > RESTATED
    if moved.any():
        when = datetime.fromtimestamp(int(shared[moved][0]) // SECOND, UTC)
        raise CandlesError(
            f"the venue's history of {file.parent} was restated: the bar of {when:%Y-%m-%d %H:%M}"
            f" closed at {before.close[moved][0]:g} and is told as {now.close[moved][0]:g} now (a"
            " split?); download it from scratch with --fresh"
        )
    keep = np.ones(len(old), dtype=np.bool_)
    keep[in_old] = False
    both = Rows.joined([old.take(keep), fresh])
    revised = [int(ts) for ts in shared[~same]]
    return both.take(np.argsort(both.ts, kind="stable")), revised


def _replace(file: Path, rows: Rows, candles: Candles) -> None:
    """Write beside, sync, rename: a reader never sees half a file."""
    table = pl.DataFrame(
        {"ts": rows.ts, **dict(zip(COLUMNS, rows.columns, strict=True))}
    ).with_columns(pl.col("ts").cast(pl.Datetime("ns", "UTC")))
    told = {
        "fleet.symbol": candles.symbol,
        "fleet.exchange": candles.exchange,
        "fleet.interval": format_interval(candles.interval_ns),
        "fleet.source": candles.source,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".writing")
    with beside.open("wb") as output:
        table.write_parquet(output, metadata=told)
        output.flush()
        os.fsync(output.fileno())
    beside.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
