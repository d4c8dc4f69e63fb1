"""Trading one coin or share by closed bars: the engine's caller of ``decision.step``.

Theory of operation. Each ``BarClosed`` of the instrument is taken into the rule's memory, once and
in order; what is held is read from the portfolio's standings, never remembered. A buy opens a
bundle of one leg whose fills are then held; a sale is a bundle that names the holding in
``exits``. Each sends one order, limited by the collar, filled or killed at once: what was missed is
asked for again by the next bar if the rule still says so.

A bar that is older than its own length when it arrives is history: it warms the rule up and decides
nothing. So a restart needs no state but the journal's and ``Rule.warm_up`` bars, handed in like any
others. That a stop sold (and the rule must let go before it buys again) is in the journal too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from fleet.domain.commands import BundleId, Intent, LegPlan, OpenBundle
from fleet.domain.events import (
    AnyEvent,
    BarClosed,
    BookChanged,
    BookSnapshot,
    TradePrinted,
    TradingState,
)
from fleet.domain.instruments import Instrument, Side
from fleet.domain.units import SCALE, ZERO_CASH, Cash, Price, Qty, notional_down, notional_up
from fleet.engine.standing import Standing
from fleet.engine.view import View
from fleet.strategies import decision as d
from fleet.strategies.legs import ExecutionSettings, first_step
from fleet.strategies.rules import Rule, Terms, memory_of, parameters
from fleet.strategies.working import Worker

IDEA: Final = "candles"
EXIT: Final = "candles-exit"
STOPPED: Final = "candles-stop"
"""An exit because a stop or a profit was touched."""
EXECUTION: Final = ExecutionSettings(together=True, max_tries=1)
Scorer = Callable[[BarClosed], float]
"""The model's probability of a rise after this bar; NaN when it has no opinion."""
_NONE: Final = BundleId("")
_MARKET: Final = frozenset({BookChanged, BookSnapshot, TradePrinted})


def no_opinion(_bar: BarClosed) -> float:
    """What a rule without a model is told."""
    return np.nan


class CandleStrategy:
    """One rule on one instrument."""

    def __init__(
        self, instrument: Instrument, rule: Rule, terms: Terms, scorer: Scorer = no_opinion
    ) -> None:
        """Trade ``instrument`` as ``rule`` says, on ``terms``; ``scorer`` speaks for a model."""
        self.instrument = instrument
        self.rule = rule
        self.terms = terms
        self._id = instrument.id
        self._params = parameters(rule, terms)
        self._memory = memory_of(self._params)
        self._scorer = scorer if rule.kind == "model_threshold" else None
        self._worker = Worker(EXECUTION)
        self._tick = int(terms.tick)
        self._least = max(terms.lot, terms.min_qty)
        self._newest_ns = 0
        self._stopped_ns = 0
        self._held: tuple[int, int] | None = None
        """Quantity and entry price; only an account fact or a decision of ours can change them."""
        self._counts = dict.fromkeys(
            ("bars", "bars_history", "bars_repeated", "bars_missing", "opportunities", "entries",
             "exits", "exits_stopped", "too_small"), 0,
        )  # fmt: skip

    def figures(self) -> Mapping[str, int]:
        """Counters since the start; an opportunity is a bar on which the rule wished to buy."""
        return self._counts | {"bars_seen": int(self._memory[d.COUNT])}

    @property
    def warm(self) -> bool:
        """Whether the rule has seen as many bars as it needs."""
        return int(self._memory[d.COUNT]) >= self.rule.warm_up

    def on_event(self, event: AnyEvent, view: View) -> Sequence[Intent]:
        """Decide at a closed bar; work open bundles at account facts and timers."""
        if type(event) is BarClosed:
            return self._bar(event, view) if event.instrument_id == self._id else ()
        if type(event) in _MARKET:
            return ()
        self._held = None
        return self._worker.work(event, view)

    def _bar(self, bar: BarClosed, view: View) -> Sequence[Intent]:
        closed_ns, received_ns, _, interval_ns, _, high, low, close, _ = bar
        newest_ns = self._newest_ns
        if closed_ns <= newest_ns:
            self._counts["bars_repeated"] += 1
            return ()
        if not newest_ns:
            self._recall(view)
        elif closed_ns != newest_ns + interval_ns:
            self._counts["bars_missing"] += (closed_ns - newest_ns) // interval_ns - 1
        self._newest_ns = closed_ns
        holding = self._held
        if holding is None:
            holding = self._held = self._holding(view)
        held, entry = holding
        tick = self._tick
        ticks = close // tick
        score = self._scorer(bar) if self._scorer is not None else np.nan
        answer = d.step(
            self._params, self._memory, high // tick, low // tick, ticks, score, held, entry
        )
        if closed_ns <= self._stopped_ns and not held:
            self._memory[d.BLOCKED] = 1
        if answer == d.STAY:
            return ()
        if received_ns - closed_ns > interval_ns:
            self._counts["bars_history"] += 1
            return ()
        if view.trading is TradingState.HALTED or self._under_way(view):
            return ()
        self._held = None
        if answer == d.BUY:
            return self._enter(ticks, close, view)
        return self._leave(answer, ticks, close, view)

    def _recall(self, view: View) -> None:
        """What the journal tells of a stop: until the rule lets go, it may not buy again."""
        stopped = view.newest_bundle(STOPPED, self._id)
        left = view.newest_bundle(EXIT, self._id)
        if stopped is not None and stopped.any_filled:
            if left is not None and left.number > stopped.number:
                return
            self._stopped_ns = stopped.opened_ns
            self._memory[d.BLOCKED] = 1

    def _holdings(self, view: View) -> list[tuple[Standing, Qty]]:
        """What our bundles hold of the instrument, oldest first."""
        return [
            (standing, leg.left)
            for standing in view.standing.values()
            if standing.idea == IDEA and standing.key == self._id
            for leg in standing.legs
            if leg.instrument_id == self._id and leg.left > 0
        ]

    def _holding(self, view: View) -> tuple[int, int]:
        """The quantity held and its entry price in ticks; (0, 0) for less than can be sold."""
        held = bought = paid = 0
        for standing in view.standing.values():
            if standing.idea == IDEA and standing.key == self._id:
                for leg in standing.legs:
                    held += leg.left
                    bought += leg.bought
                    paid += leg.paid
        if held < self._least or bought <= 0:
            return 0, 0
        # The fee taken off again; what rounding added is far less than half a tick.
        below = bought * (SCALE + self.terms.fee_rate) * self._tick
        return held, (2 * paid * SCALE * SCALE + below) // (2 * below)

    def _under_way(self, view: View) -> bool:
        return any(
            leg.instrument_id == self._id
            for bundle in view.open_bundles.values()
            for leg in bundle.plan.legs
        ) or any(order.instrument_id == self._id for order in view.open_orders.values())

    def _enter(self, ticks: int, close: Price, view: View) -> Sequence[Intent]:
        self._counts["opportunities"] += 1
        if view.trading is not TradingState.ACTIVE or view.operator == "flatten":
            return ()
        cash = int(view.cash)
        equity = cash + notional_down(close, view.position(self._id).qty)
        qty = Qty(d.entry_qty(self._params, self._memory, ticks, cash, equity))
        if not qty:
            self._counts["too_small"] += 1
            return ()
        self._counts["entries"] += 1
        limit = Price(d.limit_ticks(self._params, ticks, 1) * self._tick)
        budget = Cash(notional_up(limit, qty) + self.instrument.fees.fee(limit, qty))
        return self._bundle(view.next_bundle_id(), IDEA, Side.BUY, qty, limit, close, budget, view)

    def _leave(self, answer: int, ticks: int, close: Price, view: View) -> Sequence[Intent]:
        wishes: list[Intent] = []
        limit = Price(d.limit_ticks(self._params, ticks, 0) * self._tick)
        free = view.position(self._id).settled
        for standing, left in self._holdings(view):
            qty = Qty(d.exit_qty(self._params, ticks, min(left, free)))
            if not qty:
                continue
            free = Qty(free - qty)
            idea = EXIT if answer == d.SELL else STOPPED
            wishes += self._bundle(
                view.next_bundle_id(len(wishes)), idea, Side.SELL, qty, limit, close, ZERO_CASH,
                view, exits=standing.bundle_id,
            )  # fmt: skip
        if wishes:
            self._counts["exits" if answer == d.SELL else "exits_stopped"] += 1
        else:
            self._counts["too_small"] += 1
        return wishes

    def _bundle(
        self,
        bundle_id: BundleId,
        idea: str,
        side: Side,
        qty: Qty,
        limit: Price,
        close: Price,
        budget: Cash,
        view: View,
        exits: BundleId = _NONE,
    ) -> Sequence[Intent]:
        plan = OpenBundle(
            bundle_id=bundle_id,
            idea=idea,
            key=self._id,
            legs=(LegPlan(instrument_id=self._id, side=side, qty=qty, limit=limit, unwind=limit),),
            start=None,
            finish=None,
            payoff=close,
            budget=budget,
            edge=ZERO_CASH,
            exits=exits,
        )
        return (plan, *first_step(plan, view, EXECUTION))
