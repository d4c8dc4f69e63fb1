"""The Alpaca venue over the local server: what the clauses of every venue do not say."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.domain import events as ev
from fleet.domain.commands import TimeInForce
from fleet.domain.instruments import InstrumentError, Side
from fleet.domain.units import SCALE, Cash, Qty, parse_cash
from fleet.engine.state import State
from fleet.sandbox.alpaca.days import Calendar
from fleet.venues.port import AnswerInvalid, RequestRefused
from fleet.venues.stocks.catalog import load_universe
from fleet.venues.stocks.fees import RegulatoryFees
from tests.contract.execution_clauses import everything, laws
from tests.contract.stocks_bench import SYMBOL, StocksBench, whole

BUY, SELL, FAK, GTC = Side.BUY, Side.SELL, TimeInForce.FAK, TimeInForce.GTC
NYSE = Calendar(always=False)
MONDAY_OPEN = "2026-11-23T15:00:00+00:00"
Story = Callable[[Any], Awaitable[None]]


def at(moment: str) -> int:
    return int(dt.datetime.fromisoformat(moment).timestamp()) * NS_PER_SECOND


def told(bench: StocksBench, story: Story, *, failing: bool = False) -> None:
    async def tell() -> None:
        try:
            async with asyncio.timeout(60):
                await bench.open()
                await story(bench)
                laws(bench)
        finally:
            await bench.close()
        assert bool(bench.failures) is failing

    asyncio.run(tell())


def test_bought_and_sold_the_books_are_the_fold_of_the_facts() -> None:
    async def story(bench: StocksBench) -> None:
        bought = bench.submit(BUY, "0.51", "20")
        await bench.ended(bought)
        assert bench.filled(bought) == whole(12)
        assert bench.kinds(bought)[-1] == "OrderCanceled"
        sold = bench.submit(SELL, "0.49", "7")
        await bench.ended(sold)
        await bench.agree()
        assert bench.held() == {bench.yes: whole(5)}
        truth = await bench.execution.account(everything(bench))
        fresh = State(bench.universe)
        deposits = [f for f in bench.adopted if isinstance(f, ev.CashDeposited)]
        for fact in (*deposits, *bench.told):
            fresh.apply(fact)
        assert fresh.portfolio.cash == truth.cash
        assert truth.cash == parse_cash("97.31")

    told(StocksBench(), story)


@pytest.mark.parametrize("fault", ["lost-answer", "error-after"])
def test_an_order_whose_answer_is_lost_is_found_and_never_sent_again(fault: str) -> None:
    async def story(bench: StocksBench) -> None:
        bench.fault(fault, where="orders", method="POST", times=1)
        bench.fault("stream-drop")
        order = bench.submit(BUY, "0.51", "6")
        await bench.ended(order)
        assert bench.kinds(order)[:2] == ["SubmitUnknown", "OrderAccepted"]
        assert bench.filled(order) == whole(6)
        assert bench.posts() == 1
        await bench.agree()

    told(StocksBench(), story)


@pytest.mark.parametrize("fault", ["lost-request", "error-before", "rate-limit", "gateway"])
def test_an_order_that_never_arrived_is_given_up_only_when_it_is_proven(fault: str) -> None:
    async def story(bench: StocksBench) -> None:
        began_ns = bench.clock.now_ns()
        bench.fault(fault, where="orders", method="POST", times=1)
        order = bench.submit(BUY, "0.51", "6")
        await bench.ended(order)
        assert bench.kinds(order) == ["SubmitUnknown", "OrderRejected"]
        assert bench.clock.now_ns() - began_ns > 1.3 * NS_PER_SECOND, "two looks, a second apart"
        assert bench.posts() == 0
        await bench.agree()

    told(StocksBench(), story)


def test_a_stream_that_is_cut_or_mute_loses_no_fill() -> None:
    async def story(bench: StocksBench) -> None:
        rests = bench.submit(BUY, "0.50", "6", GTC)
        await bench.until(lambda: bool(bench.kinds(rests)), "it should be accepted")
        bench.fault("stream-drop", times=1)
        bench.fault("stream-cut", times=1)
        quote = bench.prices.quotes[SYMBOL]
        bench.prices.quotes[SYMBOL] = (quote[0], quote[1], 50 * SCALE // 100, 4 * SCALE)
        await bench.until(lambda: bench.filled(rests) == whole(4), "the first part should come")
        bench.refill()
        await bench.ended(rests)
        assert bench.filled(rests) == whole(6)
        assert [fill.qty for fill in bench.fills(rests)] == [whole(4), whole(2)]
        await bench.agree()

    told(StocksBench(), story)


def test_a_part_that_is_told_twice_is_one_part() -> None:
    async def story(bench: StocksBench) -> None:
        bench.fault("stream-duplicate")
        order = bench.submit(BUY, "0.51", "20", GTC)
        await bench.until(lambda: bench.filled(order) == whole(12), "the first part should come")
        bench.refill()
        await bench.ended(order)
        assert [fill.qty for fill in bench.fills(order)] == [whole(12), whole(8)]
        assert bench.kinds(order) == ["OrderAccepted", "OrderFilled", "OrderFilled"]
        await bench.agree()

    told(StocksBench(), story)


def test_under_every_fault_at_once_the_books_agree_in_the_end() -> None:
    async def story(bench: StocksBench) -> None:
        for name in ("lost-answer", "lost-request", "error-after", "error-before", "rate-limit"):
            bench.fault(name, rate=0.12, where="orders")
        for name in ("stream-duplicate", "stream-drop", "stream-cut"):
            bench.fault(name, rate=0.15)
        orders = []
        for turn in range(12):
            bench.refill()
            orders.append(bench.submit(BUY, "0.51", "2"))
            if turn % 3 == 2:
                orders.append(bench.submit(BUY, "0.10", "1", GTC))
                bench.execution.cancel(orders[-1])
            await asyncio.sleep(0.05)
        await bench.ended(*orders)
        bench.server.faults.clear()
        await bench.agree()
        assert len(
            {order["client_order_id"] for order in bench.server.exchange.orders.values()}
        ) == (len(bench.server.exchange.orders))
        assert bench.held()

    told(StocksBench(), story)


def test_fees_are_estimated_on_sales_and_end_as_what_was_charged() -> None:
    bench = StocksBench()
    bench.fees = RegulatoryFees(rate=2_000_000, taf=16_600)

    async def story(bench: StocksBench) -> None:
        await bench.ended(bench.submit(BUY, "0.51", "10"))
        assert sum(fill.fee for fill in bench.fills()) == 0
        await bench.ended(bench.submit(SELL, "0.49", "10"))
        estimate = bench.fees.fee(bench.fills()[-1].price, whole(10))
        assert sum(fill.fee for fill in bench.fills()) == estimate > 0
        await bench.agree()
        assert bench.state.portfolio.cash == parse_cash("99.8") - estimate
        tomorrow = dt.timedelta(days=1) / dt.timedelta(microseconds=1)
        bench.server.clock.offset_ns += int(tomorrow) * 1_000
        await bench.until(lambda: bench.server.exchange.cash < parse_cash("99.8"), "the charge")
        assert await bench.reconcile() == ""
        names = [f.deposit_id.split("-")[0] for f in bench.adopted
                 if isinstance(f, ev.CashDeposited)]  # fmt: skip
        assert names == ["opening", "holding", "activity", "fees"]
        assert bench.state.portfolio.cash == bench.server.exchange.cash
        await bench.crash()
        assert await bench.reconcile() == ""

    told(bench, story)


def test_money_from_outside_is_booked_and_money_unexplained_is_told() -> None:
    async def story(bench: StocksBench) -> None:
        exchange = bench.server.exchange
        exchange.pay(parse_cash("25"))
        exchange._activity(activity_type="CSD", net_amount="25", date="2026-11-21", symbol="")
        assert await bench.reconcile() == ""
        assert bench.state.portfolio.cash == parse_cash("125")
        exchange.pay(parse_cash("-3"))
        assert "cash" in await bench.reconcile()

    told(StocksBench(), story)


def test_shares_of_before_are_not_ours_and_a_stranger_is_refused() -> None:
    bench = StocksBench()
    bench.owners_shares = "100"

    async def story(bench: StocksBench) -> None:
        assert not bench.held()
        await bench.ended(bench.submit(BUY, "0.51", "6"))
        await bench.agree()
        await bench.crash()
        assert await bench.reconcile() == ""
        assert bench.held() == {bench.yes: whole(6)}
        exchange = bench.server.exchange
        exchange.requote()
        exchange.begin(exchange.place({
            "symbol": SYMBOL, "side": "sell", "qty": 3, "limit_price": 0.49, "type": "limit",
            "time_in_force": "ioc", "client_order_id": "by hand",
        }))  # fmt: skip
        assert "orders the journal does not know" in await bench.reconcile()

    told(bench, story)


class Owned(StocksBench):
    """An account whose owner traded an hour before the journal was begun."""

    async def prepare(self) -> None:
        exchange = self.server.exchange
        self.server.clock.offset_ns -= 3_600 * NS_PER_SECOND
        exchange.begin(exchange.place({
            "symbol": SYMBOL, "side": "buy", "qty": 5, "limit_price": 0.51, "type": "limit",
            "time_in_force": "ioc", "client_order_id": "by hand",
        }))  # fmt: skip
        exchange.requote()
        self.server.clock.offset_ns = 0


def test_what_the_owner_traded_before_is_no_stranger() -> None:
    bench = Owned()

    async def story(bench: StocksBench) -> None:
        bench.owners_shares = "5"
        assert bench.state.portfolio.cash == parse_cash("97.45")
        await bench.ended(bench.submit(BUY, "0.51", "6"))
        await bench.agree()
        assert bench.held() == {bench.yes: whole(6)}

    told(bench, story)


def test_an_allocation_is_all_there_is_of_a_shared_account() -> None:
    bench = StocksBench()
    bench.allocation = Cash(40 * SCALE)

    async def story(bench: StocksBench) -> None:
        assert bench.state.portfolio.cash == 40 * SCALE
        await bench.ended(bench.submit(BUY, "0.51", "10"))
        bench.server.exchange.pay(parse_cash("-30"))
        await bench.agree()
        assert bench.state.portfolio.cash == parse_cash("34.9")
        await bench.crash()
        assert await bench.reconcile() == ""

    told(bench, story)


class AtHours(StocksBench):
    """Under the exchange's own calendar, at a moment of it."""

    calendar = NYSE
    moment = MONDAY_OPEN

    async def prepare(self) -> None:
        self.server.clock.set_ns(at(self.moment))


def test_while_the_market_is_closed_no_order_leaves_and_the_next_open_is_named() -> None:
    bench = AtHours()
    bench.moment = "2026-11-21T15:00:00+00:00"

    async def story(bench: StocksBench) -> None:
        order = bench.submit(BUY, "0.51", "6")
        await bench.ended(order)
        assert bench.kinds(order) == ["OrderRejected"]
        (fact,) = [f for f in bench.told if isinstance(f, ev.OrderRejected)]
        assert fact.reason == "not sent: the market is closed until 2026-11-23T14:30:00Z"
        assert bench.posts() == 0

    told(bench, story)


def test_before_the_open_an_order_leaves_only_if_extended_hours_are_allowed() -> None:
    for extended in (False, True):
        bench = AtHours()
        bench.moment = "2026-11-23T13:00:00+00:00"
        bench.extended = extended

        async def story(bench: StocksBench) -> None:
            order = bench.submit(BUY, "0.51", "20")
            await bench.ended(order)
            if not bench.extended:
                assert bench.kinds(order) == ["OrderRejected"]
                return
            (row,) = bench.server.exchange.orders.values()
            assert (row["time_in_force"], row["extended_hours"]) == ("day", True)
            assert bench.filled(order) == whole(12)
            assert bench.kinds(order)[-1] == "OrderCanceled", "it takes and does not rest"
            await bench.agree()

        told(bench, story)


def test_a_day_order_ends_with_the_day() -> None:
    async def story(bench: StocksBench) -> None:
        order = bench.submit(BUY, "0.10", "6", GTC)
        await bench.until(lambda: bool(bench.kinds(order)), "it should be accepted")
        bench.server.clock.set_ns(at("2026-11-24T01:00:01+00:00"))
        await bench.ended(order)
        (fact,) = [f for f in bench.told if isinstance(f, ev.OrderCanceled)]
        assert fact.reason == "expired"

    told(AtHours(), story)


def test_a_busted_fill_stops_the_bot() -> None:
    async def story(bench: StocksBench) -> None:
        await bench.ended(bench.submit(BUY, "0.51", "6"))
        (row,) = bench.server.exchange.orders.values()
        bench.server.streams._update("trade_bust", row, {})
        await asyncio.wait_for(_failed(bench), 20)

    told(StocksBench(), story, failing=True)


async def _failed(bench: StocksBench) -> None:
    while not bench.failures:  # noqa: ASYNC110 - the bench has no event for it
        await asyncio.sleep(0.02)


def test_an_account_that_may_not_trade_is_refused_at_the_start() -> None:
    async def story(bench: StocksBench) -> None:
        client = bench.client()
        with pytest.raises(InstrumentError, match="write it like AAPL"):
            await load_universe(client, ["NOPE"])
        with pytest.raises(RequestRefused) as refused:
            await client.asset("NOPE")
        assert "sandbox-secret" not in repr(refused.value) + repr(refused.value.__context__)
        assert refused.value.__cause__ is None
        await client.close()
        bench.server.exchange.status = "ACCOUNT_CLOSED"
        with pytest.raises(AnswerInvalid, match="may not trade"):
            await bench.crash()

    told(StocksBench(), story)


def test_a_server_that_hangs_does_not_hang_the_bot() -> None:
    bench = StocksBench()
    bench.total_s = 0.2

    async def story(bench: StocksBench) -> None:
        bench.fault("slow", where="orders", method="POST", times=1)
        order = bench.submit(BUY, "0.51", Qty(6 * SCALE))
        await bench.ended(order)
        assert bench.kinds(order)[0] in {"SubmitUnknown", "OrderAccepted"}
        assert bench.filled(order) == whole(6)
        assert bench.posts() == 1
        await bench.agree()

    told(bench, story)


def test_a_journal_is_of_one_account_and_one_allocation() -> None:
    bench = StocksBench()
    bench.allocation = Cash(40 * SCALE)

    async def story(bench: StocksBench) -> None:
        bench.allocation = Cash(50 * SCALE)
        await bench.crash()
        with pytest.raises(AnswerInvalid, match=r"began with 40\.00 of the account"):
            await bench.truth()
        bench.allocation = Cash(40 * SCALE)
        await bench.crash()
        assert await bench.reconcile() == ""
        bench.state.apply(ev.CashDeposited(deposit_id="opening-alpaca-other=9", amount=Cash(0)))
        await bench.crash()
        with pytest.raises(AnswerInvalid, match="of another account"):
            await bench.truth()

    told(bench, story)


def test_all_or_nothing_is_all_or_nothing_and_only_in_the_regular_session() -> None:
    bench = AtHours()
    bench.extended = True

    async def story(bench: StocksBench) -> None:
        whole_order = bench.submit(BUY, "0.51", "12", TimeInForce.FOK)
        await bench.ended(whole_order)
        assert bench.filled(whole_order) == whole(12)
        bench.refill()
        too_much = bench.submit(BUY, "0.51", "13", TimeInForce.FOK)
        await bench.ended(too_much)
        assert bench.kinds(too_much) == ["OrderAccepted", "OrderCanceled"]
        bench.server.clock.set_ns(at("2026-11-23T22:00:00+00:00"))
        await bench.crash()
        late = bench.submit(BUY, "0.51", "1", TimeInForce.FOK)
        await bench.ended(late)
        assert bench.kinds(late) == ["OrderRejected"]
        await bench.agree()

    told(bench, story)
