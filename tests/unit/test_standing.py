"""What closed bundles hold: from the fill that came last to the sale that failed."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleet.domain import events as ev
from fleet.domain.commands import (
    FLATTEN,
    BundleId,
    CloseBundle,
    Intent,
    OpenBundle,
    OperationIntent,
    OperationKind,
    OrderIntent,
    Purpose,
    RefusalCode,
    RequestForecast,
    StartTimer,
    SubmitOrder,
)
from fleet.domain.events import TradingState
from fleet.domain.instruments import InstrumentId, MarketId, Side
from fleet.domain.units import Cash, Price, Qty
from fleet.engine.image import image_of, restore
from fleet.engine.risk import RiskLimits
from fleet.engine.standing import Part, StandingLeg
from fleet.engine.state import fold
from tests.builders import (
    CONFIRMED,
    FAILED,
    MINED,
    NS,
    Rig,
    c,
    canceled,
    confirmed,
    deposit,
    filled,
    leg,
    market_id,
    no,
    operations_of,
    orders_of,
    p,
    plan,
    q,
    settled,
    tick,
    trading,
    universe,
    yes,
)

WORLD = universe(2)
SELL = Side.SELL


class Desk:
    """An engine with cash and books, and short words for what is done with it."""

    def __init__(self, limits: RiskLimits | None = None) -> None:
        self.rig = Rig(WORLD, limits=limits)
        self.rig.open_market()
        self.trades = 0

    def wish(self, *wishes: Intent) -> SubmitOrder:
        (sent,) = orders_of(self.rig.wish(*wishes))
        return sent

    def refusals(self, *wishes: Intent) -> list[RefusalCode]:
        self.rig.wish(*wishes)
        decision = self.rig.entries[-1]
        assert isinstance(decision, ev.DecisionMade)
        return [one.code for one in decision.refused]

    def fill(self, order: SubmitOrder, qty: str, price: str = "0.5", *, fee: str = "0") -> str:
        self.trades += 1
        name = f"t{self.trades}"
        self.rig.say(filled(order, qty, price, trade=name, fee=fee))
        return name

    def mine(self, trade: str) -> None:
        self.rig.say(settled(trade, MINED))

    def buy(self, name: str, qty: str = "10", token: InstrumentId | None = None) -> SubmitOrder:
        token = token or yes()
        made = plan(leg(token, qty, "0.52"), name=name, finish=None, key="m1")
        return self.wish(made, order_for(made))

    def held(self, name: str, qty: str = "10") -> SubmitOrder:
        """A bundle that bought, settled and closed."""
        order = self.buy(name, qty)
        self.mine(self.fill(order, qty))
        self.close(name)
        return order

    def close(self, name: str, outcome: str = "HELD") -> None:
        self.rig.wish(CloseBundle(bundle_id=BundleId(name), outcome=outcome))

    def sell(self, name: str, exits: str, qty: str = "10", token: InstrumentId | None = None
             ) -> SubmitOrder:  # fmt: skip
        made = exit_plan(name, exits, qty, token)
        return self.wish(made, order_for(made))

    def flatten(self, qty: str) -> SubmitOrder:
        return self.wish(OrderIntent(
            bundle_id=FLATTEN, leg=0, purpose=Purpose.UNWIND, instrument_id=yes(), side=SELL,
            price=p("0.45"), qty=q(qty),
        ))  # fmt: skip

    def left(self) -> dict[str, Qty]:
        """Shares of YES 1 that each standing bundle has left."""
        return {
            str(standing.bundle_id): Qty(sum(one.left for one in standing.legs))
            for standing in self.rig.engine.view.standing.values()
        }


def exit_plan(
    name: str, exits: str, qty: str = "10", token: InstrumentId | None = None
) -> OpenBundle:
    made = plan(
        leg(token or yes(), qty, "0.45", side=SELL), name=name, finish=None, payoff="0.4",
        key="m1", budget="0",
    )  # fmt: skip
    return structs.replace(made, idea="EXIT", exits=BundleId(exits))


def order_for(made: OpenBundle) -> OrderIntent:
    first = made.legs[0]
    return OrderIntent(
        bundle_id=made.bundle_id, leg=0, purpose=Purpose.LEG, instrument_id=first.instrument_id,
        side=first.side, price=first.limit, qty=first.qty,
    )  # fmt: skip


def test_a_bundle_stands_from_its_end_with_what_it_paid() -> None:
    desk = Desk()
    order = desk.buy("b1")
    desk.fill(order, "10", "0.5", fee="0.1")
    assert desk.left() == {}
    desk.close("b1")
    (standing,) = desk.rig.engine.view.standing.values()
    assert (standing.idea, standing.key, standing.opened_ns) == ("TEST", "m1", NS)
    assert standing.legs == [StandingLeg(yes(), q("10"), c("5.1"), q("10"))]
    assert standing.cost == c("5.1")
    assert StandingLeg(yes()).cost == 0


def test_a_bundle_that_bought_nothing_does_not_stand() -> None:
    desk = Desk()
    desk.rig.say(canceled(desk.buy("b1")))
    desk.close("b1", "MISSED")
    assert desk.left() == {}


def test_an_exit_takes_from_the_bundle_it_names() -> None:
    desk = Desk()
    desk.held("b1")
    desk.held("b2")
    desk.fill(desk.sell("b3", "b2"), "4")
    assert desk.left() == {"b1": q("10"), "b2": q("6")}
    (first, second) = desk.rig.engine.view.standing.values()
    assert (first.cost, second.cost) == (c("5"), c("3"))


def test_an_exit_that_sells_more_than_its_bundle_has_takes_the_oldest_next() -> None:
    desk = Desk()
    desk.held("b1")
    desk.held("b2", "5")
    desk.fill(desk.sell("b3", "b2", "8"), "8")
    assert desk.left() == {"b1": q("7")}


def test_a_failed_exit_gives_back_what_it_took_even_if_nothing_stood_any_more() -> None:
    desk = Desk()
    desk.held("b1")
    desk.held("b2", "5")
    sale = desk.fill(desk.sell("b3", "b2", "8"), "8")
    desk.rig.say(settled(sale, FAILED))
    assert desk.left() == {"b1": q("10"), "b2": q("5")}
    assert [one.cost for one in desk.rig.engine.view.standing.values()] == [c("5"), c("2.5")]


def test_a_failed_flatten_gives_back_to_whom_it_took_from_oldest_first() -> None:
    desk = Desk()
    desk.held("b1")
    desk.held("b2")
    sale = desk.fill(desk.flatten("12"), "12")
    assert desk.left() == {"b2": q("8")}
    desk.rig.say(settled(sale, FAILED))
    assert list(desk.left().items()) == [("b1", q("10")), ("b2", q("10"))]


def test_a_final_sale_is_remembered_no_longer() -> None:
    desk = Desk()
    desk.held("b1")
    sale = desk.fill(desk.flatten("6"), "6")
    standings = desk.rig.state.bundles.standings
    assert standings.image().sales == {sale: [Part(BundleId("b1"), q("6"))]}
    desk.rig.say(settled(sale, CONFIRMED))
    assert standings.image().sales == {}


def test_a_late_fill_of_a_closed_bundle_stands_with_its_cost() -> None:
    desk = Desk()
    order = desk.buy("b1")
    desk.close("b1", "MISSED")
    desk.fill(order, "4", "0.5", fee="0.02")
    desk.fill(order, "6", "0.4")
    (standing,) = desk.rig.engine.view.standing.values()
    assert standing.legs == [StandingLeg(yes(), q("10"), c("4.42"), q("10"))]


def test_a_failed_buy_takes_its_shares_back() -> None:
    desk = Desk()
    order = desk.buy("b1")
    first, _ = desk.fill(order, "4"), desk.fill(order, "6")
    desk.close("b1")
    desk.rig.say(settled(first, FAILED))
    (standing,) = desk.rig.engine.view.standing.values()
    assert standing.legs[0].left == q("6")


def test_an_unwound_share_does_not_stand() -> None:
    desk = Desk()
    desk.mine(desk.fill(desk.buy("b1"), "10"))
    unwind = OrderIntent(
        bundle_id=BundleId("b1"), leg=0, purpose=Purpose.UNWIND, instrument_id=yes(), side=SELL,
        price=p("0.4"), qty=q("7"),
    )  # fmt: skip
    sale = desk.fill(desk.wish(unwind), "7")
    desk.close("b1")
    assert desk.left() == {"b1": q("3")}
    desk.rig.say(settled(sale, FAILED))
    assert desk.left() == {"b1": q("10")}


def test_what_a_bundle_unwinds_beyond_its_own_others_gave() -> None:
    desk = Desk()
    desk.held("b1")
    desk.mine(desk.fill(desk.buy("b2", "5"), "5"))
    unwind = OrderIntent(
        bundle_id=BundleId("b2"), leg=0, purpose=Purpose.UNWIND, instrument_id=yes(), side=SELL,
        price=p("0.4"), qty=q("8"),
    )  # fmt: skip
    desk.fill(desk.wish(unwind), "8")
    desk.close("b2")
    assert desk.left() == {"b1": q("7")}


def test_a_redemption_ends_what_stands_by_what_was_really_burnt() -> None:
    desk = Desk()
    desk.held("b1")
    redeem = OperationIntent(
        bundle_id=BundleId("redeem"), kind=OperationKind.REDEEM, subject="m1",
        burn=((yes(), q("10")),), mint=(), cash=Cash(0),
    )  # fmt: skip
    (operation,) = operations_of(desk.rig.wish(redeem))
    assert desk.left() == {"b1": q("10")}
    told = structs.replace(confirmed(operation), burn=((yes(), q("9")),))
    desk.rig.say(told)
    assert desk.left() == {"b1": q("1")}


def test_an_operation_that_outlives_its_bundle_still_counts() -> None:
    desk = Desk()
    made = plan(leg(yes(), "10", "0.6", side=SELL), leg(no(), "10", "0.5", side=SELL),
                start=OperationKind.SPLIT, payoff="-1")  # fmt: skip
    split = OperationIntent(
        bundle_id=made.bundle_id, kind=OperationKind.SPLIT, subject="m1", burn=(),
        mint=((yes(), q("10")), (no(), q("10"))), cash=c("-10"),
    )  # fmt: skip
    (operation,) = operations_of(desk.rig.wish(made, split))
    desk.close("b1", "NOT_STARTED")
    assert desk.left() == {}
    desk.rig.say(confirmed(operation))
    (standing,) = desk.rig.engine.view.standing.values()
    assert standing.legs == [
        StandingLeg(yes(), q("10"), c("5"), q("10")), StandingLeg(no(), q("10"), c("5"), q("10"))
    ]  # fmt: skip


def test_a_finished_bundle_leaves_nothing() -> None:
    desk = Desk()
    made = plan(leg(yes(), "10", "0.52"), leg(no(), "10", "0.52"))
    first = desk.wish(made, order_for(made))
    second = desk.wish(OrderIntent(
        bundle_id=made.bundle_id, leg=1, purpose=Purpose.LEG, instrument_id=no(), side=Side.BUY,
        price=p("0.52"), qty=q("10"),
    ))  # fmt: skip
    desk.mine(desk.fill(first, "10"))
    desk.mine(desk.fill(second, "10"))
    merge = OperationIntent(
        bundle_id=made.bundle_id, kind=OperationKind.MERGE, subject="m1",
        burn=((yes(), q("10")), (no(), q("10"))), mint=(), cash=c("10"),
    )  # fmt: skip
    desk.rig.say(confirmed(operations_of(desk.rig.wish(merge))[0]))
    desk.close("b1", "COMPLETE")
    assert desk.left() == {}


# --- exits and the ledger, risk and the engine --------------------------------------------------


def test_an_exit_makes_good_what_its_bet_had_promised() -> None:
    desk = Desk()
    desk.held("b1")
    totals = desk.rig.state.bundles.totals
    # 10 shares for 5 dollars, counted at their payoff of one dollar.
    assert (totals.edge_expected, totals.edge_realised) == (c("0.5"), c("5"))
    desk.fill(desk.sell("b2", "b1"), "10", "0.48", fee="0.04")
    desk.close("b2", "SOLD")
    assert (totals.edge_expected, totals.edge_realised) == (c("0.5"), c("-0.24"))
    assert totals.edge_realised == desk.rig.state.portfolio.realised


@pytest.mark.parametrize(("payout", "made"), [("1", "5"), ("0", "-5"), ("0.5", "0")])
def test_a_bet_is_counted_at_its_payout_once_it_is_known(payout: str, made: str) -> None:
    desk = Desk()
    desk.held("b1")
    payouts = ((yes(), p(payout)), (no(), p("1") - p(payout)))
    resolved = ev.MarketResolved(ts_recv=NS, market_id=market_id(), payouts=payouts)  # type: ignore[arg-type]
    desk.rig.say(resolved, resolved)
    assert desk.rig.state.bundles.totals.edge_realised == c(made)


def test_an_exit_passes_where_nothing_may_be_opened() -> None:
    limits = RiskLimits(max_day_loss=Cash(1))
    desk = Desk(limits)
    desk.held("b1")
    desk.fill(desk.flatten("5"), "5", "0.45")
    assert desk.refusals(plan(leg(yes(), "10"), name="b2")) == [RefusalCode.DAY_LOSS_REACHED]
    desk.rig.say(trading(TradingState.REDUCING))
    assert desk.refusals(plan(leg(yes(), "10"), name="b2")) == [RefusalCode.TRADING_REDUCING]
    assert desk.sell("b3", "b1", "5").side is SELL


def test_an_exit_that_also_buys_or_splits_is_no_exit() -> None:
    desk = Desk()
    desk.held("b1")
    desk.rig.say(trading(TradingState.REDUCING))
    buys = structs.replace(plan(leg(yes()), name="b2"), exits=BundleId("b1"))
    splits = structs.replace(exit_plan("b3", "b1"), start=OperationKind.SPLIT)
    for made in (buys, splits):
        assert desk.refusals(made) == [RefusalCode.TRADING_REDUCING]


def test_an_exit_sells_only_what_is_held_and_needs_a_book() -> None:
    desk = Desk()
    desk.held("b1", "5")
    made = exit_plan("b2", "b1", "6")
    assert desk.refusals(made, order_for(made))[0] is RefusalCode.POSITION_INSUFFICIENT
    desk.rig.say(ev.FeedDisconnected(connection="c", instruments=(yes(),), reason="gone"))
    made = exit_plan("b3", "b1", "5")
    assert desk.refusals(made, order_for(made))[0] is RefusalCode.BOOK_NOT_READY


def test_the_newest_bundle_of_an_idea_is_known_when_closed_and_after_a_restart() -> None:
    desk = Desk()
    view = desk.rig.engine.view
    assert view.newest_bundle("TEST", "m1") is None
    desk.held("b1")
    desk.rig.say(tick(2 * NS))
    desk.held("b2")
    for state in (desk.rig.state, restore(image_of(desk.rig.state), WORLD)):
        newest = state.bundles.newest("TEST", "m1")
        assert newest is not None
        assert (newest.id, newest.opened_ns, newest.closed_ns) == ("b2", 2 * NS, 2 * NS)


def asks(*, at: int = NS) -> RequestForecast:
    return RequestForecast(request_id=f"m1@{at}", market_id=market_id(), ts=at)


def test_a_request_for_a_forecast_is_no_intent_and_leaves_no_record() -> None:
    rig = Rig(WORLD)
    rig.open_market()
    before = rig.entries
    timer = StartTimer(name="t", at_ns=1)
    rig.script.next = [asks(), timer]  # type: ignore[list-item]  # the script says intents
    assert rig.say(tick(NS)) == [asks(), timer]
    assert rig.entries == before


def test_no_forecast_is_paid_for_while_trading_is_halted() -> None:
    rig = Rig(WORLD)
    rig.open_market()
    rig.say(trading(TradingState.HALTED))
    timer = StartTimer(name="t", at_ns=1)
    rig.script.next = [asks(), timer]  # type: ignore[list-item]
    assert rig.say(tick(NS)) == [timer]
    assert rig.engine.dropped_intents == 1


def forecast(
    *, at: int = NS, market: MarketId | None = None, blend: str = "0.6"
) -> ev.ForecastReceived:
    return ev.ForecastReceived(
        ts_recv=at, request_id="r", market_id=market or market_id(), forecaster="f", model="m",
        as_of_ns=at, raw=p(blend), blend=p(blend), weight=p("0.5"), deviation=p("0.02"),
        price=Price(p("0.5")), verdict="edge",
    )  # fmt: skip


def test_the_newest_forecast_is_kept_until_its_market_is_resolved() -> None:
    desk = Desk()
    desk.rig.say(forecast(at=2 * NS), forecast(at=NS, blend="0.7"))
    assert desk.rig.engine.view.forecasts == {market_id(): forecast(at=2 * NS)}
    desk.rig.say(ev.MarketResolved(
        ts_recv=3 * NS, market_id=market_id(), payouts=((yes(), p("1")), (no(), Price(0)))
    ))  # fmt: skip
    assert desk.rig.engine.view.forecasts == {}
    desk.rig.say(forecast(at=4 * NS))
    assert desk.rig.engine.view.forecasts == {}
    desk.rig.say(forecast(at=4 * NS, market=market_id(2)))
    assert fold(desk.rig.entries).forecasts == {market_id(2): forecast(at=4 * NS,
                                                                      market=market_id(2))}  # fmt: skip
    assert fold([deposit("1")]).forecasts == {}
