"""The engine's caller of the rule: history, restarts, halts, and what it leaves alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from fleet.domain import events as ev
from fleet.domain.instruments import Side
from fleet.domain.units import SCALE, Price, Qty, parse_price
from fleet.engine.state import fold
from fleet.engine.view import View
from fleet.research.engine_driver import EngineDriver, universe_of
from fleet.research.sweep import Bars, run
from fleet.strategies.candles import CandleStrategy
from fleet.strategies.rules import Rule, RuleError, Terms
from tests.builders import instrument, market_id, no, yes
from tests.candle_world import CASH, ETH, MINUTE_NS, RULES, candles, name_of, terms

CROSS, STOPPING = RULES[0], RULES[1]
BARS = 600


def bar(driver: EngineDriver, row: int, late_ns: int = 0) -> ev.BarClosed:
    """A candle of the driver's as a feed would hand it in."""
    series, bars = driver._candles, driver.bars
    closed_ns = int(series.ts[row]) + MINUTE_NS
    opened, high, low, close = (
        Price(int(column[row]) * bars.tick)
        for column in (bars.open, bars.high, bars.low, bars.close)
    )
    return ev.BarClosed(
        closed_ns, closed_ns + late_ns, ETH.id, MINUTE_NS, opened, high, low, close, Qty(SCALE)
    )


class Kept:
    """A journal that keeps what is written."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []

    def write(self, events: Sequence[ev.Event]) -> int:
        self.events += events
        return len(self.events)


def driver_of(rule: Rule, seed: int = 4) -> tuple[EngineDriver, Kept]:
    journal = Kept()
    series = candles(BARS, seed)
    return EngineDriver(series, rule, ETH, terms(), CASH, journal=journal), journal


@pytest.mark.parametrize("rule", [RULES[0], RULES[1], RULES[3], RULES[4], RULES[7]], ids=name_of)
def test_a_restart_trades_on_as_if_there_had_been_none(rule: Rule) -> None:
    """A strategy that knows the folded journal and the newest bars ends where the first would."""
    whole = driver_of(rule)[0].run()
    assert len(whole.fills) > 10
    for cut in range(120, BARS, 31):
        driver, journal = driver_of(rule)
        driver.feed(cut)
        fresh = CandleStrategy(ETH, rule, terms())
        view = View(fold(journal.events, universe_of(ETH)))
        now_ns = bar(driver, cut).ts_event
        for row in range(cut - 110, cut):
            late_ns = now_ns + 2 * MINUTE_NS - bar(driver, row).ts_event
            assert not fresh.on_event(bar(driver, row, late_ns), view)
        driver.engine.strategy = driver.strategy = fresh
        again = driver.run()
        assert np.array_equal(again.fills, whole.fills)
        assert np.array_equal(again.equity, whole.equity)


def test_history_warms_up_and_orders_nothing() -> None:
    driver, _ = driver_of(CROSS)
    for row in range(BARS):
        assert not driver.engine.handle(bar(driver, row, late_ns=2 * MINUTE_NS))
    figures = driver.strategy.figures()
    assert driver.strategy.warm and figures["bars_history"] > 0 and figures["entries"] == 0


def test_a_bar_told_twice_counts_once_and_a_gap_is_counted() -> None:
    driver, _ = driver_of(CROSS)
    for row in (0, 1, 1, 0, 5):
        driver.engine.handle(bar(driver, row))
    figures = driver.strategy.figures()
    assert (figures["bars_seen"], figures["bars_repeated"], figures["bars_missing"]) == (3, 2, 3)


def test_while_halted_it_watches_and_asks_for_nothing() -> None:
    driver, _ = driver_of(CROSS)
    driver.engine.handle(
        ev.TradingStateChanged(state=ev.TradingState.HALTED, reason="asked to", by="test")
    )
    driver.feed(BARS)
    assert driver.engine.dropped_intents == 0 and driver.strategy.figures()["entries"] == 0


def test_while_reducing_it_sells_and_does_not_buy() -> None:
    driver, _ = driver_of(CROSS)
    row = 0
    while not driver.state.portfolio.positions:
        row += 1
        driver.feed(row)
    driver.engine.handle(
        ev.TradingStateChanged(state=ev.TradingState.REDUCING, reason="asked to", by="test")
    )
    driver.feed(BARS)
    assert not driver.state.portfolio.positions
    sides = [order.side for order in driver.state.orders]
    assert sides.count(Side.BUY) == 1 and sides[-1] is Side.SELL


def test_another_instrument_is_none_of_its_business() -> None:
    driver, _ = driver_of(CROSS)
    other = bar(driver, 0)._replace(instrument_id=yes())
    driver.engine.handle(other)
    assert driver.strategy.figures()["bars_seen"] == 0


def test_after_a_stop_it_waits_until_the_rule_has_let_go() -> None:
    series = candles(3000, 8)
    outcome = run(Bars.of(series, ETH.tick), STOPPING, terms(), CASH)
    free = run(Bars.of(series, ETH.tick), CROSS, terms(), CASH)
    stops = outcome.fills[outcome.fills[:, 4] >= 3, 0]
    buys = outcome.fills[outcome.fills[:, 4] == 1, 0]
    assert len(stops) and not np.isin(stops + 1, buys).any() and len(free.fills)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "magic"},
        {"kind": "sma_cross", "fast": 20, "slow": 20},
        {"kind": "sma_cross", "fast": 0, "slow": 20},
        {"kind": "breakout", "fast": 0, "slow": 20},
        {"kind": "mean_reversion", "slow": 1, "enter": 1},
        {"kind": "mean_reversion", "slow": 20, "enter": 1, "leave": 1},
        {"kind": "model_threshold", "enter": 1, "leave": 2},
        {"kind": "buy_and_hold", "fraction": 0},
        {"kind": "buy_and_hold", "stop_loss": SCALE},
        {"kind": "buy_and_hold", "vol_window": 20},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RuleError):
        Rule(**wrong)  # type: ignore[arg-type]


def test_terms_are_for_coins_and_shares() -> None:
    with pytest.raises(RuleError):
        Terms.of(instrument(yes(), no(), market_id()))
    with pytest.raises(RuleError):
        Terms(tick=parse_price("0.01"), lot=ETH.lot, slippage=SCALE)


def test_candles_and_scores_that_do_not_go_together_are_refused() -> None:
    series = candles(50, 1)
    model = RULES[5]
    with pytest.raises(ValueError, match="needs scores"):
        run(Bars.of(series, ETH.tick), model, terms(), CASH)
    with pytest.raises(ValueError, match="3 scores for 50 bars"):
        run(Bars.of(series, ETH.tick), model, terms(), CASH, np.full(3, 0.5))
    with pytest.raises(ValueError, match="one score a bar"):
        EngineDriver(series, model, ETH, terms(), CASH)
    series.close[7] = math.nan
    with pytest.raises(ValueError, match="bar 7"):
        Bars.of(series, ETH.tick)
