"""Log lines of durable facts: what a person greps for, never ahead of the disk."""

import logging
from collections.abc import Sequence

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import CloseBundle, OperationIntent, OperationKind
from fleet.domain.instruments import InstrumentId
from fleet.domain.knowledge import CopyRefusal
from fleet.engine.engine import Engine
from fleet.engine.risk import Risk, RiskLimits
from fleet.engine.state import State
from fleet.journal.database import JournalFull
from fleet.journal.store import MemoryJournal
from fleet.runtime.reporting import Reporter, ReportingJournal, _percent
from tests.builders import MINED as MINED_STATUS
from tests.builders import (
    NS,
    Scripted,
    c,
    changed,
    confirmed,
    deposit,
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
    trading,
    universe,
    yes,
)


class Desk:
    """An engine whose journal reports."""

    def __init__(self, journal: MemoryJournal | None = None) -> None:
        self.state = State(universe(1))
        self.reporter = Reporter(self.state, opportunity="ARB OPPORTUNITY")
        self.strategy = Scripted()
        self.engine = Engine(
            state=self.state,
            strategy=self.strategy,
            risk=Risk(RiskLimits()),
            journal=ReportingJournal(journal or MemoryJournal(), self.reporter),
        )
        for event in (deposit("1000"), snapshot(yes(), at=NS), snapshot(no(), at=NS),
                      trading(ev.TradingState.ACTIVE, at=NS)):  # fmt: skip
            self.engine.handle(event)

    def say(self, *events: ev.AnyEvent) -> list[object]:
        return [command for event in events for command in self.engine.handle(event)]


@pytest.fixture(autouse=True)
def _informed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fleet")


def lines(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.getMessage().startswith(word)]


def test_a_whole_bundle_can_be_read_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    bundle = plan(leg(yes(), limit="0.45"), leg(no(), limit="0.50"), edge="0.5", budget="9.5")
    desk.strategy.next = [bundle, order(0, qty="10", price="0.45"),
                          order(1, no(), qty="10", price="0.50")]  # fmt: skip
    first, second = orders_of(desk.engine.handle(changed(2 * NS)))
    (found,) = lines(caplog, "ARB OPPORTUNITY")
    for words in ("idea=TEST", 'market="Yes Q1?"', "bundle=b1", "legs=2", "sets=10",
                  "outlay=$9.50", "edge=$0.50", "edge_pct=5.26%"):  # fmt: skip
        assert words in found
    desk.say(
        filled(first, "10", "0.45", trade="t1", fee="0.02", at=3 * NS),
        filled(second, "10", "0.50", trade="t2", at=3 * NS),
        settled("t1", MINED_STATUS), settled("t2", MINED_STATUS),
    )  # fmt: skip
    assert lines(caplog, "FILLED") == [
        'FILLED BUY qty=10 price=0.45 fee=$0.02 what="Yes Q1?" order=o1',
        'FILLED BUY qty=10 price=0.5 fee=$0 what="No Q1?" order=o2',
    ]
    assert desk.reporter.fills == 2
    desk.strategy.next = [merge()]
    (operation,) = operations_of(desk.engine.handle(changed(4 * NS)))
    desk.say(confirmed(operation, at=5 * NS))
    assert lines(caplog, "MERGE") == ["MERGE operation=x1 cash=10.00"]
    desk.strategy.next = [CloseBundle(bundle_id=bundle.bundle_id, outcome="COMPLETE")]
    desk.say(changed(6 * NS))
    (executed,) = lines(caplog, "EXECUTED")
    for words in ("sets=10", "cash=$0.48", "expected=$0.50", "pnl=$0.48"):
        assert words in executed
    assert desk.reporter.executed == 1


def merge() -> OperationIntent:
    return OperationIntent(
        bundle_id=plan().bundle_id, kind=OperationKind.MERGE, subject="m1",
        burn=((yes(), q("10")), (no(), q("10"))), mint=(), cash=c("10"),
    )  # fmt: skip


def test_a_bundle_that_came_to_nothing_is_not_called_executed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    bundle = plan(leg(yes(), limit="0.45"), leg(no(), limit="0.50"))
    desk.strategy.next = [bundle]
    desk.say(changed(2 * NS))
    desk.strategy.next = [CloseBundle(bundle_id=bundle.bundle_id, outcome="MISSED")]
    desk.say(changed(3 * NS))
    assert len(lines(caplog, "BUNDLE MISSED")) == 1
    assert lines(caplog, "EXECUTED") == []
    assert desk.reporter.executed == 0


def test_a_refusal_carries_its_code(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.strategy.next = [order(0, qty="10", price="0.45", name="unknown")]
    desk.say(changed(2 * NS))
    (refused,) = lines(caplog, "REFUSED")
    assert "code=BUNDLE_UNKNOWN" in refused


@pytest.mark.parametrize(
    ("event", "line", "level"),
    [
        (trading(ev.TradingState.HALTED, reason="a drill"),
         'TRADING HALTED by=test reason="a drill"', "INFO"),
        (ev.Reconciled(venue="paper", adopted=3), "RECONCILED venue=paper adopted=3", "INFO"),
        (ev.ReconciliationFailed(venue="paper", difference="cash: 1"),
         'RECONCILIATION FAILED difference="cash: 1"', "ERROR"),
    ],
    ids=["halted", "reconciled", "differs"],
)  # fmt: skip
def test_facts_and_their_lines(
    caplog: pytest.LogCaptureFixture, event: ev.Event, line: str, level: str
) -> None:
    Desk().say(event)
    (record,) = (r for r in caplog.records if r.getMessage() == line)
    assert record.levelname == level


@pytest.mark.parametrize(
    ("kind", "word", "level"),
    [(ev.OrderRejected, "ORDER REJECTED", "INFO"), (ev.SubmitUnknown, "ORDER UNKNOWN", "WARNING")],
)
def test_what_becomes_of_an_order(
    caplog: pytest.LogCaptureFixture, kind: type[ev.Event], word: str, level: str
) -> None:
    desk = Desk()
    desk.strategy.next = [plan(leg(yes()), leg(no())), order(0)]
    (sent,) = orders_of(desk.engine.handle(changed(2 * NS)))
    fields = {"client_order_id": sent.client_order_id, "reason": "said\nthe venue"}
    desk.say(kind(**fields))  # type: ignore[arg-type]
    (record,) = (r for r in caplog.records if r.getMessage().startswith(word))
    assert record.getMessage() == f'{word} order=o1 reason="said | the venue"'
    assert record.levelname == level


class FullJournal(MemoryJournal):
    """A journal on a full disk."""

    def write(self, events: Sequence[object]) -> int:
        raise JournalFull("the disk is full")


def test_what_is_not_on_disk_is_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told: list[ev.Event] = []
    journal = ReportingJournal(FullJournal(), told.extend)
    with pytest.raises(JournalFull):
        journal.write([deposit("1")])
    assert told == []


def test_what_is_written_is_told_in_order() -> None:
    told: list[ev.Event] = []
    journal = ReportingJournal(MemoryJournal(), told.extend)
    events = [deposit("1"), deposit("2", "d2")]
    assert journal.write(events) == 2
    assert told == events


def test_a_token_that_is_not_in_the_catalogue_is_named_by_its_id() -> None:
    long = InstrumentId("123456789012345678901234567890")
    assert Desk().reporter.name(long) == "123456789012..."


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(1, 3, "33.33%"), (5, 1000, "0.50%"), (0, 9, "0.00%"), (3, 0, "0.00%")],
)
def test_percentages(part: int, whole: int, shown: str) -> None:
    assert _percent(part, whole) == shown


def test_a_refused_copy_is_told_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.say(ev.CopyRefused(ts_recv=NS, sightings=("a", "b"), wallet="0xLee", instrument_id=yes(),
                            reason=CopyRefusal.PRICE_RAN, detail="asked 0.6"))  # fmt: skip
    (line,) = lines(caplog, "COPY REFUSED")
    assert "PRICE_RAN" in line
    assert "asked 0.6" in line
    assert "0xLee" in line
