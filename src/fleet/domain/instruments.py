"""What can be traded: ids, instruments, markets, outcome sets and ladders.

An ``Instrument`` is one outcome token (the YES or the NO of a market), whose price stays below one
dollar; a binary market's two instruments name each other as ``complement``. Or it is a share or a
coin: no ``ceiling``, no complement, and its market names it as both YES and NO. An ``OutcomeSet``
is a neg-risk event: exactly one of its markets resolves YES. A ``Ladder`` is a chain of markets of
which each implies the next ("by June" implies "by July", "above 110" implies "above 100").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NewType

from fleet.domain.units import (
    ONE,
    SCALE,
    ZERO_CASH,
    Cash,
    Price,
    Qty,
    ceil_to,
    floor_to,
    notional_up,
)

InstrumentId = NewType("InstrumentId", str)
"""The venue's token id; for Polymarket the decimal text of a uint256."""
MarketId = NewType("MarketId", str)
"""The venue's market id; for Polymarket the condition id, 0x and 64 hex digits."""
SetId = NewType("SetId", str)

FEE_STEP: Final = 1_000
"""Fees are charged to five decimals of a dollar (Polymarket fee page, read 2026-11)."""


_POWERS: Final = tuple(int(SCALE**power) for power in range(10))
"""Powers of the scale, made once: fees are worked out on the hot path."""
_SQUARE: Final = _POWERS[2]
_CUBE: Final = _POWERS[3]
_CUBE_STEP: Final = _CUBE * FEE_STEP


class Side(Enum):
    """The side of an order or of a book level."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class InstrumentError(ValueError):
    """An instrument or market that cannot be traded as described."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeSchedule:
    """Taker fee: shares x rate x (p x (1 - p)) ^ exponent, makers pay nothing.

    ``rate`` is at 1e-8 (0.07 is 7,000,000). Source: Polymarket fee page, market ``feeSchedule``.
    """

    rate: int = 0
    exponent: int = 1

    def __post_init__(self) -> None:
        """Refuse a rate outside [0, 1] or an exponent outside [0, 4]."""
        if not 0 <= self.rate <= SCALE:
            raise InstrumentError(f"fee rate {self.rate} is outside 0..1 at 1e-8")
        if not 0 <= self.exponent <= 4:
            raise InstrumentError(f"fee exponent {self.exponent} is outside 0..4")

    def per_share(self, price: Price) -> int:
        """The fee on one share at ``price``, at 1e-8, rounded up."""
        rate = self.rate
        if rate == 0 or not 0 < price < SCALE:
            return 0
        if self.exponent == 1:
            return -(-rate * price * (SCALE - price) // _SQUARE)
        shape = int((price * (SCALE - price)) ** self.exponent)
        return -(-rate * shape // _POWERS[2 * self.exponent])

    def fee(self, price: Price, qty: Qty) -> Cash:
        """The fee on ``qty`` shares at ``price``, rounded up to five decimals of a dollar.

        The venue rounds to five decimals; rounding up keeps the estimate never below the charge.
        """
        rate = self.rate
        if rate == 0 or not 0 < price < SCALE:
            return ZERO_CASH
        if self.exponent == 1:
            # One division rounds up to the step at once.
            steps = -qty * rate * price * (SCALE - price) // _CUBE_STEP
            return -steps * FEE_STEP  # type: ignore[return-value]  # the hot path wraps no int
        shape = int((price * (SCALE - price)) ** self.exponent)
        exact = -(-qty * rate * shape // _POWERS[2 * self.exponent + 1])
        return Cash(exact + -exact % FEE_STEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProportionalFees(FeeSchedule):
    """Taker fee of a stock or coin exchange: ``rate`` x price x quantity.

    Rounded up to 1e-8 of the quote currency; ``exponent`` means nothing here. The notional is
    rounded up first, so that whoever knows it alone comes to the same fee.
    """

    exponent: int = 0

    def per_share(self, price: Price) -> int:
        """The fee on one unit at ``price``, at 1e-8, rounded up."""
        return -(-self.rate * price // SCALE)

    def fee(self, price: Price, qty: Qty) -> Cash:
        """The fee on ``qty`` units at ``price``, rounded up to 1e-8."""
        return Cash(-(-self.rate * notional_up(price, qty) // SCALE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One outcome token, share or coin, and the rules its orders obey.

    ``tick`` and ``lot`` are the price and quantity steps, ``min_qty`` the least shares of an order,
    ``min_notional`` the least dollars of an order that takes. ``ceiling`` is what every price is
    below: a dollar for an outcome token; 0 when nothing bounds it. ``complement`` is empty without
    one.
    """

    id: InstrumentId
    market_id: MarketId
    complement: InstrumentId
    outcome: str
    tick: Price
    lot: Qty = Qty(SCALE // 100)
    min_qty: Qty = Qty(5 * SCALE)
    min_notional: Cash = Cash(SCALE)
    fees: FeeSchedule = field(default_factory=FeeSchedule)
    neg_risk: bool = False
    ceiling: Price = ONE

    def __post_init__(self) -> None:
        """Refuse a tick that does not divide one dollar, and steps that are not positive."""
        if self.ceiling not in {0, SCALE}:
            raise InstrumentError(f"the ceiling of {self.id} is neither one dollar nor 0")
        if self.ceiling == 0 and self.tick <= 0:
            raise InstrumentError(f"tick {self.tick} of {self.id} must be positive")
        if self.ceiling and (not 0 < self.tick <= SCALE // 2 or SCALE % self.tick):
            raise InstrumentError(f"tick {self.tick} of {self.id} does not divide one dollar")
        if self.lot <= 0 or self.min_qty < 0 or self.min_notional < 0:
            raise InstrumentError(f"lot and minimums of {self.id} must be positive")

    def quantize_price(self, price: int, side: Side) -> Price:
        """Bring a proposed price to the grid, never to our cost: BUY down, SELL up.

        It is at least one tick, and one tick below the ceiling at most.
        """
        stepped = max(
            floor_to(price, self.tick) if side is Side.BUY else ceil_to(price, self.tick), self.tick
        )
        return Price(min(stepped, self.ceiling - self.tick) if self.ceiling else stepped)

    def prices(self, price: int) -> bool:
        """Whether a price lies where this instrument can trade, on the grid or not."""
        return price > 0 and (price < self.ceiling or not self.ceiling)

    def quantize_qty(self, qty: int) -> Qty:
        """Bring a proposed quantity down to the lot."""
        return Qty(max(0, floor_to(qty, self.lot)))

    def least_qty(self, price: Price) -> Qty:
        """The least quantity an order that takes at ``price`` may have, in whole lots."""
        by_cash = -(-self.min_notional * SCALE // price) if price > 0 else 0
        return Qty(ceil_to(max(self.min_qty, by_cash), self.lot))


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """A question with two outcomes, or one share or coin, which is then both ``yes`` and ``no``.

    ``end_ns`` is 0 when the end is not known. ``criteria`` is the venue's own text about what
    counts as YES, perhaps cut short.
    """

    id: MarketId
    question: str
    yes: InstrumentId
    no: InstrumentId
    slug: str = ""
    category: str = ""
    event_id: str = ""
    end_ns: int = 0
    neg_risk: bool = False
    criteria: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeSet:
    """A neg-risk event: exactly one of ``markets`` resolves YES, if the set is complete.

    ``augmented`` sets have placeholders and an "Other" whose meaning changes; ``placeholders`` are
    the markets nobody may trade. Sum rules hold only for sets that are not augmented.
    """

    id: SetId
    title: str
    markets: tuple[MarketId, ...]
    augmented: bool = False
    placeholders: frozenset[MarketId] = frozenset()

    @property
    def complete(self) -> bool:
        """Whether "exactly one YES" may be relied on."""
        return not self.augmented and not self.placeholders and len(self.markets) >= 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Markets ordered so that each implies the next: P(rung i) <= P(rung i + 1)."""

    id: str
    title: str
    rungs: tuple[MarketId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Universe:
    """Everything a bot may trade, as loaded at start."""

    instruments: Mapping[InstrumentId, Instrument]
    markets: Mapping[MarketId, Market]
    sets: tuple[OutcomeSet, ...] = ()
    ladders: tuple[Ladder, ...] = ()

    def __post_init__(self) -> None:
        """Refuse markets, sets and ladders that name something unknown."""
        for market in self.markets.values():
            for token in (market.yes, market.no):
                if token not in self.instruments:
                    raise InstrumentError(f"market {market.id} names unknown token {token}")
        for group in (*(s.markets for s in self.sets), *(r.rungs for r in self.ladders)):
            unknown = [m for m in group if m not in self.markets]
            if unknown:
                raise InstrumentError(f"a set or ladder names unknown markets {unknown}")
