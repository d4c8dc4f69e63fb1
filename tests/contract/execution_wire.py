"""The live venue on the contract's bench: over a sandbox, over a recorder, over a replay."""

from __future__ import annotations

import datetime as dt
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx
import msgspec

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import OperationId, OperationKind
from fleet.domain.instruments import Instrument, InstrumentId, Market, Side, Universe
from fleet.domain.units import SCALE, Qty, format_units, parse_price, parse_qty
from fleet.sandbox.exchange.exchange import Exchange
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
from fleet.venues.polymarket.user_feed import UserFeed
from fleet.venues.transport import HttpSettings, JsonClient
from tests.contract.execution_bench import ASKS, BIDS, Bench, Depth
from tests.contract.transcript import Head, Line, Names
from tests.contract.transcript_recorder import Recorder
from tests.contract.transcript_replay import Replay

LOCAL: Final = HttpSettings(timeout_s=30, attempts=2, per_second=1_000, burst=500)
SLUG: Final = "senate-bill-passes"
"""A market with a fee, a tick of a cent and no delay of takers."""
BLOCK_NS: Final = 250_000_000
KEY: Final = b"\x07" * 32


class LiveBench(Bench):
    """``LiveVenue`` over the hosts of ``reach``."""

    hosts: Hosts
    confirmations = 2
    key_bytes = KEY
    records = False
    names: Names | None = None
    """Who learns the ids of what is signed, if the conversation is recorded or replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.hashes: dict[OperationId, str] = {}
        self._closers: list[Callable[[], Any]] = []

    @abstractmethod
    async def reach(self) -> Universe:
        """Make ``hosts`` reachable; the one market to trade."""

    async def open(self) -> None:
        self.key = SecretKey(self.key_bytes)
        self._began_ns = self.clock.now_ns()
        if self.names is not None:
            self.names.wallet(self.key.address)
        self.begin(await self.reach())
        if self.records:
            self.names = self.names or Names()
            self.names.wallet(self.key.address)
            self.recorder = Recorder(self.hosts, self.names, secrets=(self.key_bytes.hex(),))
            self.hosts = await self.recorder.start()
        if self.names is not None:
            self.names.market(self.market.id, self.yes, self.no)
        await self.connect()
        await self.reconcile()

    async def connect(self) -> None:
        known = self.universe.instruments
        guard = SigningGuard(self.key, instruments=known, lease_alive=lambda: True)
        credentials = await log_in(self.hosts, guard, http=LOCAL)
        client = ClobClient(self.hosts, credentials, settings=ClientSettings(answer_s=30, tries=3))
        node = ChainNode(self.hosts.rpc_url, chain_id=self.hosts.chain_id, timeout_s=30)
        await node.open()
        positions = JsonClient(self.hosts.data_url, LOCAL)
        self._closers += [node.close, positions.close]
        self.venue = self.execution = LiveVenue(
            client=client, guard=guard, instruments=known,
            stream=lambda seen, gap: UserFeed(
                self.hosts.user_ws_url, credentials, on_sightings=seen, on_gap=gap
            ),
            journal=self._journal, sink=self.hear, on_failure=self.failures.append,
            operations=ChainOperations(
                guard.transactions(), node, self.universe, confirmations=self.confirmations
            ),
            earlier=self._earlier(),
            earlier_operations=[
                EarlierOperation(request=request, transaction_hash=self.hashes.get(name, ""))
                for name, request in self.state.bundles.pending.items()
            ],
            settings=LiveSettings(look_s=0.1, check_s=0.5),
            account=Account(
                client, guard.wallet, held=lambda: held_tokens(positions, guard.wallet),
                adopted_ns=self._began_ns,
            ),
        )  # fmt: skip
        await self.venue.start()
        await self.until(lambda: self.venue.stream.connected, "the user channel should connect")

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
            if isinstance(fact, ev.OperationSigned):
                self.hashes[fact.operation_id] = fact.transaction_hash
                if self.names is not None:
                    self.names.number("transaction", fact.transaction_hash)
            elif isinstance(fact, ev.OrderSigned) and self.names is not None:
                self.names.number("order", fact.venue_order_id)
            self.state.apply(fact)
        return True

    async def disconnect(self) -> None:
        await self.venue.stop()

    async def close(self) -> None:
        if hasattr(self, "venue"):
            await self.venue.stop()
        for closing in self._closers:
            await closing()
        if hasattr(self, "recorder"):
            await self.recorder.stop()

    async def depth(self, side: Side, token: InstrumentId) -> Depth:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.get(f"{self.hosts.clob_url}/book", params={"token_id": token})
        rows: list[Mapping[str, str]] = answer.json()["asks" if side is Side.BUY else "bids"]
        met = [(parse_price(row["price"]), parse_qty(row["size"])) for row in rows]
        return sorted(met, reverse=side is Side.SELL)


class SandboxBench(LiveBench):
    """Over a sandbox of its own whose markets stand still and whose chain is quick."""

    async def reach(self) -> Universe:
        simulator = SimulatorSettings(seed=7, mispricing_every_s=0, timed_markets=False)
        self.server = SandboxServer(SandboxSettings(port=0, simulator=simulator), LiveClock())
        port = await self.server.start()
        self.hosts = sandbox_hosts(port)
        self.server.chain.block_ns = BLOCK_NS  # type: ignore[misc]
        # Fast, but not so that a sale right after a fill could come after its settlement.
        faults = self.server.exchange.faults
        faults.mined_s, faults.confirmed_s = 0.2, 0.4
        _stand_still(self.server.exchange)
        await self.control("deposit", wallet=self.key.address, amount="100")
        if self.repeats and not self.records:
            await self.control("faults", name="duplicate", rate=1, where=["user"])
        return await one_market(self.hosts, SLUG)

    async def control(self, what: str, **body: Any) -> None:
        url = self.hosts.clob_url.removesuffix("/clob")
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.post(f"{url}/sandbox/{what}", json=body)
            assert answer.status_code == 200, answer.text

    async def agree(self) -> None:
        """And the exchange's own ledger says so too, to the last unit."""
        await super().agree()
        exchange, wallet = self.server.exchange, self.key.address
        assert self.state.portfolio.cash == exchange.cash(wallet) * 100
        assert self.held() == {t: n * 100 for t, n in exchange.tokens(wallet).items()}

    async def close(self) -> None:
        await super().close()
        if hasattr(self, "server"):
            await self.server.stop()


class HostBench(LiveBench):
    """Over any host, with a key that has money there; what it bought is sold again at the end."""

    def __init__(self, hosts: Hosts, key: bytes, slug: str, *, confirmations: int = 2) -> None:
        super().__init__()
        self.hosts, self.key_bytes, self._slug = hosts, key, slug
        self.confirmations = confirmations

    async def reach(self) -> Universe:
        return await one_market(self.hosts, self._slug)

    async def go_home(self) -> None:
        """Merge the pairs and sell the rest. Raises ``AssertionError`` if that cannot be done."""
        await self.quiet()
        held = self.held()
        pairs = min(held.get(token, Qty(0)) for token in (self.yes, self.no))
        if pairs:
            self.operate(OperationKind.MERGE, format_units(pairs))
            await self.quiet()
        for token, qty in self.held().items():
            order = self.submit(Side.SELL, self.instrument.tick, qty, token=token)
            await self.ended(order)
        await self.agree()
        assert not self.held(), "the wallet must be empty of the market before the next clause"


class ReplayBench(LiveBench):
    """Over a recorded conversation, with a key of its own."""

    key_bytes = b"\x09" * 32

    def __init__(self, head: Head, said: list[Line]) -> None:
        super().__init__()
        self.confirmations = head.confirmations
        self._head, self._said = head, said
        self.names = Names()

    async def reach(self) -> Universe:
        assert self.names is not None
        self.replay = Replay(self._said, self.names, repeat=self.repeats)
        self.hosts = await self.replay.start()
        market = msgspec.convert(self._head.market, Market)
        tokens = msgspec.convert(self._head.instruments, list[Instrument])
        return Universe(instruments={t.id: t for t in tokens}, markets={market.id: market})

    async def close(self) -> None:
        await super().close()
        if hasattr(self, "replay"):
            await self.replay.stop()
            assert not self.replay.failures, self.replay.failures
            assert not self.replay.left(), self.replay.left()


def head_of(bench: LiveBench, *, recorded_from: str, note: str) -> Head:
    """The first line of a transcript."""
    found = bench.universe
    (market,) = found.markets.values()
    return Head(
        recorded_from=recorded_from, note=note, confirmations=bench.confirmations,
        recorded_on=dt.datetime.now(dt.UTC).date().isoformat(),
        market=msgspec.to_builtins(market),
        instruments=[msgspec.to_builtins(i) for i in found.instruments.values()],
    )  # fmt: skip


async def one_market(hosts: Hosts, slug: str) -> Universe:
    """The catalogue of a venue, but one market of it. Raises ``KeyError`` if there is none."""
    gamma, clob = JsonClient(hosts.gamma_url, LOCAL), JsonClient(hosts.clob_url, LOCAL)
    try:
        whole = await load_catalog(
            gamma, clob, CatalogSettings(), now_ns=LiveClock().now_ns()
        )  # fmt: skip
    finally:
        await gamma.close()
        await clob.close()
    for market in whole.universe.markets.values():
        if market.slug == slug:
            pair = {t: whole.universe.instruments[t] for t in (market.yes, market.no)}
            return Universe(instruments=pair, markets={market.id: market})
    raise KeyError(f"no market {slug!r} is offered")


def _stand_still(exchange: Exchange) -> None:
    """Take the flow out of the simulator and write the books of one market by hand."""
    simulator = exchange.simulator
    own = [item for item in simulator._due if "simulator" not in item[2].__module__]
    simulator._due[:] = sorted(own, key=lambda item: item[:2])
    simulator.at(simulator.now_ns + 10**18, lambda _: [])
    book = next(m for m in simulator.listings.markets if m.spec.slug == SLUG).book
    for buy, wanted in ((True, BIDS), (False, ASKS)):
        for index in list(book.levels(buy=buy)):
            book.set_level(buy=buy, index=index, qty=Qty(0))
        for price, qty in wanted:
            index = parse_price(price) // book.tick
            book.set_level(buy=buy, index=index, qty=Qty(round(float(qty) * SCALE)))
