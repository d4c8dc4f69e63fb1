"""Read recorded wallets: picks with outcomes as histories, and what others paid after a trade.

Reads three recordings beside each other, each by its own file names (``wallet_verdict_ledger``,
``tsl_leaderboards`` in ``leader_boards``, prints of whole markets). Their defects are kept visible:
every row that is left out is counted with the reason. An outcome whose time nobody recorded is
known never (``Resolution.known_ns`` None), so that it can judge a copy and not choose a leader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import FeeSchedule, Side
from fleet.domain.units import SCALE, Price, Qty
from fleet.research.copyability import Print
from fleet.research.leader_history import (
    LeaderTrade,
    MarketFacts,
    Resolution,
    WalletHistory,
    ordered,
)
from fleet.research.set_quotes import FEE_RATES, UNKNOWN_FEE_RATE

LEDGER_FOLDER: Final = "wallet_verdict_ledger"
LEDGER_FILE: Final = "audit_ledger.parquet"
POSITIONS_FILE: Final = "wallet_recent_positions.parquet"
PRINTS: Final = ("nobel_2025_negrisk_trades", "trades.parquet")
_LEDGER_COLUMNS: Final = (
    "wallet", "condition_id", "event_slug", "side_index", "size", "avg_entry", "picked_at_unix",
    "resolved_at_unix", "outcome_actual",
)  # fmt: skip
_POSITION_COLUMNS: Final = (
    "wallet", "conditionId", "outcomeIndex", "eventSlug", "avg_buy_price", "buy_size", "sell_size",
    "last_ts", "domain", "resolved",
)  # fmt: skip
_PRINT_COLUMNS: Final = (
    "proxyWallet", "side", "asset", "conditionId", "size", "price", "timestamp", "transactionHash",
)  # fmt: skip
DOMAINS: Final = {
    "Sports": "sports", "Politics": "politics", "Crypto": "crypto", "Entertainment": "culture",
    "Macro": "economics", "AITech": "tech",
}  # fmt: skip
"""The recorder's word -> ours. Its "Other" is whatever it could not place, so it is unknown."""
SLUG_WORDS: Final = {
    "crypto": ("btc", "bitcoin", "eth", "ethereum", "xrp", "sol", "solana"),
    "sports": (
        "nba", "nfl", "nhl", "mlb", "mls", "epl", "elc", "lal", "laliga", "ufc", "f1", "sea",
        "bundesliga", "serie", "uefa", "mex", "cs2", "lol", "atp", "wta", "kor", "super", "blast",
    ),
    "economics": ("fed",),
    "mentions": ("what-will",),
}  # fmt: skip
"""First words of event slugs whose category is plain, for markets no recording places."""


class RecordingError(ValueError):
    """The folder is not a recording of wallets, or holds nothing that can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletRecords:
    """Every recorded wallet. ``left_out`` counts rows by the reason they are not used.

    ``untimed`` are the outcomes whose time is not known; ``sold_early`` counts positions that were
    sold in part at a price nobody recorded, which are judged as if held.
    """

    histories: tuple[WalletHistory, ...]
    start_ns: int
    stop_ns: int
    rows: int
    left_out: Mapping[str, int]
    untimed: int
    sold_early: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pick:
    """One row of either file that can be used."""

    wallet: str
    market: str
    event: str
    outcome: int
    price: Price
    qty: Qty
    ts_ns: int
    domain: str
    won: int
    known_ns: int | None


def read_table(path: Path, columns: Iterable[str]) -> pl.DataFrame:
    """The named columns of a Parquet file. Raises ``RecordingError`` naming what is missing."""
    if not path.is_file():
        raise RecordingError(f"{path} is missing; name the folder that holds it")
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RecordingError(f"{path} cannot be read as Parquet: {error}") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise RecordingError(f"{path} has no column {', '.join(missing)}; is it another recording?")
    return frame.select(list(columns))


def read_wallets(folder: Path) -> WalletRecords:
    """Read the ledger of picks, and the positions beside it if they are there.

    A pick in both is taken from the ledger, which knows when it was resolved. Raises
    ``RecordingError``.
    """
    ledger = read_table(folder / LEDGER_FILE, _LEDGER_COLUMNS)
    left_out: Counter[str] = Counter()
    picks = list(_ledger_picks(ledger, left_out))
    rows, sold_early = ledger.height, 0
    if (folder / POSITIONS_FILE).exists():
        positions = read_table(folder / POSITIONS_FILE, _POSITION_COLUMNS)
        rows += positions.height
        seen = {(p.wallet, p.market, p.outcome) for p in picks}
        for pick, sold in _position_picks(positions, left_out):
            if (pick.wallet, pick.market, pick.outcome) in seen:
                left_out["already in the ledger"] += 1
                continue
            picks.append(pick)
            sold_early += sold
    resolutions = _resolutions(picks, left_out)
    picks = [p for p in picks if p.market in resolutions]
    if not picks:
        raise RecordingError(f"{folder} holds no pick with an outcome; is the recording empty?")
    return WalletRecords(
        histories=_histories(picks, resolutions),
        start_ns=min(p.ts_ns for p in picks),
        stop_ns=max(p.known_ns or p.ts_ns for p in picks),
        rows=rows,
        left_out=dict(left_out),
        untimed=sum(r.known_ns is None for r in resolutions.values()),
        sold_early=sold_early,
    )


def _ledger_picks(ledger: pl.DataFrame, left_out: Counter[str]) -> Iterable[_Pick]:
    for row in ledger.iter_rows(named=True):
        if row["outcome_actual"] not in (0.0, 1.0):
            left_out["not resolved, or not to one side"] += 1
            continue
        made = _pick(
            row,
            market=row["condition_id"],
            event=row["event_slug"],
            outcome=row["side_index"],
            price=row["avg_entry"],
            qty=row["size"],
            ts_s=row["picked_at_unix"],
        )
        if made is None:
            left_out["price, size or side unusable"] += 1
            continue
        # Equal times are what the author wrote where the real one was not known.
        timed = row["resolved_at_unix"] and row["resolved_at_unix"] > row["picked_at_unix"]
        yield _Pick(
            **made,
            domain="",
            won=int(row["outcome_actual"]),
            known_ns=int(row["resolved_at_unix"]) * NS_PER_SECOND if timed else None,
        )


def _position_picks(
    positions: pl.DataFrame, left_out: Counter[str]
) -> Iterable[tuple[_Pick, bool]]:
    for row in positions.iter_rows(named=True):
        end: Mapping[str, Any] = row["resolved"] or {}
        if end.get("state") != "resolved" or end.get("winning_outcome_index") not in (0, 1):
            left_out["not resolved, or not to one side"] += 1
            continue
        made = _pick(
            row,
            market=row["conditionId"],
            event=row["eventSlug"],
            outcome=row["outcomeIndex"],
            price=row["avg_buy_price"],
            qty=row["buy_size"],
            # The average is complete with the last trade, not before.
            ts_s=row["last_ts"],
        )
        if made is None:
            left_out["price, size or side unusable"] += 1
            continue
        pick = _Pick(
            **made,
            domain=row["domain"] or "",
            won=int(end["winning_outcome_index"] == row["outcomeIndex"]),
            known_ns=None,
        )
        yield pick, (row["sell_size"] or 0) > 0


def _pick(
    row: Mapping[str, Any], *, market: str, event: str, outcome: int, price: float | None,
    qty: float | None, ts_s: float | None,
) -> dict[str, Any] | None:  # fmt: skip
    usable = price is not None and qty is not None and ts_s is not None
    if not usable or outcome not in (0, 1) or not market or not row["wallet"]:
        return None
    units, shares = round((price or 0) * SCALE), round((qty or 0) * SCALE)
    if not 0 < units < SCALE or shares <= 0:
        return None
    return {
        "wallet": row["wallet"].lower(),
        "market": market,
        "event": event or market,
        "outcome": outcome,
        "price": Price(units),
        "qty": Qty(shares),
        "ts_ns": int(ts_s or 0) * NS_PER_SECOND,
    }


def _resolutions(picks: Iterable[_Pick], left_out: Counter[str]) -> dict[str, Resolution]:
    """How each market ended; one that two rows contradict each other about is left out."""
    winners: dict[str, set[int]] = {}
    known: dict[str, int] = {}
    for pick in picks:
        winners.setdefault(pick.market, set()).add(pick.outcome if pick.won else 1 - pick.outcome)
        if pick.known_ns is not None:
            # The earliest of several. The latest would be careful too, but a row of the future
            # could then change what was known before it.
            known[pick.market] = min(known.get(pick.market, pick.known_ns), pick.known_ns)
    found = {}
    for market, sides in winners.items():
        if len(sides) != 1:
            left_out["rows contradict each other about the outcome"] += 1
            continue
        pays = [Price(0), Price(0)]
        pays[next(iter(sides))] = Price(SCALE)
        found[market] = Resolution(payouts=(pays[0], pays[1]), known_ns=known.get(market))
    return found


def category_of(event: str, domain: str) -> str:
    """The fee category of an event: the recorder's, else by the first words of its slug."""
    if domain in DOMAINS:
        return DOMAINS[domain]
    first = event.split("-", 1)[0]
    for category, words in SLUG_WORDS.items():
        if any(first == word or event.startswith(f"{word}-") for word in words):
            return category
    return "unknown"


def fees_of(category: str) -> FeeSchedule:
    """Today's taker fees of a category; the highest for one that is not known."""
    return FeeSchedule(rate=FEE_RATES.get(category, UNKNOWN_FEE_RATE))


def _histories(
    picks: Iterable[_Pick], resolutions: Mapping[str, Resolution]
) -> tuple[WalletHistory, ...]:
    picks = list(picks)
    domains = {p.market: p.domain for p in picks if p.domain in DOMAINS}
    facts = {}
    for pick in picks:
        category = category_of(pick.event, domains.get(pick.market, ""))
        facts[pick.market] = MarketFacts(
            event_id=pick.event, category=category, fees=fees_of(category)
        )
    by_wallet: dict[str, list[_Pick]] = {}
    for pick in picks:
        by_wallet.setdefault(pick.wallet, []).append(pick)
    return tuple(
        WalletHistory(
            wallet=wallet,
            trades=ordered(
                LeaderTrade(
                    ts_ns=p.ts_ns, market_id=p.market, outcome=p.outcome, side=Side.BUY,
                    price=p.price, qty=p.qty,
                )
                for p in mine
            ),
            markets={p.market: facts[p.market] for p in mine},
            resolutions={p.market: resolutions[p.market] for p in mine},
        )
        for wallet, mine in sorted(by_wallet.items())
    )  # fmt: skip


def read_prints(path: Path) -> tuple[dict[str, list[Print]], tuple[WalletHistory, ...], int]:
    """Prints of whole markets: by token, as histories of their wallets, and repeats left out.

    Raises ``RecordingError``.
    """
    frame = read_table(path, _PRINT_COLUMNS)
    unique = frame.unique(maintain_order=True)
    prints: dict[str, list[Print]] = {}
    wallets: dict[str, list[LeaderTrade]] = {}
    for row in unique.iter_rows(named=True):
        price, qty = round(row["price"] * SCALE), round(row["size"] * SCALE)
        if not 0 < price < SCALE or qty <= 0 or row["side"] not in ("BUY", "SELL"):
            continue
        wallet, side = row["proxyWallet"].lower(), Side(row["side"])
        ts_ns = int(row["timestamp"]) * NS_PER_SECOND
        prints.setdefault(row["asset"], []).append(
            Print(ts_ns=ts_ns, side=side, price=Price(price), qty=Qty(qty), wallet=wallet)
        )
        wallets.setdefault(wallet, []).append(
            LeaderTrade(
                ts_ns=ts_ns, market_id=row["conditionId"], outcome=0, side=side,
                price=Price(price), qty=Qty(qty), token_id=row["asset"], tx=row["transactionHash"],
            )
        )  # fmt: skip
    histories = tuple(
        WalletHistory(wallet=wallet, trades=ordered(trades), markets={}, resolutions={})
        for wallet, trades in sorted(wallets.items())
    )
    return prints, histories, frame.height - unique.height
