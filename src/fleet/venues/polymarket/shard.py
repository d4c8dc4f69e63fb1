"""One shard of a market feed: up to 200 instruments on one connection, and who speaks for them.

Theory of operation. A shard keeps one *active* link (one socket). Its books are valid from a
snapshot until the shard says otherwise, and it says so whenever it cannot vouch for them:

- link lost, closed or silent (no market data for ``data_age_max_ns``; PONG does not count): a
  ``FeedDisconnected`` naming the instruments, reconnect with back-off, ``FeedConnected``,
  subscribe, snapshots. A quiet set of markets is thereby reconnected every 30 s: silence is
  suspect, never "no change". Give quiet sets a longer limit.
- a frame that could not be read: a change may be missing, so the same as a lost link.
- a frame older than one before it (``link``): that market's books are void; subscribe again.
- a tick size changed: the engine voids that book; the shard subscribes again to get its snapshot.
- no snapshot within ``snapshot_timeout_ns``: subscribe again, with growing patience.

Planned reconnects (every ``lifetime_ns``, staggered over the shards) keep the books valid: a *next*
link is opened beside the active one, and each instrument is handed over at the moment its fresh
snapshot arrives on the next link. From then on only that link speaks for it. When all are over, or
at the snapshot timeout, the old link is closed; what was not handed over is declared void. If
either link dies meanwhile, the instruments it speaks for are declared void.

Must not: change a fact, hold a fact back, or take silence for calm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final

import msgspec

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.domain.events import (
    AnyEvent,
    BookChanged,
    BookSnapshot,
    FeedConnected,
    FeedDisconnected,
    FrameRejected,
    TickSizeChanged,
    TradePrinted,
)
from fleet.domain.instruments import InstrumentId
from fleet.journal.tape import FrameKind, Tape
from fleet.venues.polymarket.frames import UNKNOWN_TYPE
from fleet.venues.polymarket.link import Link
from fleet.venues.polymarket.wire import Decoder
from fleet.venues.port import EventSink
from fleet.venues.transport import Jitter
from fleet.venues.websocket import (
    NEVER_NS,
    Action,
    Session,
    SessionSettings,
    SessionState,
    SocketLink,
)

ASSETS_MAX: Final = 200
"""Above 500 assets a connection silently gets no snapshots (NautilusTrader docs, 2026-07-02)."""
PING: Final = b"PING"
SNAPSHOT_PATIENCE_MAX_NS: Final = 300 * NS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """Limits of a market feed. ``custom_features`` adds listings, resolutions and best quotes."""

    session: SessionSettings = field(default_factory=SessionSettings)
    assets_max: int = ASSETS_MAX
    snapshot_timeout_ns: int = 10 * NS_PER_SECOND
    custom_features: bool = True


class FeedContext:
    """What the shards of a feed share: where to connect, where facts go, and the counters."""

    def __init__(
        self,
        *,
        url: str,
        sink: EventSink,
        settings: FeedSettings,
        tape: Tape | None,
        clock: Clock,
        jitter: Jitter,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """``spawn`` runs a coroutine as a task whose failure ends the feed."""
        self.url, self.sink, self.settings, self.tape = url, sink, settings, tape
        self.clock, self.jitter, self.spawn = clock, jitter, spawn
        self.decoder = Decoder()
        self.decode = self.decoder.decode
        self.log = logs.get("feed")
        self.awake = asyncio.Event()
        self.size = 1
        """How many shards there are."""
        self.frames = self.rejected = self.reconnects = self.rotations = 0
        self._numbers = count(1)

    def new_session(self) -> Session:
        """A session that wants to connect now."""
        return Session(self.settings.session, now_ns=self.clock.now_ns(), jitter=self.jitter)

    def next_number(self) -> int:
        """The number of a new link, as written on the tape."""
        return next(self._numbers)

    def wake(self) -> None:
        """Something changed: look at the deadlines again."""
        self.awake.set()


class Shard:
    """The instruments of one connection and the one or two links that serve them."""

    def __init__(self, feed: FeedContext, index: int, tokens: tuple[InstrumentId, ...]) -> None:
        self.feed, self.index, self.tokens = feed, index, tokens
        self.name = f"market-{index}"
        self.active = Link(feed.new_session())
        self.next: Link | None = None
        self.losses = 0

    def poll(self, now_ns: int) -> None:
        """Do everything that is due."""
        for link in (self.active, self.next):
            while link is not None and not link.dropped:
                action = link.session.poll(now_ns)
                if action is None:
                    break
                self._act(link, action, now_ns)
            if link is not None and not link.dropped and now_ns >= link.snapshot_due_ns:
                self._snapshots_late(link, now_ns)

    def wake_ns(self) -> int:
        """When ``poll`` is due next, if nothing happens before."""
        wake = self.active.wake_ns()
        return wake if self.next is None else min(wake, self.next.wake_ns())

    def _act(self, link: Link, action: Action, now_ns: int) -> None:
        if action is Action.CONNECT:
            self._connect(link)
        elif action is Action.PING:
            self._send(link, PING)
        elif action is Action.ROTATE:
            if self.next is None and link is self.active:
                self.next = Link(self.feed.new_session(), owned=set())
                self.feed.wake()
        elif action is Action.DROP_SILENT:
            age_s = (now_ns - link.session.data_ns) / NS_PER_SECOND
            self.drop(link, f"no market data for {age_s:.1f} s")
        else:
            self.drop(link, "no connection within the time limit")

    def _connect(self, link: Link) -> None:
        link.number = self.feed.next_number()
        link.socket = SocketLink(
            partial(self._opened, link), partial(self._frame, link), partial(self._closed, link)
        )
        timeout_s = self.feed.settings.session.connect_timeout_ns / NS_PER_SECOND
        link.task = self.feed.spawn(link.socket.run(self.feed.url, connect_timeout_s=timeout_s))

    # --- links come and go --------------------------------------------------------------------

    def _opened(self, link: Link) -> None:
        if link.dropped:
            return
        feed, now_ns = self.feed, self.feed.clock.now_ns()
        # The first lifetimes are spread over the shards so that they never all change at once.
        share = (
            1.0
            if self.losses or link is self.next
            else (self.index + 1 + feed.size) / (2 * feed.size)
        )
        link.session.opened(now_ns, share=share)
        self._await_snapshots(link, self.tokens, now_ns)
        feed.log.info("WebSocket connected", connection=self.name, link=link.number,
                      instruments=len(self.tokens), planned=link is self.next)  # fmt: skip
        if link is self.active:
            feed.reconnects += 1 if self.losses else 0
            self._emit(
                FeedConnected(ts_recv=now_ns, connection=self.name, instruments=self.tokens), link
            )
        request = {"type": "market", "assets_ids": self.tokens,
                   "custom_feature_enabled": feed.settings.custom_features}  # fmt: skip
        self._send(link, msgspec.json.encode(request))
        feed.wake()

    def _closed(self, link: Link, reason: str) -> None:
        """The socket ended by itself (what we dropped is forgotten already)."""
        link.task = None
        if not link.dropped:
            self.drop(link, reason)

    def drop(self, link: Link, reason: str) -> None:
        """Give a link up and declare void what it spoke for."""
        now_ns = self.feed.clock.now_ns()
        self._forget(link, reason)
        was_open = link.session.state is SessionState.OPEN
        delay_ns = link.session.closed(now_ns)
        self.feed.log.warning("WebSocket lost", connection=self.name, link=link.number,
                              reason=reason,
                              retry_s=round(delay_ns / NS_PER_SECOND, 3))  # fmt: skip
        if link is self.next:
            self.next = None
            void = tuple(t for t in self.tokens if t in (link.owned or ()))
            self.active.session.rotate_at(now_ns + self.feed.settings.session.backoff_max_ns)
            self._declare_void(link, void, reason, now_ns)
            if void:
                self._resubscribe(self.active, void, now_ns)
        else:
            self.losses += 1
            promoted, self.next = self.next, None
            kept = promoted.owned or set() if promoted is not None else set()
            if promoted is not None:
                promoted.owned = None
            self.active = promoted or Link(link.session)
            if was_open:
                void = tuple(t for t in self.tokens if t not in kept)
                self._declare_void(link, void, reason, now_ns)
        self.feed.wake()

    def _hand_over(self, link: Link, now_ns: int) -> None:
        """Make the next link the active one; what has no fresh snapshot there is void."""
        old, self.active, self.next = self.active, link, None
        missing = tuple(
            t for t in self.tokens if t not in (link.owned or ()) and t not in old.awaiting
        )
        link.owned = None
        self._forget(old, "replaced as planned")
        self.feed.rotations += 1
        self.feed.log.info("WebSocket replaced as planned", connection=self.name, link=link.number,
                           void=len(missing))  # fmt: skip
        self._declare_void(old, missing, "no snapshot on the new connection", now_ns)

    def _forget(self, link: Link, reason: str) -> None:
        link.dropped = True
        if link.socket is not None:
            link.socket.close(reason)
        if link.task is not None and link.session.state is SessionState.CONNECTING:
            link.task.cancel()

    def close(self) -> list[asyncio.Task[None]]:
        """Forget every link without a word; the tasks to wait for."""
        links = [link for link in (self.active, self.next) if link is not None]
        for link in links:
            self._forget(link, "stopped")
        return [link.task for link in links if link.task is not None]

    def fail(self) -> None:
        """Declare everything void: the feed has ended because of a defect."""
        self._declare_void(self.active, self.tokens, "the feed failed", self.feed.clock.now_ns())

    # --- frames -------------------------------------------------------------------------------

    def _frame(self, link: Link, frame: memoryview) -> None:
        if link.dropped:
            return
        feed = self.feed
        now_ns = feed.clock.now_ns()
        feed.frames += 1
        if feed.tape is not None:
            feed.tape.write(now_ns, link.number, frame)
        events = feed.decode(frame, now_ns)
        if self.next is None and len(events) == 1 and type(events[0]) is BookChanged \
                and link.in_order(events[0]):  # fmt: skip
            link.session.data_ns = now_ns
            feed.sink(events)
        elif events:
            self._examine(link, events, now_ns)

    def _examine(self, link: Link, events: Sequence[AnyEvent], now_ns: int) -> None:
        """Everything but a lone change on a shard at rest."""
        passed: list[AnyEvent] = []
        regrid: list[InstrumentId] = []
        overtaken: list[InstrumentId] = []
        unreadable = ""
        for event in events:
            if isinstance(event, BookChanged) and not link.in_order(event):
                overtaken += [change[0] for change in event.changes]
                continue
            if isinstance(event, BookSnapshot) and not link.is_news(event):
                overtaken.append(event.instrument_id)
                continue
            kept = self._admit(link, event, now_ns)
            if kept is not None:
                passed.append(kept)
                if isinstance(kept, TickSizeChanged):
                    regrid.append(kept.instrument_id)
            if isinstance(event, FrameRejected):
                self.feed.rejected += 1
                if not event.reason.startswith(UNKNOWN_TYPE):
                    unreadable = event.reason
        if passed:
            self.feed.sink(passed)
        if unreadable:
            self.drop(link, f"unreadable frame ({unreadable})")
            return
        if regrid:
            self._resubscribe(link, regrid, now_ns)
        if overtaken:
            self._start_afresh(link, overtaken, now_ns)
        if link is self.next and not link.awaiting - self.active.awaiting:
            self._hand_over(link, now_ns)

    def _admit(self, link: Link, event: AnyEvent, now_ns: int) -> AnyEvent | None:
        """The event, or the part of it this link speaks for."""
        if isinstance(event, BookChanged):
            link.session.data_ns = now_ns
            if self.next is None:
                return event
            changes = [change for change in event.changes if self._speaker(change[0]) is link]
            return event._replace(changes=changes) if changes else None
        if isinstance(event, BookSnapshot):
            link.session.data_ns = now_ns
            link.awaiting.discard(event.instrument_id)
            if link.owned is not None and event.instrument_id in self.tokens:
                link.owned.add(event.instrument_id)
        elif isinstance(event, TradePrinted | TickSizeChanged):
            link.session.data_ns = now_ns
        else:
            # Listings and resolutions come on every link; one voice is enough.
            return event if link is self.active or isinstance(event, FrameRejected) else None
        return event if self._speaker(event.instrument_id) is link else None

    def _speaker(self, token: InstrumentId) -> Link:
        following = self.next
        return (
            following if following is not None and token in (following.owned or ()) else self.active
        )

    # --- snapshots ----------------------------------------------------------------------------

    def _await_snapshots(self, link: Link, tokens: Sequence[InstrumentId], now_ns: int) -> None:
        if not link.awaiting:  # Or those that are missing would wait for ever behind new ones.
            link.patience_ns = self.feed.settings.snapshot_timeout_ns
            link.snapshot_due_ns = now_ns + link.patience_ns
        link.awaiting.update(tokens)

    def _snapshots_late(self, link: Link, now_ns: int) -> None:
        if not link.awaiting or link.session.state is not SessionState.OPEN:
            link.snapshot_due_ns = NEVER_NS
            return
        self.feed.log.warning("WebSocket snapshots missing", connection=self.name, link=link.number,
                              instruments=len(link.awaiting))  # fmt: skip
        if link is self.next:
            self._hand_over(link, now_ns)
        patience_ns = min(2 * link.patience_ns, SNAPSHOT_PATIENCE_MAX_NS)
        self._resubscribe(link, sorted(link.awaiting), now_ns)
        link.patience_ns, link.snapshot_due_ns = patience_ns, now_ns + patience_ns

    def _resubscribe(self, link: Link, tokens: Sequence[InstrumentId], now_ns: int) -> None:
        """Ask for fresh snapshots of some instruments: leave and join again."""
        self._await_snapshots(link, tokens, now_ns)
        if link.session.state is not SessionState.OPEN:
            return
        features = self.feed.settings.custom_features
        self._send(link, msgspec.json.encode({"operation": "unsubscribe", "assets_ids": tokens}))
        self._send(link, msgspec.json.encode(
            {"operation": "subscribe", "assets_ids": tokens, "custom_feature_enabled": features}
        ))  # fmt: skip
        self.feed.wake()

    def _start_afresh(self, link: Link, overtaken: Iterable[InstrumentId], now_ns: int) -> None:
        """Declare void what was overtaken, and ask for it; once until the snapshot is there."""
        link.session.data_ns = now_ns
        tokens = [token for token in dict.fromkeys(overtaken) if token not in link.awaiting]
        if tokens:
            void = tuple(token for token in tokens if self._speaker(token) is link)
            self._declare_void(link, void, "frames came out of order", now_ns)
            self._resubscribe(link, tokens, now_ns)

    # --- out ----------------------------------------------------------------------------------

    def _send(self, link: Link, text: bytes) -> None:
        if link.socket is not None and not link.dropped:
            link.socket.send(text)

    def _declare_void(
        self, link: Link, tokens: tuple[InstrumentId, ...], reason: str, now_ns: int
    ) -> None:
        if tokens:
            self._emit(FeedDisconnected(ts_recv=now_ns, connection=self.name, instruments=tokens,
                                        reason=reason), link)  # fmt: skip

    def _emit(self, event: FeedConnected | FeedDisconnected, link: Link) -> None:
        if self.feed.tape is not None:
            up = isinstance(event, FeedConnected)
            reason = "" if isinstance(event, FeedConnected) else event.reason
            payload = msgspec.json.encode({"instruments": event.instruments, "reason": reason})
            kind = FrameKind.CONNECTED if up else FrameKind.DISCONNECTED
            self.feed.tape.write(event.ts_recv, link.number, payload, kind)
        self.feed.sink((event,))
