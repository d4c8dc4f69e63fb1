"""The order table, cell by cell, and the orders that walk it."""

import pytest

from fleet.domain.commands import ClientOrderId
from fleet.domain.events import VenueOrderId
from fleet.domain.instruments import InstrumentId, Side
from fleet.engine.orders import TERMINAL, TRANSITIONS, Fact, Orders, OrderStatus
from tests.builders import c, filled, no, q, submit, yes

S, F = OrderStatus, Fact
O1 = ClientOrderId("o1")

# The whole table, written out once more by hand: a row for each status, a column for each fact.
# A dot stays, a dash is a contradiction, anything else is where it goes.
SHORT = {
    "acc": S.ACCEPTED,
    "par": S.PARTIALLY_FILLED,
    "ful": S.FILLED,
    "pen": S.PENDING_CANCEL,
    "can": S.CANCELED,
    "rej": S.REJECTED,
    "exp": S.EXPIRED,
}
TABLE = """
                 SIGN ACCEPT FILL LAST_FILL REQUEST_CANCEL CANCEL REFUSE_CANCEL REJECT EXPIRE LOSE
SUBMITTED        .    acc    par  ful       pen            can    -             rej    exp    .
ACCEPTED         .    .      par  ful       pen            can    .             -      exp    .
PARTIALLY_FILLED .    .      .    ful       pen            can    .             -      exp    .
PENDING_CANCEL   .    .      .    ful       .              can    acc           rej    exp    .
FILLED           .    .      .    .         .              .      .             -      .      .
CANCELED         .    .      .    .         .              .      .             -      .      .
EXPIRED          .    .      .    .         .              .      .             -      .      .
REJECTED         -    -      -    -         .              -      .             .      -      .
"""
HEAD, *ROWS = (row.split() for row in TABLE.strip().splitlines())
COLUMNS = [Fact(name) for name in HEAD]
CELLS = [
    (OrderStatus(status), fact, cell)
    for status, *cells in ROWS
    for fact, cell in zip(COLUMNS, cells, strict=True)
]


def test_the_table_above_is_whole() -> None:
    assert len(CELLS) == len(S) * len(F)
    assert {status for status, _, _ in CELLS} == set(S)


def at(status: OrderStatus) -> Orders:
    orders = Orders()
    orders.submit(submit())
    order = orders.get(O1)
    assert order is not None
    order.status = status
    if status in TERMINAL:
        orders._open.clear()
    return orders


@pytest.mark.parametrize(("status", "fact", "cell"), CELLS)
def test_each_cell_moves_or_is_an_anomaly(status: OrderStatus, fact: Fact, cell: str) -> None:
    orders = at(status)
    order = orders.learn(O1, fact, venue_order_id=VenueOrderId("v"), reason="why")
    assert order is not None
    if cell == "-":
        assert fact not in TRANSITIONS[status]
        assert orders.anomaly == f"{fact.value} for order o1 that is {status.value}"
        assert (order.status, order.venue_order_id, order.reason) == (status, None, "")
        return
    assert orders.anomaly == ""
    assert order.status is (status if cell == "." else SHORT[cell])
    assert (order.venue_order_id, order.reason) == (VenueOrderId("v"), "why")
    assert order.open is (order.status not in TERMINAL)
    assert (O1 in orders.open) is order.open


@pytest.mark.parametrize("fact", list(F))
def test_a_fact_about_a_stranger_is_an_anomaly(fact: Fact) -> None:
    orders = Orders()
    assert orders.learn(O1, fact) is None
    assert orders.anomaly == f"{fact.value} for unknown order o1"


def test_a_submitted_order_is_in_flight_before_anything_is_known() -> None:
    orders = Orders()
    orders.submit(submit(qty="10"))
    order = orders.get(O1)
    assert order is not None
    assert (order.status, order.open, order.remaining) == (S.SUBMITTED, True, q("10"))
    assert list(orders.open) == [O1]
    assert len(orders) == 1
    assert [o.client_order_id for o in orders] == [O1]
    assert not orders.unresolved()


def test_an_order_id_is_used_once() -> None:
    orders = Orders()
    orders.submit(submit(qty="10"))
    orders.submit(submit(qty="99"))
    order = orders.get(O1)
    assert order is not None
    assert orders.anomaly == "client order id o1 was used twice"
    assert order.qty == q("10")
    assert len(orders) == 1


@pytest.mark.parametrize("side", list(Side))
def test_fills_add_up(side: Side) -> None:
    orders = Orders()
    orders.submit(submit(qty="10", price="0.5", side=side))
    order = orders.fill(filled("o1", "4", "0.333", fee="0.01", side=side))
    assert order is not None
    assert (order.status, order.filled, order.remaining) == (S.PARTIALLY_FILLED, q("4"), q("6"))
    orders.fill(filled("o1", "6", "0.5", trade="t2", fee="0.02", side=side))
    assert (order.status, order.filled, order.remaining) == (S.FILLED, q("10"), 0)
    assert (order.spent, order.fee) == (c("4.332"), c("0.03"))
    assert not orders.open
    assert orders.anomaly == ""


def test_the_notional_of_a_buy_rounds_up_and_of_a_sell_down() -> None:
    for side, spent in ((Side.BUY, 3_333_334), (Side.SELL, 3_333_333)):
        orders = Orders()
        orders.submit(submit(side=side))
        order = orders.fill(filled("o1", "0.1", "0.33333333", side=side))
        assert order is not None
        assert order.spent == spent


@pytest.mark.parametrize(
    ("qty", "anomaly"),
    [("10", ""), ("10.01", ""), ("10.011", "order o1 filled 1001100000 of 1000000000")],
)
def test_a_fill_may_exceed_the_order_by_dust_only(qty: str, anomaly: str) -> None:
    orders = Orders()
    orders.submit(submit(qty="10"))
    order = orders.fill(filled("o1", qty, "0.5"))
    assert order is not None
    assert orders.anomaly == anomaly
    assert (order.status, order.filled, order.remaining) == (S.FILLED, q(qty), 0)


def test_a_fill_of_a_stranger_is_an_anomaly() -> None:
    orders = Orders()
    assert orders.fill(filled("o9", "1", "0.5")) is None
    assert orders.anomaly == "fill t1 for unknown order o9"


@pytest.mark.parametrize(("token", "side"), [(no(), Side.BUY), (yes(), Side.SELL)])
def test_a_fill_of_another_token_or_side_is_an_anomaly(token: InstrumentId, side: Side) -> None:
    orders = Orders()
    orders.submit(submit(token=yes(), side=Side.BUY))
    orders.fill(filled("o1", "1", "0.5", token=token, side=side))
    assert orders.anomaly == f"fill t1 is a {side.value} of {token}, order o1 a BUY of y1"


@pytest.mark.parametrize("fact", [F.CANCEL, F.EXPIRE])
def test_a_late_fill_counts_but_does_not_revive(fact: Fact) -> None:
    orders = Orders()
    orders.submit(submit(qty="10"))
    order = orders.learn(O1, fact)
    orders.fill(filled("o1", "10", "0.5"))
    assert order is not None
    assert orders.anomaly == ""
    assert (order.open, order.filled) == (False, q("10"))
    assert not orders.open


def test_a_fill_of_a_rejected_order_counts_and_is_an_anomaly() -> None:
    orders = at(S.REJECTED)
    order = orders.fill(filled("o1", "10", "0.5"))
    assert order is not None
    assert order.filled == q("10")
    assert orders.anomaly == "LAST_FILL for order o1 that is REJECTED"


PROOF = {F.ACCEPT, F.FILL, F.LAST_FILL, F.CANCEL, F.REJECT, F.EXPIRE}


@pytest.mark.parametrize("fact", [f for f in COLUMNS if f not in {F.LOSE, F.REFUSE_CANCEL}])
def test_a_lost_order_stays_unresolved_until_the_venue_proves_something(fact: Fact) -> None:
    orders = Orders()
    orders.submit(submit(token=yes(1)))
    orders.learn(O1, F.LOSE, reason="timeout")
    assert orders.unresolved() and orders.unresolved(yes(1))
    assert not orders.unresolved(no(1))
    orders.learn(O1, fact)
    assert orders.unresolved() is (fact not in PROOF)


def test_a_cancel_that_was_refused_proves_nothing_about_a_lost_order() -> None:
    orders = Orders()
    orders.submit(submit())
    for fact in (F.LOSE, F.REQUEST_CANCEL, F.REFUSE_CANCEL):
        orders.learn(O1, fact)
    assert orders.unresolved()


def test_an_order_that_ended_cannot_be_lost() -> None:
    orders = at(S.FILLED)
    orders.learn(O1, F.LOSE)
    assert not orders.unresolved()
