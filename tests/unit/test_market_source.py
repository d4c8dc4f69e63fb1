import asyncio
import threading
from pathlib import Path

import pytest

from fleet.bots.known import KNOWN
from fleet.clock import ManualClock
from fleet.config import Paths, load_all
from fleet.domain.instruments import Universe
from fleet.journal.tape import FrameKind, read_tape
from fleet.runtime import market_source
from fleet.runtime.market_source import MarketSource
from fleet.runtime.source_port import SourceFailed
from fleet.runtime.spec import Loaded
from fleet.venues.polymarket.catalog import Catalog
from fleet.venues.polymarket.feed import MarketFeed
from fleet.venues.polymarket.universe_file import find_universe
from fleet.venues.port import AnswerInvalid
from tests.builders import NS, universe


def source(root: Path, feed: str = "sandbox", **env: str) -> MarketSource:
    loaded = Loaded(items=load_all(KNOWN, {"SANDBOX_PORT": "8123", **env}, KNOWN))
    return MarketSource(feed, loaded, Paths(root=root), ManualClock(NS))


class Attempts:
    """Loads that fail so many times before they succeed."""

    def __init__(self, failures: int, problem: str = "refused") -> None:
        self.left = failures
        self.made = 0
        self.problem = problem

    async def __call__(self, *, last: bool) -> Universe:
        self.made += 1
        if self.left:
            self.left -= 1
            raise AnswerInvalid(self.problem)
        return universe(2)


def loading(
    market: MarketSource,
    attempts: Attempts,
    monkeypatch: pytest.MonkeyPatch,
    *,
    ended: bool = False,
) -> Universe | None:
    monkeypatch.setattr(market, "_load_once", attempts)

    async def scene() -> Universe | None:
        ending = asyncio.Event()
        if ended:
            ending.set()
        return await market.load_universe(ending)

    return asyncio.run(scene())


def test_the_catalogue_is_asked_for_again_until_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_source, "PAUSES_S", (0.001,) * 5)
    attempts = Attempts(5)
    loaded = loading(source(tmp_path), attempts, monkeypatch)
    assert loaded is not None
    assert len(loaded.markets) == 2
    assert attempts.made == 6


def test_a_market_the_clob_says_nothing_of_is_asked_for_again_and_left_out_only_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_source, "PAUSES_S", (0.001,) * 3)
    unanswered = [2, 1, 1, 1]
    read: list[int] = []

    async def catalog(*_: object) -> Catalog:
        read.append(unanswered[len(read)])
        return Catalog(universe=universe(2), left_out={}, unanswered=read[-1])

    monkeypatch.setattr(market_source, "read_catalog", catalog)
    loaded = asyncio.run(source(tmp_path).load_universe(asyncio.Event()))
    assert loaded is not None
    assert len(read) == 4, "busy is not gone: it may be a market we hold"
    unanswered[:], read[:] = [1, 0], []
    asyncio.run(source(tmp_path).load_universe(asyncio.Event()))
    assert read == [1, 0]


@pytest.mark.parametrize(
    ("feed", "cure"), [("sandbox", "make start"), ("polymarket", "POLYMARKET_GAMMA_URL")]
)
def test_after_the_last_try_the_cure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: str, cure: str
) -> None:
    monkeypatch.setattr(market_source, "PAUSES_S", (0.001,) * 2)
    attempts = Attempts(99, "nobody answers")
    with pytest.raises(SourceFailed) as caught:
        loading(source(tmp_path, feed), attempts, monkeypatch)
    assert attempts.made == 3
    assert f"the catalogue of {feed} cannot be read: nobody answers; " in str(caught.value)
    assert cure in str(caught.value)


def test_a_problem_is_logged_once_not_at_every_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(market_source, "PAUSES_S", (0.001,) * 4)
    loading(source(tmp_path), Attempts(4), monkeypatch)
    assert caplog.text.count("CATALOGUE not loaded yet") == 1


def test_an_end_asked_for_meanwhile_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts(99)
    assert loading(source(tmp_path), attempts, monkeypatch, ended=True) is None
    assert attempts.made == 1


def test_addresses_are_the_only_difference(tmp_path: Path) -> None:
    local = source(tmp_path)
    assert local._addresses.gamma_url == "http://127.0.0.1:8123/gamma"
    assert local._addresses.ws_url == "ws://127.0.0.1:8123/ws/market"
    real = source(tmp_path, "polymarket", POLYMARKET_WS_URL="wss://example.test/ws")
    assert real._addresses.ws_url == "wss://example.test/ws"
    for market in (local, real):
        assert isinstance(market.make_feed(universe(1), print), MarketFeed)


def test_no_markets_are_nothing_to_subscribe_to(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="catalogue empty"):
        source(tmp_path).make_feed(Universe(instruments={}, markets={}), print)


def tape_of(feed: object) -> object:
    assert isinstance(feed, MarketFeed)
    return feed._context.tape


def test_a_restarted_feed_goes_on_with_the_same_tape(tmp_path: Path) -> None:
    before = threading.active_count()
    market = source(tmp_path, FLEET_TAPE="yes")
    first, second = (market.make_feed(universe(1), print) for _ in range(2))
    tape = tape_of(first)
    assert tape is not None
    assert tape_of(second) is tape
    assert threading.active_count() == before + 1
    tape.write(5, 1, b"frame")  # type: ignore[attr-defined]
    market.close()
    market.close()
    assert threading.active_count() == before
    (file,) = Paths(root=tmp_path).tape("sandbox").glob("**/*.tape.zst")
    assert [(f.payload, f.kind) for f in read_tape(file)] == [(b"frame", FrameKind.FRAME)]
    saved = find_universe(file)
    assert saved is not None
    assert saved.markets == universe(1).markets


def test_a_tape_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("in the way")
    with pytest.raises(OSError, match="choose another folder"):
        source(tmp_path, FLEET_TAPE="yes").make_feed(universe(1), print)


def test_without_a_tape_there_is_nothing_to_close(tmp_path: Path) -> None:
    market = source(tmp_path)
    assert tape_of(market.make_feed(universe(1), print)) is None
    market.close()
    assert list(tmp_path.iterdir()) == []
