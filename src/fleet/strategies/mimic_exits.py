"""Leaving as the leaders leave: what of each copy is too much now, and its sale.

A copy answers to purchases of a leader, and is wanted as far as the leader still has them: who
gives up a quarter makes us sell a quarter, whether it was sold, merged, converted, redeemed or sent
away. A purchase that left the chain never was: its copy is sold, after a patience, because most are
mined again. Where copied leaders hold both sides of a market, only what they want together is kept,
the newest copies going first: a leader who buys the other side instead of selling is followed too.

No rule of entries and no forecast stands in the way, nor REDUCING. A sale takes the bids down to
``exit_slippage`` below the best and is repeated after ``exit_retry_ns`` until nothing is too much.
What the venue takes no order for stays: less than its minimum; and if what is to be kept would be
less than that, all of it is sold. Each sale is a bundle "COPY_EXIT" that names what it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fleet.domain.commands import BundleId, Intent, LegPlan, OpenBundle
from fleet.domain.events import TradingState
from fleet.domain.instruments import InstrumentId, MarketId, Side
from fleet.domain.units import SCALE, Cash, Price, Qty, ceil_to
from fleet.engine.view import View
from fleet.strategies.forecast_edge import Trade, find_sale
from fleet.strategies.legs import first_step
from fleet.strategies.mimic_settings import MimicSettings
from fleet.strategies.mimic_stakes import (
    EXIT,
    Held,
    copies_held,
    followed_wallets,
    wanted_together,
)
from fleet.strategies.sizing import Offer

EXITS_MAX = 8
"""Sales proposed in one moment, so that orders in flight are not the brake; the rest comes next."""


@dataclass(slots=True)
class ExitCounters:
    """Sales proposed since the start of the process, by what made the copy too much."""

    exits_followed: int = 0
    """The leader has less of it."""
    exits_undone: int = 0
    """The purchase is not part of the chain."""
    exits_netted: int = 0
    """Leaders are opposed."""


class Exits:
    """Proposes the sales; remembers only when it last tried what risk refused."""

    def __init__(self, settings: MimicSettings) -> None:
        """Leave as ``settings`` say."""
        self._settings = settings
        self._not_before: dict[BundleId, int] = {}
        self.counters = ExitCounters()

    def propose(
        self, view: View, next_id: Callable[[], BundleId], markets: frozenset[MarketId] | None
    ) -> Sequence[Intent]:
        """The sales due in some markets, or (None) in all, each followed by its order."""
        if view.trading is TradingState.HALTED or view.operator == "flatten":
            return ()
        held = [
            one for one in copies_held(view)
            if (markets is None or one.market_id in markets) and one.token not in view.resolved
        ]  # fmt: skip
        if not held:
            return ()
        wanted = {one.bundle_id: self._wanted(one, view) for one in held}
        netted = self._netted(held, wanted, view)
        leaving = {b.plan.exits for b in view.open_bundles.values() if b.plan.idea == EXIT}
        claimed: dict[InstrumentId, int] = {}
        wishes: list[Intent] = []
        opened = 0
        for one in held:
            keep = netted[one.bundle_id]
            if one.leg.left <= keep or one.bundle_id in leaving or not self._may_leave(one, view):
                continue
            plan = self._sale(one, keep, view, claimed, next_id)
            if plan is None:
                continue
            self._not_before[one.bundle_id] = view.now_ns + self._settings.exit_retry_ns
            self._count(one, keep, wanted[one.bundle_id], view)
            wishes += (plan, *first_step(plan, view, self._settings.exit_execution))
            opened += 1
            if opened >= EXITS_MAX:
                break
        return wishes

    def _wanted(self, one: Held, view: View) -> Qty:
        """As much of what was bought as the leader still has of what it answers to, rounded up.

        Nothing of a copy that answers to nothing known: nobody would ever tell it to leave.
        """
        basis = left = 0
        patience_ns = self._settings.undo_patience_ns
        for sighting in view.leaders.answered(one.bundle_id):
            basis += sighting.basis
            if sighting.undone_ns and view.now_ns - sighting.undone_ns < patience_ns:
                left += sighting.basis
            else:
                left += min(sighting.basis, view.leaders.left(sighting))
        if not basis:
            return Qty(0)
        return Qty(-(-one.leg.bought * left // basis))

    def _netted(
        self, held: Sequence[Held], wanted: Mapping[BundleId, Qty], view: View
    ) -> dict[BundleId, Qty]:
        """What to keep of each copy after leaders on both sides were set against each other."""
        keep = dict(wanted)
        wallets = followed_wallets(view)
        for token in dict.fromkeys(one.token for one in held):
            other = view.instrument(token).complement
            most = wanted_together(view, wallets, token, other, self._settings.copy_ratio)
            if most is None:
                continue
            copies = [one for one in held if one.token == token]
            kept = [min(one.leg.left, keep[one.bundle_id]) for one in copies]
            excess = sum(kept) - most
            for one, shares in zip(reversed(copies), reversed(kept), strict=True):
                if excess <= 0:
                    break
                part = min(shares, excess)
                keep[one.bundle_id] = Qty(shares - part)
                excess -= part
        return keep

    def _may_leave(self, one: Held, view: View) -> bool:
        if view.now_ns < self._not_before.get(one.bundle_id, 0):
            return False
        before = view.newest_bundle(EXIT, _key_of(one))
        return before is None or view.now_ns >= before.opened_ns + self._settings.exit_retry_ns

    def _sale(
        self,
        one: Held,
        keep: Qty,
        view: View,
        claimed: dict[InstrumentId, int],
        next_id: Callable[[], BundleId],
    ) -> OpenBundle | None:
        token = one.token
        instrument, book = view.instrument(token), view.book(token)
        if not (book.usable and book.bid_qty):
            return None
        if 0 < keep < instrument.least_qty(book.bid):
            keep = Qty(0)
        selling = sum(
            order.remaining for order in view.open_orders.values()
            if order.instrument_id == token and order.side is Side.SELL
        )  # fmt: skip
        free = view.position(token).settled - selling - claimed.get(token, 0)
        qty = Qty(min(one.leg.left - keep, free))
        floor = Price(max(book.tick, ceil_to(book.bid - self._settings.exit_slippage, book.tick)))
        trade = find_sale(Offer(instrument, Side.SELL, book), qty, worth=0, floor=floor)
        if trade is None:
            return None
        claimed[token] = claimed.get(token, 0) + trade.qty
        return _exit_of(trade, next_id(), one, book.bid, book.tick)

    def _count(self, one: Held, keep: Qty, wanted: Qty, view: View) -> None:
        if keep < wanted and one.leg.left <= wanted:
            self.counters.exits_netted += 1
        elif any(sighting.undone_ns for sighting in view.leaders.answered(one.bundle_id)):
            self.counters.exits_undone += 1
        else:
            self.counters.exits_followed += 1


def _exit_of(trade: Trade, bundle_id: BundleId, one: Held, value: Price, tick: Price) -> OpenBundle:
    """A sale as a bundle that leaves a copy; a share is worth what is bid for it."""
    leg = LegPlan(
        instrument_id=trade.instrument_id, side=Side.SELL, qty=trade.qty, limit=trade.limit,
        unwind=tick,
    )  # fmt: skip
    worth = ceil_to(value * trade.qty, SCALE) // SCALE
    return OpenBundle(
        bundle_id=bundle_id, idea=EXIT, key=_key_of(one), legs=(leg,), start=None, finish=None,
        payoff=value, budget=Cash(0), edge=Cash(trade.cash - worth), exits=one.bundle_id,
    )  # fmt: skip


def _key_of(one: Held) -> str:
    """The key of the sales of one copy: its own and its bundle, because keys are copied again."""
    return f"{one.key}|{one.bundle_id}"
