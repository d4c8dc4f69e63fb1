"""The risk rules: every refusal code has its case, and every case just inside passes."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from fleet.domain import events as ev
from fleet.domain.commands import (
    FLATTEN,
    REFUSAL_MEANING,
    BundleId,
    ClientOrderId,
    CloseBundle,
    Intent,
    OperationIntent,
    OperationKind,
    OrderIntent,
    Purpose,
    RefusalCode,
    TimeInForce,
)
from fleet.domain.instruments import InstrumentId, SetId, Side
from fleet.engine.allowance import Allowance, exposure_by_market
from fleet.engine.exposure import (
    free_cash,
    free_tokens,
    market_exposure,
    plan_cost,
    reserved_budget,
    wallet_exposure,
)
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.engine.verdict import Verdict, describe
from tests.builders import (
    DAY,
    MINED,
    NS,
    Rig,
    c,
    canceled,
    changed,
    confirmed,
    deposit,
    filled,
    leg,
    market_id,
    no,
    operations_of,
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

BUY, SELL = Side.BUY, Side.SELL
SPLIT, MERGE, REDEEM = OperationKind.SPLIT, OperationKind.MERGE, OperationKind.REDEEM
R = RefusalCode
ACTIVE, REDUCING = ev.TradingState.ACTIVE, ev.TradingState.REDUCING
NOW = 10 * DAY

pair = plan(leg(yes(), "10", "0.50"), leg(no(), "10", "0.50"))
sold = plan(
    leg(yes(), "10", "0.50", side=SELL),
    leg(no(), "10", "0.50", side=SELL),
    start=SPLIT,
    payoff="-1",
)


def rig(cash: str = "1000", *, rate: str = "0", **limits: Any) -> Rig:
    made = Rig(universe(2, rate=rate), limits=RiskLimits(**limits))
    made.open_market(cash, at=NOW)
    return made


def judge(made: Rig, *intents: Intent) -> Verdict:
    return made.engine.risk.check(intents, made.state)


def codes(verdict: Verdict) -> list[RefusalCode]:
    return [refused.code for refused in verdict.refused]


def hold(made: Rig, qty: str, price: str, *, token: InstrumentId | None = None) -> None:
    """Own settled tokens that no bundle knows of."""
    name = f"h{len(made.state.portfolio.trades())}"
    made.state.portfolio.fill(
        filled("old", qty, price, trade=name, token=token or yes(), side=BUY, at=NOW)
    )
    made.state.portfolio.settle(settled(name, MINED, at=NOW))


def operation(
    kind: OperationKind = MERGE, qty: str = "10", cash: str = "10", name: str = "b1"
) -> OperationIntent:
    both = ((yes(), q(qty)), (no(), q(qty)))
    return OperationIntent(
        bundle_id=BundleId(name),
        kind=kind,
        subject="m1",
        burn=() if kind is SPLIT else both,
        mint=both if kind is SPLIT else (),
        cash=c(cash),
    )


# --- one case a code --------------------------------------------------------------------------

Case = Callable[[], Verdict]


def halted() -> Verdict:
    made = rig()
    made.say(trading(ev.TradingState.HALTED, reason="by hand"))
    return judge(made, pair, order())


def reducing_bundle() -> Verdict:
    made = rig()
    made.say(trading(REDUCING))
    return judge(made, pair)


def reducing_buy() -> Verdict:
    made = rig()
    made.wish(pair)
    made.say(trading(REDUCING))
    return judge(made, order())


def reducing_split() -> Verdict:
    made = rig()
    made.wish(sold)
    made.say(trading(REDUCING))
    return judge(made, operation(SPLIT, cash="-10"))


def unknown_leg() -> Verdict:
    return judge(rig(), plan(leg(yes(9))))


def unknown_order() -> Verdict:
    made = rig()
    made.wish(pair)
    return judge(made, order(0, yes(9)))


def unknown_bundle() -> Verdict:
    return judge(rig(), order())


def closed_bundle() -> Verdict:
    made = rig()
    made.wish(pair)
    made.wish(CloseBundle(bundle_id=BundleId("b1"), outcome="MISSED"))
    return judge(made, order())


def unknown_leg_index() -> Verdict:
    made = rig()
    made.wish(pair)
    return judge(made, order(2))


def operation_of_no_bundle() -> Verdict:
    return judge(rig(), operation())


def incomplete() -> Verdict:
    return judge(rig(), pair, order(0), order(1, no(), price="0.51"))


def after_pair(*intents: Intent) -> Case:
    def case() -> Verdict:
        made = rig()
        made.wish(pair)
        return judge(made, *intents)

    return case


def exceeded_over_time() -> Verdict:
    made = rig()
    (sent,) = orders_of(made.wish(pair, order(qty="6")))
    made.say(filled(sent, "6", "0.5"))
    return judge(made, order(qty="5"))


def exceeded_in_flight() -> Verdict:
    made = rig()
    made.wish(pair, order(qty="6"))
    return judge(made, order(qty="5"))


def exceeded_in_one_breath() -> Verdict:
    made = rig()
    made.wish(pair)
    return judge(made, order(qty="6"), order(qty="5"))


def sold_too_cheaply() -> Verdict:
    made = rig()
    made.wish(sold)
    return judge(made, order(side=SELL, price="0.49"))


def split_beyond_the_plan() -> Verdict:
    made = rig()
    made.wish(sold)
    return judge(made, operation(SPLIT, cash="-10.00000001"))


def split_without_a_plan() -> Verdict:
    made = rig()
    made.wish(pair)
    return judge(made, operation(SPLIT, cash="-10"))


def split_twice() -> Verdict:
    made = rig()
    made.wish(sold, operation(SPLIT, cash="-10"))
    return judge(made, operation(SPLIT, cash="-10"))


def split_twice_in_one_breath() -> Verdict:
    made = rig()
    made.wish(sold)
    return judge(made, operation(SPLIT, cash="-5"), operation(SPLIT, cash="-5"))


def paying_redemption() -> Verdict:
    return judge(rig(), structs.replace(operation(REDEEM, cash="-1"), burn=()))


def void_book() -> Verdict:
    made = rig()
    made.say(ev.FeedDisconnected(connection="c", instruments=(no(),), reason="gone"))
    return judge(made, pair)


def crossed_book() -> Verdict:
    made = rig()
    made.wish(pair)
    made.say(changed(NOW, (yes(), BUY, "0.53", "1")))
    return judge(made, order())


def stale_book() -> Verdict:
    made = rig(stale_ns=NS)
    made.wish(pair, event=ev.TimerFired(ts_recv=NOW + NS + 1, name="tick"))
    return judge(made, pair)


def unresolved() -> Verdict:
    made = rig()
    made.wish(pair, order(qty="5"))
    made.say(ev.SubmitUnknown(client_order_id=ClientOrderId("o1"), reason="timeout"))
    return judge(made, order(qty="5"))


def too_many_orders() -> Verdict:
    made = rig(max_orders_in_flight=2)
    made.wish(pair, order(0), order(1, no(), tif=TimeInForce.GTC))
    other = structs.replace(pair, bundle_id=BundleId("b2"))
    return judge(made, other, structs.replace(order(), bundle_id=BundleId("b2")))


def too_many_in_one_breath() -> Verdict:
    return judge(rig(max_orders_in_flight=1), pair, order(0), order(1, no()))


def large_leg() -> Verdict:
    return judge(rig(max_order_notional=c("4.99")), pair)


def large_order() -> Verdict:
    made = rig()
    made.wish(pair)
    risk = Risk(RiskLimits(max_order_notional=c("4.99")))
    return risk.check([order()], made.state)


def one_market() -> Verdict:
    return judge(rig(max_market_exposure=c("9.99")), pair)


def one_market_held() -> Verdict:
    made = rig(max_market_exposure=c("15"))
    hold(made, "10", "0.51", token=no())
    return judge(made, pair)


def one_market_reserved() -> Verdict:
    made = rig(max_market_exposure=c("19.99"))
    made.wish(pair)
    return judge(made, structs.replace(pair, bundle_id=BundleId("b2")))


def one_market_in_one_breath() -> Verdict:
    made = rig(max_market_exposure=c("19.99"))
    return judge(made, pair, structs.replace(pair, bundle_id=BundleId("b2")))


def one_market_split() -> Verdict:
    return judge(rig(max_market_exposure=c("9.99")), sold)


def one_market_closed_too_early() -> Verdict:
    made = rig(max_market_exposure=c("14.99"))
    made.wish(pair, order())
    made.wish(CloseBundle(bundle_id=BundleId("b1"), outcome="MISSED"))
    return judge(made, structs.replace(pair, bundle_id=BundleId("b2")))


def one_market_split_closed_too_early() -> Verdict:
    made = rig(max_market_exposure=c("19.99"))
    made.wish(sold, operation(SPLIT, cash="-10"))
    made.wish(CloseBundle(bundle_id=BundleId("b1"), outcome="NOT_STARTED"))
    return judge(made, structs.replace(pair, bundle_id=BundleId("b2")))


def allowed(**allowance: Any) -> Rig:
    """A bot that the fleet allows 20 dollars everywhere, but for what is said."""
    made = Rig(universe(2, one_set=True))
    made.open_market(at=NOW)
    twenty = c("20")
    made.engine.risk.allowance = Allowance(
        **{
            "fleet": twenty,
            "wallet": twenty,
            "turnover": twenty,
            "day": NOW // DAY,
            "markets": dict.fromkeys(made.state.universe.markets, twenty),
            "sets": {SetId("s1"): twenty},
            "set_of": dict.fromkeys(made.state.universe.markets, SetId("s1")),
            **allowance,
        }
    )
    return made


def fleet_says_stop() -> Verdict:
    return judge(allowed(fleet=c("9.99")), pair)


def fleet_on_this_wallet() -> Verdict:
    return judge(allowed(wallet=c("9.99")), pair)


def fleet_today() -> Verdict:
    return judge(allowed(turnover=c("9.99")), pair)


def fleet_of_yesterday() -> Verdict:
    return judge(allowed(day=NOW // DAY - 1), pair)


def fleet_in_one_market() -> Verdict:
    return judge(allowed(markets={market_id(1): c("9.99")}), pair)


def fleet_in_an_unnamed_market() -> Verdict:
    return judge(allowed(markets={}), pair)


def one_set() -> Verdict:
    return judge(allowed(sets={SetId("s1"): c("9.99")}), pair)


def one_set_held_elsewhere() -> Verdict:
    made = allowed(sets={SetId("s1"): c("14.99")})
    hold(made, "10", "0.5", token=yes(2))
    return judge(made, pair)


def one_set_in_one_breath() -> Verdict:
    other = plan(leg(yes(2)), leg(no(2)), name="b2")
    return judge(allowed(sets={SetId("s1"): c("19.99")}), pair, other)


def leg_of_another_bot() -> Verdict:
    return judge(allowed(instruments=frozenset({yes()})), pair)


def order_of_another_bot() -> Verdict:
    made = allowed()
    made.wish(pair)
    made.engine.risk.allowance = Allowance(instruments=frozenset({no()}))
    return judge(made, order())


def flatten_that_buys() -> Verdict:
    return judge(rig(), structs.replace(loose_sale(), side=BUY))


def flatten_beyond_what_is_held() -> Verdict:
    return judge(rig(), loose_sale())


def flatten_on_a_void_book() -> Verdict:
    made = rig()
    hold(made, "10", "0.5")
    made.say(ev.FeedDisconnected(connection="c", instruments=(yes(),), reason="gone"))
    return judge(made, loose_sale())


def answer(made: Rig) -> None:
    """Market 1 is resolved, and a late frame brings its books back."""
    payouts = ((yes(), p("1")), (no(), p("0")))
    made.say(ev.MarketResolved(market_id=market_id(), payouts=payouts))
    made.say(snapshot(yes(), at=NS), snapshot(no(), at=NS))


def flatten_in_a_resolved_market() -> Verdict:
    made = rig()
    hold(made, "10", "0.5")
    answer(made)
    return judge(made, loose_sale())


def bundle_in_a_resolved_market() -> Verdict:
    made = rig()
    answer(made)
    return judge(made, pair)


def loose_sale() -> OrderIntent:
    return structs.replace(order(side=SELL, purpose=Purpose.UNWIND), bundle_id=FLATTEN)


def wallet() -> Verdict:
    return judge(rig(max_wallet_exposure=c("9.99")), pair)


def wallet_with_a_modest_budget() -> Verdict:
    return judge(rig(max_wallet_exposure=c("9.99")), structs.replace(pair, budget=c("1")))


def wallet_in_one_breath() -> Verdict:
    other = plan(leg(yes(2)), leg(no(2)), name="b2")
    return judge(rig(max_wallet_exposure=c("19.99")), pair, other)


def turnover() -> Verdict:
    made = rig(max_day_turnover=c("14.99"))
    hold(made, "10", "0.5")
    return judge(made, pair)


def loss() -> Verdict:
    made = rig(max_day_loss=c("1"))
    hold(made, "10", "0.6")
    made.state.portfolio.fill(filled("old", "10", "0.5", trade="s", side=SELL, token=yes(), at=NOW))
    return judge(made, pair)


def bundle_cash() -> Verdict:
    return judge(rig("9.99"), pair)


def bundle_cash_reserved() -> Verdict:
    made = rig("19.99")
    made.wish(pair)
    return judge(made, structs.replace(pair, bundle_id=BundleId("b2")))


def order_cash() -> Verdict:
    made = rig("10")
    made.wish(pair)
    made.say(deposit("-6", "d2"))
    return judge(made, order())


def order_cash_in_one_breath() -> Verdict:
    made = rig("10")
    made.wish(pair)
    made.say(deposit("-1", "d2"))
    return judge(made, order(0), order(1, no()))


def order_cash_for_the_fee() -> Verdict:
    made = rig("10.25", rate="0.05")
    made.wish(pair)
    made.say(deposit("-5.13", "d2"))
    return judge(made, order(0))


def split_cash() -> Verdict:
    made = rig("10")
    made.wish(sold)
    made.say(deposit("-1", "d2"))
    return judge(made, operation(SPLIT, cash="-10"))


def unsettled_tokens() -> Verdict:
    made = rig()
    (sent,) = orders_of(made.wish(pair, order()))
    made.say(filled(sent, "10", "0.5"), canceled(sent))
    return judge(made, order(side=SELL, purpose=Purpose.UNWIND, price="0.40"))


def tokens_sold_twice() -> Verdict:
    made = rig()
    made.wish(pair)
    hold(made, "10", "0.5")
    half = order(side=SELL, purpose=Purpose.UNWIND, qty="6", price="0.40")
    return judge(made, half, half)


def tokens_burnt_twice() -> Verdict:
    made = rig()
    made.wish(pair)
    hold(made, "10", "0.5")
    hold(made, "10", "0.5", token=no())
    return judge(made, operation(MERGE), operation(REDEEM, name="redeem"))


def tokens_burnt_and_sold() -> Verdict:
    made = rig()
    made.wish(pair)
    hold(made, "10", "0.5")
    hold(made, "10", "0.5", token=no())
    return judge(made, operation(MERGE), order(side=SELL, purpose=Purpose.UNWIND, price="0.40"))


CASES: list[tuple[RefusalCode, Case]] = [
    (R.TRADING_HALTED, halted),
    (R.TRADING_REDUCING, reducing_bundle),
    (R.TRADING_REDUCING, reducing_buy),
    (R.TRADING_REDUCING, reducing_split),
    (R.INSTRUMENT_UNKNOWN, unknown_leg),
    (R.INSTRUMENT_UNKNOWN, unknown_order),
    (R.BUNDLE_UNKNOWN, unknown_bundle),
    (R.BUNDLE_UNKNOWN, closed_bundle),
    (R.BUNDLE_UNKNOWN, unknown_leg_index),
    (R.BUNDLE_UNKNOWN, operation_of_no_bundle),
    (R.BUNDLE_INCOMPLETE, incomplete),
    (R.LEG_EXCEEDED, after_pair(order(0, no()))),
    (R.LEG_EXCEEDED, after_pair(order(price="0.51"))),
    (R.LEG_EXCEEDED, after_pair(order(qty="10.01"))),
    (R.LEG_EXCEEDED, after_pair(order(side=SELL))),
    (R.LEG_EXCEEDED, after_pair(order(purpose=Purpose.UNWIND))),
    (R.LEG_EXCEEDED, exceeded_over_time),
    (R.LEG_EXCEEDED, exceeded_in_flight),
    (R.LEG_EXCEEDED, exceeded_in_one_breath),
    (R.LEG_EXCEEDED, sold_too_cheaply),
    (R.LEG_EXCEEDED, split_beyond_the_plan),
    (R.LEG_EXCEEDED, split_without_a_plan),
    (R.LEG_EXCEEDED, split_twice),
    (R.LEG_EXCEEDED, split_twice_in_one_breath),
    (R.LEG_EXCEEDED, paying_redemption),
    (R.PRICE_OFF_TICK, after_pair(order(price="0.495"))),
    (R.PRICE_OFF_TICK, after_pair(order(price="0"))),
    (R.QTY_OFF_LOT, after_pair(order(qty="5.005"))),
    (R.QTY_OFF_LOT, after_pair(order(qty="0"))),
    (R.QTY_OFF_LOT, after_pair(order(qty="-5"))),
    (R.QTY_BELOW_MINIMUM, after_pair(order(qty="4.99"))),
    (R.NOTIONAL_BELOW_MINIMUM, after_pair(order(qty="5", price="0.19"))),
    (R.BOOK_NOT_READY, void_book),
    (R.BOOK_NOT_READY, crossed_book),
    (R.BOOK_STALE, stale_book),
    (R.ORDER_UNRESOLVED, unresolved),
    (R.ORDERS_IN_FLIGHT_REACHED, too_many_orders),
    (R.ORDERS_IN_FLIGHT_REACHED, too_many_in_one_breath),
    (R.ORDER_NOTIONAL_REACHED, large_leg),
    (R.ORDER_NOTIONAL_REACHED, large_order),
    (R.MARKET_EXPOSURE_REACHED, one_market),
    (R.MARKET_EXPOSURE_REACHED, one_market_held),
    (R.MARKET_EXPOSURE_REACHED, one_market_reserved),
    (R.MARKET_EXPOSURE_REACHED, one_market_in_one_breath),
    (R.MARKET_EXPOSURE_REACHED, one_market_split),
    (R.MARKET_EXPOSURE_REACHED, one_market_closed_too_early),
    (R.MARKET_EXPOSURE_REACHED, one_market_split_closed_too_early),
    (R.WALLET_EXPOSURE_REACHED, wallet),
    (R.WALLET_EXPOSURE_REACHED, wallet_with_a_modest_budget),
    (R.WALLET_EXPOSURE_REACHED, wallet_in_one_breath),
    (R.DAY_TURNOVER_REACHED, turnover),
    (R.FLEET_EXPOSURE_REACHED, fleet_says_stop),
    (R.WALLET_EXPOSURE_REACHED, fleet_on_this_wallet),
    (R.DAY_TURNOVER_REACHED, fleet_today),
    (R.DAY_TURNOVER_REACHED, fleet_of_yesterday),
    (R.MARKET_EXPOSURE_REACHED, fleet_in_one_market),
    (R.MARKET_EXPOSURE_REACHED, fleet_in_an_unnamed_market),
    (R.SET_EXPOSURE_REACHED, one_set),
    (R.SET_EXPOSURE_REACHED, one_set_held_elsewhere),
    (R.SET_EXPOSURE_REACHED, one_set_in_one_breath),
    (R.INSTRUMENT_UNCLAIMED, leg_of_another_bot),
    (R.INSTRUMENT_UNCLAIMED, order_of_another_bot),
    (R.LEG_EXCEEDED, flatten_that_buys),
    (R.POSITION_INSUFFICIENT, flatten_beyond_what_is_held),
    (R.BOOK_NOT_READY, flatten_on_a_void_book),
    (R.MARKET_RESOLVED, flatten_in_a_resolved_market),
    (R.MARKET_RESOLVED, bundle_in_a_resolved_market),
    (R.DAY_LOSS_REACHED, loss),
    (R.CASH_INSUFFICIENT, bundle_cash),
    (R.CASH_INSUFFICIENT, bundle_cash_reserved),
    (R.CASH_INSUFFICIENT, order_cash),
    (R.CASH_INSUFFICIENT, order_cash_in_one_breath),
    (R.CASH_INSUFFICIENT, order_cash_for_the_fee),
    (R.CASH_INSUFFICIENT, split_cash),
    (R.POSITION_INSUFFICIENT, unsettled_tokens),
    (R.POSITION_INSUFFICIENT, tokens_sold_twice),
    (R.POSITION_INSUFFICIENT, tokens_burnt_twice),
    (R.POSITION_INSUFFICIENT, tokens_burnt_and_sold),
]


@pytest.mark.parametrize(
    ("code", "case"), CASES, ids=[f"{n}-{code.value}" for n, (code, _) in enumerate(CASES)]
)
def test_each_rule_refuses_its_case(code: RefusalCode, case: Case) -> None:
    assert code in codes(case())


def test_every_code_has_a_case_and_a_meaning() -> None:
    assert {code for code, _ in CASES} == set(RefusalCode)
    assert set(REFUSAL_MEANING) == set(RefusalCode)


# --- what passes ------------------------------------------------------------------------------


def test_a_bundle_and_its_orders_pass_together() -> None:
    verdict = judge(rig(), pair, order(0), order(1, no()))
    assert (verdict.opened, verdict.orders) == ([pair], [order(0), order(1, no())])
    assert not (verdict.operations or verdict.closed or verdict.refused)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_market_exposure": c("10")},
        {"max_wallet_exposure": c("10")},
        {"max_order_notional": c("5")},
        {"max_day_turnover": c("10")},
        {"max_orders_in_flight": 2},
        {"stale_ns": 0},
    ],
)
def test_a_limit_is_reached_only_beyond_it(limits: dict[str, Any]) -> None:
    verdict = judge(rig("10", **limits), pair, order(0), order(1, no()))
    assert verdict.refused == []
    assert len(verdict.orders) == 2


def test_what_the_fleet_allows_may_be_used_to_the_last_cent() -> None:
    ten = c("10")
    made = allowed(
        fleet=ten, wallet=ten, turnover=ten, markets={market_id(1): ten}, sets={SetId("s1"): ten}
    )
    assert judge(made, pair, order(0), order(1, no())).refused == []


def test_a_market_in_no_set_has_no_limit_of_a_set() -> None:
    assert judge(allowed(set_of={}, sets={}), pair).refused == []


def test_flatten_sells_and_merges_what_no_bundle_works_while_reducing() -> None:
    made = rig()
    hold(made, "10", "0.5")
    hold(made, "10", "0.5", token=no())
    made.say(trading(REDUCING))
    merge = structs.replace(operation(), bundle_id=FLATTEN)
    assert judge(made, merge).operations == [merge]
    assert judge(made, loose_sale()).orders == [loose_sale()]
    assert codes(judge(made, merge, loose_sale())) == [R.POSITION_INSUFFICIENT]


def test_exposure_by_market_counts_positions_bundles_and_what_is_loose() -> None:
    made = rig()
    hold(made, "10", "0.5", token=yes(2))
    made.wish(pair, order())
    assert exposure_by_market(made.state) == {market_id(1): c("10"), market_id(2): c("5")}
    made.wish(CloseBundle(bundle_id=BundleId("b1"), outcome="MISSED"))
    assert exposure_by_market(made.state) == {market_id(1): c("5"), market_id(2): c("5")}
    made.wish(
        structs.replace(sold, bundle_id=BundleId("b2")), operation(SPLIT, cash="-10", name="b2")
    )
    made.wish(CloseBundle(bundle_id=BundleId("b2"), outcome="NOT_STARTED"))
    assert exposure_by_market(made.state) == {market_id(1): c("15"), market_id(2): c("5")}


def test_a_loss_of_yesterday_does_not_stop_today() -> None:
    made = rig(max_day_loss=c("1"))
    hold(made, "10", "0.6")
    event = filled("old", "10", "0.5", trade="s", side=SELL, token=yes(), at=NOW)
    made.state.portfolio.fill(event)
    made.say(snapshot(yes(), at=NOW + DAY))
    assert judge(made, pair).refused == []


def test_the_whole_bundle_falls_with_one_order() -> None:
    made = rig()
    bad = order(1, no(), price="0.51")
    verdict = judge(made, pair, order(0), bad)
    assert (verdict.opened, verdict.orders, verdict.operations) == ([], [], [])
    assert codes(verdict) == [R.LEG_EXCEEDED, R.BUNDLE_INCOMPLETE, R.BUNDLE_INCOMPLETE]
    assert [refused.subject for refused in verdict.refused] == [
        describe(bad),
        describe(pair),
        describe(order(0)),
    ]
    assert verdict.refused[1].detail == f"{describe(bad)}: LEG_EXCEEDED"


def test_one_bundle_does_not_fall_with_another() -> None:
    made = rig()
    other = plan(leg(yes(2)), leg(no(2)), name="b2")
    verdict = judge(made, pair, order(price="0.51"), other, order(0, yes(2), name="b2"))
    assert verdict.opened == [other]
    assert [intent.bundle_id for intent in verdict.orders] == ["b2"]


def test_an_order_of_an_open_bundle_falls_alone() -> None:
    made = rig()
    made.wish(pair)
    verdict = judge(made, order(price="0.51"), order(1, no()))
    assert codes(verdict) == [R.LEG_EXCEEDED]
    assert verdict.orders == [order(1, no())]


def test_closing_always_passes() -> None:
    made = rig()
    made.say(trading(ev.TradingState.HALTED))
    close = CloseBundle(bundle_id=BundleId("b1"), outcome="MISSED")
    assert judge(made, close) == Verdict(closed=[close])


def test_reducing_lets_sales_and_merges_pass() -> None:
    made = rig()
    made.wish(pair)
    hold(made, "20", "0.5")
    hold(made, "10", "0.5", token=no())
    made.say(trading(REDUCING))
    sale = order(side=SELL, purpose=Purpose.UNWIND, price="0.40")
    verdict = judge(made, sale, operation(MERGE))
    assert verdict == Verdict(orders=[sale], operations=[operation(MERGE)])


def test_a_rejected_split_may_be_tried_again() -> None:
    made = rig()
    (sent,) = operations_of(made.wish(sold, operation(SPLIT, cash="-10")))
    made.say(ev.OperationRejected(operation_id=sent.operation_id, reason="reverted"))
    again = operation(SPLIT, cash="-10")
    assert judge(made, again) == Verdict(operations=[again])


def test_a_redemption_needs_no_bundle_but_free_tokens() -> None:
    made = rig()
    redeem = operation(REDEEM, name="redeem")
    assert codes(judge(made, redeem)) == [R.POSITION_INSUFFICIENT]
    hold(made, "10", "0.5")
    hold(made, "10", "0.5", token=no())
    assert judge(made, redeem) == Verdict(operations=[redeem])


def test_a_merge_passes_when_cash_is_gone() -> None:
    made = rig()
    made.wish(pair)
    hold(made, "10", "0.5")
    hold(made, "10", "0.5", token=no())
    made.say(deposit("-2000", "d2"))
    assert made.state.portfolio.cash < 0
    assert judge(made, operation(MERGE)).refused == []


def test_a_split_plan_is_free_of_its_reserve_once_split() -> None:
    made = rig("20", max_wallet_exposure=c("20"))
    (sent,) = operations_of(made.wish(sold, operation(SPLIT, cash="-10")))
    assert wallet_exposure(made.state) == c("10")
    assert free_cash(made.state) == c("10")
    made.say(confirmed(sent))
    assert (reserved_budget(made.state), wallet_exposure(made.state)) == (0, c("10"))
    assert market_exposure(market_id(), made.state) == c("10")
    other = plan(leg(yes(2)), leg(no(2)), name="b2")
    assert judge(made, other).refused == []


# --- exposure ---------------------------------------------------------------------------------


def test_exposure_moves_from_reserve_to_cost_without_a_jump() -> None:
    made = rig(rate="0.05")
    (sent,) = orders_of(made.wish(structs.replace(pair, budget=c("10.25")), order()))
    seen = [wallet_exposure(made.state)]
    made.say(filled(sent, "4", "0.5", fee="0.05"))
    seen.append(wallet_exposure(made.state))
    made.say(filled(sent, "6", "0.5", fee="0.075", trade="t2"))
    seen.append(wallet_exposure(made.state))
    assert seen == [c("10.25")] * 3
    assert market_exposure(market_id(), made.state) == c("10.25")
    assert market_exposure(market_id(2), made.state) == 0
    assert free_cash(made.state) == c("994.875")


def test_a_plan_costs_at_least_its_legs_with_fees() -> None:
    state = State(universe(1, rate="0.05"))
    assert plan_cost(pair, state) == c("10.25")
    assert plan_cost(structs.replace(pair, budget=c("11")), state) == c("11")
    assert plan_cost(sold, state) == c("10")


def test_orders_and_splits_outlive_their_bundle() -> None:
    made = rig()
    made.wish(pair, order(), order(1, no()))
    made.wish(CloseBundle(bundle_id=BundleId("b1"), outcome="MISSED"))
    assert reserved_budget(made.state) == wallet_exposure(made.state) == c("10")
    assert market_exposure(market_id(), made.state) == c("10")


def test_free_tokens_leave_out_what_is_claimed() -> None:
    made = rig()
    made.wish(pair)
    hold(made, "30", "0.5")
    hold(made, "30", "0.5", token=no())
    made.wish(order(side=SELL, purpose=Purpose.UNWIND, price="0.40"))
    made.wish(operation(MERGE, "5", "5"))
    assert free_tokens(yes(), made.state) == q("15")
    assert free_tokens(no(), made.state) == q("25")
    assert free_tokens(yes(2), made.state) == 0


def test_what_is_no_longer_listed_counts_nothing() -> None:
    made = rig()
    made.wish(pair, order())
    state = made.state
    state.universe = universe(0)
    assert reserved_budget(state) == pair.budget
    assert free_cash(state) == c("1000")
    assert plan_cost(pair, state) == pair.budget


def test_intents_are_described_for_a_person() -> None:
    assert describe(pair) == "TEST m1 budget 10.00"
    assert describe(order()) == "LEG 0 BUY 10 @ 0.5 y1"
    assert describe(operation()) == "MERGE m1"
    assert describe(CloseBundle(bundle_id=BundleId("b"), outcome="HELD")) == "close HELD"


def test_limits_have_defaults_that_allow_trading() -> None:
    limits = RiskLimits()
    assert 0 < limits.max_order_notional <= limits.max_market_exposure
    assert limits.max_market_exposure <= limits.max_wallet_exposure
