"""Replay: recorded frames through the very engine, strategy, risk, paper venue and journal that
trade.

Time is event time: the receive time on a tape, the venue's own time in a recording that has no
other. It never goes back, order reports come before market data of the same instant, and nothing
depends on the machine, so the same file and settings give the same command stream, whose hash is
reported. A connection that was silent for longer than the feed's watchdog allows would have been
dropped in life; replay drops it too, so books stay void until their next snapshot.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from fleet.domain import events as ev
from fleet.domain.commands import Approved, CancelOrder, Command, StartTimer
from fleet.domain.instruments import InstrumentId, Universe
from fleet.domain.units import SCALE, Cash
from fleet.engine.book import Book
from fleet.engine.bundles import LedgerTotals
from fleet.engine.engine import Engine, Strategy
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.venues.paper import PaperSettings, PaperVenue

TICK_NS: Final = 1_000_000_000
BY: Final = "replay"
SETTLE_TICKS: Final = 30
"""Seconds after the last frame in which orders, settlements and merges may still end."""
MARKET: Final = (ev.BookChanged, ev.BookSnapshot)


class Frame(Protocol):
    """What a tape or recording yields."""

    @property
    def ts_recv(self) -> int:
        """Receive time, ns; 0 when the recording has none."""
        ...

    @property
    def payload(self) -> bytes:
        """The raw text frame; empty on a tape's own marks."""
        ...

    @property
    def kind(self) -> int:
        """0 a frame, 1 a connection came up, 2 one was lost."""
        ...


class _Mark(msgspec.Struct):
    """A tape's note that a connection came up or was lost: these books are void."""

    instruments: tuple[InstrumentId, ...]
    reason: str = ""


Decode = Callable[[bytes, int], Sequence[ev.AnyEvent]]


@dataclass(slots=True)
class MarketQuality:
    """What the recorded market looked like."""

    frames: int = 0
    events: int = 0
    rejected: int = 0
    crossed: int = 0
    """Frames after which the last book they touched was crossed or locked."""
    moments: int = 0
    """Venue milliseconds at whose end both books of the touched market were usable."""
    mirrored: int = 0
    """Those at which YES and NO mirrored each other at the top."""
    gaps: int = 0
    """Silences longer than the watchdog, at which books were dropped."""


@dataclass(slots=True)
class ReplayReport:
    """The outcome of one replay."""

    quality: MarketQuality
    figures: Mapping[str, int]
    """The strategy's own counters."""
    ledger: LedgerTotals
    orders: int
    refused: dict[str, int]
    pnl: Cash
    fees: Cash
    open_cost: Cash
    command_hash: str
    seconds: float = 0.0
    anomalies: str = ""
    instruments: int = 0
    first_ns: int = 0
    last_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """How to replay. ``watchdog_ns`` 0 trusts books over any silence."""

    limits: RiskLimits = field(default_factory=RiskLimits)
    paper: PaperSettings = field(default_factory=PaperSettings)
    watchdog_ns: int = 30_000_000_000


class DecisionLog:
    """A journal that remembers only counts, so that memory stays flat over any length."""

    def __init__(self) -> None:
        """Nothing written yet."""
        self.written = 0
        self.refused: Counter[str] = Counter()

    def write(self, events: Sequence[ev.Event]) -> int:
        """Count the events and the refusal codes among them."""
        self.written += len(events)
        for event in events:
            if isinstance(event, ev.DecisionMade):
                self.refused.update(refusal.code.value for refusal in event.refused)
        return self.written


class Replay:
    """One engine with its paper venue, fed by frames."""

    def __init__(
        self,
        universe: Universe,
        settings: ReplaySettings,
        decode: Decode,
        build: Callable[[View], Strategy],
    ) -> None:
        """Build the bot with the strategy ``build`` makes; trading starts with the first frame."""
        self.settings = settings
        self.state = State(universe)
        self.strategy = build(View(self.state))
        self.journal = DecisionLog()
        self.engine = Engine(
            state=self.state,
            strategy=self.strategy,
            risk=Risk(settings.limits),
            journal=self.journal,
        )
        self.quality = MarketQuality()
        self._decode = decode
        self._venue: PaperVenue | None = None
        self._hash = hashlib.sha256()
        self._orders = 0
        self._now_ns = 0
        self._first_ns = 0
        self._next_tick_ns = 0
        self._wake_ns = 0
        """When something other than a frame happens next; frames before it need no look."""
        self._gap_ns = settings.watchdog_ns or 1 << 62
        self._moment_ns = 0
        self._pairs = _pairs(universe, self.state)
        self._newest: ev.BookChanged | ev.BookSnapshot | None = None
        self._timers: list[tuple[int, str]] = []

    def run(self, frames: Iterable[Frame]) -> ReplayReport:
        """Replay all frames and report."""
        began = time.perf_counter()
        for frame in frames:
            self.feed(frame)
        self._settle()
        return self.report(time.perf_counter() - began)

    def _settle(self) -> None:
        """Let what is under way after the last frame end: the books stand still, time goes on."""
        for _ in range(SETTLE_TICKS if self._venue is not None else 0):
            self._pass_until(self._now_ns + TICK_NS)

    def feed(self, frame: Frame) -> None:
        """Replay one frame, or drop the books where the tape says that a connection was lost."""
        if frame.kind:
            if self._venue is not None:
                self._let_time_pass(frame.ts_recv)
                mark = msgspec.json.decode(frame.payload, type=_Mark)
                self._drop_books(frame.ts_recv, mark.reason or "reconnected", mark.instruments)
            return
        self.quality.frames += 1
        for event in self._decode(frame.payload, frame.ts_recv):
            at_ns = event.ts_recv or event.ts_event
            if at_ns >= self._wake_ns or at_ns - self._now_ns > self._gap_ns:
                self._let_time_pass(at_ns)
            elif at_ns > self._now_ns:
                self._now_ns = at_ns
            self.quality.events += 1
            if isinstance(event, MARKET):
                if event.ts_event != self._moment_ns:
                    self._end_moment(event.ts_event)
                self._newest = event
            elif isinstance(event, ev.FrameRejected):
                self.quality.rejected += 1
            elif isinstance(event, ev.TradePrinted) and self._venue is not None:
                self._venue.on_trade(event)
                self._plan_wake()
            commands = self.engine.handle(event)
            if commands:
                self._carry_out(commands)

    # --- time ---------------------------------------------------------------------------------

    def _let_time_pass(self, at_ns: int) -> None:
        if self._venue is None:
            self._begin(at_ns)
        elif at_ns - self._now_ns > self._gap_ns:
            # The watchdog of the feed drops the books when the silence has lasted long enough; what
            # was due before still met them.
            self._pass_until(self._now_ns + self._gap_ns)
            self.quality.gaps += 1
            self._drop_books(
                self._now_ns, "silent for longer than the watchdog allows", tuple(self.state.books)
            )
        self._pass_until(at_ns)

    def _pass_until(self, at_ns: int) -> None:
        """Let answers, timers and ticks happen, each at its time, up to ``at_ns``."""
        while self._venue is not None and self._plan_wake() <= at_ns:
            due = max(self._now_ns, self._wake_ns)
            self._now_ns = due
            for answer in self._venue.advance(due):
                self._handle(answer)
            if due >= self._next_tick_ns:
                self._next_tick_ns = max(self._next_tick_ns + TICK_NS, at_ns - TICK_NS)
                self._handle(ev.TimerFired(ts_event=due, ts_recv=due, name="tick"))
            while self._timers and self._timers[0][0] <= due:
                at, name = self._timers.pop(0)
                self._handle(ev.TimerFired(ts_event=at, ts_recv=due, name=name))
        self._now_ns = max(self._now_ns, at_ns)

    def _plan_wake(self) -> int:
        """When something other than a frame happens next."""
        due = self._venue.next_due_ns() if self._venue is not None else None
        timer = self._timers[0][0] if self._timers else None
        self._wake_ns = min(t for t in (due, timer, self._next_tick_ns) if t is not None)
        return self._wake_ns

    def _begin(self, at_ns: int) -> None:
        self._first_ns = self._now_ns = at_ns
        self._next_tick_ns = at_ns + TICK_NS
        self._venue = PaperVenue(
            settings=self.settings.paper,
            instruments=self.state.universe.instruments,
            books=self.state.books,
            ledger=DecisionLog(),
            now_ns=at_ns,
        )
        stamp = {"ts_event": at_ns, "ts_recv": at_ns}
        self._handle(
            ev.CashDeposited(**stamp, deposit_id="paper-start", amount=self.settings.paper.cash)
        )
        self._handle(ev.Reconciled(**stamp, venue="paper", adopted=0))
        self._handle(
            ev.TradingStateChanged(
                **stamp, state=ev.TradingState.ACTIVE, reason="replay begins", by=BY
            )
        )

    def _drop_books(self, at_ns: int, reason: str, tokens: tuple[InstrumentId, ...]) -> None:
        self._newest = None
        self._handle(
            ev.FeedDisconnected(
                ts_event=at_ns,
                ts_recv=at_ns,
                connection="recording",
                instruments=tokens,
                reason=reason,
            )
        )

    # --- acting -------------------------------------------------------------------------------

    def _handle(self, event: ev.Event) -> None:
        self._carry_out(self.engine.handle(event))

    def _carry_out(self, commands: Sequence[Command]) -> None:
        for command in commands:
            self._hash.update(repr((self._now_ns, command)).encode())
            match command:
                case Approved():
                    self._orders += 1
                    if self._venue is not None:
                        self._venue.submit(command.request, self._now_ns)
                case CancelOrder():
                    if self._venue is not None:
                        self._venue.cancel(command.client_order_id, self._now_ns)
                case StartTimer():
                    self._timers.append((command.at_ns, command.name))
                    self._timers.sort()
        if commands:
            self._plan_wake()

    # --- looking ------------------------------------------------------------------------------

    def _end_moment(self, next_ns: int) -> None:
        """At the end of a venue millisecond, see whether the pair touched last mirrors itself."""
        self._moment_ns = next_ns
        event = self._newest
        if event is None:
            return
        token = event.changes[0][0] if isinstance(event, ev.BookChanged) else event.instrument_id
        pair = self._pairs.get(token)
        if pair is None or not (pair[0].ready and pair[1].ready):
            return
        yes, no = pair
        self.quality.moments += 1
        self.quality.mirrored += yes.bid + no.ask == SCALE and yes.ask + no.bid == SCALE

    def report(self, seconds: float) -> ReplayReport:
        """What happened so far."""
        state = self.state
        self.quality.crossed = state.crossed_frames
        return ReplayReport(
            quality=self.quality,
            figures=self.strategy.figures(),
            ledger=state.bundles.totals,
            orders=self._orders,
            refused=dict(sorted(self.journal.refused.items())),
            pnl=Cash(
                state.portfolio.cash + self.engine.view.marked_value() - state.portfolio.deposited
            ),
            fees=state.portfolio.fees,
            open_cost=state.portfolio.cost,
            command_hash=self._hash.hexdigest(),
            seconds=seconds,
            anomalies=state.trading_reason if state.trading is ev.TradingState.HALTED else "",
            instruments=len(state.universe.instruments),
            first_ns=self._first_ns,
            last_ns=self._now_ns,
        )


def _pairs(universe: Universe, state: State) -> dict[InstrumentId, tuple[Book, Book]]:
    pairs: dict[InstrumentId, tuple[Book, Book]] = {}
    for market in universe.markets.values():
        pairs[market.yes] = pairs[market.no] = (state.books[market.yes], state.books[market.no])
    return pairs
