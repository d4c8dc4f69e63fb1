"""Two decided orders to the signed request, without the engine: what py-clob-client-v2's part is.

Run by bench/run.py: ``sign_two.py COUNT``.
"""

from __future__ import annotations

import sys

from bot import START_NS, MemoryJournal, active_engine
from frames import NO, YES
from orders import Sender
from timing import report, summary, time_each

from fleet.domain.commands import BundleId, ClientOrderId, Purpose, SubmitOrder, TimeInForce
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import parse_price, parse_qty


def main() -> None:
    """Time COUNT pairs of orders and print the summary as one JSON line."""
    count = int(sys.argv[1])
    sender = Sender(active_engine(MemoryJournal()), journal=None)
    pair = [
        SubmitOrder(
            client_order_id=ClientOrderId(f"o{leg}"),
            bundle_id=BundleId("b1"),
            leg=leg,
            purpose=Purpose.LEG,
            instrument_id=InstrumentId(token),
            side=Side.BUY,
            price=parse_price("0.48"),
            qty=parse_qty("98"),
            tif=TimeInForce.FAK,
            ts=START_NS,
        )
        for leg, token in enumerate((YES, NO))
    ]

    def two_orders(_frame: bytes) -> None:
        sender.request(pair)

    for _ in range(20):
        two_orders(b"")
    report(dict(summary(time_each(two_orders, [b""] * count))))


if __name__ == "__main__":
    main()
