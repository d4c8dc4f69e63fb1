"""Where candles are downloaded from: any exchange ccxt knows, and Alpaca's stock bars.

A source answers one question: the bars that opened from a moment on, a page at a time. It keeps to
the venue's rate limit and turns every failure into one of two: ``SourceUnreachable`` (worth another
try) and ``CandlesError`` (it is not; the text names the cure). It never judges bars.

ccxt's own ``paginate`` is not used: with a ``since`` in the past it starts near now instead
(ccxt 4.5.90, tried). alpaca-py has no time-out anywhere; its session gets one here, and it runs in
a thread because it blocks.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import urlsplit

from fleet.research.candle_files import plain_symbol
from fleet.research.candle_rows import Rows
from fleet.research.intervals import SECOND, UNITS, CandlesError, format_interval

MS: Final = 1_000_000
TIMEOUT_S: Final = 20.0
CCXT_PAGE: Final = 1_000
"""Bars a page where an exchange does not tell its own limit; Binance's spot limit (2026-11)."""
ALPACA_PAGE: Final = 10_000
"""Alpaca's limit of bars a request (Market Data API reference, 2026-11)."""
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_ALPACA_UNITS: Final = {"m": "Minute", "h": "Hour", "d": "Day", "w": "Week"}


class SourceUnreachable(Exception):  # noqa: N818 - named for what happened
    """The venue did not answer, or asked for patience: another try may help."""


class Source(Protocol):
    """What the download asks of a venue."""

    exchange: str
    """Its name in capitals, as in instrument ids."""

    async def page(self, symbol: str, interval_ns: int, start_ns: int, end_ns: int) -> Rows:
        """The first bars that opened from ``start_ns`` on, as many as fit a page.

        It may tell bars from ``end_ns`` on too: then there is nothing more before them. Raises
        ``SourceUnreachable`` or ``CandlesError``.
        """
        ...

    async def span_ns(self, symbol: str, interval_ns: int) -> int:
        """How far an empty page reaches: the next question may start this much later."""
        ...

    async def now_ns(self) -> int:
        """The venue's clock, or ours if it tells none."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


class CcxtSource:
    """One exchange of ccxt, without keys. Use it as an async context manager."""

    def __init__(self, exchange: str, *, url: str = "") -> None:
        """Make the client; ``url`` points it to another host (a local server).

        Raises ``CandlesError`` for an exchange ccxt does not know, or without candles.
        """
        import ccxt.async_support as ccxt

        name = exchange.lower()
        if name not in ccxt.exchanges:
            near = [known for known in ccxt.exchanges if known.startswith(name[:3])]
            raise CandlesError(
                f"ccxt knows no exchange {exchange}; near it are {', '.join(near[:6]) or 'none'}"
            )
        options: dict[str, Any] = {"defaultType": "spot"}
        if name.startswith("binance"):
            # Spot's markets only: four more requests otherwise, some to hosts of other regions.
            options["fetchMarkets"] = {"types": ["spot"]}
        settings = {"enableRateLimit": True, "timeout": int(TIMEOUT_S * 1_000), "options": options}
        self.exchange = exchange.upper()
        self._ccxt = ccxt
        self._client = getattr(ccxt, name)(settings)
        if not self._client.has.get("fetchOHLCV"):
            raise CandlesError(f"{self.exchange} tells no candles through ccxt")
        if url:
            self._client.urls["api"] = _elsewhere(self._client.urls["api"], url.rstrip("/"))

    async def page(self, symbol: str, interval_ns: int, start_ns: int, end_ns: int) -> Rows:
        """See ``Source``."""
        del end_ns  # Not every exchange takes one.
        market = await self._market(symbol)
        written = self._interval(interval_ns)
        count = await self._limit(market)
        bars = await self._ask(
            self._client.fetch_ohlcv(market, written, since=start_ns // MS, limit=count)
        )
        rows = Rows.of_bars(bars, MS)
        return rows.take(rows.ts >= start_ns)  # Some answer with the newest bars instead.

    async def span_ns(self, symbol: str, interval_ns: int) -> int:
        """One page: some exchanges answer for a window that begins at the start."""
        return await self._limit(await self._market(symbol)) * interval_ns

    async def now_ns(self) -> int:
        """The exchange's clock where it has one."""
        if not self._client.has.get("fetchTime"):
            return int(self._client.milliseconds()) * MS
        told = await self._ask(self._client.fetch_time())
        return int(told or self._client.milliseconds()) * MS

    async def close(self) -> None:
        """Close ccxt's session."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        """Use it."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

    async def _ask(self, question: Any) -> Any:
        try:
            return await question
        except self._ccxt.OperationFailed as error:  # Network trouble, limits, unknown state.
            raise SourceUnreachable(f"{self.exchange}: {error}") from error
        except self._ccxt.BaseError as error:
            raise CandlesError(f"{self.exchange} refused: {error}") from error

    async def _market(self, symbol: str) -> str:
        """The name ccxt has for a spot market: ``ETH/USDT`` for ``ETHUSDT``."""
        if not self._client.markets:
            await self._ask(self._client.load_markets())
        plain = plain_symbol(symbol)
        for name, market in self._client.markets.items():
            pair = f"{market.get('base', '')}{market.get('quote', '')}"
            if market.get("spot") and plain in {plain_symbol(pair), plain_symbol(market["id"])}:
                return str(name)
        raise CandlesError(f"{self.exchange} has no spot market {symbol}; write it like ETHUSDT")

    def _interval(self, interval_ns: int) -> str:
        """The exchange's word for an interval."""
        for word in self._client.timeframes or {}:
            if word[-1] in UNITS and int(word[:-1]) * UNITS[word[-1]] == interval_ns:
                return str(word)
        known = ", ".join(self._client.timeframes or {})
        raise CandlesError(
            f"{self.exchange} has no candles of {format_interval(interval_ns)}; it has {known}"
        )

    async def _limit(self, market: str) -> int:
        told = self._client.feature_value(market, "fetchOHLCV", "limit", CCXT_PAGE)
        return int(told or CCXT_PAGE)


class AlpacaSource:
    """Alpaca's stock bars: adjusted for splits (not dividends), of the IEX feed unless told."""

    exchange = "ALPACA"

    def __init__(self, key: str, secret: str, *, url: str = "", feed: str = "iex") -> None:
        """Make the client. Raises ``CandlesError`` without keys: Alpaca tells nobody else.

        It raises it too for a ``url`` that would carry them in the clear.
        """
        if not key or not secret:
            raise CandlesError(
                "Alpaca's bars need keys: set ALPACA_API_KEY and ALPACA_SECRET_KEY in .env"
                " (a free paper account has them)"
            )
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise CandlesError(f"{url} would carry the keys in the clear; use https")
        from alpaca.data.historical import StockHistoricalDataClient

        self._client = StockHistoricalDataClient(key, secret, url_override=url or None)
        self._client._session = _bounded_session()  # noqa: SLF001 - it offers no time-out
        self._client._retry = 0  # noqa: SLF001 - it would sleep in the thread; we try again
        self._feed = feed

    async def page(self, symbol: str, interval_ns: int, start_ns: int, end_ns: int) -> Rows:
        """See ``Source``."""
        return await asyncio.to_thread(self._page, symbol, interval_ns, start_ns, end_ns)

    async def span_ns(self, symbol: str, interval_ns: int) -> int:
        """An empty page means that there is nothing to the end."""
        del symbol, interval_ns
        return 1 << 62

    async def now_ns(self) -> int:
        """Our clock: the data API tells no time."""
        return int(datetime.now(UTC).timestamp()) * SECOND

    async def close(self) -> None:
        """Close the session."""
        self._client._session.close()  # noqa: SLF001 - as above

    async def __aenter__(self) -> Self:
        """Use it."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

    def _page(self, symbol: str, interval_ns: int, start_ns: int, end_ns: int) -> Rows:
        import requests
        from alpaca.common.exceptions import APIError
        from alpaca.data.enums import Adjustment, DataFeed
        from alpaca.data.requests import StockBarsRequest

        request = StockBarsRequest(
            symbol_or_symbols=symbol.upper(), timeframe=_alpaca_interval(interval_ns),
            # Alpaca's end is inclusive.
            start=_moment(start_ns), end=_moment(end_ns - SECOND), limit=ALPACA_PAGE,
            adjustment=Adjustment.SPLIT, feed=DataFeed(self._feed),
        )  # fmt: skip
        try:
            answer: Any = self._client.get_stock_bars(request)
        # The library's errors hold the request with the keys in its headers: none is chained.
        except APIError as error:
            status = error.status_code
            if status == 429 or (status is not None and status >= 500):
                raise SourceUnreachable(f"ALPACA: HTTP {status}") from None
            raise CandlesError(f"ALPACA refused ({status}): {error}") from None
        except requests.RequestException as error:
            raise SourceUnreachable(f"ALPACA: {type(error).__name__}") from None
        bars = answer.data.get(symbol.upper(), [])
        told = [
            (int(b.timestamp.timestamp()), b.open, b.high, b.low, b.close, b.volume) for b in bars
        ]
        return Rows.of_bars(told, SECOND)


def open_source(exchange: str, environment: dict[str, str], *, url: str = "") -> Source:
    """The source of an exchange: Alpaca for US stocks, ccxt for everything else.

    ``environment`` holds Alpaca's keys. Raises ``CandlesError`` for an exchange nobody knows.
    """
    if exchange.upper() == AlpacaSource.exchange:
        key, secret = (environment.get(f"ALPACA_{name}", "") for name in ("API_KEY", "SECRET_KEY"))
        return AlpacaSource(key, secret, url=url)
    return CcxtSource(exchange, url=url)


def _elsewhere(urls: Any, host: str) -> Any:
    """The same paths on another host."""
    if isinstance(urls, dict):
        return {name: _elsewhere(url, host) for name, url in urls.items()}
    return host + urlsplit(str(urls)).path


def _moment(ts_ns: int) -> datetime:
    return datetime.fromtimestamp(ts_ns // SECOND, UTC)


def _alpaca_interval(interval_ns: int) -> Any:
    from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

    written = format_interval(interval_ns)
    try:
        unit = TimeFrameUnit[_ALPACA_UNITS[written[-1]]]
        return TimeFrame(int(written[:-1]), unit)
    except (KeyError, ValueError) as error:
        raise CandlesError(
            f"Alpaca has no bars of {written}; it has 1m to 59m, 1h to 23h, 1d and 1w"
        ) from error


def _bounded_session() -> Any:
    """A session of requests whose every call ends in time."""
    import requests
    from requests.adapters import HTTPAdapter

    class Bounded(HTTPAdapter):
        def send(self, request: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            return super().send(request, **{**kwargs, "timeout": TIMEOUT_S})

    session = requests.Session()
    session.mount("https://", Bounded())
    session.mount("http://", Bounded())
    return session
