"""Orders a second that go to a CLOB with the Standard tier's rate limits, and how many draw a 429.

The sandbox runs in a process of its own and enforces the documented limits (reference 4.7: 40 orders
a second, 60 at once). The client sends one resting order after the other, as fast as its own budget
lets it, for SECONDS; then everything is cancelled.

Run by bench/run.py: ``sustained.py SECONDS DIRECTORY``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import uvloop
from timing import report

from fleet.clock import LiveClock
from fleet.domain.commands import BundleId, ClientOrderId, Purpose, SubmitOrder, TimeInForce
from fleet.domain.instruments import Side
from fleet.domain.units import parse_qty
from fleet.venues.polymarket.cancel_all import cancel_all
from fleet.venues.polymarket.catalog import CatalogSettings, load_catalog
from fleet.venues.polymarket.client import ClobClient, Post
from fleet.venues.polymarket.guard import SigningGuard
from fleet.venues.polymarket.hosts import sandbox_hosts
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.polymarket.login import log_in
from fleet.venues.polymarket.outcomes import Verdict
from fleet.venues.transport import HttpSettings, JsonClient

PORT = 8_797
HTTP = HttpSettings(timeout_s=5, attempts=3, per_second=1_000, burst=500)


async def measure(seconds: float) -> dict[str, float]:
    """Send for ``seconds`` and count."""
    hosts, clock = sandbox_hosts(PORT), LiveClock()
    gamma, clob = JsonClient(hosts.gamma_url, HTTP), JsonClient(hosts.clob_url, HTTP)
    catalog = await load_catalog(gamma, clob, CatalogSettings(), now_ns=clock.now_ns())
    await gamma.close()
    await clob.close()
    key = SecretKey(b"\x09" * 32)
    async with httpx.AsyncClient(trust_env=False) as plain:
        deposit = {"wallet": key.address, "amount": "1000000"}
        answer = await plain.post(f"http://127.0.0.1:{PORT}/sandbox/deposit", json=deposit)
        answer.raise_for_status()
    world = catalog.universe.instruments
    guard = SigningGuard(key, instruments=world, lease_alive=lambda: True)
    credentials = await log_in(hosts, guard, http=HTTP)
    client = ClobClient(hosts, credentials)
    await client.start()
    token = next(iter(world.values()))
    accepted = limited = other = 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        request = SubmitOrder(
            client_order_id=ClientOrderId(f"o{accepted + limited + other}"),
            bundle_id=BundleId("b"), leg=0, purpose=Purpose.LEG, instrument_id=token.id,
            side=Side.BUY, price=token.tick, qty=parse_qty("5"), tif=TimeInForce.GTC,
            ts=clock.now_ns(),
        )  # fmt: skip
        wire = guard.sign_order(request, client.owner)
        (outcome,) = await client.begin([Post(wire.venue_order_id, wire.body, is_buy=True)])
        if outcome.verdict is Verdict.ACCEPTED:
            accepted += 1
        elif "429" in outcome.reason:
            limited += 1
        else:
            other += 1
    cleared = await cancel_all(hosts, credentials, patience_s=60)
    await client.close()
    if not cleared.clean or other:
        sys.exit(f"{other} orders came to something else; cleared: {cleared.clean}")
    return {"orders_per_s": accepted / spent, "limited": limited, "accepted": accepted}


def main() -> None:
    """Start a sandbox, send, report as one JSON line."""
    seconds, folder = float(sys.argv[1]), Path(sys.argv[2])
    home = folder / "sustained"
    home.mkdir(mode=0o700, exist_ok=True)
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "fleet.cli.main", "sandbox", "--port", str(PORT), "--state",
         "memory", "--root", str(home)],
        env={**os.environ, "FLEET_HOME": str(home)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until_up()
        report(uvloop.run(measure(seconds)))
    finally:
        sandbox.terminate()
        sandbox.wait(timeout=20)


def wait_until_up() -> None:
    """Until the sandbox answers, half a minute at most."""
    for _ in range(300):
        try:
            httpx.get(f"http://127.0.0.1:{PORT}/clob/time", trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    sys.exit("the sandbox did not start")


if __name__ == "__main__":
    main()
