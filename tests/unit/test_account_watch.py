"""Journal and venue are compared while the bot runs: what is told, and what is not."""

import asyncio
from collections.abc import Callable

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import Approved, ClientOrderId
from fleet.domain.units import Cash
from fleet.journal.halts import HaltCode
from fleet.runtime.account_watch import READINGS, AccountWatch
from fleet.runtime.runner import Runner
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.port import TransportFailed
from tests.builders import NS, Rig, c, deposit, filled, q, universe, yes

Answer = Callable[[int], AccountTruth]


class Books:
    """A venue of which only the account is asked; ``say`` answers the n-th question."""

    name = "books"

    def __init__(self, say: Answer) -> None:
        self.say = say
        self.asked = 0

    async def account(self, query: AccountQuery) -> AccountTruth:
        self.asked += 1
        return self.say(self.asked)

    def submit(self, approved: Approved) -> None:
        raise AssertionError(approved)

    def cancel(self, client_order_id: ClientOrderId) -> None:
        raise AssertionError(client_order_id)

    def observe(self, event: ev.TradePrinted | ev.MarketResolved) -> None:
        raise AssertionError(event)

    def close(self) -> None:
        """Nothing is open."""


class Desk:
    """A bot with a hundred dollars, and the venue's books."""

    def __init__(self, say: Answer) -> None:
        self.rig = Rig(universe(1))
        self.rig.say(deposit("100"))
        self.runner = Runner(self.rig.engine, LiveClock(), lambda: None)
        self.books = Books(say)
        self.tripped: list[tuple[HaltCode, str]] = []
        self.watch = AccountWatch(
            self.runner, self.books, LiveClock(), lambda *trip: self.tripped.append(trip),
            every_s=0.01, again_s=0.001,
        )  # fmt: skip

    def compare(self) -> str:
        return asyncio.run(self.watch.compare())

    def failed(self) -> list[str]:
        return [
            entry.event.difference
            for entry in self.rig.journal.read()
            if isinstance(entry.event, ev.ReconciliationFailed)
        ]


def truth(cash: str, *facts: ev.Event) -> AccountTruth:
    return AccountTruth(cash=Cash(c(cash)), tokens={}, facts=facts)


def test_books_that_agree_are_counted_and_nothing_is_told() -> None:
    desk = Desk(lambda _: truth("100"))
    assert desk.compare() == ""
    assert (desk.watch.agreed, desk.books.asked, desk.tripped) == (1, 1, [])


def test_a_difference_that_stands_halts_and_is_recorded() -> None:
    desk = Desk(lambda _: truth("99.99"))
    left = desk.compare()
    assert left == "cash: journal 100.00, venue 99.99"
    assert desk.books.asked == READINGS
    assert desk.tripped == [(HaltCode.RECONCILIATION_DIFFERENCE, left)]
    assert desk.failed() == [left]


def test_a_difference_that_moves_or_goes_is_an_order_that_fills() -> None:
    moving = Desk(lambda n: truth(f"99.{n}"))
    assert moving.compare() == ""
    going = Desk(lambda n: truth("99" if n < READINGS else "100"))
    assert going.compare() == ""
    assert moving.tripped == going.tripped == []
    assert moving.failed() == going.failed() == []


def test_what_was_missed_is_handed_over_before_anything_is_judged() -> None:
    more = ev.CashDeposited(ts_event=NS, deposit_id="more", amount=c("50"))
    desk = Desk(lambda _: truth("150", more))
    assert desk.compare() == ""
    assert desk.runner.backlog == 1

    async def drained() -> None:
        task = asyncio.create_task(desk.runner.run())
        async with asyncio.timeout(5):
            while desk.runner.backlog:  # noqa: ASYNC110 - a value is watched
                await asyncio.sleep(0.001)
        desk.runner.stop()
        await task

    asyncio.run(drained())
    assert desk.rig.state.portfolio.cash == c("150")
    assert desk.compare() == ""
    assert desk.watch.agreed == 1


def test_a_fill_of_a_stranger_s_order_is_an_unknown_fill() -> None:
    fill = filled(ClientOrderId("o77"), "5", "0.5", token=yes())
    desk = Desk(lambda _: truth("97.5", fill))
    assert "1 orders the journal does not know (o77)" in desk.compare()
    assert [code for code, _ in desk.tripped] == [HaltCode.UNKNOWN_FILL]
    assert desk.rig.state.portfolio.position(yes()).qty == q("0"), "it is not adopted"


def test_a_venue_that_does_not_answer_is_no_difference() -> None:
    def silent(_: int) -> AccountTruth:
        raise TransportFailed("no answer", sent=True)

    desk = Desk(silent)
    assert desk.compare() == ""
    assert desk.tripped == []

    async def alive() -> str:
        await desk.watch.start()
        async with asyncio.timeout(5):
            while desk.books.asked < 4:  # noqa: ASYNC110 - a value is watched
                await asyncio.sleep(0.005)
        health = desk.watch.health()
        await desk.watch.stop()
        assert health.ok
        return health.detail

    assert "cannot be read: no answer" in asyncio.run(alive())
