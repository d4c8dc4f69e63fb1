"""The API key of a wallet: derived where there is one, made where there is none.

The wallet signature comes from the ``SigningGuard``, so the login needs the lease like every other
signature. The credentials are returned and kept nowhere; errors quote no secret.
"""

from __future__ import annotations

import msgspec

from fleet.clock import NS_PER_SECOND, Clock, LiveClock
from fleet.venues.polymarket.auth import ApiCredentials
from fleet.venues.polymarket.guard import SigningGuard
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.port import RequestRefused
from fleet.venues.transport import HttpSettings, JsonClient


class _ApiKey(msgspec.Struct):
    apiKey: str  # noqa: N815 - the wire's name
    secret: str
    passphrase: str


async def log_in(
    hosts: Hosts,
    guard: SigningGuard,
    *,
    skew_ns: int = 0,
    http: HttpSettings | None = None,
    clock: Clock | None = None,
) -> ApiCredentials:
    """The credentials of the guard's wallet. Raises ``VenueError`` or ``GuardRefused``.

    ``skew_ns`` is how far the venue's clock is ahead: the signature carries the venue's time.
    """
    time = clock or LiveClock()
    client = JsonClient(hosts.clob_url, http, clock=time)

    def headers() -> dict[str, str]:
        return guard.login_headers((time.now_ns() + skew_ns) // NS_PER_SECOND)

    try:
        try:
            found = await client.get("/auth/derive-api-key", _ApiKey, headers=headers())
        except RequestRefused as refused:
            if refused.status not in {400, 404}:
                raise
            found = await client.post("/auth/api-key", _ApiKey, b"", headers())
    finally:
        await client.close()
    return ApiCredentials(
        address=guard.address, api_key=found.apiKey, secret=found.secret,
        passphrase=found.passphrase,
    )  # fmt: skip
