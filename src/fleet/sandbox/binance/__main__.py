"""Run the local Binance: ``python -m fleet.sandbox.binance --port 8790``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from fleet.clock import LiveClock
from fleet.sandbox.binance.flow import read_candles
from fleet.sandbox.binance.server import HOST, KEY, SECRET, BinanceServer, BinanceSettings
from fleet.sandbox.binance.symbols import ApiError


async def _serve(settings: BinanceSettings, replays: list[str]) -> None:
    server = BinanceServer(settings, LiveClock())
    for replay in replays:
        symbol, _, file = replay.partition("=")
        server.exchange.market(symbol)
        server.flow.replay(symbol, read_candles(Path(file)))
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
    parser.add_argument("--step", type=float, default=0.25, help="seconds between two moves")
    parser.add_argument(
        "--replay", action="append", default=[], metavar="SYMBOL=FILE.csv",
        help="play these candles, one a step; with --step 1 each becomes a bar of a second",
    )  # fmt: skip
    asked = parser.parse_args()
    settings = BinanceSettings(
        port=asked.port, seed=asked.seed, path=asked.file, cash=asked.cash, step_s=asked.step
    )
    try:
        asyncio.run(_serve(settings, asked.replay))
    except (OSError, ValueError, ApiError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
