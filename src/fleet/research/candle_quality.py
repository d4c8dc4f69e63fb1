"""What is wrong with a series of candles: counted, dated, and never repaired in silence.

``inspect`` looks and tells. ``settle`` makes ``Candles`` of rows: it sorts, and drops a bar told
twice alike, both of which the report says. Bars that no market can have made (a price of zero, a
high below the low, two different bars of one moment) are refused, or left out when asked; a gap is
left as it is, because a bar that was made up is a bar somebody could have traded on.

US stocks do not trade at night or on weekends: there a gap is a minute of the regular session
without a bar between two bars of the same day, and whole weekdays without bars (holidays, or
missing days) are told apart from that. A day that ends early is not told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fleet.research.candle_rows import Rows
from fleet.research.intervals import (
    DAY,
    SESSION_CLOSE_NS,
    SESSION_OPEN_NS,
    CandlesError,
    format_interval,
    format_time,
    to_local,
    zone_of,
)
from fleet.research.series import Candles, Times

TIMES_SHOWN: Final = 5
ZERO_RUN: Final = 3
"""So many bars without volume in a row are a run: on liquid markets one is rare, three a fault."""
SPIKE_SIGMAS: Final = 20.0
SPIKE_FLOOR: Final = 0.02
SPIKE_RETURNED: Final = 0.7
"""A spike: a close further from its neighbour than 20 robust deviations (1.4826 x the median
absolute deviation of log returns) and 2 %, which the next close takes back by 70 % at least. It is
told, not refused, for markets do it: BTC in the half hour of 16 October 2023 in which a false
report of an approved fund was published and withdrawn, ETH in one minute of 5 August 2024."""
BREAK_SIGMAS: Final = 50.0
BREAK_FLOOR: Final = 0.002
"""A break: in a market that never closes, an open further from the close of the bar just before
than 50 times the usual (median) distance and 0.2 %. Mostly the bar before was stored unclosed: of
the recorded futures those of 2023-11-10 and 2024-10-28 (resampling shorter bars proves it)."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One kind of fault: how often, the first times (ns, UTC), and what it amounts to."""

    kind: str
    count: int
    times: tuple[int, ...]
    note: str = ""
    refused: bool = False
    """Whether such bars cannot be used at all."""

    def line(self) -> str:
        """One line for a person."""
        shown = ", ".join(map(format_time, self.times))
        more = ", ..." if self.count > len(self.times) else ""
        note = f" ({self.note})" if self.note else ""
        return f"{'REFUSED ' if self.refused else ''}{self.kind}: {self.count}{note}: {shown}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The report over one series; ``findings`` is empty if nothing was found."""

    symbol: str
    exchange: str
    interval_ns: int
    bars: int
    first_ns: int
    last_ns: int
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether every bar could have been made by a market."""
        return bool(self.bars) and not any(finding.refused for finding in self.findings)

    def count(self, kind: str) -> int:
        """How often one kind of fault was found."""
        return sum(finding.count for finding in self.findings if finding.kind == kind)

    def lines(self) -> list[str]:
        """The report, the first line a summary."""
        name = f"{self.exchange}:{self.symbol} {format_interval(self.interval_ns)}"
        if not self.bars:
            return [f"{name}: no bars"]
        span = f"{format_time(self.first_ns)} to {format_time(self.last_ns)} UTC"
        told = [f"  {finding.line()}" for finding in self.findings] or ["  nothing found"]
        return [f"{name}: {self.bars:,} bars, {span}", *told]


def inspect(rows: Rows, *, symbol: str, exchange: str, interval_ns: int) -> Quality:
    """Look for every kind of fault. Changes nothing, raises nothing about the bars."""
    order = np.argsort(rows.ts, kind="stable")
    ordered = rows.take(order)
    found = [
        *_impossible(rows),
        *_repeated(ordered),
        *_disordered(rows),
        *_shifts(ordered.ts, exchange, interval_ns),
        *_gaps(ordered.ts, exchange, interval_ns),
        *_outside(rows),
        *_zero_runs(ordered),
        *_spikes(ordered),
        *_breaks(ordered, exchange, interval_ns),
    ]
    return Quality(
        symbol=symbol, exchange=exchange, interval_ns=interval_ns, bars=len(rows),
        first_ns=int(ordered.ts[0]) if len(rows) else 0,
        last_ns=int(ordered.ts[-1]) if len(rows) else 0,
        findings=tuple(found),
    )  # fmt: skip


def settle(
    rows: Rows,
    *,
    symbol: str,
    exchange: str,
    interval_ns: int,
    source: str,
    drop_bad: bool = False,
) -> tuple[Candles, Quality]:
    """Sorted, each moment once, with the report over ``rows``.

    Raises ``CandlesError`` for bars that cannot be used, unless ``drop_bad`` leaves them out, and
    if no bar is left.
    """
    quality = inspect(rows, symbol=symbol, exchange=exchange, interval_ns=interval_ns)
    bad = np.zeros(len(rows), dtype=np.bool_)
    for _, judge in IMPOSSIBLE:
        bad |= judge(rows)
    if drop_bad:
        rows = rows.take(~bad)
    elif not quality.usable and quality.bars:
        told = "; ".join(finding.line() for finding in quality.findings if finding.refused)
        raise CandlesError(
            f"{exchange}:{symbol} has bars no market can have made: {told}. Get the series anew,"
            " or leave those bars out with --drop-bad"
        )
    rows = rows.take(np.argsort(rows.ts, kind="stable"))
    alike, unlike = _duplicates(rows)
    rows = rows.take(~(alike | unlike))
    if not len(rows):
        raise CandlesError(f"{exchange}:{symbol} has no usable bars")
    candles = rows.candles(symbol=symbol, exchange=exchange, interval_ns=interval_ns, source=source)
    return candles, quality


# --- each kind of fault --------------------------------------------------------------------------


def _finding(kind: str, times: Times, note: str = "", *, refused: bool = False) -> list[Finding]:
    shown = tuple(int(ts) for ts in times[:TIMES_SHOWN])
    one = Finding(kind=kind, count=len(times), times=shown, note=note, refused=refused)
    return [one] if len(times) else []


def _not_finite(rows: Rows) -> Mask:
    finite = np.ones(len(rows), dtype=np.bool_)
    for column in rows.columns:
        finite &= np.isfinite(column)
    return ~finite


def _not_positive(rows: Rows) -> Mask:
    lowest = np.minimum(np.minimum(rows.open, rows.high), np.minimum(rows.low, rows.close))
    return np.asarray(lowest <= 0.0, dtype=np.bool_)


def _negative_volume(rows: Rows) -> Mask:
    return np.asarray(rows.volume < 0.0, dtype=np.bool_)


def _high_below_low(rows: Rows) -> Mask:
    return np.asarray(rows.high < rows.low, dtype=np.bool_)


IMPOSSIBLE: Final[tuple[tuple[str, Callable[[Rows], Mask]], ...]] = (
    ("not a number", _not_finite),
    ("price not above zero", _not_positive),
    ("negative volume", _negative_volume),
    ("high below low", _high_below_low),
)


def _impossible(rows: Rows) -> list[Finding]:
    found: list[Finding] = []
    for kind, judge in IMPOSSIBLE:
        found += _finding(kind, rows.ts[judge(rows)], refused=True)
    return found


def _outside(rows: Rows) -> list[Finding]:
    top, bottom = np.maximum(rows.open, rows.close), np.minimum(rows.open, rows.close)
    outside = ((top > rows.high) | (bottom < rows.low)) & (rows.high >= rows.low)
    return _finding("open or close outside low to high", rows.ts[outside])


def _duplicates(ordered: Rows) -> tuple[Mask, Mask]:
    """(repeats of the first bar of a moment, all bars of moments told in different ways)."""
    count = len(ordered)
    alike, unlike = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    if count < 2:
        return alike, unlike
    first_of = np.searchsorted(ordered.ts, ordered.ts, side="left")
    places = np.arange(count)
    repeated = places != first_of
    differs = repeated & ~ordered.same(places, first_of)
    conflicting = np.unique(first_of[differs])
    unlike = np.isin(first_of, conflicting)
    return repeated & ~unlike, unlike


def _repeated(ordered: Rows) -> list[Finding]:
    alike, unlike = _duplicates(ordered)
    return [
        *_finding("duplicates, alike", ordered.ts[alike], "one of each is kept"),
        *_finding("duplicates, different", np.unique(ordered.ts[unlike]), "moments", refused=True),
    ]


def _disordered(rows: Rows) -> list[Finding]:
    back = np.flatnonzero(np.diff(rows.ts) < 0) + 1
    return _finding("out of order", rows.ts[back], "sorted")


def _shifts(ts: Times, exchange: str, interval_ns: int) -> list[Finding]:
    """Places where the grid of opening times moves; days of stocks follow New York's clock."""
    if not len(ts):
        return []
    zone = zone_of(exchange) if interval_ns >= DAY else None
    phase = to_local(ts, zone) % interval_ns
    values, counts = np.unique(phase, return_counts=True)
    usual = values[np.argmax(counts)]
    off = ts[phase != usual]
    moves = np.flatnonzero(np.diff(phase)) + 1
    sizes = np.unique(phase[phase != usual] - usual)
    shown = ", ".join(f"{size / 1e9:+g} s" for size in sizes[:3])
    return _finding("clock shifts", ts[moves], f"{len(off):,} bars off the grid by {shown}")


def _gaps(ts: Times, exchange: str, interval_ns: int) -> list[Finding]:
    ts = np.unique(ts)
    zone = zone_of(exchange)
    if len(ts) < 2:
        return []
    if zone is None:
        missing = np.maximum(np.diff(ts) // interval_ns - 1, 0)
        return _told_gaps(ts, missing, interval_ns)
    local = to_local(ts, zone)
    day = local // DAY
    found: list[Finding] = []
    if interval_ns < DAY:
        found += _told_gaps(ts, _session_gaps(local, day, interval_ns), interval_ns)
    dates = np.unique(day).astype("datetime64[D]")
    if interval_ns <= DAY:
        days_between = np.busday_count(dates[:-1] + 1, dates[1:])
        after = dates[:-1][days_between > 0].astype(np.int64) * DAY
        found += _finding(
            "weekdays without bars", after,
            f"{int(days_between.sum())} days: holidays, or missing; the day before is shown",
        )  # fmt: skip
    return found


def _session_gaps(local: Times, day: Times, interval_ns: int) -> Times:
    """Bars missing after each bar but the last, of the regular session of the same day."""
    before, after = local[:-1] - day[:-1] * DAY, local[1:] - day[1:] * DAY
    low = np.maximum(before + interval_ns, SESSION_OPEN_NS - interval_ns + 1)
    high = np.minimum(after - interval_ns, SESSION_CLOSE_NS - 1)
    fitting = (high - before) // interval_ns - -(-(low - before) // interval_ns) + 1
    return np.where(day[:-1] == day[1:], np.maximum(fitting, 0), 0)


def _told_gaps(ts: Times, missing: Times, interval_ns: int) -> list[Finding]:
    places = np.flatnonzero(missing)
    note = f"{int(missing.sum()):,} bars missing, at most {int(missing.max(initial=0)):,} in a row"
    return _finding("gaps", ts[places] + interval_ns, note)


def _zero_runs(ordered: Rows) -> list[Finding]:
    silent = np.concatenate(([0], (ordered.volume == 0.0).astype(np.int64), [0]))
    starts, ends = np.flatnonzero(np.diff(silent) == 1), np.flatnonzero(np.diff(silent) == -1)
    lengths = ends - starts
    long = lengths >= ZERO_RUN
    note = f"{int(lengths[long].sum()):,} bars, at most {int(lengths.max(initial=0)):,} in a row"
    return _finding("runs without volume", ordered.ts[starts[long]], note)


def _spikes(ordered: Rows) -> list[Finding]:
    good = ~(_not_finite(ordered) | _not_positive(ordered))
    ts, close = ordered.ts[good], ordered.close[good]
    if len(close) < 3:
        return []
    moves = np.diff(np.log(close))
    deviation = 1.4826 * float(np.median(np.abs(moves - np.median(moves))))
    limit = max(SPIKE_SIGMAS * deviation, SPIKE_FLOOR)
    there, back = moves[:-1], moves[1:]
    spikes = (np.abs(there) > limit) & (-there * back > SPIKE_RETURNED * there**2)
    return _finding("price spikes", ts[1:-1][spikes], f"moves above {limit:.1%} taken back at once")


def _breaks(ordered: Rows, exchange: str, interval_ns: int) -> list[Finding]:
    good = ~(_not_finite(ordered) | _not_positive(ordered))
    rows = ordered.take(good)
    next_to = np.diff(rows.ts) == interval_ns
    if zone_of(exchange) is not None or not next_to.any():
        return []
    away = np.abs(rows.open[1:] / rows.close[:-1] - 1.0)
    limit = max(BREAK_SIGMAS * float(np.median(away[next_to])), BREAK_FLOOR)
    broken = next_to & (away > limit)
    return _finding(
        "open away from the close before", rows.ts[1:][broken],
        f"by more than {limit:.2%}; was the bar before stored unclosed?",
    )  # fmt: skip
