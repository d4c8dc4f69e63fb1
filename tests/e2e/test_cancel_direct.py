"""``fleet cancel-all --direct``: with no bot at all, everything that rests at the venue is gone."""

from pathlib import Path

import httpx
import pytest
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import OrderArgs

from tests.e2e.fleet_home import FleetHome

pytestmark = pytest.mark.slow

KEY = "0x" + "6e" * 32
WALLET = "0x" + "4f" * 20


def test_what_rests_is_cancelled_without_any_bot(tmp_path: Path) -> None:
    home = FleetHome(tmp_path, POLYMARKET_PRIVATE_KEY=KEY, POLYMARKET_FUNDER=WALLET)
    with home.sandbox():
        origin = f"http://127.0.0.1:{home.port}"
        client = ClobClient(f"{origin}/clob", 137, KEY, None, 3, WALLET)
        client.set_api_creds(client.create_or_derive_api_key())
        deposit = {
            "wallet": WALLET, "amount": "250", "owner": client.get_address(), "signature_type": 3,
        }  # fmt: skip
        assert httpx.post(f"{origin}/sandbox/deposit", json=deposit).status_code == 200
        for market in client.get_sampling_markets()["data"][:3]:
            token = market["tokens"][0]["token_id"]
            client.create_and_post_order(OrderArgs(token_id=token, price=0.02, size=10, side="BUY"))
        resting = len(client.get_open_orders())
        assert resting > 0
        done = home.fleet("cancel-all", "--direct", "--wait", "20")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"cancelled {resting} orders" in done.stdout
        assert "nothing is open any more" in done.stdout
        assert client.get_open_orders() == []
        assert KEY[2:] not in done.stdout + done.stderr
        again = home.fleet("cancel-all", "--direct")
        assert again.returncode == 0
        assert "cancelled 0 orders" in again.stdout


def test_a_venue_that_cannot_be_asked_is_not_told_as_empty(tmp_path: Path) -> None:
    home = FleetHome(tmp_path, POLYMARKET_PRIVATE_KEY=KEY, POLYMARKET_FUNDER=WALLET)
    lost = home.fleet("cancel-all", "--direct", "--wait", "2")
    assert lost.returncode == 1
    assert "NOT known" in lost.stderr
    assert "nothing is open" not in lost.stdout


def test_without_a_key_it_says_what_is_missing(tmp_path: Path) -> None:
    told = FleetHome(tmp_path).fleet("cancel-all", "--direct")
    assert told.returncode == 2
    assert "POLYMARKET_PRIVATE_KEY" in told.stderr
