"""What files become of, row by row, and that nothing counts as known too early."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fleet.clock import NS_PER_DAY
from fleet.forecasting.port import Item, Kind
from fleet.research.memory_sources import Found, SourceError, exported, moment_ns, read

MARKET = {
    "id": "7",
    "conditionId": "0xabc",
    "question": "Will Trump win Pennsylvania?",
    "slug": "trump-pa",
    "outcomes": '["Yes", "No"]',
    "outcomePrices": '["1", "0"]',
    "closed": True,
    "endDate": "2024-11-05T12:00:00Z",
    "closedTime": "2024-11-06 15:19:21+00",
    "events": [{"slug": "pa-2024"}],
}


def ns(text: str) -> int:
    found = moment_ns(text)
    assert found is not None
    return found


def loaded(path: Path, rows: Any) -> Found:
    path.write_text(json.dumps(rows))
    [found] = read(path)
    return found


def test_a_closed_market_is_known_when_the_last_of_it_was(tmp_path: Path) -> None:
    found = loaded(tmp_path / "m.json", [MARKET])
    assert found.items == [
        Item(
            id="0xabc",
            kind=Kind.RESOLVED,
            text="Will Trump win Pennsylvania?",
            known_ns=ns("2024-11-06T15:19:21Z"),
            source="polymarket",
            outcome=1.0,
            facts={"closes": ns("2024-11-05T12:00:00Z"), "event": "pa-2024", "slug": "trump-pa"},
        )
    ]
    assert found.what == "closed markets" and not found.left_out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"closed": "false"}, "not closed"),
        ({"outcomePrices": ["0.5", "0.5"]}, "not settled"),
        ({"outcomePrices": "[]"}, "not settled"),
        ({"outcomePrices": "broken"}, "not settled"),
        ({"outcomes": '["Trump", "Harris"]'}, "outcomes other than Yes and No"),
        ({"endDate": None, "closedTime": "soon"}, "no id, question or moment"),
        ({"conditionId": "", "id": ""}, "no id, question or moment"),
    ],
)
def test_what_tells_no_outcome_is_counted_by_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    found = loaded(tmp_path / "m.json", {"data": [{**MARKET, **change}, MARKET]})
    assert found.left_out == {reason: 1} and len(found.items) == 1


def test_no_is_an_outcome_too(tmp_path: Path) -> None:
    [item] = loaded(tmp_path / "m.json", [{**MARKET, "outcomePrices": ["0.0005", "0.9995"]}]).items
    assert item.outcome == 0.0


def test_quoted_markets_count_as_known_a_day_after_their_last_quote(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    row = {"slug": "a", "question": "A?", "y": 1, "last_ts": "2026-07-10T20:00", "category": "s",
           "bid_24h": 0.4, "ask_24h": 0.5}  # fmt: skip
    pl.DataFrame([row, {**row, "slug": "b", "bid_24h": None}]).write_parquet(path)
    [found] = read(path)
    first, other = found.items
    last = ns("2026-07-10T20:00:00Z")
    assert first.known_ns == other.known_ns == last + NS_PER_DAY
    assert first.price == pytest.approx(0.45) and first.facts["asked"] == last - NS_PER_DAY
    assert other.price is None and other.facts == {}


def test_outcomes_are_known_when_they_were_seen(tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    path.write_text(
        "timestamp,market_slug,question,outcome\n2026-02-03T17:30:55,a,A?,1\n2026-02-03,b,B?,2\n"
    )
    [found] = read(path)
    assert [(one.id, one.known_ns, one.outcome) for one in found.items] == [
        ("a", ns("2026-02-03T17:30:55Z"), 1.0)
    ]
    assert found.left_out == {"resolved to neither YES nor NO": 1}


def test_news_of_several_shapes(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(
        gzip.compress(b"published,headline,topic\n2024-02-23 19:50:21+00:00,Rates rise,economy\n")
    )
    (tmp_path / "b.json").write_text(
        json.dumps(
            {
                "status": "ok",
                "articles": [
                    {
                        "title": "War <b>ends</b>",
                        "description": "At last.",
                        "publishedAt": "2026-01-02T03:04:05Z",
                        "source": {"name": "Courier"},
                        "url": "https://news.example/1?utm_source=x",
                    },
                    {"title": "No date", "publishedAt": None},
                ],
            }
        )
    )
    (tmp_path / "notes.txt").write_text("nothing of ours")
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    first, second, other = read(tmp_path)
    assert (first.items[0].text, first.items[0].category) == ("Rates rise.", "economy")
    [article] = second.items
    assert article.text == "War ends. At last." and article.source == "Courier"
    assert article.known_ns == ns("2026-01-02T03:04:05Z") and article.kind is Kind.NEWS
    assert article.facts["url"] == "https://news.example/1"
    assert second.left_out == {"no title or date": 1}
    assert other.items == [] and other.what == "not understood"


def test_an_export_comes_back_as_it_was(tmp_path: Path) -> None:
    items = [
        Item(id="a", kind=Kind.FORECAST, text="x\u2028y\n", known_ns=-3, outcome=0.0, price=0.25,
             facts={"n": [1, None]}),
        Item(id="b", kind=Kind.NEWS, text="", known_ns=2**62),
    ]  # fmt: skip
    path = tmp_path / "e.jsonl"
    path.write_text(
        "".join(json.dumps(exported(item), ensure_ascii=False) + "\n" for item in items)
    )
    [found] = read(path)
    assert found.items == items


@pytest.mark.parametrize(
    ("name", "content", "cure"),
    [
        ("a.parquet", b"no parquet", "write it again"),
        ("a.json", b"[1, 2]", "expected a list of objects"),
        ("a.json", b"{", "write it again"),
        ("a.jsonl.gz", b"no gzip", "write it again"),
        ("a.json", b"[]", "has no rows"),
        ("a.csv", b"x,y\n1,2\n", "the columns of nothing that can be loaded"),
        ("a.xls", b"x", "convert it"),
        ("a.json", b"[" * 100_000, "write it again"),
    ],
)
def test_bad_files_name_their_cure(tmp_path: Path, name: str, content: bytes, cure: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=cure):
        list(read(path))


def test_missing_and_empty_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="correct the path"):
        list(read(tmp_path / "no"))
    with pytest.raises(SourceError, match="name another folder"):
        list(read(tmp_path))


@pytest.mark.realdata
def test_the_recorded_files_are_understood(fleet_data: Path) -> None:
    def rows(name: str) -> int:
        return sum(len(found.items) for found in read(fleet_data / name))

    assert rows("resolved/forecastbench/market_questions_joined.parquet") == 830
    assert rows("resolved/gamma_elections_2024") == 493
    assert rows("news/ualh_crypto_news_2024") == 1_185
