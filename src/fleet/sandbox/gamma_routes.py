"""Gamma read endpoints (reference 6.1): keyset and offset listings, single objects, tags.

Filters that are not built here (dates, volumes, sports...) are refused with 422 instead of being
ignored: a bot that relies on one must find out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from fleet.sandbox import gamma
from fleet.sandbox.listing import MarketState
from fleet.sandbox.request_reading import ApiError, flag, json_answer, listed, ordered, whole
from fleet.sandbox.simulator import MarketSimulator

LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 100
OLD_LIMIT_MAX: Final = 500
OLD_OFFSET_MAX: Final = 2_100
"""The offset listings answer 422 past about here (reference 6.1)."""
CONDITION_IDS_MAX: Final = 100
SHARED: Final = {
    "limit",
    "offset",
    "after_cursor",
    "closed",
    "active",
    "archived",
    "order",
    "ascending",
    "id",
    "slug",
    "version",
    "include_tag",
    "tag_id",
    "tag_slug",
    "related_tags",
}
MARKET_FILTERS: Final = SHARED | {"condition_ids", "clob_token_ids", "question_ids"}
# ``negRisk`` is accepted and ignored on events, as at the venue: filter locally.
EVENT_FILTERS: Final = SHARED | {"negRisk", "neg_risk", "featured", "live", "title_search"}
Row = dict[str, Any]


class GammaRoutes:
    """Handlers of one simulator."""

    def __init__(self, simulator: MarketSimulator) -> None:
        """Answer from ``simulator``."""
        self._listings = simulator.listings

    def add_to(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Register every route under ``prefix``."""
        markets, events = self._markets, self._events
        router.add_get(f"{prefix}/markets/keyset", _keyset("markets", markets))
        router.add_get(f"{prefix}/events/keyset", _keyset("events", events))
        router.add_get(f"{prefix}/markets", _by_offset(markets))
        router.add_get(f"{prefix}/events", _by_offset(events))
        router.add_get(f"{prefix}/markets/slug/{{slug}}", self._market("slug"))
        router.add_get(f"{prefix}/markets/{{id}}", self._market("id"))
        router.add_get(f"{prefix}/events/slug/{{slug}}", self._event("slug"))
        router.add_get(f"{prefix}/events/{{id}}", self._event("id"))
        router.add_get(f"{prefix}/tags", self._tags)

    def _markets(self, request: web.Request) -> list[Row]:
        """Market rows that pass the filters, in listing order or the order asked for."""
        query = request.query
        _refuse_unknown(request, MARKET_FILTERS)
        conditions = listed(request, "condition_ids")
        if len(conditions) > CONDITION_IDS_MAX:
            raise ApiError(422, f"condition_ids takes at most {CONDITION_IDS_MAX}")
        tokens = listed(request, "clob_token_ids")
        ids, slugs = listed(request, "id"), listed(request, "slug")
        questions = listed(request, "question_ids")
        closed = flag(query, "closed") or False
        found = [
            m
            for m in self._listings.markets
            if m.closed is closed
            and (not conditions or m.spec.condition_id in conditions)
            and (not tokens or any(t in tokens for t in m.spec.tokens))
            and (not ids or m.spec.id in ids)
            and (not slugs or m.spec.slug in slugs)
            and (not questions or m.spec.question_id in questions)
            and _has_tag(request, m.spec.category)
        ]
        if flag(query, "active") is False or flag(query, "archived") or not _version(request):
            found = []
        rows = [gamma.market_object(m) for m in found]
        if flag(query, "include_tag"):
            for row, market in zip(rows, found, strict=True):
                row["tags"] = [t for t in gamma.TAGS if t["slug"] == market.spec.category]
        return _in_order(request, rows)

    def _events(self, request: web.Request) -> list[Row]:
        """Event rows that pass the filters."""
        query = request.query
        _refuse_unknown(request, EVENT_FILTERS)
        ids, slugs = listed(request, "id"), listed(request, "slug")
        closed = flag(query, "closed") or False
        words = query.get("title_search", "").lower()
        found = [
            g
            for g in self._listings.groups.values()
            if all(m.closed for m in g.markets) is closed
            and (not ids or g.event.id in ids)
            and (not slugs or g.event.slug in slugs)
            and words in g.event.title.lower()
            and _has_tag(request, g.event.category)
        ]
        hidden = flag(query, "archived") or flag(query, "featured") or flag(query, "live")
        if flag(query, "active") is False or hidden or not _version(request):
            found = []
        return _in_order(request, [gamma.event_object(g) for g in found])

    def _market(self, key: str) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            wanted = request.match_info[key]
            for market in self._listings.markets:
                if getattr(market.spec, key) == wanted:
                    return json_answer(self._tagged(market))
            raise _not_found(key, wanted)

        return handler

    def _event(self, key: str) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            wanted = request.match_info[key]
            for group in self._listings.groups.values():
                if getattr(group.event, key) == wanted:
                    return json_answer(gamma.event_object(group))
            raise _not_found(key, wanted)

        return handler

    @staticmethod
    def _tagged(market: MarketState) -> Row:
        tags = [t for t in gamma.TAGS if t["slug"] == market.spec.category]
        return {**gamma.market_object(market), "tags": tags}

    async def _tags(self, request: web.Request) -> web.Response:
        limit = whole(request.query, "limit", LIMIT_MAX, low=1, high=OLD_LIMIT_MAX)
        offset = whole(request.query, "offset", 0, low=0, high=OLD_OFFSET_MAX)
        return json_answer(gamma.TAGS[offset : offset + limit])


def _keyset(key: str, rows_of: Callable[[web.Request], list[Row]]) -> Callable[[web.Request], Any]:
    """Pages by cursor: ``next_cursor`` names the last row sent and is absent on the last page."""

    async def handler(request: web.Request) -> web.Response:
        if "offset" in request.query:
            raise ApiError(422, "offset is not supported here: use after_cursor")
        limit = whole(request.query, "limit", LIMIT_DEFAULT, low=1, high=LIMIT_MAX)
        rows = rows_of(request)
        after = request.query.get("after_cursor")
        if after:
            last = _cursor_id(after)
            places = [i for i, row in enumerate(rows) if row["id"] == last]
            if not places:
                raise ApiError(422, "after_cursor names nothing in this listing: start again")
            rows = rows[places[0] + 1 :]
        answer: Row = {key: rows[:limit]}
        if len(rows) > limit:
            answer["next_cursor"] = base64.urlsafe_b64encode(
                rows[limit - 1]["id"].encode()
            ).decode()
        return json_answer(answer)

    return handler


def _by_offset(rows_of: Callable[[web.Request], list[Row]]) -> Callable[[web.Request], Any]:
    """The older listings: a bare array."""

    async def handler(request: web.Request) -> web.Response:
        limit = whole(request.query, "limit", LIMIT_DEFAULT, low=0, high=OLD_LIMIT_MAX)
        offset = whole(request.query, "offset", 0, low=0, high=OLD_OFFSET_MAX)
        return json_answer(rows_of(request)[offset : offset + limit])

    return handler


def _cursor_id(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor).decode()
    except (binascii.Error, ValueError):
        raise ApiError(422, "after_cursor is not valid") from None


def _refuse_unknown(request: web.Request, known: set[str]) -> None:
    unknown = sorted(set(request.query) - known)
    if unknown:
        raise ApiError(422, f"the sandbox does not filter by {', '.join(unknown)}")


def _has_tag(request: web.Request, category: str) -> bool:
    slug, number = request.query.get("tag_slug"), request.query.get("tag_id")
    tag = next(t for t in gamma.TAGS if t["slug"] == category)
    return (slug is None or slug == tag["slug"]) and (number is None or number == tag["id"])


def _version(request: web.Request) -> bool:
    """Every market here is of protocol v1."""
    wanted = listed(request, "version")
    return not wanted or "v1" in wanted


def _in_order(request: web.Request, rows: list[Row]) -> list[Row]:
    key = request.query.get("order")
    return ordered(rows, key, rising=flag(request.query, "ascending") or False) if key else rows


def _not_found(key: str, wanted: str) -> ApiError:
    if key == "id" and not wanted.isdigit():
        return ApiError(422, "id is invalid")
    return ApiError(404, f"{key} not found")
