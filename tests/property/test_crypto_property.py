"""Bars in any order are told once and in order; the local Binance neither makes nor loses money."""

import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from fleet.domain.instruments import InstrumentId
from fleet.domain.units import SCALE, Price, Qty, format_units
from fleet.sandbox.binance.exchange import Exchange
from fleet.sandbox.binance.ledger import Ledger, Trader
from fleet.sandbox.binance.symbols import ApiError, SymbolSpec
from fleet.venues.crypto.bars import BarSequence, Candle
from fleet.venues.crypto.wire_stream import FrameError, read_frame

STEP = 60_000
TOKEN = InstrumentId("BINANCE:ETHUSDT")
SPEC = SymbolSpec(
    base="TST", price="100", tick="0.01", lot="0.001", min_qty="0.001", min_notional="1"
)


def bar(number: int) -> Candle:
    price = Price(SCALE + number)
    return Candle(number * STEP, price, price, price, price, Qty(number))


@given(st.permutations(range(12)), st.lists(st.integers(-3, 11), max_size=20), st.integers(0, 11))
def test_bars_are_told_once_in_order_whatever_comes_when(
    order: list[int], again: list[int], cut: int
) -> None:
    sequence = BarSequence(TOKEN, STEP, 0)
    told = []
    for number in [*order[:cut], *again, *order]:
        told += sequence.offer(bar(max(number, -1)), 7) if number >= 0 else []
    assert [b.ts_event for b in told] == [(n + 1) * STEP * 1_000_000 for n in range(12)]
    assert [b.volume for b in told] == list(range(12))
    assert not sequence.gap


@given(st.sets(st.integers(0, 20), min_size=1))
def test_what_the_venue_lacks_is_counted_and_never_made_up(there: set[int]) -> None:
    sequence = BarSequence(TOKEN, STEP, 0)
    told = []
    for number in sorted(there):
        if number * STEP > sequence.due_ms:
            sequence.skip_to(number * STEP)
        told += sequence.offer(bar(number), 7)
    assert [b.volume for b in told] == sorted(there)
    assert sequence.skipped == max(there) + 1 - len(there)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_frame_error(payload: bytes) -> None:
    with suppress(FrameError):  # Anything else is a failure.
        read_frame(payload, {"ETHUSDT": TOKEN}, 1)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(st.sampled_from(list("eEskbBaApqtTmovxhlci")), inner),
        max_leaves=12,
    ),
    st.sampled_from(["kline_1m", "bookTicker", "trade", "other"]),
)
def test_any_shape_is_read_or_refused_by_name(inner: object, kind: str) -> None:
    frame = json.dumps({"stream": f"ethusdt@{kind}", "data": inner}).encode()
    with suppress(FrameError):  # Anything else is a failure.
        read_frame(frame, {"ETHUSDT": TOKEN}, 1)


ORDERS = st.lists(
    st.tuples(
        st.sampled_from([1, 2]), st.sampled_from(["BUY", "SELL"]),
        st.sampled_from(["GTC", "IOC", "FOK"]), st.integers(9_990, 10_010),
        st.integers(1, 4_000), st.booleans(),
    ), max_size=30,
)  # fmt: skip


@given(ORDERS)
def test_the_exchange_neither_makes_nor_loses_money(
    orders: list[tuple[int, str, str, int, int, bool]],
) -> None:
    ledger = Ledger()
    exchange = Exchange([SPEC], ledger, lambda: 1_000)
    for uid in (1, 2):
        ledger.open_account(Trader(uid, f"k{uid}", "s"))
        ledger.move(uid, "USDT", free=1_000 * SCALE)
        ledger.move(uid, "TST", free=10 * SCALE)
    market = exchange.markets[SPEC.symbol]
    for uid, side, tif, cents, qty, cancels in orders:
        trader = ledger.traders[uid - 1]
        try:
            order, matches = exchange.place(trader, {
                "symbol": SPEC.symbol, "side": side, "type": "LIMIT", "timeInForce": tif,
                "price": format_units(cents * SCALE // 100),
                "quantity": format_units(qty * SCALE // 1_000),
            })  # fmt: skip
        except ApiError:
            continue
        assert sum(match.qty for match in matches) == order.executed <= order.qty
        worse = [m for m in matches if (m.price > order.price) == (side == "BUY")
                 and m.price != order.price]  # fmt: skip
        assert not worse
        assert tif == "GTC" or not order.open
        assert tif != "FOK" or order.executed in {0, order.qty}
        if cancels and order.open:
            exchange.cancel(trader, {"symbol": SPEC.symbol, "orderId": str(order.order_id)})
        bids, asks = market.side("BUY"), market.side("SELL")
        assert not bids or not asks or bids[0].price < asks[0].price
    paid = {asset: sum(m.commission for m in ledger.matches if m.commission_asset == asset)
            for asset in ("USDT", "TST")}  # fmt: skip
    for asset, total in (("USDT", 2_000 * SCALE), ("TST", 20 * SCALE)):
        held = sum(sum(held) for (_, name), held in ledger.balances.items() if name == asset)
        assert held + paid[asset] == total
    # What is locked is what rests, to the unit.
    for uid in (1, 2):
        open_now = [o for o in ledger.orders.values() if o.uid == uid and o.open]
        buys = sum(o.price * (o.qty - o.executed) // SCALE for o in open_now if o.side == "BUY")
        sells = sum(o.qty - o.executed for o in open_now if o.side == "SELL")
        assert ledger.held(uid, "USDT")[1] == buys
        assert ledger.held(uid, "TST")[1] == sells
