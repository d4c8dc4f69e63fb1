"""A wallet's history as the Data API tells it: rows of trades and operations, positions. Pure.

Like the venue's, it is read off the chain: trades count once they are MINED, one row a taker's
whole match at its size-weighted price, without a word on fees in the row. A position's average is
over everything bought, with fees apart; split tokens cost half a dollar each, converted ones
nothing, and tokens that leave by a conversion leave at their average. Amounts are base units until
they are written as JSON numbers, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fleet.clock import NS_PER_SECOND
from fleet.domain.commands import OperationKind
from fleet.domain.events import SettlementStatus
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, format_units
from fleet.sandbox.exchange.contract import OperationView, TradeView
from fleet.sandbox.listing import Listings, MarketState
from fleet.sandbox.trading.account_frames import amount_text

ON_CHAIN: Final = frozenset({SettlementStatus.MINED, SettlementStatus.CONFIRMED})
ACTIVITY_OF: Final[Mapping[OperationKind, str]] = {
    OperationKind.SPLIT: "SPLIT",
    OperationKind.MERGE: "MERGE",
    OperationKind.REDEEM: "REDEEM",
    OperationKind.CONVERT: "CONVERSION",
}
OUTCOME_UNKNOWN: Final = 999
"""The index of an outcome nobody lists any more (reference 6.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """A wallet's own part in a trade that is on chain."""

    trade_id: str
    at_ns: int
    taker: bool
    condition_id: str
    token_id: str
    outcome: str
    side: Side
    size: int
    cash: int
    fee: int
    price: int
    transaction_hash: str


@dataclass(slots=True, kw_only=True)
class Cost:
    """What a wallet paid for one token so far. ``held`` follows the history, not the ledger."""

    condition_id: str
    outcome: str
    held: int = 0
    bought: int = 0
    spent: int = 0
    """pUSD for what is still held."""
    fees: int = 0
    realized: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def come(self, size: int, cash: int, fee: int, at_ns: int) -> None:
        """Tokens came in."""
        self.first_ns = self.first_ns or at_ns
        self.last_ns = at_ns
        self.held += size
        self.bought += size
        self.spent += cash
        self.fees += fee

    def go(self, size: int, cash: int | None, fee: int, at_ns: int) -> None:
        """Tokens went out for ``cash``; None means at their average."""
        cost = self.spent * min(size, self.held) // self.held if self.held else 0
        self.last_ns = at_ns
        self.held -= min(size, self.held)
        self.spent -= cost
        self.fees += fee
        self.realized += (cost if cash is None else cash) - cost


def fills_of(wallet: str, trades: Iterable[TradeView]) -> list[Fill]:
    """The wallet's parts in trades that are on chain, oldest first."""
    found = [f for t in trades if t.status in ON_CHAIN for f in _fills(wallet, t)]
    return sorted(found, key=lambda fill: (fill.at_ns, fill.trade_id))


def _fills(wallet: str, trade: TradeView) -> Iterator[Fill]:
    if trade.maker == wallet:
        yield Fill(
            trade_id=trade.trade_id,
            at_ns=trade.matched_ns,
            taker=True,
            condition_id=trade.condition_id,
            token_id=trade.token_id,
            outcome=trade.outcome,
            side=trade.side,
            size=trade.size,
            cash=trade.cash,
            fee=trade.fee_amount,
            price=trade.price,
            transaction_hash=trade.transaction_hash,
        )
    for maker in trade.makers:
        if maker.maker == wallet:
            yield Fill(
                trade_id=trade.trade_id,
                at_ns=trade.matched_ns,
                taker=False,
                condition_id=trade.condition_id,
                token_id=maker.token_id,
                outcome=maker.outcome,
                side=maker.side,
                size=maker.size,
                cash=maker.size * maker.price // SCALE,
                fee=0,
                price=maker.price,
                transaction_hash=trade.transaction_hash,
            )


def costs(
    fills: Sequence[Fill], operations: Sequence[OperationView], listings: Listings
) -> dict[str, Cost]:
    """Token id -> what it cost, over a wallet's whole history."""
    found: dict[str, Cost] = {}
    moves: list[tuple[int, Fill | OperationView]] = [(f.at_ns, f) for f in fills]
    moves += [(o.at_ns, o) for o in operations]
    for at_ns, move in sorted(moves, key=lambda one: one[0]):
        if isinstance(move, Fill):
            cost = found.setdefault(
                move.token_id, Cost(condition_id=move.condition_id, outcome=move.outcome)
            )
            act = cost.come if move.side is Side.BUY else cost.go
            act(move.size, move.cash, move.fee, at_ns)
            continue
        for token_id, delta in move.tokens.items():
            cost = found.setdefault(token_id, _unknown(token_id, move.condition_id, listings))
            if delta > 0:
                halves = move.kind is OperationKind.SPLIT
                cost.come(delta, delta // 2 if halves else 0, 0, at_ns)
            else:
                cost.go(-delta, _proceeds(move, -delta), 0, at_ns)
    return found


def _proceeds(operation: OperationView, size: int) -> int | None:
    if operation.kind is OperationKind.MERGE:
        return size // 2
    if operation.kind is OperationKind.REDEEM:
        given = -sum(delta for delta in operation.tokens.values() if delta < 0)
        return operation.cash * size // given if given else 0
    return None


def _unknown(token_id: str, condition_id: str, listings: Listings) -> Cost:
    found = listings.by_token.get(token_id)
    if found is None:
        return Cost(condition_id=condition_id, outcome="")
    spec = found[0].spec
    return Cost(condition_id=spec.condition_id, outcome=spec.outcomes[found[1]])


# --- rows ---------------------------------------------------------------------------------------


def trade_row(wallet: str, fill: Fill, listings: Listings) -> dict[str, Any]:
    """A row of /v2/trades."""
    return {
        "proxy_wallet": wallet,
        "token_id": fill.token_id,
        "condition_id": fill.condition_id,
        "side": fill.side.value,
        "size": number(fill.size),
        "price": msgspec.Raw(format_units(fill.price).encode()),
        "timestamp": fill.at_ns // NS_PER_SECOND,
        "transaction_hash": fill.transaction_hash,
        **_market_fields(fill.condition_id, listings),
        "outcome": fill.outcome,
        "outcome_index": _index(fill.token_id, listings),
        "name": "",
        "pseudonym": "",
    }


def activity_of_fill(wallet: str, fill: Fill, listings: Listings) -> dict[str, Any]:
    """A trade as a row of /v2/activity."""
    return trade_row(wallet, fill, listings) | {
        "type": "TRADE",
        "usdc_size": number(fill.cash),
        "is_combo": False,
    }


def activity_of_operation(
    wallet: str, operation: OperationView, listings: Listings
) -> dict[str, Any]:
    """An operation or deposit as a row of /v2/activity."""
    size = max((abs(delta) for delta in operation.tokens.values()), default=abs(operation.cash))
    if operation.kind is not None:
        kind = ACTIVITY_OF[operation.kind]
    else:
        kind = "DEPOSIT" if operation.cash >= 0 else "WITHDRAWAL"
    return {
        "type": kind,
        "proxy_wallet": wallet,
        "timestamp": operation.at_ns // NS_PER_SECOND,
        "transaction_hash": operation.transaction_hash,
        "condition_id": operation.condition_id,
        "token_id": "",
        "side": "",
        "size": number(size),
        "usdc_size": number(abs(operation.cash)),
        "price": 0,
        **_market_fields(operation.condition_id, listings),
        "outcome": "",
        "outcome_index": OUTCOME_UNKNOWN,
        "is_combo": False,
    }


def position_row(
    wallet: str, token_id: str, size: int, cost: Cost, listings: Listings
) -> dict[str, Any]:
    """A row of /v2/positions; ``size`` is what the ledger says the wallet holds."""
    found = listings.by_token.get(token_id)
    price = _price(found)
    value = size * price // SCALE
    average = cost.spent * SCALE // cost.held if cost.held else 0
    total = cost.spent + cost.fees
    unrealized = value - cost.spent
    market = None if found is None else found[0]
    resolved = market is not None and market.closed
    return {
        "proxy_wallet": wallet,
        "token_id": token_id,
        "opposite_token_id": _opposite(found),
        "condition_id": cost.condition_id,
        "current_size": number(size),
        "total_size": number(cost.bought),
        "avg_price": msgspec.Raw(format_units(average).encode()),
        "current_price": msgspec.Raw(format_units(price).encode()),
        "current_value": number(value),
        "entry_cost_usdc": number(cost.spent),
        "entry_fees_usdc": number(cost.fees),
        "total_cost_usdc": number(total),
        "realized_pnl": number(cost.realized),
        "unrealized_pnl": number(unrealized),
        "total_pnl": number(cost.realized + unrealized - cost.fees),
        "redeemable": resolved and size > 0,
        "mergeable": False,
        "negative_risk": market is not None and market.spec.neg_risk,
        "status": _status(size, price, resolved=resolved),
        **_market_fields(cost.condition_id, listings),
        "outcome": cost.outcome,
        "outcome_index": _index(token_id, listings),
        "end_date": None if market is None else market.spec.end_ns // NS_PER_SECOND,
        "first_entry_at": cost.first_ns // NS_PER_SECOND,
        "last_event_at": cost.last_ns // NS_PER_SECOND,
    }


def mark_mergeable(rows: Sequence[dict[str, Any]], held: Mapping[str, int]) -> None:
    """Say of which positions the wallet holds the other side too."""
    for row in rows:
        if held.get(row["token_id"], 0) and held.get(row["opposite_token_id"], 0):
            row["mergeable"] = row["status"] == "OPEN"


def value_of(held: Mapping[str, int], listings: Listings) -> int:
    """What a wallet's tokens are worth at their current prices, in base units."""
    return sum(size * _price(listings.by_token.get(token)) // SCALE for token, size in held.items())


def number(base_units: int) -> msgspec.Raw:
    """Base units as an exact JSON number."""
    return msgspec.Raw(amount_text(base_units).encode())


def _price(found: tuple[MarketState, int] | None) -> int:
    if found is None:
        return 0
    mid = found[0].mid()
    return mid if found[1] == 0 else SCALE - mid


def _status(size: int, price: int, *, resolved: bool) -> str:
    if not size:
        return "CLOSED"
    if not resolved:
        return "OPEN"
    return "REDEEMABLE" if price else "REDEEMABLE_LOST"


def _opposite(found: tuple[MarketState, int] | None) -> str:
    return "" if found is None else found[0].spec.tokens[1 - found[1]]


def _index(token_id: str, listings: Listings) -> int:
    found = listings.by_token.get(token_id)
    return OUTCOME_UNKNOWN if found is None else found[1]


def _market_fields(condition_id: str, listings: Listings) -> dict[str, str]:
    market = listings.by_condition.get(condition_id)
    if market is None:
        return {"title": "", "slug": "", "event_slug": ""}
    return {
        "title": market.spec.question,
        "slug": market.spec.slug,
        "event_slug": market.event.slug,
    }
