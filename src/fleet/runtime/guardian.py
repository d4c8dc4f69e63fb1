"""The guardian of continuous trading: a heartbeat file, notices to people, and how well it goes.

Every five minutes, and whenever something changes, the standing of every kept process is written to
one file; every hour it is told to people, as are restarts and the end. ``status_of`` is pure. It
watches and tells; it decides nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.ops.alerts import Alert
from fleet.runtime.continuous import Decision, RestartPolicy
from fleet.runtime.kept_process import KeptProcess, Standing

CRITICAL_FAILURES: Final = 5
"""Half of the failures in a row after which a process stays down."""
STALE_NS: Final = 60 * NS_PER_SECOND
"""A pulse is renewed every second: this old, the process is busy, stopped or stuck."""


class Status(Enum):
    """How well a kept process, or all of them, do. Ordered from best to worst."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"


def status_of(standing: Standing, pulse_age_ns: int | None, now_ns: int, healthy_ns: int) -> Status:
    """How well one does. ``pulse_age_ns`` is nothing if it gives no pulse.

    Failures in a row weigh until a run has lasted ``healthy_ns``.
    """
    if standing.ended:
        return Status.HEALTHY if standing.code == 0 else Status.CRITICAL
    failures = standing.history.failures
    if standing.pid and now_ns - standing.started_ns >= healthy_ns:
        failures = 0
    if failures >= CRITICAL_FAILURES:
        return Status.CRITICAL
    if failures or not standing.pid or (pulse_age_ns or 0) > STALE_NS:
        return Status.DEGRADED
    return Status.HEALTHY


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of them; healthy if there is none."""
    order = list(Status)
    return max(statuses, key=order.index, default=Status.HEALTHY)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardianSettings:
    """When it writes and when it tells (defaults as promised in the seeds)."""

    heartbeat_s: float = 300.0
    notice_s: float = 3_600.0


class Guardian:
    """Watches kept processes; ``told`` is what they report their endings to."""

    def __init__(
        self, file: Path, policy: RestartPolicy, clock: Clock, alert: Alert,
        notice: Callable[[str, str], None], settings: GuardianSettings | None = None,
        performance: Callable[[str], Mapping[str, Any]] = lambda _name: {},
    ) -> None:  # fmt: skip
        """Write to ``file``; ``alert`` and ``notice`` tell people, of trouble and of its absence.

        ``performance`` reads what a process says of its trading.
        """
        self.kept: list[KeptProcess] = []
        self._file = file
        self._policy = policy
        self._clock = clock
        self._alert = alert
        self._notice = notice
        self._settings = settings or GuardianSettings()
        self._performance = performance
        self._started_ns = clock.now_ns()
        self._log = logs.get("guardian")

    def report(self) -> dict[str, Any]:
        """The standing of everything, as it goes into the heartbeat file. Times in ns."""
        now_ns = self._clock.now_ns()
        rows = [self._row(kept, now_ns) for kept in self.kept]
        return {
            "written_ns": now_ns,
            "wrapper_pid": os.getpid(),
            "uptime_s": (now_ns - self._started_ns) // NS_PER_SECOND,
            "status": worst(Status(row["status"]) for row in rows).value,
            "processes": rows,
        }

    def _row(self, kept: KeptProcess, now_ns: int) -> dict[str, Any]:
        standing, age_ns = kept.standing, kept.pulse_age_ns()
        status = status_of(standing, age_ns, now_ns, self._policy.healthy_ns)
        return {
            "name": standing.name,
            "status": status.value,
            "pid": standing.pid,
            "uptime_s": (now_ns - standing.started_ns) // NS_PER_SECOND if standing.pid else 0,
            "restarts": standing.history.restarts,
            "failures_in_a_row": standing.history.failures,
            "last_reason": standing.reason,
            "next_start_ns": standing.due_ns,
            "pulse_age_ms": None if age_ns is None else age_ns // 1_000_000,
            "performance": dict(self._performance(standing.name)),
        }

    def told(self, standing: Standing, decision: Decision, uptime_ns: int) -> None:
        """An ending: a notice with attempt, reason, uptime and the next delay."""
        ran = f"{uptime_ns / NS_PER_SECOND:.0f} s"
        if decision.restart:
            attempt = f"{decision.history.restarts}/{self._policy.restarts_max}"
            delay_s = decision.delay_ns / NS_PER_SECOND
            self._alert(
                f"RESTART {standing.name}",
                f"attempt {attempt}: {decision.reason}; it ran for {ran},"
                f" {decision.history.failures} failures in a row; next start in {delay_s:g} s",
                "nothing, unless this goes on: then read its log" if decision.delay_ns else "",
            )
        elif decision.code:
            self._alert(
                f"DOWN {standing.name}",
                f"{decision.reason}; it ran for {ran} and is not started again",
                "read its log, repair what it names, and start it again",
            )
        else:
            self._log.info("WRAPPER ends", name=standing.name, reason=decision.reason, ran=ran)
        self.beat()

    def beat(self) -> None:
        """Write the heartbeat file: whole or not at all. A full disk is told, not fatal."""
        report = self.report()
        fresh = self._file.with_name(f"{self._file.name}.next")
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(json.dumps(report, indent=1))
            fresh.replace(self._file)
        except OSError as error:
            self._log.warning("HEARTBEAT not written", file=self._file, reason=str(error))
        self._log.info("HEARTBEAT", status=report["status"], processes=len(report["processes"]))

    def notice(self) -> None:
        """Tell people how it goes."""
        report = self.report()
        self._notice(f"HEALTH {report['status']}", summary(report["processes"]))

    async def run(self) -> None:
        """Beat and tell until cancelled."""
        self.beat()
        told_ns = self._clock.now_ns()
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            self.beat()
            if self._clock.now_ns() - told_ns >= self._settings.notice_s * NS_PER_SECOND:
                told_ns = self._clock.now_ns()
                self.notice()


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """All processes on one line."""
    parts = []
    for row in rows:
        figures = ", ".join(f"{key} {value}" for key, value in row["performance"].items())
        parts.append(
            f"{row['name']} {row['status']}, up {row['uptime_s']} s, {row['restarts']} restarts"
            + (f", {figures}" if figures else "")
        )
    return "; ".join(parts)
