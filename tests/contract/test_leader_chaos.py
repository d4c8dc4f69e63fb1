"""Histories of nodes that lie, by seed: every leader's trade told once net of what was undone."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fleet.venues.polymarket.leader_listener import LeaderListener
from fleet.venues.polymarket.leader_logs import LeaderContracts
from tests.leader_world import Heard, Memory, listener_of, listening, until
from tests.lying_node import EXCHANGE, LEDGER, FakeChain, Lies, LyingNode

CONTRACTS = LeaderContracts(exchanges=(EXCHANGE,), ledgers=(LEDGER,), adapters=(), cash=LEDGER)
STEPS = 40


@asynccontextmanager
async def serving(*nodes: LyingNode) -> AsyncIterator[list[str]]:
    try:
        for node in nodes:
            await node.start()
        yield [node.url for node in nodes]
    finally:
        for node in nodes:
            await node.stop()


async def lived(chain: FakeChain, nodes: tuple[LyingNode, ...], steps: int = STEPS) -> None:
    """Let blocks come, some of them in the place of others."""
    for _ in range(steps):
        if chain.rng.random() < 0.15 and len(chain.blocks) > 12:
            depth = chain.rng.randrange(1, 6)
            gone = chain.fork(depth)
            for node in nodes:
                await node.take_back(gone)
            grown = [chain.grow(chain.rng.randrange(4)) for _ in range(depth + 1)]
        else:
            grown = [chain.grow(chain.rng.randrange(4))]
        for block in grown:
            for node in nodes:
                await node.tell(block)
        if chain.rng.random() < 0.7:
            # Time for an answer, or for a few.
            await asyncio.sleep(chain.rng.choice((0.001, 0.005, 0.02)))


async def settled(chain: FakeChain, nodes: tuple[LyingNode, ...], one: LeaderListener) -> None:
    """Quiet blocks until everything that happened is safe."""
    last = len(chain.blocks)
    async with asyncio.timeout(30):
        while one.progress.safe < last or not one.synced:
            block = chain.grow(0)
            for node in nodes:
                await node.tell(block)
            await asyncio.sleep(0.02)


async def history(seed: int) -> Counter[str]:
    """One history; what happened in it."""
    chain, heard = FakeChain(seed), Heard()
    lies = Lies(
        omit=10, repeat=20, delay=15, heads_first=50, lose_head=10, removed=50,
        hang_up=3 if seed % 2 else 0, range_max=7, times=bool(seed % 3),
    )  # fmt: skip
    node = LyingNode(chain, lies, seed)
    before = chain.truth()
    async with serving(node) as urls:
        async with listening(listener_of(urls, heard, contracts=CONTRACTS)) as one:
            await lived(chain, (node,))
            await settled(chain, (node,), one)
        wanted = chain.truth() - before
        assert set(heard.told) == wanted, f"seed {seed}"
        assert heard.repeated == heard.wrong == [], f"seed {seed}"
        return Counter(one.figures() | {"refused": node.refused})


def test_each_trade_is_told_once_net_of_what_was_undone() -> None:
    seeds = range(int(os.environ.get("LEADER_SEEDS", "10")))
    happened: Counter[str] = Counter()
    for seed in seeds:
        happened += asyncio.run(history(seed))
    # A history in which nothing went wrong proves nothing.
    for what in (
        "trades", "moves", "undone", "remined", "duplicates", "removed", "forks", "omitted", "reconnects",
        "ranges_halved", "refused",
    ):  # fmt: skip
        assert happened[what] > 0, f"{what} never happened"


@pytest.mark.parametrize("seed", range(4))
def test_a_process_that_starts_again_and_again_loses_nothing(seed: int) -> None:
    async def scene() -> None:
        chain, heard, kept = FakeChain(seed), Heard(), Memory()
        node = LyingNode(chain, Lies(omit=10, repeat=10, delay=10), seed)
        before = chain.truth()
        async with serving(node) as urls:
            for _ in range(4):
                one = listener_of(urls, heard, contracts=CONTRACTS, cursor=kept)
                async with listening(one):
                    await lived(chain, (node,), steps=10)
                # Nobody listens.
                await lived(chain, (node,), steps=5)
            one = listener_of(urls, heard, contracts=CONTRACTS, cursor=kept)
            async with listening(one):
                await settled(chain, (node,), one)
        assert set(heard.told) == chain.truth() - before
        # What may not have reached the journal is told again, under its id: the engine knows it.
        assert heard.wrong == []

    asyncio.run(scene())


def test_a_node_that_hides_a_trade_is_shown_up_by_another() -> None:
    async def scene() -> None:
        chain, heard = FakeChain(5), Heard()
        liar, honest = LyingNode(chain, Lies()), LyingNode(chain, Lies())
        nodes, before = (liar, honest), chain.truth()
        async with serving(*nodes) as urls:
            async with listening(listener_of(urls, heard, contracts=CONTRACTS)) as one:
                for _ in range(10):
                    block = chain.grow(3)
                    liar.lies.hide |= {name for name in chain.truth() if name not in before}
                    for node in nodes:
                        await node.tell(block)
                await settled(chain, nodes, one)
                await until(lambda: one.url == honest.url)
            assert set(heard.told) == chain.truth() - before
            assert heard.repeated == heard.wrong == []
            assert one.progress.omitted and one.progress.compared

    asyncio.run(scene())


def test_a_node_without_new_blocks_is_left_for_another() -> None:
    async def scene() -> None:
        chain, heard = FakeChain(6), Heard()
        stuck, well = LyingNode(chain, Lies(lose_head=100, omit=100)), LyingNode(chain, Lies())
        nodes, before = (stuck, well), chain.truth()
        async with serving(*nodes) as urls:
            one = listener_of(urls, heard, contracts=CONTRACTS, head_age_s=0.3)
            async with listening(one):
                async with asyncio.timeout(20):
                    while one.url != well.url:
                        block = chain.grow(1)
                        for node in nodes:
                            await node.tell(block)
                        await asyncio.sleep(0.05)
                await settled(chain, nodes, one)
            assert set(heard.told) == chain.truth() - before
            assert heard.repeated == heard.wrong == []

    asyncio.run(scene())


def test_another_chains_node_is_refused_with_the_cure() -> None:
    async def scene() -> None:
        heard, node = Heard(), LyingNode(FakeChain(7), Lies())
        async with serving(node) as urls:
            one = listener_of(urls, heard, contracts=CONTRACTS, chain_id=137)
            task = asyncio.create_task(one.run())
            await until(lambda: one.problem)
            task.cancel()
            await asyncio.wait({task})
            assert "correct ELITE_RPC_WS_URLS" in one.problem
            assert not heard.facts

    asyncio.run(scene())


def test_what_the_slow_check_names_is_read_again_and_told() -> None:
    async def scene() -> None:
        chain, heard = FakeChain(8), Heard()
        node, before = LyingNode(chain, Lies()), chain.truth()
        async with (
            serving(node) as urls,
            listening(listener_of(urls, heard, contracts=CONTRACTS)) as one,
        ):
            block = chain.grow(3)
            while not chain.truth() - before:
                block = chain.grow(3)
            node.lies.hide |= chain.truth() - before
            await node.tell(block)
            await settled(chain, (node,), one)
            assert not heard.facts
            hidden = sorted(node.lies.hide)
            node.lies.hide.clear()
            name = hidden[0].partition(":")[0]
            assert not one.knows(name)
            await one.read_transaction(name)
            await until(lambda: sorted(heard.told) == hidden)
            assert one.knows(name)

    asyncio.run(scene())
