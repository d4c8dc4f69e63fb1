"""Candles, a coin, and a slow trader that follows the rules' definitions word by word.

``trade_slowly`` shares nothing with ``decision`` but the parameters: windows are looked at whole at
every bar, money is the domain's, and it says what a rule must have done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fleet.domain.instruments import Instrument, InstrumentId, MarketId, ProportionalFees
from fleet.domain.units import (
    SCALE,
    Price,
    Qty,
    notional_down,
    notional_up,
    parse_cash,
    parse_price,
    parse_qty,
)
from fleet.research.series import Candles
from fleet.strategies.rules import Rule, Terms

Scores = NDArray[np.float64]
MINUTE_NS = 60_000_000_000
START_NS = 1_700_000_040_000_000_000
COIN = InstrumentId("BINANCE:ETHUSDT")
ETH = Instrument(
    id=COIN,
    market_id=MarketId(COIN),
    complement=InstrumentId(""),
    outcome="ETHUSDT",
    tick=parse_price("0.01"),
    lot=parse_qty("0.0001"),
    min_qty=parse_qty("0.0001"),
    min_notional=parse_cash("5"),
    fees=ProportionalFees(rate=SCALE // 1000),
    ceiling=Price(0),
)
CASH = parse_cash("10000")
RULES = (
    Rule(kind="sma_cross", fast=5, slow=20),
    Rule(kind="sma_cross", fast=3, slow=12, stop_loss=SCALE // 200, take_profit=SCALE // 100),
    Rule(kind="breakout", fast=10, slow=20),
    Rule(kind="breakout", fast=20, slow=7, stop_loss=SCALE // 200),
    Rule(kind="mean_reversion", slow=25, enter=3 * SCALE // 2, leave=0),
    Rule(kind="model_threshold", enter=6 * SCALE // 10, leave=45 * SCALE // 100),
    Rule(kind="buy_and_hold", take_profit=SCALE // 100),
    Rule(kind="sma_cross", fast=5, slow=20, vol_window=30, vol_target=SCALE // 2000),
)


def name_of(rule: Rule) -> str:
    return f"{rule.kind}-{rule.fast}-{rule.slow}-{rule.vol_window}"


def terms(instrument: Instrument = ETH, *, slippage: int = SCALE // 10_000) -> Terms:
    return Terms.of(instrument, slippage=slippage)


def candles(
    count: int, seed: int, *, volatility: float = 2e-3, start: float = 3000.0, tick: float = 0.01
) -> Candles:
    """A walk whose opens jump now and then, with highs and lows around."""
    chance = np.random.default_rng(seed)
    close = start * np.exp(np.cumsum(chance.normal(0, volatility, count)))
    opening = np.concatenate([[start], close[:-1]]) * np.exp(
        chance.normal(0, volatility / 4, count) + (chance.random(count) < 0.02) * 0.015
    )
    reach = np.abs(chance.normal(0, volatility, (2, count)))
    rows = [
        opening,
        np.maximum(opening, close) * (1 + reach[0]),
        np.minimum(opening, close) * (1 - reach[1]),
        close,
    ]
    grid = [np.maximum(1, np.rint(row / tick)) * tick for row in rows]
    return Candles(
        symbol="ETHUSDT",
        exchange="BINANCE",
        interval_ns=MINUTE_NS,
        ts=START_NS + MINUTE_NS * np.arange(count, dtype=np.int64),
        open=grid[0],
        high=grid[1],
        low=grid[2],
        close=grid[3],
        volume=chance.uniform(1, 9, count),
        source="synthetic",
    )


def opinions(count: int, seed: int) -> Scores:
    """A model's scores: slow noise between 0 and 1, now and then no opinion."""
    chance = np.random.default_rng(seed)
    noise = np.convolve(chance.normal(0, 1, count + 20), np.ones(20) / 8, "valid")[:count]
    scores = 1 / (1 + np.exp(-noise))
    scores[chance.random(count) < 0.05] = np.nan
    return scores


@dataclass
class Slow:
    """What the slow trader did: (bar, signed quantity, price, fee) and equity by bar."""

    fills: list[tuple[int, int, int, int]] = field(default_factory=list)
    equity: list[int] = field(default_factory=list)
    missed: int = 0


def trade_slowly(
    series: Candles, rule: Rule, on: Terms, cash: int, scores: Scores | None = None
) -> Slow:
    tick, fees = on.tick, ProportionalFees(rate=on.fee_rate)
    opens, highs, lows, closes = (
        [round(float(price) * SCALE / tick) for price in column]
        for column in (series.open, series.high, series.low, series.close)
    )
    done, held, entry, blocked = Slow(), 0, 0, False
    order = limit = 0
    for bar, close in enumerate(closes):
        if order:
            slip = math.ceil(opens[bar] * on.slippage / SCALE)
            at = opens[bar] + slip if order > 0 else max(1, opens[bar] - slip)
            price, size = Price(at * tick), Qty(abs(order))
            if (at - limit) * order <= 0:
                fee = fees.fee(price, size)
                cash += (
                    -notional_up(price, size) - fee
                    if order > 0
                    else notional_down(price, size) - fee
                )
                held, entry = held + order, at if order > 0 else entry
                done.fills.append((bar, order, price, fee))
            else:
                done.missed += 1
            order = 0
        worth = cash + notional_down(Price(close * tick), Qty(held))
        done.equity.append(worth)
        enter, leave = _wish(rule, bar, highs, lows, closes, scores)
        if held:
            stopped = bool(rule.stop_loss) and lows[bar] <= entry - entry * rule.stop_loss // SCALE
            enough = bool(rule.take_profit) and (
                highs[bar] >= entry + entry * rule.take_profit // SCALE
            )
            blocked = not leave and (stopped or enough)
            if leave or stopped or enough:
                limit = max(1, close - close * on.collar // SCALE)
                order = -held
        elif blocked:
            blocked = enter
        elif enter and bar >= rule.vol_window:
            limit = close + close * on.collar // SCALE
            order = _size(rule, on, closes[: bar + 1], cash, worth, limit, fees)
    return done


def _wish(
    rule: Rule,
    bar: int,
    highs: list[int],
    lows: list[int],
    closes: list[int],
    scores: Scores | None,
) -> tuple[bool, bool]:
    """Whether the rule would buy, and whether it would sell."""
    past = closes[: bar + 1]
    if rule.kind == "sma_cross":
        if bar + 1 < rule.slow:
            return False, False
        above = sum(past[-rule.fast :]) * rule.slow > sum(past[-rule.slow :]) * rule.fast
        return above, not above
    if rule.kind == "breakout":
        if bar < max(rule.fast, rule.slow):
            return False, False
        above = past[-1] > max(highs[bar - rule.slow : bar])
        return above, not above and past[-1] < min(lows[bar - rule.fast : bar])
    if rule.kind == "mean_reversion":
        if bar + 1 < rule.slow or len(set(past[-rule.slow :])) == 1:
            return False, False
        window = np.array(past[-rule.slow :], np.float64)
        z = (window[-1] - window.mean()) / window.std()
        return bool(z < -rule.enter / SCALE), bool(z > -rule.leave / SCALE)
    if rule.kind == "model_threshold":
        score = math.nan if scores is None else float(scores[bar])
        return score >= rule.enter / SCALE, score < rule.leave / SCALE
    return True, False


def _size(
    rule: Rule,
    on: Terms,
    closes: list[int],
    cash: int,
    worth: int,
    limit: int,
    fees: ProportionalFees,
) -> int:
    """How much is bought."""
    weight = rule.fraction / SCALE
    if rule.vol_window:
        moves = [max(-0.3, min(0.3, (now - before) / before)) for before, now in pairwise(closes)][
            -rule.vol_window :
        ]
        realised = math.sqrt(sum(move * move for move in moves) / rule.vol_window)
        weight = min(weight, rule.vol_target / SCALE / realised)
    wanted = weight * worth / (closes[-1] * on.tick)
    affordable = cash / (limit * on.tick * (1 + on.fee_rate / SCALE))
    qty = int(min(wanted, affordable) * SCALE) // on.lot * on.lot
    price = Price(limit * on.tick)
    while qty > 0 and notional_up(price, Qty(qty)) + fees.fee(price, Qty(qty)) > cash:
        qty -= on.lot
    return qty if qty >= on.min_qty and notional_up(price, Qty(qty)) >= on.min_notional else 0
