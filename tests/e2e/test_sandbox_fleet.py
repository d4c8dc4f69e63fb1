"""The fleet's own catalog and feed against the sandbox: what a bot will really see of it."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from fleet.clock import LiveClock
from fleet.domain.events import AnyEvent, BookChanged, BookSnapshot, FeedConnected, FrameRejected
from fleet.domain.instruments import Side
from fleet.engine.book import Book
from fleet.sandbox.server import SandboxServer, SandboxSettings
from fleet.sandbox.simulator import SimulatorSettings
from fleet.venues.polymarket.catalog import Catalog, CatalogSettings, load_catalog
from fleet.venues.polymarket.feed import MarketFeed, token_groups
from fleet.venues.transport import HttpSettings, JsonClient


async def load(port: int) -> Catalog:
    fast = HttpSettings(per_second=500, burst=200)
    gamma = JsonClient(f"http://127.0.0.1:{port}/gamma", fast)
    clob = JsonClient(f"http://127.0.0.1:{port}/clob", fast)
    try:
        return await load_catalog(gamma, clob, CatalogSettings(), now_ns=LiveClock().now_ns())
    finally:
        await gamma.close()
        await clob.close()


def test_the_catalog_finds_every_set_and_ladder() -> None:
    async def main() -> None:
        server = SandboxServer(SandboxSettings(port=0), LiveClock())
        port = await server.start()
        try:
            catalog = await load(port)
        finally:
            await server.stop()
        universe = catalog.universe
        groups = {g.event.slug: g for g in server.simulator.listings.groups.values()}
        titles = {s.title: s for s in universe.sets}
        complete = [s for s in universe.sets if s.complete]
        assert len(universe.sets) == 3
        assert {len(s.markets) for s in complete} == {5, 6}
        champion = groups["coast-league-champion"]
        trap = titles[champion.event.title]
        assert not trap.complete
        placeholders = [m for m in champion.markets if m.spec.placeholder or m.spec.neg_risk_other]
        assert set(trap.placeholders) == {m.spec.condition_id for m in placeholders}
        assert catalog.left_out == {"placeholder of an augmented set": len(placeholders)}
        # The ladders run the way the fair prices rise: each rung implies the next.
        rungs = {tuple(ladder.rungs) for ladder in universe.ladders}
        assert rungs == {
            tuple(m.spec.condition_id for m in groups[slug].rungs)
            for slug in ("ceasefire-by", "bitcoin-above")
        }
        for state in server.simulator.listings.markets:
            spec = state.spec
            if spec.placeholder or spec.neg_risk_other:
                continue
            instrument = next(i for i in universe.instruments.values() if i.id == spec.tokens[0])
            assert instrument.fees == spec.fees
            assert instrument.tick == state.tick
            assert instrument.neg_risk == spec.neg_risk

    asyncio.run(main())


def test_the_feed_builds_the_very_books_of_the_sandbox() -> None:
    async def main() -> None:
        simulator = SimulatorSettings(speed=4, mispricing_every_s=2)
        server = SandboxServer(SandboxSettings(port=0, simulator=simulator), LiveClock())
        port = await server.start()
        catalog = await load(port)
        books = {i.id: Book(i.id, i.tick) for i in catalog.universe.instruments.values()}
        seen: Counter[str] = Counter()

        def sink(events: Sequence[AnyEvent]) -> None:
            for event in events:
                seen[type(event).__name__] += 1
                if isinstance(event, BookSnapshot):
                    books[event.instrument_id].replace(event.bids, event.asks, event.ts_event)
                elif isinstance(event, BookChanged):
                    for token, side, price, qty in event.changes:
                        books[token].apply(side, price, qty)

        feed = MarketFeed(
            f"ws://127.0.0.1:{port}/ws/market",
            token_groups(catalog.universe.markets.values()),
            sink,
        )
        await feed.start()
        try:
            await asyncio.sleep(6)
            server.pump.cancel()
            await asyncio.sleep(0.5)
            assert seen[FrameRejected.__name__] == 0
            assert seen[FeedConnected.__name__] == 1
            assert seen[BookSnapshot.__name__] >= len(books)
            assert seen[BookChanged.__name__] > 300
            for token, book in books.items():
                state, outcome = server.simulator.listings.by_token[token]
                assert book.tick == state.tick
                assert not book.crossed
                for side in (Side.BUY, Side.SELL):
                    # A taker who buys meets the asks.
                    met = list(book.levels(side))
                    assert met == state.levels(outcome, buy=side is Side.SELL)
        finally:
            await feed.stop()
            await server.stop()

    asyncio.run(main())
