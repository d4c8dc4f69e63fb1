"""NewsAPI and RSS over real HTTP on loopback: limits, caches, faults, hostile feeds."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fleet.clock import NS_PER_DAY, NS_PER_SECOND
from fleet.config import Secret
from fleet.forecasting.news_api import DAY_REQUESTS_MAX, PAUSE_S, NewsApi
from fleet.forecasting.news_cache import NewsCache
from fleet.forecasting.port import ForecastFailed
from fleet.forecasting.rss import ENTRIES_MAX, Rss, read_feed
from fleet.forecasting.web import BODY_BYTES_MAX, FetchFailed, fetch
from tests.model_world import NOW_NS, ModelWorld, model_world

FRESH_NS = 600 * NS_PER_SECOND
NEWS_KEY = "news-key-0123456789"
Story = Callable[[ModelWorld], Awaitable[Any]]


def play(tmp_path: Path, story: Story) -> Any:
    async def main() -> Any:
        async with model_world(tmp_path) as world:
            return await story(world)

    return asyncio.run(main())


def news_api(world: ModelWorld) -> NewsApi:
    cache = NewsCache(world.directory / "news.sqlite")
    return NewsApi(
        Secret(NEWS_KEY), cache, world.clock, base_url=f"{world.url}/news", fresh_ns=FRESH_NS
    )


def rss(world: ModelWorld, *names: str) -> Rss:
    cache = NewsCache(world.directory / "news.sqlite")
    feeds = [f"{world.url}/rss/{name}.xml" for name in names or ("bitcoin",)]
    return Rss(feeds, cache, world.clock, fresh_ns=FRESH_NS)


# --- NewsAPI -------------------------------------------------------------------------------------


def test_newsapi_finds_dated_articles(tmp_path: Path) -> None:
    async def story(world: ModelWorld) -> None:
        found = await news_api(world).search("Bitcoin rally", before_ns=NOW_NS, limit=4)
        assert len(found) == 4
        times = [item.published_ns for item in found]
        assert times == sorted(times, reverse=True) and times[0] < NOW_NS
        assert "bitcoin rally" in found[0].title and found[0].source == "Sandbox Courier"
        assert "<" not in found[0].text and "utm_" not in found[0].url
        assert await news_api(world).search("", before_ns=NOW_NS) == ()

    play(tmp_path, story)


def test_the_past_is_asked_for_as_the_past(tmp_path: Path) -> None:
    async def story(world: ModelWorld) -> None:
        before = NOW_NS - 20 * 3_600 * NS_PER_SECOND
        found = await news_api(world).search("Bitcoin", before_ns=before, limit=50)
        assert found and all(item.published_ns < before for item in found)
        await news_api(world).search("Bitcoin", before_ns=NOW_NS)
        assert world.server.routes.requests["news"] == 2

    play(tmp_path, story)


def test_the_same_is_not_asked_twice_in_an_interval_nor_by_another_process(tmp_path: Path) -> None:
    async def story(world: ModelWorld) -> None:
        for _ in range(3):
            await news_api(world).search("Bitcoin rally", before_ns=NOW_NS)
        assert world.server.routes.requests["news"] == 1
        world.clock.advance(FRESH_NS)
        await news_api(world).search("Bitcoin rally", before_ns=world.clock.now_ns())
        assert world.server.routes.requests["news"] == 2

    play(tmp_path, story)


def test_a_hundred_requests_a_day_and_no_more(tmp_path: Path) -> None:
    async def story(world: ModelWorld) -> None:
        cache = NewsCache(tmp_path / "news.sqlite")
        for number in range(DAY_REQUESTS_MAX - 1):
            assert cache.take("newsapi", NOW_NS, day_max=DAY_REQUESTS_MAX) == "", number
        await news_api(world).search("last one", before_ns=NOW_NS)
        with pytest.raises(ForecastFailed, match="100 times today"):
            await news_api(world).search("another", before_ns=NOW_NS)
        # What is known of today still serves, though it is not fresh.
        world.clock.advance(2 * FRESH_NS)
        again = await news_api(world).search("last one", before_ns=world.clock.now_ns())
        assert again and world.server.routes.requests["news"] == 1
        world.clock.advance(NS_PER_DAY)
        assert await news_api(world).search("another", before_ns=world.clock.now_ns())

    play(tmp_path, story)


def test_a_429_is_a_pause_that_outlives_the_process(tmp_path: Path) -> None:
    async def story(world: ModelWorld) -> None:
        world.fault("rate_limited_bare", times=1)
        for _ in range(3):
            with pytest.raises(ForecastFailed, match=r"429|asked to wait"):
                await news_api(world).search("Bitcoin", before_ns=NOW_NS)
        assert world.server.routes.requests["news"] == 1
        world.clock.advance(int(PAUSE_S) * NS_PER_SECOND)
        assert await news_api(world).search("Bitcoin", before_ns=world.clock.now_ns())
        world.fault("rate_limited", times=1, seconds=5)
        with pytest.raises(ForecastFailed, match="429"):
            await news_api(world).search("Ether", before_ns=world.clock.now_ns())
        world.clock.advance(5 * NS_PER_SECOND)
        assert await news_api(world).search("Ether", before_ns=world.clock.now_ns())

    play(tmp_path, story)


@pytest.mark.parametrize(
    "fault",
    ["bad_key", "server_error", "gateway_error", "cut", "huge", "compressed", "broken_body",
     "wrong_body", "no_answer"],
)  # fmt: skip
def test_newsapi_faults_are_failures_not_empty_answers(tmp_path: Path, fault: str) -> None:
    async def story(world: ModelWorld) -> None:
        world.fault(fault, seconds=0.05)
        with pytest.raises(ForecastFailed) as caught:
            await news_api(world).search("Bitcoin", before_ns=NOW_NS)
        assert NEWS_KEY not in str(caught.value)
        assert "newsapi" in str(caught.value)

    play(tmp_path, story)


def test_a_plan_that_does_not_allow_it_is_told(tmp_path: Path) -> None:
    async def refuse(_: web.Request) -> web.Response:
        told = {"status": "error", "code": "parameterInvalid", "message": "too far in the past"}
        return web.json_response(told, status=426)

    async def ask(url: str) -> None:
        async with model_world(tmp_path) as world:
            api = NewsApi(
                Secret(NEWS_KEY),
                NewsCache(tmp_path / "n.sqlite"),
                world.clock,
                base_url=url,
                fresh_ns=FRESH_NS,
            )
            with pytest.raises(ForecastFailed, match=r"426.*too far in the past.*plan"):
                await api.search("Bitcoin", before_ns=NOW_NS)

    asyncio.run(_serving(refuse, ask))


def test_articles_that_are_odd_are_dropped_one_by_one(tmp_path: Path) -> None:
    articles: list[Any] = [
        {"title": "Good", "publishedAt": "2020-01-01T00:00:00Z", "source": None, "url": None},
        {"title": "No date"},
        {"title": "No zone", "publishedAt": "2020-01-01T00:00:00"},
        {"title": 7, "publishedAt": "2020-01-01T00:00:00Z"},
        "an article",
        None,
    ]

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "articles": articles})

    async def ask(url: str) -> None:
        async with model_world(tmp_path) as world:
            cache = NewsCache(tmp_path / "n.sqlite")
            api = NewsApi(Secret("k"), cache, world.clock, base_url=url, fresh_ns=FRESH_NS)
            found = await api.search("Bitcoin", before_ns=NOW_NS)
            assert [item.title for item in found] == ["Good"]

    asyncio.run(_serving(answer, ask))


async def _serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    story: Callable[[str], Awaitable[None]],
) -> None:
    """Answer everything by one handler."""
    app = web.Application()
    app.router.add_get("/{rest:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await story(f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


# --- RSS -----------------------------------------------------------------------------------------


def test_a_feed_is_searched_by_words(tmp_path: Path) -> None:
    async def story(world: ModelWorld) -> None:
        found = await rss(world, "bitcoin", "senate-vote").search("Bitcoin", before_ns=NOW_NS)
        assert len(found) == 5 and all("bitcoin" in item.title for item in found)
        assert found[0].source == "Sandbox bitcoin"
        assert await rss(world).search("curling final", before_ns=NOW_NS) == []

    play(tmp_path, story)


def test_a_feed_is_asked_once_an_interval_and_then_conditionally(tmp_path: Path) -> None:
    statuses: list[int] = []

    async def story(world: ModelWorld) -> None:
        for _ in range(2):
            await rss(world).search("bitcoin", before_ns=NOW_NS)
        assert world.server.routes.requests["rss"] == 1
        world.clock.advance(FRESH_NS)
        first = await rss(world).search("bitcoin", before_ns=world.clock.now_ns())
        assert world.server.routes.requests["rss"] == 2
        etag = NewsCache(tmp_path / "news.sqlite").answer(f"rss:{world.url}/rss/bitcoin.xml")
        assert etag is not None and etag.etag
        answer = await fetch(f"{world.url}/rss/bitcoin.xml", headers={"If-None-Match": etag.etag})
        statuses.append(answer.status)
        assert first

    play(tmp_path, story)
    assert statuses == [304]


@pytest.mark.parametrize(
    "fault", ["server_error", "huge", "broken_body", "no_answer", "rate_limited"]
)
def test_a_failing_feed_serves_its_last_answer_for_a_day(tmp_path: Path, fault: str) -> None:
    async def story(world: ModelWorld) -> None:
        known = await rss(world).search("bitcoin", before_ns=NOW_NS)
        world.fault(fault, seconds=0.05)
        world.clock.advance(FRESH_NS)
        assert await rss(world).search("bitcoin", before_ns=NOW_NS) == known
        world.clock.advance(NS_PER_DAY)
        with pytest.raises(ForecastFailed):
            await rss(world).search("bitcoin", before_ns=NOW_NS)

    play(tmp_path, story)


def test_a_feed_that_was_never_read_is_a_failure(tmp_path: Path) -> None:
    async def story(world: ModelWorld) -> None:
        world.fault("server_error", times=1)
        with pytest.raises(ForecastFailed, match="500"):
            await rss(world).search("bitcoin", before_ns=NOW_NS)
        world.fault("server_error", times=1)
        assert await rss(world, "bitcoin", "ether").search("ether bitcoin", before_ns=NOW_NS)

    play(tmp_path, story)


def test_redirects_are_few_and_sizes_bounded(tmp_path: Path) -> None:
    async def round_and_round(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"/{int(request.path.strip('/') or 0) + 1}")

    async def ask(url: str) -> None:
        with pytest.raises(FetchFailed, match="Redirect"):
            await fetch(url)
        assert (await fetch(url, redirects=False)).status == 302

    asyncio.run(_serving(round_and_round, ask))

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * (BODY_BYTES_MAX + 1))

    async def measure(url: str) -> None:
        with pytest.raises(FetchFailed, match="more than"):
            await fetch(url)

    asyncio.run(_serving(large, measure))


def test_a_slow_host_is_given_up() -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(100):
            await answer.write(b".")
            await asyncio.sleep(0.05)
        return answer

    async def ask(url: str) -> None:
        with pytest.raises(FetchFailed, match=r"in 0.3 s"):
            await fetch(url, timeout_s=0.3)

    asyncio.run(_serving(dripping, ask))


def feed(*items: str) -> bytes:
    head = '<?xml version="1.0"?><rss version="2.0"><channel><title>T</title>'
    return f"{head}{''.join(items)}</channel></rss>".encode()


def item(title: str, date: str = "Fri, 02 Jan 2026 03:04:05 GMT", more: str = "") -> str:
    return f"<item><title>{title}</title><pubDate>{date}</pubDate>{more}</item>"


def test_only_dated_entries_count_and_times_are_utc() -> None:
    found = read_feed(
        feed(
            item("Dated"),
            item("Zoned", "Fri, 02 Jan 2026 04:04:05 +0100"),
            item("Undated", ""),
            item("Odd", "some day"),
        ),
        "u",
    )
    assert [one.title for one in found] == ["Dated", "Zoned"]
    assert found[0].published_ns == found[1].published_ns == 1_767_323_045 * NS_PER_SECOND


def test_of_publication_and_change_the_later_counts() -> None:
    atom = b"""<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>T</title>
    <entry><title>Edited</title><published>2026-01-01T00:00:00Z</published>
    <updated>2026-01-03T00:00:00Z</updated><summary>s</summary></entry></feed>"""
    (found,) = read_feed(atom, "u")
    assert found.published_ns == 1_767_398_400 * NS_PER_SECOND


@pytest.mark.parametrize(
    "body",
    [b"", b"<html><body>hello</body></html>", b"\x00\xff\xfe", b"{}", b"<rss", b"PK\x03\x04"],
)
def test_what_is_no_feed_is_told(body: bytes) -> None:
    with pytest.raises(FetchFailed):
        read_feed(body, "https://u.example/feed")


def test_entities_are_not_expanded() -> None:
    bomb = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">
    <!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><rss version="2.0"><channel><title>T</title>
    <item><title>&b;</title><pubDate>Fri, 02 Jan 2026 03:04:05 GMT</pubDate></item></channel></rss>"""
    with pytest.raises(FetchFailed, match="entities"):
        read_feed(bomb, "u")
    with pytest.raises(FetchFailed, match="entities"):
        read_feed(bomb.decode().encode("utf-16"), "u")


def test_a_large_feed_is_cut() -> None:
    many = feed(*(item(f"Title {n}") for n in range(ENTRIES_MAX + 50)))
    assert len(read_feed(many, "u")) == ENTRIES_MAX
    long = item("x" * 100_000, more=f"<description>{'&lt;b&gt;' * 100_000}</description>")
    (found,) = read_feed(feed(long), "u")
    assert len(found.title) == 300
