"""Market data of some shares by polling: quotes, the latest trade, and closed bars, in sessions.

Theory of operation. One request brings the quotes and latest trades of all symbols, every
``quote_s`` while the market is open. When a bar is over, all symbols' bars since the last told one
are asked for, again every ``poll_s`` until each has come or counts as empty (``bars.py``); so what
was missed in an outage is filled by the same request. At the close the books are void (a
``FeedDisconnected`` that names the next open) and nothing but the session's last bars is told until
it opens: the strategy is not asked about a market that is not there.

A quote says nothing of who traded: the taker's side of a trade is told by the quote rule (Lee and
Ready 1991: at the ask a buyer, at the bid a seller), and a trade in between is not told.

Must not: tell a bar twice, before it is over, or out of order; fill a gap with invented data.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock, LiveClock
from fleet.domain import events as ev
from fleet.domain.events import AnyEvent
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.market import BarClosed, BookSnapshot, Level, TradePrinted
from fleet.domain.units import Price, Qty
from fleet.venues.port import AnswerInvalid, EventSink, FeedHealth, VenueError
from fleet.venues.stocks.bars import BarSequence
from fleet.venues.stocks.catalog import symbol_of
from fleet.venues.stocks.client import TIMEFRAMES, AlpacaClient
from fleet.venues.stocks.hours import TradingHours
from fleet.venues.stocks.wire import SnapshotRow, nanoseconds, rounded

CONNECTION: Final = "alpaca-data"
CALENDAR_AHEAD_DAYS: Final = 14
CALENDAR_AGE_S: Final = 6 * 3_600
SESSION_S: Final = 23_400
"""Six and a half hours: how many bars a day has, for how far back to ask."""
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class StockFeedSettings:
    """``history`` is how many bars before now are told first, for warming up.

    ``settle_s`` is how long after its end a bar is first asked for, ``late_s`` when one that did
    not come counts as empty; the feed is lost after ``silent_s`` without an answer.
    """

    interval_s: int = 60
    history: int = 0
    quote_s: float = 2.0
    settle_s: float = 1.0
    poll_s: float = 2.0
    late_s: float = 15.0
    silent_s: float = 20.0
    tick_s: float = 0.05
    extended_hours: bool = False


class StockFeed:
    """The market data of some shares."""

    def __init__(
        self, client: AlpacaClient, tokens: Iterable[InstrumentId], sink: EventSink, *,
        settings: StockFeedSettings | None = None, since_ns: int = 0, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """``since_ns`` is the close of the last bar already known; it wins over ``history``.

        Raises ``ValueError`` for a length of bars that cannot be asked for, or no symbols.
        """
        self._settings = settings or StockFeedSettings()
        if self._settings.interval_s not in TIMEFRAMES:
            raise ValueError(
                f"no bars of {self._settings.interval_s} s; there are {sorted(TIMEFRAMES)}"
            )
        self._tokens = {symbol_of(token): token for token in tokens}
        if not self._tokens:
            raise ValueError("a feed needs at least one symbol")
        self._client, self._sink, self._since_ns = client, sink, since_ns
        self._clock = clock or LiveClock()
        self._log = logs.get("feed")
        self.hours = TradingHours((), extended=self._settings.extended_hours)
        self._bars: dict[InstrumentId, BarSequence] = {}
        self._prints: dict[InstrumentId, tuple[str, int]] = {}
        self._quoted: set[InstrumentId] = set()
        self._task: asyncio.Task[None] | None = None
        self._connected = self._told_closed = self._stopped = False
        self._failure = ""
        self._heard_ns = self._asked_bars_ns = self._asked_quotes_ns = self._hours_ns = 0
        self._reconnects = self._frames = self._rejected = 0

    @property
    def empty(self) -> int:
        """Bars of sessions in which nothing traded, of all symbols."""
        return sum(sequence.empty for sequence in self._bars.values())

    async def start(self) -> None:
        """Read clock and calendar and begin to poll. Raises ``VenueError``."""
        await self._client.start()
        settings, now_ns = self._settings, self._client.venue_ns()
        begin_ns = self._since_ns or now_ns - now_ns % (settings.interval_s * NS_PER_SECOND)
        if settings.history and not self._since_ns:
            sessions = -(-settings.history * settings.interval_s // SESSION_S)
            # Five trading days in seven, and a long weekend more.
            begin_ns -= (sessions * 7 // 5 + 5) * DAY_S * NS_PER_SECOND
        await self._load_hours(begin_ns)
        for token in self._tokens.values():
            self._bars[token] = BarSequence(
                token, step_ns=settings.interval_s * NS_PER_SECOND, due_ns=begin_ns,
                late_ns=int(settings.late_s * NS_PER_SECOND),
            )  # fmt: skip
        self._heard_ns = self._clock.now_ns()
        if settings.history and not self._since_ns:
            told = await self._new_bars()
            self._sink(self._last_of_each(told))
        self._task = asyncio.get_running_loop().create_task(self._guarded())

    async def stop(self) -> None:
        """Ask nothing more; no fact is emitted afterwards. The client stays open."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def health(self) -> FeedHealth:
        """How the feed is doing, now; a closed market is no illness."""
        closed = not self.hours.is_open(self._client.venue_ns())
        return FeedHealth(
            connections=1, connected=int(self._connected or (closed and not self._failure)),
            awaiting=0 if closed else len(self._tokens) - len(self._quoted),
            data_age_ns=self._clock.now_ns() - self._heard_ns if self._frames else 0,
            reconnects=self._reconnects, rotations=0, frames=self._frames,
            rejected=self._rejected, failure=self._failure,
        )  # fmt: skip

    # --- the rounds ---------------------------------------------------------------------------

    async def _guarded(self) -> None:
        try:
            await self._keep()
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            # A defect of ours: the feed says so and is silent, the engine's watch does the rest.
            self._failure = f"{type(error).__name__}: {error}"
            self._log.error("FEED failed", error=self._failure, exc_info=error)

    async def _keep(self) -> None:
        while not self._stopped:
            try:
                await self._round()
            except VenueError as error:
                if isinstance(error, AnswerInvalid):
                    self._reject(str(error))
                self._failed(str(error))
            await asyncio.sleep(self._settings.tick_s)

    async def _round(self) -> None:
        settings, clock_ns = self._settings, self._clock.now_ns()
        if clock_ns - self._hours_ns >= CALENDAR_AGE_S * NS_PER_SECOND:
            # Asked again only hours later if it fails: two weeks are known.
            self._hours_ns = clock_ns
            await self._client.start()
            await self._load_hours(min(bar.due_ns for bar in self._bars.values()))
        now_ns = self._client.venue_ns()
        if not self.hours.is_open(now_ns):
            self._close_books(now_ns)
        elif clock_ns - self._asked_quotes_ns >= settings.quote_s * NS_PER_SECOND:
            self._asked_quotes_ns = clock_ns
            await self._quotes()
        settled_ns = now_ns - int(settings.settle_s * NS_PER_SECOND)
        wanting = any(bar.wanting(settled_ns, self.hours) for bar in self._bars.values())
        if wanting and clock_ns - self._asked_bars_ns >= settings.poll_s * NS_PER_SECOND:
            self._asked_bars_ns = clock_ns
            self._emit(await self._new_bars())

    async def _load_hours(self, begin_ns: int) -> None:
        begin = dt.datetime.fromtimestamp(begin_ns // NS_PER_SECOND, dt.UTC).date()
        today = dt.datetime.fromtimestamp(self._client.venue_ns() // NS_PER_SECOND, dt.UTC).date()
        rows = await self._client.calendar(
            (begin - dt.timedelta(days=1)).isoformat(),
            (today + dt.timedelta(days=CALENDAR_AHEAD_DAYS)).isoformat(),
        )
        self.hours = TradingHours(rows, extended=self._settings.extended_hours)
        self._hours_ns = self._clock.now_ns()

    def _close_books(self, now_ns: int) -> None:
        if self._told_closed:
            return
        self._told_closed, self._connected = True, False
        self._quoted.clear()
        reason = self.hours.next_open_words(now_ns)
        self._log.warning("MARKET closed", until=reason)
        self._emit([self._lost(f"the market is {reason}")])

    def _failed(self, reason: str) -> None:
        self._log.warning("FEED unanswered", reason=" ".join(reason.split()))
        silent_ns = self._clock.now_ns() - self._heard_ns
        if self._connected and silent_ns >= self._settings.silent_s * NS_PER_SECOND:
            self._connected = False
            self._quoted.clear()
            self._emit([self._lost(" ".join(reason.split()))])

    def _lost(self, reason: str) -> ev.FeedDisconnected:
        now_ns = self._clock.now_ns()
        return ev.FeedDisconnected(
            ts_event=now_ns, ts_recv=now_ns, connection=CONNECTION,
            instruments=tuple(self._tokens.values()), reason=reason,
        )  # fmt: skip

    # --- quotes -------------------------------------------------------------------------------

    async def _quotes(self) -> None:
        rows = await self._client.snapshots(list(self._tokens))
        now_ns = self._clock.now_ns()
        self._frames += 1
        self._heard_ns = now_ns
        facts: list[AnyEvent] = []
        if not self._connected:
            self._reconnects += 0 if self._told_closed or not self._prints else 1
            self._connected, self._told_closed = True, False
            facts.append(
                ev.FeedConnected(
                    ts_event=now_ns, ts_recv=now_ns, connection=CONNECTION,
                    instruments=tuple(self._tokens.values()),
                )
            )  # fmt: skip
        for symbol, token in self._tokens.items():
            row = rows.get(symbol)
            if row is not None:
                facts += self._facts_of(token, row, now_ns)
        self._emit(facts)

    def _facts_of(self, token: InstrumentId, row: SnapshotRow, now_ns: int) -> list[AnyEvent]:
        """The book's top and the latest trade, if it is new. Raises ``AnswerInvalid``."""
        quote, trade = row.latest_quote, row.latest_trade
        if quote is None:
            return []
        bid, ask = rounded(quote.bp, "bid"), rounded(quote.ap, "ask")
        bids = _level(bid, rounded(quote.bs, "bid size"))
        asks = _level(ask, rounded(quote.ask_size, "ask size"))
        facts: list[AnyEvent] = [
            BookSnapshot(nanoseconds(quote.t, "quote"), now_ns, token, bids, asks)
        ]
        self._quoted.add(token)
        if trade is None or self._prints.get(token) == (trade.t, trade.i):
            return facts
        first = token not in self._prints
        self._prints[token] = (trade.t, trade.i)
        price = rounded(trade.p, "trade")
        side = Side.BUY if bid < ask <= price else Side.SELL if price <= bid < ask else None
        if side is not None and not first:
            # The first one is of before we listened.
            facts.append(TradePrinted(
                nanoseconds(trade.t, "trade"), now_ns, token, side, Price(price),
                Qty(rounded(trade.s, "trade size"))))  # fmt: skip
        return facts

    # --- bars ---------------------------------------------------------------------------------

    async def _new_bars(self) -> list[BarClosed]:
        """The bars that can be told now, of all symbols, in order. Raises ``VenueError``."""
        begin_ns = min(sequence.due_ns for sequence in self._bars.values())
        rows = await self._client.bars(
            list(self._tokens), self._settings.interval_s, begin_ns, self._client.venue_ns()
        )
        self._heard_ns = self._clock.now_ns()
        self._frames += 1
        now_ns = self._client.venue_ns()
        told: list[BarClosed] = []
        for symbol, token in self._tokens.items():
            sequence = self._bars[token]
            told += sequence.offer(rows.get(symbol, []), now_ns, self.hours)
            if sequence.problem:
                self._reject(sequence.problem)
                sequence.problem = ""
        return sorted(told, key=lambda bar: (bar.ts_event, bar.instrument_id))

    def _last_of_each(self, bars: Sequence[BarClosed]) -> list[BarClosed]:
        kept: list[BarClosed] = []
        counts: dict[InstrumentId, int] = {}
        for bar in reversed(bars):
            counts[bar.instrument_id] = counts.get(bar.instrument_id, 0) + 1
            if counts[bar.instrument_id] <= self._settings.history:
                kept.append(bar)
        return kept[::-1]

    # --- small things -------------------------------------------------------------------------

    def _reject(self, reason: str) -> None:
        self._rejected += 1
        now_ns = self._clock.now_ns()
        self._emit([ev.FrameRejected(ts_event=now_ns, ts_recv=now_ns, reason=reason)])

    def _emit(self, facts: Sequence[AnyEvent]) -> None:
        if facts and not self._stopped:
            self._sink(facts)


def _level(price: int, qty: int) -> list[Level]:
    """One side of the book; none if nobody quotes."""
    return [(Price(price), Qty(qty))] if price > 0 and qty > 0 else []
