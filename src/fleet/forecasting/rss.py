"""News by RSS and Atom feeds: asked politely, parsed by feedparser, searched by their words.

A feed is asked at most once an interval, with the ``ETag`` and ``Last-Modified`` of the last time,
so most answers are an empty 304. A feed that fails keeps serving its last answer for 24 hours; a
search fails only if no feed has anything to serve. Feeds that define entities are refused: they
are for attacks.
"""

from __future__ import annotations

import asyncio
import calendar
import time
from collections.abc import Sequence
from typing import Any, Final

from fleet import logs
from fleet.clock import NS_PER_DAY, NS_PER_SECOND, Clock
from fleet.forecasting.articles import article, distinct, known_before
from fleet.forecasting.news_cache import Cached, NewsCache
from fleet.forecasting.port import Evidence, ForecastFailed
from fleet.forecasting.web import FetchFailed, fetch
from fleet.forecasting.wording import shared
from fleet.journal.database import JournalError

STALE_NS_MAX: Final = NS_PER_DAY
ENTRIES_MAX: Final = 200
SHARED_MIN: Final = 0.4
"""An article is about a query if it has two of five of its words."""
FIELD_MAX: Final = 20_000


class Rss:
    """A ``NewsSource`` over some feeds. Belongs to the thread that uses it, as its cache does."""

    def __init__(
        self, feeds: Sequence[str], cache: NewsCache, clock: Clock, *, fresh_ns: int
    ) -> None:
        """Feeds asked less than ``fresh_ns`` ago are not asked again."""
        self._feeds = tuple(feeds)
        self._cache = cache
        self._clock = clock
        self._fresh_ns = fresh_ns
        self._log = logs.get("news")

    async def search(self, query: str, *, before_ns: int, limit: int = 5) -> Sequence[Evidence]:
        """The newest articles that share words with the query. Raises ``ForecastFailed``."""
        if limit < 1:
            return ()
        answers = await asyncio.gather(*(self._feed(url) for url in self._feeds))
        reasons = [answer for answer in answers if isinstance(answer, str)]
        if len(reasons) == len(answers):
            raise ForecastFailed("; ".join(reasons) or "no feed is set (POLYAI_NEWS_FEEDS)")
        for reason in reasons:
            self._log.warning("FEED FAILED", reason=reason)
        found = [item for answer in answers if not isinstance(answer, str) for item in answer]
        about = [i for i in found if shared(query, f"{i.title} {i.text}") >= SHARED_MIN]
        return known_before(distinct(about), before_ns)[:limit]

    async def _feed(self, url: str) -> Sequence[Evidence] | str:
        """A feed's articles, or in words why there are none to be had."""
        try:
            return await self._articles(url)
        except (FetchFailed, JournalError) as error:
            return str(error)

    async def _articles(self, url: str) -> Sequence[Evidence]:
        now_ns = self._clock.now_ns()
        key = f"rss:{url}"
        cached = self._cache.answer(key)
        if cached is not None and now_ns - cached.fetched_ns < self._fresh_ns:
            return cached.articles
        try:
            cached = await self._ask(url, cached, now_ns)
        except FetchFailed as error:
            if cached is None or now_ns - cached.fetched_ns > STALE_NS_MAX:
                raise
            self._log.warning("FEED FAILED", reason=str(error), serving="its last answer")
            return cached.articles
        self._cache.keep(key, cached)
        return cached.articles

    async def _ask(self, url: str, cached: Cached | None, now_ns: int) -> Cached:
        headers = {
            "Accept": "application/rss+xml, application/atom+xml, application/xml, */*;q=0.5"
        }
        if cached is not None and cached.etag:
            headers["If-None-Match"] = cached.etag
        if cached is not None and cached.modified:
            headers["If-Modified-Since"] = cached.modified
        answer = await fetch(url, headers=headers)
        if answer.status == 304 and cached is not None:
            return Cached(
                fetched_ns=now_ns,
                articles=cached.articles,
                etag=cached.etag,
                modified=cached.modified,
            )
        if answer.status != 200:
            raise FetchFailed(f"{url} answered {answer.status}")
        articles = await asyncio.to_thread(read_feed, answer.body, url)
        return Cached(
            fetched_ns=now_ns,
            articles=articles,
            etag=answer.headers.get("etag", "")[:200],
            modified=answer.headers.get("last-modified", "")[:100],
        )


def read_feed(body: bytes, url: str) -> list[Evidence]:
    """The dated articles of a feed. Raises ``FetchFailed`` for what is no feed."""
    if b"<!entity" in body.replace(b"\x00", b"").lower():
        raise FetchFailed(f"{url} defines entities; it is not read")
    import feedparser

    feed = feedparser.parse(body, sanitize_html=False, resolve_relative_uris=False)
    entries = feed.get("entries") or []
    if not entries and not feed.get("version"):
        raise FetchFailed(f"{url} is no feed")
    publisher = str(feed.get("feed", {}).get("title") or url)
    found = (_article(entry, publisher) for entry in entries[:ENTRIES_MAX])
    return [item for item in found if item is not None]


def _article(entry: Any, publisher: str) -> Evidence | None:
    texts = [entry.get("summary")]
    texts += [content.get("value") for content in entry.get("content") or ()]
    return article(
        source=publisher,
        title=str(entry.get("title") or "")[:FIELD_MAX],
        text=str(next((text for text in texts if text), ""))[:FIELD_MAX],
        url=str(entry.get("link") or ""),
        published_ns=_latest(entry),
    )


def _latest(entry: Any) -> int | None:
    """The later of publication and change; ``None`` without either. feedparser gives UTC."""
    known: list[int] = []
    for name in ("published_parsed", "updated_parsed"):
        # Asked as a plain mapping: feedparser's own lookup takes the one for the other.
        when: time.struct_time | None = dict.get(entry, name)
        if when is not None:
            try:
                known.append(calendar.timegm(when) * NS_PER_SECOND)
            except (ValueError, OverflowError):
                return None
    return max(known) if known else None
