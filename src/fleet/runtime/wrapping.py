"""The wrapper process: keeps children alive, guards them, and ends them in reverse order.

One wrapper keeps one bot, or one bot for each token of a portfolio. SIGINT and SIGTERM end it: the
children, last started first, each within the termination time, all of them at once where there are
several so that the whole stays within it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet import logs
from fleet.clock import Clock, LiveClock
from fleet.config import Paths, Secret
from fleet.journal.locks import LockError, TwinRunning, acquire
from fleet.ops.alerts import Alert, Alerts
from fleet.runtime.continuous import RestartPolicy
from fleet.runtime.guardian import Guardian, GuardianSettings
from fleet.runtime.kept_process import Command, KeptProcess
from fleet.runtime.spec import EXIT_OK, EXIT_RETRY, EXIT_STAY_DOWN, EXIT_TWIN

STAGGER_S = 0.05
"""Between two requests to end: the order shows, and five seconds hold all."""


Beside = Callable[[Sequence[KeptProcess], Alert], Coroutine[None, None, None]]
"""What watches over all children together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapper:
    """One wrapper process: ``name`` for people, ``slug`` for its lock, log and heartbeat file."""

    name: str
    slug: str
    paths: Paths
    policy: RestartPolicy
    guarding: GuardianSettings
    webhook: Secret
    performance: Callable[[str], Mapping[str, Any]]
    """What the child of that name last said of its work."""

    def run(self, commands: Sequence[Command], beside: Beside | None = None) -> int:
        """Keep the children until they may not be kept or a signal asks; the exit code.

        ``beside`` runs as long as they do, with the alerts to tell people by.
        """
        try:
            outlets = logs.start(label=self.name, file=self.paths.logs / f"{self.slug}.log")
        except OSError as error:
            sys.stderr.write(f"{self.name} cannot write its log: {error}; run ./setup_logs.sh\n")
            return EXIT_STAY_DOWN
        clock = LiveClock()
        alerts = Alerts(self.webhook, clock, source=self.name)
        guardian = Guardian(
            self.paths.var / "wrapper" / f"{self.slug}.json", self.policy, clock, alerts,
            alerts.notice, self.guarding, self.performance,
        )  # fmt: skip
        log = logs.get("wrapper")
        try:
            with acquire(self.paths.lock(self.slug)):
                return asyncio.run(
                    keep(commands, self.policy, clock, guardian,
                         None if beside is None else lambda kept: beside(kept, alerts))
                )  # fmt: skip
        except TwinRunning as error:
            log.error("TWIN", reason=str(error))  # noqa: TRY400 - no defect, no traceback
            return EXIT_TWIN
        except LockError as error:
            log.error("CANNOT START", reason=str(error))  # noqa: TRY400 - as above
            return EXIT_RETRY
        finally:
            alerts.close()
            outlets.stop()


async def keep(
    commands: Sequence[Command], policy: RestartPolicy, clock: Clock, guardian: Guardian,
    beside: Callable[[Sequence[KeptProcess]], Coroutine[None, None, None]] | None = None,
) -> int:  # fmt: skip
    """Keep all of them until each has ended for good or a signal asks; the worst of their codes.

    One that stays down does not end the others. If ``beside`` fails, nobody watches over the whole
    any more: then all are ended and its error is raised.
    """
    kept = [KeptProcess(command, policy, clock, guardian.told) for command in commands]
    guardian.kept = kept
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    runs = [asyncio.create_task(one.run(), name=one.command.name) for one in kept]
    guard = asyncio.create_task(guardian.run())
    ending = asyncio.create_task(_end_when(asked, kept))
    watch = asyncio.create_task(beside(kept)) if beside is not None else None
    if watch is not None:
        watch.add_done_callback(lambda _: asked.set())
    try:
        codes = await asyncio.gather(*runs)
    finally:
        others = [task for task in (guard, ending, watch) if task is not None]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        guardian.beat()
    if watch is not None and not watch.cancelled() and (error := watch.exception()) is not None:
        raise error
    return max(codes, default=EXIT_OK)


async def _end_when(asked: asyncio.Event, kept: Sequence[KeptProcess]) -> None:
    await asked.wait()
    logs.get("wrapper").info("WRAPPER asked to end", processes=len(kept))
    for one in reversed(kept):
        one.stop()
        await asyncio.sleep(STAGGER_S)
