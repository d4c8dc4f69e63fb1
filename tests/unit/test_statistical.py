"""The keyless forecaster: what it starts from, what it learns, and what it must not use."""

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fleet.forecasting.base_rates import DAY_NS, STRENGTH, Outcome, Tally, horizon_band
from fleet.forecasting.benchmarks import BaseRateForecaster, MarketForecaster
from fleet.forecasting.evidence_features import neighbour_rate, path_features, priced_row
from fleet.forecasting.history import past_of
from fleet.forecasting.port import Forecast, ForecastFailed, Item, Neighbour, Question
from fleet.forecasting.statistical import StatisticalForecaster
from tests.forecast_world import memory_in, question, resolved_item


def biased_world(count: int = 120, *, shift: float = 0.4) -> list[Item]:
    """Prices of 0.6 of which only 0.6 - shift come true, known within 10 days of being asked."""
    share = 0.6 - shift
    return [
        resolved_item(
            n, asked=n, closes=n + 8, known=n + 9, price=0.6,
            outcome=float(math.floor((n + 1) * share) > math.floor(n * share)),
        )
        for n in range(1, count + 1)
    ]  # fmt: skip


def test_an_empty_memory_gives_the_price_itself(tmp_path: Path) -> None:
    with memory_in(tmp_path) as memory:
        forecaster = StatisticalForecaster(memory)
        for price in (0.001, 0.3, 0.999):
            said = forecaster.answer(question(10, price=price))
            assert said.probability == pytest.approx(price)
            assert (said.forecaster, said.as_of_ns) == ("statistical", 10 * DAY_NS)
            assert said.evidence == ()


def test_with_neither_price_nor_record_it_fails_and_names_the_cure(tmp_path: Path) -> None:
    later = resolved_item(1, asked=50, closes=60, known=61, outcome=1.0)
    cured = pytest.raises(ForecastFailed, match="fleet memory load")
    with memory_in(tmp_path, [later]) as memory, cured:
        StatisticalForecaster(memory).answer(question(10, price=None))


@pytest.mark.parametrize("price", [float("nan"), -0.1, 1.5, float("inf")])
def test_a_price_that_is_none_is_refused(tmp_path: Path, price: float) -> None:
    with memory_in(tmp_path) as memory:
        with pytest.raises(ForecastFailed, match="no probability"):
            StatisticalForecaster(memory).answer(question(10, price=price))
        with pytest.raises(ForecastFailed, match="no market price"):
            asyncio.run(MarketForecaster().forecast(question(10, price=price)))


def test_it_learns_that_prices_are_too_high(tmp_path: Path) -> None:
    with memory_in(tmp_path, biased_world()) as memory:
        forecaster = StatisticalForecaster(memory)
        told = [forecaster.answer(question(day, price=0.6)).probability for day in (5, 60, 200)]
        assert told[0] == pytest.approx(0.6)
        assert told[0] > told[1] > told[2]
        assert 0.2 < told[2] < 0.5
        assert forecaster.coefficients(question(200))["bias"] < -0.2


def test_without_a_price_it_starts_from_base_rate_and_neighbours(tmp_path: Path) -> None:
    yes, no = "Will there be rain in Oslo?", "Will there be snow in Lima?"
    world = [
        resolved_item(n, asked=n, closes=n + 2, known=n + 3, outcome=float(n % 2), price=None,
                      text=yes if n % 2 else no)
        for n in range(60)
    ]  # fmt: skip
    with memory_in(tmp_path, world) as memory:
        ask = StatisticalForecaster(memory)
        rain = ask.answer(question(100, price=None, text=yes))
        snow = ask.answer(question(100, price=None, text=no))
        other = ask.answer(question(100, price=None, text="Who sings at dawn tomorrow?"))
        assert snow.probability < other.probability < rain.probability
        assert other.probability == pytest.approx(0.5, abs=0.1)
        assert len(rain.evidence) == 8


def test_questions_that_ended_before_their_close_teach_nothing(tmp_path: Path) -> None:
    """They are in the record only because they ended early, which YES does and NO does not."""
    due = biased_world(80, shift=0.0)
    early = [
        resolved_item(
            n,
            asked=n - 100,
            closes=900,
            known=n - 90,
            outcome=1.0,
            price=0.6,
            text=f"Zyx{n}",  # like no other, so no neighbour either
        )
        for n in range(101, 181)
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    asked = question(300, price=0.6, text="Who sings at dawn tomorrow?")
    with memory_in(tmp_path / "a", due) as m, memory_in(tmp_path / "b", [*due, *early]) as both:
        alone, with_early = (StatisticalForecaster(one).coefficients(asked) for one in (m, both))
        assert with_early == alone
        later = replace(asked, as_of_ns=1_000 * DAY_NS)
        assert StatisticalForecaster(both).coefficients(later)["bias"] > alone["bias"] + 0.2


def test_a_fixed_model_refuses_what_it_may_know_the_answer_of(tmp_path: Path) -> None:
    with memory_in(tmp_path, biased_world()) as memory:
        fixed = StatisticalForecaster(memory, fit_before_ns=60 * DAY_NS)
        with pytest.raises(ForecastFailed, match="older than what this model was fitted on"):
            fixed.answer(question(59))
        early, late = (fixed.answer(question(day, price=0.6)) for day in (61, 200))
        assert early.model == late.model == "statistical-v1/50"


def test_asking_beside_the_loop_gives_the_same(tmp_path: Path) -> None:
    async def several(asked: list[Question]) -> list[Forecast]:
        return await asyncio.gather(*(forecaster.forecast(one) for one in asked))

    with memory_in(tmp_path, biased_world(60)) as memory:
        forecaster = StatisticalForecaster(memory)
        asked = [question(day, price=0.3) for day in (20, 70, 20, 45)]
        assert asyncio.run(several(asked)) == [forecaster.answer(one) for one in asked]


# --- parts ---------------------------------------------------------------------------------------


def test_horizons_are_bands_of_days() -> None:
    def band(days: float) -> int:
        return horizon_band(DAY_NS, DAY_NS + round(days * DAY_NS))

    assert [band(d) for d in (0.1, 6.9, 7, 29, 30, 89, 90, 4_000)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert horizon_band(DAY_NS, 0) == horizon_band(DAY_NS, DAY_NS) == horizon_band(0, DAY_NS) == -1


def test_base_rates_are_shrunk_to_their_parent() -> None:
    world = [
        Outcome(known_ns=n, outcome=float(n % 10 == 0), category="a", horizon=1) for n in range(100)
    ] + [Outcome(known_ns=n, outcome=1.0, category="b", horizon=2) for n in range(5)]
    tally = Tally(world)
    overall = 16 / 107
    assert tally.overall(1_000) == pytest.approx(overall)
    a = (10 + STRENGTH * overall) / (100 + STRENGTH)
    assert tally.rate("a", 0, 1_000) == pytest.approx(a)
    assert tally.rate("a", 1, 1_000) == pytest.approx((10 + STRENGTH * a) / (100 + STRENGTH))
    assert overall < tally.rate("b", 0, 1_000) < 0.5
    assert tally.rate("unseen", 1, 1_000) == pytest.approx(overall)
    assert tally.rate("a", 1, 0) == 0.5
    assert tally.count(50) == 55


def test_the_base_rate_forecaster_uses_what_was_known_then(tmp_path: Path) -> None:
    with memory_in(tmp_path, biased_world(100, shift=0.5)) as memory:
        rates = [
            asyncio.run(BaseRateForecaster(memory).forecast(question(day, closes=day + 8)))
            for day in (1, 40, 300)
        ]
        assert rates[0].probability == 0.5
        assert 0.05 < rates[2].probability < rates[1].probability < 0.35
        until = BaseRateForecaster(memory, until_ns=40 * DAY_NS)
        later = asyncio.run(until.forecast(question(300, closes=308)))
        assert later.probability == pytest.approx(rates[1].probability, abs=0.02)


def test_neighbours_count_by_how_alike_they_are() -> None:
    def near(similarity: float, outcome: float | None) -> Neighbour:
        item = resolved_item(1, asked=1, closes=2, known=3, outcome=1.0)
        return Neighbour(replace(item, outcome=outcome), similarity)

    assert neighbour_rate([], 0.3) == 0.3
    assert neighbour_rate([near(0.2, 1.0), near(0.9, None)], 0.3) == 0.3
    assert neighbour_rate([near(1.0, 1.0)], 0.3) == pytest.approx((1 + 2 * 0.3) / 3)
    assert neighbour_rate([near(0.5, 1.0)], 0.3) < neighbour_rate([near(0.9, 1.0)], 0.3)


def test_drift_and_noise_of_the_last_day() -> None:
    hour = DAY_NS // 24
    rising = tuple((10 * DAY_NS - (24 - h) * hour, 0.3 + 0.01 * h) for h in range(25))
    asked = question(10, price=0.54, path=rising)
    drift, noise = path_features(asked)
    assert drift == pytest.approx(math.log(0.54 / 0.46) - math.log(0.3 / 0.7))
    assert 0 < noise < drift
    old = tuple((t - 2 * DAY_NS, p) for t, p in rising)
    assert path_features(replace(asked, path=old)) == (0.0, 0.0)
    assert path_features(replace(asked, path=rising[-2:])) == (0.0, 0.0)
    later = (*rising, (10 * DAY_NS + hour, 0.99))
    assert path_features(replace(asked, path=later)) == (drift, noise)


def test_unknown_features_are_zero() -> None:
    row = priced_row(question(10, price=0.5), 0.5, 0.2, 0.2, [])
    assert row == pytest.approx(np.array([1.0, 0, 0, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    "facts",
    [
        {}, {"asked": "yesterday"}, {"asked": -1, "closes": None}, {"asked": True},
        {"asked": 5, "path": [[1, 2], "x", [1], [2, None], [9, 0.5]]}, {"path": 3},
    ],
)  # fmt: skip
def test_facts_of_others_are_read_with_care(facts: dict[str, object]) -> None:
    item = replace(resolved_item(1, asked=1, closes=2, known=3, outcome=1.0), facts=facts)
    past = past_of(item)
    assert past is not None
    assert past.asked.as_of_ns in {0, 5}
    assert past.asked.path == ()
    assert (past.asked.price is None) == (past.asked.as_of_ns == 0)
    assert past_of(replace(item, outcome=None)) is None
    assert past_of(replace(item, outcome=0.5)) is None
