"""The words of 32 bytes an order is encoded in, each made once and kept.

Invariant: a text is refused unless it is the one spelling of what it stands for, so that an order
that is signed can be posted as it is. Raises ``SigningError`` and nothing else; knows no secret.
"""

from __future__ import annotations

from functools import lru_cache

from fleet.venues.polymarket.contracts import Exchange, exchange_for
from fleet.venues.polymarket.keys import SigningError, checksum_address


@lru_cache(maxsize=64)
def address_word(address: str) -> bytes:
    """One word: an address, 0x and 40 hex digits."""
    return bytes(12) + bytes.fromhex(checksum_address(address)[2:])


@lru_cache(maxsize=64)
def account_words(maker: str, signer: str) -> bytes:
    """Two words: the wallet with the funds and the one that signs."""
    return address_word(maker) + address_word(signer)


@lru_cache(maxsize=4096)
def _token(token_id: str) -> int:
    """The number a token id is. Only its one canonical spelling may go on the wire."""
    plain = len(token_id) <= 78 and token_id.isascii() and token_id.isdecimal()
    if not plain or str(int(token_id)) != token_id:
        raise SigningError(f"token id {token_id!r} is not a plain decimal number")
    return int(token_id)


@lru_cache(maxsize=4096)
def token_word(token_id: str) -> bytes:
    """One word: a token id in canonical decimal."""
    return _token(token_id).to_bytes(32, "big")


@lru_cache(maxsize=4096)
def exchange_of(token_id: str, neg_risk: bool) -> Exchange:  # noqa: FBT001
    """The exchange that settles a token; ``exchange_for`` of the number it is."""
    return exchange_for(_token(token_id), neg_risk=neg_risk)


@lru_cache(maxsize=64)
def bytes32_words(metadata: str, builder: str) -> bytes:
    """Two words, each from 0x and 64 hex digits."""
    return _bytes32(metadata) + _bytes32(builder)


def _bytes32(text: str) -> bytes:
    """The 32 bytes of 0x and 64 hex digits."""
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != 32 or len(text) != 66:
        raise SigningError(f"{text!r} is not 0x and 64 hex digits")
    return value
