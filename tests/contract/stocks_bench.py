"""Alpaca on the contract's bench: alpaca-py and the venue over the local server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, parse_price, parse_qty
from fleet.sandbox.alpaca.days import Calendar
from fleet.sandbox.alpaca.faults import Fault
from fleet.sandbox.alpaca.prices import StillPrices
from fleet.sandbox.alpaca.server import KEY, SECRET, AlpacaServer, AlpacaSettings
from fleet.venues.stocks.catalog import load_universe
from fleet.venues.stocks.client import AlpacaClient, ClientSettings
from fleet.venues.stocks.credentials import StockCredentials
from fleet.venues.stocks.execution import StocksVenue, VenueSettings
from fleet.venues.stocks.fees import RegulatoryFees
from fleet.venues.stocks.hosts import sandbox_hosts
from fleet.venues.stocks.orders import EarlierOrder
from fleet.venues.stocks.updates import TradeUpdates
from tests.contract.execution_bench import ASKS, BIDS, Bench, Depth

SYMBOL: Final = "TST"
FREE: Final = RegulatoryFees(rate=0, taf=0)


class StocksBench(Bench):
    """A server of its own whose market stands still, of a share that costs half a dollar."""

    fees = FREE
    absent_s = 0.3
    total_s = 10.0
    extended = False
    allocation = Cash(0)
    calendar = Calendar()
    owners_shares = "0"
    """What the account holds before the journal is begun."""

    async def open(self) -> None:
        (bid, bid_qty), (ask, ask_qty) = BIDS[0], ASKS[0]
        self.prices = StillPrices({
            SYMBOL: (parse_price(bid), parse_qty(bid_qty), parse_price(ask), parse_qty(ask_qty))
        })  # fmt: skip
        settings = AlpacaSettings(
            symbols=(SYMBOL,), prices=self.prices, cash="100", step_s=0.02, calendar=self.calendar
        )
        self.server = AlpacaServer(settings, LiveClock())
        if self.owners_shares != "0":
            self.server.exchange.give(SYMBOL, self.owners_shares)
        self.hosts = sandbox_hosts(await self.server.start())
        await self.prepare()
        self._began_ns = self.clock.now_ns() + self.server.clock.offset_ns
        client = self.client()
        try:
            self.begin(await load_universe(client, [SYMBOL], self.fees))
        finally:
            await client.close()
        await self.connect()
        await self.reconcile()

    async def prepare(self) -> None:
        """What a test wants done before anybody connects."""

    def client(self) -> AlpacaClient:
        settings = ClientSettings(total_s=self.total_s, per_second=1_000, burst=1_000)
        return AlpacaClient(self.hosts, StockCredentials(KEY, SECRET), settings=settings)

    async def connect(self) -> None:
        self.venue = self.execution = StocksVenue(
            client=self.client(), universe=self.universe, fees=self.fees,
            stream=lambda seen, gap: TradeUpdates(
                self.hosts.updates_url, StockCredentials(KEY, SECRET), on_update=seen, on_gap=gap,
                backoff_first_ns=10_000_000, backoff_max_ns=50_000_000,
            ),
            journal_id="contract", journal=self._journal, sink=self.hear,
            on_failure=self.failures.append, adopted_ns=self._began_ns, earlier=self._earlier(),
            deposits=self.state.portfolio.deposits(),
            settings=VenueSettings(
                look_s=0.1, check_s=0.3, tick_s=0.02, absent_s=self.absent_s,
                extended_hours=self.extended, allocation=self.allocation,
            ),
        )  # fmt: skip
        await self.venue.start()
        await self.until(lambda: self.venue.stream.connected, "the stream should connect")

    def _earlier(self) -> list[EarlierOrder]:
        return [
            EarlierOrder(
                request=self.requests[order.client_order_id],
                venue_order_id=order.venue_order_id,
                accepted=order.status.value not in {"SUBMITTED", "REJECTED"},
                open=order.open,
            )
            for order in self.state.orders
        ]

    def _journal(self, facts: Sequence[ev.Event]) -> bool:
        for fact in facts:
            self.state.apply(fact)
        return True

    def fault(self, name: str, **how: Any) -> Fault:
        """Turn a fault of the server on."""
        fault = Fault(name=name, **how)
        self.server.faults.add(fault)
        return fault

    async def disconnect(self) -> None:
        await self.venue.stop()

    async def close(self) -> None:
        if hasattr(self, "venue"):
            await self.venue.stop()
        await self.server.stop()

    async def depth(self, side: Side, token: InstrumentId) -> Depth:
        del token
        quote = self.prices.quote(SYMBOL, 0)
        assert quote is not None
        if side is Side.BUY:
            return [(Price(quote.ask), Qty(quote.ask_qty))]
        return [(Price(quote.bid), Qty(quote.bid_qty))]

    def refill(self) -> None:
        """Show the same quote anew, so that its shares can be taken again."""
        self.server.exchange.requote()

    async def agree(self) -> None:
        """And the exchange's own books say so too, to the last unit."""
        await super().agree()
        held = self.server.exchange.positions().get(SYMBOL, 0) - parse_qty(self.owners_shares)
        assert self.held() == ({self.yes: held} if held else {})
        if self.fees is FREE and not self.allocation:
            assert self.state.portfolio.cash == self.server.exchange.cash

    def posts(self) -> int:
        """How many orders reached the server."""
        return self.server.rest.seen.count(("POST", "/v2/orders"))


def whole(shares: int) -> Qty:
    """So many shares."""
    return Qty(shares * SCALE)
