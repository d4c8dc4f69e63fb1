"""The live venue on the real sandbox, over real sockets: orders, fills, money, to the last unit."""

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import OperationKind, TimeInForce
from fleet.domain.instruments import Side
from fleet.domain.units import Price, Qty
from fleet.runtime.recovery import query_of
from fleet.venues.polymarket.cancel_all import cancel_all
from fleet.venues.polymarket.client import Post
from fleet.venues.polymarket.login import log_in
from fleet.venues.polymarket.outcomes import Verdict
from tests.contract.live_bench import LiveBench, play

BUY, SELL, GTC = Side.BUY, Side.SELL, TimeInForce.GTC


def test_a_taking_buy_never_buys_more_than_asked_and_the_books_agree() -> None:
    async def story(bench: LiveBench) -> None:
        instrument = bench.liquid()[0]
        _, ask = bench.best(instrument.id)
        assert ask is not None
        # Far through the book: as FAK in dollars it would buy many more shares than 20.
        limit = Price(min(ask + 10 * instrument.tick, 99 * 10**6))
        order = bench.submit(instrument, BUY, limit, "20")
        await bench.ended(order)
        done = bench.state.orders.get(order)
        assert done is not None
        assert done.filled == Qty(20 * 10**8)
        assert await bench.reconcile() == ""  # Matched, hardly mined: the books already agree.
        await bench.quiet()
        assert await bench.reconcile() == ""
        bench.agree()
        sold = bench.submit(instrument, SELL, instrument.tick, "20")
        await bench.ended(sold)
        await bench.quiet()
        assert await bench.reconcile() == ""
        bench.agree()
        assert bench.kinds(order)[:2] == ["OrderAccepted", "OrderFilled"]

    play(story)


def test_orders_of_one_turn_are_one_batch_and_a_resting_one_can_be_cancelled() -> None:
    async def story(bench: LiveBench) -> None:
        a, b = bench.liquid()[:2]
        low = bench.submit(a, BUY, a.tick, "100", GTC)
        other = bench.submit(b, BUY, b.tick, "100", GTC)
        too_much = bench.submit(b, SELL, "0.90", "100", GTC)
        await bench.until(lambda: all(bench.kinds(order) for order in (low, other, too_much)))
        assert bench.kinds(low) == bench.kinds(other) == ["OrderAccepted"]
        assert bench.kinds(too_much) == ["OrderRejected"]
        assert await bench.reconcile() == ""  # What rests is still ours.
        bench.venue.cancel(low)
        bench.venue.cancel(other)
        await bench.ended(low, other)
        assert bench.kinds(low) == ["OrderAccepted", "OrderCanceled"]
        bench.agree()

    play(story)


def test_a_maker_is_filled_by_the_flow_and_pays_no_fee() -> None:
    async def story(bench: LiveBench) -> None:
        placed = []
        for instrument in bench.liquid()[:12]:
            bid, ask = bench.best(instrument.id)
            assert bid is not None and ask is not None
            inside = bid + instrument.tick if ask - bid > instrument.tick else bid
            placed.append(bench.submit(instrument, BUY, Price(inside), "5", GTC))
        await bench.until(lambda: any("OrderFilled" in bench.kinds(order) for order in placed),
                          "the flow should trade")  # fmt: skip
        fill = next(f for f in bench.told if isinstance(f, ev.OrderFilled))
        assert fill.maker
        assert fill.fee == 0
        for order in list(bench.state.orders.open):
            bench.venue.cancel(order)
        await bench.quiet()
        assert await bench.reconcile() == ""
        bench.agree()

    play(story, speed=20)


def test_a_failed_settlement_takes_the_fill_back() -> None:
    async def story(bench: LiveBench) -> None:
        instrument = bench.liquid()[0]
        bench.server.exchange.faults.fail_rate = 1.0
        _, ask = bench.best(instrument.id)
        assert ask is not None
        order = bench.submit(instrument, BUY, ask, "10")
        await bench.ended(order)
        await bench.quiet()
        assert await bench.reconcile() == ""
        bench.agree()
        assert bench.state.portfolio.cash == 1_000 * 10**8
        done = bench.state.orders.get(order)
        assert done is not None
        assert done.filled > 0

    play(story)


LOSSES = [
    {"name": "timeout_after_acceptance", "rate": 0.25, "seconds": 0.5},
    {"name": "lost_request", "rate": 0.1, "seconds": 0.1},
    {"name": "error_after", "rate": 0.1},
    {"name": "error_before", "rate": 0.05},
    {"name": "gateway_error", "rate": 0.1, "where": ["POST /clob/order", "DELETE /clob/*"]},
    {"name": "rate_limited", "rate": 0.05, "seconds": 0.3},
    {"name": "delayed_order", "rate": 0.2, "seconds": 0.4},
    {"name": "settlement_failed", "rate": 0.1},
    {"name": "settlement_retrying", "rate": 0.2},
    {"name": "drop", "rate": 0.05, "where": ["user"]},
    {"name": "duplicate", "rate": 0.2, "where": ["user"]},
    {"name": "reorder", "rate": 0.2, "where": ["user"], "seconds": 0.1},
    {"name": "freeze", "rate": 0.02, "where": ["user"], "seconds": 3},
]


@pytest.mark.parametrize("seed", [1, 2])
def test_with_every_fault_at_once_nothing_is_sent_twice_and_nothing_is_lost(seed: int) -> None:
    async def story(bench: LiveBench) -> None:
        for rule in LOSSES:
            await bench.control("faults", **rule)
        instruments = bench.liquid()[:15]
        for number in range(24):
            instrument = instruments[number % len(instruments)]
            held = bench.state.portfolio.position(instrument.id)
            bid, ask = bench.best(instrument.id)
            if bid is None or ask is None:
                continue
            if held.settled >= Qty(5 * 10**8) and not held.unsettled:
                bench.submit(instrument, SELL, bid, Qty(held.settled // 10**6 * 10**6))
            else:
                bench.submit(instrument, BUY, Price(ask + instrument.tick), "6")
            if number == 12:  # A crash: what was in flight is left to the next run.
                await bench.venue.stop()
                await bench.connect()
                assert await bench.reconcile() == ""
            await bench.until(lambda: len(bench.state.orders.open) < 4)
        await bench.quiet()
        await bench.until(lambda: not bench.server.exchange.orders(bench.owner))
        assert await bench.reconcile() == ""
        bench.agree()
        posted = [order.venue_order_id for order in bench.state.orders if order.venue_order_id]
        assert len(posted) == len(set(posted))
        assert bench.state.orders.anomaly == ""

    play(story, seed=seed)


def test_a_crash_between_any_two_facts_is_made_good_by_the_next_start() -> None:
    async def story(bench: LiveBench) -> None:
        a, b, c = bench.liquid()[:3]
        _, ask = bench.best(a.id)
        assert ask is not None
        resting = bench.submit(b, BUY, b.tick, "100", GTC)
        await bench.until(lambda: bool(bench.kinds(resting)))
        # Killed with one order taken and its answer lost, one resting, and one never signed.
        await bench.control("faults", name="timeout_after_acceptance", times=1, seconds=5)
        await bench.control("faults", name="freeze", where=["user"], seconds=60)
        lost = bench.submit(a, BUY, Price(ask + a.tick), "10")
        await bench.until(lambda: bool(bench.server.exchange.trades(bench.owner)))
        unsigned = bench.submit(c, BUY, c.tick, "100", GTC)
        bench.venue.close()
        await bench.venue.stop()
        told = len(bench.told)
        assert bench.kinds(lost) == []
        bench.server.faults.clear()
        await bench.connect()
        assert await bench.reconcile() == ""
        orders = bench.state.orders
        ended = orders.get(unsigned)
        assert ended is not None
        assert ended.status.value == "REJECTED"
        await bench.ended(lost)
        done = orders.get(lost)
        assert done is not None
        assert done.filled == Qty(10 * 10**8)
        still = orders.get(resting)
        assert still is not None
        assert still.status.value == "ACCEPTED"
        assert len(bench.told) >= told
        bench.venue.cancel(resting)
        await bench.quiet()
        bench.agree()

    play(story)


def test_cancel_all_works_with_the_engine_dead() -> None:
    async def story(bench: LiveBench) -> None:
        a, b = bench.liquid()[:2]
        orders = [bench.submit(one, BUY, one.tick, "100", GTC) for one in (a, b)]
        await bench.until(lambda: all(bench.kinds(order) for order in orders))
        await bench.venue.stop()
        report = await cancel_all(bench.hosts, bench.credentials, patience_s=10)
        assert report.clean
        assert len(report.canceled) == 2
        assert not bench.server.exchange.orders(bench.owner)
        await bench.connect()
        assert await bench.reconcile() == ""
        await bench.ended(*orders)

    play(story)


def test_a_dead_engine_s_orders_are_cancelled_by_the_venue() -> None:
    async def story(bench: LiveBench) -> None:
        a = bench.liquid()[0]
        order = bench.submit(a, BUY, a.tick, "100", GTC)
        await bench.until(lambda: bool(bench.kinds(order)))
        await bench.until(lambda: bench.venue._client.http.requests > 0)
        await bench.venue.stop()
        await bench.until(lambda: not bench.server.exchange.orders(bench.owner),
                          "the heartbeat ended, so must the orders")  # fmt: skip

    play(story)


def test_a_stranger_s_token_and_a_stranger_s_cash_are_differences() -> None:
    async def story(bench: LiveBench) -> None:
        await bench.control("deposit", wallet=bench.key.address, amount="5")
        assert "cash" in await bench.reconcile()

    play(story)


def test_the_login_is_the_wallets_own_and_the_same_again() -> None:
    async def story(bench: LiveBench) -> None:
        again = await log_in(bench.hosts, bench.guard)
        assert again.api_key == bench.credentials.api_key
        truth = await bench.venue.account(query_of(bench.state))
        assert truth.cash == 1_000 * 10**8
        assert truth.tokens == {}

    play(story)


def test_a_split_and_a_merge_go_through_the_chain_and_survive_a_crash() -> None:
    async def story(bench: LiveBench) -> None:
        market = next(m for m in bench.universe.markets.values() if not m.neg_risk)
        bench.operate(OperationKind.SPLIT, market, "50")
        await bench.until(lambda: "OperationConfirmed" in [f.KIND for f in bench.told])
        assert await bench.reconcile() == ""
        bench.agree()
        assert bench.state.portfolio.cash == 950 * 10**8
        merge = bench.operate(OperationKind.MERGE, market, "30")
        await bench.until(lambda: merge in bench.hashes)
        # Killed with the transaction signed and journalled, and its outcome not known.
        await bench.venue.stop()
        await bench.connect()
        await bench.until(lambda: not bench.state.bundles.pending)
        assert await bench.reconcile() == ""
        bench.agree()
        assert bench.state.portfolio.cash == 980 * 10**8
        too_much = bench.operate(OperationKind.MERGE, market, "30")
        await bench.until(lambda: not bench.state.bundles.pending)
        assert [f.operation_id for f in bench.told if isinstance(f, ev.OperationRejected)] == [
            too_much
        ]

    play(story)


def test_forty_orders_a_second_draw_no_rate_limit() -> None:
    async def story(bench: LiveBench) -> None:
        client = bench.venue._client
        token = bench.liquid()[0]
        posts = []
        for _ in range(160):
            order = bench.request(token, BUY, token.tick, "5", GTC)
            wire = bench.guard.sign_order(order, client.owner)
            posts.append(Post(wire.venue_order_id, wire.body, is_buy=True))
        began_ns = bench.clock.now_ns()
        outcomes = [(await client.begin([post]))[0] for post in posts]
        took_s = (bench.clock.now_ns() - began_ns) / 1e9
        assert not [o for o in outcomes if "HTTP 429" in o.reason]
        assert {o.verdict for o in outcomes} == {Verdict.ACCEPTED}
        # 56 at once and 40 a second from then on; slower only if this machine is.
        assert took_s >= (160 - 60) / 40
        report = await cancel_all(bench.hosts, bench.credentials, patience_s=10)
        assert report.clean
        assert len(report.canceled) == 160

    play(story)
