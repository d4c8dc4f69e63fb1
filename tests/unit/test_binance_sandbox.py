"""The local Binance's market: the same seed brings the same prices, and candles are played back."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from fleet.domain.units import SCALE
from fleet.sandbox.binance.exchange import Exchange
from fleet.sandbox.binance.faults import Fault, Faults
from fleet.sandbox.binance.flow import Flow, read_candles
from fleet.sandbox.binance.ledger import Ledger
from fleet.sandbox.binance.symbols import DEFAULT_SYMBOLS, ApiError, SymbolSpec

SPEC = SymbolSpec(base="ETH", price="3000")


class Time:
    """A clock of the tests, in milliseconds."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now_ms


def prices(seed: int) -> list[list[int]]:
    time = Time()
    exchange = Exchange(DEFAULT_SYMBOLS, Ledger(), time)
    flow = Flow(exchange, seed)
    flow.begin(minutes=20, seconds=5)
    for _ in range(50):
        time.now_ms += 250
        flow.step()
    return [[bar.close for bar in market.candles.of("1m")] for market in exchange.markets.values()]


def test_a_seed_decides_every_price() -> None:
    assert prices(7) == prices(7)
    assert prices(7) != prices(8)


def test_candles_are_played_one_a_step_and_come_out_as_they_went_in(tmp_path: Path) -> None:
    file = tmp_path / "candles.csv"
    file.write_text(
        "open_time,open,high,low,close,volume\n"
        "1,3000,3010,2990,3005,8\n2,3005,3006,2950.5,2960,4\n3,2960,2961,2960,2961,12\n"
    )
    time = Time()
    exchange = Exchange([SPEC], Ledger(), time)
    flow = Flow(exchange, 7)
    flow.begin(minutes=0, seconds=2)
    candles = read_candles(file)
    flow.replay("ETHUSDT", candles)
    for _ in candles:
        time.now_ms += 1_000
        flow.step()
    bars = exchange.markets["ETHUSDT"].candles.of("1s")[-3:]
    assert [(b.open, b.high, b.low, b.close, b.volume) for b in bars] == candles
    assert candles[1][2] == 295_050 * SCALE // 100
    # Longer candles are made of the short ones.
    (minute,) = [b for b in exchange.markets["ETHUSDT"].candles.of("1m") if b.trades]
    five = exchange.markets["ETHUSDT"].candles.of("5m")[-1]
    assert five.low == minute.low == 295_050 * SCALE // 100
    assert five.volume >= minute.volume == 24 * SCALE


def test_a_line_that_is_no_candle_is_named(tmp_path: Path) -> None:
    file = tmp_path / "candles.csv"
    file.write_text("1,3000,3010,2990,3005,8\n2,3000,much,1,1,1\n")
    with pytest.raises(ValueError, match="line 2 is no candle"):
        read_candles(file)


def test_an_interval_or_symbol_nobody_has_is_refused_as_binance_does() -> None:
    exchange = Exchange([SPEC], Ledger(), Time())
    with pytest.raises(ApiError, match="Invalid interval"):
        exchange.markets["ETHUSDT"].candles.of("7m")
    with pytest.raises(ApiError, match="Invalid symbol"):
        exchange.market("NOUSDT")


def test_faults_are_named_drawn_and_counted() -> None:
    faults = Faults(1)
    faults.add(Fault(name="ban", where="order", method="POST", times=1))
    assert faults.strike("time") == ""
    assert faults.strike("order", "GET") == ""
    assert faults.strike("order", "POST") == "ban"
    assert faults.strike("order", "POST") == ""
    assert faults.strike_message() == ""
    with pytest.raises(ValueError, match="no fault 'bann'"):
        Fault(name="bann")
    with pytest.raises(ValueError, match="outside"):
        Fault(name="ban", rate=2)


def test_it_runs_alone_and_says_where(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fleet.sandbox.binance", "--port", "0",
               "--file", str(tmp_path / "b.sqlite")]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = said.split()[3]
        assert httpx.get(f"{address}/api/v3/ping", trust_env=False).json() == {}
        process.terminate()
    wrong = subprocess.run([*command, "--replay", "NOUSDT=x.csv"], capture_output=True, text=True,
                           check=False)  # fmt: skip
    assert wrong.returncode == 2
    assert "Invalid symbol" in wrong.stderr
