"""When a process that ended is started again: the outside layer of continuous trading.

Pure: histories in, decisions out; ``kept_process`` carries them out. A failure is answered by a
restart after a pause that doubles from 30 s to 1 h and begins anew after a healthy run. Never
restarted: what a person stopped, wrong settings, the kill latch, a twin, a wrong command line.
After ten failures in a row, or the most restarts allowed, it stays down, because whatever is wrong
then is not healed by trying again. Nothing of the bot's state passes through here: positions,
orders and performance are folds of its journal, which every start reads.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from fleet.clock import NS_PER_SECOND
from fleet.runtime.spec import EXIT_OK, EXIT_STAY_DOWN, EXIT_TWIN

EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 69
"""EX_UNAVAILABLE of sysexits.h: asked for something that is not built yet."""
FINAL_CODES: Final[Mapping[int, str]] = {
    EXIT_OK: "it was asked to stop",
    EXIT_USAGE: "the command line is wrong",
    EXIT_UNAVAILABLE: "what was asked for is not available",
    EXIT_TWIN: "another process does the same already",
    EXIT_STAY_DOWN: "a person must repair something first: settings, kill latch, a refused start",
}
"""Endings that a restart cannot or must not change."""
STOPPED_BY: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
"""Signals a person or a supervisor sends to stop a process that does not handle them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How patient the wrapper is (defaults: continuous mode as promised in the seeds)."""

    delay_ns: int = 30 * NS_PER_SECOND
    delay_max_ns: int = 3_600 * NS_PER_SECOND
    restarts_max: int = 1_000
    failures_max: int = 10
    """Failures in a row after which it stays down."""
    healthy_ns: int = 600 * NS_PER_SECOND
    """A run of this length was healthy: the failure that ended it is the first of its row."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 <= self.delay_ns <= self.delay_max_ns:
            raise ValueError("the first delay must not be above the longest")
        if self.restarts_max < 0 or self.failures_max < 1:
            raise ValueError("restarts_max must be 0 or more, failures_max 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What happened so far: ``failures`` are those in a row, up to now."""

    restarts: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended. ``code`` is negative for a signal, as ``subprocess`` has it."""

    code: int
    uptime_ns: int
    stopping: bool = False
    """The wrapper itself was asked to stop."""
    cycle_over: bool = False
    """It ended in order because its duration was over."""
    hung: bool = False
    """The wrapper ended it because it gave no sign of life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether to start again, after what pause, and why; ``code`` is for the wrapper's own end."""

    restart: bool
    reason: str
    history: History
    delay_ns: int = 0
    code: int = EXIT_OK


def decide(policy: RestartPolicy, history: History, ending: Ending) -> Decision:
    """What to do after ``ending``."""
    if ending.stopping:
        return Decision(restart=False, reason="asked to stop", history=history)
    if ending.cycle_over and ending.code == EXIT_OK:
        calm = replace(history, failures=0)
        return _again(policy, calm, 0, "its cycle is over")
    if not ending.hung:
        final = _final(ending.code)
        if final:
            code = max(ending.code, EXIT_OK)
            return Decision(restart=False, reason=final, history=history, code=code)
    failures = 1 if ending.uptime_ns >= policy.healthy_ns else history.failures + 1
    failed = replace(history, failures=failures)
    why = "it gave no sign of life" if ending.hung else told(ending.code)
    if failures >= policy.failures_max:
        return Decision(
            restart=False, reason=f"{why}; {failures} failures in a row, it stays down",
            history=failed, code=EXIT_STAY_DOWN,
        )  # fmt: skip
    return _again(policy, failed, pause_ns(policy, failures), why)


def pause_ns(policy: RestartPolicy, failures: int) -> int:
    """The pause after the n-th failure in a row: doubling, bounded."""
    doublings = min(max(failures, 1) - 1, 62)  # Beyond it every pause is the longest.
    return min(policy.delay_ns << doublings, policy.delay_max_ns)


def told(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"it ended with code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"


def _final(code: int) -> str:
    if code < 0 and -code in STOPPED_BY:
        return f"{told(code)}: a manual stop"
    return FINAL_CODES.get(code, "")


def _again(policy: RestartPolicy, history: History, delay_ns: int, why: str) -> Decision:
    if history.restarts >= policy.restarts_max:
        return Decision(
            restart=False, reason=f"{why}; {history.restarts} restarts are all that were allowed",
            history=history, code=EXIT_STAY_DOWN,
        )  # fmt: skip
    return Decision(
        restart=True, reason=why, delay_ns=delay_ns,
        history=replace(history, restarts=history.restarts + 1),
    )  # fmt: skip
