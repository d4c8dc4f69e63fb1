"""SMA 20/60 over the same candles by NautilusTrader, backtesting.py and vectorbt.

``bars.py nautilus|backtesting|vectorbt FILE``. Each computes its own averages and signals; a signal
of a close is filled at the next open (NautilusTrader fills at the close it sees: only its speed is
compared). The last two then trade with the quantities our loop traded (``FILE`` with
``.ours.npz``), so that the same trades must come to the same money; run by bench/run.py.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pandas as pd
from candles import CASH, ENTRY, FAST, FEE, LOT, SLOW
from timing import report

UNIT = 100_000_000
COLUMNS = ["Open", "High", "Low", "Close", "Volume"]


def frame(path: Path) -> pd.DataFrame:
    """The candles as pandas has them."""
    rows = np.load(path)
    index = pd.to_datetime(rows[:, 0].astype(np.int64), utc=True)
    return pd.DataFrame(rows[:, 1:], index=index, columns=COLUMNS)


def our_fills(path: Path) -> tuple[np.ndarray, float]:
    """Our fills (bar, signed quantity, price, fee, reason) and final equity."""
    kept = np.load(path.with_suffix(".ours.npz"))
    return kept["fills"], kept["equity"][-1] / UNIT


def agreement(
    path: Path, bars: np.ndarray, prices: np.ndarray, equity: float, data: pd.DataFrame
) -> dict[str, object]:
    """How a peer's fills (bar and price, in order) compare with ours.

    Where the two hold differently, it must have begun at a close at which the averages are exactly
    equal (there floating point decides as it happens to round), or at the first close at which
    they are known (backtesting.py begins one bar later); ``unexplained`` counts the others.
    """
    fills, ours = our_fills(path)
    mine = dict(zip(fills[:, 0].tolist(), (fills[:, 2] / UNIT).tolist(), strict=True))
    theirs = dict(zip(bars.tolist(), prices.tolist(), strict=True))
    both = mine.keys() & theirs.keys()
    apart = np.zeros(len(data), bool)
    for bar in mine.keys() ^ theirs.keys():  # From a fill of one alone to the next such fill.
        apart[bar:] ^= True
    begins = np.flatnonzero(apart & ~np.concatenate([[False], apart[:-1]]))
    cents = np.rint(data["Close"].to_numpy() * 100).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(cents)])
    unexplained = [
        bar for bar in begins.tolist()
        if bar != SLOW
        and (sums[bar] - sums[bar - FAST]) * SLOW != (sums[bar] - sums[bar - SLOW]) * FAST
    ]  # fmt: skip
    worst = max((abs(mine[bar] - theirs[bar]) / mine[bar] for bar in both), default=0.0)
    return {
        "fills": len(theirs), "ours": len(mine), "apart": len(begins),
        "unexplained": len(unexplained), "price_difference": worst, "profit": equity - CASH,
        "profit_difference": abs(equity - ours) / abs(ours - CASH),
    }  # fmt: skip


def time_vectorbt(path: Path) -> dict[str, object]:
    """vectorbt: averages, signals and portfolio, without any figures of it.

    Its ratios took seconds for a portfolio it had not seen; leaving them out is its best case.
    """
    import vectorbt as vbt

    data = frame(path)
    close, opening = data["Close"], data["Open"]

    def trade() -> vbt.Portfolio:
        # Plain arrays for the signals: its own crossings and shifts take twenty times as long.
        fast, slow = vbt.MA.run(close, FAST), vbt.MA.run(close, SLOW)
        above = fast.ma.to_numpy() > slow.ma.to_numpy()
        entries, exits = np.zeros(len(close), bool), np.zeros(len(close), bool)
        entries[1:], exits[SLOW:] = above[:-1], ~above[SLOW - 1 : -1]
        return vbt.Portfolio.from_signals(
            close, entries, exits, price=opening, fees=FEE, init_cash=CASH, freq="1min",
            size=ENTRY, size_type="value",
        )  # fmt: skip

    start = perf_counter()
    trade()
    first = perf_counter() - start
    taken = []
    for _ in range(7):
        start = perf_counter()
        result = trade()
        taken.append(perf_counter() - start)
    orders = result.orders.records
    fills, _ = our_fills(path)
    sizes, at = np.full(len(data), np.nan), opening.to_numpy()
    sizes[fills[:, 0]] = fills[:, 1] / UNIT
    same_sizes = vbt.Portfolio.from_orders(
        close, size=sizes, price=opening, fees=FEE, init_cash=CASH, freq="1min"
    )
    bars = orders["idx"].to_numpy()
    return {
        "job_ms": median(taken) * 1000, "first_s": first,
        **agreement(path, bars, at[bars], float(same_sizes.final_value()), data),
    }  # fmt: skip


def time_backtesting(path: Path) -> dict[str, object]:
    """backtesting.py, in units of a lot, because it trades whole units."""
    from backtesting import Backtest, Strategy

    data = frame(path)
    lots = data.copy()
    lots[COLUMNS[:4]] *= LOT
    fills, _ = our_fills(path)
    sizes = {int(bar): round(qty / UNIT / LOT) for bar, qty in fills[:, :2].tolist()}

    def mean(prices: np.ndarray, window: int) -> pd.Series:
        return pd.Series(prices).rolling(window).mean()

    class Cross(Strategy):
        def init(self) -> None:
            self.stake = round(ENTRY / self.data.Close[-1])
            self.fast = self.I(mean, self.data.Close, FAST)
            self.slow = self.I(mean, self.data.Close, SLOW)

        def next(self) -> None:
            above = self.fast[-1] > self.slow[-1]
            if above and not self.position:
                size = sizes.get(len(self.data))  # The order is filled in the next row.
                self.buy(size=size if size and size > 0 else self.stake)
            elif self.position and not above:
                self.position.close()

    test = Backtest(lots, Cross, cash=CASH, commission=FEE, finalize_trades=False)
    start = perf_counter()
    stats = test.run()
    seconds = perf_counter() - start
    trades = stats["_trades"]
    held = list(stats["_strategy"].trades)
    bars = [*trades["EntryBar"], *trades["ExitBar"], *(trade.entry_bar for trade in held)]
    prices = [*trades["EntryPrice"], *trades["ExitPrice"], *(trade.entry_price for trade in held)]
    return {
        "seconds": seconds,
        **agreement(
            path, np.array(bars), np.array(prices) / LOT, float(stats["Equity Final [$]"]), data
        ),
    }


def time_nautilus(path: Path) -> dict[str, object]:
    """NautilusTrader's backtest engine: its bars, its averages, market orders, fees."""
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig, StrategyConfig
    from nautilus_trader.indicators import SimpleMovingAverage
    from nautilus_trader.model.currencies import ETH, USDT
    from nautilus_trader.model.data import Bar, BarType
    from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
    from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
    from nautilus_trader.model.instruments import CurrencyPair
    from nautilus_trader.model.objects import Money, Price, Quantity
    from nautilus_trader.persistence.wranglers import BarDataWrangler
    from nautilus_trader.trading.strategy import Strategy

    pair = CurrencyPair(
        instrument_id=InstrumentId.from_str("ETHUSDT.BENCH"), raw_symbol=Symbol("ETHUSDT"),
        base_currency=ETH, quote_currency=USDT, price_precision=2, size_precision=4,
        price_increment=Price.from_str("0.01"), size_increment=Quantity.from_str("0.0001"),
        maker_fee=Decimal(str(FEE)), taker_fee=Decimal(str(FEE)), ts_event=0, ts_init=0,
    )  # fmt: skip
    kind = BarType.from_str("ETHUSDT.BENCH-1-MINUTE-LAST-EXTERNAL")

    class Cross(Strategy):
        def __init__(self) -> None:
            super().__init__(StrategyConfig())
            self.fast = SimpleMovingAverage(FAST)
            self.slow = SimpleMovingAverage(SLOW)
            self.orders = 0

        def on_start(self) -> None:
            self.register_indicator_for_bars(kind, self.fast)
            self.register_indicator_for_bars(kind, self.slow)
            self.subscribe_bars(kind)

        def on_bar(self, bar: Bar) -> None:
            if not self.slow.initialized:
                return
            above, flat = self.fast.value > self.slow.value, self.portfolio.is_flat(pair.id)
            if above and flat:
                size = pair.make_qty(ENTRY / float(bar.close))
                self.submit_order(self.order_factory.market(pair.id, OrderSide.BUY, size))
                self.orders += 1
            elif not above and not flat:
                self.close_all_positions(pair.id)
                self.orders += 1

    engine = BacktestEngine(
        BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False)
    )
    engine.add_venue(
        Venue("BENCH"), oms_type=OmsType.NETTING, account_type=AccountType.CASH,
        starting_balances=[Money(CASH, USDT)],
    )  # fmt: skip
    engine.add_instrument(pair)
    data = frame(path).rename(columns=str.lower)
    engine.add_data(BarDataWrangler(kind, pair).process(data))
    strategy = Cross()
    engine.add_strategy(strategy)
    start = perf_counter()
    engine.run()
    seconds = perf_counter() - start
    return {"seconds": seconds, "bars_per_s": len(data) / seconds, "orders": strategy.orders}


def main() -> None:
    """Measure one peer over FILE."""
    peer = {
        "nautilus": time_nautilus, "backtesting": time_backtesting, "vectorbt": time_vectorbt,
    }[sys.argv[1]]  # fmt: skip
    report(peer(Path(sys.argv[2])))


if __name__ == "__main__":
    main()
