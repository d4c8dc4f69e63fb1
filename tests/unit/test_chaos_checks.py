"""The checks of a chaos run, each against a run that breaks just this: a check must be able to fail."""

import json
from collections.abc import Sequence

import pytest

from fleet.domain import events as ev
from fleet.domain.commands import SubmitOrder
from fleet.engine.risk import RiskLimits
from fleet.engine.state import State
from tests.builders import (
    FAILED,
    MINED,
    c,
    canceled,
    deposit,
    filled,
    settled,
    submit,
    universe,
    yes,
)
from tests.chaos_checks import JournalWatch, Posted, at_rest, nothing_rests, same_holdings
from tests.proof import Disproved

LIMITS = RiskLimits(
    max_market_exposure=c("20"), max_wallet_exposure=c("30"), max_orders_in_flight=3
)
ORDER = submit("o1", yes(1), "10", "0.50")


def decided(*orders: SubmitOrder, decision: int = 1) -> ev.DecisionMade:
    return ev.DecisionMade(decision=decision, orders=orders)


def signed(order: str, digest: str) -> ev.OrderSigned:
    return ev.OrderSigned(client_order_id=order, venue_order_id=digest)  # type: ignore[arg-type]


GOOD: list[ev.Event] = [
    deposit("100"), decided(ORDER), signed("o1", "0xa"), filled(ORDER, "4", "0.49", trade="t1"),
    filled(ORDER, "6", "0.50", trade="t2"), settled("t1", MINED), settled("t2", MINED),
]  # fmt: skip


def watched(events: Sequence[ev.Event], limits: RiskLimits = LIMITS) -> JournalWatch:
    watch = JournalWatch(universe(4), limits)
    for event in events:
        watch.take(event)
    return watch


def test_a_sound_journal_passes() -> None:
    watch = watched(GOOD)
    assert (watch.seen.orders, watch.seen.fills, watch.seen.entries) == (1, 2, len(GOOD))
    assert watch.seen.stake_max == c("5")
    same_holdings(watch.state, cash=95_040_000, tokens={"y1": 10_000_000, "y2": 0})


@pytest.mark.parametrize(
    ("events", "word"),
    [
        ([*GOOD, decided(ORDER, decision=2)], "decided twice"),
        ([*GOOD, signed("o1", "0xb")], "signed twice"),
        ([deposit("9"), signed("o1", "0xa")], "never decided"),
        (
            [
                deposit("100"), decided(ORDER, submit("o2", yes(2))), signed("o1", "0xa"),
                signed("o2", "0xa"),
            ],
            "order hash 0xa is of o1 and of o2",
        ),
        ([deposit("9"), filled(ORDER, "1", "0.50")], "nobody decided"),
        ([*GOOD, filled(ORDER, "1", "0.50", trade="t3")], "beyond order"),
        ([*GOOD[:3], filled(ORDER, "1", "0.51")], "beyond order"),
        ([*GOOD[:4], filled(ORDER, "5", "0.49", trade="t1")], "two ways"),
        (
            [deposit("9"), ev.ReconciliationFailed(venue="v", difference="cash: 1, 2")],
            "reconciliation failed: cash",
        ),
        (
            [ev.TradingStateChanged(state=ev.TradingState.HALTED, reason="odd", by="engine")],
            "the engine halted: odd",
        ),
    ],
)  # fmt: skip
def test_each_breach_is_found(events: Sequence[ev.Event], word: str) -> None:
    with pytest.raises(Disproved, match=word):
        watched(events)


def test_the_cap_of_a_market_counts_what_rests_and_what_is_held() -> None:
    first, second = submit("o1", yes(1), "20", "0.50"), submit("o2", yes(1), "22", "0.50")
    events = [
        deposit("100"),
        decided(first),
        filled(first, "20", "0.50"),
        decided(second, decision=2),
    ]
    with pytest.raises(Disproved, match="market m1, above its cap"):
        watched(events)
    watched([*events[:3], decided(submit("o2", yes(1), "20", "0.50"), decision=2)])


def test_the_cap_of_the_wallet_counts_all_markets() -> None:
    orders = [submit(f"o{n}", yes(n), "24", "0.50") for n in (1, 2, 3)]
    with pytest.raises(Disproved, match="in the wallet, above its cap"):
        watched([deposit("100"), decided(*orders)])


def test_a_failed_settlement_loosens_the_caps_by_its_worth_and_no_more() -> None:
    first = submit("o1", yes(1), "36", "0.50")
    failed = [deposit("100"), decided(first), filled(first, "36", "0.50"), settled("t1", FAILED)]
    watched([*failed, decided(submit("o2", yes(1), "70", "0.50"), decision=2)],
            RiskLimits(max_market_exposure=c("20"), max_wallet_exposure=c("60")))  # fmt: skip
    with pytest.raises(Disproved, match="above its cap"):
        watched([*failed, decided(submit("o2", yes(1), "78", "0.50"), decision=2)],
                RiskLimits(max_market_exposure=c("20"), max_wallet_exposure=c("60")))  # fmt: skip


def test_the_number_of_open_orders_is_bounded() -> None:
    orders = [submit(f"o{n}", yes(n), "5", "0.10") for n in (1, 2, 3, 4)]
    with pytest.raises(Disproved, match="4 orders are open"):
        watched([deposit("100"), decided(*orders)])
    done = canceled("o1")
    watched([deposit("100"), decided(*orders[:3]), done, decided(orders[3], decision=2)])


@pytest.mark.parametrize(
    ("cash", "tokens", "word"),
    [
        (95_040_001, {"y1": 10_000_000}, "-100 apart"),
        (95_040_000, {"y1": 9_999_999}, "tokens"),
        (95_040_000, {}, "tokens"),
        (95_040_000, {"y1": 10_000_000, "n3": 1}, "n3"),
    ],
)
def test_one_unit_apart_is_a_difference(cash: int, tokens: dict[str, int], word: str) -> None:
    with pytest.raises(Disproved, match=word):
        same_holdings(watched(GOOD).state, cash=cash, tokens=tokens)


@pytest.mark.parametrize("left", [3, 5, 6])
def test_what_is_open_or_unsettled_is_not_rest(left: int) -> None:
    with pytest.raises(Disproved, match="still open"):
        at_rest(watched(GOOD[:left]).state)
    at_rest(State())


def test_an_order_that_rests_unknown_is_found() -> None:
    nothing_rests([])
    with pytest.raises(Disproved, match="0xa"):
        nothing_rests(["0xa"])


def body(salt: int, price: str = "5", token: str = "1") -> bytes:
    order = {"salt": salt, "tokenId": token, "side": "BUY", "makerAmount": price}
    return json.dumps({"order": order, "owner": "me"}).encode()


def test_the_same_bytes_may_go_again_and_no_others_under_their_salt() -> None:
    posted = Posted()
    posted.posted(body(1))
    posted.posted(b"[" + body(1) + b"," + body(2) + b"]")
    assert sorted(posted.sent.values()) == [1, 2]
    with pytest.raises(Disproved, match="salt 1 was signed over two"):
        posted.posted(body(1, price="6"))


def test_an_id_is_accepted_once() -> None:
    posted = Posted()
    taken = json.dumps({"success": True, "errorMsg": "", "orderID": "0xa"}).encode()
    refused = json.dumps([{"success": True, "errorMsg": "Duplicated.", "orderID": "0xa"}]).encode()
    for answer in (taken, refused, b"<html>", b"1", b"[]"):
        posted.answered(answer)
    with pytest.raises(Disproved, match="0xa twice"):
        posted.answered(taken)
