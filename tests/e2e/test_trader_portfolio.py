"""The portfolio as processes against the local Binance."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.test_trader_paper import Started, binance, status

__all__ = ["binance"]
WORDS = ("portfolio", "--feed", "sandbox", "--interval", "1s", "--rule", "buy_and_hold",
         "--unproven", "--auto-restart", "--restart-delay", "0.2")  # fmt: skip


@pytest.fixture
def portfolio(
    tmp_path: Path, binance: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Started]]:
    (tmp_path / ".env").write_text("SUPPORTED_TOKENS=BINANCE:ETHUSDT,ALPACA:AAPL,BINANCE:BTCUSDT\n")
    (tmp_path / ".env").chmod(0o600)
    made: list[Started] = []

    def run() -> Started:
        made.append(Started(tmp_path, binance, *WORDS))
        return made[-1]

    yield run
    for one in made:
        if one.process.poll() is None:
            for process in psutil.Process(one.process.pid).children(recursive=True):
                process.kill()
            one.process.kill()
        one.process.wait()
        one.close()


def bots(wrapper: Started) -> dict[str, int]:
    found = {}
    for child in psutil.Process(wrapper.process.pid).children():
        words = child.cmdline()
        found[words[words.index("--symbol") + 1]] = child.pid
    return found


def test_each_token_has_a_process_and_a_share_and_one_failure_leaves_the_others_alone(
    portfolio: Callable[[], Started], tmp_path: Path
) -> None:
    whole = portfolio()
    whole.until(lambda: whole.said("FILLED BUY") == 2)
    assert whole.said("SKIPPED ALPACA:AAPL: ALPACA has no running feed here yet")
    # Nothing is known of how they move, so they count as one bet: 40 % of $5000 for both. That is
    # more than two bots may have of what the fleet allows in a market.
    assert whole.said("shares are at most $500.00: FLEET_MAX_MARKET_USD among 2 bots")
    assert whole.said("BINANCE:ETHUSDT: $500.00")
    assert whole.said("BINANCE:BTCUSDT: $500.00")
    before = bots(whole)
    os.kill(before["ETHUSDT"], signal.SIGKILL)
    whole.until(lambda: whole.said("READY") == 3)
    after = bots(whole)
    assert after["BTCUSDT"] == before["BTCUSDT"]
    assert after["ETHUSDT"] != before["ETHUSDT"]
    assert whole.end() == 0
    assert whole.said("FILLED BUY") == 2
    assert not any(psutil.pid_exists(pid) for pid in (*before.values(), *after.values()))
    assert whole.said("SUMMARY BINANCE:ETHUSDT") == 1
    assert whole.said("SUMMARY BINANCE:BTCUSDT") == 1
    assert whole.said("SUMMARY portfolio: made $") == 1
    assert status(tmp_path, "trader-binance-btcusdt")["bot"] == "Trader-BINANCE:BTCUSDT"
