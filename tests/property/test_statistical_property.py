"""Nothing known at or after a question's moment moves its forecast, and odd worlds break nothing."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.forecasting.port import ForecastFailed, Item
from fleet.forecasting.statistical import StatisticalForecaster
from tests.forecast_world import DAY_NS, memory_in, question, resolved_item

ASKED_DAY = 50


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    """Resolved questions before, at and after the day, closing early or late."""
    found = []
    for number in range(draw(st.integers(0, 40))):
        asked = draw(st.integers(1, 90))
        known = asked + draw(st.integers(1, 30))
        found.append(
            resolved_item(
                number, asked=asked, known=known, closes=draw(st.sampled_from([0, known, 200])),
                outcome=float(draw(st.booleans())),
                price=draw(st.sampled_from([None, 0.0, 0.02, 0.4, 0.9, 1.0])),
            )
        )  # fmt: skip
    return found


def _forecast(world: Sequence[Item], price: float | None, *, path: bool = False) -> str:
    """The forecast as of the day, or why there is none."""
    points = ((ASKED_DAY * DAY_NS - 9, 0.3), (ASKED_DAY * DAY_NS + 9, 0.9 if path else 0.1))
    with tempfile.TemporaryDirectory() as folder, memory_in(Path(folder), world) as memory:
        asked = question(ASKED_DAY, price=price, closes=ASKED_DAY + 20, path=points)
        try:
            return repr(StatisticalForecaster(memory).answer(asked))
        except ForecastFailed as error:
            return str(error)


@settings(max_examples=25)
@given(items(), st.sampled_from([None, 0.0, 0.03, 0.5, 1.0]), st.randoms(use_true_random=False))
def test_what_was_known_later_changes_nothing(
    world: list[Item], price: float | None, chances: Random
) -> None:
    mutated = []
    for item in world:
        if item.known_ns < ASKED_DAY * DAY_NS:
            mutated.append(item)
        elif chances.random() < 0.7:
            flipped = 1.0 - (item.outcome or 0.0)
            mutated.append(replace(item, outcome=flipped, price=0.5, text="Something else?"))
    mutated.append(resolved_item(99, asked=1, closes=2, known=ASKED_DAY, outcome=1.0))
    assert _forecast(mutated, price, path=True) == _forecast(world, price)


@settings(max_examples=15)
@given(items(), st.sampled_from([None, 0.5]))
def test_what_was_known_before_does_count(world: list[Item], price: float | None) -> None:
    """The property above would hold of a forecaster that reads nothing: this one does not."""
    teaching = [
        resolved_item(200 + n, asked=n + 1, closes=n + 2, known=n + 3, outcome=1.0, price=0.5)
        for n in range(30)
    ]
    flipped = [replace(item, outcome=0.0) for item in teaching]
    assert _forecast([*world, *teaching], price) != _forecast([*world, *flipped], price)


@settings(max_examples=15)
@given(items(), st.sampled_from([0.0, 0.03, 0.5, 1.0]))
def test_the_order_in_which_a_memory_was_filled_is_nothing(world: list[Item], price: float) -> None:
    assert _forecast(world, price) == _forecast(world[::-1], price)
