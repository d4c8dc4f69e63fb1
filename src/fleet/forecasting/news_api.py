"""News by NewsAPI (newsapi.org, ``/v2/everything``), within its free plan's 100 requests a day.

Every request is counted before it is made, in a file that outlives the process. What was asked
within the last interval is not asked again; when no request may be made or none succeeds, an
answer of the last 24 hours still serves, because dated evidence does not become wrong. Only when
there is none does a search fail: that it found nothing would be a lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from fleet.clock import NS_PER_DAY, NS_PER_SECOND, Clock
from fleet.config import Secret
from fleet.forecasting.articles import article, distinct, iso_ns, known_before
from fleet.forecasting.endpoint import retry_after_s
from fleet.forecasting.news_cache import Cached, NewsCache
from fleet.forecasting.port import Evidence, ForecastFailed
from fleet.forecasting.web import Fetched, FetchFailed, fetch
from fleet.forecasting.wording import plain, words
from fleet.journal.database import JournalError

NAME: Final = "newsapi"
DAY_REQUESTS_MAX: Final = 100
"""The free plan's (newsapi.org/pricing, 2026); the issue asks for no more."""
PAGE_SIZE: Final = 50
QUERY_WORDS_MAX: Final = 3
"""All words must stand in an article; with more of them next to nothing is found."""
PAUSE_S: Final = 3_600.0
STALE_NS_MAX: Final = NS_PER_DAY


class _Publisher(msgspec.Struct):
    name: str | None = None


class _Article(msgspec.Struct, rename="camel"):
    title: str | None = None
    description: str | None = None
    content: str | None = None
    url: str | None = None
    published_at: str | None = None
    source: _Publisher | None = None


class _Answer(msgspec.Struct):
    status: str = ""
    code: str = ""
    message: str = ""
    articles: list[msgspec.Raw] = []


class NewsApi:
    """A ``NewsSource``. Belongs to the thread that uses it, as its cache does."""

    def __init__(
        self, key: Secret, cache: NewsCache, clock: Clock, *, base_url: str, fresh_ns: int
    ) -> None:
        """Answers younger than ``fresh_ns`` are not asked for again."""
        self._key = key
        self._cache = cache
        self._clock = clock
        self._base_url = base_url
        self._fresh_ns = fresh_ns

    async def search(self, query: str, *, before_ns: int, limit: int = 5) -> Sequence[Evidence]:
        """The newest articles with the query's first words. Raises ``ForecastFailed``."""
        wanted = words(query)[:QUERY_WORDS_MAX]
        if not wanted or limit < 1:
            return ()
        try:
            found = await self._articles(wanted, before_ns)
        except JournalError as error:
            raise ForecastFailed(f"the news cache: {error}") from error
        return known_before(distinct(found), before_ns)[:limit]

    async def _articles(self, wanted: Sequence[str], before_ns: int) -> Sequence[Evidence]:
        now_ns = self._clock.now_ns()
        # Of now, the newest are asked for; of the past, the newest of then.
        past = before_ns if now_ns - before_ns > self._fresh_ns else None
        key = f"{NAME}:{' '.join(wanted)}:{past or ''}"
        cached = self._cache.answer(key)
        if cached is not None and now_ns - cached.fetched_ns < self._fresh_ns:
            return cached.articles
        try:
            articles = await self._ask(wanted, past, now_ns)
        except ForecastFailed:
            if cached is None or now_ns - cached.fetched_ns > STALE_NS_MAX:
                raise
            return cached.articles
        self._cache.keep(key, Cached(fetched_ns=now_ns, articles=articles))
        return articles

    async def _ask(
        self, wanted: Sequence[str], past: int | None, now_ns: int
    ) -> Sequence[Evidence]:
        refused = self._cache.take(NAME, now_ns, day_max=DAY_REQUESTS_MAX)
        if refused:
            raise ForecastFailed(refused)
        params = {
            "q": " AND ".join(f'"{word}"' for word in wanted),
            "language": "en",
            "sortBy": "publishedAt",
            "pageSize": str(PAGE_SIZE),
        }
        if past is not None:
            moment = datetime.fromtimestamp(past // NS_PER_SECOND, tz=UTC)
            params["to"] = moment.strftime("%Y-%m-%dT%H:%M:%S")
        try:
            # Not redirected: the key goes to this host alone.
            answer = await fetch(
                f"{self._base_url}/v2/everything",
                headers={"X-Api-Key": self._key.reveal()},
                params=params,
                redirects=False,
            )
        except FetchFailed as error:
            raise ForecastFailed(f"{NAME}: {error}") from None
        return self._read(answer, now_ns)

    def _read(self, answer: Fetched, now_ns: int) -> Sequence[Evidence]:
        try:
            frame = msgspec.json.decode(answer.body, type=_Answer)
        except (msgspec.MsgspecError, RecursionError):
            frame = _Answer(status="error", message="its answer is not what it documents")
        if answer.status == 429:
            wait_s = retry_after_s(answer.headers, now_ns / NS_PER_SECOND) or PAUSE_S
            self._cache.pause(NAME, now_ns + int(min(wait_s, 86_400.0) * NS_PER_SECOND))
        if answer.status != 200 or frame.status != "ok":
            said = f"{frame.code} {frame.message}".replace(self._key.reveal() or "\0", "***")
            cure = _CURES.get(answer.status, "")
            raise ForecastFailed(f"{NAME} answered {answer.status}: {plain(said, 200)}{cure}")
        return [item for raw in frame.articles if (item := _article(bytes(raw))) is not None]


_CURES: Final = {
    401: "; check NEWSAPI_KEY",
    426: "; this plan does not allow the request (too far back, or too many results)",
}


def _article(raw: bytes) -> Evidence | None:
    try:
        frame = msgspec.json.decode(raw, type=_Article)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return article(
        source=(frame.source.name if frame.source else None) or NAME,
        title=frame.title or "",
        text=frame.description or frame.content or "",
        url=frame.url or "",
        published_ns=iso_ns(frame.published_at or ""),
    )
