"""Market data from Polymarket's websocket (or the sandbox's: only the address differs).

``MarketFeed`` deals the instruments to shards of at most 200, the two tokens of a market always
together, and keeps the shards' clock. How a shard keeps its books honest is told in ``shard.py``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

from fleet.clock import NS_PER_SECOND, Clock, LiveClock
from fleet.domain.instruments import InstrumentId, Market
from fleet.journal.tape import Tape
from fleet.venues.polymarket.shard import FeedContext, FeedSettings, Shard
from fleet.venues.polymarket.wire import Decoder
from fleet.venues.port import EventSink, FeedHealth
from fleet.venues.transport import Jitter
from fleet.venues.websocket import SessionState

SLEEP_MAX_S: Final = 1.0


def token_groups(markets: Iterable[Market]) -> list[tuple[InstrumentId, ...]]:
    """The two tokens of each market, to be kept on one connection."""
    return [(market.yes, market.no) for market in markets]


def deal_shards(
    groups: Sequence[Sequence[InstrumentId]], assets_max: int
) -> list[tuple[InstrumentId, ...]]:
    """Fill shards of at most ``assets_max`` instruments, never splitting a group.

    Raises ``ValueError`` for a group larger than a shard. A token named twice is subscribed once.
    """
    shards: list[list[InstrumentId]] = []
    seen: set[InstrumentId] = set()
    for group in groups:
        fresh = [token for token in dict.fromkeys(group) if token not in seen]
        seen.update(fresh)
        if len(fresh) > assets_max:
            raise ValueError(
                f"a group of {len(fresh)} tokens does not fit {assets_max} a connection"
            )
        if fresh and (not shards or len(shards[-1]) + len(fresh) > assets_max):
            shards.append([])
        if fresh:
            shards[-1].extend(fresh)
    return [tuple(shard) for shard in shards]


class MarketFeed:
    """The market channel for some instruments."""

    def __init__(
        self,
        url: str,
        groups: Sequence[Sequence[InstrumentId]],
        sink: EventSink,
        *,
        settings: FeedSettings | None = None,
        tape: Tape | None = None,
        clock: Clock | None = None,
        jitter: Jitter = random.random,
    ) -> None:
        """Subscribe to ``groups`` of tokens at ``url`` (``ws://host:port/ws/market``).

        Each group (a market's two tokens: ``token_groups``) stays on one connection. Raises
        ``ValueError`` if there is nothing to subscribe to or a group is too large.
        """
        self._context = FeedContext(
            url=url,
            sink=sink,
            settings=settings or FeedSettings(),
            tape=tape,
            clock=clock or LiveClock(),
            jitter=jitter,
            spawn=self._spawn,
        )
        shards = deal_shards(groups, self._context.settings.assets_max)
        if not shards:
            raise ValueError("no instruments to subscribe to: is the catalogue empty?")
        self._context.size = len(shards)
        self._shards = [Shard(self._context, index, tokens) for index, tokens in enumerate(shards)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure = ""
        self._started = False

    @property
    def decoder(self) -> Decoder:
        """The decoder, for its counters of ignored and rejected frames."""
        return self._context.decoder

    async def start(self) -> None:
        """Begin to connect; returns at once. A feed is started once in its life."""
        if self._started:
            raise ValueError("a MarketFeed is started once; make a new one")
        self._started = True
        self._spawn(self._keep())

    async def stop(self) -> None:
        """Close every connection; no fact is emitted afterwards."""
        for shard in self._shards:
            shard.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def health(self) -> FeedHealth:
        """How the feed is doing, now."""
        context = self._context
        now_ns = context.clock.now_ns()
        links = [s.active for s in self._shards if s.active.session.state is SessionState.OPEN]
        return FeedHealth(
            connections=context.size,
            connected=0 if self._failure else len(links),
            awaiting=sum(
                len(s.active.awaiting) if s.active in links else len(s.tokens) for s in self._shards
            ),
            data_age_ns=max((now_ns - link.session.data_ns for link in links), default=0),
            reconnects=context.reconnects,
            rotations=context.rotations,
            frames=context.frames,
            rejected=context.rejected,
            failure=self._failure,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task's end. An exception is a defect of this program: the feed stops and says so."""
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None or self._failure:
            return
        self._failure = f"{type(error).__name__}: {error}"
        self._context.log.error("WebSocket feed failed", error=self._failure, exc_info=error)
        for other in self._tasks:
            other.cancel()
        for shard in self._shards:
            shard.close()
            shard.fail()

    async def _keep(self) -> None:
        """Do what is due, sleep until the next deadline, for ever."""
        context = self._context
        while True:
            context.awake.clear()
            now_ns = context.clock.now_ns()
            for shard in self._shards:
                shard.poll(now_ns)
            wake_ns = min(shard.wake_ns() for shard in self._shards)
            delay_s = (wake_ns - context.clock.now_ns()) / NS_PER_SECOND
            try:
                await asyncio.wait_for(context.awake.wait(), min(max(0.0, delay_s), SLEEP_MAX_S))
            except TimeoutError:
                continue
