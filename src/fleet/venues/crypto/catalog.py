"""What can be traded: symbols of ``exchangeInfo`` as instruments, with the filters orders obey.

An instrument is ``BINANCE:ETHUSDT``; its market has it on both sides and no complement. A symbol is
refused (``InstrumentError``) if it is not trading, is not quoted in the one quote asset, or if one
tick times one lot is not exact at 1e-8: then cash could not be counted exactly.

The percent-price filter compares with the venue's own average price, which is not known exactly
here: ``SymbolRules.problem`` checks it only against a reference it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fleet.domain.instruments import (
    Instrument,
    InstrumentError,
    InstrumentId,
    Market,
    MarketId,
    ProportionalFees,
    Side,
    Universe,
)
from fleet.domain.units import SCALE, Cash, Price, Qty, format_units
from fleet.venues.crypto.client import BinanceClient
from fleet.venues.crypto.wire import ExchangeRow, SymbolRow, exact
from fleet.venues.port import AnswerInvalid

VENUE: Final = "BINANCE"
TAKER_RATE: Final = SCALE // 1_000
"""10 basis points: Binance's regular spot fee (fee schedule, 2026-11), until the account says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRules:
    """The filters of one symbol; 0 where there is none. Multipliers are at 1e-8."""

    symbol: str
    base: str
    quote: str
    tick: Price
    lot: Qty
    min_price: Price = Price(0)
    max_price: Price = Price(0)
    min_qty: Qty = Qty(0)
    max_qty: Qty = Qty(0)
    min_notional: Cash = Cash(0)
    max_notional: Cash = Cash(0)
    buy_band: tuple[int, int] = (0, 0)
    sell_band: tuple[int, int] = (0, 0)
    max_orders: int = 0

    def problem(self, side: Side, price: Price, qty: Qty, reference: Price = Price(0)) -> str:
        """Why the venue would refuse such a limit order, in words; empty if it would not."""
        if price <= 0 or price % self.tick:
            return f"price {format_units(price)} is off the tick {format_units(self.tick)}"
        if price < self.min_price or (self.max_price and price > self.max_price):
            return f"price {format_units(price)} is outside what the venue allows"
        if qty <= 0 or qty % self.lot:
            return f"quantity {format_units(qty)} is off the lot {format_units(self.lot)}"
        if qty < self.min_qty or (self.max_qty and qty > self.max_qty):
            return f"quantity {format_units(qty)} is outside what the venue allows"
        notional = price * qty // SCALE
        if notional < self.min_notional:
            return (
                f"notional {format_units(notional)} is below the minimum "
                f"{format_units(self.min_notional)}"
            )
        if self.max_notional and notional > self.max_notional:
            return f"notional {format_units(notional)} is above the maximum"
        down, up = self.buy_band if side is Side.BUY else self.sell_band
        if reference and up and not down * reference <= price * SCALE <= up * reference:
            return f"price {format_units(price)} is too far from {format_units(reference)}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The universe and the rules of each of its instruments."""

    universe: Universe
    rules: Mapping[InstrumentId, SymbolRules]
    quote: str
    weight_limit: int = 0
    orders_limit: int = 0


def instrument_id(symbol: str) -> InstrumentId:
    """``BINANCE:ETHUSDT`` of ``ETHUSDT``."""
    return InstrumentId(f"{VENUE}:{symbol}")


def read_rules(row: SymbolRow) -> SymbolRules:
    """The filters of a symbol. Raises ``AnswerInvalid`` without tick and lot."""
    found: dict[str, Mapping[str, Any]] = {str(f.get("filterType")): f for f in row.filters}

    def of(kind: str, name: str) -> int:
        text = found.get(kind, {}).get(name)
        return exact(str(text), f"{row.symbol} {kind}.{name}") if text is not None else 0

    tick, lot = of("PRICE_FILTER", "tickSize"), of("LOT_SIZE", "stepSize")
    if tick <= 0 or lot <= 0:
        raise AnswerInvalid(f"{row.symbol} has no tick or no lot size")
    band, sides = "PERCENT_PRICE", "PERCENT_PRICE_BY_SIDE"
    both = (of(band, "multiplierDown"), of(band, "multiplierUp"))
    buy = (of(sides, "bidMultiplierDown"), of(sides, "bidMultiplierUp"))
    sell = (of(sides, "askMultiplierDown"), of(sides, "askMultiplierUp"))
    return SymbolRules(
        symbol=row.symbol, base=row.base_asset, quote=row.quote_asset,
        tick=Price(tick), lot=Qty(lot),
        min_price=Price(of("PRICE_FILTER", "minPrice")),
        max_price=Price(of("PRICE_FILTER", "maxPrice")),
        min_qty=Qty(of("LOT_SIZE", "minQty")), max_qty=Qty(of("LOT_SIZE", "maxQty")),
        min_notional=Cash(max(of("NOTIONAL", "minNotional"), of("MIN_NOTIONAL", "minNotional"))),
        max_notional=Cash(of("NOTIONAL", "maxNotional")),
        buy_band=buy if buy[1] else both, sell_band=sell if sell[1] else both,
        max_orders=int(found.get("MAX_NUM_ORDERS", {}).get("maxNumOrders", 0)),
    )  # fmt: skip


def build_catalog(
    info: ExchangeRow, symbols: Sequence[str], rates: Mapping[str, int] | None = None
) -> Catalog:
    """Instruments of ``symbols``; ``rates`` are taker rates at 1e-8 by symbol.

    Raises ``InstrumentError``, naming the cure, for a symbol that cannot be traded.
    """
    rows = {row.symbol: row for row in info.symbols}
    rules: dict[InstrumentId, SymbolRules] = {}
    instruments: dict[InstrumentId, Instrument] = {}
    markets: dict[MarketId, Market] = {}
    for symbol in dict.fromkeys(symbols):
        row = rows.get(symbol)
        if row is None:
            raise InstrumentError(f"{symbol} is not listed; write it like ETHUSDT")
        if row.status != "TRADING" or not row.is_spot_trading_allowed:
            raise InstrumentError(f"{symbol} is {row.status}, not trading; leave it out")
        rule = read_rules(row)
        if rule.tick * rule.lot % SCALE:
            raise InstrumentError(f"{symbol}: a tick times a lot is finer than 1e-8; leave it out")
        token, market = instrument_id(symbol), MarketId(f"{VENUE}:{symbol}")
        rate = (rates or {}).get(symbol, TAKER_RATE)
        rules[token] = rule
        instruments[token] = Instrument(
            id=token, market_id=market, complement=InstrumentId(""), outcome=row.base_asset,
            tick=rule.tick, lot=rule.lot, min_qty=max(rule.min_qty, rule.lot),
            min_notional=rule.min_notional, fees=ProportionalFees(rate=rate), ceiling=Price(0),
        )  # fmt: skip
        markets[market] = Market(
            id=market, question=f"{row.base_asset}/{row.quote_asset}", yes=token, no=token,
            slug=symbol.lower(), category="crypto",
        )  # fmt: skip
    quotes = sorted({rule.quote for rule in rules.values()})
    if len(quotes) != 1:
        raise InstrumentError(f"one bot counts in one currency, not in {quotes}; choose one quote")
    weight = [r.limit for r in info.rate_limits if r.rate_limit_type == "REQUEST_WEIGHT"]
    orders = [
        r.limit for r in info.rate_limits
        if (r.rate_limit_type, r.interval, r.interval_num) == ("ORDERS", "SECOND", 10)
    ]  # fmt: skip
    return Catalog(
        universe=Universe(instruments=instruments, markets=markets), rules=rules, quote=quotes[0],
        weight_limit=min(weight, default=0), orders_limit=min(orders, default=0),
    )  # fmt: skip


async def load_catalog(
    client: BinanceClient, symbols: Sequence[str], *, signed: bool = True
) -> Catalog:
    """Ask for filters and, with a key (``signed``), for the account's fees. Raises ``VenueError``.

    The client's limits become those of the venue.
    """
    info = await client.exchange_info(list(dict.fromkeys(symbols)))
    rates: dict[str, int] = {}
    if signed:
        for symbol in dict.fromkeys(symbols):
            row = await client.commission(symbol)
            parts = (row.standard_commission, row.tax_commission, row.special_commission)
            rates[symbol] = sum(exact(part.taker, "taker rate") for part in parts)
    catalog = build_catalog(info, symbols, rates)
    client.budget.weight.limit = catalog.weight_limit or client.budget.weight.limit
    client.budget.orders.limit = catalog.orders_limit or client.budget.orders.limit
    return catalog
