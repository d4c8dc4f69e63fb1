"""What the paper venue does beyond the ``Execution`` contract: fees, FOK, the venue's own words."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

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
from fleet.domain.instruments import Instrument, InstrumentId, Side, Universe
from fleet.domain.units import notional_up
from fleet.engine.book import Book
from fleet.journal.codec import Codec
from fleet.journal.store import MemoryJournal
from fleet.venues.account import AccountQuery
from fleet.venues.paper import PaperSettings, PaperVenue
from tests.builders import NS, c, levels, no, p, q, submit, universe, yes

NOBODY = AccountQuery(
    open_orders=frozenset(), known_trades=frozenset(), unsettled_trades=frozenset(),
    pending_operations=frozenset(),
)  # fmt: skip


@dataclass
class Bench:
    """The paper venue, its books and its ledger."""

    world: Universe = field(default_factory=lambda: universe(1, rate="0.02"))
    now_ns: int = NS

    def __post_init__(self) -> None:
        self.ledger = MemoryJournal(codec=Codec())
        self.books = {i.id: _book(i) for i in self.world.instruments.values()}
        self.restart()

    def restart(self) -> None:
        self.venue: PaperVenue = PaperVenue(
            settings=PaperSettings(cash=c("1000")), instruments=self.world.instruments,
            books=self.books, ledger=self.ledger,
            facts=[entry.event for entry in self.ledger.read()], now_ns=self.now_ns,
        )  # fmt: skip

    def settle(self) -> list[ev.Event]:
        told: list[ev.Event] = []
        while (due := self.venue.next_due_ns()) is not None:
            self.now_ns = max(self.now_ns, due)
            told += self.venue.advance(self.now_ns)
        return told


def _book(instrument: Instrument) -> Book:
    book = Book(instrument.id, instrument.tick)
    bids, asks = [("0.49", "40"), ("0.48", "60")], [("0.51", "40"), ("0.52", "60")]
    book.replace(levels(bids), levels(asks), 0)
    return book


@pytest.fixture
def bench() -> Bench:
    return Bench()


def fills(told: Sequence[ev.Event]) -> list[tuple[str, str, str]]:
    """(order, price, quantity) of what filled."""
    return [
        (e.client_order_id, _text(e.price), _text(e.qty)) for e in told
        if isinstance(e, ev.OrderFilled)
    ]  # fmt: skip


def _text(value: int) -> str:
    return f"{value / 1e8:g}"


def ends(told: Sequence[ev.Event]) -> list[tuple[str, str]]:
    """(kind, order) of what was said of orders, fills aside."""
    kinds = (ev.OrderAccepted, ev.OrderRejected, ev.OrderCanceled, ev.CancelRejected)
    return [(e.KIND, e.client_order_id) for e in told if isinstance(e, kinds)]


def send(bench: Bench, *orders: SubmitOrder) -> list[ev.Event]:
    for order in orders:
        bench.venue.submit(order, bench.now_ns)
    return bench.settle()


def operation(kind: OperationKind, qty: str, cash: str, name: str = "x1") -> RunOperation:
    pair = ((yes(), q(qty)), (no(), q(qty)))
    burn, mint = (pair, ()) if kind is OperationKind.MERGE else ((), pair)
    return RunOperation(
        operation_id=OperationId(name), bundle_id=BundleId("b1"), kind=kind, subject="m1",
        burn=burn, mint=mint, cash=c(cash),
    )  # fmt: skip


def tokens(bench: Bench) -> dict[InstrumentId, int]:
    return dict(bench.venue.account(NOBODY).tokens)


def cash(bench: Bench) -> int:
    return bench.venue.account(NOBODY).cash


# --- orders -------------------------------------------------------------------------------------


def test_a_taker_pays_notional_and_the_markets_fee(bench: Bench) -> None:
    told = send(bench, submit(qty="40", price="0.51"))
    (fill,) = (e for e in told if isinstance(e, ev.OrderFilled))
    assert fill.fee == c("0.19992")  # 40 x 0.02 x 0.51 x 0.49
    assert cash(bench) == c("1000") - notional_up(p("0.51"), q("40")) - fill.fee
    assert tokens(bench) == {yes(): q("40")}


def test_depth_is_walked_to_the_limit_and_the_rest_of_fak_killed(bench: Bench) -> None:
    told = send(bench, submit(qty="150", price="0.52"))
    assert fills(told) == [("o1", "0.51", "40"), ("o1", "0.52", "60")]
    assert ends(told) == [("OrderAccepted", "o1"), ("OrderCanceled", "o1")]
    # The end of an order comes after its fills.
    assert [e.KIND for e in told].index("OrderCanceled") > 2


def test_fok_fills_whole_or_not_at_all(bench: Bench) -> None:
    told = send(bench, submit(qty="150", price="0.52", tif=TimeInForce.FOK))
    assert [e.KIND for e in told] == ["OrderRejected"]
    assert cash(bench) == c("1000")
    told = send(bench, submit("o2", qty="100", price="0.52", tif=TimeInForce.FOK))
    assert sum(float(qty) for _, _, qty in fills(told)) == 100


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (submit(qty="10", price="0.50"), "no orders found to match"),
        (submit(qty="4", price="0.51"), "lower than the minimum"),
        (submit(qty="10", price="0.515"), "tick size"),
        (submit(qty="10", price="0.52", side=Side.SELL), "not enough balance"),
    ],
    ids=["no match", "too few", "off tick", "not owned"],
)
def test_what_breaks_a_rule_is_rejected_with_a_reason(
    bench: Bench, order: SubmitOrder, reason: str
) -> None:
    told = send(bench, order)
    assert [e.KIND for e in told] == ["OrderRejected"]
    assert isinstance(told[0], ev.OrderRejected)
    assert reason in told[0].reason
    assert (cash(bench), tokens(bench)) == (c("1000"), {})


# --- operations ---------------------------------------------------------------------------------


def test_an_operation_without_its_means_is_rejected(bench: Bench) -> None:
    for name, request in (
        ("x1", operation(OperationKind.MERGE, "10", "10")),
        ("x2", operation(OperationKind.SPLIT, "1001", "-1001", "x2")),
    ):
        bench.venue.submit(request, bench.now_ns)
        (told,) = bench.settle()
        assert isinstance(told, ev.OperationRejected)
        assert told.operation_id == name
    assert cash(bench) == c("1000")


def test_the_same_operation_sent_twice_is_one(bench: Bench) -> None:
    for _ in range(2):
        bench.venue.submit(operation(OperationKind.SPLIT, "10", "-10"), bench.now_ns)
    bench.settle()
    assert cash(bench) == c("990")


# --- the account --------------------------------------------------------------------------------


def query(*orders: str, operations: Sequence[str] = ()) -> AccountQuery:
    return AccountQuery(
        open_orders=frozenset(map(ClientOrderId, orders)), known_trades=frozenset(),
        unsettled_trades=frozenset(), pending_operations=frozenset(map(OperationId, operations)),
    )  # fmt: skip


def test_absent_is_said_only_of_what_was_never_there(bench: Bench) -> None:
    bench.venue.submit(submit("o1", qty="40", price="0.51"), bench.now_ns)
    truth = bench.venue.account(query("o1", "o2", operations=["x1"]))
    assert truth.absent_orders == ("o2",), "an order on its way is not absent"
    assert truth.absent_operations == ("x1",)
    bench.settle()
    assert bench.venue.account(query("o1")).absent_orders == ()


def test_a_restart_keeps_cash_tokens_and_facts(bench: Bench) -> None:
    send(bench, submit(qty="40", price="0.51"))
    before = bench.venue.account(query("o1"))
    bench.restart()
    assert bench.venue.account(query("o1")) == before
