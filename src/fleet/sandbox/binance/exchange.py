"""The local Binance's matching: a book a symbol, price-time priority, balances, commissions.

The book holds the market's own levels (written by ``flow``) and the resting orders of accounts.
LIMIT orders only, GTC, IOC and FOK; an account never trades with itself: its resting order expires
(EXPIRE_MAKER, Binance's default). A commission is taken from what is received, rounded down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fleet.domain.units import SCALE
from fleet.sandbox.binance.bars import Candles
from fleet.sandbox.binance.ledger import Ledger, Match, Order, Trader
from fleet.sandbox.binance.symbols import ApiError, SymbolSpec, amount

TIFS: Final = ("GTC", "IOC", "FOK")
ID_CHARS: Final = frozenset(".:/_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
BNB_PRICE: Final = 600 * SCALE


@dataclass(slots=True)
class Level:
    """So much of the market, or an account's order, at a price."""

    price: int
    qty: int
    order: Order | None = None


class SymbolMarket:
    """The book and the candles of one symbol."""

    def __init__(self, spec: SymbolSpec, now_ms: int) -> None:
        """Empty, at the price the symbol begins with."""
        self.spec = spec
        self.last = spec.units("price")
        self.candles = Candles(self.last, now_ms)
        self.levels: dict[str, list[Level]] = {"BUY": [], "SELL": []}
        self.update_id = 1

    def side(self, side: str) -> list[Level]:
        """The resting levels of a side, best first."""
        return sorted(
            (level for level in self.levels[side] if level.qty > 0),
            key=lambda level: -level.price if side == "BUY" else level.price,
        )

    def write(self, bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> None:
        """Replace the market's own levels; accounts' orders stay."""
        for side, rows in (("BUY", bids), ("SELL", asks)):
            kept = [level for level in self.levels[side] if level.order is not None and level.qty]
            self.levels[side] = kept + [Level(price, qty) for price, qty in rows]
        self.update_id += 1


class Exchange:
    """All symbols and accounts."""

    def __init__(
        self, symbols: Sequence[SymbolSpec], ledger: Ledger, now_ms: Callable[[], int]
    ) -> None:
        """Open with the books of ``ledger``; its open orders rest again."""
        self.ledger, self.now_ms = ledger, now_ms
        self.markets = {spec.symbol: SymbolMarket(spec, now_ms()) for spec in symbols}
        self.on_trade: Callable[[SymbolMarket, int, int, str], None] | None = None
        """Told of every match: market, price, quantity, the taker's side."""
        for order in ledger.orders.values():
            if order.open and order.symbol in self.markets:
                self._rest(order)

    def market(self, symbol: str) -> SymbolMarket:
        """A symbol. Raises ``ApiError`` -1121."""
        found = self.markets.get(symbol)
        if found is None:
            raise ApiError(-1121, "Invalid symbol.")
        return found

    def _rest(self, order: Order) -> None:
        levels = self.markets[order.symbol].levels[order.side]
        levels.append(Level(order.price, order.qty - order.executed, order))

    # --- orders -------------------------------------------------------------------------------

    def place(self, trader: Trader, params: dict[str, str]) -> tuple[Order, list[Match]]:
        """A new order and what it matched at once. Raises ``ApiError``."""
        market = self.market(params.get("symbol", ""))
        side, tif = params.get("side", ""), params.get("timeInForce", "")
        if side not in {"BUY", "SELL"}:
            raise ApiError(-1117, "Invalid side.")
        if params.get("type") != "LIMIT":
            raise ApiError(-1116, "Invalid orderType.")
        if tif not in TIFS:
            raise ApiError(-1115, "Invalid timeInForce.")
        price, qty = amount(params, "price"), amount(params, "quantity")
        now_ms, order_id = self.now_ms(), self.ledger.next_order_id()
        name = params.get("newClientOrderId") or f"auto{order_id}"
        if len(name) > 36 or not ID_CHARS.issuperset(name):
            raise ApiError(-1100, "Illegal characters found in parameter 'newClientOrderId'; legal "
                                  "range is '^[a-zA-Z0-9-_]{1,36}$'.")  # fmt: skip
        resting = [o for o in self.ledger.orders.values() if o.uid == trader.uid and o.open]
        if any(o.client_order_id == name for o in resting):
            raise ApiError(-2010, "Duplicate order sent.")
        open_here = sum(o.symbol == market.spec.symbol for o in resting)
        market.spec.check(price, qty, market.last, open_here)
        asset, cost = (
            (market.spec.quote, -(-price * qty // SCALE))
            if side == "BUY" else (market.spec.base, qty)
        )  # fmt: skip
        if self.ledger.held(trader.uid, asset)[0] < cost:
            raise ApiError(-2010, "Account has insufficient balance for requested action.")
        order = Order(
            order_id, trader.uid, market.spec.symbol, name, side, price, qty, tif, "NEW", 0, 0,
            now_ms, now_ms,
        )  # fmt: skip
        self.ledger.move(trader.uid, asset, free=-cost, locked=cost)
        self.ledger.put(order)
        matches = self._match(market, order)
        self.ledger.commit()
        return order, matches

    def _match(self, market: SymbolMarket, order: Order) -> list[Match]:
        buys = order.side == "BUY"
        levels = [
            level for level in market.side("SELL" if buys else "BUY")
            if (level.price <= order.price if buys else level.price >= order.price)
        ]  # fmt: skip
        if order.tif == "FOK" and sum(level.qty for level in levels) < order.qty:
            self._end(order, "EXPIRED")
            return []
        matches: list[Match] = []
        for level in levels:
            left = order.qty - order.executed
            if not left:
                break
            if level.order is not None and level.order.uid == order.uid:
                level.qty = 0
                self._end(level.order, "EXPIRED_IN_MATCH")
                continue
            qty = min(left, level.qty)
            level.qty -= qty
            number = self.ledger.next_match_id(order.symbol)
            matches.append(self._fill(market, order, level.price, qty, number, maker=False))
            if level.order is not None:
                self._fill(market, level.order, level.price, qty, number, maker=True)
            self._print(market, level.price, qty, order.side)
        if order.executed < order.qty:
            if order.tif == "GTC":
                self._rest(order)
                market.update_id += 1
            else:
                self._end(order, "EXPIRED")
        return matches

    def _print(self, market: SymbolMarket, price: int, qty: int, side: str) -> None:
        market.last = price
        market.update_id += 1
        market.candles.trade(price, qty, self.now_ms())
        if self.on_trade is not None:
            self.on_trade(market, price, qty, side)

    def _fill(
        self, market: SymbolMarket, order: Order, price: int, qty: int, number: int, *, maker: bool
    ) -> Match:
        trader = next(t for t in self.ledger.traders if t.uid == order.uid)
        rate = trader.maker if maker else trader.taker
        paid, buys, spec = price * qty // SCALE, order.side == "BUY", market.spec
        received, asset = (qty, spec.base) if buys else (paid, spec.quote)
        commission, charged = received * rate // SCALE, asset
        if trader.bnb_fees and commission:
            commission, charged = paid * rate // BNB_PRICE, "BNB"
        if buys:
            locked = order.price * qty // SCALE
            self.ledger.move(order.uid, spec.quote, free=locked - paid, locked=-locked)
        else:
            self.ledger.move(order.uid, spec.base, locked=-qty)
        self.ledger.move(order.uid, asset, free=received)
        self.ledger.move(order.uid, charged, free=-commission)
        order.executed += qty
        order.quote += paid
        order.update_ms = self.now_ms()
        order.status = "FILLED" if order.executed == order.qty else "PARTIALLY_FILLED"
        match = Match(
            number, order.order_id, order.symbol, price, qty, commission, charged, order.update_ms,
            int(buys), int(maker),
        )  # fmt: skip
        self.ledger.put(match)
        self.ledger.put(order)
        return match

    def _end(self, order: Order, status: str) -> None:
        """Kill what is left of an order and unlock it."""
        spec, left = self.markets[order.symbol].spec, order.qty - order.executed
        asset, locked = (
            (spec.quote, -(-order.price * order.qty // SCALE) - order.price * order.executed
             // SCALE) if order.side == "BUY" else (spec.base, left)
        )  # fmt: skip
        self.ledger.move(order.uid, asset, free=locked, locked=-locked)
        order.status, order.update_ms = status, self.now_ms()
        self.ledger.put(order)

    def cancel(self, trader: Trader, params: dict[str, str]) -> Order:
        """Cancel an open order. Raises ``ApiError`` -2011."""
        order = self._find(trader, params)
        if order is None or not order.open:
            raise ApiError(-2011, "Unknown order sent.")
        for level in self.markets[order.symbol].levels[order.side]:
            if level.order is order:
                level.qty = 0
        self._end(order, "CANCELED")
        self.ledger.commit()
        return order

    def query(self, trader: Trader, params: dict[str, str]) -> Order:
        """One order. Raises ``ApiError`` -2013."""
        order = self._find(trader, params)
        if order is None:
            raise ApiError(-2013, "Order does not exist.")
        return order

    def _find(self, trader: Trader, params: dict[str, str]) -> Order | None:
        market = self.market(params.get("symbol", ""))
        number, name = params.get("orderId", ""), params.get("origClientOrderId", "")
        if not number and not name:
            raise ApiError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both "
                                  "were empty/null!")  # fmt: skip
        mine = [
            o for o in self.ledger.orders.values()
            if o.uid == trader.uid and o.symbol == market.spec.symbol
            and (o.order_id == int(number) if number else o.client_order_id == name)
        ]  # fmt: skip
        return mine[-1] if mine else None

    # --- the market's own side ----------------------------------------------------------------

    def cross(self, market: SymbolMarket, bid: int, ask: int) -> None:
        """The market moves to ``bid`` and ``ask``: resting orders it passes are filled."""
        for side in ("BUY", "SELL"):
            for level in market.side(side):
                passed = level.price >= ask if side == "BUY" else level.price <= bid
                if level.order is None or not passed:
                    continue
                qty, level.qty = level.qty, 0
                number = self.ledger.next_match_id(market.spec.symbol)
                self._fill(market, level.order, level.price, qty, number, maker=True)
                self._print(market, level.price, qty, "SELL" if side == "BUY" else "BUY")
        self.ledger.commit()

    def trade(self, market: SymbolMarket, price: int, qty: int, side: str) -> None:
        """Two strangers trade."""
        self._print(market, price, qty, side)
