"""Run the local Alpaca: ``python -m fleet.sandbox.alpaca --port 8791``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from fleet.clock import LiveClock
from fleet.domain.units import UnitsError
from fleet.sandbox.alpaca.days import Calendar
from fleet.sandbox.alpaca.server import HOST, KEY, SECRET, AlpacaServer, AlpacaSettings


async def _serve(settings: AlpacaSettings) -> None:
    server = AlpacaServer(settings, LiveClock())
    port = await server.start()
    sys.stdout.write(f"local Alpaca at http://{HOST}:{port}  key {KEY}  secret {SECRET}\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


def main() -> None:
    """Read the arguments and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="fleet.sandbox.alpaca", description=__doc__)
    parser.add_argument("--port", type=int, default=8791)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--file", type=Path, help="keep the account's books in this file")
    parser.add_argument("--cash", default="100000", help="dollars the account begins with")
    parser.add_argument("--symbols", default="AAPL,MSFT,SPY", help="what is listed")
    parser.add_argument(
        "--hours", choices=("always", "nyse"), default="always",
        help="trade around the clock, or on weekdays from 09:30 to 16:00 in New York",
    )  # fmt: skip
    asked = parser.parse_args()
    settings = AlpacaSettings(
        port=asked.port, seed=asked.seed, path=asked.file, cash=asked.cash,
        symbols=tuple(asked.symbols.split(",")), calendar=Calendar(always=asked.hours == "always"),
    )  # fmt: skip
    try:
        asyncio.run(_serve(settings))
    except (OSError, UnitsError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
