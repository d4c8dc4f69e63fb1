"""The Trader's checks before it works."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from fleet.runtime import trader_preflight
from fleet.runtime.trader_preflight import Needs, extra_checks, next_open
from fleet.runtime.trader_tokens import Token

ETH, AAPL = Token("BINANCE", "ETHUSDT"), Token("ALPACA", "AAPL")


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def opening(text: str) -> str:
    found = next_open(ns(text))
    return "" if found is None else found.astimezone(UTC).isoformat()[:16]


def test_us_stocks_open_on_weekdays_by_new_yorks_clock() -> None:
    assert opening("2026-07-15T13:29") == "2026-07-15T13:30"  # summer: New York is UTC-4
    assert opening("2026-07-15T13:30") == ""
    assert opening("2026-07-15T19:59") == ""
    assert opening("2026-07-15T20:00") == "2026-07-16T13:30"
    assert opening("2026-01-16T22:00") == "2026-01-19T14:30"  # Friday evening, winter
    assert opening("2026-01-18T12:00") == "2026-01-19T14:30"


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A host that answers; the venues' names are exchanged for it."""
    server = socket.create_server(("127.0.0.1", 0))
    host = server.getsockname()
    for name in ("BINANCE", "ALPACA"):
        monkeypatch.setitem(trader_preflight.HOSTS, name, host)
    yield host
    server.close()


def found(needs: Needs, *keys: str, now: str = "2026-07-15T15:00") -> dict[str, tuple[bool, str]]:
    checks = extra_checks(needs, keys, ns(now))
    return {check.name: (check.ok, f"{check.found} {check.problem}") for check in checks}


def test_everything_is_there(door: tuple[str, int]) -> None:
    needs = Needs(tokens=(ETH, AAPL), network=True, environment="live")
    keys = [name for pair in ("BINANCE", "ALPACA") for name in trader_preflight.KEYS[pair, "live"]]
    checks = found(needs, *keys)
    assert all(ok for ok, _ in checks.values())
    assert {"processor", "memory", "packages", "network", "credentials"} <= checks.keys()
    assert "trade now" in checks["market hours"][1]


def test_a_closed_market_is_a_warning_with_the_next_opening(door: tuple[str, int]) -> None:
    ok, text = found(Needs(tokens=(AAPL,), network=True), now="2026-07-18T15:00")["market hours"]
    assert ok
    assert "closed until 2026-07-20 13:30 UTC" in text


def test_no_network_matters_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()
    monkeypatch.setitem(trader_preflight.HOSTS, "BINANCE", nobody)
    ok, text = found(Needs(tokens=(ETH,), network=False))["network"]
    assert ok
    assert text.startswith("warning: ")
    ok, text = found(Needs(tokens=(ETH,), network=True))["network"]
    assert not ok
    assert "check the network" in text


def test_missing_keys_are_named_and_never_shown(door: tuple[str, int]) -> None:
    needs = Needs(tokens=(ETH,), network=True, environment="testnet")
    ok, text = found(needs, "BINANCE_TESTNET_API_KEY")["credentials"]
    assert not ok
    assert text.startswith("BINANCE_TESTNET_API_SECRET not set")
    assert "credentials" not in found(Needs(tokens=(ETH,), network=True))


def test_a_missing_package_names_the_cure(
    door: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trader_preflight.VENUE_PACKAGES, "BINANCE", ("gone", "no_such_module"))
    ok, text = found(Needs(tokens=(ETH,), network=True))["packages"]
    assert not ok
    assert text == "gone missing run `make setup` again"


def test_too_little_memory_is_a_failure(
    door: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trader_preflight, "MEMORY_MIN_MB", 10**9)
    assert not found(Needs(tokens=(ETH,), network=True))["memory"][0]
