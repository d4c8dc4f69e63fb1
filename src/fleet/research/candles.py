"""The one door to candles: from a file, the cache, a venue, or - loudly - from nowhere.

``obtain`` takes the first that there is, in that order, and never mixes two. What it returns
carries the report over its quality and the notes every output built on it must repeat; candles no
market made say so first. ``resample`` makes longer bars of shorter ones without looking ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from fleet.research.candle_cache import ELSEWHERE, CandleCache
from fleet.research.candle_files import plain_symbol, read_file
from fleet.research.candle_quality import Quality, inspect, settle
from fleet.research.candle_rows import Rows
from fleet.research.candle_sources import Source
from fleet.research.intervals import (
    DAY,
    CandlesError,
    format_interval,
    format_time,
    parse_interval,
    to_local,
    zone_of,
)
from fleet.research.series import Candles, Times
from fleet.research.synthetic import synthetic_candles

SYNTHETIC_NOTE: Final = (
    "SYNTHETIC CANDLES: no market made these prices. Nothing that is measured on them says anything"
    " about a real market"
)

FOUND: Final = "in the candles: "
QUICK_ATTEMPTS: Final = 2
"""A study that needs candles now does not wait half a minute for a network that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Candles ready for use, what is known of their quality, and what has to be said of them."""

    candles: Candles
    quality: Quality
    notes: tuple[str, ...]

    def between(self, start_ns: int, end_ns: int) -> Loaded:
        """The part that opened in [``start_ns``, ``end_ns``), with a report over that part.

        Raises ``CandlesError`` if nothing opened then.
        """
        return _loaded(self.candles.between(start_ns, end_ns), self.notes)


def load_file(
    path: Path, *, symbol: str = "", exchange: str = "", interval: str = "", drop_bad: bool = False
) -> Loaded:
    """The candles of a file (``candle_files`` tells the formats).

    Raises ``CandlesError`` if it cannot be read or holds bars no market can have made.
    """
    found = read_file(path, symbol=symbol, exchange=exchange, interval=interval)
    candles, quality = settle(
        found.rows, symbol=found.symbol, exchange=found.exchange, interval_ns=found.interval_ns,
        source=found.source, drop_bad=drop_bad,
    )  # fmt: skip
    return Loaded(candles=candles, quality=quality, notes=(*_notes(candles, quality), *found.notes))


def load_cached(cache: CandleCache, exchange: str, symbol: str, interval_ns: int) -> Loaded | None:
    """The cached series; a longer interval is made of a shorter cached one if need be."""
    found = cache.load(exchange, symbol, interval_ns)
    if found is not None:
        return _loaded(found, ())
    shorter = [
        series.interval_ns
        for series in cache.series()
        if (series.exchange, series.symbol) == (plain_symbol(exchange), plain_symbol(symbol))
        and series.interval_ns < interval_ns
        and interval_ns % series.interval_ns == 0
    ]
    if not shorter:
        return None
    base = cache.load(exchange, symbol, max(shorter))
    if base is None:
        return None
    note = f"resampled from cached {format_interval(base.interval_ns)} bars"
    return _loaded(resample(base, interval_ns), (note,))


def obtain(
    *,
    symbol: str,
    exchange: str,
    interval: str,
    cache: CandleCache,
    data: Path | None = None,
    since_ns: int = 0,
    bars: int = 0,
    source: Callable[[], Source] | None = None,
    refresh: bool = False,
    synthetic_seed: int | None = None,
) -> Loaded:
    """Candles for a study: of ``data`` if given, else cached, else downloaded, else made up.

    ``since_ns`` bounds what is downloaded; ``bars``, unless 0, what is returned (the newest).
    ``source`` makes the venue to download from (none: no network); it is asked if fewer than
    ``bars`` are cached, or to ``refresh`` them, and a failure of that is a note. With
    ``synthetic_seed`` candles are made up when there are no others, and without it that is an
    error. Raises ``CandlesError``.
    """
    interval_ns = parse_interval(interval)
    if data is not None:
        loaded = load_file(data, symbol=symbol, exchange=exchange)
        return _newest(_at_interval(loaded, interval_ns), bars)
    cached = load_cached(cache, exchange, symbol, interval_ns)
    why = "no network was asked"
    short = cached is None or len(cached.candles) < bars
    if source is not None and (refresh or short):
        try:
            return _newest(_downloaded(source, cache, symbol, interval_ns, since_ns), bars)
        except CandlesError as error:
            why = str(error)
    if cached is not None:
        asked = source is not None and (refresh or short)
        stale = (f"the cached candles were not brought up to date ({why})",) if asked else ()
        return _newest(replace(cached, notes=(*cached.notes, *stale)), bars)
    name = f"{exchange.upper()}:{plain_symbol(symbol)} {interval}"
    if synthetic_seed is None:
        raise CandlesError(
            f"no candles of {name} are cached ({why}); run `fleet candles download"
            f" {plain_symbol(symbol)} --exchange {exchange.upper()} --interval {interval}`, or give"
            " a file with --data"
        )
    candles = synthetic_candles(
        bars or 5_000, seed=synthetic_seed, interval_ns=interval_ns, symbol=plain_symbol(symbol),
        exchange=exchange.upper(),
    )  # fmt: skip
    return _loaded(candles, (f"there are no candles of {name} ({why})",))


def resample(candles: Candles, interval_ns: int) -> Candles:
    """Longer bars of shorter ones, on the venue's own grid; only bars that are over.

    A long bar is made of the short ones that opened in it, whatever is missing among them; the
    last is left out unless a short bar reached its end, because its rest is not known yet. Days
    and weeks of US stocks begin at New York's midnight, weeks everywhere on Monday. Raises
    ``CandlesError`` if the intervals do not fit.
    """
    if interval_ns == candles.interval_ns:
        return candles
    if interval_ns < candles.interval_ns or interval_ns % candles.interval_ns:
        raise CandlesError(
            f"bars of {format_interval(candles.interval_ns)} cannot be made into bars of"
            f" {format_interval(interval_ns)}; choose a multiple"
        )
    if not len(candles):
        return _made_of(candles, Rows.of_candles(candles), interval_ns)
    zone = zone_of(candles.exchange)
    local = to_local(candles.ts, zone)
    # 1970-01-01 was a Thursday: weeks are counted from the Monday before.
    origin = -3 * DAY if interval_ns % (7 * DAY) == 0 else 0
    group = (local - origin) // interval_ns
    first = np.flatnonzero(np.concatenate(([True], np.diff(group) != 0)))
    last = np.concatenate((first[1:], [len(group)])) - 1
    begins = group[first] * interval_ns + origin
    ts = begins - (local[first] - candles.ts[first])
    over = np.ones(len(first), dtype=np.bool_)
    over[-1] = local[-1] + candles.interval_ns >= begins[-1] + interval_ns
    rows = Rows.of(
        ts,
        [
            candles.open[first],
            np.maximum.reduceat(candles.high, first),
            np.minimum.reduceat(candles.low, first),
            candles.close[last],
            np.add.reduceat(candles.volume, first),
        ],
    )
    return _made_of(candles, rows.take(over), interval_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Where two series tell the same moments differently: the times (ns), by column."""

    shared: int
    times: dict[str, Times]

    def lines(self) -> list[str]:
        """One line a column that differs, with the first times."""
        told = [
            f"  {name} differs: {len(ts)}: {', '.join(format_time(int(one)) for one in ts[:5])}"
            for name, ts in self.times.items()
            if len(ts)
        ]
        return told or ["  no difference"]


def differences(candles: Candles, other: Candles) -> Differences:
    """Compare two recordings bar by bar; ``other`` may be of a shorter interval.

    Prices count as different from one part in 10^9 on, volumes from one in 10^6 (sums round). A
    difference mostly means that one of them stored a bar before it was over. Raises
    ``CandlesError`` if the intervals do not fit.
    """
    made = resample(other, candles.interval_ns)
    shared, ours, theirs = np.intersect1d(candles.ts, made.ts, return_indices=True)
    times: dict[str, Times] = {}
    for name in ("open", "high", "low", "close", "volume"):
        one, two = getattr(candles, name)[ours], getattr(made, name)[theirs]
        close = np.isclose(one, two, rtol=1e-6 if name == "volume" else 1e-9, atol=0.0)
        times[name] = shared[~close]
    return Differences(shared=len(shared), times=times)


def _made_of(candles: Candles, rows: Rows, interval_ns: int) -> Candles:
    return rows.candles(
        symbol=candles.symbol, exchange=candles.exchange, interval_ns=interval_ns,
        source=candles.source,
    )  # fmt: skip


def _downloaded(
    source: Callable[[], Source], cache: CandleCache, symbol: str, interval_ns: int, since_ns: int
) -> Loaded:
    from fleet.research.candle_download import download

    async def bring() -> Candles:
        venue = source()
        try:
            found = await download(
                venue, cache, symbol, interval_ns, since_ns=since_ns, attempts=QUICK_ATTEMPTS
            )
        finally:
            await venue.close()
        return found.candles

    return _loaded(asyncio.run(bring()), ())


def _at_interval(loaded: Loaded, interval_ns: int) -> Loaded:
    if loaded.candles.interval_ns == interval_ns:
        return loaded
    note = f"resampled from {format_interval(loaded.candles.interval_ns)} bars"
    longer = resample(loaded.candles, interval_ns)
    return replace(loaded, candles=longer, notes=(*loaded.notes, note))


def _newest(loaded: Loaded, bars: int) -> Loaded:
    if not bars or len(loaded.candles) <= bars:
        return loaded
    candles = loaded.candles
    return replace(loaded, candles=candles.rows(len(candles) - bars, len(candles)))


def _loaded(candles: Candles, notes: tuple[str, ...]) -> Loaded:
    if not len(candles):
        raise CandlesError(f"{candles.exchange}:{candles.symbol} has no bars in that time")
    quality = inspect(
        Rows.of_candles(candles), symbol=candles.symbol, exchange=candles.exchange,
        interval_ns=candles.interval_ns,
    )  # fmt: skip
    first = _notes(candles, quality)
    kept = tuple(note for note in notes if note not in first and not note.startswith(FOUND))
    return Loaded(candles=candles, quality=quality, notes=first + kept)


def _notes(candles: Candles, quality: Quality) -> tuple[str, ...]:
    """What has to be said of where they come from, and of what is wrong with them."""
    host = candles.source.partition(ELSEWHERE)[2]
    origin = [SYNTHETIC_NOTE] if candles.synthetic else []
    if host:
        origin.append(f"candles of {host}, not of the venue itself: nobody traded at them")
    return (*origin, *(f"{FOUND}{finding.line()}" for finding in quality.findings))
