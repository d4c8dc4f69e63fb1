"""Where an Alpaca is: real money, its paper account, or the local server. Addresses only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StockHosts:
    """The addresses of one Alpaca; the defaults are its paper account (Alpaca docs, 2026-11).

    ``trading_url`` and ``data_url`` end before ``/v2``. Raises ``ValueError`` for a plain-text
    address that is not on this machine: keys and orders never travel in the clear.
    """

    trading_url: str = "https://paper-api.alpaca.markets"
    data_url: str = "https://data.alpaca.markets"
    updates_url: str = "wss://paper-api.alpaca.markets/stream"
    name: str = "alpaca-paper"

    def __post_init__(self) -> None:
        """Refuse an address that is malformed or would carry secrets in the clear."""
        for url in (self.trading_url, self.data_url, self.updates_url):
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https", "ws", "wss"} or not parts.hostname:
                raise ValueError(f"{url!r} is no address; write https://host or wss://host/path")
            if parts.scheme in {"http", "ws"} and parts.hostname not in LOOPBACK:
                raise ValueError(
                    f"{url!r} would carry keys and orders in the clear; use https or wss, or the "
                    "local server on 127.0.0.1"
                )

    @property
    def local(self) -> bool:
        """Whether it is on this machine, where nothing is real money."""
        return urlsplit(self.trading_url).hostname in LOOPBACK


def live_hosts() -> StockHosts:
    """Real money."""
    return StockHosts(
        trading_url="https://api.alpaca.markets",
        updates_url="wss://api.alpaca.markets/stream",
        name="alpaca",
    )


def sandbox_hosts(port: int) -> StockHosts:
    """The local server on 127.0.0.1. Raises ``ValueError`` for a port out of range."""
    if not 0 < port <= 65_535:
        raise ValueError(f"port {port} is outside 1..65535")
    origin = f"127.0.0.1:{port}"
    return StockHosts(
        trading_url=f"http://{origin}",
        data_url=f"http://{origin}",
        updates_url=f"ws://{origin}/stream",
        name="alpaca-sandbox",
    )
