"""A live venue on a sandbox of its own, and a bookkeeper that folds what it is told.

The bookkeeper is the bot's own ``State`` without a strategy; ``agree`` compares it with what the
sandbox's ledger holds, to the last unit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx

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
from fleet.domain.events import TradingState
from fleet.domain.instruments import Instrument, InstrumentId, Market, Side, Universe
from fleet.domain.units import Cash, Price, Qty, parse_price, parse_qty
from fleet.engine.state import State
from fleet.runtime.recovery import difference, query_of, reconcile
from fleet.sandbox.server import SandboxServer, SandboxSettings
from fleet.sandbox.simulator import SimulatorSettings
from fleet.venues.polymarket.catalog import CatalogSettings, load_catalog
from fleet.venues.polymarket.chain import ChainOperations
from fleet.venues.polymarket.chain_node import ChainNode
from fleet.venues.polymarket.client import ClobClient
from fleet.venues.polymarket.clob_http import ClientSettings
from fleet.venues.polymarket.guard import SigningGuard
from fleet.venues.polymarket.hosts import Hosts, sandbox_hosts
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.polymarket.live import EarlierOrder, LiveSettings, LiveVenue
from fleet.venues.polymarket.live_account import Account, held_tokens
from fleet.venues.polymarket.live_operations import EarlierOperation
from fleet.venues.polymarket.login import log_in
from fleet.venues.polymarket.resolutions import standing_of_token
from fleet.venues.polymarket.user_feed import UserFeed
from fleet.venues.transport import HttpSettings, JsonClient

LOCAL = HttpSettings(timeout_s=5, attempts=2, per_second=1_000, burst=500)
Story = Callable[["LiveBench"], Awaitable[None]]


class LiveBench:
    """One sandbox, one wallet with 1,000 pUSD, one bot's books."""

    def __init__(self, server: SandboxServer, port: int) -> None:
        self.server = server
        self.hosts: Hosts = sandbox_hosts(port)
        self.url = f"http://127.0.0.1:{port}"
        self.clock = LiveClock()
        self.key = SecretKey(b"\x07" * 32)
        self.numbers = iter(range(1, 10_000))
        self.told: list[ev.Event] = []
        self.failures: list[str] = []
        self.requests: dict[ClientOrderId, SubmitOrder] = {}
        self.answer_s = 2.0
        self.opened: list[JsonClient] = []
        self.nodes: list[ChainNode] = []
        self.hashes: dict[OperationId, str] = {}
        self.departed: dict[InstrumentId, Instrument] = {}

    async def open(self) -> None:
        """Read the catalogue, put money in the wallet, log in and start the venue."""
        gamma, clob = (
            JsonClient(self.hosts.gamma_url, LOCAL),
            JsonClient(self.hosts.clob_url, LOCAL),
        )
        catalog = await load_catalog(gamma, clob, CatalogSettings(), now_ns=self.clock.now_ns())
        await gamma.close()
        await clob.close()
        self.universe: Universe = catalog.universe
        self.state = State(self.universe)
        await self.control("deposit", wallet=self.key.address, amount="1000")
        await self.connect()
        await self.reconcile()

    async def connect(self) -> None:
        """A venue made from what the books hold: at first, and after a crash."""
        self.guard = guard = SigningGuard(
            self.key, instruments=self.universe.instruments, lease_alive=lambda: True
        )
        self.credentials = credentials = await log_in(self.hosts, guard, http=LOCAL)
        self.owner = credentials.api_key
        client = ClobClient(
            self.hosts, credentials, settings=ClientSettings(answer_s=self.answer_s, tries=3)
        )
        node = ChainNode(self.hosts.rpc_url, chain_id=self.hosts.chain_id)
        await node.open()
        self.nodes.append(node)
        held = JsonClient(self.hosts.data_url, LOCAL)
        held_clob = JsonClient(self.hosts.clob_url, LOCAL)
        self.opened += [held, held_clob]
        earlier = [
            EarlierOrder(
                request=self.requests[order.client_order_id],
                venue_order_id=order.venue_order_id,
                accepted=order.status.value not in {"SUBMITTED", "REJECTED"},
                open=order.open,
            )
            for order in self.state.orders
        ]
        self.venue = LiveVenue(
            client=client, guard=guard,
            instruments={**self.departed, **self.universe.instruments},
            stream=lambda seen, gap: UserFeed(
                self.hosts.user_ws_url, credentials, on_sightings=seen, on_gap=gap
            ),
            journal=self._journal, sink=self._sink, on_failure=self.failures.append,
            operations=ChainOperations(
                guard.transactions(), node, self.universe, confirmations=2,
                lookup=partial(standing_of_token, held_clob),
            ),
            earlier_operations=self._pending(), earlier=earlier, settings=LiveSettings(look_s=0.1, check_s=0.5),
            account=Account(client, guard.wallet, held=lambda: held_tokens(held, guard.wallet)),
        )  # fmt: skip
        await self.venue.start()

    def _pending(self) -> list[EarlierOperation]:
        return [
            EarlierOperation(request=request, transaction_hash=self.hashes.get(operation_id, ""))
            for operation_id, request in self.state.bundles.pending.items()
        ]

    def _journal(self, events: Sequence[ev.Event]) -> bool:
        for event in events:
            if isinstance(event, ev.OperationSigned):
                self.hashes[event.operation_id] = event.transaction_hash
            self.state.apply(event)
        return True

    def _sink(self, events: Sequence[ev.Event]) -> None:
        self.told += events
        self._journal(events)

    async def control(self, what: str, **body: Any) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{self.url}/sandbox/{what}", json=body)
            assert answer.status_code == 200, answer.text

    # --- trading ------------------------------------------------------------------------------

    def request(
        self, instrument: Instrument, side: Side, price: str | Price, qty: str | Qty,
        tif: TimeInForce = TimeInForce.FAK,
    ) -> SubmitOrder:  # fmt: skip
        """An order nobody has decided on yet."""
        return SubmitOrder(
            client_order_id=ClientOrderId(f"o{next(self.numbers)}"), bundle_id=BundleId("b"), leg=0,
            purpose=Purpose.LEG, instrument_id=instrument.id, side=side,
            price=parse_price(price) if isinstance(price, str) else price,
            qty=parse_qty(qty) if isinstance(qty, str) else qty, tif=tif, ts=self.clock.now_ns(),
        )  # fmt: skip

    def submit(
        self, instrument: Instrument, side: Side, price: str | Price, qty: str | Qty,
        tif: TimeInForce = TimeInForce.FAK,
    ) -> ClientOrderId:  # fmt: skip
        """Decide on an order and hand it to the venue, as the runner would."""
        order = self.request(instrument, side, price, qty, tif)
        self.requests[order.client_order_id] = order
        number = next(self.numbers)
        self.state.apply(ev.DecisionMade(ts_event=order.ts, decision=number, orders=(order,)))
        self.venue.submit(Approved(order))
        return order.client_order_id

    def operate(self, kind: OperationKind, market: Market, qty: str) -> OperationId:
        """Decide on a split or merge and hand it to the venue."""
        number = next(self.numbers)
        pair = tuple((token, parse_qty(qty)) for token in (market.yes, market.no))
        splits = kind is OperationKind.SPLIT
        request = RunOperation(
            operation_id=OperationId(f"p{number}"), bundle_id=BundleId("b"), kind=kind,
            subject=market.id, burn=() if splits else pair, mint=pair if splits else (),
            cash=Cash(-parse_qty(qty) if splits else parse_qty(qty)),
        )  # fmt: skip
        now_ns = self.clock.now_ns()
        self.state.apply(ev.DecisionMade(ts_event=now_ns, decision=number, operations=(request,)))
        self.venue.submit(Approved(request))
        return request.operation_id

    def leave_catalogue(self, *gone: Market) -> None:
        """Become a bot that started after these markets were closed."""
        tokens = {token for market in gone for token in (market.yes, market.no)}
        known = self.universe
        self.universe = Universe(
            instruments={t: i for t, i in known.instruments.items() if t not in tokens},
            markets={m: market for m, market in known.markets.items() if market not in gone},
        )

    def liquid(self, *, spread: int = 10**8) -> list[Instrument]:
        """Instruments with a book on both sides, the tightest first."""
        found = []
        for instrument in self.universe.instruments.values():
            bid, ask = self.best(instrument.id)
            if bid and ask and bid >= 20_000_000 and ask <= 80_000_000:
                found.append((ask - bid, instrument.id))
        return [self.universe.instruments[token] for gap, token in sorted(found) if gap <= spread]

    def best(self, token: InstrumentId) -> tuple[Price | None, Price | None]:
        """Best bid and ask of a token in the sandbox's pool."""
        market, outcome = self.server.simulator.listings.by_token[token]
        bid, ask = market.pool.bests()
        if outcome == 0:
            return bid, ask
        scale = 10**8
        return (Price(scale - ask) if ask else None, Price(scale - bid) if bid else None)

    # --- waiting ------------------------------------------------------------------------------

    async def until(self, done: Callable[[], bool], why: str = "") -> None:
        """Wait until ``done``, at most thirty seconds."""
        for _ in range(3_000):
            if done():
                return
            assert not self.failures, self.failures
            await asyncio.sleep(0.01)
        orders = [(o.client_order_id, o.status.value, o.unresolved) for o in self.state.orders]
        raise AssertionError(f"{why}: orders {orders}, told {self.told[-10:]}")

    async def ended(self, *orders: ClientOrderId) -> None:
        """Wait until these orders are over."""

        def over() -> bool:
            found = [self.state.orders.get(order) for order in orders]
            return all(order is not None and not order.open for order in found)

        await self.until(over, f"{orders} should end")

    async def quiet(self) -> None:
        """Wait until every order is over and every fill final."""
        await self.until(
            lambda: not self.state.orders.open and not self.state.portfolio.unsettled_trades(),
            "all should end",
        )

    def kinds(self, order: ClientOrderId) -> list[str]:
        """What was told of an order, in order."""
        return [f.KIND for f in self.told if getattr(f, "client_order_id", "") == order]

    # --- the books ----------------------------------------------------------------------------

    async def reconcile(self) -> str:
        """Ask the venue for its books and adopt what they know more; the difference in words."""
        truth = await self.venue.account(query_of(self.state))

        def handle(event: ev.Event) -> tuple[()]:
            self.state.apply(event)
            return ()

        left = reconcile(self.state, truth, handle, venue="sandbox", now_ns=self.clock.now_ns())
        assert self.state.trading is TradingState.HALTED
        assert not self.state.orders.anomaly, self.state.orders.anomaly
        assert not self.state.portfolio.anomaly, self.state.portfolio.anomaly
        return left or difference(self.state, truth)

    def agree(self) -> None:
        """Journal and ledger say the same to the last unit; nothing is under way."""
        exchange, wallet = self.server.exchange, self.key.address
        assert self.state.portfolio.cash == exchange.cash(wallet) * 100
        ours = {t: pos.qty for t, pos in self.state.portfolio.positions.items() if pos.qty}
        assert ours == {t: n * 100 for t, n in exchange.tokens(wallet).items()}


def play(
    story: Story, *, seed: int = 7, speed: float = 4, mined_s: float = 0.2,
    state: Path | None = None,
) -> LiveBench:  # fmt: skip
    """Run a story on a fresh sandbox whose chain is quick."""

    async def main() -> LiveBench:
        simulator = SimulatorSettings(seed=seed, speed=speed, mispricing_every_s=0)
        server = SandboxServer(
            SandboxSettings(port=0, simulator=simulator, state=state), LiveClock()
        )
        bench = LiveBench(server, await server.start())
        try:
            faults = server.exchange.faults
            faults.mined_s, faults.confirmed_s = mined_s, 2 * mined_s
            async with asyncio.timeout(120):
                await bench.open()
                await story(bench)
        finally:
            if hasattr(bench, "venue"):
                await bench.venue.stop()
            for client in bench.opened:
                await client.close()
            for node in bench.nodes:
                await node.close()
            await server.stop()
        return bench

    return asyncio.run(main())
