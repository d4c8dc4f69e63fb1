"""A wallet's history from a venue: trades from the Data API, how its markets ended from the CLOB.

The venue says how a market ended and not when, so an outcome counts as known from the moment it was
asked: right for a score as of now, useless (and refused by ``as_of``) for one of the past. A market
the venue does not tell about is unresolved, never lost. Reads only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec

from fleet.domain.instruments import FeeSchedule, InstrumentError, InstrumentId, MarketId
from fleet.domain.units import SCALE, Price
from fleet.research.copyability import AssumedPrices, Print, RecordedPrints
from fleet.research.leader_history import (
    LeaderTrade,
    MarketFacts,
    Resolution,
    Role,
    WalletHistory,
    ordered,
)
from fleet.research.leader_records import category_of, fees_of
from fleet.venues.polymarket.data_reads import DataReads, TradeHistory, WalletTrade
from fleet.venues.polymarket.resolutions import MarketStanding, standing_of
from fleet.venues.port import AnswerInvalid, RequestRefused
from fleet.venues.transport import JsonClient

MARKETS_MAX: Final = 400
"""Newest markets of a wallet that are looked up: two requests each."""
TOGETHER: Final = 8
"""Requests in flight at once; the client's budget bounds the rate."""


class _Fees(msgspec.Struct):
    r: Decimal
    e: Decimal = Decimal(1)


class _Rules(msgspec.Struct):
    fd: _Fees | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A market as the CLOB tells it: its tokens in order, how it ended, what its takers pay."""

    standing: MarketStanding
    fees: FeeSchedule | None


class LeaderFetch:
    """Reads histories of wallets, each market once. Methods raise ``VenueError``."""

    def __init__(
        self, reads: DataReads, clob: JsonClient, *, markets_max: int = MARKETS_MAX
    ) -> None:
        """Read trades from ``reads`` and markets from ``clob``."""
        self._reads, self._clob = reads, clob
        self._markets_max = markets_max
        self._known: dict[str, _Known | None] = {}
        self._lane = asyncio.Semaphore(TOGETHER)

    async def history(self, wallet: str, now_ns: int) -> WalletHistory:
        """Everything that can be known of a wallet now."""
        found = await self._reads.trades(wallet)
        kept, from_ns = self._newest(found)
        markets = list(dict.fromkeys(trade.market_id for trade in kept))
        await asyncio.gather(*(self._learn(market) for market in markets))
        events = {t.market_id: t.event_slug for t in kept if t.event_slug}
        trades, facts, resolutions = [], {}, {}
        for trade in kept:
            outcome = self._outcome(trade)
            if outcome is None:
                continue
            trades.append(_leader_trade(trade, outcome))
            market = trade.market_id
            known = self._known[market]
            event = events.get(market, market)
            category = category_of(event, "")
            fees = known.fees if known is not None else None
            facts[market] = MarketFacts(
                event_id=event, category=category, fees=fees or fees_of(category)
            )
            if known is not None and known.standing.payouts:
                pays = dict(known.standing.payouts)
                first, second = known.standing.tokens
                resolutions[market] = Resolution(
                    payouts=(Price(pays[first]), Price(pays[second])), known_ns=now_ns
                )
        return WalletHistory(
            wallet=wallet,
            trades=ordered(trades),
            markets=facts,
            resolutions=resolutions,
            complete_from_ns=from_ns,
            asked_ns=now_ns,
        )

    async def prints(self, histories: Iterable[WalletHistory], markets: int) -> RecordedPrints:
        """Recorded trades of the newest ``markets`` markets of each wallet, as a price source.

        Trades in other markets are priced by assumption. A venue that does not tell a market's
        trades leaves all of them to it.
        """
        wanted: dict[str, int] = {}
        for history in histories:
            newest = list(dict.fromkeys(t.market_id for t in reversed(history.trades)))[:markets]
            for market in newest:
                since = min(t.ts_ns for t in history.trades if t.market_id == market)
                wanted[market] = min(wanted.get(market, since), since)
        found = await asyncio.gather(
            *(self._prints_of(market, since) for market, since in wanted.items())
        )
        by_token: dict[str, list[Print]] = {}
        for trade in (trade for trades in found for trade in trades):
            by_token.setdefault(trade.token_id, []).append(
                Print(ts_ns=trade.ts_ns, side=trade.side, price=trade.price, qty=trade.qty,
                      wallet=trade.wallet)
            )  # fmt: skip
        return RecordedPrints(by_token, otherwise=AssumedPrices())

    def _newest(self, found: TradeHistory) -> tuple[Sequence[WalletTrade], int]:
        """The trades of the newest markets, and from when on the history is whole."""
        last = {trade.market_id: trade.ts_ns for trade in found.trades}
        newest = sorted(last, key=lambda market: -last[market])
        kept = set(newest[: self._markets_max])
        trades = [trade for trade in found.trades if trade.market_id in kept]
        if len(kept) == len(last):
            return trades, found.complete_from_ns
        return trades, max(found.complete_from_ns, last[newest[self._markets_max]] + 1)

    async def _learn(self, market: str) -> None:
        if market in self._known:
            return
        async with self._lane:
            try:
                standing = await standing_of(self._clob, MarketId(market))
                rules = await self._clob.get(f"/clob-markets/{market}", _Rules)
            except (RequestRefused, AnswerInvalid):
                self._known[market] = None
                return
        self._known[market] = _Known(standing=standing, fees=_fees(rules))

    def _outcome(self, trade: WalletTrade) -> int | None:
        known = self._known[trade.market_id]
        if known is None:
            return trade.outcome
        token = InstrumentId(trade.token_id)
        return known.standing.tokens.index(token) if token in known.standing.tokens else None

    async def _prints_of(self, market: str, since_ns: int) -> tuple[WalletTrade, ...]:
        async with self._lane:
            try:
                found = await self._reads.market_trades(market, since_s=since_ns // 10**9)
            except (RequestRefused, AnswerInvalid):
                return ()
        return found.trades


def _leader_trade(trade: WalletTrade, outcome: int) -> LeaderTrade:
    role = {True: Role.TAKER, False: Role.MAKER, None: Role.UNKNOWN}[trade.taker]
    return LeaderTrade(
        ts_ns=trade.ts_ns, market_id=trade.market_id, outcome=outcome, side=trade.side,
        price=trade.price, qty=trade.qty, role=role, token_id=trade.token_id, tx=trade.tx,
    )  # fmt: skip


def _fees(rules: _Rules) -> FeeSchedule | None:
    """The taker's fee, free where the venue names none; None if it is of no kind we know."""
    if rules.fd is None:
        return FeeSchedule(rate=0)
    try:
        return FeeSchedule(rate=int(rules.fd.r * SCALE), exponent=int(rules.fd.e))
    except InstrumentError:
        return None
