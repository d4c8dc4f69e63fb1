"""A strategy made of parts, side by side in one engine: PolyAI's two traders, EliteMimic's copies.

Each part proposes what to open; the bundles that are open are worked in one place. In one moment no
market is opened by two parts: what comes second is dropped and proposed again when it is still
there. Nothing here looks at single book changes: forecasts, samples, sightings and timers move it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fleet.domain.commands import BundleId, Intent, OpenBundle, RequestForecast, StartTimer
from fleet.domain.events import AnyEvent, BookChanged, BookSnapshot, CopyRefused, TradePrinted
from fleet.domain.instruments import MarketId
from fleet.engine.view import View
from fleet.strategies.working import Worker

Wish = Intent | StartTimer | RequestForecast | CopyRefused
_MARKET_FACTS = (BookChanged, BookSnapshot, TradePrinted)


class Proposer(Protocol):
    """A part of a strategy that opens bundles and leaves the work on them to others."""

    def propose(
        self, event: AnyEvent, view: View, next_id: Callable[[], BundleId]
    ) -> Sequence[Wish]:
        """Requests, and bundles that open, each followed by its first orders."""
        ...

    def figures(self) -> Mapping[str, int]:
        """Counters since the start of the process, by name."""
        ...

    def verdict(self) -> str:
        """What it has shown, in words."""
        ...


class Composed:
    """Proposers over one view, and the worker of their bundles."""

    def __init__(self, proposers: Sequence[Proposer], worker: Worker) -> None:
        """Earlier ``proposers`` come first."""
        self._proposers = tuple(proposers)
        self._worker = worker
        self._opportunities = 0

    def on_event(self, event: AnyEvent, view: View) -> Sequence[Wish]:
        """Work what is open, then look for more."""
        if isinstance(event, _MARKET_FACTS):
            return ()
        wishes: list[Wish] = list(self._worker.work(event, view))
        taken: dict[MarketId, None] = {}
        given = 0

        def next_id() -> BundleId:
            nonlocal given
            given += 1
            return view.next_bundle_id(given - 1)

        for proposer in self._proposers:
            wishes += self._without_taken(proposer.propose(event, view, next_id), view, taken)
        return wishes

    def _without_taken(
        self, proposed: Sequence[Wish], view: View, taken: dict[MarketId, None]
    ) -> list[Wish]:
        """What does not open a market that another part opens in the same moment."""
        opened = [wish for wish in proposed if isinstance(wish, OpenBundle)]
        dropped: dict[BundleId, None] = {}
        mine: dict[MarketId, None] = {}
        for plan in opened:
            markets = [view.instrument(leg.instrument_id).market_id for leg in plan.legs]
            if any(market in taken for market in markets):
                dropped[plan.bundle_id] = None
                continue
            mine |= dict.fromkeys(markets)
            self._opportunities += not plan.exits
        taken |= mine
        return [wish for wish in proposed if getattr(wish, "bundle_id", None) not in dropped]

    def figures(self) -> Mapping[str, int]:
        """The counters of all parts; ``opportunities`` are the bundles that were to open."""
        figures: dict[str, int] = {}
        for proposer in self._proposers:
            figures |= proposer.figures()
        return {**figures, "opportunities": self._opportunities}

    def verdicts(self) -> Sequence[str]:
        """What each part has shown, in words."""
        return [proposer.verdict() for proposer in self._proposers]
