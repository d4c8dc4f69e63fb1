"""The exchange: the simulated markets, users' orders in them, their settlement and their money.

The one object routes and channels hold; it implements ``contract.ExchangePort`` by handing each
call to the part that knows (order entry, settlement, positions) and writing what changed before it
returns. Synchronous and single-threaded; no socket, no clock, seeded chance only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.exchange.accounts import CASH, FLOW
from fleet.sandbox.exchange.contract import (
    Cancelled,
    OperationRequest,
    OperationView,
    OrderRequest,
    OrderView,
    Placement,
    Published,
    Refused,
    TradeView,
)
from fleet.sandbox.exchange.desk import OrderDesk
from fleet.sandbox.exchange.positions import Positions
from fleet.sandbox.exchange.restoring import restore
from fleet.sandbox.exchange.settlement import SettlementFaults
from fleet.sandbox.exchange.settling import Settling
from fleet.sandbox.exchange.state import ExchangeState
from fleet.sandbox.exchange.store import ExchangeStore
from fleet.sandbox.listing import MarketState
from fleet.sandbox.simulator import MarketSimulator, SimulatorSettings


class Exchange:
    """Markets, orders, trades and balances of one sandbox."""

    def __init__(
        self, settings: SimulatorSettings, start_ns: int, *, path: Path | None = None
    ) -> None:
        """List the markets at ``start_ns`` and go on with what the file ``path`` holds.

        None keeps everything in memory. Raises ``store.StoreError`` if the file is unusable.
        """
        self._store = ExchangeStore(path)
        listed_ns = self._store.begin(settings.seed, start_ns)
        self.simulator = MarketSimulator(settings, start_ns, listed_ns=listed_ns)
        self.faults = SettlementFaults(seed=str(settings.seed))
        """How trades settle; may be changed at any time."""
        self.state = ExchangeState(self.simulator)
        self._settling = Settling(self.state, self.faults)
        self._desk = OrderDesk(self.state, self._settling)
        self._positions = Positions(self.state)
        self.simulator.on_users_hit = self._desk.users_hit
        self.simulator.on_resolved = self._resolved
        self.simulator.on_refined = self.state.refined
        orders = self._store.load(self.state)
        restore(self.state, orders, self._desk, self._settling, start_ns)
        self._commit()

    @property
    def now_ns(self) -> int:
        """The time of the last step."""
        return self.simulator.now_ns

    @property
    def next_due_ns(self) -> int:
        """When ``step`` next has something to do."""
        return self.simulator.next_due_ns

    def place(self, request: OrderRequest, now_ns: int) -> Placement:
        """Take an order. Raises ``Refused`` with the venue's words; a twin is ``Duplicated.``."""
        placed = self._desk.place(request, self._time(now_ns))
        self._commit()
        return placed

    def cancel(self, owner: str, order_ids: Sequence[str], now_ns: int) -> Cancelled:
        """Cancel by id; a delayed order cannot be cancelled."""
        done = self._desk.cancel(owner, order_ids, self._time(now_ns))
        self._commit()
        return done

    def cancel_all(self, owner: str, now_ns: int) -> Cancelled:
        """Cancel every resting order of an API key."""
        return self.cancel(owner, [o.order_id for o in self.orders(owner)], now_ns)

    def cancel_market(
        self, owner: str, now_ns: int, *, condition_id: str = "", token_id: str = ""
    ) -> Cancelled:
        """Cancel an API key's resting orders of a market or a token."""
        wanted = [
            order.order_id
            for order in self.orders(owner)
            if condition_id in {"", order.condition_id} and token_id in {"", order.token_id}
        ]
        return self.cancel(owner, wanted, now_ns)

    def order(self, owner: str, order_id: str) -> OrderView | None:
        """An *active* (live or delayed) order of an API key; finished ones are not told."""
        found = self.state.active.get(order_id)
        return found.view() if found is not None and found.owner == owner else None

    def orders(self, owner: str) -> Sequence[OrderView]:
        """An API key's active orders, oldest first."""
        return [o.view() for o in self.state.active.values() if o.owner == owner]

    def trades(self, owner: str, *, after_s: int = 0, before_s: int = 0) -> Sequence[TradeView]:
        """An API key's trades as taker or maker, newest first; 0 means no bound.

        The bounds are of the match time, in whole seconds, both inclusive.
        """
        found = (
            self.state.trades[trade_id].view
            for trade_id in reversed(self.state.trades_of.get(owner, []))
        )
        return [
            view
            for view in found
            if after_s <= view.matched_ns // NS_PER_SECOND
            and (not before_s or view.matched_ns // NS_PER_SECOND <= before_s)
        ]

    def cash(self, wallet: str) -> int:
        """A wallet's pUSD in base units, as the chain holds it (reservations not subtracted)."""
        return self.state.ledger.balance(wallet, CASH)

    def tokens(self, wallet: str) -> Mapping[str, int]:
        """Token id -> base units held on chain (mined), zero balances left out."""
        return self.state.ledger.tokens(wallet)

    def deposit(self, wallet: str, amount: int, now_ns: int) -> None:
        """Give a wallet pUSD; negative takes away. Raises ``Refused`` below zero."""
        ledger = self.state.ledger
        if wallet == FLOW:
            raise Refused(400, "a wallet has an address")
        if ledger.balance(wallet, CASH) + amount < 0:
            raise Refused(400, f"{wallet} does not have so much pUSD")
        now_ns = self._time(now_ns)
        ledger.move(wallet, CASH, amount)
        ledger.deposited += amount
        self._positions.note_deposit(wallet, amount, now_ns)
        self._desk.recheck(wallet, CASH, now_ns)
        self._commit()

    def operate(self, request: OperationRequest, now_ns: int) -> str:
        """Carry out a position operation and return its transaction hash. Raises ``Refused``."""
        if request.wallet == FLOW:
            raise Refused(400, "a wallet has an address")
        if request.transaction_hash in self.state.operations:
            return request.transaction_hash
        now_ns = self._time(now_ns)
        digest, fallen = self._positions.operate(request, now_ns)
        for asset in fallen:
            self._desk.recheck(request.wallet, asset, now_ns)
        self._commit()
        return digest

    def operations(self, wallet: str) -> Sequence[OperationView]:
        """A wallet's operations and deposits, oldest first."""
        return tuple(self.state.operations_of.get(wallet, ()))

    def resolve(self, condition_id: str, winner: int, now_ns: int) -> None:
        """Resolve a market (0 YES, 1 NO): resting orders die, tokens become redeemable."""
        self._positions.check_resolution(condition_id, winner)
        market = self.simulator.listings.by_condition[condition_id]
        self.state.frames += self.simulator.resolve(market, winner, self._time(now_ns))
        self._commit()

    def step(self, now_ns: int) -> None:
        """Move everything to ``now_ns``. Raises ``ValueError`` if time goes back."""
        self.state.frames += self.simulator.step(now_ns)
        self._commit()

    def drain(self) -> Published:
        """What was published since the last call."""
        state = self.state
        published = Published(frames=state.frames, updates=state.updates)
        state.frames, state.updates = [], []
        return published

    def close(self) -> None:
        """Let go of the file; everything is in it already."""
        self._store.close()

    def _time(self, now_ns: int) -> int:
        """Calls happen at the time they name, but never before what has happened already."""
        return max(now_ns, self.simulator.now_ns)

    def _resolved(self, market: MarketState, now_ns: int) -> None:
        if market.winner is None:
            raise ValueError(f"{market.spec.slug} has no winner")
        self._desk.resolved(market, now_ns)
        self.state.close(market.spec.condition_id, market.winner)

    def _commit(self) -> None:
        """Write what changed: a call that returns is durable."""
        self._store.write(self.state)
