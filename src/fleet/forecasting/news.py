"""All news sources as one: merged, each article once, newest first, nothing from after the moment.

The moment is checked here again, whatever a source answered. What is found is also put into the
retrieval memory, if there is one, under the article's own id.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from fleet import logs
from fleet.forecasting.articles import distinct, known_before
from fleet.forecasting.port import (
    Evidence,
    ForecastFailed,
    Item,
    Kind,
    Memory,
    MemoryFailed,
    NewsSource,
)

REMEMBERED_MAX: Final = 10_000
"""Ids of articles that are known to be in the memory, so as not to ask it each time."""


class News:
    """A ``NewsSource`` made of several."""

    def __init__(self, sources: Sequence[NewsSource], *, memory: Memory | None = None) -> None:
        """Ask ``sources`` side by side; found articles go to ``memory``."""
        self._sources = tuple(sources)
        self._memory = memory
        self._remembered: OrderedDict[str, None] = OrderedDict()
        self._log = logs.get("news")

    async def search(self, query: str, *, before_ns: int, limit: int = 5) -> Sequence[Evidence]:
        """What any source found. Raises ``ForecastFailed`` if none of them could be asked."""
        if limit < 1:
            return ()
        answers = await asyncio.gather(
            *(self._ask(source, query, before_ns, limit) for source in self._sources)
        )
        reasons = [answer for answer in answers if isinstance(answer, str)]
        if len(reasons) == len(answers):
            raise ForecastFailed("; ".join(reasons) or "no news source is set")
        for reason in reasons:
            self._log.warning("NEWS SOURCE FAILED", reason=reason)
        found = [item for answer in answers if not isinstance(answer, str) for item in answer]
        best = known_before(distinct(found), before_ns)[:limit]
        self._remember(best)
        return best

    async def _ask(
        self, source: NewsSource, query: str, before_ns: int, limit: int
    ) -> Sequence[Evidence] | str:
        try:
            return await source.search(query, before_ns=before_ns, limit=limit)
        except ForecastFailed as error:
            return str(error)

    def _remember(self, found: Sequence[Evidence]) -> None:
        if self._memory is None:
            return
        unseen = [item for item in found if item.id not in self._remembered]
        try:
            # What is there already stays: it is what was known first.
            fresh = [i for i in unseen if self._memory.get(Kind.NEWS, i.id) is None]
            if fresh:
                self._memory.add([_row(item) for item in fresh])
        except MemoryFailed as error:
            self._log.warning("NEWS NOT REMEMBERED", reason=str(error))
            return
        self._remembered.update(dict.fromkeys(item.id for item in unseen))
        while len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)


def _row(item: Evidence) -> Item:
    return Item(
        id=item.id,
        kind=Kind.NEWS,
        text=f"{item.title}. {item.text}".strip(),
        known_ns=item.published_ns,
        source=item.source,
        facts={"title": item.title, "url": item.url},
    )
