"""Recovery: each kind of missed fact, and a kill between every two writes of real bundles."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pytest
from msgspec import structs

from fleet.domain import events as ev
from fleet.domain.commands import (
    Approved,
    CancelOrder,
    Command,
    OperationIntent,
    OperationKind,
)
from fleet.domain.instruments import Side, Universe
from fleet.engine.engine import Engine
from fleet.engine.orders import OrderStatus
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import fold
from fleet.engine.view import View
from fleet.journal.codec import Codec
from fleet.journal.store import MemoryJournal
from fleet.runtime.recovery import difference, missed_facts, query_of, reconcile
from fleet.strategies.arbitrage import Arbitrage, ArbSettings
from fleet.strategies.legs import ExecutionSettings
from fleet.venues.account import AccountTruth
from fleet.venues.paper import PaperSettings, PaperVenue
from tests.builders import (
    CONFIRMED,
    MINED,
    MS,
    NS,
    Rig,
    c,
    canceled,
    confirmed,
    deposit,
    durable,
    filled,
    leg,
    no,
    operations_of,
    order,
    orders_of,
    plan,
    q,
    settled,
    snapshot,
    universe,
    yes,
)

START = 1_795_000_000 * NS
PAPER = PaperSettings(cash=c("1000"), mined_ns=500 * MS, confirmed_ns=1_500 * MS,
                      operation_ns=700 * MS)  # fmt: skip
SETTINGS = ArbSettings(trade_size=c("50"), execution=ExecutionSettings(rest_together=True))
Frame = tuple[int, ev.AnyEvent]


# --- each kind of missed fact -------------------------------------------------------------------


class Desk:
    """A rig with an order out and a paper venue that knows more than the journal."""

    def __init__(self) -> None:
        self.rig = Rig(universe(1))
        self.rig.say(structs.replace(deposit("1000"), deposit_id="paper-start"))
        for token in (yes(), no()):
            self.rig.say(snapshot(token, at=NS))
        self.rig.say(ev.TradingStateChanged(state=ev.TradingState.ACTIVE, reason="t", by="t"))
        self.order = orders_of(
            self.rig.wish(plan(leg(yes()), leg(no())), order(0), event=snapshot(yes(), at=2 * NS))
        )[0]

    def truth(self, *facts: ev.Event, **changes: object) -> AccountTruth:
        """What the venue says when ``facts`` happened."""
        ours = self.rig.state.portfolio
        plain = AccountTruth(cash=ours.cash, tokens={}, facts=facts)
        return replace(plain, **changes)  # type: ignore[arg-type]

    def reconcile(self, truth: AccountTruth) -> str:
        return reconcile(
            self.rig.state, truth, self.rig.engine.handle, venue="paper", now_ns=9 * NS
        )

    @property
    def status(self) -> OrderStatus:
        found = self.rig.state.orders.get(self.order.client_order_id)
        assert found is not None
        return found.status


@pytest.fixture
def desk() -> Desk:
    return Desk()


def accepted(desk: Desk) -> ev.OrderAccepted:
    return ev.OrderAccepted(
        client_order_id=desk.order.client_order_id, venue_order_id=ev.VenueOrderId("v1")
    )


def test_a_missed_fill_is_adopted_once_with_its_settlements(desk: Desk) -> None:
    fill = filled(desk.order, "10", "0.50", trade="t1", fee="0.1", at=3 * NS)
    steps = settled("t1", MINED, at=4 * NS), settled("t1", CONFIRMED, at=5 * NS)
    truth = desk.truth(accepted(desk), fill, *steps, cash=c("994.9"), tokens={yes(): q("10")})
    assert desk.reconcile(truth) == ""
    assert desk.status is OrderStatus.FILLED
    assert desk.rig.state.portfolio.cash == c("994.9")
    assert desk.rig.state.portfolio.position(yes()).settled == q("10")
    assert desk.rig.entries[-1] == ev.Reconciled(
        ts_event=9 * NS, ts_recv=9 * NS, venue="paper", adopted=4
    )
    assert missed_facts(desk.rig.state, truth, 10 * NS) == []
    assert desk.reconcile(truth) == ""
    assert desk.rig.state.portfolio.cash == c("994.9")


def test_adopted_facts_keep_their_time_and_are_stamped_now(desk: Desk) -> None:
    fill = filled(desk.order, "10", "0.50", at=3 * NS)
    (fact,) = missed_facts(desk.rig.state, desk.truth(fill), 9 * NS)
    assert (fact.ts_event, fact.ts_recv) == (3 * NS, 9 * NS)


def test_a_missed_rejection_cancel_and_acceptance_are_adopted(desk: Desk) -> None:
    no_match = ev.OrderRejected(client_order_id=desk.order.client_order_id, reason="no match")
    stories: list[tuple[list[ev.Event], OrderStatus]] = [
        ([accepted(desk)], OrderStatus.ACCEPTED),
        ([accepted(desk), canceled(desk.order)], OrderStatus.CANCELED),
        ([no_match], OrderStatus.REJECTED),
    ]
    for facts, status in stories:
        other = Desk()
        assert other.reconcile(other.truth(*facts)) == ""
        assert other.status is status


def test_an_order_the_venue_proves_it_never_had_is_rejected(desk: Desk) -> None:
    truth = desk.truth(absent_orders=(desk.order.client_order_id,))
    assert desk.reconcile(truth) == ""
    assert desk.status is OrderStatus.REJECTED
    assert desk.rig.state.orders.open == {}


def test_an_order_the_venue_does_not_mention_stays_in_flight(desk: Desk) -> None:
    assert desk.reconcile(desk.truth()) == ""
    assert desk.status is OrderStatus.SUBMITTED
    assert query_of(desk.rig.state).open_orders == {desk.order.client_order_id}


def test_a_missed_deposit_is_adopted(desk: Desk) -> None:
    more = ev.CashDeposited(deposit_id="d2", amount=c("5"))
    assert desk.reconcile(desk.truth(more, cash=c("1005"))) == ""
    assert desk.rig.state.portfolio.deposited == c("1005")


def test_a_missed_operation_is_adopted_and_an_absent_one_rejected() -> None:
    for happened in (True, False):
        desk = Desk()
        legs = [leg(t, side=Side.SELL, limit="0.48") for t in (yes(), no())]
        split = plan(*legs, start=OperationKind.SPLIT, name="b9", payoff="-1", key="m9")
        wish = OperationIntent(
            bundle_id=split.bundle_id, kind=OperationKind.SPLIT, subject="m9", burn=(),
            mint=((yes(), q("10")), (no(), q("10"))), cash=c("-10"),
        )  # fmt: skip
        (operation,) = operations_of(desk.rig.wish(split, wish, event=snapshot(yes(), at=3 * NS)))
        out = c("990")
        truth = (
            desk.truth(confirmed(operation), cash=out, tokens={yes(): q("10"), no(): q("10")})
            if happened
            else desk.truth(absent_operations=(operation.operation_id,))
        )
        assert desk.reconcile(truth) == ""
        assert desk.rig.state.bundles.pending == {}
        assert desk.rig.state.portfolio.cash == (out if happened else c("1000"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cash": c("999.99")}, "cash: journal 1000.00, venue 999.99"),
        ({"tokens": {yes(): q("3")}}, "token y1: journal 0, venue 3"),
    ],
)
def test_what_no_fact_explains_forbids_trading(
    desk: Desk, changes: dict[str, object], words: str
) -> None:
    left = desk.reconcile(desk.truth(**changes))
    assert words in left
    last = desk.rig.entries[-1]
    assert isinstance(last, ev.ReconciliationFailed)
    assert last.difference == left
    assert not desk.rig.state.reconciled


def test_a_difference_names_every_token(desk: Desk) -> None:
    desk.rig.say(filled(desk.order, "10", "0.50"))
    words = difference(desk.rig.state, desk.truth(cash=c("995"), tokens={no(): q("1")}))
    assert words == "token n1: journal 0, venue 1; token y1: journal 10, venue 0"


# --- a kill between any two writes --------------------------------------------------------------


class Disk:
    """Journal or ledger: goes through the real codec and notes when it was written."""

    def __init__(self, name: str, clock: list[str], before: Sequence[ev.Event] = ()) -> None:
        self._name, self._clock = name, clock
        self.journal = MemoryJournal(codec=Codec())
        if before:
            self.journal.write(before)

    def write(self, events: Sequence[ev.Event]) -> int:
        self._clock.extend([self._name] * len(events))
        return self.journal.write(events)

    @property
    def events(self) -> list[ev.Event]:
        return [entry.event for entry in self.journal.read()]


class Life:
    """One process: recovers from what is on the disks, then trades the frames it is given."""

    def __init__(
        self,
        world: Universe,
        now_ns: int,
        journal: Sequence[ev.Event] = (),
        ledger: Sequence[ev.Event] = (),
    ) -> None:
        self.writes: list[str] = []
        self.now_ns = now_ns
        self.journal = Disk("journal", self.writes, journal)
        self.ledger = Disk("ledger", self.writes, ledger)
        self.state = fold(self.journal.events, world)
        self.engine = Engine(
            state=self.state,
            strategy=Arbitrage(SETTINGS, View(self.state)),
            risk=Risk(RiskLimits()),
            journal=self.journal,
        )
        self.venue = PaperVenue(
            settings=PAPER, instruments=world.instruments, books=self.state.books,
            ledger=self.ledger, facts=self.ledger.events, now_ns=now_ns,
        )  # fmt: skip
        self.handle(ev.RunStarted(**self.stamp, run_id=ev.RunId("r"), bot="B", mode="paper",
                                  version="1"))  # fmt: skip
        truth = self.venue.account(query_of(self.state))
        left = reconcile(self.state, truth, self.handle, venue="paper", now_ns=now_ns)
        assert left == ""
        self.absent = len(truth.absent_orders) + len(truth.absent_operations)
        last = self.journal.events[-1]
        assert isinstance(last, ev.Reconciled)
        self.adopted = last.adopted - self.absent
        self.handle(ev.TradingStateChanged(**self.stamp, state=ev.TradingState.ACTIVE,
                                           reason="reconciled", by="start"))  # fmt: skip

    @property
    def stamp(self) -> dict[str, int]:
        return {"ts_event": self.now_ns, "ts_recv": self.now_ns}

    def handle(self, event: ev.AnyEvent) -> Sequence[Command]:
        commands = self.engine.handle(event)
        for command in commands:
            if isinstance(command, Approved):
                self.venue.submit(command.request, self.now_ns)
            elif isinstance(command, CancelOrder):
                self.venue.cancel(command.client_order_id, self.now_ns)
        return commands

    def run(self, frames: Iterable[Frame], until_ns: int) -> None:
        """Trade the frames (those before now are over), with a tick each second."""
        tick_ns = self.now_ns + NS
        for at_ns, event in [f for f in frames if f[0] >= self.now_ns] + [(until_ns, None)]:
            while (due := min(self.venue.next_due_ns() or tick_ns, tick_ns)) <= at_ns:
                self.now_ns = max(self.now_ns, due)
                for answer in self.venue.advance(due):
                    self.handle(answer)
                if due >= tick_ns:
                    tick_ns += NS
                    self.handle(ev.TimerFired(**self.stamp, name="tick"))
            self.now_ns = at_ns
            if event is not None:
                self.handle(event)

    def prove(self) -> None:
        """Nothing is open, and journal and ledger tell one story."""
        state, accounts = self.state, self.venue.accounts
        assert not state.bundles.open
        assert not state.orders.open
        assert not state.bundles.pending
        assert state.anomaly == ""
        assert state.trading is ev.TradingState.ACTIVE
        assert state.portfolio.cash == accounts.cash
        held = {t: x.qty for t, x in state.portfolio.positions.items() if x.qty}
        assert held == accounts.tokens
        journal, ledger = self.journal.events, self.ledger.events
        assert durable(fold(journal, state.universe)) == durable(state)
        sent = [o.client_order_id for e in journal if isinstance(e, ev.DecisionMade)
                for o in e.orders]  # fmt: skip
        assert len(sent) == len(set(sent))
        arrived = [e.client_order_id for e in ledger
                   if isinstance(e, ev.OrderAccepted | ev.OrderRejected)]  # fmt: skip
        assert len(arrived) == len(set(arrived))
        assert set(arrived) <= set(sent)
        fills = [e.trade_id for e in ledger if isinstance(e, ev.OrderFilled)]
        assert len(fills) == len(set(fills))
        assert state.portfolio.trades() == set(fills)
        assert state.portfolio.unsettled_trades() == []


Books = Callable[[int], list[ev.AnyEvent]]


@dataclass(frozen=True)
class Story:
    """Books that invite a bundle at 1 s, and what they are later."""

    world: Universe
    first: Books
    later: Sequence[tuple[int, Books]] = ()
    outcomes: tuple[int, int] = (1, 0)
    """Complete and partial bundles when nobody kills anything."""

    def frames(self, seconds: int) -> list[Frame]:
        books, found = self.first, []
        changes = dict(self.later)
        for at_ms in sorted({*range(1_000, seconds * 1_000, 500), *changes}):
            for since_ms in sorted(changes):
                books = changes[since_ms] if at_ms >= since_ms else books
            at_ns = START + at_ms * MS
            found += [(at_ns, event) for event in books(at_ns)]
        return found


def market(number: int, asks: tuple[str, str], bids: tuple[str, str], qty: str = "60") -> Books:
    """Snapshots of YES and NO with these prices."""
    return lambda at: [
        snapshot(token(number), [(bid, qty)], [(ask, qty)], at=at)
        for token, ask, bid in zip((yes, no), asks, bids, strict=True)
    ]


def together(*books: Books) -> Books:
    return lambda at: [event for part in books for event in part(at)]


FAIR = market(1, ("0.51", "0.51"), ("0.49", "0.49"))
CHEAP = market(1, ("0.44", "0.50"), ("0.43", "0.49"))
DEAR = market(1, ("0.58", "0.54"), ("0.55", "0.52"))
NO_GONE = market(1, ("0.45", "0.57"), ("0.43", "0.55"))
STORIES = {
    "buy both, merge": Story(universe(1, rate="0.02"), CHEAP, [(2_400, FAIR)]),
    "second leg gone, unwind": Story(
        universe(1, rate="0.02"), CHEAP, [(1_610, NO_GONE), (4_000, FAIR)], outcomes=(0, 1)
    ),
    "split, sell both": Story(universe(1, rate="0.02"), DEAR, [(2_800, FAIR)]),
    "buy every NO, convert": Story(
        universe(3, one_set=True),
        together(*(market(n, ("0.45", "0.60"), ("0.40", "0.55")) for n in (1, 2, 3))),
        [(1_500, together(*(market(n, ("0.34", "0.68"), ("0.32", "0.66")) for n in (1, 2, 3))))],
    ),
}
END_S = 60


def whole(story: Story) -> Life:
    life = Life(story.world, START)
    life.run(story.frames(END_S), START + END_S * NS)
    return life


@pytest.mark.parametrize("name", STORIES)
def test_the_stories_happen_when_nobody_kills_anything(name: str) -> None:
    life = whole(STORIES[name])
    life.prove()
    totals = life.state.bundles.totals
    assert (totals.complete, totals.partial) == STORIES[name].outcomes
    assert totals.tried == 1


def requests(events: Iterable[ev.Event]) -> set[str]:
    """The ids of everything these decisions command."""
    made = [e for e in events if isinstance(e, ev.DecisionMade)]
    orders = {str(order.client_order_id) for e in made for order in e.orders}
    return orders | {str(operation.operation_id) for e in made for operation in e.operations}


def about(event: ev.Event) -> str:
    """The request a fact of the ledger is about; empty for a deposit or a settlement."""
    return str(getattr(event, "client_order_id", getattr(event, "operation_id", "")))


def cuts(life: Life) -> Iterable[tuple[int, int]]:
    """(journal, ledger) lengths a kill may leave: the ledger is never behind the journal.

    What the ledger holds of requests the journal does not command cannot be: those are durable in
    the journal before they are sent.
    """
    ledger = life.ledger.events
    for at in range(len(life.writes) + 1):
        journal_length = life.writes[:at].count("journal")
        least = life.writes[:at].count("ledger")
        commanded = requests(life.journal.events[:journal_length])
        for length in range(least, len(ledger) + 1):
            names = {about(e) for e in ledger[least:length]} - {""}
            if names <= commanded:
                yield journal_length, length


def last_ns(events: Iterable[ev.Event]) -> int:
    return max([START, *(e.ts_event for e in events), *(e.ts_recv for e in events)])


@pytest.mark.parametrize("name", STORIES)
def test_a_kill_at_any_write_loses_nothing_and_sends_nothing_twice(name: str) -> None:
    story = STORIES[name]
    first = whole(story)
    journal, ledger = first.journal.events, first.ledger.events
    seen = set()
    adopted = absent = 0
    frames = story.frames(END_S)
    for journal_length, ledger_length in cuts(first):
        if (journal_length, ledger_length) in seen:
            continue
        seen.add((journal_length, ledger_length))
        before = journal[:journal_length], ledger[:ledger_length]
        second = Life(story.world, last_ns([*before[0], *before[1]]) + 200 * MS, *before)
        second.run(frames, START + 2 * END_S * NS)
        second.prove()
        adopted += second.adopted
        absent += second.absent
    assert len(seen) > 25
    assert adopted > 10
    assert absent > 2


def test_a_second_kill_during_recovery_changes_nothing() -> None:
    story = STORIES["second leg gone, unwind"]
    first = whole(story)
    journal, ledger = first.journal.events, first.ledger.events
    frames = story.frames(END_S)
    count = 0
    for journal_length, ledger_length in sorted(set(cuts(first)))[::3]:
        before = journal[:journal_length], ledger[:ledger_length]
        second = Life(story.world, last_ns([*before[0], *before[1]]) + 200 * MS, *before)
        for at in range(len(second.writes) + 1):
            again = [
                second.journal.events[: journal_length + second.writes[:at].count("journal")],
                second.ledger.events[: ledger_length + second.writes[:at].count("ledger")],
            ]
            third = Life(story.world, second.now_ns + 200 * MS, *again)
            third.run(frames, START + 2 * END_S * NS)
            third.prove()
            count += 1
    assert count > 30


def test_an_empty_journal_beside_a_ledger_with_trades_is_refused() -> None:
    """Somebody removed the journal but not the ledger: its order ids would be used again."""
    life = whole(STORIES["buy both, merge"])
    rig = Rig(life.state.universe)
    truth = life.venue.account(query_of(rig.state))
    left = reconcile(rig.state, truth, rig.engine.handle, venue="paper", now_ns=START)
    assert left == "the venue filled 2 orders the journal does not know (o1, o2)"
    (failed,) = rig.entries
    assert isinstance(failed, ev.ReconciliationFailed)
    assert rig.state.portfolio.cash == 0
    assert not rig.state.reconciled


def test_a_contradiction_during_recovery_forbids_trading(desk: Desk) -> None:
    desk.rig.say(ev.RunStarted(run_id=ev.RunId("r"), bot="B", mode="paper", version="1"))
    desk.rig.say(ev.OrderRejected(client_order_id=desk.order.client_order_id, reason="no match"))
    fill = filled(desk.order, "10", "0.50")
    truth = desk.truth(fill, cash=c("995"), tokens={yes(): q("10")})
    assert "contradict" in desk.reconcile(truth)
    assert not desk.rig.state.reconciled
