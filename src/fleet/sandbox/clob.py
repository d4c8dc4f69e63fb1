"""The CLOB's public read objects (reference 4.2). Pure functions from listed state to JSON values.

Prices and sizes are decimal texts; the few numbers (``minimum_tick_size``, ``mts``, ``fd.r``,
token ``price``) are numbers because the venue sends numbers there.
"""

from __future__ import annotations

from typing import Any, Final

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE, format_units
from fleet.sandbox.gamma import LISTED_BEFORE_S, iso
from fleet.sandbox.listing import MarketState
from fleet.sandbox.market_frames import BASE_FEE, MIN_ORDER_SIZE, description
from fleet.sandbox.universe import FEE_RATES

MIN_SIZE: Final = int(MIN_ORDER_SIZE)


def market_object(market: MarketState) -> dict[str, Any]:
    """``GET /markets/{condition_id}``."""
    spec = market.spec
    mid = market.mid()
    base_fee = BASE_FEE if FEE_RATES[spec.category] else 0
    listed_ns = spec.start_ns - LISTED_BEFORE_S * NS_PER_SECOND
    return {
        "enable_order_book": True,
        "active": True,
        "closed": market.closed,
        "archived": False,
        "accepting_orders": not market.closed,
        "accepting_order_timestamp": iso(listed_ns),
        "minimum_order_size": MIN_SIZE,
        "minimum_tick_size": market.tick / SCALE,
        "condition_id": spec.condition_id,
        "question_id": spec.question_id,
        "question": spec.question,
        "description": description(spec.question),
        "market_slug": spec.slug,
        "end_date_iso": iso(spec.end_ns)[:10] + "T00:00:00Z",
        "game_start_time": iso(spec.game_start_ns) if spec.game_start_ns else None,
        # Whole seconds here: the 50 ms of timed markets are not told.
        "seconds_delay": spec.taker_delay_ms // 1_000,
        "fpmm": "",
        "maker_base_fee": base_fee,
        "taker_base_fee": base_fee,
        "notifications_enabled": True,
        "neg_risk": spec.neg_risk,
        "neg_risk_market_id": market.event.neg_risk_market_id,
        "neg_risk_request_id": "",
        "icon": "",
        "image": "",
        "rewards": {"rates": None, "min_size": 0, "max_spread": 0},
        "is_50_50_outcome": False,
        "tokens": [
            {
                "token_id": token,
                "outcome": spec.outcomes[outcome],
                "price": (mid if outcome == 0 else SCALE - mid) / SCALE,
                "winner": market.winner == outcome,
            }
            for outcome, token in enumerate(spec.tokens)
        ],
        "tags": [spec.category.capitalize()],
    }


def simplified_market(market: MarketState) -> dict[str, Any]:
    """An entry of ``GET /simplified-markets``."""
    full = market_object(market)
    return {
        key: full[key]
        for key in (
            "condition_id",
            "rewards",
            "tokens",
            "active",
            "closed",
            "archived",
            "accepting_orders",
        )
    }


def compact_market(market: MarketState) -> dict[str, Any]:
    """``GET /clob-markets/{condition_id}``; no ``fd`` means no fee."""
    spec = market.spec
    rate = FEE_RATES[spec.category]
    found: dict[str, Any] = {
        "c": spec.condition_id,
        "t": [
            {"t": token, "o": spec.outcomes[outcome]} for outcome, token in enumerate(spec.tokens)
        ],
        "mts": market.tick / SCALE,
        "mos": MIN_SIZE,
        "nr": spec.neg_risk,
        "mbf": BASE_FEE if rate else 0,
        "tbf": BASE_FEE if rate else 0,
    }
    if rate:
        found["fd"] = {"r": rate / 100, "e": 1, "to": True}
    return found


def price_text(market: MarketState, outcome: int, *, buy: bool) -> str | None:
    """``GET /price``: the price a taker of that side meets, as the newest documentation has it."""
    price = market.best(outcome, buy=not buy)
    return None if price is None else format_units(price)


def midpoint_text(market: MarketState, outcome: int) -> str | None:
    """``GET /midpoint``: None when a side is empty."""
    bid, ask = market.best(outcome, buy=True), market.best(outcome, buy=False)
    return None if bid is None or ask is None else format_units((bid + ask) // 2)


def spread_text(market: MarketState, outcome: int) -> str | None:
    """``GET /spread``: None when a side is empty."""
    bid, ask = market.best(outcome, buy=True), market.best(outcome, buy=False)
    return None if bid is None or ask is None else format_units(ask - bid)


def last_trade(market: MarketState, outcome: int) -> dict[str, str]:
    """``GET /last-trade-price``: "0.5" and "" when never traded."""
    price = market.last_price(outcome)
    if price is None:
        return {"price": "0.5", "side": ""}
    buy = market.last_trade_buy if outcome == 0 else not market.last_trade_buy
    return {"price": format_units(price), "side": "BUY" if buy else "SELL"}


def price_history(
    market: MarketState, outcome: int, *, start_s: int, end_s: int, fidelity_min: int, now_ns: int
) -> dict[str, list[dict[str, Any]]]:
    """``GET /prices-history``: one point each ``fidelity_min`` minutes, and the price now."""
    points: list[dict[str, Any]] = []
    seen = [*market.history, (now_ns // NS_PER_SECOND, market.mid())]
    for at_s, mid in seen:
        if not start_s <= at_s <= end_s:
            continue
        if points and at_s - points[-1]["t"] < fidelity_min * 60 and at_s != seen[-1][0]:
            continue
        points.append({"t": at_s, "p": (mid if outcome == 0 else SCALE - mid) / SCALE})
    return {"history": points}
