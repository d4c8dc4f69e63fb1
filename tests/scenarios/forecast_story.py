"""Stories of the forecast trader, told like all others, with three words more.

minute 10                        the time, in minutes from the start
forecast 1 0.65 [0.5] [0.5]      a market's blend, its weight, the price it was made at
unable 1                         the request of a market that is under way fails
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.domain import events as ev
from fleet.domain.instruments import MarketId
from fleet.engine.engine import Strategy
from fleet.engine.view import View
from fleet.strategies.forecast_settings import ForecastSettings
from tests.builders import NS, market_id
from tests.forecast_bot import MINUTE, ForecastBot, forecast
from tests.scenarios.story import Teller


class ForecastTeller(Teller):
    """The forecast trader in ArbHunter's place."""

    def strategy(self, view: View) -> Strategy:
        self.bot = ForecastBot(ForecastSettings(), view)
        return self.bot

    def tell(self, line: str) -> Iterator[str]:
        word, _, rest = line.partition(" ")
        if word == "minute":
            self.now = NS + int(rest) * MINUTE
            return
        yield from super().tell(line)

    def events(self, word: str, words: list[str], rest: str) -> list[ev.AnyEvent]:
        if word not in {"forecast", "unable"}:
            return super().events(word, words, rest)
        number = int(words[0])
        asked = self.bot.trader.schedule.under_way.get(MarketId(f"m{number}"))
        request = asked.request_id if asked is not None else "nobody's"
        if word == "unable":
            return [ev.ForecastFailed(
                ts_recv=self.now, request_id=request, market_id=market_id(number),
                forecaster="f", reason="no answer",
            )]  # fmt: skip
        weight, price = [*words[2:], "0.5", "0.5"][:2] if len(words) != 3 else (words[2], "0.5")
        return [forecast(number, words[1], at=self.now, weight=weight, price=price,
                         request=request)]  # fmt: skip

    def figures(self) -> Iterator[str]:
        figures = self.rig.engine.strategy.figures()
        yield (f"asked {figures['forecasts_asked']}, no edge {figures['no_edge']},"
               f" bets {figures['forecast_bets']}, turned {figures['exits_turned']},"
               f" profit {figures['exits_profit']}, stale {figures['exits_stale']}")  # fmt: skip
