"""What can be traded: assets of Alpaca as instruments ``ALPACA:AAPL``, in whole shares.

Whole shares only: Alpaca takes fractions as DAY orders alone, and then not all or none at once. The
tick is a cent (SEC rule 612 forbids finer quotes from one dollar up; below, cents are allowed too).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fleet.domain.instruments import (
    Instrument,
    InstrumentError,
    InstrumentId,
    Market,
    MarketId,
    Universe,
)
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.venues.port import RequestRefused
from fleet.venues.stocks.client import AlpacaClient
from fleet.venues.stocks.fees import RegulatoryFees
from fleet.venues.stocks.outcomes import absent
from fleet.venues.stocks.wire import AssetRow

VENUE: Final = "ALPACA"
CENT: Final = Price(SCALE // 100)


def instrument_id(symbol: str) -> InstrumentId:
    """``ALPACA:AAPL`` of ``AAPL``."""
    return InstrumentId(f"{VENUE}:{symbol}")


def symbol_of(token: InstrumentId) -> str:
    """``AAPL`` of ``ALPACA:AAPL``."""
    return token.removeprefix(f"{VENUE}:")


def build_universe(assets: Sequence[AssetRow], fees: RegulatoryFees) -> Universe:
    """Instruments of ``assets``. Raises ``InstrumentError`` for one that cannot be traded."""
    instruments: dict[InstrumentId, Instrument] = {}
    markets: dict[MarketId, Market] = {}
    for asset in assets:
        if asset.asset_class != "us_equity":
            raise InstrumentError(
                f"{asset.symbol} is {asset.asset_class}, not a share; leave it out"
            )
        if not asset.tradable or asset.status != "active":
            raise InstrumentError(
                f"{asset.symbol} is {asset.status} and not tradable at Alpaca; leave it out"
            )
        token, market = instrument_id(asset.symbol), MarketId(f"{VENUE}:{asset.symbol}")
        instruments[token] = Instrument(
            id=token, market_id=market, complement=InstrumentId(""), outcome=asset.symbol,
            tick=CENT, lot=Qty(SCALE), min_qty=Qty(SCALE), min_notional=Cash(0), fees=fees,
            ceiling=Price(0),
        )  # fmt: skip
        markets[market] = Market(
            id=market, question=asset.name or asset.symbol, yes=token, no=token,
            slug=asset.symbol.lower(), category="stocks",
        )  # fmt: skip
    return Universe(instruments=instruments, markets=markets)


async def load_universe(
    client: AlpacaClient, symbols: Sequence[str], fees: RegulatoryFees | None = None
) -> Universe:
    """Ask for the assets. Raises ``VenueError``, ``InstrumentError`` (naming the cure)."""
    assets: list[AssetRow] = []
    for symbol in dict.fromkeys(symbols):
        try:
            assets.append(await client.asset(symbol))
        except RequestRefused as refused:
            if absent(refused):
                raise InstrumentError(f"{symbol} is not listed; write it like AAPL") from None
            raise
    return build_universe(assets, fees or RegulatoryFees())
