"""The smoke order through the real guard, client and sandbox, all in one loop."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.domain.units import SCALE, Cash
from fleet.runtime.findings import Finding, Result
from fleet.runtime.gate_store import GateStore, SmokeState
from fleet.runtime.smoke import Smoke, SmokeOrder, smoke_order
from fleet.runtime.smoke_venue import ClobSmoke
from fleet.runtime.venue_probe import VenueProbe
from fleet.sandbox.server import SandboxServer, SandboxSettings
from fleet.venues.polymarket.catalog import CatalogSettings, load_catalog
from fleet.venues.polymarket.client import ClobClient
from fleet.venues.polymarket.contracts import SignatureType
from fleet.venues.polymarket.guard import SigningGuard, SigningLimits
from fleet.venues.polymarket.hosts import sandbox_hosts
from fleet.venues.polymarket.keys import SecretKey
from fleet.venues.transport import JsonClient

WAIT_NS = 3 * NS_PER_SECOND
Play = Callable[[ClobSmoke, ClobClient, GateStore, SmokeOrder], Awaitable[Finding]]


async def on_the_sandbox(tmp_path: Path, play: Play, *, dollars: str) -> Finding:
    clock = LiveClock()
    key = SecretKey(b"\x05" * 32)
    server = SandboxServer(SandboxSettings(port=0), clock)
    hosts = sandbox_hosts(await server.start())
    client = None
    gamma, clob = JsonClient(hosts.gamma_url), JsonClient(hosts.clob_url)
    try:
        async with httpx.AsyncClient(trust_env=False) as operator:
            url = hosts.clob_url.replace("/clob", "/sandbox/deposit")
            await operator.post(url, json={"wallet": key.address, "amount": dollars})
        async with VenueProbe(hosts, clock) as probe:
            credentials = await probe.create_api_key(key)
        settings = CatalogSettings(markets_max=20)
        universe = (await load_catalog(gamma, clob, settings, now_ns=clock.now_ns())).universe
        guard = SigningGuard(
            key, instruments=universe.instruments, lease_alive=lambda: True,
            limits=SigningLimits(max_order_notional=Cash(25 * SCALE)),
            tick_of=lambda token: universe.instruments[token].tick,
            chain_id=hosts.chain_id, signature_type=SignatureType.EOA, funder=key.address,
        )  # fmt: skip
        client = ClobClient(hosts, credentials, clock=clock)
        await client.start()
        venue = ClobSmoke(client, guard, hosts, clock)
        order = smoke_order(await venue.quotes(universe.instruments.values()))
        assert order is not None
        with GateStore(tmp_path / "gate.db", bot="b", feed="sandbox") as store:
            return await play(venue, client, store, order)
    finally:
        if client is not None:
            await client.close()
        await gamma.close()
        await clob.close()
        await server.stop()


def test_a_smoke_order_lives_and_ends_at_the_exchange(tmp_path: Path) -> None:
    async def play(
        venue: ClobSmoke, client: ClobClient, store: GateStore, order: SmokeOrder
    ) -> Finding:
        finding = await Smoke(venue, store, LiveClock(), wait_ns=WAIT_NS).run(order)
        assert await client.open_orders() == []
        (record,) = store.smokes()
        assert record.state is SmokeState.ENDED and record.qty == order.qty
        return finding

    finding = asyncio.run(on_the_sandbox(tmp_path, play, dollars="100"))
    assert finding.result is Result.OK, finding


class Killed(BaseException):
    """The process died here."""


class KilledLooking(ClobSmoke):
    """Dies while it looks for the order it has just placed."""

    async def open_orders(self) -> NoReturn:
        raise Killed


def test_one_left_by_a_crash_is_ended_by_the_next_start(tmp_path: Path) -> None:
    async def play(
        venue: ClobSmoke, client: ClobClient, store: GateStore, order: SmokeOrder
    ) -> Finding:
        dying = KilledLooking(client, venue._guard, client.hosts, LiveClock())
        with pytest.raises(Killed):
            await Smoke(dying, store, LiveClock(), wait_ns=WAIT_NS).run(order)
        # The order rests, and only the file knows of it.
        (resting,) = await client.open_orders()
        assert store.smoke_ids() == {resting.order_id}
        finding = await Smoke(venue, store, LiveClock(), wait_ns=WAIT_NS).clear()
        assert await client.open_orders() == [] and store.smoke_open() == []
        return finding

    finding = asyncio.run(on_the_sandbox(tmp_path, play, dollars="100"))
    assert finding.result is Result.OK, finding


def test_an_empty_wallet_is_told_in_the_venues_words(tmp_path: Path) -> None:
    async def play(
        venue: ClobSmoke, _client: ClobClient, store: GateStore, order: SmokeOrder
    ) -> Finding:
        finding = await Smoke(venue, store, LiveClock(), wait_ns=WAIT_NS).run(order)
        assert [record.state for record in store.smokes()] == [SmokeState.REFUSED]
        return finding

    finding = asyncio.run(on_the_sandbox(tmp_path, play, dollars="0.001"))
    assert finding.result is Result.FAILED and "not enough balance" in finding.found
