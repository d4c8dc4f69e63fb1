"""What the live path adds between an approved order and the first byte on the wire.

Two processes: a server that answers orders and stamps when a request's first byte came in, and the
client. Both clocks are the machine's monotonic one. Reported are medians and 95th percentiles of:

    sign       the guard: checks, amounts, EIP-712, secp256k1, JSON body
    sign cold  the same after 2 ms of something else, as in life: the curve's tables left the cache
    venue      ``LiveVenue``: from ``submit`` to the server's first byte, over an order lane; the
               guard's signing and a journal that does nothing are in it
    no lane    the same without lanes: over httpx
    httpx      ``httpx.AsyncClient.post`` of the same bytes, headers signed beforehand
    transport  ``httpx.AsyncHTTPTransport`` of the same bytes: what all but orders use
    kept       the same bytes written to a kept asyncio connection by hand: the floor

Run by bench/run.py, or by hand: ``python bench/ours/live_path.py [--orders N]`` with bench on
PYTHONPATH; a table goes to stderr, one JSON line to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import socket
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import httpx
import uvloop
from timing import report

from fleet.clock import LiveClock
from fleet.domain.commands import (
    Approved,
    BundleId,
    ClientOrderId,
    Purpose,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.instruments import Instrument, InstrumentId, MarketId, Side
from fleet.domain.units import parse_price, parse_qty
from fleet.venues.polymarket.auth import ApiCredentials, l2_headers
from fleet.venues.polymarket.client import ClobClient
from fleet.venues.polymarket.guard import SigningGuard
from fleet.venues.polymarket.hosts import sandbox_hosts
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.polymarket.limits import Limits
from fleet.venues.polymarket.live import LiveSettings, LiveVenue
from fleet.venues.polymarket.user_feed import UserFeed

TOKEN = InstrumentId("1234567890")
KEY = SecretKey(b"\x01" * 32)
CREDENTIALS = ApiCredentials(
    address=KEY.address, api_key="00000000-0000-4000-8000-000000000001",
    secret="AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", passphrase="pass",
)  # fmt: skip
WORLD = {
    TOKEN: Instrument(id=TOKEN, market_id=MarketId("0xm"), complement=InstrumentId("2"),
                      outcome="Yes", tick=parse_price("0.01")),
}  # fmt: skip
ANSWER = json.dumps({"error": "not enough balance / allowance"}).encode()
TIME = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1760000000"
REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


def serve(pipe: Connection) -> None:
    """Answer every request; tell when the first byte of each POST came."""
    listener = socket.create_server(("127.0.0.1", 0))
    pipe.send(listener.getsockname()[1])
    while True:
        link, _ = listener.accept()
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=(link, pipe), daemon=True).start()


def answer(link: socket.socket, pipe: Connection) -> None:
    """One connection; one request at a time."""
    buffer = b""
    first = 0
    while chunk := link.recv(65_536):
        if not buffer:
            first = time.monotonic_ns()
        buffer += chunk
        head, end, body = buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if end and len(body) >= length:
            if head.startswith(b"POST"):
                pipe.send(first)
                link.sendall(REFUSED % len(ANSWER) + ANSWER)
            else:
                link.sendall(TIME)
            buffer = b""
    link.close()


def order(number: int) -> SubmitOrder:
    return SubmitOrder(
        client_order_id=ClientOrderId(f"o{number}"), bundle_id=BundleId("b"), leg=0,
        purpose=Purpose.LEG, instrument_id=TOKEN, side=Side.BUY, price=parse_price("0.52"),
        qty=parse_qty("10"), tif=TimeInForce.FAK, ts=time.time_ns(),
    )  # fmt: skip


FIGURES: dict[str, float] = {}


def show(name: str, nanoseconds: list[int]) -> None:
    cuts = statistics.quantiles(nanoseconds, n=20)
    FIGURES[f"{name.replace(' ', '_')}_us"] = cuts[9] / 1e3
    print(f"{name:<10} p50 {cuts[9] / 1e3:7.1f} us   p95 {cuts[18] / 1e3:7.1f} us", file=sys.stderr)


async def measure(port: int, pipe: Connection, count: int) -> None:
    hosts = sandbox_hosts(port)
    guard = SigningGuard(KEY, instruments=WORLD, lease_alive=lambda: True)
    wire = guard.sign_order(order(0), CREDENTIALS.api_key)
    took = []
    for number in range(count):
        request = order(number)
        began = time.perf_counter_ns()
        guard.sign_order(request, CREDENTIALS.api_key)
        took.append(time.perf_counter_ns() - began)
    show("sign", took)
    took = []
    for number in range(count // 2):
        await asyncio.sleep(0.002)
        request = order(number)
        began = time.perf_counter_ns()
        guard.sign_order(request, CREDENTIALS.api_key)
        took.append(time.perf_counter_ns() - began)
    show("sign cold", took)

    async def series(name: str, send: Callable[[int], Awaitable[None]]) -> None:
        """Send one at a time, a few milliseconds apart as decisions are."""
        delays = []
        for number in range(count):
            began = time.monotonic_ns()
            await send(number)
            delays.append(pipe.recv() - began)
            await asyncio.sleep(0.002)
        show(name, delays[count // 10 :])

    told = asyncio.Event()
    numbers = itertools.count(count)
    client = ClobClient(hosts, CREDENTIALS, limits=Limits(orders=(10**6, 10**6)))
    venue = LiveVenue(
        client=client, guard=guard, instruments=WORLD,
        stream=lambda seen, gap: UserFeed(
            hosts.user_ws_url, CREDENTIALS, on_sightings=seen, on_gap=gap
        ),
        journal=lambda _: True, sink=lambda _: told.set(), on_failure=print,
        settings=LiveSettings(heartbeat_s=0), clock=LiveClock(),
    )  # fmt: skip

    async def by_venue(_: int) -> None:
        told.clear()
        venue.submit(Approved(order(next(numbers))))
        await told.wait()

    await client.start()
    await asyncio.sleep(0.2)
    await series("venue", by_venue)
    await client.lanes.close()
    await series("no lane", by_venue)
    await client.close()

    now_s = int(time.time())
    headers = l2_headers(CREDENTIALS, now_s, "POST", "/order", wire.body)
    headers["Content-Type"] = "application/json"
    url = hosts.clob_url + "/order"
    async with httpx.AsyncClient(trust_env=False) as plain:

        async def by_httpx(_: int) -> None:
            await plain.post(url, content=wire.body, headers=headers)

        await series("httpx", by_httpx)

    transport = httpx.AsyncHTTPTransport()
    ready = httpx.URL(url)
    fixed = [(k.encode(), v.encode()) for k, v in headers.items()]
    fixed += [(b"Host", b"127.0.0.1"), (b"Content-Length", b"%d" % len(wire.body))]

    async def by_transport(_: int) -> None:
        response = await transport.handle_async_request(
            httpx.Request("POST", ready, headers=fixed, content=wire.body)
        )
        await response.aread()

    await series("transport", by_transport)
    await transport.aclose()

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = b"".join(b"%s: %s\r\n" % pair for pair in fixed)
    message = b"POST /clob/order HTTP/1.1\r\n" + lines + b"\r\n" + wire.body

    async def by_hand(_: int) -> None:
        writer.write(message)
        await reader.readuntil(b"}")

    await series("kept", by_hand)
    writer.close()


def main() -> None:
    """Run all series and print a line each, then all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=1_000, help="orders a series")
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        uvloop.run(measure(ours.recv(), ours, arguments.orders))
        report(FIGURES)
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
