"""Reference prices over HTTP, from the sandbox's own ticker."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from fleet.clock import LiveClock, ManualClock
from fleet.domain.units import SCALE
from fleet.runtime import reference_prices
from fleet.runtime.reference_prices import FRESH_NS, ReferencePrices
from fleet.sandbox.references import References
from fleet.sandbox.simulator import MarketSimulator, SimulatorSettings
from fleet.venues.port import RequestRefused
from fleet.venues.transport import HttpSettings, JsonClient
from tests.builders import NS

START = 1_795_000_000 * NS


def app_of(simulator: MarketSimulator) -> web.Application:
    app = web.Application()
    References(simulator).add_to(app.router, "/reference")
    return app


async def until(what: object, seconds: float = 5.0) -> None:
    assert callable(what)
    for _ in range(int(seconds / 0.01)):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def test_prices_are_told_while_they_are_fresh() -> None:
    async def story() -> None:
        simulator = MarketSimulator(SimulatorSettings(), START)
        server = TestServer(app_of(simulator))
        await server.start_server()
        clock = ManualClock(START)
        prices = ReferencePrices(
            lambda: JsonClient(str(server.make_url("/reference")), HttpSettings(attempts=1)), clock
        )
        await prices.start()
        await until(prices.fresh)
        told = dict(prices.fresh())
        assert set(told) == set(reference_prices.SYMBOLS)
        assert 100_000 * SCALE < told["BTC"] < 125_000 * SCALE
        clock.advance_to(START + FRESH_NS + 1)
        assert prices.fresh() == (), "an old price is no price"
        assert prices.health().ok
        await prices.stop()
        await server.close()

    asyncio.run(story())


def test_a_server_that_is_away_leaves_prices_unknown_and_says_so() -> None:
    async def story() -> None:
        prices = ReferencePrices(
            lambda: JsonClient("http://127.0.0.1:9", HttpSettings(attempts=1, timeout_s=1)),
            LiveClock(),
        )
        await prices.start()
        await until(lambda: prices.health().detail)
        assert prices.fresh() == ()
        assert "cannot connect" in prices.health().detail
        await prices.stop()

    asyncio.run(story())


@pytest.mark.parametrize("symbols", ["[", '["NOSUCH"]'])
def test_the_ticker_refuses_what_it_does_not_know(symbols: str) -> None:
    async def story() -> None:
        simulator = MarketSimulator(SimulatorSettings(), START)
        server = TestServer(app_of(simulator))
        await server.start_server()
        client = JsonClient(str(server.make_url("/reference")), HttpSettings(attempts=1))
        try:
            with pytest.raises(RequestRefused) as refused:
                await client.get("/api/v3/ticker/price", list[object], {"symbols": symbols})
            assert refused.value.status >= 400
        finally:
            await client.close()
            await server.close()

    asyncio.run(story())
