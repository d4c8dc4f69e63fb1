"""How many best quotes a second our reading of Binance's stream takes, and how many ccxt.pro's.

Run: ``.venv/bin/python scripts/measure_crypto_stream.py [--frames 100000]``. A server in a process
of its own on loopback sends the same frames to both as fast as they are taken; both run in this
process on the same loop, one after the other. The figure is frames divided by the time from the
first to the last.
"""

# ruff: noqa: INP001 - a script
from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import ccxt.pro as ccxtpro
from aiohttp import web

from fleet.domain.instruments import InstrumentId
from fleet.venues.crypto.wire_stream import read_frame
from fleet.venues.websocket import SocketLink

TOKENS = {"ETHUSDT": InstrumentId("BINANCE:ETHUSDT")}


def frame(number: int) -> str:
    """One ``bookTicker`` frame."""
    return json.dumps({"stream": "ethusdt@bookTicker", "data": {
        "u": number, "s": "ETHUSDT", "b": "3000.01000000", "B": "1.2345", "a": "3000.02000000",
        "A": f"{number}.5",
    }})  # fmt: skip


def packed(number: int) -> bytes:
    """The same as one unmasked websocket text frame (RFC 6455, 5.2)."""
    payload = frame(number).encode()
    size = len(payload)
    head = bytes([0x81, size]) if size < 126 else bytes([0x81, 126]) + size.to_bytes(2, "big")
    return head + payload


def serve(frames: int, tell: Connection) -> None:
    """Send ``frames`` to whoever connects and has asked."""
    everything = b"".join(packed(number) for number in range(1, frames + 1))

    async def stream(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if "streams" not in request.query:
            asked = json.loads((await socket.receive()).data)
            await socket.send_str(json.dumps({"result": None, "id": asked["id"]}))
        # Written ahead and past aiohttp, or its sending would be what is measured.
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("the connection is gone")
        transport.write(everything)
        await asyncio.sleep(600)
        return socket

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/{rest:.*}", stream)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        tell.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


async def ours(port: int, frames: int) -> float:
    """Frames a second by picows and msgspec."""
    count, began, done = 0, 0.0, asyncio.Event()

    def read(view: memoryview) -> None:
        nonlocal count, began
        began = began or time.perf_counter()
        read_frame(view, TOKENS, 1)
        count += 1
        if count == frames:
            done.set()

    link = SocketLink(lambda: None, read, lambda _: None)
    url = f"ws://127.0.0.1:{port}/stream?streams=ethusdt@bookTicker"
    task = asyncio.create_task(link.run(url, connect_timeout_s=5))
    await done.wait()
    took = time.perf_counter() - began
    link.close("done")
    await task
    return frames / took


async def theirs(port: int, frames: int) -> float:
    """Frames a second by ccxt.pro, counted where it handles a message."""
    peer: Any = ccxtpro.binance({"enableRateLimit": False})
    peer.aiohttp_trust_env = False
    count, began, done = 0, 0.0, asyncio.Event()
    handle = peer.handle_bids_asks

    def counted(client: Any, message: Any) -> None:
        nonlocal count, began
        began = began or time.perf_counter()
        handle(client, message)
        count += 1
        if count == frames:
            done.set()

    peer.handle_bids_asks = counted
    peer.set_markets({"ETH/USDT": peer.safe_market_structure({
        "id": "ETHUSDT", "symbol": "ETH/USDT", "base": "ETH", "quote": "USDT", "baseId": "ETH",
        "quoteId": "USDT", "type": "spot", "lowercaseId": "ethusdt", "spot": True, "active": True,
    })})  # fmt: skip
    peer.urls["api"]["ws"]["spot"] = f"ws://127.0.0.1:{port}"
    task = asyncio.create_task(peer.watch_bids_asks(["ETH/USDT"]))
    await done.wait()
    took = time.perf_counter() - began
    task.cancel()
    await peer.close()
    return frames / took


async def measure(port: int, frames: int) -> None:
    """Both, one after the other."""
    for name, how in (("picows + msgspec", ours), ("ccxt.pro", theirs)):
        rate = await asyncio.wait_for(how(port, frames), 120)
        sys.stdout.write(f"{name:18} {rate:10,.0f} frames a second\n")


def main() -> None:
    """Start the server, measure, end it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    asked = parser.parse_args()
    hear, tell = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.Process(target=serve, args=(asked.frames, tell), daemon=True)
    server.start()
    try:
        asyncio.run(measure(hear.recv(), asked.frames))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
