"""The market simulator: seeded, deterministic, driven by the time it is told.

A heap of due events (arrivals of orders, fair prices moving, mispricings beginning and ending, tick
changes, timed markets rolling) is worked off in order of time by ``step``. Every market and group
has its own stream of chance derived from the seed, so the frames depend on the seed, the settings
and the start time only, not on how the steps were cut. No clock, no IO.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.domain.units import SCALE, Price, Qty
from fleet.sandbox.flow_fit import FITTED
from fleet.sandbox.latent import (
    AboveFairs,
    ByDateFairs,
    ExclusiveFairs,
    LatentProcess,
    SingleFair,
)
from fleet.sandbox.liquidity import Taken
from fleet.sandbox.listing import GroupState, Listings, MarketState
from fleet.sandbox.maker_flow import MarketFlow, TakerTrade
from fleet.sandbox.market_book import LevelChange
from fleet.sandbox.market_frames import (
    Frame,
    best_frames,
    book_frames,
    last_trade_frame,
    market_resolved_frame,
    new_market_frame,
    price_change_frame,
    tick_size_frames,
)
from fleet.sandbox.mispricing import Mispricing, Plan, least_shares, make_plan, record
from fleet.sandbox.questions import MILL
from fleet.sandbox.universe import UPDOWN_SECONDS, EventSpec, UniverseBuilder

FAIR_REFRESH_MS_MEAN: Final = 700.0
TICK_EDGE: Final = 0.96
TICK_CHANGE_DELAY_NS: Final = 121 * NS_PER_SECOND
"""From crossing 0.96 or 0.04 to the finer tick (third-party measurement, reference 4.5)."""
TRUTH_KEPT: Final = 2_000
FIRST_MISPRICING_NS: Final = 5 * NS_PER_SECOND
SUB_THRESHOLD_PER_WORTHWHILE: Final = 2.0
MISPRICING_RETRY_NS: Final = 500 * NS_PER_MS
THROUGH_SHARE: Final = 0.25
"""Share of set mispricings after which the other legs follow the move instead of it going back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """What decides a run besides its start time.

    ``speed`` divides every delay of the order flow; ``mispricing_every_s`` is the mean time between
    mispricings worth taking (0: none are made), which ``speed`` leaves alone. ``timed_markets``
    lists a five-minute market that resolves and rolls.
    """

    seed: int = 7
    speed: float = 1.0
    mispricing_every_s: float = 15.0
    timed_markets: bool = True

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        if not 0.01 <= self.speed <= 100:
            raise ValueError(f"speed {self.speed} is outside 0.01..100")
        if self.mispricing_every_s != 0 and self.mispricing_every_s < 1:
            raise ValueError(
                f"mispricing_every_s {self.mispricing_every_s}: use 0 for none, or 1 and above"
            )


Bests = tuple[Price | None, Price | None]


class MarketSimulator:
    """All markets of one sandbox. ``step`` moves time on and returns what was published."""

    def __init__(self, settings: SimulatorSettings, start_ns: int, *, listed_ns: int = 0) -> None:
        """List every market at ``start_ns``; nothing has moved yet.

        ``listed_ns`` is when an earlier run of the same universe began (its dates count from it).
        """
        self.settings = settings
        self.on_users_hit: Callable[[MarketState, bool, Sequence[Taken], int], None] = lambda *_: (
            None
        )
        """Told of each trade of the flow with users' orders: market, YES bought, parts, time."""
        self.on_resolved: Callable[[MarketState, int], None] = lambda *_: None
        """Told of each resolution before its frame is published."""
        self.on_refined: Callable[[MarketState], None] = lambda *_: None
        """Told of each change of a market's tick."""
        self.listings = Listings()
        self.truth: deque[Mispricing] = deque(maxlen=TRUTH_KEPT)
        self.mispricings = 0
        """Mispricings made since the start, worth taking or not."""
        self.worthwhile = 0
        """Of those, the ones worth taking after fees."""
        self.prints = 0
        """Trades since the start."""
        self.now_ns = start_ns
        self._due: list[tuple[int, int, Callable[[int], list[Frame]]]] = []
        self._count = 0
        self._universe = UniverseBuilder(settings.seed, listed_ns or start_ns)
        self._chance = self._stream("mispricing")
        for event in self._universe.build():
            self._list(event, start_ns)
        if settings.timed_markets:
            window = UPDOWN_SECONDS * NS_PER_SECOND
            self._open_timed(start_ns - start_ns % window, start_ns)
        if settings.mispricing_every_s:
            self.at(start_ns + FIRST_MISPRICING_NS, lambda now: self._misprice(now, good=True))
            self.at(
                start_ns + FIRST_MISPRICING_NS // 2, lambda now: self._misprice(now, good=False)
            )

    @property
    def next_due_ns(self) -> int:
        """When the next event is due."""
        return self._due[0][0]

    def step(self, now_ns: int) -> list[Frame]:
        """Work off everything due up to ``now_ns``, in order of time. Raises if time goes back."""
        if now_ns < self.now_ns:
            raise ValueError(f"time went back from {self.now_ns} to {now_ns}")
        frames: list[Frame] = []
        while self._due[0][0] <= now_ns:
            due_ns, _, act = heapq.heappop(self._due)
            self.now_ns = due_ns
            frames += act(due_ns)
        self.now_ns = now_ns
        return frames

    def at(self, due_ns: int, act: Callable[[int], list[Frame]]) -> None:
        """Have something done when its time comes; it gives the frames it publishes."""
        self._count += 1
        heapq.heappush(self._due, (due_ns, self._count, act))

    def _stream(self, name: str) -> random.Random:
        """A stream of chance of its own for ``name``: simulation, not secrets."""
        return random.Random(f"{self.settings.seed}:{name}")  # noqa: S311

    def _delay_ns(self, delay_ms: float) -> int:
        return max(NS_PER_MS, int(delay_ms / self.settings.speed * NS_PER_MS))

    def _list(self, event: EventSpec, now_ns: int) -> GroupState:
        """List an event's markets and start their flows."""
        latent = _latent(event)
        markets = []
        for spec, fair in zip(event.markets, latent.fairs(), strict=True):
            rng = self._stream(spec.slug)
            flow = MarketFlow(tick=spec.tick, fair=fair, tight=event.tight, fit=FITTED, rng=rng)
            markets.append(MarketState(spec=spec, event=event, flow=flow, updated_ns=now_ns))
        group = GroupState(event=event, latent=latent, markets=tuple(markets), refreshed_ns=now_ns)
        self.listings.add(group)
        rng = self._stream(f"fair:{event.slug}")
        self.at(
            now_ns + self._delay_ns(FAIR_REFRESH_MS_MEAN),
            lambda now: self._refresh(group, rng, now),
        )
        for market in markets:
            self._note_minute(market, now_ns)
            self._watch_edge(market, now_ns)
            self._schedule_arrival(market, now_ns)
        return group

    def _schedule_arrival(self, market: MarketState, now_ns: int) -> None:
        delay_ns = self._delay_ns(market.flow.next_delay_ms() / market.spec.activity)
        self.at(now_ns + delay_ns, lambda now: self._arrive(market, now))

    def _arrive(self, market: MarketState, now_ns: int) -> list[Frame]:
        if market.closed:
            return []
        self._schedule_arrival(market, now_ns)
        before = market.pool.bests()
        event = market.flow.arrive()
        frames = self._changed(market, event.changes, now_ns, before)
        if event.trade is not None and event.trade.matches:
            if market.pool.hits:
                hits, market.pool.hits = market.pool.hits, []
                self.on_users_hit(market, event.trade.buy, hits, now_ns)
            frames += self.traded(market, event.trade, now_ns, before)
        self._note_minute(market, now_ns)
        return frames

    def _changed(
        self, market: MarketState, changes: Sequence[LevelChange], now_ns: int, before: Bests
    ) -> list[Frame]:
        """The flow changed levels: let it trade with the users' orders it reached, and publish."""
        if not changes:
            return []
        if market.pool.quiet:
            return self.changed(market, changes, now_ns, before)
        for change in changes:
            market.pool.note(change)
        frames: list[Frame] = []
        while (crossed := market.pool.uncross()) is not None:
            buy, taken = crossed
            self.on_users_hit(market, buy, taken, now_ns)
            trade = TakerTrade(buy, tuple(market.pool.matches(taken)))
            frames += self.traded(market, trade, now_ns, before)
            before = market.pool.bests()
        # Fresh books came with a trade, and tell the changes too.
        return frames or self.changed(market, changes, now_ns, before)

    def changed(
        self, market: MarketState, changes: Sequence[LevelChange], now_ns: int, before: Bests
    ) -> list[Frame]:
        """Publish level changes (the flow's quantities), and the best prices if they moved."""
        market.updated_ns = now_ns
        frames = [price_change_frame(market, changes, now_ns)]
        if before != market.pool.bests():
            frames += best_frames(market, now_ns)
            self._watch_edge(market, now_ns)
        return frames

    def traded(
        self,
        market: MarketState,
        trade: TakerTrade,
        now_ns: int,
        before: Bests,
        *,
        outcome: int | None = None,
    ) -> list[Frame]:
        """Publish a trade as the venue does: fresh books, then a print for each level taken.

        ``outcome`` is the taker's token; the flow's takers come in either.
        """
        market.updated_ns = now_ns
        if outcome is None:
            # Buying YES at p is selling NO at 1 - p in the same book.
            outcome = (now_ns // NS_PER_MS) % 2
        buy = trade.buy if outcome == 0 else not trade.buy
        prints = []
        for match in trade.matches:
            yes = Price(match.index * market.tick)
            market.last_trade_price, market.last_trade_buy = yes, trade.buy
            market.volume += yes * match.qty // SCALE
            price = yes if outcome == 0 else Price(SCALE - yes)
            prints.append(
                last_trade_frame(
                    market, outcome=outcome, buy=buy, price=price, qty=match.qty, at_ns=now_ns
                )
            )
        self.prints += 1
        frames = book_frames(market, now_ns) + prints
        if before != market.pool.bests():
            frames += best_frames(market, now_ns)
            self._watch_edge(market, now_ns)
        return frames

    def _refresh(self, group: GroupState, rng: random.Random, now_ns: int) -> list[Frame]:
        """Let the fair prices move and the makers follow, all legs in the same instant."""
        if all(market.closed for market in group.markets):
            return []
        delay_ms = rng.expovariate(1 / FAIR_REFRESH_MS_MEAN)
        self.at(now_ns + self._delay_ns(delay_ms), lambda now: self._refresh(group, rng, now))
        if group.mispriced:
            return []
        seconds = (now_ns - group.refreshed_ns) / NS_PER_SECOND * self.settings.speed
        group.refreshed_ns = now_ns
        group.latent.advance(rng, seconds)
        return self._follow(group, now_ns)

    def _follow(self, group: GroupState, now_ns: int) -> list[Frame]:
        frames = []
        for market, fair in zip(group.markets, group.latent.fairs(), strict=True):
            if not market.closed:
                before = market.pool.bests()
                frames += self._changed(market, market.flow.move_to(fair), now_ns, before)
        return frames

    def _watch_edge(self, market: MarketState, now_ns: int) -> None:
        """A best price beyond 0.96 or 0.04 brings the finer tick after the venue's delay."""
        top, book = market.book.top, market.book
        beyond = book.best_bid > TICK_EDGE * top or book.best_ask < (1 - TICK_EDGE) * top
        if beyond and not market.tick_due and book.tick > MILL:
            market.tick_due = True
            delay_ns = int(TICK_CHANGE_DELAY_NS / self.settings.speed)
            self.at(now_ns + delay_ns, lambda now: self.refine(market, now))

    def refine(self, market: MarketState, now_ns: int) -> list[Frame]:
        """Give a market the finer tick: the change, then fresh books."""
        if market.closed:
            return []
        old = market.tick
        market.flow.refine(MILL)
        self.on_refined(market)
        market.updated_ns = now_ns
        return tick_size_frames(market, old, now_ns) + book_frames(market, now_ns)

    def _misprice(self, now_ns: int, *, good: bool) -> list[Frame]:
        """Make one mispricing, and schedule its end and its successor."""
        groups = list(self.listings.groups.values())
        plan = make_plan(groups, self._chance, worthwhile=good)
        if plan is None:
            self.at(now_ns + MISPRICING_RETRY_NS, lambda now: self._misprice(now, good=good))
            return []
        every_s = self.settings.mispricing_every_s
        if not good:
            every_s /= SUB_THRESHOLD_PER_WORTHWHILE
        wait_s = every_s * (0.5 + 0.5 * self._chance.expovariate(1.0))
        self.at(now_ns + int(wait_s * NS_PER_SECOND), lambda now: self._misprice(now, good=good))
        frames = self._displace(plan, now_ns)
        made = record(plan, number=self.mispricings + 1, start_ns=now_ns)
        if made is not None:
            self.mispricings += 1
            self.worthwhile += made.worthwhile
            self.truth.append(made)
        through = plan.kind != "ladder" and self._chance.random() < THROUGH_SHARE
        self.at(now_ns + plan.life_ns, lambda now: self._settle(plan, now, through=through))
        return frames

    def _displace(self, plan: Plan, now_ns: int) -> list[Frame]:
        """Freeze the group's best prices, deepen the other legs, move the displaced one."""
        plan.group.mispriced = True
        for market in plan.group.markets:
            market.flow.frozen = True
        frames = []
        for market, outcome in plan.bundle:
            before = market.pool.bests()
            buy = outcome == 1  # buying NO takes the YES bids
            price = market.best(outcome, buy=False)
            if market is plan.displaced or price is None:
                continue
            depth = Qty(max(plan.qty, 2 * least_shares(price) * SCALE))
            changes = market.flow.deepen(buy=buy, qty=depth)
            frames += self._changed(market, changes, now_ns, before)
        moved = plan.displaced
        before = moved.pool.bests()
        yes = plan.index * moved.tick
        leg_price = Price(SCALE - yes if plan.buy else yes)
        depth = Qty(max(plan.qty, 2 * least_shares(leg_price) * SCALE))
        changes = moved.flow.displace(buy=plan.buy, index=plan.index, qty=depth)
        return frames + self._changed(moved, changes, now_ns, before)

    def _settle(self, plan: Plan, now_ns: int, *, through: bool) -> list[Frame]:
        """End a mispricing: the leg goes back, or the others follow it."""
        group = plan.group
        group.mispriced = False
        for market in group.markets:
            market.flow.frozen = False
        if through and isinstance(group.latent, ExclusiveFairs):
            leg = group.markets.index(plan.displaced)
            # The over-reaction is half taken back; the other half was news.
            reached = plan.index / plan.displaced.book.top
            group.latent.shift(leg, (plan.displaced.flow.fair + reached) / 2)
        group.refreshed_ns = now_ns
        return self._follow(group, now_ns)

    def _open_timed(self, window_start_ns: int, now_ns: int) -> list[Frame]:
        """List the timed market of a window and schedule its resolution."""
        group = self._list(self._universe.updown(window_start_ns), now_ns)
        end_ns = window_start_ns + UPDOWN_SECONDS * NS_PER_SECOND
        self.at(end_ns, lambda now: self._resolve_timed(group, now))
        return [new_market_frame(group.markets[0], now_ns)]

    def _resolve_timed(self, group: GroupState, now_ns: int) -> list[Frame]:
        market = group.markets[0]
        winner = 0 if market.flow.fair >= 0.5 else 1
        frames = [] if market.closed else self.resolve(market, winner, now_ns)
        self.listings.retire(group)
        return frames + self._open_timed(now_ns, now_ns)

    def resolve(self, market: MarketState, winner: int, now_ns: int) -> list[Frame]:
        """Close an open market for good."""
        market.winner, market.closed_ns, market.updated_ns = winner, now_ns, now_ns
        self.on_resolved(market, now_ns)
        return [market_resolved_frame(market, winner, now_ns)]

    @staticmethod
    def _note_minute(market: MarketState, now_ns: int) -> None:
        seconds = now_ns // NS_PER_SECOND
        if not market.history or seconds - market.history[-1][0] >= 60:
            market.history.append((seconds, market.mid()))


def _latent(event: EventSpec) -> LatentProcess:
    starts = [m.fair for m in event.markets]
    if event.kind == "set":
        return ExclusiveFairs(starts, event.volatility)
    if event.kind == "by_date":
        return ByDateFairs(starts, event.volatility)
    if event.kind == "above":
        return AboveFairs(starts, event.volatility)
    return SingleFair(starts[0], event.volatility)
