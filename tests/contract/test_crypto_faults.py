"""What our Binance venue concludes when the local server misbehaves, commissions included."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

import pytest
from msgspec import structs

from fleet.clock import LiveClock
from fleet.domain import events as ev
from fleet.domain.commands import (
    Approved,
    BundleId,
    ClientOrderId,
    Purpose,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price, Qty, parse_cash
from fleet.sandbox.binance.ledger import Trader
from fleet.sandbox.binance.server import KEY, SECRET, UID, BinanceServer, BinanceSettings
from fleet.sandbox.binance.symbols import DEFAULT_SYMBOLS
from fleet.venues.account import AccountQuery
from fleet.venues.crypto.catalog import load_catalog
from fleet.venues.crypto.client import BinanceClient
from fleet.venues.crypto.credentials import ApiCredentials
from fleet.venues.crypto.execution import CryptoVenue, VenueSettings
from fleet.venues.crypto.hosts import sandbox_hosts
from fleet.venues.crypto.orders import ABSENT, wire_id
from fleet.venues.crypto.wire import OrderRow
from fleet.venues.port import AnswerInvalid
from tests.contract.crypto_bench import SYMBOL, CryptoBench
from tests.contract.execution_clauses import laws

BUY, SELL, GTC = Side.BUY, Side.SELL, TimeInForce.GTC
ASK, BID = Price(51 * SCALE // 100), Price(49 * SCALE // 100)
SIX = Qty(6 * SCALE)
NOTHING = AccountQuery(
    open_orders=frozenset(), known_trades=frozenset(), unsettled_trades=frozenset(),
    pending_operations=frozenset(),
)  # fmt: skip
Story = Callable[[CryptoBench], Awaitable[None]]


def play(
    story: Story, *, rate: str = "0", answer_s: float = 0.4, window_ms: int = 300,
    owners_coins: str = "0",
) -> None:  # fmt: skip
    """One story on a bench of its own; afterwards the laws hold."""

    async def run() -> None:
        bench = CryptoBench()
        bench.rate, bench.answer_s, bench.recv_window_ms = rate, answer_s, window_ms
        bench.owners_coins = owners_coins
        try:
            async with asyncio.timeout(60):
                await bench.open()
                await story(bench)
                laws(bench)
        finally:
            await bench.close()
        assert not bench.failures

    asyncio.run(run())


def posts(bench: CryptoBench) -> int:
    return bench.server.rest.requests["POST order"]


@pytest.mark.parametrize("fault", ["lost-answer", "error-after"])
def test_an_order_whose_answer_is_lost_is_found_and_never_sent_again(fault: str) -> None:
    async def story(bench: CryptoBench) -> None:
        bench.fault(fault, where="order", method="POST", times=1)
        order = bench.submit(BUY, ASK, SIX)
        await bench.ended(order)
        assert bench.kinds(order) == ["SubmitUnknown", "OrderAccepted", "OrderFilled"]
        assert posts(bench) == 1
        await bench.agree()
        assert bench.held() == {bench.yes: SIX}

    play(story)


@pytest.mark.parametrize("fault", ["lost-request", "error-before"])
def test_an_order_that_never_arrived_is_rejected_only_when_it_is_too_old_to_arrive(
    fault: str,
) -> None:
    async def story(bench: CryptoBench) -> None:
        bench.fault(fault, where="order", method="POST", times=1)
        order = bench.submit(BUY, ASK, SIX)
        await bench.until(lambda: bool(bench.kinds(order)), "its fate is unknown")
        assert bench.kinds(order) == ["SubmitUnknown"]
        assert order in bench.state.orders.open
        unknown = next(f for f in bench.told if isinstance(f, ev.SubmitUnknown))
        await bench.ended(order)
        rejected = next(f for f in bench.told if isinstance(f, ev.OrderRejected))
        assert rejected.reason == ABSENT
        # The window, its margin, and two looks a second apart.
        assert rejected.ts_event - unknown.ts_event > (300 + 1_000 + 1_000) * 1_000_000
        assert posts(bench) == 1
        await bench.agree()

    play(story)


def test_a_crash_before_the_answer_is_settled_by_the_next_life() -> None:
    async def story(bench: CryptoBench) -> None:
        bench.fault("lost-answer", where="order", method="POST", times=1)
        order = bench.submit(BUY, ASK, SIX)
        await bench.until(lambda: posts(bench) == 1, "it should arrive")
        await bench.crash()
        assert await bench.reconcile() == ""
        await bench.agree()
        assert posts(bench) == 1
        assert bench.held() == {bench.yes: SIX}
        found = bench.state.orders.get(order)
        assert found is not None
        assert found.status.value == "FILLED"

    play(story, answer_s=5.0)


def test_a_wrong_clock_is_measured_again_and_the_order_goes_out_once() -> None:
    async def story(bench: CryptoBench) -> None:
        bench.server.rest.clock_shift_ms = 90_000
        order = bench.submit(BUY, ASK, SIX)
        await bench.ended(order)
        assert bench.kinds(order) == ["OrderAccepted", "OrderFilled"]
        assert len(bench.server.ledger.orders) == 1
        assert abs(bench.venue._client.skew_ms - 90_000) < 5_000
        await bench.agree()

    play(story, window_ms=5_000, answer_s=5.0)


@pytest.mark.parametrize("fault", ["rate-limit", "ban"])
def test_a_refusal_for_asking_too_much_is_a_proof_and_then_there_is_silence(fault: str) -> None:
    async def story(bench: CryptoBench) -> None:
        struck = bench.fault(fault, where="order", method="POST", times=1)
        order = bench.submit(BUY, ASK, SIX)
        await bench.ended(order)
        assert bench.kinds(order) == ["OrderRejected"]
        before = sum(bench.server.rest.requests.values())
        again = bench.submit(BUY, ASK, SIX)
        await bench.ended(again)
        (_, refused) = [f for f in bench.told if isinstance(f, ev.OrderRejected)]
        assert "not sent" in refused.reason
        assert sum(bench.server.rest.requests.values()) == before
        assert struck.struck == 1
        await bench.agree()

    play(story)


def test_a_cancel_whose_answer_is_lost_is_asked_for_again_until_the_order_is_over() -> None:
    async def story(bench: CryptoBench) -> None:
        order = bench.submit(BUY, bench.instrument.tick, "100", GTC)
        await bench.until(lambda: bool(bench.kinds(order)), "it should rest")
        bench.fault("lost-request", where="order", method="DELETE", times=1)
        bench.execution.cancel(order)
        await bench.ended(order)
        assert bench.kinds(order) == ["OrderAccepted", "OrderCanceled"]
        assert bench.server.rest.requests["DELETE order"] == 2
        await bench.agree()

    play(story)


def test_a_resting_order_is_filled_by_others_and_the_fill_is_found() -> None:
    async def story(bench: CryptoBench) -> None:
        order = bench.submit(BUY, BID, SIX, GTC)
        await bench.until(lambda: bool(bench.kinds(order)), "it should rest")
        market = bench.server.exchange.markets[SYMBOL]
        bench.server.exchange.cross(market, bid=BID - 2 * SCALE // 100, ask=BID)
        await bench.ended(order)
        (fill,) = bench.fills(order)
        assert (fill.maker, fill.price, fill.qty) == (True, BID, SIX)
        await bench.agree()

    play(story)


def test_a_commission_in_coins_leaves_cash_and_coins_exact() -> None:
    async def story(bench: CryptoBench) -> None:
        bought = bench.submit(BUY, ASK, SIX)
        await bench.ended(bought)
        (fill,) = bench.fills(bought)
        taken = SIX // 1_000
        assert fill.qty == SIX - taken
        assert fill.fee == taken * ASK // SCALE
        assert bench.kinds(bought) == ["OrderAccepted", "OrderFilled", "OrderCanceled"]
        end = next(f for f in bench.told if isinstance(f, ev.OrderCanceled))
        assert "0.006 TST were taken as commission" in end.reason
        await bench.agree()
        sold = bench.submit(SELL, BID, Qty(599 * SCALE // 100))
        await bench.ended(sold)
        (sale,) = bench.fills(sold)
        assert sale.fee == 599 * BID // 100 // 1_000
        await bench.agree()
        assert bench.held() == {bench.yes: Qty(SIX - taken - 599 * SCALE // 100)}
        # The same facts come of a journal that knows nothing but the account.
        await bench.crash()
        await bench.agree()

    play(story, rate="0.001")


def test_coins_of_the_owner_are_left_out_of_the_books_for_ever() -> None:
    async def story(bench: CryptoBench) -> None:
        assert not bench.held()
        name = f"holding-binance-{UID}-TST=1000"
        assert name in bench.state.portfolio.deposits()
        bench.submit(BUY, ASK, SIX)
        await bench.agree()
        await bench.crash()
        await bench.agree()
        assert bench.held() == {bench.yes: SIX}
        # What comes later from outside is a difference, and nobody may trade on it.
        bench.server.deposit("TST", "50")
        assert "journal 6, venue 56" in await bench.reconcile()

    play(story, owners_coins="1000")


def test_a_trade_of_our_symbol_by_somebody_else_is_refused() -> None:
    async def story(bench: CryptoBench) -> None:
        client = bench.client()
        await client.start()
        await client.place({
            "symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "IOC",
            "price": "0.51", "quantity": "6", "newClientOrderId": "by-hand",
        })  # fmt: skip
        await client.close()
        assert "does not know" in await bench.reconcile()

    play(story, window_ms=5_000, answer_s=5.0)


def test_an_account_that_pays_in_bnb_is_refused_with_the_cure() -> None:
    async def story(bench: CryptoBench) -> None:
        bench.server.ledger.traders[0].bnb_fees = 1
        with pytest.raises(AnswerInvalid, match='"Use BNB to pay fees" off'):
            await bench.crash()

    play(story, window_ms=5_000, answer_s=5.0)


def test_a_journal_is_not_continued_with_the_key_of_another_account() -> None:
    async def story(bench: CryptoBench) -> None:
        old = bench.server.ledger.traders[0]
        bench.server.ledger.open_account(Trader(UID, "A" * 64, SECRET))
        bench.server.ledger.open_account(Trader(2, old.key, SECRET))
        with pytest.raises(
            AnswerInvalid, match="is of account binance-1, the API key of binance-2"
        ):
            await bench.crash()

    play(story, window_ms=5_000, answer_s=5.0)


def test_no_secret_and_no_signature_is_in_anything_said(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story(bench: CryptoBench) -> None:
        caplog.set_level("DEBUG")
        for fault in ("error-after", "lost-answer", "clock"):
            bench.fault(fault, where="order", times=1)
            order = bench.submit(BUY, ASK, SIX)
            await bench.ended(order)
            bench.refill()
        assert {"SubmitUnknown"} <= {f.KIND for f in bench.told}
        out, err = capfd.readouterr()
        said = f"{bench.told} {caplog.text} {out} {err} {ApiCredentials(KEY, SECRET)!r}"
        for hidden in (KEY, SECRET, "signature="):
            assert hidden not in said

    play(story)


def test_a_wire_id_is_a_function_of_journal_and_order_and_fits_the_venue() -> None:
    one = wire_id("j", ClientOrderId("o1"))
    assert one == wire_id("j", ClientOrderId("o1"))
    assert len({one, wire_id("j", ClientOrderId("o2")), wire_id("k", ClientOrderId("o1"))}) == 3
    assert len(one) <= 36
    assert one.isalnum()


def test_bots_that_share_an_account_keep_books_of_their_parts() -> None:
    """Two journals, one symbol each, 4,000 and 3,000 of the account's 10,000 dollars."""

    async def run() -> None:
        symbols = DEFAULT_SYMBOLS[1:]
        server = BinanceServer(
            BinanceSettings(symbols=symbols, still=True, minutes=5, seconds=5), LiveClock()
        )
        hosts = sandbox_hosts(await server.start())
        venues = []
        try:
            for spec, text in zip(symbols, ("4000", "3000"), strict=True):
                price = spec.units("price")
                server.exchange.markets[spec.symbol].write([], [(price, 100 * SCALE)])
                client = BinanceClient(hosts, ApiCredentials(KEY, SECRET))
                catalog = await load_catalog(client, [spec.symbol])
                told: list[ev.Event] = []
                venue = CryptoVenue(
                    client=client, catalog=catalog, journal_id=spec.symbol,
                    journal=lambda facts: True, sink=told.extend, on_failure=pytest.fail,
                    adopted_ns=LiveClock().now_ns(),
                    settings=VenueSettings(allocation=parse_cash(text)),
                )  # fmt: skip
                venues.append((venue, catalog, told, parse_cash(text), price))
                await venue.start()
                opened = (await venue.account(NOTHING)).facts[0]
                assert isinstance(opened, ev.CashDeposited)
                assert opened.amount == parse_cash(text)
            for number, (venue, catalog, told, _, price) in enumerate(venues):
                (token,) = catalog.rules
                venue.submit(Approved(SubmitOrder(
                    client_order_id=ClientOrderId("o1"), bundle_id=BundleId("b"), leg=0,
                    purpose=Purpose.LEG, instrument_id=token, side=BUY, price=Price(price),
                    qty=Qty((number + 1) * SCALE), tif=TimeInForce.FAK, ts=1,
                )))  # fmt: skip
                for _ in range(1_000):
                    if told and isinstance(told[-1], ev.OrderCanceled):
                        break
                    await asyncio.sleep(0.01)
            for number, (venue, catalog, _, part, price) in enumerate(venues):
                truth = await venue.account(NOTHING)
                (token,) = catalog.rules
                assert truth.cash == part - (number + 1) * price
                assert truth.tokens == {token: (number + 1) * SCALE * 999 // 1_000}
        finally:
            for venue, *_ in venues:
                await venue.stop()
            await server.stop()

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("seed", [1, 2])
def test_books_and_venue_agree_after_any_mixture_of_faults_and_crashes(seed: int) -> None:
    rng = random.Random(seed)

    async def story(bench: CryptoBench) -> None:
        faults = ("lost-answer", "lost-request", "error-after", "error-before", "clock", "slow")
        for name in faults:
            bench.fault(name, where="order", rate=0.08)
        for number in range(24):
            bench.refill()
            side = BUY if rng.random() < 0.6 else SELL
            tif = GTC if rng.random() < 0.4 else TimeInForce.FAK
            price = Price(rng.randint(47, 53) * SCALE // 100)
            order = bench.submit(side, price, Qty(rng.randint(500, 900) * SCALE // 100), tif)
            await asyncio.sleep(rng.random() * 0.1)
            if rng.random() < 0.5:
                bench.execution.cancel(order)
            if number in {8, 16}:
                await bench.crash()
                await bench.until_reconciled()
        bench.server.faults.clear()
        for order in list(bench.state.orders.open):
            bench.execution.cancel(order)
        await bench.agree()
        sent = [o.client_order_id for o in bench.server.ledger.orders.values()]
        assert len(sent) == len(set(sent)), "an order was sent twice"
        assert len(sent) <= 24

    play(story, rate="0.001", answer_s=0.3)


def test_an_answer_nobody_can_read_leaves_the_order_in_flight_until_it_is_found() -> None:
    async def story(bench: CryptoBench) -> None:
        place = bench.venue._client.place

        async def garbled(order: Mapping[str, str]) -> OrderRow:
            row = await place(order)
            return structs.replace(row, executed_qty="a lot")

        bench.venue._client.place = garbled  # type: ignore[method-assign]
        order = bench.submit(BUY, ASK, SIX)
        await bench.ended(order)
        assert bench.filled(order) == SIX
        assert posts(bench) == 1
        await bench.agree()

    play(story)


def test_a_cancel_in_the_same_breath_cancels_and_never_loses_the_order() -> None:
    async def story(bench: CryptoBench) -> None:
        order = bench.submit(BUY, BID, SIX, GTC)
        bench.execution.cancel(order)
        await bench.ended(order)
        assert bench.kinds(order)[-1] == "OrderCanceled"
        assert "CancelRejected" not in bench.kinds(order)
        assert posts(bench) == 1

    play(story)
