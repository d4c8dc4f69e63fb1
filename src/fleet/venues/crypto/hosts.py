"""Where a Binance is: the venue itself, its testnet, or the local server. Addresses only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoHosts:
    """The addresses of one Binance; the defaults are the venue's own (its API docs, 2026-11).

    ``wallet_api`` says whether it has ``/sapi`` (the testnet has not). Raises ``ValueError`` for a
    plain-text address that is not on this machine: keys and orders never travel in the clear.
    """

    rest_url: str = "https://api.binance.com"
    ws_url: str = "wss://stream.binance.com:9443"
    wallet_api: bool = True
    name: str = "binance"

    def __post_init__(self) -> None:
        """Refuse an address that is malformed or would carry secrets in the clear."""
        for url in (self.rest_url, self.ws_url):
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https", "ws", "wss"} or not parts.hostname:
                raise ValueError(f"{url!r} is no address; write https://host or wss://host")
            if parts.path or parts.query:
                raise ValueError(f"{url!r} must end after the host and port")
            if parts.scheme in {"http", "ws"} and parts.hostname not in LOOPBACK:
                raise ValueError(
                    f"{url!r} would carry keys and orders in the clear; use https or wss, or the "
                    "local server on 127.0.0.1"
                )

    @property
    def local(self) -> bool:
        """Whether it is on this machine, where nothing is real money."""
        return urlsplit(self.rest_url).hostname in LOOPBACK


def testnet_hosts() -> CryptoHosts:
    """Binance's spot testnet: play money, resets about once a month."""
    return CryptoHosts(
        rest_url="https://testnet.binance.vision",
        ws_url="wss://stream.testnet.binance.vision",
        wallet_api=False,
        name="binance-testnet",
    )


def sandbox_hosts(port: int) -> CryptoHosts:
    """The local server on 127.0.0.1. Raises ``ValueError`` for a port out of range."""
    if not 0 < port <= 65_535:
        raise ValueError(f"port {port} is outside 1..65535")
    origin = f"127.0.0.1:{port}"
    return CryptoHosts(rest_url=f"http://{origin}", ws_url=f"ws://{origin}", name="binance-sandbox")
