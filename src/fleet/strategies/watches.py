"""What ArbHunter keeps an eye on, laid out so that a quiet frame costs next to nothing.

A ``MarketWatch`` belongs to one market and is reached by both of its tokens. Its ``quiet`` answers
in a few integer comparisons whether anything about this market could be worth a closer look: the
complement by two sums of tick indices, every set and ladder it is a leg of by the running sum of
their best prices, of which only the legs of this market are brought up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fleet.domain.commands import OperationKind
from fleet.domain.events import LevelChange
from fleet.domain.instruments import InstrumentId, Ladder, Market, MarketId, OutcomeSet, Side
from fleet.domain.units import SCALE
from fleet.engine.book import Book
from fleet.engine.view import View
from fleet.strategies.sizing import Offer

UNREACHABLE: Final = 1_000 * SCALE
"""The price of a leg nobody offers: no sum with it can look profitable."""


class Watch:
    """One idea over fixed legs: what they cost now (gross) and pay, how the sighting stands."""

    __slots__ = (
        "busy_until_ns",
        "costs",
        "counted",
        "end_ns",
        "finish",
        "held",
        "idea",
        "key",
        "markets",
        "misses",
        "offers",
        "outlived",
        "payoff",
        "real",
        "sighted_ns",
        "start",
        "total",
    )

    def __init__(
        self,
        *,
        idea: str,
        key: str,
        offers: Sequence[Offer],
        payoff: int,
        markets: Sequence[tuple[Book, Book]],
        start: OperationKind | None = None,
        finish: OperationKind | None = None,
        end_ns: int = 0,
    ) -> None:
        """Watch ``offers``; ``markets`` are the (YES, NO) books of their markets."""
        self.idea = idea
        self.key = key
        self.offers = tuple(offers)
        self.payoff = payoff
        self.markets = tuple(markets)
        self.start = start
        self.finish = finish
        self.held = finish is None
        self.end_ns = end_ns
        self.costs = [0] * len(self.offers)
        self.total = 0
        self.refresh()
        self.sighted_ns = 0
        self.outlived = False
        self.real = False
        self.counted = False
        self.busy_until_ns = 0
        self.misses = 0
        """How often in a row working this idea came to nothing."""

    def refresh(self) -> None:
        """Bring all legs up to date."""
        costs, total = self.costs, 0
        for index, offer in enumerate(self.offers):
            book = offer.book
            if offer.buying:
                best = book.best_ask
                cost = best * book.tick if best < book.size else UNREACHABLE
            else:
                best = book.best_bid
                cost = -best * book.tick if best else UNREACHABLE
            costs[index] = cost
            total += cost
        self.total = total

    def gross_edge(self) -> int:
        """Payoff less best prices, before fees, a share at 1e-8."""
        return self.payoff - self.total

    def coherent(self) -> bool:
        """Whether all books are usable and both books of each market are of the same moment.

        For a single market the venue times must be equal. Across markets a market whose two books
        mirror each other at the top is of one moment too, whichever changed last.
        """
        alone = len(self.markets) == 1
        for yes, no in self.markets:
            usable = yes.ready and no.ready
            if not usable or yes.best_bid >= yes.best_ask or no.best_bid >= no.best_ask:
                return False
            if yes.ts_event != no.ts_event and (alone or not _mirrored(yes, no)):
                return False
        return True


def _mirrored(yes: Book, no: Book) -> bool:
    """Whether the top of one book is the other's, seen from the other side."""
    return yes.bid + no.ask == SCALE and yes.ask + no.bid == SCALE


class MarketWatch:
    """All watches one market takes part in."""

    __slots__ = ("_groups", "_no", "_yes", "alert", "watches")

    def __init__(self, yes: Book, no: Book) -> None:
        """Look at the two books of a market."""
        self._yes = yes
        self._no = no
        self.watches: list[Watch] = []
        self.alert = False
        """Whether some watch looked profitable when last looked at."""
        self._groups: list[tuple[Watch, int, Book, bool]] = []

    def add(self, watch: Watch) -> None:
        """Take part in one more watch."""
        self.watches.append(watch)
        if len(watch.markets) == 1:
            return
        for index, offer in enumerate(watch.offers):
            if offer.book is self._yes or offer.book is self._no:
                self._groups.append((watch, index, offer.book, offer.side is Side.BUY))

    def quiet(self) -> bool:
        """Whether no watch of this market looks profitable, nor did when last looked at."""
        yes, no = self._yes, self._no
        loud = yes.best_ask + no.best_ask < yes.size or yes.best_bid + no.best_bid > yes.size
        for watch, index, book, _ in self._groups:
            cost = book.best_ask * book.tick if book.best_ask < book.size else UNREACHABLE
            costs = watch.costs
            if cost != costs[index]:
                watch.total += cost - costs[index]
                costs[index] = cost
            if watch.total < watch.payoff or watch.sighted_ns:
                loud = True
        return not (loud or self.alert)

    def both_in(self, changes: Sequence[LevelChange]) -> bool:
        """Whether one frame changed both books."""
        yes, no = self._yes.instrument_id, self._no.instrument_id
        first, last = changes[0][0], changes[-1][0]
        if (first == yes and last == no) or (first == no and last == yes):
            return True
        tokens = [change[0] for change in changes]
        return yes in tokens and no in tokens


def build_watches(
    view: View, *, complement: bool, sets: bool, ladders: bool
) -> dict[InstrumentId, MarketWatch]:
    """A ``MarketWatch`` for every token of the universe, with the ideas that are switched on."""
    universe = view.universe
    by_market: dict[MarketId, MarketWatch] = {}
    by_token: dict[InstrumentId, MarketWatch] = {}
    for market in universe.markets.values():
        watch = MarketWatch(view.book(market.yes), view.book(market.no))
        by_market[market.id] = by_token[market.yes] = by_token[market.no] = watch
        if complement:
            for idea in _complement(market, view):
                watch.add(idea)
    groups: list[tuple[Watch, Sequence[MarketId]]] = []
    if sets:
        for group in universe.sets:
            groups.extend((w, group.markets) for w in _set(group, view))
    if ladders:
        for ladder in universe.ladders:
            groups.extend(_ladder(ladder, view))
    for idea, market_ids in groups:
        for market_id in dict.fromkeys(market_ids):
            by_market[market_id].add(idea)
    return by_token


def _offer(token: InstrumentId, side: Side, view: View) -> Offer:
    return Offer(view.instrument(token), side, view.book(token))


def _books(market_ids: Sequence[MarketId], view: View) -> list[tuple[Book, Book]]:
    markets = (view.universe.markets[m] for m in market_ids)
    return [(view.book(m.yes), view.book(m.no)) for m in markets]


def _complement(market: Market, view: View) -> tuple[Watch, Watch]:
    books = _books((market.id,), view)
    tokens = (market.yes, market.no)
    return (
        Watch(
            idea="COMPLEMENT_BUY",
            key=market.id,
            offers=[_offer(t, Side.BUY, view) for t in tokens],
            payoff=SCALE,
            markets=books,
            finish=OperationKind.MERGE,
        ),
        Watch(
            idea="COMPLEMENT_SELL",
            key=market.id,
            offers=[_offer(t, Side.SELL, view) for t in tokens],
            payoff=-SCALE,
            markets=books,
            start=OperationKind.SPLIT,
            finish=OperationKind.MERGE,
        ),
    )


def _set(group: OutcomeSet, view: View) -> list[Watch]:
    """Every NO and every YES of a complete set; nothing for an augmented or partial one."""
    if not group.complete:
        return []
    markets = [view.universe.markets[m] for m in group.markets]
    books = _books(group.markets, view)
    ends = [m.end_ns for m in markets]
    return [
        Watch(
            idea="SET_NO",
            key=group.id,
            offers=[_offer(m.no, Side.BUY, view) for m in markets],
            payoff=(len(markets) - 1) * SCALE,
            markets=books,
            finish=OperationKind.CONVERT,
        ),
        Watch(
            idea="SET_YES",
            key=group.id,
            offers=[_offer(m.yes, Side.BUY, view) for m in markets],
            payoff=SCALE,
            markets=books,
            end_ns=max(ends) if all(ends) else 0,
        ),
    ]


def _ladder(ladder: Ladder, view: View) -> list[tuple[Watch, Sequence[MarketId]]]:
    """Every pair of rungs: NO of the one that implies, YES of the one it implies."""
    found: list[tuple[Watch, Sequence[MarketId]]] = []
    rungs = [view.universe.markets[m] for m in ladder.rungs]
    for low, rarer in enumerate(rungs):
        for likelier in rungs[low + 1 :]:
            pair = (rarer.id, likelier.id)
            ends = (rarer.end_ns, likelier.end_ns)
            watch = Watch(
                idea="LADDER",
                key=f"{ladder.id}:{rarer.id}:{likelier.id}",
                offers=[_offer(likelier.yes, Side.BUY, view), _offer(rarer.no, Side.BUY, view)],
                payoff=SCALE,
                markets=_books(pair, view),
                end_ns=max(ends) if all(ends) else 0,
            )
            found.append((watch, pair))
    return found
