"""An Alpaca API key and its secret; shows itself to nobody.

alpaca-py keeps both as plain attributes of its clients, so those clients never leave ``client.py``
and its errors, which carry the request with its headers, are never chained to ours.
"""

from __future__ import annotations

from typing import Any, Final

SHORTEST: Final = 8


class CredentialsError(ValueError):
    """A key or secret that cannot be one; never carries it."""


class StockCredentials:
    """One key pair of a trading account."""

    __slots__ = ("_key", "_secret")

    def __init__(self, key: str, secret: str) -> None:
        """Hold a pair. Raises ``CredentialsError``, without quoting it, if it cannot be one."""
        for what, text in (("key", key), ("secret", secret)):
            if len(text) < SHORTEST or not text.isascii() or not text.isprintable() or " " in text:
                raise CredentialsError(f"the Alpaca API {what} is cut short; copy it again")
        self._key, self._secret = key, secret

    def reveal(self) -> tuple[str, str]:
        """Key and secret, for the client and the login of the stream."""
        return self._key, self._secret

    def __repr__(self) -> str:
        """Never the key."""
        return "StockCredentials(***)"

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be written anywhere."""
        raise TypeError("credentials are not serialised")
