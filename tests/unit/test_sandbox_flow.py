"""The fitted table, its drawing, and the measurement it was fitted with."""

import random
from typing import Any

import pytest

from fleet.domain.units import SCALE, Qty
from fleet.sandbox.flow_fit import FITTED, LEVELS_AT, QuantileTable
from fleet.sandbox.flow_stats import FlowStats, quantile
from fleet.sandbox.maker_flow import MarketFlow, to_qty
from fleet.sandbox.questions import CENT, MILL

TABLE = QuantileTable((1, 2, 3, 10, 100, 1_000, 2_000, 9_000), log=True)


def test_a_table_gives_back_its_own_quantiles() -> None:
    assert [TABLE.at(p) for p in LEVELS_AT] == pytest.approx(TABLE.values)
    assert TABLE.at(0.0) == 1
    assert TABLE.at(1.0) == 9_000
    assert TABLE.at(0.625) == pytest.approx((10 * 100) ** 0.5)
    assert QuantileTable((0, 0, 0, 1, 3, 3, 3, 3)).at(0.625) == pytest.approx(2)


def test_draws_have_the_table_s_quantiles() -> None:
    rng = random.Random(1)
    drawn = sorted(TABLE.draw(rng) for _ in range(20_000))
    for p, value in zip(LEVELS_AT[1:-1], TABLE.values[1:-1], strict=True):
        assert quantile(drawn, p) == pytest.approx(value, rel=0.15)


@pytest.mark.parametrize("values", [(1, 2, 3), (1, 2, 3, 4, 5, 6, 8, 7)])
def test_a_table_must_be_complete_and_ascending(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        QuantileTable(values)


def test_a_logarithmic_table_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        QuantileTable((0, 1, 2, 3, 4, 5, 6, 7), log=True)


OLD_SHAPE: list[dict[str, Any]] = [
    {"event_type": "book", "asset_id": "a", "timestamp": "1000",
     "bids": [{"price": "0.4", "size": "10"}, {"price": "0.5", "size": "20"}],
     "asks": [{"price": "0.6", "size": "5"}, {"price": "0.53", "size": "30"}]},
    {"event_type": "price_change", "asset_id": "a", "timestamp": "1200",
     "changes": [{"price": "0.51", "side": "BUY", "size": "7"},
                 {"price": "0.4", "side": "BUY", "size": "0"}]},
    {"event_type": "price_change", "asset_id": "b", "timestamp": "1200",
     "changes": [{"price": "0.49", "side": "SELL", "size": "7"}]},
    {"event_type": "price_change", "asset_id": "a", "timestamp": "1500",
     "changes": [{"price": "0.53", "side": "SELL", "size": "12"}]},
    {"event_type": "book", "asset_id": "a", "timestamp": "1600",
     "bids": [{"price": "0.5", "size": "20"}, {"price": "0.51", "size": "3"}],
     "asks": [{"price": "0.6", "size": "5"}, {"price": "0.53", "size": "12"}]},
]  # fmt: skip


def new_shape() -> list[dict[str, Any]]:
    """The same flow as today's venue would write it."""
    frames = []
    for frame in OLD_SHAPE:
        if frame["event_type"] == "book":
            frames.append(frame)
        elif frame["asset_id"] == "a":
            entries = [{**c, "asset_id": "a"} for c in frame["changes"]]
            frames.append({"event_type": "price_change", "timestamp": frame["timestamp"],
                           "price_changes": [*entries, {**entries[0], "asset_id": "b"}]})  # fmt: skip
    return frames


@pytest.mark.parametrize("frames", [OLD_SHAPE, new_shape()], ids=["changes", "price_changes"])
def test_what_is_measured_of_a_small_flow(frames: list[dict[str, Any]]) -> None:
    stats = FlowStats()
    stats.add("a", frames)
    assert stats.samples["spread"] == [0.03, 0.02, 0.02, 0.02]
    assert stats.samples["levels"] == [2, 2, 2, 2, 2, 2, 2, 2]
    assert stats.samples["changes"] == [2, 1]
    assert stats.samples["interarrival_ms"] == [300]
    assert stats.samples["change_size"] == [7, 10, 18]
    assert stats.samples["change_distance"] == [-0.01, 0.11, 0.0]
    assert stats.samples["trade_size"] == [4]
    assert (stats.book_frames, stats.change_frames) == (2, 2)
    assert stats.kinds == {"add": 1, "remove": 1, "up": 0, "down": 1}
    assert stats.quantiles("change_size", [0, 0.5, 1]) == [7, 10, 18]


def test_no_samples_no_quantile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


@pytest.mark.parametrize("tick", [CENT, MILL])
@pytest.mark.parametrize("fair", [0.02, 0.31, 0.5, 0.97])
def test_makers_never_quote_through_the_fair_price(tick: int, fair: float) -> None:
    rng = random.Random(5)
    flow = MarketFlow(tick=type(CENT)(tick), fair=fair, tight=False, fit=FITTED, rng=rng)
    for number in range(2_000):
        if number % 7 == 0:
            fair = min(max(fair + rng.gauss(0, 0.01), 0.012), 0.988)
            flow.move_to(fair)
        flow.arrive()
        book = flow.book
        assert book.best_bid <= flow.fair * book.top
        assert book.best_ask >= flow.fair * book.top or book.best_ask == book.best_bid + 1


def test_frozen_best_prices_stand_still() -> None:
    rng = random.Random(3)
    flow = MarketFlow(tick=CENT, fair=0.4, tight=True, fit=FITTED, rng=rng)
    flow.frozen = True
    flow.displace(buy=True, index=55, qty=Qty(50 * SCALE))
    before = (flow.book.best_bid, flow.book.best_ask, flow.book.qty(buy=True, index=55))
    for _ in range(500):
        assert flow.arrive().trade is None
    assert (flow.book.best_bid, flow.book.best_ask) == before[:2] == (55, before[1])
    assert flow.book.qty(buy=True, index=55) == before[2]
    flow.frozen = False
    flow.move_to(0.4)
    assert flow.book.best_bid <= 40


def test_sizes_are_positive_two_decimal_and_bounded() -> None:
    assert to_qty(0.0) == SCALE // 100
    assert to_qty(12.3456) == 1_235 * SCALE // 100
    assert to_qty(1e9) == 20_000 * SCALE
