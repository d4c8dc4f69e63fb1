"""One entry, one order of things: fold, ask, judge, record, command."""

from collections.abc import Sequence

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import (
    BundleId,
    CancelOrder,
    ClientOrderId,
    CloseBundle,
    OperationIntent,
    OperationKind,
    RefusalCode,
    StartTimer,
    TimeInForce,
)
from fleet.domain.events import DURABLE, DecisionMade, Event, TradingState, VenueOrderId
from fleet.domain.instruments import Side
from fleet.engine.engine import Engine
from fleet.engine.orders import OrderStatus
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import EMPTY_UNIVERSE, State, fold
from fleet.engine.view import View
from tests.builders import (
    FAILED,
    MINED,
    NS,
    Rig,
    Scripted,
    c,
    canceled,
    changed,
    confirmed,
    deposit,
    durable,
    filled,
    leg,
    no,
    operated,
    operations_of,
    order,
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

ACTIVE, REDUCING, HALTED = TradingState.ACTIVE, TradingState.REDUCING, TradingState.HALTED
O1 = ClientOrderId("o1")
pair = plan(leg(yes(), "10", "0.50"), leg(no(), "10", "0.50"))
GTC = TimeInForce.GTC


def rig(count: int = 1) -> Rig:
    made = Rig(universe(count))
    made.open_market()
    return made


class Broken:
    """A journal that can be broken and mended."""

    def __init__(self) -> None:
        self.broken = False
        self.written: list[Event] = []

    def write(self, events: Sequence[Event]) -> int:
        if self.broken:
            raise OSError(28, "No space left on device")
        self.written.extend(events)
        return len(self.written)


def accepted(name: str = "o1") -> ev.OrderAccepted:
    return ev.OrderAccepted(
        client_order_id=ClientOrderId(name), venue_order_id=VenueOrderId(f"v-{name}")
    )


# --- the way of a decision --------------------------------------------------------------------


def test_trading_starts_halted_and_wishes_are_dropped() -> None:
    made = Rig(universe())
    made.say(deposit("100"), snapshot(yes(), at=NS), snapshot(no(), at=NS))
    assert made.state.trading is HALTED
    timer = StartTimer(name="t", at_ns=5)
    assert made.wish(pair, order(), timer) == [timer]
    assert made.engine.dropped_intents == 2
    assert [e.KIND for e in made.entries] == ["CashDeposited"]


def test_a_decision_is_recorded_whole_and_then_commanded() -> None:
    made = rig()
    timer = StartTimer(name="t", at_ns=5)
    commands = made.wish(pair, order(), order(1, no()), timer, event=snapshot(yes(), at=2 * NS))
    assert commands[0] is timer
    first, second = orders_of(commands)
    assert (first.client_order_id, second.client_order_id) == ("o1", "o2")
    assert (first.ts, first.tif, first.price, first.qty) == (
        2 * NS, TimeInForce.FAK, p("0.5"), q("10"),
    )  # fmt: skip
    decision = made.entries[-1]
    assert isinstance(decision, DecisionMade)
    assert (decision.decision, decision.opened, decision.orders) == (1, (pair,), (first, second))
    assert (decision.ts_event, decision.ts_recv) == (2 * NS, 2 * NS)
    assert decision.quotes[0] == ev.QuoteSeen(
        instrument_id=yes(),
        bid=p("0.48"),
        bid_qty=q("100"),
        ask=p("0.52"),
        ask_qty=q("100"),
        ts_event=2 * NS,
    )
    assert [quote.instrument_id for quote in decision.quotes] == [yes(), no()]
    assert list(made.engine.view.open_orders) == ["o1", "o2"]
    assert list(made.engine.view.open_bundles) == ["b1"]


def test_refusals_are_recorded_and_nothing_is_commanded() -> None:
    made = rig()
    assert made.wish(order()) == []
    decision = made.entries[-1]
    assert isinstance(decision, DecisionMade)
    assert [r.code for r in decision.refused] == [RefusalCode.BUNDLE_UNKNOWN]
    assert decision.orders == ()


def test_event_and_decision_are_one_write() -> None:
    made = rig()
    made.wish(pair, order())
    before = made.journal.last_seq
    made.wish(CloseBundle(bundle_id=BundleId("b1"), outcome="MISSED"), event=canceled("o1"))
    batch = list(made.journal.read(before))
    assert [entry.kind for entry in batch] == ["OrderCanceled", "DecisionMade"]
    assert [entry.cause_seq for entry in batch] == [None, before + 1]


def test_market_data_is_never_journalled() -> None:
    made = rig()
    before = made.journal.last_seq
    made.say(
        snapshot(yes(), at=2 * NS),
        changed(2 * NS, (yes(), Side.BUY, "0.49", "1")),
        ev.TradePrinted(2 * NS, 2 * NS, yes(), Side.BUY, p("0.5"), q("1")),
        tick(2 * NS),
        ev.FrameRejected(reason="garbage"),
        ev.TickSizeChanged(instrument_id=yes(), tick=p("0.001")),
    )
    assert made.journal.last_seq == before
    assert made.state.rejected_frames == 1


def test_operations_get_their_numbers_from_the_journal() -> None:
    made = rig()
    made.wish(pair)
    made.state.portfolio.operate(
        operated("x", OperationKind.SPLIT, mint=[(yes(), "20"), (no(), "20")], cash="-20")
    )
    merge = OperationIntent(
        bundle_id=BundleId("b1"),
        kind=OperationKind.MERGE,
        subject="m1",
        burn=((yes(), q("10")), (no(), q("10"))),
        mint=(),
        cash=c("10"),
    )
    sent = operations_of(made.wish(merge, merge))
    assert [operation.operation_id for operation in sent] == ["x1", "x2"]
    assert made.engine.view.pending_operations == {o.operation_id: o for o in sent}


def test_ids_go_on_where_the_journal_ends() -> None:
    made = rig()
    made.wish(pair, order(qty="5"))
    again = Rig(universe(), state=fold(made.entries, universe()))
    for token in (yes(), no()):
        again.say(snapshot(token, at=2 * NS))
    assert again.engine.view.next_bundle_id() == "b2"
    (sent,) = orders_of(again.wish(order(qty="5")))
    assert sent.client_order_id == "o2"
    decision = again.entries[-1]
    assert isinstance(decision, DecisionMade)
    assert decision.decision == 2


def test_a_bundle_id_is_never_given_twice() -> None:
    made = rig(2)
    view = made.engine.view
    seen = [view.next_bundle_id(), view.next_bundle_id(1)]
    refused = plan(leg(yes(9)), name=seen[0])
    made.wish(refused, plan(leg(yes(2)), name=seen[1]))
    assert list(view.open_bundles) == [seen[1]]
    assert not {view.next_bundle_id(), view.next_bundle_id(1)} & set(seen)


# --- halts ------------------------------------------------------------------------------------


def test_a_halt_cancels_what_rests_and_only_that() -> None:
    made = rig()
    made.wish(pair, order(qty="5", tif=GTC), order(1, no(), tif=TimeInForce.GTD))
    made.wish(order(qty="5"))
    cancels = made.say(trading(HALTED))
    assert cancels == [CancelOrder(client_order_id=ClientOrderId(n)) for n in ("o1", "o2")]
    assert made.state.orders.open[O1].status is OrderStatus.PENDING_CANCEL
    assert [e.KIND for e in made.entries][-2:] == ["TradingStateChanged", "DecisionMade"]
    assert made.say(trading(HALTED), tick(NS)) == []


def test_an_order_that_is_accepted_while_halted_is_cancelled() -> None:
    made = rig()
    made.wish(pair, order(tif=GTC))
    made.say(trading(HALTED))
    made.say(ev.CancelRejected(client_order_id=O1, reason="not found"))
    assert made.say(accepted()) == [CancelOrder(client_order_id=O1)]
    assert made.say(accepted()) == []


def test_reducing_cancels_nothing() -> None:
    made = rig()
    made.wish(pair, order(tif=GTC))
    assert made.say(trading(REDUCING)) == []


def test_a_contradiction_halts_and_cancels_what_rests() -> None:
    made = rig()
    made.wish(pair, order(qty="5", tif=GTC), order(1, no()))
    commands = made.say(ev.OrderRejected(client_order_id=ClientOrderId("o9"), reason="who?"))
    assert commands == [CancelOrder(client_order_id=O1)]
    assert made.state.trading is HALTED
    assert made.state.trading_reason == (
        "journal and venue contradict each other: REJECT for unknown order o9"
    )
    assert (made.state.trading_by, made.state.anomaly) == ("engine", "")
    kinds = [e.KIND for e in made.entries]
    assert kinds[-3:] == ["OrderRejected", "TradingStateChanged", "DecisionMade"]
    assert durable(fold(made.entries, universe())) == durable(made.state)


def test_after_a_contradiction_a_restart_does_not_halt_again() -> None:
    made = rig()
    made.say(canceled("o9"), trading(ACTIVE))
    again = Rig(universe(), state=fold(made.entries, universe()))
    again.say(tick(NS), deposit("1", "d2"))
    assert again.state.trading is ACTIVE


@pytest.mark.parametrize(
    "event",
    [
        filled("o9", "1", "0.5", token=yes(), side=Side.BUY),
        filled("o9", "1", "0.5", token=yes(), side=Side.SELL),
        settled("t9", MINED),
        operated("x9", OperationKind.MERGE),
        ev.OperationRejected(operation_id=operated("x9", OperationKind.MERGE).operation_id,
                             reason="?"),
        canceled("o9"),
        accepted("o9"),
    ],
)  # fmt: skip
def test_every_fact_about_a_stranger_halts(event: Event) -> None:
    made = rig()
    made.say(event)
    assert made.state.trading is HALTED
    assert made.state.trading_by == "engine"
    assert durable(fold(made.entries, universe())) == durable(made.state)


def test_a_decision_that_contradicts_the_journal_halts_and_commands_nothing() -> None:
    made = rig()
    made.wish(pair, order(qty="5", tif=GTC))
    other = plan(leg(yes(), "10", "0.50"), leg(no(), "10", "0.50"))
    commands = made.wish(other, order(qty="5"))
    assert commands == [CancelOrder(client_order_id=O1)]
    assert made.state.trading is HALTED
    assert made.state.trading_reason.endswith("bundle id b1 was used twice")
    assert durable(fold(made.entries, universe())) == durable(made.state)


def test_a_decision_that_contradicts_with_nothing_resting_commands_nothing() -> None:
    made = rig()
    made.wish(pair)
    assert made.wish(plan(leg(yes(), "10", "0.50"))) == []
    assert made.state.trading is HALTED


def test_a_run_starts_halted_and_not_reconciled() -> None:
    made = rig()
    made.say(ev.Reconciled(venue="paper", adopted=0))
    assert made.state.reconciled
    run = ev.RunStarted(run_id=ev.RunId("r2"), bot="b", mode="paper", version="1")
    made.say(run)
    assert (made.state.trading, made.state.reconciled) == (HALTED, False)
    assert made.state.trading_reason == "started, not reconciled yet"


def test_a_standing_order_of_a_person_is_remembered() -> None:
    made = rig()
    seen = [made.state.operator]
    for action in ("pause", "status", "reduce", "resume"):
        made.say(ev.OperatorCommanded(action=action, by="me"))
        seen.append(fold(made.entries).operator)
    assert seen == ["resume", "pause", "pause", "reduce", "resume"]


# --- the journal fails ------------------------------------------------------------------------


def broken_rig() -> tuple[Rig, Broken]:
    journal = Broken()
    made = Rig(universe(), journal=journal)
    made.open_market()
    made.wish(pair, order(qty="5", tif=GTC))
    made.commands.clear()
    journal.broken = True
    return made, journal


def test_without_a_journal_no_command_leaves() -> None:
    made, journal = broken_rig()
    with pytest.raises(OSError, match="No space"):
        made.wish(order(1, no()), event=snapshot(yes(), at=2 * NS))
    assert made.engine.failed
    assert made.state.trading is HALTED
    assert made.state.trading_reason == "the journal cannot be written"
    journal.broken = False
    assert made.wish(order(1, no()), event=snapshot(yes(), at=2 * NS)) == []
    assert made.commands == []


def test_a_failed_journal_halts_for_good_even_when_it_works_again() -> None:
    made, journal = broken_rig()
    with pytest.raises(OSError, match="No space"):
        made.say(deposit("1", "d2"))
    journal.broken = False
    written = list(journal.written)
    timer = StartTimer(name="t", at_ns=1)
    assert made.wish(order(1, no()), timer, event=trading(ACTIVE)) == []
    assert made.wish(timer) == []
    assert made.say(trading(HALTED), accepted()) == []
    assert made.state.trading is HALTED
    assert made.state.trading_reason == "the journal cannot be written"
    assert journal.written == written


# --- the state --------------------------------------------------------------------------------


def test_the_same_event_twice_counts_once() -> None:
    made = rig()
    made.wish(pair, order(), order(1, no()))
    once = [
        deposit("5", "d5"),
        accepted(),
        filled("o1", "4", "0.5", fee="0.01", at=NS),
        settled("t1", MINED, at=NS),
        canceled("o1"),
        ev.OrderExpired(client_order_id=ClientOrderId("o2")),
        trading(REDUCING),
        ev.MarketResolved(market_id=made.state.universe.instruments[yes()].market_id,
                          payouts=((yes(), p("1")), (no(), p("0")))),
        ev.Reconciled(venue="paper", adopted=1),
    ]  # fmt: skip
    for event in once:
        made.say(event)
        before = durable(made.state)
        made.say(event)
        assert durable(made.state) == before, event
    assert {t: paid.price for t, paid in made.state.resolved.items()} == {
        yes(): p("1"),
        no(): p("0"),
    }


def test_a_decision_that_is_folded_twice_is_an_anomaly_and_changes_nothing() -> None:
    made = rig()
    made.wish(pair, order())
    before = durable(made.state)
    made.state.apply(made.entries[-1])
    assert made.state.anomaly == "decision 1 was recorded twice"
    assert {**durable(made.state), "anomaly": ""} == before


def test_a_failed_settlement_goes_back_through_the_ledger() -> None:
    made = rig()
    made.wish(pair, order())
    made.say(filled("o1", "10", "0.5", at=NS), canceled("o1"), settled("t1", FAILED, at=NS))
    bundle = made.state.bundles.open[BundleId("b1")]
    assert bundle.legs[0].filled == 0
    assert made.state.portfolio.cash == c("1000")
    made.say(settled("t1", FAILED, at=NS))
    assert bundle.legs[0].filled == 0


def test_the_settlement_of_an_order_that_is_not_ours_still_settles() -> None:
    made = rig()
    made.say(filled("o9", "10", "0.5", token=yes(), side=Side.BUY), settled("t1", FAILED))
    assert made.state.portfolio.cash == c("1000")


def test_books_are_void_from_connection_to_snapshot() -> None:
    made = rig()
    book = made.engine.view.book(yes())
    assert book.usable
    for event in (
        ev.FeedConnected(connection="c", instruments=(yes(), yes(9))),
        ev.FeedDisconnected(connection="c", instruments=(yes(),), reason="gone"),
        ev.TickSizeChanged(instrument_id=yes(), tick=p("0.001")),
    ):
        made.say(event)
        assert not book.ready
        made.say(changed(2 * NS, (yes(), Side.BUY, "0.49", "1")))
        assert (book.ready, book.bid) == (False, 0)
        made.say(snapshot(yes(), at=2 * NS, tick=None))
        assert book.usable
    assert book.tick == p("0.001")
    made.say(snapshot(yes(), at=2 * NS, tick="0.01"))
    assert (book.tick, book.usable) == (p("0.01"), True)
    made.say(ev.TickSizeChanged(instrument_id=yes(9), tick=p("0.001")), snapshot(yes(9)))


def test_crossed_frames_and_moments_are_counted() -> None:
    made = rig()
    made.say(changed(2 * NS, (yes(), Side.BUY, "0.52", "1")))
    made.say(snapshot(yes(), [("0.6", "1")], [("0.5", "1")], at=3 * NS))
    made.say(changed(2 * NS, (yes(9), Side.BUY, "0.52", "1")))
    assert made.state.crossed_frames == 2
    view = made.engine.view
    assert (view.moment_ns, view.now_ns, made.state.last_market_ns) == (3 * NS, 3 * NS, 2 * NS)


def test_an_event_nobody_handles_changes_nothing() -> None:
    made = rig()
    before = durable(made.state)
    listed = ev.MarketListed(market_id=universe(2).instruments[yes(2)].market_id, question="?")
    made.say(listed)
    assert durable(made.state) == before


def test_the_view_shows_the_state() -> None:
    made = rig()
    made.wish(pair, order())
    made.say(filled("o1", "10", "0.5", at=NS))
    view = made.engine.view
    assert view.universe is made.state.universe
    assert (view.trading, view.cash) == (ACTIVE, c("995"))
    assert view.positions[yes()].qty == view.position(yes()).qty == q("10")
    assert view.instrument(yes()).id == yes()
    assert view.resolved == {}


def test_positions_are_marked_at_the_bid_or_at_cost() -> None:
    made = rig()
    made.wish(pair, order(), order(1, no()))
    first, second = orders_of(made.commands)
    made.say(filled(first, "10", "0.5", at=NS), filled(second, "10", "0.5", trade="t2", at=NS))
    assert made.engine.view.marked_value() == c("9.6")
    made.say(ev.FeedDisconnected(connection="c", instruments=(no(),), reason="gone"))
    assert made.engine.view.marked_value() == c("9.8")
    made.say(snapshot(yes(), [], at=2 * NS))
    assert made.engine.view.marked_value() == c("10")


def test_an_empty_universe_knows_no_book() -> None:
    state = State()
    assert state.universe is EMPTY_UNIVERSE
    assert state.books == {}
    state.apply(filled("o9", "10", "0.5", token=yes(), side=Side.BUY))
    assert View(state).marked_value() == c("5")


def test_every_durable_kind_is_journalled() -> None:
    made = rig()
    silent = Engine(
        state=State(universe()), strategy=Scripted(), risk=Risk(RiskLimits()), journal=made.journal
    )
    assert silent._durable == frozenset(DURABLE.values())


def split_of_ten() -> OperationIntent:
    return OperationIntent(
        bundle_id=BundleId("b1"),
        kind=OperationKind.SPLIT,
        subject="m1",
        burn=(),
        mint=((yes(), q("10")), (no(), q("10"))),
        cash=c("-10"),
    )


def test_an_operation_that_was_rejected_and_then_confirmed_halts() -> None:
    made = rig()
    made.wish(plan(leg(yes(), side=Side.SELL), leg(no(), side=Side.SELL),
                   start=OperationKind.SPLIT, payoff="-1"))  # fmt: skip
    (sent,) = operations_of(made.wish(split_of_ten()))
    made.say(ev.OperationRejected(operation_id=sent.operation_id, reason="reverted"))
    made.say(confirmed(sent), confirmed(sent))
    assert made.state.trading is HALTED
    assert made.state.portfolio.cash == c("990")


def test_a_signed_operation_is_recorded_and_found_again() -> None:
    made = rig()
    made.wish(plan(leg(yes(), side=Side.SELL), leg(no(), side=Side.SELL),
                   start=OperationKind.SPLIT, payoff="-1"))  # fmt: skip
    (sent,) = operations_of(made.wish(split_of_ten()))
    signed = ev.OperationSigned(operation_id=sent.operation_id, transaction_hash="0xaa")
    made.say(signed)
    written = [entry.event for entry in made.journal.read()]
    assert written[-1] == signed
    assert fold(written).bundles.transaction(sent.operation_id) == "0xaa"


# --- what is about to be done -------------------------------------------------------------------


def signed_order(client_order_id: str, venue_order_id: str = "0xaa") -> ev.OrderSigned:
    return ev.OrderSigned(
        client_order_id=ClientOrderId(client_order_id), venue_order_id=VenueOrderId(venue_order_id)
    )


def test_signatures_are_noted_together_and_asked_of_nobody() -> None:
    made = rig()
    made.wish(pair, order(), order(1, no()))
    before = made.journal.last_seq
    made.script.next = [order(0, qty="5")]
    assert made.engine.note([signed_order("o1"), signed_order("o2", "0xbb")])
    assert made.journal.last_seq == before + 2
    assert made.state.orders.open[ClientOrderId("o2")].venue_order_id == "0xbb"
    assert made.script.next
    assert fold(e.event for e in made.journal.read()).orders.open == made.state.orders.open


def test_a_signature_of_an_unknown_order_halts_and_may_not_be_sent() -> None:
    made = rig()
    made.wish(pair, order())
    assert not made.engine.note([signed_order("o1"), signed_order("o9")])
    assert made.state.trading is HALTED
    written = [e.event for e in made.journal.read()]
    assert written[-2] == signed_order("o9")
    assert "unknown order o9" in made.state.trading_reason


def test_without_a_journal_nothing_is_noted() -> None:
    made, journal = broken_rig()
    with pytest.raises(OSError, match="No space"):
        made.engine.note([signed_order("o1")])
    journal.broken = False
    assert not made.engine.note([signed_order("o1")])
    assert made.state.trading is HALTED
