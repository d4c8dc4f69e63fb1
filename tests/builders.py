"""Short ways to say prices, tokens, markets, plans and events, and an engine to feed them to.

Market ``n`` has the tokens ``y<n>`` and ``n<n>``. Texts are decimals: ``p("0.52")`` is a price.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fleet.domain import events as ev
from fleet.domain.commands import (
    Approved,
    BundleId,
    ClientOrderId,
    Command,
    Intent,
    LegPlan,
    OpenBundle,
    OperationId,
    OperationKind,
    OrderIntent,
    Purpose,
    RunOperation,
    StartTimer,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.instruments import (
    FeeSchedule,
    Instrument,
    InstrumentId,
    Ladder,
    Market,
    MarketId,
    OutcomeSet,
    SetId,
    Side,
    Universe,
)
from fleet.domain.units import Cash, Price, Qty, notional_up, parse_cash, parse_price, parse_qty
from fleet.engine.engine import Engine, Journal, Strategy
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.engine.view import View
from fleet.journal.codec import Codec
from fleet.journal.store import MemoryJournal

p, q, c = parse_price, parse_qty, parse_cash
MS = 1_000_000
NS = 1_000_000_000
DAY = 86_400 * NS
YEAR = 365 * DAY
Wishes = Sequence[Intent | StartTimer]
Levels = Iterable[tuple[str, str]]


def yes(number: int = 1) -> InstrumentId:
    return InstrumentId(f"y{number}")


def no(number: int = 1) -> InstrumentId:
    return InstrumentId(f"n{number}")


def market_id(number: int = 1) -> MarketId:
    return MarketId(f"m{number}")


def instrument(
    token: InstrumentId,
    complement: InstrumentId,
    market: MarketId,
    *,
    tick: str = "0.01",
    rate: str = "0",
    lot: str = "0.01",
    min_qty: str = "5",
    min_notional: str = "1",
) -> Instrument:
    return Instrument(
        id=token,
        market_id=market,
        complement=complement,
        outcome="Yes" if token.startswith("y") else "No",
        tick=p(tick),
        lot=q(lot),
        min_qty=q(min_qty),
        min_notional=c(min_notional),
        fees=FeeSchedule(rate=p(rate)),
    )


def universe(
    count: int = 1,
    *,
    tick: str = "0.01",
    rate: str = "0",
    min_qty: str = "5",
    end_ns: int = 0,
    one_set: bool = False,
    augmented: bool = False,
    ladder: bool = False,
) -> Universe:
    """Markets 1 to ``count``; with one outcome set or one ladder over all of them."""
    markets = {
        market_id(n): Market(
            id=market_id(n), question=f"Q{n}?", yes=yes(n), no=no(n), end_ns=end_ns
        )
        for n in range(1, count + 1)
    }
    tokens = {
        token: instrument(token, other, market.id, tick=tick, rate=rate, min_qty=min_qty)
        for market in markets.values()
        for token, other in ((market.yes, market.no), (market.no, market.yes))
    }
    ids = tuple(markets)
    group = OutcomeSet(id=SetId("s1"), title="Set", markets=ids, augmented=augmented)
    chain = Ladder(id="l1", title="Ladder", rungs=ids)
    return Universe(
        instruments=tokens,
        markets=markets,
        sets=(group,) if one_set else (),
        ladders=(chain,) if ladder else (),
    )


# --- events -----------------------------------------------------------------------------------


def levels(pairs: Levels) -> list[tuple[Price, Qty]]:
    return [(p(price), q(qty)) for price, qty in pairs]


def snapshot(
    token: InstrumentId,
    bids: Levels = (("0.48", "100"),),
    asks: Levels = (("0.52", "100"),),
    *,
    at: int = 0,
    tick: str | None = None,
) -> ev.BookSnapshot:
    step = p(tick) if tick is not None else None
    return ev.BookSnapshot(at, at, token, levels(bids), levels(asks), step)


def changed(at: int, *changes: tuple[InstrumentId, Side, str, str]) -> ev.BookChanged:
    return ev.BookChanged(at, at, [(t, s, p(price), q(qty)) for t, s, price, qty in changes])


def deposit(amount: str, name: str = "d1") -> ev.CashDeposited:
    return ev.CashDeposited(deposit_id=name, amount=c(amount))


def trading(state: ev.TradingState, *, at: int = 0, reason: str = "test") -> ev.TradingStateChanged:
    return ev.TradingStateChanged(ts_event=at, ts_recv=at, state=state, reason=reason, by="test")


def tick(at: int) -> ev.TimerFired:
    return ev.TimerFired(ts_event=at, ts_recv=at, name="tick")


def filled(
    order: SubmitOrder | str,
    qty: str,
    price: str,
    *,
    trade: str = "t1",
    fee: str = "0",
    at: int = 0,
    token: InstrumentId | None = None,
    side: Side | None = None,
) -> ev.OrderFilled:
    """A fill of an order; of a bare order id if ``token`` and ``side`` are given."""
    if isinstance(order, SubmitOrder):
        order_id, token, side = order.client_order_id, order.instrument_id, order.side
    else:
        order_id = ClientOrderId(order)
    return ev.OrderFilled(
        ts_event=at,
        ts_recv=at,
        trade_id=ev.TradeId(trade),
        client_order_id=order_id,
        instrument_id=token or yes(),
        side=side or Side.BUY,
        price=p(price),
        qty=q(qty),
        fee=c(fee),
    )


def settled(trade: str, status: ev.SettlementStatus, *, at: int = 0) -> ev.FillSettled:
    return ev.FillSettled(ts_event=at, ts_recv=at, trade_id=ev.TradeId(trade), status=status)


MINED = ev.SettlementStatus.MINED
CONFIRMED = ev.SettlementStatus.CONFIRMED
FAILED = ev.SettlementStatus.FAILED


def canceled(order: SubmitOrder | str, *, at: int = 0, reason: str = "rest") -> ev.OrderCanceled:
    name = order if isinstance(order, str) else order.client_order_id
    return ev.OrderCanceled(
        ts_event=at, ts_recv=at, client_order_id=ClientOrderId(name), reason=reason
    )


def operated(
    name: str,
    kind: OperationKind,
    *,
    burn: Sequence[tuple[InstrumentId, str]] = (),
    mint: Sequence[tuple[InstrumentId, str]] = (),
    cash: str = "0",
    at: int = 0,
) -> ev.OperationConfirmed:
    return ev.OperationConfirmed(
        ts_event=at,
        ts_recv=at,
        operation_id=OperationId(name),
        kind=kind,
        burn=tuple((t, q(n)) for t, n in burn),
        mint=tuple((t, q(n)) for t, n in mint),
        cash=c(cash),
    )


def confirmed(operation: RunOperation, *, at: int = 0) -> ev.OperationConfirmed:
    return ev.OperationConfirmed(
        ts_event=at,
        ts_recv=at,
        operation_id=operation.operation_id,
        kind=operation.kind,
        burn=operation.burn,
        mint=operation.mint,
        cash=operation.cash,
    )


# --- wishes -----------------------------------------------------------------------------------


def leg(
    token: InstrumentId,
    qty: str = "10",
    limit: str = "0.50",
    *,
    side: Side = Side.BUY,
    unwind: str = "0.40",
) -> LegPlan:
    return LegPlan(instrument_id=token, side=side, qty=q(qty), limit=p(limit), unwind=p(unwind))


def plan(
    *legs: LegPlan,
    name: str = "b1",
    finish: OperationKind | None = OperationKind.MERGE,
    start: OperationKind | None = None,
    payoff: str = "1",
    budget: str | None = None,
    edge: str = "0.5",
    key: str = "m1",
) -> OpenBundle:
    """A bundle; its budget is what the bought legs (or the split) cost, without fees."""
    cost: int = sum(notional_up(x.limit, x.qty) for x in legs if x.side is Side.BUY)
    if start is OperationKind.SPLIT:
        cost += max(x.qty for x in legs)
    return OpenBundle(
        bundle_id=BundleId(name),
        idea="TEST",
        key=key,
        legs=legs,
        start=start,
        finish=finish,
        payoff=p(payoff),
        budget=c(budget) if budget is not None else Cash(cost),
        edge=c(edge),
    )


def order(
    index: int = 0,
    token: InstrumentId | None = None,
    qty: str = "10",
    price: str = "0.50",
    *,
    name: str = "b1",
    side: Side = Side.BUY,
    purpose: Purpose = Purpose.LEG,
    tif: TimeInForce = TimeInForce.FAK,
) -> OrderIntent:
    return OrderIntent(
        bundle_id=BundleId(name),
        leg=index,
        purpose=purpose,
        instrument_id=token or yes(),
        side=side,
        price=p(price),
        qty=q(qty),
        tif=tif,
    )


def submit(
    name: str = "o1",
    token: InstrumentId | None = None,
    qty: str = "10",
    price: str = "0.50",
    *,
    side: Side = Side.BUY,
    bundle: str = "b1",
    index: int = 0,
    purpose: Purpose = Purpose.LEG,
    tif: TimeInForce = TimeInForce.FAK,
) -> SubmitOrder:
    return SubmitOrder(
        client_order_id=ClientOrderId(name),
        bundle_id=BundleId(bundle),
        leg=index,
        purpose=purpose,
        instrument_id=token or yes(),
        side=side,
        price=p(price),
        qty=q(qty),
        tif=tif,
        ts=0,
    )


# --- an engine to feed -------------------------------------------------------------------------


class Scripted:
    """A strategy that says what it was told to say, once, at the next event."""

    def __init__(self) -> None:
        self.next: list[Intent | StartTimer] = []

    def on_event(self, event: ev.AnyEvent, view: View) -> Wishes:
        said, self.next = self.next, []
        return said

    def figures(self) -> dict[str, int]:
        return {"opportunities": 0}


class Rig:
    """An engine with a journal in memory that stores through the real codec."""

    def __init__(
        self,
        world: Universe,
        strategy: Callable[[View], Strategy] | None = None,
        limits: RiskLimits | None = None,
        journal: Journal | None = None,
        state: State | None = None,
    ) -> None:
        self.script = Scripted()
        self.state = state or State(world)
        self.journal = MemoryJournal(codec=Codec())
        made: Strategy = strategy(View(self.state)) if strategy is not None else self.script
        self.engine = Engine(
            state=self.state,
            strategy=made,
            risk=Risk(limits or RiskLimits()),
            journal=journal or self.journal,
        )
        self.commands: list[Command] = []

    def say(self, *events: ev.AnyEvent) -> list[Command]:
        """Feed events; the commands they caused."""
        caused = [command for event in events for command in self.engine.handle(event)]
        self.commands.extend(caused)
        return caused

    def wish(self, *wishes: Intent | StartTimer, event: ev.AnyEvent | None = None) -> list[Command]:
        """Make the scripted strategy wish something at the next event (a timer)."""
        self.script.next = list(wishes)
        return self.say(event or tick(self.state.now_ns))

    def open_market(self, cash: str = "1000", at: int = NS) -> None:
        """Cash, two-sided books of every token, and trading on."""
        self.say(deposit(cash))
        for token in self.state.universe.instruments:
            self.say(snapshot(token, at=at))
        self.say(trading(ev.TradingState.ACTIVE, at=at))

    @property
    def entries(self) -> list[ev.Event]:
        """What the journal holds."""
        return [entry.event for entry in self.journal.read()]


def orders_of(commands: Iterable[Command]) -> list[SubmitOrder]:
    """The orders among some commands."""
    return [
        x.request
        for x in commands
        if isinstance(x, Approved) and isinstance(x.request, SubmitOrder)
    ]


def operations_of(commands: Iterable[Command]) -> list[RunOperation]:
    """The token operations among some commands."""
    return [
        x.request
        for x in commands
        if isinstance(x, Approved) and isinstance(x.request, RunOperation)
    ]


def durable(state: State) -> dict[str, Any]:
    """What a journal must give back, by value."""
    book = state.portfolio
    trades = sorted(book.trades())
    return copy.deepcopy(
        {
            "cash": book.cash,
            "deposited": book.deposited,
            "realised": book.realised,
            "fees": book.fees,
            "positions": dict(sorted(book.positions.items())),
            "day": (book.day, book.day_realised, book.day_turnover),
            "settlements": {t: book.settlement(t) for t in trades},
            "unsettled": book.unsettled_trades(),
            "orders": list(state.orders),
            "open_orders": list(state.orders.open),
            "bundles": [state.bundles.get(b) for b in sorted(state.bundles._bundles)],
            "open_bundles": list(state.bundles.open),
            "pending": dict(state.bundles.pending),
            "operations": state.bundles.operations,
            "totals": state.bundles.totals,
            "trading": (state.trading, state.trading_reason, state.trading_by),
            "reconciled": state.reconciled,
            "operator": state.operator,
            "resolved": dict(state.resolved),
            "forecasts": dict(state.forecasts),
            "standing": list(state.bundles.standings.all.values()),
            "leaders": state.leaders.image(),
            "decisions": state.decisions,
            "anomaly": state.anomaly,
        }
    )
