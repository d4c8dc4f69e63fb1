"""Wallets made up for tests: trades in markets that resolve, in dollars and seconds."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.clock import NS_PER_DAY, NS_PER_SECOND
from fleet.domain.instruments import FeeSchedule, Side
from fleet.domain.units import SCALE, Price, parse_price, parse_qty
from fleet.research.leader_history import (
    LeaderTrade,
    MarketFacts,
    Resolution,
    Role,
    WalletHistory,
    ordered,
)

START_NS = 1_700_000_000 * NS_PER_SECOND
FREE = FeeSchedule(rate=0)
WON, LOST = (Price(SCALE), Price(0)), (Price(0), Price(SCALE))


def trade(
    market: str,
    side: str,
    price: str,
    qty: str,
    *,
    at_s: float = 0,
    outcome: int = 0,
    role: Role = Role.TAKER,
    token: str = "",
) -> LeaderTrade:
    """``at_s`` seconds after ``START_NS``."""
    return LeaderTrade(
        ts_ns=START_NS + int(at_s * NS_PER_SECOND), market_id=market, outcome=outcome,
        side=Side(side), price=parse_price(price), qty=parse_qty(qty), role=role,
        token_id=token or f"{market}:{outcome}",
    )  # fmt: skip


def history(
    trades: Sequence[LeaderTrade],
    *,
    won: Sequence[str] = (),
    lost: Sequence[str] = (),
    known_s: float | None = 86_400,
    fees: FeeSchedule = FREE,
    wallet: str = "0x" + "ab" * 20,
    events: dict[str, str] | None = None,
) -> WalletHistory:
    """Markets of ``won`` paid outcome 0, of ``lost`` outcome 1, known ``known_s`` after the start."""
    known_ns = None if known_s is None else START_NS + int(known_s * NS_PER_SECOND)
    markets = {t.market_id for t in trades}
    ends = dict.fromkeys(won, WON) | dict.fromkeys(lost, LOST)
    return WalletHistory(
        wallet=wallet,
        trades=ordered(trades),
        markets={
            m: MarketFacts(event_id=(events or {}).get(m, m), category="sports", fees=fees)
            for m in markets
        },
        resolutions={
            m: Resolution(payouts=end, known_ns=known_ns) for m, end in ends.items() if m in markets
        },
    )


def bettor(
    results: Sequence[bool], price: str, *, wallet: str = "0x" + "cd" * 20, stake_qty: str = "100"
) -> WalletHistory:
    """One buy a day, each in a market of its own that is resolved a day later."""
    trades = [
        trade(f"{wallet[:6]}-{day}", "BUY", price, stake_qty, at_s=day * 86_400)
        for day in range(len(results))
    ]
    made = history(trades)
    return WalletHistory(
        wallet=wallet,
        trades=made.trades,
        markets=made.markets,
        resolutions={
            t.market_id: Resolution(payouts=WON if won else LOST, known_ns=t.ts_ns + NS_PER_DAY)
            for t, won in zip(made.trades, results, strict=True)
        },
    )
