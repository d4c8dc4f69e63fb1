"""Alerts: in the log always, posted to a real webhook on 127.0.0.1, never slow, never telling."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fleet import logs
from fleet.clock import ManualClock
from fleet.config import Secret
from fleet.ops import alerts
from fleet.ops.alerts import POST_EVERY_NS, QUEUE_MAX, TEXT_CHARS_MAX, Alerts, safe

KEY = "0x" + "4f" * 32


class Hook(ThreadingHTTPServer):
    """A chat service: what it was told, and how it answers."""

    daemon_threads = True

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.told: list[str] = []
        self.statuses = list(statuses)
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> Secret:
        return Secret(f"http://127.0.0.1:{self.server_address[1]}/services/T0P/S3CRET")


class _Taker(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.gate.wait(30)
        self.server.told.append(json.loads(body)["text"])
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def hook(*statuses: int) -> Iterator[Hook]:
    server = Hook(*statuses)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the log says."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, handler = logging.getLogger(logs.NAME), Keep()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield said
    logger.removeHandler(handler)
    logger.setLevel(before[0])
    logger.propagate = before[1]


def until(held: Callable[[], bool], within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not held():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_alert_is_a_line_with_its_remedy_even_without_a_webhook(lines: list[str]) -> None:
    tell = Alerts(Secret(""), ManualClock(0), source="ArbHunter")
    tell("DAY_LOSS", "lost $104", "find the losing trades")
    tell.close()
    assert lines == ['ALERT code=DAY_LOSS text="lost $104" remedy="find the losing trades"']


def test_it_is_posted_with_who_says_it_and_what_to_do(lines: list[str]) -> None:
    with hook() as chat:
        tell = Alerts(chat.url, ManualClock(0), source="ArbHunter live")
        tell("DAY_LOSS", "lost $104", "look")
        tell.close()
        assert chat.told == ["[ArbHunter live] DAY_LOSS: lost $104\nWhat to do: look"]
    assert len(lines) == 1


def test_one_code_is_posted_once_a_minute_and_the_rest_counted(lines: list[str]) -> None:
    clock = ManualClock(10**18)
    with hook() as chat:
        tell = Alerts(chat.url, clock, source="A")
        for number in range(5):
            tell("ERROR_RATE", f"n{number}")
        tell("STALE_FEED", "other")
        clock.advance(POST_EVERY_NS)
        tell("ERROR_RATE", "again")
        tell.close()
        assert chat.told == [
            "[A] ERROR_RATE: n0",
            "[A] STALE_FEED: other",
            "[A] ERROR_RATE: again (and 4 more of these since the last)",
        ]
    assert len(lines) == 7, "the log has all of them"


def test_a_failed_post_is_tried_once_more_then_told(
    lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "PAUSE_S", 0.01)
    with hook(500, 200, 403, 403) as chat:
        tell = Alerts(chat.url, ManualClock(0), source="A")
        tell("ONE", "x")
        tell("TWO", "y")
        until(lambda: len(chat.told) == 4)
        tell.close()
    assert [line for line in lines if "not posted" in line] == [
        'ALERT not posted reason="the webhook answered 403"'
    ]


def test_a_webhook_that_hangs_holds_nobody_up(lines: list[str]) -> None:
    with hook() as chat:
        chat.gate.clear()
        tell = Alerts(chat.url, ManualClock(0), source="A")
        started = time.monotonic()
        for number in range(QUEUE_MAX + 10):
            tell(f"CODE_{number}", "x")
        assert time.monotonic() - started < 2
        assert any("too many wait" in line for line in lines)
        chat.gate.set()
        until(lambda: len(chat.told) >= QUEUE_MAX)
        tell.close()


def test_the_address_never_shows(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "PAUSE_S", 0.01)
    with hook() as chat:
        url = chat.url
    for address in (url, Secret("no address at all S3CRET"), Secret("http://[S3CRET")):
        tell = Alerts(address, ManualClock(0), source="A")
        tell("X", "y")
        tell.close()
        assert "S3CRET" not in repr(tell.__dict__)
    told = "\n".join(lines)
    assert told.count("not posted") == 3
    assert "S3CRET" not in told


def test_what_looks_like_a_key_is_cut_and_lines_stay_lines() -> None:
    assert safe(f"signing with {KEY} failed") == "signing with 0x4f4f4f... failed"
    assert KEY[2:] not in safe(KEY[2:])
    assert safe("a\nALERT code=FAKE\x1b[0m") == "a ALERT code=FAKE [0m"
    assert len(safe("x" * 5_000)) == TEXT_CHARS_MAX + 3
