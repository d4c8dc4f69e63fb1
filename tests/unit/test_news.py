"""Articles as evidence, and several sources as one."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.clock import NS_PER_DAY
from fleet.forecasting.articles import article, distinct, iso_ns, known_before, ns_of
from fleet.forecasting.news import News
from fleet.forecasting.port import Evidence, ForecastFailed, Item, Kind, MemoryFailed
from fleet.forecasting.wording import news_query, shared
from tests.model_world import NOW_NS, FixedNews, ListMemory, evidence


def made(**changes: Any) -> Evidence | None:
    known: dict[str, Any] = {
        "source": "Courier",
        "title": "Fed holds rates",
        "text": "<p>The Fed held.</p>",
        "url": "https://courier.example/a?utm_source=x&id=3#top",
        "published_ns": NOW_NS,
    }
    return article(**{**known, **changes})


def test_an_article_is_made_plain() -> None:
    found = made(title="<b>Fed</b>\nholds &amp; waits", source="The\u202e Courier")
    assert found is not None
    assert (found.title, found.text) == ("Fed holds & waits", "The Fed held.")
    assert found.source == "The Courier"
    assert found.url == "https://courier.example/a?id=3"


@pytest.mark.parametrize(
    "changes",
    [
        {"published_ns": None},
        {"published_ns": 0},
        {"published_ns": 1 << 63},
        {"title": ""},
        {"title": "<script>x</script>"},
        {"title": "[Removed]"},
    ],
)
def test_without_a_date_or_a_title_it_is_none(changes: dict[str, Any]) -> None:
    assert made(**changes) is None


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "file:///etc/passwd", "https://[", "x", "", "https://a b.c/"]
)
def test_what_is_no_web_address_is_dropped(url: str) -> None:
    found = made(url=url)
    assert found is not None and found.url == ""


def test_an_id_is_of_the_article_and_stays() -> None:
    first, again = made(), made(url="https://COURIER.example/a/?id=3&fbclid=9", text="edited")
    other, nameless = made(url="https://courier.example/b"), made(url="")
    assert first and again and other and nameless
    assert first.id == again.id
    assert len({first.id, other.id, nameless.id}) == 3


def test_each_article_once_the_first_print_stays() -> None:
    late = evidence(1, title="Fed holds rates - Courier", published_ns=NOW_NS - 5)
    first = evidence(2, title="FED holds  rates!", published_ns=NOW_NS - 9)
    other = evidence(3, published_ns=NOW_NS - 7, url="https://a.example/x")
    copy = evidence(4, published_ns=NOW_NS - 6, url="https://a.example/x")
    assert distinct([late, first, other, copy]) == [other, first]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T01:00:01.5+01:00", 1_500_000_000),
        ("2024-02-23T19:50:21", None),
        ("yesterday", None),
        ("", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_times(text: str, known: int | None) -> None:
    found = iso_ns(text)
    assert found == known or (known is None and found is not None and found < 0)


def test_a_time_without_zone_is_not_known() -> None:
    assert ns_of(datetime(2026, 1, 1)) is None  # noqa: DTZ001 - this is the point
    assert ns_of(datetime(1970, 1, 2, tzinfo=UTC)) == NS_PER_DAY


def test_the_words_to_look_for() -> None:
    asked = "Will Bitcoin trade above $150,000 before January 2027?"
    assert news_query(asked) == "Bitcoin trade 2027 150 000"
    assert news_query(asked, 1) == "Bitcoin"
    assert news_query("") == news_query("Will it be?") == ""
    assert '"' not in news_query('Will "NOT (x)" OR AND happen?')
    assert shared("Bitcoin rally", "The bitcoin RALLY goes on") == 1.0
    assert shared("Bitcoin rally", "Rain") == 0.0


# --- several sources -----------------------------------------------------------------------------


class Failing:
    async def search(self, query: str, *, before_ns: int, limit: int = 5) -> Sequence[Evidence]:
        raise ForecastFailed("newsapi answered 500")


def search(news: News, **changes: Any) -> Sequence[Evidence]:
    asked: dict[str, Any] = {"before_ns": NOW_NS, "limit": 5, **changes}
    return asyncio.run(news.search("Bitcoin", **asked))


def test_sources_are_merged_newest_first() -> None:
    one = FixedNews([evidence(1, published_ns=NOW_NS - 10), evidence(2, published_ns=NOW_NS - 30)])
    two = FixedNews([evidence(3, published_ns=NOW_NS - 20), evidence(1, published_ns=NOW_NS - 10)])
    found = search(News([one, two]))
    assert [item.id for item in found] == ["news:1", "news:3", "news:2"]
    assert [item.id for item in search(News([one, two]), limit=1)] == ["news:1"]
    assert search(News([one]), limit=0) == ()


def test_one_failing_source_is_no_failure_all_of_them_are() -> None:
    assert len(search(News([Failing(), FixedNews([evidence(1)])]))) == 1
    assert search(News([Failing(), FixedNews([])])) == []
    with pytest.raises(ForecastFailed, match="newsapi answered 500"):
        search(News([Failing(), Failing()]))
    with pytest.raises(ForecastFailed, match="no news source"):
        search(News([]))


def test_a_leaking_source_leaks_nothing() -> None:
    leak = FixedNews([evidence(1, published_ns=NOW_NS), evidence(2, published_ns=NOW_NS + 1)])
    memory = ListMemory()
    assert search(News([leak], memory=memory)) == []
    assert memory.rows == []


def test_found_articles_are_remembered_once_as_they_were_first() -> None:
    memory = ListMemory([Item(id="news:2", kind=Kind.NEWS, text="first", known_ns=1)])
    news = News([FixedNews([evidence(1), evidence(2)])], memory=memory)
    search(news)
    search(news)
    assert [row.id for row in memory.rows] == ["news:2", "news:1"]
    row = memory.rows[1]
    assert row.kind is Kind.NEWS and row.known_ns == NOW_NS - NS_PER_DAY
    assert row.text == "Bitcoin headline 1. What happened on day 1."
    assert memory.rows[0].text == "first"


def test_a_memory_that_fails_does_not_lose_the_news() -> None:
    class Broken(ListMemory):
        def add(self, items: Sequence[Item]) -> int:
            raise MemoryFailed("the disk is full")

    assert len(search(News([FixedNews([evidence(1)])], memory=Broken()))) == 1


def test_nothing_published_at_the_moment_itself() -> None:
    items = [evidence(1, published_ns=NOW_NS - 1), evidence(2, published_ns=NOW_NS)]
    assert [item.id for item in known_before(items, NOW_NS)] == ["news:1"]
