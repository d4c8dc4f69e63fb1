"""The wrapper process: keeps children alive, guards them, and ends them in reverse order.

One wrapper keeps one bot, or one bot for each token of a portfolio. SIGINT and SIGTERM end it: the
children, last started first, each within the termination time, all of them at once where there are
several so that the whole stays within it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

from fleet import logs
from fleet.clock import Clock
from fleet.runtime.continuous import RestartPolicy
from fleet.runtime.guardian import Guardian
from fleet.runtime.kept_process import Command, KeptProcess
from fleet.runtime.spec import EXIT_OK

STAGGER_S = 0.05
"""Between two requests to end: the order shows, and five seconds hold all."""


async def keep(
    commands: Sequence[Command], policy: RestartPolicy, clock: Clock, guardian: Guardian
) -> int:
    """Keep all of them until each has ended for good or a signal asks; the worst of their codes.

    One that stays down does not end the others.
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
    try:
        codes = await asyncio.gather(*runs)
    finally:
        for task in (guard, ending):
            task.cancel()
        await asyncio.gather(guard, ending, return_exceptions=True)
        guardian.beat()
    return max(codes, default=EXIT_OK)


async def _end_when(asked: asyncio.Event, kept: Sequence[KeptProcess]) -> None:
    await asked.wait()
    logs.get("wrapper").info("WRAPPER asked to end", processes=len(kept))
    for one in reversed(kept):
        one.stop()
        await asyncio.sleep(STAGGER_S)
