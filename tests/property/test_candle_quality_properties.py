"""Whatever happens to a series on its way, the report counts it and the bars stay true."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fleet.research.candle_quality import inspect, settle
from fleet.research.candle_rows import Rows
from fleet.research.candles import resample
from fleet.research.intervals import MINUTE
from fleet.research.synthetic import synthetic_candles

WHOLE = Rows.of_candles(synthetic_candles(60, seed=2, interval_ns=MINUTE))


@given(st.lists(st.integers(0, 59), min_size=1, max_size=120))
def test_lost_repeated_and_shuffled_bars_are_counted_and_settled(places: list[int]) -> None:
    told = WHOLE.take(np.array(places))
    candles, quality = settle(
        told, symbol="X", exchange="BINANCE", interval_ns=MINUTE, source="test"
    )
    kept = sorted(set(places))
    assert ((candles.ts - WHOLE.ts[0]) // MINUTE).tolist() == kept
    assert candles.close.tolist() == WHOLE.close[kept].tolist()
    assert quality.count("duplicates, alike") == len(places) - len(kept)
    assert quality.count("out of order") == sum(two < one for one, two in pairwise(places))
    steps = np.diff(kept)
    assert quality.count("gaps") == (steps > 1).sum()
    assert quality.usable
    again = inspect(Rows.of_candles(candles), symbol="X", exchange="BINANCE", interval_ns=MINUTE)
    assert again.count("duplicates, alike") == again.count("out of order") == 0
    assert again.count("gaps") == quality.count("gaps")


@given(st.integers(1, 400), st.sets(st.integers(0, 399), max_size=300), st.sampled_from([2, 5, 60]))
def test_resampling_keeps_every_trade_of_the_bars_that_are_over(
    count: int, lost: set[int], factor: int
) -> None:
    c = synthetic_candles(400, seed=2, interval_ns=MINUTE).rows(0, count)
    kept = np.array([n for n in range(count) if n not in lost], dtype=np.intp)
    candles = (
        Rows.of_candles(c)
        .take(kept)
        .candles(symbol="X", exchange="BINANCE", interval_ns=MINUTE, source="test")
    )
    longer = resample(candles, factor * MINUTE)
    end = int(longer.ts[-1]) + factor * MINUTE if len(longer) else 0
    over = candles.between(0, end)
    assert np.isclose(longer.volume.sum(), over.volume.sum())
    assert longer.high.max(initial=0.0) == over.high.max(initial=0.0)
    assert (longer.ts % (factor * MINUTE) == 0).all()
    assert (longer.low <= longer.close).all()
    assert (longer.close <= longer.high).all()
    rest = len(candles) - len(over)
    assert rest < factor
