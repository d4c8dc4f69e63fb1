"""Bring a cached series up to date: resume, ask again for what is missing, store as it comes.

Theory: the bars wanted are [since, until). What the cache lacks of it is a list of spans: before
its first bar, after its last (that bar is asked again, to see whether history was changed), and,
where the venue trades around the clock, each gap inside. Every span is paged through from its
start. Pages are settled (``candle_quality``), unclosed bars dropped, and stored every 50,000 bars
and whenever the work ends, by an error too: the next run goes on where this one stopped.

A bar is closed when its end has passed on the venue's clock and on ours. A gap the venue has no
bars for stays a gap and is told. Failures that may pass are tried again with doubling delays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

import numpy as np

from fleet.clock import Clock, LiveClock
from fleet.research.candle_cache import CandleCache
from fleet.research.candle_files import plain_symbol
from fleet.research.candle_quality import Finding, Quality, inspect, settle
from fleet.research.candle_rows import Rows
from fleet.research.candle_sources import Source, SourceUnreachable
from fleet.research.intervals import CandlesError, zone_of
from fleet.research.series import Candles

ATTEMPTS: Final = 6
RETRY_S: Final = 1.0
"""Delays of 1, 2, 4, 8 and 16 s: half a minute, within which a venue's rate limit opens again."""
GAPS_ASKED: Final = 100
"""Gaps inside that one run asks again for, the newest first."""

T = TypeVar("T")
STORED_EVERY: Final = 50_000
"""Storing rewrites a year's file: every page of 1,000 would write a year of minutes 500 times."""

Span = tuple[int, int]
Progress = Callable[[float, int], None]
"""Told after each page: the share done, from 0 to 1, and the bars that came so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """What a download did, and the report over the whole stored series."""

    candles: Candles
    quality: Quality
    added: int
    revised: tuple[int, ...]
    pages: int
    retries: int
    unclosed: int
    """Bars told before their end, and dropped."""
    gaps_left: int
    """Gaps that were asked for and for which the venue has no bars."""


@dataclass(slots=True)
class _Tally:
    added: int = 0
    pages: int = 0
    retries: int = 0
    unclosed: int = 0
    revised: list[int] = field(default_factory=list)


async def download(
    source: Source,
    cache: CandleCache,
    symbol: str,
    interval_ns: int,
    *,
    since_ns: int,
    until_ns: int | None = None,
    fresh: bool = False,
    drop_bad: bool = False,
    progress: Progress | None = None,
    clock: Clock | None = None,
    attempts: int = ATTEMPTS,
    retry_s: float = RETRY_S,
) -> Downloaded:
    """Store the bars that opened in [``since_ns``, ``until_ns``) and closed; return them all.

    ``until_ns`` is now unless told. ``fresh`` forgets what is stored first. Raises
    ``CandlesError``: the venue refuses or stays silent, bars are impossible (``drop_bad`` leaves
    those out), or there are none at all.
    """
    exchange = source.exchange
    work = _Work(
        source, cache, symbol, interval_ns, drop_bad=drop_bad, attempts=attempts, retry_s=retry_s
    )
    with cache.writing(exchange, symbol, interval_ns):
        ours = (clock or LiveClock()).now_ns()
        now_ns = min(ours, await work.patiently(source.now_ns))
        wanted = (since_ns, min(until_ns or now_ns, now_ns))
        if wanted[0] >= wanted[1]:
            raise CandlesError("there is no time between --since and --until")
        if fresh:
            cache.clear(exchange, symbol, interval_ns)
        spans = missing_spans(cache.load(exchange, symbol, interval_ns), wanted, interval_ns)
        await work.fill(spans, now_ns, progress)
        candles = cache.load(exchange, symbol, interval_ns)
    if candles is None:
        raise CandlesError(f"{exchange} has no bars of {symbol} in that time")
    quality = inspect(
        Rows.of_candles(candles), symbol=candles.symbol, exchange=exchange, interval_ns=interval_ns
    )
    left = missing_spans(candles, wanted, interval_ns)
    return Downloaded(
        candles=candles, quality=_with_revisions(quality, work.tally.revised),
        added=work.tally.added, revised=tuple(work.tally.revised), pages=work.tally.pages,
        retries=work.tally.retries, unclosed=work.tally.unclosed,
        gaps_left=sum(int(candles.ts[0]) < a and b < int(candles.ts[-1]) for a, b in left),
    )  # fmt: skip


def missing_spans(cached: Candles | None, wanted: Span, interval_ns: int) -> list[Span]:
    """The parts of ``wanted`` to ask for, oldest first; the last stored bar is asked again."""
    since, until = wanted
    if cached is None or not len(cached):
        return [wanted]
    ts = cached.ts
    spans = [(since, int(ts[0]))] if since < ts[0] else []
    if zone_of(cached.exchange) is None:
        wide = np.flatnonzero(np.diff(ts) > interval_ns)[-GAPS_ASKED:]
        gaps = [(int(ts[n]) + interval_ns, int(ts[n + 1])) for n in wide]
        spans += [(max(a, since), min(b, until)) for a, b in gaps if b > since and a < until]
    if until > ts[-1]:
        spans.append((int(ts[-1]), until))
    return spans


def _with_revisions(quality: Quality, revised: list[int]) -> Quality:
    if not revised:
        return quality
    finding = Finding(
        kind="revised by the venue", count=len(revised), times=tuple(revised[:5]),
        note="the newer bar is kept",
    )  # fmt: skip
    return replace(quality, findings=(*quality.findings, finding))


class _Work:
    """One download: pages of one series, and what they came to."""

    def __init__(
        self, source: Source, cache: CandleCache, symbol: str, interval_ns: int,
        *, drop_bad: bool, attempts: int, retry_s: float,
    ) -> None:  # fmt: skip
        self.tally = _Tally()
        self._source, self._cache = source, cache
        self._symbol, self._interval_ns = symbol, interval_ns
        self._drop_bad, self._attempts, self._retry_s = drop_bad, attempts, retry_s
        self._waiting: list[Rows] = []

    async def fill(self, spans: list[Span], now_ns: int, progress: Progress | None) -> None:
        """Page through every span; what came is stored even if the next page fails."""
        total = sum(end - start for start, end in spans) or 1
        done = 0
        try:
            for start, end in spans:
                at = start
                while at < end:
                    page = partial(self._source.page, self._symbol, self._interval_ns, at, end)
                    rows = await self.patiently(page)
                    self.tally.pages += 1
                    at = await self._after(rows, at)
                    self._keep(rows.take(rows.ts < end), now_ns)
                    if progress is not None:
                        progress(min(1.0, (done + min(at, end) - start) / total), self.bars)
                done += end - start
        finally:
            self._flush()

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer. Raises ``CandlesError`` when patience ends."""
        for attempt in range(1, self._attempts + 1):
            try:
                return await ask()
            except SourceUnreachable as error:
                if attempt == self._attempts:
                    raise CandlesError(
                        f"{error}; gave up after {self._attempts} tries. What came is stored: run"
                        " the same command again to go on"
                    ) from error
                self.tally.retries += 1
                await asyncio.sleep(self._retry_s * 2 ** (attempt - 1))
        raise CandlesError("a download needs at least one attempt")

    async def _after(self, rows: Rows, at: int) -> int:
        """Where the next page starts: after the last bar told, or past an empty window."""
        if len(rows):
            return int(rows.ts.max()) + self._interval_ns
        return at + await self._source.span_ns(self._symbol, self._interval_ns)

    def _keep(self, rows: Rows, now_ns: int) -> None:
        closed = rows.ts + self._interval_ns <= now_ns
        self.tally.unclosed += int((~closed).sum())
        self._waiting.append(rows.take(closed))
        if sum(map(len, self._waiting)) >= STORED_EVERY:
            self._flush()

    def _flush(self) -> None:
        """Settle and store what waits."""
        rows = Rows.joined(self._waiting)
        self._waiting.clear()
        if not len(rows):
            return
        candles, _ = settle(
            rows, symbol=plain_symbol(self._symbol), exchange=self._source.exchange,
            interval_ns=self._interval_ns, source=self._cache.source(self._source.exchange),
            drop_bad=self._drop_bad,
        )  # fmt: skip
        merged = self._cache.store(candles)
        self.tally.added += merged.added
        self.tally.revised += merged.revised

    @property
    def bars(self) -> int:
        """Bars added or waiting to be stored."""
        return self.tally.added + sum(map(len, self._waiting))
