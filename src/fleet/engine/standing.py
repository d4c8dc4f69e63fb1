"""What closed bundles bought and still hold: positions told apart by the idea that took them.

The portfolio knows how many shares of a token are held; this fold knows why. A bundle that bought
and ended without an operation stands until its shares were sold by a bundle that names it in
``exits``, sold to flatten, or redeemed. What cannot be attributed to a bundle (a flatten sale, a
redemption) is taken from the oldest that holds the token. It decides nothing and moves no money.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from fleet.domain.commands import BundleId, LegPlan
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import ZERO_CASH, ZERO_QTY, Cash, Qty


class StandingLeg(Struct):
    """One token of a standing bundle: shares bought, what they cost with fees, shares left."""

    instrument_id: InstrumentId
    bought: Qty
    paid: Cash
    left: Qty

    @property
    def cost(self) -> Cash:
        """What the shares that are left had cost, rounded down."""
        return Cash(self.paid * self.left // self.bought) if self.bought > 0 else ZERO_CASH


class Standing(Struct):
    """One closed bundle that still holds something."""

    bundle_id: BundleId
    idea: str
    key: str
    opened_ns: int
    legs: list[StandingLeg]

    @property
    def cost(self) -> Cash:
        """What is left had cost, fees in."""
        return Cash(sum(leg.cost for leg in self.legs))


class Standings:
    """All of them, oldest first."""

    __slots__ = ("_standing",)

    def __init__(self) -> None:
        """Nothing is held."""
        self._standing: dict[BundleId, Standing] = {}

    @property
    def all(self) -> Mapping[BundleId, Standing]:
        """By the bundle that bought, oldest first."""
        return self._standing

    def image(self) -> list[Standing]:
        """All of it as one record, shared with this fold."""
        return list(self._standing.values())

    def restore(self, image: Iterable[Standing]) -> None:
        """Become what ``image`` shows; it belongs to this fold from now on."""
        self._standing = {standing.bundle_id: standing for standing in image}

    def add(self, standing: Standing) -> None:
        """A bundle has closed; kept if it holds anything."""
        if any(leg.left > 0 for leg in standing.legs):
            self._standing[standing.bundle_id] = standing

    def change(self, bundle_id: BundleId, instrument_id: InstrumentId, qty: int) -> None:
        """Add shares to (or, negative, take them from) one bundle; never below nothing."""
        standing = self._standing.get(bundle_id)
        if standing is None:
            return
        for leg in standing.legs:
            if leg.instrument_id == instrument_id:
                leg.left = Qty(max(0, leg.left + qty))
        self._drop(standing)

    def late(self, standing: Standing, leg_plan: LegPlan, qty: int, paid: int) -> None:
        """A fill told (or taken back) after its bundle had closed; ``standing`` is that bundle."""
        kept = self._standing.setdefault(standing.bundle_id, standing)
        for leg in kept.legs:
            if leg.instrument_id == leg_plan.instrument_id:
                leg.left = Qty(max(0, leg.left + qty))
                if leg_plan.side is Side.BUY and paid:
                    leg.bought = Qty(max(0, leg.bought + qty))
                    leg.paid = Cash(max(0, leg.paid + paid))
        self._drop(kept)

    def take(self, instrument_id: InstrumentId, qty: int) -> None:
        """Shares left the wallet for no bundle: the oldest that hold the token give them."""
        left = qty
        for standing in tuple(self._standing.values()):
            for leg in standing.legs:
                if leg.instrument_id == instrument_id and left > 0:
                    part = min(left, leg.left)
                    leg.left = Qty(leg.left - part)
                    left -= part
            self._drop(standing)

    def _drop(self, standing: Standing) -> None:
        if all(leg.left <= ZERO_QTY for leg in standing.legs):
            self._standing.pop(standing.bundle_id, None)
