"""What the exchange takes and gives: the border between its core and the protocols around it.

Amounts named ``*_amount``, ``size`` and ``cash`` are *base units* (integers at 1e-6, as on chain:
shares or pUSD); prices are ``fleet.domain`` prices (1e-8). Times are nanoseconds unless the name
says otherwise. The core checks everything that needs the market or the account; what needs only
the request itself (signature, order id, API key, JSON) is checked before it comes here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from fleet.domain.commands import OperationKind, TimeInForce
from fleet.domain.events import SettlementStatus
from fleet.domain.instruments import Side
from fleet.domain.units import Price
from fleet.sandbox.market_frames import Frame

BASE_UNIT: Final = 1_000_000
"""Base units in one share or one pUSD."""


class Refused(Exception):  # noqa: N818 - named for what happened
    """The exchange will not do it: HTTP ``status`` and the venue's own ``text`` (reference 4.6)."""

    def __init__(self, status: int, text: str) -> None:
        """Keep both for the answer."""
        super().__init__(text)
        self.status = status
        self.text = text


class OrderChange(Enum):
    """Why an order update is sent."""

    PLACEMENT = "PLACEMENT"
    UPDATE = "UPDATE"
    CANCELLATION = "CANCELLATION"


class PlacementStatus(Enum):
    """What became of a posted order at once."""

    LIVE = "live"
    MATCHED = "matched"
    DELAYED = "delayed"
    UNMATCHED = "unmatched"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """A verified order. ``owner`` is the API key, ``address`` the key's wallet (the EOA)."""

    order_id: str
    owner: str
    address: str
    maker: str
    """The wallet that pays and receives."""
    token_id: str
    side: Side
    maker_amount: int
    taker_amount: int
    tif: TimeInForce
    post_only: bool = False
    expiration_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The answer to a posted order; amounts are what was given and got so far."""

    order_id: str
    status: PlacementStatus
    making_amount: int = 0
    taking_amount: int = 0
    trade_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """An order as told to its owner. ``status`` is LIVE, MATCHED, DELAYED, CANCELED_... (5.2)."""

    order_id: str
    status: str
    owner: str
    maker: str
    condition_id: str
    token_id: str
    outcome: str
    side: Side
    price: Price
    original_size: int
    size_matched: int
    tif: TimeInForce
    expiration_s: int
    created_ns: int
    trade_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MakerFill:
    """One resting order's part in a trade; ``fee_amount`` is 0 for makers."""

    order_id: str
    owner: str
    maker: str
    token_id: str
    outcome: str
    side: Side
    price: Price
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeView:
    """One taker's match and its way to settlement. Top-level fields are the taker's.

    ``owner`` and ``maker`` (the taker's API key and wallet) are empty when the anonymous flow took;
    entries of ``makers`` with an empty ``owner`` are the flow's. ``price`` is exact per maker; the
    taker's is the size-weighted mean in cash, rounded to 1e-8. ``fee_amount`` is the taker's pUSD.
    """

    trade_id: str
    taker_order_id: str
    condition_id: str
    token_id: str
    outcome: str
    side: Side
    size: int
    cash: int
    """pUSD that changed hands for ``size``, without the fee."""
    price: Price
    fee_amount: int
    fee_rate_bps: int
    status: SettlementStatus
    matched_ns: int
    updated_ns: int
    owner: str
    maker: str
    transaction_hash: str
    """Empty until MINED."""
    makers: tuple[MakerFill, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderUpdate:
    """An order changed; for the user channel of ``order.owner``."""

    change: OrderChange
    order: OrderView
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeUpdate:
    """A trade was matched or moved on; for the user channels of every owner in it."""

    trade: TradeView
    at_ns: int


UserUpdate = OrderUpdate | TradeUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The answer of every cancel call."""

    canceled: tuple[str, ...]
    not_canceled: Mapping[str, str]
    """Order id -> the venue's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRequest:
    """A split, merge, redeem or convert of ``wallet``, as the chain call says it.

    ``condition_id`` for split, merge and redeem; ``event_market_id`` (neg-risk market id, 0x hex)
    and ``index_set`` for convert. ``amount`` is base units (redeem: all, ``amount`` ignored).
    """

    wallet: str
    kind: OperationKind
    amount: int = 0
    condition_id: str = ""
    event_market_id: str = ""
    index_set: int = 0
    transaction_hash: str = ""
    """The chain's name of it; empty lets the exchange give one. The same hash again is answered
    and not carried out twice: the chain may die between this step and its own note of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """An operation or deposit that was carried out; a deposit has no ``kind``.

    ``cash`` is the wallet's change in pUSD (negative: paid); ``tokens`` its change of each token.
    """

    wallet: str
    kind: OperationKind | None
    cash: int
    tokens: Mapping[str, int]
    condition_id: str
    event_market_id: str
    transaction_hash: str
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a step or a call made known: market frames for everyone, updates for owners."""

    frames: Sequence[Frame] = ()
    updates: Sequence[UserUpdate] = ()


class ExchangePort(Protocol):
    """The exchange as routes, channels and faults see it. Synchronous; time is passed in.

    Every call that changes something is durable when it returns. What it published is collected
    and taken with ``drain`` (the server publishes it right after the call).
    """

    def place(self, request: OrderRequest, now_ns: int) -> Placement:
        """Take an order. Raises ``Refused`` with the venue's words; a twin is ``Duplicated.``."""
        ...

    def cancel(self, owner: str, order_ids: Sequence[str], now_ns: int) -> Cancelled:
        """Cancel by id; a delayed order cannot be cancelled."""
        ...

    def cancel_all(self, owner: str, now_ns: int) -> Cancelled:
        """Cancel every resting order of an API key."""
        ...

    def cancel_market(
        self, owner: str, now_ns: int, *, condition_id: str = "", token_id: str = ""
    ) -> Cancelled:
        """Cancel an API key's resting orders of a market or a token."""
        ...

    def order(self, owner: str, order_id: str) -> OrderView | None:
        """An *active* (live or delayed) order of an API key; finished ones are not told."""
        ...

    def orders(self, owner: str) -> Sequence[OrderView]:
        """An API key's active orders, oldest first."""
        ...

    def trades(self, owner: str, *, after_s: int = 0, before_s: int = 0) -> Sequence[TradeView]:
        """An API key's trades as taker or maker, newest first; 0 means no bound."""
        ...

    def cash(self, wallet: str) -> int:
        """A wallet's pUSD in base units, as the chain holds it (reservations not subtracted)."""
        ...

    def tokens(self, wallet: str) -> Mapping[str, int]:
        """Token id -> base units held on chain (mined), zero balances left out."""
        ...

    def deposit(self, wallet: str, amount: int, now_ns: int) -> None:
        """Give a wallet pUSD; negative takes away. Raises ``Refused`` below zero."""
        ...

    def operate(self, request: OperationRequest, now_ns: int) -> str:
        """Carry out a position operation and return its transaction hash. Raises ``Refused``."""
        ...

    def operations(self, wallet: str) -> Sequence[OperationView]:
        """A wallet's operations and deposits, oldest first (the latest 1,000 suffice)."""
        ...

    def resolve(self, condition_id: str, winner: int, now_ns: int) -> None:
        """Resolve a market (0 YES, 1 NO): resting orders die, tokens become redeemable."""
        ...

    def step(self, now_ns: int) -> None:
        """Move markets, delays, expiries and settlements to ``now_ns``."""
        ...

    def drain(self) -> Published:
        """What was published since the last call."""
        ...
