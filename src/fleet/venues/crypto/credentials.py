"""An API key and its secret: signs queries, shows itself to nobody.

The secret is never an attribute of the exchange client, so no repr, log line, error or traceback of
that client can carry it. Only HMAC keys (64 letters and digits) are known here.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final

KEY_CHARS: Final = 64


class CredentialsError(ValueError):
    """A key or secret that cannot be one; never carries it."""


class ApiCredentials:
    """One HMAC key pair of Binance."""

    __slots__ = ("_key", "_secret")

    def __init__(self, key: str, secret: str) -> None:
        """Hold a pair. Raises ``CredentialsError``, without quoting it, if it cannot be one."""
        for what, text in (("key", key.strip()), ("secret", secret.strip())):
            if "PRIVATE KEY" in text:
                raise CredentialsError(
                    f"the API {what} is an RSA or Ed25519 key; create a system-generated (HMAC) one"
                )
            if len(text) != KEY_CHARS or not text.isascii() or not text.isalnum():
                raise CredentialsError(
                    f"the API {what} is not {KEY_CHARS} letters and digits; copy it again"
                )
        self._key, self._secret = key.strip(), secret.strip().encode()

    @property
    def key(self) -> str:
        """The public half, for the request header; do not log it."""
        return self._key

    def sign(self, query: bytes) -> str:
        """HMAC-SHA256 of a query, as hex (Binance API docs, "SIGNED endpoint security")."""
        return hmac.new(self._secret, query, hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        """Never the key."""
        return "ApiCredentials(***)"

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be written anywhere."""
        raise TypeError("credentials are not serialised")
