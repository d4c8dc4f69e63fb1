"""Moving trades along: holds at the match, movements when mined, the end either way.

``settlement`` says what a trade moves and what happens next; here it is done to the ledger.
"""

from __future__ import annotations

from dataclasses import replace

from fleet.domain.events import SettlementStatus
from fleet.sandbox.exchange.accounts import CASH, FLOW
from fleet.sandbox.exchange.settlement import (
    OPEN,
    UNMINED,
    SettlementFaults,
    Trade,
    first_wait_ns,
    movements,
    next_step,
)
from fleet.sandbox.exchange.state import ExchangeState
from fleet.sandbox.market_frames import Frame


class Settling:
    """Takes trades from the match to their end."""

    def __init__(self, state: ExchangeState, faults: SettlementFaults) -> None:
        """Work on ``state``; ``faults`` is read at each step."""
        self._state = state
        self._faults = faults

    def delay_ns(self, order_id: str, usual_ns: int) -> int:
        """How long a taking order of a market that usually waits ``usual_ns`` is held back."""
        return max(usual_ns, self._faults.delay_ns(order_id))

    def begin(self, trade: Trade) -> None:
        """A match: hold what everybody owes, tell everybody, and wait for the chain."""
        self._state.enter_trade(trade)
        trade.due_ns = trade.view.matched_ns + first_wait_ns(trade.view.trade_id, self._faults)
        self._state.tell_trade(trade, trade.view.matched_ns)
        self.resume(trade)

    def resume(self, trade: Trade) -> None:
        """Hold what an open trade owes and wait for its next step; also after a restart."""
        if trade.view.status in UNMINED:
            self._hold(trade, 1)
        if trade.view.status in OPEN:
            self._wait(trade)

    def _wait(self, trade: Trade) -> None:
        simulator = self._state.simulator
        due_ns = max(trade.due_ns, simulator.now_ns)
        simulator.at(due_ns, lambda now: self._advance(trade, now))

    def _hold(self, trade: Trade, sign: int) -> None:
        for wallet, asset, amount in movements(trade.view).out:
            if wallet != FLOW or asset != CASH:
                self._state.ledger.hold(wallet, asset, sign * amount)

    def _advance(self, trade: Trade, now_ns: int) -> list[Frame]:
        status, trade.doomed, wait_ns = next_step(trade, self._faults)
        if status is SettlementStatus.MINED and not self._covered(trade):
            status = SettlementStatus.FAILED
        digest = trade.view.transaction_hash
        if status is SettlementStatus.MINED:
            digest = f"0x{self._state.digest(f'mined:{trade.view.trade_id}')}"
        if status in {SettlementStatus.MINED, SettlementStatus.FAILED}:
            self._hold(trade, -1)
        if status is SettlementStatus.MINED:
            self._move(trade)
        trade.view = replace(trade.view, status=status, updated_ns=now_ns, transaction_hash=digest)
        trade.due_ns = now_ns + wait_ns
        self._state.tell_trade(trade, now_ns)
        if status in OPEN:
            self._wait(trade)
        return []

    def _covered(self, trade: Trade) -> bool:
        """Whether everybody still owns what they owe: the chain knows no holds."""
        owed: dict[tuple[str, str], int] = {}
        for wallet, asset, amount in movements(trade.view).out:
            owed[wallet, asset] = owed.get((wallet, asset), 0) + amount
        ledger = self._state.ledger
        return all(
            ledger.balance(wallet, asset) >= amount or (wallet, asset) == (FLOW, CASH)
            for (wallet, asset), amount in owed.items()
        )

    def _move(self, trade: Trade) -> None:
        state = self._state
        moved = movements(trade.view)
        for wallet, asset, amount in moved.out:
            state.ledger.move(wallet, asset, -amount)
        for wallet, asset, amount in moved.into:
            state.ledger.move(wallet, asset, amount)
        state.ledger.fees += moved.fee
        if moved.locked:
            state.ledger.lock(state.markets[trade.view.condition_id].pool, moved.locked)
