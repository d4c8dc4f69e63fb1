"""What the exchange knows, in one place: ledger, orders, trades, markets, and what is unsaid.

The parts of the core (order entry, settlement, positions) change it; the store writes what changed;
``drain`` gives away what was published. No rules of trading here.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field, replace

from fleet.domain.units import Price
from fleet.sandbox.exchange.accounts import Ledger
from fleet.sandbox.exchange.contract import (
    OperationView,
    OrderChange,
    OrderUpdate,
    Refused,
    TradeUpdate,
    UserUpdate,
)
from fleet.sandbox.exchange.orders import Order
from fleet.sandbox.exchange.settlement import Trade
from fleet.sandbox.listing import MarketState
from fleet.sandbox.market_book import LevelChange
from fleet.sandbox.market_frames import Frame
from fleet.sandbox.simulator import MarketSimulator


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMarket:
    """A market somebody ever traded or held: what redeeming needs when it is listed no more."""

    condition_id: str
    tokens: tuple[str, str]
    pool: str
    """Where its collateral is counted: its own condition, or its neg-risk market id."""
    winner: int | None = None
    tick: int = 0
    """Its tick at 1e-8, once refined; 0 before."""


@dataclass(slots=True)
class Changes:
    """What must be written before the call that made it returns."""

    orders: dict[str, Order] = field(default_factory=dict)
    trades: dict[str, Trade] = field(default_factory=dict)
    markets: dict[str, KnownMarket] = field(default_factory=dict)
    operations: list[OperationView] = field(default_factory=list)


class ExchangeState:
    """The exchange's memory. ``active`` are live and delayed orders in the order of arrival."""

    def __init__(self, simulator: MarketSimulator) -> None:
        """An exchange where nothing has happened."""
        self.simulator = simulator
        self.seed = simulator.settings.seed
        self.ledger = Ledger()
        self.active: dict[str, Order] = {}
        self.owners: dict[str, str] = {}
        """Every order id ever accepted, with its API key: none is accepted twice."""
        self.trades: dict[str, Trade] = {}
        self.trades_of: dict[str, list[str]] = {}
        self.markets: dict[str, KnownMarket] = {}
        self.order_count = 0
        self.trade_count = 0
        self.operations: dict[str, OperationView] = {}
        """Operations and deposits by transaction hash: none is carried out twice."""
        self.operations_of: dict[str, list[OperationView]] = {}
        self.frames: list[Frame] = []
        self.updates: list[UserUpdate] = []
        self.changes = Changes()

    def listed(self, token_id: str) -> tuple[MarketState, int]:
        """The open market of a token, and which outcome it is. Raises ``Refused``."""
        found = self.simulator.listings.by_token.get(token_id)
        if found is None or found[0].closed:
            raise Refused(404, "No orderbook exists for the requested token id")
        return found

    def know(self, market: MarketState) -> KnownMarket:
        """Remember a market for ever."""
        spec = market.spec
        known = self.markets.get(spec.condition_id)
        if known is None:
            known = KnownMarket(
                condition_id=spec.condition_id,
                tokens=spec.tokens,
                pool=market.event.neg_risk_market_id or spec.condition_id,
                winner=market.winner,
            )
            self._keep(known)
        return known

    def refined(self, market: MarketState) -> None:
        """Note a finer tick: it outlives a restart."""
        self._keep(replace(self.know(market), tick=market.tick))

    def close(self, condition_id: str, winner: int) -> None:
        """Note who won a remembered market."""
        known = self.markets.get(condition_id)
        if known is not None:
            self._keep(replace(known, winner=winner))

    def take_frames(self, since: int) -> list[Frame]:
        """The frames published after the first ``since``, for the simulator to put in order."""
        frames = self.frames[since:]
        del self.frames[since:]
        return frames

    def _keep(self, known: KnownMarket) -> None:
        self.markets[known.condition_id] = self.changes.markets[known.condition_id] = known

    def tell(self, order: Order, change: OrderChange, now_ns: int) -> None:
        """An order changed: write it, and say so to its owner."""
        self.changes.orders[order.order_id] = order
        self.updates.append(OrderUpdate(change=change, order=order.view(), at_ns=now_ns))

    def tell_trade(self, trade: Trade, now_ns: int) -> None:
        """A trade was made or moved on: write it, and say so to its parties."""
        self.changes.trades[trade.view.trade_id] = trade
        self.updates.append(TradeUpdate(trade=trade.view, at_ns=now_ns))

    def level_changed(
        self, market: MarketState, order: Order, before: tuple[Price | None, Price | None], at: int
    ) -> None:
        """Publish the level a user's order came to or left."""
        book, index = market.book, order.yes_price // market.tick
        flow = book.qty(buy=order.yes_buy, index=index)
        change = LevelChange(order.yes_buy, index, flow)
        self.frames += self.simulator.changed(market, [change], at, before)

    def enter_operation(self, view: OperationView) -> None:
        """Remember an operation under its hash and its wallet."""
        self.operations[view.transaction_hash] = view
        self.operations_of.setdefault(view.wallet, []).append(view)

    def enter_trade(self, trade: Trade) -> None:
        """Remember a trade under every API key in it."""
        view = trade.view
        self.trades[view.trade_id] = trade
        for owner in dict.fromkeys([view.owner, *(fill.owner for fill in view.makers)]):
            if owner:
                self.trades_of.setdefault(owner, []).append(view.trade_id)

    def name_trade(self) -> tuple[int, str]:
        """The number and the id (a UUID) of the next trade."""
        self.trade_count += 1
        return self.trade_count, str(
            uuid.UUID(hex=self.digest(f"trade:{self.trade_count}")[:32], version=4)
        )

    def digest(self, what: str) -> str:
        """64 hex digits that depend on the seed and on what they name."""
        return hashlib.sha256(f"exchange:{self.seed}:{what}".encode()).hexdigest()
