"""Which markets are forecast, and when: requests cost money and take long.

A round begins every ``interval_ns``: held markets first (the oldest forecast before younger ones),
then the tightest and deepest within the horizon, at most ``per_round``, spread over the round. No
market has two requests under way; one without an answer is lost after the patience. A failed or
lost one is asked again after a pause that doubles. Never asked for: placeholders of augmented
sets, resolved and ended markets; under REDUCING only what is held.

What this keeps in memory may be forgotten: a process that starts anew has no request under way, and
sees by the forecasts in the journal which markets need none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest

from fleet.domain.commands import RequestForecast
from fleet.domain.events import ForecastFailed, ForecastReceived, TradingState
from fleet.domain.instruments import Market, MarketId, Universe
from fleet.domain.units import SCALE, notional_down
from fleet.engine.view import View
from fleet.strategies.forecast_settings import ForecastSettings


@dataclass(slots=True)
class ScheduleCounters:
    """Requests since the start of the process."""

    forecasts_asked: int = 0
    forecasts_received: int = 0
    forecasts_failed: int = 0
    forecasts_lost: int = 0


class Schedule:
    """Requests due now, and what became of earlier ones."""

    def __init__(self, settings: ForecastSettings, universe: Universe) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        self._placeholders = frozenset(m for group in universe.sets for m in group.placeholders)
        self._asked: dict[MarketId, RequestForecast] = {}
        self._failures: dict[MarketId, int] = {}
        self._not_before: dict[MarketId, int] = {}
        self._queue: list[MarketId] = []
        self._round_ns = 0
        self._next_ns = 0
        self._gap_ns = 0
        self._left = 0
        self.counters = ScheduleCounters()

    @property
    def under_way(self) -> Mapping[MarketId, RequestForecast]:
        """The requests without an answer."""
        return self._asked

    def received(self, event: ForecastReceived) -> None:
        """An answer came, perhaps to a request of an earlier process."""
        self.counters.forecasts_received += 1
        self._failures.pop(event.market_id, None)
        self._not_before.pop(event.market_id, None)
        self._answered(event)

    def failed(self, event: ForecastFailed, now_ns: int) -> None:
        """A request came to nothing; one that was given up counts no second time."""
        if self._answered(event):
            self.counters.forecasts_failed += 1
            self._pause(event.market_id, now_ns)

    def hasten(self, market_id: MarketId, view: View) -> None:
        """This market's forecast is overtaken by its price: it is next, within the round's number.

        Not more often than four times a round.
        """
        forecast = view.forecasts.get(market_id)
        young = forecast is not None and (
            view.now_ns - forecast.as_of_ns < self._settings.interval_ns // 4
        )
        if young or market_id in self._asked or market_id in self._queue[:1]:
            return
        if market_id in self._queue:
            self._queue.remove(market_id)
        self._queue.insert(0, market_id)

    def requests(self, view: View, held: Sequence[MarketId]) -> Sequence[RequestForecast]:
        """What to ask for now; nothing while trading is HALTED."""
        if view.trading is TradingState.HALTED:
            return ()
        now_ns = view.now_ns
        for request in [r for r in self._asked.values() if now_ns - r.ts >= self._patience_ns]:
            del self._asked[request.market_id]
            self.counters.forecasts_lost += 1
            self._pause(request.market_id, now_ns)
        if not self._round_ns or now_ns - self._round_ns >= self._settings.interval_ns:
            self._begin(view, held)
        due: list[RequestForecast] = []
        while self._queue and self._left > 0 and now_ns >= self._next_ns:
            market_id = self._queue.pop(0)
            reducing = view.trading is TradingState.REDUCING and market_id not in held
            if reducing or not self._may_ask(market_id, view):
                continue
            request = RequestForecast(
                request_id=f"{market_id}@{now_ns}", market_id=market_id, ts=now_ns
            )
            self._asked[market_id] = request
            self.counters.forecasts_asked += 1
            self._left -= 1
            self._next_ns = max(self._next_ns + self._gap_ns, now_ns)
            due.append(request)
        return due

    @property
    def _patience_ns(self) -> int:
        return self._settings.patience_ns

    def _begin(self, view: View, held: Sequence[MarketId]) -> None:
        """Choose the markets of a round."""
        settings = self._settings
        self._round_ns = self._next_ns = view.now_ns
        self._left = settings.per_round
        old = [market for market in held if self._wanted(market, view)]
        old.sort(key=lambda market: _as_of(market, view))
        self._queue = old[: settings.per_round]
        if view.trading is TradingState.ACTIVE:
            others = (m for m in view.universe.markets.values() if m.id not in held)
            ranked = [
                (*rank, number, market.id)
                for number, market in enumerate(others)
                if (rank := self._rank(market, view)) is not None and self._wanted(market.id, view)
            ]
            room = settings.per_round - len(self._queue)
            self._queue += [market_id for *_, market_id in nsmallest(room, ranked)]
        self._gap_ns = settings.interval_ns // settings.per_round

    def _wanted(self, market_id: MarketId, view: View) -> bool:
        """Whether a round may ask for it: allowed, and the last forecast is half a round old."""
        young = view.now_ns - _as_of(market_id, view) < self._settings.interval_ns // 2
        return not young and self._may_ask(market_id, view)

    def _may_ask(self, market_id: MarketId, view: View) -> bool:
        market = view.universe.markets.get(market_id)
        if market is None or market_id in self._placeholders or market_id in self._asked:
            return False
        if market.yes in view.resolved or (market.end_ns and market.end_ns <= view.now_ns):
            return False
        return view.now_ns >= self._not_before.get(market_id, 0)

    def _rank(self, market: Market, view: View) -> tuple[int, int] | None:
        """(spread, minus dollars at the top) of a market worth a forecast; less is better."""
        settings, book = self._settings, view.book(market.yes)
        left_ns = market.end_ns - view.now_ns
        if not settings.min_horizon_ns <= left_ns <= settings.max_horizon_ns:
            return None
        if not (book.usable and book.bid_qty and book.ask_qty):
            return None
        spread, middle = book.ask - book.bid, (book.ask + book.bid) // 2
        depth = min(notional_down(book.bid, book.bid_qty), notional_down(book.ask, book.ask_qty))
        if spread > settings.max_spread or depth < settings.min_depth:
            return None
        if not settings.min_price <= middle <= settings.max_price:
            return None
        return spread, -depth

    def _answered(self, event: ForecastReceived | ForecastFailed) -> bool:
        request = self._asked.get(event.market_id)
        if request is None or request.request_id != event.request_id:
            return False
        del self._asked[event.market_id]
        return True

    def _pause(self, market_id: MarketId, now_ns: int) -> None:
        failures = self._failures.get(market_id, 0)
        self._failures[market_id] = failures + 1
        pause_ns = self._settings.backoff_ns << min(failures, 16)
        self._not_before[market_id] = now_ns + min(pause_ns, self._settings.backoff_ns_max)


def _as_of(market_id: MarketId, view: View) -> int:
    """When the market's newest forecast was made; long ago if there is none."""
    forecast = view.forecasts.get(market_id)
    return forecast.as_of_ns if forecast is not None else -SCALE * SCALE
