"""A venue's account side on a real loopback socket: it checks logins and answers what it is told.

It runs on a thread of its own, so that a command that owns its event loop can be tested against it.
Signatures are checked: L1 by recovering the address, L2 by the HMAC of exactly what was sent.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from fleet.venues.polymarket.auth import l1_headers
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.keys import SecretKey

KEY_HEX = "0x" + "01" * 32
KEY = SecretKey.from_hex(KEY_HEX)
API_KEY = "3f1c6c4e-0000-4000-8000-000000000001"
SECRET = base64.urlsafe_b64encode(b"\x07" * 32).decode()
PASSPHRASE = "open-sesame-of-the-test"
MAX = str(2**256 - 1)
SPENDERS = (
    "0xE111180000d2663C0091e4f400237545B87B996B",
    "0xe2222d279d744050d28e00520010520000310F59",
    "0xAdA100Db00Ca00073811820692005400218FcE1f",
    "0xadA2005600Dec949baf300f4C6120000bDB6eAab",
    "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa",
)


@dataclass
class AccountVenue:
    """What it answers; a test changes it."""

    port: int = 0
    version: Any = 2
    clock_ahead_s: float = 0.0
    geoblock: Any = field(
        default_factory=lambda: {
            "blocked": False,
            "ip": "192.0.2.1",
            "country": "IE",
            "region": "L",
        }
    )
    has_api_key: bool = True
    closed_only: bool = False
    balance: str = "5000000000"
    allowances: dict[str, str] = field(default_factory=lambda: dict.fromkeys(SPENDERS, MAX))
    down: set[str] = field(default_factory=set)
    """Paths answered with 503."""
    asked: list[str] = field(default_factory=list)

    def hosts(self) -> Hosts:
        """Every address on this server."""
        origin = f"127.0.0.1:{self.port}"
        return Hosts(
            clob_url=f"http://{origin}/clob", gamma_url=f"http://{origin}/gamma",
            data_url=f"http://{origin}/data-api", market_ws_url=f"ws://{origin}/ws/market",
            user_ws_url=f"ws://{origin}/ws/user", rpc_url=f"http://{origin}/rpc", relayer_url="",
            geoblock_url=f"http://{origin}/api/geoblock", name="test",
        )  # fmt: skip

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/clob")
        self.asked.append(f"{request.method} {path}")
        if path in self.down:
            return _json({"error": "down"}, 503)
        if path == "/time":
            return _json(int(time.time() + self.clock_ahead_s))
        if path == "/version":
            return _json({"version": self.version})
        if path == "/api/geoblock":
            return _json(self.geoblock)
        if path in {"/auth/derive-api-key", "/auth/api-key"}:
            return self._login(request, path)
        if not self._signed(request, path, await request.read()):
            return _json({"error": "Unauthorized/Invalid api key"}, 401)
        answers: dict[str, Any] = {
            "/auth/api-keys": {"apiKeys": [API_KEY]},
            "/auth/ban-status/closed-only": {"closed_only": self.closed_only},
            "/balance-allowance": {"balance": self.balance, "allowances": self.allowances},
        }
        return _json(answers[path]) if path in answers else _json({"error": "?"}, 404)

    def _login(self, request: web.Request, path: str) -> web.Response:
        stamp = request.headers.get("POLY_TIMESTAMP", "0")
        good = l1_headers(KEY, chain_id=137, timestamp_s=int(stamp))
        if any(request.headers.get(name) != text for name, text in good.items()):
            return _json({"error": "Invalid L1 Request headers"}, 401)
        if self.has_api_key == (path == "/auth/api-key"):
            return _json({"error": "Could not create or derive api key!"}, 400)
        self.has_api_key = True
        return _json({"apiKey": API_KEY, "secret": SECRET, "passphrase": PASSPHRASE})

    def _signed(self, request: web.Request, path: str, body: bytes) -> bool:
        headers = request.headers
        stamp = headers.get("POLY_TIMESTAMP", "0")
        message = f"{stamp}{request.method}{path}".encode() + body
        digest = hmac.digest(base64.urlsafe_b64decode(SECRET), message, "sha256")
        return (
            headers.get("POLY_SIGNATURE") == base64.urlsafe_b64encode(digest).decode()
            and headers.get("POLY_API_KEY") == API_KEY
            and headers.get("POLY_PASSPHRASE") == PASSPHRASE
            and headers.get("POLY_ADDRESS") == KEY.address
        )


def _json(answer: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(answer), content_type="application/json")


@contextmanager
def served(venue: AccountVenue) -> Iterator[AccountVenue]:
    """The venue on a free port of 127.0.0.1 until the block ends."""
    loop = asyncio.new_event_loop()
    started = threading.Event()
    ending = asyncio.Event()

    async def main() -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", venue.handle)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        venue.port = runner.addresses[0][1]
        started.set()
        await ending.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    try:
        assert started.wait(30)
        yield venue
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(30)
        loop.close()
