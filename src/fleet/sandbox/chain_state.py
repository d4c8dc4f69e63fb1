"""The state of the sandbox's chain: transactions, nonces, allowances. SQLite, one file.

What tokens and pUSD a wallet has is the exchange's ledger and not here. Every method that changes
something is durable when it returns (``synchronous=FULL`` on a file); a chain without a file keeps
its state in memory.

A transaction is POOLED until it is MINED or DROPPED (another one with its nonce was preferred). A
mined one counts its sender's nonce up, whether it succeeded or was reverted.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fleet.venues.polymarket.chain_contracts import (
    Approve,
    ApproveForAll,
    Contract,
    required_approvals,
)

POOLED, MINED, DROPPED = "POOLED", "MINED", "DROPPED"
OPERATOR: Final = "0x" + "0e" * 20
"""Who sends the venue's settlements here."""
SETTLEMENT_GAS: Final = 300_000
SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE chain (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE account (address TEXT PRIMARY KEY, nonce INTEGER NOT NULL, spent TEXT NOT NULL) STRICT;
CREATE TABLE allowance (
    owner TEXT NOT NULL, spender TEXT NOT NULL, amount TEXT NOT NULL, PRIMARY KEY (owner, spender)
) STRICT;
CREATE TABLE operator (
    owner TEXT NOT NULL, ledger TEXT NOT NULL, operator TEXT NOT NULL,
    PRIMARY KEY (owner, ledger, operator)
) STRICT;
CREATE TABLE chain_tx (
    hash TEXT PRIMARY KEY, sender TEXT NOT NULL, nonce INTEGER NOT NULL, raw TEXT NOT NULL,
    due_ns INTEGER NOT NULL, status TEXT NOT NULL, block INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0, gas_used INTEGER NOT NULL DEFAULT 0,
    gas_price TEXT NOT NULL DEFAULT '0', revert TEXT NOT NULL DEFAULT '',
    logs TEXT NOT NULL DEFAULT '[]'
) STRICT;
CREATE INDEX chain_tx_of ON chain_tx (sender, nonce);
CREATE INDEX chain_tx_status ON chain_tx (status, due_ns);
CREATE INDEX chain_tx_block ON chain_tx (block);
"""


class ChainStateError(Exception):
    """The chain's file cannot be used; the text names the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTx:
    """A transaction the chain was given. ``revert`` is 0x hex of what it reverted with."""

    transaction_hash: str
    sender: str
    nonce: int
    raw: str
    due_ns: int
    status: str
    block: int
    succeeded: bool
    gas_used: int
    gas_price: int
    revert: str
    logs: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """How a transaction went: what it burned, what it told, or what it reverted with."""

    block: int
    succeeded: bool
    gas_used: int
    gas_price: int
    revert: str = ""
    logs: Sequence[Mapping[str, Any]] = ()


class ChainState:
    """The tables, and nothing that decides."""

    def __init__(self, path: Path | None, *, genesis_ns: int) -> None:
        """Open or make the state at ``path`` (``None``: memory). Raises ``ChainStateError``.

        ``genesis_ns`` is the time of the first block of a fresh chain.
        """
        self.path = path
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
            self._prepare(genesis_ns)
        except sqlite3.Error as error:
            raise ChainStateError(
                f"cannot open the sandbox's chain {path}: {error}; move the file away to begin a "
                "fresh chain"
            ) from error
        self.genesis_ns = self._number("genesis_ns")

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._db.close()

    # --- accounts ----------------------------------------------------------------------------

    def nonce(self, address: str) -> int:
        """How many transactions of ``address`` were mined: its next nonce."""
        row = self._one("SELECT nonce FROM account WHERE address = ?", address)
        return int(row[0]) if row else 0

    def nonce_at(self, address: str, block: int) -> int:
        """How many transactions of ``address`` were mined up to ``block``."""
        row = self._one(
            "SELECT count(*) FROM chain_tx WHERE sender = ? AND status = ? AND block <= ?",
            address, MINED, block,
        )  # fmt: skip
        return int(row[0]) if row else 0

    def spent_wei(self, address: str) -> int:
        """What its mined transactions burned."""
        row = self._one("SELECT spent FROM account WHERE address = ?", address)
        return int(row[0]) if row else 0

    def allowance(self, owner: str, spender: str) -> int:
        """How much pUSD ``spender`` may take from ``owner``, in base units."""
        row = self._one(
            "SELECT amount FROM allowance WHERE owner = ? AND spender = ?", owner, spender
        )
        return int(row[0]) if row else 0

    def approved(self, owner: str, operator: str, ledger: Contract = Contract.CTF) -> bool:
        """Whether ``operator`` may move the tokens ``owner`` has in ``ledger``."""
        return (
            self._one(
                "SELECT 1 FROM operator WHERE owner = ? AND ledger = ? AND operator = ?",
                owner, ledger.address, operator,
            )
            is not None
        )  # fmt: skip

    def approve(self, owner: str, spender: str, amount: int) -> None:
        """Set an allowance."""
        self._db.execute(
            "INSERT OR REPLACE INTO allowance VALUES (?, ?, ?)", (owner, spender, str(amount))
        )

    def set_operator(self, owner: str, operator: str, ledger: Contract, *, approved: bool) -> None:
        """Allow or forbid an operator."""
        verb = (
            "INSERT OR IGNORE INTO operator VALUES (?, ?, ?)"
            if approved
            else "DELETE FROM operator WHERE owner = ? AND ledger = ? AND operator = ?"
        )
        self._db.execute(verb, (owner, ledger.address, operator))

    def grant(self, owner: str) -> None:
        """Give every approval a bot needs, as if its approve transactions had been mined."""
        for approval in required_approvals():
            match approval.call:
                case Approve(spender=spender, amount=amount):
                    self.approve(owner, spender, amount)
                case ApproveForAll(ledger=ledger, operator=operator):
                    self.set_operator(owner, operator, ledger, approved=True)

    # --- transactions ------------------------------------------------------------------------

    def transaction(self, transaction_hash: str) -> ChainTx | None:
        """The transaction of this name."""
        row = self._one("SELECT * FROM chain_tx WHERE hash = ?", transaction_hash)
        return _tx(row) if row else None

    def pooled_of(self, sender: str) -> list[ChainTx]:
        """A sender's transactions that wait, by nonce."""
        return self._many(
            "SELECT * FROM chain_tx WHERE sender = ? AND status = ? ORDER BY nonce", sender, POOLED
        )

    def due(self, now_ns: int) -> list[ChainTx]:
        """Transactions that wait and may be mined by now, oldest first, each sender's by nonce."""
        return self._many(
            "SELECT * FROM chain_tx WHERE status = ? AND due_ns <= ? ORDER BY nonce, due_ns, rowid",
            POOLED, now_ns,
        )  # fmt: skip

    def mined_between(self, low: int, high: int) -> list[ChainTx]:
        """Transactions of the blocks ``low`` to ``high``, both included."""
        return self._many(
            "SELECT * FROM chain_tx WHERE status = ? AND block BETWEEN ? AND ? ORDER BY block, "
            "due_ns, rowid",
            MINED, low, high,
        )  # fmt: skip

    def pool(self, tx: ChainTx, *, instead_of: ChainTx | None) -> None:
        """Take a transaction into the pool, dropping the one it replaces."""
        with self._transaction():
            if instead_of is not None:
                self._set_status(instead_of.transaction_hash, DROPPED)
            self._db.execute(
                "INSERT OR REPLACE INTO chain_tx (hash, sender, nonce, raw, due_ns, status) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (tx.transaction_hash, tx.sender, tx.nonce, tx.raw, tx.due_ns, POOLED),
            )

    def settle(self, transaction_hash: str, block: int, logs: Sequence[Mapping[str, Any]]) -> None:
        """Note a transaction of the venue itself, which has no bytes here. Once by its hash."""
        self._db.execute(
            "INSERT OR IGNORE INTO chain_tx (hash, sender, nonce, raw, due_ns, status, block, "
            "succeeded, gas_used, gas_price, logs) VALUES (?, ?, 0, '', 0, ?, ?, 1, ?, '0', ?)",
            (transaction_hash, OPERATOR, MINED, block, SETTLEMENT_GAS, json.dumps(list(logs))),
        )

    def mine(self, tx: ChainTx, mined: Mined) -> None:
        """Note how a transaction went and count its sender's nonce up."""
        spent = self.spent_wei(tx.sender) + mined.gas_used * mined.gas_price
        with self._transaction():
            self._db.execute(
                "UPDATE chain_tx SET status = ?, block = ?, succeeded = ?, gas_used = ?, "
                "gas_price = ?, revert = ?, logs = ? WHERE hash = ?",
                (
                    MINED, mined.block, int(mined.succeeded), mined.gas_used,
                    str(mined.gas_price), mined.revert, json.dumps(list(mined.logs)),
                    tx.transaction_hash,
                ),
            )  # fmt: skip
            self._db.execute(
                "INSERT OR REPLACE INTO account VALUES (?, ?, ?)",
                (tx.sender, tx.nonce + 1, str(spent)),
            )

    # --- inside ------------------------------------------------------------------------------

    def _prepare(self, genesis_ns: int) -> None:
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version not in {0, SCHEMA_VERSION}:
            raise ChainStateError(
                f"{self.path} is a chain of version {version}, not {SCHEMA_VERSION}; move the file "
                "away to begin a fresh chain"
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if not version:
            with self._transaction():
                for statement in _SCHEMA.split(";")[:-1]:
                    self._db.execute(statement)
                self._db.execute("INSERT INTO chain VALUES ('genesis_ns', ?)", (genesis_ns,))
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _transaction(self) -> sqlite3.Connection:
        """Begin a transaction; as a context it commits, or rolls back when left by an error."""
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def _set_status(self, transaction_hash: str, status: str) -> None:
        self._db.execute(
            "UPDATE chain_tx SET status = ? WHERE hash = ?", (status, transaction_hash)
        )

    def _number(self, key: str) -> int:
        return int(self._db.execute("SELECT value FROM chain WHERE key = ?", (key,)).fetchone()[0])

    def _one(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        return row

    def _many(self, query: str, *values: Any) -> list[ChainTx]:
        return [_tx(row) for row in self._db.execute(query, values).fetchall()]


def _tx(row: tuple[Any, ...]) -> ChainTx:
    return ChainTx(
        transaction_hash=row[0],
        sender=row[1],
        nonce=row[2],
        raw=row[3],
        due_ns=row[4],
        status=row[5],
        block=row[6],
        succeeded=bool(row[7]),
        gas_used=row[8],
        gas_price=int(row[9]),
        revert=row[10],
        logs=json.loads(row[11]),
    )
