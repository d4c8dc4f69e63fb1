"""What came of each copy: its result beside the leader's own, and what following cost.

Reads a folded state; it decides nothing and is not asked while trading. A copy's result is the cash
of its BUY and of all sales that left it, fees in, and the rest at its payout or, before that, at
the bid, whether it is still held, redeemed or was flattened. The leader's result is that of the
very purchases it answers to, from the moment we copied: what their shares brought, and what is left
of them at the same price. Without their fees, which are not seen. Shares that left without a trade
count at the newest price the leader traded at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from fleet.domain.commands import BundleId
from fleet.domain.instruments import InstrumentId
from fleet.domain.units import ZERO_CASH, Cash, Price, Qty, notional_down
from fleet.engine.bundle import Bundle
from fleet.engine.leader_holding import Sighting
from fleet.engine.state import State

BPS: Final = 10_000


class CopyResult(Struct, frozen=True, kw_only=True):
    """One copy that bought something. Cash in dollars at 1e-8."""

    bundle_id: BundleId
    wallet: str
    token: InstrumentId
    bought: Qty
    paid: Cash
    """With fees."""
    result: Cash
    """Made or, negative, lost so far."""
    leader_paid: Cash
    """For the purchases it answers to, or what of them was left when they were copied."""
    leader_result: Cash
    slippage: Cash
    """Paid above the leader's price for the same shares, fees in."""
    ended: bool
    """Whether nothing of it is held any more, or its token pays already."""


class CopySummary(Struct, frozen=True, kw_only=True):
    """The KPIs of all copies of a journal. Nothing (``None``) where there is nothing to divide."""

    copies: int
    """Copies that bought something."""
    ended: int
    won: int
    """Ended copies that made money."""
    leader_won: int
    """Ended copies whose leader made money on the purchases they answer to."""
    result: Cash
    """Of all copies, ended or not."""
    leader_result: Cash
    """Theirs, in proportion to what we paid: had our dollars been theirs."""
    slippage_bps: int | None
    """Of the leaders' price, weighted by dollars, fees in."""
    lag_p50_ns: int | None
    """From the oldest block a copy answers to, to its decision; of the newest copies."""
    lag_p99_ns: int | None


def copy_results(state: State) -> Sequence[CopyResult]:
    """Every copy that bought something, oldest first."""
    bundles = state.bundles.image().bundles
    sold: dict[BundleId, tuple[int, int]] = {}
    for bundle in bundles:
        if bundle.plan.exits:
            cash, shares = sold.get(bundle.plan.exits, (0, 0))
            gone = sum(leg.filled + leg.unwound for leg in bundle.legs)
            sold[bundle.plan.exits] = cash + bundle.cash, shares + gone
    return [
        _result(state, bundle, answered, *sold.get(bundle.id, (0, 0)))
        for bundle in bundles
        if (answered := state.leaders.answered(bundle.id)) and bundle.legs[0].filled > 0
    ]


def _result(
    state: State, bundle: Bundle, answered: Sequence[Sighting], cash: int, sold: int
) -> CopyResult:
    """One copy, of which sales took ``sold`` shares for ``cash``."""
    token, bought = bundle.plan.legs[0].instrument_id, bundle.legs[0].filled
    price = _price(state, token, answered)
    standing = state.bundles.standings.all.get(bundle.id)
    stands = standing is not None and any(leg.left for leg in standing.legs)
    paid = Cash(-bundle.legs[0].cash)
    theirs, their_result = _leader(state, answered, price)
    basis = Qty(sum(one.basis for one in answered))
    fair = sum(notional_down(one.price, one.basis) for one in answered) * bought
    held = notional_down(price, Qty(max(0, bought - sold)))
    return CopyResult(
        bundle_id=bundle.id,
        wallet=answered[0].wallet,
        token=token,
        bought=bought,
        paid=paid,
        result=Cash(bundle.cash + cash + held),
        leader_paid=theirs,
        leader_result=their_result,
        slippage=Cash(paid - fair // basis) if basis else ZERO_CASH,
        ended=token in state.resolved or not (bundle.open or stands),
    )


def _price(state: State, token: InstrumentId, answered: Sequence[Sighting]) -> Price:
    """The payout of a token, else its bid, else what the leader paid: unknown is not nothing."""
    payout = state.resolved.get(token)
    if payout is not None:
        return payout.price
    book = state.books.get(token)
    if book is not None and book.usable and book.best_bid:
        return book.bid
    return answered[0].price


def _leader(state: State, answered: Sequence[Sighting], price: Price) -> tuple[Cash, Cash]:
    """What the answered purchases had cost the leader, and what came of them."""
    paid = made = 0
    for one in answered:
        part = Qty(min(one.basis, one.change))
        if one.undone_ns or part <= 0:
            continue
        left = state.leaders.left(one)
        # What was gone before we copied was sold for what is not ours to compare: its part of all
        # that was earned is left out.
        gone = one.change - left
        ours = min(gone, max(0, part - left))
        earned = state.leaders.earned(one) * ours // gone if gone else 0
        paid += notional_down(one.price, part)
        made += earned + notional_down(price, Qty(min(part, left)))
    return Cash(paid), Cash(made - paid)


def summary(state: State, results: Sequence[CopyResult] | None = None) -> CopySummary:
    """The KPIs of these results; by default of ``copy_results(state)``."""
    found = copy_results(state) if results is None else results
    ended = [one for one in found if one.ended]
    leader = sum(one.leader_result * one.paid // one.leader_paid for one in found
                 if one.leader_paid)  # fmt: skip
    fair = sum(one.paid - one.slippage for one in found)
    slippage = sum(one.slippage for one in found)
    lags = sorted(state.leaders.lags)
    return CopySummary(
        copies=len(found),
        ended=len(ended),
        won=sum(one.result > 0 for one in ended),
        leader_won=sum(one.leader_result > 0 for one in ended),
        result=Cash(sum((one.result for one in found), ZERO_CASH)),
        leader_result=Cash(leader),
        slippage_bps=slippage * BPS // fair if fair > 0 else None,
        lag_p50_ns=_percentile(lags, 50),
        lag_p99_ns=_percentile(lags, 99),
    )


def _percentile(ordered: Sequence[int], percent: int) -> int | None:
    """The nearest rank: the least value with so many percent of all at or below it."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else None
