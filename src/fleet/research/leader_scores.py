"""One wallet's score at one instant: its record, its edge, its style, and what copying it paid.

A score is made of the history cut at ``as_of_ns`` and of nothing else (``WalletHistory.as_of``).
It holds numbers only; ``leader_gate`` says what they amount to. Dollars are floats here, because
they are statistics and no order is made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from fleet.clock import NS_PER_DAY
from fleet.domain.units import SCALE
from fleet.research.copyability import AssumedPrices, CopyRules, PriceSource, replay
from fleet.research.leader_filters import TradingStyle, style_of
from fleet.research.leader_history import MarketResult, WalletHistory, market_results
from fleet.research.leader_statistics import Bet, Interval, cluster_interval, luck_p_value

RECENT_NS: Final = 90 * NS_PER_DAY
"""What counts as recent."""
PRICE_MIN: Final = SCALE // 200
"""Copies below half a cent are nobody's edge, but one lucky win of theirs is everybody's; bets
outside [0.5, 99.5] cents count in the record and not in the copy edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRules:
    """How wallets are scored; the same for all candidates of one choice."""

    copy: CopyRules = field(default_factory=CopyRules)
    source: PriceSource = field(default_factory=AssumedPrices)
    recent_ns: int = RECENT_NS
    level: float = 0.90


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryRecord:
    """Settled markets of one category: dollars staked and won, by the wallet and by its copier."""

    markets: int
    stake: float
    pnl: float
    copy_stake: float
    copy_pnl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletScore:
    """One wallet at ``as_of_ns``. Dollars; returns are dollars of profit a dollar of stake.

    ``edge`` is the wallet's own, ``copy_edge`` that of copying everything, ``recent_copy_edge`` of
    copying what it began within the recent window, on which ``p_value`` (luck alone) is computed.
    None where nothing is settled. ``pnl`` is after fees.
    """

    wallet: str
    as_of_ns: int
    first_ns: int
    last_ns: int
    resolved_markets: int
    resolved_events: int
    open_markets: int
    unaccounted_markets: int
    stake: float
    fees: float
    pnl: float
    won: int
    holding_ns: int
    edge: Interval | None
    copy_edge: Interval | None
    recent_copy_edge: Interval | None
    recent_markets: int
    p_value: float
    copy_fill_ratio: float
    copy_slippage: float
    copy_measured: bool
    skipped: Mapping[str, int]
    style: TradingStyle
    categories: Mapping[str, CategoryRecord]

    def as_json(self) -> dict[str, Any]:
        """For the journal and ``--json``; infinite bounds become None."""
        found = asdict(self)
        for name in ("edge", "copy_edge", "recent_copy_edge"):
            found[name] = interval_json(getattr(self, name))
        found["style"] |= {
            "market_maker": self.style.market_maker,
            "wash_trader": self.style.wash_trader,
        }
        return found


def interval_json(interval: Interval | None) -> dict[str, Any] | None:
    """An interval as JSON numbers; None for a bound nobody knows."""
    if interval is None:
        return None
    finite = float("-inf") < interval.low
    return {
        "estimate": interval.estimate,
        "low": interval.low if finite else None,
        "high": interval.high if finite else None,
        "clusters": interval.clusters,
    }


def score(history: WalletHistory, as_of_ns: int, rules: ScoreRules | None = None) -> WalletScore:
    """Score one wallet with what was known at ``as_of_ns``."""
    rules = rules or ScoreRules()
    known = history.as_of(as_of_ns)
    results = market_results(known)
    settled = settled_bets(results)
    copied = replay(known, rules.copy, rules.source)
    copies = [r for r in settled_bets(market_results(copied.history)) if _copyable(r)]
    recent = [r for r in copies if r.first_ns > as_of_ns - rules.recent_ns]
    holdings = [r.holding_ns for r in settled if r.holding_ns]
    return WalletScore(
        wallet=history.wallet,
        as_of_ns=as_of_ns,
        first_ns=known.trades[0].ts_ns if known.trades else 0,
        last_ns=known.trades[-1].ts_ns if known.trades else 0,
        resolved_markets=len(settled),
        resolved_events=len({r.event_id for r in settled}),
        open_markets=sum(not r.settled and not r.unaccounted for r in results),
        unaccounted_markets=sum(r.unaccounted for r in results),
        stake=dollars(sum(r.stake for r in settled)),
        fees=dollars(sum(r.fees for r in settled)),
        pnl=dollars(sum(r.pnl or 0 for r in settled)),
        won=sum((r.pnl or 0) > 0 for r in settled),
        holding_ns=int(median(holdings)) if holdings else 0,
        edge=edge_of(settled, rules.level),
        copy_edge=edge_of(copies, rules.level),
        recent_copy_edge=edge_of(recent, rules.level),
        recent_markets=len(recent),
        p_value=luck_p_value([bet_of(r) for r in recent]),
        copy_fill_ratio=copied.fill_ratio,
        copy_slippage=dollars(copied.slippage),
        copy_measured=copied.measured,
        skipped=copied.skipped,
        style=style_of(known),
        categories=_categories(settled, copies),
    )


def settled_bets(results: Iterable[MarketResult]) -> list[MarketResult]:
    """Those whose profit is known and that staked something."""
    return [r for r in results if r.settled and r.stake > 0]


def _copyable(result: MarketResult) -> bool:
    shares = result.held[0][1] + result.held[1][1]
    if not shares:
        return True
    average = (result.held[0][0] + result.held[1][0]) * SCALE // shares
    return PRICE_MIN <= average <= SCALE - PRICE_MIN


def edge_of(results: Sequence[MarketResult], level: float = 0.90) -> Interval | None:
    """Profit a dollar of stake over settled markets, with an interval over their events."""
    return cluster_interval(
        [r.event_id for r in results],
        [dollars(r.stake) for r in results],
        [dollars(r.pnl or 0) for r in results],
        level=level,
    )


def bet_of(result: MarketResult) -> Bet:
    """A settled market as the luck test reads it."""
    (cost_a, qty_a), (cost_b, qty_b) = result.held
    return Bet(
        event=result.event_id,
        stake=dollars(result.stake),
        pnl=dollars(result.pnl or 0),
        held=((dollars(cost_a), dollars(qty_a)), (dollars(cost_b), dollars(qty_b))),
        exited=dollars(result.exited_pnl),
    )


def dollars(units: int) -> float:
    """Units at 1e-8 as a float, for statistics."""
    return units / SCALE


def _categories(
    settled: Sequence[MarketResult], copies: Sequence[MarketResult]
) -> dict[str, CategoryRecord]:
    names = sorted({r.category for r in settled})
    found = {}
    for name in names:
        own = [r for r in settled if r.category == name]
        ours = [r for r in copies if r.category == name]
        found[name] = CategoryRecord(
            markets=len(own),
            stake=dollars(sum(r.stake for r in own)),
            pnl=dollars(sum(r.pnl or 0 for r in own)),
            copy_stake=dollars(sum(r.stake for r in ours)),
            copy_pnl=dollars(sum(r.pnl or 0 for r in ours)),
        )
    return found
