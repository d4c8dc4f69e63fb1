"""May this pass? An ordered list of small rules; the first that objects gives the refusal code.

A bundle is judged as a whole when it opens (limits, day loss, cash, books of all its legs) and its
budget is then reserved until it closes; an order is judged against the plan of its bundle and the
state of its instrument. Resting, in-flight and unresolved orders count as if they had filled. If
one order of a bundle that opens in the same breath is refused, all of it is refused.

Only this module makes an ``Approved``'s request pass; it never sizes or sends anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fleet.domain.commands import (
    FLATTEN,
    BundleId,
    CloseBundle,
    Intent,
    OpenBundle,
    OperationIntent,
    OperationKind,
    OrderIntent,
    Purpose,
    RefusalCode,
    Refused,
)
from fleet.domain.events import TradingState
from fleet.domain.instruments import Instrument, InstrumentId, MarketId, Side
from fleet.domain.units import (
    SCALE,
    Cash,
    Price,
    Qty,
    format_dollars,
    format_units,
    notional_up,
)
from fleet.engine.allowance import Allowance
from fleet.engine.bundle import Bundle
from fleet.engine.exposure import (
    free_cash,
    free_tokens,
    market_exposure,
    planned_by_market,
    reserved_budget,
    split_cost,
)
from fleet.engine.state import State
from fleet.engine.verdict import Verdict, describe, refusal

Objection = tuple[RefusalCode, str]
_DOLLAR: Final = SCALE

# Members bound once: Python 3.11 looks each up through the metaclass, ten times slower.
_ACTIVE: Final = TradingState.ACTIVE
_HALTED: Final = TradingState.HALTED
_REDUCING: Final = TradingState.REDUCING
_BUY: Final = Side.BUY
_SELL: Final = Side.SELL
_UNWIND: Final = Purpose.UNWIND


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """Hard limits of one wallet. Cash at 1e-8 dollars; days are UTC."""

    max_order_notional: Cash = Cash(250 * _DOLLAR)
    max_market_exposure: Cash = Cash(500 * _DOLLAR)
    max_wallet_exposure: Cash = Cash(2_000 * _DOLLAR)
    max_day_turnover: Cash = Cash(50_000 * _DOLLAR)
    max_day_loss: Cash = Cash(50 * _DOLLAR)
    max_orders_in_flight: int = 20
    stale_ns: int = 30_000_000_000


class Risk:
    """The rules, with their limits."""

    def __init__(self, limits: RiskLimits, allowance: Allowance | None = None) -> None:
        """Judge by ``limits``, and by what the fleet allows this bot (``None``: it is alone).

        ``allowance`` is exchanged for a newer one between two events.
        """
        self.limits = limits
        self.allowance = allowance

    def check(self, intents: Sequence[Intent], state: State) -> Verdict:
        """Judge all intents of one decision together, in order."""
        for intent in intents:
            if intent.bundle_id != intents[0].bundle_id:
                break
        else:
            return self._check_group(intents, state, None)
        groups: dict[BundleId, list[Intent]] = {}
        for intent in intents:
            groups.setdefault(intent.bundle_id, []).append(intent)
        verdict = Verdict()
        for group in groups.values():
            verdict = self._check_group(group, state, verdict)
        return verdict

    def _check_group(
        self, group: Sequence[Intent], state: State, verdict: Verdict | None
    ) -> Verdict:
        """``verdict`` with this group added to it; all of the group is refused, if its plan is."""
        plan = None
        for intent in group:
            if type(intent) is OpenBundle:
                plan = intent
                break
        trial = verdict.copy() if verdict is not None else Verdict()
        refused: list[Refused] = []
        for intent in group:
            objection = self._judge(intent, state, trial)
            if objection is None:
                trial.add(intent)
                continue
            refused.append(refusal(intent, *objection))
            if plan is not None:
                because = f"{describe(intent)}: {objection[0].value}"
                refused.extend(
                    refusal(other, RefusalCode.BUNDLE_INCOMPLETE, because)
                    for other in group
                    if other is not intent
                )
                break
        if refused:
            if plan is not None:
                trial = verdict if verdict is not None else Verdict()
            trial.refused += refused
        return trial

    def _judge(self, intent: Intent, state: State, trial: Verdict) -> Objection | None:
        if type(intent) is CloseBundle:
            return None
        if state.trading is _HALTED:
            return RefusalCode.TRADING_HALTED, state.trading_reason
        if type(intent) is OrderIntent:
            return self._order(intent, state, trial)
        if type(intent) is OpenBundle:
            return self._bundle(intent, state, trial)
        return self._operation(intent, state, trial)  # type: ignore[arg-type]  # the only one left

    # --- a bundle that opens ------------------------------------------------------------------

    def _bundle(self, plan: OpenBundle, state: State, trial: Verdict) -> Objection | None:
        """The rules of a bundle; what it can cost is added up once for all of them.

        A plan that only sells what is held frees money: no limit of money stands in its way.
        """
        if plan.exits and _only_sells(plan):
            return self._bundle_books(plan, state)
        if state.trading is not _ACTIVE:
            return RefusalCode.TRADING_REDUCING, state.trading_reason
        wanted = planned_by_market([plan], state)
        cost = max(plan.budget, sum(wanted.values()))
        reserved = reserved_budget(state) + trial.opened_cost
        objection = (
            self._bundle_books(plan, state)
            or self._bundle_markets(wanted, state, trial)
            or self._bundle_funds(cost, reserved, state)
        )
        if objection is None and self.allowance is not None:
            objection = self.allowance.objection(
                plan, cost, wanted, reserved=reserved, opened=trial.opened_by_market, state=state
            )
        if objection is None:
            trial.opened_cost += cost
            opened = trial.opened_by_market
            for market_id, amount in wanted.items():
                opened[market_id] = opened.get(market_id, 0) + amount
        return objection

    def _bundle_books(self, plan: OpenBundle, state: State) -> Objection | None:
        instruments, most = state.universe.instruments, self.limits.max_order_notional * SCALE
        for leg in plan.legs:
            if leg.instrument_id not in instruments:
                return RefusalCode.INSTRUMENT_UNKNOWN, leg.instrument_id
            objection = self._book(leg.instrument_id, state)
            if objection is not None:
                return objection
            if leg.limit * leg.qty > most and leg.side is _BUY:
                notional = notional_up(leg.limit, leg.qty)
                return RefusalCode.ORDER_NOTIONAL_REACHED, format_dollars(notional)
        return None

    def _bundle_markets(
        self, wanted: Mapping[MarketId, int], state: State, trial: Verdict
    ) -> Objection | None:
        for market_id, cost in wanted.items():
            held = market_exposure(market_id, state) + trial.opened_by_market.get(market_id, 0)
            if held + cost > self.limits.max_market_exposure:
                return (
                    RefusalCode.MARKET_EXPOSURE_REACHED,
                    f"{format_dollars(held)} + {format_dollars(cost)} in {market_id}",
                )
        return None

    def _bundle_funds(self, cost: int, reserved: int, state: State) -> Objection | None:
        """Wallet, day and cash; ``reserved`` is what everything already open may still cost."""
        portfolio = state.portfolio
        held = portfolio.cost + reserved if portfolio.positions else reserved
        if held + cost > self.limits.max_wallet_exposure:
            return (
                RefusalCode.WALLET_EXPOSURE_REACHED,
                f"{format_dollars(held)} + {format_dollars(cost)}",
            )
        loss = portfolio.day_loss(state.now_ns)
        if loss >= self.limits.max_day_loss:
            return RefusalCode.DAY_LOSS_REACHED, f"lost {format_dollars(loss)} today"
        turnover = portfolio.turnover(state.now_ns)
        if turnover + reserved + cost > self.limits.max_day_turnover:
            return RefusalCode.DAY_TURNOVER_REACHED, f"{format_dollars(turnover)} today"
        free = portfolio.cash - reserved
        if cost > free:
            return (
                RefusalCode.CASH_INSUFFICIENT,
                f"needs {format_dollars(cost)}, free {format_dollars(free)}",
            )
        return None

    # --- one order ----------------------------------------------------------------------------

    def _order(self, intent: OrderIntent, state: State, trial: Verdict) -> Objection | None:
        """The rules of an order: its instrument, its plan, its shape, its book, money or tokens."""
        token, buying = intent.instrument_id, intent.side is _BUY
        instrument = state.universe.instruments.get(token)
        if instrument is None:
            return RefusalCode.INSTRUMENT_UNKNOWN, token
        if self.allowance is not None and not self.allowance.claims(token):
            return RefusalCode.INSTRUMENT_UNCLAIMED, token
        if buying and state.trading is _REDUCING:
            return RefusalCode.TRADING_REDUCING, state.trading_reason
        bundle = state.bundles.open.get(intent.bundle_id)
        objection = self._order_plan(intent, bundle, state, trial) or self._order_shape(
            intent, instrument, state.books[token].tick
        )
        if objection is not None:
            return objection
        # Books, money and the order limit were judged a moment ago if the bundle opens right now.
        opening = bundle is None and intent.bundle_id != FLATTEN
        if not opening:
            objection = self._book(token, state)
            if objection is not None:
                return objection
        flying = len(state.orders.open) + len(trial.orders)
        if flying >= self.limits.max_orders_in_flight:
            return RefusalCode.ORDERS_IN_FLIGHT_REACHED, str(flying)
        if buying:
            return None if opening else self._order_money(intent, instrument, state, trial)
        return self._order_tokens(intent, state, trial)

    @staticmethod
    def _order_plan(
        intent: OrderIntent, bundle: Bundle | None, state: State, trial: Verdict
    ) -> Objection | None:
        number, buying = intent.leg, intent.side is _BUY
        unwind = intent.purpose is _UNWIND
        if unwind and intent.bundle_id == FLATTEN:
            return (RefusalCode.LEG_EXCEEDED, "it never buys") if buying else None
        plan = bundle.plan if bundle is not None else _opening(intent, trial)
        if plan is None or not 0 <= number < len(plan.legs):
            return RefusalCode.BUNDLE_UNKNOWN, intent.bundle_id
        leg = plan.legs[number]
        if intent.instrument_id != leg.instrument_id:
            return RefusalCode.LEG_EXCEEDED, "another instrument than planned"
        if unwind:
            return (RefusalCode.LEG_EXCEEDED, "an unwind never buys") if buying else None
        total = intent.qty
        if bundle is not None:
            total = Qty(total + bundle.legs[number].filled)
        if state.orders.open or trial.orders:
            total = Qty(total + _in_flight(intent, state, trial))
        price, limit = intent.price, leg.limit
        worse = price > limit if buying else price < limit
        if intent.side is not leg.side or worse or total > leg.qty:
            return (
                RefusalCode.LEG_EXCEEDED,
                f"{format_units(total)} of {format_units(leg.qty)} @ {format_units(price)}",
            )
        return None

    @staticmethod
    def _order_shape(intent: OrderIntent, instrument: Instrument, tick: Price) -> Objection | None:
        """On the grid, in whole lots, and not below a minimum."""
        price, qty = intent.price, intent.qty
        if price % tick or not instrument.prices(price):
            return RefusalCode.PRICE_OFF_TICK, f"{format_units(price)} of {tick}"
        if qty <= 0 or qty % instrument.lot:
            return RefusalCode.QTY_OFF_LOT, format_units(qty)
        if qty < instrument.min_qty:
            return RefusalCode.QTY_BELOW_MINIMUM, format_units(qty)
        if price * qty <= (instrument.min_notional - 1) * SCALE:  # Rounded up, it is less.
            return RefusalCode.NOTIONAL_BELOW_MINIMUM, format_dollars(notional_up(price, qty))
        return None

    def _order_money(
        self, intent: OrderIntent, instrument: Instrument, state: State, trial: Verdict
    ) -> Objection | None:
        notional = notional_up(intent.price, intent.qty)
        if notional > self.limits.max_order_notional:
            return RefusalCode.ORDER_NOTIONAL_REACHED, format_dollars(notional)
        fee = instrument.fees.fee(intent.price, intent.qty)
        if notional + fee > free_cash(state, trial.orders, trial.operations):
            return RefusalCode.CASH_INSUFFICIENT, format_dollars(state.portfolio.cash)
        return None

    @staticmethod
    def _order_tokens(intent: OrderIntent, state: State, trial: Verdict) -> Objection | None:
        free = free_tokens(intent.instrument_id, state, trial.orders, trial.operations)
        if intent.qty > free:
            return RefusalCode.POSITION_INSUFFICIENT, f"free {format_units(free)}"
        return None

    def _book(self, instrument_id: InstrumentId, state: State) -> Objection | None:
        if instrument_id in state.resolved:
            return RefusalCode.MARKET_RESOLVED, instrument_id
        book = state.books[instrument_id]
        if not book.ready or book.best_bid >= book.best_ask:
            return RefusalCode.BOOK_NOT_READY, instrument_id
        age = state.now_ns - state.last_market_ns
        if age > self.limits.stale_ns:
            return RefusalCode.BOOK_STALE, f"no market data for {age // 1_000_000} ms"
        if state.orders.open and state.orders.unresolved(instrument_id):
            return RefusalCode.ORDER_UNRESOLVED, instrument_id
        return None

    # --- one operation ------------------------------------------------------------------------

    @staticmethod
    def _operation(intent: OperationIntent, state: State, trial: Verdict) -> Objection | None:
        bundle = state.bundles.open.get(intent.bundle_id)
        plan = bundle.plan if bundle is not None else _opening(intent, trial)
        loose = intent.bundle_id == FLATTEN and intent.kind is OperationKind.MERGE
        if plan is None and intent.kind is not OperationKind.REDEEM and not loose:
            return RefusalCode.BUNDLE_UNKNOWN, intent.bundle_id
        if intent.kind is OperationKind.SPLIT and state.trading is _REDUCING:
            return RefusalCode.TRADING_REDUCING, state.trading_reason
        if intent.cash < 0:
            cost = Cash(-intent.cash)
            made = bundle is not None and bundle.split_live
            made = made or any(o.bundle_id == intent.bundle_id for o in trial.operations)
            if plan is None or made or cost > split_cost(plan):
                return RefusalCode.LEG_EXCEEDED, f"{format_dollars(cost)} is not in the plan"
            if cost > free_cash(state, trial.orders, trial.operations):
                return RefusalCode.CASH_INSUFFICIENT, format_dollars(state.portfolio.cash)
        for instrument_id, qty in intent.burn:
            free = free_tokens(instrument_id, state, trial.orders, trial.operations)
            if qty > free:
                return RefusalCode.POSITION_INSUFFICIENT, f"{instrument_id}: {format_units(free)}"
        return None


def _only_sells(plan: OpenBundle) -> bool:
    """Whether a plan can cost nothing, whatever its budget says; its orders need tokens held."""
    return plan.start is None and all(leg.side is _SELL for leg in plan.legs)


def _opening(intent: OrderIntent | OperationIntent, trial: Verdict) -> OpenBundle | None:
    """The plan of a bundle that opens in this very decision."""
    for plan in trial.opened:
        if plan.bundle_id == intent.bundle_id:
            return plan
    return None


def _in_flight(intent: OrderIntent, state: State, trial: Verdict) -> int:
    bundle_id, leg, total = intent.bundle_id, intent.leg, 0
    for order in state.orders.open.values():
        if order.bundle_id == bundle_id and order.leg == leg and order.purpose is intent.purpose:
            total += order.remaining
    for wish in trial.orders:
        if wish.bundle_id == bundle_id and wish.leg == leg:
            total += wish.qty
    return total
