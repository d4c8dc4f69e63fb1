"""What is listed while the simulator runs: markets with their books, groups with their process.

State only; the simulator moves it and the REST and websocket views read it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from fleet.domain.units import SCALE, Price, Qty
from fleet.sandbox.latent import LatentProcess
from fleet.sandbox.liquidity import Liquidity
from fleet.sandbox.maker_flow import MarketFlow
from fleet.sandbox.market_book import MarketBook
from fleet.sandbox.universe import EventSpec, MarketSpec

HISTORY_POINTS: Final = 1_440
"""A day of minutes a market; older prices are dropped."""


@dataclass(slots=True, kw_only=True)
class MarketState:
    """One listed market. Prices of ``last_trade_*`` are in YES terms."""

    spec: MarketSpec
    event: EventSpec
    flow: MarketFlow
    updated_ns: int
    last_trade_price: Price | None = None
    last_trade_buy: bool = True
    volume: int = 0
    """Dollars traded since the start, at 1e-8."""
    tick_due: bool = False
    winner: int | None = None
    closed_ns: int = 0
    history: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=HISTORY_POINTS))
    """(seconds, YES mid at 1e-8), one a minute."""
    pool: Liquidity = field(init=False)
    """The shared liquidity of both tokens: the flow's and the users'."""

    def __post_init__(self) -> None:
        """Let the flow's takers trade with everybody."""
        self.pool = Liquidity(self.flow.book)
        self.flow.take = self.pool.take

    @property
    def book(self) -> MarketBook:
        """The flow's own part of the liquidity."""
        return self.flow.book

    @property
    def closed(self) -> bool:
        """Whether the market is resolved; its books are gone then."""
        return self.winner is not None

    @property
    def tick(self) -> Price:
        """The tick now, which may be finer than the one listed with."""
        return self.book.tick

    def best(self, outcome: int, *, buy: bool) -> Price | None:
        """Best bid (``buy``) or ask of the YES (0) or NO (1) token; None if the side is empty."""
        price = self.pool.best(buy=buy if outcome == 0 else not buy)
        if price is None:
            return None
        return price if outcome == 0 else Price(SCALE - price)

    def depth(self, outcome: int, *, buy: bool) -> Qty:
        """Shares at the best bid or ask of a token."""
        yes_side = buy if outcome == 0 else not buy
        price = self.pool.best(buy=yes_side)
        return Qty(0) if price is None else self.pool.total(buy=yes_side, price=price)

    def levels(self, outcome: int, *, buy: bool) -> list[tuple[Price, Qty]]:
        """A token's side, best first: the NO side is the YES side mirrored."""
        yes_side = buy if outcome == 0 else not buy
        return [
            (yes if outcome == 0 else Price(SCALE - yes), qty)
            for yes, qty in self.pool.levels(buy=yes_side)
        ]

    def mid(self) -> int:
        """YES mid at 1e-8; the winner's payout once resolved, 0.5 for an empty book."""
        if self.winner is not None:
            return SCALE if self.winner == 0 else 0
        bid, ask = self.best(0, buy=True), self.best(0, buy=False)
        if bid is None or ask is None:
            return ask if ask is not None else bid if bid is not None else SCALE // 2
        return (bid + ask) // 2

    def last_price(self, outcome: int) -> Price | None:
        """Last traded price of a token; a trade in one token is a trade in its mirror."""
        if self.last_trade_price is None:
            return None
        return Price(self.last_trade_price if outcome == 0 else SCALE - self.last_trade_price)


@dataclass(slots=True, kw_only=True)
class GroupState:
    """An event's markets with the process of their fair prices."""

    event: EventSpec
    latent: LatentProcess
    markets: tuple[MarketState, ...]
    refreshed_ns: int
    mispriced: bool = False

    @property
    def rungs(self) -> tuple[MarketState, ...]:
        """A ladder's markets, each implying the next."""
        return self.markets[::-1] if self.event.kind == "above" else self.markets


class Listings:
    """Every market ever listed in this run that is still shown, by each of its ids."""

    def __init__(self, *, closed_kept: int = 12) -> None:
        """Keep the last ``closed_kept`` resolved markets visible."""
        self.groups: dict[str, GroupState] = {}
        self.by_condition: dict[str, MarketState] = {}
        self.by_token: dict[str, tuple[MarketState, int]] = {}
        self._closed: deque[GroupState] = deque()
        self._closed_kept = closed_kept

    def add(self, group: GroupState) -> None:
        """List a group's markets."""
        self.groups[group.event.id] = group
        for market in group.markets:
            self.by_condition[market.spec.condition_id] = market
            for outcome, token in enumerate(market.spec.tokens):
                self.by_token[token] = (market, outcome)

    def retire(self, group: GroupState) -> None:
        """Note that a group is resolved; the oldest resolved ones are forgotten."""
        self._closed.append(group)
        while len(self._closed) > self._closed_kept:
            gone = self._closed.popleft()
            del self.groups[gone.event.id]
            for market in gone.markets:
                del self.by_condition[market.spec.condition_id]
                for token in market.spec.tokens:
                    del self.by_token[token]

    @property
    def markets(self) -> list[MarketState]:
        """All listed markets, oldest first."""
        return list(self.by_condition.values())
