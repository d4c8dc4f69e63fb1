"""Makers and wash traders are known by their trades; honest bettors of every kind are not."""

import pytest

from fleet.research.leader_filters import style_of
from fleet.research.leader_history import LeaderTrade, Role
from tests.leader_builders import history, trade


def quoting(market: str, *, role: Role = Role.MAKER, rounds: int = 15) -> list[LeaderTrade]:
    found = []
    for n in range(rounds):
        found += [
            trade(market, "BUY", "0.48", f"{20 + n}", at_s=n * 100, role=role),
            trade(market, "SELL", "0.51", f"{20 + n}", at_s=n * 100 + 70, role=role),
        ]
    return found


def test_a_market_maker_bears_the_marks() -> None:
    style = style_of(history([*quoting("a"), *quoting("b")]))
    assert style.market_maker
    assert {"two-sided", "offsetting", "maker legs", "short holding"} <= set(style.marks)
    assert style.maker_share == 1.0
    assert not style.wash_trader


def test_a_maker_is_known_without_its_legs() -> None:
    style = style_of(history([*quoting("a", role=Role.UNKNOWN), *quoting("b", role=Role.UNKNOWN)]))
    assert style.maker_share is None
    assert style.market_maker


def test_quoting_both_outcomes_instead_of_selling_is_the_same() -> None:
    trades = []
    for market in ("a", "b"):
        for n in range(15):
            trades += [
                trade(market, "BUY", "0.48", "20", at_s=n * 100, role=Role.MAKER),
                trade(market, "BUY", "0.49", "20", at_s=n * 100 + 70, outcome=1, role=Role.MAKER),
            ]
    assert style_of(history(trades)).market_maker


@pytest.mark.parametrize("role", list(Role))
def test_a_bettor_is_none_however_its_orders_rest(role: Role) -> None:
    trades = [trade(f"m{n}", "BUY", "0.4", "50", at_s=n * 5_000, role=role) for n in range(60)]
    style = style_of(history(trades))
    assert not style.market_maker
    assert not style.wash_trader


def test_one_who_builds_a_position_in_many_small_trades_is_none() -> None:
    trades = [trade(f"m{n % 2}", "BUY", "0.4", "5", at_s=n * 60) for n in range(100)]
    style = style_of(history(trades))
    assert style.marks == ("many small trades",)
    assert not style.market_maker


def test_one_who_takes_profit_days_later_is_none() -> None:
    trades = []
    for n in range(30):
        trades += [
            trade(f"m{n}", "BUY", "0.4", "50", at_s=n * 1_000),
            trade(f"m{n}", "SELL", "0.6", "50", at_s=n * 1_000 + 200_000),
        ]
    style = style_of(history(trades))
    assert style.marks == ("offsetting",)
    assert not style.market_maker


def test_a_few_trades_are_no_habit() -> None:
    assert style_of(history(quoting("a", rounds=5))).marks == ()


def test_loops_are_wash_trading() -> None:
    loops = []
    for n in range(10):
        loops += [
            trade("m", "BUY", "0.5", "1000", at_s=n * 500),
            trade("m", "SELL", "0.5", "1000", at_s=n * 500 + 2),
        ]
    style = style_of(history(loops))
    assert style.wash_share == 1.0
    assert style.wash_trader


def test_minting_against_oneself_is_a_loop() -> None:
    loops = [
        trade("m", "BUY", "0.3", "100", at_s=1),
        trade("m", "BUY", "0.7", "100", at_s=1, outcome=1),
    ]
    assert style_of(history(loops)).wash_trader


def test_buying_a_pair_below_a_dollar_is_arbitrage_not_wash() -> None:
    pair = [
        trade("m", "BUY", "0.3", "100", at_s=1),
        trade("m", "BUY", "0.66", "100", at_s=1, outcome=1),
    ]
    assert style_of(history(pair)).wash_share == 0


def test_a_trade_is_in_one_loop_at_most() -> None:
    trades = [
        trade("m", "BUY", "0.5", "100", at_s=1),
        trade("m", "SELL", "0.5", "100", at_s=2),
        trade("m", "SELL", "0.5", "100", at_s=3),
    ]
    assert style_of(history(trades)).wash_share == pytest.approx(2 / 3)


def test_nothing_has_no_style() -> None:
    style = style_of(history([]))
    assert (style.trades, style.market_maker, style.wash_trader) == (0, False, False)
