"""When a kept process is started again."""

import signal

import pytest

from fleet.clock import NS_PER_SECOND
from fleet.runtime.continuous import (
    Decision,
    Ending,
    History,
    RestartPolicy,
    decide,
    pause_ns,
    told,
)

S = NS_PER_SECOND
POLICY = RestartPolicy()


def ended(code: int, uptime_s: float = 1.0, **more: bool) -> Ending:
    return Ending(code=code, uptime_ns=int(uptime_s * S), **more)


def after(*endings: Ending, policy: RestartPolicy = POLICY) -> list[Decision]:
    history, decisions = History(), []
    for ending in endings:
        decisions.append(decide(policy, history, ending))
        history = decisions[-1].history
    return decisions


def test_the_pause_doubles_from_thirty_seconds_to_an_hour() -> None:
    pauses = [pause_ns(POLICY, n) // S for n in range(1, 11)]
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_ten_failures_in_a_row_are_the_last() -> None:
    decisions = after(*[ended(1)] * 10)
    assert [d.restart for d in decisions] == [True] * 9 + [False]
    assert decisions[-1].code == 78
    assert "10 failures in a row" in decisions[-1].reason


def test_a_healthy_run_begins_a_new_row() -> None:
    decisions = after(*[ended(1)] * 9, ended(1, uptime_s=600), *[ended(1)] * 8)
    assert all(d.restart for d in decisions)
    assert decisions[9].delay_ns == 30 * S
    assert decisions[9].history.failures == 1


@pytest.mark.parametrize("code", [0, 2, 69, 75, 78])
def test_some_endings_are_final(code: int) -> None:
    (decision,) = after(ended(code))
    assert not decision.restart
    assert decision.code == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_manual_stop_by_signal_is_final_and_no_failure(number: signal.Signals) -> None:
    (decision,) = after(ended(-number))
    assert not decision.restart
    assert decision.code == 0
    assert "manual stop" in decision.reason


@pytest.mark.parametrize("code", [-signal.SIGKILL, -signal.SIGSEGV, 1, 134])
def test_a_crash_is_answered_by_a_restart(code: int) -> None:
    (decision,) = after(ended(code))
    assert decision.restart
    assert decision.delay_ns == 30 * S


def test_a_hung_child_failed_however_it_ended() -> None:
    for code in (0, -signal.SIGTERM, -signal.SIGKILL):
        (decision,) = after(ended(code, hung=True))
        assert decision.restart
        assert decision.history.failures == 1


def test_nothing_is_restarted_while_the_wrapper_ends() -> None:
    (decision,) = after(ended(1, stopping=True))
    assert (decision.restart, decision.code) == (False, 0)


def test_a_cycle_that_is_over_starts_the_next_at_once() -> None:
    first, second = after(ended(1), ended(0, uptime_s=3600, cycle_over=True))
    assert first.restart
    assert (second.restart, second.delay_ns, second.history.failures) == (True, 0, 0)
    crashed = decide(POLICY, History(), ended(1, cycle_over=True))
    assert crashed.delay_ns == 30 * S


def test_restarts_are_counted_whatever_they_were_for() -> None:
    few = RestartPolicy(restarts_max=2)
    decisions = after(ended(0, cycle_over=True), ended(1), ended(0, cycle_over=True), policy=few)
    assert [d.restart for d in decisions] == [True, True, False]
    assert "2 restarts" in decisions[-1].reason


def test_endings_are_told_in_words() -> None:
    assert told(-9) == "it was ended by SIGKILL"
    assert told(3) == "it ended with code 3"
    assert told(-250) == "it was ended by signal 250"


@pytest.mark.parametrize(
    "wrong", [{"delay_ns": 2, "delay_max_ns": 1}, {"restarts_max": -1}, {"failures_max": 0}]
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        RestartPolicy(**wrong)
