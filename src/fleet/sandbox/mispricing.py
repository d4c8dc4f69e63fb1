"""Mispricings the sandbox makes on purpose, and the record of them.

A complement cannot be mispriced here (YES and NO are one book), so the sets and ladders are: after
an over-reaction one leg's best price stands where the whole bundle costs less than it must pay.
Some are worth taking after fees, more are not. Every one is recorded with the books' own numbers,
so that a bot's finds can be compared with the truth.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, Final, Literal

from fleet.domain.units import SCALE, Price, Qty, format_units
from fleet.sandbox.listing import GroupState, MarketState

Kind = Literal["set_buy_no", "set_buy_yes", "ladder"]

WORTHWHILE_RETURN: Final = 0.005
"""Net edge over cost from which a mispricing counts as worth taking (ARB_MIN_PROFIT_THRESHOLD)."""
WORTHWHILE_RANGE: Final = (0.007, 0.022)
SUB_THRESHOLD_RANGE: Final = (-0.012, 0.003)
LIFE_S_RANGE: Final = (0.3, 3.0)
DEPTH_SHARES_RANGE: Final = (40, 400)
MOVE_MAX: Final = 0.30
"""A leg is displaced by at most this many dollars."""
LIKELY_MIN: Final = 0.08
KIND_WEIGHTS: Final[dict[Kind, float]] = {"set_buy_no": 0.55, "set_buy_yes": 0.15, "ladder": 0.30}


@dataclass(frozen=True, slots=True, kw_only=True)
class MispricedLeg:
    """One purchase of the bundle: ``price`` dollars a share for up to ``qty`` shares."""

    condition_id: str
    token_id: str
    slug: str
    outcome: str
    price: Price
    qty: Qty
    fee: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mispricing:
    """A bundle that pays at least ``payout`` a share; amounts at 1e-8, a share of the bundle."""

    number: int
    kind: Kind
    event_slug: str
    start_ns: int
    end_ns: int
    payout: int
    legs: tuple[MispricedLeg, ...]

    @property
    def cost(self) -> int:
        """What the legs cost, without fees."""
        return sum(leg.price for leg in self.legs)

    @property
    def net_edge(self) -> int:
        """Payout less cost less taker fees."""
        return self.payout - self.cost - sum(leg.fee for leg in self.legs)

    @property
    def worthwhile(self) -> bool:
        """Whether the net edge over cost reaches ``WORTHWHILE_RETURN``."""
        return self.net_edge >= WORTHWHILE_RETURN * self.cost

    def as_json(self) -> dict[str, Any]:
        """The record as ``GET /sandbox/truth`` shows it."""
        return {
            "number": self.number,
            "kind": self.kind,
            "event_slug": self.event_slug,
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "worthwhile": self.worthwhile,
            "payout": format_units(self.payout),
            "cost": format_units(self.cost),
            "gross_edge": format_units(self.payout - self.cost),
            "net_edge": format_units(self.net_edge),
            "depth": format_units(min(leg.qty for leg in self.legs)),
            "legs": [
                {
                    "condition_id": leg.condition_id,
                    "token_id": leg.token_id,
                    "slug": leg.slug,
                    "outcome": leg.outcome,
                    "price": format_units(leg.price),
                    "size": format_units(leg.qty),
                    "fee": format_units(leg.fee),
                }
                for leg in self.legs
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which best price to displace, how far, and the bundle it makes."""

    kind: Kind
    group: GroupState
    bundle: tuple[tuple[MarketState, int], ...]
    displaced: MarketState
    buy: bool
    """True to raise the displaced market's YES bid, False to lower its YES ask."""
    index: int
    qty: Qty
    life_ns: int


def eligible(group: GroupState, kind: Kind) -> bool:
    """Whether a mispricing of ``kind`` may be made in a group now."""
    if group.mispriced or group.event.augmented or any(m.closed for m in group.markets):
        return False
    if kind == "ladder":
        return group.event.kind in {"by_date", "above"}
    return group.event.kind == "set"


def make_plan(groups: list[GroupState], rng: random.Random, *, worthwhile: bool) -> Plan | None:
    """Choose a kind, a group and a displacement; None if the books do not allow one now."""
    kind = rng.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0]
    able = [g for g in groups if eligible(g, kind)]
    if not able:
        return None
    group = rng.choice(able)
    wanted = rng.uniform(*(WORTHWHILE_RANGE if worthwhile else SUB_THRESHOLD_RANGE))
    qty = Qty(rng.randint(*DEPTH_SHARES_RANGE) * SCALE)
    low, high = (math.log(s) for s in LIFE_S_RANGE)
    life_ns = int(math.exp(rng.uniform(low, high)) * 1e9)
    bundle: tuple[tuple[MarketState, int], ...]
    if kind == "ladder":
        at = rng.randrange(len(group.rungs) - 1)
        earlier, later = group.rungs[at], group.rungs[at + 1]
        bundle = ((earlier, 1), (later, 0))
        buy = rng.random() < 0.5
        displaced = earlier if buy else later
    else:
        outcome, buy = (1, True) if kind == "set_buy_no" else (0, False)
        bundle = tuple((m, outcome) for m in group.markets)
        displaced = rng.choice(_legs_with_room(group.markets, up=buy))
    index = _displaced_index(kind, bundle, displaced, buy=buy, wanted=wanted)
    if index is None:
        return None
    return Plan(
        kind=kind,
        group=group,
        bundle=bundle,
        displaced=displaced,
        buy=buy,
        index=index,
        qty=qty,
        life_ns=life_ns,
    )


def _legs_with_room(markets: tuple[MarketState, ...], *, up: bool) -> list[MarketState]:
    """The two likely legs of a set that are furthest below (``up``) or above where they began.

    Moves that stay thus bring a set back to its start instead of wearing it down to one outcome.
    """
    likely = [m for m in markets if m.flow.fair >= LIKELY_MIN] or list(markets)
    likely.sort(key=lambda m: m.flow.fair / m.spec.fair, reverse=not up)
    return likely[:2]


def payout_of(kind: Kind, legs: int) -> int:
    """What a bundle pays at least, at 1e-8 a share: n - 1 for every NO of a set, else a dollar."""
    return (legs - 1) * SCALE if kind == "set_buy_no" else SCALE


def least_shares(price: Price) -> int:
    """Shares an order at ``price`` needs to pass the venue's minimums (5 shares and one dollar)."""
    return max(5, -(-SCALE // price))


def record(plan: Plan, *, number: int, start_ns: int) -> Mispricing | None:
    """Describe the bundle as the books offer it now; None if a leg is missing."""
    legs = []
    for market, outcome in plan.bundle:
        price = market.best(outcome, buy=False)
        if price is None:
            return None
        legs.append(
            MispricedLeg(
                condition_id=market.spec.condition_id,
                token_id=market.spec.tokens[outcome],
                slug=market.spec.slug,
                outcome=market.spec.outcomes[outcome],
                price=price,
                qty=market.depth(outcome, buy=False),
                fee=market.spec.fees.per_share(price),
            )
        )
    return Mispricing(
        number=number,
        kind=plan.kind,
        event_slug=plan.group.event.slug,
        start_ns=start_ns,
        end_ns=start_ns + plan.life_ns,
        payout=payout_of(plan.kind, len(legs)),
        legs=tuple(legs),
    )


def _displaced_index(
    kind: Kind,
    bundle: tuple[tuple[MarketState, int], ...],
    displaced: MarketState,
    *,
    buy: bool,
    wanted: float,
) -> int | None:
    """The nearest tick at which the bundle's net return reaches ``wanted``."""
    payout = payout_of(kind, len(bundle))
    spent = 0
    for market, outcome in bundle:
        price = market.best(outcome, buy=False)
        if price is None:
            return None
        if market is not displaced:
            spent += price + market.spec.fees.per_share(price)
    book = displaced.book
    best = book.best(buy=buy)
    if best in {0, book.top}:
        return None
    step = 1 if buy else -1
    for away in range(1, int(MOVE_MAX * book.top) + 1):
        index = best + step * away
        if not 1 < index < book.top - 1:
            return None
        leg = Price(SCALE - index * book.tick if buy else index * book.tick)
        cost = spent + leg + displaced.spec.fees.per_share(leg)
        if payout - cost >= wanted * cost:
            # On a coarse grid the nearest tick may overshoot what was meant to stay worthless.
            overshot = wanted < WORTHWHILE_RETURN <= (payout - cost) / cost
            return None if overshot else index
    return None
