"""PM2's channel, the bot's side: harmless lines, never blocking, every end noticed."""

import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.runtime import pm2
from fleet.runtime.pm2 import Channel, Metric

WAIT_S = 5.0

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**50, max_value=10**90)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=200)
    | st.binary(max_size=20)
    | st.decimals()
    | st.builds(pow, st.just(10), st.just(5000))
    | st.just(object())
    | st.just("\n")
    | st.just("null")
    | st.just("x" * 100_000)
)
keys = st.text(st.characters(codec=None)) | st.integers() | st.none() | st.just("__proto__")
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=30,
)


def assert_harmless(line: bytes) -> dict[str, object]:
    """What pm2.md section 3.4 asks of a line, checked with a parser as strict as JavaScript's."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.strip()
    assert line.isascii()
    document = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} on the wire"))
    assert isinstance(document, dict)
    assert document["type"] in {"axm:monitor", "axm:action", "axm:reply"}
    assert isinstance(document["data"], dict)
    assert document["data"]
    return document


@given(
    st.dictionaries(keys, scalars | st.builds(Metric, value=scalars, unit=st.text()), min_size=1)
)
def test_any_metrics_make_a_harmless_line(values: dict[object, object]) -> None:
    document = assert_harmless(pm2.metrics_line(values))
    data = document["data"]
    assert isinstance(data, dict)
    for name, metric in data.items():
        assert name.strip()
        assert name != "__proto__"
        assert len(name) <= pm2.NAME_CHARS_MAX
        assert not set(name) & set("{}")
        # `pm2 describe` crashes on a metric that is null.
        assert isinstance(metric["value"], str | int | float)
        assert metric["value"] != ""
        assert len(str(metric["value"])) <= pm2.VALUE_CHARS_MAX


@given(trees, keys)
def test_any_reply_makes_a_harmless_line(result: object, name: object) -> None:
    line = pm2.reply_line(name, result, 1)
    assert len(line) <= pm2.REPLY_BYTES_MAX
    document = assert_harmless(line)
    data = document["data"]
    assert isinstance(data, dict)
    assert "return" in data


@given(keys)
def test_any_action_name_makes_a_harmless_line(name: object) -> None:
    assert_harmless(pm2.action_line(name))


def test_a_deep_reply_is_cut_before_it_can_overflow_the_daemons_stack() -> None:
    deep: object = "bottom"
    for _ in range(5000):
        deep = [deep]
    line = pm2.reply_line("status", deep, 1)
    assert_harmless(line)
    assert line.count(b"[") == pm2.REPLY_DEPTH_MAX


def test_no_metrics_make_no_line() -> None:
    assert pm2.metrics_line({}) == b""


def test_values_keep_their_meaning() -> None:
    line = pm2.metrics_line(
        {
            "P&L": Metric(value="3.20", unit="USD"),
            "count": 7,
            "share": 0.5,
            "price": Decimal("0.10"),
            "lost": float("nan"),
            "far": float("-inf"),
            "unknown": None,
            "note": "{red-fg}x{/}",
        }
    )
    assert json.loads(line)["data"] == {
        "P&L": {"value": "3.20", "unit": "USD"},
        "count": {"value": 7},
        "share": {"value": 0.5},
        "price": {"value": "0.10"},
        "lost": {"value": "nan"},
        "far": {"value": "-inf"},
        "unknown": {"value": "-"},
        "note": {"value": "(red-fg)x(/)"},
    }


@dataclass(slots=True)
class Daemon:
    """The other end of the socket pair, and what the bot was told."""

    peer: socket.socket
    channel: Channel
    told: "queue.Queue[str]" = field(default_factory=queue.Queue)

    def line(self) -> bytes:
        """Read one line as the daemon would."""
        got = b""
        while not got.endswith(b"\n"):
            byte = self.peer.recv(1)
            assert byte, "the bot hung up"
            got += byte
        return got

    def next_told(self) -> str:
        return self.told.get(timeout=WAIT_S)


def run_now(call: Callable[[], object]) -> object:
    return call()


@contextmanager
def daemon(dispatch: pm2.Dispatch = run_now) -> Iterator[Daemon]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(WAIT_S)
    told: queue.Queue[str] = queue.Queue()
    channel = Channel(
        ours,
        dispatch=dispatch,
        on_shutdown=lambda: told.put("shutdown"),
        on_orphan=lambda: told.put("orphan"),
    )
    try:
        yield Daemon(theirs, channel, told)
    finally:
        channel.close()
        theirs.close()


def test_ready_is_sent_once() -> None:
    with daemon() as d:
        d.channel.ready()
        d.channel.ready()
        d.channel.metrics({"after": 1})
        assert d.line() == b'"ready"\n'
        assert b"axm:monitor" in d.line()


def test_metrics_are_latest_wins() -> None:
    with daemon() as d:
        d.channel.metrics({"n": 0})
        assert json.loads(d.line())["data"]["n"]["value"] == 0
        for n in range(1, 1000):
            d.channel.metrics({"n": n})
        assert json.loads(d.line())["data"]["n"]["value"] == 999


def test_the_number_of_metric_names_is_bounded() -> None:
    with daemon() as d:
        d.channel.metrics({f"m{n}": n for n in range(pm2.METRICS_MAX + 5)})
        assert d.channel.dropped == 5
        assert len(json.loads(d.line())["data"]) == pm2.METRICS_MAX


def test_actions_get_their_argument_and_are_answered() -> None:
    seen: list[str | None] = []

    def limits(argument: str | None) -> object:
        seen.append(argument)
        return {"limit": argument}

    with daemon() as d:
        d.channel.action("limits", limits)
        assert json.loads(d.line())["data"]["action_name"] == "limits"
        d.peer.sendall(b'"limits"\n{"msg":"limits","name":"ArbHunter","opts":"250"}\n')
        first, second = json.loads(d.line()), json.loads(d.line())
        assert first["type"] == "axm:reply"
        assert first["data"]["return"] == {"limit": None}
        assert second["data"]["return"] == {"limit": "250"}
        d.peer.sendall(b'{"msg":"limits","id":0,"opts":{"cap":1}}\n')
        assert json.loads(d.line())["data"]["return"] == {"limit": '{"cap": 1}'}
    assert seen == [None, "250", '{"cap": 1}']


def test_an_answer_never_overtakes_the_daemons_own_reply() -> None:
    """`pm2 trigger` would print it and then wait for ever."""
    with daemon() as d:
        d.channel.action("status", lambda _: "quick")
        d.line()
        sent_s = time.monotonic()
        d.peer.sendall(b'"status"\n')
        assert json.loads(d.line())["data"]["return"] == "quick"
        assert time.monotonic() - sent_s >= pm2.REPLY_DELAY_S
        # Other lines do not wait behind it, and closing does not lose it.
        d.peer.sendall(b'"status"\n')
        d.channel.ready()
        assert d.line() == b'"ready"\n'
        deadline_s = time.monotonic() + WAIT_S
        while not d.channel._replies and time.monotonic() < deadline_s:
            time.sleep(0.001)
        d.channel.close()
        assert json.loads(d.line())["data"]["return"] == "quick"


def test_an_action_that_raises_is_still_answered() -> None:
    failures: queue.Queue[Exception] = queue.Queue()

    def dispatch(call: Callable[[], object]) -> object:
        try:
            return call()
        except ZeroDivisionError as error:
            failures.put(error)
            return None

    with daemon(dispatch) as d:
        d.channel.action("status", lambda _: 1 / 0)
        d.line()
        d.peer.sendall(b'"status"\n')
        assert "status failed" in json.loads(d.line())["data"]["return"]["error"]
        assert isinstance(failures.get(timeout=WAIT_S), ZeroDivisionError)


def test_an_action_for_a_closed_loop_is_still_answered() -> None:
    def closed(_: Callable[[], object]) -> object:
        raise RuntimeError("Event loop is closed")

    with daemon(closed) as d:
        d.channel.action("status", lambda _: "never")
        d.line()
        d.peer.sendall(b'"status"\n')
        assert "stopping" in json.loads(d.line())["data"]["return"]["error"]


@pytest.mark.parametrize("name", ["", " pause", "shutdown", "two\nlines", "{x}", "y" * 41])
def test_unusable_action_names_are_refused(name: str) -> None:
    with daemon() as d, pytest.raises(ValueError, match="action name"):
        d.channel.action(name, lambda _: None)


def test_the_reader_survives_garbage() -> None:
    with daemon() as d:
        d.channel.action("status", lambda _: "alive")
        d.line()
        d.peer.sendall(b"\n\xff\xfe\nnot json\nnull\n42\n[[]]\n" + b"[" * 100_000 + b"\n")
        d.peer.sendall(b'{"msg":["status"]}\n{"cmd":"NODE_HANDLE"}\n"unheard of"\n')
        d.peer.sendall(b'"' + b"x" * (pm2.INBOUND_LINE_BYTES_MAX + 100_000) + b'"\n')
        d.peer.sendall(b'"sta')
        d.peer.sendall(b'tus"\n')
        assert json.loads(d.line())["data"]["return"] == "alive"
        assert d.channel.ignored == 11


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_the_reader_survives_any_bytes(chunks: list[bytes]) -> None:
    with daemon() as d:
        for chunk in chunks:
            d.peer.sendall(chunk)
        d.peer.sendall(b'\n"shutdown"\n')
        while d.next_told() != "shutdown":
            pass


def test_shutdown_and_the_daemons_death_are_told() -> None:
    with daemon() as d:
        d.peer.sendall(b'"shutdown"\n')
        assert d.next_told() == "shutdown"
        d.peer.close()
        assert d.next_told() == "orphan"


def test_a_death_in_the_middle_of_a_line_is_told_once() -> None:
    with daemon() as d:
        d.peer.sendall(b'"shutd')
        d.peer.close()
        assert d.next_told() == "orphan"
        d.channel.metrics({"n": 1})
        d.channel.close()
        assert d.told.empty()


def test_closing_flushes_and_is_not_an_orphan() -> None:
    with daemon() as d:
        d.channel.metrics({"n": 1})
        d.line()
        d.channel.metrics({"n": 2})
        d.channel.close()
        d.channel.close()
        assert json.loads(d.line())["data"]["n"]["value"] == 2
        assert d.peer.recv(1) == b""
        assert d.told.empty()


def test_a_hung_daemon_never_blocks_the_bot() -> None:
    with daemon() as d:
        d.channel.action("status", lambda _: "x" * 4000)
        # Nobody reads: fill the socket's buffer through replies, then keep publishing.
        worst_s = 0.0
        d.peer.sendall(b'"status"\n' * 2000)
        for n in range(20_000):
            started_s = time.perf_counter()
            d.channel.metrics({"n": n})
            worst_s = max(worst_s, time.perf_counter() - started_s)
        deadline_s = time.monotonic() + WAIT_S
        while not d.channel.dropped and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert d.channel.dropped > 0
        assert worst_s < 0.5
        started_s = time.perf_counter()
        d.channel.close(flush_s=0.1)
        assert time.perf_counter() - started_s < 2.0
        assert threading.active_count() < 10


def connect(environ: dict[str, str]) -> Channel | None:
    return pm2.connect(environ, dispatch=run_now, on_shutdown=lambda: None, on_orphan=lambda: None)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_connect_takes_the_descriptor_out_of_the_environment() -> None:
    ours, theirs = socket.socketpair()
    fd = ours.detach()
    os.set_inheritable(fd, True)
    environ = {"NODE_CHANNEL_FD": str(fd), "NODE_CHANNEL_SERIALIZATION_MODE": "json", "X": "1"}
    channel = connect(environ)
    assert channel is not None
    assert environ == {"X": "1"}
    assert not os.get_inheritable(fd)
    channel.ready()
    assert theirs.recv(64) == b'"ready"\n'
    child = os.fork()
    if child == 0:
        # A forked worker has no channel: its copy of the descriptor is closed.
        try:
            os.fstat(fd)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    channel.close()
    theirs.close()


def test_connect_without_pm2_is_none() -> None:
    read_fd, write_fd = os.pipe()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    closed = socket.socket()
    closed_fd = closed.fileno()
    closed.close()
    for text in ["", "x", "-1", "99999999999999999999", str(read_fd), str(udp.fileno())]:
        environ = {"NODE_CHANNEL_FD": text}
        assert connect(environ) is None
        assert environ == {}
    assert connect({}) is None
    assert connect({"NODE_CHANNEL_FD": str(closed_fd)}) is None
    assert connect({"NODE_CHANNEL_FD": "0", "NODE_CHANNEL_SERIALIZATION_MODE": "advanced"}) is None
    os.fstat(read_fd)
    udp.getsockname()
    for fd in (read_fd, write_fd):
        os.close(fd)
    udp.close()
