"""EliteMimic under any sequence of trades, repetitions, reorgs, books, fills, failures and deaths.

Three markets, two leaders that are copied and one that is watched, a chain that tells things late,
twice and in any order and takes some back, and a venue that fills all, part or nothing, late.
Risk's own limits are too wide to help: what holds, the copier keeps by itself.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.domain import events as ev
from fleet.domain.commands import Approved, Command, RequestForecast, SubmitOrder
from fleet.domain.events import SettlementStatus, TradingState
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.knowledge import CopyRefused
from fleet.domain.units import SCALE, Cash, Price, Qty, format_units, notional_up
from fleet.engine import leaders
from fleet.engine.image import StateImage, image_of, restore
from fleet.engine.state import fold
from fleet.strategies.correlation import cost_at
from fleet.strategies.mimic_settings import MimicSettings
from fleet.strategies.mimic_stakes import EXIT, IDEA, copies_held
from tests.builders import (
    DAY,
    NS,
    canceled,
    durable,
    filled,
    no,
    orders_of,
    settled,
    tick,
    trading,
    yes,
)
from tests.builders import universe as markets
from tests.forecast_bot import WIDE, forecast, quotes
from tests.mimic_world import ANN, BOB, LEE, Stage, chosen, moved, traded, undone

COUNT = 3
TOKENS = [token for n in range(1, COUNT + 1) for token in (yes(n), no(n))]
CAPS = MimicSettings(
    min_ai_confidence=0, max_copy=Cash(40 * SCALE), max_market=Cash(60 * SCALE),
    max_leader=Cash(90 * SCALE), max_day=Cash(400 * SCALE), max_slippage=Price(SCALE // 10),
    undo_patience_ns=20 * NS,
)  # fmt: skip
AI = replace(CAPS, min_ai_confidence=70)


class Play:
    """One story by seed."""

    def __init__(self, seed: int, settings: MimicSettings = CAPS) -> None:
        self.by = random.Random(seed)
        self.stage = Stage(
            markets(COUNT, end_ns=30 * DAY, rate="0.02"), settings, limits=WIDE, cash="3000",
            copied=(LEE, ANN),
        )  # fmt: skip
        self.left: dict[str, tuple[SubmitOrder, Qty]] = {}
        self.books = dict.fromkeys(range(1, COUNT + 1), ("0.49", "0.51", "100000"))
        self.block = 10
        self.told: list[ev.LeaderTraded | ev.LeaderMoved] = []
        self.withheld: list[ev.LeaderTraded | ev.LeaderMoved] = []
        self.asked: list[RequestForecast] = []
        self.failed = False
        """Whether a sale failed: what it had freed comes back, and a cap met since may be passed."""
        self.failures = seed % 3 == 0

    def step(self) -> list[ev.AnyEvent]:
        """Something happens, or nothing."""
        self.stage.now += self.by.choice([0, 0, 0, NS // 10, NS, NS, NS, 7 * NS, 40 * NS])
        moves: list[Callable[[], list[ev.AnyEvent]]] = [
            *[self.trade] * 9, self.move, self.again, self.again, self.withhold, self.late,
            self.undo, self.remine, *[self.price] * 3, *[self.fill] * 6, *[self.mine] * 4,
            self.end, self.end, *[self.tick] * 5, self.fail, self.permit, self.choose, self.predict,
        ]  # fmt: skip
        return self.by.choice(moves)()

    def sighting(self) -> ev.LeaderTraded:
        self.block += self.by.choice([0, 1, 1, 3])
        wallet = self.by.choice([LEE, LEE, LEE, ANN, ANN, BOB])
        # Most leaders are of one mind about a market; some are not, and some are opposed.
        minded = [yes(1), yes(2), no(3)] if wallet == LEE else [yes(1), no(2), no(3)]
        token = self.by.choice([*minded * 4, *TOKENS])
        side = self.by.choice([Side.BUY, Side.BUY, Side.SELL])
        return traded(
            f"0x{len(self.told) + len(self.withheld):064x}-1",
            str(self.by.choice([4, 7, 30, 60, 100, 1000])),
            f"0.{self.by.randint(42, 58)}", wallet=wallet, token=token,
            side=side, at=self.stage.now, age=self.by.choice([0, NS, NS, NS, NS, 60 * NS]),
            block=self.block,
        )  # fmt: skip

    def trade(self) -> list[ev.AnyEvent]:
        self.told.append(self.sighting())
        return [self.told[-1]]

    def move(self) -> list[ev.AnyEvent]:
        self.block += 1
        number, shares = self.by.randint(1, COUNT), str(self.by.choice([5, 50, 500]))
        sign = self.by.choice(["", "-", "-"])
        event = moved(
            f"0x{len(self.told) + len(self.withheld):064x}-2", (yes(number), sign + shares),
            (no(number), sign + shares), wallet=self.by.choice([LEE, ANN]), at=self.stage.now,
            block=self.block,
        )  # fmt: skip
        self.told.append(event)
        return [event]

    def again(self) -> list[ev.AnyEvent]:
        """Something is told a second time, much later."""
        if not self.told:
            return []
        return [msgspec.structs.replace(self.by.choice(self.told[-30:]), ts_recv=self.stage.now)]

    def withhold(self) -> list[ev.AnyEvent]:
        self.withheld.append(self.sighting())
        return []

    def late(self) -> list[ev.AnyEvent]:
        """What a node left out comes after its successors."""
        if not self.withheld:
            return []
        event = self.withheld.pop(self.by.randrange(len(self.withheld)))
        self.told.append(msgspec.structs.replace(event, ts_recv=self.stage.now))
        return [self.told[-1]]

    def undo(self) -> list[ev.AnyEvent]:
        if not self.told:
            return []
        event = self.by.choice(self.told[-5:])
        return [undone(event.sighting_id, wallet=event.wallet, at=self.stage.now)]

    def remine(self) -> list[ev.AnyEvent]:
        """A trade's block is gone, and its transaction is mined again at another place."""
        if not self.told:
            return []
        event = self.by.choice(self.told[-5:])
        self.block += 1
        later = msgspec.structs.replace(
            event, sighting_id=event.sighting_id + "0", block=self.block, ts_recv=self.stage.now
        )
        self.told.append(later)
        gone = undone(event.sighting_id, wallet=event.wallet, at=self.stage.now)
        return [gone, later]

    def price(self) -> list[ev.AnyEvent]:
        number, bid = self.by.randint(1, COUNT), self.by.randint(42, 52)
        ask = bid + self.by.randint(1, 4)
        depth = self.by.choice(["7", "60", "100000"])
        self.books[number] = (f"0.{bid:02d}", f"0.{ask:02d}", depth)
        return [*quotes(number, *self.books[number], at=self.stage.now)]

    def tick(self) -> list[ev.AnyEvent]:
        return [tick(self.stage.now)]

    def fill(self) -> list[ev.AnyEvent]:
        if not self.left:
            return self.mine()
        name = self.by.choice(list(self.left))
        order, left = self.left[name]
        lot = SCALE // 100
        qty = Qty(left if self.by.random() < 0.6 else max(lot, left // 2 // lot * lot))
        self.left[name] = (order, Qty(left - qty))
        if left == qty:
            del self.left[name]
        self.stage.trades += 1
        fee = self.stage.world.instruments[order.instrument_id].fees.fee(order.price, qty)
        return [filled(
            order, format_units(qty), format_units(order.price), trade=f"t{self.stage.trades}",
            fee=format_units(fee), at=self.stage.now,
        )]  # fmt: skip

    def mine(self) -> list[ev.AnyEvent]:
        trades = list(self.stage.rig.state.unsettled)
        if not trades:
            return []
        return [settled(self.by.choice(trades), SettlementStatus.MINED, at=self.stage.now)]

    def fail(self) -> list[ev.AnyEvent]:
        """A sale fails on chain."""
        sales = [t for t, f in self.stage.rig.state.unsettled.items() if f.side is Side.SELL]
        if not sales or not self.failures:
            return self.mine()
        self.failed = True
        return [settled(self.by.choice(sales), SettlementStatus.FAILED, at=self.stage.now)]

    def end(self) -> list[ev.AnyEvent]:
        if not self.left:
            return []
        name = self.by.choice(list(self.left))
        del self.left[name]
        return [canceled(name, at=self.stage.now)]

    def permit(self) -> list[ev.AnyEvent]:
        state = self.by.choice([TradingState.ACTIVE] * 9 + list(TradingState))
        return [trading(state, at=self.stage.now)]

    def choose(self) -> list[ev.AnyEvent]:
        wallets = self.by.choice([(LEE, ANN)] * 4 + [(LEE,), (ANN,), ()])
        return [chosen(*wallets, watched=[BOB], at=self.stage.now)]

    def predict(self) -> list[ev.AnyEvent]:
        if not self.asked:
            return []
        request = self.asked.pop()
        number = int(request.market_id[1:])
        bid, ask, _ = self.books[number]
        middle = (float(bid) + float(ask)) / 2
        blend = min(0.97, max(0.03, middle + self.by.uniform(-0.3, 0.3)))
        return [forecast(
            number, f"{blend:.4f}", at=self.stage.now, price=f"{middle:.4f}",
            weight=self.by.choice(["0", "0.5", "0.5"]), request=request.request_id,
        )]  # fmt: skip

    def again_from_the_journal(self) -> Stage:
        """Another process over the same journal, with the same books."""
        stage = self.stage
        state = fold(stage.rig.entries, stage.world)
        other = Stage(stage.world, stage.settings, limits=WIDE, state=state)
        other.now, other.trades = stage.now, stage.trades
        for number, book in self.books.items():
            other.rig.say(*quotes(number, *book, at=other.now))
        return other

    def die(self) -> None:
        """The process dies; another goes on, on the same journal."""
        entries = self.stage.rig.entries
        self.stage = self.again_from_the_journal()
        self.stage.rig.journal.write(entries)
        self.asked.clear()

    def say(self, told: list[ev.AnyEvent]) -> list[Command]:
        commands = self.stage.rig.say(*told)
        for order in orders_of(commands):
            self.left[order.client_order_id] = (order, order.qty)
        self.asked += [c for c in commands if isinstance(c, RequestForecast)]
        assert self.stage.rig.state.trading_by != "engine", self.stage.rig.state.trading_reason
        return commands


def stakes(play: Play) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Dollars at cost by copy, market and leader: what is held, and what orders may still cost.

    A market is counted by its positions, at their average cost; copies and leaders at their own.
    """
    copy: Counter[str] = Counter()
    market: Counter[str] = Counter()
    view = play.stage.view
    for one in copies_held(view):
        copy[one.key] += one.leg.cost
    for bundle in view.open_bundles.values():
        if bundle.plan.idea == IDEA:
            copy[bundle.plan.key] += bundle.spent
    for order, left in play.left.values():
        bundle_key = play.stage.rig.state.bundles.get(order.bundle_id)
        if order.side is Side.BUY and bundle_key is not None:
            fees = play.stage.world.instruments[order.instrument_id].fees
            cost = notional_up(order.price, left) + fees.fee(order.price, left)
            copy[bundle_key.plan.key] += cost
            market[bundle_key.plan.key.split("|")[1]] += cost
    for token in TOKENS:
        market[f"m{token[1:]}"] += view.position(token).cost
    leader: Counter[str] = Counter()
    for key, cost in copy.items():
        leader[key.split("|")[0]] += cost
    return copy, market, leader


def rules_hold(play: Play) -> None:
    """Each fill rounds its own fee up: a thousandth of a cent."""
    stage, view = play.stage, play.stage.view
    opened = stage.opened()
    answers = Counter(name for plan in opened for name in plan.answers)
    assert not answers or max(answers.values()) == 1
    # The same transaction mined again is the same trade.
    transactions = Counter(name[:66] for name in answers)
    assert not transactions or max(transactions.values()) == 1
    refused = {s for e in stage.rig.entries if isinstance(e, CopyRefused) for s in e.sightings}
    assert not refused & set(answers)
    dust = 2_000 * (stage.trades + 1)
    copy, market, leader = stakes(play)
    if not play.failed:
        assert max(copy.values(), default=0) <= CAPS.max_copy + dust
        assert max(market.values(), default=0) <= CAPS.max_market + dust
        assert max(leader.values(), default=0) <= CAPS.max_leader + dust
    assert view.leaders.day_budget(view.now_ns) <= CAPS.max_day
    selling: Counter[InstrumentId] = Counter()
    for order, left in play.left.values():
        if order.side is Side.SELL:
            selling[order.instrument_id] += left
    for token, qty in selling.items():
        if not play.failed:
            assert qty <= view.position(token).settled


def run(play: Play, steps: int, deaths: float = 0.0) -> None:
    for _ in range(steps):
        if play.by.random() < deaths:
            play.die()
        if told := play.step():
            play.say(told)
            rules_hold(play)


@pytest.mark.parametrize("seed", range(40))
def test_once_below_the_caps_and_never_more_than_is_held(seed: int) -> None:
    run(Play(seed), 300)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_with_a_forecaster_and_deaths_at_any_moment(seed: int) -> None:
    run(Play(500 + seed, AI), 250, deaths=0.05)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_nothing_is_copied_twice(seed: int) -> None:
    run(Play(seed), 80, deaths=0.1)


def compare_with_restarts(seed: int) -> int:
    """How many orders a process and its restarted twin both wished for."""
    play = Play(1_000 + seed)
    compared = 0
    for _ in range(200):
        again = play.again_from_the_journal()
        told = play.step()
        if not told:
            continue
        same = again.rig.say(*told)
        mine = [x for x in play.say(told) if isinstance(x, Approved)]
        assert mine == [x for x in same if isinstance(x, Approved)]
        compared += len(mine)
    return compared


def test_a_restart_at_any_moment_wishes_the_same() -> None:
    assert sum(compare_with_restarts(seed) for seed in range(8)) > 60


@pytest.mark.parametrize("horizon", [leaders.HORIZON, 15])
@pytest.mark.parametrize("seed", range(6))
def test_the_image_of_any_prefix_goes_on_as_the_fold_does(
    seed: int, horizon: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where ids are forgotten soon, and what is told later than that is not taken."""
    monkeypatch.setattr(leaders, "HORIZON", horizon)
    play = Play(4_000 + seed)
    run(play, 200)
    entries, world = play.stage.rig.entries, play.stage.world
    whole = durable(fold(entries, world))
    late = play.stage.view.leaders.totals.late
    assert bool(late) is (horizon == 15)
    for _ in range(5):
        cut = play.by.randint(0, len(entries))
        stored = msgspec.msgpack.encode(image_of(fold(entries[:cut], world)))
        state = restore(msgspec.msgpack.decode(stored, type=StateImage), world)
        for entry in entries[cut:]:
            state.apply(entry)
        assert durable(state) == whole


def settle_down(play: Play) -> None:
    """Deep books, every order filled and mined, time passing: until nothing moves any more."""
    stage = play.stage
    for number in range(1, COUNT + 1):
        play.books[number] = ("0.47", "0.48", "1000000")
    play.say([trading(TradingState.ACTIVE, at=stage.now)])
    for _ in range(60):
        stage.now += 10 * NS
        for number in range(1, COUNT + 1):
            play.say([*quotes(number, *play.books[number], at=stage.now)])
        play.say([tick(stage.now)])
        while play.left:
            play.say(play.fill())
        while stage.rig.state.unsettled:
            trades = list(stage.rig.state.unsettled)
            play.say([settled(t, SettlementStatus.CONFIRMED, at=stage.now) for t in trades])


@pytest.mark.parametrize("seed", range(20))
def test_leaders_who_close_leave_us_flat_but_for_dust(seed: int) -> None:
    """Less than a minimum of each copy may stay: the venue takes no order for it."""
    play = Play(2_000 + seed)
    run(play, 250)
    play.withheld.clear()
    for wallet in (LEE, ANN):
        for number, token in enumerate(TOKENS):
            play.block += 1
            # Far more than was ever bought: what was there before we watched goes too.
            play.say([traded(f"end{wallet}{number}", "1000000", wallet=wallet, token=token,
                             side=Side.SELL, at=play.stage.now, block=play.block)])  # fmt: skip
    settle_down(play)
    for one in copies_held(play.stage.view):
        least = play.stage.world.instruments[one.token].least_qty(
            play.stage.view.book(one.token).bid
        )
        assert one.leg.left < least, (one, play.stage.view.leaders.answered(one.bundle_id))


@pytest.mark.parametrize("seed", range(20))
def test_of_opposed_leaders_only_what_they_want_together_is_kept(seed: int) -> None:
    play = Play(3_000 + seed)
    run(play, 250)
    settle_down(play)
    stage, seen = play.stage, play.stage.view.leaders
    held: Counter[InstrumentId] = Counter()
    copies: Counter[InstrumentId] = Counter()
    for one in copies_held(stage.view):
        held[one.token] += one.leg.left
        copies[one.token] += 1
    wallets = {one.wallet for one in copies_held(stage.view)} | {
        w for w, followed in seen.chosen.items() if followed.copied
    }
    for token in TOKENS:
        other = stage.world.instruments[token].complement
        favour = sum(seen.held(wallet, token) for wallet in wallets)
        against = sum(seen.held(wallet, other) for wallet in wallets)
        if against:
            most = max(0, favour - against) * CAPS.copy_ratio // SCALE
            dust = stage.world.instruments[token].least_qty(stage.view.book(token).bid)
            assert held[token] <= most + dust * copies[token]


def test_the_plays_meet_what_they_are_for() -> None:
    ideas: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    figures: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for seed in range(30):
        play = Play(seed, CAPS if seed % 2 else AI)
        run(play, 300)
        ideas.update(plan.idea for plan in play.stage.opened())
        reasons.update(e.reason.value for e in play.stage.rig.entries if isinstance(e, CopyRefused))
        figures.update(play.stage.bot.figures())
        counts = msgspec.structs.asdict(play.stage.view.leaders.totals)
        totals.update({k: v for k, v in counts.items() if isinstance(v, int)})
    assert ideas[IDEA] > 50
    assert ideas[EXIT] > 50
    for name in ("exits_followed", "exits_undone", "exits_netted", "approved", "approvals_asked"):
        assert figures[name] > 0, (name, figures)
    for name in ("repeated", "undone", "remined", "canceled"):
        assert totals[name] > 0, (name, totals)
    wanted = {
        "NOT_COPIED", "SIGHTING_OLD", "TRADING_OFF", "LEADER_LEFT", "LEADER_HEDGED",
        "LEADERS_OPPOSED", "PRICE_RAN", "SIZE_SMALL", "COPY_LIMIT", "MARKET_LIMIT",
        "LEADER_LIMIT", "FORECAST_MISSING", "FORECAST_UNSKILLED", "FORECAST_DOUBTS",
    }  # fmt: skip
    assert wanted <= set(reasons), wanted - set(reasons)


def test_costs_are_counted_as_the_venue_charges_them() -> None:
    """The model's own arithmetic: an order at its limit costs what the copier reckons."""
    stage = Stage(markets(1, end_ns=30 * DAY, rate="0.02"), CAPS)
    (order,) = orders_of(stage.buys("30"))
    fee = stage.world.instruments[order.instrument_id].fees.fee(order.price, order.qty)
    assert stage.opened()[0].budget == cost_at(order.price, order.qty, fee)
