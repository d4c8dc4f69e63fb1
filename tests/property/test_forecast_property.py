"""The forecast trader under any sequence of forecasts, books, fills, failures and restarts.

A market of two prices, forecasters that are right, wrong, silent or without skill, and a venue that
fills all, part or nothing, late. Risk's own limits are too wide to help: what holds, the trader
keeps by itself.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.domain import events as ev
from fleet.domain.commands import Approved, Command, SubmitOrder
from fleet.domain.events import SettlementStatus, TradingState
from fleet.domain.instruments import Side, Universe
from fleet.domain.units import SCALE, Cash, Qty, format_units, notional_up
from fleet.engine.state import fold
from fleet.strategies.correlation import Groups, Stakes
from fleet.strategies.forecast_edge import EXIT, IDEA
from fleet.strategies.forecast_settings import ForecastSettings
from tests.builders import canceled, filled, market_id, no, orders_of, settled, tick, trading, yes
from tests.builders import universe as markets
from tests.forecast_bot import DAY, MINUTE, WIDE, Stage, forecast, quotes

CAPS = replace(
    ForecastSettings(), max_bet=Cash(20 * SCALE), max_market=Cash(35 * SCALE),
    max_group=Cash(45 * SCALE), bankroll_share=SCALE // 10, cooldown_ns=4 * MINUTE, retry_ns=MINUTE,
    max_hold_age_ns=40 * MINUTE, stale_patience_ns=10 * MINUTE,
)  # fmt: skip
COUNT = 4


def world() -> Universe:
    """Markets 1 and 2 are one event, 3 and 4 are alone; all have fees."""
    made = markets(COUNT, end_ns=30 * DAY, rate="0.02")
    together = {
        key: replace(market, event_id="e" if key in {"m1", "m2"} else "")
        for key, market in made.markets.items()
    }
    return replace(made, markets=together)


class Play:
    """One story by seed, with a second process that starts from the journal at each step."""

    def __init__(self, seed: int, weight: str = "") -> None:
        self.by = random.Random(seed)
        self.weight = weight
        self.stage = Stage(world(), CAPS, limits=WIDE, cash="400")
        self.left: dict[str, tuple[SubmitOrder, Qty]] = {}
        self.paid = 0
        self.books = dict.fromkeys(range(1, COUNT + 1), ("0.49", "0.51", "1000"))
        self.resolved: set[int] = set()
        self.failures = seed % 2 == 1
        self.failed = False
        """Whether a sale failed: what it had freed comes back, and a cap met since may be passed."""

    def step(self) -> list[ev.AnyEvent]:
        """Something happens, or nothing."""
        moves = (
            [self.price] * 4
            + [self.predict] * 4
            + [self.mine] * 3
            + [self.fill] * 5
            + [self.tick] * 4
        )
        moves += [self.end, self.end, self.end, self.fail, self.permit, self.resolve]
        self.stage.wait(self.by.choice([1, 5, 20, 20, 61, 61, 61, 300]) * 1_000_000_000)
        event: Any = self.by.choice(moves)()
        return event if isinstance(event, list) else [event] if event is not None else []

    def price(self) -> list[ev.BookSnapshot]:
        number, bid = self.by.randint(1, COUNT), self.by.randint(3, 90)
        held = [n for n in range(1, COUNT + 1) if self.stage.held(yes(n)) or self.stage.held(no(n))]
        number = self.by.choice(held or [number])
        ask = bid + self.by.randint(1, 6)
        depth = self.by.choice(["7", "60", "1000"])
        self.books[number] = (f"0.{bid:02d}", f"0.{ask:02d}", depth)
        return quotes(number, *self.books[number], at=self.stage.now)

    def predict(self) -> ev.Event:
        number = self.by.randint(1, COUNT)
        bid, ask, _ = self.books[number]
        middle = (round(float(bid) * 100) + round(float(ask) * 100)) / 200
        blend = min(0.97, max(0.03, middle + self.by.uniform(-0.3, 0.3)))
        if self.by.random() < 0.1:
            under_way = list(self.stage.bot.trader.schedule.under_way.values())
            request = self.by.choice(under_way) if under_way else None
            return ev.ForecastFailed(
                ts_recv=self.stage.now, request_id=request.request_id if request else "r",
                market_id=request.market_id if request else market_id(number),
                forecaster="f", reason="no",
            )  # fmt: skip
        return forecast(
            number, f"{blend:.4f}", at=self.stage.now, price=f"{middle + self.by.choice([0, 0, 0, 0.05]):.4f}",
            as_of=self.stage.now - self.by.choice([0, 5, 20]) * MINUTE,
            weight=self.weight or self.by.choice(["0", "0.3", "1"]),
            deviation=self.by.choice(["0.005", "0.03", "0.2"]),
        )  # fmt: skip

    def tick(self) -> ev.Event:
        return tick(self.stage.now)

    def fill(self) -> ev.Event | None:
        """Part or all of an order, perhaps long after it was sent, at the limit or better."""
        if not self.left:
            return self.mine()
        name = self.by.choice(list(self.left))
        order, left = self.left[name]
        lot = SCALE // 100
        qty = Qty(left if self.by.random() < 0.5 else max(lot, left // 2 // lot * lot))
        self.left[name] = (order, Qty(left - qty))
        if left == qty:
            del self.left[name]
        self.stage.trades += 1
        fee = self.stage.world.instruments[order.instrument_id].fees.fee(order.price, qty)
        return filled(
            order, format_units(qty), format_units(order.price), trade=f"t{self.stage.trades}",
            fee=format_units(fee), at=self.stage.now,
        )  # fmt: skip

    def mine(self) -> ev.Event | None:
        trades = list(self.stage.rig.state.unsettled)
        if not trades:
            return None
        return settled(self.by.choice(trades), SettlementStatus.MINED, at=self.stage.now)

    def fail(self) -> ev.Event | None:
        """A sale fails on chain."""
        sales = [t for t, f in self.stage.rig.state.unsettled.items() if f.side is Side.SELL]
        if not sales or not self.failures:
            return self.mine()
        self.failed = True
        return settled(self.by.choice(sales), SettlementStatus.FAILED, at=self.stage.now)

    def end(self) -> ev.Event | None:
        if not self.left:
            return None
        name = self.by.choice(list(self.left))
        del self.left[name]
        return canceled(name, at=self.stage.now)

    def permit(self) -> ev.Event:
        state = self.by.choice([TradingState.ACTIVE] * 4 + list(TradingState))
        return trading(state, at=self.stage.now)

    def resolve(self) -> ev.Event | None:
        number = self.by.randint(1, COUNT)
        if self.by.random() < 0.9 or number in self.resolved:
            return None
        self.resolved.add(number)
        won = self.by.choice([0, SCALE])
        payouts: Any = ((yes(number), won), (no(number), SCALE - won))
        return ev.MarketResolved(
            ts_recv=self.stage.now, market_id=market_id(number), payouts=payouts
        )

    def again(self) -> Stage:
        """Another process over the same journal, with the same books."""
        state = fold(self.stage.rig.entries, self.stage.world)
        other = Stage(self.stage.world, CAPS, limits=WIDE, state=state)
        other.now = self.stage.now
        for number, book in self.books.items():
            if number not in self.resolved:
                other.rig.say(*quotes(number, *book, at=other.now))
        return other

    def take(self, commands: list[Command]) -> None:
        for order in orders_of(commands):
            self.left[order.client_order_id] = (order, order.qty)


class Told(Protocol):
    """What is asked of a play after every event."""

    def __call__(self, play: Play, told: list[ev.AnyEvent], commands: list[Command]) -> None: ...


def run(play: Play, steps: int, check: Told) -> None:
    for _ in range(steps):
        told = play.step()
        if not told:
            continue
        commands = play.stage.rig.say(*told)
        play.take(commands)
        assert play.stage.rig.state.trading_by != "engine", play.stage.rig.state.trading_reason
        check(play, told, commands)


def at_stake(play: Play, numbers: tuple[int, ...]) -> int:
    """What these markets cost and may yet cost, from positions and from what was really sent."""
    tokens = [t for n in numbers for t in (yes(n), no(n))]
    total: int = sum(play.stage.view.position(token).cost for token in tokens)
    for order, left in play.left.values():
        if order.instrument_id in tokens and order.side is Side.BUY:
            fees = play.stage.world.instruments[order.instrument_id].fees
            total += notional_up(order.price, left) + fees.fee(order.price, left)
    return total


def caps_hold(play: Play, _told: list[ev.AnyEvent], _commands: list[Command]) -> None:
    """Each fill rounds its own fee up: a thousandth of a cent."""
    if play.failed:
        return
    dust = 2_000 * (play.stage.trades + 1)
    for number in range(1, COUNT + 1):
        assert at_stake(play, (number,)) <= CAPS.max_market + dust
    assert at_stake(play, (1, 2)) <= CAPS.max_group + dust


def bets_obey(play: Play, _told: list[ev.AnyEvent], _commands: list[Command]) -> None:
    decision = play.stage.rig.entries[-1]
    if not isinstance(decision, ev.DecisionMade):
        return
    for plan in decision.opened:
        if plan.idea != IDEA:
            continue
        view = play.stage.view
        made = view.forecasts[market_id(int(plan.key[1:]))]
        assert made.weight > 0
        assert plan.budget <= CAPS.max_bet
        assert plan.edge * SCALE >= CAPS.min_edge * plan.legs[0].qty
        assert view.trading is TradingState.ACTIVE
        if not play.failed:
            equity = view.cash + sum(position.cost for position in view.positions.values())
            total = at_stake(play, tuple(range(1, COUNT + 1)))
            # A bet's own cost and its part of the position's average differ by cents.
            assert total <= equity // 10 + SCALE


@pytest.mark.parametrize("seed", range(60))
def test_stakes_stay_below_every_cap(seed: int) -> None:
    def check(play: Play, told: list[ev.AnyEvent], commands: list[Command]) -> None:
        caps_hold(play, told, commands)
        bets_obey(play, told, commands)

    play = Play(seed)
    run(play, 200, check)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_nothing_is_ever_staked_on_weight_nothing(seed: int) -> None:
    play = Play(seed, weight="0")
    run(play, 80, lambda play, _told, _commands: None)
    assert not play.stage.opened()


def compare_with_restarts(seed: int) -> int:
    """How many orders and operations a process and its restarted twin both wished for."""
    play = Play(1_000 + seed)
    compared = 0
    for _ in range(150):
        again = play.again()
        told = play.step()
        if not told:
            continue
        commands = play.stage.rig.say(*told)
        same = again.rig.say(*told)
        mine = [x for x in commands if isinstance(x, Approved)]
        assert mine == [x for x in same if isinstance(x, Approved)]
        compared += len(mine)
        play.take(commands)
    return compared


def test_a_restart_at_any_moment_wishes_the_same() -> None:
    """What is journalled decides; what a process remembers besides changes nothing."""
    assert sum(compare_with_restarts(seed) for seed in range(8)) > 40


def test_the_plays_meet_what_they_are_for() -> None:
    met = {IDEA: 0, EXIT: 0}
    figures: dict[str, int] = {}
    for seed in range(30):
        play = Play(seed)
        run(play, 200, lambda play, _told, _commands: None)
        for plan in play.stage.opened():
            met[plan.idea] += 1
        for name, count in play.stage.bot.figures().items():
            figures[name] = figures.get(name, 0) + count
    assert met[IDEA] > 50
    assert met[EXIT] > 20
    for name in (
        "exits_turned",
        "exits_profit",
        "exits_stale",
        "no_edge",
        "drifted",
        "too_thin",
        "forecasts_failed",
        "forecasts_lost",
    ):
        assert figures[name] > 0, (name, figures)


def test_stakes_are_what_the_view_shows() -> None:
    """The trader's own sum is never below what was really sent."""

    def check(play: Play, told: list[ev.AnyEvent], commands: list[Command]) -> None:
        del told, commands
        view = play.stage.view
        stakes = Stakes(view, Groups(view.universe), IDEA)
        for number in range(1, COUNT + 1):
            assert stakes.market(market_id(number)) + 2_000 * (play.stage.trades + 1) >= at_stake(
                play, (number,)
            )

    play = Play(7)
    run(play, 200, check)
