"""A frame that shows an opportunity, to the signed request that posts its two orders.

``memory``: decode, engine, strategy, risk, amounts, both signatures, JSON body, header HMAC; the
decision goes to a list. ``durable``: the decision is in the SQLite journal before anything is
signed, and both order ids are in it before the request would be sent (a second durable write).

One engine lives through all repetitions, as a bot does. Between two of them, not timed: the books
go back to normal, the venue refuses both orders, the bundle closes, and quiet frames pass.
Run by bench/run.py: ``orders.py memory|durable COUNT DIRECTORY``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter_ns

from bot import START_NS, MemoryJournal, active_engine
from frames import MARKET, NO, YES
from timing import report, summary

from fleet.domain.commands import Approved, Command, SubmitOrder
from fleet.domain.events import OrderRejected, OrderSigned, VenueOrderId
from fleet.engine.engine import Engine, Journal
from fleet.journal.store import JournalStore
from fleet.runtime import memory
from fleet.venues.polymarket.amounts import order_amounts
from fleet.venues.polymarket.auth import ApiCredentials, l2_headers
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.polymarket.signing import OrderSigner, wire_batch, wire_body
from fleet.venues.polymarket.wire import Decoder

OWNER = "7f3a2c10-9b5e-4d21-8c77-0123456789ab"


def message(now_ns: int, *entries: tuple[str, str, str]) -> bytes:
    """A change of asks: (token, price, size) each, at the venue's time of ``now_ns``."""
    texts = ",".join(
        f'{{"asset_id":"{token}","price":"{price}","size":"{size}","side":"SELL","hash":"0",'
        f'"best_bid":"0.44","best_ask":"0.48"}}'
        for token, price, size in entries
    )
    return (
        f'{{"market":"{MARKET}","price_changes":[{texts}],"timestamp":"{now_ns // 1_000_000}",'
        f'"event_type":"price_change"}}'
    ).encode()


def snapshot(token: str, now_ns: int) -> bytes:
    """A quiet book: 0.44 bid, 0.56 asked, for either token."""
    return (
        f'{{"market":"{MARKET}","asset_id":"{token}","timestamp":"{now_ns // 1_000_000}","hash":"0",'
        f'"bids":[{{"price":"0.44","size":"500"}}],"asks":[{{"price":"0.56","size":"500"}}],'
        f'"event_type":"book"}}'
    ).encode()


def opportunity(now_ns: int) -> bytes:
    """Both tokens offered at 0.48 in one message: one dollar for 0.98 with fees."""
    return message(now_ns, (YES, "0.48", "98"), (NO, "0.48", "120"))


def quiet(now_ns: int, size: int) -> bytes:
    """Depth that changes far from the best prices."""
    return message(now_ns, (YES, "0.7", str(size)), (NO, "0.8", str(size)))


class Sender:
    """What stands between approved orders and the socket."""

    def __init__(self, engine: Engine, *, journal: Journal | None) -> None:
        """Sign for the engine; record ids in ``journal`` first, if there is one."""
        self.state = engine.state
        self.journal = journal
        self.signer = OrderSigner(SecretKey(b"\x01" * 32))
        self.credentials = ApiCredentials(
            address=self.signer.address,
            api_key=OWNER,
            secret="AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
            passphrase="x",
        )

    def request(self, orders: list[SubmitOrder]) -> tuple[bytes, dict[str, str]]:
        """Body and headers of the POST /orders that carries ``orders``."""
        instruments, books, signer = self.state.universe.instruments, self.state.books, self.signer
        signed = signer.sign_all(
            [
                signer.order(
                    token_id=order.instrument_id,
                    side=order.side,
                    amounts=order_amounts(
                        order.side, order.price, order.qty, order.tif,
                        books[order.instrument_id].tick,
                    ),
                    neg_risk=instruments[order.instrument_id].neg_risk,
                    salt=order.ts // 1_000 + number,
                    timestamp_ms=order.ts // 1_000_000,
                )
                for number, order in enumerate(orders)
            ]
        )  # fmt: skip
        bodies = [
            wire_body(one, OWNER, order.tif) for one, order in zip(signed, orders, strict=True)
        ]
        if self.journal is not None:
            self.journal.write(
                [
                    OrderSigned(
                        ts_event=order.ts,
                        ts_recv=order.ts,
                        client_order_id=order.client_order_id,
                        venue_order_id=VenueOrderId(one.order_id),
                    )
                    for one, order in zip(signed, orders, strict=True)
                ]
            )
        body = wire_batch(bodies)
        return body, l2_headers(
            self.credentials, START_NS // 1_000_000_000, "POST", "/orders", body
        )


class Bench:
    """A bot that sees an opportunity, sends two orders, and is refused, again and again."""

    def __init__(self, store: JournalStore | None) -> None:
        """Decide into ``store``, or into memory when there is none."""
        self.engine = active_engine(store or MemoryJournal())
        self.sender = Sender(self.engine, journal=store)
        self.decode = Decoder().decode
        self.now_ns = START_NS

    def see(self, frame: bytes) -> list[Command]:
        """What the engine commands after a frame received a millisecond after it was sent."""
        events = self.decode(frame, self.now_ns + 1_000_000)
        return [command for event in events for command in self.engine.handle(event)]

    def once(self) -> int:
        """Nanoseconds from the frame of one opportunity to its signed request."""
        for token in (YES, NO):
            self.see(snapshot(token, self.now_ns))
        for size in range(20):
            self.now_ns += 100_000_000
            self.see(quiet(self.now_ns, size + 1))
        self.now_ns += 100_000_000
        fire = opportunity(self.now_ns)
        start = perf_counter_ns()
        commands = self.see(fire)
        orders = [
            command.request
            for command in commands
            if isinstance(command, Approved) and isinstance(command.request, SubmitOrder)
        ]
        body, headers = self.sender.request(orders)
        spent = perf_counter_ns() - start
        if len(orders) != 2 or body.count(b'"signature"') != 2 or len(headers) != 5:
            sys.exit(f"expected two signed orders, got {commands}")
        self.refuse(orders)
        return spent

    def refuse(self, orders: list[SubmitOrder]) -> None:
        """The venue takes neither order and the books are as before: the bundle closes."""
        for token in (YES, NO):
            self.see(snapshot(token, self.now_ns))
        for order in orders:
            self.engine.handle(
                OrderRejected(
                    ts_event=self.now_ns,
                    ts_recv=self.now_ns + 1_000_000,
                    client_order_id=order.client_order_id,
                    reason="killed",
                )
            )
        if self.engine.state.bundles.open:
            sys.exit("a bundle stayed open")


def main() -> None:
    """Time COUNT opportunities and print the summary as one JSON line."""
    kind, count, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    store = None
    if kind == "durable":
        store = JournalStore(directory / "bench.db", bot="bench", mode="paper", run_id="bench")
    bench = Bench(store)
    for _ in range(20):
        bench.once()
    memory.settle()  # As a bot does before it trades.
    taken = [bench.once() for _ in range(count)]
    if store is not None:
        store.close()
    report(dict(summary(taken)))


if __name__ == "__main__":
    main()
