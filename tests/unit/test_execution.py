"""The paper venue on an event loop: its due times are kept, its failures are told."""

import asyncio
import time
from collections.abc import Sequence

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import Approved, ClientOrderId, TimeInForce
from fleet.domain.instruments import Side
from fleet.engine.book import Book
from fleet.journal.database import JournalFull
from fleet.journal.store import MemoryJournal
from fleet.runtime.execution import PaperExecution
from fleet.venues.account import AccountQuery
from fleet.venues.paper import PaperSettings, PaperVenue
from tests.builders import MS, c, p, q, submit, universe, yes

FAST = PaperSettings(
    cash=c("100"), latency_ns=20 * MS, answer_ns=10 * MS, mined_ns=60 * MS, confirmed_ns=90 * MS
)


class Desk:
    """A venue with one ask at 0.50, its execution, and what came back when."""

    def __init__(self, ledger: MemoryJournal | None = None) -> None:
        world = universe(1)
        self.books = {token: Book(token, p("0.01")) for token in world.instruments}
        self.books[yes()].replace([(p("0.40"), q("100"))], [(p("0.50"), q("100"))], 0)
        clock = LiveClock()
        self.began = time.monotonic()
        self.heard: list[tuple[float, ev.Event]] = []
        self.failures: list[str] = []
        self.ledger = ledger or MemoryJournal()
        self.venue = PaperVenue(
            settings=FAST, instruments=world.instruments, books=self.books, ledger=self.ledger,
            now_ns=clock.now_ns(),
        )  # fmt: skip
        self.execution = PaperExecution(self.venue, clock, self.hear, self.failures.append)

    def hear(self, events: Sequence[ev.Event]) -> None:
        now_ms = (time.monotonic() - self.began) * 1_000
        self.heard += [(now_ms, event) for event in events]

    def kinds(self) -> list[str]:
        return [event.KIND for _, event in self.heard]


async def until(desk: Desk, kind: str) -> None:
    async with asyncio.timeout(5):
        while kind not in desk.kinds():  # noqa: ASYNC110 - a value is watched
            await asyncio.sleep(0.002)


def test_answers_come_back_on_the_loop_in_order_and_not_early() -> None:
    async def scene() -> None:
        desk = Desk()
        desk.execution.submit(Approved(submit(qty="10", price="0.50")))
        assert desk.heard == []
        await until(desk, "OrderFilled")
        assert desk.kinds() == ["OrderAccepted", "OrderFilled"]
        assert desk.heard[0][0] >= 29
        for _ in range(400):
            await asyncio.sleep(0.005)
            if desk.kinds().count("FillSettled") == 2:
                break
        statuses = [e.status for _, e in desk.heard if isinstance(e, ev.FillSettled)]
        assert statuses == [ev.SettlementStatus.MINED, ev.SettlementStatus.CONFIRMED]
        assert desk.heard[-1][0] >= 110
        assert all(event.ts_recv for _, event in desk.heard)

    asyncio.run(scene())


def test_a_sooner_event_is_not_kept_waiting_by_a_later_one() -> None:
    async def scene() -> None:
        desk = Desk()
        desk.execution.submit(Approved(submit("o1", qty="10", price="0.50")))
        await until(desk, "OrderFilled")  # The next due time is that of the mining.
        desk.execution.submit(Approved(submit("o2", qty="10", price="0.10")))
        await until(desk, "OrderRejected")
        assert "FillSettled" not in desk.kinds()

    asyncio.run(scene())


def test_a_resting_order_is_cancelled_and_a_trade_through_it_fills() -> None:
    async def scene() -> None:
        desk = Desk()
        for name in ("o1", "o2"):
            desk.execution.submit(
                Approved(submit(name, qty="10", price="0.45", tif=TimeInForce.GTC))
            )
        await until(desk, "OrderAccepted")
        desk.execution.cancel(ClientOrderId("o1"))
        await until(desk, "OrderCanceled")
        now_ns = time.time_ns()
        desk.execution.observe(ev.TradePrinted(now_ns, now_ns, yes(), Side.SELL, p("0.44"), q("4")))
        await until(desk, "OrderFilled")
        (fill,) = (e for _, e in desk.heard if isinstance(e, ev.OrderFilled))
        assert (fill.client_order_id, fill.qty, fill.price) == ("o2", q("4"), p("0.45"))

    asyncio.run(scene())


def test_after_close_nothing_comes_back() -> None:
    async def scene() -> None:
        desk = Desk()
        desk.execution.submit(Approved(submit(qty="10", price="0.50")))
        desk.execution.close()
        desk.execution.cancel(ClientOrderId("o1"))
        await asyncio.sleep(0.06)
        assert desk.heard == []

    asyncio.run(scene())


def test_the_account_is_the_venues() -> None:
    async def scene() -> None:
        desk = Desk()
        assert desk.execution.name == "paper"
        query = AccountQuery(
            open_orders=frozenset({ClientOrderId("o9")}), known_trades=frozenset(),
            unsettled_trades=frozenset(), pending_operations=frozenset(),
        )  # fmt: skip
        truth = await desk.execution.account(query)
        assert truth.cash == c("100")
        assert truth.absent_orders == ("o9",)

    asyncio.run(scene())


class FullLedger(MemoryJournal):
    """A ledger whose disk fills up after the deposit."""

    def write(self, events: Sequence[object]) -> int:
        if list(self.read()):
            raise JournalFull("the disk is full")
        return super().write(events)


def test_a_ledger_that_cannot_be_written_ends_the_run_and_answers_nothing() -> None:
    async def scene() -> None:
        desk = Desk(FullLedger())
        desk.execution.submit(Approved(submit(qty="10", price="0.50")))
        for _ in range(400):
            await asyncio.sleep(0.005)
            if desk.failures:
                break
        assert desk.failures == ["the paper venue's ledger cannot be written: the disk is full"]
        desk.execution.submit(Approved(submit("o2", qty="10", price="0.50")))
        await asyncio.sleep(0.05)
        assert desk.heard == []
        assert len(desk.failures) == 1
        assert desk.venue.accounts.cash == c("100")

    asyncio.run(scene())


def test_a_cancel_over_a_full_ledger_is_told_too() -> None:
    async def scene() -> None:
        desk = Desk(FullLedger())
        desk.execution.cancel(ClientOrderId("o1"))
        for _ in range(400):
            await asyncio.sleep(0.005)
            if desk.failures:
                break
        assert desk.failures

    asyncio.run(scene())
