"""Questions to a venue before any order: its time, its version, and what it knows of our account.

Reads only, but for ``create_api_key``, which an operator asks for by name. Every answer is typed;
one that has another shape raises ``AnswerInvalid`` and is never read as "no". The methods raise
``VenueError`` and its kinds; credentials are handed out, never logged.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from fleet.clock import NS_PER_SECOND, Clock
from fleet.venues.polymarket.auth import ApiCredentials, l1_headers, l2_headers
from fleet.venues.polymarket.contracts import SignatureType
from fleet.venues.polymarket.hosts import Hosts
from fleet.venues.polymarket.keys import SecretKey, SigningError
from fleet.venues.port import AnswerInvalid, TransportFailed
from fleet.venues.transport import HttpSettings, JsonClient

T = TypeVar("T")
HTTP: Final = HttpSettings(timeout_s=5.0, attempts=2, per_second=10, burst=10)
"""Far below every documented limit (API keys 100 per 10 s, balances 200): read 2026-11."""
CONNECT_S: Final = 5.0
DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class Geoblock(msgspec.Struct, frozen=True):
    """Whether trading is allowed from where we are. The address itself is not kept."""

    blocked: bool
    country: str = ""
    region: str | int | None = ""


class VersionAnswer(msgspec.Struct, frozen=True):
    """``GET /version``."""

    version: int


class ApiKeyAnswer(msgspec.Struct, frozen=True):
    """A derived or created API key as it stands on the wire."""

    apiKey: str  # noqa: N815 - the wire's name
    secret: str
    passphrase: str

    def __repr__(self) -> str:
        return f"ApiKeyAnswer({self.apiKey})"


class ApiKeysAnswer(msgspec.Struct, frozen=True):
    """``GET /auth/api-keys``."""

    apiKeys: list[str]  # noqa: N815 - the wire's name


class ClosedOnly(msgspec.Struct, frozen=True):
    """``GET /auth/ban-status/closed-only``."""

    closed_only: bool


class BalanceAllowance(msgspec.Struct, frozen=True):
    """``GET /balance-allowance``: base units (1e-6) as text, and what each spender may take."""

    balance: str
    allowances: dict[str, str] = msgspec.field(default_factory=dict)

    def amount(self) -> int:
        """The balance in base units. Raises ``AnswerInvalid``."""
        return _base_units(self.balance)

    def allowed(self) -> dict[str, int]:
        """Spender in lower case -> base units. Raises ``AnswerInvalid``."""
        return {who.lower(): _base_units(amount) for who, amount in self.allowances.items()}


class VenueProbe:
    """One venue, asked a few things."""

    def __init__(self, hosts: Hosts, clock: Clock, http: HttpSettings = HTTP) -> None:
        """Ask at ``hosts``; nothing is opened before the first question."""
        self.hosts = hosts
        self.clock = clock
        self._clob = JsonClient(hosts.clob_url, http, clock=clock)
        self._http = http

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._clob.close()

    async def clock_offset(self) -> tuple[int, int]:
        """The least and the most the venue's clock can be ahead of ours, in nanoseconds.

        The venue tells whole seconds and the answer takes its time, so the truth is an interval:
        the venue's clock was in [s, s + 1) at some moment between our asking and its answer.
        """
        asked_ns = self.clock.now_ns()
        second = await self._clob.get("/time", int)
        told_ns = self.clock.now_ns()
        return (second * NS_PER_SECOND - told_ns, (second + 1) * NS_PER_SECOND - asked_ns)

    async def version(self) -> int:
        """The version of the CLOB's protocol."""
        return (await self._clob.get("/version", VersionAnswer)).version

    async def geoblock(self) -> Geoblock:
        """Whether trading is allowed from here; there must be an address to ask."""
        url = urlsplit(self.hosts.geoblock_url)
        client = JsonClient(f"{url.scheme}://{url.netloc}", self._http, clock=self.clock)
        try:
            return await client.get(url.path, Geoblock)
        finally:
            await client.close()

    async def derive_api_key(self, key: SecretKey) -> ApiCredentials:
        """The wallet's API key, proven with a wallet signature; made before by somebody."""
        answer = await self._clob.get(
            "/auth/derive-api-key", ApiKeyAnswer, headers=self._login(key)
        )
        return _credentials(key, answer)

    async def create_api_key(self, key: SecretKey) -> ApiCredentials:
        """Make the wallet's API key. The venue refuses (400) when there is one already."""
        answer = await self._clob.post("/auth/api-key", ApiKeyAnswer, b"", self._login(key))
        return _credentials(key, answer)

    def _login(self, key: SecretKey) -> dict[str, str]:
        now_s = self.clock.now_ns() // NS_PER_SECOND
        return l1_headers(key, chain_id=self.hosts.chain_id, timestamp_s=now_s)

    async def api_keys(self, credentials: ApiCredentials) -> list[str]:
        """The ids of the wallet's API keys, asked for with one of them."""
        return (await self._signed(credentials, "/auth/api-keys", ApiKeysAnswer)).apiKeys

    async def closed_only(self, credentials: ApiCredentials) -> bool:
        """Whether the account may only close positions."""
        path = "/auth/ban-status/closed-only"
        return (await self._signed(credentials, path, ClosedOnly)).closed_only

    async def collateral(
        self, credentials: ApiCredentials, kind: SignatureType
    ) -> BalanceAllowance:
        """The wallet's pUSD and who may take it, as the venue has it in its cache."""
        params = {"asset_type": "COLLATERAL", "signature_type": str(int(kind))}
        return await self._signed(credentials, "/balance-allowance", BalanceAllowance, params)

    async def _signed(
        self,
        credentials: ApiCredentials,
        path: str,
        shape: type[T],
        params: Mapping[str, str] | None = None,
    ) -> T:
        now_s = self.clock.now_ns() // NS_PER_SECOND
        headers = l2_headers(credentials, now_s, "GET", path)
        return await self._clob.get(path, shape, params, headers)


async def reach(url: str, timeout_s: float = CONNECT_S) -> None:
    """Connect to the host of ``url`` and, where it is encrypted, shake hands; then hang up.

    Raises ``TransportFailed`` with the reason.
    """
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    secure = ssl.create_default_context() if parts.scheme in {"https", "wss"} else None
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure)
    except (OSError, TimeoutError) as error:
        reason = str(error) or f"no answer within {timeout_s:g} s"
        raise TransportFailed(f"{parts.hostname}:{port}: {reason}", sent=False) from error
    writer.transport.abort()


def _credentials(key: SecretKey, answer: ApiKeyAnswer) -> ApiCredentials:
    try:
        return ApiCredentials(
            address=key.address,
            api_key=answer.apiKey,
            secret=answer.secret,
            passphrase=answer.passphrase,
        )
    except SigningError as error:
        problem = str(error)
    raise AnswerInvalid(f"the venue's API key cannot be used: {problem}")


def _base_units(text: str) -> int:
    # Unlimited allowances are 2^256 - 1: 78 digits.
    if not (text.isascii() and text.isdecimal()) or len(text) > 80:
        raise AnswerInvalid(f"{text[:40]!r} is no amount in base units")
    return int(text)
