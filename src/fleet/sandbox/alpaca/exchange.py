"""The local Alpaca's account: orders, matching, cash, positions and activities, kept in SQLite.

One account, whole shares, limit orders (day, ioc, fok), no shorting, no margin. An order trades
what the quote shows at its limit or better, once a quote; what rests is tried again when the quote
moves. Cash moves with each fill; the regulators' fees are charged at the end of the day, a total
a day rounded up to the cent, as Alpaca does. What the venue says afterwards comes of the tables.
"""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from fleet.domain.units import SCALE, UnitsError, format_units, parse_units
from fleet.sandbox.alpaca.days import MarketClock
from fleet.sandbox.alpaca.prices import CENT, Prices

SEC_RATE: Final = 2_780
TAF_PER_SHARE: Final = 16_600
OPEN: Final = frozenset({"new", "accepted", "partially_filled"})
NAMES: Final = uuid.UUID(int=0)
TABLES: Final = """
CREATE TABLE IF NOT EXISTS row (
    kind TEXT, id TEXT, number INTEGER, body TEXT, PRIMARY KEY (kind, id)
);
"""
Row = dict[str, Any]
Update = Callable[[str, Row, Row], None]


class ApiError(Exception):
    """A refusal as Alpaca words it."""

    def __init__(self, status: int, code: int, message: str, **more: str) -> None:
        """Status, Alpaca's code, and its text."""
        super().__init__(message)
        self.status = status
        self.body: Row = {"code": code, "message": message, **more}


def iso(time_ns: int) -> str:
    """Nanoseconds as Alpaca writes times."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    head = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{head}.{rest:09d}Z"


class Exchange:
    """One account and its market."""

    def __init__(
        self, clock: MarketClock, prices: Prices, symbols: tuple[str, ...], *,
        path: str = ":memory:", cash: int = 100_000 * SCALE,
    ) -> None:  # fmt: skip
        """Open the books of ``path``, or begin with ``cash``."""
        self.clock, self.prices, self.symbols = clock, prices, symbols
        self.status = "ACTIVE"
        self.on_update: Update | None = None
        """Told of every step of an order: event, order, and what belongs to the event."""
        self._db = sqlite3.connect(path)
        self._db.executescript(TABLES)
        self.orders: dict[str, Row] = {row["id"]: row for row in self._rows("order")}
        self.activities: list[Row] = list(self._rows("activity"))
        held = {row["id"]: row for row in self._rows("account")}
        self._account = held.get("main") or {"id": "main", "cash": cash, "day": ""}
        self._number = len(self.orders) + len(self.activities)
        self._taken: dict[tuple[str, str], tuple[int, int]] = {}
        if not self._account["day"]:
            # The last day that is over.
            self._account["day"] = (clock.today() - dt.timedelta(days=1)).isoformat()
            self._keep("account", self._account)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # --- tables -------------------------------------------------------------------------------

    def _rows(self, kind: str) -> Iterator[Row]:
        found = self._db.execute("SELECT body FROM row WHERE kind = ? ORDER BY number", (kind,))
        return (json.loads(body) for (body,) in found.fetchall())

    def _keep(self, kind: str, row: Row) -> None:
        self._number += 1
        with self._db:
            self._db.execute(
                "INSERT INTO row VALUES (?, ?, ?, ?) "
                "ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                (kind, row["id"], self._number, json.dumps(row)),
            )

    @property
    def cash(self) -> int:
        """Dollars at 1e-8."""
        return int(self._account["cash"])

    def pay(self, amount: int) -> None:
        """Move cash."""
        self._account["cash"] += amount
        self._keep("account", self._account)

    def positions(self) -> dict[str, int]:
        """Shares by symbol: the fold of the fills, and of what was given."""
        held: dict[str, int] = {}
        for row in self.activities:
            if row["activity_type"] in {"FILL", "JNLS"}:
                sign = 1 if row["side"] == "buy" else -1
                held[row["symbol"]] = held.get(row["symbol"], 0) + sign * parse_units(row["qty"])
        return {symbol: qty for symbol, qty in held.items() if qty}

    def give(self, symbol: str, shares: str) -> None:
        """Put shares in the account that no order bought."""
        self._activity(activity_type="JNLS", symbol=symbol, side="buy", qty=shares)

    def _activity(self, **fields: str) -> Row:
        now_ns = self.clock.now_ns()
        stamp = dt.datetime.fromtimestamp(now_ns / 1e9, dt.UTC).strftime("%Y%m%d%H%M%S%f")[:17]
        # The number keeps ids in order within a millisecond.
        name = uuid.uuid5(NAMES, f"activity {len(self.activities)}")
        row = {"id": f"{stamp}::{len(self.activities):08d}{str(name)[8:]}", **fields}
        self.activities.append(row)
        self._keep("activity", row)
        return row

    # --- orders -------------------------------------------------------------------------------

    def place(self, asked: Row) -> Row:
        """A new order, before it meets anything. Raises ``ApiError``."""
        self.step()
        symbol, side = str(asked.get("symbol", "")), str(asked.get("side", ""))
        if symbol not in self.symbols:
            raise ApiError(422, 42210000, f'asset "{symbol}" not found')
        if asked.get("type") != "limit" or side not in {"buy", "sell"}:
            raise ApiError(422, 42210000, "only limit orders to buy or sell are sold here")
        tif = str(asked.get("time_in_force", ""))
        if tif not in {"day", "ioc", "fok"}:
            raise ApiError(422, 42210000, f"invalid time_in_force {tif}")
        extended = bool(asked.get("extended_hours", False))
        if extended and tif != "day":
            raise ApiError(422, 42210000, "extended hours order must be DAY limit orders")
        try:
            qty, price = parse_units(str(asked["qty"])), parse_units(str(asked["limit_price"]))
        except (KeyError, UnitsError):
            raise ApiError(422, 40010001, "qty and limit_price are required") from None
        if qty <= 0 or price <= 0 or qty % SCALE:
            raise ApiError(422, 42210000, "fractional orders must be DAY orders")
        if price >= SCALE and price % CENT:
            raise ApiError(
                422, 42210000, f"invalid limit_price {format_units(price)}. sub-penny increment "
                "does not fulfill minimum pricing criteria",
            )  # fmt: skip
        name = str(asked.get("client_order_id") or uuid.uuid5(NAMES, f"auto {len(self.orders)}"))
        if any(row["client_order_id"] == name for row in self.orders.values()):
            raise ApiError(422, 40010001, "client_order_id must be unique")
        self._afford(symbol, side, price, qty)
        now = iso(self.clock.now_ns())
        row: Row = {
            "id": str(uuid.uuid5(NAMES, f"order {len(self.orders)}")), "client_order_id": name,
            "created_at": now, "updated_at": now, "submitted_at": now, "filled_at": None,
            "expired_at": None, "canceled_at": None, "failed_at": None, "replaced_at": None,
            "replaced_by": None, "replaces": None, "symbol": symbol, "asset_class": "us_equity",
            "asset_id": str(uuid.uuid5(NAMES, symbol)), "notional": None,
            "qty": format_units(qty), "filled_qty": "0", "filled_avg_price": None,
            "order_class": "", "order_type": "limit", "type": "limit", "side": side,
            "time_in_force": tif, "limit_price": format_units(price), "stop_price": None,
            "status": "new", "extended_hours": extended, "legs": None, "trail_percent": None,
            "trail_price": None, "hwm": None,
        }  # fmt: skip
        self.orders[row["id"]] = row
        self._keep("order", row)
        return row

    def _afford(self, symbol: str, side: str, price: int, qty: int) -> None:
        resting = [row for row in self.orders.values() if row["status"] in OPEN]
        if side == "buy":
            bound = sum(
                parse_units(row["limit_price"]) * _left(row) // SCALE
                for row in resting if row["side"] == "buy"
            )  # fmt: skip
            free, cost = self.cash - bound, price * qty // SCALE
            if cost > free:
                raise ApiError(
                    403, 40310000, "insufficient buying power",
                    buying_power=format_units(free), cost_basis=format_units(cost),
                )  # fmt: skip
            return
        held = self.positions().get(symbol, 0)
        bound = sum(_left(r) for r in resting if (r["side"], r["symbol"]) == ("sell", symbol))
        if qty > held - bound:
            raise ApiError(
                403, 40310000, "insufficient qty available for order (requested: "
                f"{format_units(qty)}, available: {format_units(held - bound)})",
                symbol=symbol, existing_qty=format_units(held),
                held_for_orders=format_units(bound), available=format_units(held - bound),
            )  # fmt: skip

    def begin(self, row: Row) -> None:
        """Let a new order meet the market; said on the stream."""
        self._say("new", row, {})
        self._try(row)
        if row["status"] in OPEN and row["time_in_force"] != "day":
            self._end(row, "canceled")

    def cancel(self, order_id: str) -> None:
        """Cancel an order. Raises ``ApiError``."""
        row = self.by_id(order_id)
        if row["status"] not in OPEN:
            raise ApiError(422, 42210000, f'order is already in "{row["status"]}" state')
        self._end(row, "canceled")

    def by_id(self, order_id: str) -> Row:
        """An order by the venue's id. Raises ``ApiError`` 404."""
        row = self.orders.get(order_id)
        if row is None:
            raise ApiError(404, 40410000, f"order not found for {order_id}")
        return row

    def by_name(self, name: str) -> Row:
        """An order by its client order id. Raises ``ApiError`` 404."""
        for row in self.orders.values():
            if row["client_order_id"] == name:
                return row
        raise ApiError(404, 40410000, f"order not found for {name}")

    def _say(self, event: str, row: Row, more: Row) -> None:
        if self.on_update is not None:
            self.on_update(event, row, more)

    # --- matching -----------------------------------------------------------------------------

    def step(self) -> None:
        """Try what rests, and end the day when it is over."""
        today, last = self.clock.today(), self._account["day"]
        day = self.clock.calendar.day(today)
        over = today.isoformat() if day is None or self.clock.now_ns() >= day.moment_ns(
            day.late) else (today - dt.timedelta(days=1)).isoformat()  # fmt: skip
        if last < over:
            for row in [r for r in self.orders.values() if r["status"] in OPEN]:
                self._end(row, "expired")
            self._charge(over)
            self._account["day"] = over
            self._keep("account", self._account)
        for row in [r for r in self.orders.values() if r["status"] in OPEN]:
            self._try(row)

    def requote(self) -> None:
        """Show what was taken of the present quotes again."""
        self._taken.clear()

    def _try(self, row: Row) -> None:
        quote = self.prices.quote(row["symbol"], self.clock.now_ns())
        if quote is None or not self.clock.is_open(extended=row["extended_hours"]):
            return
        buys, limit, left = row["side"] == "buy", parse_units(row["limit_price"]), _left(row)
        price, shown = (quote.ask, quote.ask_qty) if buys else (quote.bid, quote.bid_qty)
        place = (row["symbol"], row["side"])
        step, taken = self._taken.get(place, (quote.step, 0))
        taken = taken if step == quote.step else 0
        qty = min(left, shown - taken) // SCALE * SCALE
        crossed = price <= limit if buys else price >= limit
        if not crossed or qty <= 0 or (row["time_in_force"] == "fok" and qty < left):
            return
        self._taken[place] = (quote.step, taken + qty)
        self._fill(row, price, qty)

    def _fill(self, row: Row, price: int, qty: int) -> None:
        filled = parse_units(row["filled_qty"]) + qty
        now = iso(self.clock.now_ns())
        whole = filled == parse_units(row["qty"])
        row.update(
            filled_qty=format_units(filled), filled_avg_price=format_units(price), updated_at=now,
            status="filled" if whole else "partially_filled", filled_at=now if whole else None,
        )  # fmt: skip
        self._keep("order", row)
        amount = price * qty // SCALE
        self.pay(-amount if row["side"] == "buy" else amount)
        event = "fill" if whole else "partial_fill"
        self._activity(
            activity_type="FILL", transaction_time=now, type=event, price=format_units(price),
            qty=format_units(qty), side=row["side"], symbol=row["symbol"], order_id=row["id"],
            cum_qty=format_units(filled), leaves_qty=format_units(_left(row)),
            order_status=row["status"],
        )  # fmt: skip
        held = self.positions().get(row["symbol"], 0)
        self._say(event, row, {
            "price": format_units(price), "qty": format_units(qty), "timestamp": now,
            "position_qty": format_units(held),
        })  # fmt: skip

    def _end(self, row: Row, status: str) -> None:
        now = iso(self.clock.now_ns())
        row.update({"status": status, "updated_at": now, f"{status}_at": now})
        self._keep("order", row)
        self._say(status, row, {"timestamp": now})

    def _charge(self, day: str) -> None:
        """Charge the regulators' fees of the sales that were not charged yet."""
        rows = self.activities
        done = sum(int(row["count"]) for row in rows if row["activity_type"] == "FEE")
        sales = [row for row in rows if (row["activity_type"], row["side"]) == ("FILL", "sell")]
        sales = sales[done:]
        fee = sum(
            -(-SEC_RATE * parse_units(row["price"]) * parse_units(row["qty"]) // SCALE**2)
            + -(-TAF_PER_SHARE * parse_units(row["qty"]) // SCALE)
            for row in sales
        )
        if not sales:
            return
        cents = -(-fee // CENT) * CENT
        self.pay(-cents)
        self._activity(
            activity_type="FEE", date=day, net_amount=format_units(-cents), symbol="", side="",
            description="REG and TAF fees", count=str(len(sales)),
        )  # fmt: skip


def _left(row: Row) -> int:
    """Shares of an order that have not traded, at 1e-8."""
    return parse_units(row["qty"]) - parse_units(row["filled_qty"])
