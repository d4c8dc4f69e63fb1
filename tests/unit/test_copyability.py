"""A copier comes later, pays more, gets less, and is never better off than its source says."""

from dataclasses import replace

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.domain.instruments import FeeSchedule, Side
from fleet.domain.units import SCALE, Price, Qty, parse_cash, parse_price, parse_qty
from fleet.research.copyability import (
    AssumedPrices,
    CopyRules,
    Print,
    RecordedPrints,
    replay,
)
from fleet.research.leader_history import Role, market_results
from tests.leader_builders import START_NS, history, trade

CENT = Price(SCALE // 100)
FREE_OF_SLIPPAGE = AssumedPrices(slippage=Price(0))


def printed(price: str, qty: str, at_s: float, side: str = "BUY", wallet: str = "other") -> Print:
    return Print(
        ts_ns=START_NS + int(at_s * NS_PER_SECOND), side=Side(side), price=parse_price(price),
        qty=parse_qty(qty), wallet=wallet,
    )  # fmt: skip


def test_a_copy_is_half_the_size_a_cent_dearer_two_seconds_later_and_pays_the_fee() -> None:
    made = history(
        [trade("m", "BUY", "0.4", "100", role=Role.MAKER)],
        won=["m"],
        fees=FeeSchedule(rate=5 * SCALE // 100),
    )
    found = replay(made, CopyRules(), AssumedPrices(slippage=CENT))
    (copy,) = found.history.trades
    assert (copy.qty, copy.price) == (50 * SCALE, parse_price("0.41"))
    assert copy.ts_ns == START_NS + 2 * NS_PER_SECOND
    # The leader rested and paid nothing; the copier takes: 50 x 0.05 x 0.41 x 0.59 = 0.604750.
    assert market_results(found.history)[0].fees == parse_cash("0.60475")
    assert found.slippage == parse_cash("0.5")
    assert not found.measured


def test_one_market_costs_no_more_than_its_cap() -> None:
    trades = [trade("m", "BUY", "0.5", "1000", at_s=n) for n in range(9)]
    rules = CopyRules(market_cap=parse_cash("500"))
    found = replay(history(trades), rules, FREE_OF_SLIPPAGE)
    assert market_results(found.history)[0].stake == parse_cash("500")
    assert found.skipped["below a dollar, or the market's cap is spent"] == 7


def test_exits_are_followed_in_proportion_and_never_beyond_what_is_held() -> None:
    trades = [
        trade("m", "BUY", "0.5", "100"),
        trade("m", "SELL", "0.6", "25", at_s=10),
        trade("m", "SELL", "0.6", "999", at_s=20),
        trade("m", "SELL", "0.6", "5", at_s=30),
    ]
    found = replay(history(trades), CopyRules(), FREE_OF_SLIPPAGE)
    assert [t.qty for t in found.history.trades] == [50 * SCALE, Qty(1250000000), Qty(3750000000)]


def test_nothing_is_copied_once_the_market_is_known_to_be_resolved() -> None:
    made = history([trade("m", "BUY", "0.9", "100", at_s=99)], won=["m"], known_s=100)
    found = replay(made, CopyRules(), FREE_OF_SLIPPAGE)
    assert found.history.trades == ()
    assert found.skipped == {"resolved before our order": 1}


def test_a_price_above_a_dollar_or_beyond_the_chase_is_not_bought() -> None:
    made = history([trade("m", "BUY", "0.995", "100")])
    assert replay(made, CopyRules(), AssumedPrices(slippage=CENT)).history.trades == ()
    rules = CopyRules(chase=CENT)
    made = history([trade("m", "BUY", "0.5", "100")])
    assert replay(made, rules, AssumedPrices(slippage=Price(2 * CENT))).fill_ratio == 0


def test_a_trade_below_a_dollar_is_not_copied() -> None:
    made = history([trade("m", "BUY", "0.01", "150")])
    assert replay(made, CopyRules(), FREE_OF_SLIPPAGE).history.trades == ()


def test_prints_before_the_delay_are_not_ours_to_have() -> None:
    made = history([trade("m", "BUY", "0.4", "100", token="t")])
    prints = {"t": [printed("0.40", "500", 1), printed("0.43", "30", 3), printed("0.44", "9", 4)]}
    found = replay(made, CopyRules(), RecordedPrints(prints))
    (copy,) = found.history.trades
    assert copy.qty == 39 * SCALE
    assert copy.price == -(-(30 * 43 + 9 * 44) * SCALE // (39 * 100)), "rounded up"
    assert found.fill_ratio == pytest.approx(39 / 50)
    assert found.measured


def test_prints_of_the_leader_the_other_side_too_dear_or_too_late_are_not_ours() -> None:
    leader = "0x" + "ab" * 20
    made = history([trade("m", "BUY", "0.4", "100", token="t")])
    prints = {
        "t": [
            printed("0.40", "500", 3, wallet=leader),
            printed("0.40", "500", 3, side="SELL"),
            printed("0.46", "500", 3),
            printed("0.40", "500", 303),
        ]
    }
    assert replay(made, CopyRules(), RecordedPrints(prints)).history.trades == ()


def test_an_unrecorded_token_is_left_to_the_assumption_if_there_is_one() -> None:
    made = history([trade("m", "BUY", "0.4", "100", token="t")])
    assert replay(made, CopyRules(), RecordedPrints({})).history.trades == ()
    source = RecordedPrints({}, otherwise=AssumedPrices())
    found = replay(made, CopyRules(), source)
    assert len(found.history.trades) == 1
    assert not found.measured


def test_a_sale_may_be_at_any_price_because_the_leader_is_gone() -> None:
    made = history(
        [
            trade("m", "BUY", "0.5", "100", token="t"),
            trade("m", "SELL", "0.5", "100", at_s=9, token="t"),
        ]
    )
    prints = {"t": [printed("0.5", "99", 3), printed("0.1", "99", 12, side="SELL")]}
    found = replay(made, CopyRules(), RecordedPrints(prints))
    assert [t.price for t in found.history.trades] == [parse_price("0.5"), parse_price("0.1")]
    assert market_results(found.history)[0].pnl == parse_cash("-20")


def test_a_copy_never_earns_more_than_a_copy_without_costs() -> None:
    trades = [trade(f"m{n}", "BUY", "0.3", "100", at_s=n) for n in range(9)]
    made = history(trades, won=["m1", "m2"], lost=[f"m{n}" for n in range(3, 9)])
    paid = [
        sum(r.pnl or 0 for r in market_results(replay(made, CopyRules(), source).history))
        for source in (FREE_OF_SLIPPAGE, AssumedPrices(slippage=CENT))
    ]
    assert paid[1] < paid[0]
    dear = replace(CopyRules(), ratio=SCALE // 4)
    assert (
        replay(made, dear, FREE_OF_SLIPPAGE).wanted * 2
        == replay(made, CopyRules(), FREE_OF_SLIPPAGE).wanted
    )
