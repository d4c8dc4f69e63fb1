"""Turning the tokens of resolved markets into what they pay: one redemption a market.

The venue's redemption burns *both* tokens of a market, whatever is asked for, so both are in one
operation and no second one is asked for while anything is under way for them: a redemption, a
merge, an order, or a fill that is not settled (its tokens are not in the wallet yet).

Tokens that pay nothing are redeemed too, later. It costs a little gas and brings no cash, but it
ends the position: what it cost becomes a loss of that day, and counts in no exposure any more. They
wait until whatever pays has been redeemed, and for ``write_off_ns``, because the markets of an
outcome set are not resolved in the same second: the losers of a set that was bought whole must not
look like a loss before its winner is in.

A redemption that was rejected (the oracle's answer may be told before it is on chain) is asked for
again after a pause, twice as long each time. Nothing here must not be forgotten: the pauses are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fleet.domain.commands import BundleId, OperationIntent, OperationKind
from fleet.domain.instruments import InstrumentId, MarketId
from fleet.domain.units import Cash, notional_down
from fleet.engine.view import View

REDEEM: Final = BundleId("redeem")
PAUSE_NS: Final = 10_000_000_000
"""Longer than a transaction takes to be final (three blocks, 6 s)."""
PAUSE_NS_MAX: Final = 3_600_000_000_000
WRITE_OFF_NS: Final = 600_000_000_000
TRIES_WAITED_FOR: Final = 5
"""After so many the worthless tokens wait no longer for the paying ones."""


class Redemptions:
    """What to redeem now; remembers only when it asked last."""

    def __init__(self, *, write_off_ns: int = WRITE_OFF_NS) -> None:
        """Keep worthless tokens for ``write_off_ns`` after their market's resolution."""
        self._write_off_ns = write_off_ns
        self._asked: dict[MarketId, tuple[int, int]] = {}
        """How often a market was asked for, and when it may be again."""

    def wishes(self, view: View) -> Sequence[OperationIntent]:
        """The redemptions of this moment; empty when there is nothing (more) to do."""
        if not view.resolved:
            return ()
        held = self._held(view)
        self._asked = {market: asked for market, asked in self._asked.items() if market in held}
        if not held:
            return ()
        due = [self._intent(market, tokens, view) for market, tokens in held.items()]
        under_way = {
            op.subject: None
            for op in view.pending_operations.values()
            if op.kind is OperationKind.REDEEM
        }
        paying = bool(under_way) or any(intent.cash and self._hoped_for(intent) for intent in due)
        wishes: list[OperationIntent] = []
        busy = _busy(view)
        for intent in due:
            market, now_ns = MarketId(intent.subject), view.now_ns
            tries, next_ns = self._asked.get(market, (0, 0))
            told_ns = max(view.resolved[token].told_ns for token, _ in intent.burn)
            young = now_ns - told_ns < self._write_off_ns
            if not intent.cash and (paying or young):
                continue
            if (
                now_ns < next_ns
                or market in under_way
                or any(token in busy for token, _ in intent.burn)
            ):
                continue
            pause_ns = min(PAUSE_NS << min(tries, 16), PAUSE_NS_MAX)
            self._asked[market] = (tries + 1, now_ns + pause_ns)
            wishes.append(intent)
        return wishes

    def _hoped_for(self, intent: OperationIntent) -> bool:
        """Whether it has not failed so often that nothing may wait for it."""
        return self._asked.get(MarketId(intent.subject), (0, 0))[0] < TRIES_WAITED_FOR

    @staticmethod
    def _held(view: View) -> dict[MarketId, list[InstrumentId]]:
        """The held tokens of each resolved market."""
        held: dict[MarketId, list[InstrumentId]] = {}
        for token, position in view.positions.items():
            payout = view.resolved.get(token)
            if payout is not None and position.qty > 0:
                held.setdefault(payout.market_id, []).append(token)
        return held

    @staticmethod
    def _intent(market: MarketId, tokens: list[InstrumentId], view: View) -> OperationIntent:
        burn = tuple((token, view.position(token).qty) for token in tokens)
        cash = sum(notional_down(view.resolved[token].price, qty) for token, qty in burn)
        return OperationIntent(
            bundle_id=REDEEM, kind=OperationKind.REDEEM, subject=market, burn=burn, mint=(),
            cash=Cash(cash),
        )  # fmt: skip


def _busy(view: View) -> dict[InstrumentId, None]:
    """Tokens that something is under way for."""
    busy: dict[InstrumentId, None] = {}
    for token, position in view.positions.items():
        if position.unsettled:
            busy[token] = None
    for order in view.open_orders.values():
        busy[order.instrument_id] = None
    for operation in view.pending_operations.values():
        for token, _ in (*operation.burn, *operation.mint):
            busy[token] = None
    return busy
