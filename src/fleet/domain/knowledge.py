"""Facts that are knowledge, not money: forecasts, and what others were seen to do.

They are journalled like all that a decision rests on.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

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
