"""What one wallet did, cut at an instant, and what each of its markets paid.

Invariants: everything about a wallet is asked of ``WalletHistory.as_of``, which drops every trade
and every resolution that was not known yet, so that no score can see what came after. Money is
integer at 1e-8; costs round up, proceeds down. A market whose tokens came from nowhere (a split,
a transfer, a history that was cut) is ``unaccounted``, never a profit. Must not fetch anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from fleet.domain.instruments import FeeSchedule, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, notional_down, notional_up

DUST: Final = SCALE // 100
"""Shares of rounding that a history may be short of: the venue's lot (0.01)."""


class Role(Enum):
    """Which leg of a match a trade was."""

    TAKER = "taker"
    MAKER = "maker"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderTrade:
    """One fill of a wallet. ``outcome`` 0 or 1; ``price`` and ``qty`` at 1e-8, ``ts_ns`` UTC."""

    ts_ns: int
    market_id: str
    outcome: int
    side: Side
    price: Price
    qty: Qty
    role: Role = Role.UNKNOWN
    token_id: str = ""
    tx: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketFacts:
    """What never changes about a market: its event, category and taker fee.

    ``event_id`` groups markets whose outcomes hang together; the market's own id if none is known.
    """

    event_id: str
    category: str
    fees: FeeSchedule = field(default_factory=FeeSchedule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What a share of each outcome paid, at 1e-8, and when that could first be known.

    ``known_ns`` None: nobody recorded when. Such an outcome never helps to choose a leader.
    """

    payouts: tuple[Price, Price]
    known_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketResult:
    """One market of one wallet, folded. Amounts are dollars at 1e-8.

    ``stake`` is what all buys cost before fees, ``pnl`` proceeds and pay-off less stake and fees.
    ``held`` is what was bought and kept to the end, as (stake, payoff) of each outcome;
    ``exited_pnl`` the profit of shares sold again, after fees. ``pnl`` is None while unresolved or
    unaccounted.
    """

    market_id: str
    event_id: str
    category: str
    stake: Cash
    fees: Cash
    pnl: int | None
    exited_pnl: int
    held: tuple[tuple[Cash, Qty], tuple[Cash, Qty]]
    payouts: tuple[Price, Price] | None
    first_ns: int
    last_ns: int
    trades: int
    holding_ns: int
    """From the first buy to the first sale, or to the resolution; 0 if neither is known."""
    unaccounted: bool

    @property
    def settled(self) -> bool:
        """Whether its P&L is known."""
        return self.pnl is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletHistory:
    """One wallet's trades, oldest first, with what is known of their markets.

    ``complete_from_ns`` is the first instant from which no trade is missing (0: all of it);
    ``asked_ns`` when the history was read, which bounds what it can know.
    """

    wallet: str
    trades: tuple[LeaderTrade, ...]
    markets: Mapping[str, MarketFacts]
    resolutions: Mapping[str, Resolution]
    complete_from_ns: int = 0
    asked_ns: int = 0

    def as_of(self, as_of_ns: int) -> WalletHistory:
        """The same wallet with nothing that happened or became known after ``as_of_ns``."""
        trades = tuple(t for t in self.trades if t.ts_ns <= as_of_ns)
        touched = {t.market_id for t in trades}
        return WalletHistory(
            wallet=self.wallet,
            trades=trades,
            markets={m: facts for m, facts in self.markets.items() if m in touched},
            resolutions={
                m: resolution
                for m, resolution in self.resolutions.items()
                if m in touched and resolution.known_ns is not None
                if resolution.known_ns <= as_of_ns
            },
            complete_from_ns=self.complete_from_ns,
            asked_ns=min(self.asked_ns, as_of_ns),
        )

    def facts(self, market_id: str) -> MarketFacts:
        """What is known of a market; of an unknown one, an event of its own."""
        found = self.markets.get(market_id)
        return found or MarketFacts(event_id=market_id, category="unknown")


def ordered(trades: Iterable[LeaderTrade]) -> tuple[LeaderTrade, ...]:
    """Oldest first; of the same instant, buys first, so that a sale finds its shares."""
    return tuple(sorted(trades, key=lambda t: (t.ts_ns, t.side is Side.SELL, t.market_id, t.tx)))


def market_results(history: WalletHistory) -> list[MarketResult]:
    """Fold every market of a history, by the time of its first trade."""
    by_market: dict[str, list[LeaderTrade]] = {}
    for trade in history.trades:
        by_market.setdefault(trade.market_id, []).append(trade)
    return [
        _fold(market, trades, history.facts(market), history.resolutions.get(market))
        for market, trades in by_market.items()
    ]


def fee_of(trade: LeaderTrade, fees: FeeSchedule) -> Cash:
    """The fee of a fill: makers pay none; a leg of unknown role is taken for a taker's."""
    return Cash(0) if trade.role is Role.MAKER else fees.fee(trade.price, trade.qty)


@dataclass(slots=True)
class _Lot:
    """Shares of one outcome at their average cost."""

    qty: int = 0
    cost: int = 0

    def take(self, qty: int) -> int:
        """Remove ``qty`` shares; what they had cost, rounded up."""
        part = self.cost if qty >= self.qty else -(-self.cost * qty // self.qty)
        self.qty -= qty
        self.cost -= part
        return part


def _fold(
    market: str, trades: Sequence[LeaderTrade], facts: MarketFacts, resolution: Resolution | None
) -> MarketResult:
    lots = (_Lot(), _Lot())
    stake = fees = exited = cash = 0
    short = False
    bought_ns = sold_ns = 0
    for trade in trades:
        fee = fee_of(trade, facts.fees)
        fees += fee
        lot = lots[trade.outcome]
        if trade.side is Side.BUY:
            cost = notional_up(trade.price, trade.qty)
            stake += cost
            cash -= cost + fee
            lot.qty += trade.qty
            # The fee of a buy is part of what its shares cost.
            lot.cost += cost + fee
            bought_ns = bought_ns or trade.ts_ns
            continue
        proceeds = notional_down(trade.price, trade.qty) - fee
        cash += proceeds
        sold_ns = sold_ns or trade.ts_ns
        if trade.qty > lot.qty + DUST:
            short = True
        exited += proceeds - lot.take(min(trade.qty, lot.qty))
    known = resolution is not None or not any(lot.qty > DUST for lot in lots)
    pnl: int | None = None
    if known and not short:
        pays = resolution.payouts if resolution is not None else (Price(0), Price(0))
        pnl = cash + sum(
            notional_down(pay, Qty(lot.qty)) for pay, lot in zip(pays, lots, strict=True)
        )
    end_ns = sold_ns or (resolution.known_ns if resolution and resolution.known_ns else 0)
    return MarketResult(
        market_id=market,
        event_id=facts.event_id,
        category=facts.category,
        stake=Cash(stake),
        fees=Cash(fees),
        pnl=pnl,
        exited_pnl=exited,
        held=(
            (Cash(lots[0].cost), Qty(lots[0].qty)),
            (Cash(lots[1].cost), Qty(lots[1].qty)),
        ),
        payouts=None if resolution is None else resolution.payouts,
        first_ns=trades[0].ts_ns,
        last_ns=trades[-1].ts_ns,
        trades=len(trades),
        holding_ns=max(0, end_ns - bought_ns) if bought_ns and end_ns else 0,
        unaccounted=short,
    )
