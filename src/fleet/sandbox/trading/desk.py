"""Everything the routes of one sandbox's trading share, and what publishes after each call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from fleet.sandbox.exchange.contract import ExchangePort, OrderRequest, Refused
from fleet.sandbox.listing import Listings
from fleet.sandbox.trading.accounts import Accounts, ApiKey
from fleet.sandbox.trading.approvals import Approvals
from fleet.sandbox.trading.heartbeats import Heartbeats
from fleet.sandbox.trading.login import Login
from fleet.sandbox.trading.notifications import Notifications
from fleet.sandbox.trading.posted_orders import OrderChecks
from fleet.sandbox.trading.rate_limits import RateLimits

NOT_ENOUGH: Final = "not enough balance / allowance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The parts. ``publish`` sends out what the exchange made known; call it after every change.

    ``hang_up`` ends the user-channel connections of a key.
    """

    exchange: ExchangePort
    accounts: Accounts
    approvals: Approvals
    login: Login
    checks: OrderChecks
    limits: RateLimits
    heartbeats: Heartbeats
    notifications: Notifications
    listings: Listings
    now_ns: Callable[[], int]
    publish: Callable[[], None]
    hang_up: Callable[[str], None]
    chain_id: int

    async def key(self, request: web.Request) -> ApiKey:
        """The API key behind a request. Raises ``ApiError`` 401."""
        return await self.login.key(request)

    def may_spend(self, order: OrderRequest, spender: str) -> None:
        """Raise ``Refused`` 400 if the order's exchange may not take what it would give."""
        if order.side.value == "BUY":
            enough = self.approvals.allowance(order.maker, spender) >= order.maker_amount
        else:
            enough = self.approvals.approved(order.maker, spender)
        if not enough:
            raise Refused(400, NOT_ENOUGH)
