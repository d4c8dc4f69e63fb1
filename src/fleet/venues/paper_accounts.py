"""The paper venue's own accounts: a fold of its ledger, independent of the bot's portfolio.

Deliberately a second bookkeeping: what the bot's journal folds to is compared with this, so they
share no code beyond the units.
"""

from __future__ import annotations

from collections.abc import Collection

from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, OperationId
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import Cash, Qty, notional_down, notional_up
from fleet.venues.account import AccountQuery, AccountTruth

_S = ev.SettlementStatus
_FINAL = frozenset({_S.CONFIRMED, _S.FAILED})


class PaperAccounts:
    """Cash, tokens, and every order, fill and operation the venue ever had."""

    def __init__(self) -> None:
        """An account nobody has opened."""
        self.cash = Cash(0)
        self.opened = False
        self._tokens: dict[InstrumentId, Qty] = {}
        self._unsettled: dict[InstrumentId, Qty] = {}
        self._facts: list[ev.Event] = []
        self._orders: set[ClientOrderId] = set()
        self._ended: set[ClientOrderId] = set()
        self._operations: set[OperationId] = set()
        self._fills: dict[ev.TradeId, ev.OrderFilled] = {}
        self._status: dict[ev.TradeId, ev.SettlementStatus] = {}
        self._waiting: set[ev.TradeId] = set()
        self._fill_counts: dict[ClientOrderId, int] = {}

    @property
    def tokens(self) -> dict[InstrumentId, Qty]:
        """Tokens held, settled or not; empty positions left out."""
        return {token: qty for token, qty in self._tokens.items() if qty}

    @property
    def settlements(self) -> dict[ev.TradeId, ev.SettlementStatus]:
        """Every trade there ever was, and how far its settlement has come."""
        return dict(self._status)

    def fill(self, trade_id: ev.TradeId) -> ev.OrderFilled:
        """One trade as it was matched. Raises ``KeyError`` if there was none."""
        return self._fills[trade_id]

    def knows_order(self, client_order_id: ClientOrderId) -> bool:
        """Whether this order ever arrived."""
        return client_order_id in self._orders

    def unended(self, order_ids: Collection[ClientOrderId]) -> set[ClientOrderId]:
        """Those of the orders that arrived and have no recorded end."""
        return {o for o in order_ids if o in self._orders and o not in self._ended}

    def knows_operation(self, operation_id: OperationId) -> bool:
        """Whether this operation was ever carried out or refused."""
        return operation_id in self._operations

    def fills_of(self, client_order_id: ClientOrderId) -> int:
        """How many fills an order has had."""
        return self._fill_counts.get(client_order_id, 0)

    def free(self, instrument_id: InstrumentId) -> int:
        """Settled tokens."""
        return self._tokens.get(instrument_id, 0) - self._unsettled.get(instrument_id, 0)

    def apply(self, fact: ev.Event) -> None:
        """Fold one of the venue's own facts in."""
        self._facts.append(fact)
        match fact:
            case ev.CashDeposited():
                self.opened = True
                self.cash = Cash(self.cash + fact.amount)
            case ev.OrderAccepted() | ev.OrderRejected():
                self._orders.add(fact.client_order_id)
                if isinstance(fact, ev.OrderRejected):
                    self._ended.add(fact.client_order_id)
            case ev.OrderCanceled():
                self._ended.add(fact.client_order_id)
            case ev.OrderFilled():
                self._fill(fact)
            case ev.FillSettled():
                self._settle(fact)
            case ev.OperationConfirmed():
                self._operations.add(fact.operation_id)
                self.cash = Cash(self.cash + fact.cash)
                for token, qty in fact.burn:
                    self._move(token, -qty)
                for token, qty in fact.mint:
                    self._move(token, qty)
            case ev.OperationRejected():
                self._operations.add(fact.operation_id)
            case _:
                pass

    def _fill(self, fact: ev.OrderFilled) -> None:
        self._fills[fact.trade_id] = fact
        self._status[fact.trade_id] = _S.MATCHED
        self._fill_counts[fact.client_order_id] = self.fills_of(fact.client_order_id) + 1
        self._book(fact, 1)
        if fact.side is Side.BUY:
            self._waiting.add(fact.trade_id)
            self._wait(fact.instrument_id, fact.qty)

    def _book(self, fill: ev.OrderFilled, sign: int) -> None:
        """Book a fill, or (-1) take it back."""
        if fill.side is Side.BUY:
            cash = -notional_up(fill.price, fill.qty) - fill.fee
            self._move(fill.instrument_id, sign * fill.qty)
        else:
            cash = notional_down(fill.price, fill.qty) - fill.fee
            self._move(fill.instrument_id, -sign * fill.qty)
        self.cash = Cash(self.cash + sign * cash)

    def _settle(self, fact: ev.FillSettled) -> None:
        if self._status[fact.trade_id] in _FINAL:
            return
        self._status[fact.trade_id] = fact.status
        fill = self._fills[fact.trade_id]
        if fact.status is not _S.RETRYING and fact.trade_id in self._waiting:
            self._waiting.remove(fact.trade_id)
            self._wait(fill.instrument_id, -fill.qty)
        if fact.status is _S.FAILED:
            self._book(fill, -1)

    def _wait(self, token: InstrumentId, qty: int) -> None:
        self._unsettled[token] = Qty(self._unsettled.get(token, 0) + qty)

    def _move(self, token: InstrumentId, qty: int) -> None:
        self._tokens[token] = Qty(self._tokens.get(token, 0) + qty)

    def unfinished(self, now_ns: int, mined_ns: int, confirmed_ns: int) -> list[ev.FillSettled]:
        """The settlements still to come when the venue was shut, never before ``now_ns``."""
        pending: list[ev.FillSettled] = []
        for trade_id, fill in self._fills.items():
            status = self._status[trade_id]
            for following, delay in ((_S.MINED, mined_ns), (_S.CONFIRMED, confirmed_ns)):
                done = status is following or status in _FINAL
                if not done:
                    at_ns = max(now_ns, fill.ts_event + delay)
                    pending.append(
                        ev.FillSettled(ts_event=at_ns, trade_id=trade_id, status=following)
                    )
        return pending

    def answer(
        self,
        query: AccountQuery,
        flying_orders: Collection[ClientOrderId],
        flying_operations: Collection[OperationId],
    ) -> AccountTruth:
        """The facts that answer a query; absence is proven: requests die with the process."""
        facts = tuple(fact for fact in self._facts if _relevant(fact, query))
        return AccountTruth(
            cash=self.cash,
            tokens=self.tokens,
            facts=facts,
            absent_orders=tuple(
                sorted(query.open_orders - self._orders - frozenset(flying_orders))
            ),
            absent_operations=tuple(
                sorted(query.pending_operations - self._operations - frozenset(flying_operations))
            ),
        )


def _relevant(fact: ev.Event, query: AccountQuery) -> bool:
    match fact:
        case ev.CashDeposited():
            return True
        case ev.OrderFilled():
            return fact.trade_id not in query.known_trades
        case ev.FillSettled():
            return fact.trade_id in query.unsettled_trades or (
                fact.trade_id not in query.known_trades
            )
        case ev.OperationConfirmed() | ev.OperationRejected():
            return fact.operation_id in query.pending_operations
        case ev.OrderAccepted() | ev.OrderRejected() | ev.OrderCanceled() | ev.OrderExpired():
            return fact.client_order_id in query.open_orders
        case _:
            return False
