"""An event loop whose time is made: it jumps to the next timer whenever nothing else is ready.

Everything of a chaos run (bot, exchange, the wire between them) lives on one such loop, so a life
of minutes takes a second, and the same seed gives the same life. There is no real waiting: a loop
with nothing to do and no timer would wait for ever, and says so instead.

Tasks know which *process* (a name) they belong to: that of the task that made them. ``tasks_of``
finds them, so that a whole process can be killed. ``freeze`` is SIGSTOP: nothing of a process runs
until ``thaw``, and then all of it at once, late; ``stand_still`` is the same in the middle of its own
code, while everybody else goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import selectors
from collections import deque
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
        self._frozen: dict[str, list[asyncio.Handle]] = {}
        """The processes that stand still, and what of theirs is due."""
        self.set_task_factory(self._make_task)
        self.connect: Callable[[asyncio.Protocol], asyncio.Transport] | None = None
        """Where connections lead; there are no sockets here."""

    _ready: deque[Any]
    _scheduled: list[Any]
    _stopping: bool
    _selector: Any
    _clock_resolution: float
    _process_events: Callable[[Any], None]

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

    # --- standing still -----------------------------------------------------------------------

    def frozen(self, process: str) -> bool:
        """Whether a process stands still."""
        return process in self._frozen

    def freeze(self, process: str) -> None:
        """SIGSTOP: from now on nothing of it runs."""
        self._frozen.setdefault(process, [])

    def thaw(self, process: str) -> None:
        """SIGCONT: what became due runs now, in the order it became due."""
        self._ready.extendleft(reversed(self._frozen.pop(process, [])))

    def stand_still(self, process: str, seconds: float) -> None:
        """SIGSTOP in the middle of this very call: it returns after ``seconds`` of the others' time.

        To be called by code of the process itself; does nothing if somebody stands still already.
        """
        if self._frozen:
            return
        end_s = self.time() + seconds
        contextvars.Context().run(self.call_at, end_s, lambda: None)
        task = asyncio.current_task(self)
        if task is not None:
            asyncio.tasks._leave_task(self, task)
        self.freeze(process)
        try:
            while self.time() < end_s and self.frozen(process) and not self._stopping:
                self._run_once()
        finally:
            self.thaw(process)
            if task is not None:
                asyncio.tasks._enter_task(self, task)

    def run_in(
        self, context: contextvars.Context, call: Callable[..., Any], *arguments: Any
    ) -> None:
        """Call it as code of the process of ``context``: now, or once that process runs again."""
        if self._frozen and context.get(PROCESS, "") in self._frozen:
            self.call_soon(call, *arguments, context=context.copy())
        else:
            context.copy().run(call, *arguments)

    def _run_once(self) -> None:
        """One turn, as ``BaseEventLoop``'s (Python 3.11), but it may be entered again from within,
        and what is due of a process that stands still is put aside.
        """
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        timeout = None
        if ready or self._stopping:
            timeout = 0.0
        elif scheduled:
            timeout = max(0.0, scheduled[0]._when - self.time())
        self._process_events(self._selector.select(timeout))
        end_s = self.time() + self._clock_resolution
        while scheduled and scheduled[0]._when < end_s:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            if not ready:
                break  # A turn within this one has run them.
            handle = ready.popleft()
            if handle._cancelled:
                continue
            if self._frozen:
                waiting = self._frozen.get(handle._context.get(PROCESS, ""))
                if waiting is not None:
                    waiting.append(handle)
                    continue
            handle._run()

    def add_signal_handler(self, *_: object, **__: object) -> None:
        """Signals of a run are its steps."""

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
