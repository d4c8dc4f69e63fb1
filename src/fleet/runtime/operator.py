"""What a person asks of a running bot, from whatever door, done once and answered.

Theory of operation. Every order goes through the inbox in ``fleet.db`` (``fleet.journal.inbox``):
``fleet reduce`` posts it there, and so does ``pm2 trigger``. ``OperatorPart`` looks twice a second.
A standing order (pause, reduce, flatten, resume) becomes an ``OperatorCommanded`` in the bot's own
journal, which is what holds over a restart, and the trading state that goes with it. Two orders
take time and are *jobs*, looked at again until they end:

cancel-all  halts, which makes the engine cancel everything that rests and whatever is accepted
            later; when no order is open any more, trading goes back to what it was. If orders are
            not answered for in time, the bot stays halted and says so.
flatten     the same, but goes on REDUCING, where the strategies sell; it ends when nothing is left
            that could be sold.

A job that a newer standing order overtakes has failed. A bot that dies during a job finds the
command unanswered at its next start and takes it up again. Nothing here touches an order: the
engine alone commands, and risk judges what flatten sells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.domain import events as ev
from fleet.domain.units import Cash, format_dollars
from fleet.engine.state import State
from fleet.journal.database import JournalError
from fleet.journal.fleet import FleetState
from fleet.journal.inbox import (
    CANCEL_ALL,
    STANDING,
    Answer,
    AnswerState,
    Asked,
    OperatorInbox,
    superseded,
)
from fleet.runtime.components import Health
from fleet.runtime.parts import Periodic
from fleet.runtime.runner import Runner

INBOX_S: Final = 0.5
PATIENCE_NS: Final = 10 * NS_PER_SECOND
"""How long cancels may go unanswered before a person is told that they are."""
BY_PM2: Final = "pm2 trigger"
TRADING: Final = {
    "pause": ev.TradingState.HALTED,
    "reduce": ev.TradingState.REDUCING,
    "flatten": ev.TradingState.REDUCING,
    "resume": ev.TradingState.ACTIVE,
}


@dataclass(slots=True)
class _Job:
    """A cancel-all or flatten that is under way."""

    asked: Asked
    since_ns: int
    halted: str
    back: ev.TradingState
    cancelling: bool = True
    told: str = ""


class OperatorPart(Periodic):
    """One bot's ear: polls the inbox, carries out, answers."""

    def __init__(
        self,
        fleet: FleetState,
        runner: Runner,
        clock: Clock,
        *,
        bot: str,
        seat: str,
        ready: Callable[[], bool],
        on_resumed: Callable[[], None] = lambda: None,
    ) -> None:
        """Answer as ``bot`` under ``seat`` (bot, mode and feed).

        Until ``ready`` orders are written down but trading is not switched; ``on_resumed`` is told
        when a person lets the bot trade again.
        """
        super().__init__("inbox", INBOX_S)
        self._fleet = fleet
        self._inbox = OperatorInbox(fleet)
        self._runner = runner
        self._clock = clock
        self._bot = bot
        self._seat = seat
        self._ready = ready
        self._on_resumed = on_resumed
        self._job: _Job | None = None
        self._problem = ""
        self._log = logs.get("operator")

    # --- doors --------------------------------------------------------------------------------

    def beat(self) -> None:
        """Look once: take up what is new, go on with what is under way."""
        try:
            asked = self._inbox.waiting(self._bot, self._seat)
            void = superseded(asked)
            for one in void:
                self._answer(one, AnswerState.FAILED, "a newer order took its place")
            for one in asked:
                if one not in void and (self._job is None or one.id != self._job.asked.id):
                    self._take_up(one)
            self._go_on()
            self._problem = ""
        except JournalError as error:
            self._problem = f"the operators' inbox cannot be read or answered: {error}"

    def by_hand(self, action: str, argument: str | None, by: str = BY_PM2) -> dict[str, object]:
        """Ask through the inbox and look at once; what to tell the asker.

        If ``fleet.db`` cannot be written the order is carried out all the same.
        """
        asked = Asked(id=0, target=self._bot, action=action, argument=argument or "", by=by,
                      ts=self._clock.now_ns())  # fmt: skip
        outcome = ""
        try:
            number = self._inbox.post(
                self._bot, action, by=by, ts=asked.ts, argument=asked.argument
            )
            self.beat()
            said = {answer.seat: answer for answer in self._inbox.answers(number)}.get(self._seat)
            outcome = f"{said.state.value}: {said.detail}" if said is not None else self._problem
        except JournalError as error:
            self._take_up(asked)
            outcome = f"done, but not written into the inbox: {error}"
        state = self._runner.engine.state
        return {
            "trading": state.trading.value,
            "reason": state.trading_reason,
            "outcome": outcome,
        }

    def halt_fleet(self, reason: str | None, by: str = BY_PM2) -> dict[str, object]:
        """Set the kill latch: every bot of the fleet stops."""
        words = reason or f"asked for by {by} {self._bot}"
        try:
            self._fleet.halt(words, by, self._clock.now_ns())
        except JournalError as error:
            self._stamp(ev.TradingStateChanged, state=ev.TradingState.HALTED, reason=words, by=by)
            return {"halted": False, "reason": f"only this bot is halted: {error}"}
        return {"halted": True, "reason": words}

    def health(self) -> Health:
        """Unhealthy while people cannot be heard."""
        return Health(ok=False, detail=self._problem) if self._problem else super().health()

    # --- carrying out -------------------------------------------------------------------------

    def _take_up(self, asked: Asked) -> None:
        if self._runner.failure:
            self._answer(asked, AnswerState.FAILED, f"it is ending: {self._runner.failure}")
            return
        self._log.info("OPERATOR", action=asked.action, by=asked.by, argument=asked.argument)
        if asked.action in STANDING:
            self._overtake(asked)
            self._stamp(ev.OperatorCommanded, action=asked.action, by=asked.by,
                        argument=asked.argument)  # fmt: skip
        if asked.action in {CANCEL_ALL, "flatten"}:
            self._begin(asked)
            return
        if self._ready():
            self._switch(TRADING[asked.action], f"an operator asked to {asked.action}")
        if asked.action == "resume":
            self._on_resumed()
        state = self._runner.engine.state
        later = "" if self._ready() else "; it is starting, and will when it is ready"
        self._answer(asked, AnswerState.DONE, f"trading is {state.trading.value}{later}")

    def _overtake(self, asked: Asked) -> None:
        job, self._job = self._job, None
        if job is not None:
            self._answer(job.asked, AnswerState.FAILED, f"overtaken by {asked.action}")

    def _begin(self, asked: Asked) -> None:
        """Halt, so that all is cancelled; where trading goes back to is remembered."""
        state = self._runner.engine.state
        if self._job is not None and not self._job.cancelling:
            self._answer(asked, AnswerState.FAILED, "a flatten has cancelled all and sells now;"
                         " `fleet halt --bot` stops that too")  # fmt: skip
            return
        if self._job is not None:
            self._answer(asked, AnswerState.DONE, "all is being cancelled already")
            return
        flatten = asked.action == "flatten"
        back = ev.TradingState.REDUCING if flatten and self._ready() else state.trading
        halted = f"an operator asked to {asked.action} ({asked.id})"
        self._job = _Job(asked, self._clock.now_ns(), halted, back)
        self._switch(ev.TradingState.HALTED, halted)
        self._go_on()

    def _go_on(self) -> None:
        job = self._job
        if job is None:
            return
        if job.cancelling:
            self._cancel(job)
        elif job.asked.action == "flatten":
            self._sell(job)

    def _cancel(self, job: _Job) -> None:
        state = self._runner.engine.state
        waiting = list(state.orders.open)
        if waiting and self._clock.now_ns() - job.since_ns < PATIENCE_NS:
            self._under_way(job, f"waiting for the venue to answer for {len(waiting)} orders")
            return
        if waiting:
            self._job = None
            self._answer(
                job.asked, AnswerState.FAILED,
                f"{len(waiting)} orders were not answered for ({', '.join(waiting[:5])}); it stays"
                " halted: try `fleet cancel-all --direct`, then `fleet resume`",
            )  # fmt: skip
            return
        job.cancelling = False
        if state.trading_reason == job.halted:
            self._switch(job.back, f"no order is open any more; {job.asked.action}")
        if job.asked.action == CANCEL_ALL:
            self._job = None
            self._answer(job.asked, AnswerState.DONE, "no order is open any more; trading is"
                         f" {self._runner.engine.state.trading.value}")  # fmt: skip
        else:
            self._sell(job)

    def _sell(self, job: _Job) -> None:
        state = self._runner.engine.state
        sellable, cost, stay = holdings(state)
        under_way = len(state.bundles.open) + len(state.bundles.pending) + len(state.orders.open)
        left = f"; {stay} tokens stay (too few, or resolved)" if stay else ""
        if sellable or under_way:
            halted = state.trading is ev.TradingState.HALTED and self._ready()
            why = f"; but trading is halted: {state.trading_reason}" if halted else ""
            self._under_way(
                job, f"{sellable} tokens left, ${format_dollars(cost)} at cost{left}{why}"
            )
            return
        self._job = None
        self._answer(job.asked, AnswerState.DONE, f"nothing is held that can be sold{left}")

    # --- saying -------------------------------------------------------------------------------

    def _under_way(self, job: _Job, detail: str) -> None:
        if job.told != detail:
            job.told = detail
            self._answer(job.asked, AnswerState.UNDER_WAY, detail)

    def _answer(self, asked: Asked, state: AnswerState, detail: str) -> None:
        if not asked.id:
            return  # It never got into the inbox; the asker is told in person.
        self._inbox.answer(
            Answer(command_id=asked.id, seat=self._seat, bot=self._bot, state=state, detail=detail,
                   ts=self._clock.now_ns())
        )  # fmt: skip
        if state is not AnswerState.UNDER_WAY:
            self._log.info(f"OPERATOR {state.value}", action=asked.action, detail=detail)

    def _switch(self, trading: ev.TradingState, reason: str) -> None:
        self._stamp(ev.TradingStateChanged, state=trading, reason=reason, by="operator")

    def _stamp(self, kind: type[ev.Event], **fields: object) -> None:
        now_ns = self._clock.now_ns()
        self._runner.handle(kind(ts_event=now_ns, ts_recv=now_ns, **fields))


def holdings(state: State) -> tuple[int, Cash, int]:
    """Tokens that can be sold or merged, what they cost, and how many have to stay.

    A token stays if it is resolved, left the catalogue, or is fewer shares than an order may have
    while its complement makes no pair with it.
    """
    sellable = stay = cost = 0
    for token, position in state.portfolio.positions.items():
        if position.qty <= 0:
            continue
        instrument = state.universe.instruments.get(token)
        if instrument is None or token in state.resolved:
            stay += 1
            continue
        paired = state.portfolio.position(instrument.complement).qty > 0
        if not paired and instrument.quantize_qty(position.qty) < instrument.min_qty:
            stay += 1
            continue
        sellable += 1
        cost += position.cost
    return sellable, Cash(cost), stay
