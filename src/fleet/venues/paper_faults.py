"""The paper venue on its worst day: for tests and the soak only, no bot is ever given it.

What reaches the venue, is matched and is written to its ledger stays true; what the bot hears of it
does not. By a seeded plan requests get lost, answers get lost, late, doubled and out of order,
operations are refused, and fills fail to settle (which the venue's own accounts take back). A lost
request or answer of an order is told as ``SubmitUnknown``, as a live adapter tells a timeout; all
other losses are silent. Whatever was lost, ``account`` brings back.

Three orders are kept, because the venue's messages carry what an adapter needs to keep them: the
end of an order never overtakes its own fills (it names how much was matched), a settlement never
its fill (each message of a trade tells the whole trade), and of two settlements of one fill the
later one stands (each carries its time). ``stale_settlements`` gives up the last of these.

Each fate is drawn from the seed and the name of the thing, so it stays the same across restarts.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from msgspec.structs import replace

from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, RunOperation, SubmitOrder
from fleet.domain.instruments import Instrument, InstrumentId
from fleet.engine.book import Book
from fleet.venues.paper import MS, Ledger, PaperSettings, PaperVenue

PER: Final = 1_000
_OrderAnswer = (
    ev.OrderAccepted | ev.OrderRejected | ev.OrderFilled | ev.OrderCanceled | ev.CancelRejected
)
_END: Final = (ev.OrderCanceled, ev.OrderRejected)
_S = ev.SettlementStatus
_RANK: Final = {_S.MATCHED: 0, _S.RETRYING: 1, _S.MINED: 2, _S.CONFIRMED: 3, _S.FAILED: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How often what goes wrong, in thousandths; ``seed`` decides when."""

    seed: int
    lose_request: int = 60
    """Requests that never arrive."""
    lose_answers: int = 60
    """Orders whose answers stop at some point."""
    lose_other: int = 60
    """Settlements and outcomes of operations that nobody is told."""
    delay: int = 300
    """Answers that come later than others sent after them."""
    delay_ns_max: int = 1_500 * MS
    duplicate: int = 200
    """Answers that come twice."""
    fail: int = 50
    """Fills that fail to settle."""
    retry: int = 100
    """Fills that are retried before they are mined."""
    refuse_operation: int = 150
    stale_settlements: bool = False
    """Whether an older settlement may be heard after a newer one of the same fill."""
    unknown_ns: int = 2_000 * MS
    """When a lost request or answer is told as ``SubmitUnknown``."""


@dataclass(order=True, slots=True)
class _Answer:
    at_ns: int
    number: int
    fact: ev.Event = field(compare=False)


class FaultyVenue(PaperVenue):
    """``PaperVenue`` whose line to the bot is bad."""

    def __init__(
        self,
        *,
        plan: FaultPlan,
        settings: PaperSettings,
        instruments: Mapping[InstrumentId, Instrument],
        books: Mapping[InstrumentId, Book],
        ledger: Ledger,
        facts: Iterable[ev.Event] = (),
        now_ns: int = 0,
    ) -> None:
        """Open the account like ``PaperVenue``; ``plan`` says what goes wrong."""
        self.plan = plan
        self.disturbed: dict[str, int] = {}
        """How often each fault has struck."""
        self._line: list[_Answer] = []
        self._sent = 0
        self._told: dict[ClientOrderId, int] = {}
        self._answers: dict[ClientOrderId, int] = {}
        self._trades: dict[ev.TradeId, ev.SettlementStatus] = {}
        """How far the bot has heard of each trade."""
        self._random = random.Random(plan.seed ^ now_ns)  # noqa: S311 - faults, not secrets
        super().__init__(
            settings=settings,
            instruments=instruments,
            books=books,
            ledger=ledger,
            facts=facts,
            now_ns=now_ns,
        )

    # --- what the venue does ------------------------------------------------------------------

    def submit(self, request: SubmitOrder | RunOperation, now_ns: int) -> None:
        """Send a request, unless it gets lost on the way."""
        if isinstance(request, RunOperation):
            if not self._struck("lose_request", request.operation_id, self.plan.lose_request):
                super().submit(request, now_ns)
        elif not self._struck("lose_request", request.client_order_id, self.plan.lose_request):
            super().submit(request, now_ns)
        else:
            self._unknown(request.client_order_id, now_ns, "the request was lost")

    def _operate(self, request: RunOperation, now_ns: int) -> None:
        known = self.accounts.knows_operation(request.operation_id)
        if not known and self._struck(
            "refuse_operation", request.operation_id, self.plan.refuse_operation
        ):
            self._deliver(
                ev.OperationRejected(
                    ts_event=now_ns, operation_id=request.operation_id, reason="it was reverted"
                )
            )
            return
        super()._operate(request, now_ns)

    def _at(self, at_ns: int, what: SubmitOrder | RunOperation | ev.Event) -> None:
        """Schedule; here a fill that will fail, or be retried, gets its fate."""
        if not isinstance(what, ev.FillSettled):
            super()._at(at_ns, what)
            return
        if self._drawn("fail", what.trade_id) < self.plan.fail:
            # It is not mined; a later confirmation does not come either.
            if what.status is _S.MINED:
                self._count("fail")
                super()._at(at_ns, replace(what, status=_S.FAILED))
            return
        retried = self._drawn("retry", what.trade_id) < self.plan.retry
        if retried and what.status is _S.MINED:
            self._count("retry")
            before_ns = at_ns - self.settings.mined_ns // 2
            super()._at(before_ns, replace(what, ts_event=before_ns, status=_S.RETRYING))
        super()._at(at_ns, what)

    # --- what the bot hears -------------------------------------------------------------------

    def next_due_ns(self) -> int | None:
        """When ``advance`` has something to do next."""
        due = [super().next_due_ns(), self._line[0].at_ns if self._line else None]
        return min((at_ns for at_ns in due if at_ns is not None), default=None)

    def advance(self, now_ns: int) -> list[ev.Event]:
        """Let time pass; what gets through the bad line by now."""
        for fact in super().advance(now_ns):
            self._send(fact)
        heard: list[ev.Event] = []
        while self._line and self._line[0].at_ns <= now_ns:
            answer = heapq.heappop(self._line)
            heard += [replace(fact, ts_recv=answer.at_ns) for fact in self._in_order(answer.fact)]
        return heard

    def _in_order(self, fact: ev.Event) -> Sequence[ev.Event]:
        """A message as an adapter passes it on: no settlement before its fill, and no stale one."""
        if isinstance(fact, ev.OrderFilled):
            self._trades.setdefault(fact.trade_id, _S.MATCHED)
        if not isinstance(fact, ev.FillSettled):
            return (fact,)
        known = self._trades.get(fact.trade_id)
        if known is not None and _RANK[known] > _RANK[fact.status]:
            return (fact,) if self.plan.stale_settlements else ()
        self._trades[fact.trade_id] = fact.status
        return (fact,) if known is not None else (self.accounts.fill(fact.trade_id), fact)

    def _send(self, fact: ev.Event) -> None:
        at_ns = fact.ts_recv
        if isinstance(fact, _OrderAnswer):
            if self._muted(fact, at_ns):
                return
        elif self._struck("lose_other", _name(fact), self.plan.lose_other):
            return
        if self._random.randrange(PER) < self.plan.delay:
            self._count("delay")
            at_ns += self._random.randrange(self.plan.delay_ns_max)
        if isinstance(fact, _OrderAnswer):
            told_ns = self._told.get(fact.client_order_id, 0)
            if isinstance(fact, _END):
                at_ns = max(at_ns, told_ns)
            self._told[fact.client_order_id] = max(at_ns, told_ns)
        self._push(at_ns, fact)
        if self._random.randrange(PER) < self.plan.duplicate:
            self._count("duplicate")
            self._push(at_ns + self._random.randrange(self.plan.delay_ns_max), fact)

    def _muted(self, fact: _OrderAnswer, now_ns: int) -> bool:
        """Whether this answer, like all later ones of its order, is lost."""
        order_id = fact.client_order_id
        if self._drawn("mute", order_id) >= self.plan.lose_answers:
            return False
        count = self._answers.get(order_id, 0)
        self._answers[order_id] = count + 1
        heard = self._drawn("heard", order_id) % 3
        if count < heard:
            return False
        if count == heard:
            self._count("lose_answers")
            self._unknown(order_id, now_ns, "no answer came")
        return True

    def _unknown(self, order_id: ClientOrderId, now_ns: int, reason: str) -> None:
        at_ns = now_ns + self.plan.unknown_ns
        fact = ev.SubmitUnknown(ts_event=at_ns, client_order_id=order_id, reason=reason)
        self._push(at_ns, fact)

    def _push(self, at_ns: int, fact: ev.Event) -> None:
        self._sent += 1
        heapq.heappush(self._line, _Answer(at_ns, self._sent, fact))

    # --- fate ---------------------------------------------------------------------------------

    def _drawn(self, what: str, name: str) -> int:
        """A number below ``PER`` that belongs to this thing for ever."""
        return crc32(f"{self.plan.seed}|{what}|{name}".encode()) % PER

    def _struck(self, what: str, name: str, chance: int) -> bool:
        hit = self._drawn(what, name) < chance
        if hit:
            self._count(what)
        return hit

    def _count(self, what: str) -> None:
        self.disturbed[what] = self.disturbed.get(what, 0) + 1


def _name(fact: ev.Event) -> str:
    """What a fate is drawn for."""
    match fact:
        case ev.FillSettled():
            return f"{fact.trade_id}|{fact.status.value}"
        case ev.OperationConfirmed() | ev.OperationRejected():
            return fact.operation_id
        case _:
            return fact.KIND
