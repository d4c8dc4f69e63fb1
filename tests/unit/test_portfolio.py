"""Cash, cost and profit, to the last unit."""

import copy

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import OperationKind
from fleet.domain.events import SettlementStatus, TradeId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import Cash
from fleet.engine.portfolio import Portfolio, Position
from tests.builders import (
    CONFIRMED,
    DAY,
    FAILED,
    MINED,
    c,
    deposit,
    filled,
    no,
    operated,
    q,
    settled,
    yes,
)

RETRYING = SettlementStatus.RETRYING
MATCHED = SettlementStatus.MATCHED
SPLIT, MERGE = OperationKind.SPLIT, OperationKind.MERGE
CONVERT, REDEEM = OperationKind.CONVERT, OperationKind.REDEEM


def rich(cash: str = "1000") -> Portfolio:
    portfolio = Portfolio()
    portfolio.deposit(deposit(cash))
    return portfolio


def buy(
    portfolio: Portfolio, qty: str, price: str, trade: str, *, fee: str = "0", at: int = 0,
    token: InstrumentId | None = None,
) -> None:  # fmt: skip
    event = filled("o", qty, price, trade=trade, fee=fee, at=at, token=token, side=Side.BUY)
    assert portfolio.fill(event)


def sell(
    portfolio: Portfolio, qty: str, price: str, trade: str, *, fee: str = "0", at: int = 0,
    token: InstrumentId | None = None,
) -> None:  # fmt: skip
    event = filled("o", qty, price, trade=trade, fee=fee, at=at, token=token, side=Side.SELL)
    assert portfolio.fill(event)


def balanced(portfolio: Portfolio) -> bool:
    return portfolio.cash + portfolio.cost == portfolio.deposited + portfolio.realised


def money(portfolio: Portfolio) -> tuple[int, int, int]:
    return portfolio.cash, portfolio.cost, portfolio.realised


def test_deposits_count_once_and_may_be_withdrawals() -> None:
    portfolio = rich("100")
    portfolio.deposit(deposit("100"))
    assert (portfolio.cash, portfolio.deposited) == (c("100"), c("100"))
    portfolio.deposit(deposit("-30", "d2"))
    assert (portfolio.cash, portfolio.deposited) == (c("70"), c("70"))
    assert portfolio.knows_deposit("d2")
    assert not portfolio.knows_deposit("d3")


def test_a_buy_costs_its_notional_and_its_fee() -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.52", "t1", fee="0.125")
    assert money(portfolio) == (c("994.675"), c("5.325"), 0)
    assert portfolio.positions[yes()] == Position(q("10"), c("5.325"), q("10"))
    assert (portfolio.fees, portfolio.day_turnover) == (c("0.125"), c("5.325"))
    assert portfolio.position(yes()).settled == 0
    assert portfolio.position(no()) == Position()
    assert balanced(portfolio)


def test_a_fill_counts_once() -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.52", "t1")
    assert not portfolio.fill(filled("o", "10", "0.52"))
    assert money(portfolio) == (c("994.8"), c("5.2"), 0)


def test_a_sell_takes_its_part_of_the_average_cost() -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.5", "t1")
    buy(portfolio, "10", "0.7", "t2")
    sell(portfolio, "5", "0.8", "t3", fee="0.02")
    assert money(portfolio) == (c("991.98"), c("9"), c("0.98"))
    assert portfolio.positions[yes()].qty == q("15")
    assert portfolio.day_realised == c("0.98")
    assert balanced(portfolio)


def test_the_last_share_takes_the_last_unit_of_cost() -> None:
    portfolio = rich()
    buy(portfolio, "3", "0.33333333", "t1", fee="0.00000001")
    for name in ("t2", "t3", "t4"):
        sell(portfolio, "1", "0.33333333", name)
    assert portfolio.cost == 0
    assert balanced(portfolio)
    portfolio.settle(settled("t1", MINED))
    assert yes() not in portfolio.positions or not portfolio.positions[yes()].qty


def test_taking_nothing_takes_no_cost() -> None:
    position = Position(q("10"), c("5"))
    assert position.take(q("0")) == 0
    assert position == Position(q("10"), c("5"))


def test_selling_more_than_is_held_is_an_anomaly_and_stays_balanced() -> None:
    portfolio = rich()
    buy(portfolio, "5", "0.5", "t1")
    sell(portfolio, "8", "0.5", "t2")
    assert portfolio.anomaly == "sold 800000000 of 500000000 y1"
    assert money(portfolio) == (c("1001.5"), 0, c("1.5"))
    assert balanced(portfolio)


@pytest.mark.parametrize(
    ("path", "free"),
    [
        ([], "0"),
        ([RETRYING], "0"),
        ([MINED], "10"),
        ([CONFIRMED], "10"),
        ([RETRYING, MINED], "10"),
        ([MINED, CONFIRMED], "10"),
        ([MINED, MINED], "10"),
    ],
)
def test_tokens_are_free_once_mined(path: list[SettlementStatus], free: str) -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.5", "t1")
    for status in path:
        portfolio.settle(settled("t1", status))
    assert portfolio.position(yes()).settled == q(free)
    assert portfolio.settlement(TradeId("t1")) is (path[-1] if path else MATCHED)
    final = path[-1:] == [CONFIRMED]
    assert portfolio.unsettled_trades() == ([] if final else [TradeId("t1")])
    assert portfolio.trades() == {TradeId("t1")}


@pytest.mark.parametrize("late", [RETRYING, MATCHED])
def test_a_late_report_does_not_unmine_a_fill(late: SettlementStatus) -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.5", "t1")
    portfolio.settle(settled("t1", MINED))
    buy(portfolio, "4", "0.5", "t2")
    for status in (late, MINED, CONFIRMED):
        portfolio.settle(settled("t1", status))
        assert portfolio.position(yes()).settled == q("10"), "the second fill is not free yet"
    assert portfolio.settlement(TradeId("t1")) is CONFIRMED


def test_freeing_one_fill_leaves_the_other_unsettled() -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.5", "t1")
    buy(portfolio, "4", "0.5", "t2")
    portfolio.settle(settled("t2", MINED))
    assert portfolio.position(yes()).settled == q("4")


@pytest.mark.parametrize("path", [[FAILED], [RETRYING, FAILED], [MINED, FAILED], [FAILED, FAILED]])
@pytest.mark.parametrize("side", list(Side))
def test_a_failed_fill_never_was(path: list[SettlementStatus], side: Side) -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.5", "t0", fee="0.1")
    portfolio.settle(settled("t0", CONFIRMED))
    before = copy.deepcopy((money(portfolio), portfolio.fees, portfolio.positions))
    if side is Side.BUY:
        buy(portfolio, "10", "0.5", "t1", fee="0.1")
    else:
        sell(portfolio, "7", "0.6", "t1", fee="0.3")
    for status in path:
        portfolio.settle(settled("t1", status))
    assert (money(portfolio), portfolio.fees, portfolio.positions) == before
    assert portfolio.anomaly == ""
    assert portfolio.settlement(TradeId("t1")) is FAILED
    assert portfolio.unsettled_trades() == []


def test_the_only_buy_of_a_token_leaves_nothing_when_it_fails() -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.5", "t1")
    portfolio.settle(settled("t1", FAILED))
    assert portfolio.positions == {}


def test_a_failed_buy_after_a_partial_sale_gives_its_money_back() -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.4", "t1")
    buy(portfolio, "10", "0.6", "t2")
    sell(portfolio, "5", "0.8", "t3")
    portfolio.settle(settled("t2", FAILED))
    # 15 shares at 0.5 were left; 10 go at 5.0 of cost, but 6.0 comes back: 1.0 of profit.
    assert portfolio.positions[yes()] == Position(q("5"), c("2.5"), q("10"))
    assert money(portfolio) == (c("1000"), c("2.5"), c("2.5"))
    assert portfolio.anomaly == ""
    assert balanced(portfolio)


def test_a_failed_buy_that_was_sold_is_an_anomaly() -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.4", "t1")
    sell(portfolio, "8", "0.5", "t2")
    portfolio.settle(settled("t1", FAILED))
    assert portfolio.anomaly == "failed fill of y1 was already spent"
    assert portfolio.position(yes()).qty == 0
    assert money(portfolio) == (c("1004"), 0, c("4"))
    assert balanced(portfolio)


def test_a_failed_sale_gives_back_no_more_than_it_took() -> None:
    portfolio = rich()
    buy(portfolio, "5", "0.5", "t1")
    sell(portfolio, "8", "0.5", "t2")
    portfolio.settle(settled("t2", FAILED))
    assert portfolio.position(yes()).qty == q("5")
    assert money(portfolio) == (c("997.5"), c("2.5"), 0)


def test_confirmed_is_final() -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.5", "t1")
    portfolio.settle(settled("t1", CONFIRMED))
    portfolio.settle(settled("t1", FAILED))
    assert portfolio.settlement(TradeId("t1")) is CONFIRMED
    assert money(portfolio) == (c("995"), c("5"), 0)


def test_the_settlement_of_a_stranger_is_an_anomaly() -> None:
    portfolio = rich()
    portfolio.settle(settled("t9", MINED))
    assert portfolio.anomaly == "settlement MINED of unknown fill t9"
    assert portfolio.settlement(TradeId("t9")) is None


# --- token operations -------------------------------------------------------------------------


def test_a_split_costs_a_dollar_a_pair_in_equal_parts() -> None:
    portfolio = rich("10")
    pair = [(yes(), "5"), (no(), "5")]
    assert portfolio.operate(operated("x1", SPLIT, mint=pair, cash="-5"))
    assert money(portfolio) == (c("5"), c("5"), 0)
    assert portfolio.positions[yes()] == Position(q("5"), c("2.5"))
    assert portfolio.positions[no()] == Position(q("5"), c("2.5"))


def test_the_odd_unit_of_cost_is_not_lost() -> None:
    portfolio = rich("10")
    event = operated("x1", SPLIT, mint=[(yes(), "1"), (no(), "1")], cash="-0.00000003")
    portfolio.operate(event)
    assert [portfolio.positions[t].cost for t in (yes(), no())] == [2, 1]
    assert balanced(portfolio)


def test_an_operation_counts_once() -> None:
    portfolio = rich("10")
    event = operated("x1", SPLIT, mint=[(yes(), "5")], cash="-5")
    assert portfolio.operate(event)
    assert not portfolio.operate(event)
    assert money(portfolio) == (c("5"), c("5"), 0)


def test_a_merge_realises_what_the_pair_made() -> None:
    portfolio = rich("10")
    buy(portfolio, "5", "0.4", "t1", fee="0.1")
    buy(portfolio, "8", "0.5", "t2", token=no())
    portfolio.operate(operated("x1", MERGE, burn=[(yes(), "5"), (no(), "5")], cash="5"))
    assert portfolio.cash == c("8.9")
    assert portfolio.realised == c("0.4")
    assert portfolio.positions[no()].cost == c("1.5")
    assert portfolio.position(yes()).qty == 0
    assert balanced(portfolio)


def test_a_conversion_of_some_carries_the_cost_that_no_cash_repaid() -> None:
    portfolio = rich("100")
    for n in (1, 2):
        buy(portfolio, "10", "0.7", f"t{n}", token=no(n))
    burn = [(no(1), "10"), (no(2), "10")]
    portfolio.operate(operated("x1", CONVERT, burn=burn, mint=[(yes(3), "10")], cash="10"))
    # 14 paid, 10 came back: the YES of the third carries 4 of cost, and nothing is realised.
    assert money(portfolio) == (c("96"), c("4"), 0)
    assert portfolio.positions[yes(3)] == Position(q("10"), c("4"))


def test_a_conversion_that_repays_more_than_the_cost_realises_the_rest() -> None:
    portfolio = rich("100")
    for n in (1, 2):
        buy(portfolio, "10", "0.4", f"t{n}", token=no(n))
    burn = [(no(1), "10"), (no(2), "10")]
    portfolio.operate(operated("x1", CONVERT, burn=burn, mint=[(yes(3), "10")], cash="10"))
    assert money(portfolio) == (c("102"), 0, c("2"))
    assert portfolio.positions[yes(3)] == Position(q("10"), Cash(0))


@pytest.mark.parametrize(("payout", "realised"), [("10", "4"), ("0", "-6"), ("5", "-1")])
def test_a_redemption_realises_payout_less_cost(payout: str, realised: str) -> None:
    portfolio = rich("100")
    buy(portfolio, "10", "0.6", "t1")
    portfolio.settle(settled("t1", MINED))
    portfolio.operate(operated("x1", REDEEM, burn=[(yes(), "10")], cash=payout))
    assert portfolio.realised == c(realised)
    assert portfolio.positions == {}
    assert balanced(portfolio)


def test_burning_more_than_is_held_is_an_anomaly() -> None:
    portfolio = rich("10")
    portfolio.operate(operated("x1", MERGE, burn=[(yes(), "1")], cash="1"))
    assert portfolio.anomaly == "MERGE burnt 100000000 of 0 y1"
    assert balanced(portfolio)


# --- the day ----------------------------------------------------------------------------------


def losing_day(at: int) -> Portfolio:
    portfolio = rich()
    buy(portfolio, "10", "0.6", "t1", at=at)
    sell(portfolio, "10", "0.5", "t2", at=at)
    return portfolio


def test_the_days_loss_and_turnover_end_with_the_day() -> None:
    portfolio = losing_day(5 * DAY)
    assert portfolio.day_loss(5 * DAY) == portfolio.day_loss(6 * DAY - 1) == c("1")
    assert portfolio.turnover(6 * DAY - 1) == c("11")
    assert portfolio.day_loss(6 * DAY) == portfolio.turnover(6 * DAY) == 0
    buy(portfolio, "10", "0.2", "t3", at=6 * DAY)
    assert portfolio.day_loss(6 * DAY) == 0
    assert portfolio.turnover(6 * DAY) == c("2")
    assert portfolio.realised == c("-1")


def test_a_profit_is_no_loss() -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.5", "t1", at=DAY)
    sell(portfolio, "10", "0.6", "t2", at=DAY)
    assert portfolio.day_realised == c("1")
    assert portfolio.day_loss(DAY) == 0


def test_a_day_never_goes_back() -> None:
    portfolio = losing_day(5 * DAY)
    portfolio.roll_day(4 * DAY)
    assert portfolio.day_loss(5 * DAY) == c("1")
    buy(portfolio, "10", "0.2", "t3", at=4 * DAY)
    assert (portfolio.day, portfolio.turnover(5 * DAY)) == (5, c("13"))


def test_a_clock_that_is_behind_does_not_forget_the_loss() -> None:
    assert losing_day(5 * DAY).day_loss(4 * DAY) == c("1")


def test_a_fill_of_unknown_time_counts_on_the_day_it_was_learned() -> None:
    portfolio = rich()
    for trade, side, price in (("t1", Side.BUY, "0.6"), ("t2", Side.SELL, "0.5")):
        event = filled("o", "10", price, trade=trade, token=yes(), side=side)
        portfolio.fill(
            ev.OrderFilled(
                ts_event=0,
                ts_recv=5 * DAY,
                trade_id=event.trade_id,
                client_order_id=event.client_order_id,
                instrument_id=event.instrument_id,
                side=event.side,
                price=event.price,
                qty=event.qty,
                fee=event.fee,
            )
        )
    assert portfolio.day_loss(5 * DAY) == c("1")
    portfolio.operate(
        ev.OperationConfirmed(
            ts_recv=6 * DAY,
            operation_id=operated("x", SPLIT).operation_id,
            kind=SPLIT,
            burn=(),
            mint=(),
            cash=c("-3"),
        )
    )
    assert portfolio.day_loss(6 * DAY) == c("3")


def test_a_sale_that_fails_the_next_day_is_that_days_loss() -> None:
    portfolio = rich()
    buy(portfolio, "10", "0.5", "t1", at=5 * DAY)
    sell(portfolio, "10", "0.9", "t2", at=5 * DAY)
    portfolio.settle(settled("t2", FAILED, at=6 * DAY))
    assert portfolio.realised == 0
    assert portfolio.day_loss(6 * DAY) == c("4")
