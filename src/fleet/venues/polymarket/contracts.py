"""Polymarket's contracts: which exchange settles an order, where it lives, how it signs.

Addresses as published for CLOB V2 (in force since 2026-04-28) and Protocol V2, read 2026-11 from
the official clients' configuration. The V1 exchanges are dead and are not here. On Amoy (80002)
only ExchangeV3 has an address of its own; the two V2 addresses repeat those of Polygon there.

Invariant: an exchange is chosen by ``exchange_for`` alone, so a token can never be signed for the
wrong contract by a caller's guess.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

POLYGON: Final = 137
AMOY: Final = 80002


class ContractError(ValueError):
    """A chain, token or wallet these contracts do not know."""


class SignatureType(IntEnum):
    """Who holds the funds and whose signature the exchange checks (the wire's integers)."""

    EOA = 0
    POLY_PROXY = 1
    POLY_GNOSIS_SAFE = 2
    POLY_1271 = 3


class Exchange(Enum):
    """The three exchange contracts an order can be signed for."""

    __hash__ = object.__hash__  # A member is one object; Enum's own hash is Python, and hot.

    STANDARD_V2 = "STANDARD_V2"
    NEG_RISK_V2 = "NEG_RISK_V2"
    V3 = "V3"


class Contract(Enum):
    """The contracts an account's calls go to (Polygon)."""

    PUSD = "0xC011a7E12a19f7B1f670d46F03B03f3342E82DFB"
    CTF = "0x4D97DCd97eC945f40cF65F87097ACe5EA0476045"
    CTF_ADAPTER = "0xAdA100Db00Ca00073811820692005400218FcE1f"
    NEG_RISK_CTF_ADAPTER = "0xadA2005600Dec949baf300f4C6120000bDB6eAab"
    NEG_RISK_ADAPTER = "0xd91E80cF2E7be2e162c6513ceD06f1dD0dA35296"
    """Only read: it numbers the questions of an outcome set."""
    POSITION_MANAGER = "0x006F54F7f9A22e0000CC2AB60031000000ae9fEF"

    @property
    def address(self) -> str:
        """Checksummed."""
        return self.value


DOMAIN_NAME: Final = "Polymarket CTF Exchange"
DOMAIN_VERSION: Final = {
    Exchange.STANDARD_V2: "2",
    Exchange.NEG_RISK_V2: "2",
    Exchange.V3: "3",
}

_ADDRESSES: Final = {
    POLYGON: {
        Exchange.STANDARD_V2: "0xE111180000d2663C0091e4f400237545B87B996B",
        Exchange.NEG_RISK_V2: "0xe2222d279d744050d28e00520010520000310F59",
        Exchange.V3: "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa",
    },
    AMOY: {
        Exchange.STANDARD_V2: "0xE111180000d2663C0091e4f400237545B87B996B",
        Exchange.NEG_RISK_V2: "0xe2222d279d744050d28e00520010520000310F59",
        Exchange.V3: "0x9fE6e61422AdB6F610d8597F9684b16912D50C3D",
    },
}

_RESERVED_BITS: Final = ((1 << 64) - 1) << 40
_MODULE_SHIFT: Final = 248
_MODULES: Final = (1, 2, 3)


def exchange_address(chain_id: int, exchange: Exchange) -> str:
    """The checksummed address of ``exchange``; raises ``ContractError`` for another chain."""
    addresses = _ADDRESSES.get(chain_id)
    if addresses is None:
        raise ContractError(
            f"chain id {chain_id} has no Polymarket exchange; use {POLYGON} (Polygon) "
            f"or {AMOY} (Amoy)"
        )
    return addresses[exchange]


def is_position_id(token: int) -> bool:
    """Whether ``token`` is a Protocol V2 position id and not a token of the older ledger.

    Layout, high to low: module 8 bits (1 binary, 2 neg-risk, 3 combinatorial), base hash 128,
    arity 16, reserved 64 (zero), chain 16, condition 16, outcome 8. The official clients test the
    reserved bits; we want a known module too, so that a small test id is never mistaken for one.
    """
    return token & _RESERVED_BITS == 0 and token >> _MODULE_SHIFT in _MODULES


def exchange_for(token: int, *, neg_risk: bool) -> Exchange:
    """The exchange that settles ``token``: V3 for a position id, else by the market's flag."""
    if is_position_id(token):
        return Exchange.V3
    return Exchange.NEG_RISK_V2 if neg_risk else Exchange.STANDARD_V2
