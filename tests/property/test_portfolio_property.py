"""Money is conserved by any sequence of facts, and a fact told twice counts once."""

import copy

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fleet.domain.commands import ClientOrderId, OperationId, OperationKind
from fleet.domain.events import (
    CashDeposited,
    FillSettled,
    OperationConfirmed,
    OrderFilled,
    SettlementStatus,
    TradeId,
)
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.engine.portfolio import NS_PER_DAY, Portfolio
from tests.builders import no, yes

TOKENS = st.sampled_from([yes(1), no(1), yes(2)])
QTYS = st.integers(1, 50 * SCALE).map(Qty)
PRICES = st.integers(1, SCALE - 1).map(Price)
CASH = st.integers(-20 * SCALE, 20 * SCALE).map(Cash)
FEES = st.integers(0, SCALE).map(Cash)
TIMES = st.integers(0, 3 * NS_PER_DAY)
PARTS = st.lists(st.tuples(TOKENS, QTYS), max_size=3, unique_by=lambda part: part[0])
FINAL = {SettlementStatus.CONFIRMED, SettlementStatus.FAILED}
Fact = CashDeposited | OrderFilled | FillSettled | OperationConfirmed


def copied(portfolio: Portfolio) -> dict[str, object]:
    return {name: copy.deepcopy(getattr(portfolio, name)) for name in Portfolio.__slots__}


class PortfolioMachine(RuleBasedStateMachine):
    """Fills, settlements, operations and deposits, possible or not, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.portfolio = Portfolio()
        self.told: list[Fact] = []
        self.last_status: dict[TradeId, SettlementStatus] = {}

    def tell(self, fact: Fact) -> None:
        self.told.append(fact)
        match fact:
            case CashDeposited():
                self.portfolio.deposit(fact)
            case OrderFilled():
                self.portfolio.fill(fact)
            case FillSettled():
                self.portfolio.settle(fact)
            case OperationConfirmed():
                self.portfolio.operate(fact)

    @rule(amount=CASH, at=TIMES)
    def deposit(self, amount: Cash, at: int) -> None:
        name = f"d{len(self.told)}"
        self.tell(CashDeposited(ts_event=at, deposit_id=name, amount=amount))

    @rule(token=TOKENS, side=st.sampled_from(Side), price=PRICES, qty=QTYS, fee=FEES, at=TIMES)
    def fill(
        self, token: InstrumentId, side: Side, price: Price, qty: Qty, fee: Cash, at: int
    ) -> None:
        trade = TradeId(f"t{len(self.told)}")
        self.tell(
            OrderFilled(
                ts_event=at,
                trade_id=trade,
                client_order_id=ClientOrderId("o"),
                instrument_id=token,
                side=side,
                price=price,
                qty=qty,
                fee=fee,
            )
        )

    @precondition(lambda self: self.portfolio.unsettled_trades())
    @rule(data=st.data(), status=st.sampled_from(SettlementStatus), at=TIMES)
    def settle(self, data: st.DataObject, status: SettlementStatus, at: int) -> None:
        trade = data.draw(st.sampled_from(sorted(self.portfolio.trades())))
        self.tell(FillSettled(ts_event=at, trade_id=trade, status=status))

    @rule(burn=PARTS, mint=PARTS, cash=CASH, at=TIMES)
    def operate(
        self,
        burn: list[tuple[InstrumentId, Qty]],
        mint: list[tuple[InstrumentId, Qty]],
        cash: Cash,
        at: int,
    ) -> None:
        self.tell(
            OperationConfirmed(
                ts_event=at,
                operation_id=OperationId(f"x{len(self.told)}"),
                kind=OperationKind.CONVERT,
                burn=tuple(burn),
                mint=tuple(mint),
                cash=cash,
            )
        )

    @precondition(lambda self: self.told)
    @rule()
    def tell_the_last_again(self) -> None:
        before = copied(self.portfolio)
        self.tell(self.told[-1])
        self.told.pop()
        assert copied(self.portfolio) == before

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def tell_an_old_one_again(self, data: st.DataObject) -> None:
        idempotent = [f for f in self.told if not isinstance(f, FillSettled)]
        if idempotent:
            before = copied(self.portfolio)
            self.tell(data.draw(st.sampled_from(idempotent)))
            self.told.pop()
            assert copied(self.portfolio) == before

    @invariant()
    def money_is_conserved(self) -> None:
        book = self.portfolio
        assert book.cash + book.cost == book.deposited + book.realised

    @invariant()
    def nothing_is_negative_that_cannot_be(self) -> None:
        for position in self.portfolio.positions.values():
            assert position.qty >= 0
            assert position.cost >= 0
            assert position.unsettled >= 0
            assert 0 <= position.settled <= position.qty
            assert position.qty or not position.cost
        assert self.portfolio.day_turnover >= 0

    @invariant()
    def a_final_settlement_is_final(self) -> None:
        for trade in self.portfolio.trades():
            status = self.portfolio.settlement(trade)
            assert status is not None
            before = self.last_status.get(trade)
            assert before not in FINAL or before is status
            self.last_status[trade] = status

    def teardown(self) -> None:
        again = Portfolio()
        whole, self.portfolio = self.portfolio, again
        for fact in list(self.told):
            self.tell(fact)
        assert copied(again) == copied(whole)


TestPortfolio = PortfolioMachine.TestCase
