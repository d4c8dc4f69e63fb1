"""The order desk: many sources, one story. And a venue's trade as the fills it is for us."""

from typing import Any

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, TimeInForce
from fleet.domain.events import SettlementStatus, TradeId, VenueOrderId
from fleet.domain.instruments import FeeSchedule, InstrumentId, MarketId, Side
from fleet.venues.polymarket.live_fills import Ours, cash_of, fills_of, taker_fees, venue_trade_id
from fleet.venues.polymarket.live_orders import (
    ABSENT,
    ANSWERED_NS,
    CANCEL_AGAIN_NS,
    REST_KILLED,
    SECOND_LOOK_NS,
    SILENT_NS,
    VANISHED,
    OrderDesk,
)
from fleet.venues.polymarket.outcomes import Outcome, Verdict
from fleet.venues.polymarket.tracked_order import Phase
from fleet.venues.polymarket.wire_user import MakerFill, UserOrder, UserTrade
from tests.builders import NS, p, q

YES, NO, MARKET = InstrumentId("11"), InstrumentId("22"), MarketId("0xm")
A, B = ClientOrderId("a"), ClientOrderId("b")
VA, VB = VenueOrderId("0xaaaaaaaaaaaaaaaaaaaaaaaa"), VenueOrderId("0xbbbbbbbbbbbbbbbbbbbbbbbb")
RATE = FeeSchedule(rate=4_000_000)


def ours(
    client: ClientOrderId = A,
    venue: VenueOrderId = VA,
    *,
    side: Side = Side.BUY,
    tif: TimeInForce = TimeInForce.FAK,
    price: str = "0.52",
    qty: str = "10",
    token: InstrumentId = YES,
) -> Ours:
    return Ours(
        client_order_id=client, venue_order_id=venue, instrument_id=token, side=side,
        price=p(price), qty=q(qty), tif=tif, submitted_ns=NS,
    )  # fmt: skip


def seen(
    venue: VenueOrderId = VA, matched: str = "0", action: Any = "UPDATE", status: str = "LIVE",
    trades: tuple[str, ...] = (),
) -> UserOrder:  # fmt: skip
    return UserOrder(
        ts_event=NS, ts_recv=NS, order_id=venue, market_id=MARKET, instrument_id=YES,
        side=Side.BUY, price=p("0.52"), original_qty=q("10"), matched_qty=q(matched),
        action=action, status=status, order_type="GTC",
        trade_ids=tuple(TradeId(t) for t in trades),
    )  # fmt: skip


def maker(
    qty: str, price: str, venue: str = "0xflow", token: InstrumentId = YES, side: Side = Side.SELL
) -> MakerFill:
    return MakerFill(order_id=VenueOrderId(venue), instrument_id=token, side=side, price=p(price),
                     qty=q(qty))  # fmt: skip


def trade(
    *makers: MakerFill,
    taker: VenueOrderId = VA,
    qty: str = "10",
    price: str = "0.52",
    status: SettlementStatus = SettlementStatus.MATCHED,
    name: str = "t1",
    side: Side = Side.BUY,
) -> UserTrade:
    return UserTrade(
        ts_event=2 * NS, ts_recv=2 * NS, trade_id=TradeId(name), taker_order_id=taker,
        market_id=MARKET, instrument_id=YES, side=side, price=p(price), qty=q(qty), status=status,
        trader_side="TAKER", maker_fills=makers, transaction_hash="",
    )  # fmt: skip


def desk(*orders: Ours) -> OrderDesk:
    made = OrderDesk(lambda _token: RATE)
    for order in orders or (ours(),):
        made.sent(order)
    return made


def kinds(made: OrderDesk) -> list[str]:
    return [fact.KIND for fact in made.take()]


def accepted(status: str = "live", matched: str = "0", *trades: str) -> Outcome:
    return Outcome(verdict=Verdict.ACCEPTED, status=status, matched_qty=q(matched),
                   trade_ids=tuple(TradeId(t) for t in trades))  # fmt: skip


LOST = Outcome(verdict=Verdict.UNKNOWN, reason="silence", silent=True)
ODD = Outcome(verdict=Verdict.UNKNOWN, reason="HTTP 500")


# --- fills ------------------------------------------------------------------------------------


def test_a_taker_pays_each_makers_own_price_and_a_cross_match_the_rest_of_a_dollar() -> None:
    row = trade(maker("4", "0.50", "0x1"), maker("6", "0.49", "0x2", NO, Side.BUY), price="0.506")
    fills = fills_of(row, {VA: ours()}, lambda _token: RATE)
    assert [(f.price, f.qty, f.instrument_id, f.side) for f in fills] == [
        (p("0.50"), q("4"), YES, Side.BUY), (p("0.51"), q("6"), YES, Side.BUY),
    ]  # fmt: skip
    assert len({f.trade_id for f in fills}) == 2
    assert {venue_trade_id(f.trade_id) for f in fills} == {"t1"}
    # 4 x .04 x .25 + 6 x .04 x .2499 = 0.099976 -> 0.09998
    assert sum(f.fee for f in fills) == 9_998_000


def test_entries_that_do_not_add_up_leave_the_row_as_one_fill_at_its_mean() -> None:
    (fill,) = fills_of(trade(maker("4", "0.50"), price="0.51"), {VA: ours()}, lambda _t: RATE)
    assert (fill.price, fill.qty) == (p("0.51"), q("10"))


def test_two_parts_of_one_maker_are_one_fill_whatever_their_order() -> None:
    parts = [maker("4", "0.50", "0x1"), maker("5", "0.51", "0x2"), maker("1", "0.50", "0x1")]
    one = fills_of(trade(*parts), {VA: ours()}, lambda _t: RATE)
    other = fills_of(trade(*reversed(parts)), {VA: ours()}, lambda _t: RATE)
    assert {(f.trade_id, f.qty) for f in one} == {(f.trade_id, f.qty) for f in other}
    assert sorted(f.qty for f in one) == [q("5"), q("5")]


def test_a_maker_finds_its_fill_by_order_id_on_the_other_token_and_pays_no_fee() -> None:
    own = ours(B, VB, side=Side.BUY, token=NO, tif=TimeInForce.GTC, price="0.48")
    row = trade(maker("10", "0.48", VB, NO, Side.BUY), taker=VenueOrderId("0xsomeone"))
    (fill,) = fills_of(row, {VB: own}, lambda _t: RATE)
    assert (fill.client_order_id, fill.instrument_id, fill.side) == (B, NO, Side.BUY)
    assert (fill.price, fill.fee, fill.maker) == (p("0.48"), 0, True)


def test_a_trade_between_two_of_our_own_orders_is_two_fills() -> None:
    resting = ours(B, VB, side=Side.SELL, tif=TimeInForce.GTC)
    row = trade(maker("10", "0.52", VB))
    fills = fills_of(row, {VA: ours(), VB: resting}, lambda _t: RATE)
    assert {(f.client_order_id, f.side) for f in fills} == {(A, Side.BUY), (B, Side.SELL)}
    assert len({f.trade_id for f in fills}) == 2
    assert sum(cash_of(f) for f in fills) == -sum(f.fee for f in fills) < 0


def test_the_fees_of_the_parts_add_up_to_the_fee_of_the_whole_rounded_once() -> None:
    parts = [(p("0.013"), q("1.37")), (p("0.017"), q("0.4")), (p("0.5"), q("0.0001"))]
    exact = sum(qty * RATE.rate * price * (10**8 - price) for price, qty in parts)
    whole = (exact + 10**27 // 2) // 10**27 * 1_000
    assert sum(taker_fees(RATE, parts)) == whole == 97_000


def test_a_fee_below_half_a_step_is_nothing() -> None:
    assert taker_fees(RATE, [(p("0.5"), q("0.0004"))]) == [0]
    assert taker_fees(FeeSchedule(), [(p("0.5"), q("100"))]) == [0]


# --- one order, many sources ------------------------------------------------------------------


def test_a_fak_buy_made_by_hand_ends_after_its_fills() -> None:
    made = desk()
    made.answered(A, accepted("matched", "4", "t1"), 3 * NS)
    assert kinds(made) == ["OrderAccepted"]
    (due,) = made.due_cancels(3 * NS)
    assert due.ours.venue_order_id == VA
    assert made.due_cancels(3 * NS) == []
    made.canceled(VA, 4 * NS)
    assert kinds(made) == []  # The fill is missing: not yet.
    made.order_seen(seen(matched="4", action="CANCELLATION", status="CANCELED", trades=("t1",)),
                    4 * NS)  # fmt: skip
    assert kinds(made) == []
    made.trade_seen(trade(maker("4", "0.52"), qty="4"), 5 * NS)
    fill, canceled = made.take()
    assert isinstance(fill, ev.OrderFilled)
    assert isinstance(canceled, ev.OrderCanceled)
    assert canceled.reason == REST_KILLED
    assert not made.urgent


def test_a_bare_cancel_is_believed_only_after_two_calm_looks() -> None:
    made = desk()
    made.answered(A, accepted(), 3 * NS)
    made.canceled(VA, 4 * NS)
    made.surveyed({}, 5 * NS, 5 * NS)
    made.surveyed({}, 5 * NS + SECOND_LOOK_NS - 1, 6 * NS)
    assert kinds(made) == ["OrderAccepted"]
    made.surveyed({}, 5 * NS + SECOND_LOOK_NS, 6 * NS)
    assert kinds(made) == ["OrderCanceled"]


def test_a_wholly_matched_order_needs_no_cancel_and_no_end() -> None:
    made = desk()
    made.answered(A, accepted("matched", "10", "t1"), 3 * NS)
    assert made.due_cancels(9 * NS) == []
    made.trade_seen(trade(maker("10", "0.52")), 4 * NS)
    assert kinds(made) == ["OrderAccepted", "OrderFilled"]
    tracked = made.get(A)
    assert tracked is not None
    assert tracked.phase is Phase.CLOSED


def test_a_fak_sell_is_over_with_its_answer() -> None:
    made = desk(ours(side=Side.SELL))
    made.answered(A, accepted("matched", "4", "t1"), 3 * NS)
    assert made.due_cancels(9 * NS) == []
    made.trade_seen(trade(maker("4", "0.52", side=Side.BUY), qty="4", side=Side.SELL), 4 * NS)
    assert kinds(made) == ["OrderAccepted", "OrderFilled", "OrderCanceled"]


def test_a_delayed_fak_sell_is_over_when_it_is_matched_and_a_buy_made_by_hand_is_not() -> None:
    made = desk(ours(side=Side.SELL), ours(B, VB))
    for order, venue in ((A, VA), (B, VB)):
        made.answered(order, accepted("delayed"), 3 * NS)
        made.order_seen(seen(venue, matched="4", status="MATCHED"), 4 * NS)
    sold, bought = made.get(A), made.get(B)
    assert sold is not None
    assert bought is not None
    assert (sold.phase, bought.phase) == (Phase.ENDING, Phase.WORKING)
    made.trade_seen(trade(maker("4", "0.52", side=Side.BUY), qty="4", side=Side.SELL), 4 * NS)
    assert sold.phase is Phase.CLOSED


def test_the_same_news_from_every_source_is_told_once() -> None:
    made = desk()
    for _ in range(2):
        made.trade_seen(trade(maker("10", "0.52")), 3 * NS)
        made.order_seen(seen(matched="10", status="MATCHED", trades=("t1",)), 3 * NS)
        made.answered(A, accepted("matched", "10", "t1"), 4 * NS)
        made.surveyed({}, 5 * NS, 5 * NS)
    assert kinds(made) == ["OrderAccepted", "OrderFilled"]


def test_settlement_climbs_once_and_never_back() -> None:
    made = desk()
    S = SettlementStatus  # noqa: N806
    for status in (S.RETRYING, S.MINED, S.RETRYING, S.MATCHED, S.MINED, S.CONFIRMED, S.FAILED):
        made.trade_seen(trade(maker("10", "0.52"), status=status), 3 * NS)
    told = [f.status for f in made.take() if isinstance(f, ev.FillSettled)]
    assert told == [S.RETRYING, S.MINED, S.CONFIRMED]
    assert not made.busy


def test_a_trade_that_failed_before_it_was_seen_is_a_fill_and_its_reversal() -> None:
    made = desk()
    made.trade_seen(trade(maker("10", "0.52"), status=SettlementStatus.FAILED), 3 * NS)
    assert kinds(made) == ["OrderAccepted", "OrderFilled", "FillSettled"]


def test_a_stranger_is_counted_and_nothing_else() -> None:
    made = desk()
    assert not made.trade_seen(trade(maker("1", "0.5"), taker=VenueOrderId("0xother")), NS)
    assert made.unknown_trades == 1
    assert kinds(made) == []


# --- silence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "wait_ns"), [(LOST, SILENT_NS), (ODD, ANSWERED_NS)], ids=["silent", "answered"]
)
def test_absence_takes_time_and_two_looks(outcome: Outcome, wait_ns: int) -> None:
    made = desk()
    made.answered(A, outcome, 3 * NS)
    assert kinds(made) == ["SubmitUnknown"]
    first = 3 * NS + wait_ns
    made.surveyed({}, first - 1, first)
    made.surveyed({}, first, first)
    made.surveyed({}, first + SECOND_LOOK_NS - 1, first + 2 * NS)
    assert kinds(made) == []
    made.surveyed({}, first + SECOND_LOOK_NS, first + 2 * NS)
    (fact,) = made.take()
    assert isinstance(fact, ev.OrderRejected)
    assert fact.reason == ABSENT


def test_a_lost_order_that_is_found_is_adopted_and_the_count_begins_again() -> None:
    made = desk()
    made.answered(A, LOST, 3 * NS)
    made.take()
    assert [t.ours.client_order_id for t in made.due_cancels(3 * NS)] == [A]  # At once.
    made.cancel_refused(VA, "order not found", 3 * NS)
    made.surveyed({}, 3 * NS + SILENT_NS, 3 * NS + SILENT_NS)
    late = 3 * NS + SILENT_NS + SECOND_LOOK_NS
    made.surveyed({VA: seen(matched="0")}, late, late)
    assert kinds(made) == ["OrderAccepted"]
    assert [t.ours.client_order_id for t in made.due_cancels(late)] == [A]  # It rests: cancel it.


def test_what_was_sent_after_a_look_began_is_not_judged_by_it() -> None:
    made = desk()
    made.surveyed({}, 10 * NS, 10 * NS)
    assert kinds(made) == []
    made.answered(A, accepted(), 11 * NS)
    assert kinds(made) == ["OrderAccepted"]


def test_a_look_that_began_before_the_acceptance_proves_no_absence() -> None:
    """Chaos seed 188: such a look ended a delayed order, which then rested for ever."""
    made = desk()
    made.answered(A, accepted("delayed"), 11 * NS)
    made.surveyed({}, 10 * NS, 12 * NS)
    assert kinds(made) == ["OrderAccepted"]
    made.surveyed({VA: seen()}, 13 * NS, 13 * NS)
    assert [t.ours.client_order_id for t in made.due_cancels(14 * NS)] == [A]


def test_an_order_that_was_missed_once_and_is_listed_again_is_still_cancelled() -> None:
    made = desk()
    made.answered(A, accepted("delayed"), 3 * NS)
    made.surveyed({}, 5 * NS, 5 * NS)
    made.surveyed({VA: seen()}, 6 * NS, 6 * NS)
    assert [t.ours.client_order_id for t in made.due_cancels(7 * NS)] == [A]
    made.surveyed({}, 8 * NS, 8 * NS)
    assert kinds(made) == ["OrderAccepted"], "the looks before it was there do not count"


def test_a_fill_of_a_lost_order_proves_it() -> None:
    made = desk()
    made.answered(A, LOST, 3 * NS)
    made.trade_seen(trade(maker("4", "0.52"), qty="4"), 4 * NS)
    assert kinds(made) == ["SubmitUnknown", "OrderAccepted", "OrderFilled"]
    made.surveyed({}, 40 * NS, 40 * NS)
    made.surveyed({}, 42 * NS, 42 * NS)
    (fact,) = made.take()
    assert isinstance(fact, ev.OrderCanceled)
    assert fact.reason == VANISHED


def test_a_late_rejection_of_what_was_seen_is_no_rejection() -> None:
    made = desk()
    made.order_seen(seen(), 3 * NS)
    made.answered(A, Outcome(verdict=Verdict.REJECTED, reason="no"), 4 * NS)
    assert kinds(made) == ["OrderAccepted"]


def test_a_duplicate_is_the_order_itself() -> None:
    made = desk(ours(tif=TimeInForce.GTC))
    made.answered(A, Outcome(verdict=Verdict.DUPLICATE, reason="Duplicated."), 4 * NS)
    assert kinds(made) == ["OrderAccepted"]
    assert made.urgent  # Whether it rests, only a look can tell.


# --- cancels ----------------------------------------------------------------------------------


def test_a_delayed_order_is_asked_again_until_it_can_be_cancelled() -> None:
    made = desk()
    made.answered(A, accepted("delayed"), 3 * NS)
    assert made.due_cancels(3 * NS)
    words = "cannot cancel because the order is in pending/delayed status"
    made.cancel_refused(VA, words, 3 * NS)
    assert made.due_cancels(3 * NS) == []
    assert made.due_cancels(3 * NS + CANCEL_AGAIN_NS)


def test_a_cancel_that_had_no_answer_is_asked_again() -> None:
    made = desk(ours(tif=TimeInForce.GTC))
    made.answered(A, accepted(), 3 * NS)
    made.ask_cancel(A, 4 * NS)
    assert made.due_cancels(4 * NS)
    made.cancel_lost(VA, 4 * NS)
    assert made.due_cancels(5 * NS)


def test_a_refused_cancel_of_an_order_that_still_rests_is_told() -> None:
    made = desk(ours(tif=TimeInForce.GTC))
    made.answered(A, accepted(), 3 * NS)
    made.ask_cancel(A, 4 * NS)
    made.due_cancels(4 * NS)
    made.cancel_refused(VA, "the order is already canceled or matched", 4 * NS)
    made.take()
    made.surveyed({VA: seen()}, 5 * NS, 5 * NS)
    assert kinds(made) == ["CancelRejected"]


def test_cancelling_what_is_over_is_refused() -> None:
    made = desk()
    made.ask_cancel(ClientOrderId("nobody"), NS)
    made.answered(A, Outcome(verdict=Verdict.REJECTED, reason="no"), 2 * NS)
    made.ask_cancel(A, 3 * NS)
    assert kinds(made) == ["CancelRejected", "OrderRejected", "CancelRejected"]


def test_the_venues_own_cancel_names_its_reason_and_an_expiry_is_one() -> None:
    made = desk(ours(tif=TimeInForce.GTC), ours(B, VB, tif=TimeInForce.GTC))
    made.order_seen(seen(VA, action="CANCELLATION", status="CANCELED_MARKET_RESOLVED"), NS)
    made.order_seen(seen(VB, action="CANCELLATION", status="CANCELED_EXPIRED_ORDER"), NS)
    facts = made.take()
    assert [f.KIND for f in facts] == ["OrderAccepted", "OrderCanceled", "OrderAccepted",
                                       "OrderExpired"]  # fmt: skip
    assert isinstance(facts[1], ev.OrderCanceled)
    assert facts[1].reason == "CANCELED_MARKET_RESOLVED"


# --- restarts ---------------------------------------------------------------------------------


def test_an_order_of_an_earlier_run_is_looked_for_and_its_rest_cancelled() -> None:
    made = OrderDesk(lambda _token: RATE)
    made.resume(ours(), accepted=False, is_open=True)
    assert made.urgent
    assert made.due_cancels(NS)
    made.surveyed({VA: seen(matched="4", trades=("t1",))}, 2 * NS, 2 * NS)
    made.trade_seen(trade(maker("4", "0.52"), qty="4"), 2 * NS)
    assert kinds(made) == ["OrderAccepted", "OrderFilled"]
    assert made.due_cancels(2 * NS)


def test_a_closed_order_of_an_earlier_run_still_owns_its_trades() -> None:
    made = OrderDesk(lambda _token: RATE)
    made.resume(ours(), accepted=True, is_open=False)
    made.trade_seen(trade(maker("4", "0.52"), qty="4", status=SettlementStatus.MINED), 2 * NS)
    assert kinds(made) == ["OrderFilled", "FillSettled"]
    assert made.busy
    assert made.oldest_ns(9 * NS) == 2 * NS
