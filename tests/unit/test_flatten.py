"""Flatten: what no bundle works is merged or sold, once each, and nothing is bought."""

from fleet.domain import events as ev
from fleet.domain.commands import FLATTEN, Approved, OperationKind, Purpose, RunOperation
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import Price
from fleet.engine.state import Payout, fold
from fleet.engine.view import View
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from fleet.strategies.flatten import WISHES_MAX, flatten_step
from tests.builders import (
    MINED,
    NS,
    Rig,
    c,
    canceled,
    confirmed,
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
    snapshot,
    tick,
    trading,
    universe,
    yes,
)

NOW = 10 * NS


def hold(made: Rig, token: InstrumentId, qty: str, *, mined: bool = True) -> None:
    """Own tokens that no bundle of the journal knows of."""
    name = f"h{len(made.state.portfolio.trades())}"
    made.state.portfolio.fill(filled("old", qty, "0.5", trade=name, token=token, at=NOW))
    if mined:
        made.state.portfolio.settle(settled(name, MINED, at=NOW))


def flattening(markets: int = 1) -> Rig:
    """ArbHunter, ordered to flatten."""
    made = Rig(
        universe(markets),
        strategy=lambda view: Arbitrage(ArbSettings(complement=False), view),
    )
    made.open_market(at=NOW)
    made.say(ev.OperatorCommanded(action="flatten", by="ann", ts_recv=NOW))
    made.say(trading(ev.TradingState.REDUCING, at=NOW))
    return made


def test_a_lonely_token_is_sold_a_little_below_the_bid() -> None:
    made = flattening()
    hold(made, yes(), "12.349")
    [order] = orders_of(made.say(tick(NOW)))
    assert (order.side, order.purpose, order.bundle_id) == (Side.SELL, Purpose.UNWIND, FLATTEN)
    assert order.qty == q("12.34")
    assert order.price == made.state.books[yes()].bid - p("0.03")


def test_a_pair_is_merged_and_the_rest_sold_when_that_is_done() -> None:
    made = flattening()
    hold(made, yes(), "20")
    hold(made, no(), "8")
    commands = made.say(tick(NOW))
    [merge] = operations_of(commands)
    assert (merge.kind, merge.cash, merge.subject) == (OperationKind.MERGE, c("8"), market_id())
    assert merge.burn == ((yes(), q("8")), (no(), q("8")))
    assert orders_of(commands) == []
    assert made.say(tick(NOW + NS)) == [], "one at a time in a market"
    made.say(confirmed(merge, at=NOW + NS))
    [order] = orders_of(made.say(tick(NOW + 2 * NS)))
    assert (order.instrument_id, order.qty) == (yes(), q("12"))


def test_an_offer_that_found_nobody_is_made_again_each_second() -> None:
    made = flattening()
    hold(made, yes(), "10")
    [first] = orders_of(made.say(tick(NOW)))
    assert made.say(tick(NOW + NS)) == []
    assert orders_of(made.say(canceled(first, at=NOW + NS))) == []
    [second] = orders_of(made.say(tick(NOW + 2 * NS)))
    assert second.client_order_id != first.client_order_id


def test_what_cannot_be_sold_is_left_alone() -> None:
    made = flattening(6)
    hold(made, yes(1), "4.99")
    hold(made, yes(2), "10", mined=False)
    hold(made, yes(3), "10")
    made.say(ev.FeedDisconnected(connection="c", instruments=(yes(3),), reason="gone"))
    hold(made, yes(4), "10")
    made.say(snapshot(yes(4), bids=[], at=NOW))
    hold(made, yes(5), "10")
    made.state.resolved[yes(5)] = Payout(market_id(5), p("0"), NOW)
    hold(made, yes(6), "10")
    made.say(snapshot(yes(6), bids=[("0.09", "100")], at=NOW))
    hold(made, InstrumentId("left-the-catalogue"), "10")
    assert flatten_step(View(made.state)) == []


def test_a_price_below_the_minimum_is_offered_at_the_bid() -> None:
    made = flattening()
    hold(made, yes(), "10")
    made.say(snapshot(yes(), bids=[("0.11", "100")], at=NOW))
    [order] = orders_of(made.say(tick(NOW)))
    assert order.price == p("0.11")


def test_what_a_bundle_works_is_the_bundles_business() -> None:
    made = flattening()
    made.say(trading(ev.TradingState.ACTIVE, at=NOW))
    pair = plan(leg(yes(), "10", "0.52"), leg(no(), "10", "0.52"))
    made.state.bundles.open_bundle(pair, NOW)
    hold(made, yes(), "10")
    assert flatten_step(View(made.state)) == []


def test_no_more_than_a_handful_a_second() -> None:
    made = flattening(WISHES_MAX + 3)
    for number in range(1, WISHES_MAX + 4):
        hold(made, yes(number), "10")
    assert len(flatten_step(View(made.state))) == WISHES_MAX


def test_nothing_is_sold_while_halted_or_under_another_order() -> None:
    made = flattening()
    hold(made, yes(), "10")
    made.say(trading(ev.TradingState.HALTED, at=NOW))
    assert made.say(tick(NOW)) == []
    made.say(ev.OperatorCommanded(action="reduce", by="ann", ts_recv=NOW))
    made.say(trading(ev.TradingState.REDUCING, at=NOW))
    assert made.say(tick(NOW)) == []


def test_the_order_to_flatten_outlives_the_process() -> None:
    made = flattening()
    assert fold(made.entries, universe()).operator == "flatten"


def test_it_ends_with_nothing_held_and_the_cash_where_it_belongs() -> None:
    made = flattening(2)
    hold(made, yes(1), "20")
    hold(made, no(1), "8")
    hold(made, yes(2), "5")
    for second in range(10):
        at = NOW + second * NS
        for command in made.say(tick(at)):
            assert isinstance(command, Approved)
            if isinstance(command.request, RunOperation):
                made.say(confirmed(command.request, at=at))
                continue
            order = command.request
            bid = Price(made.state.books[order.instrument_id].bid)
            trade = f"t{order.client_order_id}"
            made.say(
                ev.OrderFilled(
                    ts_event=at, ts_recv=at, trade_id=ev.TradeId(trade),
                    client_order_id=order.client_order_id, instrument_id=order.instrument_id,
                    side=Side.SELL, price=bid, qty=order.qty, fee=c("0"),
                )
            )  # fmt: skip
            made.say(settled(trade, MINED, at=at))
    assert made.state.portfolio.positions == {}
    assert not made.state.orders.open
    portfolio = made.state.portfolio
    assert portfolio.cash == portfolio.deposited + portfolio.realised
