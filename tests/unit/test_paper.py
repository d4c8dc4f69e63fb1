"""What makes the paper venue pessimistic: arrival times, depth, fees, makers, late settlement."""

from dataclasses import replace

import pytest
from msgspec import structs

from fleet.domain import events as ev
from fleet.domain.commands import (
    BundleId,
    ClientOrderId,
    OperationId,
    OperationKind,
    RunOperation,
    SubmitOrder,
    TimeInForce,
)
from fleet.domain.instruments import InstrumentId, Side
from fleet.domain.units import SCALE
from fleet.engine.book import Book
from fleet.journal.codec import Codec
from fleet.journal.store import MemoryJournal
from fleet.venues.account import AccountQuery
from fleet.venues.paper import (
    MARKET_RESOLVED,
    NO_BALANCE,
    NO_BOOK,
    NO_MATCH,
    NOT_FULL,
    PaperSettings,
    PaperVenue,
)
from tests.builders import (
    CONFIRMED,
    MINED,
    MS,
    NS,
    Levels,
    c,
    levels,
    market_id,
    no,
    p,
    q,
    submit,
    universe,
    yes,
)

START = 1_000 * NS
SETTINGS = PaperSettings(cash=c("1000"))
GTC = TimeInForce.GTC
SELL = Side.SELL


class Desk:
    """A paper venue over books that a test moves by hand."""

    def __init__(self, *, rate: str = "0", settings: PaperSettings = SETTINGS) -> None:
        self.world = universe(1, rate=rate)
        self.settings = settings
        self.books = {token: Book(token, p("0.01")) for token in self.world.instruments}
        self.ledger = MemoryJournal(codec=Codec())
        self.book(yes(), [("0.48", "100")], [("0.52", "100")])
        self.book(no(), [("0.48", "100")], [("0.52", "100")])
        self.now = START
        self.open()

    def open(self) -> None:
        self.venue = PaperVenue(
            settings=self.settings, instruments=self.world.instruments, books=self.books,
            ledger=self.ledger, facts=[e.event for e in self.ledger.read()], now_ns=self.now,
        )  # fmt: skip

    def book(self, token: InstrumentId, bids: Levels, asks: Levels) -> None:
        self.books[token].replace(levels(bids), levels(asks), 0)

    def send(self, order: SubmitOrder | RunOperation) -> None:
        self.venue.submit(order, self.now)

    def wait(self, ms: float) -> list[ev.Event]:
        self.now += int(ms * MS)
        return self.venue.advance(self.now)

    def trade(self, price: str, qty: str, token: InstrumentId | None = None) -> None:
        self.venue.on_trade(
            ev.TradePrinted(self.now, self.now, token or yes(), Side.BUY, p(price), q(qty))
        )

    def own(self, qty: str, token: InstrumentId | None = None) -> None:
        """Buy at 0.52 and let it settle."""
        self.send(submit(f"own{self.now}", token, qty=qty, price="0.52"))
        self.wait(10_000)

    def fills(self, told: list[ev.Event]) -> list[tuple[int, int]]:
        return [(e.price, e.qty) for e in told if isinstance(e, ev.OrderFilled)]


def kinds(told: list[ev.Event]) -> list[str]:
    return [event.KIND for event in told]


def reason(told: list[ev.Event]) -> str:
    (event,) = told
    assert isinstance(event, ev.OrderRejected)
    return event.reason


# --- arrival ------------------------------------------------------------------------------------


def test_nothing_happens_before_the_order_arrives_nor_is_known_before_the_answer() -> None:
    desk = Desk()
    desk.send(submit(qty="10", price="0.52"))
    assert desk.venue.next_due_ns() == START + 60 * MS
    assert desk.wait(59.9) == []
    assert desk.venue.accounts.cash == c("1000")
    assert desk.wait(0.1) == []
    assert desk.venue.accounts.cash == c("994.8"), "it has traded, but nobody was told"
    assert desk.wait(39.9) == []
    told = desk.wait(0.1)
    assert kinds(told) == ["OrderAccepted", "OrderFilled"]
    assert all((e.ts_event, e.ts_recv) == (START + 60 * MS, START + 100 * MS) for e in told)


@pytest.mark.parametrize(
    ("asks", "expected"),
    [
        ([("0.53", "100")], []),
        ([("0.50", "100")], [(p("0.50"), q("10"))]),
        ([("0.52", "4")], [(p("0.52"), q("4"))]),
        ([], []),
    ],
    ids=["worse", "better", "thinner", "gone"],
)
def test_an_order_meets_the_book_as_it_is_when_it_arrives(
    asks: Levels, expected: list[tuple[int, int]]
) -> None:
    desk = Desk()
    desk.send(submit(qty="10", price="0.52"))
    desk.wait(30)
    desk.book(yes(), [("0.45", "100")], asks)
    assert desk.fills(desk.wait(70)) == expected


@pytest.mark.parametrize("broken", ["void", "crossed"])
def test_a_book_that_is_void_or_crossed_matches_nothing(broken: str) -> None:
    desk = Desk()
    desk.send(submit(qty="10", price="0.52"))
    if broken == "void":
        desk.books[yes()].void()
    else:
        desk.book(yes(), [("0.55", "100")], [("0.52", "100")])
    assert reason(desk.wait(100)) == NO_MATCH


def test_orders_that_arrive_at_the_same_time_keep_their_order() -> None:
    desk = Desk()
    for name in ("o1", "o2", "o3"):
        desk.send(submit(name, qty="40", price="0.52"))
    told = desk.wait(100)
    filled = [(e.client_order_id, e.qty) for e in told if isinstance(e, ev.OrderFilled)]
    assert filled == [("o1", q("40")), ("o2", q("40")), ("o3", q("20"))]


def test_advancing_late_gives_the_same_as_advancing_often() -> None:
    often, late = Desk(), Desk()
    for desk in (often, late):
        desk.send(submit(qty="150", price="0.52"))
    told = [event for _ in range(1_000) for event in often.wait(10)]
    assert late.wait(10_000) == told
    assert [e.event for e in late.ledger.read()] == [e.event for e in often.ledger.read()]


# --- depth --------------------------------------------------------------------------------------


def test_what_was_taken_stays_taken_in_this_book_and_in_its_mirror() -> None:
    desk = Desk()
    desk.own("60")
    desk.own("50", no())
    desk.send(submit("b1", qty="60", price="0.52"))
    assert desk.fills(desk.wait(100)) == [(p("0.52"), q("40"))]
    # NO's bid of 0.48 is YES's ask of 0.52 seen from the other side: all of it is gone.
    desk.send(submit("s1", no(), qty="20", price="0.48", side=SELL))
    assert reason(desk.wait(100)) == NO_MATCH
    # The other sides were not touched by that.
    desk.send(submit("s2", qty="50", price="0.48", side=SELL))
    assert desk.fills(desk.wait(100)) == [(p("0.48"), q("50"))]


def test_taken_depth_comes_back_after_a_while() -> None:
    desk = Desk()
    desk.own("100")
    desk.send(submit("b1", qty="10", price="0.52"))
    assert reason(desk.wait(100)) == NO_MATCH
    desk.wait(30_000)
    desk.send(submit("b2", qty="10", price="0.52"))
    assert desk.fills(desk.wait(100)) == [(p("0.52"), q("10"))]


def test_new_depth_at_the_level_is_there_to_take() -> None:
    desk = Desk()
    desk.own("100")
    desk.book(yes(), [("0.48", "100")], [("0.52", "130")])
    desk.send(submit("b1", qty="50", price="0.52"))
    assert desk.fills(desk.wait(100)) == [(p("0.52"), q("30"))]


def test_a_rejected_order_takes_no_depth() -> None:
    desk = Desk()
    desk.send(submit("o1", qty="150", price="0.52", tif=TimeInForce.FOK))
    assert reason(desk.wait(100)) == NOT_FULL
    desk.send(submit("o2", qty="100", price="0.52"))
    assert desk.fills(desk.wait(100)) == [(p("0.52"), q("100"))]


# --- the venue's rules --------------------------------------------------------------------------


def test_a_taking_order_below_a_dollar_is_refused_a_resting_one_is_not() -> None:
    desk = Desk()
    desk.book(yes(), [("0.05", "100")], [("0.10", "100")])
    desk.send(submit("o1", qty="9.99", price="0.10"))
    assert "min size: $1" in reason(desk.wait(100))
    desk.send(submit("o2", qty="10", price="0.10"))
    assert desk.fills(desk.wait(100))
    desk.send(submit("o3", qty="5", price="0.02", tif=GTC))
    assert kinds(desk.wait(100)) == ["OrderAccepted"]
    desk.send(submit("o4", qty="5", price="0.10", tif=GTC))
    assert "min size: $1" in reason(desk.wait(100)), "it would have taken"


def test_the_tick_is_the_books_after_a_change() -> None:
    desk = Desk()
    desk.books[yes()].void(p("0.001"))
    desk.book(yes(), [("0.481", "100")], [("0.519", "100")])
    desk.send(submit(qty="10", price="0.519"))
    assert desk.fills(desk.wait(100)) == [(p("0.519"), q("10"))]


@pytest.mark.parametrize("price", [0, SCALE, -p("0.01")])
def test_a_price_outside_the_grid_is_refused(price: int) -> None:
    desk = Desk()
    desk.send(structs.replace(submit(qty="10"), price=p("0") + price))
    assert "minimum tick size" in reason(desk.wait(100))


def test_cash_must_cover_limit_and_fee_and_what_rests() -> None:
    desk = Desk(rate="0.02", settings=replace(SETTINGS, cash=c("52")))
    desk.send(submit("o1", qty="100", price="0.52"))
    assert reason(desk.wait(100)) == NO_BALANCE, "the fee does not fit"
    desk.send(submit("o2", qty="20", price="0.40", tif=GTC))
    desk.wait(100)
    desk.send(submit("o3", qty="85", price="0.52"))
    assert reason(desk.wait(100)) == NO_BALANCE, "8 dollars are held by o2"
    desk.send(submit("o4", qty="83", price="0.52"))
    assert desk.fills(desk.wait(100)) == [(p("0.52"), q("83"))]


def test_tokens_are_not_sellable_before_they_are_mined() -> None:
    desk = Desk()
    desk.send(submit("b", qty="20", price="0.52"))
    desk.wait(2_990)
    desk.send(submit("s1", qty="20", price="0.48", side=SELL))
    told = desk.wait(65)
    assert told == []
    assert kinds(desk.wait(100)) == ["FillSettled", "OrderRejected"]
    desk.wait(100)
    desk.send(submit("s2", qty="20", price="0.48", side=SELL))
    assert desk.fills(desk.wait(100)) == [(p("0.48"), q("20"))]
    assert desk.venue.accounts.cash == c("1000") - c("10.4") + c("9.6")


def test_tokens_that_rest_in_an_offer_are_not_offered_again() -> None:
    desk = Desk()
    desk.own("20")
    desk.send(submit("s1", qty="15", price="0.60", side=SELL, tif=GTC))
    desk.wait(100)
    desk.send(submit("s2", qty="10", price="0.48", side=SELL))
    assert reason(desk.wait(100)) == NO_BALANCE
    desk.send(submit("s3", qty="5", price="0.48", side=SELL))
    assert desk.fills(desk.wait(100)) == [(p("0.48"), q("5"))]


# --- settlement ---------------------------------------------------------------------------------


def test_a_fill_is_mined_and_confirmed_at_their_times() -> None:
    desk = Desk()
    desk.send(submit(qty="10", price="0.52"))
    told = desk.wait(20_000)
    arrival = START + 60 * MS
    settled = [(e.status, e.ts_event - arrival) for e in told if isinstance(e, ev.FillSettled)]
    assert settled == [(MINED, SETTINGS.mined_ns), (CONFIRMED, SETTINGS.confirmed_ns)]


@pytest.mark.parametrize(
    ("after_ms", "left"), [(500, [MINED, CONFIRMED]), (4_000, [CONFIRMED]), (9_000, [])]
)
def test_settlements_go_on_after_a_restart(after_ms: int, left: list[ev.SettlementStatus]) -> None:
    desk = Desk()
    desk.send(submit(qty="10", price="0.52"))
    desk.wait(after_ms)
    desk.open()
    settled = [(e.status, e.ts_event) for e in desk.wait(20_000) if isinstance(e, ev.FillSettled)]
    delays = {MINED: SETTINGS.mined_ns, CONFIRMED: SETTINGS.confirmed_ns}
    assert settled == [(status, START + 60 * MS + delays[status]) for status in left]
    assert desk.venue.accounts.free(yes()) == q("10")


def test_settlements_long_overdue_come_at_once_and_in_order() -> None:
    desk = Desk()
    desk.send(submit(qty="10", price="0.52"))
    desk.wait(500)
    desk.now += 3_600 * NS
    desk.open()
    settled = [(e.status, e.ts_event) for e in desk.wait(0) if isinstance(e, ev.FillSettled)]
    assert settled == [(MINED, desk.now), (CONFIRMED, desk.now)]


def test_the_starting_cash_is_deposited_once() -> None:
    desk = Desk()
    for _ in range(3):
        desk.open()
    deposits = [e for e in desk.ledger.read() if e.kind == "CashDeposited"]
    assert len(deposits) == 1
    assert desk.venue.accounts.cash == c("1000")


# --- makers -------------------------------------------------------------------------------------


def rest(desk: Desk, name: str, price: str, qty: str, side: Side = Side.BUY) -> None:
    desk.send(submit(name, qty=qty, price=price, side=side, tif=GTC))
    assert kinds(desk.wait(100)) == ["OrderAccepted"]


def test_a_resting_order_fills_only_when_a_trade_goes_through_its_price() -> None:
    desk = Desk(rate="0.02")
    rest(desk, "o1", "0.50", "20")
    desk.trade("0.50", "1000")
    assert desk.wait(50) == [], "a trade at our price may have been of those before us"
    desk.trade("0.49", "8")
    assert desk.wait(39) == []
    told = desk.wait(1)
    assert desk.fills(told) == [(p("0.50"), q("8"))]
    (fill,) = (e for e in told if isinstance(e, ev.OrderFilled))
    assert fill.maker
    assert fill.fee == 0
    desk.trade("0.10", "500")
    assert desk.fills(desk.wait(40)) == [(p("0.50"), q("12"))]
    desk.trade("0.10", "500")
    assert desk.fills(desk.wait(40)) == []
    assert desk.venue.accounts.cash == c("990")


def test_a_trade_of_the_other_outcome_goes_through_too() -> None:
    desk = Desk()
    rest(desk, "o1", "0.50", "20")
    desk.trade("0.50", "20", no())
    assert desk.fills(desk.wait(40)) == []
    desk.trade("0.51", "20", no())
    assert desk.fills(desk.wait(40)) == [(p("0.50"), q("20"))]


def test_a_resting_offer_fills_upwards() -> None:
    desk = Desk()
    desk.own("20")
    rest(desk, "s1", "0.60", "20", SELL)
    desk.trade("0.60", "20")
    assert desk.fills(desk.wait(40)) == []
    desk.trade("0.61", "20")
    assert desk.fills(desk.wait(40)) == [(p("0.60"), q("20"))]


def test_one_trade_is_not_sold_to_two_of_our_orders() -> None:
    desk = Desk()
    rest(desk, "o1", "0.50", "20")
    rest(desk, "o2", "0.50", "20")
    desk.trade("0.40", "25")
    assert desk.fills(desk.wait(40)) == [(p("0.50"), q("20")), (p("0.50"), q("5"))]


def test_a_crossing_gtc_order_takes_first_and_rests_with_what_is_left() -> None:
    desk = Desk()
    desk.send(submit("o1", qty="130", price="0.52", tif=GTC))
    assert desk.fills(desk.wait(100)) == [(p("0.52"), q("100"))]
    desk.trade("0.51", "100")
    told = desk.wait(40)
    assert desk.fills(told) == [(p("0.52"), q("30"))]
    ids = [e.event.trade_id for e in desk.ledger.read() if isinstance(e.event, ev.OrderFilled)]
    assert ids == ["o1-0", "o1-1"]


def test_a_trade_of_something_we_do_not_know_changes_nothing() -> None:
    desk = Desk()
    rest(desk, "o1", "0.50", "20")
    desk.trade("0.01", "20", InstrumentId("elsewhere"))
    assert desk.fills(desk.wait(40)) == []


# --- cancels ------------------------------------------------------------------------------------


def test_a_cancel_travels_and_the_order_may_fill_meanwhile() -> None:
    desk = Desk()
    rest(desk, "o1", "0.50", "20")
    desk.venue.cancel(ClientOrderId("o1"), desk.now)
    desk.wait(59)
    desk.trade("0.40", "15")
    told = desk.wait(100)
    assert kinds(told) == ["OrderFilled", "OrderCanceled"]
    desk.trade("0.40", "15")
    assert desk.wait(50) == []


def test_a_cancel_sent_after_its_order_finds_it() -> None:
    desk = Desk()
    desk.send(submit("o1", qty="20", price="0.30", tif=GTC))
    desk.venue.cancel(ClientOrderId("o1"), desk.now)
    assert kinds(desk.wait(100)) == ["OrderAccepted", "OrderCanceled"]


def test_a_cancel_frees_what_the_order_held() -> None:
    desk = Desk(settings=replace(SETTINGS, cash=c("60")))
    rest(desk, "o1", "0.50", "100")
    desk.send(submit("o2", qty="100", price="0.52"))
    assert reason(desk.wait(100)) == NO_BALANCE
    desk.venue.cancel(ClientOrderId("o1"), desk.now)
    desk.wait(100)
    desk.send(submit("o3", qty="100", price="0.52"))
    assert desk.fills(desk.wait(100)) == [(p("0.52"), q("100"))]


def test_a_resting_order_does_not_outlive_the_process() -> None:
    desk = Desk()
    rest(desk, "o1", "0.50", "20")
    desk.open()
    ask = AccountQuery(
        open_orders=frozenset({ClientOrderId("o1")}), known_trades=frozenset(),
        unsettled_trades=frozenset(), pending_operations=frozenset(),
    )  # fmt: skip
    assert desk.venue.account(ask).facts[-1].KIND == "OrderCanceled"
    desk.trade("0.10", "100")
    assert desk.wait(100) == []
    desk.venue.account(ask)
    assert [e.kind for e in desk.ledger.read()].count("OrderCanceled") == 1


# --- operations ---------------------------------------------------------------------------------


def operate(kind: OperationKind, burn: str, mint: str, cash: str, name: str = "x1") -> RunOperation:
    def pair(qty: str) -> tuple[tuple[InstrumentId, int], ...]:
        return ((yes(), q(qty)), (no(), q(qty))) if qty else ()

    return RunOperation(
        operation_id=OperationId(name), bundle_id=BundleId("b"), kind=kind, subject="m1",
        burn=pair(burn), mint=pair(mint), cash=c(cash),  # type: ignore[arg-type]
    )  # fmt: skip


def test_an_operation_takes_its_time_and_its_tokens_are_free_at_once_then() -> None:
    desk = Desk()
    desk.send(operate(OperationKind.SPLIT, "", "50", "-50"))
    assert desk.wait(3_999) == []
    assert desk.venue.accounts.cash == c("1000")
    assert desk.wait(1) == []
    assert kinds(desk.wait(40)) == ["OperationConfirmed"]
    desk.send(submit("s1", qty="50", price="0.48", side=SELL))
    assert desk.fills(desk.wait(100)) == [(p("0.48"), q("50"))]


def test_a_merge_needs_settled_free_tokens_when_it_is_carried_out() -> None:
    desk = Desk()
    desk.own("20")
    desk.own("20", no())
    desk.send(operate(OperationKind.MERGE, "20", "", "20"))
    desk.wait(3_000)
    desk.send(submit("s1", qty="10", price="0.48", side=SELL))
    told = desk.wait(1_100)
    assert kinds(told) == ["OrderAccepted", "OrderFilled", "OperationRejected"]
    desk.send(operate(OperationKind.MERGE, "10", "", "10", "x2"))
    assert "OperationConfirmed" in kinds(desk.wait(5_000))
    assert desk.venue.accounts.tokens == {no(): q("10")}


def test_cash_that_rests_in_a_bid_cannot_be_split() -> None:
    desk = Desk(settings=replace(SETTINGS, cash=c("60")))
    rest(desk, "o1", "0.50", "40")
    desk.send(operate(OperationKind.SPLIT, "", "41", "-41"))
    assert kinds(desk.wait(4_100)) == ["OperationRejected"]
    desk.send(operate(OperationKind.SPLIT, "", "40", "-40", "x2"))
    assert kinds(desk.wait(4_100)) == ["OperationConfirmed"]


# --- the end of a market ------------------------------------------------------------------------


def test_what_rests_in_a_resolved_market_is_cancelled_and_nothing_is_traded_any_more() -> None:
    desk = Desk()
    desk.send(submit("rests", qty="10", price="0.40", tif=GTC))
    desk.wait(200)
    payouts = ((yes(), p("1")), (no(), p("0")))
    desk.venue.on_resolved(
        ev.MarketResolved(ts_event=desk.now, ts_recv=desk.now, market_id=market_id(),
                          payouts=payouts)
    )  # fmt: skip
    (ended,) = desk.wait(200)
    assert isinstance(ended, ev.OrderCanceled)
    assert (ended.client_order_id, ended.reason) == ("rests", MARKET_RESOLVED)
    desk.trade("0.30", "10")
    assert desk.wait(200) == []
    desk.send(submit("late", no(), qty="10", price="0.60", tif=GTC))
    (refused,) = desk.wait(200)
    assert isinstance(refused, ev.OrderRejected)
    assert refused.reason == NO_BOOK
    assert "OrderCanceled" in [entry.event.KIND for entry in desk.ledger.read()]
