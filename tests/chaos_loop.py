"""An event loop whose time is made: it jumps to the next timer whenever nothing else is ready.

Everything of a chaos run (bot, exchange, the wire between them) lives on one such loop, so a life
of minutes takes a second, and the same seed gives the same life. There is no real waiting: a loop
with nothing to do and no timer would wait for ever, and says so instead.

Tasks know which *process* (a name) they belong to: that of the task that made them. ``tasks_of``
finds them, so that a whole process can be killed.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine, Generator
from typing import Any
from weakref import WeakKeyDictionary

from fleet.clock import NS_PER_SECOND

PROCESS: contextvars.ContextVar[str] = contextvars.ContextVar("process", default="")


class Stuck(RuntimeError):  # noqa: N818 - named for what happened
    """Nothing is ready and nothing ever will be."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: what would be waited for is added to the loop's time."""

    elapsed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Stuck("no task is ready and no timer is set: the run cannot go on")
        self.elapsed_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; ``time`` starts at 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._owners: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        self.set_task_factory(self._make_task)
        self.connect: Callable[[asyncio.Protocol], asyncio.Transport] | None = None
        """Where connections lead; there are no sockets here."""

    def time(self) -> float:
        return self._jumping.elapsed_s

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        self._owners[task] = PROCESS.get()
        return task

    async def create_connection(  # type: ignore[override]
        self, factory: Callable[[], asyncio.Protocol], *_: object, **__: object
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Join a protocol to whatever ``connect`` leads to. Raises ``OSError``."""
        if self.connect is None:
            raise ConnectionRefusedError("nothing listens")
        protocol = factory()
        transport = self.connect(protocol)
        protocol.connection_made(transport)
        return transport, protocol

    def tasks_of(self, process: str) -> list[asyncio.Task[Any]]:
        """The tasks of one process that are not done."""
        return [t for t, owner in list(self._owners.items()) if owner == process and not t.done()]

    def run_in_executor(  # type: ignore[override]
        self, executor: object, call: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        """Call at once: a thread would take real time, of which there is none here."""
        done: asyncio.Future[Any] = self.create_future()
        try:
            done.set_result(call(*arguments))
        except (OSError, ValueError, RuntimeError) as error:
            done.set_exception(error)
        return done


class LoopClock:
    """The wall clock of a virtual loop: ``start_ns`` plus the loop's time."""

    def __init__(self, loop: VirtualLoop, start_ns: int) -> None:
        self._loop, self._start_ns = loop, start_ns

    def now_ns(self) -> int:
        return self._start_ns + int(self._loop.time() * NS_PER_SECOND)


def run_virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine on a loop of its own to its end."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
