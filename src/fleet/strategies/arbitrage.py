"""ArbHunter's ideas: binary complement, outcome sets, monotone ladders.

Every idea is a *watch*: some legs, each a side of one book, that together bring a known payoff.

- COMPLEMENT_BUY: buy YES and NO, merge into a dollar. COMPLEMENT_SELL: split a dollar, sell both.
- SET_NO: buy every NO of a complete outcome set of n and convert: n - 1 dollars.
- SET_YES: buy every YES and hold to resolution: one dollar.
- LADDER: a rung implies the next, so YES of the likelier and NO of the less likely pay at least one
  dollar; held to resolution. (Sources: polymarket reference, section 9.)

Sightings and phantoms. Both books of a market mirror each other, so a sum that looks wrong is
nearly always one book a message behind the other. A *sighting* is an episode in which its gross sum
is profitable. It becomes *real* only over books of the same moment: the frame that shows it changed
both books of its market at once, or its venue millisecond has passed and both books carry the same
venue time. A sighting that ends within its own millisecond is a *phantom*; one that outlives it on
books of different moments is *stale*. Only real ones are sized, and only those that pay after fees
are opportunities. All are counted apart.

What this keeps in memory are caches and counters; what it must not forget is in the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from fleet.domain.commands import (
    BundleId,
    CloseBundle,
    Intent,
    LegPlan,
    OpenBundle,
    StartTimer,
)
from fleet.domain.events import (
    AnyEvent,
    BookChanged,
    BookSnapshot,
    TradingState,
)
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.engine.bundle import Bundle
from fleet.engine.view import View
from fleet.strategies.legs import COMPLETE, HELD, ExecutionSettings, first_step
from fleet.strategies.redemption import WRITE_OFF_NS
from fleet.strategies.sizing import Offer, Sizing, leg_prices, size_bundle
from fleet.strategies.watches import MarketWatch, Watch, build_watches
from fleet.strategies.working import STEPS, Worker

_ACTIVE: Final = TradingState.ACTIVE
REST_NS_MAX = 60 * 1_000_000_000
YEAR_NS = 365 * 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ArbSettings:
    """What ArbHunter looks for. Ratios are at 1e-8 (0.005 is 500,000), cash in dollars at 1e-8."""

    min_profit: int = SCALE // 200
    """Least profit per dollar put in, after fees."""
    trade_size: Cash = Cash(100 * SCALE)
    """Most dollars a leg."""
    min_yearly_return: int = SCALE // 5
    """Least yearly return of an idea whose capital is locked until resolution."""
    unwind_slippage: Price = Price(3 * SCALE // 100)
    """How far below the best bid at decision time a lonely leg is first offered."""
    cooldown_ns: int = 1_000_000_000
    write_off_ns: int = WRITE_OFF_NS
    """How long worthless tokens are kept after their market was resolved."""
    max_open_bundles: int = 4
    complement: bool = True
    sets: bool = True
    ladders: bool = True
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)


@dataclass(slots=True)
class ArbCounters:
    """What was seen since the start of the process."""

    raw_moments: int = 0
    """Frames after which some touched watch looked profitable before fees."""
    sightings: int = 0
    phantoms: int = 0
    stale: int = 0
    real: int = 0
    """Sightings that were true over books of the same moment, before fees."""
    opportunities: int = 0
    """Real ones that pay after fees, minimums and depth."""
    best_gross: int = 0
    """The largest gross edge a share of any real sighting, at 1e-8."""


class Arbitrage:
    """The strategy: finds, confirms, sizes, and works its bundles leg by leg."""

    def __init__(self, settings: ArbSettings, view: View) -> None:
        """Build the watches over the view's universe."""
        self.settings = settings
        self.counters = ArbCounters()
        self._markets: dict[InstrumentId, MarketWatch] = build_watches(
            view, complement=settings.complement, sets=settings.sets, ladders=settings.ladders
        )
        self._pending: list[Watch] = []
        self._worker = Worker(settings.execution, write_off_ns=settings.write_off_ns)
        self._ideas = {
            (watch.idea, watch.key): watch
            for market in self._markets.values()
            for watch in market.watches
        }

    def on_event(self, event: AnyEvent, view: View) -> Sequence[Intent | StartTimer]:
        """React to one event: look for ideas after market data, work bundles after others."""
        if isinstance(event, BookChanged):
            if not self._pending:
                return self._look_at_changes(event, view)
            confirmed = self._confirm_older(event.ts_event)
            return self._look_at_changes(event, view) or self._propose_first(confirmed, view)
        if isinstance(event, BookSnapshot):
            confirmed = self._confirm_older(event.ts_event) if self._pending else []
            market = self._markets.get(event.instrument_id)
            wishes = self._look(market, event, view) if market is not None else ()
            return wishes or self._propose_first(confirmed, view)
        if isinstance(event, STEPS):
            return self._work(event, view)
        return ()

    def figures(self) -> Mapping[str, int]:
        """The counters by name."""
        return asdict(self.counters)

    # --- looking ------------------------------------------------------------------------------

    def _look_at_changes(self, event: BookChanged, view: View) -> Sequence[Intent | StartTimer]:
        markets = self._markets
        last: MarketWatch | None = None
        for change in event.changes:
            market = markets.get(change[0])
            if market is None or market is last:
                continue
            last = market
            if market.quiet():
                continue
            wishes = self._look(market, event, view)
            if wishes:
                return wishes  # One market a frame may act; bundle ids are counted from here.
        return ()

    def _look(
        self, market: MarketWatch, event: BookChanged | BookSnapshot, view: View
    ) -> Sequence[Intent | StartTimer]:
        """Walk the watches of a touched market that look profitable or just stopped doing so."""
        wishes: list[Intent | StartTimer] = []
        raw = False
        for watch in market.watches:
            watch.refresh()
            edge = watch.payoff - watch.total
            if edge <= 0:
                if watch.sighted_ns:
                    self._end(watch)
                continue
            raw = True
            if not watch.sighted_ns:
                self._sight(watch, event)
            if not watch.real and self._same_moment(watch, market, event):
                self._make_real(watch, edge)
            if watch.real:
                opened = sum(isinstance(wish, OpenBundle) for wish in wishes) if wishes else 0
                wishes.extend(self._propose(watch, view, opened))
        market.alert = raw
        if raw:
            self.counters.raw_moments += 1
        return wishes

    def _sight(self, watch: Watch, event: BookChanged | BookSnapshot) -> None:
        watch.sighted_ns = event.ts_event
        watch.outlived = False
        self.counters.sightings += 1
        self._pending.append(watch)

    def _end(self, watch: Watch) -> None:
        if not watch.real:
            if watch.outlived:
                self.counters.stale += 1
            else:
                self.counters.phantoms += 1
        if watch in self._pending:
            self._pending.remove(watch)
        watch.sighted_ns = 0
        watch.real = watch.outlived = watch.counted = False

    def _confirm_older(self, moment_ns: int) -> list[Watch]:
        """A new venue moment has begun: what was sighted before it has outlived its own.

        Returns the watches that became real by it. The frame that began the moment is in the books
        already, so each is looked at again: it may just have been put right.
        """
        waiting: list[Watch] = []
        confirmed: list[Watch] = []
        for watch in self._pending:
            if watch.sighted_ns >= moment_ns:
                waiting.append(watch)
                continue
            watch.outlived = True
            watch.refresh()
            edge = watch.gross_edge()
            if not watch.real and edge > 0 and watch.coherent():
                self._make_real(watch, edge)
                confirmed.append(watch)
        self._pending = waiting
        return confirmed

    def _propose_first(self, confirmed: Sequence[Watch], view: View) -> Sequence[Intent]:
        """The first of the just confirmed watches worth taking; nobody may touch its books soon."""
        for watch in confirmed:
            wishes = self._propose(watch, view, 0) if watch.real else ()
            if wishes:
                return wishes
        return ()

    def _same_moment(
        self, watch: Watch, market: MarketWatch, event: BookChanged | BookSnapshot
    ) -> bool:
        """Whether this very frame proves that all books of the watch are of one moment."""
        if watch.outlived:
            return watch.coherent()
        return isinstance(event, BookChanged) and market.both_in(event.changes) and watch.coherent()

    def _make_real(self, watch: Watch, edge: int) -> None:
        watch.real = True
        counters = self.counters
        counters.real += 1
        if edge > counters.best_gross:  # noqa: PLR1730 - hot path
            counters.best_gross = edge

    # --- proposing ----------------------------------------------------------------------------

    def _propose(self, watch: Watch, view: View, offset: int) -> Sequence[Intent]:
        now_ns = view.now_ns
        if watch.busy_until_ns > now_ns:
            return ()
        size = self._size(watch, now_ns)
        if size is None:
            return ()
        if not watch.counted:
            watch.counted = True
            self.counters.opportunities += 1
        open_bundles = view.open_bundles
        if view.trading is not _ACTIVE:
            return ()
        if len(open_bundles) + offset >= self.settings.max_open_bundles:
            return ()
        for bundle in open_bundles.values():
            if bundle.plan.key == watch.key:
                return ()
        watch.misses += 1  # Until it comes to something: a refusal by risk is told to nobody.
        self._pause(watch, now_ns)
        plan = self._plan(watch, size, view.next_bundle_id(offset))
        return (plan, *first_step(plan, view, self.settings.execution))

    def _size(self, watch: Watch, now_ns: int) -> Sizing | None:
        settings = self.settings
        size = size_bundle(watch.offers, watch.payoff, settings.trade_size, settings.min_profit)
        if size is None or not watch.held:
            return size
        left_ns = watch.end_ns - now_ns
        if watch.end_ns == 0 or left_ns <= 0 or not size.outlay:
            return None
        yearly = size.edge * SCALE // size.outlay * YEAR_NS // left_ns
        return size if yearly >= self.settings.min_yearly_return else None

    def _plan(self, watch: Watch, size: Sizing, bundle_id: BundleId) -> OpenBundle:
        offers, limits = watch.offers, size.limits
        depths = size.depths
        order: Sequence[int]
        if len(offers) == 2:  # Nearly every idea, and without a sort.
            order = (0, 1) if depths[0] <= depths[1] else (1, 0)
        else:
            order = sorted(range(len(offers)), key=depths.__getitem__)
        legs = []
        if self.settings.execution.together:
            for index in order:
                limit = limits[index]
                legs.append(self._leg(offers[index], size.qty, limit, limit))
        else:
            sorted_offers = [offers[i] for i in order]
            prices = leg_prices(sorted_offers, [limits[i] for i in order], size)
            for offer, (price, cap) in zip(sorted_offers, prices, strict=True):
                legs.append(self._leg(offer, size.qty, price, cap))
        return OpenBundle(
            bundle_id=bundle_id,
            idea=watch.idea,
            key=watch.key,
            legs=tuple(legs),
            start=watch.start,
            finish=watch.finish,
            payoff=watch.payoff,  # type: ignore[arg-type]
            budget=size.outlay,
            edge=size.edge,
        )

    def _leg(self, offer: Offer, qty: Qty, price: Price, cap: Price) -> LegPlan:
        book = offer.book
        tick = book.tick
        floor = -(-(book.best_bid * tick - self.settings.unwind_slippage) // tick) * tick
        if floor < tick:
            floor = tick
        elif floor > SCALE - tick:
            floor = SCALE - tick
        return LegPlan(
            instrument_id=offer.instrument.id,
            side=offer.side,
            qty=qty,
            limit=cap,
            price=price,
            unwind=floor,  # type: ignore[arg-type]  # a plain int: the hot path wraps none
        )

    # --- working ------------------------------------------------------------------------------

    def _work(self, event: AnyEvent, view: View) -> Sequence[Intent | StartTimer]:
        wishes = self._worker.work(event, view)
        for wish in wishes:
            if isinstance(wish, CloseBundle):
                self._rest(view.open_bundles[wish.bundle_id], wish.outcome, view.now_ns)
        return wishes

    def _rest(self, bundle: Bundle, outcome: str, now_ns: int) -> None:
        """A bundle has ended: its idea may be tried again after a pause."""
        watch = self._ideas.get((bundle.plan.idea, bundle.plan.key))
        if watch is None:
            return
        if outcome in {COMPLETE, HELD}:
            watch.misses = 0
        self._pause(watch, now_ns)

    def _pause(self, watch: Watch, now_ns: int) -> None:
        """Leave an idea alone: for the cooldown, and twice as long each time it came to nothing."""
        pause_ns = self.settings.cooldown_ns
        if watch.misses > 1:
            pause_ns <<= min(watch.misses - 1, 16)
        watch.busy_until_ns = now_ns + min(pause_ns, REST_NS_MAX)
