"""Nothing from after a question's moment reaches a forecast; no budget is ever exceeded."""

import asyncio
import json
import tempfile
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import Cash
from fleet.forecasting.articles import article, distinct
from fleet.forecasting.news import News
from fleet.forecasting.port import Evidence
from fleet.forecasting.prompts import build
from fleet.forecasting.rss import read_feed
from fleet.forecasting.usage import Ask, Outcome, Settled, UsageLedger
from tests.model_world import NOW_NS, FixedNews, ListMemory, question

NEAR = st.integers(-3, 3) | st.integers(-(10**18), 10**18)
TITLES = st.sampled_from(["Fed holds", "FED holds!", "Rain", "Fed holds - Courier", ""]) | st.text()
ARTICLES = st.lists(
    st.builds(
        article,
        source=st.text(max_size=5),
        title=TITLES,
        text=st.text(max_size=20),
        url=st.sampled_from(["", "https://a.example/1", "https://a.example/1?utm_source=x", "x"]),
        published_ns=st.none() | NEAR.map(lambda offset: NOW_NS + offset),
    ),
    max_size=8,
).map(lambda found: [item for item in found if item is not None])


@given(sources=st.lists(ARTICLES, min_size=1, max_size=3), limit=st.integers(0, 6))
def test_news_never_leak(sources: list[list[Evidence]], limit: int) -> None:
    memory = ListMemory()
    news = News([FixedNews(found) for found in sources], memory=memory)
    found = asyncio.run(news.search("fed", before_ns=NOW_NS, limit=limit))
    assert all(item.published_ns < NOW_NS for item in found)
    assert all(row.known_ns < NOW_NS for row in memory.rows)
    assert len(found) <= limit
    assert len({item.id for item in found}) == len(found)
    assert [item.published_ns for item in found] == sorted(
        (item.published_ns for item in found), reverse=True
    )


@given(found=ARTICLES)
def test_prompts_never_leak(found: list[Evidence]) -> None:
    prompt = build(question(), evidence=found)
    told = json.loads(prompt.messages[1][1].split("\n")[1])
    known = [item.id for item in found if item.published_ns < NOW_NS]
    assert list(prompt.evidence) == known
    assert len(told["news"]) == len(known)


@given(found=ARTICLES, extra=ARTICLES)
def test_what_is_known_twice_is_told_once(found: list[Evidence], extra: list[Evidence]) -> None:
    once = distinct(found)
    assert distinct(once) == once
    assert distinct([*found, *found]) == once
    assert {item.id for item in once} <= {item.id for item in found}
    earliest = {item.id: item.published_ns for item in distinct([*found, *extra])}
    for item in once:
        assert earliest.get(item.id, item.published_ns) <= item.published_ns


@given(offsets=st.lists(st.integers(-5, 5), min_size=1, max_size=6), hours=st.integers(-12, 12))
def test_feeds_are_dated_in_utc_whatever_zone_they_write(offsets: list[int], hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    base_s = NOW_NS // NS_PER_SECOND
    items = "".join(
        f"<item><title>Title {n}</title><pubDate>"
        f"{format_datetime(datetime.fromtimestamp(base_s + offset, tz=UTC).astimezone(zone))}"
        f"</pubDate></item>"
        for n, offset in enumerate(offsets)
    )
    body = f'<rss version="2.0"><channel><title>T</title>{items}</channel></rss>'.encode()
    assert [item.published_ns for item in read_feed(body, "u")] == [
        (base_s + offset) * NS_PER_SECOND for offset in offsets
    ]


STEPS = st.lists(
    st.tuples(
        st.integers(0, 40),  # The worst case of each ask.
        st.integers(1, 3),  # How many at once.
        st.sampled_from(["a", "b"]),  # The question.
        st.none() | st.integers(0, 40),  # What they cost, if it gets known.
        st.booleans(),  # Whether the process is restarted.
    ),
    max_size=25,
)


@settings(max_examples=25)
@given(steps=STEPS)
def test_a_budget_is_never_exceeded_while_calls_keep_to_their_worst_case(steps: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "u.sqlite"
        ledger = UsageLedger(path)
        spent = {"a": 0, "b": 0}
        for worst, number, name, cost, restart in steps:  # type: ignore[attr-defined] # the list
            ask = Ask(question=name, forecaster="f", model="m", prompt="p", worst=Cash(worst))
            held = ledger.hold(
                [ask] * number, now_ns=NOW_NS, day_max=Cash(150), question_max=Cash(100)
            )
            fits = spent[name] + worst * number <= 100
            fits = fits and sum(spent.values()) + worst * number <= 150
            assert isinstance(held, list) is fits
            if isinstance(held, list):
                for attempt in held:
                    final = worst if cost is None else min(cost, worst)
                    known = None if cost is None else Cash(final)
                    ledger.settle(attempt, Settled(outcome=Outcome.GOOD, cost=known))
                    spent[name] += final
            if restart:
                ledger.close()
                ledger = UsageLedger(path)
            assert ledger.spent(NOW_NS) == sum(spent.values()) <= 150
            assert ledger.spent(NOW_NS, "a") == spent["a"] <= 100
        ledger.close()
