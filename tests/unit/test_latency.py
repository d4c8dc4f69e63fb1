import random

import pytest

from fleet.runtime.latency import WINDOW, LatencyWindow


def test_an_empty_window_has_no_percentile() -> None:
    assert LatencyWindow().percentile_us(50) is None


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (50, 51), (99, 100), (100, 100)])
def test_percentiles_are_of_sorted_microseconds(share: int, expected: int) -> None:
    window = LatencyWindow()
    values = [n * 1_000 + 999 for n in range(1, 101)]
    random.Random(1).shuffle(values)
    for value in values:
        window.add(value)
    assert window.percentile_us(share) == expected


def test_only_the_newest_count() -> None:
    window = LatencyWindow()
    window.add(10**12)
    for _ in range(WINDOW):
        window.add(7_000)
    assert window.percentile_us(100) == 7
