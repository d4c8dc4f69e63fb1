"""Where EliteMimic hears the chain, in the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fleet.config import setting
from fleet.venues.polymarket.hosts import LOOPBACK

SANDBOX_RPC: Final = "/rpc"
"""Where the sandbox answers, by POST and by websocket."""


def websocket_urls(value: str) -> tuple[str, ...]:
    """Websocket addresses separated by commas, each once. Raises ``ValueError`` for another."""
    found = []
    for word in value.replace(",", " ").split():
        parts = urlsplit(word)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname:
            raise ValueError("one of them is no websocket address; write wss://host/path")
        if parts.scheme == "ws" and parts.hostname not in LOOPBACK:
            raise ValueError(
                f"{parts.hostname} would be sent your provider's key in the clear; use wss, or a"
                " node on 127.0.0.1"
            )
        found.append(word)
    return tuple(dict.fromkeys(found))


def blocks(value: str) -> int:
    """How many blocks: 1 to 100."""
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:4]) <= 100:
        raise ValueError("expected a whole number from 1 to 100")
    return int(value)


def seconds(value: str) -> int:
    """How many seconds: 4 to 300."""
    if not value.isascii() or not value.isdigit() or not 4 <= int(value[:4]) <= 300:
        raise ValueError("expected a whole number of seconds from 4 to 300")
    return int(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerEnv:
    """The chain as EliteMimic hears it."""

    urls: tuple[str, ...] = setting(
        "ELITE_RPC_WS_URLS",
        websocket_urls,
        "",
        "Polygon nodes by websocket, best first, separated by commas (wss://...); with two or more"
        " the bot fails over and compares them. Empty: the sandbox's own chain, on feed sandbox",
    )
    verify_blocks: int = setting(
        "ELITE_VERIFY_BLOCKS",
        blocks,
        "8",
        "after how many blocks what the node told is read again and compared (each time costs seven"
        " requests)",
    )
    head_age_s: int = setting(
        "ELITE_HEAD_AGE_S",
        seconds,
        "15",
        "seconds without a new block after which a node counts as stuck and is left",
    )


def listening_urls(env: ListenerEnv, feed: str, sandbox_port: int) -> tuple[str, ...]:
    """The addresses to use on a feed. Raises ``ValueError`` where one must be given."""
    if env.urls:
        return env.urls
    if feed == "sandbox":
        return (f"ws://127.0.0.1:{sandbox_port}{SANDBOX_RPC}",)
    raise ValueError(
        "ELITE_RPC_WS_URLS is empty: name at least one Polygon node's websocket address (wss://...)"
    )
