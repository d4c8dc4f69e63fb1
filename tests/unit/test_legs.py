"""The execution of a bundle, step by step, with a venue that does what each test says."""

from collections.abc import Sequence

import pytest
from msgspec import structs

from fleet.domain import events as ev
from fleet.domain.commands import (
    CloseBundle,
    Command,
    Intent,
    OpenBundle,
    OperationKind,
    Purpose,
    RunOperation,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.events import AnyEvent, Event, TradingState
from fleet.domain.instruments import InstrumentId, Side
from fleet.engine.bundle import Bundle
from fleet.engine.bundles import LedgerTotals
from fleet.engine.engine import Strategy
from fleet.engine.state import fold
from fleet.engine.view import View
from fleet.strategies.legs import ExecutionSettings, first_step, next_step
from tests.builders import (
    FAILED,
    MINED,
    NS,
    Rig,
    Scripted,
    c,
    canceled,
    confirmed,
    filled,
    leg,
    market_id,
    no,
    operated,
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

BUY, SELL = Side.BUY, Side.SELL
PATIENCE = ExecutionSettings().patience_ns
RETRY = ExecutionSettings().retry_ns
pair = plan(leg(yes(), "10", "0.52"), leg(no(), "10", "0.52"), edge="0.3")
sold = plan(
    leg(yes(), "10", "0.48", side=SELL, unwind="0.45"),
    leg(no(), "10", "0.48", side=SELL, unwind="0.45"),
    start=OperationKind.SPLIT,
    payoff="-1",
)


class Worker(Scripted):
    """Works whatever bundle is open, like ArbHunter does; opens what the test wishes."""

    def __init__(self, settings: ExecutionSettings) -> None:
        super().__init__()
        self.settings = settings

    def on_event(self, event: AnyEvent, view: View) -> Sequence[Intent]:
        if not isinstance(event, Event):
            return ()
        wishes: list[Intent] = [x for x in super().on_event(event, view)
                                if isinstance(x, OpenBundle)]  # fmt: skip
        for bundle in view.open_bundles.values():
            wishes.extend(next_step(bundle, view, self.settings))
        return wishes


class Bench:
    """An engine with a worker, and a venue played by hand."""

    def __init__(self, settings: ExecutionSettings | None = None, count: int = 1) -> None:
        self.worker = Worker(settings or ExecutionSettings())

        def made(_view: View) -> Strategy:
            return self.worker

        self.rig = Rig(universe(count), strategy=made)
        self.rig.open_market(at=NS)
        self.told: list[AnyEvent] = []
        self.trades = 0
        self.now = NS

    def open(self, bundle: OpenBundle) -> list[Command]:
        self.worker.next = [bundle]
        self.tell(self.at())
        return self.tell(self.at())

    def tell(self, *events: AnyEvent) -> list[Command]:
        self.told.extend(events)
        return self.rig.say(*events)

    def at(self, after: int = 0) -> ev.TimerFired:
        self.now += after
        return tick(self.now)

    def fill(
        self, order: SubmitOrder, qty: str | None = None, price: str | None = None, *,
        mined: bool = True,
    ) -> list[Command]:  # fmt: skip
        """Fill (part of) an order, kill the rest, and mine it."""
        self.trades += 1
        name = f"t{self.trades}"
        event = filled(order, qty or "10", price or "0.5", trade=name, at=self.now)
        commands = self.tell(event, canceled(order, at=self.now))
        if mined:
            commands += self.tell(settled(name, MINED, at=self.now))
        return commands

    def miss(self, order: SubmitOrder) -> list[Command]:
        return self.tell(
            ev.OrderRejected(
                ts_event=self.now, ts_recv=self.now, client_order_id=order.client_order_id,
                reason="no orders found to match",
            )
        )  # fmt: skip

    def done(self, operation: RunOperation) -> list[Command]:
        return self.tell(confirmed(operation, at=self.now))

    def reject(self, operation: RunOperation) -> list[Command]:
        return self.tell(
            ev.OperationRejected(
                ts_event=self.now, ts_recv=self.now, operation_id=operation.operation_id,
                reason="reverted",
            )
        )  # fmt: skip

    @property
    def outcome(self) -> str:
        (bundle,) = self.rig.state.bundles._bundles.values()
        return bundle.outcome

    @property
    def totals(self) -> LedgerTotals:
        return self.rig.state.bundles.totals


def one_order(commands: Sequence[Command]) -> SubmitOrder:
    (found,) = orders_of(commands)
    assert len(commands) == 1
    return found


def one_operation(commands: Sequence[Command]) -> RunOperation:
    (found,) = operations_of(commands)
    assert len(commands) == 1
    return found


def what(order: SubmitOrder) -> tuple[int, InstrumentId, Side, int, int, Purpose]:
    return order.leg, order.instrument_id, order.side, order.qty, order.price, order.purpose


def test_a_whole_pair_is_bought_merged_and_closed() -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    assert what(first) == (0, yes(), BUY, q("10"), p("0.52"), Purpose.LEG)
    assert first.tif is TimeInForce.FAK
    assert bench.tell(bench.at(), bench.at(RETRY)) == []
    second = one_order(bench.fill(first, "10", "0.49", mined=False))
    assert what(second) == (1, no(), BUY, q("10"), p("0.52"), Purpose.LEG)
    assert bench.fill(second, "10", "0.48", mined=False) == []
    assert bench.tell(settled("t1", MINED, at=bench.now)) == []
    merge = one_operation(bench.tell(settled("t2", MINED, at=bench.now)))
    assert (merge.kind, merge.subject, merge.cash) == (OperationKind.MERGE, "m1", c("10"))
    assert merge.burn == ((yes(), q("10")), (no(), q("10")))
    assert bench.tell(bench.at(RETRY)) == []
    bench.done(merge)
    assert bench.outcome == "COMPLETE"
    assert bench.totals == LedgerTotals(
        tried=1, complete=1, edge_expected=c("0.3"), edge_realised=c("0.3")
    )
    assert bench.rig.state.portfolio.cash == c("1000.3")


def test_nothing_is_ordered_once_the_merge_is_done() -> None:
    """Depth for the leg that fell short comes back while the merge is under way: too late."""
    bench = Bench()
    first = one_order(bench.open(plan(leg(yes(), "20", "0.52"), leg(no(), "20", "0.52"))))
    second = one_order(bench.fill(first, "20", "0.49"))
    bench.tell(snapshot(no(), [("0.46", "100")], [("0.60", "100")], at=bench.now))
    unwind = one_order(bench.fill(second, "10", "0.48"))
    merge = one_operation(bench.fill(unwind, "10", "0.48"))
    bench.tell(snapshot(no(), at=bench.now))
    assert bench.done(merge) == []
    assert not bench.rig.state.bundles.open
    assert bench.tell(bench.at(RETRY)) == []


@pytest.mark.parametrize(("tried", "outcome"), [(0, "MISSED"), (1, "STRANDED")])
def test_a_bundle_of_a_market_that_left_the_catalogue_ends(tried: int, outcome: str) -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    if tried:
        bench.fill(first)
    else:
        bench.miss(first)
    entries = [entry.event for entry in bench.rig.journal.read()]
    entries = entries[: entries.index(next(e for e in entries if isinstance(e, ev.OrderCanceled))) + 1
                      ] if tried else entries  # fmt: skip
    state = fold(entries)
    if not state.bundles.open:
        pytest.fail("the bundle is meant to be open when its market goes")
    (bundle,) = state.bundles.open.values()
    for order in list(state.orders.open.values()):
        state.apply(ev.OrderRejected(client_order_id=order.client_order_id, reason="gone"))
    assert next_step(bundle, View(state), ExecutionSettings()) == (
        CloseBundle(bundle_id=bundle.id, outcome=outcome),
    )


def test_a_first_leg_that_misses_twice_ends_the_idea_without_a_loss() -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    again = one_order(bench.miss(first))
    assert what(again) == what(first)
    assert bench.miss(again) == []
    assert bench.outcome == "MISSED"
    assert bench.rig.state.portfolio.cash == c("1000")


def test_a_second_try_needs_depth_at_the_limit() -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    bench.tell(snapshot(yes(), [("0.48", "100")], [("0.53", "100")], at=bench.now))
    assert bench.miss(first) == []
    assert bench.outcome == "MISSED"


def test_the_second_leg_is_sized_by_what_the_first_filled() -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    # 3 are left, less than the venue's minimum of 5: the leg is as full as it gets.
    second = one_order(bench.fill(first, "7", "0.5"))
    assert what(second) == (1, no(), BUY, q("7"), p("0.52"), Purpose.LEG)
    merge = one_operation(bench.fill(second, "7", "0.45"))
    assert merge.burn == ((yes(), q("7")), (no(), q("7")))
    bench.done(merge)
    assert bench.outcome == "COMPLETE"
    assert bench.totals.partial == 1


def test_a_half_filled_first_leg_is_tried_once_more() -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    more = one_order(bench.fill(first, "4", "0.5"))
    assert what(more) == (0, yes(), BUY, q("6"), p("0.52"), Purpose.LEG)
    second = one_order(bench.fill(more, "6", "0.5"))
    assert what(second) == (1, no(), BUY, q("10"), p("0.52"), Purpose.LEG)


def lonely(bench: Bench, *, mined: bool = True) -> list[Command]:
    """The first leg filled, the second missed twice."""
    first = one_order(bench.open(pair))
    second = one_order(bench.fill(first, "10", "0.5", mined=mined))
    return bench.miss(one_order(bench.miss(second)))


def test_a_lonely_leg_is_unwound_at_its_price_and_closed() -> None:
    bench = Bench()
    unwind = one_order(lonely(bench))
    assert what(unwind) == (0, yes(), SELL, q("10"), p("0.40"), Purpose.UNWIND)
    assert bench.fill(unwind, "10", "0.48") == []
    assert bench.outcome == "UNWOUND"
    assert bench.totals == LedgerTotals(
        tried=1, partial=1, unwinds=1, unwind_cost=c("0.2"), edge_expected=c("0.3"),
        edge_realised=c("-0.2"),
    )  # fmt: skip


def test_an_unwind_waits_for_the_tokens_to_be_mined() -> None:
    bench = Bench()
    assert lonely(bench, mined=False) == []
    assert bench.tell(bench.at(RETRY)) == []
    one_order(bench.tell(settled("t1", MINED, at=bench.now)))


def test_an_unwind_is_patient_first_and_takes_any_bid_later() -> None:
    bench = Bench()
    bench.tell(snapshot(yes(), [("0.30", "100")], [("0.52", "100")], at=NS))
    assert lonely(bench) == []
    assert bench.tell(bench.at(PATIENCE - 1)) == []
    unwind = one_order(bench.tell(bench.at(1)))
    assert what(unwind)[4:] == (p("0.30"), Purpose.UNWIND)


@pytest.mark.parametrize(
    "book",
    [
        snapshot(yes(), [], [("0.52", "100")], at=NS),
        snapshot(yes(), [("0.6", "1")], [("0.5", "1")], at=NS),
        ev.FeedDisconnected(connection="c", instruments=(yes(),), reason="gone"),
    ],
    ids=["no bid", "crossed", "void"],
)
def test_an_unwind_waits_for_a_bid(book: AnyEvent) -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    second = one_order(bench.fill(first, "10", "0.5"))
    bench.tell(book)
    assert bench.miss(one_order(bench.miss(second))) == []
    assert bench.tell(bench.at(PATIENCE)) == []
    bench.tell(snapshot(yes(), [("0.20", "100")], [("0.52", "100")], at=bench.now))
    assert what(one_order(bench.tell(bench.at())))[4] == p("0.20")


def test_unwinding_goes_on_in_steps_until_nothing_but_dust_is_left() -> None:
    bench = Bench()
    unwind = one_order(lonely(bench))
    assert bench.fill(unwind, "4", "0.48") == []
    again = one_order(bench.tell(bench.at(RETRY)))
    assert what(again)[3] == q("6")
    assert bench.fill(again, "2", "0.48") == []
    # 4 shares are below the minimum: they stay.
    assert bench.outcome == "STRANDED"
    assert bench.rig.state.portfolio.position(yes()).qty == q("4")


def test_a_surplus_worth_less_than_a_dollar_is_stranded() -> None:
    bench = Bench()
    bench.tell(snapshot(yes(), [("0.09", "100")], [("0.52", "100")], at=NS))
    first = one_order(bench.open(plan(leg(yes(), "10", "0.52", unwind="0.09"),
                                      leg(no(), "10", "0.52"))))  # fmt: skip
    second = one_order(bench.fill(first, "10", "0.5"))
    assert bench.miss(one_order(bench.miss(second))) == []
    assert bench.outcome == "STRANDED"


def test_unwinding_ends_after_so_many_tries() -> None:
    bench = Bench(ExecutionSettings(max_unwind_tries=2))
    unwind = one_order(lonely(bench))
    assert bench.miss(unwind) == []
    again = one_order(bench.tell(bench.at(RETRY)))
    assert bench.miss(again) == []
    assert bench.outcome == "STRANDED"


def test_a_partly_lonely_leg_is_unwound_and_the_rest_is_merged() -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    second = one_order(bench.fill(first, "10", "0.5"))
    # 4 of 10; the 6 that are left go once more and miss: 6 have no partner.
    more = one_order(bench.fill(second, "4", "0.48"))
    unwind = one_order(bench.miss(more))
    assert what(unwind) == (0, yes(), SELL, q("6"), p("0.40"), Purpose.UNWIND)
    merge = one_operation(bench.fill(unwind, "6", "0.48"))
    assert merge.burn == ((yes(), q("4")), (no(), q("4")))
    bench.done(merge)
    assert bench.outcome == "COMPLETE"


def test_an_operation_that_is_rejected_is_tried_again_later() -> None:
    bench = Bench()
    second = one_order(bench.fill(one_order(bench.open(pair)), "10", "0.49"))
    merge = one_operation(bench.fill(second, "10", "0.48"))
    wait = ExecutionSettings().operation_retry_ns
    assert bench.reject(merge) == []
    assert bench.tell(bench.at(wait - 1)) == []
    again = one_operation(bench.tell(bench.at(1)))
    assert again.operation_id != merge.operation_id
    bench.done(again)
    assert bench.outcome == "COMPLETE"


def test_a_set_that_is_held_closes_when_it_is_filled() -> None:
    bench = Bench(count=2)
    held = plan(leg(yes(1), "10", "0.52"), leg(no(2), "10", "0.52"), finish=None)
    second = one_order(bench.fill(one_order(bench.open(held)), "10", "0.45"))
    assert bench.fill(second, "10", "0.45") == []
    assert bench.outcome == "HELD"


def test_an_unresolved_order_holds_everything() -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    lost = ev.SubmitUnknown(client_order_id=first.client_order_id, reason="timeout")
    assert bench.tell(lost, bench.at(PATIENCE)) == []
    one_order(bench.miss(first))


def test_a_fill_that_fails_to_settle_is_bought_again_or_unwound() -> None:
    bench = Bench()
    second = one_order(bench.fill(one_order(bench.open(pair)), "10", "0.5", mined=False))
    bench.fill(second, "10", "0.45")
    commands = bench.tell(settled("t1", FAILED, at=bench.now))
    unwind = one_order(commands)
    assert what(unwind) == (1, no(), SELL, q("10"), p("0.40"), Purpose.UNWIND)


# --- legs that cannot be had must not keep the others waiting -----------------------------------


def test_a_leg_whose_book_is_gone_is_given_up_after_the_patience() -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    bench.tell(ev.FeedDisconnected(connection="c", instruments=(no(),), reason="gone"))
    assert bench.fill(first, "10", "0.5") == []
    assert bench.tell(bench.at(PATIENCE - 1)) == []
    unwind = one_order(bench.tell(bench.at(1)))
    assert what(unwind)[5] is Purpose.UNWIND


def test_reducing_unwinds_what_is_lonely_and_buys_nothing() -> None:
    bench = Bench()
    first = one_order(bench.open(pair))
    bench.tell(trading(TradingState.REDUCING, at=bench.now))
    unwind = one_order(bench.fill(first, "10", "0.5"))
    assert what(unwind)[5] is Purpose.UNWIND
    bench.fill(unwind, "10", "0.48")
    assert bench.outcome == "UNWOUND"


def test_a_split_that_may_not_start_ends_the_idea() -> None:
    bench = Bench()
    split = one_operation(bench.open(sold))
    assert bench.reject(split) == []
    assert bench.outcome == "NOT_STARTED"
    other = Bench()
    other.tell(trading(TradingState.REDUCING, at=NS))
    other.rig.state.bundles.open_bundle(sold, NS)
    assert other.tell(other.at()) == []
    assert other.outcome == "NOT_STARTED"


def test_a_resolved_market_ends_the_unwinding() -> None:
    bench = Bench()
    bench.tell(snapshot(yes(), [], [("0.52", "100")], at=NS))
    assert lonely(bench) == []
    payouts = ((yes(), p("1")), (no(), p("0")))
    bench.tell(ev.MarketResolved(market_id=market_id(), payouts=payouts), bench.at())
    assert bench.outcome == "STRANDED"


def test_a_resolved_market_ends_the_merging_and_counts_what_is_held() -> None:
    bench = Bench()
    second = one_order(bench.fill(one_order(bench.open(pair)), "10", "0.49"))
    merge = one_operation(bench.fill(second, "10", "0.48"))
    payouts = ((yes(), p("1")), (no(), p("0")))
    bench.tell(ev.MarketResolved(market_id=market_id(), payouts=payouts))
    assert bench.reject(merge) == []
    assert bench.outcome == "HELD"
    assert bench.totals.edge_realised == c("0.3")


# --- selling ------------------------------------------------------------------------------------


def test_a_pair_is_split_and_both_are_sold() -> None:
    bench = Bench()
    split = one_operation(bench.open(sold))
    assert (split.kind, split.cash) == (OperationKind.SPLIT, c("-10"))
    assert split.mint == ((yes(), q("10")), (no(), q("10")))
    first = one_order(bench.done(split))
    assert what(first) == (0, yes(), SELL, q("10"), p("0.48"), Purpose.LEG)
    second = one_order(bench.fill(first, "10", "0.6"))
    assert bench.fill(second, "10", "0.5") == []
    assert bench.outcome == "COMPLETE"
    assert bench.totals.edge_realised == c("1")


def test_unsold_pairs_are_merged_back() -> None:
    bench = Bench()
    first = one_order(bench.done(one_operation(bench.open(sold))))
    merge = one_operation(bench.miss(one_order(bench.miss(first))))
    assert (merge.kind, merge.cash) == (OperationKind.MERGE, c("10"))
    bench.done(merge)
    assert bench.outcome == "MISSED"
    assert bench.rig.state.portfolio.cash == c("1000")


def test_what_is_left_of_a_sold_pair_is_unwound() -> None:
    bench = Bench()
    first = one_order(bench.done(one_operation(bench.open(sold))))
    second = one_order(bench.fill(first, "10", "0.6"))
    unwind = one_order(bench.miss(one_order(bench.miss(second))))
    assert what(unwind) == (1, no(), SELL, q("10"), p("0.45"), Purpose.UNWIND)
    bench.fill(unwind, "10", "0.46")
    assert bench.outcome == "UNWOUND"
    assert bench.totals.unwind_cost == c("0.2")


def test_what_was_never_split_is_not_merged() -> None:
    bench = Bench()
    held = plan(leg(yes(), "10", "0.48", side=SELL), leg(no(), "10", "0.48", side=SELL),
                payoff="-1")  # fmt: skip
    bench.rig.state.portfolio.operate(
        operated("x", OperationKind.SPLIT, mint=[(yes(), "10"), (no(), "10")], cash="-10")
    )
    assert bench.miss(one_order(bench.miss(one_order(bench.open(held))))) == []
    assert bench.outcome == "MISSED"
    assert bench.rig.state.portfolio.position(yes()).qty == q("10")


def test_the_resolution_of_a_sold_pair_ends_it() -> None:
    bench = Bench()
    first = one_order(bench.done(one_operation(bench.open(sold))))
    payouts = ((yes(), p("1")), (no(), p("0")))
    bench.tell(ev.MarketResolved(market_id=market_id(), payouts=payouts))
    assert bench.miss(first) == [], "nothing is sold into a resolved market"
    assert bench.outcome == "HELD"
    assert bench.totals.edge_realised == 0, "each pair is worth the dollar it was split from"


def test_a_resolution_before_the_split_ends_it_unspent() -> None:
    bench = Bench()
    bench.worker.next = [sold]
    bench.tell(answered())
    split = bench.rig.state.bundles.pending
    assert not split
    bench.tell(bench.at())
    assert not bench.rig.state.bundles.pending
    assert bench.rig.state.portfolio.cash == c("1000")


def answered(winner: InstrumentId | None = None) -> ev.MarketResolved:
    """Market 1 is resolved; YES wins unless told otherwise."""
    wins = winner or yes()
    payouts = tuple((token, p("1" if token == wins else "0")) for token in (yes(), no()))
    return ev.MarketResolved(ts_recv=NS, market_id=market_id(), payouts=payouts)


def test_a_probe_alone_in_a_resolved_market_is_stranded_and_nothing_more_is_bought() -> None:
    bench = Bench()
    probe = one_order(bench.open(pair))
    assert bench.tell(answered()) == []
    assert bench.fill(probe, "10", "0.49") == [], "neither the other leg nor an unwinding"
    assert bench.outcome == "STRANDED"
    assert bench.rig.state.portfolio.position(yes()).qty == q("10")


def test_a_pair_whose_market_was_resolved_before_the_merge_is_held() -> None:
    bench = Bench()
    second = one_order(bench.fill(one_order(bench.open(pair)), "10", "0.49", mined=False))
    bench.fill(second, "10", "0.48", mined=False)
    bench.tell(answered(no()))
    bench.tell(settled("t1", MINED, at=bench.now), settled("t2", MINED, at=bench.now))
    assert bench.outcome == "HELD"
    assert bench.totals.edge_realised == c("0.3")


def test_a_merge_under_way_when_its_market_is_resolved_ends_as_a_merge() -> None:
    bench = Bench()
    second = one_order(bench.fill(one_order(bench.open(pair)), "10", "0.49"))
    merge = one_operation(bench.fill(second, "10", "0.48"))
    assert bench.tell(answered(), bench.at(RETRY)) == []
    bench.done(merge)
    assert bench.outcome == "COMPLETE"
    assert bench.rig.state.portfolio.cash == c("1000.3")


def test_a_merge_that_fails_after_the_resolution_leaves_the_pair_held() -> None:
    bench = Bench()
    second = one_order(bench.fill(one_order(bench.open(pair)), "10", "0.49"))
    merge = one_operation(bench.fill(second, "10", "0.48"))
    bench.tell(answered())
    assert bench.reject(merge) == []
    assert bench.outcome == "HELD"


# --- together -----------------------------------------------------------------------------------


def test_together_sends_all_legs_and_then_evens_them_out() -> None:
    bench = Bench(ExecutionSettings(together=True))
    first, second = orders_of(bench.open(pair))
    assert (what(first)[0], what(second)[0]) == (0, 1)
    assert bench.fill(first, "9", "0.5") == []
    more = one_order(bench.fill(second, "3", "0.45"))
    assert what(more) == (1, no(), BUY, q("6"), p("0.52"), Purpose.LEG)
    merge = one_operation(bench.fill(more, "6", "0.45"))
    assert merge.burn == ((yes(), q("9")), (no(), q("9")))


def test_together_with_nothing_filled_is_missed() -> None:
    bench = Bench(ExecutionSettings(together=True))
    first, second = orders_of(bench.open(pair))
    bench.miss(first)
    bench.miss(second)
    assert bench.outcome == "MISSED"


def three(name: str = "b1") -> OpenBundle:
    return plan(*(leg(no(n), "10", "0.60") for n in (1, 2, 3)), name=name, payoff="2",
                finish=OperationKind.CONVERT)  # fmt: skip


def test_the_probe_goes_alone_and_the_rest_together() -> None:
    bench = Bench(ExecutionSettings(rest_together=True), count=3)
    probe = one_order(bench.open(three()))
    rest = orders_of(bench.fill(probe, "7", "0.5"))
    assert [what(order)[:4] for order in rest] == [
        (1, no(2), BUY, q("7")),
        (2, no(3), BUY, q("7")),
    ]
    bench.fill(rest[0], "7", "0.5")
    convert = one_operation(bench.fill(rest[1], "7", "0.5"))
    assert (convert.kind, convert.cash) == (OperationKind.CONVERT, c("14"))
    assert [token for token, _ in convert.burn] == [no(1), no(2), no(3)]


def test_a_probe_that_misses_costs_nothing() -> None:
    bench = Bench(ExecutionSettings(rest_together=True), count=3)
    probe = one_order(bench.open(three()))
    assert bench.miss(one_order(bench.miss(probe))) == []
    assert bench.outcome == "MISSED"


def test_a_first_price_comes_before_the_hard_cap() -> None:
    bench = Bench()
    capped = structs.replace(leg(no(), "10", "0.55"), price=p("0.52"))
    first = one_order(bench.open(plan(leg(yes(), "10", "0.52"), capped)))
    second = one_order(bench.fill(first, "10", "0.45"))
    assert second.price == p("0.52")
    assert one_order(bench.miss(second)).price == p("0.55")


@pytest.mark.parametrize(
    "made",
    [
        pair,
        sold,
        plan(structs.replace(leg(no(), "10", "0.55"), price=p("0.52")), leg(yes(), "10", "0.4")),
        plan(leg(yes(), "10", "0.52"), leg(no(), "10", "0.52"), finish=None),
    ],
    ids=["pair", "sold", "capped", "held"],
)
@pytest.mark.parametrize(
    "settings",
    [
        ExecutionSettings(),
        ExecutionSettings(together=True),
        ExecutionSettings(rest_together=True),
        ExecutionSettings(max_tries=0),
        ExecutionSettings(patience_ns=0),
    ],
    ids=["sequential", "together", "rest together", "no tries", "no patience"],
)
@pytest.mark.parametrize("trading_state", list(TradingState))
def test_the_first_step_is_the_next_step_of_a_bundle_that_opens_now(
    made: OpenBundle, settings: ExecutionSettings, trading_state: TradingState
) -> None:
    bench = Bench(settings)
    bench.tell(trading(trading_state, at=NS))
    view = bench.rig.engine.view
    slow = next_step(Bundle.fresh(made, view.now_ns), view, settings)
    assert list(first_step(made, view, settings)) == list(slow)


# --- resumption ---------------------------------------------------------------------------------


def story(settings: ExecutionSettings, which: str) -> tuple[Bench, list[int]]:
    """A bundle's life; and, after each event, how far the journal and the commands were."""
    bench = Bench(settings)
    tell = bench.tell
    marks: list[int] = []

    def marked(*events: AnyEvent) -> list[Command]:
        found: list[Command] = []
        for event in events:
            found += tell(event)
            marks.append(bench.rig.journal.last_seq)
        return found

    bench.tell = marked  # type: ignore[method-assign]
    if which == "sold":
        first = one_order(bench.done(one_operation(bench.open(sold))))
        second = one_order(bench.fill(first, "10", "0.6"))
        unwind = one_order(bench.miss(one_order(bench.miss(second))))
        bench.fill(unwind, "10", "0.46")
    else:
        second = one_order(bench.fill(one_order(bench.open(pair)), "10", "0.5"))
        more = one_order(bench.fill(second, "4", "0.48"))
        unwind = one_order(bench.miss(more))
        bench.reject(one_operation(bench.fill(unwind, "6", "0.48")))
        bench.done(one_operation(bench.tell(bench.at(settings.operation_retry_ns))))
    assert bench.outcome
    return bench, marks


@pytest.mark.parametrize("which", ["bought", "sold"])
def test_a_crash_at_any_moment_changes_nothing(which: str) -> None:
    settings = ExecutionSettings()
    bench, marks = story(settings, which)
    events = bench.told
    assert len(events) == len(marks)
    for crash, seq in enumerate(marks):
        entries = bench.rig.entries
        state = fold(entries[:seq], universe())
        rig = Rig(universe(), strategy=lambda _view: Worker(settings), state=state)
        for token in (yes(), no()):
            rig.say(snapshot(token, at=NS))
        caused = [command for event in events[crash + 1 :] for command in rig.say(event)]
        before = sum(
            len(e.orders) + len(e.operations)
            for e in entries[:seq]
            if isinstance(e, ev.DecisionMade)
        )
        assert caused == bench.rig.commands[before:], f"crash after event {crash}"
        assert [e for e in rig.entries if isinstance(e, ev.DecisionMade)] == [
            e for e in entries[seq:] if isinstance(e, ev.DecisionMade)
        ]


def test_closing_is_a_wish_like_any_other() -> None:
    bench = Bench()
    bench.miss(one_order(bench.miss(one_order(bench.open(pair)))))
    decision = bench.rig.entries[-1]
    assert isinstance(decision, ev.DecisionMade)
    assert decision.closed == (CloseBundle(bundle_id=pair.bundle_id, outcome="MISSED"),)
