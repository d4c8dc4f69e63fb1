"""HTTP reads and writes against a real loopback server; the websocket's state machine by its table."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from fleet.clock import NS_PER_MS, NS_PER_SECOND, ManualClock
from fleet.venues.port import AnswerInvalid, RequestRefused, TransportFailed
from fleet.venues.transport import Backoff, HttpSettings, JsonClient, RateBudget
from fleet.venues.websocket import NEVER_NS, Action, Session, SessionSettings, SessionState

S = NS_PER_SECOND


class Server:
    """Answers what it is told, one entry a request; then 200 and ``{"ok":1}``."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str, dict[str, str]]] = []
        self.requests: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.drop = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.requests.append((request.method, request.path_qs, await request.read(), headers))
        if self.drop:
            self.drop -= 1
            assert request.transport is not None
            request.transport.close()
        status, body, headers = self.answers.pop(0) if self.answers else (200, '{"ok":1}', {})
        return web.Response(status=status, text=body, headers=headers)


Talk = Callable[[JsonClient], Awaitable[Any]]


def talk(
    server: Server, what: Talk, *, settings: HttpSettings | None = None, clock: Any = None
) -> tuple[Any, list[float]]:
    """What the client makes of the server, and how long it waited between its attempts."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 3))

    async def main() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", server.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        client = JsonClient(
            f"http://127.0.0.1:{port}/api",
            settings,
            sleep=sleep,
            jitter=lambda: 0.0,
            clock=clock or ManualClock(S),
        )
        try:
            return await what(client)
        finally:
            await client.close()
            await runner.cleanup()

    return asyncio.run(main()), waits


def test_get_decodes_and_names_itself() -> None:
    server = Server()
    answer, _ = talk(server, lambda c: c.get("/x", dict[str, int], {"after": "a b"}))
    assert answer == {"ok": 1}
    method, path, _, headers = server.requests[0]
    assert (method, path) == ("GET", "/api/x?after=a+b")
    assert (
        headers["user-agent"].startswith("Mozilla/5.0") and "polybot-fleet" in headers["user-agent"]
    )


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_reads_are_retried_with_backoff(status: int) -> None:
    server = Server()
    server.answers = [(status, "busy", {})] * 3
    answer, waits = talk(server, lambda c: c.get("/x", dict[str, int]))
    assert answer == {"ok": 1}
    assert waits == [0.125, 0.25, 0.5]


def test_retry_after_is_honoured_within_a_limit() -> None:
    server = Server()
    server.answers = [
        (429, "", {"Retry-After": "3"}),
        (429, "", {"Retry-After": "86400"}),
        (429, "", {"Retry-After": "Thu, 01 Jan 1970 00:00:11 GMT"}),
        (429, "", {"Retry-After": "soon"}),
    ]
    _, waits = talk(server, lambda c: c.get("/x", dict[str, int]))
    assert waits == [3.0, 60.0, 10.0, 1.0]


def test_reads_give_up_after_the_last_attempt() -> None:
    server = Server()
    server.answers = [(503, "down", {})] * 9
    with pytest.raises(RequestRefused, match="HTTP 503 'down'") as caught:
        talk(server, lambda c: c.get("/x", dict[str, int]), settings=HttpSettings(attempts=3))
    assert caught.value.status == 503 and len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 501])
def test_a_refusal_is_final(status: int) -> None:
    server = Server()
    server.answers = [(status, '{"error":"market not found"}', {})]
    with pytest.raises(RequestRefused) as caught:
        talk(server, lambda c: c.get("/x", dict[str, int]))
    assert caught.value.status == status and "market not found" in caught.value.body
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", ["", "<html>", "[1]", '{"ok":"one"}', "[" * 5_000])
def test_an_unknown_shape_is_no_answer(body: str) -> None:
    server = Server()
    server.answers = [(200, body, {})]
    with pytest.raises(AnswerInvalid, match=r"/api/x"):
        talk(server, lambda c: c.get("/x", dict[str, int]))
    assert len(server.requests) == 1


def test_a_dropped_connection_is_retried_for_reads() -> None:
    server = Server()
    server.drop = 2
    answer, waits = talk(server, lambda c: c.get("/x", dict[str, int]))
    assert answer == {"ok": 1} and len(waits) == 2


def test_a_dropped_connection_is_an_unknown_outcome_for_writes() -> None:
    server = Server()
    server.drop = 1
    with pytest.raises(TransportFailed) as caught:
        talk(server, lambda c: c.post("/order", dict[str, int], b'{"a":1}'))
    assert caught.value.sent
    assert len(server.requests) == 1, "a write is never repeated"


@pytest.mark.parametrize("status", [425, 429, 500, 503])
def test_writes_are_never_retried(status: int) -> None:
    server = Server()
    server.answers = [(status, "busy", {})]
    with pytest.raises(RequestRefused):
        talk(server, lambda c: c.post("/order", dict[str, int], b"{}"))
    assert len(server.requests) == 1


def test_a_write_sends_exactly_these_bytes() -> None:
    server = Server()
    body = b'{"salt": 12,  "x":"\xc3\xa9"}'
    talk(server, lambda c: c.post("/order", dict[str, int], body, {"POLY_SIGNATURE": "s"}))
    method, _, sent, headers = server.requests[0]
    assert (method, sent, headers["poly_signature"]) == ("POST", body, "s")


def test_an_absent_server_proves_that_nothing_was_sent() -> None:
    async def main() -> None:
        client = JsonClient("http://127.0.0.1:1", HttpSettings(attempts=1))
        try:
            await client.post("/order", dict[str, int], b"{}")
        finally:
            await client.close()

    with pytest.raises(TransportFailed, match="cannot connect") as caught:
        asyncio.run(main())
    assert not caught.value.sent


def test_a_slow_answer_is_no_answer() -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            gone.set()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = JsonClient(f"http://127.0.0.1:{port}", HttpSettings(attempts=1, timeout_s=0.05))
        try:
            await client.get("/x", dict[str, int])
        finally:
            await client.close()
            await gone.wait()
            server.close()
            await server.wait_closed()

    with pytest.raises(TransportFailed, match="ReadTimeout") as caught:
        asyncio.run(main())
    assert caught.value.sent


def test_the_clients_own_rate_budget_delays_requests() -> None:
    async def three(client: JsonClient) -> None:
        for _ in range(3):
            await client.get("/x", dict[str, int])

    _, waits = talk(Server(), three, settings=HttpSettings(per_second=4, burst=2))
    assert waits == [0.25]


# --- pure parts ---------------------------------------------------------------------------------


@given(
    st.integers(1, 50),
    st.integers(1, 20),
    st.lists(st.integers(0, 2 * S), min_size=1, max_size=200),
)
def test_budget_never_exceeds_its_rate(per_second: int, burst: int, gaps: list[int]) -> None:
    budget, now, sent = RateBudget(per_second=per_second, burst=burst), 0, []
    for gap in gaps:
        now += gap
        sent.append(now + budget.reserve(now))
    sent.sort()
    for first in range(len(sent)):
        within = [at for at in sent[first:] if at < sent[first] + S]
        # The interval is rounded down to a nanosecond, hence one more at most.
        assert len(within) <= burst + per_second + 1


def test_budget_lets_a_burst_through_at_once() -> None:
    budget = RateBudget(per_second=10, burst=3)
    assert [budget.reserve(0) for _ in range(5)] == [0, 0, 0, S // 10, S // 5]
    assert budget.reserve(10 * S) == 0
    with pytest.raises(ValueError, match="at least one"):
        RateBudget(per_second=0, burst=1)


def test_backoff_doubles_to_its_limit_between_half_and_full() -> None:
    low = Backoff(250 * NS_PER_MS, 30 * S, lambda: 0.0)
    high = Backoff(250 * NS_PER_MS, 30 * S, lambda: 1.0)
    steps = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    assert [low.next_ns() // NS_PER_MS for _ in steps] == [step // 2 for step in steps]
    assert [high.next_ns() // NS_PER_MS for _ in steps] == steps
    for _ in range(10_000):
        high.next_ns()
    high.reset()
    assert high.next_ns() == 250 * NS_PER_MS


SETTINGS = SessionSettings(lifetime_ns=600 * S)


def session(settings: SessionSettings = SETTINGS) -> Session:
    return Session(settings, now_ns=0, jitter=lambda: 1.0)


def opened(settings: SessionSettings = SETTINGS) -> Session:
    made = session(settings)
    assert made.poll(0) is Action.CONNECT
    made.opened(0)
    return made


def test_session_connects_at_once_and_only_once() -> None:
    made = session()
    assert made.wake_ns() == 0
    assert made.poll(0) is Action.CONNECT
    assert made.poll(0) is None and made.state is SessionState.CONNECTING
    assert made.wake_ns() == 10 * S


def test_session_gives_a_connection_up_that_never_opens() -> None:
    made = session()
    made.poll(0)
    assert made.poll(10 * S - 1) is None
    assert made.poll(10 * S) is Action.DROP_TIMEOUT
    assert made.poll(11 * S) is None and made.wake_ns() == NEVER_NS
    assert made.closed(11 * S) == S // 4
    assert made.wake_ns() == 11 * S + S // 4
    assert made.poll(11 * S) is None
    assert made.poll(11 * S + S // 4) is Action.CONNECT


def test_session_pings_every_interval_while_data_comes() -> None:
    made, pings = opened(), []
    for second in range(1, 61):
        made.data_ns = second * S
        action = made.poll(second * S)
        if action is not None:
            pings.append((second, action))
    assert pings == [(s, Action.PING) for s in range(10, 61, 10)]


def test_session_drops_a_connection_without_data_although_it_pings() -> None:
    made = opened()
    seen = [(s, a) for s in range(1, 61) if (a := made.poll(s * S)) is not None]
    assert seen == [(10, Action.PING), (20, Action.PING), (30, Action.DROP_SILENT)]


def test_session_asks_for_its_replacement_once() -> None:
    made = opened()
    made.data_ns = 600 * S
    assert made.poll(600 * S) is Action.PING
    assert made.poll(600 * S) is Action.ROTATE
    made.data_ns = 700 * S
    assert made.poll(700 * S) is Action.PING
    assert made.poll(700 * S) is None
    made.rotate_at(705 * S)
    assert made.poll(705 * S) is Action.ROTATE


def test_session_without_a_lifetime_is_never_replaced() -> None:
    made = opened(SessionSettings(lifetime_ns=0))
    made.data_ns = 10**9 * S
    assert made.poll(10**9 * S) is Action.PING
    assert made.poll(10**9 * S) is None
    made.rotate_at(1)
    assert made.poll(10**9 * S) is None


def test_session_shares_of_a_lifetime_spread_the_replacements() -> None:
    made = session()
    made.poll(0)
    made.opened(0, share=0.5)
    made.data_ns = 300 * S
    made.poll(300 * S)
    assert made.poll(300 * S) is Action.ROTATE


def test_session_backs_off_until_a_connection_was_stable() -> None:
    made, now, delays = session(), 0, []
    for _ in range(4):
        made.poll(now)
        made.opened(now)
        delay = made.closed(now + S)
        delays.append(delay // NS_PER_MS)
        now += S + delay
    assert delays == [250, 500, 1_000, 2_000], "accepting and dropping is no success"
    made.poll(now)
    made.opened(now)
    assert made.closed(now + SETTINGS.stable_ns) == 250 * NS_PER_MS


moves = st.lists(
    st.tuples(st.sampled_from(["poll", "opened", "closed", "data"]), st.integers(0, 40 * S)),
    max_size=60,
)


@given(moves)
def test_session_never_pings_a_closed_link_and_never_connects_twice(
    steps: list[tuple[str, int]],
) -> None:
    """Whatever the socket does: the shell obeys, and time only goes forward."""
    made, now, up, connecting = session(), 0, False, False
    for what, gap in steps:
        now += gap
        if what == "opened" and connecting:
            made.opened(now)
            up, connecting = True, False
        elif what == "closed" and (up or connecting):
            delay = made.closed(now)
            up = connecting = False
            assert 0 < delay <= SETTINGS.backoff_max_ns
        elif what == "data" and up:
            made.data_ns = now
        elif what == "poll":
            polls = 0
            while (action := made.poll(now)) is not None:
                polls += 1
                assert polls < 5
                if action is Action.CONNECT:
                    assert not up and not connecting
                    connecting = True
                elif action is Action.DROP_TIMEOUT:
                    assert connecting
                else:
                    assert up
            assert made.wake_ns() > now
