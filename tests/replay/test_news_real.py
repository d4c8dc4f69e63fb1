"""Real headlines through the news path: none lost to cleaning, none doubled, none from the future."""

import asyncio
import csv
import gzip
from datetime import datetime
from pathlib import Path

import pytest

from fleet.forecasting.articles import article, distinct, known_before, ns_of
from fleet.forecasting.news import News
from fleet.forecasting.port import Evidence
from fleet.forecasting.prompts import build
from fleet.forecasting.wording import news_query, shared
from tests.model_world import FixedNews, question

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def headlines(fleet_data: Path) -> list[Evidence]:
    file = fleet_data / "news" / "ualh_crypto_news_2024" / "headlines_dedup.csv.gz"
    with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 1_185
    found = [
        article(
            source=row["topic"],
            title=row["headline"],
            text="",
            url="",
            published_ns=ns_of(datetime.fromisoformat(row["published"])),
        )
        for row in rows
    ]
    kept = [item for item in found if item is not None]
    assert len(kept) >= len(rows) - 5
    return kept


def test_few_are_doubles_and_all_are_plain(headlines: list[Evidence]) -> None:
    once = distinct(headlines)
    assert 0.95 * len(headlines) <= len(once) <= len(headlines)
    assert all(item.title.isprintable() for item in once)
    assert len({item.id for item in once}) == len(once)


def test_cut_at_any_day_nothing_later_is_told(headlines: list[Evidence]) -> None:
    news = News([FixedNews(headlines)])
    for item in headlines[::150]:
        found = asyncio.run(news.search("x", before_ns=item.published_ns, limit=2_000))
        assert all(one.published_ns < item.published_ns for one in found)
        expected = len(distinct(known_before(headlines, item.published_ns)))
        assert abs(len(found) - expected) <= 5
        prompt = build(question(as_of_ns=item.published_ns), evidence=headlines)
        assert item.id not in prompt.evidence


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ("Will Bitcoin reach $75,000 before the halving?", "bitcoin"),
        ("Will the SEC approve a spot Ethereum ETF by May 2024?", "etf"),
    ],
)
def test_a_question_finds_headlines_about_it(
    headlines: list[Evidence], asked: str, word: str
) -> None:
    query = news_query(asked)
    about = [item for item in headlines if shared(query, item.title) >= 0.4]
    assert 3 <= len(about) < len(headlines) / 3
    assert sum(word in item.title.lower() for item in about) >= len(about) * 0.5
