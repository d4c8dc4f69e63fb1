"""Cancel everything at the venue with the engine dead: no journal, no loop of a bot, no state.

Needs nothing but addresses and an API key. Asks the venue to cancel all, then looks what is still
open, cancels that by id, and looks again, until two looks find nothing (a dying engine's last order
may arrive between them) or the time is over. What it cannot prove to be gone it reports as open:
silence is never "nothing open".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from fleet.clock import NS_PER_SECOND, Clock, LiveClock
from fleet.domain.events import VenueOrderId
from fleet.venues.polymarket.auth import ApiCredentials
from fleet.venues.polymarket.client import CANCELS_MAX, ClobClient
from fleet.venues.polymarket.clob_http import ClientSettings
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.wire_user import UserOrder
from fleet.venues.port import VenueError

PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReport:
    """What was cancelled, what is still open, and why it is not known if it is not."""

    canceled: tuple[VenueOrderId, ...]
    still_open: tuple[UserOrder, ...]
    unknown: str = ""
    """Why the venue could not be asked what is open; empty when ``still_open`` is the truth."""

    @property
    def clean(self) -> bool:
        """Whether the venue said that nothing is open any more."""
        return not self.still_open and not self.unknown


async def cancel_all(
    hosts: Hosts,
    credentials: ApiCredentials,
    *,
    patience_s: float = 30.0,
    settings: ClientSettings | None = None,
    clock: Clock | None = None,
) -> CancelReport:
    """Cancel every order of this API key. Never raises for what the venue does: it is reported."""
    time = clock or LiveClock()
    client = ClobClient(hosts, credentials, settings=settings, clock=time)
    deadline_ns = time.now_ns() + int(patience_s * NS_PER_SECOND)
    canceled: dict[VenueOrderId, None] = {}
    left: list[UserOrder] = []
    problem = ""
    everything, quiet = True, False
    try:
        while True:
            try:
                if everything:
                    canceled.update(dict.fromkeys((await client.cancel_all()).canceled))
                    everything = False
                left, problem = await client.open_orders(), ""
                if left:
                    ids = [order.order_id for order in left[:CANCELS_MAX]]
                    canceled.update(dict.fromkeys((await client.cancel(ids)).canceled))
                    left = [order for order in left if order.order_id not in canceled]
                    everything = bool(left)
                elif quiet:
                    break
                quiet = not left
            except VenueError as error:
                problem = str(error)
            if time.now_ns() >= deadline_ns:
                break
            await asyncio.sleep(PAUSE_S)
    finally:
        await client.close()
    return CancelReport(canceled=tuple(canceled), still_open=tuple(left), unknown=problem)
