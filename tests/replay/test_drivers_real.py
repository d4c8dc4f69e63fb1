"""Both drivers on real candles: the same trades, fees and equity, to the last unit."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fleet.domain.units import SCALE, Price, Qty, parse_cash
from fleet.research.engine_driver import drive
from fleet.research.series import Candles
from fleet.research.sweep import Bars, run
from fleet.strategies.rules import Rule
from tests.candle_world import ETH, name_of, opinions, terms

pytestmark = pytest.mark.realdata
CASH = parse_cash("100000")
FILES = {
    "binance_spot_1m/ETHUSDT_1m_2024-07_08": (60, "0.01"),
    "binance_spot_1m/BTCUSDT_1m_2024-07_08": (60, "0.01"),
    "binance_um_futures_30m_1h_4h/ETHUSDT_1h": (3600, "0.01"),
    "binance_um_futures_30m_1h_4h/DOGEUSDT_1h": (3600, "0.00001"),
}
REAL_RULES = (
    Rule(kind="sma_cross", fast=20, slow=60),
    Rule(kind="breakout", fast=60, slow=120, stop_loss=SCALE // 50, take_profit=SCALE // 20),
    Rule(kind="mean_reversion", slow=90, enter=2 * SCALE, leave=0, stop_loss=SCALE // 20),
    Rule(kind="model_threshold", enter=55 * SCALE // 100, leave=45 * SCALE // 100),
    Rule(kind="sma_cross", fast=10, slow=100, vol_window=240, vol_target=SCALE // 1000),
    Rule(kind="buy_and_hold"),
)


def real(name: str, seconds: int) -> Candles:
    folder = os.environ.get("FLEET_DATA")
    if not folder:
        pytest.skip("FLEET_DATA is not set")
    table = pl.read_parquet(Path(folder) / "candles" / f"{name}.parquet").sort("ts")
    columns = {
        key: table[key].to_numpy().astype(np.float64)
        for key in ("open", "high", "low", "close", "volume")
    }
    times = table["ts"].cast(pl.Datetime("ns")).cast(pl.Int64).to_numpy()
    return Candles(
        symbol=name,
        exchange="BINANCE",
        interval_ns=seconds * 10**9,
        ts=times,
        source=name,
        **columns,
    )


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("rule", REAL_RULES, ids=name_of)
def test_both_drivers_trade_the_same(name: str, rule: Rule) -> None:
    seconds, tick = FILES[name]
    series = real(name, seconds)
    coin = dataclasses.replace(
        ETH, tick=Price(round(float(tick) * SCALE)), lot=Qty(SCALE // 100_000)
    )
    on, scores = terms(coin), opinions(len(series), 6)
    loop = run(Bars.of(series, coin.tick), rule, on, CASH, scores)
    engine = drive(series, rule, coin, on, CASH, scores=scores)
    assert len(loop.fills) and np.array_equal(engine.fills[:, :4], loop.fills[:, :4])
    assert np.array_equal(engine.equity, loop.equity)
    assert (engine.cash, engine.held, engine.missed) == (loop.cash, loop.held, loop.missed)
    assert repr(engine.performance) == repr(loop.performance)
