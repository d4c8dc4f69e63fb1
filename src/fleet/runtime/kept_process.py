"""A process kept alive from outside: started, watched, started again as ``continuous`` decides.

The child has a session of its own, so that Ctrl-C reaches the wrapper alone and what was started is
ended in reverse order. It is asked to end by SIGTERM, has five seconds, and then its whole process
group is killed: nothing it started outlives it. If the wrapper itself is killed, the child hears of
it from the kernel (``end_with_parent``). The wrapper never reads or writes what the child keeps.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.runtime.continuous import Decision, Ending, History, RestartPolicy, decide

TERMINATION_S: Final = 5.0
"""PROCESS_TERMINATION_TIMEOUT of the launcher's seed."""
EXIT_NOT_STARTED: Final = 127
_PR_SET_PDEATHSIG: Final = 1
"""prctl(2), linux/prctl.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is kept: ``name`` for people, ``duration_s`` of a cycle, ``pulse`` a file it renews."""

    name: str
    words: Sequence[str]
    environ: Mapping[str, str]
    home: Path
    duration_s: float | None = None
    pulse: Path | None = None
    hang_s: float = 600.0
    """After its pulse stood still for so long, the child is ended and counts as failed."""


@dataclass(slots=True, kw_only=True)
class Standing:
    """How a kept process is doing, for those who watch."""

    name: str
    pid: int = 0
    """0 while none runs."""
    started_ns: int = 0
    history: History = field(default_factory=History)
    reason: str = ""
    """Why it was last restarted or stays down."""
    due_ns: int = 0
    """When the next start is, while it waits."""
    ended: bool = False
    code: int = 0


Told = Callable[[Standing, Decision, int], None]
"""Told of every ending: the standing, what was decided, and how long it had run (ns)."""


class KeptProcess:
    """One child, kept until it may not be or ``stop`` is called."""

    def __init__(self, command: Command, policy: RestartPolicy, clock: Clock, told: Told) -> None:
        """Nothing is started yet."""
        self.command = command
        self.standing = Standing(name=command.name)
        self._policy = policy
        self._clock = clock
        self._told = told
        self._stopping = asyncio.Event()
        self._renewed = asyncio.Event()
        self._log = logs.get("wrapper")

    def stop(self) -> None:
        """Ask for the end; ``run`` returns when the child is gone."""
        self._stopping.set()

    def renew(self, command: Command) -> None:
        """End the child in order and start it anew by ``command``: no failure, but a restart."""
        self.command = command
        self._renewed.set()

    async def run(self) -> int:
        """Keep the child; the code the wrapper should end with for it."""
        standing = self.standing
        while True:
            ending = await self._once()
            decision = decide(self._policy, standing.history, ending)
            standing.history, standing.reason = decision.history, decision.reason
            standing.pid = 0
            standing.due_ns = self._clock.now_ns() + decision.delay_ns if decision.restart else 0
            standing.ended, standing.code = not decision.restart, decision.code
            self._told(standing, decision, ending.uptime_ns)
            if not decision.restart:
                return decision.code
            if await self._asked_within(decision.delay_ns / NS_PER_SECOND):
                standing.ended, standing.due_ns = True, 0
                return 0

    async def _once(self) -> Ending:
        command, standing = self.command, self.standing
        self._renewed.clear()
        standing.started_ns = begun_ns = self._clock.now_ns()
        try:
            process = await asyncio.create_subprocess_exec(
                *command.words, env=dict(command.environ), cwd=command.home,
                stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._log.error("WRAPPER cannot start", name=command.name, reason=str(error))
            return Ending(code=EXIT_NOT_STARTED, uptime_ns=0)
        standing.pid = process.pid
        self._log.info("WRAPPER started", name=command.name, pid=process.pid)
        hung = False
        try:
            hung = await self._watch(process)
        finally:
            code = await end_process(process)
        uptime_ns = self._clock.now_ns() - begun_ns
        over = command.duration_s is not None and uptime_ns >= command.duration_s * NS_PER_SECOND
        over = over or self._renewed.is_set()
        return Ending(
            code=code, uptime_ns=uptime_ns, stopping=self._stopping.is_set(), hung=hung,
            cycle_over=over,
        )  # fmt: skip

    async def _watch(self, process: asyncio.subprocess.Process) -> bool:
        """Wait for its end or ours; true if it lives but gives no sign of it."""
        gone = asyncio.ensure_future(process.wait())
        asked = asyncio.ensure_future(self._stopping.wait())
        renewed = asyncio.ensure_future(self._renewed.wait())
        look_s = min(self.command.hang_s / 4, 5.0)
        try:
            while True:
                done, _ = await asyncio.wait(
                    {gone, asked, renewed}, timeout=look_s, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    return False
                if (self.pulse_age_ns() or 0) > self.command.hang_s * NS_PER_SECOND:
                    return True
        finally:
            for task in (gone, asked, renewed):
                task.cancel()

    def pulse_age_ns(self) -> int | None:
        """How long its pulse stands still; nothing if it has none, or none in this run yet."""
        if self.command.pulse is None:
            return None
        try:
            beat_ns = self.command.pulse.stat().st_mtime_ns
        except OSError:
            return None
        now_ns = self._clock.now_ns()
        return max(0, now_ns - beat_ns) if beat_ns >= self.standing.started_ns else None

    async def _asked_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return self._stopping.is_set()
        return True


async def end_process(
    process: asyncio.subprocess.Process, patience_s: float = TERMINATION_S
) -> int:
    """SIGTERM, wait, SIGKILL to its group; the code it ended with. For a process already gone too.

    The process must lead a group of its own.
    """
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM, group=False)
        try:
            await asyncio.wait_for(process.wait(), patience_s)
        except TimeoutError:
            logs.get("wrapper").warning("WRAPPER kills", pid=process.pid, after_s=patience_s)
    _signal(process.pid, signal.SIGKILL, group=True)
    return await process.wait()


def _signal(pid: int, number: signal.Signals, *, group: bool) -> None:
    try:
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return  # It is gone already, which is what was wanted.


def end_with_parent(parent: int) -> bool:
    """Ask the kernel for a SIGTERM when our parent ends; false if ``parent`` is gone already.

    Linux only; elsewhere a killed wrapper leaves its child running, as PM2 does.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    except (OSError, AttributeError):
        logs.get("wrapper").warning("WRAPPER cannot tie the child to itself on this system")
    return os.getppid() == parent
