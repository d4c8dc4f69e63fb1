"""Whether the forecaster thinks that a share is worth what it costs: asked, waited for, answered.

One request of a market is under way at a time. An answer that approves is acted on at once; one
that does not is acted on at the next timer, because one request has an answer of every forecaster,
the best last. What this remembers may be forgotten: after a restart it is asked again while the
patience lasts, and a forecast in the journal that was made after the purchase answers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from fleet.domain.commands import RequestForecast
from fleet.domain.events import ForecastFailed, ForecastReceived
from fleet.domain.instruments import InstrumentId, Market, MarketId
from fleet.domain.knowledge import CopyRefusal
from fleet.domain.units import Price, format_units
from fleet.engine.view import View
from fleet.strategies.forecast_edge import has_edge, value_of
from fleet.strategies.kelly import confident
from fleet.strategies.mimic_settings import MimicSettings


class Answer(Enum):
    """What the forecaster says of a copy."""

    YES = "YES"
    NO = "NO"
    WAIT = "WAIT"


@dataclass(frozen=True, slots=True)
class Opinion:
    """The answer; what a share is worth, if that is known; why not."""

    answer: Answer
    value: Price | None = None
    reason: CopyRefusal = CopyRefusal.FORECAST_MISSING
    detail: str = ""


@dataclass(slots=True)
class ApprovalCounters:
    """Since the start of the process."""

    approvals_asked: int = 0
    approvals_failed: int = 0
    approved: int = 0
    approved_unskilled: int = 0


class Approvals:
    """The requests under way, and what the forecasts say."""

    def __init__(self, settings: MimicSettings) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        self._asked: dict[MarketId, RequestForecast] = {}
        self._not_before: dict[MarketId, int] = {}
        self.counters = ApprovalCounters()

    @property
    def asked(self) -> Mapping[MarketId, RequestForecast]:
        """The requests without an answer."""
        return self._asked

    def received(self, event: ForecastReceived) -> None:
        """An answer came."""
        self._answered(event)

    def failed(self, event: ForecastFailed, now_ns: int) -> None:
        """A request came to nothing; the market is asked again after the patience."""
        if self._answered(event):
            self.counters.approvals_failed += 1
            self._not_before[event.market_id] = now_ns + self._settings.approval_patience_ns

    def _answered(self, event: ForecastReceived | ForecastFailed) -> bool:
        request = self._asked.get(event.market_id)
        if request is None or request.request_id != event.request_id:
            return False
        del self._asked[event.market_id]
        return True

    def request(self, market_id: MarketId, now_ns: int) -> RequestForecast | None:
        """A request, unless one is under way or has just failed."""
        asked = self._asked.get(market_id)
        if asked is not None and now_ns - asked.ts <= self._settings.approval_patience_ns:
            return None
        if now_ns < self._not_before.get(market_id, 0):
            return None
        request = RequestForecast(
            request_id=f"{market_id}@{now_ns}", market_id=market_id, ts=now_ns
        )
        self._asked[market_id] = request
        self.counters.approvals_asked += 1
        return request

    def opinion(
        self,
        market: Market,
        token: InstrumentId,
        cost: int,
        told_ns: int,
        view: View,
        *,
        final: bool,
    ) -> Opinion:
        """Of a purchase told at ``told_ns`` whose shares cost us at most ``cost`` with fee.

        ``final`` says that no better answer to the same request can be under way.
        """
        settings = self._settings
        if not settings.min_ai_confidence:
            return Opinion(Answer.YES)
        forecast = view.forecasts.get(market.id)
        if forecast is None:
            return Opinion(Answer.WAIT, detail="there is none")
        knows = forecast.as_of_ns >= told_ns
        young = view.now_ns - forecast.as_of_ns <= settings.approval_age_ns
        if not knows and not young:
            return Opinion(Answer.WAIT, detail="none since the purchase")
        if has_edge(forecast):
            if self._drifted(forecast, market, view):
                return Opinion(Answer.WAIT, detail="the price has left it")
            value = value_of(forecast, token, market)
            edge = value - cost
            if confident(edge, forecast.deviation, settings.min_ai_confidence):
                self.counters.approved += 1
                return Opinion(Answer.YES, value)
            doubt = Opinion(
                Answer.NO, value, CopyRefusal.FORECAST_DOUBTS,
                f"worth {format_units(value)} +- {format_units(forecast.deviation)},"
                f" costs {format_units(cost)}",
            )  # fmt: skip
            return doubt if knows and final else Opinion(Answer.WAIT, detail=doubt.detail)
        if not (knows and final):
            return Opinion(Answer.WAIT, detail="the forecaster has shown no skill")
        if settings.unskilled_approves:
            self.counters.approved_unskilled += 1
            return Opinion(Answer.YES)
        return Opinion(Answer.NO, None, CopyRefusal.FORECAST_UNSKILLED, forecast.verdict)

    def _drifted(self, forecast: ForecastReceived, market: Market, view: View) -> bool:
        """Whether the price has left the one the forecast was made at; unknown counts as yes."""
        book = view.book(market.yes)
        if not (book.usable and book.bid_qty and book.ask_qty):
            return True
        # Twice the middle, so that nothing is rounded.
        return abs(book.bid + book.ask - 2 * forecast.price) > 2 * self._settings.max_drift
