"""CLOB read endpoints (reference 4.2) over the listed markets.

A token without a book answers 404 with the venue's words. Paths of the venue that nothing stands
behind here (rewards, builders, RFQ, read-only keys) answer 501 with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE
from fleet.sandbox import clob
from fleet.sandbox.listing import MarketState
from fleet.sandbox.market_frames import BASE_FEE, book_object
from fleet.sandbox.request_reading import (
    CURSOR_END,
    ApiError,
    cursor_of,
    cursor_offset,
    json_answer,
    token_batch,
)
from fleet.sandbox.simulator import MarketSimulator
from fleet.sandbox.universe import FEE_RATES

NO_BOOK: Final = "No orderbook exists for the requested token id"
INTERVALS_S: Final = {
    "1m": 30 * 86_400,
    "1w": 7 * 86_400,
    "1d": 86_400,
    "6h": 21_600,
    "1h": 3_600,
}
NOT_BUILT: Final = "the sandbox has no rewards, builders, requests for quote or read-only keys"
NOT_BUILT_PATHS: Final = (
    "/auth/readonly-api-key",
    "/auth/readonly-api-keys",
    "/auth/builder-api-key",
    "/markets/live-activity/{condition_id}",
    "/fees/{rest:.*}",
    "/rewards/{rest:.*}",
    "/rebates/{rest:.*}",
    "/builder/trades",
    "/rfq/{rest:.*}",
)
View = Callable[[MarketState], dict[str, Any]]


class ClobRoutes:
    """Handlers of one simulator; ``now_ns`` tells the time of the answers."""

    def __init__(
        self, simulator: MarketSimulator, now_ns: Callable[[], int], *, page_size: int
    ) -> None:
        """Answer from ``simulator``; listings come in pages of ``page_size``."""
        self._listings = simulator.listings
        self._now_ns = now_ns
        self._page_size = page_size

    def add_to(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Register every route under ``prefix``."""
        gets = {
            "/": self._ok,
            "/ok": self._ok,
            "/time": self._time,
            "/version": self._version,
            "/markets": self._page(clob.market_object),
            "/sampling-markets": self._page(clob.market_object),
            "/simplified-markets": self._page(clob.simplified_market),
            "/sampling-simplified-markets": self._page(clob.simplified_market),
            "/markets/{condition_id}": self._one(clob.market_object),
            "/clob-markets/{condition_id}": self._one(clob.compact_market),
            "/markets-by-token/{token_id}": self._by_token,
            "/book": self._book,
            "/price": self._price,
            "/midpoint": self._midpoint,
            "/spread": self._spread,
            "/last-trade-price": self._last_trade,
            "/tick-size": self._tick_size,
            "/neg-risk": self._neg_risk,
            "/fee-rate": self._fee_rate,
            "/prices-history": self._history,
        }
        posts = {
            "/books": self._books,
            "/prices": self._prices,
            "/midpoints": self._midpoints,
            "/spreads": self._spreads,
            "/last-trades-prices": self._last_trades,
        }
        for path, handler in gets.items():
            router.add_get(prefix + path, handler)
        for path, handler in posts.items():
            router.add_post(prefix + path, handler)
        for path in NOT_BUILT_PATHS:
            router.add_route("*", prefix + path, not_built)

    def _token(self, request: web.Request, name: str = "token_id") -> tuple[MarketState, int]:
        token = request.query.get(name, "")
        if not token:
            raise ApiError(400, f"{name} is required")
        found = self._listings.by_token.get(token)
        if found is None or found[0].closed:
            raise ApiError(404, NO_BOOK)
        return found

    async def _batch(self, request: web.Request) -> list[tuple[str, str, MarketState, int]]:
        """The tokens of a batch that have a book, with the side asked for; others are left out."""
        found = []
        for entry in await token_batch(request):
            listed = self._listings.by_token.get(entry.token_id)
            if listed is not None and not listed[0].closed:
                found.append((entry.token_id, entry.side, *listed))
        return found

    async def _ok(self, _: web.Request) -> web.Response:
        return json_answer("OK")

    async def _time(self, _: web.Request) -> web.Response:
        return json_answer(self._now_ns() // NS_PER_SECOND)

    async def _version(self, _: web.Request) -> web.Response:
        return json_answer({"version": 2})

    def _page(self, view: View) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            markets = self._listings.markets
            offset = cursor_offset(request.query.get("next_cursor", ""))
            page = [] if offset is None else markets[offset : offset + self._page_size]
            after = (offset or 0) + len(page)
            more = offset is not None and after < len(markets)
            return json_answer(
                {
                    "limit": self._page_size,
                    "count": len(page),
                    "next_cursor": cursor_of(after) if more else CURSOR_END,
                    "data": [view(m) for m in page],
                }
            )

        return handler

    def _one(self, view: View) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            market = self._listings.by_condition.get(request.match_info["condition_id"])
            if market is None:
                raise ApiError(404, "market not found")
            return json_answer(view(market))

        return handler

    async def _by_token(self, request: web.Request) -> web.Response:
        found = self._listings.by_token.get(request.match_info["token_id"])
        if found is None:
            raise ApiError(404, "market not found")
        spec = found[0].spec
        return json_answer(
            {
                "condition_id": spec.condition_id,
                "primary_token_id": spec.tokens[0],
                "secondary_token_id": spec.tokens[1],
            }
        )

    async def _book(self, request: web.Request) -> web.Response:
        return json_answer(book_object(*self._token(request)))

    async def _books(self, request: web.Request) -> web.Response:
        return json_answer([book_object(m, o) for _, _, m, o in await self._batch(request)])

    async def _price(self, request: web.Request) -> web.Response:
        market, outcome = self._token(request)
        buy = _side(request.query.get("side", ""))
        return json_answer({"price": _offered(clob.price_text(market, outcome, buy=buy))})

    async def _prices(self, request: web.Request) -> web.Response:
        answer: dict[str, dict[str, str]] = {}
        for token, side, market, outcome in await self._batch(request):
            price = clob.price_text(market, outcome, buy=_side(side))
            if price is not None:
                answer.setdefault(token, {})[side.upper()] = price
        return json_answer(answer)

    async def _midpoint(self, request: web.Request) -> web.Response:
        return json_answer({"mid": _offered(clob.midpoint_text(*self._token(request)))})

    async def _midpoints(self, request: web.Request) -> web.Response:
        found = {t: clob.midpoint_text(m, o) for t, _, m, o in await self._batch(request)}
        return json_answer({t: text for t, text in found.items() if text is not None})

    async def _spread(self, request: web.Request) -> web.Response:
        return json_answer({"spread": _offered(clob.spread_text(*self._token(request)))})

    async def _spreads(self, request: web.Request) -> web.Response:
        found = {t: clob.spread_text(m, o) for t, _, m, o in await self._batch(request)}
        return json_answer({t: text for t, text in found.items() if text is not None})

    async def _last_trade(self, request: web.Request) -> web.Response:
        return json_answer(clob.last_trade(*self._token(request)))

    async def _last_trades(self, request: web.Request) -> web.Response:
        return json_answer(
            [
                {"token_id": token, **clob.last_trade(market, outcome)}
                for token, _, market, outcome in await self._batch(request)
            ]
        )

    async def _tick_size(self, request: web.Request) -> web.Response:
        market, _ = self._token(request)
        return json_answer({"minimum_tick_size": market.tick / SCALE})

    async def _neg_risk(self, request: web.Request) -> web.Response:
        market, _ = self._token(request)
        return json_answer({"neg_risk": market.spec.neg_risk})

    async def _fee_rate(self, request: web.Request) -> web.Response:
        market, _ = self._token(request)
        return json_answer({"base_fee": BASE_FEE if FEE_RATES[market.spec.category] else 0})

    async def _history(self, request: web.Request) -> web.Response:
        """``market`` is a token id here; the window is an interval or two times, never both."""
        query = request.query
        found = self._listings.by_token.get(query.get("market", ""))
        if found is None:
            raise ApiError(404, NO_BOOK)
        now_ns = self._now_ns()
        now_s = now_ns // NS_PER_SECOND
        interval = query.get("interval")
        if interval in {"max", "all"}:
            start_s, end_s = 0, now_s
        elif interval is not None:
            if interval not in INTERVALS_S:
                raise ApiError(
                    400, f"invalid interval: use one of max, all, {', '.join(INTERVALS_S)}"
                )
            start_s, end_s = now_s - INTERVALS_S[interval], now_s
        else:
            start_s, end_s = _whole(query.get("startTs")), _whole(query.get("endTs", str(now_s)))
        fidelity = _whole(query.get("fidelity", "1"))
        return json_answer(
            clob.price_history(
                *found, start_s=start_s, end_s=end_s, fidelity_min=max(1, fidelity), now_ns=now_ns
            )
        )


async def not_built(_: web.Request) -> web.Response:
    """The answer of every path of the venue that has nothing behind it here."""
    return json_answer({"error": NOT_BUILT, "code": "not_built"}, status=501)


def _side(text: str) -> bool:
    if text.upper() not in {"BUY", "SELL"}:
        raise ApiError(400, "Invalid side")
    return text.upper() == "BUY"


def _offered(text: str | None) -> str:
    if text is None:
        raise ApiError(404, "No orders on that side of the book")
    return text


def _whole(text: str | None) -> int:
    if text is None:
        raise ApiError(400, "give interval, or startTs and endTs")
    try:
        return int(text)
    except ValueError:
        raise ApiError(400, f"not a whole number: {text}") from None
