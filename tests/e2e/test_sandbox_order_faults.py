"""Faults of orders over real sockets: what the client hears, and what the exchange did all the same."""

import asyncio

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.domain.commands import TimeInForce
from fleet.domain.events import SettlementStatus
from fleet.domain.instruments import Side
from tests.contract.live_bench import LiveBench, play

BUY, GTC = Side.BUY, TimeInForce.GTC


@pytest.mark.parametrize(
    ("name", "acted"),
    [
        ("lost_request", False),
        ("timeout_after_acceptance", True),
        ("error_before", False),
        ("error_after", True),
        ("gateway_error", True),
        ("rate_limited", False),
        ("engine_restart", False),
    ],
)
def test_what_the_exchange_did_whatever_was_heard(name: str, acted: bool) -> None:
    async def story(bench: LiveBench) -> None:
        instrument = bench.liquid()[0]
        await bench.control("faults", name=name, times=1, seconds=0.2, then_seconds=0.0)
        order = bench.submit(instrument, BUY, instrument.tick, "10", GTC)
        await bench.until(lambda: bool(bench.server.faults.struck), "the fault strikes")
        await bench.until(lambda: bool(bench.kinds(order)), "something is known of the order")
        assert bench.kinds(order)[0] in {"SubmitUnknown", "OrderRejected", "OrderAccepted"}
        if acted:
            # Whatever was heard, the order is found and adopted under its own id.
            await bench.until(lambda: "OrderAccepted" in bench.kinds(order), "it is adopted")
        await asyncio.sleep(0.3)
        known = bench.state.orders.get(order)
        assert known is not None
        assert known.venue_order_id is not None or not acted
        assert len(bench.server.exchange.state.owners) == int(acted)
        assert set(bench.server.exchange.state.owners) <= {known.venue_order_id}

    play(story)


def test_a_delayed_order_matches_later() -> None:
    async def story(bench: LiveBench) -> None:
        await bench.control("faults", name="delayed_order", rate=1.0, seconds=0.6)
        await bench.until(lambda: bench.server.exchange.faults.delay_rate == 1.0, "the rate")
        instrument = bench.liquid()[0]
        _, ask = bench.best(instrument.id)
        assert ask is not None
        order = bench.submit(instrument, BUY, ask + 3 * instrument.tick, "10")  # type: ignore[arg-type]
        await bench.ended(order)
        await bench.quiet()
        (trade,) = bench.server.exchange.trades(bench.owner)
        submitted = bench.state.orders.get(order)
        assert submitted is not None
        assert trade.matched_ns - submitted.submitted_ns >= int(0.6 * NS_PER_SECOND)
        assert await bench.reconcile() == ""
        bench.agree()

    play(story)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("settlement_failed", SettlementStatus.FAILED),
        ("settlement_retrying", SettlementStatus.CONFIRMED),
    ],
)
def test_a_settlement_fails_or_is_retried(name: str, last: SettlementStatus) -> None:
    async def story(bench: LiveBench) -> None:
        await bench.control("faults", name=name)
        faults = bench.server.exchange.faults
        await bench.until(lambda: faults.fail_rate + faults.retry_rate == 1.0, "the rate")
        instrument = bench.liquid()[0]
        _, ask = bench.best(instrument.id)
        assert ask is not None
        await bench.ended(bench.submit(instrument, BUY, ask, "10"))
        await bench.quiet()
        (trade,) = bench.server.exchange.trades(bench.owner)
        assert trade.status is last
        bench.agree()
        async with asyncio.timeout(10):
            await bench.control("faults", name=name, rate=0.0)
            await bench.until(lambda: faults.fail_rate + faults.retry_rate == 0.0, "healed")

    play(story)
