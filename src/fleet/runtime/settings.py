"""The settings every bot shares: the fleet's limits, the venue's addresses, the paper venue.

What one idea needs is beside its bot in ``fleet.bots``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fleet.clock import NS_PER_SECOND
from fleet.config import (
    Secret,
    count,
    dollars,
    flag,
    milliseconds,
    one_of,
    path,
    positive_dollars,
    seconds,
    secret,
    setting,
    text,
    url,
)
from fleet.config import port as tcp_port
from fleet.domain.units import Cash
from fleet.runtime.live_settings import LiveEnv
from fleet.runtime.safety_settings import AlertEnv, SafetyEnv
from fleet.venues.paper import PaperSettings
from fleet.venues.polymarket.contracts import SignatureType
from fleet.venues.polymarket.keys import checksum_address

SANDBOX_PORT: Final = 8788
CONFIRM_NS: Final = 5 * NS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """What holds for all bots together."""

    max_day_loss: Cash = setting(
        "FLEET_MAX_DAY_LOSS_USD",
        positive_dollars,
        "100",
        "the loss of one UTC day, in dollars over all bots of a mode, that sets the kill latch",
    )
    tape: bool = setting(
        "FLEET_TAPE", flag, "false", "whether raw market frames are kept in var/tape"
    )
    disk_free_min_mb: int = setting(
        "FLEET_DISK_FREE_MIN_MB", count, "200", "the free disk space in megabytes a bot needs"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperEnv:
    """How the paper venue behaves."""

    cash: Cash = setting(
        "PAPER_CASH_USD", dollars, "5000", "the dollars a new paper account starts with"
    )
    latency_ns: int = setting(
        "PAPER_LATENCY_MS", milliseconds, "60", "how long an order travels, in milliseconds"
    )
    answer_ns: int = setting(
        "PAPER_ANSWER_MS", milliseconds, "40", "how long an answer travels, in milliseconds"
    )
    mined_ns: int = setting(
        "PAPER_MINED_MS",
        milliseconds,
        "3000",
        "how long a fill takes to be mined, in milliseconds; its tokens are not free before",
    )
    operation_ns: int = setting(
        "PAPER_OPERATION_MS",
        milliseconds,
        "4000",
        "how long a merge, split or conversion takes, in milliseconds",
    )


def paper_settings(env: PaperEnv) -> PaperSettings:
    """The paper venue's settings; from mined to confirmed it takes a few blocks, 5 s."""
    return PaperSettings(
        latency_ns=env.latency_ns,
        answer_ns=env.answer_ns,
        mined_ns=env.mined_ns,
        confirmed_ns=env.mined_ns + CONFIRM_NS,
        operation_ns=env.operation_ns,
        cash=env.cash,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolymarketEnv:
    """Where Polymarket is, and how much of it is watched."""

    gamma_url: str = setting(
        "POLYMARKET_GAMMA_URL",
        url("https", "http"),
        "https://gamma-api.polymarket.com",
        "the address of the Gamma API",
    )
    clob_url: str = setting(
        "POLYMARKET_CLOB_URL",
        url("https", "http"),
        "https://clob.polymarket.com",
        "the address of the CLOB API",
    )
    geoblock_url: str = setting(
        "POLYMARKET_GEOBLOCK_URL",
        url("https", "http"),
        "https://polymarket.com/api/geoblock",
        "the address that says whether trading is allowed from this machine's place",
    )
    ws_url: str = setting(
        "POLYMARKET_WS_URL",
        url("wss", "ws"),
        "wss://ws-subscriptions-clob.polymarket.com/ws/market",
        "the address of the market websocket",
    )
    user_ws_url: str = setting(
        "POLYMARKET_USER_WS_URL",
        url("wss", "ws"),
        "wss://ws-subscriptions-clob.polymarket.com/ws/user",
        "the address of the user websocket, for the live path",
    )
    data_url: str = setting(
        "POLYMARKET_DATA_URL",
        url("https", "http"),
        "https://data-api.polymarket.com",
        "the address of the Data API, for the live path",
    )
    rpc_url: str = setting(
        "POLYMARKET_RPC_URL",
        url("https", "http"),
        "https://polygon.drpc.org",
        "the address of a Polygon node, for token operations of the live path; best your own",
    )
    markets_max: int = setting(
        "POLYMARKET_MAX_MARKETS", count, "300", "the number of markets that are watched at most"
    )
    data_age_max_ns: int = setting(
        "POLYMARKET_DATA_MAX_AGE_S",
        seconds,
        "30",
        "the silence in seconds after which a connection counts as frozen and is replaced",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxEnv:
    """The local market."""

    port: int = setting(
        "SANDBOX_PORT", tcp_port, str(SANDBOX_PORT), "the port of the sandbox on 127.0.0.1"
    )
    seed: int = setting("SANDBOX_SEED", count, "7", "the seed of the simulated markets")


WALLET_KINDS: Final = {
    "eoa": SignatureType.EOA,
    "proxy": SignatureType.POLY_PROXY,
    "safe": SignatureType.POLY_GNOSIS_SAFE,
    "deposit": SignatureType.POLY_1271,
}
"""The words of POLYMARKET_WALLET and the signature types of the wire they stand for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletEnv:
    """The trading wallet and its keys, for the live path. On paper they are never read."""

    private_key: Secret = setting(
        "POLYMARKET_PRIVATE_KEY",
        secret,
        Secret(""),
        "the key that signs orders, 64 hex digits; or name a file that holds it",
    )
    key_file: Path | None = setting(
        "POLYMARKET_KEY_FILE",
        path,
        None,
        "the file, mode 0600, whose first line is the key that signs orders",
    )
    wallet: str = setting(
        "POLYMARKET_WALLET",
        one_of(*WALLET_KINDS),
        "deposit",
        "the kind of wallet that holds the funds: eoa (the key itself), proxy (old e-mail account),"
        " safe (old browser account) or deposit (every account made since May 2026)",
    )
    funder: str | None = setting(
        "POLYMARKET_FUNDER",
        checksum_address,
        None,
        "the address of the wallet that holds the funds; for eoa it is the key's own",
    )
    api_key: str | None = setting(
        "POLYMARKET_API_KEY",
        text,
        None,
        "the id of the CLOB API key; none of the three is needed, the key derives them",
    )
    api_secret: Secret = setting(
        "POLYMARKET_API_SECRET", secret, Secret(""), "the secret of the CLOB API key"
    )
    api_passphrase: Secret = setting(
        "POLYMARKET_API_PASSPHRASE", secret, Secret(""), "the passphrase of the CLOB API key"
    )

    @property
    def signature_type(self) -> SignatureType:
        """The wire's integer for the kind of wallet."""
        return WALLET_KINDS[self.wallet]

    @staticmethod
    def check(values: Mapping[str, Any]) -> list[str]:
        """Two keys, or half an API key, are a mistake nobody should have to guess at."""
        problems = []
        if values["private_key"] and values["key_file"]:
            problems.append(
                "POLYMARKET_PRIVATE_KEY and POLYMARKET_KEY_FILE both name a key: keep one of them"
            )
        given = [bool(values[name]) for name in ("api_key", "api_secret", "api_passphrase")]
        if any(given) and not all(given):
            problems.append(
                "POLYMARKET_API_KEY, POLYMARKET_API_SECRET and POLYMARKET_API_PASSPHRASE go"
                " together: give all three, or none and they are derived"
            )
        return problems


SHARED: Final[tuple[type, ...]] = (
    FleetSettings,
    SafetyEnv,
    AlertEnv,
    PaperEnv,
    PolymarketEnv,
    SandboxEnv,
    LiveEnv,
    WalletEnv,
)
"""All settings types that no single bot owns."""
