"""Samples the tops of all books every so often, keeps them, and tells the strategies.

After a start what was kept is told first, as the same events, so a strategy that lives on history
need not store any. A sample is taken of usable, two-sided books only; a market without one is left
out, never filled in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.domain.events import AnyEvent, PricesSampled
from fleet.domain.instruments import MarketId
from fleet.domain.units import SCALE, Price
from fleet.engine.state import State
from fleet.journal.database import JournalError
from fleet.journal.price_history import PriceHistory
from fleet.runtime.components import ComponentFailed, Health
from fleet.runtime.parts import Periodic

REPLAYED_MAX: Final = 2_000
"""Samples told after a start: a week at five minutes."""
LOOK_S: Final = 1.0
PATH_STEP_NS: Final = 300 * NS_PER_SECOND
PATH_POINTS: Final = 288
"""A day in steps of five minutes: what a forecaster is told of a price's way."""


class PriceSampler(Periodic):
    """A component; samples go to ``sink`` every ``every_ns``."""

    def __init__(
        self,
        state: State,
        open_history: Callable[[], PriceHistory],
        clock: Clock,
        sink: Callable[[Sequence[AnyEvent]], None],
        *,
        every_ns: int,
        references: Callable[[], Sequence[tuple[str, int]]] = tuple,
    ) -> None:
        """Sample ``state`` into a history; ``references`` gives the fresh prices of underlyings."""
        super().__init__("prices", min(LOOK_S, every_ns / NS_PER_SECOND))
        self._state = state
        self._open_history = open_history
        self._history: PriceHistory | None = None
        self._clock = clock
        self._sink = sink
        self._every_ns = every_ns
        self._references = references
        self._next_ns = 0
        self._paths: dict[MarketId, deque[tuple[int, float]]] = {}
        self._problem = ""
        self._log = logs.get("prices")

    def path(self, market_id: MarketId) -> Sequence[tuple[int, float]]:
        """The probability of YES over the last day, (time, mid price), oldest first."""
        return tuple(self._paths.get(market_id, ()))

    def _remember(self, sample: PricesSampled) -> None:
        for market_id, bid, ask in sample.quotes:
            path = self._paths.setdefault(market_id, deque(maxlen=PATH_POINTS))
            if not path or sample.ts_event - path[-1][0] >= PATH_STEP_NS:
                path.append((sample.ts_event, (bid + ask) / 2 / SCALE))

    async def start(self) -> None:
        """Tell what was kept, then sample. Raises ``ComponentFailed``."""
        try:
            if self._history is None:
                self._history = self._open_history()
            kept = self._history.newest(REPLAYED_MAX) if not self._next_ns else ()
        except JournalError as error:
            raise ComponentFailed(str(error)) from error
        if not self._next_ns:
            self._next_ns = self._clock.now_ns()
            universe = self._state.universe.markets
            if kept:
                self._log.info("PRICES of before", samples=len(kept))
                known = [_known(sample, universe) for sample in kept]
                for sample in known:
                    self._remember(sample)
                self._sink(known)
                self._next_ns = max(self._next_ns, kept[-1].ts_event + self._every_ns)
        await super().start()

    def beat(self) -> None:
        """Sample once if it is due and there is anything to see."""
        now_ns = self._clock.now_ns()
        if now_ns < self._next_ns:
            return
        quotes: list[tuple[MarketId, Price, Price]] = []
        for market in self._state.universe.markets.values():
            book = self._state.books[market.yes]
            if book.usable and book.best_bid and market.yes not in self._state.resolved:
                quotes.append((market.id, book.bid, book.ask))
        if not quotes:
            return
        self._next_ns = now_ns + self._every_ns
        sample = PricesSampled(now_ns, now_ns, tuple(quotes), tuple(self._references()))
        self._remember(sample)
        try:
            if self._history is not None:
                self._history.add(sample)
            self._problem = ""
        except JournalError as error:
            self._problem = f"prices are not kept: {error}"
        self._sink([sample])

    async def stop(self) -> None:
        """Stop sampling and close the file."""
        await super().stop()
        if self._history is not None:
            self._history.close()
            self._history = None

    def health(self) -> Health:
        """Unhealthy while prices cannot be kept."""
        return Health(ok=False, detail=self._problem) if self._problem else super().health()


def _known(sample: PricesSampled, universe: Container[MarketId]) -> PricesSampled:
    quotes = tuple(quote for quote in sample.quotes if quote[0] in universe)
    return sample._replace(quotes=quotes)
