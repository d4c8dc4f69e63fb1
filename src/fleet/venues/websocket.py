"""The life of one websocket connection: a pure state machine, and a picows shell around it.

``Session`` owns no socket and no clock: it is told the time and answers what to do. ``SocketLink``
owns the socket and decides nothing.

    state       input                         next state              action
    WAITING     time >= retry time            CONNECTING              CONNECT
    CONNECTING  opened                        OPEN
    CONNECTING  time >= connect deadline      CONNECTING              DROP_TIMEOUT (once)
    OPEN        time >= next ping             OPEN                    PING
    OPEN        no data for data_age_max      OPEN                    DROP_SILENT (once)
    OPEN        older than lifetime           OPEN                    ROTATE (once)
    any         closed                        WAITING, after back-off

Keep-alive answers (PONG) are not data: a server can answer pings for hours after it has stopped
sending books (polymarket.md "Known failures"). The back-off starts again from its first step only
after a connection has stayed up for ``stable_ns``, so a server that accepts and drops is not
hammered.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from fleet.clock import NS_PER_MS, NS_PER_SECOND
from fleet.venues.port import TransportFailed
from fleet.venues.transport import USER_AGENT, Backoff, Jitter

FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
"""A subscription of 200 full books in one array stays below 4 MB."""
NEVER_NS: Final = 2**63 - 1


class SessionState(Enum):
    """Where a connection is in its life."""

    WAITING = "WAITING"
    CONNECTING = "CONNECTING"
    OPEN = "OPEN"


class Action(Enum):
    """What the shell must do now."""

    CONNECT = "CONNECT"
    PING = "PING"
    ROTATE = "ROTATE"
    DROP_SILENT = "DROP_SILENT"
    DROP_TIMEOUT = "DROP_TIMEOUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """Times of a connection, in nanoseconds. ``lifetime_ns`` 0 means no planned reconnect."""

    ping_interval_ns: int = 10 * NS_PER_SECOND
    data_age_max_ns: int = 30 * NS_PER_SECOND
    lifetime_ns: int = 600 * NS_PER_SECOND
    connect_timeout_ns: int = 10 * NS_PER_SECOND
    backoff_first_ns: int = 250 * NS_PER_MS
    backoff_max_ns: int = 30 * NS_PER_SECOND
    stable_ns: int = 30 * NS_PER_SECOND


class Session:
    """One connection's life; see the table above. Told the time, it says what to do."""

    __slots__ = (
        "_asked", "_backoff", "_deadline_ns", "_ping_ns", "_rotate_ns", "_settings",
        "data_ns", "opened_ns", "state",
    )  # fmt: skip

    def __init__(
        self, settings: SessionSettings, *, now_ns: int, jitter: Jitter = random.random
    ) -> None:
        """Wait for ``now_ns``, that is: connect at the first ``poll``."""
        self._settings = settings
        self._backoff = Backoff(settings.backoff_first_ns, settings.backoff_max_ns, jitter)
        self.state = SessionState.WAITING
        self.opened_ns = 0
        self.data_ns = 0
        """When market data last came; the shell sets it on every frame that is data."""
        self._deadline_ns = now_ns
        self._ping_ns = self._rotate_ns = 0
        self._asked = False

    def poll(self, now_ns: int) -> Action | None:
        """The next thing to do at ``now_ns``, or nothing. Call again until it is nothing."""
        if self.state is SessionState.WAITING:
            if now_ns < self._deadline_ns:
                return None
            self.state = SessionState.CONNECTING
            self._deadline_ns = now_ns + self._settings.connect_timeout_ns
            return Action.CONNECT
        if self._asked:
            return None
        if self.state is SessionState.CONNECTING:
            if now_ns < self._deadline_ns:
                return None
            self._asked = True
            return Action.DROP_TIMEOUT
        if now_ns - self.data_ns >= self._settings.data_age_max_ns:
            self._asked = True
            return Action.DROP_SILENT
        if now_ns >= self._ping_ns:
            self._ping_ns = now_ns + self._settings.ping_interval_ns
            return Action.PING
        if self._rotate_ns and now_ns >= self._rotate_ns:
            self._rotate_ns = 0
            return Action.ROTATE
        return None

    def wake_ns(self) -> int:
        """When ``poll`` may have something to do, if nothing happens before."""
        if self._asked:
            return NEVER_NS
        if self.state is not SessionState.OPEN:
            return self._deadline_ns
        wake = min(self._ping_ns, self.data_ns + self._settings.data_age_max_ns)
        return min(wake, self._rotate_ns) if self._rotate_ns else wake

    def opened(self, now_ns: int, *, share: float = 1.0) -> None:
        """The connection is up; it will be replaced after ``share`` of its lifetime.

        The silence watch begins now: a connection that never sends anything is silent too.
        """
        self.state = SessionState.OPEN
        self.opened_ns = self.data_ns = now_ns
        self._ping_ns = now_ns + self._settings.ping_interval_ns
        self._asked = False
        self.rotate_at(now_ns + int(self._settings.lifetime_ns * share))

    def rotate_at(self, at_ns: int) -> None:
        """Plan the replacement of this connection for ``at_ns``, unless lifetimes are unlimited."""
        self._rotate_ns = at_ns if self._settings.lifetime_ns else 0

    def closed(self, now_ns: int) -> int:
        """The connection is gone or never came; nanoseconds until the next attempt."""
        stable = now_ns - self.opened_ns >= self._settings.stable_ns
        if self.state is SessionState.OPEN and stable:
            self._backoff.reset()
        delay_ns = self._backoff.next_ns()
        self.state = SessionState.WAITING
        self._deadline_ns = now_ns + delay_ns
        self._asked = False
        return delay_ns


class SocketLink(WSListener):
    """One client socket: text frames go to ``on_text``, the end to ``on_closed`` with its reason.

    The view given to ``on_text`` is valid only during the call. An exception raised there drops the
    connection and comes out of ``run``: it is a defect of this program, not of the venue.
    """

    def __init__(
        self,
        on_opened: Callable[[], None],
        on_text: Callable[[memoryview], None],
        on_closed: Callable[[str], None],
    ) -> None:
        """Not connected yet; ``run`` connects."""
        self._on_opened, self._on_text, self._on_closed = on_opened, on_text, on_closed
        self._transport: WSTransport | None = None
        self._parts = bytearray()
        self._reason = ""
        self._delivering = False

    async def run(self, url: str, *, connect_timeout_s: float) -> None:
        """Connect and stay until the end; ``on_closed`` is called exactly once, here."""
        reason = ""
        try:
            transport, _ = await ws_connect(
                lambda: self,
                url,
                websocket_handshake_timeout=connect_timeout_s,
                max_frame_size=FRAME_BYTES_MAX,
                extra_headers={"User-Agent": USER_AGENT},
                logger_name="feed",
            )
            await transport.wait_disconnected()
        except (OSError, WSError, TimeoutError) as error:
            if self._delivering:
                raise
            reason = f"{type(error).__name__}: {error}"
        finally:
            if self._transport is not None:
                # A cancelled task must not leave its socket behind.
                self._transport.disconnect(graceful=False)
                self._transport = None
            self._on_closed(self._reason or reason or "closed by the venue")

    def send(self, text: bytes) -> None:
        """Send one text frame. Raises ``TransportFailed`` if there is no connection."""
        if self._transport is None:
            raise TransportFailed("the websocket is not connected", sent=False)
        self._transport.send(WSMsgType.TEXT, text)

    def close(self, reason: str) -> None:
        """Drop the connection at once; the end arrives through ``run`` with this reason."""
        self._reason = reason
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called by picows once the handshake is done."""
        self._transport = transport
        self._delivering = True
        self._on_opened()
        self._delivering = False

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called by picows for every frame."""
        kind = frame.msg_type
        if kind is WSMsgType.TEXT and frame.fin:
            # Left true by an exception: that is how ``run`` tells our defects from lost sockets.
            self._delivering = True
            self._on_text(frame.get_payload_as_memoryview())
            self._delivering = False
        elif kind in {WSMsgType.TEXT, WSMsgType.CONTINUATION}:
            self._parts += frame.get_payload_as_memoryview()
            if len(self._parts) > FRAME_BYTES_MAX:
                self.close("a message of many fragments is too long")
            elif frame.fin:
                message, self._parts = bytes(self._parts), bytearray()
                self._delivering = True
                self._on_text(memoryview(message))
                self._delivering = False
        elif kind is WSMsgType.CLOSE:
            self._reason = self._reason or (
                f"closed by the venue: {frame.get_close_code()} {frame.get_close_reason()!r}"
            )
            transport.send_close(frame.get_close_code())
            transport.disconnect()
