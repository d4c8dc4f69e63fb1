"""Run the local Binance: ``python -m fleet.sandbox.binance --port 8790``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from fleet.clock import LiveClock
from fleet.sandbox.binance.server import HOST, KEY, SECRET, BinanceServer, BinanceSettings


async def _serve(settings: BinanceSettings) -> None:
    server = BinanceServer(settings, LiveClock())
    port = await server.start()
    sys.stdout.write(f"local Binance at http://{HOST}:{port}  key {KEY}  secret {SECRET}\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


def main() -> None:
    """Read the arguments and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="fleet.sandbox.binance", description=__doc__)
    parser.add_argument("--port", type=int, default=8790)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--file", type=Path, help="keep accounts and orders in this file")
    parser.add_argument("--cash", default="10000", help="USDT the first account begins with")
    asked = parser.parse_args()
    settings = BinanceSettings(port=asked.port, seed=asked.seed, path=asked.file, cash=asked.cash)
    try:
        asyncio.run(_serve(settings))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
