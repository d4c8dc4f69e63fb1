"""What statistical arbitrage opens and closes, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from fleet.domain import events as ev
from fleet.domain.commands import BundleId, CloseBundle, Intent, OpenBundle, OrderIntent
from fleet.domain.instruments import MarketId, Side
from fleet.domain.units import SCALE, Cash, Price
from fleet.engine.standing import Standing, StandingLeg
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.research.statarb_backtest import Backtest, SpreadTrader, run_backtest
from fleet.research.statarb_permutation import MiddlePrices, shift_p_value
from fleet.strategies.statarb import NO_EDGE, StatArb, StatArbSettings, proven_kinds
from fleet.strategies.statarb_fit import Signal
from fleet.strategies.statarb_positions import (
    IDEA,
    EntryRules,
    Refusal,
    entry,
    exit_bundle,
    held_high,
    marked,
)
from fleet.strategies.statarb_relations import Kind, Relation, pair
from tests.builders import (
    MINED,
    NS,
    Rig,
    c,
    filled,
    leg,
    market_id,
    no,
    order,
    orders_of,
    p,
    plan,
    q,
    settled,
    snapshot,
    trading,
    universe,
    yes,
)
from tests.statarb_world import (
    START_S,
    one_event,
    quick,
    recording,
    reverting_pairs,
    together,
)

RULES = EntryRules(
    entry_z=2 * SCALE,
    exit_z=SCALE // 2,
    cost_margin=SCALE * 3 // 2,
    slippage=p("0.005"),
    unwind_slippage=p("0.03"),
)
BOTH = pair(market_id(1), market_id(2), together=True)
IDS: Callable[[], BundleId] = lambda: BundleId("b1")  # noqa: E731 - one id is enough


def rig(
    first: tuple[str, str] = ("0.600", "0.604"),
    second: tuple[str, str] = ("0.498", "0.502"),
    *,
    depth: str = "100",
    rate: str = "0",
) -> Rig:
    """Two markets with mirrored books; the first stands 0.102 above the second."""
    made = Rig(universe(2, tick="0.001", rate=rate))
    made.open_market(cash="1000")
    for n, (bid, ask) in ((1, first), (2, second)):
        mirrored = [(str(1 - float(ask)), depth)], [(str(1 - float(bid)), depth)]
        made.say(snapshot(yes(n), [(bid, depth)], [(ask, depth)], at=NS))
        rounded = [[(f"{float(x):.3f}", d) for x, d in side] for side in mirrored]
        made.say(snapshot(no(n), rounded[0], rounded[1], at=NS))
    return made


def stands(z: str, *, target: str = "0", sigma: str = "0.03") -> Signal:
    return Signal(BOTH, p(z), p(target), p(sigma))


def bought(signal: Signal, made: Rig, room: str = "50", rules: EntryRules = RULES) -> OpenBundle:
    made_plan = entry(signal, made.engine.view, rules, c(room), IDS)
    assert isinstance(made_plan, OpenBundle)
    return made_plan


# --- an entry ---------------------------------------------------------------------------------


def test_a_spread_that_is_too_high_is_sold_by_buying_the_other_sides() -> None:
    made_plan = bought(stands("3.4"), rig())
    assert {x.instrument_id for x in made_plan.legs} == {no(1), yes(2)}
    assert {x.side for x in made_plan.legs} == {Side.BUY}
    assert len({x.qty for x in made_plan.legs}) == 1
    assert (made_plan.idea, made_plan.key, made_plan.finish, made_plan.start) == (
        IDEA,
        BOTH.key,
        None,
        None,
    )


def test_a_spread_that_is_too_low_is_bought() -> None:
    made = rig(("0.498", "0.502"), ("0.600", "0.604"))
    made_plan = bought(stands("-3.4"), made)
    assert {x.instrument_id for x in made_plan.legs} == {yes(1), no(2)}


def test_the_payoff_is_the_middle_and_the_way_back_less_the_way_out() -> None:
    made = rig()
    made_plan = bought(stands("3.4"), made)
    # Middle of NO 1 (0.398) and YES 2 (0.500); 0.102 away less half a sigma of 0.015; on the way
    # out half a spread of 0.002 and 0.005 of slippage for each leg, no fee.
    assert made_plan.payoff == p("0.898") + p("0.087") - 2 * p("0.007")
    # Bought at the asks: 0.400 and 0.502 a share.
    assert made_plan.edge == pytest.approx(
        (made_plan.payoff - p("0.902")) * made_plan.legs[0].qty // SCALE, abs=2
    )
    assert made_plan.budget <= c("50")


def test_a_reversion_that_does_not_pay_for_its_cost_is_left() -> None:
    # 0.102 - 0.015 = 0.087 to win. Without fees the way in and out costs 0.018; at a rate of 0.07
    # the fees of both ways add about 0.066.
    assert entry(stands("3.4"), rig(rate="0.07").engine.view, RULES, c("50"), IDS) is Refusal.COST
    free = replace(RULES, cost_margin=SCALE // 2)
    assert isinstance(entry(stands("3.4"), rig(rate="0.07").engine.view, free, c("50"), IDS),
                      OpenBundle)  # fmt: skip


def test_a_spread_that_came_back_since_the_sample_is_left() -> None:
    made = rig(("0.520", "0.524"))
    assert entry(stands("3.4"), made.engine.view, RULES, c("50"), IDS) is Refusal.GONE
    turned = rig(("0.398", "0.402"))
    assert entry(stands("3.4"), turned.engine.view, RULES, c("50"), IDS) is Refusal.GONE


def test_one_sided_and_void_books_are_left() -> None:
    one_sided = rig()
    one_sided.say(snapshot(no(1), [("0.396", "100")], []))
    assert entry(stands("3.4"), one_sided.engine.view, RULES, c("50"), IDS) is Refusal.BOOK
    void = rig()
    tokens = (yes(2), no(2))
    void.say(ev.FeedDisconnected(connection="x", instruments=tokens, reason="lost"))
    assert entry(stands("3.4"), void.engine.view, RULES, c("50"), IDS) is Refusal.BOOK


def test_the_size_is_bounded_by_depth_and_by_dollars() -> None:
    assert bought(stands("3.4"), rig(depth="20")).legs[0].qty == q("20")
    small = bought(stands("3.4"), rig(), room="10")
    worst = sum(x.limit * x.qty // SCALE for x in small.legs)
    assert worst <= small.budget <= c("10")
    assert small.legs[0].qty >= q("9")


def test_what_could_not_be_sold_again_is_not_bought() -> None:
    assert entry(stands("3.4"), rig().engine.view, RULES, c("3"), IDS) is Refusal.ROOM
    cheap = rig(("0.150", "0.154"), ("0.048", "0.052"), depth="25")
    # 25 shares of YES 2 at a bid of 0.048 bring 1.20: too near to the venue's one dollar.
    assert entry(stands("3.4"), cheap.engine.view, RULES, c("50"), IDS) is Refusal.SMALL


# --- an exit ----------------------------------------------------------------------------------


def standing(*legs: tuple[str, str, str], key: str = BOTH.key) -> Standing:
    """(token, shares, dollars paid) of each leg."""
    made = [StandingLeg(yes(int(t[1])) if t[0] == "y" else no(int(t[1])), q(n), c(x), q(n))
            for t, n, x in legs]  # fmt: skip
    return Standing(BundleId("b0"), IDEA, key, NS, 1, made)


def held(made: Rig, *legs: tuple[str, str]) -> None:
    """Put settled tokens into the wallet."""
    for number, (token, qty) in enumerate(legs):
        known = yes(int(token[1])) if token[0] == "y" else no(int(token[1]))
        made.say(
            ev.OrderFilled(
                trade_id=ev.TradeId(f"t{number}"), client_order_id=ev.ClientOrderId(f"x{number}"),
                instrument_id=known, side=Side.BUY, price=p("0.4"), qty=q(qty), fee=Cash(0),
            ),
            ev.FillSettled(trade_id=ev.TradeId(f"t{number}"), status=ev.SettlementStatus.MINED),
        )  # fmt: skip


def test_an_exit_sells_what_is_left_and_names_who_bought_it() -> None:
    made = rig()
    held(made, ("n1", "10"), ("y2", "8"))
    position = standing(("n1", "10", "4"), ("y2", "8", "4"))
    made_plan = exit_bundle(position, made.engine.view, slippage=p("0.03"), next_id=IDS)
    assert made_plan is not None
    assert made_plan.exits == "b0"
    assert {(x.instrument_id, x.side, x.qty) for x in made_plan.legs} == {
        (no(1), Side.SELL, q("10")), (yes(2), Side.SELL, q("8")),
    }  # fmt: skip
    limits = {x.instrument_id: x.limit for x in made_plan.legs}
    assert limits == {no(1): p("0.366"), yes(2): p("0.468")}
    assert made_plan.payoff == p("0.398") + p("0.5")
    assert made_plan.budget == 0
    assert made_plan.edge < 0


def test_what_cannot_be_sold_is_kept() -> None:
    made = rig()
    held(made, ("n1", "10"), ("y2", "3"))
    made_plan = exit_bundle(standing(("n1", "10", "4"), ("y2", "3", "1")), made.engine.view,
                       slippage=p("0.03"), next_id=IDS)  # fmt: skip
    assert made_plan is not None
    assert [x.instrument_id for x in made_plan.legs] == [no(1)]
    dust = standing(("y2", "3", "1"))
    assert exit_bundle(dust, made.engine.view, slippage=p("0.03"), next_id=IDS) is None


def test_unsettled_and_resolved_tokens_are_not_offered() -> None:
    made = rig()
    position = standing(("n1", "10", "4"))
    assert exit_bundle(position, made.engine.view, slippage=p("0.03"), next_id=IDS) is None
    held(made, ("n1", "10"))
    payouts = ((yes(1), Price(0)), (no(1), Price(SCALE)))
    made.say(ev.MarketResolved(market_id=market_id(1), payouts=payouts))
    assert exit_bundle(position, made.engine.view, slippage=p("0.03"), next_id=IDS) is None
    assert marked(position, made.engine.view) is None


def test_a_position_is_worth_what_selling_it_brings() -> None:
    made = rig()
    assert marked(standing(("n1", "10", "4"), ("y2", "10", "5")), made.engine.view) == c("8.94")
    assert marked(standing(("n1", "101", "40")), made.engine.view) is None  # Thin: unknown.


def test_the_side_is_told_by_the_tokens() -> None:
    view = rig().engine.view
    assert held_high(BOTH, standing(("n1", "5", "2"), ("y2", "5", "2")), view) is True
    assert held_high(BOTH, standing(("y1", "5", "2"), ("n2", "5", "2")), view) is False
    assert held_high(BOTH, standing(("y1", "5", "2"), ("y2", "5", "2")), view) is None


# --- the strategy -----------------------------------------------------------------------------

WINDOW = {"formation": 240, "validation": 160}


def trade(
    pairs: int, length: int, settings: StatArbSettings, *, seed: int, later: bool = False
) -> Backtest:
    paths = reverting_pairs(pairs, length, seed=seed, life=4.0, width=0.03)
    return run_backtest(recording(paths), settings, later=later)


@pytest.mark.parametrize("later", [False, True])
def test_it_makes_money_of_spreads_that_come_back(later: bool) -> None:
    quotes = recording(reverting_pairs(6, 1_200, seed=2, life=4.0, width=0.03))
    run = run_backtest(quotes, quick(**WINDOW), later=later)
    assert len(run.trades) >= 20
    assert sum(t.net for t in run.trades) > 0
    assert sum(t.net > 0 for t in run.trades) > len(run.trades) / 2
    shifted = shift_p_value(run.trades, MiddlePrices(quotes), START_S)
    assert shifted is not None
    assert shifted < 0.01
    assert run.figures["exits_reverted"] > 0
    assert not run.report.anomalies


def test_it_hardly_trades_random_walks() -> None:
    """Five worlds of twenty walks that share most of their changes: nothing there comes back."""
    trades = 0
    for seed in range(5):
        world = one_event(20, size=20)
        quotes = recording(together(20, 400, seed=seed), world)
        run = run_backtest(quotes, quick(formation=120, validation=80), later=False)
        assert run.figures["tested_PAIR"] > 500
        trades += len(run.trades)
    # A fit proves anything with a chance below 0.1 (in truth far less: it must pass twice), so of
    # 100 fits fewer than ten are expected to; most of those spreads never leave their band.
    assert trades <= 5


def test_the_same_quotes_give_the_same_commands() -> None:
    first = trade(3, 700, quick(**WINDOW), seed=2)
    again = trade(3, 700, quick(**WINDOW), seed=2)
    assert first.trades
    assert first.report.command_hash == again.report.command_hash


def test_without_proof_it_watches_and_stakes_nothing() -> None:
    run = trade(6, 900, quick(**WINDOW, stake_unproven=False), seed=2)
    assert run.report.orders == 0
    assert run.figures["watched"] > 0
    assert run.figures["opportunities"] == 0


def test_a_proven_kind_stakes_and_another_does_not() -> None:
    pairs = quick(**WINDOW, stake_unproven=False, allowed=(Kind.PAIR,))
    assert trade(6, 900, pairs, seed=2).trades
    ladders = quick(**WINDOW, stake_unproven=False, allowed=(Kind.LADDER,))
    assert not trade(6, 900, ladders, seed=2).trades


def test_the_verdict_says_what_it_may_stake_on() -> None:
    view = View(State(universe(2)))
    assert NO_EDGE in StatArb(StatArbSettings(), view).verdict()
    assert "stakes nothing" in StatArb(StatArbSettings(), view).verdict()
    assert "play money" in StatArb(StatArbSettings(stake_unproven=True), view).verdict()
    proven = StatArb(StatArbSettings(allowed=(Kind.SET,)), view).verdict()
    assert "may stake on SET" in proven


class Twin:
    """The trader, and from one poll on a second mind that knows only the samples so far."""

    def __init__(self, settings: StatArbSettings, view: View, born: int) -> None:
        self._trader = SpreadTrader(settings, view)
        self._settings = settings
        self._born = born
        self._past: list[ev.PricesSampled] = []
        self._reborn: StatArb | None = None
        self.compared = 0

    def on_event(self, event: ev.AnyEvent, view: View) -> Sequence[Intent]:
        if isinstance(event, ev.PricesSampled):
            if len(self._past) == self._born:
                self._reborn = StatArb(self._settings, view)
                halted = View(State(view.universe))
                for sample in self._past:
                    assert not self._reborn.propose(sample, halted, IDS)
            self._past.append(event)
        said = self._trader.on_event(event, view)
        if self._reborn is not None and isinstance(event, ev.PricesSampled):
            ids = iter([view.next_bundle_id(n) for n in range(100)])
            assert [*self._reborn.propose(event, view, lambda: next(ids))] == [*said]
            self.compared += any(isinstance(wish, OpenBundle) for wish in said)
        return said

    def figures(self) -> dict[str, int]:
        return dict(self._trader.figures())


def test_a_restart_decides_as_if_there_had_been_none(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Twin] = []

    def twin(settings: StatArbSettings, view: View) -> Twin:
        made.append(Twin(settings, view, 650))
        return made[-1]

    monkeypatch.setattr("fleet.research.statarb_backtest.SpreadTrader", twin)
    trade(6, 1_000, quick(**WINDOW), seed=2)
    assert made[0].compared >= 5


def test_samples_of_the_past_fill_the_history_and_move_nothing() -> None:
    """After a restart the kept samples come in a burst, perhaps while trading is allowed already."""
    quotes = recording(reverting_pairs(6, 1_000, seed=2, life=4.0, width=0.03))
    made = Rig(quotes.universe)
    made.open_market(at=START_S * NS)
    idea = StatArb(quick(**WINDOW), made.engine.view)
    last = quotes.polls[-1].at_s
    made.say(snapshot(yes(1), at=(last + 3_600) * NS))
    for poll in quotes.polls:
        at = poll.at_s * NS
        assert not idea.propose(ev.PricesSampled(at, at, poll.quotes), made.engine.view, IDS)
    figures = idea.figures()
    assert figures["samples"] == 1_000
    assert 0 < figures["fits"] <= 3
    assert figures["opportunities"] == 0


def test_only_samples_are_looked_at() -> None:
    made = rig()
    idea = StatArb(StatArbSettings(), made.engine.view)
    assert not idea.propose(snapshot(yes(1)), made.engine.view, IDS)
    assert idea.figures()["samples"] == 0


# --- why a position ends ----------------------------------------------------------------------


def reason(
    made: Rig, position: Standing, z: str | None, *, settings: StatArbSettings | None = None
) -> str | None:
    idea = StatArb(settings or StatArbSettings(), made.engine.view)
    found = idea._reason(position, BOTH, stands(z) if z is not None else None, made.engine.view)
    return found.value if found is not None else None


HIGH = (("n1", "10", "4"), ("y2", "10", "5"))
LOW = (("y1", "10", "6"), ("n2", "10", "5"))


@pytest.mark.parametrize(
    ("legs", "z", "expected"),
    [
        (HIGH, "2.0", None),
        (HIGH, "0.5", "reverted"),
        (HIGH, "-3", "reverted"),
        (HIGH, "5.0", "stop"),
        (LOW, "-2.0", None),
        (LOW, "-0.5", "reverted"),
        (LOW, "-5.0", "stop"),
        (HIGH, None, None),
    ],
)
def test_it_ends_when_the_spread_is_back_or_too_far_out(
    legs: tuple[tuple[str, str, str], ...], z: str | None, expected: str | None
) -> None:
    assert reason(rig(), standing(*legs), z) == expected


def test_it_ends_at_a_loss() -> None:
    # Bids bring 8.94; a quarter of what it cost is the most it may lose.
    assert reason(rig(), standing(("n1", "10", "6"), ("y2", "10", "5.9")), "2") is None
    assert reason(rig(), standing(("n1", "10", "6"), ("y2", "10", "6")), "2") == "loss"


def test_a_book_that_cannot_tell_is_no_loss() -> None:
    made = rig()
    made.say(ev.FeedDisconnected(connection="x", instruments=(no(1),), reason="lost"))
    assert reason(made, standing(("n1", "10", "60"), ("y2", "10", "60")), "2") is None


def test_it_ends_after_its_time() -> None:
    made = rig()
    settings = StatArbSettings(max_hold_ns=3_600 * NS)
    made.say(snapshot(yes(1), [("0.600", "100")], [("0.604", "100")], at=3_600 * NS))
    assert reason(made, standing(*HIGH), "2", settings=settings) is None
    made.say(snapshot(yes(1), [("0.600", "100")], [("0.604", "100")], at=3_602 * NS))
    assert reason(made, standing(*HIGH), "2", settings=settings) == "time"


def test_it_ends_before_its_market_does() -> None:
    hour = 3_600 * NS
    world = universe(2, tick="0.001", end_ns=3 * hour)
    made = Rig(world)
    made.open_market()
    position = standing(("n1", "10", "4"), ("y2", "10", "5"))
    assert reason(made, position, "2") is None
    made.say(snapshot(yes(1), at=hour + NS))
    assert reason(made, position, "2") == "end"


@pytest.mark.parametrize(
    ("state", "sells"),
    [(ev.TradingState.ACTIVE, True), (ev.TradingState.REDUCING, True),
     (ev.TradingState.HALTED, False)],
)  # fmt: skip
def test_a_position_may_be_left_while_trading_only_reduces(
    state: ev.TradingState, sells: bool
) -> None:
    made = rig()
    opened = plan(leg(no(1), limit="0.4"), leg(yes(2), limit="0.51"), finish=None)
    made.wish(
        structs.replace(opened, idea=IDEA, key=BOTH.key),
        order(0, no(1), price="0.4"),
        order(1, yes(2), price="0.51"),
    )
    first, second = orders_of(made.commands)
    made.say(
        filled(first, "10", "0.4", trade="a"), filled(second, "10", "0.5", trade="b"),
        settled("a", MINED), settled("b", MINED),
    )  # fmt: skip
    made.wish(CloseBundle(bundle_id=BundleId("b1"), outcome="HELD"))
    made.say(trading(state))
    idea = StatArb(StatArbSettings(max_hold_ns=60 * NS), made.engine.view)
    at = 3_600 * NS
    made.say(snapshot(yes(1), [("0.600", "100")], [("0.604", "100")], at=at))
    wishes = idea.propose(ev.PricesSampled(at, at, []), made.engine.view, lambda: BundleId("b2"))
    plans = [one for one in wishes if isinstance(one, OpenBundle)]
    assert [one.exits for one in plans] == (["b1"] if sells else [])
    if sells:
        made.say(trading(state, at=at))
        assert {x.side for x in orders_of(made.wish(*wishes))} == {Side.SELL}


# --- what an evaluation proves ----------------------------------------------------------------


def test_proven_kinds_are_read_from_an_evaluation() -> None:
    assert proven_kinds({"subject": "statarb", "proven": ["SET", "PAIR"]}) == (Kind.SET, Kind.PAIR)
    assert proven_kinds({"subject": "statarb", "proven": []}) == ()


@pytest.mark.parametrize(
    "document",
    [{}, {"subject": "sets", "proven": []}, {"subject": "statarb"}, {"subject": "statarb",
     "proven": "SET"}, {"subject": "statarb", "proven": [1]}],
)  # fmt: skip
def test_another_document_proves_nothing(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="fleet evaluate statarb"):
        proven_kinds(document)


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(ValueError, match="MAGIC"):
        proven_kinds({"subject": "statarb", "proven": ["MAGIC"]})


def test_a_relation_is_worked_once() -> None:
    """While a position stands or is worked, nothing else is opened in its markets."""
    seen: list[tuple[MarketId, ...]] = []

    class Watching(SpreadTrader):
        def on_event(self, event: ev.AnyEvent, view: View) -> Sequence[Intent]:
            wishes = super().on_event(event, view)
            taken = {
                view.instrument(leg.instrument_id).market_id
                for one in view.standing.values()
                for leg in one.legs
            }
            for wish in wishes:
                if isinstance(wish, OpenBundle) and not wish.exits:
                    markets = [view.instrument(x.instrument_id).market_id for x in wish.legs]
                    assert not taken & set(markets)
                    taken |= set(markets)
                    seen.append(tuple(markets))
                elif isinstance(wish, OrderIntent):
                    assert wish.price > 0
            return wishes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fleet.research.statarb_backtest.SpreadTrader", Watching)
        trade(6, 1_000, quick(**WINDOW), seed=2)
    assert len(seen) >= 10


def test_relations_are_records() -> None:
    assert Relation(Kind.PAIR, BOTH.key, BOTH.legs) == BOTH


# --- limits -----------------------------------------------------------------------------------


def most_at_once(settings: StatArbSettings) -> tuple[int, int]:
    """The most positions held at one time, and the most dollars any one had cost."""
    run = trade(6, 1_000, settings, seed=2)
    assert run.trades
    edges = [(t.opened_s, 1) for t in run.trades] + [(t.closed_s, -1) for t in run.trades]
    held = most = 0
    for _, change in sorted(edges):
        held += change
        most = max(most, held)
    return most, max(t.cost for t in run.trades)


def test_positions_are_bounded_in_number_and_dollars() -> None:
    many, _ = most_at_once(quick(**WINDOW))
    assert many >= 2
    one, cost = most_at_once(quick(**WINDOW, max_positions=1, max_position=c("20")))
    assert one == 1
    assert cost <= c("20")


def test_one_entry_a_scan_is_one_entry_a_scan() -> None:
    run = trade(6, 1_000, quick(**WINDOW, max_entries=1), seed=2)
    times = [t.opened_s for t in run.trades]
    assert len(times) == len(set(times))


def test_a_full_group_takes_nothing_more() -> None:
    paths = reverting_pairs(6, 1_000, seed=2, life=4.0, width=0.03)
    settings = quick(**WINDOW, max_group=c("50"), max_position=c("50"))
    together_ = run_backtest(recording(paths, one_event(12, size=12)), settings, later=False)
    assert together_.trades
    spans = sorted((t.opened_s, t.closed_s, t.cost) for t in together_.trades)
    for opened, _, cost in spans:
        others = [x for a, b, x in spans if a <= opened < b]
        assert sum(others) <= c("50"), (opened, cost)


def test_a_relation_rests_after_a_bad_end() -> None:
    eager = quick(**WINDOW, half_lives_held=1, max_hold_ns=1, rest_ns=10**18)
    run = trade(6, 1_000, eager, seed=2)
    timed = run.figures["exits_time"]
    assert timed > 0
    assert len({t.key for t in run.trades}) >= timed - run.figures.get("exits_reverted", 0)
    again = trade(6, 1_000, replace(eager, rest_ns=0), seed=2)
    assert len(again.trades) > len(run.trades)


def test_markets_that_end_too_soon_are_left() -> None:
    paths = reverting_pairs(6, 800, seed=2, life=4.0, width=0.03)
    world = one_event(12)
    end_ns = (START_S + 800 * 180) * NS
    soon = {m.id: replace(m, end_ns=end_ns) for m in world.markets.values()}
    settings = quick(**WINDOW)
    free = run_backtest(recording(paths, world), settings, later=False)
    bound = run_backtest(recording(paths, replace(world, markets=soon)), settings, later=False)
    margin_s = settings.end_margin_ns // NS
    assert max(t.opened_s for t in free.trades) > end_ns // NS - margin_s
    assert bound.trades
    assert max(t.opened_s for t in bound.trades) < end_ns // NS - margin_s
    assert not any(t.open for t in bound.trades)


def test_whole_sets_are_traded() -> None:
    """Three outcomes whose sum swings around one: bought whole when it is cheap."""
    rng = np.random.default_rng(5)
    swing = np.zeros(900)
    for t in range(1, 900):
        swing[t] = 0.84 * swing[t - 1] + rng.normal() * 0.02
    base = np.array([0.5, 0.3, 0.2])[None, :] + swing[:, None] / 3
    walk = np.cumsum(rng.normal(size=900) * 0.002)
    base[:, 0] += walk
    base[:, 1] -= walk
    world = universe(3, tick="0.001", one_set=True)
    run = run_backtest(
        recording(np.clip(base, 0.03, 0.97), world), quick(**WINDOW, max_pairs=0), later=False
    )
    assert {t.kind for t in run.trades} == {Kind.SET}
    assert all(len(t.legs) == 3 for t in run.trades)
    assert sum(t.net for t in run.trades) > 0
