"""What the clauses of the ``Execution`` contract are tried on: a venue, and a bot's books beside it.

The books are the bot's own ``State`` without a strategy; they are the journal of these tests. A
venue joins by a ``Bench`` that connects it, makes it anew after a crash, and tells its depth.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import (
    Approved,
    BundleId,
    ClientOrderId,
    OperationId,
    OperationKind,
    Purpose,
    RunOperation,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.instruments import Instrument, InstrumentId, Side, Universe
from fleet.domain.units import Cash, Price, Qty, parse_price, parse_qty
from fleet.engine.book import Book
from fleet.engine.state import State
from fleet.journal.codec import Codec
from fleet.journal.store import MemoryJournal
from fleet.runtime.execution import Execution, PaperExecution
from fleet.runtime.recovery import difference, query_of, reconcile
from fleet.venues.account import AccountTruth
from fleet.venues.paper import MS, PaperSettings, PaperVenue
from tests.builders import c, levels, universe

Depth = list[tuple[Price, Qty]]
TRIES: Final = 3_000
BIDS: Final = [("0.49", "12"), ("0.48", "20")]
ASKS: Final = [("0.51", "12"), ("0.52", "20")]
"""The depth of a still market; mirrored it is the same, so both tokens show it."""


class Bench(ABC):
    """One venue, one wallet with about 100 dollars, one market, one bot's books."""

    execution: Execution
    universe: Universe
    repeats = False
    """Whether the next connection is told everything twice, where somebody else tells it."""

    def __init__(self) -> None:
        self.clock = LiveClock()
        self.told: list[ev.Event] = []
        """What the venue said in this life."""
        self.lives: list[list[ev.Event]] = [self.told]
        self.adopted: list[ev.Event] = []
        """What the account said that the journal had missed."""
        self.deaf = False
        """Whether what the venue says no longer reaches the journal, as just before a crash."""
        self.failures: list[str] = []
        self.requests: dict[ClientOrderId, SubmitOrder] = {}
        self._numbers = 0

    # --- what a venue brings -------------------------------------------------------------------

    @abstractmethod
    async def open(self) -> None:
        """Make the market and the venue, and adopt the money there is."""

    @abstractmethod
    async def connect(self) -> None:
        """A venue made from what the books hold: at first, and after a crash."""

    @abstractmethod
    async def disconnect(self) -> None:
        """Wait for the end of what ``execution.close`` ended."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back."""

    @abstractmethod
    async def depth(self, side: Side, token: InstrumentId) -> Depth:
        """What an order of this side would meet, best first."""

    # --- the journal ---------------------------------------------------------------------------

    def begin(self, known: Universe) -> None:
        """Empty books."""
        self.universe, self.state = known, State(known)
        market = next(iter(known.markets.values()))
        self.market, self.yes, self.no = market, market.yes, market.no

    @property
    def instrument(self) -> Instrument:
        """The token the clauses trade."""
        return self.universe.instruments[self.yes]

    def hear(self, facts: Sequence[ev.Event]) -> None:
        """The sink."""
        self.told += facts
        if not self.deaf:
            for fact in facts:
                self.state.apply(fact)

    async def crash(self) -> None:
        """The process dies between two steps of the loop, and another one starts."""
        self.execution.close()
        await self.disconnect()
        self.deaf = False
        self.told = []
        self.lives.append(self.told)
        await self.connect()

    # --- commands ------------------------------------------------------------------------------

    def submit(
        self, side: Side, price: str | Price, qty: str | Qty,
        tif: TimeInForce = TimeInForce.FAK, *, token: InstrumentId | None = None,
    ) -> ClientOrderId:  # fmt: skip
        """Decide on an order and hand it over, as the runner would."""
        self._numbers += 1
        order = SubmitOrder(
            client_order_id=ClientOrderId(f"o{self._numbers}"), bundle_id=BundleId("b"), leg=0,
            purpose=Purpose.LEG, instrument_id=token or self.yes, side=side,
            price=parse_price(price) if isinstance(price, str) else price,
            qty=parse_qty(qty) if isinstance(qty, str) else qty, tif=tif, ts=self.clock.now_ns(),
        )  # fmt: skip
        self.requests[order.client_order_id] = order
        self.state.apply(
            ev.DecisionMade(ts_event=order.ts, decision=self._numbers, orders=(order,))
        )
        self.execution.submit(Approved(order))
        return order.client_order_id

    def again(self, order: ClientOrderId) -> None:
        """Hand the very same request over once more."""
        self.execution.submit(Approved(self.requests[order]))

    def operate(self, kind: OperationKind, qty: str) -> OperationId:
        """Decide on a split or merge and hand it over."""
        self._numbers += 1
        pair = tuple((token, parse_qty(qty)) for token in (self.yes, self.no))
        splits = kind is OperationKind.SPLIT
        request = RunOperation(
            operation_id=OperationId(f"p{self._numbers}"), bundle_id=BundleId("b"), kind=kind,
            subject=self.market.id, burn=() if splits else pair, mint=pair if splits else (),
            cash=Cash(-parse_qty(qty) if splits else parse_qty(qty)),
        )  # fmt: skip
        self.state.apply(
            ev.DecisionMade(
                ts_event=self.clock.now_ns(), decision=self._numbers, operations=(request,)
            )
        )
        self.execution.submit(Approved(request))
        return request.operation_id

    # --- waiting -------------------------------------------------------------------------------

    async def until(self, done: Callable[[], bool], why: str) -> None:
        """Wait until ``done``, at most half a minute."""
        for _ in range(TRIES):
            if done():
                return
            assert not self.failures, self.failures
            await asyncio.sleep(0.01)
        raise AssertionError(f"{why}; told {self.told[-10:]}")

    async def ended(self, *orders: ClientOrderId) -> None:
        """Wait until these orders are over in the books."""
        await self.until(
            lambda: not set(orders) & self.state.orders.open.keys(), f"{orders} should end"
        )

    async def quiet(self) -> None:
        """Wait until nothing is under way: no order, no operation, no fill that is not final."""
        await self.until(
            lambda: (
                not (
                    self.state.orders.open
                    or self.state.bundles.pending
                    or self.state.portfolio.unsettled_trades()
                )
            ),
            "all should come to its end",
        )

    # --- what was said -------------------------------------------------------------------------

    def kinds(self, order: ClientOrderId) -> list[str]:
        """What was said of an order in this life, in order."""
        return [f.KIND for f in self.told if getattr(f, "client_order_id", "") == order]

    def fills(self, order: ClientOrderId | None = None) -> list[ev.OrderFilled]:
        """The fills of an order (of all) in this life."""
        return [
            f for f in self.told
            if isinstance(f, ev.OrderFilled) and order in {None, f.client_order_id}
        ]  # fmt: skip

    def filled(self, order: ClientOrderId) -> int:
        """Shares of an order that traded in this life."""
        return sum(fill.qty for fill in self.fills(order))

    # --- the books -----------------------------------------------------------------------------

    async def truth(self) -> AccountTruth:
        """The venue's answer to what the books leave open."""
        return await self.execution.account(query_of(self.state))

    async def reconcile(self) -> str:
        """Adopt what the venue knows more; the difference that is left, in words."""
        truth = await self.truth()

        def handle(event: ev.Event) -> tuple[()]:
            self.adopted.append(event)
            self.state.apply(event)
            return ()

        left = reconcile(self.state, truth, handle, venue="contract", now_ns=self.clock.now_ns())
        assert not self.state.orders.anomaly, self.state.orders.anomaly
        assert not self.state.portfolio.anomaly, self.state.portfolio.anomaly
        return left or difference(self.state, truth)

    def held(self) -> dict[InstrumentId, Qty]:
        """The tokens the books hold."""
        return {t: pos.qty for t, pos in self.state.portfolio.positions.items() if pos.qty}

    async def agree(self) -> None:
        """Nothing is under way, and books and venue say the same without adopting anything."""
        await self.quiet()
        truth = await self.truth()
        assert (truth.cash, dict(truth.tokens)) == (self.state.portfolio.cash, self.held())
        assert await self.reconcile() == ""


class PaperBench(Bench):
    """The paper venue on the event loop, quick, over a ledger that outlives it."""

    async def open(self) -> None:
        self.begin(universe(1, rate="0.02"))
        self.ledger = MemoryJournal(codec=Codec())
        self.books: dict[InstrumentId, Book] = {}
        for token, instrument in self.universe.instruments.items():
            self.books[token] = Book(token, instrument.tick)
            self.books[token].replace(levels(BIDS), levels(ASKS), 0)
        await self.connect()
        await self.reconcile()

    async def connect(self) -> None:
        venue = PaperVenue(
            settings=PaperSettings(
                latency_ns=5 * MS, answer_ns=5 * MS, mined_ns=100 * MS, confirmed_ns=200 * MS,
                operation_ns=20 * MS, cash=c("100"),
            ),
            instruments=self.universe.instruments, books=self.books, ledger=self.ledger,
            facts=[entry.event for entry in self.ledger.read()], now_ns=self.clock.now_ns(),
        )  # fmt: skip
        self.execution = PaperExecution(venue, self.clock, self.hear, self.failures.append)

    async def disconnect(self) -> None:
        """Nothing runs besides the loop's own timers."""

    async def close(self) -> None:
        self.execution.close()

    async def depth(self, side: Side, token: InstrumentId) -> Depth:
        return list(self.books[token].levels(side))
