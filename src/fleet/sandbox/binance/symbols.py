"""The symbols of the local Binance and the filters it applies to an order, with Binance's words.

Amounts are integers at 1e-8. Filters, codes and messages follow Binance's "Filters" and "Error
codes" pages (read 2026-11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fleet.domain.units import SCALE, UnitsError, format_units, parse_units

PRECISION: Final = 8


class ApiError(Exception):
    """An error answer: HTTP status, Binance's code, its message."""

    def __init__(self, code: int, msg: str, *, status: int = 400, retry_after_s: int = 0) -> None:
        """Keep what is answered."""
        super().__init__(msg)
        self.code, self.msg, self.status, self.retry_after_s = code, msg, status, retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolSpec:
    """One symbol; prices and amounts as decimal texts, as ``exchangeInfo`` gives them."""

    base: str
    quote: str = "USDT"
    price: str
    """Where its market begins."""
    tick: str = "0.01"
    lot: str = "0.0001"
    min_qty: str = "0.0001"
    max_qty: str = "9000"
    min_notional: str = "5"
    band: tuple[str, str] = ("0.2", "5")
    max_orders: int = 200
    volatility: float = 0.0003
    """Standard deviation of a step of the seeded market, as a share of the price."""

    @property
    def symbol(self) -> str:
        """``ETHUSDT``."""
        return self.base + self.quote

    def units(self, name: str) -> int:
        """One of the texts at 1e-8."""
        return parse_units(getattr(self, name))

    def info(self) -> dict[str, Any]:
        """Its entry of ``exchangeInfo``."""
        down, up = self.band
        return {
            "symbol": self.symbol, "status": "TRADING",
            "baseAsset": self.base, "baseAssetPrecision": PRECISION,
            "quoteAsset": self.quote, "quotePrecision": PRECISION,
            "quoteAssetPrecision": PRECISION, "baseCommissionPrecision": PRECISION,
            "quoteCommissionPrecision": PRECISION, "orderTypes": ["LIMIT"],
            "icebergAllowed": False, "ocoAllowed": False, "otoAllowed": False,
            "quoteOrderQtyMarketAllowed": False, "allowTrailingStop": False,
            "cancelReplaceAllowed": False, "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False, "permissions": [], "permissionSets": [["SPOT"]],
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
            "allowedSelfTradePreventionModes": ["EXPIRE_MAKER"],
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": self.tick, "maxPrice": "1000000",
                 "tickSize": self.tick},
                {"filterType": "LOT_SIZE", "minQty": self.min_qty, "maxQty": self.max_qty,
                 "stepSize": self.lot},
                {"filterType": "PERCENT_PRICE_BY_SIDE", "bidMultiplierUp": up,
                 "bidMultiplierDown": down, "askMultiplierUp": up, "askMultiplierDown": down,
                 "avgPriceMins": 5},
                {"filterType": "NOTIONAL", "minNotional": self.min_notional,
                 "applyMinToMarket": True, "maxNotional": "9000000", "applyMaxToMarket": False,
                 "avgPriceMins": 5},
                {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": self.max_orders},
            ],
        }  # fmt: skip

    def check(self, price: int, qty: int, reference: int, resting: int) -> None:
        """Refuse an order that a filter stops. Raises ``ApiError`` -1013."""
        down, up = (parse_units(text) for text in self.band)
        failed = ""
        if price < self.units("tick") or price % self.units("tick"):
            failed = "PRICE_FILTER"
        elif not down * reference <= price * SCALE <= up * reference:
            failed = "PERCENT_PRICE_BY_SIDE"
        elif (
            qty % self.units("lot") or not self.units("min_qty") <= qty <= self.units("max_qty")
        ):  # fmt: skip
            failed = "LOT_SIZE"
        elif price * qty < self.units("min_notional") * SCALE:
            failed = "NOTIONAL"
        elif resting >= self.max_orders:
            failed = "MAX_NUM_ORDERS"
        if failed:
            raise ApiError(-1013, f"Filter failure: {failed}")


DEFAULT_SYMBOLS: Final = (
    SymbolSpec(base="BTC", price="60000", lot="0.00001", min_qty="0.00001"),
    SymbolSpec(base="ETH", price="3000"),
    SymbolSpec(base="SOL", price="150", lot="0.001", min_qty="0.001"),
)


def amount(params: dict[str, str], name: str) -> int:
    """A decimal parameter at 1e-8. Raises ``ApiError`` -1102, -1100 or -1111 as Binance does."""
    text = params.get(name, "")
    if not text:
        raise ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or "
                              "malformed.")  # fmt: skip
    try:
        value = parse_units(text)
    except UnitsError as error:
        if "decimals" in str(error):
            raise ApiError(-1111, f"Parameter '{name}' has too much precision.") from None
        raise ApiError(-1100, f"Illegal characters found in parameter '{name}'.") from None
    if value <= 0:
        raise ApiError(-1013, f"Invalid {name}.")
    return value


def shown(value: int) -> str:
    """An amount as Binance writes it: eight decimals."""
    return format_units(value, places=PRECISION)
