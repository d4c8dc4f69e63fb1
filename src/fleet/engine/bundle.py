"""One multi-leg idea: what was planned, what each leg filled, which operations were run for it.

A record that ``fleet.engine.bundles`` folds facts into; it decides nothing.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from fleet.domain.commands import BundleId, OpenBundle, OperationId, OperationKind, RunOperation
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import ZERO_CASH, ZERO_QTY, Cash, Qty


class OperationStatus(Enum):
    """Where a token operation stands."""

    PENDING = "PENDING"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"


class LegState(Struct, gc=False):
    """What became of one leg: shares filled and unwound, cash of each (fees in), tries."""

    filled: Qty = ZERO_QTY
    cash: Cash = ZERO_CASH
    """Net cash of the planned orders: negative for bought legs."""
    unwound: Qty = ZERO_QTY
    unwound_cash: Cash = ZERO_CASH
    tries: int = 0
    unwind_tries: int = 0
    last_try_ns: int = 0


class OperationState(Struct):
    """One operation of a bundle."""

    operation_id: OperationId
    kind: OperationKind
    command: RunOperation
    status: OperationStatus = OperationStatus.PENDING
    ended_ns: int = 0
    transaction_hash: str = ""
    """Of the transaction that carries it out; empty until it is signed (or where there is none)."""
    burn: tuple[tuple[InstrumentId, Qty], ...] = ()
    """What it really burnt and minted, once it is confirmed."""
    mint: tuple[tuple[InstrumentId, Qty], ...] = ()


class Bundle(Struct):
    """One idea from plan to end."""

    plan: OpenBundle
    opened_ns: int
    legs: list[LegState]
    operations: list[OperationState] = []
    operated_cash: Cash = ZERO_CASH
    outcome: str = ""
    closed_ns: int = 0
    number: int = 0
    """How many the journal had opened before it."""
    taken: dict[InstrumentId, Qty] = {}
    """Shares of it that others sold or redeemed while it was open."""

    @classmethod
    def fresh(cls, plan: OpenBundle, opened_ns: int) -> Bundle:
        """A bundle of which nothing has happened yet."""
        return cls(plan, opened_ns, [LegState() for _ in plan.legs])

    @property
    def id(self) -> BundleId:
        """Its id, unique in the journal."""
        return self.plan.bundle_id

    @property
    def open(self) -> bool:
        """Whether something may still be done for it."""
        return not self.outcome

    @property
    def matched(self) -> Qty:
        """The shares that every leg filled as planned and still stand.

        Unwinding a bought leg takes off what it filled; unwinding a sold pair sells what is left of
        it and takes nothing off.
        """
        if self.plan.legs[0].side is Side.SELL:
            return Qty(min(leg.filled for leg in self.legs))
        return Qty(min(leg.filled - leg.unwound for leg in self.legs))

    @property
    def unsold(self) -> Qty:
        """The whole pairs of a split that were made and not sold; 0 for a plan without one."""
        split = self.operation(OperationKind.SPLIT)
        if split is None or split.status is not OperationStatus.CONFIRMED:
            return ZERO_QTY
        return Qty(
            min(
                plan.qty - leg.filled - leg.unwound
                for plan, leg in zip(self.plan.legs, self.legs, strict=True)
            )
        )

    @property
    def any_filled(self) -> bool:
        """Whether any leg filled at all."""
        return any(leg.filled for leg in self.legs)

    @property
    def cash(self) -> Cash:
        """Net cash in (positive) or out of this bundle so far, fees in."""
        legs = sum(leg.cash + leg.unwound_cash for leg in self.legs)
        return Cash(legs + self.operated_cash)

    @property
    def spent(self) -> Cash:
        """What the planned buys have cost so far."""
        return Cash(-sum(min(0, leg.cash) for leg in self.legs))

    def operation(self, kind: OperationKind) -> OperationState | None:
        """The newest operation of this kind."""
        return next((o for o in reversed(self.operations) if o.kind is kind), None)

    @property
    def split_live(self) -> bool:
        """Whether a split was made or is under way."""
        split = self.operation(OperationKind.SPLIT)
        return split is not None and split.status is not OperationStatus.REJECTED

    @property
    def operating(self) -> bool:
        """Whether an operation is under way."""
        return any(o.status is OperationStatus.PENDING for o in self.operations)
