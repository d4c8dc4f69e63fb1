"""The leg ledger: what each multi-leg idea planned, what really filled, and what it made.

A fold of decisions, fills and token operations, so it survives a restart like all other state. It
decides nothing; ``fleet.strategies.legs`` reads it to find the next step of a bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from fleet.domain.commands import (
    BundleId,
    CloseBundle,
    LegPlan,
    OpenBundle,
    OperationId,
    OperationKind,
    Purpose,
    RunOperation,
)
from fleet.domain.events import OrderFilled
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE, ZERO_CASH, Cash, Price, Qty, notional_down, notional_up
from fleet.engine.bundle import Bundle, LegState, OperationState, OperationStatus
from fleet.engine.orders import Order
from fleet.engine.standing import Standings, StandingsImage, owns

Tokens = tuple[tuple[InstrumentId, Qty], ...]
"""Tokens and their shares."""
_LEG: Final = Purpose.LEG


class LedgerTotals(Struct):
    """The leg ledger in figures, over the whole journal. Cash figures are net of fees."""

    tried: int = 0
    complete: int = 0
    """Bundles of which every leg filled as planned."""
    partial: int = 0
    """Bundles of which legs filled unevenly, or less than planned."""
    missed: int = 0
    """Bundles of which nothing filled."""
    unwinds: int = 0
    unwind_cost: Cash = ZERO_CASH
    """What closing lonely legs lost: against their cost, or the planned price of a sold leg."""
    edge_expected: Cash = ZERO_CASH
    """Edge planned by the bundles that have closed."""
    edge_realised: Cash = ZERO_CASH
    """Cash made by the bundles that have closed.

    What they hold counts at their payoff, a bet of one leg at its payout once that is known.
    """
    redeemed: Cash = ZERO_CASH
    """What the tokens of resolved markets have paid, those of held sets included."""


def _worth(plan: LegPlan, leg: LegState) -> int:
    """What the unwound shares of a leg had cost, or should have brought."""
    if plan.side is Side.SELL:
        return notional_down(plan.limit, leg.unwound)
    return -leg.cash * leg.unwound // leg.filled if leg.filled else 0


class BundlesImage(Struct, frozen=True, kw_only=True):
    """All bundles and operations, oldest first; a bundle holds its operations."""

    bundles: list[Bundle]
    open: list[BundleId]
    operations: list[tuple[OperationId, BundleId | None]]
    """Every operation and the bundle it belongs to."""
    loose: list[OperationState]
    """The operations that belong to no bundle."""
    pending: list[OperationId]
    totals: LedgerTotals
    standings: StandingsImage
    anomaly: str


class Bundles:
    """All bundles of a journal."""

    __slots__ = ("_bundles", "_newest", "_open", "_operations", "_pending", "anomaly",
                 "open", "pending", "standings", "totals")  # fmt: skip

    def __init__(self) -> None:
        """No bundles yet."""
        self._bundles: dict[BundleId, Bundle] = {}
        self._open: dict[BundleId, Bundle] = {}
        self.open: Mapping[BundleId, Bundle] = self._open
        """The bundles that are not closed; a plain attribute, because risk asks often."""
        self._newest: dict[tuple[str, str], Bundle] = {}
        self._operations: dict[OperationId, tuple[Bundle | None, OperationState]] = {}
        self._pending: dict[OperationId, RunOperation] = {}
        self.pending: Mapping[OperationId, RunOperation] = self._pending
        """The operations whose outcome is not known."""
        self.totals = LedgerTotals()
        self.standings = Standings()
        self.anomaly = ""

    def image(self) -> BundlesImage:
        """All of it as one record, which shares its bundles: store it before anything moves on."""
        return BundlesImage(
            bundles=list(self._bundles.values()),
            open=list(self._open),
            operations=[
                (operation_id, bundle.id if bundle is not None else None)
                for operation_id, (bundle, _) in self._operations.items()
            ],
            loose=[state for bundle, state in self._operations.values() if bundle is None],
            pending=list(self._pending),
            totals=self.totals,
            standings=self.standings.image(),
            anomaly=self.anomaly,
        )

    def restore(self, image: BundlesImage) -> None:
        """Become what ``image`` shows; it belongs to these bundles from now on.

        Raises ``KeyError`` if it names a bundle or an operation that it does not hold.
        """
        bundles = self._bundles = {bundle.id: bundle for bundle in image.bundles}
        self.open = self._open = {bundle_id: bundles[bundle_id] for bundle_id in image.open}
        self._newest = {(bundle.plan.idea, bundle.plan.key): bundle for bundle in image.bundles}
        states = {state.operation_id: state for state in image.loose}
        for bundle in image.bundles:
            for state in bundle.operations:
                states[state.operation_id] = state
        self._operations = {
            operation_id: (bundles[bundle_id] if bundle_id is not None else None,
                           states[operation_id])
            for operation_id, bundle_id in image.operations
        }  # fmt: skip
        self.pending = self._pending = {
            operation_id: states[operation_id].command for operation_id in image.pending
        }
        self.totals = image.totals
        self.standings.restore(image.standings)
        self.anomaly = image.anomaly

    def __len__(self) -> int:
        """How many bundles this journal ever held."""
        return len(self._bundles)

    @property
    def operations(self) -> int:
        """How many operations this journal ever held."""
        return len(self._operations)

    def get(self, bundle_id: BundleId) -> Bundle | None:
        """One bundle, if it is ours."""
        return self._bundles.get(bundle_id)

    def newest(self, idea: str, key: str) -> Bundle | None:
        """The bundle of this idea and key that opened last, open or closed."""
        return self._newest.get((idea, key))

    def open_bundle(self, plan: OpenBundle, now_ns: int) -> None:
        """Start a bundle."""
        if plan.bundle_id in self._bundles:
            self.anomaly = f"bundle id {plan.bundle_id} was used twice"
            return
        bundle = Bundle.fresh(plan, now_ns)
        bundle.number = len(self._bundles)
        self._bundles[plan.bundle_id] = self._open[plan.bundle_id] = bundle
        self._newest[plan.idea, plan.key] = bundle
        self.totals.tried += 1

    def note_order(self, bundle_id: BundleId, leg: int, purpose: Purpose, now_ns: int) -> None:
        """Count a try of a leg."""
        bundle = self._bundles.get(bundle_id)
        if bundle is None:
            return
        state = bundle.legs[leg]
        state.last_try_ns = now_ns
        if purpose is _LEG:
            state.tries += 1
        else:
            state.unwind_tries += 1

    def note_fill(self, order: Order, event: OrderFilled, *, failed: bool = False) -> None:
        """Add a fill to its leg, or take it back when it failed to settle."""
        bundle = self._bundles.get(order.bundle_id)
        sign = -1 if failed else 1
        if bundle is not None:
            if event.side is Side.BUY:
                cash = -(notional_up(event.price, event.qty) + event.fee)
            else:
                cash = notional_down(event.price, event.qty) - event.fee
            leg = bundle.legs[order.leg]
            if order.purpose is Purpose.LEG:
                leg.filled = Qty(leg.filled + sign * event.qty)
                leg.cash = Cash(leg.cash + sign * cash)
            else:
                leg.unwound = Qty(leg.unwound + sign * event.qty)
                leg.unwound_cash = Cash(leg.unwound_cash + sign * cash)
        self._attribute(bundle, order.leg, event, failed=failed)

    def _attribute(
        self, bundle: Bundle | None, leg: int, event: OrderFilled, *, failed: bool
    ) -> None:
        """Whose shares a fill has moved; an open bundle's own are in its legs."""
        token, qty, trade = event.instrument_id, event.qty, event.trade_id
        buys = event.side is Side.BUY
        if bundle is None or not owns(bundle, leg):
            if failed:
                for part in self.standings.sold(trade):
                    self.standings.give(self._bundles[part.bundle_id], token, part.qty)
            elif not buys:
                exits = bundle.plan.exits if bundle is not None else None
                self.standings.sell(trade, token, qty, exits, self._open.values())
        elif not bundle.open:
            if buys is not failed:
                self.standings.give(bundle, token, qty)
            else:
                self.standings.take(token, qty, bundle.id, self._open.values())

    def settled(self, trade: str) -> None:
        """A fill is final: nobody need remember whose shares it sold."""
        self.standings.sold(trade)

    def start_operation(self, command: RunOperation) -> None:
        """Mark an operation under way; a redemption belongs to no bundle."""
        bundle = self._bundles.get(command.bundle_id)
        if command.operation_id in self._operations:
            self.anomaly = f"operation id {command.operation_id} was used twice"
            return
        state = OperationState(command.operation_id, command.kind, command)
        if bundle is not None:
            bundle.operations.append(state)
        self._operations[command.operation_id] = (bundle, state)
        self._pending[command.operation_id] = command

    def sign_operation(self, operation_id: OperationId, transaction_hash: str) -> None:
        """Note the transaction of an operation; another one for the same operation is an anomaly.

        Whoever sees the hash after a crash asks the chain for it instead of sending anew.
        """
        found = self._operations.get(operation_id)
        if found is None:
            self.anomaly = f"a transaction for unknown operation {operation_id}"
            return
        _, state = found
        if state.transaction_hash not in {"", transaction_hash}:
            self.anomaly = (
                f"operation {operation_id} has transaction {state.transaction_hash}, not"
                f" {transaction_hash}"
            )
            return
        state.transaction_hash = transaction_hash

    def transaction(self, operation_id: OperationId) -> str:
        """The hash of an operation's transaction; empty if none was signed."""
        found = self._operations.get(operation_id)
        return found[1].transaction_hash if found is not None else ""

    def end_operation(
        self,
        operation_id: OperationId,
        status: OperationStatus,
        cash: Cash,
        now_ns: int,
        *,
        burn: Tokens = (),
        mint: Tokens = (),
    ) -> None:
        """Mark an operation confirmed (with what it really moved) or rejected, once.

        The same end told again is ignored; another one is an anomaly.
        """
        found = self._operations.get(operation_id)
        if found is None:
            self.anomaly = f"{status.value} for unknown operation {operation_id}"
            return
        bundle, state = found
        if state.status is not OperationStatus.PENDING:
            if state.status is not status:
                self.anomaly = (
                    f"{status.value} for operation {operation_id} that is {state.status.value}"
                )
            return
        self._pending.pop(operation_id, None)
        if state.kind is OperationKind.REDEEM:
            self.totals.redeemed = Cash(self.totals.redeemed + cash)
        state.status = status
        state.ended_ns = now_ns
        state.burn, state.mint = burn, mint
        if bundle is not None:
            bundle.operated_cash = Cash(bundle.operated_cash + cash)
        if bundle is None or not bundle.open:
            own = bundle.id if bundle is not None else None
            for token, qty in burn:
                self.standings.take(token, qty, own, self._open.values())
            if bundle is not None:
                for token, qty in mint:
                    self.standings.give(bundle, token, qty)

    def resolve(self, token: InstrumentId, payout: Price) -> None:
        """A token pays: a bet on it was counted at what it seemed worth, and is now known.

        Sets are counted at what they pay for certain, whichever of their tokens does.
        """
        change = 0
        for standing in self.standings.all.values():
            plan = self._bundles[standing.bundle_id].plan
            if plan.finish is None and len(plan.legs) == 1:
                left = sum(leg.left for leg in standing.legs if leg.instrument_id == token)
                change += (payout - plan.payoff) * left // SCALE
        self.totals.edge_realised = Cash(self.totals.edge_realised + change)

    def close(self, command: CloseBundle, now_ns: int = 0) -> None:
        """End a bundle and add it to the totals."""
        bundle = self._open.pop(command.bundle_id, None)
        if bundle is None:
            return
        bundle.outcome = command.outcome
        bundle.closed_ns = now_ns
        totals = self.totals
        planned = min(leg.qty for leg in bundle.plan.legs)
        if not bundle.any_filled:
            totals.missed += 1
        elif bundle.matched >= planned:
            totals.complete += 1
        else:
            totals.partial += 1
        for leg_plan, leg in zip(bundle.plan.legs, bundle.legs, strict=True):
            if leg.unwound:
                totals.unwinds += 1
                lost = _worth(leg_plan, leg) - leg.unwound_cash
                totals.unwind_cost = Cash(totals.unwind_cost + lost)
        held = 0
        sold = bundle.plan.legs[0].side is Side.SELL
        if bundle.plan.exits:
            # What it sold, unwinds included, was counted at the payoff of the bundle it leaves.
            gone = Qty(max(leg.filled + leg.unwound for leg in bundle.legs))
            entry = self._bundles.get(bundle.plan.exits, bundle)
            held = -notional_up(entry.plan.payoff, gone)
        elif bundle.plan.finish is None or command.outcome == "HELD":
            # What was sold was paid for; what of a split was not is worth what it cost.
            payoff = -bundle.plan.payoff if sold else bundle.plan.payoff
            held = notional_down(Price(payoff), bundle.unsold if sold else bundle.matched)
        self.standings.close(bundle, self._open.values())
        if not bundle.plan.exits:  # An exit promises nothing: it makes good what was promised.
            totals.edge_expected = Cash(totals.edge_expected + bundle.plan.edge)
        totals.edge_realised = Cash(totals.edge_realised + bundle.cash + held)
