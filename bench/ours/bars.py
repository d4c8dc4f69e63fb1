"""SMA 20/60 over a year of minutes by both our drivers, and what a sweep of it costs.

``bars.py sweep FILE`` times the loop: candles to the tick grid, indicators, fills, equity, metrics;
a grid of 1,000 combinations; four times the bars. ``bars.py engine FILE`` times the engine, risk
and paper venue over the same candles. Both write what they traded beside FILE, for
``peers/bars.py`` and ``agreement.py``. Run by bench/run.py.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from candles import CASH, ENTRY, FAST, FEE, LOT, MINUTE_NS, SLOW, START_NS, TICK
from timing import report

from fleet.domain.instruments import Instrument, InstrumentId, MarketId, ProportionalFees
from fleet.domain.units import SCALE, Cash, Price, Qty
from fleet.research.engine_driver import EngineDriver, drive
from fleet.research.series import Candles
from fleet.research.sweep import Bars, Loop, Outcome, run, sweep
from fleet.strategies.rules import Rule, Terms

ROUNDS = 15
COIN = InstrumentId("BENCH:ETHUSDT")
INSTRUMENT = Instrument(
    id=COIN, market_id=MarketId(COIN), complement=InstrumentId(""), outcome="ETHUSDT",
    tick=Price(round(TICK * SCALE)), lot=Qty(round(LOT * SCALE)), min_qty=Qty(1), ceiling=Price(0),
    fees=ProportionalFees(rate=round(FEE * SCALE)),
)  # fmt: skip
RULE = Rule(kind="sma_cross", fast=FAST, slow=SLOW)
TERMS = Terms.of(INSTRUMENT, notional_max=Cash(ENTRY * SCALE))
MONEY = Cash(CASH * SCALE)


def series(rows: np.ndarray) -> Candles:
    """The file's rows as candles."""
    columns = np.ascontiguousarray(rows.T)
    return Candles(
        symbol="ETHUSDT", exchange="BENCH", interval_ns=MINUTE_NS,
        ts=START_NS + MINUTE_NS * np.arange(len(rows), dtype=np.int64), open=columns[1],
        high=columns[2], low=columns[3], close=columns[4], volume=columns[5], source="synthetic",
    )  # fmt: skip


def resident_mb(what: str) -> float:
    """``VmHWM`` (the most there ever was) or ``VmRSS`` of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def timed_job(candles: Candles, loop: Loop) -> float:
    """Milliseconds of the whole job: grid, indicators, fills, equity, metrics; the median.

    The loop has its own copy of the same bars, and its arrays are used again, as in a sweep.
    """
    taken = []
    for _ in range(ROUNDS):
        start = perf_counter()
        Bars.of(candles, INSTRUMENT.tick, extremes=RULE.extremes)
        loop.performance(RULE)
        taken.append(perf_counter() - start)
    return median(taken) * 1000


def time_sweep(path: Path) -> dict[str, object]:
    """The loop driver's figures."""
    candles = series(np.load(path))
    count = len(candles)
    run(Bars.of(candles.rows(0, 1000), INSTRUMENT.tick, extremes=False), RULE, TERMS, MONEY)
    before = resident_mb("VmRSS")
    loop = Loop(Bars.of(candles, INSTRUMENT.tick, extremes=False), TERMS, MONEY)
    loop.performance(RULE)
    job_ms = timed_job(candles, loop)
    grown, peak = resident_mb("VmRSS") - before, resident_mb("VmHWM")
    bars = Bars.of(candles, INSTRUMENT.tick, extremes=False)
    keep(path, run(bars, RULE, TERMS, MONEY))
    grid = [
        Rule(kind="sma_cross", fast=fast, slow=slow)
        for fast, slow in product(range(5, 45, 2), range(50, 250, 4))
    ]
    start = perf_counter()
    found = sweep(bars, grid, TERMS, MONEY, workers=2)
    sweep_s = perf_counter() - start
    rows = np.load(path)
    longer = series(np.concatenate([rows] * 4))
    long_loop = Loop(Bars.of(longer, INSTRUMENT.tick, extremes=False), TERMS, MONEY)
    long_loop.performance(RULE)
    return {
        "job_ms": job_ms, "bars": count, "grown_mb": grown, "peak_mb": peak, "sweep_s": sweep_s,
        "combinations": len(found), "four_times_ms": timed_job(longer, long_loop),
    }  # fmt: skip


def time_engine(path: Path) -> dict[str, object]:
    """The engine driver's figures, and whether it did what the loop did."""
    candles = series(np.load(path))
    drive(candles.rows(0, 5000), RULE, INSTRUMENT, TERMS, MONEY)
    driver = EngineDriver(candles, RULE, INSTRUMENT, TERMS, MONEY)
    start = perf_counter()
    outcome = driver.run()
    seconds = perf_counter() - start
    loop = run(Bars.of(candles, INSTRUMENT.tick, extremes=False), RULE, TERMS, MONEY)
    same = np.array_equal(outcome.fills, loop.fills) and np.array_equal(outcome.equity, loop.equity)
    return {
        "seconds": seconds, "bars_per_s": len(candles) / seconds, "fills": len(outcome.fills),
        "same": int(same and outcome.cash == loop.cash),
    }  # fmt: skip


def keep(path: Path, outcome: Outcome) -> None:
    """What was traded and what it came to, for whoever compares."""
    np.savez(path.with_suffix(".ours.npz"), fills=outcome.fills, equity=outcome.equity)


def main() -> None:
    """Measure one driver over FILE."""
    driver, path = sys.argv[1], Path(sys.argv[2])
    report(time_sweep(path) if driver == "sweep" else time_engine(path))


if __name__ == "__main__":
    main()
