"""The CLOB client on a real socket: what leaves, how often, and what each answer proves."""

import asyncio
import base64
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from fleet.clock import NS_PER_SECOND, ManualClock
from fleet.domain.events import VenueOrderId
from fleet.venues.polymarket.cancel_all import cancel_all
from fleet.venues.polymarket.client import ClobClient, Post
from fleet.venues.polymarket.clob_http import ClientSettings
from fleet.venues.polymarket.hosts import Hosts, sandbox_hosts
from fleet.venues.polymarket.limits import Bucket, Call, Limits, Window
from fleet.venues.polymarket.outcomes import (
    PROOFS,
    Refusal,
    Verdict,
    read_placement,
    read_placements,
    read_refusal,
)
from fleet.venues.port import AnswerInvalid, RequestRefused, TransportFailed
from tests.odd_clob import CREDENTIALS, DEAF, DROP, HANG, OddClob, trade_row

S = NS_PER_SECOND
IDS = [VenueOrderId(f"0x{n:064x}") for n in range(1, 16)]
FAST = ClientSettings(answer_s=1.0, tries=2)


def post(number: int) -> Post:
    order = {"salt": number, "maker": "0x1", "tokenId": "11", "makerAmount": "5200000",
             "takerAmount": "10000000", "side": "BUY"}  # fmt: skip
    body = json.dumps({"order": order}).encode()
    return Post(IDS[number - 1], body, is_buy=True)


def talk(
    what: Callable[[ClobClient, OddClob], Awaitable[Any]], *, lanes: bool = False
) -> tuple[Any, OddClob]:
    """Run ``what``; with ``lanes`` on uvloop and with order lanes up, as a bot runs."""

    async def main() -> tuple[Any, OddClob]:
        async with OddClob() as clob:
            clob.ids = {str(n): IDS[n - 1] for n in range(1, 16)}
            client = ClobClient(clob.hosts, CREDENTIALS, settings=FAST)
            try:
                if lanes:
                    await client.start()
                    await lanes_up(client)
                return await what(client, clob), clob
            finally:
                await client.close()

    return uvloop.run(main()) if lanes else asyncio.run(main())


async def lanes_up(client: ClobClient, count: int = 2) -> None:
    for _ in range(1_000):
        if client.lanes.ready == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the lanes did not come up")


# --- orders -----------------------------------------------------------------------------------


def test_one_order_goes_alone_several_in_a_batch_and_the_answers_keep_their_order() -> None:
    async def what(client: ClobClient, _: OddClob) -> Any:
        return await client.post([post(1)]), await client.post([post(3), post(2)])

    (one, two), clob = talk(what)
    assert [o.verdict for o in one + two] == [Verdict.ACCEPTED] * 3
    assert clob.paths("POST") == ["POST /order", "POST /orders"]
    assert clob.posted == [[IDS[0]], [IDS[2], IDS[1]]]
    # Byte for byte what was given: nothing re-serialises what is signed.
    assert clob.requests[0][2] == post(1).body
    assert clob.requests[1][2] == b"[" + post(3).body + b"," + post(2).body + b"]"


def test_the_signature_covers_path_and_body_and_carries_the_venues_time() -> None:
    seen: list[Any] = []

    async def what(client: ClobClient, clob: OddClob) -> Any:
        original = clob._note

        async def note(request: Any) -> bytes:
            seen.append((dict(request.headers), await request.read()))
            return await original(request)

        clob._note = note  # type: ignore[method-assign]
        await client.time()
        await client.post([post(1)])

    talk(what)
    headers, body = seen[0]
    stamp = int(headers["POLY_TIMESTAMP"])
    assert abs(stamp - 1_760_000_000) <= 2
    message = f"{stamp}POST/order".encode() + body.replace(b"'", b'"')
    secret = base64.urlsafe_b64decode("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=")
    proof = base64.urlsafe_b64encode(hmac.digest(secret, message, "sha256")).decode()
    assert headers["POLY_SIGNATURE"] == proof
    assert headers["Content-Length"] == str(len(body))


def test_a_connection_cut_after_the_order_was_taken_is_unknown_and_sent_once() -> None:
    async def what(client: ClobClient, clob: OddClob) -> Any:
        clob.next_answers = [DROP]
        return await client.post([post(1)])

    (outcome,), clob = talk(what)
    assert (outcome.verdict, outcome.silent) == (Verdict.UNKNOWN, True)
    assert len(clob.paths("POST")) == 1
    assert IDS[0] in clob.resting


def test_a_silence_is_unknown_and_sent_once() -> None:
    async def what(client: ClobClient, clob: OddClob) -> Any:
        clob.next_answers = [HANG]
        return await client.post([post(1), post(2)])

    outcomes, clob = talk(what)
    assert [(o.verdict, o.silent) for o in outcomes] == [(Verdict.UNKNOWN, True)] * 2
    assert len(clob.paths("POST")) == 1


@pytest.mark.parametrize("lanes", [False, True])
def test_what_may_not_be_sent_any_more_never_leaves(lanes: bool) -> None:
    """Chaos seed 99: signed, then stopped until another engine had the wallet's lease."""

    async def what(client: ClobClient, _: OddClob) -> Any:
        client._may_send = lambda: False
        return await client.begin([post(1)]), await client.begin([post(2), post(3)])

    (one, two), clob = talk(what, lanes=lanes)
    assert {(o.verdict, o.sent) for o in one + two} == {(Verdict.REJECTED, False)}
    assert all("lease is not held" in o.reason for o in one + two)
    assert [path for path in clob.paths("POST") if "order" in path] == []


def test_an_order_that_provably_never_left_is_tried_again_and_then_rejected() -> None:
    async def main() -> Any:
        async with OddClob() as clob:
            hosts = clob.hosts
        # The server is gone: nobody listens on its port any more.
        client = ClobClient(hosts, CREDENTIALS, settings=FAST)
        try:
            outcomes = await client.post([post(1)])
            return outcomes, client.http.requests
        finally:
            await client.close()

    (outcome,), requests = asyncio.run(main())
    assert (outcome.verdict, outcome.sent) == (Verdict.REJECTED, False)
    assert "never left" in outcome.reason
    assert requests == 3


@pytest.mark.parametrize(
    ("status", "body", "headers", "verdict"),
    [
        (400, {"error": "not enough balance / allowance"}, {}, Verdict.REJECTED),
        (400, {"error": "order 0x1 is invalid. Duplicated."}, {}, Verdict.DUPLICATE),
        (400, {"error": "a text nobody has seen"}, {}, Verdict.UNKNOWN),
        (400, {"error": "order match delayed due to market conditions"}, {}, Verdict.UNKNOWN),
        (401, {"error": "Unauthorized/Invalid api key"}, {}, Verdict.REJECTED),
        (403, "<html>blocked</html>", {}, Verdict.UNKNOWN),
        (404, {"error": "No orderbook exists for the requested token id"}, {}, Verdict.REJECTED),
        (425, {"error": "Too Early"}, {}, Verdict.UNKNOWN),
        (429, {"error": "slow down"}, {}, Verdict.UNKNOWN),
        (429, {"error": "slow down"}, {"Poly-RateLimit-Remaining": "0"}, Verdict.REJECTED),
        (500, {"error": "order timed out"}, {}, Verdict.UNKNOWN),
        (500, {"error": "there are no matching orders"}, {}, Verdict.UNKNOWN),
        (503, {"error": "x", "code": "post_only_mode"}, {}, Verdict.REJECTED),
        (503, {"error": "upstream"}, {}, Verdict.UNKNOWN),
        (200, "not json", {}, Verdict.UNKNOWN),
        (200, [], {}, Verdict.UNKNOWN),
    ],
)
@pytest.mark.parametrize("lanes", [False, True], ids=["httpx", "lanes"])
def test_what_an_answer_proves(
    status: int, body: Any, headers: Any, verdict: Verdict, lanes: bool
) -> None:
    async def what(client: ClobClient, clob: OddClob) -> Any:
        clob.next_answers, clob.headers = [(status, body)], headers
        return await client.begin([post(1)])

    (outcome,), clob = talk(what, lanes=lanes)
    assert outcome.verdict is verdict
    assert not outcome.silent
    assert len(clob.paths("POST")) == 1


def test_a_batch_is_judged_entry_by_entry() -> None:
    def entry(**fields: Any) -> dict[str, Any]:
        return {"success": True, "errorMsg": "", "orderID": "", "status": ""} | fields

    body = json.dumps([
        entry(orderID=IDS[0], status="matched", makingAmount="5.2", takingAmount="10",
              tradeIDs=["t"]),
        entry(errorMsg="not enough balance / allowance"),
        entry(errorMsg="order 0x1 is invalid. Duplicated."),
        entry(orderID=IDS[3], status="unmatched"),
        entry(orderID=IDS[0], status="live"),
        entry(success=False),
    ]).encode()  # fmt: skip
    outcomes = read_placements(body, [(order_id, True) for order_id in IDS[:6]])
    V = Verdict  # noqa: N806
    assert [o.verdict for o in outcomes] == [
        V.ACCEPTED, V.REJECTED, V.DUPLICATE, V.UNKNOWN, V.UNKNOWN, V.UNKNOWN,
    ]  # fmt: skip
    assert (outcomes[0].matched_qty, outcomes[0].trade_ids) == (10 * 10**8, ("t",))
    # A sell gave shares; a batch of another length proves nothing of anything.
    sold = read_placement(json.dumps(json.loads(body)[0]).encode(), order_id=IDS[0], is_buy=False)
    assert sold.matched_qty == 520_000_000
    assert {o.verdict for o in read_placements(body, [(IDS[0], True)])} == {V.UNKNOWN}


def test_every_proof_is_a_refusal_only_at_its_own_status() -> None:
    for status, texts in PROOFS.items():
        for text in texts:
            assert read_refusal(Refusal(status=status, text=text)).verdict is Verdict.REJECTED
            assert read_refusal(Refusal(status=500, text=text)).verdict is Verdict.UNKNOWN


def test_a_venue_that_asks_to_wait_is_obeyed() -> None:
    async def what(client: ClobClient, clob: OddClob) -> Any:
        clob.next_answers = [(425, {"error": "Too Early"})]
        clob.headers = {"Retry-After": "2.5"}
        before = client.order_wait_ns(1)
        await client.post([post(1)])
        return before, client.order_wait_ns(1), client.order_wait_ns(5)

    (before, one, batch), _ = talk(what)
    assert before == 0
    assert 1 * S < one <= 2.5 * S
    assert 1 * S < batch <= 2.5 * S


# --- lanes ------------------------------------------------------------------------------------


def test_a_lane_carries_the_same_request_as_httpx() -> None:
    seen: list[tuple[dict[str, str], bytes]] = []

    async def what(client: ClobClient, clob: OddClob) -> Any:
        original = clob._note

        async def note(request: Any) -> bytes:
            if request.method == "POST":
                seen.append((dict(request.headers), await request.read()))
            return await original(request)

        clob._note = note  # type: ignore[method-assign]
        one = client.begin([post(1)])
        written = client.lanes.sent
        outcomes = [await one, await client.begin([post(2), post(3)]), await client.post([post(1)])]
        return written, client.lanes.sent, outcomes

    (written, sent, outcomes), _ = talk(what, lanes=True)
    assert (written, sent) == (1, 2)  # The first was out before anybody waited for it.
    assert {o.verdict for some in outcomes for o in some} == {Verdict.ACCEPTED}
    lane, batch, plain = seen
    assert lane[1] == plain[1] == post(1).body
    assert batch[1] == b"[" + post(2).body + b"," + post(3).body + b"]"
    volatile = {"POLY_TIMESTAMP", "POLY_SIGNATURE"}
    assert {k: v for k, v in lane[0].items() if k not in volatile} == {
        k: v for k, v in plain[0].items() if k not in volatile
    }


@pytest.mark.parametrize("how", [DROP, DEAF, HANG])
def test_a_lane_that_is_cut_or_silent_proves_nothing_and_comes_back(how: str) -> None:
    async def what(client: ClobClient, clob: OddClob) -> Any:
        clob.next_answers = [how]
        lost = await client.begin([post(1)])
        await lanes_up(client)
        return lost, await client.begin([post(2)])

    ((lost,), (after,)), clob = talk(what, lanes=True)
    assert (lost.verdict, lost.silent) == (Verdict.UNKNOWN, True)
    assert after.verdict is Verdict.ACCEPTED
    assert len(clob.paths("POST")) == 2


def test_when_the_lanes_are_taken_httpx_carries_the_rest() -> None:
    async def what(client: ClobClient, _: OddClob) -> Any:
        begun = [client.begin([post(n)]) for n in range(1, 6)]
        return client.lanes.sent, await asyncio.gather(*begun)

    (sent, outcomes), clob = talk(what, lanes=True)
    assert sent == 2
    assert all(o.verdict is Verdict.ACCEPTED for (o,) in outcomes)
    assert sorted(o for ids in clob.posted for o in ids) == sorted(IDS[:5])


def test_a_lane_waits_for_no_rate_limit() -> None:
    async def what(client: ClobClient, _: OddClob) -> Any:
        client.http.limits.hold(Call.ORDER, client._clock.now_ns() + S // 5)
        begun = client.begin([post(1)])
        return client.lanes.sent, await begun

    (sent, (outcome,)), _ = talk(what, lanes=True)
    assert sent == 0  # It waited its turn and went through httpx.
    assert outcome.verdict is Verdict.ACCEPTED


# --- reads and cancels ------------------------------------------------------------------------


def test_cancels_are_repeated_and_their_answer_is_read() -> None:
    async def what(client: ClobClient, clob: OddClob) -> Any:
        await client.post([post(1), post(2)])
        clob.next_answers = [DEAF]
        one = await client.cancel([IDS[0]])
        many = await client.cancel([IDS[0], IDS[1]])
        return one, many

    (one, many), clob = talk(what)
    assert one.canceled == (IDS[0],)
    assert many.canceled == (IDS[1],)
    assert many.refused == {IDS[0]: "order not found"}
    assert clob.paths("DELETE") == ["DELETE /order", "DELETE /order", "DELETE /orders"]


def test_lists_are_read_to_the_end_or_not_at_all() -> None:
    async def what(client: ClobClient, clob: OddClob) -> Any:
        clob.trades = [trade_row(f"t{n}", IDS[0], "11") for n in range(3)]
        whole = await client.trades(after_s=5)
        one = await client.trades(trade_id="t1")
        clob.trades[1]["status"] = "TRADE_STATUS_STRANGE"
        with pytest.raises(AnswerInvalid, match="trade_status_unknown"):
            await client.trades()
        clob.next_answers = [(500, "no"), (500, "no")]
        with pytest.raises(RequestRefused):
            await client.open_orders()
        return whole, one

    (whole, one), clob = talk(what)
    assert [t.trade_id for t in whole] == ["t0", "t1", "t2"]
    assert [t.trade_id for t in one] == ["t1"]
    assert whole[0].ts_event == 1_760_000_000 * S
    assert len(clob.paths("GET /data/orders")) == 2


def test_one_order_is_found_or_said_not_to_be_active() -> None:
    async def what(client: ClobClient, _: OddClob) -> Any:
        await client.post([post(1)])
        return await client.order(IDS[0]), await client.order(IDS[1])

    (found, missing), _ = talk(what)
    assert (found.order_id, found.status, found.original_qty) == (IDS[0], "LIVE", 10 * 10**8)
    assert missing is None


def test_balances_heartbeats_time_and_version() -> None:
    async def what(client: ClobClient, _: OddClob) -> Any:
        balance = await client.balance()
        beat, right = await client.heartbeat(""), await client.heartbeat("wrong")
        await client.refresh_balance("11")
        return balance, beat, right, await client.time(), await client.version()

    (balance, beat, right, time_s, version), _ = talk(what)
    assert (balance.amount, balance.allowances) == (1_000 * 10**8, {"0xspender": 7})
    assert (beat, right, time_s, version) == ("next", "right", 1_760_000_000, 2)


def test_nobody_there_is_not_an_empty_account() -> None:
    async def main() -> None:
        client = ClobClient(sandbox_hosts(9), CREDENTIALS, settings=FAST)
        try:
            with pytest.raises(TransportFailed) as failed:
                await client.open_orders()
            assert not failed.value.sent
        finally:
            await client.close()

    asyncio.run(main())


def test_cancel_all_works_alone_and_says_what_is_left() -> None:
    async def main() -> Any:
        async with OddClob() as clob:
            clob.ids = {str(n): IDS[n - 1] for n in range(1, 16)}
            client = ClobClient(clob.hosts, CREDENTIALS)
            await client.post([post(1), post(2)])
            await client.close()
            done = await cancel_all(clob.hosts, CREDENTIALS, patience_s=5)
            clob.resting[IDS[4]] = {
                "id": IDS[4], "asset_id": "11", "side": "BUY", "original_size": "5",
                "size_matched": "0", "price": "0.5",
            }  # fmt: skip
            clob.cancel_refusal = "cannot cancel because the order is in pending/delayed status"
            stuck = await cancel_all(clob.hosts, CREDENTIALS, patience_s=0.1, settings=FAST)
        dead = await cancel_all(clob.hosts, CREDENTIALS, patience_s=0.1, settings=FAST)
        return done, stuck, dead

    done, stuck, dead = asyncio.run(main())
    assert done.clean
    assert set(done.canceled) == {IDS[0], IDS[1]}
    assert [order.order_id for order in stuck.still_open] == [IDS[4]]
    assert not stuck.clean
    assert dead.unknown
    assert not dead.clean


# --- hosts and limits -------------------------------------------------------------------------


def test_keys_never_travel_in_the_clear() -> None:
    with pytest.raises(ValueError, match="in the clear"):
        Hosts(clob_url="http://clob.polymarket.com")
    with pytest.raises(ValueError, match="slash"):
        Hosts(clob_url="https://clob.polymarket.com/")
    with pytest.raises(ValueError, match="no address"):
        Hosts(clob_url="clob.polymarket.com")
    with pytest.raises(ValueError, match="65535"):
        sandbox_hosts(0)
    assert not Hosts().local
    assert sandbox_hosts(8788).local
    assert sandbox_hosts(8788).user_ws_url == "ws://127.0.0.1:8788/ws/user"


def test_a_window_never_lets_more_through_than_its_limit_in_any_span() -> None:
    window = Window(5, 10 * S)
    sent: list[int] = []
    now = 0
    while len(sent) < 23:
        wait = window.wait_ns(now, 100)
        if wait:
            now += wait
            continue
        window.take(now)
        sent.append(now)
        now += S // 7
    assert all(later - first >= 10 * S for first, later in zip(sent, sent[5:], strict=False))
    assert sent[-1] < 45 * S  # And hardly fewer.


def test_a_bucket_refills_steadily_and_believes_the_venue() -> None:
    bucket = Bucket(40, 60)
    bucket.take(0, 60)
    assert bucket.wait_ns(0, 1) == S // 40
    assert bucket.wait_ns(S, 40) == 0
    bucket.lower(10 * S, 3)
    assert bucket.wait_ns(10 * S, 3) == 0
    assert bucket.wait_ns(10 * S, 4) == S // 40
    assert bucket.wait_ns(10 * S, 1_000) == 57 * S // 40  # More than fits waits for a full one.


def test_a_cancel_finds_room_when_reads_and_orders_have_used_up_theirs() -> None:
    limits = Limits()
    while not limits.wait_ns(Call.READ, 1, 0):
        limits.take(Call.READ, 1, 0)
    assert limits.wait_ns(Call.ORDER, 1, 0) == 0
    shared = limits._clob
    while not shared.wait_ns(0, 90):
        shared.take(0)
    assert limits.wait_ns(Call.ORDER, 1, 0) > 0
    assert limits.wait_ns(Call.CANCEL, 1, 0) == 0


def test_forty_orders_a_second_for_a_minute_stay_below_the_venues_bucket() -> None:
    limits, venue, clock = Limits(), Bucket(40, 60), ManualClock(0)
    sent = 0
    while clock.now_ns() < 60 * S:
        wait = limits.wait_ns(Call.ORDER, 1, clock.now_ns())
        if wait:
            clock.advance(wait)
            continue
        limits.take(Call.ORDER, 1, clock.now_ns())
        # They travel for up to 90 ms, and the unluckiest way is: late ones crowd with early ones.
        arrived = clock.now_ns() + (90_000_000 if sent % 7 else 0)
        assert venue.wait_ns(max(arrived, venue._at_ns), 1) == 0
        venue.take(max(arrived, venue._at_ns), 1)
        sent += 1
    assert sent >= 40 * 60
