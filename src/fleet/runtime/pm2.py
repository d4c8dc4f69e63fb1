"""The bot's side of PM2's own channel: metrics, actions, ready, shutdown, and the daemon's death.

Theory of operation. PM2 starts every bot in fork mode with a socket pair whose file descriptor is
in ``NODE_CHANNEL_FD`` (PM2 7.0.4, ``lib/God/ForkMode.js``: ``stdio: [pipe, pipe, pipe, ipc]``).
Each line on it is one JSON document. ::

    bot -> PM2   "ready"
                 {"type": "axm:monitor", "data": {NAME: {"value": V, "unit": U}}}
                 {"type": "axm:action",  "data": {"action_name": NAME, ...}}
                 {"type": "axm:reply",   "data": {"action_name": NAME, "return": JSON, ...}}
    PM2 -> bot   "NAME"  or  {"msg": "NAME", "opts": "ARGUMENT", ...}  or  "shutdown"

Invariants.

* Every line sent is a non-blank JSON object with a non-empty ``data``, or the string ``"ready"``.
  One line of ``null``, blank or ``NaN`` makes the daemon restart *every* app it keeps, so all
  values are cleaned here, whatever the caller passes.
* The bot never waits. Callers only take a lock that is never held during input or output; one
  writer thread sends whole lines and may hang for as long as the daemon does. Metrics are
  latest-wins, the queue of other lines is bounded, and what does not fit is counted in ``dropped``.
* End of file means that the daemon is gone, and with it everything that could restart or stop this
  bot: ``on_orphan`` is called once. A reader that dies for any other reason counts as the same.
* Callbacks run where ``dispatch`` puts them (``loop.call_soon_threadsafe``), never in a thread
here.

It must not decide anything, log anything, or send a message type the daemon does not expect: an
event named ``error`` would be thrown inside the daemon.
"""

import json
import os
import re
import socket
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from math import isfinite

Dispatch = Callable[[Callable[[], object]], object]
ActionCallback = Callable[[str | None], object]

METRICS_MAX = 32
ACTIONS_MAX = 32
OUTBOX_MAX = 256
NAME_CHARS_MAX = 40
VALUE_CHARS_MAX = 120
TEXT_CHARS_MAX = 4_000
REPLY_BYTES_MAX = 64 * 1024
# The daemon copies replies recursively; a deep one would overflow its stack.
REPLY_DEPTH_MAX = 6
REPLY_ITEMS_MAX = 200
INBOUND_LINE_BYTES_MAX = 1024 * 1024
# `pm2 monit` redraws about once a second; two frames a second keep the daemon's load negligible.
METRICS_INTERVAL_S = 0.5
# Once the socket is shut down its threads end at once; this is for a starved machine.
JOIN_S = 2.0
# `pm2 trigger` counts answers before it knows how many to expect: one that overtakes the daemon's
# own reply to it is printed and then waited for, for ever (PM2 7.0.4 lib/API/Extra.js,
# `++counter == process_wait_count`; seen under load). So answers are held back a little.
REPLY_DELAY_S = 0.25
# JavaScript numbers are exact up to here; larger integers travel as text.
EXACT_INT_MAX = 2**53
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
# `pm2 monit` reads {tag} as a colour.
BRACES = str.maketrans("{}", "()")
READY_LINE = b'"ready"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure for ``pm2 monit`` and ``pm2 describe``; the box is about 21 characters wide."""

    value: object
    unit: str = ""


def clean_text(value: object, chars_max: int) -> str:
    """Return one printable, non-blank line of at most ``chars_max`` characters; never raises."""
    text = value if isinstance(value, str) else type(value).__name__
    text = UNPRINTABLE.sub(" ", text[: chars_max * 4]).strip()
    return text[:chars_max].strip() or "-"


def clean_name(name: object) -> str:
    """Return a metric or action name the daemon can use as a key; never raises."""
    text = clean_text(name, NAME_CHARS_MAX).translate(BRACES)
    # Object.assign would run the setter of this one instead of making a key.
    return "proto" if text == "__proto__" else text


def clean_scalar(value: object, chars_max: int = VALUE_CHARS_MAX) -> str | int | float | bool:
    """Return ``value`` as a JSON scalar that is never null, NaN, infinite, blank or long."""
    if isinstance(value, bool):
        return value
    if value is None:
        return "-"
    if isinstance(value, int):
        if -EXACT_INT_MAX <= value <= EXACT_INT_MAX:
            return int(value)
        return str(int(value)) if value.bit_length() <= 256 else "huge"
    if isinstance(value, float):
        return float(value) if isfinite(value) else str(float(value))
    if isinstance(value, Decimal):
        return clean_text(str(value), chars_max)
    return clean_text(value, chars_max)


def clean_tree(value: object, depth: int = REPLY_DEPTH_MAX) -> object:
    """Return a JSON tree of bounded depth and width for an action's reply; never raises."""
    if isinstance(value, Mapping) and depth > 0:
        pairs = list(value.items())[:REPLY_ITEMS_MAX]
        return {clean_name(key): clean_tree(item, depth - 1) for key, item in pairs}
    if isinstance(value, list | tuple) and depth > 0:
        return [clean_tree(item, depth - 1) for item in value[:REPLY_ITEMS_MAX]]
    if value is None and depth < REPLY_DEPTH_MAX:
        return None  # Inside an object null is harmless, and means something.
    return clean_scalar(value, TEXT_CHARS_MAX)


def metrics_line(metrics: Mapping[object, object]) -> bytes:
    """Encode metrics; values are scalars or :class:`Metric`. Empty input gives no line at all."""
    data: dict[str, dict[str, object]] = {}
    for name, entry in metrics.items():
        metric = entry if isinstance(entry, Metric) else Metric(value=entry)
        value = clean_scalar(metric.value)
        fields: dict[str, object] = {
            "value": value.translate(BRACES) if isinstance(value, str) else value
        }
        if metric.unit:
            fields["unit"] = clean_text(metric.unit, NAME_CHARS_MAX).translate(BRACES)
        data[clean_name(name)] = fields
    return _message("axm:monitor", data) if data else b""


def action_line(name: object) -> bytes:
    """Encode the registration of an action that takes an optional argument."""
    fields = {"action_name": clean_name(name), "action_type": "custom", "arity": 2}
    return _message("axm:action", {**fields, "opts": None})


def reply_line(name: object, result: object, at_ms: int) -> bytes:
    """Encode the answer to an action; without one ``pm2 trigger`` waits for ever."""
    fields: dict[str, object] = {"at": at_ms, "action_name": clean_name(name)}
    line = _message("axm:reply", {**fields, "return": clean_tree(result)})
    if len(line) > REPLY_BYTES_MAX:
        line = _message("axm:reply", {**fields, "return": {"error": "reply too large"}})
    return line


def _message(topic: str, data: Mapping[str, object]) -> bytes:
    document = {"type": topic, "data": data}
    # ensure_ascii: no byte above 0x7f and no raw line break can be inside a line.
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


class Channel:
    """An open channel to PM2; thread-safe. Made by :func:`connect`, or on any stream socket."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        dispatch: Dispatch,
        on_shutdown: Callable[[], object],
        on_orphan: Callable[[], object],
    ) -> None:
        self.dropped = 0
        self.ignored = 0
        self._sock = sock
        self._dispatch = dispatch
        self._on_shutdown = on_shutdown
        self._on_orphan = on_orphan
        self._actions: dict[str, ActionCallback] = {}
        self._metrics: dict[object, object] = {}
        self._metrics_names: set[object] = set()
        self._metrics_due_s = 0.0
        self._outbox: deque[bytes] = deque()
        # Each with the time.monotonic() before which it must not be sent.
        self._replies: deque[tuple[float, bytes]] = deque()
        self._ready_sent = False
        self._closing = False
        self._wake = threading.Condition()
        self._writer = threading.Thread(target=self._write, name="pm2-writer", daemon=True)
        self._reader = threading.Thread(target=self._read, name="pm2-reader", daemon=True)
        self._writer.start()
        self._reader.start()

    def metrics(self, values: Mapping[str, object]) -> None:
        """Publish figures (scalars or :class:`Metric`). Later values replace unsent earlier ones.

        PM2 merges by name and never forgets a name while the bot lives, so at most
        ``METRICS_MAX`` distinct names are accepted; the rest is counted in ``dropped``.
        """
        with self._wake:
            for name, value in values.items():
                if name not in self._metrics_names and len(self._metrics_names) >= METRICS_MAX:
                    self.dropped += 1
                    continue
                self._metrics_names.add(name)
                self._metrics[name] = value
            self._wake.notify()

    def action(self, name: str, callback: ActionCallback) -> None:
        """Answer ``pm2 trigger APP name [argument]`` with the callback's JSON-able result.

        Raises ValueError for a name PM2 could not carry unchanged, or past ``ACTIONS_MAX``.
        """
        if clean_name(name) != name or name == "shutdown":
            raise ValueError(f"action name {name!r} is not usable: choose a short printable word")
        if name not in self._actions and len(self._actions) >= ACTIONS_MAX:
            raise ValueError(f"more than {ACTIONS_MAX} actions: remove some")
        self._actions[name] = callback
        self._enqueue(action_line(name))

    def ready(self) -> None:
        """Tell PM2 (``wait_ready``) that the bot really is up; only the first call sends."""
        with self._wake:
            if self._ready_sent:
                return
            self._ready_sent = True
        self._enqueue(READY_LINE)

    def close(self, flush_s: float = 0.5) -> None:
        """Send what is queued for at most ``flush_s`` seconds and end both threads; idempotent."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        self._writer.join(flush_s)
        # Frees a writer stuck behind a hung daemon, and the reader from its recv.
        self._hang_up()
        self._writer.join(JOIN_S)
        if threading.current_thread() is not self._reader:
            self._reader.join(JOIN_S)
        if not self._writer.is_alive() and not self._reader.is_alive():
            self._sock.close()

    def _hang_up(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # Already disconnected, which is what was wanted.

    def _enqueue(self, line: bytes) -> None:
        with self._wake:
            if len(self._outbox) >= OUTBOX_MAX:
                self.dropped += 1
                return
            self._outbox.append(line)
            self._wake.notify()

    def _take(self) -> bytes | None:
        """Wait for something to send; None when closing and nothing is left."""
        while True:
            with self._wake:
                if self._outbox:
                    return self._outbox.popleft()
                now_s = time.monotonic()
                if self._replies and (self._closing or self._replies[0][0] <= now_s):
                    return self._replies.popleft()[1]
                if self._metrics and (self._closing or self._metrics_due_s <= now_s):
                    self._metrics_due_s = now_s + METRICS_INTERVAL_S
                    taken, self._metrics = self._metrics, {}
                elif self._closing:
                    return None
                else:
                    due_s = [self._replies[0][0]] if self._replies else []
                    due_s += [self._metrics_due_s] if self._metrics else []
                    self._wake.wait(min(due_s) - now_s if due_s else None)
                    continue
            # Outside the lock: cleaning many values must not hold up the bot.
            return metrics_line(taken)

    def _write(self) -> None:
        while (line := self._take()) is not None:
            try:
                self._sock.sendall(line)
            except OSError:
                return  # The reader sees the same end and reports it.

    def _read(self) -> None:
        try:
            self._read_lines()
        finally:
            if not self._closing:
                self._deliver(self._on_orphan)

    def _read_lines(self) -> None:
        pending, skipping = b"", False
        while True:
            try:
                chunk = self._sock.recv(65536)
            except OSError:
                return
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                if skipping:
                    skipping = False
                else:
                    self._receive(line)
            if len(pending) > INBOUND_LINE_BYTES_MAX:
                pending, skipping = b"", True
                self.ignored += 1

    def _receive(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self.ignored += 1
            return
        if message == "shutdown":
            self._deliver(self._on_shutdown)
            return
        name, argument = message, None
        if isinstance(message, dict):
            name, opts = message.get("msg"), message.get("opts")
            # The command line sends text; other callers of PM2's rpc may send any JSON.
            argument = opts if opts is None or isinstance(opts, str) else json.dumps(opts)
        callback = self._actions.get(name) if isinstance(name, str) else None
        if callback is None:
            self.ignored += 1
            return
        self._deliver(partial(self._answer, name, callback, argument), name)

    def _deliver(self, call: Callable[[], object], name: str | None = None) -> None:
        try:
            self._dispatch(call)
        except RuntimeError:
            # The event loop is closed: the bot is on its way out.
            if name is not None:
                self._reply(name, {"error": "the bot is stopping"})

    def _answer(self, name: str, callback: ActionCallback, argument: str | None) -> None:
        """Run an action where ``dispatch`` put it; the operator is answered even if it raises."""
        result: object = {"error": f"{name} failed: see the bot's log"}
        try:
            result = callback(argument)
        finally:
            self._reply(name, result)

    def _reply(self, name: str, result: object) -> None:
        line = reply_line(name, result, time.time_ns() // 1_000_000)
        with self._wake:
            if len(self._replies) >= OUTBOX_MAX:
                self.dropped += 1
                return
            self._replies.append((time.monotonic() + REPLY_DELAY_S, line))
            self._wake.notify()


def connect(
    environ: MutableMapping[str, str],
    *,
    dispatch: Dispatch,
    on_shutdown: Callable[[], object],
    on_orphan: Callable[[], object],
) -> Channel | None:
    """Open the channel PM2 gave this process, or return None when it was not started by PM2.

    Takes the variables out of ``environ`` (a Node child that inherited them would abort) and makes
    the descriptor non-inheritable. ``dispatch`` hands a call to the bot's own thread, for example
    ``loop.call_soon_threadsafe``; it may raise RuntimeError when that thread is gone.
    """
    text = environ.pop("NODE_CHANNEL_FD", None)
    mode = environ.pop("NODE_CHANNEL_SERIALIZATION_MODE", "json")
    if text is None or mode != "json" or not (text.isascii() and text.isdigit()):
        return None
    fd = int(text)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        sock = socket.socket(fileno=fd)
    except (OSError, OverflowError):
        return None  # Inherited from a parent that has closed it: nobody listens there.
    if sock.type != socket.SOCK_STREAM:
        sock.detach()
        return None
    sock.set_inheritable(False)
    sock.setblocking(True)
    channel = Channel(sock, dispatch=dispatch, on_shutdown=on_shutdown, on_orphan=on_orphan)
    # A forked worker must not keep the bot's channel open or write into it.
    os.register_at_fork(after_in_child=partial(_drop_in_child, weakref.ref(channel)))
    return channel


def _drop_in_child(reference: "weakref.ref[Channel]") -> None:
    channel = reference()
    if channel is not None:
        channel._sock.close()  # noqa: SLF001 - this module's own class
