"""The Trader's own checks before it works: processor, memory, packages, network, keys, hours.

They come on top of ``preflight``'s. A check fails only if what was asked for cannot be done without
it; what is merely worth knowing (a closed market, no network where none is needed) says so and
passes. Nothing is changed, and no key is looked at, only whether there is one.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import psutil

from fleet.clock import NS_PER_SECOND
from fleet.runtime.preflight import Check
from fleet.runtime.trader_tokens import Token

MEMORY_MIN_MB: Final = 600
"""A training's arrays and its libraries, with room for the bot beside it."""
NETWORK_S: Final = 3.0
PACKAGES: Final = {
    "numpy": "numpy", "numba": "numba", "polars": "polars", "optuna": "optuna",
    "scikit-learn": "sklearn", "rich": "rich",
}  # fmt: skip
VENUE_PACKAGES: Final = {"BINANCE": ("ccxt", "ccxt"), "ALPACA": ("alpaca-py", "alpaca")}
HOSTS: Final = {
    "BINANCE": ("api.binance.com", 443),
    "ALPACA": ("paper-api.alpaca.markets", 443),
}
KEYS: Final = {
    ("BINANCE", "live"): ("BINANCE_LIVE_API_KEY", "BINANCE_LIVE_API_SECRET"),
    ("BINANCE", "testnet"): ("BINANCE_TESTNET_API_KEY", "BINANCE_TESTNET_API_SECRET"),
    ("ALPACA", "live"): ("ALPACA_API_KEY", "ALPACA_SECRET_KEY"),
    ("ALPACA", "testnet"): ("ALPACA_API_KEY", "ALPACA_SECRET_KEY"),
}
NEW_YORK: Final = "America/New_York"
SATURDAY: Final = 5
OPEN: Final = (9, 30)
CLOSE: Final = (16, 0)
"""Hour and minute of the regular session of US stocks (NYSE, hours and calendars, read 2026-11)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What was asked for needs: network, keys of which environment (empty: none)."""

    tokens: Sequence[Token]
    network: bool
    environment: str = ""


def extra_checks(needs: Needs, keys: Collection[str], now_ns: int) -> list[Check]:
    """All of them. ``keys`` are the names of the keys there are."""
    exchanges = sorted({token.exchange for token in needs.tokens})
    packages = dict(PACKAGES) | dict(VENUE_PACKAGES[name] for name in exchanges)
    checks = [_processor(), _memory(), _packages(packages)]
    for exchange in exchanges:
        checks.append(_network(exchange, HOSTS[exchange], needed=needs.network))
        if needs.environment:
            checks.append(_credentials(KEYS[exchange, needs.environment], keys))
    if "ALPACA" in exchanges:
        checks.append(_market_hours(now_ns))
    return checks


def _processor() -> Check:
    cores = os.cpu_count() or 1
    return Check("processor", f"{cores} cores, load {os.getloadavg()[0]:.1f}")


def _memory() -> Check:
    free_mb = psutil.virtual_memory().available // 1_000_000
    if free_mb < MEMORY_MIN_MB:
        return Check(
            "memory", f"{free_mb} MB free", f"end something: {MEMORY_MIN_MB} MB are needed"
        )
    return Check("memory", f"{free_mb} MB free")


def _packages(packages: Mapping[str, str]) -> Check:
    missing = [name for name, module in packages.items() if not _installed(module)]
    if missing:
        return Check("packages", f"{', '.join(missing)} missing", "run `make setup` again")
    return Check("packages", f"all {len(packages)} installed")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _network(exchange: str, host: tuple[str, int], *, needed: bool) -> Check:
    try:
        socket.create_connection(host, NETWORK_S).close()
    except OSError as error:
        found = f"{host[0]} cannot be reached: {error}"
        cure = "check the network, the firewall and the name server"
        return Check("network", found, cure) if needed else Check("network", f"warning: {found}")
    return Check("network", f"{exchange} answers")


def _credentials(names: Sequence[str], keys: Collection[str]) -> Check:
    missing = [name for name in names if name not in keys]
    if missing:
        return Check("credentials", f"{', '.join(missing)} not set", "set them in .env (mode 0600)")
    return Check("credentials", "set")


def _market_hours(now_ns: int) -> Check:
    opening = next_open(now_ns)
    if opening is None:
        return Check("market hours", "US stocks trade now, if this is no holiday")
    when = opening.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Check("market hours", f"warning: US stocks are closed until {when} (or a holiday's end)")


def next_open(now_ns: int) -> datetime | None:
    """The next opening of US stocks by the weekday alone; nothing while they are open."""
    now = datetime.fromtimestamp(now_ns / NS_PER_SECOND, ZoneInfo(NEW_YORK))
    clock = (now.hour, now.minute)
    if now.weekday() < SATURDAY and OPEN <= clock < CLOSE:
        return None
    day: date = now.date() if clock < OPEN else now.date() + timedelta(days=1)
    while day.weekday() >= SATURDAY:
        day += timedelta(days=1)
    return datetime.combine(day, time(*OPEN), ZoneInfo(NEW_YORK))
