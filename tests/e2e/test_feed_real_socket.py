"""The market feed against a real websocket server on the loopback, with short times.

The server below speaks the market channel: it answers subscriptions with snapshots, PING with PONG,
and does to its clients what the venue does to them: freezes, drops, garbage, missing snapshots.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import picows
import pytest
import uvloop

import fleet
from fleet.clock import NS_PER_MS
from fleet.domain.events import (
    AnyEvent,
    BookChanged,
    BookSnapshot,
    FeedConnected,
    FeedDisconnected,
    FrameRejected,
    TickSizeChanged,
)
from fleet.domain.instruments import InstrumentId
from fleet.journal.tape import FrameKind, Tape, read_tape
from fleet.venues.polymarket.feed import MarketFeed
from fleet.venues.polymarket.shard import FeedSettings
from fleet.venues.polymarket.wire import Decoder
from fleet.venues.websocket import SessionSettings

TIMES = SessionSettings(
    ping_interval_ns=20 * NS_PER_MS,
    data_age_max_ns=60_000 * NS_PER_MS,
    lifetime_ns=0,
    connect_timeout_ns=2_000 * NS_PER_MS,
    backoff_first_ns=5 * NS_PER_MS,
    backoff_max_ns=50 * NS_PER_MS,
    stable_ns=200 * NS_PER_MS,
)
SETTINGS = FeedSettings(session=TIMES, snapshot_timeout_ns=5_000 * NS_PER_MS)


def tokens(number: int) -> list[tuple[InstrumentId, InstrumentId]]:
    """The YES and NO tokens of ``number // 2`` markets."""
    return [(InstrumentId(f"{n}1"), InstrumentId(f"{n}2")) for n in range(number // 2)]


def book(token: str, bid: str = "0.40") -> dict[str, Any]:
    return {
        "market": "0xm", "asset_id": token, "timestamp": "1782753357257", "hash": "h",
        "bids": [{"price": bid, "size": "100"}], "asks": [{"price": "0.60", "size": "100"}],
        "event_type": "book",
    }  # fmt: skip


def change(*assets: str, size: str = "7", at_ms: int = 1_782_753_357_300) -> dict[str, Any]:
    return {
        "market": "0xm", "timestamp": str(at_ms), "event_type": "price_change",
        "price_changes": [
            {"asset_id": a, "price": "0.41", "size": size, "side": "BUY", "hash": "h",
             "best_bid": "0.41", "best_ask": "0.60"} for a in assets
        ],
    }  # fmt: skip


class Connection(picows.WSListener):
    """One client as the server sees it."""

    def __init__(self, venue: "Venue") -> None:
        self.venue = venue
        self.number = len(venue.connections) + 1
        self.assets: list[str] = []
        self.texts: list[str] = []
        self.alive = True
        venue.connections.append(self)

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.alive = False

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is picows.WSMsgType.CLOSE:
            transport.disconnect()
            return
        text = frame.get_payload_as_utf8_text()
        self.texts.append(text)
        if text == "PING":
            self.send("PONG")
            return
        request = json.loads(text)
        assets = request["assets_ids"]
        if request.get("operation") == "unsubscribe":
            self.assets = [a for a in self.assets if a not in assets]
            return
        self.assets += assets
        if self.venue.silent(self):
            return
        wanted = [a for a in assets if a not in self.venue.without_book]
        self.send([book(a) for a in wanted])

    def send(self, message: object) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        self.transport.send(picows.WSMsgType.TEXT, text.encode())


class Venue:
    """The server: what it does wrong is said by its attributes."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.without_book: set[str] = set()
        self.silent: Callable[[Connection], bool] = lambda _: False
        self.url = ""

    async def start(self) -> asyncio.Server:
        server = await picows.ws_create_server(lambda _: Connection(self), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/ws/market"
        return server

    @property
    def live(self) -> list[Connection]:
        return [c for c in self.connections if c.alive]


class Seen(list[AnyEvent]):
    """The sink: all events in order."""

    def __call__(self, events: Sequence[AnyEvent]) -> None:
        self.extend(events)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]

    def books(self) -> dict[str, dict[str, int]]:
        """What an engine would hold: token -> bids; void books are absent."""
        books: dict[str, dict[str, int]] = {}
        for event in self:
            if isinstance(event, BookSnapshot):
                books[event.instrument_id] = {str(p): q for p, q in event.bids}
            elif isinstance(event, BookChanged):
                for token, _, price, qty in event.changes:
                    if token in books:
                        books[token][str(price)] = qty
            elif isinstance(event, FeedConnected | FeedDisconnected):
                for token in event.instruments:
                    books.pop(token, None)
            elif isinstance(event, TickSizeChanged):
                books.pop(event.instrument_id, None)
        return books


async def until(condition: Callable[[], object], what: str, limit_s: float = 5.0) -> None:
    """Wait for a condition of the real sockets; fail with its name."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"never happened: {what}"
        await asyncio.sleep(0.002)


Story = Callable[[Venue, MarketFeed, Seen], Awaitable[None]]


def play(
    story: Story,
    *,
    assets: int = 4,
    settings: FeedSettings = SETTINGS,
    venue: Venue | None = None,
    tape: Tape | None = None,
) -> Seen:
    """Run a story with a started venue and feed; the feed and the server are closed after it."""
    the_venue, seen = venue or Venue(), Seen()

    async def main() -> None:
        server = await the_venue.start()
        feed = MarketFeed(
            the_venue.url, tokens(assets), seen, settings=settings, jitter=lambda: 0.5, tape=tape
        )
        await feed.start()
        try:
            await story(the_venue, feed, seen)
        finally:
            await feed.stop()
            server.close()
            await server.wait_closed()

    uvloop.run(main())
    return seen


def test_snapshots_and_changes_reach_the_sink_in_order() -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.of(BookSnapshot)) == 4, "four snapshots")
        venue.connections[0].send(change("01", "02"))
        await until(lambda: seen.of(BookChanged), "the change")
        health = feed.health()
        assert health.healthy and health.connected == 1 and health.awaiting == 0
        assert health.frames >= 2 and health.reconnects == 0

    seen = play(story)
    assert isinstance(seen[0], FeedConnected)
    assert seen[0].instruments == ("01", "02", "11", "12")
    assert [c[0] for c in seen.of(BookChanged)[0].changes] == ["01", "02"]
    assert seen.books()["01"] == {"40000000": 10_000_000_000, "41000000": 700_000_000}


def test_first_frame_subscribes_and_pings_are_text() -> None:
    async def story(venue: Venue, feed: MarketFeed, _: Seen) -> None:
        await until(lambda: venue.connections and len(venue.connections[0].texts) >= 4, "pings")
        assert feed.decoder.ignored["PONG"] >= 2

    venue = Venue()
    play(story, venue=venue)
    first, *others = venue.connections[0].texts
    assert json.loads(first) == {
        "type": "market", "assets_ids": ["01", "02", "11", "12"], "custom_feature_enabled": True,
    }  # fmt: skip
    assert set(others) == {"PING"}


def test_450_assets_make_three_connections_with_markets_kept_whole() -> None:
    async def story(_: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.of(BookSnapshot)) == 450, "450 snapshots")
        assert feed.health().connections == feed.health().connected == 3

    venue = Venue()
    play(story, assets=450, venue=venue)
    assert sorted(len(c.assets) for c in venue.connections) == [50, 200, 200]
    for connection in venue.connections:
        pairs = Counter(asset[:-1] for asset in connection.assets)
        assert set(pairs.values()) == {2}


def test_frozen_data_with_living_pongs_is_reconnected() -> None:
    """The venue's worst habit: the socket is open, PONG arrives, and no book does."""
    times = replace(TIMES, data_age_max_ns=150 * NS_PER_MS)

    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.of(BookSnapshot)) == 4, "the first snapshots")
        pongs = feed.decoder.ignored["PONG"]
        await until(lambda: len(venue.connections) >= 2, "a second connection")
        assert feed.decoder.ignored["PONG"] > pongs, "the frozen server went on answering pings"
        await until(lambda: len(seen.of(BookSnapshot)) >= 8, "fresh snapshots")
        await until(lambda: not venue.connections[0].alive, "the frozen connection closed")
        assert feed.health().reconnects >= 1

    seen = play(story, settings=replace(SETTINGS, session=times))
    lost = seen.of(FeedDisconnected)[0]
    assert "no market data" in lost.reason and len(lost.instruments) == 4
    after = seen[seen.index(lost) :]
    assert isinstance(after[1], FeedConnected)


def test_data_keeps_a_connection_alive() -> None:
    times = replace(TIMES, data_age_max_ns=500 * NS_PER_MS)

    async def story(venue: Venue, _feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.of(BookSnapshot)) == 4, "the snapshots")
        for _ in range(35):
            venue.connections[0].send(change("01"))
            await asyncio.sleep(0.02)
        assert len(venue.connections) == 1

    seen = play(story, settings=replace(SETTINGS, session=times))
    assert not seen.of(FeedDisconnected)


def test_server_close_voids_the_books_until_the_new_snapshots() -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.of(BookSnapshot)) == 4, "the first snapshots")
        venue.connections[0].transport.send_close(picows.WSCloseCode.GOING_AWAY)
        venue.connections[0].transport.disconnect()
        await until(lambda: seen.of(FeedDisconnected), "the loss")
        assert seen.books() == {}
        await until(lambda: len(seen.books()) == 4, "all books again")
        assert feed.health().healthy and feed.health().reconnects == 1

    seen = play(story)
    assert "1001" in seen.of(FeedDisconnected)[0].reason


def test_an_absent_server_is_retried_until_it_is_there() -> None:
    async def main() -> None:
        venue, seen = Venue(), Seen()
        server = await venue.start()
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        feed = MarketFeed(venue.url, tokens(2), seen, settings=SETTINGS, jitter=lambda: 0.5)
        await feed.start()
        await asyncio.sleep(0.05)
        assert not feed.health().healthy and not seen
        later = await picows.ws_create_server(lambda _: Connection(venue), "127.0.0.1", port)
        await until(lambda: len(seen.books()) == 2, "the books")
        assert feed.health().healthy
        await feed.stop()
        later.close()
        await later.wait_closed()

    uvloop.run(main())


def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    async def main() -> None:
        accepted: list[asyncio.StreamWriter] = []

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(writer)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws/market"
        times, seen = replace(TIMES, connect_timeout_ns=30 * NS_PER_MS), Seen()
        feed = MarketFeed(url, tokens(2), seen, settings=replace(SETTINGS, session=times))
        await feed.start()
        await until(lambda: len(accepted) >= 3, "a third attempt")
        assert not seen and feed.health().connected == 0 and not feed.health().failure
        await feed.stop()
        await until(lambda: all(writer.is_closing() for writer in accepted), "no socket left")
        server.close()
        await server.wait_closed()

    uvloop.run(main())


@pytest.mark.parametrize(
    "garbage",
    ['{"event_type":"price_change"}', "\x00\x01", '[{"event_type":"book","asset_id":"01"}]'],
    ids=["change without changes", "not JSON", "book without sides"],
)
def test_an_unreadable_frame_is_reported_and_the_books_are_fetched_anew(garbage: str) -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 4, "the books")
        venue.connections[0].send(garbage)
        await until(lambda: seen.of(FeedDisconnected), "the books declared void")
        await until(lambda: len(seen.books()) == 4, "the books again")
        assert feed.health().rejected == 1

    seen = play(story)
    rejected, lost = seen.of(FrameRejected)[0], seen.of(FeedDisconnected)[0]
    assert seen.index(rejected) < seen.index(lost)
    assert "unreadable frame" in lost.reason


def test_an_unknown_event_type_is_reported_and_costs_nothing() -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 4, "the books")
        venue.connections[0].send({"event_type": "moon_phase", "phase": "full"})
        await until(lambda: seen.of(FrameRejected), "the report")
        venue.connections[0].send(change("01"))
        await until(lambda: seen.of(BookChanged), "life goes on")

    seen = play(story)
    assert not seen.of(FeedDisconnected)
    assert "moon_phase" in seen.of(FrameRejected)[0].reason


def test_a_tick_change_asks_for_a_fresh_snapshot_of_that_book() -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 4, "the books")
        venue.connections[0].send(
            {"event_type": "tick_size_change", "market": "0xm", "asset_id": "11",
             "old_tick_size": "0.01", "new_tick_size": "0.001", "timestamp": "1782753357400"}
        )  # fmt: skip
        await until(lambda: seen.of(TickSizeChanged), "the change")
        await until(lambda: len(seen.books()) == 4, "the book again")
        assert feed.health().reconnects == 0 and feed.health().awaiting == 0

    venue = Venue()
    seen = play(story, venue=venue)
    operations = [json.loads(t) for t in venue.connections[0].texts if "operation" in t]
    assert [(o["operation"], o["assets_ids"]) for o in operations] == [
        ("unsubscribe", ["11"]), ("subscribe", ["11"]),
    ]  # fmt: skip
    assert [s.instrument_id for s in seen.of(BookSnapshot)].count("11") == 2


def test_a_missing_snapshot_is_asked_for_again() -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 3, "three books")
        assert feed.health().awaiting == 1
        venue.without_book.clear()
        await until(lambda: len(seen.books()) == 4, "the fourth book")

    venue = Venue()
    venue.without_book.add("12")
    play(story, venue=venue, settings=replace(SETTINGS, snapshot_timeout_ns=50 * NS_PER_MS))


def test_frames_that_overtook_each_other_void_their_market_until_a_fresh_snapshot() -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 4, "the books")
        link = venue.connections[0]
        link.send(change("01", "02", size="9", at_ms=1_782_753_357_400))
        link.send(change("11", "12", size="8", at_ms=1_782_753_357_350))
        link.send(change("01", "02", size="5", at_ms=1_782_753_357_399))
        await until(lambda: seen.of(FeedDisconnected), "the market declared void")
        await until(lambda: len(seen.books()) == 4, "its books again")
        assert feed.health().reconnects == 0 and feed.health().awaiting == 0

    venue = Venue()
    seen = play(story, venue=venue)
    lost = seen.of(FeedDisconnected)
    assert [(e.instruments, e.reason) for e in lost] == [(("01", "02"), "frames came out of order")]
    assert "41000000" not in seen.books()["01"], "the late change is not in the fresh book"
    assert "500000000" not in {str(c[3]) for e in seen.of(BookChanged) for c in e.changes}
    operations = [json.loads(t) for t in venue.connections[0].texts if "operation" in t]
    assert [(o["operation"], o["assets_ids"]) for o in operations] == [
        ("unsubscribe", ["01", "02"]), ("subscribe", ["01", "02"]),
    ]  # fmt: skip


def test_a_snapshot_older_than_a_change_is_asked_for_again() -> None:
    async def story(venue: Venue, _: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 4, "the books")
        link = venue.connections[0]
        link.send(change("01", "02", size="9", at_ms=1_782_753_357_400))
        link.send(book("01", bid="0.30"))
        await until(lambda: seen.of(FeedDisconnected), "the book declared void")
        await until(lambda: len(seen.books()) == 4, "the book again")

    seen = play(story)
    assert seen.of(FeedDisconnected)[0].instruments == ("01",)
    assert "30000000" not in seen.books()["01"]


def test_what_is_missing_is_asked_for_although_other_books_come_and_go() -> None:
    """A market in disorder must not put off the question for a snapshot that never came."""

    async def story(venue: Venue, _: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 3, "three books")
        link, at_ms = venue.connections[0], 1_782_753_358_000
        while sum("unsubscribe" in t and '"12"' in t for t in link.texts) < 2:
            link.send(change("01", "02", at_ms=at_ms))
            link.send(change("01", "02", at_ms=at_ms - 1))
            at_ms += 10
            await asyncio.sleep(0.01)
        venue.without_book.clear()
        await until(lambda: "12" in seen.books(), "the missing book")

    venue = Venue()
    venue.without_book.add("12")
    play(story, venue=venue, settings=replace(SETTINGS, snapshot_timeout_ns=60 * NS_PER_MS))


ROTATING = replace(SETTINGS, session=replace(TIMES, lifetime_ns=150 * NS_PER_MS))


def test_a_planned_reconnect_never_voids_a_book() -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 4, "the books")
        number = 0
        while feed.health().rotations < 3:
            number += 1
            for connection in venue.live:
                if connection.assets:
                    connection.send(change("01", "12", size=str(number)))
            await asyncio.sleep(0.005)
            assert len(seen.books()) == 4
        await until(lambda: len(venue.live) == 1, "the old connections closed")
        assert feed.health().reconnects == 0

    seen = play(story, settings=ROTATING)
    assert not seen.of(FeedDisconnected)
    assert len(seen.of(FeedConnected)) == 1


def test_the_old_connection_speaks_until_the_snapshot_on_the_new_one() -> None:
    """The new connection stays without snapshots: the old one's facts go on, the new one's wait."""

    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(venue.connections) == 2 and venue.connections[1].assets, "a next")
        old, new = venue.connections
        new.send(change("01", size="999"))
        old.send(change("01", size="5"))
        await until(lambda: seen.of(BookChanged), "the old one's change")
        assert [c.changes[0][3] for c in seen.of(BookChanged)] == [500_000_000]
        new.send([book("01", bid="0.44")])
        await until(lambda: "44000000" in seen.books()["01"], "the handover of one book")
        old.send(change("01", "02", size="6"))
        new.send(change("01", "02", size="8"))
        await until(lambda: len(seen.of(BookChanged)) == 3, "both speak, each for its own")
        pairs = {(c[0], c[3]) for e in seen.of(BookChanged)[1:] for c in e.changes}
        assert pairs == {("02", 600_000_000), ("01", 800_000_000)}
        new.send([book("02"), book("11"), book("12")])
        await until(lambda: feed.health().rotations == 1, "the handover complete")
        await until(lambda: not old.alive, "the old one closed")

    venue = Venue()
    venue.silent = lambda connection: connection.number == 2
    seen = play(story, settings=ROTATING, venue=venue)
    assert not seen.of(FeedDisconnected)


def test_books_without_a_snapshot_on_the_new_connection_become_void() -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 4, "the books")
        venue.without_book.add("12")
        await until(lambda: seen.of(FeedDisconnected), "the missing one declared void")
        assert feed.health().rotations == 1
        assert set(seen.books()) == {"01", "02", "11"}
        venue.without_book.clear()
        await until(lambda: len(seen.books()) == 4, "asked for again")

    settings = replace(ROTATING, snapshot_timeout_ns=60 * NS_PER_MS)
    seen = play(story, settings=settings)
    assert seen.of(FeedDisconnected)[0].instruments == ("12",)


def test_the_old_connection_dies_during_the_handover() -> None:
    async def story(venue: Venue, _: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(venue.connections) == 2 and venue.connections[1].assets, "a next")
        old, new = venue.connections
        new.send([book("01")])
        await until(lambda: len(seen.of(BookSnapshot)) == 5, "one handed over")
        old.transport.disconnect()
        await until(lambda: seen.of(FeedDisconnected), "the rest declared void")
        assert set(seen.books()) == {"01"}
        new.send([book("02"), book("11"), book("12")])
        await until(lambda: len(seen.books()) == 4, "all from the new one")
        assert len(venue.live) == 1

    venue = Venue()
    venue.silent = lambda connection: connection.number == 2
    seen = play(story, settings=ROTATING, venue=venue)
    assert set(seen.of(FeedDisconnected)[0].instruments) == {"02", "11", "12"}


def test_the_new_connection_dies_during_the_handover() -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(venue.connections) == 2 and venue.connections[1].assets, "a next")
        new = venue.connections[1]
        new.send([book("01")])
        await until(lambda: len(seen.of(BookSnapshot)) == 5, "one handed over")
        new.transport.disconnect()
        await until(lambda: seen.of(FeedDisconnected), "that one declared void")
        await until(lambda: len(seen.books()) == 4, "and fetched again from the old one")
        assert feed.health().reconnects == 0

    venue = Venue()
    venue.silent = lambda connection: connection.number == 2
    seen = play(story, settings=ROTATING, venue=venue)
    assert seen.of(FeedDisconnected)[0].instruments == ("01",)


@pytest.mark.parametrize("error", [KeyError, OSError, TimeoutError])
def test_a_sink_that_raises_is_a_defect_and_stops_the_feed(error: type[Exception]) -> None:
    """Even an error that a lost socket could also raise is not taken for one."""

    class Broken(Seen):
        def __call__(self, events: Sequence[AnyEvent]) -> None:
            if any(isinstance(event, BookChanged) for event in events):
                raise error("a defect in the sink")
            super().__call__(events)

    async def main() -> None:
        venue, seen = Venue(), Broken()
        server = await venue.start()
        feed = MarketFeed(venue.url, tokens(4), seen, settings=SETTINGS)
        await feed.start()
        await until(lambda: len(seen.books()) == 4, "the books")
        venue.connections[0].send(change("01"))
        await until(lambda: feed.health().failure, "the failure")
        assert "a defect in the sink" in feed.health().failure
        assert not feed.health().healthy and seen.books() == {}
        await until(lambda: not venue.live, "no connection left")
        await feed.stop()
        server.close()
        await server.wait_closed()

    uvloop.run(main())


def test_nothing_is_emitted_after_stop() -> None:
    async def story(venue: Venue, feed: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 4, "the books")
        await feed.stop()
        before = len(seen)
        await until(lambda: not venue.live, "the connection closed")
        assert len(seen) == before

    play(story)


def test_the_tape_has_every_frame_and_the_connections(tmp_path: Path) -> None:
    async def story(venue: Venue, _: MarketFeed, seen: Seen) -> None:
        await until(lambda: len(seen.books()) == 4, "the books")
        venue.connections[0].send(change("01", "02"))
        venue.connections[0].transport.disconnect()
        await until(lambda: len(seen.of(BookSnapshot)) == 8, "the books again")

    tape = Tape(tmp_path)
    play(story, tape=tape)
    assert tape.close().dropped == 0
    records = [r for path in sorted(tmp_path.glob("*.tape.zst")) for r in read_tape(path)]
    kinds = [r.kind for r in records if r.payload != b"PONG"]
    assert kinds == [
        FrameKind.CONNECTED, FrameKind.FRAME, FrameKind.FRAME, FrameKind.DISCONNECTED,
        FrameKind.CONNECTED, FrameKind.FRAME,
    ]  # fmt: skip
    assert json.loads(records[0].payload)["instruments"] == ["01", "02", "11", "12"]
    assert [r.connection for r in records][-1] == 2


def test_a_feed_without_instruments_is_refused() -> None:
    with pytest.raises(ValueError, match="no instruments"):
        MarketFeed("ws://127.0.0.1:1/ws/market", [], Seen())


def test_the_sandbox_is_listed_and_followed() -> None:
    """Catalogue and feed against the repository's own local market, as a bot uses them."""
    from fleet.clock import LiveClock
    from fleet.sandbox.server import SandboxServer, SandboxSettings
    from fleet.venues.polymarket.catalog import CatalogSettings, load_catalog
    from fleet.venues.polymarket.feed import token_groups
    from fleet.venues.transport import HttpSettings, JsonClient

    async def main() -> None:
        clock = LiveClock()
        server = SandboxServer(SandboxSettings(port=0), clock)
        host = f"127.0.0.1:{await server.start()}"
        fast = HttpSettings(per_second=1_000, burst=100)
        gamma, clob = JsonClient(f"http://{host}/gamma"), JsonClient(f"http://{host}/clob", fast)
        catalog = await load_catalog(gamma, clob, CatalogSettings(), now_ns=clock.now_ns())
        await gamma.close()
        await clob.close()
        universe, seen = catalog.universe, Seen()
        assert len(universe.markets) >= 30 and len(universe.ladders) >= 2
        assert sum(group.complete for group in universe.sets) >= 2
        groups = token_groups(universe.markets.values())
        feed = MarketFeed(f"ws://{host}/ws/market", groups, seen)
        await feed.start()
        await until(lambda: len(seen.books()) == len(universe.instruments), "every book", 10.0)
        await until(lambda: len(seen.of(BookChanged)) > 20, "the markets moving", 20.0)
        ticks = {i.id: i.tick for i in universe.instruments.values()}
        for snapshot in seen.of(BookSnapshot):
            assert snapshot.tick == ticks[snapshot.instrument_id]
        assert feed.health().rejected == 0 and not feed.decoder.rejected
        await feed.stop()
        await server.stop()

    uvloop.run(main())


def environment(home: Path, port: int) -> dict[str, str]:
    """For a `fleet` command as its own process, with nothing of this machine's settings."""
    source = str(Path(fleet.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": source, "SANDBOX_PORT": str(port), "FLEET_HOME": str(home)}


def test_fleet_record_keeps_what_the_sandbox_sends(tmp_path: Path) -> None:
    from fleet.clock import LiveClock
    from fleet.sandbox.server import SandboxServer, SandboxSettings

    async def main() -> tuple[int | None, str]:
        server = SandboxServer(SandboxSettings(port=0), LiveClock())
        port = await server.start()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fleet.cli.main", "record", "--feed", "sandbox",
            "--out", str(tmp_path / "tape"), "--duration", "1.5", "--max-markets", "20",
            env=environment(tmp_path, port),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        await server.stop()
        return process.returncode, out.decode()

    code, said = uvloop.run(main())
    assert code == 0, said
    (path,) = (tmp_path / "tape").glob("*.tape.zst")
    frames = [record for record in read_tape(path) if record.kind is FrameKind.FRAME]
    decoder = Decoder()
    events = [event for f in frames for event in decoder.decode(f.payload, f.ts_recv)]
    books = {event.instrument_id for event in events if isinstance(event, BookSnapshot)}
    assert 2 <= len(books) <= 40 and not decoder.rejected
    assert f"recorded {len(frames) + 1} records" in said


def test_fleet_record_without_a_market_says_what_to_do(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "fleet.cli.main", "record", "--feed", "sandbox",
         "--out", str(tmp_path), "--duration", "1"],
        env=environment(tmp_path, 1),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert found.returncode == 1
    assert "cannot connect" in found.stderr and "make start" in found.stderr
