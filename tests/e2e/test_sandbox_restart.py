"""The sandbox killed and started again: keys, wallets, orders and money are as they were."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import BalanceAllowanceParams, OrderArgs, OrderPayload

START_S_MAX = 60.0
KEY = "0x" + "5c" * 32
WALLET = "0x" + "3d" * 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def sandbox(root: Path, port: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable, "-m", "fleet.cli.main", "sandbox", "--port", str(port),
        "--root", str(root), "--mispricing-every", "0", "--speed", "0.01", *more,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "src"},
    )  # fmt: skip
    try:
        end = time.monotonic() + START_S_MAX
        while process.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{port}/sandbox", timeout=5)
                break
            except httpx.HTTPError:
                assert time.monotonic() < end, "the sandbox did not answer in time"
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def connected(port: int) -> ClobClient:
    client = ClobClient(f"http://127.0.0.1:{port}/clob", 137, KEY, None, 3, WALLET)
    client.set_api_creds(client.create_or_derive_api_key())
    return client


def test_a_killed_sandbox_goes_on_where_it_was(tmp_path: Path) -> None:
    port = free_port()
    with sandbox(tmp_path, port) as process:
        client = connected(port)
        creds = client.creds
        deposit = {
            "wallet": WALLET, "amount": "250", "owner": client.get_address(), "signature_type": 3,
        }  # fmt: skip
        given = httpx.post(f"http://127.0.0.1:{port}/sandbox/deposit", json=deposit)
        assert given.status_code == 200, given.text
        market = client.get_sampling_markets()["data"][0]
        token = market["tokens"][0]["token_id"]
        client.create_and_post_order(OrderArgs(token_id=token, price=0.02, size=10, side="BUY"))
        (order,) = client.get_open_orders()
        beat = client.post_heartbeat()["heartbeat_id"]
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    for name in ("sandbox.db", "sandbox-accounts.db", "sandbox-chain.db"):
        assert (tmp_path / "var" / name).is_file()
    assert (tmp_path / "var" / "sandbox-accounts.db").stat().st_mode & 0o077 == 0

    with sandbox(tmp_path, port) as process:
        client = connected(port)
        assert client.creds == creds
        assert client.get_open_orders() == [order]
        answer = client.get_balance_allowance(BalanceAllowanceParams(asset_type="COLLATERAL"))
        assert answer["balance"] == "250000000"
        assert all(int(amount) > 0 for amount in answer["allowances"].values())
        # The heartbeats that were promised are still expected; the id is told anew.
        with pytest.raises(Exception, match="Invalid Heartbeat ID"):
            client.post_heartbeat(beat)
        assert client.cancel_order(OrderPayload(orderID=order["id"]))["canceled"] == [order["id"]]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_file_of_another_seed_is_told_with_the_cure(tmp_path: Path) -> None:
    port = free_port()
    with sandbox(tmp_path, port, "--seed", "7") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    with sandbox(tmp_path, port, "--seed", "8") as process:
        _, told = process.communicate(timeout=20)
        assert process.returncode == 78
        assert "seed 7" in told
    with sandbox(tmp_path, port, "--seed", "8", "--state", "memory", "--geoblocked") as process:
        answer = httpx.get(f"http://127.0.0.1:{port}/site/api/geoblock").json()
        assert answer["blocked"] is True
