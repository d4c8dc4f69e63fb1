from fleet.domain import events as ev
from fleet.domain.commands import ClientOrderId, OperationId, OperationKind
from fleet.domain.instruments import Side
from fleet.venues.account import AccountQuery
from fleet.venues.paper_accounts import PaperAccounts
from tests.builders import (
    CONFIRMED,
    FAILED,
    MINED,
    NS,
    c,
    canceled,
    deposit,
    filled,
    no,
    operated,
    q,
    settled,
    yes,
)

RETRYING = ev.SettlementStatus.RETRYING


def accepted(name: str) -> ev.OrderAccepted:
    return ev.OrderAccepted(
        client_order_id=ClientOrderId(name), venue_order_id=ev.VenueOrderId(f"v-{name}")
    )


def rejected(name: str) -> ev.OrderRejected:
    return ev.OrderRejected(client_order_id=ClientOrderId(name), reason="no")


def folded(*facts: ev.Event) -> PaperAccounts:
    accounts = PaperAccounts()
    for fact in facts:
        accounts.apply(fact)
    return accounts


def query(
    orders: str = "", known: str = "", unsettled: str = "", operations: str = ""
) -> AccountQuery:
    return AccountQuery(
        open_orders=frozenset(map(ClientOrderId, orders.split())),
        known_trades=frozenset(map(ev.TradeId, known.split())),
        unsettled_trades=frozenset(map(ev.TradeId, unsettled.split())),
        pending_operations=frozenset(map(OperationId, operations.split())),
    )


def test_a_buy_costs_notional_and_fee_and_is_not_free_before_it_is_mined() -> None:
    facts = [deposit("100"), filled("o1", "10", "0.333", fee="0.01", trade="t1")]
    accounts = folded(*facts)
    assert accounts.opened
    assert accounts.cash == c("96.66")
    assert accounts.tokens == {yes(): q("10")}
    assert accounts.free(yes()) == 0
    for status in (RETRYING, MINED, CONFIRMED):
        accounts.apply(settled("t1", status))
        assert accounts.free(yes()) == (0 if status is RETRYING else q("10"))
    assert accounts.fills_of(ClientOrderId("o1")) == 1


def test_a_sell_brings_notional_less_fee_and_rounds_against_us() -> None:
    accounts = folded(
        deposit("0"),
        filled("o1", "0.00000003", "0.5", trade="t1"),
        filled("o2", "0.00000003", "0.5", trade="t2", side=Side.SELL),
    )
    assert accounts.cash == c("-0.00000001"), "up when it costs, down when it brings"
    assert accounts.tokens == {}


def test_a_failed_fill_is_taken_back_whole_and_finally() -> None:
    for before in ([], [settled("t1", RETRYING)], [settled("t1", MINED)]):
        accounts = folded(
            deposit("100"), filled("o1", "10", "0.333", fee="0.01", trade="t1"), *before,
            settled("t1", FAILED), settled("t1", MINED), settled("t1", CONFIRMED),
        )  # fmt: skip
        assert accounts.cash == c("100")
        assert accounts.tokens == {}
        assert accounts.free(yes()) == 0
        assert accounts.unfinished(0, 1, 2) == []


def test_operations_burn_mint_and_pay() -> None:
    accounts = folded(
        deposit("100"),
        operated("x1", OperationKind.SPLIT, mint=[(yes(), "10"), (no(), "10")], cash="-10"),
        operated("x2", OperationKind.MERGE, burn=[(yes(), "4"), (no(), "4")], cash="4"),
        ev.OperationRejected(operation_id=OperationId("x3"), reason="no"),
    )
    assert accounts.cash == c("94")
    assert accounts.tokens == {yes(): q("6"), no(): q("6")}
    assert all(accounts.knows_operation(OperationId(x)) for x in ("x1", "x2", "x3"))
    assert not accounts.knows_operation(OperationId("x4"))


def test_which_orders_have_no_end() -> None:
    accounts = folded(
        accepted("o1"), accepted("o2"), canceled("o2"), rejected("o3"), accepted("o4")
    )
    asked = [ClientOrderId(o) for o in ("o1", "o2", "o3", "o5")]
    assert accounts.unended(asked) == {"o1"}
    assert [accounts.knows_order(o) for o in asked] == [True, True, True, False]


def test_settlements_still_to_come_never_lie_in_the_past() -> None:
    accounts = folded(
        filled("o1", "1", "0.5", trade="t1", at=NS),
        filled("o2", "1", "0.5", trade="t2", at=100 * NS), settled("t2", MINED),
        filled("o3", "1", "0.5", trade="t3", at=NS), settled("t3", CONFIRMED),
    )  # fmt: skip
    assert accounts.unfinished(50 * NS, 3 * NS, 8 * NS) == [
        settled_at("t1", MINED, 50 * NS),
        settled_at("t1", CONFIRMED, 50 * NS),
        settled_at("t2", CONFIRMED, 108 * NS),
    ]


def settled_at(trade: str, status: ev.SettlementStatus, at: int) -> ev.FillSettled:
    return ev.FillSettled(ts_event=at, trade_id=ev.TradeId(trade), status=status)


def test_an_answer_holds_what_was_asked_and_no_more_oldest_first() -> None:
    facts: list[ev.Event] = [
        deposit("100"),
        accepted("o1"), filled("o1", "1", "0.5", trade="t1"), canceled("o1"),
        accepted("o2"), filled("o2", "1", "0.5", trade="t2"), canceled("o2"),
        settled("t1", MINED), settled("t2", MINED), settled("t1", CONFIRMED),
        operated("x1", OperationKind.SPLIT, mint=[(yes(), "1")], cash="-1"),
    ]  # fmt: skip
    accounts = folded(*facts)
    everything = accounts.answer(query("o1 o2", operations="x1"), [], [])
    assert list(everything.facts) == facts
    later = accounts.answer(query("o2", known="t1 t2", unsettled="t2"), [], [])
    assert list(later.facts) == [facts[0], facts[4], facts[6], facts[8]]
    nothing = accounts.answer(query(known="t1 t2"), [], [])
    assert list(nothing.facts) == [facts[0]]
    assert everything.cash == nothing.cash == accounts.cash


def test_absent_is_what_never_came_and_is_not_on_its_way() -> None:
    accounts = folded(deposit("1"), accepted("o1"))
    truth = accounts.answer(
        query("o3 o2 o1", operations="x2 x1"), [ClientOrderId("o2")], [OperationId("x1")]
    )
    assert truth.absent_orders == ("o3",)
    assert truth.absent_operations == ("x2",)
