"""The local Alpaca, spoken to by an unmodified alpaca-py."""

import asyncio
import datetime as dt
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from alpaca.common.exceptions import APIError
from alpaca.data.enums import DataFeed
from alpaca.data.historical.stock import StockHistoricalDataClient
from alpaca.data.live.stock import StockDataStream
from alpaca.data.models import BarSet
from alpaca.data.requests import StockBarsRequest, StockSnapshotRequest
from alpaca.data.timeframe import TimeFrame
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.models import Order
from alpaca.trading.requests import GetCalendarRequest, LimitOrderRequest
from alpaca.trading.stream import TradingStream

from fleet.clock import NS_PER_SECOND, LiveClock
from fleet.domain.units import SCALE
from fleet.sandbox.alpaca.days import Calendar
from fleet.sandbox.alpaca.prices import Bar, ReplayedPrices, SeededPrices, StillPrices
from fleet.sandbox.alpaca.server import KEY, SECRET, AlpacaServer, AlpacaSettings

CENT = SCALE // 100
STILL = StillPrices({"AAPL": (10_000 * CENT, 12 * SCALE, 10_002 * CENT, 12 * SCALE)})


def run(settings: AlpacaSettings, work: Callable[[str, AlpacaServer], Any]) -> Any:
    """A server in this thread's loop, ``work`` in another thread, as a bot would be."""

    async def both() -> Any:
        server = AlpacaServer(settings, LiveClock())
        await server.start()
        try:
            return await asyncio.to_thread(work, f"http://127.0.0.1:{server.port}", server)
        finally:
            await server.stop()

    return asyncio.run(both())


def trading(url: str, secret: str = SECRET) -> TradingClient:
    return TradingClient(KEY, secret, url_override=url)


def order(
    qty: int, price: float, side: OrderSide = OrderSide.BUY, **more: Any
) -> LimitOrderRequest:
    more = {"time_in_force": TimeInForce.IOC, **more}
    return LimitOrderRequest(symbol="AAPL", qty=qty, side=side, limit_price=price, **more)


def test_alpaca_py_trades_on_it_unmodified() -> None:
    def work(url: str, server: AlpacaServer) -> None:
        client = trading(url)
        assert client.get_account().cash == "100000"  # type: ignore[union-attr]
        assert client.get_clock().is_open  # type: ignore[union-attr]
        assert client.get_asset("AAPL").tradable  # type: ignore[union-attr]
        days = client.get_calendar(
            GetCalendarRequest(start=dt.date(2026, 11, 20), end=dt.date(2026, 11, 21))
        )
        assert len(days) == 2
        placed = client.submit_order(order(20, 100.02, client_order_id="one"))
        assert isinstance(placed, Order)
        assert placed.filled_qty == "0"
        found = client.get_order_by_client_id("one")
        assert isinstance(found, Order)
        assert (found.status.value, found.filled_qty, found.id) == ("canceled", "12", placed.id)
        (position,) = client.get_all_positions()
        assert position.qty == "12"  # type: ignore[union-attr]
        assert client.get_account().cash == "98799.76"  # type: ignore[union-attr]
        (fill,) = client.get("/account/activities", {"activity_types": "FILL"})
        assert (fill["cum_qty"], fill["price"], fill["side"]) == ("12", "100.02", "buy")

    run(AlpacaSettings(symbols=("AAPL",), prices=STILL), work)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        (order(2_000, 100.02), 403, "insufficient buying power"),
        (order(1, 99, OrderSide.SELL), 403, "insufficient qty"),
        (order(1, 100.025), 422, "sub-penny"),
        (order(1, 90, client_order_id="twice"), 422, "client_order_id must be unique"),
        (order(1, 90, extended_hours=True), 422, "must be DAY"),
    ],
)
def test_refusals_have_alpacas_status_and_words(
    asked: LimitOrderRequest, status: int, words: str
) -> None:
    def work(url: str, server: AlpacaServer) -> None:
        client = trading(url)
        client.submit_order(order(1, 90, client_order_id="twice"))
        with pytest.raises(APIError) as refused:
            client.submit_order(asked)
        assert refused.value.status_code == status
        assert words in refused.value.message

    run(AlpacaSettings(symbols=("AAPL",), prices=STILL), work)


def test_a_wrong_secret_and_an_unknown_order_are_refused() -> None:
    def work(url: str, server: AlpacaServer) -> None:
        with pytest.raises(APIError) as refused:
            trading(url, "wrong-secret").get_account()
        assert refused.value.status_code == 401
        with pytest.raises(APIError) as unknown:
            trading(url).get_order_by_client_id("nobody's")
        assert unknown.value.status_code == 404
        client = trading(url)
        done = client.submit_order(order(1, 100.02))
        assert isinstance(done, Order)
        with pytest.raises(APIError) as over:
            client.cancel_order_by_id(done.id)
        assert over.value.status_code == 422

    run(AlpacaSettings(symbols=("AAPL",), prices=STILL), work)


def test_books_and_open_orders_outlive_the_server(tmp_path: Path) -> None:
    settings = AlpacaSettings(symbols=("AAPL",), prices=STILL, path=tmp_path / "alpaca.db")

    def first(url: str, server: AlpacaServer) -> str:
        client = trading(url)
        client.submit_order(order(5, 100.02))
        placed = client.submit_order(order(3, 90, time_in_force=TimeInForce.DAY))
        assert isinstance(placed, Order)
        return str(placed.id)

    def second(url: str, server: AlpacaServer) -> None:
        client = trading(url)
        assert client.get_account().cash == "99499.9"  # type: ignore[union-attr]
        rests = client.get_orders()
        assert [str(one.id) for one in rests] == [name]  # type: ignore[union-attr]
        client.cancel_order_by_id(name)
        assert client.get_order_by_id(name).status.value == "canceled"  # type: ignore[union-attr]

    name = run(settings, first)
    run(settings, second)


def test_the_day_ends_orders_and_charges_the_fees_of_its_sales() -> None:
    settings = AlpacaSettings(symbols=("AAPL",), prices=STILL, calendar=Calendar(always=False))

    def work(url: str, server: AlpacaServer) -> None:
        client = trading(url)
        move("2026-11-23T15:00:00+00:00", url)
        assert client.get_clock().is_open  # type: ignore[union-attr]
        client.submit_order(order(10, 100.02))
        client.submit_order(order(10, 100.00, OrderSide.SELL))
        day = client.submit_order(order(1, 90, time_in_force=TimeInForce.DAY))
        move("2026-11-23T21:30:00+00:00", url)
        assert not client.get_clock().is_open  # type: ignore[union-attr]
        move("2026-11-24T01:00:01+00:00", url)
        assert isinstance(day, Order)
        name = day.id
        until(lambda: client.get_order_by_id(name).status.value == "expired")  # type: ignore[union-attr]
        fees = [
            row for row in client.get("/account/activities", {}) if row["activity_type"] == "FEE"
        ]
        # $1000 at $27.80 a million, ten shares at $0.000166: $0.02946, rounded up.
        assert [row["net_amount"] for row in fees] == ["-0.03"]
        assert client.get_account().cash == "99999.77"  # type: ignore[union-attr]

    run(settings, work)


def move(moment: str, url: str) -> None:
    answer = requests.post(f"{url}/sandbox/clock", json={"now": moment}, timeout=10)
    assert answer.status_code == 200, answer.text


def until(done: Callable[[], bool]) -> None:
    for _ in range(500):
        if done():
            return
        time.sleep(0.02)
    raise AssertionError("it should have come to pass")


def test_bars_page_and_agree_with_the_candles_they_were_made_of() -> None:
    def work(url: str, server: AlpacaServer) -> None:
        data = StockHistoricalDataClient(KEY, SECRET, url_override=url)
        end = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        asked = StockBarsRequest(
            symbol_or_symbols=["AAPL", "MSFT"], timeframe=TimeFrame.Minute,
            start=end - dt.timedelta(minutes=30), end=end, feed=DataFeed.IEX,
        )  # fmt: skip
        bars = data.get_stock_bars(asked)
        assert isinstance(bars, BarSet)
        assert {len(rows) for rows in bars.data.values()} <= {30, 31}
        times = [bar.timestamp for bar in bars.data["AAPL"]]
        assert times == sorted(set(times))
        hours = data.get_stock_bars(asked.model_copy(update={"timeframe": TimeFrame.Hour}))
        assert isinstance(hours, BarSet)
        snap = data.get_stock_snapshot(StockSnapshotRequest(symbol_or_symbols="AAPL"))
        quote = snap["AAPL"].latest_quote
        assert quote is not None
        assert 0 < quote.bid_price < quote.ask_price

    run(AlpacaSettings(), work)


def test_prices_are_a_function_of_seed_and_time() -> None:
    moment = 1_790_000_000
    one, same, other = (SeededPrices(seed) for seed in (1, 1, 2))
    assert one.minute("AAPL", moment) == same.minute("AAPL", moment)
    assert one.minute("AAPL", moment) != other.minute("AAPL", moment)
    assert one.minute("AAPL", moment).close == one.minute("AAPL", moment + 60).open
    past = Bar(60, 5 * SCALE, 7 * SCALE, 4 * SCALE, 6 * SCALE, SCALE)
    replay = ReplayedPrices({"X": [past]})
    assert replay.minute("X", 60) == past
    assert replay.minute("X", 120) is None
    assert replay.quote("X", 119 * NS_PER_SECOND) is None, "the bar is not over"
    quote = replay.quote("X", 120 * NS_PER_SECOND)
    assert quote is not None
    assert (quote.bid, quote.ask) == (6 * SCALE - CENT, 6 * SCALE + CENT)


def test_both_streams_speak_to_alpaca_py() -> None:
    async def listen() -> None:
        server = AlpacaServer(AlpacaSettings(symbols=("AAPL",), prices=STILL), LiveClock())
        port = await server.start()
        heard: list[str] = []
        quotes: list[float] = []

        async def on_update(update: Any) -> None:
            event = getattr(update.event, "value", update.event)
            heard.append(f"{event} {update.order.filled_qty}")

        async def on_quote(quote: Any) -> None:
            quotes.append(quote.ask_price)

        updates = TradingStream(KEY, SECRET, url_override=f"ws://127.0.0.1:{port}/stream")
        updates.subscribe_trade_updates(on_update)
        data = StockDataStream(KEY, SECRET, url_override=f"ws://127.0.0.1:{port}/v2/iex")
        data.subscribe_quotes(on_quote, "AAPL")
        tasks = [asyncio.create_task(one._run_forever()) for one in (updates, data)]
        try:
            async with asyncio.timeout(20):
                while not quotes or not updates._running:  # noqa: ASYNC110 - theirs says nothing
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.3)
                await asyncio.to_thread(
                    trading(f"http://127.0.0.1:{port}").submit_order, order(20, 100.02)
                )
                while len(heard) < 3:  # noqa: ASYNC110 - the same
                    await asyncio.sleep(0.05)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for stream in (updates, data):
                await stream.close()
            await server.stop()
        assert heard == ["new 0", "partial_fill 12", "canceled 12"]
        assert quotes[0] == 100.02

    asyncio.run(listen())


def test_it_runs_alone_as_its_page_shows(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "fleet.sandbox.alpaca", "--port", "0", "--seed", "7", "--file",
        str(tmp_path / "alpaca.db"), "--cash", "500", "--symbols", "AAPL,SPY", "--hours", "nyse",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        try:
            account = trading(words[3]).get_account()
            assert account.cash == "500"  # type: ignore[union-attr]
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_faults_are_turned_on_by_name_and_off_again() -> None:
    def work(url: str, server: AlpacaServer) -> None:
        door = f"{url}/sandbox/faults"
        wrong = requests.post(door, json={"name": "earthquake"}, timeout=10)
        assert (wrong.status_code, "there are lost-answer" in wrong.text) == (400, True)
        requests.post(door, json={"name": "error-before", "where": "account"}, timeout=10)
        with pytest.raises(APIError) as refused:
            trading(url).get_account()
        assert refused.value.status_code == 503
        requests.delete(door, timeout=10)
        assert trading(url).get_account().cash == "100000"  # type: ignore[union-attr]

    run(AlpacaSettings(symbols=("AAPL",), prices=STILL), work)
