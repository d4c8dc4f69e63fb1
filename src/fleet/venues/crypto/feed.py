"""Market data of Binance: closed bars without a hole, best quotes, trades.

Theory of operation. One websocket with the combined streams of all symbols (at most
``STREAMS_MAX``). Bars are told by a ``BarSequence`` each: what the stream lost, what happened while
it was down, and the bars before the start come from REST. A bar is read from REST whenever one is
``late_s`` overdue, there is a gap, or a connection is new. REST shows the candle that is still
open as well: a bar counts only ``settle_ms`` after its end by the venue's clock.

The connection is *silent* after ``data_age_max_ns`` without market data (pings are no data) and is
then replaced. While it is down the books are void: ``FeedDisconnected`` names them, and the first
quote of the next connection brings them back. As the stream tells quotes only when they change, the
current ones are read from REST when a connection is new. Quotes are coalesced to one in
``quote_every_ns`` an instrument.

An unreadable frame drops the connection: nobody knows what it said.

Must not: tell a bar twice, out of order, or before it is closed; or fill a hole with a guess.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fleet import logs
from fleet.clock import NS_PER_MS, NS_PER_SECOND, Clock, LiveClock
from fleet.domain.events import AnyEvent, FeedConnected, FeedDisconnected, FrameRejected
from fleet.domain.instruments import InstrumentId
from fleet.domain.market import BookSnapshot
from fleet.venues.crypto.bars import INTERVALS_MS, BarSequence, Candle, candle
from fleet.venues.crypto.catalog import SymbolRules
from fleet.venues.crypto.client import KLINES_MAX, BinanceClient
from fleet.venues.crypto.wire_stream import CandleSeen, FrameError, read_frame, snapshot
from fleet.venues.port import AnswerInvalid, EventSink, FeedHealth, VenueError
from fleet.venues.transport import Jitter
from fleet.venues.websocket import Action, Session, SessionSettings, SessionState, SocketLink

STREAMS_MAX: Final = 300
"""Binance allows 1,024 a connection; the address line must not grow without end."""
POLL_S: Final = 0.1
CONNECTION: Final = "binance"


def _session() -> SessionSettings:
    # Binance ends a connection after 24 hours by itself: then it is simply opened again.
    return SessionSettings(lifetime_ns=0, data_age_max_ns=60 * NS_PER_SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoFeedSettings:
    """``history`` is how many bars before now are told first, for warming up."""

    interval: str = "1m"
    history: int = 0
    trades: bool = True
    late_s: float = 3.0
    settle_ms: int = 1_000
    retry_s: float = 1.0
    quote_every_ns: int = 100 * NS_PER_MS
    session: SessionSettings = field(default_factory=_session)


class CryptoFeed:
    """The market data of some symbols."""

    def __init__(
        self, client: BinanceClient, rules: Mapping[InstrumentId, SymbolRules], sink: EventSink, *,
        settings: CryptoFeedSettings | None = None, since_ns: int = 0, clock: Clock | None = None,
        jitter: Jitter = random.random,
    ) -> None:  # fmt: skip
        """``since_ns`` is the close of the last bar already known; it wins over ``history``.

        ``client`` may have no key. Raises ``ValueError`` for an interval nobody knows, or no or too
        many symbols.
        """
        self._settings = settings or CryptoFeedSettings()
        if self._settings.interval not in INTERVALS_MS:
            raise ValueError(
                f"no interval {self._settings.interval!r}; there are {', '.join(INTERVALS_MS)}"
            )
        self._step_ms = INTERVALS_MS[self._settings.interval]
        self._client, self._sink, self._since_ns = client, sink, since_ns
        self._clock, self._jitter = clock or LiveClock(), jitter
        self._tokens = {rule.symbol: token for token, rule in rules.items()}
        names = (f"kline_{self._settings.interval}", "bookTicker") + (
            ("trade",) if self._settings.trades else ()
        )
        streams = [f"{s.lower()}@{name}" for s in self._tokens for name in names]
        if not 0 < len(streams) <= STREAMS_MAX:
            raise ValueError(f"{len(streams)} streams; between 1 and {STREAMS_MAX} are possible")
        self._url = f"{client.hosts.ws_url}/stream?streams={'/'.join(streams)}"
        self._bars: dict[InstrumentId, BarSequence] = {}
        self._quoted: dict[InstrumentId, int] = {}
        self._held: dict[InstrumentId, BookSnapshot] = {}
        self._log = logs.get("feed")
        self._session = Session(self._settings.session, now_ns=self._clock.now_ns(), jitter=jitter)
        self._link: SocketLink | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._retry_ns = 0
        self._fresh = False
        self._stopped = False
        self._failure = ""
        self._losses = self._reconnects = self._frames = self._rejected = 0

    @property
    def skipped(self) -> int:
        """Bars the venue itself does not have, of all instruments."""
        return sum(sequence.skipped for sequence in self._bars.values())

    async def start(self) -> None:
        """Measure the venue's clock and begin to connect. Raises ``VenueError``."""
        await self._client.start()
        now_ms = self._client.venue_ns() // NS_PER_MS
        open_ms = now_ms - now_ms % self._step_ms
        due_ms = open_ms - self._settings.history * self._step_ms
        if self._since_ns:
            due_ms = self._since_ns // NS_PER_MS
            due_ms -= due_ms % self._step_ms
        for token in self._tokens.values():
            self._bars[token] = BarSequence(token, self._step_ms, due_ms)
        self._spawn(self._keep())

    async def stop(self) -> None:
        """Close the connection; no fact is emitted afterwards. The client stays open."""
        self._stopped = True
        if self._link is not None:
            self._link.close("stopped")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def health(self) -> FeedHealth:
        """How the feed is doing, now."""
        connected = self._session.state is SessionState.OPEN and not self._failure
        age_ns = self._clock.now_ns() - self._session.data_ns if connected else 0
        return FeedHealth(
            connections=1, connected=int(connected),
            awaiting=sum(t not in self._quoted for t in self._bars) if connected
            else len(self._tokens),
            data_age_ns=age_ns, reconnects=self._reconnects, rotations=0, frames=self._frames,
            rejected=self._rejected, failure=self._failure,
        )  # fmt: skip

    # --- the connection -----------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            now_ns = self._clock.now_ns()
            while (action := self._session.poll(now_ns)) is not None:
                self._act(action, now_ns)
            self._flush_quotes(now_ns)
            if now_ns >= self._retry_ns and self._needs_bars():
                await self._catch_up()
            await asyncio.sleep(POLL_S)

    def _act(self, action: Action, now_ns: int) -> None:
        if action is Action.CONNECT:
            link = SocketLink(self._opened, self._frame, self._closed)
            self._link = link
            timeout_s = self._settings.session.connect_timeout_ns / NS_PER_SECOND
            self._spawn(link.run(self._url, connect_timeout_s=timeout_s))
        elif action is Action.DROP_SILENT:
            age_s = (now_ns - self._session.data_ns) / NS_PER_SECOND
            self._drop(f"no market data for {age_s:.1f} s")
        elif action is Action.DROP_TIMEOUT:
            self._drop("no connection within the time limit")
        # PING: Binance pings us, and picows answers.

    def _drop(self, reason: str) -> None:
        if self._link is not None:
            self._link.close(reason)

    def _opened(self) -> None:
        now_ns = self._clock.now_ns()
        self._session.opened(now_ns)
        self._reconnects += 1 if self._losses else 0
        self._quoted.clear()
        self._fresh = True
        self._log.info("WebSocket connected", connection=CONNECTION, instruments=len(self._tokens))
        tokens = tuple(self._tokens.values())
        self._emit([FeedConnected(ts_recv=now_ns, connection=CONNECTION, instruments=tokens)])

    def _closed(self, reason: str) -> None:
        if self._stopped:
            return
        now_ns = self._clock.now_ns()
        was_open = self._session.state is SessionState.OPEN
        delay_ns = self._session.closed(now_ns)
        self._losses += 1
        self._held.clear()
        self._quoted.clear()
        self._log.warning("WebSocket lost", connection=CONNECTION, reason=reason,
                          retry_s=round(delay_ns / NS_PER_SECOND, 3))  # fmt: skip
        if was_open:
            self._emit([FeedDisconnected(
                ts_recv=now_ns, connection=CONNECTION, instruments=tuple(self._tokens.values()),
                reason=reason)])  # fmt: skip

    def _frame(self, frame: memoryview) -> None:
        now_ns = self._clock.now_ns()
        self._frames += 1
        try:
            seen = read_frame(frame, self._tokens, now_ns)
        except FrameError as error:
            self._rejected += 1
            self._emit([FrameRejected(ts_recv=now_ns, reason=str(error))])
            self._drop(f"unreadable frame ({error})")
            return
        if seen is None:
            return
        self._session.data_ns = now_ns
        if isinstance(seen, CandleSeen):
            if seen.closed and seen.interval == self._settings.interval:
                self._emit(self._bars[seen.instrument_id].offer(seen.candle, now_ns))
        elif isinstance(seen, BookSnapshot):
            self._held[seen.instrument_id] = seen
            self._flush_quotes(now_ns)
        else:
            self._emit([seen])

    def _flush_quotes(self, now_ns: int) -> None:
        for token in list(self._held):
            if now_ns - self._quoted.get(token, 0) >= self._settings.quote_every_ns:
                self._quoted[token] = now_ns
                self._emit([self._held.pop(token)])

    # --- what the stream does not tell --------------------------------------------------------

    def _needs_bars(self) -> bool:
        return self._fresh or any(
            sequence.gap or self._overdue(sequence) for sequence in self._bars.values()
        )

    def _overdue(self, sequence: BarSequence) -> bool:
        over_ms = self._client.venue_ns() // NS_PER_MS - sequence.due_ms - self._step_ms
        return over_ms >= self._settings.late_s * 1_000

    async def _catch_up(self) -> None:
        """Read missing bars, and after a connection the quotes. A failure is tried again."""
        fresh, self._fresh = self._fresh, False
        try:
            for symbol, token in self._tokens.items():
                sequence = self._bars[token]
                if fresh or sequence.gap or self._overdue(sequence):
                    await self._read_bars(symbol, sequence)
                if fresh and token not in self._quoted:
                    await self._read_quote(symbol, token)
        except VenueError as error:
            self._fresh = fresh or self._fresh
            self._log.warning("BARS cannot be read", reason=str(error))
        self._retry_ns = self._clock.now_ns() + int(self._settings.retry_s * NS_PER_SECOND)

    async def _read_bars(self, symbol: str, sequence: BarSequence) -> None:
        while True:
            settled_ms = self._client.venue_ns() // NS_PER_MS - self._settings.settle_ms
            if sequence.due_ms + self._step_ms > settled_ms:
                return
            rows = await self._client.klines(
                symbol, self._settings.interval, since_ms=sequence.due_ms
            )
            told = 0
            for row in rows:
                if row[0] + self._step_ms > settled_ms:
                    break
                if row[0] > sequence.due_ms:
                    missing = sequence.skip_to(row[0])
                    self._log.warning("BARS missing at the venue", symbol=symbol, bars=missing)
                bars = sequence.offer(_candle_of(row), self._clock.now_ns())
                told += len(bars)
                self._emit(bars)
            if len(rows) < KLINES_MAX or not told:
                return

    async def _read_quote(self, symbol: str, token: InstrumentId) -> None:
        row = await self._client.book_ticker(symbol)
        now_ns = self._clock.now_ns()
        if token not in self._quoted and self._session.state is SessionState.OPEN:
            self._quoted[token] = now_ns
            quote = (row.bid_price, row.bid_qty, row.ask_price, row.ask_qty)
            self._emit([snapshot(token, *quote, now_ns)])

    # --- small things -------------------------------------------------------------------------

    def _emit(self, facts: Sequence[AnyEvent]) -> None:
        if facts and not self._stopped:
            self._sink(facts)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(task := asyncio.get_running_loop().create_task(work))
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None or self._failure:
            return
        self._failure = f"{type(error).__name__}: {error}"
        self._log.error("WebSocket feed failed", error=self._failure, exc_info=error)
        for other in self._tasks:
            other.cancel()


def _candle_of(row: list[Any]) -> Candle:
    try:
        opened, high, low, closed, volume = (str(value) for value in row[1:6])
        return candle(int(row[0]), (opened, high, low, closed, volume))
    except (ValueError, TypeError, IndexError):
        raise AnswerInvalid(f"klines: a row is no candle: {row!r}") from None
