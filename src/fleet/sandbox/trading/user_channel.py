"""The user websocket channel: each key's own orders and trades (reference 5.2).

The first frame logs in with the API key and may name markets (condition ids); without any, all are
meant. ``{"operation": "subscribe" | "unsubscribe", "markets": [...]}`` changes that later. A first
frame that logs nobody in ends the connection with 1008. Nothing is replayed: who was away reloads
orders and trades.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from fleet.sandbox.channel import INVALID_OPERATION, Channel, Client
from fleet.sandbox.exchange.contract import OrderUpdate, UserUpdate
from fleet.sandbox.listing import Listings
from fleet.sandbox.market_frames import encode
from fleet.sandbox.trading.account_frames import order_frame, owners_in, trade_frame
from fleet.sandbox.trading.accounts import Accounts

REFUSED_CODE: Final = 1008
"""Policy violation (RFC 6455): how a login that fails ends; our choice, the venue's is unknown."""


class LoginFrame(msgspec.Struct, rename="camel"):
    """The ``auth`` of the first frame."""

    api_key: str
    secret: str
    passphrase: str


class UserFrame(msgspec.Struct):
    """Any frame a client may send, but PING."""

    markets: list[str] = msgspec.field(default_factory=list)
    type: str = ""
    operation: str = ""
    auth: LoginFrame | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class UserClient(Client):
    """A reader of one key's affairs; ``owner`` is empty until it logged in."""

    owner: str = ""
    every_market: bool = True
    markets: set[str] = field(default_factory=set)
    without: set[str] = field(default_factory=set)

    def wants(self, condition_id: str) -> bool:
        """Whether it asked for this market."""
        if self.every_market:
            return condition_id not in self.without
        return condition_id in self.markets

    def subscribe(self, markets: Sequence[str]) -> None:
        """Add markets; to all of them nothing can be added."""
        self.markets.update(markets)
        self.without.difference_update(markets)

    def unsubscribe(self, markets: Sequence[str]) -> None:
        """Take markets away, from all of them too."""
        self.markets.difference_update(markets)
        self.without.update(markets)


class UserChannel(Channel[UserClient]):
    """The clients of ``/ws/user``."""

    name = "user"

    def __init__(
        self,
        accounts: Accounts,
        listings: Listings,
        *,
        queue_max: int,
        clients_max: int,
        note: Callable[[str], None],
    ) -> None:
        """Log in with the keys of ``accounts``."""
        super().__init__(queue_max=queue_max, clients_max=clients_max, note=note)
        self._accounts = accounts
        self._listings = listings
        self._by_owner: dict[str, dict[UserClient, None]] = {}
        self._closing: set[asyncio.Task[bool]] = set()

    def admit(
        self,
        *,
        number: int,
        queue: asyncio.Queue[bytes],
        link: web.WebSocketResponse,
        transport: asyncio.Transport | None,
    ) -> UserClient:
        """A client that has yet to log in."""
        return UserClient(number=number, queue=queue, link=link, transport=transport)

    def publish(self, updates: Iterable[UserUpdate]) -> None:
        """Send each update to the keys it concerns."""
        for update in updates:
            if isinstance(update, OrderUpdate):
                order = update.order
                self._tell(order.owner, order.condition_id, partial(order_frame, update))
                continue
            trade = update.trade
            for owner in owners_in(trade):
                frame = partial(trade_frame, trade, owner, update.at_ns, self._index)
                self._tell(owner, trade.condition_id, frame)

    def _tell(self, owner: str, condition_id: str, frame: Callable[[], dict[str, Any]]) -> None:
        concerned = [c for c in self._by_owner.get(owner, ()) if c.wants(condition_id)]
        if not concerned:
            return
        payload = encode(frame())
        for client in concerned:
            self.publish_to(client, payload)

    def _index(self, token_id: str, outcome: str) -> int:
        found = self._listings.by_token.get(token_id)
        return found[1] if found is not None else int(outcome in {"No", "Down"})

    def end(self, owner: str) -> None:
        """Hang up on a key that is no more."""
        for client in list(self._by_owner.get(owner, ())):
            self.cut(client)

    def forget(self, client: UserClient) -> None:
        """Take a client that is gone out of the index."""
        watching = self._by_owner.get(client.owner)
        if watching is not None:
            watching.pop(client, None)
            if not watching:
                del self._by_owner[client.owner]

    def received(self, client: UserClient, text: str) -> None:
        """Log in, then subscribe or unsubscribe."""
        try:
            frame = msgspec.json.decode(text, type=UserFrame)
        except msgspec.MsgspecError:
            frame = UserFrame()
        if not client.owner:
            self._log_in(client, frame)
        elif frame.operation == "subscribe":
            client.subscribe(frame.markets)
        elif frame.operation == "unsubscribe":
            client.unsubscribe(frame.markets)
        else:
            self.send(client, INVALID_OPERATION)

    def _log_in(self, client: UserClient, frame: UserFrame) -> None:
        auth = frame.auth
        key = None if auth is None else self._accounts.key(auth.api_key)
        if (
            auth is None
            or key is None
            or frame.type.lower() != "user"
            or not hmac.compare_digest(auth.secret.encode(), key.secret.encode())
            or not hmac.compare_digest(auth.passphrase.encode(), key.passphrase.encode())
        ):
            closing = asyncio.create_task(
                client.link.close(code=REFUSED_CODE, message=b"invalid api key")
            )
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            return
        client.owner = key.owner
        client.every_market = not frame.markets
        client.subscribe(frame.markets)
        self._by_owner.setdefault(key.owner, {})[client] = None
