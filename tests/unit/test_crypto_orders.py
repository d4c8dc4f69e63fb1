"""Pure parts of the Binance venue: filters, request limits, what an answer proves, orders' lives."""

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.domain import events as ev
from fleet.domain.commands import BundleId, ClientOrderId, Purpose, SubmitOrder, TimeInForce
from fleet.domain.instruments import InstrumentError, Side
from fleet.domain.units import SCALE, Price, Qty, parse_cash, parse_price, parse_qty
from fleet.sandbox.binance.symbols import DEFAULT_SYMBOLS
from fleet.venues.crypto import wire
from fleet.venues.crypto.catalog import build_catalog, instrument_id, read_rules
from fleet.venues.crypto.client import BinanceRefused
from fleet.venues.crypto.orders import OrderDesk, Phase, Tracked, wire_id
from fleet.venues.crypto.outcomes import Verdict, judge
from fleet.venues.crypto.weights import WeightBudget
from fleet.venues.port import AnswerInvalid, TransportFailed, VenueError

ETH = next(spec for spec in DEFAULT_SYMBOLS if spec.base == "ETH")
INFO = wire.read(
    {"symbols": [spec.info() for spec in DEFAULT_SYMBOLS], "rateLimits": [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
    ]}, wire.ExchangeRow, "exchangeInfo",
)  # fmt: skip
RULES = read_rules(wire.read(ETH.info(), wire.SymbolRow, "symbol"))
WINDOW_NS = 5 * NS_PER_SECOND


# --- filters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "qty", "told"),
    [
        ("3000.00", "0.0100", ""),
        ("3000.001", "0.01", "tick"),
        ("3000", "0.00015", "lot"),
        ("3000", "9001", "quantity"),
        ("3000", "0.0016", "notional"),
        ("1000001", "0.01", "price"),
        ("100", "0.1", "too far from 3000"),
        ("16000", "0.1", "too far from 3000"),
    ],
)
def test_the_filters_say_what_the_venue_would(price: str, qty: str, told: str) -> None:
    found = RULES.problem(
        Side.BUY, parse_price(price), parse_qty(qty), reference=Price(3_000 * SCALE)
    )
    assert (told in found) if told else not found


def test_an_instrument_has_the_symbols_steps_fee_and_no_ceiling() -> None:
    catalog = build_catalog(INFO, ["ETHUSDT", "BTCUSDT"], {"ETHUSDT": 75_000})
    one = catalog.universe.instruments[instrument_id("ETHUSDT")]
    assert (one.tick, one.lot, one.min_notional) == (SCALE // 100, SCALE // 10_000, 5 * SCALE)
    assert (one.ceiling, one.complement) == (0, "")
    assert one.fees.fee(Price(3_000 * SCALE), Qty(SCALE)) == 2_25000000
    other = catalog.universe.instruments[instrument_id("BTCUSDT")]
    assert other.fees.rate == SCALE // 1_000
    market = catalog.universe.markets[one.market_id]
    assert market.yes == market.no == one.id
    assert (catalog.quote, catalog.weight_limit, catalog.orders_limit) == ("USDT", 6_000, 100)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"status": "BREAK"}, "BREAK, not trading"),
        ({"quote_asset": "EUR"}, "one currency"),
        ({"symbol": "OTHER"}, "not listed"),
        ({"filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.00000001"},
                      {"filterType": "LOT_SIZE", "stepSize": "0.1"}]}, "finer than 1e-8"),
    ],
)  # fmt: skip
def test_a_symbol_that_cannot_be_kept_books_of_is_refused(
    change: dict[str, object], told: str
) -> None:
    from msgspec import structs

    rows = [structs.replace(row, **change) if row.symbol == "ETHUSDT" else row
            for row in INFO.symbols]  # fmt: skip
    with pytest.raises(InstrumentError, match=told):
        build_catalog(wire.ExchangeRow(symbols=rows), ["ETHUSDT", "BTCUSDT"])


def test_a_symbol_without_steps_is_no_answer() -> None:
    with pytest.raises(AnswerInvalid, match="no tick"):
        read_rules(wire.SymbolRow("X", "TRADING", "X", "USDT"))


# --- request limits -----------------------------------------------------------------------------


def test_ordinary_requests_leave_a_reserve_that_urgent_ones_may_use() -> None:
    budget, now = WeightBudget(weight=100, orders=10), 600 * NS_PER_SECOND
    budget.spend(60, now)
    assert budget.wait_ns(10, now) == 0
    assert budget.wait_ns(11, now) == 60 * NS_PER_SECOND
    assert budget.wait_ns(11, now, urgent=True) == 0
    assert budget.wait_ns(36, now, urgent=True) > 0
    # The next window begins with nothing used.
    assert budget.wait_ns(70, now + 60 * NS_PER_SECOND) == 0


def test_the_venues_count_wins_when_it_is_higher() -> None:
    budget, now = WeightBudget(weight=100, orders=10), 600 * NS_PER_SECOND
    budget.spend(5, now, orders=1)
    budget.heard({"x-mbx-used-weight-1m": "80", "x-mbx-order-count-10s": "9"}, now)
    assert (budget.weight.used, budget.orders.used) == (80, 9)
    budget.heard({"x-mbx-used-weight-1m": "7", "x-mbx-order-count-10s": "?"}, now)
    assert (budget.weight.used, budget.orders.used) == (80, 9)
    assert budget.wait_ns(1, now, urgent=True, orders=1) == 10 * NS_PER_SECOND


def test_a_ban_silences_even_what_is_urgent() -> None:
    budget, now = WeightBudget(), 600 * NS_PER_SECOND
    assert budget.refused("120", now) == 120
    assert budget.wait_ns(1, now, urgent=True, orders=1) == 120 * NS_PER_SECOND
    assert budget.refused("soon", now) == 5
    assert budget.wait_ns(1, now, urgent=True) == 120 * NS_PER_SECOND


# --- what an answer proves ----------------------------------------------------------------------


def refused(status: int, code: int, msg: str = "no") -> BinanceRefused:
    return BinanceRefused("POST order", status=status, body=f'{{"code": {code}, "msg": "{msg}"}}')


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (refused(400, -2010, "Account has insufficient balance"), Verdict.REJECTED),
        (refused(400, -2010, "Duplicate order sent."), Verdict.DUPLICATE),
        (refused(400, -1013, "Filter failure: LOT_SIZE"), Verdict.REJECTED),
        (refused(400, -1021), Verdict.REJECTED),
        (refused(401, -2015), Verdict.REJECTED),
        (refused(400, -1102), Verdict.REJECTED),
        (refused(429, -1003), Verdict.REJECTED),
        (refused(418, -1003), Verdict.REJECTED),
        (refused(503, -1007), Verdict.UNKNOWN),
        (refused(503, -1013), Verdict.UNKNOWN),
        (refused(400, -1006), Verdict.UNKNOWN),
        (refused(400, -9999), Verdict.UNKNOWN),
        (BinanceRefused("POST order", status=403, body="<html>"), Verdict.UNKNOWN),
        (TransportFailed("no answer", sent=True), Verdict.UNKNOWN),
        (TransportFailed("cannot connect", sent=False), Verdict.REJECTED),
        (AnswerInvalid("what"), Verdict.UNKNOWN),
    ],
)
def test_only_what_proves_a_refusal_is_one(error: VenueError, verdict: Verdict) -> None:
    assert judge(error) is verdict


# --- orders' lives ------------------------------------------------------------------------------


def order(side: Side = Side.BUY, qty: str = "1", tif: TimeInForce = TimeInForce.GTC) -> SubmitOrder:
    return SubmitOrder(
        client_order_id=ClientOrderId("o1"), bundle_id=BundleId("b"), leg=0, purpose=Purpose.LEG,
        instrument_id=instrument_id("ETHUSDT"), side=side, price=parse_price("3000"),
        qty=parse_qty(qty), tif=tif, ts=0,
    )  # fmt: skip


def desk_with(request: SubmitOrder) -> tuple[OrderDesk, Tracked]:
    desk = OrderDesk(lambda _: RULES, recv_window_ns=WINDOW_NS)
    return desk, desk.sent(request, wire_id("j", request.client_order_id), 0)


def row(tracked: Tracked, status: str, executed: str = "0") -> wire.OrderRow:
    return wire.OrderRow("ETHUSDT", 77, tracked.wire_id, status, executed)


def trade(number: int, qty: str, commission: str = "0", asset: str = "ETH") -> wire.TradeRow:
    return wire.TradeRow(number, 77, "3000", qty, commission, asset, 1, True, False)


def kinds(desk: OrderDesk) -> list[str]:
    return [fact.KIND for fact in desk.take()]


def test_a_final_status_waits_for_the_matches_it_counts() -> None:
    desk, tracked = desk_with(order())
    desk.seen(tracked, row(tracked, "CANCELED", "0.3"), 1)
    assert kinds(desk) == ["OrderAccepted"]
    assert tracked.urgent
    desk.matched(tracked, [trade(1, "0.1")], 2)
    assert kinds(desk) == ["OrderFilled", "FillSettled"]
    desk.matched(tracked, [trade(1, "0.1"), trade(2, "0.2")], 3)
    assert kinds(desk) == ["OrderFilled", "FillSettled", "OrderCanceled"]
    desk.matched(tracked, [trade(2, "0.2")], 4)
    desk.seen(tracked, row(tracked, "CANCELED", "0.3"), 5)
    assert kinds(desk) == []


def test_absence_is_proven_by_two_looks_after_the_window_and_not_before() -> None:
    desk, tracked = desk_with(order())
    desk.unknown(tracked, "silence", 0)
    assert kinds(desk) == ["SubmitUnknown"]
    for began_s in (1, 3, 5):
        desk.absent(tracked, began_s * NS_PER_SECOND, 0)
    desk.absent(tracked, 6 * NS_PER_SECOND, 0)
    desk.absent(tracked, 6 * NS_PER_SECOND + NS_PER_SECOND // 2, 0)
    assert kinds(desk) == []
    desk.absent(tracked, 7 * NS_PER_SECOND, 0)
    assert kinds(desk) == ["OrderRejected"]
    assert tracked.phase is Phase.CLOSED


def test_an_order_that_was_there_once_is_never_absent() -> None:
    desk, tracked = desk_with(order())
    desk.unknown(tracked, "silence", 0)
    desk.seen(tracked, row(tracked, "NEW"), 1)
    for began_s in (10, 20, 30):
        desk.absent(tracked, began_s * NS_PER_SECOND, 0)
    assert kinds(desk) == ["SubmitUnknown", "OrderAccepted"]


def test_a_refusal_after_it_was_seen_is_not_believed() -> None:
    desk, tracked = desk_with(order())
    desk.seen(tracked, row(tracked, "NEW"), 1)
    desk.rejected(tracked, "late news", 2)
    assert kinds(desk) == ["OrderAccepted"]


@pytest.mark.parametrize(
    ("side", "commission", "asset", "net", "fee"),
    [
        (Side.BUY, "0.001", "ETH", "0.999", "3"),
        (Side.SELL, "3", "USDT", "1", "3"),
        (Side.BUY, "0.005", "BNB", "1", "0"),
        (Side.BUY, "0.00000001", "ETH", "0.99999999", "0.00003"),
    ],
)
def test_a_commission_is_booked_where_it_was_taken(
    side: Side, commission: str, asset: str, net: str, fee: str
) -> None:
    desk, tracked = desk_with(order(side))
    filled, settled = desk.facts_of(tracked, trade(9, "1", commission, asset), 5)
    assert (filled.qty, filled.fee) == (parse_qty(net), parse_cash(fee))
    assert filled.trade_id == settled.trade_id == "ETHUSDT-9"
    assert settled.status is ev.SettlementStatus.CONFIRMED
    assert desk.foreign_commissions == (asset == "BNB")


def test_a_cancel_is_asked_for_once_an_answer_came_and_again_while_it_rests() -> None:
    desk, tracked = desk_with(order())
    desk.ask_cancel(ClientOrderId("o1"), 1)
    assert desk.due_cancels() == []  # It is not known to be there.
    desk.seen(tracked, row(tracked, "NEW"), 2)
    assert desk.due_cancels() == [tracked]
    assert desk.due_cancels() == []
    desk.still_rests(tracked)
    assert desk.due_cancels() == [tracked]
    desk.seen(tracked, row(tracked, "CANCELED"), 3)
    desk.still_rests(tracked)
    assert desk.due_cancels() == []
    last = desk.take()[-1]
    assert isinstance(last, ev.OrderCanceled)
    assert last.reason == "asked to"
