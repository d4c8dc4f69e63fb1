"""Start-up is crash recovery: fold the journal, ask the venue, agree, or refuse to trade.

``reconcile`` compares what the journal folds to with the venue's books. Every venue fact the
journal missed is handed to the engine as the event it is (with the venue's own ids, so that nothing
counts twice); an order or operation the venue proves it never had is rejected. When all of it is in
and cash or tokens still differ, the answer is a difference in words, and nobody may trade.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import structs

from fleet.domain import events as ev
from fleet.domain.commands import Command, TimeInForce
from fleet.domain.events import SettlementStatus
from fleet.domain.units import format_dollars, format_units
from fleet.engine.state import State
from fleet.venues.account import AccountQuery, AccountTruth

ABSENT: Final = "the venue never had it"
ENGINE: Final = "engine"
"""Who halts on a contradiction."""
TOKENS_TOLD: Final = 3
"""How many differing tokens a person is told by name."""
TAKERS: Final = frozenset({TimeInForce.FAK, TimeInForce.FOK})
"""Orders that are answered at once or not at all."""
_S = SettlementStatus
_PROGRESS: Final = (_S.MATCHED, _S.RETRYING, _S.MINED, _S.CONFIRMED, _S.FAILED)


def query_of(state: State) -> AccountQuery:
    """What this journal leaves open."""
    return AccountQuery(
        open_orders=frozenset(state.orders.open),
        known_trades=state.portfolio.trades(),
        unsettled_trades=frozenset(state.portfolio.unsettled_trades()),
        pending_operations=frozenset(state.bundles.pending),
        tokens=frozenset(state.portfolio.positions),
    )


def overdue(state: State, since_ns: int) -> bool:
    """Whether some outcome is unknown, or the answer to what was sent before ``since_ns`` late."""
    orders = state.orders.open.values()
    return any(o.unresolved or (o.tif in TAKERS and o.submitted_ns < since_ns) for o in orders)


def missed_facts(state: State, truth: AccountTruth, now_ns: int) -> list[ev.Event]:
    """The events that bring the journal level with the venue, in the venue's order."""
    missed: list[ev.Event] = [
        structs.replace(fact, ts_recv=now_ns) for fact in truth.facts if not _known(fact, state)
    ]
    stamp = {"ts_event": now_ns, "ts_recv": now_ns}
    missed += [
        ev.OrderRejected(**stamp, client_order_id=order_id, reason=ABSENT)
        for order_id in truth.absent_orders
    ]
    missed += [
        ev.OperationRejected(**stamp, operation_id=operation_id, reason=ABSENT)
        for operation_id in truth.absent_operations
    ]
    return missed


def _known(fact: ev.Event, state: State) -> bool:
    match fact:
        case ev.CashDeposited():
            return state.portfolio.knows_deposit(fact.deposit_id)
        case ev.OrderFilled():
            return state.portfolio.settlement(fact.trade_id) is not None
        case ev.FillSettled():
            return _settled_as_far(state.portfolio.settlement(fact.trade_id), fact.status)
        case ev.OrderAccepted():
            order = state.orders.get(fact.client_order_id)
            return order is not None and order.venue_order_id is not None
        case _:
            return False


def _settled_as_far(ours: SettlementStatus | None, theirs: SettlementStatus) -> bool:
    """Whether the journal is at least there: the venue tells the whole way, retries included."""
    return ours is not None and _PROGRESS.index(ours) >= _PROGRESS.index(theirs)


def difference(state: State, truth: AccountTruth) -> str:
    """How cash or tokens differ between journal and venue, in words; empty when they agree."""
    problems: list[str] = []
    if state.portfolio.cash != truth.cash:
        problems.append(
            f"cash: journal {format_dollars(state.portfolio.cash)},"
            f" venue {format_dollars(truth.cash)}"
        )
    held = {token: p.qty for token, p in state.portfolio.positions.items() if p.qty}
    tokens = sorted({*held, *truth.tokens})
    wrong = [token for token in tokens if held.get(token, 0) != truth.tokens.get(token, 0)]
    problems += [
        f"token {token}: journal {format_units(held.get(token, 0))},"
        f" venue {format_units(truth.tokens.get(token, 0))}"
        for token in wrong[:TOKENS_TOLD]
    ]
    if len(wrong) > TOKENS_TOLD:
        problems.append(f"and {len(wrong) - TOKENS_TOLD} tokens more")
    return "; ".join(problems)


def strangers(state: State, truth: AccountTruth) -> str:
    """The venue's fills of orders this journal never sent, in words; empty when there are none.

    They are not adopted: a journal that lost orders would use their ids again.
    """
    unknown = {
        fact.client_order_id
        for fact in truth.facts
        if isinstance(fact, ev.OrderFilled) and state.orders.get(fact.client_order_id) is None
    }
    if not unknown:
        return ""
    shown = ", ".join(sorted(unknown)[:5])
    return f"the venue filled {len(unknown)} orders the journal does not know ({shown})"


def _contradiction(state: State) -> str:
    """Why the engine halted over what it was just told; empty when it did not."""
    halted = state.trading is ev.TradingState.HALTED and state.trading_by == ENGINE
    return state.trading_reason if halted else ""


def reconcile(
    state: State,
    truth: AccountTruth,
    handle: Callable[[ev.Event], Sequence[Command]],
    *,
    venue: str,
    now_ns: int,
) -> str:
    """Bring journal and venue together; the remaining difference, empty when they agree.

    Commands that come back while halted (cancels) are the caller's to carry out through ``handle``.
    """
    missed = missed_facts(state, truth, now_ns)
    left = strangers(state, truth)
    if not left:
        for event in missed:
            handle(event)
        left = difference(state, truth) or _contradiction(state)
    stamp = {"ts_event": now_ns, "ts_recv": now_ns}
    if left:
        handle(ev.ReconciliationFailed(**stamp, venue=venue, difference=left))
    else:
        handle(ev.Reconciled(**stamp, venue=venue, adopted=len(missed)))
    return left
