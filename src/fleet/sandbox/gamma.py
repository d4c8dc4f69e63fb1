"""Gamma's objects: markets and events in the venue's shapes (reference 6.1).

Pure. ``outcomes``, ``outcomePrices`` and ``clobTokenIds`` are JSON *texts*, prices and volumes for
display are JSON numbers, ids are texts. Key sets and types are tested against recorded answers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fleet.clock import NS_PER_SECOND
from fleet.domain.units import SCALE, format_units
from fleet.sandbox.listing import GroupState, MarketState
from fleet.sandbox.market_frames import BASE_FEE, description
from fleet.sandbox.universe import FEE_RATES, REBATE_RATES, EventSpec

LISTED_BEFORE_S: Final = 7 * 86_400
"""Markets are shown as listed a week before the sandbox started."""

TAGS: Final = [
    {
        "id": str(101 + index),
        "label": category.capitalize(),
        "slug": category,
        "forceShow": False,
        "requiresTranslation": False,
    }
    for index, category in enumerate(FEE_RATES)
]


def iso(at_ns: int) -> str:
    """A UTC time as Gamma writes it."""
    at = dt.datetime.fromtimestamp(at_ns // NS_PER_SECOND, dt.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


_UNCHANGING: Final[Mapping[str, Any]] = {
    "resolutionSource": "",
    "image": "",
    "icon": "",
    "active": True,
    "marketMakerAddress": "",
    "new": False,
    "featured": False,
    "archived": False,
    "restricted": True,
    "enableOrderBook": True,
    "orderMinSize": 5,
    "hasReviewedDates": True,
    "negRiskRequestID": "",
    "version": "v1",
    "comboStatus": "disabled",
    "ready": False,
    "funded": False,
    "cyom": False,
    "pagerDutyNotificationEnabled": False,
    "approved": True,
    "rewardsMinSize": 0,
    "rewardsMaxSpread": 0,
    "automaticallyActive": True,
    "clearBookOnStart": False,
    "manualActivation": False,
    "umaResolutionStatuses": "[]",
    "pendingDeployment": False,
    "deploying": False,
    "rfqEnabled": False,
    "holdingRewardsEnabled": False,
    "requiresTranslation": False,
}
"""What every market of the sandbox has alike."""


def market_object(market: MarketState, *, with_events: bool = True) -> dict[str, Any]:
    """A Gamma market. Inside an event the ``events`` key is left out, as the venue does."""
    spec = market.spec
    bid, ask = market.best(0, buy=True), market.best(0, buy=False)
    mid = market.mid()
    last = market.last_price(0)
    liquidity = _liquidity(market)
    volume = market.volume / SCALE
    listed_ns = spec.start_ns - LISTED_BEFORE_S * NS_PER_SECOND
    found: dict[str, Any] = {
        **_UNCHANGING,
        "id": spec.id,
        "question": spec.question,
        "conditionId": spec.condition_id,
        "slug": spec.slug,
        "endDate": iso(spec.end_ns),
        "liquidity": f"{liquidity:.4f}",
        "startDate": iso(listed_ns),
        "description": description(spec.question),
        "outcomes": json_text(list(spec.outcomes)),
        "outcomePrices": json_text([format_units(mid), format_units(SCALE - mid)]),
        "volume": f"{volume:.6f}",
        "closed": market.closed,
        "createdAt": iso(listed_ns),
        "updatedAt": iso(market.updated_ns),
        "groupItemTitle": spec.group_item_title,
        "groupItemThreshold": spec.group_item_threshold,
        "questionID": spec.question_id,
        "orderPriceMinTickSize": market.tick / SCALE,
        "volumeNum": volume,
        "liquidityNum": liquidity,
        "endDateIso": iso(spec.end_ns)[:10],
        "startDateIso": iso(listed_ns)[:10],
        "volume24hr": volume,
        "volume1wk": volume,
        "volume1mo": volume,
        "volume1yr": volume,
        "clobTokenIds": json_text(list(spec.tokens)),
        "volumeClob": volume,
        "liquidityClob": liquidity,
        "acceptingOrders": not market.closed,
        "acceptingOrdersTimestamp": iso(listed_ns),
        "secondsDelay": spec.taker_delay_ms // 1_000,
        "negRisk": spec.neg_risk,
        "negRiskOther": spec.neg_risk_other,
        "competitive": 1 - abs(mid / SCALE - 0.5),
        "spread": ((ask or SCALE) - (bid or 0)) / SCALE,
        "bestBid": (bid or 0) / SCALE,
        "bestAsk": (ask or SCALE) / SCALE,
        "lastTradePrice": (last or 0) / SCALE,
        **_fees(spec.category),
    }
    if spec.neg_risk:
        found["negRiskMarketID"] = market.event.neg_risk_market_id
    if spec.game_start_ns:
        found["gameStartTime"] = iso(spec.game_start_ns).replace("T", " ").replace("Z", "+00")
        found["sportsMarketType"] = "moneyline"
    if market.closed:
        found["closedTime"] = iso(market.closed_ns)
        found["umaResolutionStatus"] = "resolved"
    if with_events:
        found["events"] = [event_head(market.event, closed=market.closed)]
    return found


def event_head(event: EventSpec, *, closed: bool) -> dict[str, Any]:
    """An event without its markets, as it stands inside a market."""
    listed_ns = event.start_ns - LISTED_BEFORE_S * NS_PER_SECOND
    head: dict[str, Any] = {
        "id": event.id,
        "ticker": event.slug,
        "slug": event.slug,
        "title": event.title,
        "description": description(event.title),
        "resolutionSource": "",
        "startDate": iso(listed_ns),
        "creationDate": iso(listed_ns),
        "endDate": iso(event.end_ns),
        "image": "",
        "icon": "",
        "active": True,
        "closed": closed,
        "archived": False,
        "new": False,
        "featured": False,
        "restricted": True,
        "createdAt": iso(listed_ns),
        "updatedAt": iso(event.start_ns),
        "enableOrderBook": True,
        "version": "v1",
        "negRisk": event.kind == "set",
        "enableNegRisk": event.kind == "set",
        "negRiskAugmented": event.augmented,
        "commentCount": 0,
        "cyom": False,
        "showAllOutcomes": True,
        "showMarketImages": False,
        "automaticallyActive": True,
        "pendingDeployment": False,
        "deploying": False,
        "requiresTranslation": False,
    }
    if event.neg_risk_market_id:
        head["negRiskMarketID"] = event.neg_risk_market_id
    return head


def event_object(group: GroupState) -> dict[str, Any]:
    """A Gamma event with its markets and tags."""
    volume = sum(m.volume for m in group.markets) / SCALE
    liquidity = sum(_liquidity(m) for m in group.markets)
    closed = all(m.closed for m in group.markets)
    return {
        **event_head(group.event, closed=closed),
        "liquidity": liquidity,
        "liquidityClob": liquidity,
        "volume": volume,
        "volume24hr": volume,
        "openInterest": 0.0,
        "markets": [market_object(m, with_events=False) for m in group.markets],
        "series": [],
        "tags": [t for t in TAGS if t["slug"] == group.event.category],
    }


def json_text(value: list[str]) -> str:
    """A list as the JSON text Gamma puts inside its JSON (with a space after each comma)."""
    return "[" + ", ".join(msgspec.json.encode(item).decode() for item in value) + "]"


def _fees(category: str) -> dict[str, Any]:
    rate = FEE_RATES[category]
    base_fee = BASE_FEE if rate else 0
    if not rate:
        return {"feesEnabled": False, "makerBaseFee": base_fee, "takerBaseFee": base_fee}
    return {
        "feesEnabled": True,
        "makerBaseFee": base_fee,
        "takerBaseFee": base_fee,
        "feeType": f"{category}_fees_v2",
        "feeSchedule": {
            "exponent": 1,
            "rate": rate / 100,
            "takerOnly": True,
            "rebateRate": REBATE_RATES[category],
        },
    }


def _liquidity(market: MarketState) -> float:
    """Dollars resting on both sides of the YES book."""
    total = 0
    for buy in (True, False):
        for price, qty in market.levels(0, buy=buy):
            total += (price if buy else SCALE - price) * qty // SCALE
    return total / SCALE
