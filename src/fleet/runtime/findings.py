"""What a check found: a name, what is there, how it stands, and the cure.

``Result`` has four values because two are not enough where money is concerned: a check that could
not be made is neither passed nor failed. Unknown is never read as good: it stops a live start, but
with the exit code that lets a restart try again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from fleet.runtime.preflight import Check
from fleet.runtime.spec import EXIT_OK, EXIT_RETRY, EXIT_STAY_DOWN


class Result(Enum):
    """How a check ended."""

    OK = "ok"
    WARNED = "warned"
    """Good enough to trade, but somebody should know."""
    FAILED = "failed"
    """A person must repair something."""
    UNKNOWN = "unknown"
    """It could not be found out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check and its outcome; ``cure`` is empty when there is nothing to do."""

    name: str
    found: str
    result: Result = Result.OK
    cure: str = ""

    @property
    def ok(self) -> bool:
        """Whether it stands in the way of nothing."""
        return self.result in {Result.OK, Result.WARNED}

    def as_json(self) -> dict[str, object]:
        """The finding as `fleet doctor --json` shows it."""
        return {
            "name": self.name,
            "found": self.found,
            "ok": self.ok,
            "result": self.result.value,
            "cure": self.cure,
        }

    def line(self) -> str:
        """The finding as one line for a person."""
        cure = f"  ->  {self.cure}" if self.cure else ""
        return f"{_WORDS[self.result]} {self.name:<14} {self.found}{cure}"


_WORDS = {
    Result.OK: "ok     ",
    Result.WARNED: "WARN   ",
    Result.FAILED: "FAIL   ",
    Result.UNKNOWN: "UNKNOWN",
}


def passed(name: str, found: str) -> Finding:
    """A check that passed."""
    return Finding(name=name, found=found)


def warned(name: str, found: str, cure: str) -> Finding:
    """A check that passed, with a remark."""
    return Finding(name=name, found=found, result=Result.WARNED, cure=cure)


def failed(name: str, found: str, cure: str) -> Finding:
    """A check that failed, and what repairs it."""
    return Finding(name=name, found=found, result=Result.FAILED, cure=cure)


def unknown(name: str, found: str, cure: str) -> Finding:
    """A check that could not be made, and what would let it be made."""
    return Finding(name=name, found=found, result=Result.UNKNOWN, cure=cure)


def of_check(check: Check) -> Finding:
    """A check of ``preflight`` as a finding."""
    if check.ok:
        return passed(check.name, check.found)
    return failed(check.name, check.found, check.problem)


def exit_code(findings: Iterable[Finding]) -> int:
    """78 if anything failed, else 1 if anything is unknown, else 0."""
    results = {finding.result for finding in findings}
    if Result.FAILED in results:
        return EXIT_STAY_DOWN
    return EXIT_RETRY if Result.UNKNOWN in results else EXIT_OK
