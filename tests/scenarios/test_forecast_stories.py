"""Every forecast story ends as it is written. ``UPDATE_STORIES=1`` writes them anew."""

import os
from pathlib import Path

import pytest

from tests.scenarios.forecast_story import ForecastTeller
from tests.scenarios.story import retold

STORIES = sorted((Path(__file__).parent / "forecasts").glob("*.txt"))


def test_there_are_stories() -> None:
    assert len(STORIES) >= 6


@pytest.mark.parametrize("path", STORIES, ids=[path.stem for path in STORIES])
def test_a_story_ends_as_it_is_written(path: Path) -> None:
    told = retold(path.read_text(), ForecastTeller())
    if os.environ.get("UPDATE_STORIES"):
        path.write_text(told)
    assert told == path.read_text()
