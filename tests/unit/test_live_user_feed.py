"""The user channel on a real socket: who we say we are, silence, and defects of our own."""

import asyncio
import json
from collections.abc import Callable, Sequence

import pytest

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.venues.polymarket.user_feed import Sighting, UserFeed
from fleet.venues.websocket import SessionSettings
from tests.odd_clob import CREDENTIALS, OddClob, trade_row

QUICK = SessionSettings(
    ping_interval_ns=100 * NS_PER_MS, data_age_max_ns=NS_PER_SECOND, lifetime_ns=0,
    backoff_first_ns=10 * NS_PER_MS, backoff_max_ns=50 * NS_PER_MS,
)  # fmt: skip


async def until(done: Callable[[], bool]) -> None:
    for _ in range(1_500):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


def frame(trade_id: str) -> dict[str, object]:
    return trade_row(trade_id, "0x1", "11", status="MATCHED") | {
        "event_type": "trade", "type": "TRADE", "timestamp": "1760000000000",
    }  # fmt: skip


def test_the_first_frame_says_who_we_are_and_sightings_keep_their_order() -> None:
    async def main() -> None:
        seen: list[Sighting] = []
        gaps: list[str] = []
        async with OddClob() as clob:
            feed = UserFeed(clob.hosts.user_ws_url, CREDENTIALS, on_sightings=seen.extend,
                            on_gap=gaps.append, settings=QUICK)  # fmt: skip
            await feed.start()
            try:
                await until(lambda: bool(clob.paths("WS")))
                (_, _, hello), *_ = [r for r in clob.requests if r[0] == "WS"]
                assert json.loads(hello) == {
                    "type": "user",
                    "auth": {
                        "apiKey": CREDENTIALS.api_key,
                        "secret": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
                        "passphrase": "pass",
                    },
                }
                await clob.tell([frame("t1"), frame("t2")])
                await clob.tell(frame("t3"))
                await until(lambda: len(seen) == 3)
                # PONG alone keeps it alive: silence is normal on this channel.
                await asyncio.sleep(1.5)
                assert feed.connected
                assert feed.losses == 0
            finally:
                await feed.stop()
        assert feed.losses == 0, "an end that was asked for is no loss"
        assert [getattr(one, "trade_id", "") for one in seen] == ["t1", "t2", "t3"]
        assert gaps == ["connected"]

    asyncio.run(main())


def test_a_channel_that_does_not_even_pong_is_replaced_and_the_gap_is_told() -> None:
    async def main() -> None:
        gaps: list[str] = []
        async with OddClob() as clob:
            clob.pongs = False
            feed = UserFeed(clob.hosts.user_ws_url, CREDENTIALS, on_sightings=lambda _: None,
                            on_gap=gaps.append, settings=QUICK)  # fmt: skip
            await feed.start()
            try:
                await until(lambda: gaps.count("connected") >= 2)
                assert feed.losses >= 1
            finally:
                await feed.stop()
            told = len(gaps)
            await asyncio.sleep(0.2)
            assert len(gaps) == told

    asyncio.run(main())


def test_a_defect_of_our_own_ends_the_channel_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: Sequence[Sighting]) -> None:
        raise RuntimeError("ours")

    async def main() -> None:
        gaps: list[str] = []
        async with OddClob() as clob:
            feed = UserFeed(clob.hosts.user_ws_url, CREDENTIALS, on_sightings=broken,
                            on_gap=gaps.append, settings=QUICK)  # fmt: skip
            await feed.start()
            try:
                await until(lambda: bool(clob.paths("WS")))
                await clob.tell(frame("t1"))
                await until(lambda: bool(feed.failure))
                assert feed.failure == "RuntimeError: ours"
                assert gaps[-1] == feed.failure
                assert not feed.connected
            finally:
                await feed.stop()

    asyncio.run(main())
    assert "AQEBAQEB" not in caplog.text
