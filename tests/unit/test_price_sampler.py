"""Sampled prices: taken of usable books, kept over a restart, told again before new ones."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.clock import ManualClock
from fleet.domain import events as ev
from fleet.domain.instruments import MarketId
from fleet.engine.state import State
from fleet.journal.database import JournalForeign
from fleet.journal.price_history import KEEP_NS, PriceHistory
from fleet.runtime.components import ComponentFailed
from fleet.runtime.price_sampler import PriceSampler
from tests.builders import NS, market_id, p, snapshot, universe, yes

START = 1_795_000_000 * NS


def sample(at: int, *quotes: tuple[int, str, str]) -> ev.PricesSampled:
    return ev.PricesSampled(
        at, at, tuple((market_id(n), p(bid), p(ask)) for n, bid, ask in quotes), (("BTC", 5),)
    )


def history(tmp_path: Path) -> PriceHistory:
    return PriceHistory(tmp_path / "prices.db", bot="polyai", feed="sandbox")


def test_samples_come_back_oldest_first_and_whole(tmp_path: Path) -> None:
    told = [sample(START + n * NS, (n % 3 + 1, "0.40", "0.42")) for n in range(5)]
    with history(tmp_path) as kept:
        for one in told:
            kept.add(one)
        kept.add(told[-1])
        assert kept.newest(3) == told[-3:]
    with history(tmp_path) as again:
        assert again.newest(100) == told
        again.add(sample(START + 9 * NS, (7, "0.1", "0.2"), (1, "0.3", "0.4")))
        assert again.newest(1)[0].quotes[0][0] == market_id(7)


def test_old_samples_are_dropped(tmp_path: Path) -> None:
    with history(tmp_path) as kept:
        kept.add(sample(START, (1, "0.40", "0.42")))
        kept.add(sample(START + KEEP_NS + 1, (1, "0.50", "0.52")))
        assert [s.ts_event for s in kept.newest(9)] == [START + KEEP_NS + 1]


def test_another_bots_prices_are_refused(tmp_path: Path) -> None:
    history(tmp_path).close()
    with pytest.raises(JournalForeign, match="polyai"):
        PriceHistory(tmp_path / "prices.db", bot="elitemimic", feed="sandbox")


class Desk:
    def __init__(self, tmp_path: Path, *, every_s: int = 60) -> None:
        self.clock = ManualClock(START)
        self.state = State(universe(2))
        self.told: list[ev.AnyEvent] = []
        self.sampler = PriceSampler(
            self.state, lambda: history(tmp_path), self.clock, self._take,
            every_ns=every_s * NS, references=lambda: (("BTC", 7),),
        )  # fmt: skip

    def _take(self, events: Sequence[ev.AnyEvent]) -> None:
        self.told.extend(events)


def test_only_usable_two_sided_books_are_sampled_and_kept_over_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        first = Desk(tmp_path)
        first.state.apply(snapshot(yes(1), at=START))
        await first.sampler.start()
        assert [s.quotes[0][0] for s in first.told if isinstance(s, ev.PricesSampled)] == ["m1"]
        first.sampler.beat()
        assert len(first.told) == 1, "not due yet"
        first.clock.advance_to(START + 60 * NS)
        first.state.apply(snapshot(yes(2), at=START + 60 * NS))
        first.sampler.beat()
        assert [len(s.quotes) for s in first.told if isinstance(s, ev.PricesSampled)] == [1, 2]
        await first.sampler.stop()

        second = Desk(tmp_path)
        second.clock.advance_to(START + 70 * NS)
        await second.sampler.start()
        assert second.told == first.told, "what was kept is told again, and nothing new is due"
        await second.sampler.stop()

    asyncio.run(story())


def test_a_market_outside_the_universe_is_not_told_again(tmp_path: Path) -> None:
    async def story() -> None:
        with history(tmp_path) as kept:
            kept.add(sample(START - NS, (1, "0.40", "0.42"), (77, "0.1", "0.2")))
        desk = Desk(tmp_path)
        await desk.sampler.start()
        (told,) = desk.told
        assert isinstance(told, ev.PricesSampled)
        assert [quote[0] for quote in told.quotes] == [MarketId("m1")]
        await desk.sampler.stop()

    asyncio.run(story())


def test_a_file_that_cannot_be_opened_fails_the_start_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "prices.db").write_text("no database")

    async def story() -> None:
        with pytest.raises(ComponentFailed, match=r"prices\.db"):
            await Desk(tmp_path).sampler.start()

    asyncio.run(story())
