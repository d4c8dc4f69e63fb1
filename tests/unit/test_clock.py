import time

import pytest

from fleet.clock import NS_PER_SECOND, LiveClock, ManualClock


def test_the_live_clock_is_wall_time() -> None:
    assert abs(LiveClock().now_ns() - time.time_ns()) < NS_PER_SECOND


def test_the_live_clock_never_goes_back() -> None:
    clock = LiveClock()
    seen = [clock.now_ns() for _ in range(10_000)]
    assert seen == sorted(seen)


def test_a_step_of_the_machines_clock_does_not_move_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LiveClock()
    before = clock.now_ns()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= clock.now_ns() - before < NS_PER_SECOND


def test_a_manual_clock_moves_when_told_and_never_back() -> None:
    clock = ManualClock(5)
    assert clock.now_ns() == 5
    clock.advance(3)
    clock.advance_to(20)
    clock.advance_to(10)
    assert clock.now_ns() == 20
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
    assert clock.now_ns() == 20
