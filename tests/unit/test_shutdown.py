"""The orderly end: it waits for the venue's answers, agrees with its books, and is never late."""

import asyncio
from collections.abc import Callable

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import Approved, ClientOrderId, TimeInForce
from fleet.domain.units import Cash
from fleet.runtime.runner import Runner
from fleet.runtime.shutdown import Ending, wind_down
from fleet.venues.account import AccountQuery, AccountTruth
from fleet.venues.port import TransportFailed
from tests.builders import NS, Rig, canceled, filled, leg, plan, submit, trading, universe, yes

O1 = ClientOrderId("o1")


class Venue:
    """A venue that answers cancels and questions as it is told to."""

    name = "test"

    def __init__(self, rig: Rig, runner: Runner) -> None:
        self.rig = rig
        self.runner = runner
        self.cancels: list[ClientOrderId] = []
        self.answer: Callable[[ClientOrderId], list[ev.Event]] = lambda o: [canceled(o)]
        self.delay_s = 0.01
        self.account_delay_s = 0.0
        self.cash_off = 0
        self.missed: tuple[ev.Event, ...] = ()
        self.refuses = False

    def cancel(self, client_order_id: ClientOrderId) -> None:
        self.cancels.append(client_order_id)
        asyncio.get_running_loop().call_later(
            self.delay_s, self.runner.put_facts, self.answer(client_order_id)
        )

    def submit(self, approved: Approved) -> None:
        raise AssertionError("nothing is sent while it ends")

    def observe(self, event: ev.TradePrinted | ev.MarketResolved) -> None:
        """Not asked."""

    async def account(self, query: AccountQuery) -> AccountTruth:
        await asyncio.sleep(self.account_delay_s)
        if self.refuses:
            raise TransportFailed("no route", sent=False)
        portfolio = self.rig.state.portfolio
        tokens = {token: position.qty for token, position in portfolio.positions.items()}
        return AccountTruth(
            cash=Cash(portfolio.cash + self.cash_off), tokens=tokens, facts=self.missed
        )

    def close(self) -> None:
        """Not asked."""


def play(story: Callable[[Venue], None]) -> tuple[Ending, Venue]:
    """An order rests; trading is halted as at the end; what ``wind_down`` makes of it."""

    async def run() -> tuple[Ending, Venue]:
        rig = Rig(universe())
        runner = Runner(rig.engine, LiveClock(), lambda: None)
        venue = Venue(rig, runner)
        runner.execution = venue
        rig.open_market(at=NS)
        order = submit("o1", tif=TimeInForce.GTC)
        rig.state.apply(ev.DecisionMade(decision=1, opened=(plan(leg(yes())),), orders=(order,)))
        story(venue)
        loop = asyncio.create_task(runner.run())
        runner.handle(trading(ev.TradingState.HALTED, reason="signal SIGTERM"))
        try:
            ending = await wind_down(runner, venue, LiveClock(), answers_s=0.5, account_s=0.5)
        finally:
            runner.stop()
            await loop
        return ending, venue

    return asyncio.run(run())


def nothing(_venue: Venue) -> None:
    """The plain case."""


def test_what_rests_is_cancelled_and_the_books_agree() -> None:
    ending, venue = play(nothing)
    assert ending.clean
    assert venue.cancels == [O1]
    assert not venue.rig.state.orders.open
    kinds = [type(event) for event in venue.rig.entries]
    assert ev.OrderCanceled in kinds
    assert ev.Reconciled not in kinds, "only a start says so"


def test_a_fill_that_crosses_the_cancel_is_counted() -> None:
    def story(venue: Venue) -> None:
        venue.answer = lambda o: [filled(o, "5", "0.5"), canceled(o)]

    ending, venue = play(story)
    assert ending.clean
    assert venue.rig.state.portfolio.position(yes()).qty > 0


def test_a_fact_the_journal_missed_is_folded_in() -> None:
    def story(venue: Venue) -> None:
        venue.missed = (ev.CashDeposited(deposit_id="d9", amount=Cash(500)),)
        venue.cash_off = 500

    ending, venue = play(story)
    assert ending.clean
    assert venue.rig.state.portfolio.knows_deposit("d9")


def test_a_venue_that_does_not_answer_cannot_hold_it_up() -> None:
    def story(venue: Venue) -> None:
        venue.delay_s = 60.0
        venue.account_delay_s = 60.0

    ending, venue = play(story)
    assert ending == Ending(unanswered=("o1",), difference="", asked=False)
    assert venue.rig.state.orders.open, "not assumed to be cancelled"


def test_a_venue_that_cannot_be_reached_is_left_to_the_next_start() -> None:
    def story(venue: Venue) -> None:
        venue.refuses = True

    ending, _ = play(story)
    assert (ending.asked, ending.unanswered) == (False, ())


def test_a_difference_is_an_event_and_told() -> None:
    def story(venue: Venue) -> None:
        venue.cash_off = 1_000_000_000

    ending, venue = play(story)
    assert not ending.clean
    assert ending.difference.startswith("cash: journal")
    failed = venue.rig.entries[-1]
    assert isinstance(failed, ev.ReconciliationFailed)


def test_a_strangers_fill_is_told_and_not_folded_in() -> None:
    def story(venue: Venue) -> None:
        venue.missed = (filled("nobodys", "5", "0.5"),)

    ending, venue = play(story)
    assert "the journal does not know (nobodys)" in ending.difference
    assert not venue.rig.state.portfolio.positions


def test_a_run_whose_journal_failed_asks_nobody() -> None:
    def story(venue: Venue) -> None:
        venue.delay_s = 60.0
        venue.runner.crashed("the journal cannot be written")

    ending, _ = play(story)
    assert ending.asked is False
