"""What to do next for an open bundle: the execution of a multi-leg idea, step by step.

Theory of operation. A bundle's plan lists its legs, thinnest first. ``next_step`` looks at the leg
ledger and says what comes now; it is asked after every account fact and timer, holds no state of
its own, and so carries on after a crash exactly where the journal ends:

1. something is in flight, unresolved or operating: wait;
2. the plan starts with a split that has not been made: split;
3. a leg has not been tried enough: order it, sized by what the legs before it really filled. The
   thinnest goes alone, as a probe: if it misses, nothing is lost. What follows (one by one, or all
   the rest at once) may be tried again up to its hard cap, where completing the set is still better
   than unwinding it;
4. legs filled unevenly: unwind the surplus, no worse than the leg's unwind price at first, then,
   after the patience is over, at whatever the book bids, because a lonely leg is a bet;
5. whole sets are left and the plan ends with an operation: run it once the fills are settled;
6. nothing is left to do: close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fleet.domain.commands import (
    CloseBundle,
    Intent,
    OpenBundle,
    OperationIntent,
    OrderIntent,
    Purpose,
)
from fleet.domain.events import TradingState
from fleet.domain.instruments import Side
from fleet.domain.units import Cash, Price, Qty, notional_down
from fleet.engine.bundle import Bundle, OperationStatus
from fleet.engine.view import View

_ACTIVE: Final = TradingState.ACTIVE
_LEG: Final = Purpose.LEG
COMPLETE: Final = "COMPLETE"
HELD: Final = "HELD"
SOLD: Final = "SOLD"
"""What an exit gave away."""
MISSED: Final = "MISSED"
UNWOUND: Final = "UNWOUND"
STRANDED: Final = "STRANDED"
NOT_STARTED: Final = "NOT_STARTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSettings:
    """How legs are worked: one by one; or the first alone and the ``rest_together``; or all
    ``together``, probe included.
    """

    together: bool = False
    rest_together: bool = False
    max_tries: int = 2
    max_unwind_tries: int = 20
    retry_ns: int = 1_000_000_000
    patience_ns: int = 5_000_000_000
    operation_retry_ns: int = 5_000_000_000


def next_step(bundle: Bundle, view: View, settings: ExecutionSettings) -> Sequence[Intent]:
    """The wishes of this moment for one open bundle; empty when it has to wait."""
    if bundle.operating:
        return ()
    for order in view.open_orders.values():
        if order.bundle_id == bundle.id:
            return ()
    if not all(view.knows(leg.instrument_id) for leg in bundle.plan.legs):
        # A market that left the catalogue cannot be traded; what is held stays in the portfolio.
        return (CloseBundle(bundle_id=bundle.id, outcome=_outcome(bundle, lost=True)),)
    if _finished(bundle):
        return (CloseBundle(bundle_id=bundle.id, outcome=_outcome(bundle)),)
    started = _start(bundle, view)
    if started is not None:
        return started
    orders = _next_legs(bundle, view, settings)
    if orders:
        return orders
    unwinds, waiting = _unwinds(bundle, view, settings)
    if unwinds or waiting:
        return unwinds
    return _finish(bundle, view, settings)


def first_step(plan: OpenBundle, view: View, settings: ExecutionSettings) -> Sequence[Intent]:
    """What ``next_step`` says of a bundle that opens now, in a fraction of the time.

    Most plans begin with orders for what was just sized, on books that were just looked at: nothing
    else about a bundle of which nothing has happened yet has to be asked.
    """
    plain = plan.start is None and settings.max_tries > 0 and settings.patience_ns > 0
    if not plain or view.trading is not _ACTIVE:
        return next_step(Bundle.fresh(plan, view.now_ns), view, settings)
    return [
        OrderIntent(
            bundle_id=plan.bundle_id,
            leg=index,
            purpose=_LEG,
            instrument_id=leg.instrument_id,
            side=leg.side,
            price=leg.price or leg.limit,
            qty=leg.qty,
        )
        for index, leg in enumerate(plan.legs if settings.together else plan.legs[:1])
    ]


def _finished(bundle: Bundle) -> bool:
    """Whether the operation that ends the plan is done; nothing may be ordered after it."""
    if bundle.plan.finish is None:
        return False
    finish = bundle.operation(bundle.plan.finish)
    return finish is not None and finish.status is OperationStatus.CONFIRMED


def _start(bundle: Bundle, view: View) -> Sequence[Intent] | None:
    """The split that comes before sold legs; nothing once it is made (or not needed)."""
    if bundle.plan.start is None:
        return None
    done = bundle.operation(bundle.plan.start)
    over = any(leg.instrument_id in view.resolved for leg in bundle.plan.legs)
    if done is None and (over or view.trading is not TradingState.ACTIVE):
        return (CloseBundle(bundle_id=bundle.id, outcome=NOT_STARTED),)
    if done is None:
        qty = bundle.plan.legs[0].qty
        pair = tuple((leg.instrument_id, qty) for leg in bundle.plan.legs)
        cost = notional_down(Price(-bundle.plan.payoff), qty)
        return (
            OperationIntent(
                bundle_id=bundle.id, kind=bundle.plan.start, subject=bundle.plan.key,
                burn=(), mint=pair, cash=Cash(-cost),
            ),
        )  # fmt: skip
    if done.status is OperationStatus.REJECTED:
        return (CloseBundle(bundle_id=bundle.id, outcome=NOT_STARTED),)
    return None


def _next_legs(bundle: Bundle, view: View, settings: ExecutionSettings) -> list[Intent]:
    if settings.together:
        return _wave(bundle, view, settings, range(len(bundle.legs)))
    goal: int | None = None
    for index, leg in enumerate(bundle.plan.legs):
        if index == 1 and settings.rest_together:
            return _wave(bundle, view, settings, range(1, len(bundle.legs)))
        state = bundle.legs[index]
        goal = leg.qty if goal is None else min(goal, leg.qty)
        later = any(following.tries for following in bundle.legs[index + 1 :])
        order = None if later else _leg_order(bundle, index, goal, view, settings)
        if order is not None:
            return [order]
        goal = state.filled
        if not goal:
            break
    return []


def _wave(bundle: Bundle, view: View, settings: ExecutionSettings, indices: range) -> list[Intent]:
    """Several legs at once: to the plan, or to what the probe or the fullest leg has filled."""
    plan = bundle.plan.legs
    if indices.start or any(leg.tries for leg in bundle.legs):
        goal = max(leg.filled for leg in bundle.legs)
    else:
        goal = max(leg.qty for leg in plan)
    orders = (
        _leg_order(bundle, index, min(goal, plan[index].qty), view, settings) for index in indices
    )
    return [order for order in orders if order is not None]


def _leg_order(
    bundle: Bundle, index: int, goal: int, view: View, settings: ExecutionSettings
) -> OrderIntent | None:
    """The order that brings a leg to ``goal`` shares; nothing if it may not or need not be sent."""
    leg, state = bundle.plan.legs[index], bundle.legs[index]
    if state.tries >= settings.max_tries or state.unwound or leg.instrument_id in view.resolved:
        return None
    if leg.side is Side.BUY and view.trading is not TradingState.ACTIVE:
        return None
    qty = leg.qty
    if state.tries or goal != qty:  # The plan itself was sized to lots and minimums.
        instrument = view.instrument(leg.instrument_id)
        qty = instrument.quantize_qty(goal - state.filled)
        if qty < instrument.least_qty(leg.limit):
            return None
    # The first try needs no look: the decision was just made on this book. Later a leg whose book
    # is gone must not keep the others waiting for their unwinding.
    if state.tries or view.now_ns - bundle.opened_ns >= settings.patience_ns:
        book = view.book(leg.instrument_id)
        if not (book.usable and book.depth(leg.side, leg.limit) > 0):
            return None
    return OrderIntent(
        bundle_id=bundle.id,
        leg=index,
        purpose=Purpose.LEG,
        instrument_id=leg.instrument_id,
        side=leg.side,
        price=leg.limit if state.tries or not leg.price else leg.price,
        qty=qty,
    )


def _surplus(bundle: Bundle) -> list[Qty]:
    """Shares of each leg that have no partner, in tokens we hold and should not."""
    legs = bundle.plan.legs
    if legs[0].side is Side.BUY:
        level = bundle.matched
        return [Qty(leg.filled - leg.unwound - level) for leg in bundle.legs]
    held = [
        plan.qty - leg.filled - leg.unwound for plan, leg in zip(legs, bundle.legs, strict=True)
    ]
    level_held = min(held)
    return [Qty(qty - level_held) for qty in held]


def _unwinds(bundle: Bundle, view: View, settings: ExecutionSettings) -> tuple[list[Intent], bool]:
    """Orders that sell surplus shares, and whether some surplus has to wait for its moment."""
    intents: list[Intent] = []
    waiting = False
    for index, surplus in enumerate(_surplus(bundle)):
        leg, state = bundle.plan.legs[index], bundle.legs[index]
        if leg.instrument_id in view.resolved:
            continue  # Nobody buys it any more; it is redeemed.
        instrument = view.instrument(leg.instrument_id)
        qty = instrument.quantize_qty(surplus)
        if qty < instrument.min_qty or state.unwind_tries >= settings.max_unwind_tries:
            continue
        book = view.book(leg.instrument_id)
        patient = view.now_ns - bundle.opened_ns < settings.patience_ns
        price = leg.unwind if patient or not book.best_bid else min(leg.unwind, book.bid)
        settled = view.position(leg.instrument_id).settled >= qty
        rested = not state.unwind_tries or view.now_ns - state.last_try_ns >= settings.retry_ns
        if not (settled and rested and book.usable and book.bid >= price):
            waiting = True
            continue
        if notional_down(price, qty) < instrument.min_notional:
            continue
        intents.append(
            OrderIntent(
                bundle_id=bundle.id,
                leg=index,
                purpose=Purpose.UNWIND,
                instrument_id=leg.instrument_id,
                side=Side.SELL,
                price=price,
                qty=qty,
            )
        )
    return intents, waiting


def _finish(bundle: Bundle, view: View, settings: ExecutionSettings) -> Sequence[Intent]:
    plan = bundle.plan
    bought = plan.legs[0].side is Side.BUY
    whole = bundle.matched if bought else bundle.unsold
    if plan.finish is None or whole <= 0:
        return (CloseBundle(bundle_id=bundle.id, outcome=_outcome(bundle)),)
    done = bundle.operation(plan.finish)
    if done is not None and done.status is OperationStatus.CONFIRMED:
        return (CloseBundle(bundle_id=bundle.id, outcome=_outcome(bundle)),)
    if any(leg.instrument_id in view.resolved for leg in plan.legs):
        return (CloseBundle(bundle_id=bundle.id, outcome=HELD),)  # Each whole set is redeemed.
    if done is not None and view.now_ns - done.ended_ns < settings.operation_retry_ns:
        return ()
    tokens = tuple((leg.instrument_id, whole) for leg in plan.legs)
    if any(view.position(token).settled < qty for token, qty in tokens):
        return ()
    payoff = plan.payoff if bought else Price(-plan.payoff)
    return (
        OperationIntent(
            bundle_id=bundle.id,
            kind=plan.finish,
            subject=plan.key,
            burn=tokens,
            mint=(),
            cash=notional_down(payoff, whole),
        ),
    )


def _outcome(bundle: Bundle, *, lost: bool = False) -> str:
    """How a bundle ended; ``lost`` if its market can be traded no more."""
    if not bundle.any_filled:
        return MISSED
    if any(_surplus(bundle)):
        return STRANDED
    if bundle.matched <= 0:
        return UNWOUND
    if bundle.plan.exits:
        return SOLD
    if bundle.plan.finish is None:
        return HELD
    return STRANDED if lost else COMPLETE
