"""Who we are to the venue: wallet login (L1) and signed request headers (L2).

L1 proves control of the wallet once, to create or derive an API key. L2 signs each request with
that key: HMAC-SHA256 over timestamp, method, path and the exact body. Both as described in the CLOB
reference (read 2026-11) and checked against its vectors and py-clob-client-v2.

Invariants: an ``ApiCredentials`` shows its secrets in no repr, pickle or copy; time comes from the
caller. The API key belongs to the key's own address for every signature type.
"""

from __future__ import annotations

import base64
import binascii
import json
from binascii import b2a_base64
from functools import lru_cache
from hashlib import sha256
from typing import Final, NoReturn

from fleet.venues.polymarket.keys import SecretKey, SigningError, keccak

LOGIN_MESSAGE: Final = "This message attests that I control the given wallet"
_BLOCK: Final = 64
"""Bytes SHA-256 takes at a time (FIPS 180-4), to which HMAC pads its key (RFC 2104)."""
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_DOMAIN_TYPE: Final = b"EIP712Domain(string name,string version,uint256 chainId)"
_LOGIN_TYPE: Final = b"ClobAuth(address address,string timestamp,uint256 nonce,string message)"


class ApiCredentials:
    """An API key of the venue: its public id, its secret and its passphrase."""

    __slots__ = ("_inner", "_outer", "_passphrase", "_raw", "address", "api_key")

    def __init__(self, *, address: str, api_key: str, secret: str, passphrase: str) -> None:
        """``secret`` is url-safe base64, as the venue gives it; ``address`` the key's wallet.

        Raises ``SigningError``, which quotes no secret, if it is not.
        """
        self.address: Final = address
        self.api_key: Final = api_key
        problem = ""
        raw = b""
        try:
            raw = base64.b64decode(secret.translate({45: 43, 95: 47}), validate=True)
        except (binascii.Error, ValueError):
            problem = "the API secret is not url-safe base64; copy it again or derive the key anew"
        if not raw or not passphrase or not api_key:
            problem = problem or "the API key, secret and passphrase must not be empty"
        if problem:
            secret = passphrase = ""
            raise SigningError(problem)
        # HMAC is two hashes that begin with the key: begun once here, it costs half a fresh one.
        block = (sha256(raw).digest() if len(raw) > _BLOCK else raw).ljust(_BLOCK, b"\0")
        self._inner: Final = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer: Final = sha256(bytes(byte ^ 0x5C for byte in block))
        self._passphrase: Final = passphrase
        self._raw: Final = raw

    def __repr__(self) -> str:
        return f"ApiCredentials({self.api_key})"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("ApiCredentials cannot be pickled or copied")

    def hmac(self, message: bytes) -> str:
        """The url-safe base64 of HMAC-SHA256 of ``message`` under the secret."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return b2a_base64(outer.digest(), newline=False).translate(_URL_SAFE).decode("ascii")

    def subscription(self) -> bytes:
        """The first frame of the user websocket: it carries the secrets, so send it and forget."""
        secret = base64.urlsafe_b64encode(self._raw).decode("ascii")
        auth = {"apiKey": self.api_key, "secret": secret, "passphrase": self._passphrase}
        return json.dumps({"type": "user", "auth": auth}).encode()

    def headers(self, timestamp_s: int, signature: str) -> dict[str, str]:
        """The five L2 headers around ``signature``."""
        return {
            "POLY_ADDRESS": self.address,
            "POLY_SIGNATURE": signature,
            "POLY_TIMESTAMP": str(timestamp_s),
            "POLY_API_KEY": self.api_key,
            "POLY_PASSPHRASE": self._passphrase,
        }


def l2_headers(
    credentials: ApiCredentials, timestamp_s: int, method: str, path: str, body: bytes = b""
) -> dict[str, str]:
    """The headers of an authenticated request whose body is exactly ``body``.

    ``path`` has no query string: the venue signs without it. Both official clients sign a body
    with its apostrophes turned into quotes, and so do we.
    Raises ``SigningError`` for a path with a query or a method not in capitals.
    """
    message = b"%d%b%b" % (timestamp_s, _signed_line(method, path), body.replace(b"'", b'"'))
    return credentials.headers(timestamp_s, credentials.hmac(message))


@lru_cache(maxsize=64)
def _signed_line(method: str, path: str) -> bytes:
    """What is signed of a request's first line; an exception is not cached."""
    if not path.startswith("/") or "?" in path or not method.isupper():
        raise SigningError(f"{method} {path}: sign the method in capitals and the path, no query")
    return f"{method}{path}".encode()


def login_digest(address: str, *, chain_id: int, timestamp: str, nonce: int) -> bytes:
    """The EIP-712 digest of ``ClobAuth`` that ``address`` (0x and 40 hex digits) must sign."""
    domain = keccak(
        keccak(_DOMAIN_TYPE)
        + keccak(b"ClobAuthDomain")
        + keccak(b"1")
        + chain_id.to_bytes(32, "big")
    )
    struct = keccak(
        keccak(_LOGIN_TYPE)
        + bytes(12)
        + bytes.fromhex(address[2:])
        + keccak(timestamp.encode())
        + nonce.to_bytes(32, "big")
        + keccak(LOGIN_MESSAGE.encode())
    )
    return keccak(b"\x19\x01" + domain + struct)


def l1_headers(
    key: SecretKey, *, chain_id: int, timestamp_s: int, nonce: int = 0
) -> dict[str, str]:
    """The headers that prove control of the wallet, for the API-key endpoints."""
    timestamp = str(timestamp_s)
    digest = login_digest(key.address, chain_id=chain_id, timestamp=timestamp, nonce=nonce)
    return {
        "POLY_ADDRESS": key.address,
        "POLY_SIGNATURE": "0x" + key.sign_digest(digest).hex(),
        "POLY_TIMESTAMP": timestamp,
        "POLY_NONCE": str(nonce),
    }
