"""What closed bundles hold: positions told apart by the idea that took them.

The portfolio knows how many shares of a token are held; this fold knows why. While a bundle is open
the leg ledger says what it holds. What is left when it closes *stands* until it is sold by a bundle
that names it in ``exits``, sold or merged to flatten, or redeemed. What names no bundle, and what a
bundle moves beyond its own, is taken from the oldest that hold the token, open ones last.

Invariant: the shares of a token that stand, and those its open bundles hold, add up to its position
at every moment, late and failed fills included, unless facts contradict each other. A failed sale
gives back exactly what it took. It decides nothing and moves no money.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from fleet.domain.commands import BundleId, OperationKind
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import ZERO_CASH, ZERO_QTY, Cash, Qty
from fleet.engine.bundle import Bundle, OperationStatus


class StandingLeg(Struct):
    """One token of a standing bundle: shares it got, what they cost with fees, shares left."""

    instrument_id: InstrumentId
    bought: Qty = ZERO_QTY
    paid: Cash = ZERO_CASH
    left: Qty = ZERO_QTY

    @property
    def cost(self) -> Cash:
        """What the shares that are left had cost on average, rounded down."""
        return Cash(self.paid * self.left // self.bought) if self.bought > 0 else ZERO_CASH


class Standing(Struct):
    """One closed bundle that still holds something."""

    bundle_id: BundleId
    idea: str
    key: str
    opened_ns: int
    number: int
    """Its bundle's; the oldest is the lowest."""
    legs: list[StandingLeg]

    @property
    def cost(self) -> Cash:
        """What is left had cost, fees in."""
        return Cash(sum(leg.cost for leg in self.legs))


class Part(Struct, frozen=True):
    """What one sale took from one standing bundle."""

    bundle_id: BundleId
    qty: Qty


class StandingsImage(Struct, frozen=True, kw_only=True):
    """All standings, oldest first, and what the sales that may still fail have taken."""

    standing: list[Standing]
    sales: dict[str, list[Part]]


def owns(bundle: Bundle, leg: int) -> bool:
    """Whether the shares this leg trades are the bundle's own: bought by it, or of its split.

    A leg that sells without a split sells what other bundles left standing.
    """
    plan = bundle.plan
    return plan.legs[leg].side is Side.BUY or plan.start is OperationKind.SPLIT


def record_of(bundle: Bundle) -> Standing:
    """What a bundle got, paid and has left by its own doing; ``left`` is negative if it moved more.

    Minted tokens carry the cash of their operation in equal parts.
    """
    legs: dict[InstrumentId, StandingLeg] = {}
    for index, (plan, state) in enumerate(zip(bundle.plan.legs, bundle.legs, strict=True)):
        if not owns(bundle, index):
            continue
        leg = legs.setdefault(plan.instrument_id, StandingLeg(plan.instrument_id))
        if plan.side is Side.BUY:
            leg.bought = Qty(leg.bought + state.filled)
            leg.paid = Cash(leg.paid - state.cash)
            leg.left = Qty(leg.left + state.filled - state.unwound)
        else:
            leg.left = Qty(leg.left - state.filled - state.unwound)
    for token, qty in bundle.taken.items():
        leg = legs.setdefault(token, StandingLeg(token))
        leg.left = Qty(leg.left - qty)
    for operation in bundle.operations:
        if operation.status is not OperationStatus.CONFIRMED:
            continue
        for token, qty in operation.burn:
            leg = legs.setdefault(token, StandingLeg(token))
            leg.left = Qty(leg.left - qty)
        for token, qty in operation.mint:
            leg = legs.setdefault(token, StandingLeg(token))
            leg.bought = Qty(leg.bought + qty)
            leg.paid = Cash(leg.paid + max(0, -operation.command.cash) // len(operation.mint))
            leg.left = Qty(leg.left + qty)
    return Standing(
        bundle.id, bundle.plan.idea, bundle.plan.key, bundle.opened_ns, bundle.number,
        list(legs.values()),
    )  # fmt: skip


class Standings:
    """All of them, oldest first."""

    __slots__ = ("_sales", "_standing")

    def __init__(self) -> None:
        """Nothing is held."""
        self._standing: dict[BundleId, Standing] = {}
        self._sales: dict[str, list[Part]] = {}
        """By trade: what it took, until it can fail no more."""

    @property
    def all(self) -> Mapping[BundleId, Standing]:
        """By the bundle that bought, oldest first."""
        return self._standing

    def image(self) -> StandingsImage:
        """All of it as one record, shared with this fold."""
        return StandingsImage(standing=list(self._standing.values()), sales=self._sales)

    def restore(self, image: StandingsImage) -> None:
        """Become what ``image`` shows; it belongs to this fold from now on."""
        self._standing = {standing.bundle_id: standing for standing in image.standing}
        self._sales = image.sales

    def close(self, bundle: Bundle, others: Iterable[Bundle] = ()) -> None:
        """A bundle has closed: what it has left stands; what it moved too much, others gave.

        Here and below ``others`` are the open bundles.
        """
        record = record_of(bundle)
        short = [(leg.instrument_id, -leg.left) for leg in record.legs if leg.left < 0]
        for leg in record.legs:
            leg.left = Qty(max(ZERO_QTY, leg.left))
        if any(leg.left for leg in record.legs):
            self._keep(record)
        for token, qty in short:
            self.take(token, qty, others=others)

    def give(self, bundle: Bundle, token: InstrumentId, qty: int) -> None:
        """Shares come to a bundle: bought or minted after its end, or not sold after all."""
        if bundle.open:
            bundle.taken[token] = Qty(bundle.taken.get(token, ZERO_QTY) - qty)
            return
        fresh = record_of(bundle)
        known = self._standing.get(bundle.id)
        left = {leg.instrument_id: leg.left for leg in known.legs} if known is not None else {}
        left[token] = Qty(left.get(token, ZERO_QTY) + qty)
        for leg in fresh.legs:
            leg.left = left.pop(leg.instrument_id, ZERO_QTY)
        fresh.legs += [StandingLeg(name, left=shares) for name, shares in left.items()]
        self._keep(fresh)

    def take(
        self,
        token: InstrumentId,
        qty: int,
        first: BundleId | None = None,
        others: Iterable[Bundle] = (),
    ) -> list[Part]:
        """Shares leave: of bundle ``first`` if it has them, then of the oldest; who gave what."""
        parts: list[Part] = []
        order = list(self._standing)
        if first is not None and first in self._standing:
            order.remove(first)
            order.insert(0, first)
        for bundle_id in order:
            standing = self._standing[bundle_id]
            for leg in standing.legs:
                part = min(qty, leg.left) if leg.instrument_id == token else 0
                if part > 0:
                    leg.left = Qty(leg.left - part)
                    qty -= part
                    parts.append(Part(bundle_id, Qty(part)))
            if not any(leg.left for leg in standing.legs):
                del self._standing[bundle_id]
        for bundle in others:
            has = sum(one.left for one in record_of(bundle).legs if one.instrument_id == token)
            part = min(qty, has)
            if part > 0:
                bundle.taken[token] = Qty(bundle.taken.get(token, ZERO_QTY) + part)
                qty -= part
                parts.append(Part(bundle.id, Qty(part)))
        return parts

    def sell(
        self,
        trade: str,
        token: InstrumentId,
        qty: int,
        first: BundleId | None = None,
        others: Iterable[Bundle] = (),
    ) -> None:
        """``take`` for a sale that may still fail."""
        self._sales[trade] = self.take(token, qty, first, others)

    def sold(self, trade: str) -> list[Part]:
        """What a sale took, once: it is final, or it has failed and this is to be given back."""
        return self._sales.pop(trade, [])

    def _keep(self, standing: Standing) -> None:
        self._standing[standing.bundle_id] = standing
        ages = sorted(self._standing.values(), key=lambda one: one.number)
        self._standing = {one.bundle_id: one for one in ages}
