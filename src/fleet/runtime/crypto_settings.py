"""Binance's keys and limits as settings, and which address and key an environment means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fleet.config import ConfigError, Secret, count, dollars, port, secret, setting
from fleet.domain.units import Cash

if TYPE_CHECKING:
    from fleet.venues.crypto.credentials import ApiCredentials
    from fleet.venues.crypto.hosts import CryptoHosts

LIVE: Final = "live"
TESTNET: Final = "testnet"
SANDBOX: Final = "sandbox"
RECV_WINDOW_MS_MAX: Final = 60_000
"""Binance refuses more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoEnv:
    """What trading on Binance needs; nothing of it for paper."""

    live_key: Secret = setting(
        "BINANCE_LIVE_API_KEY", secret, "", "the HMAC API key of the account for live trading"
    )
    live_secret: Secret = setting("BINANCE_LIVE_API_SECRET", secret, "", "the secret of that key")
    testnet_key: Secret = setting(
        "BINANCE_TESTNET_API_KEY", secret, "", "the HMAC API key of the spot testnet"
    )
    testnet_secret: Secret = setting(
        "BINANCE_TESTNET_API_SECRET", secret, "", "the secret of that key"
    )
    allocation: Cash = setting(
        "BINANCE_ALLOCATION_USD",
        dollars,
        "0",
        "this bot's part of the account's quote currency when others share the account; 0 for all",
    )
    recv_window_ms: int = setting(
        "BINANCE_RECV_WINDOW_MS",
        count,
        "5000",
        "how many milliseconds old a request may be when it reaches the venue, at most 60000",
    )
    sandbox_port: int = setting(
        "BINANCE_SANDBOX_PORT", port, "8790", "the port of the local Binance on this machine"
    )

    @staticmethod
    def check(values: Mapping[str, Any]) -> Iterator[str]:
        """What the values must be together."""
        if not 0 < values["recv_window_ms"] <= RECV_WINDOW_MS_MAX:
            yield (
                f"BINANCE_RECV_WINDOW_MS={values['recv_window_ms']}: the venue takes 1 to "
                f"{RECV_WINDOW_MS_MAX}; write 5000"
            )


def credentials_of(env: CryptoEnv, environment: str) -> ApiCredentials:
    """The key pair of ``live``, ``testnet`` or ``sandbox``.

    Raises ``ConfigError``, naming the settings and never their values, if there is none.
    """
    from fleet.venues.crypto.credentials import ApiCredentials, CredentialsError

    if environment == SANDBOX:
        # The play keys every local server is opened with; see docs/crypto.md.
        return ApiCredentials("K" * 64, "S" * 64)
    pairs = {
        LIVE: (env.live_key, env.live_secret),
        TESTNET: (env.testnet_key, env.testnet_secret),
    }
    if environment not in pairs:
        raise ConfigError([f"no environment {environment!r} of Binance: live, testnet or sandbox"])
    names = f"BINANCE_{environment.upper()}_API_KEY and BINANCE_{environment.upper()}_API_SECRET"
    key, hidden = pairs[environment]
    if not key or not hidden:
        raise ConfigError([f"{names} are not both set: put them into .env, or trade on paper"])
    try:
        return ApiCredentials(key.reveal(), hidden.reveal())
    except CredentialsError as error:
        raise ConfigError([f"{names}: {error}"]) from None


def hosts_of(env: CryptoEnv, environment: str) -> CryptoHosts:
    """The addresses of ``live``, ``testnet`` or ``sandbox``. Raises ``ConfigError``."""
    from fleet.venues.crypto.hosts import CryptoHosts, sandbox_hosts, testnet_hosts

    if environment == LIVE:
        return CryptoHosts()
    if environment == TESTNET:
        return testnet_hosts()
    if environment == SANDBOX:
        return sandbox_hosts(env.sandbox_port)
    raise ConfigError([f"no environment {environment!r} of Binance: live, testnet or sandbox"])
