"""Telling a person: one call makes a log line with its remedy and posts it where people look.

``alert`` never waits and never raises: the line is written, and a thread of its own posts to the
webhook, if there is one, as ``{"text": ...}``, which chat services take. The queue is bounded, each
code is posted at most once a minute (what was held back is counted in the next one), and a post
that fails is tried once more and then told in the log. The log is the record; posts are a courtesy.

No secret leaves through here: the address shows in no line, errors of the HTTP library are told by
their kind because their words repeat the address, and whatever has the form of a key is cut short.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Mapping
from typing import Final, Protocol

import requests

from fleet import logs
from fleet.clock import NS_PER_SECOND, Clock
from fleet.config import Secret

POST_EVERY_NS: Final = 60 * NS_PER_SECOND
QUEUE_MAX: Final = 100
TEXT_CHARS_MAX: Final = 600
TIMEOUT_S: Final = (3.0, 5.0)
"""To connect, and between two bytes of the answer."""
PAUSE_S: Final = 2.0
CLOSE_S: Final = 3.0
_KEY: Final = re.compile(r"\b(0x)?([0-9a-fA-F]{6})[0-9a-fA-F]{50,}\b")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Alert(Protocol):
    """What raises alarms, as those who raise them see it."""

    def __call__(self, code: str, text: str, remedy: str = "") -> None:
        """Tell a person."""
        ...


class Alerts:
    """Alerts of one process."""

    def __init__(self, webhook: Secret, clock: Clock, *, source: str) -> None:
        """Speak as ``source`` (``ArbHunter live polymarket``); no webhook means the log alone."""
        self._webhook = webhook
        self._clock = clock
        self._source = source
        self._posted_ns: dict[str, int] = {}
        self._held_back: dict[str, int] = {}
        self._queue: queue.Queue[str | None] = queue.Queue(QUEUE_MAX)
        self._closing = threading.Event()
        self._gone = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = logs.get("alerts")

    def __call__(self, code: str, text: str, remedy: str = "") -> None:
        """Write the line, and post it unless this code was posted a moment ago."""
        text, remedy = safe(text), safe(remedy)
        self._log.error("ALERT", code=code, text=text, remedy=remedy)
        self._offer(code, text, remedy)

    def notice(self, code: str, text: str) -> None:
        """Tell a person of something that needs nobody: a quiet line, posted as an alert is."""
        text = safe(text)
        self._log.info("NOTICE", code=code, text=text)
        self._offer(code, text, "")

    def _offer(self, code: str, text: str, remedy: str) -> None:
        """Post it, unless there is nowhere to, or this code was posted a moment ago."""
        if not self._webhook or self._closing.is_set():
            return
        now_ns = self._clock.now_ns()
        if now_ns - self._posted_ns.get(code, -POST_EVERY_NS) < POST_EVERY_NS:
            self._held_back[code] = self._held_back.get(code, 0) + 1
            return
        self._posted_ns[code] = now_ns
        held = self._held_back.pop(code, 0)
        more = f" (and {held} more of these since the last)" if held else ""
        cure = f"\nWhat to do: {remedy}" if remedy else ""
        try:
            self._queue.put_nowait(f"[{self._source}] {code}: {text}{more}{cure}")
        except queue.Full:
            self._log.warning("ALERT not posted", code=code, reason="too many wait already")
            return
        self._start()

    def close(self) -> None:
        """Give what waits a moment to get out, and end."""
        self._closing.set()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            self._queue.put_nowait(None)
            thread.join(CLOSE_S)
        except queue.Full:
            pass  # More than a moment's worth waits.
        self._gone.set()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (text := self._queue.get()) is not None and not self._gone.is_set():
            problem = self._post({"text": text})
            if problem:
                self._closing.wait(PAUSE_S)
                problem = self._post({"text": text})
            if problem and not self._gone.is_set():
                self._log.warning("ALERT not posted", reason=problem)

    def _post(self, body: Mapping[str, str]) -> str:
        """Why it was not taken; empty when it was."""
        try:
            answer = requests.post(
                self._webhook.reveal(), json=body, timeout=TIMEOUT_S, allow_redirects=False
            )
        except (requests.RequestException, ValueError, OSError) as error:
            return type(error).__name__
        return "" if answer.ok else f"the webhook answered {answer.status_code}"


def safe(text: str) -> str:
    """One line of bounded length without anything that could be a key."""
    plain = _CONTROL.sub(" ", text)
    short = _KEY.sub(lambda found: f"{found[1] or ''}{found[2]}...", plain)
    return short if len(short) <= TEXT_CHARS_MAX else f"{short[:TEXT_CHARS_MAX]}..."
