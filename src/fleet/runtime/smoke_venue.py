"""The smoke order's hands at the venue: the same guard, client and bytes as every later order.

Its client order id carries the moment it was made, so no two smoke orders are the same order, and
none can be mistaken for one of the engine's (``o1``, ``o2``, ...).
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from fleet.clock import Clock
from fleet.domain.commands import BundleId, ClientOrderId, Purpose, SubmitOrder, TimeInForce
from fleet.domain.events import VenueOrderId
from fleet.domain.instruments import Instrument, InstrumentId, Side
from fleet.domain.units import SCALE, Price, Qty, UnitsError, parse_price
from fleet.runtime.smoke import BeforeSend
from fleet.venues.polymarket.client import ClobClient, Post
from fleet.venues.polymarket.guard import GuardRefused, SigningGuard
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.outcomes import Verdict
from fleet.venues.port import AnswerInvalid, RequestRefused, TransportFailed, VenueError
from fleet.venues.transport import JsonClient

MARKETS_ASKED: Final = 40
"""Books looked at for a place far from the market, one after the other; most are."""
REFUSED_STATUS: Final = 400


class _Level(msgspec.Struct):
    price: str


class _Book(msgspec.Struct):
    bids: list[_Level]
    asks: list[_Level]


class ClobSmoke:
    """``SmokeVenue`` over the CLOB."""

    def __init__(self, client: ClobClient, guard: SigningGuard, hosts: Hosts, clock: Clock) -> None:
        """Use ``client``, which must be started, and sign with ``guard``."""
        self._client = client
        self._guard = guard
        self._hosts = hosts
        self._clock = clock

    async def quotes(
        self, instruments: Iterable[Instrument]
    ) -> list[tuple[Instrument, Price, Price]]:
        """(instrument, best bid, best ask) of the first books that can be had; 0 is no bid.

        Raises ``VenueError`` when none can be.
        """
        found: list[tuple[Instrument, Price, Price]] = []
        problem: VenueError | None = None
        reads = JsonClient(self._hosts.clob_url, clock=self._clock)
        try:
            for instrument in list(instruments)[:MARKETS_ASKED]:
                try:
                    book = await reads.get("/book", _Book, {"token_id": instrument.id})
                    found.append((instrument, *_best(book)))
                except RequestRefused as error:
                    problem = error  # Closed or not there yet: any other market will do.
        finally:
            await reads.close()
        if not found and problem is not None:
            raise problem
        return found

    async def place_post_only(
        self, instrument_id: InstrumentId, price: Price, qty: Qty, before_send: BeforeSend
    ) -> VenueOrderId:
        """Sign, tell ``before_send``, send; see ``SmokeVenue``."""
        now_ns = self._clock.now_ns()
        request = SubmitOrder(
            client_order_id=ClientOrderId(f"smoke-{now_ns}"), bundle_id=BundleId("smoke"), leg=0,
            purpose=Purpose.LEG, instrument_id=instrument_id, side=Side.BUY, price=price, qty=qty,
            tif=TimeInForce.GTC, ts=now_ns,
        )  # fmt: skip
        try:
            wire = self._guard.sign_order(request, self._client.owner, post_only=True)
        except GuardRefused as error:
            raise RequestRefused(str(error), status=REFUSED_STATUS, body="") from error
        before_send(wire.venue_order_id)
        (outcome,) = await self._client.post([Post(wire.venue_order_id, wire.body, is_buy=True)])
        if outcome.verdict is Verdict.REJECTED:
            raise RequestRefused(outcome.reason, status=REFUSED_STATUS, body=outcome.reason)
        if outcome.verdict is Verdict.UNKNOWN:
            raise TransportFailed(outcome.reason, sent=True)
        return wire.venue_order_id

    async def cancel(self, order_id: VenueOrderId) -> bool:
        """Whether the venue says that it cancelled it now."""
        return order_id in (await self._client.cancel([order_id])).canceled

    async def open_orders(self) -> AbstractSet[VenueOrderId]:
        """The ids of all open orders of the API key."""
        return {order.order_id for order in await self._client.open_orders()}

    async def traded(self, order_id: VenueOrderId) -> bool:
        """Whether any part of the order ever traded, as taker or maker."""
        for trade in await self._client.trades():
            makers = {fill.order_id for fill in trade.maker_fills}
            if order_id == trade.taker_order_id or order_id in makers:
                return True
        return False


def _best(book: _Book) -> tuple[Price, Price]:
    try:
        bids = [parse_price(level.price) for level in book.bids]
        asks = [parse_price(level.price) for level in book.asks]
    except UnitsError as error:
        raise AnswerInvalid(f"/book: {error}") from error
    return max(bids, default=Price(0)), min(asks, default=Price(SCALE))
