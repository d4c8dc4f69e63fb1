"""Alpaca's keys and limits as settings, and which address and key an environment means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleet.config import ConfigError, Secret, dollars, flag, one_of, port, secret, setting
from fleet.domain.units import Cash

if TYPE_CHECKING:
    from fleet.venues.stocks.credentials import StockCredentials
    from fleet.venues.stocks.hosts import StockHosts

LIVE: Final = "live"
TESTNET: Final = "testnet"
SANDBOX: Final = "sandbox"
ENVIRONMENTS: Final = (LIVE, TESTNET, SANDBOX)


@dataclass(frozen=True, slots=True, kw_only=True)
class StocksEnv:
    """What trading at Alpaca needs; nothing of it for paper. The testnet is its paper account."""

    key: Secret = setting(
        "ALPACA_API_KEY",
        secret,
        "",
        "the API key of the Alpaca account: live's for LIVE, the paper account's for TESTNET",
    )
    secret: Secret = setting("ALPACA_SECRET_KEY", secret, "", "the secret of that key")
    feed: str = setting(
        "ALPACA_FEED",
        one_of("iex", "sip"),
        "iex",
        "whose bars and quotes: iex (one exchange, free) or sip (all of them, paid)",
    )
    extended_hours: bool = setting(
        "ALPACA_EXTENDED_HOURS",
        flag,
        "no",
        "whether to trade before and after the regular session too (04:00 to 20:00 in New York)",
    )
    allocation: Cash = setting(
        "ALPACA_ALLOCATION_USD",
        dollars,
        "0",
        "this bot's part of the account's cash when others share the account; 0 for all",
    )
    sandbox_port: int = setting(
        "ALPACA_SANDBOX_PORT", port, "8791", "the port of the local Alpaca on this machine"
    )


def credentials_of(env: StocksEnv, environment: str) -> StockCredentials:
    """The key pair of ``live``, ``testnet`` or ``sandbox``.

    Raises ``ConfigError``, naming the settings and never their values, if there is none.
    """
    from fleet.venues.stocks.credentials import CredentialsError, StockCredentials

    _known(environment)
    if environment == SANDBOX:
        # The play keys every local server is opened with; see docs/stocks.md.
        return StockCredentials("SANDBOXKEY", "sandbox-secret-of-no-value")
    names = "ALPACA_API_KEY and ALPACA_SECRET_KEY"
    if not env.key or not env.secret:
        raise ConfigError([f"{names} are not both set: put them into .env, or trade on paper"])
    try:
        return StockCredentials(env.key.reveal(), env.secret.reveal())
    except CredentialsError as error:
        raise ConfigError([f"{names}: {error}"]) from None


def hosts_of(env: StocksEnv, environment: str) -> StockHosts:
    """The addresses of ``live``, ``testnet`` or ``sandbox``. Raises ``ConfigError``."""
    from fleet.venues.stocks.hosts import StockHosts, live_hosts, sandbox_hosts

    _known(environment)
    if environment == LIVE:
        return live_hosts()
    return StockHosts() if environment == TESTNET else sandbox_hosts(env.sandbox_port)


def _known(environment: str) -> None:
    if environment not in ENVIRONMENTS:
        raise ConfigError([f"no environment {environment!r} of Alpaca: {', '.join(ENVIRONMENTS)}"])
