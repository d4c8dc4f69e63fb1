"""Lengths of candles: how they are written (``1m``, ``4h``, ``1d``) and which zone they follow.

An interval is a fixed number of nanoseconds. Months have no fixed length and are refused. US
stocks live by New York's clock: their days begin at its midnight and its regular session is from
9:30 to 16:00; everything else here lives by UTC and never closes.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from fleet.research.series import Times

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
UNITS: Final = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}

NEW_YORK: Final = "America/New_York"
STOCK_EXCHANGES: Final = frozenset({"ALPACA", "NYSE", "NASDAQ", "ARCA", "AMEX", "BATS", "IEX"})
SESSION_OPEN_NS: Final = 9 * HOUR + 30 * MINUTE
SESSION_CLOSE_NS: Final = 16 * HOUR
"""The regular session of US stocks, New York time (NYSE, hours and calendars, read 2026-11)."""

_WRITTEN: Final = re.compile(r"([1-9]\d{0,3})([smhdwM])")


class CandlesError(ValueError):
    """Candles that cannot be found, read or used; the text names the cure."""


def parse_interval(text: str) -> int:
    """``1m``, ``15m``, ``4h``, ``1d``, ``1w`` in nanoseconds. Raises ``CandlesError``."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise CandlesError(f"{text!r} is no interval; write it like 1m, 15m, 1h, 4h, 1d or 1w")
    if found[2] == "M":
        raise CandlesError("a month has no fixed length; use 1d or 1w and resample")
    return int(found[1]) * UNITS[found[2]]


def format_interval(interval_ns: int) -> str:
    """The shortest way to write it: 3,600 s is ``1h``, 90 minutes is ``90m``."""
    for unit in ("w", "d", "h", "m", "s"):
        if interval_ns >= UNITS[unit] and interval_ns % UNITS[unit] == 0:
            return f"{interval_ns // UNITS[unit]}{unit}"
    return f"{interval_ns}ns"


def zone_of(exchange: str) -> str | None:
    """New York for US stocks, ``None`` (UTC, never closed) for everything else."""
    return NEW_YORK if exchange.upper() in STOCK_EXCHANGES else None


def to_local(ts: Times, zone: str | None) -> Times:
    """UTC nanoseconds as the nanoseconds a clock on the wall of ``zone`` shows."""
    if zone is None or not len(ts):
        return ts
    place = _zone(zone)
    hours, where = np.unique(ts // HOUR, return_inverse=True)
    shifts = [_offset_ns(datetime.fromtimestamp(int(hour) * 3_600, place)) for hour in hours]
    return ts + np.asarray(shifts, dtype=np.int64)[where]


def to_utc(local: Times, zone: str) -> Times:
    """The other way. An hour that a clock change skips or repeats counts as before the change.

    No market that is read this way trades in that hour.
    """
    if not len(local):
        return local
    place = _zone(zone)
    hours, where = np.unique(local // HOUR, return_inverse=True)
    shifts = [
        _offset_ns(datetime.fromtimestamp(int(hour) * 3_600, UTC).replace(tzinfo=place))
        for hour in hours
    ]
    return local - np.asarray(shifts, dtype=np.int64)[where]


def format_time(ts_ns: int) -> str:
    """``2025-06-01 17:23`` (UTC), with seconds only if it has some."""
    moment = datetime.fromtimestamp(ts_ns // SECOND, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S" if moment.second else "%Y-%m-%d %H:%M")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError as error:
        raise CandlesError(
            f"this system has no time zone {name}: install its tzdata package"
        ) from error


def _offset_ns(moment: datetime) -> int:
    offset = moment.utcoffset()
    return 0 if offset is None else int(offset.total_seconds()) * SECOND
