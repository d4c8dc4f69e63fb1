"""The exchange's memory on disk: one SQLite file, one writer, every change before its answer.

Theory of operation. The exchange works in memory; at the end of each call that changed something
the changed rows (balances, orders, trades, markets, operations) are written in one transaction.
There is no log to replay: the file holds the state itself. Write-ahead logging with
``synchronous=NORMAL``: a commit is in the operating system's hands when it returns, so it survives
the death of this process at any moment, which is what a sandbox must survive; it may be lost with
the machine, never torn. A second process on the same file is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from fleet.sandbox.exchange.contract import OperationView
from fleet.sandbox.exchange.orders import Order
from fleet.sandbox.exchange.settlement import Trade
from fleet.sandbox.exchange.state import Changes, ExchangeState, KnownMarket

VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS balance (
    wallet TEXT NOT NULL, asset TEXT NOT NULL, amount INTEGER NOT NULL,
    PRIMARY KEY (wallet, asset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS collateral (
    pool TEXT PRIMARY KEY, amount INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS market (condition_id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders (
    sequence INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    active INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS trade (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS operation (
    number INTEGER PRIMARY KEY, transaction_hash TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
"""
Stored = TypeVar("Stored")


class StoreError(RuntimeError):
    """The exchange's file cannot be used; the message names the cure."""


class ExchangeStore:
    """Reads the file once, at the start, and writes it from then on."""

    def __init__(self, path: Path | None) -> None:
        """Open or make the file; None keeps everything in memory. Raises ``StoreError``."""
        self._path = path
        self._encode = msgspec.json.Encoder().encode
        target = ":memory:" if path is None else str(path)
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(target, isolation_level=None, timeout=0.5)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"cannot use {target} for the exchange ({error}): end the sandbox that has it "
                "open, or name another file"
            ) from error
        self._facts = dict(self._db.execute("SELECT name, value FROM fact"))
        self._written_collateral: dict[str, int] = {}
        version = self._facts.get("version", VERSION)
        if version != VERSION:
            self._db.close()
            raise StoreError(
                f"{target} is of version {version}, this is {VERSION}: delete it or name another"
            )

    def begin(self, seed: int, start_ns: int) -> int:
        """Note which universe this is; when it was first listed. Raises ``StoreError``."""
        known = self._facts.get("seed", seed)
        if known != seed:
            self._db.close()
            raise StoreError(
                f"{self._path} holds the exchange of seed {known}, not {seed}: "
                f"start with seed {known}, or name another file"
            )
        with self._db:
            self._db.execute("BEGIN")
            self._note("version", VERSION)
            self._note("seed", seed)
            self._note("listed_ns", self._facts.get("listed_ns", start_ns))
        return int(self._facts["listed_ns"])

    def load(self, state: ExchangeState) -> list[Order]:
        """Fill an empty state with what is stored; its active orders, which nothing holds yet."""
        ledger = state.ledger
        for wallet, asset, amount in self._db.execute("SELECT wallet, asset, amount FROM balance"):
            ledger.move(wallet, asset, amount)
        ledger.changed.clear()
        for pool, amount in self._db.execute("SELECT pool, amount FROM collateral"):
            ledger.lock(pool, amount)
        self._written_collateral = dict(ledger.collateral)
        ledger.fees = self._facts.get("fees", 0)
        ledger.deposited = self._facts.get("deposited", 0)
        for market in self._bodies("SELECT body FROM market", KnownMarket):
            state.markets[market.condition_id] = market
        state.owners.update(self._db.execute("SELECT order_id, owner FROM orders"))
        (last,) = self._db.execute("SELECT MAX(sequence) FROM orders").fetchone()
        state.order_count = last or 0
        for trade in self._bodies("SELECT body FROM trade ORDER BY number", Trade):
            state.enter_trade(trade)
            state.trade_count = trade.number
        for view in self._bodies("SELECT body FROM operation ORDER BY number", OperationView):
            state.enter_operation(view)
        return list(
            self._bodies("SELECT body FROM orders WHERE active = 1 ORDER BY sequence", Order)
        )

    def write(self, state: ExchangeState) -> None:
        """Write what changed since the last call; nothing is done when nothing did.

        Raises ``StoreError``, and then at every later change too: memory is ahead of the file.
        """
        changes, ledger = state.changes, state.ledger
        if not (
            changes.orders
            or changes.trades
            or changes.markets
            or changes.operations
            or ledger.changed
        ):
            return
        try:
            with self._db:
                self._db.execute("BEGIN")
                self._write_ledger(state)
                self._write_records(changes, state)
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(
                f"cannot write {self._path} ({error}): make room, then start the sandbox again; "
                "it goes on from the last answer it gave"
            ) from error
        state.changes = Changes()
        ledger.changed.clear()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _write_ledger(self, state: ExchangeState) -> None:
        ledger, put = state.ledger, self._db.execute
        for wallet, asset in ledger.changed:
            put(
                "INSERT OR REPLACE INTO balance VALUES (?, ?, ?)",
                (wallet, asset, ledger.balance(wallet, asset)),
            )
        self._note("fees", ledger.fees)
        self._note("deposited", ledger.deposited)
        for pool, amount in ledger.collateral.items():
            if self._written_collateral.get(pool) != amount:
                put("INSERT OR REPLACE INTO collateral VALUES (?, ?)", (pool, amount))
                self._written_collateral[pool] = amount

    def _write_records(self, changes: Changes, state: ExchangeState) -> None:
        put, encode = self._db.execute, self._encode
        for known in changes.markets.values():
            put(
                "INSERT OR REPLACE INTO market VALUES (?, ?)",
                (known.condition_id, encode(known)),
            )
        for order in changes.orders.values():
            active = order.order_id in state.active
            put(
                "INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?)",
                (order.sequence, order.order_id, order.owner, active, encode(order)),
            )
        for trade in changes.trades.values():
            put("INSERT OR REPLACE INTO trade VALUES (?, ?)", (trade.number, encode(trade)))
        for view in changes.operations:
            put(
                "INSERT INTO operation (transaction_hash, body) VALUES (?, ?)",
                (view.transaction_hash, encode(view)),
            )

    def _note(self, name: str, value: int) -> None:
        if self._facts.get(name) != value:
            self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))
            self._facts[name] = value

    def _bodies(self, query: str, kind: type[Stored]) -> Iterator[Stored]:
        decode: Any = msgspec.json.Decoder(kind).decode
        for (body,) in self._db.execute(query):
            yield decode(body)
