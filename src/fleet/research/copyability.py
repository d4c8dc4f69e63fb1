"""Replay a wallet's trades as a copier would have had them: later, dearer, smaller, with fees.

The copier hears of a fill ``delay_ns`` after it, buys ``ratio`` of it up to ``market_cap`` dollars
a market, pays the taker's fee, and sells its own share when the leader sells. Where it would have
traded is asked of a ``PriceSource``: recorded prints, or an assumption that calls itself one. The
result is a history of our own, so that the same fold tells what it earned.

Invariants: a copy never trades before its delay has passed nor after the market is known to be
resolved, never sells more than it holds, and is never cheaper than its source says. Money is
integer at 1e-8, rounded against us.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Cash, Price, Qty, notional_up, shares_for
from fleet.research.leader_history import LeaderTrade, Role, WalletHistory, ordered

CHAIN_DELAY_NS: Final = 2 * NS_PER_SECOND
"""A log arrives about 2 s after the match (reference 7.3)."""
API_DELAY_NS: Final = 300 * NS_PER_SECOND
"""The oldest /v2/trades answer the CDN gives (reference 6.2); activity is at most 15 s old."""
CENT: Final = SCALE // 100
SLIPPAGE: Final = Price(CENT)
"""Where there is no depth, one cent a share: a tick of most markets. Published: following large
bets lost 0.9 cents a dollar (issue 5)."""
PATIENCE_NS: Final = 300 * NS_PER_SECOND
"""How long a copier's order may look for shares after its delay."""
CASH_MIN: Final = Cash(SCALE)
"""The least dollars of an order that takes (docs/polymarket.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRules:
    """How copies are made; the defaults are EliteMimic's balanced profile on the chain's delay.

    ``ratio`` at 1e-8. ``chase`` is how far above the leader's price a copy still buys.
    """

    delay_ns: int = CHAIN_DELAY_NS
    ratio: int = SCALE // 2
    market_cap: Cash = field(default=Cash(500 * SCALE))
    chase: Price = Price(5 * CENT)


class PriceSource(Protocol):
    """Where a copy would have traded."""

    @property
    def measured(self) -> bool:
        """False if prices are assumed."""
        ...

    def fill(self, trade: LeaderTrade, at_ns: int, qty: Qty, limit: Price) -> tuple[Price, Qty]:
        """Average price and shares to be had at ``at_ns`` at ``limit`` or better; (0, 0) if none.

        The average is rounded against the copier.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumedPrices:
    """The leader's price and ``slippage`` dollars a share against us, as much as is wanted."""

    slippage: Price = SLIPPAGE
    measured: bool = False

    def fill(self, trade: LeaderTrade, at_ns: int, qty: Qty, limit: Price) -> tuple[Price, Qty]:
        """Whatever is wanted, ``slippage`` worse than the leader had it."""
        del at_ns
        sign = 1 if trade.side is Side.BUY else -1
        price = trade.price + sign * self.slippage
        beyond = price > limit if trade.side is Side.BUY else price < limit
        if beyond or not 0 < price < SCALE:
            return Price(0), Qty(0)
        return Price(price), qty


@dataclass(frozen=True, slots=True, kw_only=True)
class Print:
    """A trade anyone made: seconds are enough, because the Data API has no more."""

    ts_ns: int
    side: Side
    price: Price
    qty: Qty
    wallet: str


class RecordedPrints:
    """What others paid after the delay: the depth left is at least what they took.

    A copier stands in for the takers that came after it: it may have the shares that others bought
    within ``patience_ns`` at its limit or better, at their prices, and nothing else. The leader's
    own later trades are not counted. Where nobody traded nothing is known, and nothing is filled;
    a token that was not recorded at all is left to ``otherwise``, if there is one.
    """

    def __init__(
        self,
        prints: Mapping[str, Iterable[Print]],
        *,
        patience_ns: int = PATIENCE_NS,
        otherwise: PriceSource | None = None,
    ) -> None:
        """``prints`` by token id."""
        self.measured = otherwise is None
        self._otherwise = otherwise
        self._prints = {t: sorted(p, key=lambda one: one.ts_ns) for t, p in prints.items()}
        self._times = {t: [one.ts_ns for one in p] for t, p in self._prints.items()}
        self._patience_ns = patience_ns
        self.leader = ""

    def fill(self, trade: LeaderTrade, at_ns: int, qty: Qty, limit: Price) -> tuple[Price, Qty]:
        """Walk the later prints of the same token and side."""
        if trade.token_id not in self._prints and self._otherwise is not None:
            return self._otherwise.fill(trade, at_ns, qty, limit)
        prints = self._prints.get(trade.token_id, [])
        taken = cost = 0
        for index in range(
            bisect.bisect_left(self._times.get(trade.token_id, []), at_ns), len(prints)
        ):
            one = prints[index]
            if one.ts_ns > at_ns + self._patience_ns or taken >= qty:
                break
            worse = one.price > limit if trade.side is Side.BUY else one.price < limit
            if one.side is not trade.side or one.wallet == self.leader or worse:
                continue
            part = min(one.qty, qty - taken)
            taken += part
            cost += part * one.price
        if not taken:
            return Price(0), Qty(0)
        up = trade.side is Side.BUY
        return Price(-(-cost // taken) if up else cost // taken), Qty(taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReplay:
    """What copying would have done. ``slippage`` is dollars lost against the leader's prices.

    ``wanted`` and ``bought`` are dollars of leader's buys we wanted a part of and had, at the
    leader's prices; ``skipped`` counts the trades that were not copied, by reason.
    """

    history: WalletHistory
    wanted: Cash
    bought: Cash
    slippage: Cash
    skipped: Mapping[str, int]
    measured: bool

    @property
    def fill_ratio(self) -> float:
        """The share of the wanted dollars that could be had."""
        return self.bought / self.wanted if self.wanted else 0.0


@dataclass(slots=True)
class _Market:
    """Shares held by the leader and by us, of each outcome, and what we spent."""

    leader: list[int] = field(default_factory=lambda: [0, 0])
    ours: list[int] = field(default_factory=lambda: [0, 0])
    spent: int = 0


class _Copier:
    """One walk over a leader's trades."""

    def __init__(self, history: WalletHistory, rules: CopyRules, source: PriceSource) -> None:
        self.history, self.rules, self.source = history, rules, source
        self.markets: dict[str, _Market] = {}
        self.trades: list[LeaderTrade] = []
        self.skipped: Counter[str] = Counter()
        self.wanted = self.bought = self.slippage = 0

    def step(self, trade: LeaderTrade) -> None:
        market = self.markets.setdefault(trade.market_id, _Market())
        at_ns = trade.ts_ns + self.rules.delay_ns
        resolution = self.history.resolutions.get(trade.market_id)
        late = resolution and resolution.known_ns is not None and resolution.known_ns <= at_ns
        if trade.side is Side.BUY:
            market.leader[trade.outcome] += trade.qty
            if late:
                self.skipped["resolved before our order"] += 1
            else:
                self._buy(trade, market, at_ns)
            return
        held = market.leader[trade.outcome]
        market.leader[trade.outcome] = max(0, held - trade.qty)
        if not late and market.ours[trade.outcome] and held:
            self._sell(trade, market, at_ns, min(trade.qty, held), held)

    def _buy(self, trade: LeaderTrade, market: _Market, at_ns: int) -> None:
        part = trade.qty * self.rules.ratio // SCALE
        room = self.rules.market_cap - market.spent
        qty = min(part, shares_for(Cash(max(0, room)), trade.price))
        if notional_up(trade.price, Qty(qty)) < CASH_MIN:
            self.skipped["below a dollar, or the market's cap is spent"] += 1
            return
        self.wanted += notional_up(trade.price, Qty(qty))
        limit = Price(min(trade.price + self.rules.chase, SCALE - 1))
        price, got = self.source.fill(trade, at_ns, Qty(qty), limit)
        if not got:
            self.skipped["price ran past the limit, or nothing known for sale"] += 1
            return
        market.ours[trade.outcome] += got
        market.spent += notional_up(price, got)
        self.bought += notional_up(trade.price, got)
        self._record(trade, at_ns, price, got)

    def _sell(self, trade: LeaderTrade, market: _Market, at_ns: int, sold: int, held: int) -> None:
        ours = market.ours[trade.outcome]
        wanted = ours if sold >= held else ours * sold // held
        # A leader who closes is followed at any price.
        price, got = self.source.fill(trade, at_ns, Qty(wanted), Price(1))
        if not got:
            self.skipped["no buyer known for a sale"] += 1
            return
        market.ours[trade.outcome] -= got
        self._record(trade, at_ns, price, got)

    def _record(self, trade: LeaderTrade, at_ns: int, price: Price, qty: Qty) -> None:
        sign = 1 if trade.side is Side.BUY else -1
        self.slippage += sign * (price - trade.price) * qty // SCALE
        self.trades.append(
            replace(trade, ts_ns=at_ns, price=price, qty=qty, role=Role.TAKER, tx="")
        )


def replay(history: WalletHistory, rules: CopyRules, source: PriceSource) -> CopyReplay:
    """Copy every trade of ``history``; cut it with ``as_of`` first."""
    copier = _Copier(history, rules, source)
    if isinstance(source, RecordedPrints):
        source.leader = history.wallet
    for trade in history.trades:
        copier.step(trade)
    copied = WalletHistory(
        wallet=history.wallet,
        trades=ordered(copier.trades),
        markets=history.markets,
        resolutions=history.resolutions,
        complete_from_ns=history.complete_from_ns,
        asked_ns=history.asked_ns,
    )
    return CopyReplay(
        history=copied,
        wanted=Cash(copier.wanted),
        bought=Cash(copier.bought),
        slippage=Cash(copier.slippage),
        skipped=dict(copier.skipped),
        measured=source.measured,
    )
