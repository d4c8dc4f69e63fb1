"""Who may do what: API keys, the wallets behind them, their standing. One small SQLite file.

Keys are *derived*, never stored: HMAC of (what, address, nonce) under a secret seed that is drawn
once and kept in the file, so the same wallet gets the same key after every restart. The file says
which of them were created and deleted, which wallet belongs to which key's address, who was banned,
and whose heartbeats must not stop.

A wallet of signature types 1 to 3 is a contract on the venue's chain, which knows its owner. Here
it belongs to the first address that used it (``claim``), for good. An address always owns itself.

Every change is durable when the call returns.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import sqlite3
import uuid
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from fleet.venues.polymarket.contracts import SignatureType

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS api_key(
    owner TEXT PRIMARY KEY, address TEXT NOT NULL, nonce TEXT NOT NULL, deleted INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS wallet(
    wallet TEXT PRIMARY KEY, address TEXT NOT NULL, signature_type INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS standing(address TEXT PRIMARY KEY, standing TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS heartbeat(owner TEXT PRIMARY KEY);
"""


class AccountsError(Exception):
    """The accounts' file cannot be used; the text names the cure."""


class Standing(Enum):
    """What an address may still do."""

    ACTIVE = "active"
    CLOSED_ONLY = "closed_only"
    """Sell what it holds, nothing else."""
    BANNED = "banned"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key: ``owner`` is its public id, ``address`` the wallet that logged in for it."""

    owner: str
    address: str
    nonce: int
    secret: str = field(repr=False)
    """Url-safe base64 of 32 bytes."""
    passphrase: str = field(repr=False)

    def signature(self, message: bytes) -> str:
        """What an L2 header must say over ``message``."""
        digest = hmac.digest(base64.urlsafe_b64decode(self.secret), message, "sha256")
        return base64.urlsafe_b64encode(digest).decode()


class Accounts:
    """The keys and wallets of one sandbox. Addresses are checksummed texts."""

    def __init__(self, path: Path | None = None) -> None:
        """Open or make ``path``; None keeps everything in memory. Raises ``AccountsError``."""
        self._keys: dict[str, ApiKey] = {}
        self._deleted: set[str] = set()
        self._wallets: dict[str, tuple[str, int]] = {}
        self._standing: dict[str, Standing] = {}
        try:
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.touch(mode=0o600)
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
            self._load()
        except (sqlite3.Error, OSError) as error:
            raise AccountsError(
                f"cannot use the sandbox's accounts {path}: {error}; make it writable, or move it"
                " away to begin with fresh API keys"
            ) from error

    def _load(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)
        self._db.execute(
            "INSERT OR IGNORE INTO meta VALUES ('seed', ?)", (secrets.token_bytes(32).hex(),)
        )
        (seed,) = self._db.execute("SELECT value FROM meta WHERE key = 'seed'").fetchone()
        self._seed = bytes.fromhex(seed)
        rows = self._db.execute("SELECT owner, address, nonce, deleted FROM api_key ORDER BY rowid")
        for owner, address, nonce, deleted in rows:
            self._keys[owner] = self._derived(address, int(nonce))
            if deleted:
                self._deleted.add(owner)
        for wallet, address, kind in self._db.execute("SELECT * FROM wallet ORDER BY rowid"):
            self._wallets[wallet] = (address, kind)
        for address, standing in self._db.execute("SELECT * FROM standing"):
            self._standing[address] = Standing(standing)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- keys ---------------------------------------------------------------------------------

    def create(self, address: str, nonce: int) -> ApiKey | None:
        """A new key; None if this address used this nonce before."""
        key = self._derived(address, nonce)
        if key.owner in self._keys:
            return None
        self._db.execute(
            "INSERT INTO api_key VALUES (?, ?, ?, 0)", (key.owner, address, str(nonce))
        )
        self._keys[key.owner] = key
        return key

    def derive(self, address: str, nonce: int) -> ApiKey | None:
        """The key that was created for (address, nonce); None if none was, or it is deleted."""
        return self.key(self._derived(address, nonce).owner)

    def key(self, owner: str) -> ApiKey | None:
        """The key of this id, unless deleted."""
        return None if owner in self._deleted else self._keys.get(owner)

    def keys_of(self, address: str) -> list[str]:
        """The ids of an address's keys, oldest first."""
        return [
            k.owner
            for k in self._keys.values()
            if k.address == address and k.owner not in self._deleted
        ]

    def delete(self, owner: str) -> None:
        """Make a key void for good: its nonce cannot be used again."""
        self._db.execute("UPDATE api_key SET deleted = 1 WHERE owner = ?", (owner,))
        self._deleted.add(owner)

    def _derived(self, address: str, nonce: int) -> ApiKey:
        def part(what: str) -> bytes:
            return hmac.digest(self._seed, f"{what}:{address}:{nonce}".encode(), "sha256")

        return ApiKey(
            owner=str(uuid.UUID(bytes=part("id")[:16], version=4)),
            address=address,
            nonce=nonce,
            secret=base64.urlsafe_b64encode(part("secret")).decode(),
            passphrase=part("passphrase").hex(),
        )

    # --- wallets ------------------------------------------------------------------------------

    def claim(self, wallet: str, address: str, kind: SignatureType) -> bool:
        """Whether ``address`` may sign for ``wallet``; the first who asks for it owns it."""
        if wallet == address:
            return kind is SignatureType.EOA
        if kind is SignatureType.EOA or any(k.address == wallet for k in self._keys.values()):
            return False
        found = self._wallets.get(wallet)
        if found is None:
            self._db.execute("INSERT INTO wallet VALUES (?, ?, ?)", (wallet, address, int(kind)))
            self._wallets[wallet] = (address, int(kind))
            return True
        return found == (address, int(kind))

    def wallet(self, address: str, kind: SignatureType) -> str | None:
        """The wallet of an address and signature type: the first one claimed."""
        if kind is SignatureType.EOA:
            return address
        claimed = (w for w, owned in self._wallets.items() if owned == (address, int(kind)))
        return next(claimed, None)

    def wallets(self) -> list[str]:
        """Every address with a key, and every wallet somebody claimed."""
        return list(dict.fromkeys([*(k.address for k in self._keys.values()), *self._wallets]))

    def owners_of(self, wallet: str) -> list[str]:
        """Every key, deleted ones too, that may have traded for a wallet."""
        address, _ = self._wallets.get(wallet, (wallet, 0))
        return [key.owner for key in self._keys.values() if key.address == address]

    # --- standing and heartbeats --------------------------------------------------------------

    def standing(self, address: str) -> Standing:
        """What an address may do."""
        return self._standing.get(address, Standing.ACTIVE)

    def set_standing(self, address: str, standing: Standing) -> None:
        """Ban or restrict an address, or lift it."""
        self._db.execute("INSERT OR REPLACE INTO standing VALUES (?, ?)", (address, standing.value))
        self._standing[address] = standing

    def expect_heartbeats(self, owner: str, *, expected: bool) -> None:
        """Keep over a restart that a key's orders live only as long as its heartbeats."""
        if expected:
            self._db.execute("INSERT OR IGNORE INTO heartbeat VALUES (?)", (owner,))
        else:
            self._db.execute("DELETE FROM heartbeat WHERE owner = ?", (owner,))

    def expecting_heartbeats(self) -> list[str]:
        """The keys that had a heartbeat going."""
        return [owner for (owner,) in self._db.execute("SELECT owner FROM heartbeat")]
