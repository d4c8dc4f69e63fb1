"""Whatever is lost or killed on the way, an operation is mined at most once, and its end is known.

Seeded runs of one wallet against the sandbox's chain over a real socket. The *journal* here is what
a bot's journal keeps: the operation and its transaction's hash, written between ``prepare`` and
``send``. Between any two steps the process may die: then a new ``ChainOperations`` starts from the
journal. Connections are cut before a request is acted on, or before its answer, and the base fee
jumps, so that transactions are stuck and voided.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from fleet.domain.commands import OperationKind, RunOperation
from fleet.domain.units import parse_cash
from fleet.venues.polymarket.chain import (
    ChainOperations,
    ChainStatus,
    OperationFutile,
    SendStatus,
    WalletBusy,
)
from fleet.venues.polymarket.chain_node import ChainNode
from fleet.venues.port import VenueError
from tests.chain_world import ChainWorld, legs, opened, operation, serving, signer

WALLET = signer().address
RUNS, STEPS = 24, 120


class Killed(Exception):  # noqa: N818 - named for what happened
    """The process is gone; only the journal is left."""


@dataclass
class Run:
    """One seeded life of a wallet, with all its restarts."""

    world: ChainWorld
    node: ChainNode
    chance: random.Random
    time_ns: int = 0
    open: dict[str, RunOperation] = field(default_factory=dict)
    """The journal: hash -> operation without a known end."""
    ended: dict[str, ChainStatus] = field(default_factory=dict)
    confirmed: list[RunOperation] = field(default_factory=list)
    operations: ChainOperations = field(init=False)
    count: int = 0
    kills: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.operations = ChainOperations(
            signer(), self.node, self.world.universe(), confirmations=2,
            monotonic_ns=lambda: self.time_ns,
        )  # fmt: skip
        for known in self.open:
            self.operations.restore(known)

    def perhaps_die(self) -> None:
        if self.chance.random() < 0.06:
            self.kills += 1
            raise Killed

    def trouble(self) -> None:
        """The next request may lose its connection."""
        self.world.cut = self.chance.choice(("", "", "", "request", "answer"))

    async def step(self) -> None:
        try:
            if self.chance.random() < 0.5:
                await self.order()
            await self.look()
        except Killed:
            self.world.cut = ""
            self.start()
        except VenueError:
            pass
        self.world.cut = ""
        self.time_ns += self.chance.choice((2, 2, 2, 40)) * 10**9
        if self.chance.random() < 0.05:
            self.world.chain.base_fee_wei = self.chance.choice((30, 200, 900)) * 10**9
        self.world.blocks(self.chance.randint(0, 2))

    async def order(self) -> None:
        market = self.world.market(neg_risk=False)
        self.count += 1
        kind = self.chance.choice((OperationKind.SPLIT, OperationKind.MERGE))
        pair = legs(market, self.chance.randint(1, 3))
        dollars = str(pair[0][1] // 10**8)
        wish = operation(
            kind,
            burn=pair if kind is OperationKind.MERGE else (),
            mint=pair if kind is OperationKind.SPLIT else (),
            dollars=dollars if kind is OperationKind.MERGE else f"-{dollars}",
            name=f"o{self.count}",
        )
        self.perhaps_die()
        self.trouble()
        try:
            prepared = await self.operations.prepare(wish)
        except (WalletBusy, OperationFutile):
            return
        self.perhaps_die()
        self.open[prepared.transaction_hash] = wish
        self.perhaps_die()
        self.trouble()
        sent = await self.operations.send(prepared)
        self.perhaps_die()
        if sent.status is SendStatus.REFUSED:
            self.end(prepared.transaction_hash, ChainStatus.DEAD)

    async def look(self) -> None:
        for known in list(self.open):
            self.trouble()
            outcome = await self.operations.resolve(known)
            self.perhaps_die()
            if outcome.status.final:
                if outcome.moves is not None:
                    assert outcome.moves.cash == self.open[known].cash
                self.end(known, outcome.status)

    def end(self, known: str, status: ChainStatus) -> None:
        assert known not in self.ended
        self.ended[known] = status
        wish = self.open.pop(known)
        if status is ChainStatus.CONFIRMED:
            self.confirmed.append(wish)


@pytest.mark.parametrize("seed", range(RUNS))
def test_an_operation_is_mined_at_most_once_and_its_end_is_known(seed: int) -> None:
    async def scene() -> None:
        world = ChainWorld.make()
        world.give(WALLET, 1_000)
        async with serving(world) as url, opened(url) as node:
            run = Run(world, node, random.Random(seed))
            for _ in range(STEPS):
                await run.step()
            world.chain.base_fee_wei = 30 * 10**9
            for _ in range(120):
                if not run.open:
                    break
                for known in list(run.open):
                    outcome = await run.operations.resolve(known)
                    if outcome.status.final:
                        run.end(known, outcome.status)
                run.time_ns += 2 * 10**9
                world.blocks()
            assert not run.open, f"seed {seed}: {run.open} has no end"
            names = [wish.operation_id for wish in run.confirmed]
            assert len(names) == len(set(names)), f"seed {seed}"
            expected = parse_cash("1000") + sum(wish.cash for wish in run.confirmed)
            assert world.exchange.cash(WALLET) * 100 == expected, f"seed {seed}"
            mined = {v.transaction_hash for v in world.exchange.operations(WALLET) if v.kind}
            assert mined == {k for k, v in run.ended.items() if v is ChainStatus.CONFIRMED}
            assert run.kills and len(run.ended) > 1, f"seed {seed}: too little was tried"
        world.close()

    asyncio.run(scene())
