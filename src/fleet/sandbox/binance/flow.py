"""What moves the local Binance's prices: a seeded random walk, or candles played one a step.

Each step writes five levels a side around the middle, lets resting orders fill that the market
passed, and prints a trade or two. The same seed and steps bring the same prices.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from fleet.domain.units import SCALE, parse_units
from fleet.sandbox.binance.exchange import Exchange, SymbolMarket

LEVELS: Final = 5
Candle = tuple[int, int, int, int, int]
"""Open, high, low, close and volume at 1e-8."""


def read_candles(file: Path) -> list[Candle]:
    """Candles of a CSV as Binance publishes them: opening time, open, high, low, close, volume.

    Raises ``ValueError`` naming the line for anything that is no candle.
    """
    candles: list[Candle] = []
    with file.open(newline="") as lines:
        for number, row in enumerate(csv.reader(lines), 1):
            if number == 1 and not row[0].isdecimal():
                continue  # A heading.
            try:
                opened, high, low, closed, volume = (parse_units(text) for text in row[1:6])
            except ValueError as error:
                raise ValueError(f"{file} line {number} is no candle: {error}") from None
            candles.append((opened, high, low, closed, volume))
    return candles


class Flow:
    """The market makers and takers of every symbol."""

    def __init__(self, exchange: Exchange, seed: int, *, still: bool = False) -> None:
        """``still`` moves nothing by itself."""
        self.still = still
        self._exchange = exchange
        self._rng = {
            symbol: random.Random(f"{seed} {symbol}")  # noqa: S311 - a simulation
            for symbol in exchange.markets
        }
        self._replays: dict[str, Iterator[Candle]] = {}

    def begin(self, *, minutes: int, seconds: int) -> None:
        """Seed the candles before now, and write the first books."""
        for symbol, market in self._exchange.markets.items():
            rng, tick = self._rng[symbol], market.spec.units("tick")
            market.candles.minutes.seed(rng, minutes, 2 * market.spec.volatility, tick)
            market.candles.seconds.seed(rng, seconds, market.spec.volatility, tick)
            if not self.still:
                self._write(market, market.last, rng)

    def replay(self, symbol: str, candles: Sequence[Candle]) -> None:
        """Play candles of a symbol, one each step, until they are over."""
        self._replays[symbol] = iter(candles)

    def step(self) -> None:
        """Move every symbol once."""
        if self.still:
            return
        for symbol, market in self._exchange.markets.items():
            replay = self._replays.get(symbol)
            candle = next(replay, None) if replay is not None else None
            if candle is not None:
                self._play(market, candle)
            else:
                self._walk(market)

    def _play(self, market: SymbolMarket, candle: Candle) -> None:
        opened, high, low, closed, volume = candle
        path = (opened, low, high, closed) if closed >= opened else (opened, high, low, closed)
        for price in path:
            self._trade(market, price, max(1, volume // 4))
        self._write(market, closed, self._rng[market.spec.symbol])

    def _walk(self, market: SymbolMarket) -> None:
        rng, tick = self._rng[market.spec.symbol], market.spec.units("tick")
        price = round(market.last * (1 + rng.gauss(0, market.spec.volatility)) / tick) * tick
        price = max(price, 20 * tick)
        lot = market.spec.units("lot")
        for _ in range(rng.randint(1, 2)):
            self._trade(market, price, lot * rng.randint(1, 1_000))
        self._write(market, price, rng)

    def _trade(self, market: SymbolMarket, price: int, qty: int) -> None:
        side = "BUY" if price >= market.last else "SELL"
        self._exchange.cross(market, bid=price, ask=price)
        self._exchange.trade(market, price, qty, side)

    def _write(self, market: SymbolMarket, price: int, rng: random.Random) -> None:
        tick, lot = market.spec.units("tick"), market.spec.units("lot")
        least = max(1, 20 * SCALE * SCALE // price // lot)
        rows = [
            (number * tick, lot * least * rng.randint(1, 20)) for number in range(1, LEVELS + 1)
        ]
        market.write(
            [(price - away, qty) for away, qty in rows if price > away],
            [(price + away, qty) for away, qty in rows],
        )
