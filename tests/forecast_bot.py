"""A bot that does nothing but bet on forecasts, and short ways to tell it of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fleet.domain import events as ev
from fleet.domain.commands import BundleId, Command, Intent, OpenBundle, RequestForecast
from fleet.domain.events import AnyEvent, TradingState
from fleet.domain.instruments import InstrumentId, MarketId, Side, Universe
from fleet.domain.units import SCALE, Price, Qty, format_units
from fleet.engine.risk import RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.strategies.forecast import ForecastTrader
from fleet.strategies.forecast_settings import ForecastSettings
from fleet.strategies.working import Worker
from tests.builders import (
    DAY,
    MS,
    NS,
    Rig,
    canceled,
    confirmed,
    deposit,
    filled,
    market_id,
    no,
    operations_of,
    orders_of,
    p,
    settled,
    snapshot,
    tick,
    trading,
    universe,
    yes,
)

MINUTE = 60 * NS
WIDE = RiskLimits(max_order_notional=deposit("10000").amount,
                  max_market_exposure=deposit("10000").amount,
                  max_wallet_exposure=deposit("10000").amount,
                  max_day_loss=deposit("10000").amount, stale_ns=30 * DAY)  # fmt: skip
"""Limits of risk that are never met: what holds, the trader keeps by itself."""


class ForecastBot:
    """The trader and a worker for its bundles: a whole strategy."""

    def __init__(self, settings: ForecastSettings, view: View) -> None:
        self.trader = ForecastTrader(settings, view)
        self.worker = Worker(settings.execution)

    def on_event(self, event: AnyEvent, view: View) -> Sequence[Intent | RequestForecast]:
        work = self.worker.work(event, view)
        taken = 0

        def next_id() -> BundleId:
            nonlocal taken
            taken += 1
            return view.next_bundle_id(taken - 1)

        return (*work, *self.trader.propose(event, view, next_id))

    def figures(self) -> Mapping[str, int]:
        return {"opportunities": self.trader.counters.forecast_bets, **self.trader.figures()}


def forecast(
    number: int = 1,
    blend: str = "0.65",
    *,
    at: int = NS,
    as_of: int | None = None,
    weight: str = "0.5",
    deviation: str = "0.02",
    price: str = "0.5",
    request: str = "r",
    **others: Any,
) -> ev.ForecastReceived:
    made = ev.ForecastReceived(
        ts_event=at, ts_recv=at, request_id=request, market_id=market_id(number), forecaster="f",
        model="m", as_of_ns=at if as_of is None else as_of, raw=p(blend), blend=p(blend),
        weight=p(weight), deviation=p(deviation), price=p(price), verdict="edge",
    )  # fmt: skip
    return ev.ForecastReceived(**{
        **{name: getattr(made, name) for name in made.__struct_fields__}, **others,
    })  # fmt: skip


def quotes(
    number: int, bid: str, ask: str, qty: str = "1000", *, at: int = NS
) -> list[ev.BookSnapshot]:
    """Both mirrored books of a market."""
    no_bid, no_ask = format_units(SCALE - p(ask)), format_units(SCALE - p(bid))
    return [
        snapshot(yes(number), [(bid, qty)], [(ask, qty)], at=at),
        snapshot(no(number), [(no_bid, qty)], [(no_ask, qty)], at=at),
    ]


class Stage:
    """A rig with a forecast bot, prices of 0.49 / 0.51 everywhere, and trading on."""

    def __init__(
        self,
        world: Universe | None = None,
        settings: ForecastSettings | None = None,
        *,
        cash: str = "1000",
        limits: RiskLimits | None = None,
        state: State | None = None,
        **changes: Any,
    ) -> None:
        self.world = world or universe(3, end_ns=10 * DAY)
        self.settings = settings or replace(ForecastSettings(), **changes)
        self.bot: ForecastBot
        self.now = NS
        self.trades = 0

        def made(view: View) -> ForecastBot:
            self.bot = ForecastBot(self.settings, view)
            return self.bot

        self.rig = Rig(self.world, strategy=made, limits=limits or WIDE, state=state)
        if state is None:
            self.rig.say(deposit(cash))
            self.quote_all()
            self.rig.say(trading(TradingState.ACTIVE, at=self.now))

    @property
    def view(self) -> View:
        return self.rig.engine.view

    def quote_all(self, bid: str = "0.49", ask: str = "0.51", qty: str = "1000") -> None:
        for number in range(1, len(self.world.markets) + 1):
            self.rig.say(*quotes(number, bid, ask, qty, at=self.now))

    def quote(self, number: int, bid: str, ask: str, qty: str = "1000") -> list[Command]:
        return self.rig.say(*quotes(number, bid, ask, qty, at=self.now))

    def wait(self, ns: int) -> None:
        """Time passes, and market data keeps coming."""
        self.now += ns

    def tick(self, after_ns: int = 0) -> list[Command]:
        self.now += after_ns
        return self.rig.say(tick(self.now))

    def hear(self, number: int = 1, blend: str = "0.65", **others: Any) -> list[Command]:
        """A forecast of this moment."""
        return self.rig.say(forecast(number, blend, at=self.now, **others))

    def fill(self, commands: Sequence[Command], price: str | None = None) -> list[Command]:
        """Fill and settle every order among the commands at its limit, or at a price."""
        caused: list[Command] = []
        for order in orders_of(commands):
            self.trades += 1
            name = f"t{self.trades}"
            at = price or format_units(order.price)
            caused += self.rig.say(filled(order, format_units(order.qty), at, trade=name,
                                          at=self.now))  # fmt: skip
            caused += self.rig.say(settled(name, ev.SettlementStatus.MINED, at=self.now))
        for operation in operations_of(commands):
            caused += self.rig.say(confirmed(operation, at=self.now))
        return caused

    def kill(self, commands: Sequence[Command]) -> list[Command]:
        """None of the orders finds anybody."""
        return [c for o in orders_of(commands) for c in self.rig.say(canceled(o, at=self.now))]

    def bet(self, number: int = 1, blend: str = "0.65") -> None:
        """A forecast, its bet, all of it filled."""
        commands = self.hear(number, blend)
        assert orders_of(commands)
        self.fill(commands)

    def opened(self) -> list[OpenBundle]:
        """Every bundle of the journal."""
        return [plan for entry in self.rig.entries if isinstance(entry, ev.DecisionMade)
                for plan in entry.opened]  # fmt: skip

    def held(self, token: InstrumentId) -> Qty:
        return self.view.position(token).qty


def sides(commands: Sequence[Command]) -> list[tuple[InstrumentId, Side, Price]]:
    """Token, side and price of every order."""
    return [(o.instrument_id, o.side, o.price) for o in orders_of(commands)]


def asked(commands: Sequence[Command]) -> list[MarketId]:
    """The markets of the requests among some commands."""
    return [c.market_id for c in commands if isinstance(c, RequestForecast)]


__all__ = ["DAY", "MINUTE", "MS", "ForecastBot", "Stage", "asked", "forecast", "quotes", "sides"]
