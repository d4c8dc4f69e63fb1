"""What every strategy does with its open bundles, whatever opened them.

After each account fact and timer the next step of every open bundle is asked for; on a timer what
is resolved is redeemed, and what a person ordered to flatten is sold. Exits and unwinds go on while
trading is REDUCING (``legs`` buys nothing then), nothing while it is HALTED. It opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fleet.domain.commands import Intent
from fleet.domain.events import (
    AnyEvent,
    FillSettled,
    OperationConfirmed,
    OperationRejected,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    Reconciled,
    TimerFired,
    TradingState,
    TradingStateChanged,
)
from fleet.engine.view import View
from fleet.strategies.flatten import flatten_step
from fleet.strategies.legs import ExecutionSettings, next_step
from fleet.strategies.redemption import WRITE_OFF_NS, Redemptions

STEPS: Final = (
    OrderFilled, OrderCanceled, OrderRejected, OrderExpired, OrderAccepted, FillSettled,
    OperationConfirmed, OperationRejected, Reconciled, TimerFired, TradingStateChanged,
)  # fmt: skip
"""The events after which a bundle may have a next step."""


class Worker:
    """Works all open bundles; remembers only when it last asked for a redemption."""

    def __init__(
        self,
        execution: ExecutionSettings,
        *,
        by_idea: Mapping[str, ExecutionSettings] | None = None,
        write_off_ns: int = WRITE_OFF_NS,
    ) -> None:
        """Work bundles as ``execution`` says, those of an idea in ``by_idea`` as that does.

        ``write_off_ns`` is how long worthless tokens are kept after their market was resolved.
        """
        self._execution = execution
        self._by_idea = dict(by_idea or {})
        self._redemptions = Redemptions(write_off_ns=write_off_ns)

    def execution(self, idea: str) -> ExecutionSettings:
        """How the bundles of an idea are worked; ``legs.first_step`` needs the same."""
        return self._by_idea.get(idea, self._execution)

    def work(self, event: AnyEvent, view: View) -> Sequence[Intent]:
        """The wishes of this event for what is under way; a ``CloseBundle`` ends a bundle."""
        if not isinstance(event, STEPS) or view.trading is TradingState.HALTED:
            return ()
        wishes: list[Intent] = []
        for bundle in tuple(view.open_bundles.values()):
            wishes.extend(next_step(bundle, view, self.execution(bundle.plan.idea)))
        if isinstance(event, TimerFired):
            wishes.extend(self._redemptions.wishes(view))
            if view.operator == "flatten":
                wishes.extend(flatten_step(view))
        return wishes
