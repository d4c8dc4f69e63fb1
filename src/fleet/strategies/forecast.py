"""Betting on forecasts: asks for them, bets where the blend has shown an edge, leaves again.

``ForecastTrader`` is one part of a bot's strategy. It proposes; whoever composes the strategy
works the bundles it opens (``fleet.strategies.working``). A bet is a bundle "FORECAST" of one BUY
that is held to resolution; leaving is a bundle "FORECAST_EXIT" that names the bet in ``exits``.

A side is bet on only if the forecast has weight (skill against the price was shown), is fresh, the
price has not left the one it was blended with, and edge and confidence hold for the last share. The
size is fractional Kelly under caps for the bet, the market, the group of markets that move
together and all forecasts. A holding is sold when it
- *turned*: a newer forecast says that a share is worth less than it brings, by ``turn_margin``;
- is a *profit*: it brings ``profit_margin`` more than the forecast it was bought on says;
- is *stale*: nothing newer than ``max_hold_age_ns``; then into a narrow market first, and after
  ``stale_patience_ns`` at whatever is bid, the only sale that may go below ``exit_floor``.
Bets need ``min_edge`` above the ask and exits a margin below the bid, so nothing is bought and sold
on the same numbers; a market is not bet on again before the cooldown *and* a newer forecast. With
weight 0 the blend is the price and says nothing: what is held stays. Resolution is not its
business (``redemption``), nor are HALTED and a person's flatten.

All it must know is in the view, so a restart proposes what the dead process would have; only pauses
after refusals and the requests under way (``forecast_schedule``) are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from fleet.domain.commands import BundleId, Intent, OpenBundle, RequestForecast
from fleet.domain.events import (
    AnyEvent,
    ForecastFailed,
    ForecastReceived,
    TimerFired,
    TradingState,
)
from fleet.domain.instruments import InstrumentId, Market, MarketId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.engine.book import Book
from fleet.engine.standing import Standing, StandingLeg
from fleet.engine.view import View
from fleet.strategies.correlation import Groups, Stakes
from fleet.strategies.forecast_edge import (
    EXIT,
    IDEA,
    Funds,
    Trade,
    bundle_of,
    find_bet,
    find_sale,
    has_edge,
    value_of,
)
from fleet.strategies.forecast_schedule import Schedule
from fleet.strategies.forecast_settings import ForecastSettings
from fleet.strategies.legs import first_step
from fleet.strategies.sizing import Offer

Wish = Intent | RequestForecast
NextId = Callable[[], BundleId]
TICK = "tick"
TURNED, PROFIT, STALE = "TURNED", "PROFIT", "STALE"
EXITS_MAX = 8
"""Exits proposed in one moment, so that orders in flight are not the brake; the rest comes next."""


@dataclass(slots=True)
class ForecastCounters:
    """What came of forecasts since the start of the process; each forecast is judged once."""

    no_edge: int = 0
    """No skill against the price was shown: nothing may be staked."""
    too_thin: int = 0
    """Skill, but no edge left after fee, slippage, confidence, caps and minimums."""
    drifted: int = 0
    """The price had left the one it was blended with."""
    forecast_bets: int = 0
    exits_turned: int = 0
    exits_profit: int = 0
    exits_stale: int = 0


@dataclass(frozen=True, slots=True)
class _Terms:
    """On what terms a holding is sold: for what reason, what a share is worth, brings, costs."""

    reason: str
    value: Price
    worth: int
    floor: Price


class ForecastTrader:
    """Asks, bets and leaves; see the module."""

    def __init__(self, settings: ForecastSettings, view: View) -> None:
        """Trade the view's universe."""
        self.settings = settings
        self.counters = ForecastCounters()
        self.schedule = Schedule(settings, view.universe)
        self._groups = Groups(view.universe)
        self._placeholders = frozenset(m for one in view.universe.sets for m in one.placeholders)
        self._bet_not_before: dict[MarketId, int] = {}
        self._exit_not_before: dict[MarketId, int] = {}

    def propose(self, event: AnyEvent, view: View, next_id: NextId) -> Sequence[Wish]:
        """Requests, and bundles that open, each followed by its first orders."""
        if isinstance(event, ForecastReceived):
            self.schedule.received(event)
            known = event.market_id in view.universe.markets
            if view.trading is TradingState.HALTED or not known:
                return ()
            return self._look(view, next_id, (event.market_id,), judged=event)
        if isinstance(event, ForecastFailed):
            self.schedule.failed(event, view.now_ns)
            return ()
        if not (isinstance(event, TimerFired) and event.name == TICK):
            return ()
        if view.trading is TradingState.HALTED:
            return ()
        held = _held(view)
        markets = tuple(dict.fromkeys((*held, *view.forecasts)))
        wishes = self._look(view, next_id, markets) if markets else ()
        return (*wishes, *self.schedule.requests(view, held))

    def figures(self) -> Mapping[str, int]:
        """The counters by name, those of the requests included."""
        return {**asdict(self.schedule.counters), **asdict(self.counters)}

    def verdict(self) -> str:
        """Of how many forecasts skill was shown, and why not of the newest, in words."""
        counters = self.counters
        judged = self.schedule.counters.forecasts_received
        if not judged:
            return "forecasts: none judged yet"
        if counters.no_edge == judged:
            return f"forecasts: no edge found in any of {judged}; nothing is staked"
        return (
            f"forecasts: {counters.forecast_bets} bets, no edge in {counters.no_edge} of {judged}"
        )

    def _look(
        self,
        view: View,
        next_id: NextId,
        markets: Sequence[MarketId],
        judged: ForecastReceived | None = None,
    ) -> Sequence[Intent]:
        """Exits and bets of these markets; ``judged`` is the forecast that is counted."""
        if view.operator == "flatten":
            return ()
        wishes, left = self._exits(view, next_id, frozenset(markets))
        if view.trading is not TradingState.ACTIVE:
            return wishes
        stakes: Stakes | None = None
        opened = 0
        for market_id in markets:
            forecast = view.forecasts.get(market_id)
            if forecast is None or market_id in left:
                continue
            count = judged is not None and judged == forecast
            if not has_edge(forecast):
                self.counters.no_edge += count
                continue
            if len(view.open_bundles) + len(left) + opened >= self.settings.max_open_bundles:
                break
            market = view.universe.markets.get(market_id)
            if market is None or not self._may_bet(market, forecast, view):
                continue
            if not _quoted(view.book(market.yes)):
                continue
            if self._drifted(market, forecast, view):
                self.counters.drifted += count
                self.schedule.hasten(market_id, view)
                continue
            stakes = stakes or Stakes(view, self._groups, IDEA)
            plan = self._bet(market, forecast, view, stakes, next_id)
            if plan is None:
                self.counters.too_thin += count
                continue
            opened += 1
            wishes += (plan, *first_step(plan, view, self.settings.execution))
        return wishes

    # --- bets ---------------------------------------------------------------------------------

    def _may_bet(self, market: Market, forecast: ForecastReceived, view: View) -> bool:
        """Whether the market may be bet on now, whatever the prices are."""
        now_ns, settings = view.now_ns, self.settings
        if now_ns - forecast.as_of_ns > settings.max_age_ns or market.id in self._placeholders:
            return False
        if market.yes in view.resolved or (market.end_ns and market.end_ns <= now_ns):
            return False
        if now_ns < self._bet_not_before.get(market.id, 0) or _worked(market, view):
            return False
        bet, left = view.newest_bundle(IDEA, market.id), view.newest_bundle(EXIT, market.id)
        if bet is not None and now_ns < bet.opened_ns + settings.cooldown_ns:
            return False
        if left is None:
            return True
        left_ns = max(left.opened_ns, left.closed_ns)
        return now_ns >= left_ns + settings.cooldown_ns and forecast.as_of_ns > left_ns

    def _drifted(self, market: Market, forecast: ForecastReceived, view: View) -> bool:
        """Whether the price has left the one the blend rests on."""
        book = view.book(market.yes)
        # Twice the middle, so that nothing is rounded.
        return abs(book.bid + book.ask - 2 * forecast.price) > 2 * self.settings.max_drift

    def _bet(
        self,
        market: Market,
        forecast: ForecastReceived,
        view: View,
        stakes: Stakes,
        next_id: NextId,
    ) -> OpenBundle | None:
        """The bet on YES or on NO; at most one of them has an edge."""
        for token, other in ((market.yes, market.no), (market.no, market.yes)):
            book = view.book(token)
            if view.position(other).qty > 0 or not book.usable:
                continue
            value = value_of(forecast, token, market)
            offer = Offer(view.instrument(token), Side.BUY, book)
            funds = self._funds(market.id, view, stakes)
            trade = find_bet(offer, value, forecast.deviation, funds, self.settings)
            if trade is None:
                continue
            stakes.add(market.id, trade.budget)
            stakes.by_idea += trade.budget
            self._bet_not_before[market.id] = view.now_ns + self.settings.cooldown_ns
            self.counters.forecast_bets += 1
            return bundle_of(trade, next_id(), market_id=market.id, value=value, tick=book.tick)
        return None

    def _funds(self, market_id: MarketId, view: View, stakes: Stakes) -> Funds:
        settings = self.settings
        free, staked = view.cash - stakes.reserved, stakes.market(market_id)
        room = min(
            free,
            settings.max_bet,
            settings.max_market - staked,
            settings.max_group - stakes.group(market_id),
            stakes.equity * settings.bankroll_share // SCALE - stakes.by_idea,
        )
        return Funds(Cash(free + staked), staked, Cash(max(0, room)))

    # --- exits --------------------------------------------------------------------------------

    def _exits(
        self, view: View, next_id: NextId, among: frozenset[MarketId]
    ) -> tuple[list[Intent], dict[MarketId, None]]:
        """The exits of some markets, and the markets that are left by them."""
        wishes: list[Intent] = []
        left: dict[MarketId, None] = {}
        claimed: dict[InstrumentId, int] = {}
        exits = 0
        for standing in view.standing.values():
            market = view.universe.markets.get(MarketId(standing.key))
            if standing.idea != IDEA or market is None or market.id not in among:
                continue
            if exits >= EXITS_MAX or not self._may_leave(market, view):
                continue
            for leg in standing.legs:
                terms = self._terms(standing, leg, market, view)
                trade = self._sale(leg, terms, view, claimed) if terms is not None else None
                if terms is None or trade is None:
                    continue
                claimed[leg.instrument_id] = claimed.get(leg.instrument_id, 0) + trade.qty
                exits += 1
                left[market.id] = None
                plan = bundle_of(
                    trade, next_id(), market_id=market.id, value=terms.value,
                    tick=view.book(leg.instrument_id).tick, exits=standing.bundle_id,
                )  # fmt: skip
                wishes += (plan, *first_step(plan, view, self.settings.execution))
                self._count(terms.reason)
        for market_id in left:
            self._exit_not_before[market_id] = view.now_ns + self.settings.retry_ns
        return wishes, left

    def _count(self, reason: str) -> None:
        if reason == TURNED:
            self.counters.exits_turned += 1
        elif reason == PROFIT:
            self.counters.exits_profit += 1
        else:
            self.counters.exits_stale += 1

    def _may_leave(self, market: Market, view: View) -> bool:
        if market.yes in view.resolved or _worked(market, view):
            return False
        if view.now_ns < self._exit_not_before.get(market.id, 0):
            return False
        before = view.newest_bundle(EXIT, market.id)
        return before is None or view.now_ns >= before.opened_ns + self.settings.retry_ns

    def _terms(
        self, standing: Standing, leg: StandingLeg, market: Market, view: View
    ) -> _Terms | None:
        """On what terms a leg of a holding is sold now; nothing if it is kept."""
        settings, forecast = self.settings, view.forecasts.get(market.id)
        token, book = leg.instrument_id, view.book(leg.instrument_id)
        if leg.left <= 0 or not (book.usable and book.bid_qty):
            return None
        newest_ns = forecast.as_of_ns if forecast is not None else standing.opened_ns
        age_ns = view.now_ns - newest_ns
        if age_ns >= settings.max_hold_age_ns:
            paid = leg.cost * SCALE // leg.left
            value = value_of(forecast, token, market) if forecast is not None else Price(paid)
            if age_ns >= settings.max_hold_age_ns + settings.stale_patience_ns:
                return _Terms(STALE, value, 0, book.tick)
            floor = Price(max(settings.exit_floor, book.ask - settings.max_spread))
            return _Terms(STALE, value, 0, floor)
        if forecast is None or age_ns > settings.max_age_ns or not has_edge(forecast):
            return None
        value = value_of(forecast, token, market)
        if forecast.as_of_ns > standing.opened_ns:
            worth = value + settings.turn_margin
            return _Terms(TURNED, value, worth, settings.exit_floor)
        return _Terms(PROFIT, value, value + settings.profit_margin, settings.exit_floor)

    @staticmethod
    def _sale(
        leg: StandingLeg, terms: _Terms, view: View, claimed: Mapping[InstrumentId, int]
    ) -> Trade | None:
        token = leg.instrument_id
        settled = view.position(token).settled - claimed.get(token, 0)
        offer = Offer(view.instrument(token), Side.SELL, view.book(token))
        qty = Qty(min(leg.left, settled))
        return find_sale(offer, qty, worth=terms.worth, floor=terms.floor)


def _held(view: View) -> tuple[MarketId, ...]:
    """The markets with a bet, standing or under way; what is too little to sell is not held."""
    keys = [one.key for one in view.standing.values() if one.idea == IDEA and _sellable(one, view)]
    keys += [one.plan.key for one in view.open_bundles.values() if one.plan.idea == IDEA]
    return tuple(MarketId(key) for key in dict.fromkeys(keys))


def _sellable(standing: Standing, view: View) -> bool:
    """Whether the venue would take an order for what is left, so that a forecast could matter."""
    return any(
        view.knows(leg.instrument_id) and leg.left >= view.instrument(leg.instrument_id).min_qty
        for leg in standing.legs
    )


def _quoted(book: Book) -> bool:
    """Whether a price can be seen: both sides are there and do not cross."""
    return book.usable and book.bid_qty > 0 and book.ask_qty > 0


def _worked(market: Market, view: View) -> bool:
    """Whether anything is under way in the market, whatever its idea."""
    tokens = (market.yes, market.no)
    for bundle in view.open_bundles.values():
        if any(leg.instrument_id in tokens for leg in bundle.plan.legs):
            return True
    return any(order.instrument_id in tokens for order in view.open_orders.values())
