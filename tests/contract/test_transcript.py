"""A replay fails loudly where the bot says what it did not say, and a recording keeps no secret."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.contract.transcript import (
    Head,
    Line,
    Names,
    key_of,
    may_repeat,
    read,
    thinned,
    write,
)
from tests.contract.transcript_recorder import Recorder
from tests.contract.transcript_replay import Replay

POST = "POST /clob/order"
SAID = [
    Line(ms=0, what="read", key="GET /clob/data/trades", text='["none"]'),
    Line(ms=5, what="ask", key=f'{POST} {{"size": 1}}', number=1),
    Line(ms=9, what="answer", number=1, text='["placed"]'),
    Line(ms=12, what="read", key="GET /clob/data/trades", text='["one"]'),
    Line(ms=15, what="ask", key='DELETE /clob/order {"id": 1}', number=2),
    Line(ms=20, what="answer", number=2, text='["dead"]'),
    Line(ms=25, what="read", key="GET /clob/data/trades", text='["two"]'),
]
Ask = Callable[[str, str, str], Awaitable[str]]


def told(said: list[Line], story: Callable[[Replay, Ask], Awaitable[None]]) -> Replay:
    """A story with the replay of ``said``."""

    async def main() -> Replay:
        replay = Replay(said, Names())
        hosts = await replay.start()
        origin = hosts.clob_url.removesuffix("/clob")
        async with aiohttp.ClientSession() as session:

            async def ask(method: str, path: str, body: str = "") -> str:
                async with session.request(method, origin + path, data=body or None) as answer:
                    return await answer.text() if answer.status < 400 else f"{answer.status}"

            await story(replay, ask)
        await replay.stop()
        return replay

    return asyncio.run(main())


def test_what_is_read_changes_with_what_was_done_and_not_before() -> None:
    async def story(_: Replay, ask: Ask) -> None:
        for _again in range(3):
            assert await ask("GET", "/clob/data/trades", "") == '["none"]'
        assert await ask("POST", "/clob/order", '{"size": 1}') == '["placed"]'
        for _again in range(3):
            assert await ask("GET", "/clob/data/trades", "") == '["one"]'
        for _again in range(2):  # A cancel may be repeated, and is answered the same.
            assert await ask("DELETE", "/clob/order", '{"id": 1}') == '["dead"]'
        assert await ask("GET", "/clob/data/trades", "") == '["two"]'

    replay = told(SAID, story)
    assert not replay.failures
    assert not replay.left()


def test_what_changes_by_itself_is_told_in_turn_and_then_stays() -> None:
    said = [
        Line(ms=ms, what="read", key=f"GET /clob/{key}", text=f'["{text}"]')
        for ms, key, text in ((0, "time", "1"), (1, "book", "a"), (2, "time", "2"))
    ]

    async def story(_: Replay, ask: Ask) -> None:
        times = [await ask("GET", "/clob/time", "") for _again in range(3)]
        assert times == ['["1"]', '["2"]', '["2"]']
        assert await ask("GET", "/clob/book", "") == '["a"]'

    assert not told(said, story).failures


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/clob/order", '{"size": 2}'),
        ("GET", "/clob/data/orders", ""),
        ("DELETE", "/clob/order", '{"id": 7}'),
    ],
)
def test_what_was_never_said_is_a_failure(method: str, path: str, body: str) -> None:
    async def story(_: Replay, ask: Ask) -> None:
        assert await ask(method, path, body) == "500"

    replay = told(SAID, story)
    assert len(replay.failures) == 1
    assert path in replay.failures[0]
    assert len(replay.left()) == 2


def test_an_order_that_comes_twice_is_a_failure() -> None:
    async def story(_: Replay, ask: Ask) -> None:
        assert await ask("POST", "/clob/order", '{"size": 1}') == '["placed"]'
        assert await ask("POST", "/clob/order", '{"size": 1}') == "500"

    assert told(SAID, story).failures


def test_a_key_forgets_what_must_differ_and_nothing_else() -> None:
    names = Names()
    names.wallet("0xAbCdEf0000000000000000000000000000000001")
    names.number("order", "0x77")

    def key(**order: str) -> str:
        body = f'{{"order": {{"maker": "{order["maker"]}", "salt": {order["salt"]}, "size": 5}}}}'
        return key_of("POST", "/clob/order", {}, body.encode(), names)

    ours = "0xAbCdEf0000000000000000000000000000000001"
    assert key(maker=ours, salt="1") == key(maker=ours, salt="2")
    assert key(maker=ours, salt="1") != key(maker="0x02", salt="1")
    assert key_of("GET", "/clob/data/order/0x77", {}, b"", names).endswith("{order:1}")
    assert may_repeat("DELETE /clob/order")
    assert not may_repeat(key(maker=ours, salt="1"))


def test_only_what_says_nothing_new_is_thinned_out() -> None:
    twice = [SAID[0], SAID[0], *SAID[1:3], SAID[0], SAID[3]]
    assert thinned(twice) == [SAID[0], *SAID[1:3], SAID[0], SAID[3]]


def test_a_recording_with_a_secret_in_it_is_not_given_out() -> None:
    from fleet.venues.polymarket.hosts import sandbox_hosts

    recorder = Recorder(sandbox_hosts(8788), Names(), secrets=("07" * 32,))
    recorder._say(Line(ms=0, what="frame", text="harmless"))
    assert len(recorder.lines()) == 1
    recorder._say(Line(ms=0, what="frame", text="the key is " + "07" * 32))
    with pytest.raises(ValueError, match="secret"):
        recorder.lines()


def test_a_transcript_is_read_as_it_was_written(tmp_path: Path) -> None:
    long = Line(ms=1, what="read", key="GET /x", text="long " * 40)
    said = {"first": [*SAID, long, SAID[1], long], "second": [long]}
    head = Head(recorded_from="sandbox", note="n", recorded_on="2026-11-20", confirmations=2,
                market={"id": "m"}, instruments=[])  # fmt: skip
    write(tmp_path / "t.jsonl", head, said)
    assert read(tmp_path / "t.jsonl") == (head, said)
    assert (tmp_path / "t.jsonl").read_text().count(long.text) == 2, "once a clause"
