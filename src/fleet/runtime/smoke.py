"""The smoke order: one real order, as small and as far away as can be, placed, cancelled, proven.

Theory of operation. It proves at once what no read can: that key, funder, signature type, approvals
and contract fit together, and that cancelling works, before anything depends on it. It buys the
least quantity at the lowest price of a market that trades far above it, post-only, so it cannot
take, and to fill it the whole market would have to fall on it within seconds.

A crash must not leave it resting unnoticed: its venue id, known before anything is sent, is written
to the gate file first, durably. Every start first ends what an earlier one left (``clear``): asks
for the cancel, and looks until the venue lists it no more. Silence is not an end: an order whose
post was not answered is looked for until ``wait_ns`` after it was signed, as it may arrive late.

An order that is listed no more is gone, but whether cancelled or filled only its trades tell. If it
filled, tokens lie in the wallet that no journal knows of: the smoke fails, and so will the bot's
reconciliation, until a person has looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol

from fleet.clock import NS_PER_MS, Clock
from fleet.domain.events import VenueOrderId
from fleet.domain.instruments import Instrument, InstrumentId
from fleet.domain.units import Price, Qty, format_units
from fleet.runtime.findings import Finding, failed, passed, unknown
from fleet.runtime.gate_store import GateStore, SmokeRecord, SmokeState
from fleet.venues.port import RequestRefused, VenueError

FAR_TICKS: Final = 10
"""How many ticks the best bid must be above the smoke order's price."""
POLL_S: Final = 0.25
BeforeSend = Callable[[VenueOrderId], None]
Sleep = Callable[[float], Awaitable[None]]
CANCEL_CURE: Final = (
    "run `fleet cancel-all --direct`, look at the open orders on polymarket.com; the next start"
    " cancels it again before anything else"
)


class SmokeVenue(Protocol):
    """What the smoke order needs of the live venue. All methods raise ``VenueError``."""

    async def place_post_only(
        self, instrument_id: InstrumentId, price: Price, qty: Qty, before_send: BeforeSend
    ) -> VenueOrderId:
        """Sign a GTC post-only BUY, call ``before_send`` with its id, then send it; the id.

        Returns when the venue has it. Raises ``RequestRefused`` only if the venue *proved* that it
        does not have it, ``TransportFailed`` when that is not known.
        """
        ...

    async def cancel(self, order_id: VenueOrderId) -> bool:
        """Whether the venue says that it cancelled it now."""
        ...

    async def open_orders(self) -> AbstractSet[VenueOrderId]:
        """The ids of all open orders of the account, all of them."""
        ...

    async def traded(self, order_id: VenueOrderId) -> bool:
        """Whether any part of the order ever traded."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeOrder:
    """What is placed: always a BUY."""

    instrument_id: InstrumentId
    price: Price
    qty: Qty


def smoke_order(
    quotes: Iterable[tuple[Instrument, Price, Price]],
) -> SmokeOrder | None:
    """The smallest order far from the market, from (instrument, best bid, best ask); 0 is no bid.

    It bids the lowest price of the grid where the market bids ``FAR_TICKS`` above it at least. Of
    those that do, the one with the highest bid: it would have to fall the furthest. Nothing when no
    market is far enough away.
    """
    far = [
        (bid, instrument)
        for instrument, bid, ask in quotes
        if bid >= instrument.tick * (1 + FAR_TICKS) and bid < ask
    ]
    if not far:
        return None
    _, instrument = max(far, key=lambda one: (one[0], one[1].id))
    qty = instrument.quantize_qty(instrument.min_qty + instrument.lot - 1)
    return SmokeOrder(
        instrument_id=instrument.id, price=instrument.tick, qty=max(qty, instrument.lot)
    )


class Smoke:
    """One start's smoke order and the ends of those before it."""

    def __init__(
        self,
        venue: SmokeVenue,
        store: GateStore,
        clock: Clock,
        *,
        wait_ns: int,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """``wait_ns`` is how long each proof may take (LIVE_SMOKE_WAIT_MS)."""
        self._venue = venue
        self._store = store
        self._clock = clock
        self._wait_ns = wait_ns
        self._sleep = sleep

    async def run(self, order: SmokeOrder) -> Finding:
        """Clear what earlier starts left, then place, see, cancel and prove. Raises only for the
        gate file (``JournalError``).
        """
        left = await self.clear()
        return left if not left.ok else await self._try(order)

    async def clear(self) -> Finding:
        """End every smoke order that may still rest from an earlier start."""
        records = self._store.smoke_open()
        for record in records:
            finding = await self._end(record, answered=False)
            if not finding.ok:
                return finding
        return passed("smoke order", f"{len(records)} of earlier starts ended")

    async def _try(self, order: SmokeOrder) -> Finding:
        began_ns = self._clock.now_ns()
        signed: list[SmokeRecord] = []

        def before_send(order_id: VenueOrderId) -> None:
            record = SmokeRecord(
                order_id=order_id, ts=began_ns, instrument_id=order.instrument_id,
                price=order.price, qty=order.qty, state=SmokeState.SIGNED,
            )  # fmt: skip
            self._store.smoke_signed(record)
            signed.append(record)

        try:
            order_id = await self._venue.place_post_only(
                order.instrument_id, order.price, order.qty, before_send
            )
        except RequestRefused as error:
            for record in signed:
                self._finish(record, SmokeState.REFUSED, str(error))
            cure = "cure what the venue says; docs/live.md, 'The smoke order', lists what it means"
            return failed("smoke order", str(error), cure)
        except VenueError as error:
            return await self._unanswered(signed, str(error))
        if [record.order_id for record in signed] != [order_id]:
            return failed(
                "smoke order", f"{order_id} was sent without being written down", CANCEL_CURE
            )
        return await self._see_and_end(signed[0], began_ns)

    async def _unanswered(self, signed: list[SmokeRecord], reason: str) -> Finding:
        for record in signed:
            finding = await self._end(record, answered=False)
            if not finding.ok:
                return finding
        return unknown("smoke order", f"no answer: {reason}", "start again in a minute")

    async def _see_and_end(self, record: SmokeRecord, began_ns: int) -> Finding:
        try:
            seen = await self._seen(record.order_id)
        except VenueError as error:
            seen = False
            reason = str(error)
        else:
            reason = "the venue took it and never listed it"
        finding = await self._end(record, answered=True)
        if not finding.ok:
            return finding
        if not seen:
            return unknown("smoke order", reason, "start again in a minute")
        took_ms = (self._clock.now_ns() - began_ns) // NS_PER_MS
        return passed(
            "smoke order",
            f"{format_units(record.qty)} @ {format_units(record.price)} placed, cancelled and"
            f" proven gone in {took_ms} ms",
        )

    async def _end(self, record: SmokeRecord, *, answered: bool) -> Finding:
        """Cancel and prove it gone. Without an answer to its post it may yet arrive, so it is
        looked for to the end of the wait.
        """
        try:
            gone = await self._cancelled(record, answered=answered)
            traded = await self._venue.traded(record.order_id)
        except VenueError as error:
            return unknown("smoke order", f"{record.order_id}: {error}", CANCEL_CURE)
        if traded:
            self._finish(record, SmokeState.FILLED, "it traded")
            cure = (
                "look at the position on polymarket.com and sell it there; the bot refuses to start"
                " until its journal and the wallet agree"
            )
            return failed("smoke order", f"{record.order_id} filled", cure)
        if not gone:
            return failed("smoke order", f"{record.order_id} is still open", CANCEL_CURE)
        self._finish(record, SmokeState.ENDED, "cancelled and proven gone")
        return passed("smoke order", f"{record.order_id} ended")

    async def _cancelled(self, record: SmokeRecord, *, answered: bool) -> bool:
        """Ask for the cancel until the venue lists it no more; false when it does to the end."""
        deadline_ns = self._clock.now_ns() + self._wait_ns
        arrived_ns = 0 if answered else record.ts + self._wait_ns
        while True:
            await self._venue.cancel(record.order_id)
            gone = record.order_id not in await self._venue.open_orders()
            now_ns = self._clock.now_ns()
            if (gone and now_ns >= arrived_ns) or now_ns >= deadline_ns:
                return gone
            await self._sleep(POLL_S)

    async def _seen(self, order_id: VenueOrderId) -> bool:
        deadline_ns = self._clock.now_ns() + self._wait_ns
        while order_id not in await self._venue.open_orders():
            if self._clock.now_ns() >= deadline_ns:
                return False
            await self._sleep(POLL_S)
        return True

    def _finish(self, record: SmokeRecord, state: SmokeState, detail: str) -> None:
        self._store.smoke_ended(record.order_id, state, detail, self._clock.now_ns())


async def smoke(
    venue: SmokeVenue, store: GateStore, clock: Clock, order: SmokeOrder, *, wait_ns: int
) -> Finding:
    """Place, cancel and prove one smoke order; see ``Smoke.run``."""
    return await Smoke(venue, store, clock, wait_ns=wait_ns).run(order)
