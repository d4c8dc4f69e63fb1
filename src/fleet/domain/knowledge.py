"""Facts that are knowledge, not money: forecasts, what others were seen to do, whom we follow.

They are journalled like all that a decision rests on.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar, Final

from msgspec import Struct

from fleet.domain.event import Event
from fleet.domain.instruments import InstrumentId, MarketId, Side
from fleet.domain.units import ZERO_CASH, Cash, Price, Qty


class ForecastReceived(Event, frozen=True, kw_only=True, gc=False):
    """Somebody's probability that a market resolves YES, and what it is worth against the price.

    Probabilities, weight and deviation are at 1e-8. ``raw`` is the forecaster's own; ``blend`` is
    what remains after calibration and after blending with the market ``price`` by ``weight``. A
    weight of 0 says that no skill against the price was shown: nothing may be staked on it, and
    ``verdict`` says so. ``deviation`` is the standard error of the blend.
    """

    KIND: ClassVar[str] = "ForecastReceived"

    request_id: str
    market_id: MarketId
    forecaster: str
    model: str
    as_of_ns: int
    raw: int
    blend: int
    weight: int
    deviation: int
    price: Price
    verdict: str
    samples: tuple[int, ...] = ()
    evidence: tuple[str, ...] = ()
    """Ids of what it was made from; the texts are in the retrieval memory."""
    prompt_hash: str = ""
    cost: Cash = ZERO_CASH


class ForecastFailed(Event, frozen=True, kw_only=True, gc=False):
    """A forecast that was asked for could not be made; never a guess instead."""

    KIND: ClassVar[str] = "ForecastFailed"

    request_id: str
    market_id: MarketId
    forecaster: str
    reason: str
    cost: Cash = ZERO_CASH


class LeaderTraded(Event, frozen=True, kw_only=True, gc=False):
    """A followed wallet's trade, seen on chain; idempotent by ``sighting_id``.

    ``ts_event`` is the block's time. ``maker`` says on which side of the match the wallet stood.
    """

    KIND: ClassVar[str] = "LeaderTraded"

    sighting_id: str
    """Transaction hash and log index: the same log is one trade, however often it is told."""
    wallet: str
    instrument_id: InstrumentId
    side: Side
    price: Price
    qty: Qty
    maker: bool
    block: int
    block_hash: str


class MoveKind(Enum):
    """How a followed wallet's tokens changed without a trade."""

    SPLIT = "SPLIT"
    MERGE = "MERGE"
    CONVERT = "CONVERT"
    REDEEM = "REDEEM"
    TRANSFER = "TRANSFER"


class LeaderMoved(Event, frozen=True, kw_only=True, gc=False):
    """A followed wallet's tokens changed without a trade; idempotent by ``sighting_id``.

    ``changes`` is (token, shares gained or, negative, given up).
    """

    KIND: ClassVar[str] = "LeaderMoved"

    sighting_id: str
    wallet: str
    kind: MoveKind
    changes: tuple[tuple[InstrumentId, int], ...]
    block: int
    block_hash: str


class SightingUndone(Event, frozen=True, kw_only=True, gc=False):
    """A block that was told is no longer part of the chain, and this sighting with it."""

    KIND: ClassVar[str] = "SightingUndone"

    sighting_id: str
    wallet: str


class Followed(Struct, frozen=True, kw_only=True, gc=False):
    """One wallet that is looked at: its trades are copied, or only watched, and why."""

    wallet: str
    copied: bool
    verdict: str = ""


class LeadersChosen(Event, frozen=True, kw_only=True, gc=False):
    """Who is followed from now on; it replaces whoever was. Nobody is copied before the first."""

    KIND: ClassVar[str] = "LeadersChosen"

    leaders: tuple[Followed, ...]


class CopyRefusal(Enum):
    """Why a leader's purchase was not copied; explained in ``COPY_REFUSAL_MEANING``."""

    NOT_COPIED = "NOT_COPIED"
    MARKET_UNKNOWN = "MARKET_UNKNOWN"
    MARKET_RESOLVED = "MARKET_RESOLVED"
    MARKET_ENDING = "MARKET_ENDING"
    SIGHTING_OLD = "SIGHTING_OLD"
    TRADING_OFF = "TRADING_OFF"
    LEADER_LEFT = "LEADER_LEFT"
    LEADER_HEDGED = "LEADER_HEDGED"
    LEADERS_OPPOSED = "LEADERS_OPPOSED"
    BOOK_UNUSABLE = "BOOK_UNUSABLE"
    PRICE_RAN = "PRICE_RAN"
    DEPTH_THIN = "DEPTH_THIN"
    SIZE_SMALL = "SIZE_SMALL"
    COPY_UNDER_WAY = "COPY_UNDER_WAY"
    COPY_LIMIT = "COPY_LIMIT"
    MARKET_LIMIT = "MARKET_LIMIT"
    LEADER_LIMIT = "LEADER_LIMIT"
    DAY_LIMIT = "DAY_LIMIT"
    CASH_SHORT = "CASH_SHORT"
    FORECAST_MISSING = "FORECAST_MISSING"
    FORECAST_UNSKILLED = "FORECAST_UNSKILLED"
    FORECAST_DOUBTS = "FORECAST_DOUBTS"
    RISK_REFUSED = "RISK_REFUSED"


COPY_REFUSAL_MEANING: Final[Mapping[CopyRefusal, str]] = {
    CopyRefusal.NOT_COPIED: "the wallet is not copied any more",
    CopyRefusal.MARKET_UNKNOWN: "the market is not in the universe, or nobody may trade it",
    CopyRefusal.MARKET_RESOLVED: "the question is answered",
    CopyRefusal.MARKET_ENDING: "the market ends too soon",
    CopyRefusal.SIGHTING_OLD: "the trade was told, or could be copied, too late",
    CopyRefusal.TRADING_OFF: "trading was not active while the trade was young enough",
    CopyRefusal.LEADER_LEFT: "the leader had left again before we could follow",
    CopyRefusal.LEADER_HEDGED: "the leader holds too much of the other side",
    CopyRefusal.LEADERS_OPPOSED: "all copied leaders together want less of this side",
    CopyRefusal.BOOK_UNUSABLE: "the book was void or crossed while the trade was young enough",
    CopyRefusal.PRICE_RAN: "the price is beyond the leader's and the slippage allowed",
    CopyRefusal.DEPTH_THIN: "too little is offered up to the price limit",
    CopyRefusal.SIZE_SMALL: "our part of it is below the venue's minimum",
    CopyRefusal.COPY_UNDER_WAY: "an earlier copy of the same was still under way",
    CopyRefusal.COPY_LIMIT: "the limit for copying one leader in one token is reached",
    CopyRefusal.MARKET_LIMIT: "the limit for one market is reached",
    CopyRefusal.LEADER_LIMIT: "the limit for one leader is reached",
    CopyRefusal.DAY_LIMIT: "the limit of the day is reached",
    CopyRefusal.CASH_SHORT: "not enough free cash",
    CopyRefusal.FORECAST_MISSING: "no forecast came in time",
    CopyRefusal.FORECAST_UNSKILLED: "the forecaster has shown no skill against the price",
    CopyRefusal.FORECAST_DOUBTS: "the forecaster is not sure enough that it is worth its price",
    CopyRefusal.RISK_REFUSED: "risk refused the bundle; the decision beside it says why",
}
"""What each reason says to an operator."""


class CopyRefused(Event, frozen=True, kw_only=True, gc=False):
    """These trades of a leader will not be copied; ``detail`` has the figures."""

    KIND: ClassVar[str] = "CopyRefused"

    sightings: tuple[str, ...]
    wallet: str
    instrument_id: InstrumentId
    reason: CopyRefusal
    detail: str = ""
