"""What must hold of a chaos run, checked by code that shares nothing with what it checks.

``JournalWatch`` folds a journal entry by entry: each prefix balances, nothing is decided, signed or
filled twice, an order is signed only after it was decided and under one id for ever, and what is at
stake stays under its caps. ``same_holdings`` compares the fold with the exchange's own ledger, to
the last unit. ``Posted`` watches the wire: one id, one sequence of bytes, accepted once at most.

Each raises ``Disproved`` and says what does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fleet.domain import events as ev
from fleet.domain.commands import OperationKind, SubmitOrder
from fleet.domain.instruments import InstrumentId, Side, Universe
from fleet.domain.units import notional_up
from fleet.engine.risk import RiskLimits
from fleet.engine.state import State
from tests.proof import Disproved

PER_BASE_UNIT = 100
"""Units of the journal (1e-8) in one of the exchange's (1e-6)."""


@dataclass(slots=True)
class Seen:
    """How much a run has proved."""

    entries: int = 0
    runs: int = 0
    reconciled: int = 0
    orders: int = 0
    fills: int = 0
    failed: int = 0
    operations: int = 0
    redeemed: int = 0
    lost: int = 0
    """Redemptions of tokens that paid nothing."""
    absent: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    stake_max: int = 0
    """The most that was ever at stake in the wallet."""


class JournalWatch:
    """Folds one journal; ``take`` raises at the first entry that must not be there."""

    def __init__(self, universe: Universe, limits: RiskLimits) -> None:
        self.state = State(universe)
        self.seen = Seen()
        self.limits = limits
        """May grow while a journal is watched: what a lower stage finds open may stay open."""
        self.stake: dict[str, int] = {}
        """What is at stake by market after the last entry, at 1e-8."""
        self.failed_worth = 0
        """What fills that failed to settle were worth: the caps may be passed by it."""
        self._decided: dict[str, SubmitOrder] = {}
        self._signed: dict[str, str] = {}
        self._hashes: dict[str, str] = {}
        self._filled: dict[str, int] = {}
        self._trades: dict[str, ev.OrderFilled] = {}

    def take(self, event: ev.Event) -> None:
        """The next entry."""
        self.seen.entries += 1
        match event:
            case ev.RunStarted():
                self.seen.runs += 1
            case ev.Reconciled():
                self.seen.reconciled += 1
            case ev.ReconciliationFailed():
                raise Disproved(f"reconciliation failed: {event.difference}")
            case ev.DecisionMade():
                self._decide(event)
            case ev.OrderSigned():
                self._sign(event)
            case ev.OrderFilled():
                self._fill(event)
            case ev.FillSettled(status=ev.SettlementStatus.FAILED):
                self._fail(event)
            case ev.OrderRejected(reason="the venue never had it"):
                self.seen.absent += 1
            case ev.OperationConfirmed():
                self.seen.operations += 1
                if event.kind is OperationKind.REDEEM:
                    self.seen.redeemed += 1
                    self.seen.lost += not event.cash
            case ev.TradingStateChanged(by="engine"):
                raise Disproved(f"the engine halted: {event.reason}")
            case _:
                pass
        self.state.apply(event)
        if self.state.anomaly:
            raise Disproved(self.state.anomaly)
        book = self.state.portfolio
        if book.cash + book.cost != book.deposited + book.realised:
            raise Disproved(f"cash and cost do not balance after {event}")
        self._caps()

    def _decide(self, event: ev.DecisionMade) -> None:
        for order in event.orders:
            if order.client_order_id in self._decided:
                raise Disproved(f"order {order.client_order_id} was decided twice")
            self._decided[order.client_order_id] = order
            self.seen.orders += 1
        for refusal in event.refused:
            code = refusal.code.value
            self.seen.refused[code] = self.seen.refused.get(code, 0) + 1

    def _sign(self, event: ev.OrderSigned) -> None:
        name, digest = event.client_order_id, event.venue_order_id
        if name not in self._decided:
            raise Disproved(f"order {name} was signed and never decided")
        if name in self._signed:
            raise Disproved(f"order {name} was signed twice")
        if digest in self._hashes:
            raise Disproved(f"order hash {digest} is of {self._hashes[digest]} and of {name}")
        self._signed[name], self._hashes[digest] = digest, name

    def _fill(self, event: ev.OrderFilled) -> None:
        order = self._decided.get(event.client_order_id)
        if order is None:
            raise Disproved(f"trade {event.trade_id} fills an order nobody decided")
        known = self._trades.get(event.trade_id)
        if known is not None:
            if (known.qty, known.price, known.side) != (event.qty, event.price, event.side):
                raise Disproved(f"trade {event.trade_id} was told in two ways")
            return
        self._trades[event.trade_id] = event
        self.seen.fills += 1
        total = self._filled[order.client_order_id] = (
            self._filled.get(order.client_order_id, 0) + event.qty
        )
        worse = event.price > order.price if order.side is Side.BUY else event.price < order.price
        if worse or total > order.qty or event.side is not order.side:
            raise Disproved(f"trade {event.trade_id} goes beyond order {order.client_order_id}")

    def _fail(self, event: ev.FillSettled) -> None:
        fill = self._trades.get(event.trade_id)
        if fill is not None and self.state.portfolio.settlement(event.trade_id) is not event.status:
            self.seen.failed += 1
            self.failed_worth += notional_up(fill.price, fill.qty) + fill.fee

    def _caps(self) -> None:
        """A plain count of what is at stake; a fill that failed may pass a cap by its worth."""
        state, limits = self.state, self.limits
        stake: dict[str, int] = {}
        for token, position in state.portfolio.positions.items():
            self._add(stake, token, position.cost)
        for order in state.orders.open.values():
            instrument = state.universe.instruments.get(order.instrument_id)
            if order.side is Side.BUY and instrument is not None:
                fee = instrument.fees.fee(order.price, order.remaining)
                self._add(
                    stake, order.instrument_id, notional_up(order.price, order.remaining) + fee
                )
        for operation in state.bundles.pending.values():
            if operation.cash < 0 and operation.mint:
                self._add(stake, operation.mint[0][0], -operation.cash)
        self.stake = stake
        self.seen.stake_max = max(self.seen.stake_max, sum(stake.values()))
        for market, at_stake in stake.items():
            if at_stake > limits.max_market_exposure + self.failed_worth:
                raise Disproved(f"{at_stake} at stake in market {market}, above its cap")
        if sum(stake.values()) > limits.max_wallet_exposure + self.failed_worth:
            raise Disproved(f"{sum(stake.values())} at stake in the wallet, above its cap")
        if len(state.orders.open) > limits.max_orders_in_flight:
            raise Disproved(f"{len(state.orders.open)} orders are open at once")

    def _add(self, stake: dict[str, int], token: InstrumentId, amount: int) -> None:
        instrument = self.state.universe.instruments.get(token)
        market = instrument.market_id if instrument is not None else str(token)
        stake[market] = stake.get(market, 0) + amount


def same_holdings(state: State, *, cash: int, tokens: Mapping[str, int]) -> None:
    """Journal and exchange hold the same; ``cash`` and ``tokens`` are the exchange's base units."""
    if state.portfolio.cash != cash * PER_BASE_UNIT:
        raise Disproved(
            f"cash: journal {state.portfolio.cash}, exchange {cash * PER_BASE_UNIT},"
            f" {state.portfolio.cash - cash * PER_BASE_UNIT} apart"
        )
    held = {str(token): p.qty for token, p in state.portfolio.positions.items() if p.qty}
    true = {token: amount * PER_BASE_UNIT for token, amount in tokens.items() if amount}
    if held != true:
        wrong = {
            token: (held.get(token, 0), true.get(token, 0))
            for token in held.keys() | true.keys()
            if held.get(token, 0) != true.get(token, 0)
        }
        raise Disproved(f"tokens (journal, exchange): {wrong}")


def at_rest(state: State) -> None:
    """Nothing is open, unknown or unsettled any more."""
    left = [
        *state.orders.open, *state.bundles.pending, *state.portfolio.unsettled_trades()
    ]  # fmt: skip
    if left:
        raise Disproved(f"still open at the end: {left}")


def nothing_rests(active: Iterable[str]) -> None:
    """``active`` are the ids the exchange still works on; the journal knows of none."""
    left = list(active)
    if left:
        raise Disproved(f"orders rest at the exchange that the journal holds for over: {left}")


class Posted:
    """The orders that went over the wire."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.sent: dict[str, int] = {}
        self.accepted: dict[str, int] = {}

    def posted(self, body: bytes) -> None:
        """A body of POST /order or /orders is about to leave."""
        for order in _orders_in(body):
            name = f"{order['salt']}|{order['tokenId']}|{order['side']}"
            form = json.dumps(order, sort_keys=True).encode()
            if self.bodies.setdefault(name, form) != form:
                raise Disproved(f"salt {order['salt']} was signed over two different orders")
            self.sent[name] = self.sent.get(name, 0) + 1

    def answered(self, body: bytes) -> list[str]:
        """The exchange's answer to one: each id may be accepted once. Those it accepted."""
        try:
            found = json.loads(body)
        except ValueError:
            return []
        taken: list[str] = []
        for answer in found if isinstance(found, list) else [found]:
            if not isinstance(answer, dict) or not answer.get("success") or answer.get("errorMsg"):
                continue
            digest = answer.get("orderID", "")
            if digest:
                taken.append(digest)
                self.accepted[digest] = self.accepted.get(digest, 0) + 1
                if self.accepted[digest] > 1:
                    raise Disproved(f"the exchange accepted order hash {digest} twice")
        return taken


def _orders_in(body: bytes) -> list[dict[str, object]]:
    found = json.loads(body)
    return [entry["order"] for entry in (found if isinstance(found, list) else [found])]
