"""Addresses a person writes in settings: read strictly, shown as EIP-55 writes them."""

from __future__ import annotations

from fleet.venues.polymarket.keys import SigningError, checksum_address


def addresses(value: str) -> tuple[str, ...]:
    """Addresses separated by commas or spaces, each once. Raises ``ValueError`` for another."""
    found = []
    for word in value.replace(",", " ").split():
        try:
            found.append(checksum_address(word))
        except SigningError as error:
            raise ValueError(f"{error}; expected addresses such as 0x and 40 hex digits") from error
    return tuple(dict.fromkeys(found))
