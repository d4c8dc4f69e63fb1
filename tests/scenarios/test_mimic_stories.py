"""Every story of copies ends as it is written. ``UPDATE_STORIES=1`` writes them anew."""

import os
from pathlib import Path

import pytest

from tests.scenarios.mimic_story import MimicTeller
from tests.scenarios.story import retold

STORIES = sorted((Path(__file__).parent / "copies").glob("*.txt"))


def test_there_are_stories() -> None:
    assert len(STORIES) >= 7


@pytest.mark.parametrize("path", STORIES, ids=[path.stem for path in STORIES])
def test_a_story_ends_as_it_is_written(path: Path) -> None:
    told = retold(path.read_text(), MimicTeller())
    if os.environ.get("UPDATE_STORIES"):
        path.write_text(told)
    assert told == path.read_text()
