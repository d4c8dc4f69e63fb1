"""Binance on the contract's bench: the real client and venue over the local server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import Price, Qty, parse_price, parse_qty
from fleet.sandbox.binance.faults import Fault
from fleet.sandbox.binance.server import KEY, SECRET, UID, BinanceServer, BinanceSettings
from fleet.sandbox.binance.symbols import SymbolSpec
from fleet.venues.crypto.catalog import load_catalog
from fleet.venues.crypto.client import BinanceClient, ClientSettings
from fleet.venues.crypto.credentials import ApiCredentials
from fleet.venues.crypto.execution import CryptoVenue, VenueSettings
from fleet.venues.crypto.hosts import sandbox_hosts
from fleet.venues.crypto.orders import EarlierOrder
from fleet.venues.port import VenueError
from tests.contract.execution_bench import ASKS, BIDS, Bench, Depth

SPEC: Final = SymbolSpec(
    base="TST", price="0.50", tick="0.01", lot="0.01", min_qty="5", max_qty="100000",
    min_notional="1", band=("0.01", "5"),
)  # fmt: skip
"""A coin that costs what an outcome token does, so that the clauses' figures fit."""
SYMBOL: Final = SPEC.symbol


class CryptoBench(Bench):
    """A server of its own whose market stands still; ``rate`` is its commission."""

    rate = "0"
    answer_s = 5.0
    recv_window_ms = 5_000
    owners_coins = "0"
    """What the account holds of the coin before the journal is begun."""

    def __init__(self) -> None:
        super().__init__()
        self._closers: list[Callable[[], Any]] = []

    async def open(self) -> None:
        settings = BinanceSettings(
            symbols=(SPEC,), still=True, cash="100", rate=self.rate, minutes=5, seconds=5
        )
        self.server = BinanceServer(settings, LiveClock())
        self.hosts = sandbox_hosts(await self.server.start())
        self.server.deposit("TST", self.owners_coins)
        self.refill()
        self._began_ns = self.clock.now_ns()
        client = self.client()
        try:
            self.catalog = await load_catalog(client, [SYMBOL])
        finally:
            await client.close()
        self.begin(self.catalog.universe)
        await self.connect()
        await self.reconcile()

    def refill(self) -> None:
        """Write the depth of the clauses."""
        market = self.server.exchange.markets[SYMBOL]
        bids, asks = (
            [(parse_price(price), parse_qty(qty)) for price, qty in rows] for rows in (BIDS, ASKS)
        )
        market.write(bids, asks)

    def client(self) -> BinanceClient:
        settings = ClientSettings(
            answer_s=self.answer_s, recv_window_ms=self.recv_window_ms, tries=3
        )
        return BinanceClient(self.hosts, ApiCredentials(KEY, SECRET), settings=settings)

    async def connect(self) -> None:
        self.venue = self.execution = CryptoVenue(
            client=self.client(), catalog=self.catalog, journal_id="contract",
            journal=self._journal, sink=self.hear, on_failure=self.failures.append,
            adopted_ns=self._began_ns, earlier=self._earlier(),
            deposits=self.state.portfolio.deposits(),
            settings=VenueSettings(look_s=0.1, check_s=0.3, tick_s=0.02),
        )  # fmt: skip
        await self.venue.start()

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
        market = self.server.exchange.markets[SYMBOL]
        shown = market.side("SELL" if side is Side.BUY else "BUY")
        return [(Price(level.price), Qty(level.qty)) for level in shown]

    async def agree(self) -> None:
        """And the exchange's own ledger says so too, to the last unit."""
        await super().agree()
        cash, held = (sum(self.server.ledger.held(UID, asset)) for asset in ("USDT", "TST"))
        held -= parse_qty(self.owners_coins)
        assert self.state.portfolio.cash == cash
        assert self.held() == ({self.yes: held} if held else {})

    async def until_reconciled(self) -> None:
        """As the runner does: ask again while the venue cannot be asked or has not settled."""
        for _ in range(60):
            try:
                if not await self.reconcile():
                    return
            except VenueError:
                pass
            await asyncio.sleep(0.1)
        raise AssertionError("no reconciliation")
