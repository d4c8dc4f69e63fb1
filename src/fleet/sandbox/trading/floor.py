"""The trading floor: everything around one exchange that a client can talk to, put together.

``add_to`` registers the routes, ``step`` acts on heartbeats that stopped, ``publish`` sends what
the exchange made known since the last call: frames to the market channel, updates to the user
channel, both to nobody twice. Files: ``FILE-accounts.db`` beside the exchange's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from fleet.sandbox.exchange.contract import ExchangePort, UserUpdate
from fleet.sandbox.listing import Listings
from fleet.sandbox.market_channel import MarketChannel
from fleet.sandbox.request_reading import json_answer
from fleet.sandbox.trading.account_routes import AccountRoutes
from fleet.sandbox.trading.accounts import Accounts
from fleet.sandbox.trading.approvals import Approvals
from fleet.sandbox.trading.data_routes import DataRoutes
from fleet.sandbox.trading.desk import Desk
from fleet.sandbox.trading.heartbeats import Heartbeats
from fleet.sandbox.trading.leader_routes import LeaderRoutes
from fleet.sandbox.trading.login import Login
from fleet.sandbox.trading.notifications import Notifications
from fleet.sandbox.trading.operator_routes import OperatorRoutes
from fleet.sandbox.trading.order_routes import OrderRoutes
from fleet.sandbox.trading.posted_orders import OrderChecks
from fleet.sandbox.trading.rate_limits import RateLimits
from fleet.sandbox.trading.user_channel import UserChannel
from fleet.venues.polymarket.contracts import POLYGON

CLOB: Final = "/clob"
COUNTRY: Final = "ZZ"
"""No country's code, so that nobody takes the answer for a real one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorSettings:
    """How strict and how forgetful the floor is.

    ``limits_scale`` multiplies every rate limit (0: none), ``max_age_scale`` the age of Data API
    answers (0: always fresh). ``geoblocked`` is what the geoblock address answers.
    """

    limits_scale: float = 1.0
    max_age_scale: float = 1.0
    geoblocked: bool = False
    chain_id: int = POLYGON

    def __post_init__(self) -> None:
        """Refuse scales below zero."""
        if self.limits_scale < 0 or self.max_age_scale < 0:
            raise ValueError("scales of limits and ages are 0 (off) or above")


class TradingFloor:
    """The protocols around one exchange."""

    def __init__(
        self,
        exchange: ExchangePort,
        listings: Listings,
        approvals: Approvals,
        *,
        market_channel: MarketChannel,
        queue_max: int,
        clients_max: int,
        note: Callable[[str], None],
        now_ns: Callable[[], int],
        accounts_path: Path | None = None,
        settings: FloorSettings | None = None,
        witness: Callable[[Sequence[UserUpdate]], None] = lambda _: None,
    ) -> None:
        """Serve ``exchange``; without ``accounts_path`` keys are forgotten at the end.

        ``witness`` is shown every update that was published (the chain notes settlements).

        ``queue_max``, ``clients_max`` and ``note`` are the user channel's.
        """
        self._settings = settings = settings or FloorSettings()
        self._exchange = exchange
        self._markets = market_channel
        self._now_ns = now_ns
        self._witness = witness
        self.accounts = Accounts(accounts_path)
        self.channel = UserChannel(
            self.accounts, listings, queue_max=queue_max, clients_max=clients_max, note=note
        )
        self.limits = RateLimits(now_ns, scale=settings.limits_scale)
        self.desk = Desk(
            exchange=exchange,
            accounts=self.accounts,
            approvals=approvals,
            login=Login(self.accounts, now_ns, prefix=CLOB, chain_id=settings.chain_id),
            checks=OrderChecks(self.accounts, listings, chain_id=settings.chain_id),
            limits=self.limits,
            heartbeats=Heartbeats(self.accounts, now_ns),
            notifications=Notifications(),
            listings=listings,
            now_ns=now_ns,
            publish=self.publish,
            hang_up=self.channel.end,
            chain_id=settings.chain_id,
        )

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register every path of the floor."""
        OrderRoutes(self.desk).add_to(router, CLOB)
        AccountRoutes(self.desk).add_to(router, CLOB)
        DataRoutes(self.desk, max_age=self._settings.max_age_scale).add_to(router, "/data-api")
        LeaderRoutes(self.desk).add_to(router, "/data-api")
        OperatorRoutes(self.desk).add_to(router, "/sandbox")
        router.add_get("/ws/user", self.channel.handle)
        router.add_get("/site/api/geoblock", self._geoblock)

    def step(self, now_ns: int) -> None:
        """Cancel the orders of keys whose heartbeats stopped."""
        for owner in self.desk.heartbeats.lapsed(now_ns):
            self._exchange.cancel_all(owner, now_ns)
            self.desk.heartbeats.end(owner)

    def publish(self) -> None:
        """Send out what the exchange made known."""
        published = self._exchange.drain()
        self._markets.publish(published.frames)
        self.channel.publish(published.updates)
        self.desk.notifications.record(published.updates)
        self._witness(published.updates)

    async def close(self) -> None:
        """Close the user channel and the file."""
        await self.channel.close()
        self.accounts.close()

    async def _geoblock(self, request: web.Request) -> web.Response:
        return json_answer(
            {
                "blocked": self._settings.geoblocked,
                "ip": request.remote or "",
                "country": COUNTRY,
                "region": "",
            }
        )
