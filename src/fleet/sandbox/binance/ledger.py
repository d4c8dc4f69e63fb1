"""Accounts, orders and matches of the local Binance, kept in one SQLite file (or in memory).

Every change of an order, a balance or a match is written in the transaction of the request that
caused it, so that a killed server opens with the books it last answered from. Secrets are kept too:
they are play keys of a play exchange, and the file says so.
"""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass, field
from typing import Final

SCHEMA: Final = """
create table if not exists note(text text primary key);
create table if not exists account(
    uid integer primary key, key text unique, secret text, maker integer, taker integer,
    bnb_fees integer);
create table if not exists balance(
    uid integer, asset text, free integer, locked integer, primary key(uid, asset));
create table if not exists orders(
    order_id integer primary key, uid integer, symbol text, client_order_id text, side text,
    price integer, qty integer, tif text, status text, executed integer, quote integer,
    time_ms integer, update_ms integer);
create table if not exists trade(
    id integer, order_id integer, symbol text, price integer, qty integer, commission integer,
    commission_asset text, time_ms integer, is_buyer integer, is_maker integer,
    primary key(symbol, id, order_id));
"""
OPEN: Final = ("NEW", "PARTIALLY_FILLED")


@dataclass(slots=True)
class Trader:
    """One account; rates at 1e-8."""

    uid: int
    key: str
    secret: str = field(repr=False)
    maker: int = 100_000
    taker: int = 100_000
    bnb_fees: int = 0


@dataclass(slots=True)
class Order:
    """One order, as its row."""

    order_id: int
    uid: int
    symbol: str
    client_order_id: str
    side: str
    price: int
    qty: int
    tif: str
    status: str
    executed: int
    quote: int
    time_ms: int
    update_ms: int

    @property
    def open(self) -> bool:
        """Whether it rests."""
        return self.status in OPEN


@dataclass(slots=True)
class Match:
    """One side of one match, as its row."""

    id: int
    order_id: int
    symbol: str
    price: int
    qty: int
    commission: int
    commission_asset: str
    time_ms: int
    is_buyer: int
    is_maker: int


class Ledger:
    """The books; everything in memory, every change in the file."""

    def __init__(self, path: str = ":memory:") -> None:
        """Open or make the file, and read it."""
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(SCHEMA)
        self._db.execute("insert or ignore into note values('play money, play keys')")
        self.traders = [Trader(*row) for row in self._db.execute("select * from account")]
        self.balances: dict[tuple[int, str], list[int]] = {
            (uid, asset): [free, locked]
            for uid, asset, free, locked in self._db.execute("select * from balance")
        }
        self.orders = {
            row[0]: Order(*row)
            for row in self._db.execute("select * from orders order by order_id")
        }
        self.matches = [Match(*row) for row in self._db.execute("select * from trade order by id")]
        self._dirty: list[Order | Match | tuple[int, str]] = []
        self._last_order = max(self.orders, default=0)
        self._last_match: dict[str, int] = {match.symbol: match.id for match in self.matches}

    def open_account(self, trader: Trader) -> None:
        """Add an account, or replace its key and rates."""
        self.traders = [t for t in self.traders if t.uid != trader.uid] + [trader]
        self._db.execute("insert or replace into account values(?,?,?,?,?,?)", astuple(trader))

    def by_key(self, key: str) -> Trader | None:
        """The account of an API key."""
        return next((t for t in self.traders if t.key == key), None)

    def held(self, uid: int, asset: str) -> list[int]:
        """``[free, locked]``; changed in place by ``move``."""
        return self.balances.setdefault((uid, asset), [0, 0])

    def move(self, uid: int, asset: str, *, free: int = 0, locked: int = 0) -> None:
        """Change a balance; never below zero (a defect of the exchange)."""
        held = self.held(uid, asset)
        held[0] += free
        held[1] += locked
        if min(held) < 0:
            raise AssertionError(f"{asset} of {uid} would be {held}")
        self._dirty.append((uid, asset))

    def put(self, row: Order | Match) -> None:
        """Note a new or changed row."""
        if isinstance(row, Order):
            self.orders[row.order_id] = row
        else:
            self.matches.append(row)
        self._dirty.append(row)

    def commit(self) -> None:
        """Write what changed, together."""
        dirty, self._dirty = self._dirty, []
        if not dirty:
            return
        self._db.execute("begin")
        for item in dirty:
            if isinstance(item, tuple):
                row: tuple[object, ...] = (*item, *self.balances[item])
                table = "balance"
            else:
                row, table = astuple(item), "orders" if isinstance(item, Order) else "trade"
            holes = ",".join("?" * len(row))
            self._db.execute(f"insert or replace into {table} values({holes})", row)
        self._db.execute("commit")

    def next_order_id(self) -> int:
        """One above the highest so far."""
        self._last_order += 1
        return self._last_order

    def next_match_id(self, symbol: str) -> int:
        """One above the highest of a symbol so far."""
        self._last_match[symbol] = self._last_match.get(symbol, 0) + 1
        return self._last_match[symbol]

    def close(self) -> None:
        """Close the file."""
        self.commit()
        self._db.close()
