"""Where a Polymarket is: the venue itself, or the sandbox on this machine. Addresses, nothing else.

The two differ here and nowhere else in the live path: what talks to them cannot tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fleet.venues.polymarket.contracts import POLYGON

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Every address of one venue; the defaults are Polymarket's own (reference 3, read 2026-11).

    REST addresses may end in a path (the sandbox's do) and never in a slash. ``geoblock_url`` is
    empty where there is nobody to ask. Raises ``ValueError`` for a plain-text address that is not
    on this machine: keys and orders never travel in the clear.
    """

    clob_url: str = "https://clob.polymarket.com"
    gamma_url: str = "https://gamma-api.polymarket.com"
    data_url: str = "https://data-api.polymarket.com"
    market_ws_url: str = "wss://ws-subscriptions-clob.polymarket.com/ws/market"
    user_ws_url: str = "wss://ws-subscriptions-clob.polymarket.com/ws/user"
    rpc_url: str = "https://polygon.drpc.org"
    relayer_url: str = "https://relayer-v2.polymarket.com"
    geoblock_url: str = "https://polymarket.com/api/geoblock"
    chain_id: int = POLYGON
    name: str = "polymarket"

    def __post_init__(self) -> None:
        """Refuse an address that is malformed or would carry secrets in the clear."""
        for url in (
            self.clob_url, self.gamma_url, self.data_url, self.market_ws_url, self.user_ws_url,
            self.rpc_url, self.relayer_url, self.geoblock_url,
        ):  # fmt: skip
            if url:
                _check(url)

    @property
    def local(self) -> bool:
        """Whether the CLOB is on this machine: the sandbox, where nothing is real money."""
        return urlsplit(self.clob_url).hostname in LOOPBACK


def sandbox_hosts(port: int) -> Hosts:
    """The sandbox's addresses on 127.0.0.1. Raises ``ValueError`` for a port out of range."""
    if not 0 < port <= 65_535:
        raise ValueError(f"port {port} is outside 1..65535")
    origin = f"127.0.0.1:{port}"
    return Hosts(
        clob_url=f"http://{origin}/clob",
        gamma_url=f"http://{origin}/gamma",
        data_url=f"http://{origin}/data-api",
        market_ws_url=f"ws://{origin}/ws/market",
        user_ws_url=f"ws://{origin}/ws/user",
        rpc_url=f"http://{origin}/rpc",
        relayer_url="",
        geoblock_url=f"http://{origin}/site/api/geoblock",
        name="sandbox",
    )


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https", "ws", "wss"} or not parts.hostname:
        raise ValueError(f"{url!r} is no address; write https://host or wss://host/path")
    if url.endswith("/"):
        raise ValueError(f"{url!r} ends in a slash; leave it out")
    if parts.scheme in {"http", "ws"} and parts.hostname not in LOOPBACK:
        raise ValueError(
            f"{url!r} would carry keys and orders in the clear; use https or wss, or a sandbox on "
            "127.0.0.1"
        )
