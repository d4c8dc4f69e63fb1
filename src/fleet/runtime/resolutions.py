"""Notices that a market was resolved whose token is held or was forecast, also when no feed told.

At start and every ``every_s`` the venue is asked about the market of each held token of which no
answer is known: listed or not, its end past or not, because questions are answered early and end
dates are placeholders. What the venue proves becomes a ``MarketResolved`` like the feed's own, and
the strategy redeems. What it does not prove, or does not answer, is asked again; nothing is guessed
from a price. A token that left the catalogue is found by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from fleet import logs
from fleet.clock import Clock
from fleet.domain import events as ev
from fleet.domain.instruments import InstrumentId, MarketId
from fleet.engine.state import State
from fleet.runtime.components import Health
from fleet.runtime.execution import FactSink
from fleet.venues.polymarket.resolutions import Payouts, market_of, standing_of
from fleet.venues.port import VenueError
from fleet.venues.transport import JsonClient

LEAST_S: Final = 1.0
MARKETS_MAX: Final = 500
"""Markets asked about in one round; the rest comes first in the next."""


class ResolutionWatch:
    """A component; facts go to ``sink``."""

    name = "resolutions"

    def __init__(
        self, state: State, connect: Callable[[], JsonClient], sink: FactSink, clock: Clock,
        *, every_s: float, also: Callable[[], Iterable[MarketId]] = tuple,
    ) -> None:  # fmt: skip
        """Watch what ``state`` holds, and the markets ``also`` names.

        ``connect`` opens the CLOB's public side.
        """
        self._state = state
        self._connect = connect
        self._sink = sink
        self._clock = clock
        self._every_s = max(LEAST_S, every_s)
        self._also = also
        self._task: asyncio.Task[None] | None = None
        self._clob: JsonClient | None = None
        self._markets: dict[InstrumentId, MarketId] = {}
        """The markets of tokens outside the catalogue, as found out."""
        self._asked: dict[MarketId, None] = {}
        """In the order they were asked about last."""
        self._problem = ""
        self._log = logs.get("resolutions")

    async def start(self) -> None:
        """Begin to ask; returns at once."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._every_s)

    async def look(self) -> int:
        """One round; how many markets turned out to be resolved."""
        if not self._state.portfolio.positions and not tuple(self._also()):
            self._note([])
            return 0
        if self._clob is None:
            self._clob = self._connect()
        problems: list[str] = []
        found = 0
        for market_id in await self._due(self._clob, problems):
            self._asked.pop(market_id, None)
            self._asked[market_id] = None
            try:
                standing = await standing_of(self._clob, market_id)
            except VenueError as error:
                problems.append(str(error))
                continue
            if standing.closed and not standing.payouts:
                problems.append(f"market {market_id} is closed and has no winner yet")
            untold = [t for t, _ in standing.payouts if t not in self._state.resolved]
            if untold:
                found += 1
                self._tell(market_id, standing.payouts)
        self._note(problems)
        return found

    async def _due(self, clob: JsonClient, problems: list[str]) -> list[MarketId]:
        """The markets of held tokens without a known answer, longest not asked about first."""
        held = [
            token
            for token, position in self._state.portfolio.positions.items()
            if position.qty and token not in self._state.resolved
        ]
        self._markets = {t: market for t, market in self._markets.items() if t in held}
        instruments = self._state.universe.instruments
        due: dict[MarketId, None] = {}
        for token in held:
            instrument = instruments.get(token)
            market = instrument.market_id if instrument is not None else self._markets.get(token)
            if market is None:
                try:
                    market = self._markets[token] = await market_of(clob, token)
                except VenueError as error:
                    problems.append(str(error))
                    continue
            due[market] = None
        markets = self._state.universe.markets
        for market in self._also():
            if market in markets and markets[market].yes not in self._state.resolved:
                due[market] = None
        self._asked = {market: None for market in self._asked if market in due}
        order = [*(m for m in due if m not in self._asked), *self._asked]
        return order[:MARKETS_MAX]

    def _tell(self, market_id: MarketId, payouts: Payouts) -> None:
        now_ns = self._clock.now_ns()
        self._log.info("RESOLVED, the feed did not tell", market=market_id)
        self._sink([
            ev.MarketResolved(
                ts_event=now_ns, ts_recv=now_ns, market_id=market_id, payouts=payouts
            )
        ])  # fmt: skip

    def _note(self, problems: list[str]) -> None:
        said = "; ".join(problems[:3])
        if said and said != self._problem:
            self._log.warning("RESOLUTIONS not known", markets=len(problems), reason=said)
        self._problem = said

    def health(self) -> Health:
        """Unhealthy only when its task has died; what the venue does not say is in the detail."""
        if self._task is None or not self._task.done():
            return Health(ok=True, detail=self._problem)
        error = None if self._task.cancelled() else self._task.exception()
        return Health(ok=False, detail=f"{type(error).__name__}: {error}")

    async def stop(self) -> None:
        """Stop asking and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._clob is not None:
            await self._clob.close()
            self._clob = None


def ended_forecasts(state: State, now_ns: int) -> list[MarketId]:
    """The markets that were forecast and whose end has passed: their answer is worth asking for."""
    markets = state.universe.markets
    return [
        market_id
        for market_id in state.forecasts
        if market_id in markets and 0 < markets[market_id].end_ns <= now_ns
    ]
