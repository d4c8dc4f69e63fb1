"""Orders and trades as their owners are told: REST objects and user-channel frames (4.4, 5.2).

Pure. Amounts leave as decimal texts, REST times as seconds, frame stamps as milliseconds. A trade's
top-level side, token, price and size are the taker's, whoever reads it. The anonymous flow has no
key and no wallet; ``FLOW_OWNER`` and ``FLOW_WALLET`` stand for both, because clients expect a uuid
and an address there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.domain.units import SCALE, format_units
from fleet.sandbox.exchange.contract import (
    BASE_UNIT,
    MakerFill,
    OrderUpdate,
    OrderView,
    Placement,
    TradeView,
)

FLOW_OWNER: Final = "00000000-0000-4000-8000-000000000000"
FLOW_WALLET: Final = "0xf1f1f1F1f1f1F1F1f1F1f1F1F1F1F1f1F1f1f1F1"
"""Also who the flow is in the chain's logs."""
STATUS_PREFIX: Final = "TRADE_STATUS_"
"""REST spells the status of a trade with it, the user channel without (reference 4.4)."""
OutcomeIndex = Callable[[str, str], int]
"""(token id, outcome) -> 0 or 1."""


def amount_text(base_units: int) -> str:
    """Shares or pUSD in base units as a decimal text."""
    return format_units(base_units * (SCALE // BASE_UNIT))


def placement_object(placement: Placement) -> dict[str, Any]:
    """The answer to an order that was taken. Amounts are empty while nothing matched."""
    matched = placement.making_amount or placement.taking_amount
    return _result(
        placement.order_id,
        placement.status.value,
        making=amount_text(placement.making_amount) if matched else "",
        taking=amount_text(placement.taking_amount) if matched else "",
        trade_ids=list(placement.trade_ids),
    )


def refusal_object(text: str) -> dict[str, Any]:
    """The answer to a refused order of a batch: ``success`` is true all the same (4.3)."""
    return _result("", "", error=text)


def _result(
    order_id: str,
    status: str,
    *,
    error: str = "",
    making: str = "",
    taking: str = "",
    trade_ids: list[str] | None = None,
) -> dict[str, Any]:
    return {
        "success": True,
        "errorMsg": error,
        "orderID": order_id,
        "status": status,
        "makingAmount": making,
        "takingAmount": taking,
        "tradeIDs": trade_ids or [],
        "transactionsHashes": [],
    }


def order_object(order: OrderView) -> dict[str, Any]:
    """An open order as ``/data/orders`` tells it."""
    return {
        "id": order.order_id,
        "status": order.status,
        "owner": order.owner,
        "maker_address": order.maker,
        "market": order.condition_id,
        "asset_id": order.token_id,
        "side": order.side.value,
        "original_size": amount_text(order.original_size),
        "size_matched": amount_text(order.size_matched),
        "price": format_units(order.price),
        "outcome": order.outcome,
        "expiration": str(order.expiration_s),
        "order_type": order.tif.value,
        "associate_trades": list(order.trade_ids),
        "created_at": order.created_ns // NS_PER_SECOND,
    }


def trade_object(trade: TradeView, owner: str) -> dict[str, Any]:
    """A trade as ``/data/trades`` tells it to ``owner``."""
    return {
        "id": trade.trade_id,
        "taker_order_id": trade.taker_order_id,
        "market": trade.condition_id,
        "asset_id": trade.token_id,
        "side": trade.side.value,
        "size": amount_text(trade.size),
        "fee_rate_bps": str(trade.fee_rate_bps),
        "price": format_units(trade.price),
        "status": STATUS_PREFIX + trade.status.value,
        "match_time": _seconds_text(trade.matched_ns),
        "last_update": _seconds_text(trade.updated_ns),
        "outcome": trade.outcome,
        "bucket_index": 0,
        "owner": trade.owner or FLOW_OWNER,
        "maker_address": trade.maker or FLOW_WALLET,
        "transaction_hash": trade.transaction_hash,
        "trader_side": "TAKER" if trade.owner == owner else "MAKER",
        "maker_orders": [_maker_object(maker) for maker in trade.makers],
    }


def _maker_object(maker: MakerFill) -> dict[str, Any]:
    return {
        "order_id": maker.order_id,
        "owner": maker.owner or FLOW_OWNER,
        "maker_address": maker.maker or FLOW_WALLET,
        "matched_amount": amount_text(maker.size),
        "price": format_units(maker.price),
        "fee_rate_bps": "0",
        "asset_id": maker.token_id,
        "outcome": maker.outcome,
        "side": maker.side.value,
    }


def order_frame(update: OrderUpdate) -> dict[str, Any]:
    """An order's change as the user channel tells it."""
    order = update.order
    return order_object(order) | {
        "event_type": "order",
        "type": update.change.value,
        "order_owner": order.owner,
        "associate_trades": list(order.trade_ids) or None,
        "created_at": _seconds_text(order.created_ns),
        "timestamp": _ms_text(update.at_ns),
    }


def trade_frame(
    trade: TradeView, owner: str, at_ns: int, outcome_index: OutcomeIndex
) -> dict[str, Any]:
    """A trade's step as the user channel tells it to ``owner``."""
    told = trade_object(trade, owner)
    for maker in told["maker_orders"]:
        maker["outcome_index"] = outcome_index(maker["asset_id"], maker["outcome"])
    return told | {
        "event_type": "trade",
        "type": "TRADE",
        "status": trade.status.value,
        "trade_owner": owner,
        "transaction_hash": trade.transaction_hash or None,
        "timestamp": _ms_text(at_ns),
    }


def owners_in(trade: TradeView) -> list[str]:
    """The keys that took part, the taker's first, each once."""
    return [o for o in dict.fromkeys((trade.owner, *(m.owner for m in trade.makers))) if o]


def _seconds_text(at_ns: int) -> str:
    return str(at_ns // NS_PER_SECOND)


def _ms_text(at_ns: int) -> str:
    return str(at_ns // NS_PER_MS)
