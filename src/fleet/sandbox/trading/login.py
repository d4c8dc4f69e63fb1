"""Who is asking: L1 headers (a wallet's signature), L2 headers (a key's HMAC); reference 4.1.

A client signs the venue's paths. Here the venue's CLOB host is a path of one port (``/clob``), so
what is signed is the path behind that prefix, without the query: an unmodified client whose host is
``http://127.0.0.1:PORT/clob`` signs ``/order`` and posts to ``/clob/order``. The body is taken as
the bytes that came.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from aiohttp import web

from fleet.clock import NS_PER_SECOND
from fleet.sandbox.request_reading import ApiError
from fleet.sandbox.trading.accounts import Accounts, ApiKey
from fleet.venues.polymarket.auth import login_digest
from fleet.venues.polymarket.keys import SigningError, checksum_address, recover_address

L1_REFUSED: Final = "Invalid L1 Request headers"
L2_REFUSED: Final = "Unauthorized/Invalid api key"
CLOCK_TOLERANCE_S: Final = 30
"""How far a timestamp may be from our clock, either way: our choice, the venue's is unknown."""
NONCE_MAX: Final = (1 << 256) - 1


class Login:
    """Checks the headers of requests under one path prefix."""

    def __init__(
        self, accounts: Accounts, now_ns: Callable[[], int], *, prefix: str, chain_id: int
    ) -> None:
        """``prefix`` stands for the venue's host."""
        self._accounts = accounts
        self._now_ns = now_ns
        self._prefix = prefix
        self._chain_id = chain_id

    def wallet(self, request: web.Request) -> tuple[str, int]:
        """The address and nonce of a request signed by a wallet. Raises ``ApiError`` 401."""
        headers = request.headers
        refused = ApiError(401, L1_REFUSED)
        timestamp = headers.get("POLY_TIMESTAMP", "")
        nonce = headers.get("POLY_NONCE", "0")
        if not self._timely(timestamp) or not _is_number(nonce) or int(nonce) > NONCE_MAX:
            raise refused
        try:
            address = checksum_address(headers.get("POLY_ADDRESS", ""))
            signature = bytes.fromhex(headers.get("POLY_SIGNATURE", "").removeprefix("0x"))
            digest = login_digest(
                address, chain_id=self._chain_id, timestamp=timestamp, nonce=int(nonce)
            )
            signer = recover_address(digest, signature)
        except ValueError:
            raise refused from None
        if signer != address:
            raise refused
        return address, int(nonce)

    async def key(self, request: web.Request) -> ApiKey:
        """The API key that signed a request. Raises ``ApiError`` 401."""
        headers = request.headers
        refused = ApiError(401, L2_REFUSED)
        key = self._accounts.key(headers.get("POLY_API_KEY", ""))
        timestamp = headers.get("POLY_TIMESTAMP", "")
        if key is None or not self._timely(timestamp):
            raise refused
        try:
            address = checksum_address(headers.get("POLY_ADDRESS", ""))
        except SigningError:
            raise refused from None
        path = request.rel_url.raw_path.removeprefix(self._prefix)
        message = f"{timestamp}{request.method}{path}".encode() + await request.read()
        if (
            address != key.address
            or not _same(headers.get("POLY_PASSPHRASE", ""), key.passphrase)
            or not _same(headers.get("POLY_SIGNATURE", ""), key.signature(message))
        ):
            raise refused
        return key

    def _timely(self, timestamp: str) -> bool:
        if not _is_number(timestamp):
            return False
        return abs(int(timestamp) - self._now_ns() // NS_PER_SECOND) <= CLOCK_TOLERANCE_S


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 78


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), wanted.encode())
