"""A chain to test against: the sandbox's over a real socket, with a real exchange behind it.

The clock stands still until a test moves it, so blocks come when asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from fleet.domain.commands import BundleId, OperationId, OperationKind, RunOperation
from fleet.domain.instruments import (
    Instrument,
    InstrumentId,
    Market,
    MarketId,
    OutcomeSet,
    SetId,
    Universe,
)
from fleet.domain.units import SCALE, Price, Qty, parse_cash
from fleet.sandbox.chain_execution import ChainExecution, ListingsDirectory
from fleet.sandbox.chain_pool import BLOCK_NS, Chain
from fleet.sandbox.chain_rpc import ChainRpc
from fleet.sandbox.chain_state import ChainState
from fleet.sandbox.exchange.exchange import Exchange
from fleet.sandbox.listing import MarketState
from fleet.sandbox.simulator import SimulatorSettings
from fleet.venues.polymarket.chain_node import ChainNode
from fleet.venues.polymarket.chain_transactions import TransactionSigner
from fleet.venues.polymarket.contracts import POLYGON
from fleet.venues.polymarket.keys import SecretKey

START_NS = 1_790_000_000 * 10**9
KEY = bytes([1]) * 32
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DOLLARS = 1_000_000
"""Base units in a dollar."""


@dataclass
class ChainWorld:
    """The sandbox's chain with its clock in the test's hand."""

    exchange: Exchange
    state: ChainState
    chain: Chain
    rpc: ChainRpc
    now_ns: int = START_NS
    lose_answers: bool = False
    """Act on every request and never answer."""
    lose_requests: bool = False
    """Take every request and do nothing."""
    cut: str = ""
    """Cut the next connection before its request is acted on, or before its answer."""

    @staticmethod
    def make(folder: Path | None = None, *, now_ns: int = START_NS) -> ChainWorld:
        exchange = Exchange(
            SimulatorSettings(), now_ns, path=folder / "exchange.db" if folder else None
        )
        state = ChainState(folder / "chain.db" if folder else None, genesis_ns=now_ns)
        directory = ListingsDirectory(exchange.simulator.listings)
        chain = Chain(state, ChainExecution(state, exchange, directory))
        world = ChainWorld(exchange, state, chain, None, now_ns)  # type: ignore[arg-type]
        world.rpc = ChainRpc(chain, lambda: world.now_ns)
        return world

    def close(self) -> None:
        self.exchange.close()
        self.state.close()

    def blocks(self, count: int = 1) -> None:
        """Let so many blocks be made."""
        for _ in range(count):
            self.now_ns += BLOCK_NS
            self.chain.step(self.now_ns)

    def give(self, wallet: str, dollars: int, *, approve: bool = True) -> None:
        self.exchange.deposit(wallet, dollars * DOLLARS, self.now_ns)
        if approve:
            self.state.grant(wallet)

    @property
    def markets(self) -> list[MarketState]:
        return self.exchange.simulator.listings.markets

    def market(self, *, neg_risk: bool) -> MarketState:
        return next(m for m in self.markets if m.spec.neg_risk is neg_risk and not m.closed)

    def universe(self) -> Universe:
        """What a catalogue would have loaded."""
        return universe_of(self.markets)


@asynccontextmanager
async def serving(world: ChainWorld) -> AsyncIterator[str]:
    """Serve a world on 127.0.0.1; gives the RPC address."""

    @web.middleware
    async def lossy(request: web.Request, handler: Handler) -> web.StreamResponse:
        if world.lose_requests:
            await asyncio.sleep(3_600)
        cut, world.cut = world.cut, ""
        if cut == "request":
            return _cut(request)
        answer = await handler(request)
        if cut == "answer":
            return _cut(request)
        if world.lose_answers:
            await asyncio.sleep(3_600)
        return answer

    app = web.Application(middlewares=[lossy])
    world.rpc.add_to(app.router, "/rpc")
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/rpc"
    finally:
        await runner.cleanup()


def _cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def opened(url: str, *, timeout_s: float = 20.0) -> AsyncIterator[ChainNode]:
    """An open node."""
    node = ChainNode(url, chain_id=POLYGON, timeout_s=timeout_s)
    await node.open()
    try:
        yield node
    finally:
        await node.close()


def universe_of(listed: Sequence[MarketState]) -> Universe:
    """What a catalogue would have loaded."""
    instruments: dict[InstrumentId, Instrument] = {}
    markets: dict[MarketId, Market] = {}
    sets: dict[SetId, list[MarketId]] = {}
    for state in listed:
        spec = state.spec
        name = MarketId(spec.condition_id)
        yes, no = (InstrumentId(token) for token in spec.tokens)
        for token, other, outcome in ((yes, no, "Yes"), (no, yes, "No")):
            instruments[token] = Instrument(
                id=token, market_id=name, complement=other, outcome=outcome,
                tick=Price(SCALE // 100), neg_risk=spec.neg_risk,
            )  # fmt: skip
        markets[name] = Market(
            id=name, question=spec.question, yes=yes, no=no, neg_risk=spec.neg_risk
        )
        if state.event.neg_risk_market_id:
            sets.setdefault(SetId(state.event.neg_risk_market_id), []).append(name)
    return Universe(
        instruments=instruments,
        markets=markets,
        sets=tuple(
            OutcomeSet(id=one, title=one, markets=tuple(legs)) for one, legs in sets.items()
        ),
    )


def signer(secret: bytes = KEY) -> TransactionSigner:
    return TransactionSigner(SecretKey(secret), chain_id=POLYGON)


def operation(
    kind: OperationKind,
    *,
    burn: tuple[tuple[InstrumentId, Qty], ...] = (),
    mint: tuple[tuple[InstrumentId, Qty], ...] = (),
    dollars: str = "0",
    name: str = "o1",
) -> RunOperation:
    return RunOperation(
        operation_id=OperationId(name), bundle_id=BundleId("b1"), kind=kind, subject="s",
        burn=burn, mint=mint, cash=parse_cash(dollars),
    )  # fmt: skip


def legs(market: MarketState, shares: int) -> tuple[tuple[InstrumentId, Qty], ...]:
    """So many of both tokens of a market."""
    return tuple((InstrumentId(t), Qty(shares * SCALE)) for t in market.spec.tokens)
