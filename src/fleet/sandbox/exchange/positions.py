"""Split, merge, redeem and convert: what the chain does to pUSD and tokens (reference 7.4).

The chain knows balances, not holds: an operation may use what an order or an unsettled trade
counts on. The order is then cancelled, the trade fails. Each is done wholly or refused, with the
words of a reverted call.
"""

from __future__ import annotations

from collections.abc import Sequence

from fleet.domain.commands import OperationKind
from fleet.sandbox.exchange.accounts import CASH
from fleet.sandbox.exchange.contract import OperationRequest, OperationView, Refused
from fleet.sandbox.exchange.state import ExchangeState, KnownMarket
from fleet.sandbox.listing import GroupState

Deltas = dict[str, int]
"""Change of a wallet's balance by asset."""


def reverted(why: str) -> Refused:
    """A call that the chain did not carry out."""
    return Refused(400, f"execution reverted: {why}")


class Positions:
    """The chain's contracts for positions."""

    def __init__(self, state: ExchangeState) -> None:
        """Work on ``state``."""
        self._state = state

    def operate(self, request: OperationRequest, now_ns: int) -> tuple[str, list[str]]:
        """Carry out an operation: its transaction hash and the assets that fell."""
        state = self._state
        if request.kind is OperationKind.CONVERT:
            deltas, pool = self._convert(request)
        else:
            market = self._market(request.condition_id)
            pool = market.pool
            deltas = (
                self._redeem(request, market)
                if (request.kind is OperationKind.REDEEM)
                else self._split(request, market)
            )
        for asset, delta in deltas.items():
            if state.ledger.balance(request.wallet, asset) + delta < 0:
                raise reverted(f"{'ERC20' if asset == CASH else 'ERC1155'}: insufficient balance")
        for asset, delta in deltas.items():
            state.ledger.move(request.wallet, asset, delta)
        state.ledger.lock(pool, -deltas[CASH])
        digest = self._note(request, deltas, now_ns)
        return digest, [asset for asset, delta in deltas.items() if delta < 0]

    def note_deposit(self, wallet: str, amount: int, now_ns: int) -> None:
        """Remember a deposit or a withdrawal that the ledger has."""
        what = f"operation:{len(self._state.operations)}:{wallet}:{amount}"
        view = OperationView(
            wallet=wallet,
            kind=None,
            cash=amount,
            tokens={},
            condition_id="",
            event_market_id="",
            transaction_hash=f"0x{self._state.digest(what)}",
            at_ns=now_ns,
        )
        self._state.enter_operation(view)
        self._state.changes.operations.append(view)

    def _note(self, request: OperationRequest, deltas: Deltas, now_ns: int) -> str:
        what = f"operation:{len(self._state.operations)}:{request}"
        view = OperationView(
            wallet=request.wallet,
            kind=request.kind,
            cash=deltas[CASH],
            tokens={asset: delta for asset, delta in deltas.items() if asset != CASH and delta},
            condition_id=request.condition_id,
            event_market_id=request.event_market_id,
            transaction_hash=request.transaction_hash or f"0x{self._state.digest(what)}",
            at_ns=now_ns,
        )
        self._state.enter_operation(view)
        self._state.changes.operations.append(view)
        return view.transaction_hash

    def _market(self, condition_id: str) -> KnownMarket:
        found = self._state.markets.get(condition_id)
        if found is not None:
            return found
        listed = self._state.simulator.listings.by_condition.get(condition_id)
        if listed is None:
            raise reverted("condition not prepared yet")
        return self._state.know(listed)

    @staticmethod
    def _split(request: OperationRequest, market: KnownMarket) -> Deltas:
        """Or merge, which is the same backwards. Both are allowed after the resolution, too."""
        if request.amount <= 0:
            raise reverted("amount must be positive")
        sign = 1 if request.kind is OperationKind.SPLIT else -1
        amount = sign * request.amount
        return {CASH: -amount, market.tokens[0]: amount, market.tokens[1]: amount}

    def _redeem(self, request: OperationRequest, market: KnownMarket) -> Deltas:
        if market.winner is None:
            raise reverted("result for condition not received yet")
        owned = [self._state.ledger.balance(request.wallet, token) for token in market.tokens]
        if not any(owned):
            raise reverted("nothing to redeem")
        deltas = {token: -amount for token, amount in zip(market.tokens, owned, strict=True)}
        return {CASH: owned[market.winner], **deltas}

    def _convert(self, request: OperationRequest) -> tuple[Deltas, str]:
        """NO of the questions in the index set for YES of all the others and freed pUSD."""
        group = self._group(request.event_market_id)
        legs: Sequence[KnownMarket] = [self._state.know(market) for market in group.markets]
        if request.amount <= 0:
            raise reverted("amount must be positive")
        if not 0 < request.index_set < 1 << len(legs):
            raise reverted("InvalidIndexSet()")
        if any(leg.winner is not None for leg in legs):
            raise reverted("MarketAlreadyDetermined()")
        given = [leg for at, leg in enumerate(legs) if request.index_set >> at & 1]
        deltas = {CASH: (len(given) - 1) * request.amount}
        for leg in legs:
            if leg in given:
                deltas[leg.tokens[1]] = -request.amount
            else:
                deltas[leg.tokens[0]] = request.amount
        return deltas, request.event_market_id

    def _group(self, event_market_id: str) -> GroupState:
        for group in self._state.simulator.listings.groups.values():
            if event_market_id and group.event.neg_risk_market_id == event_market_id:
                return group
        raise reverted("MarketNotPrepared()")

    def check_resolution(self, condition_id: str, winner: int) -> None:
        """Refuse what would leave an outcome set without exactly one YES. Raises ``Refused``."""
        if winner not in {0, 1}:
            raise Refused(400, f"winner {winner} is neither 0 (YES) nor 1 (NO)")
        market = self._state.simulator.listings.by_condition.get(condition_id)
        if market is None or market.closed:
            raise Refused(404, "market not found")
        if not market.spec.neg_risk:
            return
        group = self._state.simulator.listings.groups[market.event.id]
        others = [m for m in group.markets if m is not market]
        if winner == 0 and any(m.winner == 0 for m in others):
            raise Refused(400, "another outcome of this set has already won")
        if winner == 1 and all(m.winner == 1 for m in others):
            raise Refused(400, "one outcome of this set must win")
