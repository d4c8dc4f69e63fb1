"""A bot that does nothing but copy, and short ways to tell it what leaders do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fleet.domain import events as ev
from fleet.domain.commands import BundleId, Command, Intent, OpenBundle, RequestForecast
from fleet.domain.events import AnyEvent, TradingState
from fleet.domain.instruments import InstrumentId, Side, Universe
from fleet.domain.knowledge import CopyRefused, Followed
from fleet.domain.units import Qty, format_units
from fleet.engine.risk import RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.strategies.mimic import MimicTrader, Wish
from fleet.strategies.mimic_settings import MimicSettings
from fleet.strategies.mimic_stakes import EXIT
from fleet.strategies.working import Worker
from tests.builders import (
    DAY,
    NS,
    Rig,
    canceled,
    confirmed,
    deposit,
    filled,
    operations_of,
    orders_of,
    p,
    q,
    settled,
    tick,
    trading,
    universe,
    yes,
)
from tests.forecast_bot import WIDE, quotes

LEE, ANN, BOB = "0xLee", "0xAnn", "0xBob"
ASKS_NOBODY = MimicSettings(min_ai_confidence=0)


class MimicBot:
    """The trader and a worker for its bundles: a whole strategy."""

    def __init__(self, settings: MimicSettings, view: View) -> None:
        self.trader = MimicTrader(settings, view)
        self.worker = Worker(settings.execution, by_idea={EXIT: settings.exit_execution})

    def on_event(self, event: AnyEvent, view: View) -> Sequence[Wish]:
        work: Sequence[Intent] = self.worker.work(event, view)
        given = 0

        def next_id() -> BundleId:
            nonlocal given
            given += 1
            return view.next_bundle_id(given - 1)

        return (*work, *self.trader.propose(event, view, next_id))

    def figures(self) -> Mapping[str, int]:
        return {"opportunities": self.trader.counters.copied, **self.trader.figures()}


def chosen(*wallets: str, watched: Sequence[str] = (), at: int = 0) -> ev.LeadersChosen:
    followed = [Followed(wallet=w, copied=True) for w in wallets]
    followed += [Followed(wallet=w, copied=False) for w in watched]
    return ev.LeadersChosen(ts_recv=at, leaders=tuple(followed))


def traded(
    name: str, qty: str = "100", price: str = "0.50", *, wallet: str = LEE,
    token: InstrumentId | None = None, side: Side = Side.BUY, at: int = NS, age: int = 0,
    block: int = 1,
) -> ev.LeaderTraded:  # fmt: skip
    """A leader's trade, told ``age`` after its block."""
    return ev.LeaderTraded(
        ts_event=at - age, ts_recv=at, sighting_id=name, wallet=wallet,
        instrument_id=token or yes(), side=side, price=p(price), qty=q(qty), maker=False,
        block=block, block_hash=f"h{block}",
    )  # fmt: skip


def moved(
    name: str, *changes: tuple[InstrumentId, str], wallet: str = LEE, at: int = NS, block: int = 1,
    kind: ev.MoveKind = ev.MoveKind.TRANSFER,
) -> ev.LeaderMoved:  # fmt: skip
    return ev.LeaderMoved(
        ts_event=at, ts_recv=at, sighting_id=name, wallet=wallet, kind=kind,
        changes=tuple((token, q(change)) for token, change in changes), block=block,
        block_hash=f"h{block}",
    )  # fmt: skip


def undone(name: str, *, wallet: str = LEE, at: int = NS) -> ev.SightingUndone:
    return ev.SightingUndone(ts_event=at, ts_recv=at, sighting_id=name, wallet=wallet)


class Stage:
    """A rig with a bot that copies Lee, prices of 0.49 / 0.51 everywhere, and trading on."""

    def __init__(
        self,
        world: Universe | None = None,
        settings: MimicSettings | None = None,
        *,
        cash: str = "10000",
        limits: RiskLimits | None = None,
        state: State | None = None,
        copied: Sequence[str] = (LEE,),
        **changes: Any,
    ) -> None:
        self.world = world or universe(3, end_ns=10 * DAY)
        self.settings = settings or replace(ASKS_NOBODY, **changes)
        self.bot: MimicBot
        self.now = NS
        self.trades = self.names = 0

        def made(view: View) -> MimicBot:
            self.bot = MimicBot(self.settings, view)
            return self.bot

        self.rig = Rig(self.world, strategy=made, limits=limits or WIDE, state=state)
        if state is None:
            self.rig.say(deposit(cash), chosen(*copied, watched=[BOB]))
            for number in range(1, len(self.world.markets) + 1):
                self.quote(number, "0.49", "0.51")
            self.rig.say(trading(TradingState.ACTIVE, at=self.now))

    @property
    def view(self) -> View:
        return self.rig.engine.view

    def say(self, *events: ev.AnyEvent) -> list[Command]:
        return self.rig.say(*events)

    def quote(self, number: int, bid: str, ask: str, qty: str = "100000") -> list[Command]:
        return self.rig.say(*quotes(number, bid, ask, qty, at=self.now))

    def tick(self, after_ns: int = 0) -> list[Command]:
        self.now += after_ns
        return self.rig.say(tick(self.now))

    def _name(self) -> str:
        self.names += 1
        return f"s{self.names}"

    def buys(self, qty: str = "100", price: str = "0.50", **more: Any) -> list[Command]:
        """A leader buys now."""
        name = self._name()
        more = {"name": name, "block": 100 + self.names, **more}
        return self.rig.say(traded(qty=qty, price=price, at=self.now, **more))

    def sells(self, qty: str = "100", price: str = "0.50", **more: Any) -> list[Command]:
        return self.buys(qty, price, side=Side.SELL, **more)

    def moves(self, *changes: tuple[InstrumentId, str], **more: Any) -> list[Command]:
        name = self._name()
        more.setdefault("block", 100 + self.names)
        return self.rig.say(moved(name, *changes, at=self.now, **more))

    def fill(self, commands: Sequence[Command], price: str | None = None) -> list[Command]:
        """Fill and settle every order among the commands at its limit, or at a price."""
        caused: list[Command] = []
        for order in orders_of(commands):
            self.trades += 1
            name = f"t{self.trades}"
            fee = self.world.instruments[order.instrument_id].fees.fee(order.price, order.qty)
            caused += self.rig.say(filled(
                order, format_units(order.qty), price or format_units(order.price), trade=name,
                fee=format_units(fee), at=self.now,
            ))  # fmt: skip
            caused += self.rig.say(settled(name, ev.SettlementStatus.MINED, at=self.now))
        for operation in operations_of(commands):
            caused += self.rig.say(confirmed(operation, at=self.now))
        return caused

    def kill(self, commands: Sequence[Command]) -> list[Command]:
        return [c for o in orders_of(commands) for c in self.rig.say(canceled(o, at=self.now))]

    def copy(self, qty: str = "100", **more: Any) -> OpenBundle:
        """A leader buys, and our copy fills."""
        commands = self.buys(qty, **more)
        assert orders_of(commands), self.refused()
        self.fill(commands)
        return self.opened()[-1]

    def opened(self) -> list[OpenBundle]:
        return [plan for entry in self.rig.entries if isinstance(entry, ev.DecisionMade)
                for plan in entry.opened]  # fmt: skip

    def refused(self) -> list[str]:
        """The reasons journalled so far."""
        return [e.reason.value for e in self.rig.entries if isinstance(e, CopyRefused)]

    def held(self, token: InstrumentId | None = None) -> Qty:
        return self.view.position(token or yes()).qty


Build = Callable[[View], MimicBot]


def asked(commands: Sequence[Command]) -> list[str]:
    return [c.market_id for c in commands if isinstance(c, RequestForecast)]


def sent(commands: Sequence[Command]) -> list[tuple[str, str, str, str]]:
    """Side, token, shares and price of every order."""
    return [
        (o.side.value, o.instrument_id, format_units(o.qty), format_units(o.price))
        for o in orders_of(commands)
    ]
