"""ArbHunter's eye: what it takes for real, what it sizes, what it leaves alone."""

from typing import Any

import pytest
from msgspec import structs

from fleet.domain import events as ev
from fleet.domain.commands import BundleId, OpenBundle, OperationKind
from fleet.domain.events import TradingState
from fleet.domain.instruments import Side, Universe
from fleet.domain.units import SCALE, format_units
from fleet.engine.risk import RiskLimits
from fleet.engine.view import View
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from fleet.strategies.legs import ExecutionSettings
from tests.builders import (
    DAY,
    MINED,
    MS,
    NS,
    YEAR,
    Rig,
    c,
    canceled,
    changed,
    deposit,
    filled,
    market_id,
    no,
    operations_of,
    orders_of,
    p,
    q,
    settled,
    snapshot,
    tick,
    trading,
    universe,
    yes,
)

BUY, SELL = Side.BUY, Side.SELL


def quotes(at: int, number: int, yes_bid: str, yes_ask: str) -> list[ev.AnyEvent]:
    """Both mirrored books of a market, 100 shares each."""
    no_bid, no_ask = format_units(SCALE - p(yes_ask)), format_units(SCALE - p(yes_bid))
    return [
        snapshot(yes(number), [(yes_bid, "100")], [(yes_ask, "100")], at=at),
        snapshot(no(number), [(no_bid, "100")], [(no_ask, "100")], at=at),
    ]


class Hunt:
    """ArbHunter over quiet books: every YES 0.48/0.52, every NO mirrored."""

    def __init__(
        self,
        world: Universe | None = None,
        limits: RiskLimits | None = None,
        *,
        yes_bid: str = "0.48",
        yes_ask: str = "0.52",
        **settings: Any,
    ) -> None:
        self.arb: Arbitrage

        def made(view: View) -> Arbitrage:
            self.arb = Arbitrage(ArbSettings(**settings), view)
            return self.arb

        self.rig = Rig(world or universe(2), strategy=made, limits=limits)
        self.rig.say(deposit("5000"))
        for number in range(1, len(self.rig.state.universe.markets) + 1):
            self.rig.say(*quotes(NS, number, yes_bid, yes_ask))
        self.rig.say(trading(TradingState.ACTIVE, at=NS))

    def say(self, *events: ev.AnyEvent) -> list[Any]:
        return self.rig.say(*events)

    @property
    def seen(self) -> dict[str, int]:
        """The counters that are not zero; without the moments and the largest edge."""
        figures = dict(self.arb.figures())
        return {
            name: n
            for name, n in figures.items()
            if n and name not in {"raw_moments", "best_gross"}
        }

    @property
    def plans(self) -> list[OpenBundle]:
        decisions = [e for e in self.rig.entries if isinstance(e, ev.DecisionMade)]
        return [plan for decision in decisions for plan in decision.opened]


def bargain(at: int, price: str = "0.44", number: int = 1, qty: str = "100") -> ev.BookChanged:
    """One frame with both books of a market: YES asks less, NO still asks 0.52."""
    return changed(
        at, (yes(number), BUY, "0.48", "0"), (yes(number), BUY, "0.42", "100"),
        (yes(number), SELL, price, qty), (no(number), BUY, "0.47", "100"),
    )  # fmt: skip


def cheap_yes(at: int, qty: str = "50") -> ev.BookChanged:
    """A frame of one asset: YES falls to 0.43/0.44, and NO, which should ask 0.57, still asks 0.52."""
    return changed(
        at,
        (yes(), SELL, "0.44", qty),
        (yes(), BUY, "0.48", "0"),
        (yes(), BUY, "0.43", "10"),
    )


# --- phantoms -----------------------------------------------------------------------------------


def test_a_mirror_that_is_a_message_behind_is_a_phantom() -> None:
    """Frames of one asset: YES moves a message before NO, in the same millisecond."""
    hunt = Hunt()
    t = 2 * NS
    assert hunt.say(cheap_yes(t)) == []
    assert hunt.seen == {"sightings": 1}
    assert hunt.say(changed(t, (no(), SELL, "0.52", "0"), (no(), SELL, "0.57", "10"),
                            (no(), BUY, "0.56", "50"))) == []  # fmt: skip
    assert hunt.seen == {"sightings": 1, "phantoms": 1}
    assert hunt.say(changed(t + MS, (yes(), BUY, "0.42", "1"))) == []
    assert hunt.seen == {"sightings": 1, "phantoms": 1}
    assert hunt.plans == []


def test_a_mirror_that_comes_in_a_later_millisecond_makes_it_stale() -> None:
    hunt = Hunt()
    t = 2 * NS
    hunt.say(cheap_yes(t))
    hunt.say(changed(t + MS, (no(), SELL, "0.52", "0"), (no(), SELL, "0.57", "10")))
    assert hunt.seen == {"sightings": 1, "stale": 1}
    assert hunt.plans == []


def test_a_frame_that_puts_both_books_right_confirms_nothing() -> None:
    hunt = Hunt()
    t = 2 * NS
    hunt.say(cheap_yes(t))
    hunt.say(changed(t + MS, (yes(), SELL, "0.44", "0"), (no(), BUY, "0.47", "1")))
    assert hunt.seen == {"sightings": 1, "stale": 1}


def test_books_of_different_moments_are_never_real() -> None:
    hunt = Hunt()
    hunt.say(cheap_yes(2 * NS))
    for at in range(1, 5):
        assert hunt.say(changed(2 * NS + at * MS, (yes(2), BUY, "0.40", str(at)))) == []
    assert hunt.seen == {"sightings": 1}
    hunt.say(changed(3 * NS, (yes(), SELL, "0.44", "0")))
    assert hunt.seen == {"sightings": 1, "stale": 1}


def test_one_frame_with_both_books_is_real_at_once() -> None:
    hunt = Hunt()
    commands = hunt.say(bargain(2 * NS))
    assert hunt.seen == {"sightings": 1, "real": 1, "opportunities": 1}
    assert hunt.arb.counters.best_gross == p("0.04")
    assert hunt.arb.counters.raw_moments == 1
    (plan,) = hunt.plans
    assert (plan.idea, plan.key, plan.finish) == ("COMPLEMENT_BUY", "m1", OperationKind.MERGE)
    (order,) = orders_of(commands)
    assert (order.instrument_id, order.price, order.qty) == (yes(), p("0.44"), q("100"))


def test_two_messages_of_one_millisecond_are_real_when_it_has_passed() -> None:
    hunt = Hunt()
    t = 2 * NS
    assert hunt.say(cheap_yes(t)) == []
    assert hunt.say(changed(t, (no(), BUY, "0.47", "60"))) == []
    assert hunt.seen == {"sightings": 1}
    # Another market's frame proves that the millisecond is over; nobody touches m1 again.
    commands = hunt.say(changed(t + MS, (yes(2), BUY, "0.40", "1")))
    assert hunt.seen == {"sightings": 1, "real": 1, "opportunities": 1}
    assert [order.instrument_id for order in orders_of(commands)] == [yes()]


def test_a_snapshot_alone_is_not_real_but_a_later_moment_confirms_it() -> None:
    hunt = Hunt()
    t = 2 * NS
    assert hunt.say(snapshot(yes(), [("0.42", "100")], [("0.44", "100")], at=t)) == []
    assert hunt.say(snapshot(no(), [("0.47", "100")], [("0.52", "100")], at=t)) == []
    assert hunt.seen == {"sightings": 1}
    assert len(orders_of(hunt.say(snapshot(yes(2), at=t + MS)))) == 1
    assert hunt.seen == {"sightings": 1, "real": 1, "opportunities": 1}


def test_a_sighting_over_its_own_next_frame_is_real_when_the_books_agree() -> None:
    hunt = Hunt(trade_size=c("2"))
    t = 2 * NS
    hunt.say(cheap_yes(t))
    hunt.say(changed(t + MS, (yes(2), BUY, "0.41", "1")))
    assert hunt.seen == {"sightings": 1}
    hunt.say(changed(t + 2 * MS, (yes(), BUY, "0.43", "1")))
    hunt.say(changed(t + 2 * MS, (no(), BUY, "0.47", "1")))
    assert hunt.seen == {"sightings": 1, "real": 1}


def test_a_crossed_or_void_book_is_never_real() -> None:
    hunt = Hunt()
    crossed = changed(2 * NS, (yes(), SELL, "0.44", "50"), (no(), BUY, "0.47", "1"))
    assert hunt.say(crossed) == []
    assert hunt.seen == {"sightings": 1}
    void = ev.FeedDisconnected(connection="c", instruments=(no(),), reason="gone")
    assert hunt.say(void, changed(3 * NS, (yes(), BUY, "0.43", "1"))) == []
    assert "real" not in hunt.seen


def test_an_unknown_token_is_nobodys_business() -> None:
    hunt = Hunt()
    assert hunt.say(changed(2 * NS, (yes(9), SELL, "0.01", "1")), snapshot(yes(9))) == []
    assert hunt.say(ev.TradePrinted(1, 1, yes(), BUY, p("0.5"), q("1"))) == []
    assert hunt.seen == {}


def test_an_episode_ends_and_a_new_one_counts_again() -> None:
    hunt = Hunt(cooldown_ns=0)
    hunt.say(trading(TradingState.HALTED))
    for n in range(3):
        hunt.say(bargain((2 + n) * NS))
        hunt.say(changed((2 + n) * NS + MS, (yes(), SELL, "0.44", "0"), (no(), BUY, "0.46", "1")))
    assert hunt.seen == {"sightings": 3, "real": 3, "opportunities": 3}


# --- sizing and plans -----------------------------------------------------------------------------


def test_the_thinnest_leg_goes_first() -> None:
    hunt = Hunt()
    hunt.say(changed(2 * NS, (no(), SELL, "0.44", "20"), (no(), BUY, "0.48", "0"),
                     (no(), BUY, "0.42", "9"), (yes(), BUY, "0.47", "5")))  # fmt: skip
    (plan,) = hunt.plans
    assert [leg.instrument_id for leg in plan.legs] == [no(), yes()]
    assert [leg.qty for leg in plan.legs] == [q("20"), q("20")]


def test_a_plan_names_its_prices_budget_and_edge() -> None:
    hunt = Hunt(execution=ExecutionSettings(together=True))
    hunt.say(bargain(2 * NS))
    (plan,) = hunt.plans
    assert [(leg.limit, leg.unwind) for leg in plan.legs] == [
        (p("0.44"), p("0.39")),
        (p("0.52"), p("0.45")),
    ]
    assert (plan.budget, plan.edge, plan.payoff) == (c("96"), c("4"), SCALE)


def test_an_unwind_price_stays_on_the_grid() -> None:
    hunt = Hunt(unwind_slippage=p("0.90"))
    hunt.say(bargain(2 * NS))
    assert [leg.unwind for leg in hunt.plans[0].legs] == [p("0.01"), p("0.01")]


def test_fees_kill_an_edge() -> None:
    hunt = Hunt(universe(2, rate="0.07"))
    # 4 cents gross; two fees near 0.5 take 1.7 cents each.
    assert len(hunt.say(bargain(2 * NS))) == 1
    dear = Hunt(universe(2, rate="0.10"))
    assert dear.say(bargain(2 * NS)) == []
    assert dear.seen == {"sightings": 1, "real": 1}


@pytest.mark.parametrize("qty", ["4.99", "0.01"])
def test_less_than_the_minimum_is_no_opportunity(qty: str) -> None:
    hunt = Hunt()
    assert hunt.say(bargain(2 * NS, qty=qty)) == []
    assert hunt.seen == {"sightings": 1, "real": 1}


def test_a_thin_margin_is_left_alone() -> None:
    hunt = Hunt(min_profit=p("0.05"))
    assert hunt.say(bargain(2 * NS)) == []
    assert hunt.seen == {"sightings": 1, "real": 1}


def test_a_pair_is_split_and_sold_when_bids_exceed_a_dollar() -> None:
    hunt = Hunt()
    commands = hunt.say(changed(2 * NS, (yes(), BUY, "0.55", "30"), (yes(), SELL, "0.52", "0"),
                                (yes(), SELL, "0.58", "9"), (no(), BUY, "0.47", "1")))  # fmt: skip
    (split,) = operations_of(commands)
    assert (split.kind, split.cash) == (OperationKind.SPLIT, -c("30"))
    (plan,) = hunt.plans
    assert (plan.idea, plan.start) == ("COMPLEMENT_SELL", OperationKind.SPLIT)


# --- sets and ladders -------------------------------------------------------------------------------


def set_hunt(*, end_ns: int = 0, augmented: bool = False, **settings: Any) -> Hunt:
    world = universe(3, one_set=True, augmented=augmented, end_ns=end_ns)
    return Hunt(world, complement=False, yes_bid="0.32", yes_ask="0.34", **settings)


def test_every_no_of_a_set_is_bought_and_converted() -> None:
    hunt = set_hunt(execution=ExecutionSettings(together=True))
    # Three NO at 0.62 cost 1.86 and convert into 2.
    commands = hunt.say(*(e for n in (1, 2, 3) for e in quotes(2 * NS, n, "0.38", "0.42")))
    assert commands == []
    commands = hunt.say(changed(2 * NS + MS, (yes(1), BUY, "0.01", "1")))
    assert {order.instrument_id for order in orders_of(commands)} == {no(1), no(2), no(3)}
    (plan,) = hunt.plans
    assert (plan.idea, plan.key, plan.payoff) == ("SET_NO", "s1", 2 * SCALE)
    assert plan.finish is OperationKind.CONVERT


def test_an_augmented_set_is_never_touched() -> None:
    hunt = set_hunt(augmented=True)
    for n in (1, 2, 3):
        hunt.say(*quotes(2 * NS, n, "0.38", "0.42"))
    hunt.say(changed(3 * NS, (yes(1), BUY, "0.01", "1")))
    assert hunt.seen == {}


@pytest.mark.parametrize(
    ("end_ns", "opened"),
    [(0, 0), (NS, 0), (2 * NS + YEAR // 2, 1), (2 * NS + YEAR, 0)],
    ids=["unknown", "past", "half a year", "a year"],
)
def test_capital_is_locked_only_for_a_yearly_return(end_ns: int, opened: int) -> None:
    # Three YES at 0.30: 0.90 for a dollar, 11 % until the end; 20 % a year is wanted.
    hunt = set_hunt(end_ns=end_ns)
    for n in (1, 2, 3):
        hunt.say(*quotes(2 * NS, n, "0.28", "0.30"))
    hunt.say(changed(2 * NS + MS, (yes(1), BUY, "0.01", "1")))
    assert len(hunt.plans) == opened
    assert [plan.idea for plan in hunt.plans] == ["SET_YES"] * opened
    assert hunt.seen.get("opportunities", 0) == opened


def test_a_ladder_buys_the_likelier_yes_and_the_rarer_no() -> None:
    world = universe(2, ladder=True, end_ns=10 * DAY)
    hunt = Hunt(world, complement=False, execution=ExecutionSettings(together=True))
    # m1 implies m2, so m2 must not be cheaper: YES m2 at 0.42, NO m1 at 0.50.
    hunt.say(*quotes(2 * NS, 1, "0.50", "0.52"), *quotes(2 * NS, 2, "0.40", "0.42"))
    commands = hunt.say(changed(2 * NS + MS, (yes(1), BUY, "0.01", "1")))
    assert {order.instrument_id for order in orders_of(commands)} == {yes(2), no(1)}
    (plan,) = hunt.plans
    assert (plan.idea, plan.finish) == ("LADDER", None)


def test_a_ladder_the_right_way_round_is_left_alone() -> None:
    hunt = Hunt(universe(2, ladder=True, end_ns=10 * DAY), complement=False)
    hunt.say(*quotes(2 * NS, 1, "0.40", "0.42"), *quotes(2 * NS, 2, "0.50", "0.52"))
    hunt.say(changed(2 * NS + MS, (yes(1), BUY, "0.01", "1")))
    assert hunt.seen == {}


# --- restraint ---------------------------------------------------------------------------------------


def test_halted_counts_but_nothing_is_commanded() -> None:
    hunt = Hunt()
    hunt.say(trading(TradingState.HALTED))
    assert hunt.say(bargain(2 * NS)) == []
    assert hunt.seen == {"sightings": 1, "real": 1, "opportunities": 1}
    assert hunt.rig.engine.dropped_intents == 0
    assert hunt.plans == []


def test_one_bundle_an_idea_and_a_pause_after_each() -> None:
    hunt = Hunt()
    (order,) = orders_of(hunt.say(bargain(2 * NS)))
    assert hunt.say(bargain(2 * NS + 1)) == []
    assert hunt.say(bargain(4 * NS)) == []
    assert len(hunt.plans) == 1
    reject = ev.OrderRejected(ts_recv=4 * NS, client_order_id=order.client_order_id, reason="no")
    (again,) = orders_of(hunt.say(reject))
    hunt.say(structs.replace(reject, client_order_id=again.client_order_id))
    assert hunt.rig.state.bundles.totals.missed == 1
    # It missed: the idea is left alone for the pause, and after a second miss for longer.
    assert hunt.say(bargain(5 * NS - 1)) == []
    assert len(orders_of(hunt.say(bargain(5 * NS)))) == 1
    assert len(hunt.plans) == 2
    assert hunt.arb._ideas["COMPLEMENT_BUY", market_id()].busy_until_ns == 7 * NS


def test_each_refusal_doubles_the_pause_up_to_a_minute() -> None:
    hunt = Hunt(limits=RiskLimits(max_wallet_exposure=c("1")))
    asked = []
    for second in range(2, 260):
        before = hunt.rig.state.decisions
        assert hunt.say(bargain(second * NS)) == []
        if hunt.rig.state.decisions > before:
            asked.append(second)
    assert asked == [2, 3, 5, 9, 17, 33, 65, 125, 185, 245]


def test_a_success_ends_the_long_pauses() -> None:
    hunt = Hunt()
    watch = hunt.arb._ideas["COMPLEMENT_BUY", market_id()]
    hunt.say(bargain(2 * NS))
    (bundle,) = hunt.rig.engine.view.open_bundles.values()
    watch.misses = 5
    hunt.arb._rest(bundle, "MISSED", 100 * NS)
    assert (watch.busy_until_ns, watch.misses) == (116 * NS, 5)
    hunt.arb._rest(bundle, "COMPLETE", 200 * NS)
    assert (watch.busy_until_ns, watch.misses) == (201 * NS, 0)
    unknown = structs.replace(bundle, plan=structs.replace(bundle.plan, key="gone"))
    hunt.arb._rest(unknown, "MISSED", 300 * NS)
    assert watch.busy_until_ns == 201 * NS


def test_so_many_bundles_at_once() -> None:
    hunt = Hunt(max_open_bundles=1)
    assert len(orders_of(hunt.say(bargain(2 * NS)))) == 1
    assert hunt.say(bargain(2 * NS + MS, number=2)) == []
    assert hunt.seen["opportunities"] == 2
    wider = Hunt(max_open_bundles=2)
    wider.say(bargain(2 * NS), bargain(2 * NS + MS, number=2))
    assert [plan.bundle_id for plan in wider.plans] == ["b1", "b2"]


def test_two_ideas_of_one_frame_get_two_ids() -> None:
    world = universe(2, one_set=True, ladder=True, end_ns=10 * DAY)
    hunt = Hunt(world, max_open_bundles=2)
    hunt.say(*quotes(2 * NS, 2, "0.40", "0.42"))
    hunt.say(changed(3 * NS, (yes(1), BUY, "0.48", "0"), (yes(1), BUY, "0.30", "100"),
                     (yes(1), SELL, "0.44", "100"), (no(1), BUY, "0.47", "100"),
                     (no(1), SELL, "0.49", "100")))  # fmt: skip
    ids = [plan.bundle_id for plan in hunt.plans]
    assert len(ids) == len(set(ids)) == 2
    assert hunt.rig.state.trading is TradingState.ACTIVE


def test_a_refused_idea_does_not_give_its_id_to_the_next() -> None:
    hunt = Hunt(limits=RiskLimits(max_wallet_exposure=c("1")))
    assert hunt.say(bargain(2 * NS)) == []
    assert hunt.say(bargain(5 * NS)) == []
    refused = [r.bundle_id for e in hunt.rig.entries if isinstance(e, ev.DecisionMade)
               for r in e.refused]  # fmt: skip
    assert set(refused) == {BundleId("b1"), BundleId("b2")}


# --- redemption --------------------------------------------------------------------------------------


def resolved(hunt: Hunt, *, mined: bool = True) -> list[Any]:
    """Buy both legs, resolve the market, and let the timer tick."""
    (first,) = orders_of(hunt.say(bargain(2 * NS)))
    hunt.say(filled(first, "100", "0.44", at=2 * NS))
    if mined:
        hunt.say(settled("t1", MINED, at=2 * NS))
    payouts = ((yes(), p("1")), (no(), p("0")))
    hunt.say(ev.MarketResolved(ts_recv=3 * NS, market_id=market_id(), payouts=payouts))
    return hunt.say(tick(3 * NS))


def test_settled_tokens_of_a_resolved_market_are_redeemed_once() -> None:
    hunt = Hunt()
    (redeem,) = operations_of(resolved(hunt))
    assert (redeem.kind, redeem.burn, redeem.cash) == (
        OperationKind.REDEEM, ((yes(), q("100")),), c("100"),
    )  # fmt: skip
    assert hunt.say(tick(4 * NS)) == []


def test_a_quiet_timer_wishes_nothing() -> None:
    hunt = Hunt()
    assert hunt.say(tick(2 * NS)) == []
    payouts = ((yes(2), p("1")), (no(2), p("0")))
    hunt.say(ev.MarketResolved(ts_recv=3 * NS, market_id=market_id(2), payouts=payouts))
    assert hunt.say(tick(3 * NS)) == []


def test_unsettled_tokens_are_not_redeemed_yet() -> None:
    hunt = Hunt()
    assert resolved(hunt, mined=False) == []
    assert len(operations_of(hunt.say(settled("t1", MINED, at=4 * NS), tick(4 * NS)))) == 1


def test_halted_works_nothing() -> None:
    hunt = Hunt()
    (first,) = orders_of(hunt.say(bargain(2 * NS)))
    hunt.say(trading(TradingState.HALTED))
    assert hunt.say(canceled(first), deposit("1", "d2"), tick(5 * NS)) == []
    assert len(orders_of(hunt.say(trading(TradingState.ACTIVE, at=5 * NS)))) == 1
