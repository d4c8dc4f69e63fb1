"""The market channel's messages, exactly as the venue writes them (reference 5.1).

Pure functions from listed state to JSON bytes; ``event_type`` comes last, as it does on the wire.
All numbers are decimal texts without trailing zeros, times are millisecond texts, ``bids`` rise and
``asks`` fall (the best price last).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fleet.clock import NS_PER_MS
from fleet.domain.units import SCALE, Price, format_units
from fleet.sandbox.liquidity import QTY_PER_BASE
from fleet.sandbox.listing import MarketState
from fleet.sandbox.market_book import LevelChange
from fleet.sandbox.universe import FEE_RATES, REBATE_RATES

encode: Final = msgspec.json.Encoder().encode
MIN_ORDER_SIZE: Final = "5"
BASE_FEE: Final = 1000
"""``taker_base_fee``: a ceiling in every market that charges fees, never the rate (reference 0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One message. It goes to clients subscribed to any of ``assets``.

    ``custom`` messages go only to clients that asked for them; ``everyone`` ones (new markets) go
    to all of those, whatever they subscribed to.
    """

    event_type: str
    at_ns: int
    assets: tuple[str, ...]
    payload: bytes
    custom: bool = False
    everyone: bool = False


def ms_text(at_ns: int) -> str:
    """Milliseconds since the epoch, as text."""
    return str(at_ns // NS_PER_MS)


def book_hash(book: dict[str, Any]) -> str:
    """SHA-1 of a book object's compact JSON with an empty ``hash`` (py-clob-client-v2 1.2.1)."""
    ordered = {
        key: "" if key == "hash" else book[key]
        for key in (
            "market",
            "asset_id",
            "timestamp",
            "hash",
            "bids",
            "asks",
            "min_order_size",
            "tick_size",
            "neg_risk",
            "last_trade_price",
        )
    }
    return hashlib.sha1(encode(ordered), usedforsecurity=False).hexdigest()


def book_object(market: MarketState, outcome: int) -> dict[str, Any]:
    """A token's book as REST answers it; the websocket adds ``event_type``."""
    last = market.last_price(outcome)
    book: dict[str, Any] = {
        "market": market.spec.condition_id,
        "asset_id": market.spec.tokens[outcome],
        "timestamp": ms_text(market.updated_ns),
        "hash": "",
        "bids": _levels(market, outcome, buy=True),
        "asks": _levels(market, outcome, buy=False),
        "min_order_size": MIN_ORDER_SIZE,
        "tick_size": format_units(market.tick),
        "neg_risk": market.spec.neg_risk,
        "last_trade_price": "" if last is None else format_units(last),
    }
    book["hash"] = book_hash(book)
    return book


def book_message(market: MarketState, outcome: int) -> dict[str, Any]:
    """A ``book`` message."""
    return {**book_object(market, outcome), "event_type": "book"}


def book_frames(market: MarketState, at_ns: int) -> list[Frame]:
    """Snapshots of both tokens."""
    return [
        Frame(
            event_type="book",
            at_ns=at_ns,
            assets=(market.spec.tokens[outcome],),
            payload=encode(book_message(market, outcome)),
        )
        for outcome in (0, 1)
    ]


def price_change_frame(market: MarketState, changes: Sequence[LevelChange], at_ns: int) -> Frame:
    """Level changes, each as its entry for the YES token and its mirror for the NO token."""
    entries = []
    best = [(_best_text(market, o, buy=True), _best_text(market, o, buy=False)) for o in (0, 1)]
    for change in changes:
        yes = change.index * market.tick
        # What a change says is the flow's; the level is everybody's.
        users = market.pool.of_users(buy=change.buy, price=Price(yes)) * QTY_PER_BASE
        size = format_units(change.qty + users)
        for outcome, price, buy in ((0, yes, change.buy), (1, SCALE - yes, not change.buy)):
            token, price_text = market.spec.tokens[outcome], format_units(price)
            # The venue sends an order's hash here, of no use to a book (py-clob-client-v2 #117).
            digest = hashlib.sha1(
                f"{token}:{price_text}:{size}:{at_ns}".encode(), usedforsecurity=False
            )
            entries.append(
                {
                    "asset_id": token,
                    "price": price_text,
                    "size": size,
                    "side": "BUY" if buy else "SELL",
                    "hash": digest.hexdigest(),
                    "best_bid": best[outcome][0],
                    "best_ask": best[outcome][1],
                }
            )
    message = {
        "market": market.spec.condition_id,
        "price_changes": entries,
        "timestamp": ms_text(at_ns),
        "event_type": "price_change",
    }
    return Frame(
        event_type="price_change", at_ns=at_ns, assets=market.spec.tokens, payload=encode(message)
    )


def last_trade_frame(
    market: MarketState, *, outcome: int, buy: bool, price: Price, qty: int, at_ns: int
) -> Frame:
    """A print: the taker's token, side and price."""
    token = market.spec.tokens[outcome]
    digest = hashlib.sha256(f"{token}:{price}:{qty}:{at_ns}".encode()).hexdigest()
    message = {
        "market": market.spec.condition_id,
        "asset_id": token,
        "price": format_units(price),
        "size": format_units(qty),
        "side": "BUY" if buy else "SELL",
        "fee_rate_bps": str(FEE_RATES[market.spec.category] * 100),
        "transaction_hash": f"0x{digest}",
        "timestamp": ms_text(at_ns),
        "event_type": "last_trade_price",
    }
    return Frame(
        event_type="last_trade_price", at_ns=at_ns, assets=(token,), payload=encode(message)
    )


def tick_size_frames(market: MarketState, old: Price, at_ns: int) -> list[Frame]:
    """The change of the price grid, one message a token."""
    return [
        Frame(
            event_type="tick_size_change",
            at_ns=at_ns,
            assets=(token,),
            payload=encode(
                {
                    "market": market.spec.condition_id,
                    "asset_id": token,
                    "old_tick_size": format_units(old),
                    "new_tick_size": format_units(market.tick),
                    "timestamp": ms_text(at_ns),
                    "event_type": "tick_size_change",
                }
            ),
        )
        for token in market.spec.tokens
    ]


def best_frames(market: MarketState, at_ns: int) -> list[Frame]:
    """``best_bid_ask`` of both tokens (custom)."""
    frames = []
    for outcome, token in enumerate(market.spec.tokens):
        bid, ask = market.best(outcome, buy=True), market.best(outcome, buy=False)
        if bid is None or ask is None:
            continue
        frames.append(
            Frame(
                event_type="best_bid_ask",
                at_ns=at_ns,
                assets=(token,),
                custom=True,
                payload=encode(
                    {
                        "market": market.spec.condition_id,
                        "asset_id": token,
                        "best_bid": format_units(bid),
                        "best_ask": format_units(ask),
                        "spread": format_units(ask - bid),
                        "timestamp": ms_text(at_ns),
                        "event_type": "best_bid_ask",
                    }
                ),
            )
        )
    return frames


def new_market_frame(market: MarketState, at_ns: int) -> Frame:
    """A market was listed (custom, to everyone)."""
    spec = market.spec
    rate = FEE_RATES[spec.category]
    message = {
        "id": spec.id,
        "question": spec.question,
        "market": spec.condition_id,
        "slug": spec.slug,
        "description": description(spec.question),
        "assets_ids": list(spec.tokens),
        "outcomes": list(spec.outcomes),
        "event_message": _event_message(market),
        "timestamp": ms_text(at_ns),
        "event_type": "new_market",
        "tags": [spec.category],
        "condition_id": spec.condition_id,
        "active": True,
        "clob_token_ids": list(spec.tokens),
        "sports_market_type": "",
        "line": "",
        "game_start_time": "",
        "order_price_min_tick_size": format_units(market.tick),
        "group_item_title": spec.group_item_title,
        "taker_base_fee": str(BASE_FEE if rate else 0),
        "fees_enabled": rate > 0,
        "fee_schedule": {
            "exponent": "1",
            "rate": f"{rate / 100:g}",
            "taker_only": True,
            "rebate_rate": f"{REBATE_RATES.get(spec.category, 0):g}",
        },
    }
    return Frame(
        event_type="new_market",
        at_ns=at_ns,
        assets=spec.tokens,
        payload=encode(message),
        custom=True,
        everyone=True,
    )


def market_resolved_frame(market: MarketState, winner: int, at_ns: int) -> Frame:
    """A market was resolved (custom)."""
    spec = market.spec
    message = {
        "id": spec.id,
        "market": spec.condition_id,
        "assets_ids": list(spec.tokens),
        "winning_asset_id": spec.tokens[winner],
        "winning_outcome": spec.outcomes[winner],
        "event_message": _event_message(market),
        "tags": [spec.category],
        "timestamp": ms_text(at_ns),
        "event_type": "market_resolved",
    }
    return Frame(
        event_type="market_resolved",
        at_ns=at_ns,
        assets=spec.tokens,
        payload=encode(message),
        custom=True,
    )


def description(what: str) -> str:
    """The description of anything listed here: it must never pass for the real thing."""
    return f"{what} A simulated market of the local sandbox; nothing real is behind it."


def _event_message(market: MarketState) -> dict[str, str]:
    event = market.event
    return {
        "id": event.id,
        "ticker": event.slug,
        "slug": event.slug,
        "title": event.title,
        "description": description(event.title),
    }


def _best_text(market: MarketState, outcome: int, *, buy: bool) -> str:
    price = market.best(outcome, buy=buy)
    return format_units(price) if price is not None else "0" if buy else "1"


def _levels(market: MarketState, outcome: int, *, buy: bool) -> list[dict[str, str]]:
    worst_first = reversed(market.levels(outcome, buy=buy))
    return [{"price": format_units(p), "size": format_units(q)} for p, q in worst_first]
