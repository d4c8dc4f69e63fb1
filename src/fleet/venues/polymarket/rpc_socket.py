"""JSON-RPC 2.0 over one websocket: calls, answers and subscriptions of a node.

Frames are decoded once, typed, by msgspec; a notice is handed to its subscriber inside the callback
that received it, with nothing in between (docs/decisions/0022 says why not by web3.py). One socket
lives once: when it is lost, every waiting call fails and the owner opens another.

Invariant: a notice that comes right behind the answer to its subscription is not lost, for the
subscriber is entered where the answer is read and not where it is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from fleet.venues.port import AnswerInvalid, TransportFailed, VenueError
from fleet.venues.websocket import SocketLink

T = TypeVar("T")
Notice = Callable[[msgspec.Raw], None]
"""Takes a subscription's result; the bytes are valid only during the call. Must not raise."""
_NULL: Final = b"null"


class RpcRefused(VenueError):  # noqa: N818 - named for what happened
    """The node answered with an error; ``code`` is JSON-RPC's."""

    def __init__(self, message: str, *, code: int) -> None:
        """Keep the code."""
        super().__init__(message)
        self.code = code


class _Told(msgspec.Struct, gc=False):
    subscription: str = ""
    result: msgspec.Raw = msgspec.Raw(_NULL)


class _Error(msgspec.Struct, gc=False):
    code: int = 0
    message: str = ""


class _Frame(msgspec.Struct, gc=False):
    id: int | None = None
    params: _Told | None = None
    result: msgspec.Raw = msgspec.Raw(_NULL)
    error: _Error | None = None


class _Waiting:
    """A call that was sent: whom to tell, how to read it, who hears the subscription's notices."""

    __slots__ = ("future", "kind", "notice")

    def __init__(self, future: asyncio.Future[Any], kind: Any, notice: Notice | None) -> None:
        self.future, self.kind, self.notice = future, kind, notice


class RpcSocket:
    """One connection to one node. ``await open()`` first; ``await close()`` at the end."""

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        """Name the node; nothing is opened yet."""
        self.url: Final = url
        # Without user, path and query: that is where providers put the key.
        self.what: Final = urlsplit(url).netloc.rpartition("@")[2]
        self.unreadable = 0
        """Frames that were no JSON-RPC."""
        self._timeout_s = timeout_s
        self._opened = asyncio.Event()
        self._link = SocketLink(self._opened.set, self._on_text, self._on_closed)
        self._task: asyncio.Task[None] | None = None
        self._frames = msgspec.json.Decoder(_Frame)
        self._waiting: dict[int, _Waiting] = {}
        self._notices: dict[str, Notice] = {}
        self._count = 0
        self.closed = ""
        """Why the connection ended; empty while it has not."""

    async def open(self) -> None:
        """Connect. Raises ``TransportFailed``."""
        self._task = asyncio.create_task(self._link.run(self.url, connect_timeout_s=10.0))
        opened = asyncio.create_task(self._opened.wait())
        try:
            await asyncio.wait(
                {self._task, opened}, timeout=self._timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )  # fmt: skip
        finally:
            opened.cancel()
        if not self._opened.is_set() or self.closed:
            reason = self.closed or f"not connected within {self._timeout_s:g} s"
            await self.close()
            raise TransportFailed(f"{self.what}: cannot connect ({reason})", sent=False)

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        self._link.close("closed by us")
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (defect := task.exception()) is not None:
            raise defect

    def check(self) -> None:
        """Raise ``TransportFailed`` if the connection is gone, or the defect that ended it."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
        if self.closed:
            raise TransportFailed(f"{self.what}: {self.closed}", sent=True)

    async def call(self, method: str, params: Sequence[Any], kind: type[T] | Any) -> T:
        """Ask, and read the answer as ``kind``.

        Raises ``RpcRefused``, ``TransportFailed`` or ``AnswerInvalid``.
        """
        answer: T = await self._ask(method, params, kind, None)
        return answer

    async def subscribe(self, params: Sequence[Any], notice: Notice) -> None:
        """``eth_subscribe``; every result goes to ``notice``. Raises like ``call``."""
        await self._ask("eth_subscribe", params, str, notice)

    async def _ask(
        self, method: str, params: Sequence[Any], kind: Any, notice: Notice | None
    ) -> Any:
        self.check()
        self._count += 1
        number = self._count
        asked = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = _Waiting(future, kind, notice)
        try:
            self._link.send(msgspec.json.encode(asked))
            async with asyncio.timeout(self._timeout_s):
                return await future
        except TimeoutError as error:
            raise TransportFailed(
                f"{self.what}: no answer to {method} within {self._timeout_s:g} s", sent=True
            ) from error
        finally:
            self._waiting.pop(number, None)

    def _on_text(self, text: memoryview) -> None:
        try:
            frame = self._frames.decode(text)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            self.unreadable += 1
            return
        told = frame.params
        if told is not None:
            notice = self._notices.get(told.subscription)
            if notice is not None:
                notice(told.result)
        elif frame.id is not None and (asked := self._waiting.pop(frame.id, None)) is not None:
            self._answer(asked, frame)

    def _answer(self, asked: _Waiting, frame: _Frame) -> None:
        if asked.future.done():
            return
        if frame.error is not None:
            told = frame.error
            asked.future.set_exception(RpcRefused(f"{self.what}: {told.message}", code=told.code))
            return
        try:
            # A copy: what is read later as Raw must outlive the socket's buffer.
            answer = msgspec.json.decode(bytes(frame.result), type=asked.kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            asked.future.set_exception(AnswerInvalid(f"{self.what}: {error}"))
            return
        if asked.notice is not None:
            self._notices[answer] = asked.notice
        asked.future.set_result(answer)

    def _on_closed(self, reason: str) -> None:
        self.closed = reason
        for asked in self._waiting.values():
            if not asked.future.done():
                asked.future.set_exception(TransportFailed(f"{self.what}: {reason}", sent=True))
        self._waiting.clear()
