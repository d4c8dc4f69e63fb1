"""Gamma's events and markets as the venue writes them, read one by one. Pure.

Each object is decoded on its own: what is odd about one raises ``Oddity`` and concerns no other.
Shapes: docs/polymarket.md, "Listings".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import SCALE

T = TypeVar("T")

CATEGORIES: Final = (
    "crypto", "sports", "politics", "economics", "finance", "tech", "culture", "weather",
    "mentions", "geopolitics",
)  # fmt: skip
"""Fee categories (fees page, 2026-11); an event's first tag among them names its category."""


class Oddity(Exception):  # noqa: N818 - a market's oddity, not an error of the program
    """Why one market is left out."""


class GammaFees(msgspec.Struct):
    rate: Decimal
    exponent: Decimal = Decimal(1)


class GammaTag(msgspec.Struct):
    slug: str = ""
    label: str = ""


class GammaMarket(msgspec.Struct, rename="camel"):
    condition_id: str
    question: str
    outcomes: str
    version: str | None = None
    slug: str | None = None
    clob_token_ids: str | None = None
    position_ids: list[str] | None = None
    active: bool | None = None
    closed: bool | None = None
    archived: bool | None = None
    accepting_orders: bool | None = None
    enable_order_book: bool | None = None
    end_date: str | None = None
    order_price_min_tick_size: Decimal | None = None
    order_min_size: Decimal | None = None
    neg_risk: bool | None = None
    neg_risk_other: bool | None = None
    neg_risk_market_id: str | None = msgspec.field(default=None, name="negRiskMarketID")
    group_item_title: str | None = None
    liquidity_num: Decimal | None = None
    fees_enabled: bool | None = None
    fee_schedule: GammaFees | None = None
    description: str | None = None


class MarketName(msgspec.Struct, rename="camel"):
    condition_id: str = ""


class GammaEvent(msgspec.Struct, rename="camel"):
    id: str
    title: str = ""
    neg_risk: bool | None = None
    enable_neg_risk: bool | None = None
    neg_risk_augmented: bool | None = None
    neg_risk_market_id: str | None = msgspec.field(default=None, name="negRiskMarketID")
    markets: list[msgspec.Raw] = []
    tags: list[GammaTag] | None = None


@dataclass(slots=True, kw_only=True)
class ListedMarket:
    """A market as Gamma lists it, read but not yet checked against the CLOB."""

    gamma: GammaMarket
    tokens: tuple[InstrumentId, InstrumentId]
    outcomes: tuple[str, str]
    event_id: str
    category: str


def read_market(
    raw: msgspec.Raw, event: GammaEvent, category: str, *, liquidity_min: int
) -> ListedMarket:
    """One market of ``event``. Raises ``Oddity`` for what cannot or must not be traded."""
    gamma = decode_object(raw, GammaMarket)
    if not re.fullmatch(r"0x[0-9a-fA-F]{62,64}", gamma.condition_id):
        raise Oddity("condition id unreadable")
    if gamma.closed or gamma.archived or gamma.active is False:
        raise Oddity("closed")
    if gamma.accepting_orders is False or gamma.enable_order_book is False:
        raise Oddity("not accepting orders")
    augmented = bool(event.neg_risk_augmented)
    title = gamma.group_item_title or ""
    if augmented and (gamma.neg_risk_other or not title or is_placeholder(title)):
        raise Oddity("placeholder of an augmented set")
    if (gamma.liquidity_num or Decimal(0)) < liquidity_min:
        raise Oddity("liquidity below the limit")
    outcomes = _texts(gamma.outcomes, "outcomes")
    version = gamma.version or "v1"
    if version == "v1":
        tokens = _texts(gamma.clob_token_ids or "", "clobTokenIds")
    elif version == "v2":
        tokens = gamma.position_ids or []
    else:
        raise Oddity(f"version {version[:10]!r} unknown")
    if len(outcomes) != 2 or len(tokens) != 2 or tokens[0] == tokens[1]:
        raise Oddity("not two outcomes with two tokens")
    if not all(re.fullmatch(r"[1-9]\d{0,77}", token) for token in tokens):
        raise Oddity("token id unreadable")
    return ListedMarket(
        gamma=gamma,
        tokens=(InstrumentId(tokens[0]), InstrumentId(tokens[1])),
        outcomes=(outcomes[0], outcomes[1]),
        event_id=event.id,
        category=category,
    )


def is_placeholder(title: str) -> bool:
    """Whether a title of an augmented set names nobody: "Other", "Another person", "Team B"."""
    return bool(
        re.fullmatch(
            r"others?|another\b.*|any other\b.*|someone else", title.strip(), re.IGNORECASE
        )
        or re.fullmatch(r"\w+ [A-Z]{1,2}", title.strip())
    )


def _texts(text: str, what: str) -> list[str]:
    """A JSON list of texts inside a JSON text, as Gamma writes some fields."""
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Oddity(f"{what} unreadable") from None


def decode_object(raw: msgspec.Raw, shape: type[T]) -> T:
    """One JSON object as ``shape``. Raises ``Oddity`` naming the field that is wrong."""
    try:
        return msgspec.json.decode(raw, type=shape, strict=False)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # "Expected `str`, got `int` - at `$.question`" or "... missing required field `outcomes`".
        field = re.search(r"(?:`\$\.|required field `)([\w.\[\]]+)", str(error))
        raise Oddity(f"{field[1] if field else 'object'} missing or misshapen") from None


def exact_units(number: Decimal, what: str) -> int:
    """A JSON number as an integer at 1e-8. Raises ``Oddity`` if it is none."""
    if not number.is_finite() or not 0 <= number < Decimal(10**9):
        raise Oddity(f"{what} out of range")
    scaled = number * SCALE
    if scaled != int(scaled):
        raise Oddity(f"{what} finer than 1e-8")
    return int(scaled)


def end_time_ns(text: str | None, now_ns: int) -> int:
    """An end date as nanoseconds; 0 if there is none, or it has passed and so is no end."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return 0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    end_ns = int(at.timestamp()) * NS_PER_SECOND
    return end_ns if end_ns > now_ns else 0
