"""Is a wallet a market maker, or does it trade with itself? Yes or no, with the marks it bears.

A market maker earns the spread and rebates with resting orders; a copier pays the spread and the
fee, so its profit cannot be copied however large. A wash trader's record shows nothing but volume.
Each mark is a plain count over the trades; the limits are ours (decision 0021) and wide: an honest
bettor bears none of them, a maker several. Must look at nothing but the trades it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE
from fleet.research.leader_history import LeaderTrade, Role, WalletHistory

TRADES_MIN: Final = 20
"""Fewer trades bear no mark: two of them are not a habit."""
TWO_SIDED_MAX: Final = 0.5
"""Share of markets traded in both directions within an hour."""
OFFSETTING_MAX: Final = 0.6
"""Share of the traded shares that other trades in the same market undo."""
MAKER_SHARE_MAX: Final = 0.7
"""Share of dollars traded by resting orders, of those whose leg is known."""
QUICK_NS: Final = 600 * NS_PER_SECOND
"""A median round trip shorter than this is a quote, not a view."""
TRADES_PER_MARKET_MAX: Final = 20
MARKS_OF_MAKER: Final = 2
"""Marks that make a market maker; any one of them alone an honest bettor may bear."""
PAIR_NS: Final = 60 * 60 * NS_PER_SECOND
LOOP_NS: Final = 60 * NS_PER_SECOND
LOOP_PRICE: Final = SCALE // 1000
LOOP_QTY: Final = 100
"""A loop: bought and sold within a minute, at prices 0.1 cent apart, sizes within 1 / 100."""
WASH_SHARE_MAX: Final = 0.2
"""Share of dollars traded in loops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingStyle:
    """How a wallet trades. Shares are ratios in [0, 1]; ``maker_share`` None if no leg is known.

    ``round_trip_ns`` is the median time from a buy to the sale of the same outcome, None without
    any; ``marks`` the names of the limits passed.
    """

    trades: int
    markets: int
    two_sided: float
    offsetting: float
    maker_share: float | None
    round_trip_ns: int | None
    trades_per_market: float
    wash_share: float
    marks: tuple[str, ...]

    @property
    def market_maker(self) -> bool:
        """Whether it bears the marks of a market maker."""
        return len(self.marks) >= MARKS_OF_MAKER

    @property
    def wash_trader(self) -> bool:
        """Whether too much of its volume is with itself."""
        return self.trades >= 2 and self.wash_share > WASH_SHARE_MAX


def style_of(history: WalletHistory) -> TradingStyle:
    """Count the marks over a whole history; cut it with ``as_of`` first."""
    by_market: dict[str, list[LeaderTrade]] = {}
    for trade in history.trades:
        by_market.setdefault(trade.market_id, []).append(trade)
    groups = list(by_market.values())
    trips = [trip for group in groups for trip in _round_trips(group)]
    trip_ns = int(median(trips)) if trips else None
    count = len(history.trades)
    pairs = [group for group in groups if len(group) >= 2]
    two_sided = sum(_two_sided(group) for group in pairs) / len(pairs) if pairs else 0.0
    per_market = median([len(group) for group in groups]) if groups else 0.0
    offsetting, maker = _offsetting(groups), _maker_share(history.trades)
    marks: list[str] = []
    if count >= TRADES_MIN:
        if two_sided >= TWO_SIDED_MAX and len(pairs) >= 2:
            marks.append("two-sided")
        if offsetting >= OFFSETTING_MAX:
            marks.append("offsetting")
        if maker is not None and maker >= MAKER_SHARE_MAX:
            marks.append("maker legs")
        if trip_ns is not None and trip_ns <= QUICK_NS and len(trips) >= TRADES_MIN:
            marks.append("short holding")
        if per_market >= TRADES_PER_MARKET_MAX:
            marks.append("many small trades")
    return TradingStyle(
        trades=count,
        markets=len(groups),
        two_sided=two_sided,
        offsetting=offsetting,
        maker_share=maker,
        round_trip_ns=trip_ns,
        trades_per_market=float(per_market),
        wash_share=_wash_share(groups),
        marks=tuple(marks),
    )


def _direction(trade: LeaderTrade) -> int:
    """+1 if the trade gains when outcome 0 does: buying NO is selling YES."""
    up = (trade.side is Side.BUY) == (trade.outcome == 0)
    return 1 if up else -1


def _two_sided(trades: Sequence[LeaderTrade]) -> bool:
    last: dict[int, int] = {}
    for trade in trades:
        direction = _direction(trade)
        other = last.get(-direction)
        if other is not None and trade.ts_ns - other <= PAIR_NS:
            return True
        last[direction] = trade.ts_ns
    return False


def _offsetting(groups: Sequence[Sequence[LeaderTrade]]) -> float:
    gross = net = 0
    for group in groups:
        gross += sum(trade.qty for trade in group)
        net += abs(sum(trade.qty * _direction(trade) for trade in group))
    return 1 - net / gross if gross else 0.0


def _maker_share(trades: Sequence[LeaderTrade]) -> float | None:
    known = [trade for trade in trades if trade.role is not Role.UNKNOWN]
    total = sum(trade.price * trade.qty for trade in known)
    if not total:
        return None
    return sum(t.price * t.qty for t in known if t.role is Role.MAKER) / total


def _round_trips(trades: Sequence[LeaderTrade]) -> list[int]:
    """Times from a buy to the next sale of the same outcome, oldest buy first."""
    waiting: dict[int, list[int]] = {0: [], 1: []}
    found = []
    for trade in trades:
        queue = waiting[trade.outcome]
        if trade.side is Side.BUY:
            queue.append(trade.ts_ns)
        elif queue:
            found.append(trade.ts_ns - queue.pop(0))
    return found


def _wash_share(groups: Sequence[Sequence[LeaderTrade]]) -> float:
    total = looped = 0
    for group in groups:
        total += sum(trade.price * trade.qty for trade in group)
        looped += sum(trade.price * trade.qty for trade in _loops(group))
    return looped / total if total else 0.0


def _loops(trades: Sequence[LeaderTrade]) -> list[LeaderTrade]:
    """Both trades of each self-matched loop; a trade belongs to at most one."""
    used: set[int] = set()
    for index, trade in enumerate(trades):
        if index in used:
            continue
        for later in range(index + 1, len(trades)):
            other = trades[later]
            if other.ts_ns - trade.ts_ns > LOOP_NS:
                break
            if later not in used and _is_loop(trade, other):
                used |= {index, later}
                break
    return [trades[index] for index in sorted(used)]


def _is_loop(one: LeaderTrade, other: LeaderTrade) -> bool:
    """Whether two trades leave nothing but volume: back out of what was just done, as it was."""
    if abs(one.qty - other.qty) * LOOP_QTY > max(one.qty, other.qty):
        return False
    if one.outcome == other.outcome:
        return one.side is not other.side and abs(one.price - other.price) <= LOOP_PRICE
    # Both outcomes at once, in the same direction, is a mint or a merge with oneself.
    return one.side is other.side and abs(one.price + other.price - SCALE) <= LOOP_PRICE
