"""Stopping by itself: what a bot watches each second, and how it stops for it.

``Safety.trip`` is the one way to stop for a reason of the closed list (``fleet.journal.halts``). It
halts this bot at once, so that everything that rests is cancelled; a reason that reaches the fleet
sets the kill latch as well, one that concerns the bot alone is written down as a standing pause,
which outlives the process. Then it tells a person. A reason trips once until trading is allowed
again; asking twice changes nothing.

``SafetyWatch`` looks at the engine's state and trips. It decides nothing about orders and asks
nobody: what it cannot see in the state (a lost lease, the fleet's day, a venue's account) is
reported to ``trip`` by whoever sees it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.domain import events as ev
from fleet.domain.commands import TimeInForce
from fleet.domain.units import format_dollars, format_units
from fleet.engine.state import State
from fleet.journal.database import JournalError
from fleet.journal.fleet import FleetState
from fleet.journal.halts import HALTS, HaltCode, Reach
from fleet.ops.alerts import Alert
from fleet.runtime.parts import Periodic
from fleet.runtime.runner import Runner

WATCH_S: Final = 1.0
WINDOW_NS: Final = 60 * NS_PER_SECOND
ENGINE: Final = "engine"
SAFETY: Final = "safety"
RESTING: Final = frozenset({TimeInForce.GTC, TimeInForce.GTD})

ANOMALIES: Final = (
    (re.compile(r": fill \S+ for unknown order"), HaltCode.UNKNOWN_FILL),
    (re.compile(r": settlement \S+ of unknown fill"), HaltCode.UNKNOWN_FILL),
    (re.compile(r": (LAST_)?FILL for unknown order"), HaltCode.UNKNOWN_FILL),
    (re.compile(r": \S+ for unknown order"), HaltCode.UNKNOWN_ORDER),
    (re.compile(r": (sold|\S+ burnt) "), HaltCode.NEGATIVE_BALANCE),
)
"""What the engine's words of a contradiction mean; any other is a difference with the venue."""


class Safety:
    """Stops this bot, or the fleet, for a reason; once until trading is allowed again."""

    def __init__(
        self, fleet: FleetState, runner: Runner, clock: Clock, alert: Alert, *, bot: str
    ) -> None:
        """Stop ``runner``'s engine; ``alert`` tells a person."""
        self._fleet = fleet
        self._runner = runner
        self._clock = clock
        self._alert = alert
        self._bot = bot
        self._tripped: set[HaltCode] = set()
        self._log = logs.get("safety")

    def trip(self, code: HaltCode, words: str) -> None:
        """Stop for ``code``; ``words`` say what was found, without secrets."""
        if code in self._tripped:
            return
        self._tripped.add(code)
        halt = HALTS[code]
        reason = f"{code.value}: {words}"
        if halt.reach is Reach.FLEET:
            self._latch(code, words)
        elif halt.lasting and self._runner.engine.state.operator != "pause":
            self._stamp(ev.OperatorCommanded, action="pause", by=SAFETY, argument=reason)
        if self._runner.engine.state.trading is not ev.TradingState.HALTED:
            self._stamp(ev.TradingStateChanged, state=ev.TradingState.HALTED, reason=reason,
                        by=SAFETY)  # fmt: skip
        self._alert(code.value, words, halt.remedy.replace("BOT", self._bot))

    def allowed(self) -> None:
        """Trading was allowed again by a person: every reason may trip anew."""
        self._tripped.clear()

    def _latch(self, code: HaltCode, words: str) -> None:
        try:
            if self._fleet.latched() is None:
                self._fleet.halt(words, self._bot, self._clock.now_ns(), code=code)
        except JournalError as error:
            # This bot is halted all the same, and a state that cannot be read counts as latched.
            self._log.error("LATCH cannot be set", reason=str(error))

    def _stamp(self, kind: type[ev.Event], **fields: object) -> None:
        now_ns = self._clock.now_ns()
        self._runner.handle(kind(ts_event=now_ns, ts_recv=now_ns, **fields))


class SafetyWatch(Periodic):
    """Looks at one bot's state each second."""

    def __init__(
        self,
        state: State,
        trip: Callable[[HaltCode, str], None],
        clock: Clock,
        *,
        errors: Callable[[], int],
        errors_max: int,
        stale_ns: int,
    ) -> None:
        """``errors`` counts those handled since the start; limits as in ``SafetyEnv``."""
        super().__init__("safety", WATCH_S)
        self._state = state
        self._trip = trip
        self._clock = clock
        self._errors = errors
        self._errors_max = errors_max
        self._stale_ns = stale_ns
        self._counts: deque[tuple[int, int]] = deque()

    def beat(self) -> None:
        """Look once."""
        self._contradiction()
        self._balance()
        self._feed()
        self._error_rate()

    def _contradiction(self) -> None:
        state = self._state
        if state.trading is ev.TradingState.HALTED and state.trading_by == ENGINE:
            reason = state.trading_reason
            found = (code for words, code in ANOMALIES if words.search(reason))
            self._trip(next(found, HaltCode.RECONCILIATION_DIFFERENCE), reason)

    def _balance(self) -> None:
        portfolio = self._state.portfolio
        if portfolio.cash < 0:
            self._trip(HaltCode.NEGATIVE_BALANCE, f"cash {format_dollars(portfolio.cash)}")
        for token, position in portfolio.positions.items():
            if position.qty < 0:
                self._trip(
                    HaltCode.NEGATIVE_BALANCE, f"{format_units(position.qty)} shares of {token}"
                )

    def _feed(self) -> None:
        state = self._state
        if state.trading is ev.TradingState.HALTED or not state.last_market_ns:
            return
        silent_ns = self._clock.now_ns() - state.last_market_ns
        resting = sum(order.tif in RESTING for order in state.orders.open.values())
        if resting and silent_ns > self._stale_ns:
            self._trip(
                HaltCode.STALE_FEED,
                f"no market data for {silent_ns // NS_PER_SECOND} s while {resting} orders rest",
            )

    def _error_rate(self) -> None:
        now_ns, count = self._clock.now_ns(), self._errors()
        counts = self._counts
        counts.append((now_ns, count))
        while counts[0][0] < now_ns - WINDOW_NS:
            counts.popleft()
        within = count - counts[0][1]
        if within > self._errors_max:
            self._trip(HaltCode.ERROR_RATE, f"{within} errors within a minute")
            counts.clear()
