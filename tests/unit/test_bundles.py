"""The leg ledger: what was planned, what filled, what it made."""

import pytest

from fleet.domain.commands import (
    BundleId,
    CloseBundle,
    LegPlan,
    OpenBundle,
    OperationId,
    OperationKind,
    Purpose,
    RunOperation,
    SubmitOrder,
)
from fleet.domain.instruments import Side
from fleet.domain.units import ZERO_CASH
from fleet.engine.bundle import Bundle, LegState, OperationStatus
from fleet.engine.bundles import Bundles, LedgerTotals
from fleet.engine.orders import Order
from tests.builders import c, filled, leg, no, plan, q, submit, yes

BUY, SELL = Side.BUY, Side.SELL
B1 = BundleId("b1")
MERGE, SPLIT = OperationKind.MERGE, OperationKind.SPLIT
PENDING, DONE = OperationStatus.PENDING, OperationStatus.CONFIRMED
REJECTED = OperationStatus.REJECTED


def pair(qty: str = "10", *, finish: OperationKind | None = MERGE) -> OpenBundle:
    return plan(leg(yes(), qty, "0.45"), leg(no(), qty, "0.50"), finish=finish)


def sold_pair(qty: str = "10") -> OpenBundle:
    legs: tuple[LegPlan, ...] = (
        leg(yes(), qty, "0.60", side=SELL),
        leg(no(), qty, "0.50", side=SELL),
    )
    return plan(*legs, start=SPLIT, payoff="-1")


def opened(made: OpenBundle) -> tuple[Bundles, Bundle]:
    bundles = Bundles()
    bundles.open_bundle(made, 7)
    bundle = bundles.get(made.bundle_id)
    assert bundle is not None
    return bundles, bundle


def tell(
    bundles: Bundles, index: int, qty: str, price: str, *, fee: str = "0", side: Side = BUY,
    purpose: Purpose = Purpose.LEG, failed: bool = False,
) -> None:  # fmt: skip
    """A fill of one leg's order."""
    made = order_of(submit(token=yes() if index == 0 else no(), side=side, index=index,
                           purpose=purpose))  # fmt: skip
    event = filled("o1", qty, price, fee=fee, side=side)
    bundles.note_fill(made, event, failed=failed)


def order_of(command: SubmitOrder) -> Order:
    return Order(
        client_order_id=command.client_order_id,
        bundle_id=command.bundle_id,
        leg=command.leg,
        purpose=command.purpose,
        instrument_id=command.instrument_id,
        side=command.side,
        price=command.price,
        qty=command.qty,
        tif=command.tif,
        submitted_ns=0,
    )


def unwind(bundles: Bundles, index: int, qty: str, price: str, *, fee: str = "0") -> None:
    tell(bundles, index, qty, price, fee=fee, side=SELL, purpose=Purpose.UNWIND)


def operation(name: str = "x1", kind: OperationKind = MERGE, bundle: str = "b1") -> RunOperation:
    return RunOperation(
        operation_id=OperationId(name),
        bundle_id=BundleId(bundle),
        kind=kind,
        subject="m1",
        burn=((yes(), q("10")), (no(), q("10"))),
        mint=(),
        cash=c("10"),
    )


def close(bundles: Bundles, outcome: str = "COMPLETE") -> LedgerTotals:
    bundles.close(CloseBundle(bundle_id=B1, outcome=outcome))
    return bundles.totals


def test_a_fresh_bundle_has_done_nothing() -> None:
    bundles, bundle = opened(pair())
    assert (bundle.id, bundle.open, bundle.opened_ns) == (B1, True, 7)
    assert bundle.legs == [LegState(), LegState()]
    assert (bundle.matched, bundle.any_filled, bundle.cash, bundle.spent) == (0, False, 0, 0)
    assert not bundle.operating
    assert bundle.operation(MERGE) is None
    assert list(bundles.open) == [B1]
    assert (len(bundles), bundles.operations, bundles.totals.tried) == (1, 0, 1)
    assert bundles.get(BundleId("b9")) is None


def test_a_bundle_id_is_used_once() -> None:
    bundles, bundle = opened(pair("10"))
    bundles.open_bundle(pair("99"), 8)
    assert bundles.anomaly == "bundle id b1 was used twice"
    assert bundles.get(B1) is bundle
    assert bundles.totals.tried == 1


def test_tries_are_counted_by_purpose() -> None:
    bundles, bundle = opened(pair())
    bundles.note_order(B1, 1, Purpose.LEG, 5)
    bundles.note_order(B1, 1, Purpose.UNWIND, 6)
    bundles.note_order(BundleId("b9"), 1, Purpose.UNWIND, 6)
    assert bundle.legs == [LegState(), LegState(tries=1, unwind_tries=1, last_try_ns=6)]


def test_fills_add_to_their_leg_with_fees() -> None:
    bundles, bundle = opened(pair())
    tell(bundles, 0, "10", "0.45", fee="0.05")
    tell(bundles, 1, "4", "0.5", fee="0.01")
    assert (bundle.legs[0].filled, bundle.legs[0].cash) == (q("10"), c("-4.55"))
    assert (bundle.legs[1].filled, bundle.legs[1].cash) == (q("4"), c("-2.01"))
    assert (bundle.matched, bundle.any_filled) == (q("4"), True)
    assert (bundle.spent, bundle.cash) == (c("6.56"), c("-6.56"))
    unwind(bundles, 0, "6", "0.40", fee="0.02")
    assert (bundle.legs[0].unwound, bundle.legs[0].unwound_cash) == (q("6"), c("2.38"))
    assert (bundle.matched, bundle.spent, bundle.cash) == (q("4"), c("6.56"), c("-4.18"))


def test_a_failed_fill_is_taken_back() -> None:
    bundles, bundle = opened(pair())
    tell(bundles, 0, "10", "0.45", fee="0.05")
    unwind(bundles, 0, "6", "0.40")
    tell(bundles, 0, "10", "0.45", fee="0.05", failed=True)
    tell(bundles, 0, "6", "0.40", side=SELL, purpose=Purpose.UNWIND, failed=True)
    assert bundle.legs[0] == LegState()


def test_a_fill_of_no_bundle_is_ignored() -> None:
    bundles = Bundles()
    tell(bundles, 0, "10", "0.45")
    assert bundles.anomaly == ""


def test_a_sold_pair_counts_what_every_leg_sold_as_planned() -> None:
    bundles, bundle = opened(sold_pair())
    tell(bundles, 0, "10", "0.6", side=SELL, fee="0.1")
    tell(bundles, 1, "6", "0.5", side=SELL)
    assert (bundle.matched, bundle.spent, bundle.cash) == (q("6"), 0, c("8.9"))
    unwind(bundles, 1, "4", "0.3")
    assert bundle.matched == q("6")


# --- operations -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [DONE, REJECTED])
def test_an_operation_is_pending_until_it_ends(status: OperationStatus) -> None:
    bundles, bundle = opened(pair())
    bundles.start_operation(operation())
    under_way = [bundle.operating]
    assert bundles.pending == {OperationId("x1"): operation()}
    assert bundles.operations == 1
    cash = c("10") if status is DONE else ZERO_CASH
    bundles.end_operation(OperationId("x1"), status, cash, 9)
    state = bundle.operation(MERGE)
    assert state is not None
    assert (state.status, state.ended_ns, bundle.operated_cash) == (status, 9, cash)
    assert [*under_way, bundle.operating] == [True, False]
    assert not bundles.pending
    assert bundles.anomaly == ""
    bundles.end_operation(OperationId("x1"), status, cash, 11)
    assert (state.ended_ns, bundle.operated_cash) == (9, cash)
    assert bundles.anomaly == ""


@pytest.mark.parametrize(("first", "second"), [(DONE, REJECTED), (REJECTED, DONE)])
def test_an_operation_that_ends_two_ways_is_an_anomaly(
    first: OperationStatus, second: OperationStatus
) -> None:
    bundles, bundle = opened(pair())
    bundles.start_operation(operation())
    bundles.end_operation(OperationId("x1"), first, c("0"), 9)
    bundles.end_operation(OperationId("x1"), second, c("10"), 10)
    assert bundles.anomaly == f"{second.value} for operation x1 that is {first.value}"
    assert bundle.operations[0].status is first
    assert bundle.operated_cash == 0


def test_the_newest_operation_of_a_kind_counts() -> None:
    bundles, bundle = opened(pair())
    for name in ("x1", "x2"):
        bundles.start_operation(operation(name))
        bundles.end_operation(OperationId(name), REJECTED, ZERO_CASH, 1)
    bundles.start_operation(operation("x3", SPLIT))
    newest = bundle.operation(MERGE)
    assert newest is not None
    assert newest.operation_id == "x2"
    assert bundle.operating


def test_an_operation_id_is_used_once() -> None:
    bundles, bundle = opened(pair())
    bundles.start_operation(operation())
    bundles.start_operation(operation())
    assert bundles.anomaly == "operation id x1 was used twice"
    assert len(bundle.operations) == 1


def test_a_redemption_belongs_to_no_bundle() -> None:
    bundles = Bundles()
    bundles.start_operation(operation(kind=OperationKind.REDEEM, bundle="redeem"))
    assert list(bundles.pending) == [OperationId("x1")]
    bundles.end_operation(OperationId("x1"), DONE, c("10"), 1)
    assert not bundles.pending
    assert bundles.anomaly == ""


def test_the_end_of_a_stranger_is_an_anomaly() -> None:
    bundles = Bundles()
    bundles.end_operation(OperationId("x9"), DONE, ZERO_CASH, 1)
    assert bundles.anomaly == "CONFIRMED for unknown operation x9"


# --- the totals -------------------------------------------------------------------------------


def test_a_complete_pair_that_was_merged() -> None:
    bundles, bundle = opened(pair())
    tell(bundles, 0, "10", "0.45", fee="0.05")
    tell(bundles, 1, "10", "0.49", fee="0.05")
    bundles.start_operation(operation())
    bundles.end_operation(OperationId("x1"), DONE, c("10"), 9)
    totals = close(bundles)
    assert totals == LedgerTotals(
        tried=1, complete=1, edge_expected=c("0.5"), edge_realised=c("0.5")
    )
    assert (bundle.open, bundle.outcome, list(bundles.open)) == (False, "COMPLETE", [])
    assert close(bundles) == totals


def test_a_set_that_is_held_counts_at_its_payoff() -> None:
    bundles, _ = opened(pair(finish=None))
    tell(bundles, 0, "10", "0.45")
    tell(bundles, 1, "9", "0.49")
    assert close(bundles, "HELD") == LedgerTotals(
        tried=1, partial=1, edge_expected=c("0.5"), edge_realised=c("0.09")
    )


def test_a_missed_pair_made_nothing() -> None:
    bundles, _ = opened(pair())
    assert close(bundles, "MISSED") == LedgerTotals(tried=1, missed=1, edge_expected=c("0.5"))


def test_an_unwound_leg_has_a_cost() -> None:
    bundles, _ = opened(pair())
    tell(bundles, 0, "10", "0.45", fee="0.05")
    unwind(bundles, 0, "10", "0.40", fee="0.04")
    assert close(bundles, "UNWOUND") == LedgerTotals(
        tried=1,
        partial=1,
        unwinds=1,
        unwind_cost=c("0.59"),
        edge_expected=c("0.5"),
        edge_realised=c("-0.59"),
    )


def test_the_unwinding_of_a_sold_pair_is_measured_against_its_planned_price() -> None:
    bundles, bundle = opened(sold_pair())
    bundles.start_operation(operation(kind=SPLIT))
    bundles.end_operation(OperationId("x1"), DONE, c("-10"), 1)
    tell(bundles, 0, "10", "0.6", side=SELL)
    tell(bundles, 1, "6", "0.5", side=SELL)
    unwind(bundles, 1, "4", "0.3")
    assert bundle.cash == c("0.2")
    assert close(bundles) == LedgerTotals(
        tried=1,
        partial=1,
        unwinds=1,
        unwind_cost=c("0.8"),
        edge_expected=c("0.5"),
        edge_realised=c("0.2"),
    )


def test_a_leg_whose_fill_failed_after_it_was_unwound_costs_what_it_costs() -> None:
    bundles, _ = opened(pair())
    tell(bundles, 0, "10", "0.45")
    unwind(bundles, 0, "10", "0.40")
    tell(bundles, 0, "10", "0.45", failed=True)
    totals = close(bundles)
    assert (totals.unwinds, totals.unwind_cost, totals.missed) == (1, c("-4"), 1)


def test_closing_what_is_not_open_changes_nothing() -> None:
    bundles = Bundles()
    assert close(bundles) == LedgerTotals()


def test_an_operation_has_one_transaction() -> None:
    bundles, _ = opened(pair())
    x1 = OperationId("x1")
    bundles.start_operation(operation())
    assert bundles.transaction(x1) == ""
    for _ in range(2):
        bundles.sign_operation(x1, "0xaa")
        assert (bundles.transaction(x1), bundles.anomaly) == ("0xaa", "")
    bundles.sign_operation(x1, "0xbb")
    assert bundles.anomaly == "operation x1 has transaction 0xaa, not 0xbb"
    assert bundles.transaction(x1) == "0xaa"


def test_a_transaction_of_an_unknown_operation_is_an_anomaly() -> None:
    bundles, _ = opened(pair())
    bundles.sign_operation(OperationId("x9"), "0xaa")
    assert bundles.anomaly == "a transaction for unknown operation x9"
    assert bundles.transaction(OperationId("x9")) == ""
