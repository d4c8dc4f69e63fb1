"""What no history of endings can make the wrapper do."""

import signal

from hypothesis import given
from hypothesis import strategies as st

from fleet.clock import NS_PER_SECOND, ManualClock
from fleet.runtime.continuous import FINAL_CODES, STOPPED_BY, Ending, History, RestartPolicy, decide

POLICIES = st.builds(
    RestartPolicy,
    delay_ns=st.integers(0, 60 * NS_PER_SECOND),
    delay_max_ns=st.integers(60 * NS_PER_SECOND, 3_600 * NS_PER_SECOND),
    restarts_max=st.integers(0, 20),
    failures_max=st.integers(1, 12),
    healthy_ns=st.integers(1, 900 * NS_PER_SECOND),
)
ENDINGS = st.builds(
    Ending,
    code=st.sampled_from([0, 1, 2, 3, 69, 75, 78, 127, 134, *(-s for s in signal.Signals)]),
    uptime_ns=st.integers(0, 1_200 * NS_PER_SECOND),
    stopping=st.just(value=False) | st.booleans(),
    cycle_over=st.booleans(),
    hung=st.booleans(),
)


@given(POLICIES, st.lists(ENDINGS, max_size=40))
def test_every_history_keeps_the_promises(policy: RestartPolicy, endings: list[Ending]) -> None:
    clock, history = ManualClock(), History()
    starts = 1
    row = 0
    for ending in endings:
        clock.advance(ending.uptime_ns)
        decision = decide(policy, history, ending)
        manual = ending.code == 0 or -ending.code in STOPPED_BY
        if decision.restart:
            starts += 1
            assert not ending.stopping
            assert ending.hung or ending.cycle_over or not manual
            assert ending.hung or ending.code not in FINAL_CODES or ending.cycle_over
            assert 0 <= decision.delay_ns <= policy.delay_max_ns
            cycle = ending.cycle_over and ending.code == 0
            row = 0 if cycle else 1 if ending.uptime_ns >= policy.healthy_ns else row + 1
            assert decision.history.failures == row < policy.failures_max
            assert row == 0 or decision.delay_ns >= min(policy.delay_ns, policy.delay_max_ns)
        clock.advance(decision.delay_ns)
        history = decision.history
        if not decision.restart:
            assert decision.delay_ns == 0
            assert decision.code in {0, 2, 69, 75, 78}
            break
    assert starts <= policy.restarts_max + 1
    assert history.restarts == starts - 1


@given(POLICIES, st.integers(1, 30), st.integers(1, 30))
def test_a_longer_row_never_waits_less(policy: RestartPolicy, fewer: int, more: int) -> None:
    crash = Ending(code=1, uptime_ns=0)
    free = RestartPolicy(
        delay_ns=policy.delay_ns, delay_max_ns=policy.delay_max_ns, failures_max=100
    )
    first, last = sorted((fewer, more))
    short = decide(free, History(failures=first), crash)
    long = decide(free, History(failures=last), crash)
    assert short.delay_ns <= long.delay_ns
